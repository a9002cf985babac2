//! What the service knows of jobs and runs: what its database keeps, its API answers, and its page shows.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;
use mirror_plan::JobName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The number of a run, such as `20261130-000017`: the day of its creation in UTC, and a number that no other run of the
/// state folder has. Later runs sort after earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct RunId(String);

impl RunId {
    pub(crate) fn new(day: jiff::civil::Date, number: u64) -> Self {
        Self(format!(
            "{:04}{:02}{:02}-{number:06}",
            day.year(),
            day.month(),
            day.day()
        ))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RunId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        match text.split_once('-') {
            Some((day, number))
                if day.len() == 8
                    && (6..=18).contains(&number.len())
                    && digits(day)
                    && digits(number) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err("a run is written YYYYMMDD-NNNNNN"),
        }
    }
}

impl TryFrom<String> for RunId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

/// How far a run is, or how it ended.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RunStatus {
    Queued,
    Running,
    Succeeded,
    /// It ended, and something is missing.
    Incomplete,
    Failed,
    Cancelled,
    /// Its window was over before it began, or before it could go on.
    Expired,
}

impl RunStatus {
    pub(crate) const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Incomplete,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    pub(crate) fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

impl FromStr for RunStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is not a status of a run"))
    }
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RunKind {
    /// It writes the next bundle of a series.
    Bundle,
    /// It copies to a registry or a folder.
    Mirror,
    /// It asks a target whether everything is still there.
    Audit,
}

impl RunKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Mirror => "mirror",
            Self::Audit => "audit",
        }
    }
}

/// Who wanted a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Trigger {
    Schedule,
    /// A caller of the API, by the name of its token; `local` without tokens.
    Caller(String),
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RunProgress {
    /// What is done now, in a word: `probe`, `discovery`, `download`, `checksum`, `mirror`, `audit`.
    pub(crate) phase: String,
    pub(crate) items_completed: u64,
    /// 0 if it is not known.
    pub(crate) items_total: u64,
    pub(crate) bytes_completed: u64,
    /// 0 if it is not known.
    pub(crate) bytes_total: u64,
    /// What the run waits for: a registry that asked it to wait, a budget, or a window.
    pub(crate) waits_for: Option<String>,
}

/// A file that a run made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunOutput {
    /// `bundle` (one for each volume), `manifest` or `report`.
    pub(crate) kind: String,
    pub(crate) path: PathBuf,
    /// The digest of the file, `sha256:<hex>`.
    pub(crate) sha256: String,
    /// In bytes.
    pub(crate) size: u64,
}

/// What a run found of the referrers of its images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RunReferrers {
    pub(crate) total: u64,
    pub(crate) by_category: BTreeMap<String, u64>,
    /// Those that could not be brought, or are not found any more, in words.
    pub(crate) missing: Vec<String>,
}

/// Something that a run has to say, and the next step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunMessage {
    pub(crate) message: String,
    /// The exit code that the command line would have ended with; 0 for a warning.
    pub(crate) code: u8,
}

/// A run, as the database keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) job: JobName,
    pub(crate) kind: RunKind,
    pub(crate) trigger: Trigger,
    pub(crate) status: RunStatus,
    pub(crate) created: Timestamp,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    pub(crate) progress: RunProgress,
    pub(crate) outputs: Vec<RunOutput>,
    pub(crate) referrers: RunReferrers,
    pub(crate) warnings: Vec<RunMessage>,
    pub(crate) errors: Vec<RunMessage>,
    /// The number of the bundle in its series.
    pub(crate) sequence: Option<u64>,
}
