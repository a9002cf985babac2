//! A service exports to its own sink. The first run is cancelled, and the second one resumes it.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use std::os::unix::fs::FileExt as _;
use std::{fs::File, io::Result, sync::Arc, time::Duration};

use bundle_format::{ReadAt, Sink};
use import_validator::ImportValidator;
use mirror_export::{ExportRequest, Exporter, SinkOutput};
use oci_content::Digest;
use registry_client::{Client, ClientOptions};
use test_registry::{Fault, Persona, Route, TestRegistry};
use tokio::time::timeout;

/// An unnamed file. It could also be a disk or a multipart upload.
#[derive(Clone, Debug)]
struct Disk(Arc<File>);

impl Sink for Disk {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn reserve(&self, size: u64) -> Result<()> {
        self.0.set_len(size)
    }
    fn sync(&self) -> Result<()> {
        self.0.sync_all()
    }
    fn read_back(&self) -> Option<&dyn ReadAt> {
        Some(&self.0)
    }
}

#[tokio::main]
pub(crate) async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let registry = TestRegistry::start(Persona::Dist2).await;
    let layers = [vec![1; 1 << 20], vec![2; 1 << 20]];
    let slow = Route::blobs().reference(Digest::of(&layers[1]));
    registry.image_with_layers("app", "1.0", layers);
    registry.fault(slow, Fault::stall_after(1000).forever());
    let request = ExportRequest::new(vec![format!("{}/app:1.0", registry.host()).parse()?]);
    let exporter = Exporter::new(Client::new(ClientOptions::default())?, Arc::new(()));
    let mut output = SinkOutput::new(Disk(Arc::new(tempfile::tempfile()?)));

    let first = exporter.export_to(&request, output.clone());
    let first = timeout(Duration::from_secs(5), first).await;
    assert!(first.is_err(), "a layer never comes");
    registry.clear_faults();
    registry.clear_requests();
    output.resumes = true;
    let done = exporter.export_to(&request, output.clone()).await?;
    let requests = registry.requests().into_iter();
    let blobs = requests.filter(|request| request.path.contains("/blobs/"));
    assert_eq!(blobs.count(), 1, "the other blobs are kept");
    let report = ImportValidator::new().validate("the disk", &*output.sink.0);
    println!("{} bytes, valid: {}", done.size, report.ok);
    Ok(())
}
