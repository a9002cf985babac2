//! A client is tested on registries as they are out there: each persona shows it something else.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use oci_content::{DiscoveryMethod, Reference};
use oci_referrers::{ReferrerGraph, RegistrySources, resolve};
use registry_client::{Client, ClientOptions};
use test_registry::{Persona, TestRegistry};

const SBOM: &str = "application/vnd.cyclonedx+json";

/// The client under test: everything that refers to what a reference leads to.
async fn discover(reference: &Reference) -> Result<ReferrerGraph, Box<dyn std::error::Error>> {
    let client = Client::new(ClientOptions::default())?;
    let repository = client.repository(reference.registry(), reference.repository());
    let image = resolve(&repository, reference).await?.manifest;
    let discovery = RegistrySources::new(repository).discovery(None);
    Ok(discovery.run([image.digest().clone()]).await)
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (persona, method) in [
        // Has the referrers API, with everything that the specification says of it.
        (Persona::SpecFull, DiscoveryMethod::Native),
        // Has no API: clients keep a referrers tag.
        (Persona::Dist2, DiscoveryMethod::FallbackTag),
        // Answers with a login page, and status 200, in the place of the API.
        (Persona::Html200, DiscoveryMethod::FallbackTag),
    ] {
        let registry = TestRegistry::builder(persona).without_auth().start().await;
        let image = registry.image("team/app", "1.0");
        let sbom = registry.referrer("team/app", &image, SBOM, "{}");
        registry.legacy("team/app", &image.digest, "sig", "a signature");

        let reference = format!("{}/team/app:1.0", registry.host()).parse()?;
        let graph = discover(&reference).await?;
        let report = graph.report(&image.digest).ok_or("it was asked for")?;
        println!("{persona}: {} by {}", graph.referrers.len(), report.method);
        assert_eq!(report.method, method, "{persona}");
        assert_eq!(graph.referrers.len(), 2, "{persona}");
        assert!(
            graph
                .referrers
                .iter()
                .any(|found| found.digest == sbom.digest)
        );
        // The registry also tells what it was asked: here, nothing was written.
        let requests = registry.requests();
        assert!(
            requests
                .iter()
                .all(|request| ["GET", "HEAD"].contains(&request.method.as_str()))
        );
    }
    Ok(())
}
