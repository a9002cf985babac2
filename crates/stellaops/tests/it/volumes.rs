//! A bundle in volumes, from the export to the import.

use std::fs;

use test_registry::{Persona, TestRegistry};

use crate::run::{Ran, Site};

/// An image with layers that no two of these registries share, and a signature on it.
async fn registry(seed: u8) -> TestRegistry {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let layer = |number: u8| {
        let mut state = u32::from(seed) << 8 | u32::from(number);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..100_000).map(|_| next()).collect::<Vec<u8>>()
    };
    let image = registry.image_with_layers("app", "1.0", [layer(1), layer(2)]);
    registry.referrer(
        "app",
        &image,
        "application/vnd.cncf.notary.signature",
        "signature",
    );
    registry
}

/// Exports the same image as `whole.tgz`, and as `b.tgz` in 4 volumes.
async fn site(registry: &TestRegistry) -> Site {
    let site = Site::new();
    let export = format!("bundle export {}/app:1.0 --output", registry.host());
    site.stellaops(&format!("{export} whole.tgz")).await.done();
    site.stellaops(&format!("{export} b.tgz --volume-size 64KiB"))
        .await
        .done();
    assert!(site.path("b.tgz.004").exists() && !site.path("b.tgz.005").exists());
    site
}

async fn validate(site: &Site) -> Ran {
    site.stellaops("bundle validate --file b.tgz.001").await
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_the_parts_of_the_bundle_and_every_command_reads_them_by_the_first() {
    let registry = registry(1).await;
    let site = site(&registry).await;
    site.shell("cat b.tgz.??? | cmp - whole.tgz && sha256sum -c b.tgz.sha256 && sha256sum -c b.tgz.002.sha256")
        .await
        .done();
    site.shell("split -b 65536 -d -a 3 --numeric-suffixes=1 whole.tgz s. && for n in 1 2 3 4; do cmp s.00$n b.tgz.00$n; done")
        .await
        .done();
    validate(&site).await.done();
    let inspected = site
        .stellaops("bundle inspect --file b.tgz.001 --format json")
        .await
        .done();
    let size = fs::metadata(site.path("whole.tgz")).unwrap().len();
    assert_eq!(inspected.json()["size"], size);
    site.shell("stellaops bundle manifest --file b.tgz.001 > m && tar -xzf whole.tgz -O manifest.yaml | cmp - m")
        .await
        .done();
    let difference = site
        .stellaops("bundle diff whole.tgz b.tgz.001 --format json")
        .await
        .done();
    assert_eq!(difference.json()["identical"], true);
    let imported = site
        .stellaops("bundle import --file b.tgz.001 --to oci:layout")
        .await
        .done();
    assert!(
        imported.stdout.contains("1 of 1 referrers found"),
        "{}",
        imported.stdout
    );
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(site.path("b.tgz.report.json")).unwrap()).unwrap();
    assert_eq!(report["volumes"].as_array().unwrap().len(), 4);
    assert_eq!(report["volumes"][3]["file"], "b.tgz.004");
    // A base in volumes: what it holds is left out.
    let delta = format!(
        "bundle export {}/app:1.0 --output d.tgz --base b.tgz.001 --format json",
        registry.host()
    );
    let delta = site.stellaops(&delta).await.done().json();
    assert!(delta["size"].as_u64().unwrap() < size, "{delta}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_validated_from_standard_input() {
    let registry = registry(1).await;
    let site = site(&registry).await;
    let ran = site
        .shell("cat b.tgz.??? | stellaops bundle validate --file - --check-referrers")
        .await
        .done();
    assert!(ran.stdout.contains("/dev/stdin"), "{}", ran.stdout);
    let cut = site
        .shell("head -c 90000 whole.tgz | stellaops bundle validate --file -")
        .await;
    cut.failed(3, &["Truncated"]);
    for command in [
        "inspect --file -",
        "manifest --file -",
        "import --file - --to oci:layout",
    ] {
        site.shell(&format!("cat whole.tgz | stellaops bundle {command}"))
            .await
            .failed(2, &["/dev/stdin", "pipe"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_packed_into_the_same_volumes() {
    let registry = registry(1).await;
    let site = site(&registry).await;
    site.shell("mkdir x && tar -xzf whole.tgz -C x")
        .await
        .done();
    let packed = site
        .stellaops("bundle pack x --output p.tgz --volume-size 64KiB")
        .await
        .done();
    assert!(
        packed
            .stdout
            .contains("in 4 volumes, of which p.tgz.001 is the first"),
        "{packed:?}"
    );
    site.shell("for n in 1 2 3 4; do cmp p.tgz.00$n b.tgz.00$n; done && sha256sum -c p.tgz.sha256")
        .await
        .done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_volume_is_named_by_every_command() {
    let registry = registry(1).await;
    let site = site(&registry).await;
    fs::rename(site.path("b.tgz.003"), site.path("away")).unwrap();
    let missing = "volume 3 of 4 is missing: put it into the folder of the first";
    let validated = validate(&site).await.failed(8, &["VolumeMissing"]);
    assert!(
        validated.stdout.contains("error VolumeMissing b.tgz.003"),
        "{}",
        validated.stdout
    );
    assert!(validated.stdout.contains(missing), "{}", validated.stdout);
    for line in [
        "bundle inspect --file b.tgz.001",
        "bundle manifest --file b.tgz.001",
        "bundle diff whole.tgz b.tgz.001",
    ] {
        site.stellaops(line)
            .await
            .failed(8, &["b.tgz.003", missing]);
    }
    site.stellaops("bundle import --file b.tgz.001 --to oci:layout")
        .await
        .failed(8, &["VolumeMissing"]);
    assert!(!site.path("layout").exists());
    std::os::unix::fs::symlink("away", site.path("b.tgz.003")).unwrap();
    validate(&site).await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_wrong_is_named() {
    let registry = registry(1).await;
    let other = self::registry(2).await;
    let site = site(&registry).await;
    let export = format!(
        "bundle export {}/app:1.0 --output other.tgz --volume-size 64KiB",
        other.host()
    );
    site.stellaops(&export).await.done();
    site.shell("mkdir good && cp b.tgz.??? good/").await.done();
    for (change, code, kind, names) in [
        (
            "cp other.tgz.003 b.tgz.003",
            4,
            "VolumeContent",
            vec!["b.tgz.003"],
        ),
        (
            "truncate -s 65535 b.tgz.002",
            3,
            "VolumeSize",
            vec!["b.tgz.002"],
        ),
        (
            "cp good/b.tgz.003 b.tgz.002; cp good/b.tgz.002 b.tgz.003",
            4,
            "VolumeContent",
            vec!["b.tgz.002", "b.tgz.003"],
        ),
        (
            "cp other.tgz.003 b.tgz.005",
            3,
            "VolumeUnexpected",
            vec!["b.tgz.005"],
        ),
        (
            "cp other.tgz.001 b.tgz.001",
            4,
            "VolumeContent",
            vec!["b.tgz.001"],
        ),
    ] {
        site.shell(change).await.done();
        let validated = validate(&site).await.failed(code, &[kind]);
        for name in names {
            let line = format!("error {kind} {name}\n");
            assert!(
                validated.stdout.contains(&line),
                "{change}: {}",
                validated.stdout
            );
        }
        site.shell("rm -f b.tgz.005 && cp good/* .").await.done();
        validate(&site).await.done();
    }
    // What reads little sees a volume in which another file begins.
    site.shell("for n in 2 3 4; do cp other.tgz.00$n b.tgz.00$n; done")
        .await
        .done();
    for line in [
        "bundle inspect --file b.tgz.001",
        "bundle diff b.tgz.001 other.tgz.001",
    ] {
        site.stellaops(line)
            .await
            .failed(4, &["does not begin where it should"]);
    }
    site.shell("cp good/* .").await.done();
    site.stellaops("bundle inspect --file b.tgz.001")
        .await
        .done();
    // Without the checksums, the place of the damage is what is left.
    site.shell("rm *.sha256 && printf x | dd of=b.tgz.002 bs=1 seek=30000 conv=notrunc")
        .await
        .done();
    let validated = validate(&site).await.failed(4, &["VolumeContent"]);
    assert!(
        validated.stdout.contains("the damage is in this volume"),
        "{}",
        validated.stdout
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_bundle_is_not_blamed_on_a_volume() {
    let registry = registry(1).await;
    let site = site(&registry).await;
    site.shell("mkdir x && tar -xzf whole.tgz -C x && tar -czf r.tgz -C x . && split -b 65536 -d -a 3 --numeric-suffixes=1 r.tgz r.tgz.")
        .await
        .done();
    assert!(site.path("r.tgz.002").exists());
    fs::write(site.path("empty.001"), "").unwrap();
    for (name, kind) in [("r.tgz.001", "NotCanonical"), ("empty.001", "NotABundle")] {
        let line = format!("bundle validate --file {name}");
        let validated = site.stellaops(&line).await.failed(3, &[kind]);
        assert!(!validated.stdout.contains("Volume"), "{}", validated.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_volume_than_the_first_is_no_bundle_and_the_first_is_named() {
    let registry = registry(1).await;
    let site = site(&registry).await;
    let validated = site.stellaops("bundle validate --file b.tgz.002").await;
    assert!(
        validated.stdout.contains("give b.tgz.001"),
        "{}",
        validated.stdout
    );
    validated.failed(2, &["VolumeNotFirst"]);
    site.stellaops("bundle inspect --file b.tgz.002")
        .await
        .failed(2, &["give b.tgz.001"]);
    site.stellaops("bundle inspect --file b.tgz")
        .await
        .failed(8, &["give the first of them, b.tgz.001"]);
    let delta = format!(
        "bundle export {}/app:1.0 --output d.tgz --base b.tgz",
        registry.host()
    );
    site.stellaops(&delta)
        .await
        .failed(8, &["give the first of them, b.tgz.001"]);
    let over = format!(
        "bundle export {}/app:1.0 --output b.tgz --base b.tgz.001 --volume-size 64KiB --overwrite",
        registry.host()
    );
    site.stellaops(&over)
        .await
        .failed(2, &["is the base itself"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_replaced_on_request_and_nothing_old_stays() {
    let registry = registry(1).await;
    let site = site(&registry).await;
    let export = format!(
        "bundle export {}/app:1.0 --output b.tgz --volume-size",
        registry.host()
    );
    site.stellaops(&format!("{export} 64KiB"))
        .await
        .failed(2, &["b.tgz.001", "--overwrite"]);
    site.stellaops(&format!("{export} 1MiB --overwrite"))
        .await
        .done();
    let volumes: Vec<_> = site
        .files()
        .into_iter()
        .filter(|name| name.starts_with("b.tgz"))
        .collect();
    assert_eq!(
        volumes,
        [
            "b.tgz.001",
            "b.tgz.001.sha256",
            "b.tgz.report.json",
            "b.tgz.sha256"
        ]
    );
    validate(&site).await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_and_places_that_cannot_be_are_refused_before_anything_is_written() {
    let registry = registry(1).await;
    let site = Site::new();
    let export = format!("bundle export {}/app:1.0 --output", registry.host());
    for (rest, parts) in [
        (
            "b.tgz --volume-size 65535",
            ["65535 bytes is too small", "64 KiB"],
        ),
        ("b.tgz --volume-size 4G", ["is not a size", "4GiB"]),
        (
            "b.tgz.001 --volume-size 1MiB",
            ["name of a volume", "name the bundle, b.tgz"],
        ),
    ] {
        site.stellaops(&format!("{export} {rest}"))
            .await
            .failed(2, &parts);
    }
    assert_eq!(site.files(), Vec::<String>::new());
}
