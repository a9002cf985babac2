//! Copies an image with everything that refers to it from one registry to another, and prints the
//! proof. Both registries run in this process.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use std::error::Error;
use std::sync::Arc;

use mirror_import::{ImportOptions, Importer, Mirror, RegistryTarget};
use mirror_plan::{PlanRequest, Planner};
use registry_client::{Client, ClientOptions};
use test_registry::{Persona, TestRegistry};

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    // A registry that has the referrers API, and one that does not have it.
    let source = TestRegistry::start(Persona::SpecFull).await;
    let target = TestRegistry::start(Persona::Dist2).await;
    let image = source.image("team/app", "1.0");
    source.referrer("team/app", &image, "application/spdx+json", "an SBOM");

    let client = Client::new(ClientOptions::default())?;
    let mut options = ImportOptions::default();
    options.mapping.prefix = Some("mirror".parse()?);
    let registry = RegistryTarget::new(client.clone(), target.registry());
    // Each of the three can report what it does to an observer.
    let importer = Importer::new(Arc::new(registry), options, Arc::new(()));
    let planner = Planner::new(client, Arc::new(()));
    let mirror = Mirror::new(planner, importer, Arc::new(()));

    let reference = format!("{}/team/app:1.0", source.host()).parse()?;
    let report = mirror.copy(&PlanRequest::new(vec![reference])).await?;
    for image in &report.images {
        println!("{} -> {}", image.source, image.target);
    }
    println!(
        "{} of {} referrers found at the target",
        report.referrers_found, report.referrers_expected
    );
    assert_eq!(report.referrers_found, 1);
    Ok(())
}
