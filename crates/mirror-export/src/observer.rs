use std::fmt;
use std::time::Duration;

use oci_content::{Digest, Reference};
use oci_referrers::{ReferrerGraph, SubjectReport, Violation};
use registry_probe::ProbeReport;

/// Is told what an export does, as it happens.
pub trait ExportObserver: fmt::Debug + Send + Sync {
    /// Is called for each event, possibly from several threads.
    fn event(&self, event: ExportEvent<'_>);

    /// Returns how many HTTP requests were sent so far, for the report.
    fn requests(&self) -> u64;
}

/// Nobody is told, and no request counted.
impl ExportObserver for () {
    fn event(&self, _: ExportEvent<'_>) {}

    fn requests(&self) -> u64 {
        0
    }
}

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExportEvent<'a> {
    /// So many registries are going to be probed.
    Probing {
        /// Their number.
        registries: usize,
    },
    /// A registry was probed.
    Probed(&'a ProbeReport),
    /// The referrers of so many images are going to be discovered.
    Discovering {
        /// Their number.
        images: usize,
    },
    /// The tag of an image that was given with a digest is elsewhere now.
    TagMoved {
        /// The image.
        reference: &'a Reference,
        /// What the tag holds now.
        now: &'a Digest,
    },
    /// The referrers of an image were discovered.
    Discovered {
        /// The image.
        reference: &'a Reference,
        /// What the image's own digest said.
        root: Option<&'a SubjectReport>,
        /// Everything that was found.
        graph: &'a ReferrerGraph,
        /// The time that it was given.
        timeout: Duration,
    },
    /// The policy says something of the bundle that does not forbid it.
    PolicyWarning(&'a Violation),
    /// Everything that the bundle will hold is known.
    Planned {
        /// The size of the bundle in bytes.
        bytes: u64,
        /// The blobs that are to be downloaded.
        blobs: usize,
        /// Their size in bytes.
        blob_bytes: u64,
        /// The blobs that an interrupted export had left whole.
        kept: usize,
        /// The blobs that are left out because the base holds them.
        left_out: usize,
    },
    /// So many more bytes of blobs are in their places. When a blob is whole, they sum up to its size.
    Received {
        /// Their number.
        bytes: u64,
    },
    /// So many bytes of a blob, which had been [received](Self::Received), have to be asked for again.
    Discarded {
        /// Their number.
        bytes: u64,
    },
    /// A blob is in its place.
    Transferred {
        /// Its size in bytes.
        bytes: u64,
    },
    /// So many more bytes of the bundle are in its checksum, which is computed while blobs are still downloaded.
    Hashed {
        /// Their number.
        bytes: u64,
    },
    /// Every blob is in its place, and the bundle is being made durable.
    Syncing,
    /// The bundle is durable, and what is left is its checksum.
    Checksumming,
}
