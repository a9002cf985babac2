//! Export, validate and import of a large bundle against peers and against hashing the same bytes.
//!
//! Ten images of two platforms with three incompressible layers of 10 MiB each, six referrers per image. Every figure of
//! the table comes from one run on one machine; compare the rows, not the numbers of two runs. Peers are run when they
//! are on the path: `oras`, `openssl`, `sha256sum`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use import_validator::{
    ImportObserver, ImportOptions, ImportTarget, ImportValidator, Importer, ValidatedBundle,
};
use mirror_export::{ExportEvent, ExportObserver, ExportRequest, Exporter};
use oci_content::Descriptor;
use registry_client::{Client, ClientOptions};
use test_registry::{Fault, Persona, Route, TestRegistry};

const ADDED: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct Quiet;

impl ExportObserver for Quiet {
    fn event(&self, _: ExportEvent<'_>) {}

    fn requests(&self) -> u64 {
        0
    }
}

impl ImportObserver for Quiet {
    fn planned(&self, _: usize) {}

    fn arrived(&self, _: u64) {}
}

#[tokio::main]
async fn main() {
    // `cargo test` runs benches with no arguments of its own; small layers show that the code still runs.
    let full = std::env::args().any(|argument| argument == "--bench");
    let layer_bytes = if full { 10 << 20 } else { 10 << 10 };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    let source = start().await;
    let tags = fill(&source, layer_bytes);
    println!(
        "10 images of 6 layers of {} KiB, 60 referrers\n",
        layer_bytes / 1024
    );

    for added in [None, Some(ADDED)] {
        if let Some(added) = added {
            println!("\nthe same with {added:?} added to each request");
            source.fault(Route::any(), Fault::delay(added).forever());
        }
        let name = if added.is_some() {
            "slow.tgz"
        } else {
            "bundle.tgz"
        };
        let seconds = export(&source, &tags, &path(name)).await;
        row("export to .tgz, synced, with its checksum file", seconds);
        for (what, output) in [
            ("oras backup to a folder", "backup"),
            ("oras backup to .tar", "backup.tar"),
        ] {
            let target = format!("{}/mirror/app:{}", source.host(), tags.join(","));
            let output = path(&format!("{name}.{output}"));
            let output = output.display().to_string();
            let arguments = [
                "backup",
                "--plain-http",
                "--include-referrers",
                "-o",
                &output,
                &target,
            ];
            row(what, run("oras", &arguments).await);
        }
    }
    source.clear_faults();

    println!();
    let bundle = path("bundle.tgz");
    let started = Instant::now();
    let validation = ImportValidator::new()
        .check_referrers(true)
        .validate_path(&bundle);
    row("validate everything", Some(started.elapsed().as_secs_f64()));
    let valid = Arc::new(validation.bundle.expect("the bundle was just written"));
    let text = bundle.display().to_string();
    row(
        "openssl sha256 of the file",
        run("openssl", &["sha256", &text]).await,
    );
    row("sha256sum of the file", run("sha256sum", &[&text]).await);

    for added in [None, Some(ADDED)] {
        println!();
        if let Some(added) = added {
            println!("with {added:?} added to each request");
        }
        let target = start().await;
        if let Some(added) = added {
            target.fault(Route::any(), Fault::delay(added).forever());
        }
        row(
            "import into an empty registry, with the proof",
            Some(import(&target, &valid).await),
        );
        row(
            "again, nothing changed",
            Some(import(&target, &valid).await),
        );
        let other = start().await;
        if let Some(added) = added {
            other.fault(Route::any(), Fault::delay(added).forever());
        }
        let input = path("bundle.tgz.backup.tar").display().to_string();
        let target = format!("{}/mirror/app", other.host());
        row(
            "oras restore of its .tar",
            run(
                "oras",
                &["restore", "--plain-http", "--input", &input, &target],
            )
            .await,
        );
    }
}

async fn start() -> TestRegistry {
    TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await
}

/// Bytes that do not compress: a counter through a multiplicative hash.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

fn fill(registry: &TestRegistry, layer_bytes: usize) -> Vec<String> {
    let repository = "mirror/app";
    let mut tags = Vec::new();
    for number in 0..10u64 {
        let children: Vec<Descriptor> = (0..2u64)
            .map(|platform| {
                let layers = (0..3u64)
                    .map(|layer| noise(1 + number * 100 + platform * 10 + layer, layer_bytes));
                let tag = format!("v{number}-{platform}");
                let image = registry.image_with_layers(repository, &tag, layers);
                registry.untag(repository, &tag);
                image
            })
            .collect();
        let listed: Vec<String> = children
            .iter()
            .zip(["amd64", "arm64"])
            .map(|(child, architecture)| {
                format!(
                    r#"{{"mediaType":"{}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
                    child.media_type, child.digest, child.size,
                )
            })
            .collect();
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            oci_content::media_type::IMAGE_INDEX,
            listed.join(","),
        );
        let index = registry.put_manifest(repository, oci_content::media_type::IMAGE_INDEX, index);
        let tag = format!("v{number}");
        registry.tag(repository, &tag, &index.digest);
        let sbom = registry.referrer(
            repository,
            &index,
            "application/vnd.cyclonedx+json",
            noise(number + 5000, 200_000),
        );
        registry.referrer(
            repository,
            &index,
            "application/vnd.in-toto+json",
            noise(number + 6000, 20_000),
        );
        for (subject, seed) in [(&index, 7000), (&sbom, 8000)] {
            registry.referrer(
                repository,
                subject,
                "application/vnd.cncf.notary.signature",
                noise(number + seed, 2_000),
            );
        }
        for (child, seed) in children.iter().zip([9000, 9500]) {
            registry.referrer(
                repository,
                child,
                "application/spdx+json",
                noise(number + seed, 50_000),
            );
        }
        tags.push(tag);
    }
    tags
}

fn client() -> Client {
    Client::new(ClientOptions::default()).expect("no certificate is configured that could be wrong")
}

async fn export(source: &TestRegistry, tags: &[String], output: &Path) -> Option<f64> {
    let reference = |tag: &String| format!("{}/mirror/app:{tag}", source.host()).parse();
    let images = tags
        .iter()
        .map(reference)
        .collect::<Result<_, _>>()
        .expect("a loopback address is a registry");
    let request = ExportRequest::new(images, output);
    let started = Instant::now();
    let summary = Exporter::new(client(), Arc::new(Quiet))
        .export(&request)
        .await
        .expect("everything is there");
    assert_eq!(summary.manifest.referrers.total, 60);
    Some(started.elapsed().as_secs_f64())
}

async fn import(target: &TestRegistry, bundle: &Arc<ValidatedBundle>) -> f64 {
    let registry = ImportTarget::Registry {
        registry: target.registry(),
        client: client(),
    };
    let importer = Importer::new(registry, ImportOptions::default(), Arc::new(Quiet));
    let started = Instant::now();
    let report = importer
        .import(Arc::clone(bundle))
        .await
        .expect("the target takes everything");
    assert_eq!(
        (report.referrers_found, report.referrers_expected),
        (60, 60)
    );
    started.elapsed().as_secs_f64()
}

/// Runs a program to its end; `None` when it is not there or fails.
async fn run(program: &str, arguments: &[&str]) -> Option<f64> {
    let started = Instant::now();
    let mut command = tokio::process::Command::new(program);
    let status = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status
        .await
        .ok()?
        .success()
        .then(|| started.elapsed().as_secs_f64())
}

fn row(what: &str, seconds: Option<f64>) {
    match seconds {
        Some(seconds) => println!("{what:52} {seconds:7.2} s"),
        None => println!("{what:52} not on the path, or failed"),
    }
}
