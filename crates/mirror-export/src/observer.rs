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
        /// The blobs that an interrupted export had left whole.
        kept: usize,
        /// The blobs that are left out because the base holds them.
        left_out: usize,
    },
    /// A blob is in its place.
    Transferred {
        /// Its size in bytes.
        bytes: u64,
    },
}
