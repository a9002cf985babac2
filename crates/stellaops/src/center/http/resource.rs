//! The JSON that the API answers with, and takes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::center::model::{Run, RunId, RunKind, RunMessage, RunOutput, RunStatus, Trigger};
use crate::center::view::JobView;

/// A page of profiles.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProfileList {
    pub(crate) profiles: Vec<Profile>,
    /// The `cursor` of the next page; `null` on the last one.
    pub(crate) next_cursor: Option<String>,
}

/// A job of the configuration.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    /// The name of the job.
    #[schema(example = "nightly")]
    profile_id: String,
    kind: ProfileKind,
    /// What its runs do.
    variant: RunKind,
    /// A cron expression; `null` if the job runs on demand only.
    #[schema(example = "0 2 * * *")]
    schedule: Option<String>,
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    next_run_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_success_at: Option<Timestamp>,
    last_run_id: Option<String>,
    last_run_status: Option<RunStatus>,
    /// Where its runs put what they bring.
    target: String,
}

/// The kinds of profiles of StellaOps. The jobs of this service are all of the kind `mirror`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ProfileKind {
    Attestation,
    Mirror,
    Bootstrap,
    AirgapEvidence,
}

impl std::str::FromStr for ProfileKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "attestation" => Ok(Self::Attestation),
            "mirror" => Ok(Self::Mirror),
            "bootstrap" => Ok(Self::Bootstrap),
            "airgap-evidence" => Ok(Self::AirgapEvidence),
            _ => Err("it is attestation, mirror, bootstrap or airgap-evidence"),
        }
    }
}

impl From<&JobView> for Profile {
    fn from(job: &JobView) -> Self {
        Self {
            profile_id: job.name.to_string(),
            kind: ProfileKind::Mirror,
            variant: job.kind,
            schedule: job.schedule.clone(),
            time_zone: job.time_zone.clone(),
            next_run_at: job.next,
            last_success_at: job.last_success,
            last_run_id: job.last.as_ref().map(|run| run.id.to_string()),
            last_run_status: job.last.as_ref().map(|run| run.status),
            target: job.target.clone(),
        }
    }
}

/// Which job is to run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RunRequest {
    #[schema(example = "nightly", min_length = 1, max_length = 64)]
    pub(crate) profile_id: String,
}

/// A run that was started, or that was started before with the same `Idempotency-Key`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunAccepted {
    run_id: String,
    status: RunStatus,
    links: RunLinks,
}

/// Where more is told of a run.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunLinks {
    status: String,
    events: String,
}

impl RunLinks {
    pub(crate) fn of(id: &RunId) -> Self {
        let status = format!("/v1/exports/runs/{id}");
        Self {
            events: format!("{status}/events"),
            status,
        }
    }

    pub(crate) fn status(&self) -> &str {
        &self.status
    }

    pub(crate) fn events(&self) -> &str {
        &self.events
    }
}

impl From<&Run> for RunAccepted {
    fn from(run: &Run) -> Self {
        Self {
            run_id: run.id.to_string(),
            status: run.status,
            links: RunLinks::of(&run.id),
        }
    }
}

/// A page of runs, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunList {
    pub(crate) runs: Vec<RunResource>,
    /// The `cursor` of the next page; `null` on the last one.
    pub(crate) next_cursor: Option<String>,
}

/// A run of a job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Run)]
pub(crate) struct RunResource {
    #[schema(example = "20261130-000017")]
    run_id: String,
    profile_id: String,
    variant: RunKind,
    status: RunStatus,
    /// Who wanted it: `schedule`, or the name of a token.
    #[schema(example = "schedule")]
    trigger: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    progress: Progress,
    outputs: Vec<Output>,
    referrers: Referrers,
    warnings: Vec<Message>,
    errors: Vec<Message>,
    /// The number of the bundle in its series.
    sequence: Option<u64>,
    links: RunLinks,
}

/// How far a run is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Progress {
    #[schema(maximum = 100)]
    percent: u64,
    /// What is done now.
    #[schema(example = "download")]
    phase: String,
    items_completed: u64,
    /// 0 if it is not known.
    items_total: u64,
    bytes_completed: u64,
    /// 0 if it is not known.
    bytes_total: u64,
    /// What the run waits for, in words.
    waits_for: Option<String>,
}

/// A file that a run made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Output {
    /// `bundle` (one for each volume), `manifest` or `report`.
    #[serde(rename = "type")]
    kind: String,
    url: String,
    #[schema(example = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    sha256: String,
    /// In bytes.
    size: u64,
}

/// What a run found of the referrers of its images.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Referrers {
    total: u64,
    by_category: BTreeMap<String, u64>,
    /// Those that could not be brought, in words.
    missing: Vec<String>,
}

/// Something that a run has to say.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Message {
    /// With the next step.
    message: String,
    /// The exit code that the command line would have ended with; 0 for a warning.
    code: u8,
}

/// A file that is ready, in the event `artifact_ready`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ArtifactReady {
    run_id: String,
    #[schema(value_type = String, format = DateTime)]
    ready_at: Timestamp,
    #[serde(flatten)]
    output: Output,
}

impl ArtifactReady {
    pub(crate) fn new(run: &Run, output: &RunOutput, ready_at: Timestamp) -> Self {
        let known = run
            .outputs
            .iter()
            .position(|other| other.path == output.path);
        let number = known.map_or(1, |index| number_of(run, index));
        Self {
            run_id: run.id.to_string(),
            ready_at,
            output: Output::new(run, output, number),
        }
    }
}

impl Output {
    fn new(run: &Run, output: &RunOutput, number: usize) -> Self {
        let base = RunLinks::of(&run.id).status;
        Self {
            url: match output.kind.as_str() {
                "manifest" | "report" => format!("{base}/{}", output.kind),
                _ => format!("{base}/download?output={number}"),
            },
            kind: output.kind.clone(),
            sha256: output.sha256.clone(),
            size: output.size,
        }
    }

    pub(crate) fn all_of(run: &Run) -> Vec<Self> {
        let outputs = run.outputs.iter().enumerate();
        outputs
            .map(|(index, output)| Self::new(run, output, number_of(run, index)))
            .collect()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// Returns the number of a file among the files of its kind, from 1.
fn number_of(run: &Run, index: usize) -> usize {
    let kind = run.outputs.get(index).map(|output| &output.kind);
    let until = run.outputs.iter().take(index + 1);
    until.filter(|output| Some(&output.kind) == kind).count()
}

/// Returns how far a run is, in percent.
pub(crate) fn percent(run: &Run) -> u64 {
    let progress = &run.progress;
    let (done, all) = if progress.bytes_total > 0 {
        (progress.bytes_completed, progress.bytes_total)
    } else {
        (progress.items_completed, progress.items_total)
    };
    if run.status == RunStatus::Succeeded {
        100
    } else if all == 0 {
        0
    } else {
        let percent = u128::from(done) * 100 / u128::from(all);
        u64::try_from(percent).unwrap_or(100).min(100)
    }
}

impl From<&RunMessage> for Message {
    fn from(message: &RunMessage) -> Self {
        Self {
            message: message.message.clone(),
            code: message.code,
        }
    }
}

impl From<&Run> for RunResource {
    fn from(run: &Run) -> Self {
        let progress = &run.progress;
        Self {
            run_id: run.id.to_string(),
            profile_id: run.job.to_string(),
            variant: run.kind,
            status: run.status,
            trigger: match &run.trigger {
                Trigger::Schedule => "schedule".to_owned(),
                Trigger::Caller(name) => name.clone(),
            },
            created_at: run.created,
            started_at: run.started,
            finished_at: run.finished,
            progress: Progress {
                percent: percent(run),
                phase: progress.phase.clone(),
                items_completed: progress.items_completed,
                items_total: progress.items_total,
                bytes_completed: progress.bytes_completed,
                bytes_total: progress.bytes_total,
                waits_for: progress.waits_for.clone(),
            },
            outputs: Output::all_of(run),
            referrers: Referrers {
                total: run.referrers.total,
                by_category: run.referrers.by_category.clone(),
                missing: run.referrers.missing.clone(),
            },
            warnings: run.warnings.iter().map(Message::from).collect(),
            errors: run.errors.iter().map(Message::from).collect(),
            sequence: run.sequence,
            links: RunLinks::of(&run.id),
        }
    }
}

/// Whether the service can work.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Readiness {
    pub(crate) status: ReadinessStatus,
    /// Why it is not ready, in words.
    pub(crate) reasons: Vec<String>,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReadinessStatus {
    Ready,
    NotReady,
}
