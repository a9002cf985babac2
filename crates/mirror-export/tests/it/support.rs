//! An export into a folder of its own.

use std::num::NonZeroU32;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;

use mirror_export::{ExportError, ExportRequest, ExportSummary, Exporter, FileOutput};
use registry_client::{Client, ClientOptions};
use test_registry::{Persona, TestRegistry};

#[derive(Debug)]
pub(crate) struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn files(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn request(&self, registry: &TestRegistry, images: &[&str], name: &str) -> Export {
        let reference = |image: &&str| format!("{}/{image}", registry.host()).parse().unwrap();
        Export {
            request: ExportRequest::new(images.iter().map(reference).collect()),
            output: FileOutput::new(self.path(name)),
        }
    }
}

/// What to export, and into which file.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    request: ExportRequest,
    pub(crate) output: FileOutput,
}

impl Export {
    /// Exports nothing yet.
    pub(crate) fn new(output: PathBuf) -> Self {
        Self {
            request: ExportRequest::new(Vec::new()),
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

pub(crate) fn exporter() -> Exporter {
    let mut options = ClientOptions::default();
    options.retry.max_attempts = NonZeroU32::MIN;
    Exporter::new(Client::new(options).unwrap(), Arc::new(()))
}

pub(crate) async fn export(request: &Export) -> Result<ExportSummary, ExportError> {
    exporter().export(request, &request.output).await
}

/// Ten images of one repository, each with an SBOM and a signature on it.
pub(crate) async fn registry() -> TestRegistry {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    for number in 0..10 {
        let layers: Vec<Vec<u8>> = (0..3u8)
            .map(|layer| vec![number * 16 + layer; 70_000 + usize::from(layer)])
            .collect();
        let image = registry.image_with_layers("team/app", &format!("v{number}"), layers);
        let sbom = registry.referrer(
            "team/app",
            &image,
            "application/vnd.cyclonedx+json",
            format!("sbom {number}"),
        );
        registry.referrer(
            "team/app",
            &sbom,
            "application/vnd.cncf.notary.signature",
            format!("signature {number}"),
        );
    }
    registry
}
