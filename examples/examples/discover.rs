//! Discovers everything that refers to an image, and reads the answer: what was found, how, and what is missing.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use std::time::Duration;

use oci_content::{Completeness, Reference};
use oci_referrers::{RegistrySources, resolve};
use registry_client::{Client, ClientOptions};
use test_registry::{Persona, TestRegistry};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = TestRegistry::start(Persona::Dist2).await;
    let image = registry.image("team/app", "1.0");
    let sbom = registry.referrer("team/app", &image, "application/vnd.cyclonedx+json", "{}");
    registry.referrer(
        "team/app",
        &sbom,
        "application/vnd.cncf.notary.signature",
        "signature of the sbom",
    );

    let reference: Reference = format!("{}/team/app:1.0", registry.host()).parse()?;
    let client = Client::new(ClientOptions::default())?;
    let repository = client.repository(reference.registry(), reference.repository());
    let image = resolve(&repository, &reference).await?.manifest;

    let discovery = RegistrySources::new(repository).discovery(Some(Duration::from_secs(120)));
    let graph = discovery.run([image.digest().clone()]).await;
    for referrer in &graph.referrers {
        let artifact_type = referrer.artifact_type.as_deref().unwrap_or("-");
        println!(
            "{} {} {artifact_type} of {}",
            referrer.depth, referrer.digest, referrer.subject
        );
    }
    // Empty is a statement only where the graph is complete.
    match graph.status() {
        Completeness::Complete => println!("complete: {} referrers", graph.referrers.len()),
        _ => graph
            .errors()
            .for_each(|problem| println!("not settled: {} {}", problem.code, problem.message)),
    }
    Ok(())
}
