//! A service has three seconds to answer: it asks until then, and tells what it found from what it did not learn.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use std::time::{Duration, Instant};

use oci_content::{Completeness, ErrorCode, Reference};
use oci_referrers::{RegistrySources, resolve};
use registry_client::{Client, ClientOptions};
use test_registry::{Fault, Persona, Route, TestRegistry};
use tokio::time::timeout;

const TIME: Duration = Duration::from_secs(3);

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let image = registry.image("team/app", "1.0");
    let sbom = registry.referrer("team/app", &image, "application/vnd.cyclonedx+json", "{}");
    // The list of the image's referrers comes at once, the list of its tags never.
    registry.fault(Route::tags(), Fault::stall().forever());

    let started = Instant::now();
    let reference: Reference = format!("{}/team/app:1.0", registry.host()).parse()?;
    let client = Client::new(ClientOptions::default())?;
    let repository = client.repository(reference.registry(), reference.repository());
    // A future that is dropped has found nothing, so this timeout is for the one request that comes first.
    let image = timeout(TIME, resolve(&repository, &reference))
        .await??
        .manifest;
    // The discovery has a deadline of its own instead: what was found by then is kept.
    let left = TIME.saturating_sub(started.elapsed());
    let discovery = RegistrySources::new(repository).discovery(Some(left));
    let graph = discovery.run([image.digest().clone()]).await;

    for referrer in &graph.referrers {
        let artifact_type = referrer.artifact_type.as_deref().unwrap_or("-");
        println!("{artifact_type} {}", referrer.digest);
    }
    // Only a complete graph says that there is nothing else.
    match graph.status() {
        Completeness::Complete => println!("that is all"),
        _ => println!("there may be more:"),
    }
    for problem in graph.errors() {
        println!("  {}: {problem}", problem.code);
    }
    assert_eq!(graph.referrers[0].digest, sbom.digest);
    assert_eq!(graph.status(), Completeness::Incomplete);
    assert!(
        graph
            .errors()
            .all(|problem| problem.code == ErrorCode::Timeout)
    );
    Ok(())
}
