//! Deleting what earlier imports made, on registries of all kinds.

use std::sync::Arc;

use mirror_import::{
    ImportError, ImportErrorKind, ImportRemedy, ImportReport, Kept, KeptReason, PruneHistory,
    PruneOptions, PruneReport, PruneRequest, PruneTarget, Pruner, RegistryTarget,
};
use oci_content::{Digest, LegacyTag};
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::support::{Bundle, PATIENCE, client, open, said, writes};

/// A registry into which the bundle was imported, and the receipt.
struct Site {
    bundle: Bundle,
    registry: TestRegistry,
    receipt: ImportReport,
}

impl Site {
    async fn new(persona: Persona) -> Self {
        let registry = open(persona).await;
        let bundle = Bundle::new().await;
        let receipt = bundle.import_to(&registry).await.unwrap();
        registry.clear_requests();
        Self {
            bundle,
            registry,
            receipt,
        }
    }

    fn target(&self) -> Arc<dyn PruneTarget> {
        Arc::new(RegistryTarget::new(client(), self.registry.registry()).patience(PATIENCE))
    }

    /// Selects only `other:1`.
    fn request(&self) -> PruneRequest {
        let mut history = PruneHistory::new(self.target().identity());
        assert!(history.add(&self.receipt).unwrap());
        let mut request = PruneRequest::new(history);
        let selected = ("other".parse().unwrap(), "1".parse().unwrap());
        request.tags.insert(selected);
        request
    }

    fn pruner(&self, options: PruneOptions) -> Pruner {
        Pruner::new(self.target(), options, Arc::new(()))
    }

    async fn prune(&self) -> (PruneReport, Result<(), ImportError>) {
        self.pruner(PruneOptions::default())
            .run(&self.request())
            .await
    }

    fn made(&self) -> Vec<Digest> {
        let app = &self.receipt.repositories[0];
        assert_eq!(app.target.as_str(), "app");
        app.made.iter().cloned().collect()
    }

    fn is_there(&self, digest: &Digest) -> bool {
        self.registry.manifest("app", digest).is_some()
    }

    fn deletions(&self) -> usize {
        let writes = writes(&self.registry);
        let deletions = writes.iter().filter(|request| request.method == "DELETE");
        deletions.count()
    }

    /// Everything is as after the import.
    async fn is_whole(&self) {
        let report = self.bundle.import_to(&self.registry).await.unwrap();
        assert_eq!((report.manifests.sent, report.blobs.sent), (0, 0));
        assert_eq!(report.referrers_found, self.bundle.referrers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_nothing_selects_goes_with_everything_that_refers_to_it() {
    for persona in [
        Persona::SpecFull,
        Persona::Ghcr,
        Persona::Minimal,
        Persona::Quay,
    ] {
        let site = Site::new(persona).await;
        let request = site.request();
        let plan = site.pruner(PruneOptions::default()).plan(&request).await;
        let plan = plan.unwrap();
        assert_eq!(
            (plan.pruned_tags(), plan.pruned_manifests()),
            (2, 4),
            "{persona}"
        );
        assert!(plan.dry_run && site.deletions() == 0);
        let (report, result) = site.prune().await;
        result.unwrap_or_else(|error| panic!("{persona}: {}", said(&error)));
        let app = &report.repositories[0];
        assert_eq!(app.tags, plan.repositories[0].tags, "{persona}");
        assert_eq!(app.manifests, plan.repositories[0].manifests, "{persona}");
        assert!(app.kept.is_empty() && app.appeared.is_empty(), "{app:?}");
        assert_eq!(site.registry.tags("app"), Vec::<String>::new(), "{persona}");
        assert!(!site.made().iter().any(|digest| site.is_there(digest)));
        assert_eq!(site.registry.tags("other"), ["1"]);
        // A second prune has nothing to do, and what went can be brought again.
        let (again, result) = site.prune().await;
        assert!(result.is_ok() && again.is_empty());
        let back = site.bundle.import_to(&site.registry).await.unwrap();
        assert_eq!(back.referrers_found, site.bundle.referrers, "{persona}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_deletes_no_tags_is_pruned_by_digest() {
    for status in [400, 404, 405] {
        let site = Site::new(Persona::Ghcr).await;
        let tags = site.registry.tags("app");
        assert!(tags.len() > 2, "with lists of referrers: {tags:?}");
        for tag in &tags {
            let route = Route::manifests().method("DELETE").reference(tag);
            site.registry
                .fault(route, Fault::statuses([status]).forever());
        }
        site.registry.allow_unused_faults();
        let (report, result) = site.prune().await;
        result.unwrap_or_else(|error| panic!("{status}: {}", said(&error)));
        assert_eq!(site.registry.tags("app"), Vec::<String>::new(), "{status}");
        assert_eq!(report.repositories[0].tags.len(), 2);
        assert!(!site.made().iter().any(|digest| site.is_there(digest)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_registry_that_deletes_no_tags_a_manifest_with_somebody_elses_tag_stays_with_ours() {
    let site = Site::new(Persona::SpecFull).await;
    site.registry.tag("app", "mine", &site.bundle.image);
    let route = Route::manifests().method("DELETE").reference("1");
    site.registry.fault(route, Fault::statuses([405]).forever());
    let (report, result) = site.prune().await;
    result.unwrap();
    let kept: Vec<&Kept> = report.repositories[0].kept.iter().collect();
    assert_eq!(kept[0].reason, KeptReason::Shared);
    assert_eq!(
        site.registry.resolve("app", "1"),
        Some(site.bundle.image.clone())
    );
    site.is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_deletes_nothing_is_named_and_loses_nothing() {
    let site = Site::new(Persona::Dist2).await;
    let (report, result) = site.prune().await;
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::Access);
    assert!(
        error.to_string().contains("refuses to delete manifests"),
        "{error}"
    );
    assert!(report.is_empty() && !report.finished);
    site.is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_accepts_a_deletion_and_does_nothing_is_named() {
    let site = Site::new(Persona::SpecFull).await;
    let route = Route::manifests().method("DELETE");
    let accepted = Fault::body(202, "text/plain", "");
    site.registry.fault(route, accepted.forever());
    let (report, result) = site.prune().await;
    assert_eq!(result.unwrap_err().kind(), ImportErrorKind::Access);
    assert!(report.is_empty() && !report.finished, "{report:?}");
    site.is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_foreign_tag_holds_stays_with_what_refers_to_it() {
    let site = Site::new(Persona::Ghcr).await;
    site.registry.tag("app", "mine", &site.bundle.image);
    let (report, result) = site.prune().await;
    result.unwrap();
    let app = &report.repositories[0];
    assert_eq!((app.tags.len(), app.manifests.len()), (1, 0), "{app:?}");
    assert_eq!(site.registry.resolve("app", "1"), None);
    assert!(site.made().iter().all(|digest| site.is_there(digest)));
    let legacy = LegacyTag::known(&site.bundle.image, "sig").unwrap();
    assert!(
        site.registry
            .resolve("app", legacy.tag().as_str())
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_somebody_else_signed_stays_with_its_tag() {
    for persona in [Persona::SpecFull, Persona::Ghcr] {
        for on_sbom in [false, true] {
            let site = Site::new(persona).await;
            let image = site.registry.manifest("app", &site.bundle.image).unwrap();
            let image = oci_content::Manifest::parse(image, None)
                .unwrap()
                .descriptor();
            let subject = if on_sbom { &site.bundle.sbom } else { &image };
            let theirs = site.registry.referrer("app", subject, "a/b", "theirs");
            let (report, result) = site.prune().await;
            result.unwrap();
            let app = &report.repositories[0];
            assert!(app.tags.is_empty() && app.manifests.is_empty(), "{app:?}");
            let tag = app.kept.iter().find(|kept| kept.tag.is_some()).unwrap();
            assert_eq!(tag.reason, KeptReason::ForeignReferrer);
            assert_eq!(tag.by, Some(theirs.digest));
            site.is_whole().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_somebody_moved_stays_and_is_named() {
    let site = Site::new(Persona::SpecFull).await;
    let other = site.registry.image("app", "theirs");
    site.registry.tag("app", "1", &other.digest);
    let (report, result) = site.prune().await;
    result.unwrap();
    let app = &report.repositories[0];
    assert_eq!(
        site.registry.resolve("app", "1"),
        Some(other.digest.clone())
    );
    let moved = app
        .kept
        .iter()
        .find(|kept| kept.reason == KeptReason::Moved);
    assert_eq!(moved.map(|kept| &kept.digest), Some(&other.digest));
    // The image that it was has no name any more.
    assert!(!site.is_there(&site.bundle.image));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_when_something_could_not_be_settled() {
    let site = Site::new(Persona::SpecFull).await;
    let run = async |request: PruneRequest, options| {
        let (report, result) = site.pruner(options).run(&request).await;
        assert!(report.is_empty());
        result.unwrap_err()
    };
    let default = PruneOptions::default;
    let mut empty = site.request();
    empty.tags.clear();
    let error = run(empty, default()).await;
    assert_eq!(error.kind(), ImportErrorKind::Incomplete);
    assert!(error.to_string().contains("nothing is selected"), "{error}");
    let mut incomplete = site.request();
    incomplete.incomplete = Some("the catalog broke off".to_owned());
    let error = run(incomplete, default()).await;
    assert!(
        error.to_string().contains("the catalog broke off"),
        "{error}"
    );
    let mut options = default();
    options.max_percent = Some(25);
    let error = run(site.request(), options).await;
    assert!(
        error.to_string().contains("2 of 3 tags would go"),
        "{error}"
    );
    assert_eq!(error.remedy(), Some(&ImportRemedy::PruneMore));
    let mut elsewhere = site.request();
    elsewhere.history = PruneHistory::new("elsewhere.example.com");
    let error = run(elsewhere, default()).await;
    assert_eq!(error.kind(), ImportErrorKind::Usage);
    let manifest = Route::manifests().method("GET");
    for (route, kind) in [
        (Route::tags(), ImportErrorKind::Network),
        (Route::referrers(), ImportErrorKind::Network),
        (manifest.clone().reference("1"), ImportErrorKind::Network),
        (
            manifest.reference(&site.bundle.sbom.digest),
            ImportErrorKind::Network,
        ),
    ] {
        site.registry
            .fault(route.repository("app"), Fault::statuses([500]).forever());
        let error = run(site.request(), default()).await;
        assert_eq!(error.kind(), kind, "{}", said(&error));
        site.registry.clear_faults();
    }
    assert_eq!(site.deletions(), 0);
    site.is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_that_broke_off_is_finished_by_the_next_one() {
    for persona in [Persona::SpecFull, Persona::Ghcr] {
        for after in 0.. {
            let site = Site::new(persona).await;
            let route = Route::manifests().method("DELETE");
            site.registry
                .fault(route, Fault::statuses([403]).skip(after).forever());
            site.registry.allow_unused_faults();
            let (_, first) = site.prune().await;
            site.registry.clear_faults();
            let (_, second) = site.prune().await;
            second.unwrap();
            assert_eq!(
                site.registry.tags("app"),
                Vec::<String>::new(),
                "{persona} {after}"
            );
            assert!(!site.made().iter().any(|digest| site.is_there(digest)));
            if first.is_ok() {
                assert!(after > 5, "{persona}: {after} deletions");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_prune_deleted_and_somebody_brought_back_is_theirs() {
    let site = Site::new(Persona::SpecFull).await;
    let (report, result) = site.prune().await;
    result.unwrap();
    site.bundle.import_to(&site.registry).await.unwrap();
    let mut request = site.request();
    let text = serde_json::to_string(&report).unwrap();
    request
        .history
        .pruned(&serde_json::from_str(&text).unwrap());
    let pruner = site.pruner(PruneOptions::default());
    let (report, result) = pruner.run(&request).await;
    assert!(result.is_ok() && report.is_empty(), "{report:?}");
    site.is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_of_an_older_version_is_refused_and_another_targets_adds_nothing() {
    let site = Site::new(Persona::SpecFull).await;
    let mut old = site.receipt.clone();
    old.graph = None;
    old.target_identity = None;
    let mut history = PruneHistory::new(site.target().identity());
    let error = history.add(&old).unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::Usage);
    assert!(error.to_string().contains("older version"), "{error}");
    let mut history = PruneHistory::new("elsewhere.example.com");
    assert!(!history.add(&site.receipt).unwrap());
    assert!(!history.add(&old).unwrap());
    assert_eq!(history.tags(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_that_is_not_configured_brought_stays() {
    let site = Site::new(Persona::SpecFull).await;
    let mut request = site.request();
    assert!(request.history.protect(&site.receipt).unwrap());
    let pruner = site.pruner(PruneOptions::default());
    let (report, result) = pruner.run(&request).await;
    result.unwrap();
    assert!(report.is_empty());
    let kept = report.repositories[0].kept.iter();
    let reasons: Vec<KeptReason> = kept.map(|kept| kept.reason).collect();
    assert_eq!(reasons, [KeptReason::OtherJob, KeptReason::OtherJob]);
    site.is_whole().await;
}
