use test_registry::{Fault, Persona, Route};

use crate::run::{Site, registry_with_image};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_upstream_gives_the_same_bytes_and_a_checksum_file_that_says_so() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let host = registry.host();
    for name in ["a.tgz", "b.tgz"] {
        site.stellaops(&format!("bundle export {host}/app:1.0 --output {name}"))
            .await
            .done();
    }
    site.shell("sha256sum -c a.tgz.sha256 && cmp a.tgz b.tgz")
        .await
        .done();
    site.stellaops(&format!("bundle export {host}/app:1.0 --output c.tar"))
        .await
        .done();
    site.shell("gzip -dc a.tgz | cmp - c.tar").await.done();
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(site.path("a.tgz.report.json")).unwrap()).unwrap();
    assert_eq!(
        (&report["status"], &report["images"][0]["referrers"]),
        (&"complete".into(), &8.into())
    );
    assert_eq!(report["probes"][0]["capability"], "supported");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_is_carried_with_its_referrers_and_the_others_are_listed_as_left_out() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let line = format!(
        "bundle export {}/app:1.0 --platform linux/arm64 --output b.tgz --format json",
        registry.host()
    );
    let document = site.stellaops(&line).await.done().json();
    assert_eq!(document["referrers"]["total"], 7);
    site.stellaops("bundle validate --file b.tgz --check-referrers --strict-referrer-validation")
        .await
        .done();
    let manifest = site
        .shell("tar -xzf b.tgz -O manifest.yaml")
        .await
        .done()
        .stdout;
    assert!(
        manifest.contains("omitted:\n  - digest: sha256:"),
        "{manifest}"
    );
    let line = format!(
        "bundle export {}/app:1.0 --platform linux/riscv64 --output c.tgz",
        registry.host()
    );
    site.stellaops(&line)
        .await
        .failed(10, &["linux/amd64, linux/arm64"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_discovery_writes_a_bundle_only_with_leave_and_says_so_in_it() {
    let registry = registry_with_image(Persona::SpecFull).await;
    registry.fault(Route::referrers(), Fault::statuses([418]).forever());
    let site = Site::new();
    let line = format!("bundle export {}/app:1.0 --output b.tgz", registry.host());
    site.stellaops(&line).await.failed(11, &["418"]);
    assert_eq!(site.files(), Vec::<String>::new());
    site.stellaops(&format!("{line} --allow-incomplete"))
        .await
        .failed(11, &["b.tgz", "incomplete"]);
    site.stellaops("bundle validate --file b.tgz --check-referrers")
        .await
        .done();
    site.stellaops("bundle validate --file b.tgz --strict-referrer-validation")
        .await
        .failed(11, &["not valid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_artifact_type_that_is_not_there_stops_the_export() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let line = format!(
        "bundle export {}/app:1.0 --output b.tgz --require-artifact-type",
        registry.host()
    );
    site.stellaops(&format!("{line} application/vnd.openvex+json"))
        .await
        .failed(11, &["application/vnd.openvex+json"]);
    assert_eq!(site.files(), Vec::<String>::new());
    site.stellaops(&format!("{line} application/vnd.cyclonedx+json"))
        .await
        .done();
}

#[tokio::test(flavor = "multi_thread")]
async fn images_and_tags_come_from_the_configuration() {
    let registry = registry_with_image(Persona::Dist2).await;
    for tag in ["v1.1.0", "v1.2.0", "v1.3.0", "v2.0.0"] {
        registry.image("team/db", tag);
    }
    let site = Site::new();
    let host = registry.host();
    let config = format!(
        "export:\n  output: b.tgz\n  images:\n  - reference: {host}/app:1.0\n  - repository: {host}/team/db\n    \
         tags: {{semver: \">=1.1, <2\", newest: 2}}\n"
    );
    std::fs::write(site.path("config.yaml"), config).unwrap();
    let document = site
        .stellaops("--config config.yaml bundle export --format json")
        .await
        .done()
        .json();
    let names: Vec<_> = document["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["reference"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            format!("{host}/app:1.0"),
            format!("{host}/team/db:v1.2.0"),
            format!("{host}/team/db:v1.3.0")
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_with_newlines_and_a_strict_umask_are_obeyed_and_a_pipe_is_written_to() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let export = format!(
        "{} bundle export {}/app:1.0 --output",
        env!("CARGO_BIN_EXE_stellaops"),
        registry.host()
    );
    let shell = format!(
        r#"set -e
        name=$(printf 'a\nb\\c.tgz'); mkfifo metrics
        umask 077; cat metrics > read &
        {export} "$name" --metrics-file metrics
        wait; test -p metrics; grep -q registry_requests_total read
        test "$(sha256sum -- "$name")" = "$(cat "$name.sha256")"
        sha256sum -c "$name.sha256"
        umask 027
        {export} "v-$name" --volume-size 64KiB
        sha256sum -c "v-$name.sha256"
        {binary} bundle validate --file "v-$name.001"
        stat -c %a "$name" "$name.sha256" "$name.report.json" "v-$name.001" "v-$name.sha256" | sort | uniq -c"#,
        binary = env!("CARGO_BIN_EXE_stellaops"),
    );
    let modes = site.shell(&shell).await.done().stdout;
    let modes: Vec<_> = modes.lines().rev().take(2).map(str::trim).collect();
    assert_eq!(modes, ["2 640", "3 600"]);
}
