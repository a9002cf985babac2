//! Copies from registry to registry, without a bundle in between.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use mirror_import::{
    ImportErrorKind, ImportOptions, ImportReport, Importer, LayoutTarget, Mirror, MirrorError,
    RegistryTarget, Target,
};
use mirror_plan::{PlanRequest, Planner};
use oci_content::{Algorithm, Completeness, Descriptor, Digest, media_type};
use registry_client::{Client, ClientOptions};
use serde_json::json;
use test_registry::{Fault, Persona, RecordedRequest, Route, TestRegistry};

use crate::support::{PATIENCE, client, open, options, registry};

const SBOM: &str = "application/vnd.cyclonedx+json";

fn request(source: &TestRegistry, images: &[&str]) -> PlanRequest {
    let reference = |image: &&str| format!("{}/{image}", source.host()).parse().unwrap();
    let mut request = PlanRequest::new(images.iter().map(reference).collect());
    request.sha512 = true;
    request
}

fn mirror(client: Client, target: Arc<dyn Target>, options: ImportOptions) -> Mirror {
    let planner = Planner::new(client, Arc::new(()));
    let importer = Importer::new(target, options, Arc::new(()));
    Mirror::new(planner, importer, Arc::new(()))
}

async fn copy(
    source: &TestRegistry,
    images: &[&str],
    target: Arc<dyn Target>,
) -> Result<ImportReport, MirrorError> {
    let mirror = mirror(client(), target, options());
    mirror.copy(&request(source, images)).await
}

fn kind(result: Result<ImportReport, MirrorError>) -> (ImportErrorKind, String) {
    match result.unwrap_err() {
        MirrorError::Import(error) => (error.kind(), oci_content::with_causes(&error)),
        other => panic!("{other:?}"),
    }
}

/// Puts an image with an SBOM, a signature on that and a legacy signature into a registry.
fn fill(source: &TestRegistry) -> Descriptor {
    let image = source.image_with_layers("app", "1", [vec![7; 200_000], b"own".to_vec()]);
    let sbom = source.referrer("app", &image, SBOM, "sbom");
    let signature = "application/vnd.cncf.notary.signature";
    source.referrer("app", &sbom, signature, "signature");
    source.legacy("app", &image.digest, "sig", "legacy signature");
    image
}

fn of_blob<'a>(requests: &'a [RecordedRequest], digest: &Digest) -> Vec<&'a RecordedRequest> {
    let path = format!("/blobs/{digest}");
    let about =
        |request: &&RecordedRequest| request.method == "GET" && request.path.ends_with(&path);
    requests.iter().filter(about).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_from_every_source_at_every_kind_of_target() {
    for persona in Persona::ALL {
        let builder = TestRegistry::builder(persona).without_auth();
        let source = builder.start().await;
        let image = fill(&source);
        let folder = tempfile::tempdir().unwrap();
        let (full, old) = (open(Persona::SpecFull).await, open(Persona::Dist2).await);
        let layout: Arc<dyn Target> = Arc::new(LayoutTarget::new(folder.path().join("layout")));
        for target in [registry(&full), registry(&old), layout] {
            let name = target.name();
            let report = copy(&source, &["app:1"], target).await;
            let report = report.unwrap_or_else(|error| panic!("{persona} to {name}: {error}"));
            assert_eq!(report.source_status, Completeness::Complete, "{persona}");
            assert_eq!(report.referrers_found, 3, "{persona} to {name}");
            assert_eq!(report.images[0].digest, image.digest);
        }
        for target in [&full, &old] {
            assert_eq!(target.resolve("app", "1"), Some(image.digest.clone()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_copy_sends_nothing() {
    let (source, target) = (open(Persona::SpecFull).await, open(Persona::Dist2).await);
    fill(&source);
    let first = copy(&source, &["app:1"], registry(&target)).await.unwrap();
    assert!(first.blobs.sent > 0 && first.manifests.sent == 4);
    source.clear_requests();
    let second = copy(&source, &["app:1"], registry(&target)).await.unwrap();
    assert_eq!((second.blobs.sent, second.manifests.sent), (0, 0));
    assert_eq!(second.referrers_found, 3);
    let blobs = source.requests().into_iter();
    let blobs: Vec<_> = blobs
        .filter(|request| request.path.contains("/blobs/"))
        .collect();
    assert!(blobs.is_empty(), "{blobs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_breaks_off_is_asked_for_the_rest() {
    for target in [Persona::SpecFull, Persona::Dist2] {
        let (source, target) = (open(Persona::SpecFull).await, open(target).await);
        let image = source.image_with_layers("app", "1", [vec![7; 900_000]]);
        let layer = Digest::of(&vec![7; 900_000]);
        let route = Route::blobs().method("GET").reference(&layer);
        source.fault(route, Fault::reset_after(300_000));
        copy(&source, &["app:1"], registry(&target)).await.unwrap();
        assert_eq!(target.resolve("app", "1"), Some(image.digest));
        let requests = source.requests();
        let asked = of_blob(&requests, &layer);
        assert_eq!(asked.len(), 2);
        assert!(asked[1].header("range").is_some(), "{asked:?}");
        let uploads = target.requests().into_iter();
        let whole = |request: &RecordedRequest| request.header("content-length") == Some("900000");
        let uploads = uploads.filter(|request| request.method == "PUT" && whole(request));
        assert_eq!(uploads.count(), 1, "the target has seen one whole upload");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_goes_on_where_it_was() {
    let bytes: Vec<u8> = (0..24_u32 << 20).map(|at| (at % 251) as u8).collect();
    let layer = Digest::of(&bytes);
    let (source, target) = (open(Persona::SpecFull).await, open(Persona::SpecFull).await);
    source.image_with_layers("app", "1", [bytes]);
    let route = Route::uploads().method("PUT").containing(layer.encoded());
    target.fault(route, Fault::break_upload_after(20 << 20));
    copy(&source, &["app:1"], registry(&target)).await.unwrap();
    assert!(target.has_blob("app", &layer));
    let requests = source.requests();
    let ranges = of_blob(&requests, &layer).into_iter();
    let ranges: Vec<_> = ranges.filter_map(|asked| asked.header("range")).collect();
    let from = ranges.last().expect("it is asked for a range");
    let from: u64 = from
        .trim_start_matches("bytes=")
        .trim_end_matches('-')
        .parse()
        .unwrap();
    assert!(from >= 8 << 20, "{ranges:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_source_is_no_stalled_upload() {
    let (source, target) = (open(Persona::SpecFull).await, open(Persona::SpecFull).await);
    let image = source.image_with_layers("app", "1", [vec![7; 600_000]]);
    let layer = Digest::of(&vec![7; 600_000]);
    let pause = Duration::from_millis(900);
    let late = Fault::reset_after(300_000);
    let route = Route::blobs().method("GET").reference(&layer);
    source.fault(route.clone().ranged(), Fault::delay(pause));
    source.fault(route, late);
    let mut impatient = ClientOptions::default();
    impatient.idle_timeout = pause / 3;
    impatient.response_timeout = pause * 4;
    impatient.retry.base_delay = Duration::from_millis(1);
    let mirror = mirror(
        Client::new(impatient).unwrap(),
        registry(&target),
        options(),
    );
    mirror.copy(&request(&source, &["app:1"])).await.unwrap();
    assert_eq!(target.resolve("app", "1"), Some(image.digest));
    let sent = target.requests().into_iter();
    let sent = sent.filter(|request| request.header("content-length") == Some("600000"));
    assert_eq!(sent.count(), 1, "the upload waited for its source");
}

#[tokio::test(flavor = "multi_thread")]
async fn within_one_registry_nothing_is_moved_but_mounted() {
    let one = open(Persona::SpecFull).await;
    let image = fill(&one);
    let mut options = options();
    options.mapping.prefix = Some("mirror".parse().unwrap());
    one.clear_requests();
    let mirror = mirror(client(), registry(&one), options);
    let report = mirror.copy(&request(&one, &["app:1"])).await.unwrap();
    assert_eq!((report.blobs.sent, report.referrers_found), (0, 3));
    assert_eq!(one.resolve("mirror/app", "1"), Some(image.digest));
    let requests = one.requests().into_iter();
    let moved = requests
        .filter(|request| request.method == "GET" && request.path.contains("/blobs/sha256:"));
    assert_eq!(moved.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_at_both_ends_that_does_not_mount_and_takes_one_request_at_a_time_does_not_hang()
{
    let one = open(Persona::SpecFull).await;
    fill(&one);
    one.fault(
        Route::uploads().method("POST").containing("mount="),
        Fault::error(403, "DENIED").forever(),
    );
    let mut at_once = ClientOptions::default();
    at_once.max_in_flight = NonZeroUsize::MIN;
    let mut options = options();
    options.mapping.prefix = Some("mirror".parse().unwrap());
    let mirror = mirror(Client::new(at_once).unwrap(), registry(&one), options);
    let request = request(&one, &["app:1"]);
    let copied = tokio::time::timeout(Duration::from_secs(60), mirror.copy(&request)).await;
    let report = copied.expect("it does not hang").unwrap();
    assert_eq!((report.blobs.mounted, report.referrers_found), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_addressed_by_sha512_are_carried() {
    let (source, target) = (open(Persona::SpecFull).await, open(Persona::SpecFull).await);
    let image = source.image("app", "1");
    let (config, payload) = (source.put_blob("app", "{}"), source.put_blob("app", "sbom"));
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::IMAGE_MANIFEST,
        "artifactType": SBOM,
        "config": {"mediaType": media_type::EMPTY, "digest": config.digest, "size": config.size},
        "layers": [{"mediaType": "text/plain", "digest": payload.digest, "size": payload.size}],
        "subject": {"mediaType": image.media_type, "digest": image.digest, "size": image.size},
    });
    let document = document.to_string();
    let digest = Digest::compute(Algorithm::Sha512, document.as_bytes());
    source.put_manifest_as("app", &digest, media_type::IMAGE_MANIFEST, document);
    let report = copy(&source, &["app:1"], registry(&target)).await.unwrap();
    assert_eq!(report.referrers_found, 1);
    assert!(target.manifest("app", &digest).is_some());

    let folder = tempfile::tempdir().unwrap();
    let layout = Arc::new(LayoutTarget::new(folder.path().join("layout")));
    let report = copy(&source, &["app:1"], layout).await.unwrap();
    assert_eq!(report.referrers_found, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_the_blob_are_fetched_once_more_and_then_refused() {
    for persona in [Some(Persona::SpecFull), None] {
        let source = open(Persona::SpecFull).await;
        source.image_with_layers("app", "1", [vec![7; 300_000]]);
        let layer = Digest::of(&vec![7; 300_000]);
        let route = Route::blobs().method("GET").reference(&layer);
        source.fault(route.clone(), Fault::corrupt_byte(1_000));
        let folder = tempfile::tempdir().unwrap();
        let place = match persona {
            Some(persona) => Some(open(persona).await),
            None => None,
        };
        let target = || match &place {
            Some(place) => registry(place),
            None => Arc::new(LayoutTarget::new(folder.path().join("layout"))),
        };
        copy(&source, &["app:1"], target()).await.unwrap();

        source.image_with_layers("app", "2", [vec![8; 300_000]]);
        let layer = Digest::of(&vec![8; 300_000]);
        let route = Route::blobs().method("GET").reference(&layer);
        source.fault(route, Fault::corrupt_byte(1_000).forever());
        let (kind, text) = kind(copy(&source, &["app:2"], target()).await);
        assert_eq!(kind, ImportErrorKind::Integrity, "{text}");
        assert!(text.contains(&layer.to_string()), "{text}");
        if let Some(place) = &place {
            assert_eq!(place.resolve("app", "2"), None);
            assert!(!place.has_blob("app", &layer));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_gone_is_named_and_what_needs_it_is_missing_if_that_is_allowed() {
    let source = open(Persona::SpecFull).await;
    let image = fill(&source);
    let layer = Digest::of(b"sbom");
    source.delete("app", &layer);
    for folder in [false, true] {
        let target = open(Persona::SpecFull).await;
        let place = tempfile::tempdir().unwrap();
        let at = || {
            if folder {
                Arc::new(LayoutTarget::new(place.path().join("layout"))) as Arc<dyn Target>
            } else {
                registry(&target)
            }
        };
        let refused = copy(&source, &["app:1"], at()).await;
        let Err(MirrorError::Incomplete(missing)) = refused else {
            panic!("{refused:?}");
        };
        assert!(missing[0].contains(&layer.to_string()), "{missing:?}");
        assert_eq!(target.resolve("app", "1"), None);

        let mirror = mirror(client(), at(), options()).allow_incomplete(true);
        let report = mirror.copy(&request(&source, &["app:1"])).await.unwrap();
        assert_eq!(report.source_status, Completeness::Incomplete);
        let unsettled: Vec<_> = report.unsettled().collect();
        assert!(
            unsettled
                .iter()
                .any(|one| format!("{one:?}").contains("missing-blob")),
            "{unsettled:?}"
        );
        if !folder {
            assert_eq!(target.resolve("app", "1"), Some(image.digest.clone()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discovery_that_is_incomplete_sends_nothing_unless_that_is_allowed() {
    let (source, target) = (open(Persona::SpecFull).await, open(Persona::SpecFull).await);
    fill(&source);
    source.fault(Route::referrers(), Fault::statuses([503; 20]).forever());
    let refused = copy(&source, &["app:1"], registry(&target)).await;
    let Err(MirrorError::Incomplete(missing)) = refused else {
        panic!("{refused:?}");
    };
    assert!(missing[0].contains("503"), "{missing:?}");
    assert!(
        target
            .requests()
            .iter()
            .all(|request| request.method == "GET" || request.method == "HEAD")
    );
    let mirror = mirror(client(), registry(&target), options()).allow_incomplete(true);
    let report = mirror.copy(&request(&source, &["app:1"])).await.unwrap();
    assert_eq!(report.source_status, Completeness::Incomplete);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_not_copied_onto_itself() {
    let one = open(Persona::SpecFull).await;
    fill(&one);
    one.clear_requests();
    let (kind, text) = kind(copy(&one, &["app:1"], registry(&one)).await);
    assert_eq!(kind, ImportErrorKind::Usage);
    assert!(text.contains("onto itself"), "{text}");
    assert!(one.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_something_else_at_the_target_stays() {
    let (source, target) = (open(Persona::SpecFull).await, open(Persona::SpecFull).await);
    let image = fill(&source);
    let other = target.image("app", "1");
    let (kind, text) = kind(copy(&source, &["app:1"], registry(&target)).await);
    assert_eq!(kind, ImportErrorKind::Access, "{text}");
    assert_eq!(target.resolve("app", "1"), Some(other.digest));
    let mut options = options();
    options.overwrite_tags = true;
    let target_of = RegistryTarget::new(client(), target.registry()).patience(PATIENCE);
    let mirror = mirror(client(), Arc::new(target_of), options);
    mirror.copy(&request(&source, &["app:1"])).await.unwrap();
    assert_eq!(target.resolve("app", "1"), Some(image.digest));
}
