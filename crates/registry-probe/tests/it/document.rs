//! The document for programs: version 1, as `docs/json.md` describes it.

use std::sync::Arc;
use std::time::Duration;

use oci_content::RepositoryName;
use registry_client::{Client, ClientOptions, nobody};
use registry_probe::{Probe, ProbeCache, ProbeDocument};
use serde_json::json;
use test_registry::{Fault, Persona, Route, TestRegistry};

#[tokio::test]
async fn a_document_has_the_members_that_are_documented_and_is_read_back() {
    let open = |persona| TestRegistry::builder(persona).without_auth().start();
    let (well, denied) = (open(Persona::SpecFull).await, open(Persona::SpecFull).await);
    well.image("app", "1.0");
    denied.fault(Route::any(), Fault::statuses([403]).forever());
    let name: RepositoryName = "app".parse().unwrap();
    let client = Client::new(ClientOptions::default()).unwrap();
    let cache = Arc::new(ProbeCache::in_memory());
    let probe = Probe::new(client).cached(cache, None);
    let mut reports = vec![
        probe.facts(&well.registry(), Some(&name)).await,
        probe.probe(&well.registry(), Some(&name)).await,
        probe.probe(&denied.registry(), None).await,
    ];
    for report in &mut reports {
        // Milliseconds are written.
        report.elapsed = Duration::from_millis(42);
    }
    let document = ProbeDocument::new(reports);
    let json = serde_json::to_value(&document).unwrap();
    let read: ProbeDocument = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(read, document);

    assert_eq!(json["schemaVersion"], 1);
    let [with_facts, cached, failed] = json["registries"].as_array().unwrap().as_slice() else {
        panic!("{json}");
    };
    assert_eq!(with_facts["facts"].as_array().unwrap().len(), 9);
    let evidence = format!("http://{}/v2/app/referrers/{}", well.host(), nobody());
    let mut cached = cached.clone();
    let expected = json!({
        "registry": well.host(), "repository": "app", "capability": "supported",
        "version": document.registries[1].version, "probeMs": 42, "failure": null, "cached": cached["cached"],
    });
    let first = &cached["evidence"][0];
    assert_eq!(first["request"], format!("GET {evidence}"));
    assert_eq!(first["status"], 200);
    assert_eq!(cached["cached"].as_object().unwrap().len(), 2);
    cached.as_object_mut().unwrap().remove("evidence");
    assert_eq!(cached, expected);
    assert_eq!(failed["repository"], json!(null));
    assert_eq!(failed["failure"]["code"], "denied");
    assert_eq!(failed.get("cached"), None);

    let mut newer = json;
    newer["schemaVersion"] = json!(2);
    let error = serde_json::from_value::<ProbeDocument>(newer).unwrap_err();
    assert_eq!(
        error.to_string(),
        "schemaVersion 2 is not supported, only 1"
    );
}
