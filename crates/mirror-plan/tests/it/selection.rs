use std::num::NonZeroUsize;
use std::time::Duration;

use mirror_plan::{
    ImageRule, PlanError, PlanErrorKind, PlanRemedy, Selected, Selector, TagOrder, TagRule,
    TagVerdict,
};
use oci_content::{Descriptor, SourceRepository, media_type};
use registry_client::{Client, ClientOptions};
use test_registry::{Fault, Persona, Route, TestRegistry};

const APP: &str = "team/app";

fn selector() -> Selector {
    let mut options = ClientOptions::default();
    options.retry.base_delay = Duration::from_millis(1);
    Selector::new(Client::new(options).unwrap())
}

async fn registry() -> TestRegistry {
    let persona = TestRegistry::builder(Persona::SpecFull);
    persona.without_auth().page_size(3).start().await
}

fn repository(registry: &TestRegistry, name: &str) -> SourceRepository {
    SourceRepository::new(registry.registry(), name.parse().unwrap())
}

fn of_app(registry: &TestRegistry, tags: TagRule) -> ImageRule {
    ImageRule::Repository(repository(registry, APP), tags)
}

fn glob(registry: &TestRegistry, pattern: &str) -> ImageRule {
    let glob = format!("{}/{pattern}", registry.registry());
    ImageRule::Repositories(glob.parse().unwrap(), TagRule::default())
}

async fn select(rule: ImageRule) -> Result<Selected, PlanError> {
    let mut selected = selector().select(&[rule]).await?;
    Ok(selected.pop().unwrap())
}

fn texts(selected: &Selected, registry: &TestRegistry) -> Vec<String> {
    let prefix = format!("{}/", registry.registry());
    let images = selected.images.iter().map(ToString::to_string);
    images
        .map(|image| image.strip_prefix(&prefix).unwrap().to_owned())
        .collect()
}

/// An image whose config has a date, or none.
fn dated(registry: &TestRegistry, created: Option<&str>) -> Descriptor {
    let created = created.map_or(String::new(), |date| format!(r#","created":"{date}""#));
    let config = format!(r#"{{"architecture":"amd64","os":"linux"{created}}}"#);
    image_of(registry, media_type::IMAGE_CONFIG, &config, "{}")
}

fn image_of(
    registry: &TestRegistry,
    config_type: &str,
    config: &str,
    annotations: &str,
) -> Descriptor {
    let blob = registry.put_blob(APP, config.to_owned());
    let (digest, size) = (&blob.digest, blob.size);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{config_type}","digest":"{digest}","size":{size}}},"layers":[],"annotations":{annotations}}}"#,
        media_type::IMAGE_MANIFEST
    );
    registry.put_manifest(APP, media_type::IMAGE_MANIFEST, manifest)
}

fn index_of(registry: &TestRegistry, children: &[&Descriptor]) -> Descriptor {
    let entry = |child: &&Descriptor| {
        format!(
            r#"{{"mediaType":"{}","digest":"{}","size":{}}}"#,
            child.media_type, child.digest, child.size
        )
    };
    let entries: Vec<_> = children.iter().map(entry).collect();
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
        media_type::IMAGE_INDEX,
        entries.join(",")
    );
    registry.put_manifest(APP, media_type::IMAGE_INDEX, index)
}

fn newest(number: usize) -> TagRule {
    let mut rule = TagRule::default();
    rule.newest = NonZeroUsize::new(number);
    rule.order = TagOrder::Created;
    rule
}

#[tokio::test]
async fn a_rule_selects_tags_and_never_those_of_referrers() {
    let registry = registry().await;
    let image = registry.image(APP, "1.0");
    registry.image(APP, "2.0");
    registry.legacy(APP, &image.digest, "sig", "s");
    let selected = select(of_app(&registry, TagRule::default())).await.unwrap();
    assert_eq!(
        texts(&selected, &registry),
        ["team/app:2.0", "team/app:1.0"]
    );
    let judged = &selected.repositories[0].tags;
    assert_eq!(judged.len(), 3);
    assert_eq!(judged[2].verdict, TagVerdict::DigestTag);
    assert_eq!(selected.warnings, [""; 0]);
}

#[tokio::test]
async fn a_rule_that_selects_nothing_has_a_warning() {
    let registry = registry().await;
    registry.image(APP, "1.0");
    let mut rule = TagRule::default();
    rule.regex = Some("^v".parse().unwrap());
    let rule = of_app(&registry, rule);
    let selected = select(rule.clone()).await.unwrap();
    assert!(selected.images.is_empty());
    let warning = format!("{rule} selects nothing: none of 1 tags");
    assert_eq!(selected.warnings, [warning]);
}

#[tokio::test]
async fn a_pattern_selects_the_repositories_of_the_catalog_that_it_matches() {
    let registry = registry().await;
    for name in [
        "team/a", "team/b", "team/c/d", "other/a", "team-x/a", "team/e",
    ] {
        registry.image(name, "1.0");
    }
    let selected = select(glob(&registry, "team/*")).await.unwrap();
    assert_eq!(
        texts(&selected, &registry),
        ["team/a:1.0", "team/b:1.0", "team/e:1.0"]
    );
    let selected = select(glob(&registry, "team/**")).await.unwrap();
    assert_eq!(selected.images.len(), 4);
    let selected = select(glob(&registry, "nothing/*")).await.unwrap();
    assert!(selected.images.is_empty());
    assert!(
        selected.warnings[0].ends_with("selects nothing: none of 0 tags in 0 repositories"),
        "{:?}",
        selected.warnings
    );
}

#[tokio::test]
async fn a_name_of_the_catalog_that_no_repository_can_have_is_told() {
    let registry = registry().await;
    registry.image("team/a", "1.0");
    let page = r#"{"repositories":["team/a","team/Big","elsewhere/Big"]}"#;
    registry.fault(
        Route::path_prefix("/v2/_catalog"),
        Fault::body(200, "application/json", page),
    );
    let selected = select(glob(&registry, "team/*")).await.unwrap();
    assert_eq!(texts(&selected, &registry), ["team/a:1.0"]);
    assert_eq!(selected.warnings.len(), 1);
    assert!(selected.warnings[0].contains("\"team/Big\""));
}

#[tokio::test]
async fn each_catalog_and_each_repository_is_listed_once() {
    let registry = registry().await;
    registry.image(APP, "1.0");
    let rules = [
        glob(&registry, "team/*"),
        glob(&registry, "**"),
        of_app(&registry, TagRule::default()),
    ];
    let mut selector = selector();
    let first = selector.select(&rules).await.unwrap();
    let again = selector.select(&rules).await.unwrap();
    for selected in first.iter().chain(&again) {
        assert_eq!(texts(selected, &registry), ["team/app:1.0"]);
    }
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn a_catalog_that_is_denied_or_missing_or_a_login_page_says_what_to_name_instead() {
    for fault in [
        Fault::statuses([401]),
        Fault::statuses([403]),
        Fault::statuses([404]),
        Fault::body(200, "text/html", "<html>log in</html>"),
    ] {
        let registry = registry().await;
        registry.image(APP, "1.0");
        registry.fault(Route::path_prefix("/v2/_catalog"), fault);
        let error = select(glob(&registry, "team/*")).await.unwrap_err();
        assert_eq!(error.kind(), PlanErrorKind::Access);
        assert_eq!(error.remedy(), Some(PlanRemedy::NameRepositories));
        let what = format!(
            "the repositories of {} could not be listed",
            registry.registry()
        );
        assert_eq!(error.to_string(), what);
        assert!(std::error::Error::source(&error).is_some());
    }
}

#[tokio::test]
async fn a_listing_that_breaks_half_way_is_never_a_smaller_selection() {
    for fault in [
        Fault::statuses([500]).forever(),
        Fault::statuses([404]),
        Fault::body(200, "application/json", "{}"),
    ] {
        for route in [Route::tags(), Route::path_prefix("/v2/_catalog")] {
            let registry = registry().await;
            for number in 0..9 {
                registry.image(APP, &format!("1.{number}"));
                registry.image(&format!("team/app{number}"), "1.0");
            }
            registry.fault(route, fault.clone().skip(1));
            assert!(select(glob(&registry, "team/*")).await.is_err());
        }
    }
}

#[tokio::test]
async fn a_denied_tag_listing_is_an_error() {
    let registry = registry().await;
    registry.image(APP, "1.0");
    registry.fault(Route::tags(), Fault::statuses([403]));
    let rule = of_app(&registry, TagRule::default());
    let error = select(rule).await.unwrap_err();
    assert_eq!(error.kind(), PlanErrorKind::Access);
    assert_eq!(error.remedy(), Some(PlanRemedy::NameImages));
}

#[tokio::test]
async fn the_newest_images_are_found_by_the_dates_of_their_configs() {
    let registry = registry().await;
    let old = dated(&registry, Some("2020-01-01T00:00:00Z"));
    let middle = dated(&registry, Some("2022-01-01T00:00:00+01:00"));
    let new = dated(&registry, Some("2024-01-01T00:00:00.5Z"));
    let none = dated(&registry, None);
    let zero = dated(&registry, Some("0001-01-01T00:00:00Z"));
    registry.tag(APP, "z-old", &old.digest);
    registry.tag(APP, "middle", &middle.digest);
    registry.tag(APP, "index", &index_of(&registry, &[&old, &new]).digest);
    registry.tag(APP, "none", &none.digest);
    registry.tag(APP, "zero", &zero.digest);
    // A chart has no date in its config.
    let annotations = r#"{"org.opencontainers.image.created":"2023-01-01T00:00:00Z"}"#;
    let config_type = "application/vnd.cncf.helm.config.v1+json";
    let chart = image_of(&registry, config_type, "{}", annotations);
    registry.tag(APP, "chart", &chart.digest);
    let selected = select(of_app(&registry, newest(5))).await.unwrap();
    assert_eq!(
        texts(&selected, &registry),
        [
            "team/app:index",
            "team/app:chart",
            "team/app:middle",
            "team/app:z-old",
            "team/app:zero"
        ]
    );
    assert!(
        selected.warnings[0].starts_with("2 of the 6 tags"),
        "{:?}",
        selected.warnings
    );
}

#[tokio::test]
async fn no_config_is_read_if_all_tags_are_among_the_newest() {
    let registry = registry().await;
    registry.image(APP, "1.0");
    registry.image(APP, "2.0");
    let selected = select(of_app(&registry, newest(2))).await.unwrap();
    assert_eq!(selected.images.len(), 2);
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn a_tag_that_is_listed_and_not_there_is_not_selected_by_its_date() {
    let registry = registry().await;
    for tag in ["1.0", "2.0", "3.0"] {
        registry.image(APP, tag);
    }
    registry.fault(
        Route::manifests().reference("3.0"),
        Fault::error(404, "MANIFEST_UNKNOWN").forever(),
    );
    let selected = select(of_app(&registry, newest(1))).await.unwrap();
    assert_eq!(texts(&selected, &registry), ["team/app:2.0"]);
    let judged = selected.repositories[0].tags.iter();
    let vanished = judged.filter(|judged| judged.verdict == TagVerdict::Vanished);
    assert_eq!(vanished.count(), 1);
}

#[tokio::test]
async fn a_config_that_cannot_be_read_is_not_one_without_a_date() {
    let registry = registry().await;
    registry.tag(APP, "1.0", &dated(&registry, None).digest);
    let broken = image_of(&registry, media_type::IMAGE_CONFIG, "not JSON", "{}");
    registry.tag(APP, "2.0", &broken.digest);
    let error = select(of_app(&registry, newest(1))).await.unwrap_err();
    assert_eq!(error.kind(), PlanErrorKind::Incomplete);
    assert!(error.to_string().contains("is malformed"), "{error}");

    registry.untag(APP, "2.0");
    let good = dated(&registry, Some("2024-01-01T00:00:00Z"));
    registry.tag(APP, "3.0", &good.digest);
    registry.fault(Route::blobs(), Fault::statuses([503]).forever());
    let error = select(of_app(&registry, newest(1))).await.unwrap_err();
    assert_eq!(error.kind(), PlanErrorKind::Network);
}
