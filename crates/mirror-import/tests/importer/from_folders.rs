//! Copies from layout folders that an earlier copy has filled.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mirror_import::{
    ImportErrorKind, ImportReport, Importer, LayoutTarget, Mirror, MirrorError, Target,
};
use mirror_plan::{PlanRequest, Planner};
use oci_content::{Completeness, Digest, ImageLayout, LayoutReference};
use test_registry::{Persona, TestRegistry};

use crate::support::{client, open, options, registry};

async fn copy(
    request: &PlanRequest,
    target: Arc<dyn Target>,
    allow_incomplete: bool,
) -> Result<ImportReport, MirrorError> {
    let planner = Planner::new(client(), Arc::new(()));
    let importer = Importer::new(target, options(), Arc::new(()));
    let mirror = Mirror::new(planner, importer, Arc::new(()));
    mirror
        .allow_incomplete(allow_incomplete)
        .copy(request)
        .await
}

fn of_folder(folder: &Path) -> PlanRequest {
    PlanRequest::of_sources([LayoutReference::new(folder).into()])
}

fn layout(folder: &Path) -> Arc<dyn Target> {
    Arc::new(LayoutTarget::new(folder))
}

/// A folder with two repositories of a registry, as a copy has made it: an image with an SBOM, a
/// signature on that and a legacy signature, and an image with the same layer.
struct Filled {
    source: TestRegistry,
    folder: tempfile::TempDir,
    report: ImportReport,
}

impl Filled {
    async fn new() -> Self {
        let source = open(Persona::SpecFull).await;
        let layer = vec![7; 200_000];
        let image = source.image_with_layers("app", "1", [layer.clone(), b"own".to_vec()]);
        source.image_with_layers("other", "1", [layer]);
        let sbom = source.referrer("app", &image, "application/vnd.cyclonedx+json", "sbom");
        let signature = "application/vnd.cncf.notary.signature";
        source.referrer("app", &sbom, signature, "signature");
        source.legacy("app", &image.digest, "sig", "legacy signature");
        let reference = |image: &str| format!("{}/{image}", source.host()).parse().unwrap();
        let request = PlanRequest::new(vec![reference("app:1"), reference("other:1")]);
        let folder = tempfile::tempdir().unwrap();
        let target = layout(&folder.path().join("filled"));
        let report = copy(&request, target, false).await.unwrap();
        assert_eq!(report.referrers_found, 3);
        Self {
            source,
            folder,
            report,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn request(&self) -> PlanRequest {
        of_folder(&self.path("filled"))
    }

    fn remove(&self, digest: &Digest) {
        let layout = ImageLayout::open(self.path("filled")).unwrap();
        layout.remove_blob(digest).unwrap();
    }
}

fn names(report: &ImportReport) -> Vec<String> {
    let images = report.images.iter();
    images
        .map(|image| format!("{}@{}", image.source, image.digest))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_folder_holds_arrives_under_its_names_at_every_kind_of_target() {
    let filled = Filled::new().await;
    let (full, old) = (open(Persona::SpecFull).await, open(Persona::Dist2).await);
    filled.source.clear_requests();
    for target in [
        registry(&full),
        registry(&old),
        layout(&filled.path("next")),
    ] {
        let name = target.name();
        let report = copy(&filled.request(), target, false).await;
        let report = report.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(report.source_status, Completeness::Complete, "{name}");
        assert_eq!(report.referrers_found, 3, "{name}");
        assert_eq!(names(&report), names(&filled.report), "{name}");
    }
    // A second folder has the same entries, and so has a third.
    copy(
        &of_folder(&filled.path("next")),
        layout(&filled.path("last")),
        false,
    )
    .await
    .unwrap();
    let index = |name| {
        let index = ImageLayout::open(filled.path(name)).unwrap().index();
        let mut entries: Vec<_> = index
            .unwrap()
            .iter()
            .map(|entry| format!("{} {:?}", entry.digest, entry.annotations))
            .collect();
        entries.sort();
        entries
    };
    assert_eq!(index("next"), index("filled"));
    assert_eq!(index("last"), index("filled"));
    assert!(filled.source.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_a_folder_lacks_is_named_and_what_needs_it_is_missing_if_that_is_allowed() {
    let filled = Filled::new().await;
    let payload = Digest::of(b"sbom");
    filled.remove(&payload);
    let registry_target = open(Persona::SpecFull).await;
    for to_folder in [false, true] {
        let target = || {
            if to_folder {
                layout(&filled.path("next"))
            } else {
                registry(&registry_target)
            }
        };
        let refused = copy(&filled.request(), target(), false).await;
        let Err(MirrorError::Incomplete(missing)) = refused else {
            panic!("{refused:?}");
        };
        let named = missing
            .iter()
            .any(|text| text.contains(&payload.to_string()));
        assert!(named, "{missing:?}");
        let report = copy(&filled.request(), target(), true).await.unwrap();
        assert_eq!(report.source_status, Completeness::Incomplete);
        assert_eq!(report.images.len(), 2);
    }
    // A blob that is another one.
    let layer = Digest::of(b"own");
    let layout = ImageLayout::open(filled.path("filled")).unwrap();
    for (wrong, length) in [(&b"xxx"[..], "same"), (b"longer", "other")] {
        std::fs::write(layout.blob_path(&layer), wrong).unwrap();
        let target = open(Persona::SpecFull).await;
        let failed = copy(&filled.request(), registry(&target), true).await;
        let Err(MirrorError::Import(error)) = failed else {
            panic!("{failed:?}");
        };
        assert_eq!(error.kind(), ImportErrorKind::Integrity, "{length} length");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_not_copied_onto_itself() {
    let filled = Filled::new().await;
    let folder = filled.path("filled");
    for same in [folder.clone(), folder.join("../filled/")] {
        let refused = copy(&filled.request(), layout(&same), false).await;
        let Err(MirrorError::Import(error)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(error.kind(), ImportErrorKind::Usage);
        assert!(error.to_string().contains("onto itself"), "{error}");
    }
}
