//! A client is tested on personas: registries that behave like those in the field.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use oci_content::{DiscoveryMethod, Reference};
use oci_referrers::{ReferrerGraph, RegistrySources, resolve};
use registry_client::{Client, ClientOptions};
use test_registry::{Persona, TestRegistry};

const SBOM: &str = "application/vnd.cyclonedx+json";

/// The client under test: finds everything that refers to an image.
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
        // Has the referrers API, exactly as specified.
        (Persona::SpecFull, DiscoveryMethod::Native),
        // Has no referrers API, so clients maintain a referrers tag.
        (Persona::Dist2, DiscoveryMethod::FallbackTag),
        // Answers requests to the API with a login page and status 200.
        (Persona::Html200, DiscoveryMethod::FallbackTag),
    ] {
        let registry = TestRegistry::builder(persona).without_auth().start().await;
        let image = registry.image("team/app", "1.0");
        let sbom = registry.referrer("team/app", &image, SBOM, "{}");
        registry.legacy("team/app", &image.digest, "sig", "a signature");

        let reference = format!("{}/team/app:1.0", registry.host()).parse()?;
        let graph = discover(&reference).await?;
        let report = graph
            .report(&image.digest)
            .ok_or("no report about the image")?;
        println!("{persona}: {} by {}", graph.referrers.len(), report.method);
        assert_eq!(report.method, method, "{persona}");
        assert_eq!(graph.referrers.len(), 2, "{persona}");
        assert!(
            graph
                .referrers
                .iter()
                .any(|found| found.digest == sbom.digest)
        );
        // The registry has recorded all requests: the client has written nothing.
        let requests = registry.requests();
        assert!(
            requests
                .iter()
                .all(|request| ["GET", "HEAD"].contains(&request.method.as_str()))
        );
    }
    Ok(())
}
