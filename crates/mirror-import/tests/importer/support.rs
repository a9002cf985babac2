//! A bundle, and registries to put it into.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use import_validator::{ImportValidator, ValidatedBundle};
use mirror_export::{ExportRequest, Exporter, FileOutput};
use mirror_import::{ImportError, ImportOptions, ImportReport, Importer, RegistryTarget, Target};
use oci_content::{Descriptor, Digest, Reference};
use registry_client::{Client, ClientOptions};
use test_registry::{Persona, RecordedRequest, TestRegistry};

/// What to export, and into which file.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) request: ExportRequest,
    pub(crate) output: FileOutput,
}

impl Export {
    pub(crate) fn new(images: Vec<Reference>, output: PathBuf) -> Self {
        Self {
            request: ExportRequest::new(images),
            output: FileOutput::new(output),
        }
    }
}

impl Deref for Export {
    type Target = ExportRequest;

    fn deref(&self) -> &ExportRequest {
        &self.request
    }
}

impl DerefMut for Export {
    fn deref_mut(&mut self) -> &mut ExportRequest {
        &mut self.request
    }
}

/// A bundle of `app:1` and `other:1`, which share a layer; with an SBOM, a signature on it and a
/// legacy tag on the first.
pub(crate) struct Bundle {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) image: Digest,
    pub(crate) sbom: Descriptor,
    pub(crate) referrers: usize,
}

impl Bundle {
    pub(crate) async fn new() -> Self {
        Self::with_layer(vec![7; 200_000]).await
    }

    /// Has this layer in both images.
    pub(crate) async fn with_layer(shared: Vec<u8>) -> Self {
        let source = TestRegistry::builder(Persona::SpecFull)
            .without_auth()
            .start()
            .await;
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
        Self {
            folder: export(&source, &["app:1", "other:1"]).await,
            image: image.digest,
            sbom,
            referrers: 3,
        }
    }

    /// Nothing refers to its only image.
    pub(crate) async fn bare() -> Self {
        let source = open(Persona::SpecFull).await;
        let image = source.image("app", "1");
        Self {
            folder: export(&source, &["app:1"]).await,
            image: image.digest.clone(),
            sbom: image,
            referrers: 0,
        }
    }

    /// Has an index of two platforms, with an SBOM on the index.
    pub(crate) async fn index() -> Self {
        let source = open(Persona::SpecFull).await;
        let index = source.index("app", "1", &["linux/amd64", "linux/arm64"]);
        let image = index.descriptor;
        let sbom = source.referrer("app", &image, "application/vnd.cyclonedx+json", "sbom");
        Self {
            folder: export(&source, &["app:1"]).await,
            image: image.digest,
            sbom,
            referrers: 1,
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

    pub(crate) async fn import(
        &self,
        target: Arc<dyn Target>,
    ) -> Result<ImportReport, ImportError> {
        import(self.validated(), target, options()).await
    }

    pub(crate) async fn import_to(
        &self,
        target: &TestRegistry,
    ) -> Result<ImportReport, ImportError> {
        self.import(registry(target)).await
    }

    /// Imports, and may move tags.
    pub(crate) async fn import_over(
        &self,
        target: &TestRegistry,
    ) -> Result<ImportReport, ImportError> {
        let mut options = options();
        options.overwrite_tags = true;
        import(self.validated(), registry(target), options).await
    }

    pub(crate) async fn import_validated(
        &self,
        validated: Arc<ValidatedBundle>,
        target: &TestRegistry,
    ) -> Result<ImportReport, ImportError> {
        import(validated, registry(target), options()).await
    }
}

pub(crate) async fn export(source: &TestRegistry, images: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let reference = |image: &&str| format!("{}/{image}", source.host()).parse().unwrap();
    let images = images.iter().map(reference).collect();
    let request = ExportRequest::new(images);
    let output = FileOutput::new(folder.path().join("b.tgz"));
    Exporter::new(client(), Arc::new(()))
        .export(&request, &output)
        .await
        .unwrap();
    folder
}

/// The patience with a target that does not show something.
pub(crate) const PATIENCE: Duration = Duration::from_millis(300);

pub(crate) fn options() -> ImportOptions {
    ImportOptions::default()
}

pub(crate) async fn import(
    bundle: Arc<ValidatedBundle>,
    target: Arc<dyn Target>,
    options: ImportOptions,
) -> Result<ImportReport, ImportError> {
    Importer::new(target, options, Arc::new(()))
        .import(bundle)
        .await
}

pub(crate) fn registry(target: &TestRegistry) -> Arc<dyn Target> {
    Arc::new(RegistryTarget::new(client(), target.registry()).patience(PATIENCE))
}

/// A client that tries again at once.
pub(crate) fn client() -> Client {
    let mut options = ClientOptions::default();
    options.retry.base_delay = Duration::from_millis(1);
    Client::new(options).unwrap()
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

/// Returns what an error and its causes say.
pub(crate) fn said(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
