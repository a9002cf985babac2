use std::fmt;
use std::time::Duration;

use oci_content::{Digest, Reference};
use oci_referrers::{ReferrerGraph, SubjectReport, Violation};
use registry_probe::ProbeReport;

/// Is told what a planner does, as it happens.
pub trait PlanObserver: fmt::Debug + Send + Sync {
    /// Is called for each event, possibly from several threads.
    fn planning(&self, event: PlanEvent<'_>);
}

/// Nobody is told.
impl PlanObserver for () {
    fn planning(&self, _: PlanEvent<'_>) {}
}

/// Something that happened while a mirror was planned.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum PlanEvent<'a> {
    /// Registries are going to be probed.
    #[non_exhaustive]
    Probing {
        /// Their number.
        registries: usize,
    },
    /// A registry was probed.
    Probed(&'a ProbeReport),
    /// The referrers of images are going to be discovered.
    #[non_exhaustive]
    Discovering {
        /// Their number.
        images: usize,
    },
    /// The tag of an image that was given with a digest is elsewhere now.
    #[non_exhaustive]
    TagMoved {
        /// The image.
        reference: &'a Reference,
        /// What the tag holds now.
        now: &'a Digest,
    },
    /// The referrers of an image were discovered.
    #[non_exhaustive]
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
    /// The policy notes something that it does not forbid.
    PolicyWarning(&'a Violation),
}
