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
