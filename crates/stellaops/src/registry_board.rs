//! What is known of registries while the process runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use oci_content::{Capability, Registry};
use registry_probe::ProbeReport;
use serde::{Deserialize, Serialize};

/// The newest probe of each registry, and what its requests wait for.
#[derive(Debug, Default)]
pub(crate) struct RegistryBoard(Mutex<BTreeMap<Registry, Known>>);

/// What is known of a registry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) probed: Option<Probed>,
    wait: Option<(String, Instant)>,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Probed {
    pub(crate) capability: Capability,
    pub(crate) version: String,
    pub(crate) at: Timestamp,
    /// Why it found nothing.
    pub(crate) failure: Option<String>,
}

impl Known {
    /// Returns what requests to the registry wait for now.
    pub(crate) fn waits(&self) -> Option<&str> {
        let (what, until) = self.wait.as_ref()?;
        (*until > Instant::now()).then_some(what.as_str())
    }
}

impl RegistryBoard {
    pub(crate) fn known(&self) -> BTreeMap<Registry, Known> {
        self.all().clone()
    }

    /// Notes a probe; one from a cache counts from when the registry was asked.
    pub(crate) fn probed(&self, report: &ProbeReport) {
        let age = report
            .cached
            .map(|hit| Duration::from_secs(hit.age_seconds));
        let now = Timestamp::now();
        let at = now.checked_sub(age.unwrap_or_default()).unwrap_or(now);
        let probed = Probed {
            capability: report.capability,
            version: report.version.clone(),
            at,
            failure: report
                .failure
                .as_ref()
                .map(|failure| failure.message.clone()),
        };
        self.restore(report.registry.clone(), probed);
    }

    /// Notes what an earlier process has found.
    pub(crate) fn restore(&self, registry: Registry, probed: Probed) {
        self.all().entry(registry).or_default().probed = Some(probed);
    }

    /// Notes what requests to a registry wait for: for `time` from now, or until it is replaced.
    pub(crate) fn waits(&self, registry: &Registry, what: &str, time: Option<Duration>) {
        // The caller repeats such a wait before this is over.
        const UNTIL_SAID_AGAIN: Duration = Duration::from_secs(10);
        let until = Instant::now().checked_add(time.unwrap_or(UNTIL_SAID_AGAIN));
        let wait = until.map(|until| (what.to_owned(), until));
        self.all().entry(registry.clone()).or_default().wait = wait;
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Registry, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
