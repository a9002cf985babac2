//! Discovery against peers and against the bare requests, with 20 ms added to each request.
//!
//! Every figure of one table comes from one run on one machine; compare the columns, not the
//! numbers of two runs. Peers are run when they are on the path: `oras`, `regctl`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::num::NonZeroUsize;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use benches::{Server, arguments_behind, is_full, peak_memory};
use futures::stream::{self, StreamExt as _};
use oci_content::{Completeness, Digest, Reference, RepositoryName};
use oci_referrers::{RegistrySources, resolve};
use registry_client::{Client, ClientOptions, RequestEvent, RequestObserver};
use test_registry::{Fault, Persona, Route, TestRegistry};

const ADDED: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() {
    if let Some(arguments) = arguments_behind("--discover") {
        return discover(&arguments[0]).await;
    }
    let (referrers, images) = if is_full() { (1000, 100) } else { (20, 3) };
    println!(
        "{referrers} referrers of one image and one referrer of a referrer, all levels, {ADDED:?} added to each request\n"
    );
    println!(
        "{:34} {:>8} {:>9} {:>9} {:>7} {:>9}",
        "registry, client", "seconds", "requests", "per node", "found", "in flight"
    );
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let registry = TestRegistry::builder(persona)
            .without_auth()
            .page_size(10_000)
            .start()
            .await;
        let image = registry.image("app", "1.0");
        let first = registry.referrer("app", &image, "application/vnd.cyclonedx+json", "sbom");
        registry.referrer(
            "app",
            &first,
            "application/vnd.cncf.notary.signature",
            "signature of the sbom",
        );
        for number in 1..referrers {
            registry.referrer(
                "app",
                &image,
                "application/vnd.example.report",
                format!("report {number}"),
            );
        }
        registry.fault(Route::any(), Fault::delay(ADDED).forever());
        for in_flight in [16, 32] {
            ours(&registry, in_flight, referrers + 1).await;
        }
        requests_alone(&registry, &image.digest, referrers).await;
        peer(
            &registry,
            "oras",
            &["discover", "--plain-http", "--format", "json"],
        )
        .await;
        peer(&registry, "regctl", &["artifact", "tree"]).await;
    }
    one_repository(images).await;
    memory(referrers).await;
}

/// The child process: finds all referrers of an image, and prints their number and its peak memory.
async fn discover(reference: &str) {
    let (client, _) = client(16);
    let reference = reference.parse().expect("a reference");
    let found = found(&client, &reference).await;
    println!("{found} {}", peak_memory());
}

/// Discovers everything that refers to an image; returns how many there are.
async fn found(client: &Client, reference: &Reference) -> usize {
    let repository = client.repository(reference.registry(), reference.repository());
    let image = resolve(&repository, reference)
        .await
        .expect("the image was pushed");
    let graph = RegistrySources::new(repository)
        .discovery(None)
        .run([image.manifest.digest().clone()])
        .await;
    assert_eq!(graph.status(), Completeness::Complete);
    graph.referrers.len()
}

/// The memory of a process that discovers, at some referrers and at nearly ten times as many.
async fn memory(referrers: usize) {
    println!("\n{:>9} {:>14}", "referrers", "peak memory");
    let mut before: Option<(u64, u64)> = None;
    for referrers in [referrers, referrers * 10 - 1] {
        let registry = TestRegistry::builder(Persona::SpecFull)
            .without_auth()
            .page_size(1_000)
            .start()
            .await;
        let image = registry.image("app", "1.0");
        for number in 0..referrers {
            registry.referrer(
                "app",
                &image,
                "application/vnd.example.report",
                format!("report {number}"),
            );
        }
        let reference = reference(&registry, "1.0").to_string();
        let start = || Server::start(&["--discover", &reference]);
        let child = tokio::task::block_in_place(start).expect("this program starts");
        let (found, peak) = child.greeting.split_once(' ').expect("two numbers");
        let [found, peak] = [found, peak].map(|text| text.parse::<u64>().expect("a number"));
        assert_eq!(found, referrers as u64);
        let each = before.map(|(fewer, less)| peak.saturating_sub(less) / (found - fewer));
        let each = each.map_or_else(String::new, |each| {
            format!("  {each} bytes for each further one")
        });
        println!(
            "{found:9} {:10.1} MiB{each}",
            peak as f64 / f64::from(1 << 20)
        );
        before = Some((found, peak));
    }
}

#[derive(Debug, Default)]
struct Requests(AtomicU64);

impl RequestObserver for Requests {
    fn request(&self, _: &RequestEvent<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn client(in_flight: usize) -> (Client, Arc<Requests>) {
    let requests = Arc::new(Requests::default());
    let mut options = ClientOptions::default();
    options.max_in_flight = NonZeroUsize::new(in_flight).unwrap_or(NonZeroUsize::MIN);
    options.observer = Some(Arc::clone(&requests) as Arc<dyn RequestObserver>);
    let client = Client::new(options).expect("no certificate is configured that could be wrong");
    (client, requests)
}

fn reference(registry: &TestRegistry, tag: &str) -> Reference {
    format!("{}/app:{tag}", registry.host())
        .parse()
        .expect("a loopback address is a registry")
}

async fn ours(registry: &TestRegistry, in_flight: usize, expected: usize) {
    let (client, requests) = client(in_flight);
    let reference = reference(registry, "1.0");
    let started = Instant::now();
    let found = found(&client, &reference).await;
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(found, expected);
    row(
        registry,
        &format!("this, {in_flight} in flight"),
        seconds,
        requests.0.load(Ordering::Relaxed),
        expected,
        in_flight,
    );
}

/// What the lists alone cost: one request per node, as many at once as we have in flight, nothing
/// verified.
async fn requests_alone(registry: &TestRegistry, subject: &Digest, count: usize) {
    const IN_FLIGHT: usize = 16;
    let (client, requests) = client(IN_FLIGHT);
    let name: RepositoryName = "app".parse().expect("a literal");
    let repository = client.repository(&registry.registry(), &name);
    let started = Instant::now();
    stream::iter(0..count)
        .for_each_concurrent(IN_FLIGHT, |_| async {
            repository
                .head_manifest(subject)
                .await
                .expect("the image was pushed");
        })
        .await;
    let seconds = started.elapsed().as_secs_f64();
    row(
        registry,
        "one request per node alone",
        seconds,
        requests.0.load(Ordering::Relaxed),
        count,
        IN_FLIGHT,
    );
}

async fn peer(registry: &TestRegistry, program: &str, arguments: &[&str]) {
    if program == "regctl" {
        let host = registry.host();
        let set = ["registry", "set", "--tls=disabled", "--skip-check", &host];
        if run(program, &set).await.is_none() {
            println!(
                "{:34} not on the path",
                format!("{}, {program}", registry.persona())
            );
            return;
        }
    }
    registry.clear_requests();
    let target = reference(registry, "1.0").to_string();
    let arguments: Vec<&str> = arguments.iter().copied().chain([target.as_str()]).collect();
    let started = Instant::now();
    let Some(found) = run(program, &arguments).await else {
        println!(
            "{:34} not on the path",
            format!("{}, {program}", registry.persona())
        );
        return;
    };
    let seconds = started.elapsed().as_secs_f64();
    let requests = registry.requests().len() as u64;
    row(
        registry,
        &format!("{program} {}", arguments[0]),
        seconds,
        requests,
        found,
        registry.max_in_flight_seen(),
    );
}

/// Runs a program to its end; returns the number of distinct digests that it printed.
async fn run(program: &str, arguments: &[&str]) -> Option<usize> {
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let digests: std::collections::BTreeSet<&str> = text
        .match_indices("sha256:")
        .filter_map(|(at, _)| text.get(at..at + 71))
        .collect();
    Some(digests.len())
}

fn row(
    registry: &TestRegistry,
    what: &str,
    seconds: f64,
    requests: u64,
    found: usize,
    in_flight: usize,
) {
    let per_node = requests as f64 / found.max(1) as f64;
    let name = format!("{}, {what}", registry.persona());
    println!("{name:34} {seconds:8.2} {requests:9} {per_node:9.2} {found:7} {in_flight:9}");
}

/// Many images of one repository: the tags are listed once for all.
async fn one_repository(images: usize) {
    const EACH: usize = 6;
    println!(
        "\n{images} images of one repository with {EACH} referrers each, legacy tags included, {ADDED:?} added\n"
    );
    println!(
        "{:34} {:>8} {:>9} {:>9} {:>7} {:>9}",
        "registry, client", "seconds", "requests", "per node", "found", "in flight"
    );
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let registry = TestRegistry::builder(persona).without_auth().start().await;
        for number in 0..images {
            let image = registry.image("app", &format!("v{number}"));
            for kind in 0..EACH - 1 {
                registry.referrer(
                    "app",
                    &image,
                    "application/vnd.example.report",
                    format!("{number} {kind}"),
                );
            }
            registry.legacy("app", &image.digest, "sig", format!("signature {number}"));
        }
        registry.fault(Route::any(), Fault::delay(ADDED).forever());
        let (client, requests) = client(16);
        let reference = reference(&registry, "v0");
        let repository = client.repository(reference.registry(), reference.repository());
        let sources = RegistrySources::new(repository.clone());
        let started = Instant::now();
        let found = stream::iter(0..images)
            .map(|number| {
                let (registry, repository, sources) = (&registry, &repository, &sources);
                async move {
                    let reference = self::reference(registry, &format!("v{number}"));
                    let image = resolve(repository, &reference)
                        .await
                        .expect("the image was pushed");
                    let discovery = sources
                        .discovery(None)
                        .one_of_many(images * (EACH + 1) >= 25);
                    discovery
                        .run([image.manifest.digest().clone()])
                        .await
                        .referrers
                        .len()
                }
            })
            .buffer_unordered(4)
            .fold(0, |sum, count| async move { sum + count })
            .await;
        let seconds = started.elapsed().as_secs_f64();
        assert_eq!(found, images * EACH);
        let nodes = found + images;
        row(
            &registry,
            "this, 4 images at once",
            seconds,
            requests.0.load(Ordering::Relaxed),
            nodes,
            16,
        );
        let listings = registry
            .requests()
            .iter()
            .filter(|request| request.path.ends_with("/tags/list"))
            .count();
        println!("{:34} {listings} tag listings", "");
    }
}
