//! Exports into sinks of the caller.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bundle_format::{MemorySink, ReadAt, Sink};
use mirror_export::{ExportErrorKind, SinkOutput};
use oci_content::{Completeness, Digest};
use test_registry::{Fault, Route};

use crate::support::{Site, export, exporter, registry};

/// A sink that takes so many writes.
#[derive(Clone, Debug)]
struct Tired(Arc<(MemorySink, AtomicI64)>);

impl Tired {
    fn after(writes: i64) -> Self {
        Self(Arc::new((MemorySink::new(), AtomicI64::new(writes))))
    }
}

impl Sink for Tired {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.0.1.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.0.write_at(bytes, offset)
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        self.0.0.reserve(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.0.sync()
    }

    fn read_back(&self) -> Option<&dyn ReadAt> {
        self.0.0.read_back()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_in_the_middle_goes_on_to_the_bytes_of_a_file() {
    let registry = registry().await;
    let site = Site::new();
    let request = site.request(&registry, &["team/app:v0", "team/app:v1"], "b.tgz");
    export(&request).await.unwrap();
    let expected = std::fs::read(site.path("b.tgz")).unwrap();
    let sink = Tired::after(i64::MAX);
    let whole = exporter()
        .export_to(&request, SinkOutput::new(sink.clone()))
        .await;
    let whole = whole.unwrap();
    assert_eq!(whole.sha256, Some(Digest::of(&expected)));
    // Each file takes at least one write.
    for writes in 0..whole.manifest.entries.len() as i64 {
        let sink = Tired::after(writes);
        let mut output = SinkOutput::new(sink.clone());
        let failed = exporter().export_to(&request, output.clone()).await;
        assert!(failed.is_err(), "{writes}");
        let error = failed.unwrap_err();
        assert_eq!(error.kind(), ExportErrorKind::LocalIo, "{writes}: {error}");
        sink.0.1.store(i64::MAX, Ordering::Relaxed);
        output.resumes = true;
        let done = exporter().export_to(&request, output).await.unwrap();
        assert_eq!(done.sha256, Some(Digest::of(&expected)), "{writes}");
        assert!(sink.0.0.to_bytes() == expected, "{writes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_starts_over_where_a_blob_is_gone() {
    let registry = registry().await;
    let site = Site::new();
    let mut request = site.request(&registry, &["team/app:v0", "team/app:v1"], "b.tgz");
    request.allow_incomplete = true;
    let sbom = Digest::of(b"sbom 0");
    registry.fault(
        Route::blobs().method("GET").reference(&sbom),
        Fault::statuses([404]).forever(),
    );
    let file = export(&request).await.unwrap();
    let sink = Tired::after(i64::MAX);
    let done = exporter()
        .export_to(&request, SinkOutput::new(sink.clone()))
        .await;
    let done = done.unwrap();
    assert_eq!(done.manifest, file.manifest);
    assert_eq!(done.manifest.referrers.status, Completeness::Incomplete);
    assert!(sink.0.0.to_bytes() == std::fs::read(site.path("b.tgz")).unwrap());
}
