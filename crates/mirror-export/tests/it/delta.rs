use std::collections::BTreeSet;
use std::time::Duration;

use bundle_format::{BaseBundle, Limits};
use mirror_export::{ExportDocument, ExportSummary};
use oci_content::Digest;
use test_registry::{Fault, Route, TestRegistry};

use crate::support::{Export, Site, export, exporter, registry};

fn base_of(summary: &ExportSummary) -> BaseBundle {
    let yaml = summary.manifest.to_yaml().unwrap();
    BaseBundle::parse(&yaml, &Limits::default()).unwrap()
}

fn on(base: &ExportSummary, mut request: Export) -> Export {
    request.base = Some(base_of(base));
    request
}

fn left_out(summary: &ExportSummary) -> BTreeSet<Digest> {
    let entries = summary.manifest.left_out();
    entries.map(|entry| entry.sha256.clone()).collect()
}

fn blobs_asked_for(registry: &TestRegistry) -> BTreeSet<String> {
    let requests = registry.requests().into_iter();
    let paths = requests.map(|request| request.path);
    paths.filter(|path| path.contains("/blobs/")).collect()
}

/// Replaces an image of the [`registry`]: one of its three layers is another one, and it has an
/// SBOM again.
fn change(registry: &TestRegistry, number: u8) -> (Vec<u8>, Vec<u8>) {
    let kept = vec![number * 16; 70_000];
    let new = vec![99 + number; 90_000];
    let layers = [kept.clone(), new.clone()];
    let image = registry.image_with_layers("team/app", &format!("v{number}"), layers);
    registry.referrer(
        "team/app",
        &image,
        "application/vnd.cyclonedx+json",
        format!("new sbom {number}"),
    );
    (kept, new)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_base_holds_is_listed_and_neither_fetched_nor_carried() {
    let registry = registry().await;
    let site = Site::new();
    let request = |name: &str| site.request(&registry, &["team/app:v0", "team/app:v1"], name);
    let old = export(&request("old.tgz")).await.unwrap();
    let (kept, new) = change(&registry, 0);
    let whole = export(&request("whole.tgz")).await.unwrap();
    registry.clear_requests();
    let delta = export(&on(&old, request("delta.tgz"))).await.unwrap();

    let yaml = old.manifest.to_yaml().unwrap();
    assert_eq!(delta.manifest.base, Some(Digest::of(&yaml)));
    let left = left_out(&delta);
    assert!(left.contains(&Digest::of(&kept)) && !left.contains(&Digest::of(&new)));
    let asked = blobs_asked_for(&registry);
    assert!(
        asked
            .iter()
            .all(|path| !left.iter().any(|d| path.ends_with(&d.to_string())))
    );
    assert!(asked.contains(&format!("/v2/team/app/blobs/{}", Digest::of(&new))));
    // The base has three layers of `v1` and one of `v0` that are not here; this one has the new
    // layer.
    assert!(
        whole.size - delta.size > 4 * 70_000,
        "{} {}",
        whole.size,
        delta.size
    );

    // Nothing is lost: both name the same files, the same images and the same graph.
    let names = |summary: &ExportSummary| -> Vec<_> {
        let entries = summary.manifest.entries.iter();
        entries
            .map(|entry| (entry.path.clone(), entry.size))
            .collect()
    };
    assert_eq!(names(&delta), names(&whole));
    assert_eq!(
        delta.manifest.graph.discovery,
        whole.manifest.graph.discovery
    );
    let files = delta.manifest.files();
    for image in &delta.manifest.graph.images {
        assert!(files.values().any(|file| file.sha256 == image.digest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_on_the_same_state_has_manifests_and_no_content_and_its_document_is_read_back() {
    let registry = registry().await;
    let site = Site::new();
    let request = |name: &str| site.request(&registry, &["team/app:v0"], name);
    let old = export(&request("old.tgz")).await.unwrap();
    registry.clear_requests();
    let delta = export(&on(&old, request("delta.tgz"))).await.unwrap();
    // The empty config of referrers, which nearly every repository needs, is carried always.
    let empty = format!("/v2/team/app/blobs/{}", Digest::of(b"{}"));
    assert_eq!(blobs_asked_for(&registry), BTreeSet::from([empty]));
    let document = ExportDocument::from(&delta);
    let json = serde_json::to_value(&document).unwrap();
    assert_eq!(
        [&json["base"]["manifest"], &json["base"]["blobs"]],
        [
            &serde_json::json!(base_of(&old).digest()),
            &serde_json::json!(left_out(&delta).len())
        ]
    );
    assert_eq!(
        serde_json::from_value::<ExportDocument>(json.clone()).unwrap(),
        document
    );
    let mut later = json;
    later["schemaVersion"] = 2.into();
    assert!(serde_json::from_value::<ExportDocument>(later).is_err());
    // An image, an SBOM and a signature; beside them index.json and oci-layout.
    let entries = delta.manifest.entries.len();
    assert_eq!(entries - delta.manifest.left_out().count(), 3 + 2 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_has_nothing_of_it_leaves_nothing_out_and_is_named() {
    let registry = registry().await;
    let site = Site::new();
    let other = TestRegistry::builder(test_registry::Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    other.image_with_layers("other", "1", [b"of its own".to_vec()]);
    let old = export(&site.request(&other, &["other:1"], "old.tgz"))
        .await
        .unwrap();
    let request = |name: &str| site.request(&registry, &["team/app:v0"], name);
    let delta = export(&on(&old, request("delta.tgz"))).await.unwrap();
    assert_eq!(left_out(&delta), BTreeSet::new());
    assert!(delta.manifest.base.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_over_a_delta_leaves_out_what_either_has() {
    let registry = registry().await;
    let site = Site::new();
    let request = |name: &str| site.request(&registry, &["team/app:v0"], name);
    let first = export(&request("first.tgz")).await.unwrap();
    let (kept, new) = change(&registry, 0);
    let second = export(&on(&first, request("second.tgz"))).await.unwrap();
    let image =
        registry.image_with_layers("team/app", "v0", [kept.clone(), new.clone(), vec![3; 10]]);
    let third = export(&on(&second, request("third.tgz"))).await.unwrap();
    assert_eq!(third.manifest.graph.images[0].digest, image.digest);
    let left = left_out(&third);
    assert!(left.contains(&Digest::of(&kept)) && left.contains(&Digest::of(&new)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_delta_goes_on_and_gives_the_same_bytes() {
    let registry = registry().await;
    let site = Site::new();
    let images = ["team/app:v0", "team/app:v1", "team/app:v2"];
    let old = export(&site.request(&registry, &images, "old.tgz"))
        .await
        .unwrap();
    for number in 0..3 {
        change(&registry, number);
    }
    let request = |name: &str| on(&old, site.request(&registry, &images, name));
    registry.clear_requests();
    let clean = export(&request("clean.tgz")).await.unwrap();
    let all = blobs_asked_for(&registry).len();

    registry.fault(Route::blobs(), Fault::stall().skip(2).forever());
    let exporter = exporter();
    let again = request("b.tgz");
    let cut = tokio::time::timeout(
        Duration::from_secs(3),
        exporter.export(&again, &again.output),
    )
    .await;
    assert!(cut.is_err(), "the export was to be cut off");
    registry.clear_faults();
    registry.clear_requests();
    let resumed = export(&again).await.unwrap();
    assert_eq!(resumed.sha256, clean.sha256);
    assert_eq!(blobs_asked_for(&registry).len(), all - 2);
}
