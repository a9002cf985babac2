//! The memory and the time of an export and an import of many images: what they take for each
//! object, and how they grow.
//!
//! Every image has ten referrers, each with a payload of its own. Registries, export and import run
//! in processes of their own, so that the memory is that of the export alone. An object is a
//! manifest or a blob of the bundle. The import's time is that of validation, sending and proof
//! together.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use benches::{Server, arguments_behind, is_full, peak_memory, serve_until_told};
use import_validator::ImportValidator;
use mirror_export::{ExportRequest, Exporter, FileOutput};
use mirror_import::{ImportOptions, Importer, RegistryTarget};
use registry_client::{Client, ClientOptions};
use test_registry::{Persona, TestRegistry};

const REFERRERS: usize = 10;

#[tokio::main]
async fn main() {
    if let Some(arguments) = arguments_behind("--serve") {
        return serve(arguments[0].parse().expect("a number")).await;
    }
    if let Some(arguments) = arguments_behind("--export") {
        let images = arguments[1].parse().expect("a number");
        return export(&arguments[0], images, Path::new(&arguments[2])).await;
    }
    if let Some(arguments) = arguments_behind("--import") {
        return import(&arguments[0], Path::new(&arguments[1])).await;
    }
    let sizes = if is_full() {
        [500, 1000, 5000, 10_000]
    } else {
        [1, 2, 3, 4]
    };
    println!(
        "{:>7} {:>9} {:>14} {:>10} {:>12} {:>22} {:>12} {:>10} {:>12} {:>12}",
        "images",
        "objects",
        "manifest.yaml",
        "planned",
        "peak memory",
        "for each further one",
        "per object",
        "imported",
        "peak memory",
        "per object"
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut before: Option<(f64, f64)> = None;
    for images in sizes {
        let images = images.to_string();
        let registry = Server::start(&["--serve", &images]).expect("this program starts");
        let output = folder.path().join(format!("{images}.tgz"));
        let output = output.display().to_string();
        let arguments = ["--export", &registry.greeting, &images, &output];
        let export = Server::start(&arguments).expect("this program starts");
        let numbers: Vec<f64> = export
            .greeting
            .split(' ')
            .map(|number| number.parse().expect("a number"))
            .collect();
        let [objects, manifest, planned, peak] = numbers[..] else {
            panic!("four numbers, and not {}", export.greeting);
        };
        let further = before.map(|(fewer, less)| (peak - less) / (objects - fewer));
        let further = further.map_or_else(String::new, |bytes| format!("{bytes:.0} bytes"));
        drop((export, registry));
        let target = Server::start(&["--serve", "0"]).expect("this program starts");
        let import = Server::start(&["--import", &target.greeting, &output]);
        let import = import.expect("this program starts");
        let (imported, import_peak) = import.greeting.split_once(' ').expect("two numbers");
        let [imported, import_peak]: [f64; 2] =
            [imported, import_peak].map(|number| number.parse().expect("a number"));
        std::fs::remove_file(&output).expect("it was written");
        let mebibyte = f64::from(1 << 20);
        println!(
            "{images:>7} {objects:9} {:10.1} MiB {planned:8.2} s {:8.1} MiB {further:>22} {:9.1} µs {imported:8.2} s {:8.1} MiB {:9.1} µs",
            manifest / mebibyte,
            peak / mebibyte,
            planned * 1e6 / objects,
            import_peak / mebibyte,
            imported * 1e6 / objects,
        );
        before = Some((objects, peak));
    }
}

fn tag(number: usize) -> String {
    format!("v{number}")
}

/// The registry.
async fn serve(images: usize) {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .page_size(1_000)
        .start()
        .await;
    for number in 0..images {
        let image = registry.image_with_layers("app", &tag(number), [format!("layer {number}")]);
        for referrer in 0..REFERRERS {
            registry.referrer(
                "app",
                &image,
                "application/vnd.example.report",
                format!("report {referrer} of {number}"),
            );
        }
    }
    println!("{}", registry.host());
    let told = tokio::task::spawn_blocking(serve_until_told).await;
    told.expect("it does not panic");
}

/// The export: prints the objects, the size of manifest.yaml, the seconds until everything was
/// planned, and the peak of its memory, which is reached then or later.
async fn export(host: &str, images: usize, output: &Path) {
    let reference = |number| format!("{host}/app:{}", tag(number)).parse();
    let references = (0..images)
        .map(reference)
        .collect::<Result<_, _>>()
        .expect("a loopback address is a registry");
    let client = Client::new(ClientOptions::default());
    let client = client.expect("no certificate is configured that could be wrong");
    let started = Instant::now();
    let summary = Exporter::new(client, Arc::new(()))
        .export(&ExportRequest::new(references), &FileOutput::new(output))
        .await
        .expect("everything is there");
    assert!(started.elapsed().as_secs_f64() >= summary.times.planned);
    let found = summary.manifest.referrers.total;
    assert_eq!(found, (images * REFERRERS) as u64);
    let peak = peak_memory();
    let yaml = summary.manifest.to_yaml().expect("it was written").len();
    println!(
        "{} {yaml} {} {peak}",
        summary.manifest.entries.len(),
        summary.times.planned
    );
}

/// The import: prints the seconds until everything was proven, and the peak of its memory.
async fn import(host: &str, bundle: &Path) {
    let client = Client::new(ClientOptions::default());
    let target = Arc::new(RegistryTarget::new(
        client.expect("no certificate is configured that could be wrong"),
        host.parse().expect("a loopback address is a registry"),
    ));
    let started = Instant::now();
    let validation = ImportValidator::new()
        .check_referrers(true)
        .validate_path(bundle);
    let bundle = validation.bundle.expect("it was exported whole");
    let report = Importer::new(target, ImportOptions::default(), Arc::new(()))
        .import(Arc::new(bundle))
        .await
        .expect("everything arrives");
    assert_eq!(report.referrers_found, report.referrers_expected);
    println!("{} {}", started.elapsed().as_secs_f64(), peak_memory());
}
