use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::TryStreamExt as _;
use oci_content::{Digest, Manifest, MirrorGraph, SourceRepository};
use registry_client::{BlobSource, BlobStream};

use crate::error::ImportError;
use crate::source::{Provenance, Source};

/// Receives the progress of an import.
pub trait ImportObserver: fmt::Debug + Send + Sync {
    /// Called once, with the number of objects that belong at the target and their size in bytes.
    fn planned(&self, objects: usize, bytes: u64);

    /// Called as objects are read to be sent, with the number of bytes that were read since the
    /// last call. When an object is at the target, whether or not it was there already, these
    /// numbers sum up to its size. By default does nothing.
    fn advanced(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Called when bytes that were reported by [`advanced`](Self::advanced) must be sent again,
    /// with their number. By default does nothing.
    fn set_back(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Called when an object is at the target, with its size in bytes.
    fn arrived(&self, bytes: u64);

    /// Called when everything was sent and the proof begins. By default does nothing.
    fn proving(&self) {}
}

/// An observer that ignores everything.
impl ImportObserver for () {
    fn planned(&self, _: usize, _: u64) {}

    fn arrived(&self, _: u64) {}
}

/// A source that reports every byte that is read from its blobs to an observer.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    source: Arc<dyn Source>,
    observer: Arc<dyn ImportObserver>,
}

impl Observed {
    pub(crate) fn new(source: Arc<dyn Source>, observer: Arc<dyn ImportObserver>) -> Self {
        Self { source, observer }
    }

    pub(crate) fn blob(&self, digest: &Digest) -> ObservedBlob {
        ObservedBlob {
            blob: self.source.blob(digest),
            told: Told {
                observer: Arc::clone(&self.observer),
                bytes: Arc::default(),
            },
        }
    }
}

#[async_trait]
impl Source for Observed {
    fn graph(&self) -> &MirrorGraph {
        self.source.graph()
    }

    fn provenance(&self) -> Provenance {
        self.source.provenance()
    }

    fn holds(&self, digest: &Digest) -> bool {
        self.source.holds(digest)
    }

    fn leaves_out(&self, digest: &Digest) -> bool {
        self.source.leaves_out(digest)
    }

    fn repositories_with(&self, digest: &Digest) -> Vec<SourceRepository> {
        self.source.repositories_with(digest)
    }

    async fn manifest(&self, digest: &Digest) -> Result<Manifest, ImportError> {
        self.source.manifest(digest).await
    }

    fn blob(&self, digest: &Digest) -> Arc<dyn BlobSource> {
        Arc::new(self.blob(digest))
    }
}

pub(crate) struct ObservedBlob {
    blob: Arc<dyn BlobSource>,
    told: Told,
}

impl ObservedBlob {
    /// Reports the bytes that were not read because the target had them.
    pub(crate) fn arrived(&self, size: u64) {
        self.told.until(size);
    }
}

#[async_trait]
impl BlobSource for ObservedBlob {
    async fn open(&self, from: u64) -> io::Result<BlobStream> {
        let content = self.blob.open(from).await?;
        self.told.start_again(from);
        let told = self.told.clone();
        let content = content.inspect_ok(move |bytes| told.more(bytes.len() as u64));
        Ok(Box::pin(content))
    }

    fn makes_requests(&self) -> bool {
        self.blob.makes_requests()
    }
}

/// The number of bytes of one blob that were reported to the observer.
#[derive(Clone, Debug)]
struct Told {
    observer: Arc<dyn ImportObserver>,
    bytes: Arc<AtomicU64>,
}

impl Told {
    fn more(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.observer.advanced(bytes);
    }

    fn until(&self, size: u64) {
        self.more(size.saturating_sub(self.bytes.load(Ordering::Relaxed)));
    }

    fn start_again(&self, from: u64) {
        match self.bytes.swap(from, Ordering::Relaxed) {
            bytes if bytes > from => self.observer.set_back(bytes - from),
            bytes if bytes < from => self.observer.advanced(from - bytes),
            _ => {}
        }
    }
}
