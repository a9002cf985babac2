//! Programs that show how to use the libraries, each in one file of at most 60 lines in `examples/`.
//!
//! Every program starts its own registry on loopback and needs no arguments:
//! `cargo run -p examples --example own_source`. `cargo test -p examples` runs them all.

use std::error::Error;
use std::sync::Arc;

use import_validator::{ImportValidator, ValidatedBundle};
use mirror_export::{ExportRequest, Exporter, FileOutput};
use registry_client::{Client, ClientOptions};
use tempfile::TempDir;
use test_registry::{Persona, TestRegistry};

/// Exports an image with a referrer into a temporary folder, and validates the bundle. The folder
/// is removed when the returned `TempDir` is dropped.
///
/// # Errors
///
/// When the bundle cannot be written or is not valid.
pub async fn bundle() -> Result<(TempDir, ValidatedBundle), Box<dyn Error>> {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let image = registry.image("app", "1.0");
    registry.referrer("app", &image, "application/vnd.cyclonedx+json", "{}");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bundle.tgz");
    let request = ExportRequest::new(vec![format!("{}/app:1.0", registry.host()).parse()?]);
    let exporter = Exporter::new(Client::new(ClientOptions::default())?, Arc::new(()));
    exporter.export(&request, &FileOutput::new(&file)).await?;
    let validation = ImportValidator::new().strict(true).validate_path(&file);
    Ok((folder, validation.bundle.ok_or("the bundle is not valid")?))
}
