use std::collections::BTreeSet;

use mirror_import::{ImportErrorKind, ImportReport, Source as _, TagAction};
use oci_content::{Digest, MirrorGraph, SourceRepository, referrers_tag};
use test_registry::{Fault, Persona, Referrer, Route, TestRegistry};

use crate::support::{Bundle, open, writes};

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_whatever_the_target_can_do() {
    let bundle = Bundle::new().await;
    for persona in [
        Persona::SpecFull,
        Persona::PagedBytes,
        Persona::Minimal,
        Persona::Dist2,
        Persona::Dist3,
        Persona::Quay,
        Persona::Ghcr,
        Persona::HubLiar,
        Persona::Harbor28,
        Persona::Html200,
    ] {
        let target = open(persona).await;
        let report = bundle
            .import_to(&target)
            .await
            .unwrap_or_else(|error| panic!("{persona}: {error}"));
        assert_eq!(
            (report.referrers_expected, report.referrers_found),
            (bundle.referrers, bundle.referrers)
        );
        assert!(report.missing.is_empty(), "{persona}");
        assert!(target.resolve("app", "1").is_some() && target.resolve("other", "1").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_does_not_exist_yet_is_asked_for_with_the_right_to_push() {
    let bundle = Bundle::new().await;
    // Its token service gives no token that only reads what is not there.
    let target = TestRegistry::start(Persona::Ghcr).await;
    let report = bundle.import_to(&target).await.unwrap();
    assert_eq!(report.referrers_found, bundle.referrers);
    assert!(target.resolve("app", "1").is_some() && target.resolve("other", "1").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_import_sends_nothing() {
    let bundle = Bundle::new().await;
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let target = open(persona).await;
        bundle.import_to(&target).await.unwrap();
        target.clear_requests();
        let report = bundle.import_to(&target).await.unwrap();
        assert_eq!((report.blobs.sent, report.manifests.sent), (0, 0));
        assert!(
            writes(&target).is_empty(),
            "{persona}: {:?}",
            writes(&target)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_another_repository_has_is_mounted() {
    let bundle = Bundle::new().await;
    let target = open(Persona::SpecFull).await;
    let report = bundle.import_to(&target).await.unwrap();
    assert!(report.blobs.mounted >= 1, "{:?}", report.blobs);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tags_of_images_are_the_last_thing_that_is_written() {
    let bundle = Bundle::new().await;
    let target = open(Persona::Dist2).await;
    bundle.import_to(&target).await.unwrap();
    let order = writes(&target);
    let tag_writes = order
        .iter()
        .rev()
        .take_while(|write| write.path.ends_with("/manifests/1"))
        .count();
    assert_eq!(tag_writes, 2, "{order:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_keep_under_the_referrers_tag_stays() {
    let bundle = Bundle::new().await;
    let target = open(Persona::Dist2).await;
    bundle.import_to(&target).await.unwrap();
    // Somebody else signs the image at the target, and its own referrers are lost from the list.
    let image = target.manifest("app", &bundle.image).unwrap();
    let image = oci_content::Descriptor::of("application/vnd.oci.image.manifest.v1+json", &image);
    let own = Referrer::new(&image, "application/vnd.example.local", "local").without_tag_index();
    let own = target.put_referrer("app", own);
    target.referrers_tag_index("app", &bundle.image, std::slice::from_ref(&own));
    bundle.import_to(&target).await.unwrap();
    let tag = referrers_tag(&bundle.image);
    let index = target
        .manifest("app", &target.resolve("app", tag.as_str()).unwrap())
        .unwrap();
    let index = String::from_utf8(index.to_vec()).unwrap();
    assert!(
        index.contains(&own.digest.to_string()) && index.contains(&bundle.sbom.digest.to_string()),
        "{index}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrers_tag_that_holds_something_else_stops_the_import_and_names_it() {
    let bundle = Bundle::new().await;
    let target = open(Persona::Dist2).await;
    let other = target.image("app", "unrelated");
    target.tag("app", referrers_tag(&bundle.image).as_str(), &other.digest);
    let error = bundle.import_to(&target).await.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::Access);
    assert!(
        error
            .to_string()
            .contains(referrers_tag(&bundle.image).as_str()),
        "{error}"
    );
    assert_eq!(
        target.resolve("app", "1"),
        None,
        "no tag points at something incomplete"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrer_that_the_target_loses_is_sent_again_or_named() {
    let bundle = Bundle::new().await;
    let target = open(Persona::SpecFull).await;
    bundle.import_to(&target).await.unwrap();
    // A lost update: the manifest is there and the list does not name it.
    target.hide_referrer("app", &bundle.sbom.digest);
    let report = bundle.import_to(&target).await.unwrap();
    assert_eq!(report.referrers_found, bundle.referrers);

    // A target that answers with an empty list whatever is pushed, and takes no referrers tag.
    let target = open(Persona::SpecFull).await;
    let empty = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let lie = Fault::body(200, "application/vnd.oci.image.index.v1+json", empty).forever();
    target.fault(Route::referrers(), lie);
    target.fault(
        Route::path_prefix(format!(
            "/v2/app/manifests/{}",
            referrers_tag(&bundle.image)
        )),
        Fault::statuses([404]).forever(),
    );
    let error = bundle.import_to(&target).await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ImportErrorKind::Access | ImportErrorKind::Incomplete
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_interruption_no_tag_is_there_and_a_second_run_finishes() {
    let bundle = Bundle::new().await;
    for route in [Route::uploads(), Route::manifests().method("PUT")] {
        for after in 0..6 {
            let target = open(Persona::SpecFull).await;
            target.fault(route.clone(), Fault::statuses([403]).skip(after).forever());
            let first = bundle.import_to(&target).await;
            assert_eq!(
                first.map(drop).map_err(|error| error.kind()),
                Err(ImportErrorKind::Access)
            );
            assert_eq!(target.resolve("app", "1"), None);
            target.clear_faults();
            let report = bundle.import_to(&target).await.unwrap();
            assert_eq!(report.referrers_found, bundle.referrers);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_imports_at_once_both_end_well() {
    let bundle = Bundle::new().await;
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let target = open(persona).await;
        let (one, two) = tokio::join!(bundle.import_to(&target), bundle.import_to(&target));
        assert_eq!(one.unwrap().referrers_found, bundle.referrers, "{persona}");
        assert_eq!(two.unwrap().referrers_found, bundle.referrers, "{persona}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_says_of_every_tag_what_it_was_before() {
    let bundle = Bundle::new().await;
    let target = open(Persona::SpecFull).await;
    let old = target.image("app", "1");
    let report = bundle.import_over(&target).await.unwrap();
    let text = serde_json::to_string(&report).unwrap();
    let read: ImportReport = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    let tags: Vec<_> = read
        .tags
        .iter()
        .map(|tag| {
            (
                tag.repository.as_str(),
                tag.tag.as_str(),
                &tag.before,
                tag.action,
            )
        })
        .collect();
    let legacy = format!("sha256-{}.sig", bundle.image.encoded());
    assert_eq!(
        tags,
        [
            ("app", legacy.as_str(), &None, TagAction::Made),
            ("app", "1", &Some(old.digest), TagAction::Made),
            ("other", "1", &None, TagAction::Made),
        ]
    );
    let again = bundle.import_to(&target).await.unwrap();
    for tag in again.tags {
        assert_eq!(
            (tag.before.as_ref(), tag.action),
            (Some(&tag.digest), TagAction::Present)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_says_of_every_manifest_whether_it_was_made_also_when_the_import_failed() {
    let bundle = Bundle::new().await;
    let graph = bundle.validated().graph().clone();
    let target = open(Persona::SpecFull).await;
    let manifests = Route::manifests().method("PUT");
    target.fault(manifests, Fault::statuses([403]).skip(3).forever());
    let error = bundle.import_to(&target).await.unwrap_err();
    let first = error.report().expect("manifests were sent");
    assert!(!first.proved && first.tags.is_empty(), "{first:?}");
    target.clear_faults();
    let second = bundle.import_to(&target).await.unwrap();
    let third = bundle.import_to(&target).await.unwrap();
    assert!(second.proved && third.proved);
    let identity = Some(target.host().to_string());
    for report in [first, &second, &third] {
        assert_eq!(report.target_identity, identity);
        assert_eq!(report.graph.as_ref(), Some(&graph));
    }
    for (place, name) in ["app", "other"].into_iter().enumerate() {
        let [first, second, third] =
            [first, &second, &third].map(|report| &report.repositories[place]);
        assert_eq!(second.target.as_str(), name);
        assert_eq!(second.source.to_string(), graph_repository(&graph, name));
        // Sent together with the one that was refused, another one may have arrived.
        assert!(first.made.is_subset(&second.present), "{name}");
        assert!(second.made.is_disjoint(&second.present));
        let all: BTreeSet<Digest> = second.made.union(&second.present).cloned().collect();
        assert_eq!(third.present, all);
        assert!(third.made.is_empty());
        let expected = if name == "app" { 4 } else { 1 };
        assert_eq!(all.len(), expected, "{name}");
    }
}

fn graph_repository(graph: &MirrorGraph, name: &str) -> String {
    let mut names = graph.images.iter().map(|image| &image.reference);
    let reference = names.find(|reference| reference.repository().as_str() == name);
    SourceRepository::from(reference.unwrap()).to_string()
}
