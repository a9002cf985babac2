//! A bundle, and registries to put it into.

use std::path::PathBuf;
use std::sync::Arc;

use import_validator::{
    ImportError, ImportObserver, ImportOptions, ImportReport, ImportTarget, ImportValidator,
    Importer, ValidatedBundle,
};
use mirror_export::{ExportEvent, ExportObserver, ExportRequest, Exporter};
use oci_content::{Descriptor, Digest};
use registry_client::{Client, ClientOptions};
use test_registry::{Persona, RecordedRequest, TestRegistry};

#[derive(Debug)]
struct Quiet;

impl ExportObserver for Quiet {
    fn event(&self, _: ExportEvent<'_>) {}

    fn requests(&self) -> u64 {
        0
    }
}

impl ImportObserver for Quiet {
    fn planned(&self, _: usize) {}

    fn arrived(&self, _: u64) {}
}

/// A bundle of `app:1` and `other:1`, which share a layer; with an SBOM, a signature on it and a legacy tag on the
/// first.
pub(crate) struct Bundle {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) image: Digest,
    pub(crate) sbom: Descriptor,
    pub(crate) referrers: usize,
}

impl Bundle {
    pub(crate) async fn new() -> Self {
        let source = TestRegistry::builder(Persona::SpecFull)
            .without_auth()
            .start()
            .await;
        let shared = vec![7u8; 200_000];
        let image = source.image_with_layers("app", "1", [shared.clone(), b"own".to_vec()]);
        source.image_with_layers("other", "1", [shared, b"other".to_vec()]);
        let sbom = source.referrer("app", &image, "application/vnd.cyclonedx+json", "sbom");
        source.referrer(
            "app",
            &sbom,
            "application/vnd.cncf.notary.signature",
            "signature",
        );
        source.legacy("app", &image.digest, "sig", "legacy signature");
        let folder = tempfile::tempdir().unwrap();
        let reference = |image: &str| format!("{}/{image}", source.host()).parse().unwrap();
        let images = vec![reference("app:1"), reference("other:1")];
        let request = ExportRequest::new(images, folder.path().join("b.tgz"));
        Exporter::new(client(), Arc::new(Quiet))
            .export(&request)
            .await
            .unwrap();
        Self {
            folder,
            image: image.digest,
            sbom,
            referrers: 3,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn validated(&self) -> Arc<ValidatedBundle> {
        let validation = ImportValidator::new()
            .check_referrers(true)
            .validate_path(&self.path("b.tgz"));
        Arc::new(validation.bundle.unwrap())
    }

    pub(crate) async fn import(&self, target: ImportTarget) -> Result<ImportReport, ImportError> {
        Importer::new(target, ImportOptions::default(), Arc::new(Quiet))
            .import(self.validated())
            .await
    }

    pub(crate) async fn import_to(
        &self,
        target: &TestRegistry,
    ) -> Result<ImportReport, ImportError> {
        self.import(ImportTarget::Registry {
            registry: target.registry(),
            client: client(),
        })
        .await
    }
}

pub(crate) fn client() -> Client {
    Client::new(ClientOptions::default()).unwrap()
}

pub(crate) async fn open(persona: Persona) -> TestRegistry {
    TestRegistry::builder(persona).without_auth().start().await
}

pub(crate) fn writes(registry: &TestRegistry) -> Vec<RecordedRequest> {
    let requests = registry.requests().into_iter();
    requests
        .filter(|request| !["GET", "HEAD"].contains(&request.method.as_str()))
        .collect()
}
