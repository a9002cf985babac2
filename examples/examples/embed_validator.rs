//! A service that receives bundles checks one before anything touches it, and then puts it into a layout folder.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use std::sync::Arc;

use import_validator::ImportValidator;
use mirror_export::{ExportRequest, Exporter, FileOutput};
use mirror_import::{ImportOptions, Importer, LayoutTarget};
use registry_client::{Client, ClientOptions};
use test_registry::{Persona, TestRegistry};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let image = registry.image("team/app", "1.0");
    registry.referrer("team/app", &image, "application/vnd.cyclonedx+json", "{}");
    let folder = tempfile::tempdir()?;
    let bundle = folder.path().join("bundle.tgz");
    let client = Client::new(ClientOptions::default())?;
    let request = ExportRequest::new(vec![format!("{}/team/app:1.0", registry.host()).parse()?]);
    let exporter = Exporter::new(client, Arc::new(()));
    exporter.export(&request, &FileOutput::new(&bundle)).await?;

    let validation = ImportValidator::new()
        .check_referrers(true)
        .strict(true)
        .validate_path(&bundle);
    for finding in &validation.report.findings {
        println!("{finding}: {}", finding.remedy);
    }
    let valid = validation.bundle.ok_or("the bundle is not valid")?;
    let target = Arc::new(LayoutTarget::new(folder.path().join("store")).full_references(true));
    let importer = Importer::new(target, ImportOptions::default(), Arc::new(()));
    let report = importer.import(Arc::new(valid)).await?;
    println!(
        "{} of {} referrers found on the target",
        report.referrers_found, report.referrers_expected
    );
    Ok(())
}
