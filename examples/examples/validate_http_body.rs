//! A service validates a bundle while it receives it over HTTP, without storing it.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use std::io::{Error, Read};
use std::sync::Arc;

use bytes::Bytes;
use import_validator::{FindingKind, ImportValidator, Report};
use mirror_export::{ExportRequest, Exporter, FileOutput};
use registry_client::{Client, ClientOptions};
use test_registry::{Fault, Persona, Route, TestRegistry};
use tokio::{runtime::Handle, task::spawn_blocking};

/// The body of an HTTP response, for code that reads synchronously.
struct Body(reqwest::Response, Bytes, Handle);

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let Self(response, rest, runtime) = self;
        while rest.is_empty() {
            match runtime.block_on(response.chunk()).map_err(Error::other)? {
                Some(chunk) => *rest = chunk,
                None => return Ok(0),
            }
        }
        let bytes = rest.split_to(rest.len().min(buffer.len()));
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

async fn validate(url: String) -> Result<Report, Box<dyn std::error::Error>> {
    let body = Body(reqwest::get(&url).await?, Bytes::new(), Handle::current());
    let validator = ImportValidator::new().strict(true);
    Ok(spawn_blocking(move || validator.validate(&url, body)).await?)
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = TestRegistry::start(Persona::Minimal).await;
    let image = registry.image("app", "1.0");
    registry.referrer("app", &image, "application/vnd.cyclonedx+json", "{}");
    let folder = tempfile::tempdir()?;
    let bundle = folder.path().join("bundle.tgz");
    let request = ExportRequest::new(vec![format!("{}/app:1.0", registry.host()).parse()?]);
    let exporter = Exporter::new(Client::new(ClientOptions::default())?, Arc::new(()));
    exporter.export(&request, &FileOutput::new(&bundle)).await?;
    // The registry serves the bundle as a blob.
    let blob = registry.put_blob("bundles", std::fs::read(&bundle)?);
    let url = registry.url(&format!("/v2/bundles/blobs/{}", blob.digest));

    let report = validate(url.clone()).await?;
    println!("the bundle is valid: {}", report.ok);
    assert!(report.ok);
    registry.fault(Route::blobs(), Fault::truncate_after(blob.size / 2));
    let report = validate(url).await?;
    println!("half of it: {}", report.findings[0]);
    assert_eq!(report.findings[0].kind, FindingKind::Io);
    Ok(())
}
