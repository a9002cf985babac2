//! What goes wrong at a target during an import, and what is left and repaired afterwards.

use std::collections::BTreeSet;

use mirror_import::{ImportError, ImportErrorKind, ImportReport};
use oci_content::{Digest, referrers_tag};
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::support::{Bundle, open, said};

/// Returns whether the target holds everything of the bundle.
fn is_complete(bundle: &Bundle, target: &TestRegistry) -> bool {
    let validated = bundle.validated();
    let images = validated
        .manifest()
        .graph
        .images
        .iter()
        .map(|image| &image.digest);
    let entries = validated.manifest().entries.iter();
    let blobs: BTreeSet<Digest> = entries
        .filter(|entry| entry.path.to_string().starts_with("blobs/"))
        .map(|entry| entry.sha256.clone())
        .chain(images.cloned())
        .collect();
    blobs.iter().all(|digest| {
        ["app", "other"]
            .iter()
            .any(|name| target.has_blob(name, digest) || target.manifest(name, digest).is_some())
    })
}

/// Imports into a target with a fault, then without one; returns how the first import ended.
async fn with_fault(
    what: &str,
    bundle: &Bundle,
    target: &TestRegistry,
    route: Route,
    fault: Fault,
) -> Result<ImportReport, ImportError> {
    target.fault(route, fault);
    let first = bundle.import_to(target).await;
    target.clear_faults();
    if first.is_ok() || target.resolve("app", "1").is_some() {
        assert!(
            is_complete(bundle, target),
            "{what}: a tag that is incomplete"
        );
    }
    let second = bundle.import_to(target).await;
    let report = second.unwrap_or_else(|error| panic!("{what}, second run: {error}"));
    assert_eq!(report.referrers_found, bundle.referrers, "{what}");
    assert!(is_complete(bundle, target), "{what}");
    first
}

/// Checks that a fault does not keep the first import from its end.
async fn overcome(bundle: &Bundle, faults: Vec<(&str, Route, Fault)>) {
    overcome_at(&[Persona::SpecFull, Persona::Dist2], bundle, faults).await;
}

async fn overcome_at(personas: &[Persona], bundle: &Bundle, faults: Vec<(&str, Route, Fault)>) {
    for &persona in personas {
        for (what, route, fault) in faults.clone() {
            let target = open(persona).await;
            let first = with_fault(what, bundle, &target, route, fault).await;
            let report = first.unwrap_or_else(|error| panic!("{persona}, {what}: {error}"));
            assert_eq!(report.referrers_found, bundle.referrers, "{what}");
        }
    }
}

/// Checks that a fault ends the first import with an error of a kind that names what it is about.
async fn ends(bundle: &Bundle, faults: Vec<(&str, Route, Fault, ImportErrorKind, &str)>) {
    for persona in [Persona::SpecFull, Persona::Dist2] {
        for (what, route, fault, kind, named) in faults.clone() {
            let target = open(persona).await;
            let first = with_fault(what, bundle, &target, route, fault).await;
            let error = first.unwrap_err();
            assert_eq!(error.kind(), kind, "{persona}, {what}: {error}");
            assert!(said(&error).contains(named), "{what}: {}", said(&error));
        }
    }
}

fn uploads(method: &str) -> Route {
    Route::uploads().method(method)
}

fn manifests(method: &str) -> Route {
    Route::manifests().method(method)
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_and_bursts_of_errors_are_waited_out() {
    let bundle = Bundle::new().await;
    let patience = |statuses: &[u16]| Fault::statuses(statuses.iter().copied());
    let wait = || Fault::statuses([429]).header("Retry-After", "1");
    overcome(
        &bundle,
        vec![
            ("429 for a second, upload", uploads("PUT"), wait()),
            ("429 for a second, manifest", manifests("PUT"), wait()),
            ("429 without a time", uploads("POST"), patience(&[429, 429])),
            ("503 on an upload", uploads("PUT"), patience(&[503, 503])),
            (
                "5xx on an upload",
                uploads("PUT"),
                patience(&[500, 502, 504]),
            ),
            (
                "5xx on a manifest",
                manifests("PUT"),
                patience(&[500, 502, 504]),
            ),
            (
                "408, 499 and 522",
                uploads("PUT"),
                patience(&[408, 499, 522]),
            ),
            ("5xx on a HEAD", Route::blobs(), patience(&[500, 502, 503])),
            ("5xx on the API", Route::referrers(), patience(&[500, 503])),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_break_or_are_lost_are_made_whole() {
    let bundle = Bundle::new().await;
    let once = |status| Fault::statuses([status]);
    let mount = || uploads("POST").containing("mount=");
    overcome(
        &bundle,
        vec![
            (
                "broken in the middle",
                uploads("PUT"),
                Fault::break_upload_after(9),
            ),
            ("session lost", uploads("PUT"), once(404).times(3)),
            ("not where it is thought to be", uploads("PUT"), once(416)),
            (
                "reset after the commit",
                uploads("PUT"),
                Fault::reset().times(3),
            ),
            ("mount denied", mount(), once(403).forever()),
            ("mount unknown", mount(), once(405).forever()),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_after_a_manifest_or_a_tag_was_taken_is_found_out() {
    let bundle = Bundle::new().await;
    let image_tag = || manifests("PUT").reference("1");
    let legacy_tag = || manifests("PUT").containing(".sig");
    let referrers_tag = || manifests("PUT").reference(referrers_tag(&bundle.image));
    overcome(
        &bundle,
        vec![
            (
                "manifests",
                manifests("PUT").containing("sha256:"),
                Fault::reset().times(3),
            ),
            ("tag of an image", image_tag(), Fault::reset()),
            ("tag of an image, 500", image_tag(), Fault::statuses([500])),
            ("legacy tag", legacy_tag(), Fault::reset()),
        ],
    )
    .await;
    // Where there is no API.
    overcome_at(
        &[Persona::Dist2],
        &bundle,
        vec![
            ("referrers tag", referrers_tag(), Fault::reset()),
            (
                "referrers tag, 502",
                referrers_tag(),
                Fault::statuses([502]),
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_was_not_taken_before_a_reset_ends_the_import() {
    let bundle = Bundle::new().await;
    ends(
        &bundle,
        vec![(
            "broken before it was taken",
            manifests("PUT").reference("1").containing("/app/"),
            Fault::break_upload_after(9).forever(),
            ImportErrorKind::Network,
            "app:1",
        )],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_in_the_middle_is_renewed() {
    let bundle = Bundle::new().await;
    for (what, route) in [
        ("an upload ends", uploads("PUT")),
        ("a manifest", manifests("PUT")),
        ("a tag", manifests("PUT").reference("1")),
        ("the proof", Route::referrers()),
    ] {
        let target = TestRegistry::start(Persona::SpecFull).await;
        let first = with_fault(what, &bundle, &target, route, Fault::expire_token()).await;
        first.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_end_the_import_and_say_of_what() {
    use ImportErrorKind::{Access, Network};
    let bundle = Bundle::new().await;
    let always = |status| Fault::statuses([status]).forever();
    let tag = || manifests("PUT").reference("1");
    ends(
        &bundle,
        vec![
            ("401 for good", uploads("POST"), always(401), Access, "401"),
            ("403", uploads("PUT"), always(403), Access, "403"),
            (
                "throttled for a day",
                uploads("PUT"),
                always(429).header("Retry-After", "86400"),
                Network,
                "429",
            ),
            (
                "no uploads at all",
                uploads("POST"),
                always(405),
                Access,
                "405",
            ),
            (
                "manifest too large",
                manifests("PUT"),
                always(413),
                Access,
                "413",
            ),
            ("disk full", uploads("PUT"), always(507), Network, "507"),
            (
                "disk full, manifest",
                manifests("PUT"),
                always(500),
                Network,
                "500",
            ),
            (
                "immutable tag",
                tag(),
                always(400),
                Access,
                "1: the registry answered 400",
            ),
            ("immutable tag, 409", tag(), always(409), Access, "409"),
            (
                "a HEAD is denied",
                Route::blobs(),
                always(403),
                Access,
                "403",
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_a_proxy_takes_only_in_pieces_arrives() {
    let bundle = Bundle::with_layer(vec![7; 1_500_000]).await;
    let target = TestRegistry::builder(Persona::Dist2)
        .without_auth()
        .max_body_bytes(1 << 20)
        .start()
        .await;
    let report = bundle.import_to(&target).await.unwrap();
    assert_eq!(report.referrers_found, bundle.referrers);
    assert!(is_complete(&bundle, &target));
    let chunks = target.requests();
    let chunks = chunks.iter().filter(|request| request.method == "PATCH");
    assert_eq!(chunks.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_target_only_says_it_has_is_sent_all_the_same() {
    let yes = || Fault::body(200, "application/octet-stream", "").forever();
    for bundle in [Bundle::new().await, Bundle::index().await] {
        let lies = vec![
            ("blobs", Route::blobs().method("HEAD"), yes()),
            ("manifests", manifests("HEAD"), yes()),
        ];
        overcome(&bundle, lies).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrers_tag_that_loses_an_update_is_written_again_or_named() {
    let bundle = Bundle::new().await;
    let tag = referrers_tag(&bundle.image);
    let route = || manifests("PUT").reference(&tag);
    // Taken, and overwritten by another writer before anybody looks.
    let lost = || Fault::body(201, "", "");
    for times in [1, 3, 7] {
        let target = open(Persona::Dist2).await;
        let first = with_fault("lost", &bundle, &target, route(), lost().times(times)).await;
        assert_eq!(first.unwrap().referrers_found, bundle.referrers);
    }
    let target = open(Persona::Dist2).await;
    let first = with_fault("always lost", &bundle, &target, route(), lost().forever()).await;
    let error = first.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::Network);
    assert!(error.to_string().contains(tag.as_str()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_says_yes_to_everything_is_not_believed() {
    let page = || Fault::body(200, "text/html", "<html>Sign in</html>").forever();
    // If tags may be moved, the blobs do not have the right sizes, and an upload is answered
    // with a page.
    for bundle in [Bundle::new().await, Bundle::bare().await] {
        let target = open(Persona::SpecFull).await;
        target.fault(Route::any(), page());
        let error = bundle.import_to(&target).await.unwrap_err();
        assert_eq!(error.kind(), ImportErrorKind::Access, "{error}");
        let error = bundle.import_over(&target).await.unwrap_err();
        assert_eq!(error.kind(), ImportErrorKind::Access, "{error}");
        assert!(said(&error).contains("answered with 200"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_changes_after_its_validation_is_not_imported() {
    use std::os::unix::fs::FileExt as _;
    for damage in ["truncated", "overwritten"] {
        let bundle = Bundle::new().await;
        let validated = bundle.validated();
        let file = std::fs::OpenOptions::new();
        let file = file.clone().write(true).open(bundle.path("b.tgz")).unwrap();
        match damage {
            "truncated" => file.set_len(20_000).unwrap(),
            _ => {
                let middle = file.metadata().unwrap().len() / 2;
                file.write_all_at(&[0xff; 600], middle).unwrap();
            }
        }
        let target = open(Persona::SpecFull).await;
        let error = bundle
            .import_validated(validated, &target)
            .await
            .unwrap_err();
        assert_eq!(
            error.kind(),
            ImportErrorKind::Integrity,
            "{damage}: {error}"
        );
        assert_eq!(target.resolve("app", "1"), None);
        assert_eq!(target.resolve("other", "1"), None);
    }
}
