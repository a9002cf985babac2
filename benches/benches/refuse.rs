//! What a hostile bundle and a very large one take until there is a verdict: seconds, seconds of
//! processor time, and the peak memory of a process of its own that does nothing else.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use benches::is_full;
use bundle_format::{
    BundleManifest, BundlePlan, BundleWriter, Container, EntryPath, EntryRecord, OCI_LAYOUT,
    OutputFile, StreamName, index_descriptors, index_json,
};
use import_validator::{ImportValidator, Report};
use oci_content::{ArtifactRecord, DiscoveryRecord, ImageRecord, SourceRepository};
use oci_content::{
    Capability, Descriptor, Digest, DiscoveryMethod, Reference, SourceKind, media_type,
};
use serde_json::json;

const SBOM: &str = "application/vnd.cyclonedx+json";

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, command, what] = &*arguments
        && command == "validate"
    {
        return validate(what);
    }
    let full = is_full();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);

    println!(
        "{:58} {:>9} {:>9} {:>9}  verdict",
        "", "seconds", "cpu", "peak MiB"
    );
    let megabytes = if full { 1_024 } else { 1 };
    if let Some(bomb) = deflated(&path("bomb.tgz"), megabytes) {
        row(
            &format!("{megabytes} MiB of zeros, deflated to a gzip bomb"),
            &bomb,
        );
    }
    let claim = claim(&path("claim.tar"));
    row("manifest.yaml claims 10 GiB", &claim);
    if full {
        row("10,000,000 files that nobody listed", Path::new("flood"));
    }
    drop(std::fs::remove_file(&claim));

    println!();
    let counts = if full {
        &[25_000, 50_000, 100_000][..]
    } else {
        &[100]
    };
    for count in counts {
        let bundle = path("referrers.tgz");
        with_referrers(&bundle, *count, 0);
        let yaml = manifest_bytes(&bundle) >> 20;
        row(
            &format!("{count} referrers, manifest.yaml of {yaml} MiB"),
            &bundle,
        );
        drop(std::fs::remove_file(bundle));
    }
    let layers = if full { 60 } else { 1 };
    let bundle = path("layers.tgz");
    with_referrers(&bundle, 60, layers);
    let size = std::fs::metadata(&bundle).map_or(0, |metadata| metadata.len());
    row(
        &format!("{} MiB of layers, 60 referrers", size >> 20),
        &bundle,
    );
}

/// Validates what is named, in this process, and prints how long it took, the peak memory, and the
/// verdict.
fn validate(what: &str) {
    let validator = ImportValidator::new().check_referrers(true);
    let started = Instant::now();
    let report = match what {
        "flood" => validator.validate("flood", Flood::default()),
        path => validator.validate_path(Path::new(path)).report,
    };
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{seconds} {} {} {}",
        benches::cpu("self").as_secs_f64(),
        benches::peak_memory() >> 10,
        verdict(&report)
    );
}

fn verdict(report: &Report) -> String {
    match report.first_error() {
        Some(error) => format!("{}, exit {}", error.kind, error.exit_code()),
        None => "accepted".to_owned(),
    }
}

/// Runs this program again for one input, so that the memory is that of the validation alone.
fn row(name: &str, input: &Path) {
    let program = std::env::current_exe().expect("this program has a path");
    let ran = Command::new(program).arg("validate").arg(input).output();
    let text = String::from_utf8(ran.expect("this program runs").stdout).unwrap_or_default();
    let mut words = text.trim_end().splitn(4, ' ');
    let mut number = || words.next().and_then(|word| word.parse::<f64>().ok());
    let mut figure = || number().unwrap_or(f64::NAN);
    let (seconds, cpu, kibibytes) = (figure(), figure(), figure());
    let verdict = words.next().unwrap_or("it did not end well");
    let mebibytes = kibibytes / 1024.0;
    println!("{name:58} {seconds:>9.3} {cpu:>9.2} {mebibytes:>9.1}  {verdict}");
}

/// Compresses zeros with gzip at its best level; `None` if there is no gzip.
fn deflated(path: &Path, megabytes: usize) -> Option<PathBuf> {
    let output = File::create(path).ok()?;
    let mut gzip = Command::new("gzip")
        .arg("-9")
        .stdin(Stdio::piped())
        .stdout(output)
        .spawn()
        .ok()?;
    let mut zeros = gzip.stdin.take()?;
    let chunk = vec![0; 1 << 20];
    for _ in 0..megabytes {
        zeros.write_all(&chunk).ok()?;
    }
    drop(zeros);
    gzip.wait().ok()?.success().then(|| path.to_owned())
}

/// The header of an empty file, as a bundle has it.
fn header(path: &str) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, b"0000644\x000000000\x000000000\0");
    put(124, b"00000000000\x0000000000000\0        0");
    put(257, b"ustar\x0000");
    put(329, b"0000000\x000000000\0");
    seal(&mut header);
    header
}

fn seal(header: &mut [u8; 512]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A sparse file of 10 GiB whose header says that all of it is `manifest.yaml`.
fn claim(path: &Path) -> PathBuf {
    let mut block = header("manifest.yaml");
    block[124..136].copy_from_slice(b"\x80\0\0\0\0\0\0\x02\x80\0\0\0");
    seal(&mut block);
    let write = || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(&block)?;
        file.set_len((10 << 30) + 1_536)
    };
    write().expect("a sparse file can be made");
    path.to_owned()
}

/// An empty bundle, followed by files that it does not list, generated as they are read.
struct Flood {
    bytes: io::Cursor<Vec<u8>>,
    next: u64,
}

impl Default for Flood {
    fn default() -> Self {
        let index = index_json(&[]);
        let mut manifest = BundleManifest::new(StreamName::default(), 1);
        manifest
            .entries
            .push(EntryRecord::of(EntryPath::OCI_LAYOUT, OCI_LAYOUT));
        manifest
            .entries
            .push(EntryRecord::of(EntryPath::INDEX, &index));
        manifest.settle(0);
        let mut tar = Vec::new();
        let yaml = manifest
            .to_yaml()
            .expect("an empty manifest can be written");
        let files = [
            ("manifest.yaml", &*yaml),
            ("oci-layout", OCI_LAYOUT),
            ("index.json", &index),
        ];
        for (path, bytes) in files {
            let mut block = header(path);
            block[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
            seal(&mut block);
            tar.extend(block);
            tar.extend(bytes);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        Self {
            bytes: io::Cursor::new(tar),
            next: 0,
        }
    }
}

impl io::Read for Flood {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const FILES: u64 = 10_000_000;
        if self.bytes.position() == self.bytes.get_ref().len() as u64 && self.next < FILES {
            let more = self.next..(self.next + 1_000).min(FILES);
            self.next = more.end;
            let mut headers = Vec::new();
            for number in more {
                headers.extend_from_slice(&header(&format!("blobs/sha256/{number:064x}")));
            }
            self.bytes = io::Cursor::new(headers);
        }
        self.bytes.read(buffer)
    }
}

/// Writes a bundle of images with `layers` of 10 MiB each, and `count` referrers, a thousand to an
/// image at most, each with a payload of its own.
fn with_referrers(output: &Path, count: usize, layers: usize) {
    const PER_IMAGE: usize = 1_000;
    let mut bundle = Bundle {
        manifest: BundleManifest::new(StreamName::default(), 1),
        objects: Vec::new(),
    };
    let config = bundle.put(media_type::EMPTY, b"{}".to_vec());
    let layers: Vec<_> = (0..layers)
        .map(|seed| {
            bundle.put(
                "application/vnd.oci.image.layer.v1.tar+gzip",
                benches::noise(seed as u64, 10 << 20),
            )
        })
        .collect();
    for start in (0..count).step_by(PER_IMAGE) {
        let reference = format!("registry.example.com/team/app-{start}:1.0");
        let reference: Reference = reference.parse().expect("it is a reference");
        let image = bundle.manifest(&json!({
            "schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "config": config, "layers": layers,
            "annotations": {"number": start.to_string()},
        }));
        let mut record = DiscoveryRecord::new(
            SourceRepository::from(&reference),
            image.digest.clone(),
            Capability::Supported,
            DiscoveryMethod::Native,
        );
        for number in start..count.min(start + PER_IMAGE) {
            let payload = bundle.put(SBOM, format!("{{\"number\":{number}}}").into_bytes());
            let referrer = bundle.manifest(&json!({
                "schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "artifactType": SBOM, "config": config,
                "layers": [payload], "subject": image,
            }));
            let mut artifact = ArtifactRecord::new(
                referrer.digest,
                Some(SBOM.to_owned()),
                media_type::IMAGE_MANIFEST,
                referrer.size,
            );
            artifact.sources.push(SourceKind::ReferrersApi);
            record.artifacts.push(artifact);
        }
        let image = ImageRecord::new(reference, image.digest, image.media_type, image.size);
        bundle.manifest.graph.images.push(image);
        bundle.manifest.graph.discovery.push(record);
    }
    bundle.write(output).expect("the bundle can be written");
}

struct Bundle {
    manifest: BundleManifest,
    objects: Vec<(Digest, Vec<u8>)>,
}

impl Bundle {
    fn put(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        self.objects.push((descriptor.digest.clone(), bytes));
        descriptor
    }

    fn manifest(&mut self, json: &serde_json::Value) -> Descriptor {
        self.put(media_type::IMAGE_MANIFEST, json.to_string().into_bytes())
    }

    fn write(mut self, output: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let entries = self.objects.iter();
        let entries = entries.map(|(digest, bytes)| EntryRecord::blob(digest, bytes.len() as u64));
        self.manifest.entries = entries.collect::<Result<_, _>>()?;
        let index = index_json(&index_descriptors(
            &self.manifest.graph.images,
            &self.manifest.graph.discovery,
        ));
        let fixed = [
            (EntryPath::OCI_LAYOUT, OCI_LAYOUT),
            (EntryPath::INDEX, &*index),
        ];
        let records = fixed.iter();
        let records = records.map(|(path, bytes)| EntryRecord::of(path.clone(), bytes));
        self.manifest.entries.extend(records);
        self.manifest.settle(0);
        let output = OutputFile::create(output, true)?;
        let plan = BundlePlan::new(&self.manifest, Container::TarGz)?;
        let writer = BundleWriter::new(plan, output.sink())?;
        for (path, bytes) in &fixed {
            writer.put(path, bytes)?;
        }
        let objects: std::collections::HashMap<_, _> = self.objects.into_iter().collect();
        for (digest, bytes) in &objects {
            writer.put(&EntryPath::blob(digest)?, bytes)?;
        }
        for (record, artifact) in self.manifest.graph.referrers() {
            let path = EntryPath::referrer(&record.subject, &artifact.digest)?;
            writer.put(&path, &objects[&artifact.digest])?;
        }
        writer.finish()?;
        output.publish()?;
        Ok(())
    }
}

/// Returns the size of the list of a bundle.
fn manifest_bytes(path: &Path) -> u64 {
    let mut reader = bundle_format::BundleReader::new(
        File::open(path).expect("it was just written"),
        bundle_format::Limits::default(),
    );
    let head = reader.next_entry().expect("it can be read");
    head.map_or(0, |head| head.size)
}
