use std::sync::Arc;

use bundle_format::{BaseBundle, BundleManifest, Limits};
use import_validator::ImportValidator;
use mirror_export::{ExportRequest, Exporter, FileOutput};
use mirror_import::{
    ImportError, ImportErrorKind, ImportOptions, ImportReport, Importer, LayoutTarget,
    RegistryTarget, Target,
};
use oci_content::{Descriptor, Digest, ImageLayout};
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::support::{PATIENCE, client, open, options, said, writes};

/// A source that changes, with bundles of its states.
struct Site {
    source: TestRegistry,
    folder: tempfile::TempDir,
}

const LAYERS: [&[u8]; 3] = [&[1; 100_000], &[2; 100_000], &[3; 100_000]];

impl Site {
    async fn new() -> Self {
        let source = open(Persona::SpecFull).await;
        let folder = tempfile::tempdir().unwrap();
        Self { source, folder }
    }

    /// Puts an image and its SBOM into the source.
    fn put(&self, image: &str, layers: &[&'static [u8]]) -> Descriptor {
        let (repository, tag) = image.split_once(':').unwrap();
        let image = self
            .source
            .image_with_layers(repository, tag, layers.to_vec());
        let sbom = format!("sbom of {}", image.digest);
        self.source
            .referrer(repository, &image, "application/vnd.cyclonedx+json", sbom);
        image
    }

    /// Exports, on a base if there is one.
    async fn export(
        &self,
        images: &[&str],
        name: &str,
        base: Option<&BundleManifest>,
    ) -> BundleManifest {
        let images = images
            .iter()
            .map(|image| format!("{}/{image}", self.source.host()).parse().unwrap());
        let mut request = ExportRequest::new(images.collect());
        let output = FileOutput::new(self.folder.path().join(name));
        request.base = base
            .map(|base| BaseBundle::parse(&base.to_yaml().unwrap(), &Limits::default()).unwrap());
        let exporter = Exporter::new(client(), Arc::new(()));
        exporter.export(&request, &output).await.unwrap().manifest
    }

    async fn import_with(
        &self,
        name: &str,
        target: Arc<dyn Target>,
        options: ImportOptions,
    ) -> Result<ImportReport, ImportError> {
        let validation = ImportValidator::new()
            .strict(true)
            .validate_path(&self.folder.path().join(name));
        let bundle = validation.bundle.expect("the bundle is valid by itself");
        Importer::new(target, options, Arc::new(()))
            .import(Arc::new(bundle))
            .await
    }

    async fn import(&self, name: &str, target: &TestRegistry) -> Result<ImportReport, ImportError> {
        let mut options = options();
        options.overwrite_tags = true;
        self.import_with(name, registry(target), options).await
    }
}

fn registry(target: &TestRegistry) -> Arc<dyn Target> {
    Arc::new(RegistryTarget::new(client(), target.registry()).patience(PATIENCE))
}

/// One image in two states: the bundle of the first, and a delta on it that leaves out its first
/// layer.
async fn one_image() -> (Site, Digest) {
    let site = Site::new().await;
    site.put("app:1", &LAYERS[..2]);
    let old = site.export(&["app:1"], "old.tgz", None).await;
    site.put("app:1", &[LAYERS[0], LAYERS[2]]);
    let delta = site.export(&["app:1"], "delta.tgz", Some(&old)).await;
    (site, delta.base.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_arrives_after_its_base_and_sends_none_of_what_that_brought() {
    let (site, base) = one_image().await;
    let kept = Digest::of(LAYERS[0]);
    for persona in [Persona::SpecFull, Persona::Dist2, Persona::Dist3] {
        let target = open(persona).await;
        site.import("old.tgz", &target).await.unwrap();
        target.clear_requests();
        let report = site.import("delta.tgz", &target).await.unwrap();
        assert_eq!((report.referrers_found, report.referrers_expected), (1, 1));
        let from_base = report.base.unwrap();
        assert_eq!(from_base.manifest, base);
        assert_eq!((from_base.blobs, from_base.mounted), (1, 0));
        assert_eq!(from_base.bytes, 100_000);
        // Beside a layer, a config and an SBOM there is the SBOM's empty config.
        assert_eq!((report.blobs.sent, report.blobs.present), (3, 1));
        let asked = target.requests().into_iter();
        let asked: Vec<_> = asked
            .filter(|request| request.path.contains(&kept.to_string()))
            .map(|request| request.method)
            .collect();
        // Before anything is sent, and in the proof.
        assert_eq!(asked, ["HEAD", "HEAD"], "{persona}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_before_its_base_is_refused_and_nothing_is_sent() {
    let (site, base) = one_image().await;
    let target = open(Persona::SpecFull).await;
    let error = site.import("delta.tgz", &target).await.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::BaseMissing);
    let text = said(&error);
    let named = "lacks 1 of 1 blobs that it leaves out: sha256:";
    for part in [
        named,
        "nothing was sent",
        "import the base first",
        &base.to_string(),
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert_eq!(writes(&target).len(), 0);

    // A dry run says the same, and one after the base says what would be taken.
    let mut options = options();
    options.dry_run = true;
    options.overwrite_tags = true;
    let dry = || site.import_with("delta.tgz", registry(&target), options.clone());
    assert_eq!(
        dry().await.unwrap_err().kind(),
        ImportErrorKind::BaseMissing
    );
    site.import("old.tgz", &target).await.unwrap();
    target.clear_requests();
    assert_eq!(dry().await.unwrap().base.unwrap().blobs, 1);
    assert_eq!(writes(&target).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_the_base_that_the_target_has_lost_is_named() {
    let (site, _) = one_image().await;
    let target = open(Persona::SpecFull).await;
    site.import("old.tgz", &target).await.unwrap();
    let lost = Digest::of(LAYERS[0]);
    target.delete("app", &lost);
    target.clear_requests();
    let error = site.import("delta.tgz", &target).await.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::BaseMissing);
    let text = said(&error);
    let named = format!(
        "lacks 1 of 1 blobs that it leaves out: {lost} in {}/app;",
        target.host()
    );
    assert!(text.contains(&named), "{named:?} is not in {text}");
    assert_eq!(writes(&target).len(), 0);

    // Another bundle may bring it just as well.
    let whole = site.export(&["app:1"], "whole.tgz", None).await;
    assert_eq!(whole.base, None);
    site.import("whole.tgz", &target).await.unwrap();
    let report = site.import("delta.tgz", &target).await.unwrap();
    assert_eq!((report.blobs.sent, report.manifests.sent), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_cannot_be_asked_about_the_base_is_told_from_one_that_lacks_it() {
    let (site, _) = one_image().await;
    for (status, kind) in [
        (403, ImportErrorKind::Access),
        (503, ImportErrorKind::Network),
    ] {
        let target = open(Persona::SpecFull).await;
        target.fault(Route::blobs(), Fault::statuses([status]).forever());
        let error = site.import("delta.tgz", &target).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(writes(&target).len(), 0);
    }
}

/// A base that has `other:1`, and a delta in which `app:1` has its layer.
async fn a_layer_that_moves() -> Site {
    let site = Site::new().await;
    site.put("other:1", &LAYERS[..2]);
    let old = site.export(&["other:1"], "old.tgz", None).await;
    site.put("app:1", &LAYERS[1..]);
    site.put("other:1", &LAYERS[..1]);
    site.export(&["app:1", "other:1"], "both.tgz", Some(&old))
        .await;
    site.export(&["app:1"], "app.tgz", Some(&old)).await;
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_base_put_into_another_repository_is_mounted() {
    let site = a_layer_that_moves().await;
    let target = open(Persona::SpecFull).await;
    site.import("old.tgz", &target).await.unwrap();
    let report = site.import("both.tgz", &target).await.unwrap();
    assert_eq!(report.base.unwrap().mounted, 1);
    assert!(target.has_blob("app", &Digest::of(LAYERS[1])));
    assert_eq!((report.referrers_found, report.referrers_expected), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_the_delta_does_not_go_into_can_be_named_to_mount_from() {
    let site = a_layer_that_moves().await;
    let target = open(Persona::SpecFull).await;
    site.import("old.tgz", &target).await.unwrap();
    target.clear_requests();
    let error = site.import("app.tgz", &target).await.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::BaseMissing);
    assert_eq!(writes(&target).len(), 0);

    let mut options = options();
    options.mount_from = vec!["nowhere".parse().unwrap(), "other".parse().unwrap()];
    let report = site
        .import_with("app.tgz", registry(&target), options)
        .await
        .unwrap();
    assert_eq!(report.base.unwrap().mounted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_mounts_nothing_gets_no_manifest_and_no_tag() {
    let site = a_layer_that_moves().await;
    let target = open(Persona::SpecFull).await;
    site.import("old.tgz", &target).await.unwrap();
    target.clear_requests();
    target.fault(
        Route::uploads().containing("mount="),
        Fault::body(202, "text/plain", "").forever(),
    );
    let error = site.import("both.tgz", &target).await.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::BaseMissing);
    let text = said(&error);
    let moved = format!(
        "to {0}/other, this bundle needs it in {0}/app",
        target.host()
    );
    for part in [
        &moved,
        "answered 202",
        "export the images of app without a base",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let sent = writes(&target);
    assert!(
        sent.iter().all(|request| request.method == "POST"),
        "{sent:?}"
    );
    assert_eq!(target.resolve("app", "1"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_says_it_has_a_blob_and_misses_it_is_told_apart() {
    let (site, _) = one_image().await;
    let target = open(Persona::SpecFull).await;
    let head = Route::blobs().method("HEAD");
    // The size of the layer that the base brought.
    let yes = Fault::body(200, "application/octet-stream", vec![0; 100_000]);
    target.fault(head, yes.forever());
    let error = site.import("delta.tgz", &target).await.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::BaseMissing, "{error}");
    assert!(
        error.to_string().contains("import the base again"),
        "{error}"
    );
    assert_eq!(target.resolve("app", "1"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_not_even_made_before_it_has_the_base() {
    let (site, base) = one_image().await;
    let folder = site.folder.path().join("store");
    let target = || Arc::new(LayoutTarget::new(folder.clone()).full_references(true));
    let mut options = options();
    options.overwrite_tags = true;
    let import = |name: &'static str| site.import_with(name, target(), options.clone());
    let error = import("delta.tgz").await.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::BaseMissing);
    assert!(error.to_string().contains(&base.to_string()), "{error}");
    assert!(!folder.exists());

    import("old.tgz").await.unwrap();
    let before = std::fs::read(folder.join("index.json")).unwrap();
    // Half of a blob is none, and neither is one with other bytes.
    let layout = ImageLayout::open(&folder).unwrap();
    let kept = layout.blob_path(&Digest::of(LAYERS[0]));
    for wrong in [&LAYERS[0][..50_000], LAYERS[1]] {
        std::fs::write(&kept, wrong).unwrap();
        let error = import("delta.tgz").await.unwrap_err();
        let text = said(&error);
        assert!(text.contains("lacks 1 of 1 blobs"), "{text}");
        assert_eq!(std::fs::read(folder.join("index.json")).unwrap(), before);
    }

    import("old.tgz").await.unwrap();
    let report = import("delta.tgz").await.unwrap();
    assert_eq!((report.referrers_found, report.blobs.sent), (1, 3));
    assert_eq!(report.base.unwrap().blobs, 1);
}
