//! `--base`: bundles that leave out what an earlier one holds.

use oci_content::Digest;
use serde_json::Value;
use test_registry::{Persona, TestRegistry};

use crate::run::{Ran, Site};

async fn registry() -> TestRegistry {
    TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await
}

fn wrote(registry: &TestRegistry) -> bool {
    let requests = registry.requests();
    requests
        .iter()
        .any(|request| !["GET", "HEAD"].contains(&request.method.as_str()))
}

fn put(source: &TestRegistry, image: &str, layers: &[&[u8]]) {
    let (repository, tag) = image.split_once(':').unwrap();
    let layers = layers.iter().map(|layer| layer.to_vec());
    let image = source.image_with_layers(repository, tag, layers);
    let sbom = format!("sbom of {}", image.digest);
    source.referrer(repository, &image, "application/vnd.cyclonedx+json", sbom);
}

const LAYERS: [&[u8]; 3] = [&[1; 300_000], &[2; 300_000], &[3; 1_000]];

async fn export(site: &Site, source: &TestRegistry, images: &[&str], rest: &str) -> Ran {
    let host = source.host();
    let images: Vec<_> = images
        .iter()
        .map(|image| format!("{host}/{image}"))
        .collect();
    let line = format!("bundle export {} {rest}", images.join(" "));
    site.stellaops(&line).await
}

/// A site with `old.tgz`, and `delta.tgz` on it after one of two layers was replaced.
async fn site() -> (Site, TestRegistry) {
    let (site, source) = (Site::new(), registry().await);
    put(&source, "app:1", &LAYERS[..2]);
    export(&site, &source, &["app:1"], "--output old.tgz")
        .await
        .done();
    put(&source, "app:1", &LAYERS[1..]);
    export(
        &site,
        &source,
        &["app:1"],
        "--output delta.tgz --base old.tgz",
    )
    .await
    .done();
    (site, source)
}

fn size(site: &Site, name: &str) -> u64 {
    std::fs::metadata(site.path(name)).unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_is_smaller_and_arrives_after_its_base_and_not_before() {
    let (site, _source) = site().await;
    assert!(size(&site, "delta.tgz") < size(&site, "old.tgz") - 550_000);
    let ran = site
        .stellaops("bundle validate --file delta.tgz --strict-referrer-validation")
        .await
        .done();
    let report = site.shell("cat delta.tgz.report.json").await.done().json();
    assert_eq!(
        (&report["base"]["blobs"], &report["base"]["bytes"]),
        (&1.into(), &300_000.into())
    );
    let base = site
        .shell("grep ^base: $(tar -xf delta.tgz manifest.yaml && echo manifest.yaml)")
        .await
        .done();
    assert_eq!(
        base.stdout.trim_end(),
        format!("base: {}", report["base"]["manifest"].as_str().unwrap())
    );
    let counted = "without 1 blob of 292.9 KiB that its base holds";
    assert!(ran.stdout.contains(counted), "{}", ran.stdout);

    let target = registry().await;
    let import = |name: &str| {
        format!(
            "bundle import --file {name} --to {}/mirror --overwrite-tags --receipt r.json",
            target.host()
        )
    };
    let base = site
        .shell("stellaops bundle manifest --file old.tgz | sha256sum")
        .await
        .done();
    let base = format!("sha256:{}", base.stdout.split(' ').next().unwrap());
    let parts = [
        "lacks 1 of 1 blobs",
        "nothing was sent",
        "import the base first",
        base.as_str(),
    ];
    site.stellaops(&import("delta.tgz"))
        .await
        .failed(10, &parts);
    assert!(!wrote(&target) && !site.path("r.json").exists());

    site.stellaops(&import("old.tgz")).await.done();
    let ran = site.stellaops(&import("delta.tgz")).await.done();
    for part in [
        "base: 1 blob of 292.9 KiB at the target, 0 of them in another repository",
        "1 of 1 referrers found",
    ] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in {}",
            ran.stdout
        );
    }
    let receipt: Value =
        serde_json::from_slice(&std::fs::read(site.path("r.json")).unwrap()).unwrap();
    let expected =
        serde_json::json!({"manifest": base, "blobs": 1, "bytes": 300_000, "mounted": 0});
    assert_eq!(receipt["base"], expected);
    target.clear_requests();
    site.stellaops(&import("delta.tgz")).await.done();
    assert!(!wrote(&target), "a second import sends nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_store_takes_a_delta_after_its_base() {
    let (site, _source) = site().await;
    let import = |name: &str| format!("bundle import --file {name} --overwrite-tags");
    let parts = ["nothing was sent", "import the base first"];
    site.stellaops(&import("delta.tgz"))
        .await
        .failed(10, &parts);
    assert!(!site.path("data").exists());
    site.stellaops(&import("old.tgz")).await.done();
    let ran = site.stellaops(&import("delta.tgz")).await.done();
    assert!(
        ran.stdout.contains("1 of 1 referrers found"),
        "{}",
        ran.stdout
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn any_form_of_the_base_gives_the_same_delta() {
    let (site, source) = site().await;
    site.shell(
        "mkdir x y && tar -xzf old.tgz -C x && gzip -dc old.tgz > old.tar && cp x/manifest.yaml y/kept && tar -xzf delta.tgz -C y",
    )
    .await
    .done();
    for base in ["old.tar", "x", "x/manifest.yaml", "y/kept"] {
        let rest = format!("--output again.tgz --overwrite --base {base}");
        export(&site, &source, &["app:1"], &rest).await.done();
        site.shell("cmp delta.tgz again.tgz").await.done();
    }
    // What a delta leaves out and what it holds, the next one leaves out as well.
    let ran = export(
        &site,
        &source,
        &["app:1"],
        "--output next.tgz --base delta.tgz --format json",
    )
    .await
    .done();
    let document = ran.json();
    assert_eq!(document["base"]["blobs"], 4, "{document}");
    assert!(size(&site, "next.tgz") < size(&site, "delta.tgz"));
    site.stellaops("bundle validate --file next.tgz --base delta.tgz")
        .await
        .done();

    // An extracted delta is packed to the same bytes.
    site.shell("rm y/kept").await.done();
    site.stellaops("bundle pack y --output packed.tgz")
        .await
        .done();
    site.shell("cmp delta.tgz packed.tgz").await.done();
    let kept = Digest::of(LAYERS[1]);
    std::fs::write(site.path("y/blobs/sha256").join(kept.encoded()), LAYERS[1]).unwrap();
    site.stellaops("bundle validate --file y")
        .await
        .failed(4, &["EntryNotListed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_cannot_be_one_is_refused_before_any_request() {
    let (site, source) = site().await;
    std::fs::write(site.path("letter"), "dear").unwrap();
    std::fs::create_dir(site.path("empty")).unwrap();
    let manifest = site
        .stellaops("bundle manifest --file old.tgz")
        .await
        .done()
        .stdout;
    std::fs::write(site.path("cut.yaml"), &manifest[..manifest.len() / 2]).unwrap();
    std::fs::write(site.path("start.yaml"), "format: other/v1\n").unwrap();
    let bundle = std::fs::read(site.path("old.tgz")).unwrap();
    std::fs::write(site.path("cut.tgz"), &bundle[..bundle.len() / 2]).unwrap();
    let mut damaged = bundle.clone();
    let at = bundle
        .windows(9)
        .position(|bytes| bytes == b"sequence:")
        .unwrap();
    damaged[at] = b'S';
    std::fs::write(site.path("damaged.tgz"), damaged).unwrap();
    site.shell("mkfifo pipe").await.done();
    source.clear_requests();
    for (base, code, parts) in [
        ("pipe", 2, ["pipe", "cannot be read at random"]),
        ("nowhere.tgz", 8, ["nowhere.tgz", "No such file"]),
        (
            "letter",
            3,
            ["letter", "neither a gzip file nor a tar archive"],
        ),
        ("empty", 8, ["empty", "manifest.yaml"]),
        (
            "cut.yaml",
            3,
            ["--base cut.yaml", "is not the manifest.yaml of a bundle"],
        ),
        ("start.yaml", 3, ["--base start.yaml", "line 1"]),
        ("cut.tgz", 3, ["cut.tgz", "manifest.yaml implies"]),
        ("damaged.tgz", 3, ["damaged.tgz", "line 3"]),
    ] {
        let rest = format!("--output new.tgz --base {base}");
        export(&site, &source, &["app:1"], &rest)
            .await
            .failed(code, &parts);
    }
    let rest = "--output old.tgz --overwrite --base ./old.tgz";
    export(&site, &source, &["app:1"], rest)
        .await
        .failed(2, &["is the base itself"]);
    assert_eq!(std::fs::read(site.path("old.tgz")).unwrap(), bundle);
    assert_eq!(source.requests().len(), 0);
    assert!(!site.path("new.tgz").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_given_to_validate_and_import_has_to_be_the_one() {
    let (site, source) = site().await;
    put(&source, "other:1", &LAYERS[2..]);
    export(&site, &source, &["other:1"], "--output other.tgz")
        .await
        .done();
    let ran = site
        .stellaops("bundle validate --file delta.tgz --base old.tgz --format json")
        .await
        .done();
    assert_eq!(ran.json()["counts"]["blobBytesInBase"], 300_000);
    let target = registry().await;
    for command in ["validate", &format!("import --to {}", target.host())] {
        let line = format!("bundle {command} --file delta.tgz --base other.tgz");
        site.stellaops(&line).await.failed(4, &["BaseMismatch"]);
        let line = format!("bundle {command} --file old.tgz --base other.tgz");
        site.stellaops(&line).await.failed(4, &["BaseMismatch"]);
    }
    assert_eq!(target.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_given_to_import_says_where_else_the_target_has_its_blobs() {
    let (site, source, target) = (Site::new(), registry().await, registry().await);
    put(&source, "base/image:1", &LAYERS[..2]);
    export(&site, &source, &["base/image:1"], "--output old.tgz")
        .await
        .done();
    put(&source, "app:1", &LAYERS);
    export(
        &site,
        &source,
        &["app:1"],
        "--output delta.tgz --base old.tgz",
    )
    .await
    .done();
    let to = format!("--to {}/mirror", target.host());
    site.stellaops(&format!("bundle import --file old.tgz {to}"))
        .await
        .done();
    target.clear_requests();
    let import = format!("bundle import --file delta.tgz {to}");
    site.stellaops(&import)
        .await
        .failed(10, &["lacks 2 of 2 blobs", "mirror/app"]);
    assert!(!wrote(&target));
    let ran = site
        .stellaops(&format!("{import} --base old.tgz"))
        .await
        .done();
    assert!(
        ran.stdout.contains("2 of them in another repository"),
        "{}",
        ran.stdout
    );
    assert!(target.has_blob("mirror/app", &Digest::of(LAYERS[0])));
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_and_diff_show_the_base_and_what_it_holds() {
    let (site, _source) = site().await;
    let document = site
        .stellaops("bundle inspect --file delta.tgz --format json")
        .await
        .done()
        .json();
    let base = document["base"].as_str().unwrap().to_owned();
    let counts = &document["counts"];
    assert_eq!(
        (&counts["blobsInBase"], &counts["blobBytesInBase"]),
        (&1.into(), &300_000.into())
    );
    let shown = "which holds 1 blob of 292.9 KiB that are not in this bundle";
    for form in ["text", "html"] {
        let line = format!("bundle inspect --file delta.tgz --format {form}");
        let shows = site.stellaops(&line).await.done().stdout;
        assert!(shows.contains(shown) && shows.contains(&base), "{shows}");
    }
    let text = site
        .stellaops("bundle diff old.tgz delta.tgz")
        .await
        .done()
        .stdout;
    assert!(
        text.contains("B is a delta on A; what the base holds counts as its own"),
        "{text}"
    );
    assert!(!text.contains(&Digest::of(LAYERS[1]).to_string()), "{text}");
    let json = site
        .stellaops("bundle diff old.tgz delta.tgz --format json")
        .await
        .done()
        .json();
    assert_eq!(
        (&json["a"]["base"], &json["b"]["base"]),
        (&Value::Null, &Value::from(base))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_names_a_base_too_and_the_command_line_goes_first() {
    let (site, source) = site().await;
    let host = source.host();
    site.shell(&format!(
        "printf 'export:\\n  base: old.tgz\\n  images: [{{reference: {host}/app:1}}]\\n' > c.yaml"
    ))
    .await
    .done();
    site.stellaops("bundle export --config c.yaml --output again.tgz")
        .await
        .done();
    site.shell("cmp delta.tgz again.tgz").await.done();
    site.stellaops("bundle export --config c.yaml --output other.tgz --base delta.tgz")
        .await
        .done();
    let compared = site.shell("cmp delta.tgz other.tgz").await;
    assert_eq!(compared.code, 1, "{compared:?}");
}
