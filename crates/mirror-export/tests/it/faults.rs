//! What goes wrong with one blob, and what is left and repaired afterwards.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mirror_export::{ExportErrorKind, ExportEvent, ExportObserver, Exporter};
use mirror_plan::{PlanEvent, PlanObserver};
use oci_content::Digest;
use registry_client::{Client, ClientOptions};
use test_registry::{Fault, Framing, Persona, Route, TestRegistry};

use crate::support::{Site, export, registry};

const IMAGE: &[&str] = &["team/app:v0"];

/// An exporter that tries again at once, and waits half a second for a body that stalls.
fn patient() -> Exporter {
    let mut options = ClientOptions::default();
    options.retry.base_delay = Duration::from_millis(1);
    options.idle_timeout = Duration::from_millis(500);
    Exporter::new(Client::new(options).unwrap(), Arc::new(()))
}

/// A layer of the image.
fn layer() -> (Digest, Vec<u8>) {
    let bytes = vec![2; 70_002];
    (Digest::of(&bytes), bytes)
}

/// Exports with the fault, which gives the whole bundle or nothing and an error of this kind; then
/// without, which gives the bundle of a clean run.
async fn check(what: &str, registry: &TestRegistry, fault: Fault, fails: Option<ExportErrorKind>) {
    let site = Site::new();
    let clean = export(&site.request(registry, IMAGE, "clean.tgz"))
        .await
        .unwrap();
    registry.fault(Route::blobs().reference(layer().0), fault);
    let request = site.request(registry, IMAGE, "b.tgz");
    let first = patient().export(&request, &request.output).await;
    registry.clear_faults();
    let error = first.err();
    let kind = error.as_ref().map(mirror_export::ExportError::kind);
    assert_eq!(kind, fails, "{what}: {error:?}");
    let there = ["b.tgz", "b.tgz.sha256", "b.tgz.report.json"].map(|name| site.path(name).exists());
    assert_eq!(there, [fails.is_none(); 3], "{what}: {:?}", site.files());
    let bytes = |name| Digest::of(&std::fs::read(site.path(name)).unwrap());
    if fails.is_some() {
        export(&request).await.unwrap();
    }
    assert_eq!(bytes("b.tgz"), clean.sha256, "{what}");
    assert!(!site.path(".b.tgz.partial").exists(), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_comes_wrong_once_is_fetched_again() {
    let registry = registry().await;
    for (what, fault) in [
        ("short", Fault::shorten(60_000)),
        ("cut off", Fault::truncate_after(60_000)),
        (
            "without a length and short",
            Fault::shorten(60_000).framing(Framing::Chunked),
        ),
        ("corrupt", Fault::corrupt_byte(50_000)),
        ("reset in the middle", Fault::reset_after(50_000)),
        ("reset before the first byte", Fault::reset_after(0)),
        ("stalled", Fault::stall_after(50_000)),
        ("slow", Fault::slow(400_000)),
        (
            "throttled",
            Fault::statuses([429]).header("Retry-After", "1"),
        ),
        ("a burst of errors", Fault::statuses([500, 502, 503, 504])),
    ] {
        check(what, &registry, fault, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_stays_wrong_ends_the_export_and_leaves_no_file() {
    let registry = registry().await;
    for (what, fault, kind) in [
        ("empty", Fault::shorten(0), ExportErrorKind::Integrity),
        ("long", Fault::extend(), ExportErrorKind::Integrity),
        (
            "corrupt",
            Fault::corrupt_byte(50_000),
            ExportErrorKind::Integrity,
        ),
        ("reset", Fault::reset_after(0), ExportErrorKind::Network),
        (
            "throttled for a day",
            Fault::statuses([429]).header("Retry-After", "86400"),
            ExportErrorKind::Network,
        ),
        (
            "a sign-in page",
            Fault::body(200, "text/html", "<html>Sign in</html>"),
            ExportErrorKind::Integrity,
        ),
        ("gone", Fault::statuses([404]), ExportErrorKind::Incomplete),
        ("denied", Fault::statuses([403]), ExportErrorKind::Access),
    ] {
        check(what, &registry, fault.forever(), Some(kind)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_that_has_expired_is_asked_for_anew() {
    let registry = registry().await;
    let storage = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    let (digest, bytes) = layer();
    storage.put_blob("storage", bytes);
    let to = storage.url(&format!("/v2/storage/blobs/{digest}"));
    let redirect = || Fault::redirect(&to, 307).forever();
    // What signed URLs are answered with when their time is over, here in the middle of the blob.
    for status in [400, 403] {
        storage.fault(Route::blobs(), Fault::reset_after(50_000));
        storage.fault(Route::blobs(), Fault::statuses([status]));
        check("expired", &registry, redirect(), None).await;
        storage.clear_faults();
    }
    storage.fault(Route::blobs(), Fault::statuses([403]).forever());
    let kind = Some(ExportErrorKind::Access);
    check("expired for good", &registry, redirect(), kind).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_during_the_export_changes_nothing() {
    let registry = registry().await;
    let site = Site::new();
    let clean = export(&site.request(&registry, IMAGE, "clean.tgz"))
        .await
        .unwrap();
    let delay = Fault::delay(Duration::from_millis(300));
    registry.fault(Route::blobs().reference(layer().0), delay);
    let request = site.request(&registry, IMAGE, "b.tgz");
    let running = tokio::spawn(async move { patient().export(&request, &request.output).await });
    let asked = |request: &test_registry::RecordedRequest| {
        request.path.ends_with(&layer().0.to_string()) && request.status.is_none()
    };
    while !registry.requests().iter().any(asked) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let other = registry.resolve("team/app", "v1").unwrap();
    registry.tag("team/app", "v0", &other);
    let moved = running.await.unwrap().unwrap();
    assert_eq!(moved.sha256, clean.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_an_image_covers_the_probe_and_what_its_reference_leads_to() {
    let registry = registry().await;
    let site = Site::new();
    let mut request = site.request(&registry, IMAGE, "b.tgz");
    request.plan.discovery_timeout = Duration::from_secs(2);
    // Nothing answers; the manifests do not, and the probe does.
    for silent in [Route::any(), Route::manifests()] {
        registry.fault(silent, Fault::stall().forever());
        let started = std::time::Instant::now();
        let error = export(&request).await.unwrap_err();
        let took = started.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?}: {error}");
        assert_eq!(error.kind(), ExportErrorKind::Network);
        assert!(
            error.to_string().contains("could not be read within 2 s"),
            "{error}"
        );
        registry.clear_faults();
    }
    // A probe that is not answered leaves the image enough time, and a list that does not come is
    // not an empty one.
    registry.fault(Route::referrers(), Fault::stall().forever());
    let started = std::time::Instant::now();
    let error = export(&request).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(4), "{error}");
    assert_eq!(error.kind(), ExportErrorKind::Incomplete, "{error}");
    registry.clear_faults();
    assert!(export(&request).await.is_ok());
}

#[derive(Debug, Default)]
struct Told(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    size: u64,
    planned: u64,
    received: u64,
    discarded: u64,
    transferred: u64,
    hashed: u64,
    parts: Vec<&'static str>,
}

impl PlanObserver for Told {
    fn planning(&self, event: PlanEvent<'_>) {
        if let PlanEvent::Discovering { images, .. } = event {
            assert_eq!(images, 1);
            self.0.lock().unwrap().parts.push("discovery");
        }
    }
}

impl ExportObserver for Told {
    fn event(&self, event: ExportEvent) {
        let mut sums = self.0.lock().unwrap();
        match event {
            ExportEvent::Planned {
                bytes, blob_bytes, ..
            } => {
                (sums.size, sums.planned) = (bytes, blob_bytes);
                sums.parts.push("download");
            }
            ExportEvent::Received { bytes, .. } => sums.received += bytes,
            ExportEvent::Discarded { bytes, .. } => sums.discarded += bytes,
            ExportEvent::Transferred { bytes, .. } => sums.transferred += bytes,
            ExportEvent::Hashed { bytes, .. } => sums.hashed += bytes,
            ExportEvent::Syncing => sums.parts.push("sync"),
            ExportEvent::Checksumming => sums.parts.push("checksum"),
            _ => {}
        }
    }

    fn requests(&self) -> u64 {
        0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_is_told_of_exactly_as_many_bytes_as_were_planned() {
    let registry = registry().await;
    for fault in [
        None,
        Some(Fault::reset_after(30_000)),
        Some(Fault::corrupt_byte(9)),
    ] {
        let starts_over = fault.as_ref().is_some();
        if let Some(fault) = fault {
            registry.fault(Route::blobs().reference(layer().0), fault);
        }
        let site = Site::new();
        let told = Arc::new(Told::default());
        let mut options = ClientOptions::default();
        options.retry.base_delay = Duration::from_millis(1);
        let observer = Arc::clone(&told) as Arc<dyn ExportObserver>;
        let exporter = Exporter::new(Client::new(options).unwrap(), observer);
        let request = site.request(&registry, IMAGE, "b.tgz");
        let result = exporter.export(&request, &request.output).await;
        registry.clear_faults();
        let sums = told.0.lock().unwrap();
        if result.is_err() {
            assert!(starts_over, "{result:?}");
            assert!(sums.discarded >= 70_002, "{sums:?}");
            continue;
        }
        assert_eq!(sums.received - sums.discarded, sums.planned, "{sums:?}");
        assert_eq!(sums.transferred, sums.planned, "{sums:?}");
        assert_eq!(sums.hashed, sums.size, "{sums:?}");
        assert!(sums.planned > 200_000, "{sums:?}");
        let parts = ["discovery", "download", "sync", "checksum"];
        assert_eq!(sums.parts, parts, "{sums:?}");
    }
}
