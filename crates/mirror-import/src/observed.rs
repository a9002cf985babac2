use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use oci_content::{Digest, Manifest, MirrorGraph};
use registry_client::BlobSource;

use crate::error::ImportError;
use crate::source::{Provenance, Source};

/// Is told how far an import is.
pub trait ImportObserver: fmt::Debug + Send + Sync {
    /// Is called once, when it is known how many objects there are to send or to find there, and of how many bytes
    /// together.
    fn planned(&self, objects: usize, bytes: u64);

    /// Is called as objects are read to be sent, with how many more bytes were read. When an object is at the target, whether
    /// or not it was there already, they sum up to its size.
    fn advanced(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Is called when bytes of which [`advanced`](Self::advanced) has told have to be sent again, with their number.
    fn set_back(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Is called when an object is at the target, with its size in bytes.
    fn arrived(&self, bytes: u64);

    /// Is called when everything was sent, and the target is asked whether it has it.
    fn proving(&self) {}
}

/// Nobody is told.
impl ImportObserver for () {
    fn planned(&self, _: usize, _: u64) {}

    fn arrived(&self, _: u64) {}
}

/// A source whose observer is told of every byte that is read of its blobs.
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
    /// Tells the observer of the bytes that were not read because the target had them.
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

/// The bytes of one blob that the observer was told of.
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
