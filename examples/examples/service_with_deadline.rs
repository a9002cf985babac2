//! A service has three seconds to answer. It returns what it found, and what it could not find out.
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
    // The list of referrers comes at once, the list of tags never.
    registry.fault(Route::tags(), Fault::stall().forever());

    let started = Instant::now();
    let reference: Reference = format!("{}/team/app:1.0", registry.host()).parse()?;
    let client = Client::new(ClientOptions::default())?;
    let repository = client.repository(reference.registry(), reference.repository());
    // Dropping a future loses its result, which is fine for a single request.
    let image = timeout(TIME, resolve(&repository, &reference))
        .await??
        .manifest;
    // A discovery has a deadline of its own, and keeps what it has found by then.
    let left = TIME.saturating_sub(started.elapsed());
    let discovery = RegistrySources::new(repository).discovery(Some(left));
    let graph = discovery.run([image.digest().clone()]).await;

    for referrer in &graph.referrers {
        let artifact_type = referrer.artifact_type.as_deref().unwrap_or("-");
        println!("{artifact_type} {}", referrer.digest);
    }
    // Only a complete graph means that there is nothing else.
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
