//! What the service reports about jobs, runs, registries and audits.

use jiff::Timestamp;
use mirror_plan::JobName;
use oci_content::{Capability, Registry};
use serde::{Deserialize, Serialize};

use super::model::{Run, RunId, RunKind, RunOutput, RunStatus};
use super::state::StateError;

/// A job of the configuration now in force.
#[derive(Clone, Debug)]
pub(crate) struct JobView {
    pub(crate) name: JobName,
    pub(crate) kind: RunKind,
    /// The cron expression; `None` if the job runs on demand only.
    pub(crate) schedule: Option<String>,
    /// The IANA name of the zone of `schedule`.
    pub(crate) time_zone: Option<String>,
    pub(crate) next: Option<Timestamp>,
    pub(crate) last: Option<Run>,
    pub(crate) last_success: Option<Timestamp>,
    pub(crate) target: String,
    /// The number of entries in `images`.
    pub(crate) images: usize,
}

/// A run that a caller requested.
#[derive(Clone, Debug)]
pub(crate) enum Submitted {
    New(Run),
    /// The caller requested it before, with the same key.
    Again(Run),
}

/// Why a run was not started.
#[derive(Debug)]
pub(crate) enum SubmitError {
    UnknownJob,
    /// This run of the job is under way.
    Busy(RunId),
    /// The caller has used the key for another job.
    KeyReused,
    /// The service is about to end.
    Stopping,
    State(StateError),
}

/// Which runs are listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunQuery {
    pub(crate) job: Option<JobName>,
    pub(crate) status: Option<RunStatus>,
    /// Only runs that are older than this one.
    pub(crate) before: Option<RunId>,
    pub(crate) limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunEventKind {
    Started,
    Progress,
    ArtifactReady,
    Finished,
}

impl RunEventKind {
    const ALL: [Self; 4] = [
        Self::Started,
        Self::Progress,
        Self::ArtifactReady,
        Self::Finished,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Progress => "progress",
            Self::ArtifactReady => "artifact_ready",
            Self::Finished => "finished",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Something that happened in a run.
#[derive(Clone, Debug)]
pub(crate) struct RunEvent {
    /// Counts the events of the run that are kept, from 1. A `progress`, which is not kept, has the number of the event
    /// before it.
    pub(crate) number: u64,
    pub(crate) kind: RunEventKind,
    pub(crate) run: Run,
    pub(crate) at: Timestamp,
    /// The file that is ready.
    pub(crate) output: Option<RunOutput>,
}

/// What is known of a registry.
#[derive(Clone, Debug)]
pub(crate) struct RegistryView {
    pub(crate) registry: Registry,
    pub(crate) capability: Option<Capability>,
    pub(crate) version: Option<String>,
    pub(crate) probed: Option<Timestamp>,
    /// Why the newest probe found nothing.
    pub(crate) failure: Option<String>,
    /// What requests to it wait for now.
    pub(crate) waits: Option<String>,
}

/// What the newest audit of a job found at its target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditView {
    pub(crate) job: JobName,
    pub(crate) at: Timestamp,
    pub(crate) missing: u64,
    pub(crate) changed: u64,
    pub(crate) extra: u64,
    /// The first 100, in words.
    pub(crate) findings: Vec<String>,
    pub(crate) repaired: bool,
}
