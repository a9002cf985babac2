use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use oci_content::{Digest, Manifest, MirrorGraph};
use registry_client::BlobSource;

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

impl BlobSource for ObservedBlob {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let content = self.blob.open()?;
        self.told.start_again();
        Ok(Box::new(ToldReader {
            content,
            told: self.told.clone(),
        }))
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

    fn start_again(&self) {
        match self.bytes.swap(0, Ordering::Relaxed) {
            0 => {}
            bytes => self.observer.set_back(bytes),
        }
    }
}

struct ToldReader {
    content: Box<dyn Read + Send>,
    told: Told,
}

impl Read for ToldReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.told.more(count as u64);
        Ok(count)
    }
}
