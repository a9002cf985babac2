//! Rules about tags and repositories in the configuration.

use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::run::{Ran, Site};

async fn registry() -> TestRegistry {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .page_size(2)
        .start()
        .await;
    for name in ["team/a", "team/b", "team/sub/c", "other"] {
        for tag in ["v1", "v2", "latest"] {
            registry.image(name, tag);
        }
    }
    registry
}

async fn export(site: &Site, images: &str) -> Ran {
    let config = format!("export:\n  output: b.tgz\n  images:\n{images}");
    std::fs::write(site.path("c.yaml"), config).unwrap();
    site.stellaops("--config c.yaml bundle export --format json")
        .await
}

fn images(ran: &Ran) -> Vec<String> {
    let document = ran.json();
    let images = document["images"].as_array().unwrap().iter();
    let text = |image: &serde_json::Value| image["reference"].as_str().unwrap().to_owned();
    images.map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_come_from_the_catalog_and_a_rule_without_a_match_is_a_warning() {
    let registry = registry().await;
    let host = registry.host();
    let site = Site::new();
    let ran = export(
        &site,
        &format!(
            "  - repositories: {host}/team/*\n    tags: {{regex: \"^v\", newest: 1}}\n  \
             - repository: {host}/other\n    tags: {{regex: \"^nothing$\"}}\n"
        ),
    )
    .await
    .done();
    assert_eq!(
        images(&ran),
        [format!("{host}/team/a:v2"), format!("{host}/team/b:v2")]
    );
    let warning =
        format!("[WARN] {host}/other {{regex: \"^nothing$\"}} selects nothing: none of 3 tags");
    assert!(ran.stderr.contains(&warning), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_rule_that_selects_nothing_is_incomplete() {
    let registry = registry().await;
    let host = registry.host();
    let site = Site::new();
    let images = format!(
        "  - reference: {host}/other:v1\n  - repository: {host}/other\n    tags: {{regex: \"^x\"}}\n    required: true\n"
    );
    export(&site, &images)
        .await
        .failed(11, &["{regex: \"^x\"} selects nothing, and is required"]);
    assert_eq!(site.files(), ["c.yaml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_nothing_is_not_written() {
    let registry = registry().await;
    let site = Site::new();
    let images = format!(
        "  - repository: {}/other\n    tags: {{regex: \"^x\"}}\n",
        registry.host()
    );
    let said = "the entries of export.images select nothing";
    export(&site, &images).await.failed(11, &[said]);
    assert_eq!(site.files(), ["c.yaml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_a_catalog_says_what_to_write_instead() {
    let registry = registry().await;
    registry.fault(
        Route::path_prefix("/v2/_catalog"),
        Fault::statuses([401]).forever(),
    );
    let site = Site::new();
    let images = format!("  - repositories: {}/team/*\n", registry.host());
    let said = [
        "could not be listed: the registry does not list its repositories",
        "write an entry `repository:` for each repository",
    ];
    export(&site, &images).await.failed(10, &said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_breaks_half_way_exports_nothing() {
    let registry = registry().await;
    let host = registry.host();
    for route in [Route::path_prefix("/v2/_catalog"), Route::tags()] {
        registry.fault(route, Fault::statuses([404]).skip(1).per_path().forever());
        let site = Site::new();
        let images = format!("  - repositories: {host}/**\n");
        export(&site, &images)
            .await
            .failed(9, &["could not be listed"]);
        assert_eq!(site.files(), ["c.yaml"]);
        registry.clear_faults();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_does_not_compile_is_shown_with_its_line_and_column() {
    let site = Site::new();
    let images = "  - repository: r.test/a\n    tags:\n      newest: 3\n      regex: \"^1[.\"\n";
    let ran = export(&site, images).await;
    ran.failed(
        2,
        &[
            "\"^1[.\" is not a regular expression: unclosed character class",
            "7 |       regex: \"^1[.\"",
            "  |              ^",
        ],
    );
}
