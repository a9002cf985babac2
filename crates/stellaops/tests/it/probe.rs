use serde_json::json;
use test_registry::{Fault, Persona, Route};

use crate::run::{Site, registry_with_image};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_sends_no_request_and_says_how_old_its_answer_is() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let line = format!(
        "registry probe {}/app --metrics-file m.prom",
        registry.host()
    );
    let first = site.stellaops(&line).await.done();
    assert!(first.stdout.contains("supported"), "{}", first.stdout);
    assert!(first.stdout.contains("now"), "{}", first.stdout);
    let metrics = || std::fs::read_to_string(site.path("m.prom")).unwrap();
    let probed = "export_registry_capabilities_probed_total{";
    let is_counted = |line: &str| line.starts_with(probed) && line.ends_with(" 1");
    assert!(metrics().lines().any(is_counted), "{}", metrics());
    let asked = registry.requests().len();

    let second = site.stellaops(&line).await.done();
    assert_eq!(registry.requests().len(), asked);
    assert!(second.stdout.contains("s ago"), "{}", second.stdout);
    let metrics = metrics();
    let counted: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with(probed) && !line.ends_with(" 0"))
        .collect();
    assert!(
        counted.is_empty(),
        "an answer out of the cache is no probe: {counted:?}"
    );
    let document = site
        .stellaops(&format!("{line} --format json"))
        .await
        .done()
        .json();
    assert_eq!(document["schemaVersion"], 1);
    let report = &document["registries"][0];
    assert_eq!(report["capability"], "supported");
    assert!(report["cached"]["ageSeconds"].is_u64(), "{report:#}");
    assert_eq!(registry.requests().len(), asked);

    let fresh = site
        .stellaops(&format!("{line} --no-cache --format json"))
        .await
        .done()
        .json();
    assert_eq!(fresh["registries"][0]["cached"], json!(null));
    assert!(registry.requests().len() > asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_shows_every_fact_with_its_reason() {
    let registry = registry_with_image(Persona::Dist2).await;
    let site = Site::new();
    let line = format!("registry probe {}/app --all", registry.host());
    let shown = site.stellaops(&line).await.done().stdout;
    for expected in [
        "referrers-api     no       404: the referrers API gave no answer",
        "tag-paging        no       n=1 was asked for",
        "oci-subject       -        not asked: only a push would tell",
        "How we know:",
        "/v2/app/referrers/sha256:",
    ] {
        assert!(shown.contains(expected), "{expected} is not in\n{shown}");
    }
    assert!(!shown.contains("404: 404"), "{shown}");
    let document = site
        .stellaops(&format!("{line} --format json"))
        .await
        .done()
        .json();
    let facts = document["registries"][0]["facts"].as_array().unwrap();
    assert_eq!(facts.len(), 9);
    assert_eq!(facts[0]["name"], "referrers-api");
    assert_eq!(facts[0]["evidence"][0]["status"], 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_cache_is_a_warning_and_a_throttled_registry_is_asked_again() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let folder = site.path("cache/stellaops");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("registry-probes.json"), "{\"schemaVer").unwrap();
    registry.fault(Route::referrers(), Fault::statuses([403]));
    let line = format!("registry probe {}/app", registry.host());
    let denied = site.stellaops(&line).await;
    assert_eq!(denied.code, 10, "{denied:?}");
    assert!(denied.stderr.contains("[WARN]"), "{denied:?}");
    assert!(denied.stderr.contains("it is damaged"), "{denied:?}");
    let allowed = site.stellaops(&line).await.done();
    assert!(allowed.stdout.contains("supported"), "{}", allowed.stdout);
}
