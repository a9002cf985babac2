//! Export, validate and import of a large bundle against peers and against hashing the same bytes.
//!
//! Ten images of two platforms with three incompressible layers of 10 MiB each, six referrers per
//! image. Every figure of the table comes from one run on one machine; compare the rows, not the
//! numbers of two runs. Peers are run when they are on the path: `oras`, `curl`, `openssl`,
//! `sha256sum`. Processor time of a peer is that of its process.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::{
    DockerRegistry, IMAGES, REPOSITORY, Server, arguments_behind, cpu, fill, is_full, peak_memory,
    proxy, serve_until_told, tag,
};
use import_validator::{ImportValidator, ValidatedBundle};
use mirror_export::{ExportRequest, ExportTimes, Exporter, FileOutput};
use mirror_import::{ImportOptions, Importer, LayoutTarget, RegistryTarget, Target};
use oci_content::{Manifest, Registry, Tag};
use registry_client::{Client, ClientOptions};
use test_registry::{Persona, TestRegistry};

const ADDED_MS: u64 = 20;

#[tokio::main]
async fn main() {
    if let Some(arguments) = arguments_behind("--serve") {
        return serve(&arguments).await;
    }
    if let Some(arguments) = arguments_behind("--proxy") {
        return proxy(&arguments).await;
    }
    let layer_bytes = if is_full() { 10 << 20 } else { 10 << 10 };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    println!(
        "10 images of 6 layers of {} KiB, 60 referrers; the registry in a process of its own",
        layer_bytes / 1024
    );

    for added in [0, ADDED_MS] {
        heading(added);
        let source = start("full", added, layer_bytes);
        let blobs = Measured::of(&source, || curl(&source, folder.path())).await;
        row("curl of the same blobs, 16 at once", &blobs);
        let output = path(&format!("bundle-{added}.tgz"));
        let mut times = ExportTimes::default();
        let ours = Measured::of(&source, async || {
            times = export(&source, &output).await;
            true
        });
        let ours = ours.await;
        row("export to .tgz, synced, with its checksum file", &ours);
        println!(
            "  of it: planned after {:.2} s, all blobs there after {:.2} s, checksum known after {:.2} s, synced after {:.2} s",
            times.planned, times.transferred, times.checksum, times.synced
        );
        for (what, output) in [
            ("oras backup to a folder", "backup"),
            ("oras backup to .tar", "backup.tar"),
        ] {
            let tags: Vec<String> = (0..IMAGES).map(tag).collect();
            let target = format!("{}/{REPOSITORY}:{}", source.greeting, tags.join(","));
            let output = path(&format!("{added}.{output}")).display().to_string();
            let arguments = [
                "backup",
                "--plain-http",
                "--include-referrers",
                "-o",
                &output,
                &target,
            ];
            row(
                what,
                &Measured::of(&source, || run("oras", &arguments)).await,
            );
        }
    }

    let bundle = path("bundle-0.tgz");
    println!("\nthe bundle: {} bytes", size(&bundle));
    let idle = start("empty", 0, 0);
    let validated = Measured::of(&idle, async || {
        validate(&bundle);
        true
    });
    row("validate everything", &validated.await);
    let text = bundle.display().to_string();
    for (what, program, arguments) in [
        (
            "openssl sha256 of the file",
            "openssl",
            vec!["sha256", &text],
        ),
        ("sha256sum of the file", "sha256sum", vec![&text]),
    ] {
        row(
            what,
            &Measured::of(&idle, || run(program, &arguments)).await,
        );
    }

    for added in [0, ADDED_MS] {
        heading(added);
        let target = start("empty", added, 0);
        for what in [
            "validate, import into an empty registry, prove",
            "again, nothing changed",
        ] {
            let imported = Measured::of(&target, async || {
                let registry = Arc::new(RegistryTarget::new(
                    client(),
                    target.greeting.parse().expect("a host and a port"),
                ));
                import(registry, &validate(&bundle)).await;
                true
            });
            row(what, &imported.await);
        }
        let other = start("empty", added, 0);
        let input = path("0.backup.tar").display().to_string();
        let target = format!("{}/{REPOSITORY}", other.greeting);
        let arguments = ["restore", "--plain-http", "--input", &input, &target];
        row(
            "oras restore of its .tar",
            &Measured::of(&other, || run("oras", &arguments)).await,
        );
    }
    for added in [0, ADDED_MS] {
        let Some(first) = DockerRegistry::start(&path(&format!("docker-{added}"))) else {
            println!("\nno docker-registry on the path: not measured");
            break;
        };
        heading(added);
        let ours = first.behind(added);
        let imported = Measured::of(&ours, async || {
            let registry = Arc::new(RegistryTarget::new(
                client(),
                ours.greeting.parse().expect("a host and a port"),
            ));
            import(registry, &validate(&bundle)).await;
            true
        });
        row(
            "validate, import into docker-registry (no API), prove",
            &imported.await,
        );
        drop(first);
        let second = DockerRegistry::start(&path(&format!("docker-{added}-oras")));
        let second = second.expect("it started a moment ago");
        let theirs = second.behind(added);
        let input = path("0.backup.tar").display().to_string();
        let target = format!("{}/{REPOSITORY}", theirs.greeting);
        let arguments = ["restore", "--plain-http", "--input", &input, &target];
        row(
            "oras restore of its .tar",
            &Measured::of(&theirs, || run("oras", &arguments)).await,
        );
    }
    heading(0);
    let layout: Arc<dyn Target> = Arc::new(LayoutTarget::new(path("layout")));
    for what in [
        "validate, import into a layout folder, synced",
        "again, nothing changed",
    ] {
        let imported = Measured::of(&idle, async || {
            import(Arc::clone(&layout), &validate(&bundle)).await;
            true
        });
        row(what, &imported.await);
    }
    let copied = Measured::of(&idle, async || {
        let (from, to) = (path("0.backup.tar"), path("copied"));
        for number in 0..IMAGES {
            let tag = tag(number);
            let (from, to) = (
                format!("{}:{tag}", from.display()),
                format!("{}:{tag}", to.display()),
            );
            let arguments = [
                "cp",
                "--recursive",
                "--from-oci-layout",
                &from,
                "--to-oci-layout",
                &to,
            ];
            if !run("oras", &arguments).await {
                return false;
            }
        }
        true
    });
    row(
        "oras cp of each image of its .tar to a layout folder",
        &copied.await,
    );
    let folder = path("copied").display().to_string();
    let arguments = ["-f", &folder];
    let synced = Measured::of(&idle, || run("sync", &arguments)).await;
    row(
        "and a sync of its file system, which it leaves out",
        &synced,
    );
    println!("\npeak memory of this process: {} MiB", peak_memory() >> 20);
}

fn heading(added: u64) {
    match added {
        0 => println!(),
        added => println!("\nwith {added} ms added to each request"),
    }
    println!(
        "{:52} {:>9} {:>12} {:>13}",
        "", "seconds", "CPU, client", "CPU, registry"
    );
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// What some work took; `None` when it could not be done.
struct Measured(Option<[f64; 3]>);

impl Measured {
    async fn of<F: Future<Output = bool>>(server: &Server, work: impl FnOnce() -> F) -> Self {
        let before = [cpu("self"), server.cpu()];
        let started = Instant::now();
        let done = work().await;
        let elapsed = started.elapsed();
        let [client, registry] = [cpu("self") - before[0], server.cpu() - before[1]];
        Self(done.then(|| [elapsed, client, registry].map(|time| time.as_secs_f64())))
    }
}

fn start(content: &str, added: u64, layer_bytes: usize) -> Server {
    let (added, layer_bytes) = (added.to_string(), layer_bytes.to_string());
    Server::start(&["--serve", content, &added, &layer_bytes]).expect("this program starts")
}

/// The other process: a registry with the images, or an empty one.
async fn serve(arguments: &[String]) {
    let number = |at: usize| arguments[at].parse().expect("a number");
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .latency(Duration::from_millis(number(1)))
        .start()
        .await;
    if arguments[0] == "full" {
        fill(&registry, usize::try_from(number(2)).expect("a size"));
    }
    println!("{}", registry.host());
    let told = tokio::task::spawn_blocking(serve_until_told).await;
    told.expect("it does not panic");
}

fn client() -> Client {
    Client::new(ClientOptions::default()).expect("no certificate is configured that could be wrong")
}

async fn export(source: &Server, output: &Path) -> ExportTimes {
    let reference = |number| format!("{}/{REPOSITORY}:{}", source.greeting, tag(number)).parse();
    let images = (0..IMAGES)
        .map(reference)
        .collect::<Result<_, _>>()
        .expect("a loopback address is a registry");
    let request = ExportRequest::new(images);
    let summary = Exporter::new(client(), Arc::new(()))
        .export(&request, &FileOutput::new(output))
        .await
        .expect("everything is there");
    assert_eq!(summary.manifest.referrers.total, 60);
    summary.times
}

fn validate(bundle: &Path) -> Arc<ValidatedBundle> {
    let validator = ImportValidator::new().check_referrers(true);
    let valid = validator.validate_path(bundle).bundle;
    Arc::new(valid.expect("the bundle was just written"))
}

async fn import(target: Arc<dyn Target>, bundle: &Arc<ValidatedBundle>) {
    let importer = Importer::new(target, ImportOptions::default(), Arc::new(()));
    let report = importer
        .import(Arc::<ValidatedBundle>::clone(bundle))
        .await
        .expect("the target takes everything");
    assert_eq!(
        (report.referrers_found, report.referrers_expected),
        (60, 60)
    );
}

/// The transfer alone: every layer, thrown away.
async fn curl(source: &Server, folder: &Path) -> bool {
    let client = client();
    let registry: Registry = source.greeting.parse().expect("a host and a port");
    let repository = client.repository(&registry, &REPOSITORY.parse().expect("a literal"));
    let mut config = String::new();
    for number in 0..IMAGES {
        let tag: Tag = tag(number).parse().expect("a tag");
        let index = repository.get_manifest(&tag).await.expect("it is there");
        let index = Manifest::parse(index.body().clone(), None).expect("an index");
        for child in index.children() {
            let image = repository.get_manifest(&child.digest).await;
            let image = image.expect("it is there");
            let image = Manifest::parse(image.body().clone(), None).expect("an image");
            for layer in image.blobs() {
                let (host, digest) = (&source.greeting, &layer.digest);
                config += &format!(
                    "url = \"http://{host}/v2/{REPOSITORY}/blobs/{digest}\"\noutput = \"/dev/null\"\n"
                );
            }
        }
    }
    let list = folder.join("curl");
    std::fs::write(&list, config).expect("the folder can be written");
    let list = list.display().to_string();
    let arguments = [
        "--silent",
        "--fail",
        "--parallel",
        "--parallel-max",
        "16",
        "--config",
        &list,
    ];
    run("curl", &arguments).await
}

/// Runs a program to its end; `false` when it is not there or fails.
async fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = tokio::process::Command::new(program);
    let status = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.await.is_ok_and(|status| status.success())
}

fn row(what: &str, measured: &Measured) {
    match measured.0 {
        Some([seconds, client, registry]) => {
            println!("{what:52} {seconds:7.2} s {client:10.2} s {registry:11.2} s");
        }
        None => println!("{what:52} not on the path, or failed"),
    }
}
