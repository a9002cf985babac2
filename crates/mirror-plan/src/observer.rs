use std::fmt;
use std::time::Duration;

use oci_content::{Digest, Reference};
use oci_referrers::{ReferrerGraph, SubjectReport, Violation};
use registry_probe::ProbeReport;

use crate::origin::Origin;

/// Receives the events of a planner as they happen.
pub trait PlanObserver: fmt::Debug + Send + Sync {
    /// Called for each event, possibly from several threads.
    fn planning(&self, event: PlanEvent<'_>);
}

/// An observer that ignores everything.
impl PlanObserver for () {
    fn planning(&self, _: PlanEvent<'_>) {}
}

/// Something that happened while a mirror was planned.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum PlanEvent<'a> {
    /// Registries are going to be probed. Folders are not.
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
    /// The tag of an image that was given with tag and digest has moved.
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
        /// Where it is.
        origin: &'a Origin,
        /// The report about the image's own digest.
        root: Option<&'a SubjectReport>,
        /// Everything that was found.
        graph: &'a ReferrerGraph,
        /// The time limit of the image.
        timeout: Duration,
    },
    /// The policy warns of something that it does not forbid.
    PolicyWarning(&'a Violation),
}
