use std::io;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use mirror_plan::JobName;

use super::model::{Run, RunId};
use super::state::StateError;
use super::view::{AuditView, JobView, RegistryView, RunEvent, RunQuery, SubmitError, Submitted};
use crate::config::Config;
use crate::log::Log;
use crate::metrics::Metrics;

/// The running service: what the API and the page may ask of it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Center {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Arc<Config>,
    log: Arc<Log>,
    metrics: Arc<Metrics>,
}

impl Center {
    pub(crate) fn new(config: Arc<Config>, log: Arc<Log>, metrics: Arc<Metrics>) -> Self {
        let inner = Inner {
            config,
            log,
            metrics,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Returns the jobs of the configuration now in force, by name.
    pub(crate) fn jobs(&self) -> Vec<JobView> {
        Vec::new()
    }

    /// Starts a run of a job, unless one is under way.
    ///
    /// `key` is an `Idempotency-Key` of the caller: the same key of the same caller gives the first run again for 24 h.
    pub(crate) fn submit(
        &self,
        _job: &JobName,
        _caller: &str,
        _key: Option<&str>,
    ) -> Result<Submitted, SubmitError> {
        Err(SubmitError::UnknownJob)
    }

    /// Ends a run; what was downloaded is kept. Returns `None` if there is no such run.
    pub(crate) fn cancel(&self, _id: &RunId) -> Result<Option<Run>, StateError> {
        Ok(None)
    }

    pub(crate) fn run(&self, _id: &RunId) -> Result<Option<Run>, StateError> {
        Ok(None)
    }

    /// Returns runs, newest first.
    pub(crate) fn runs(&self, _query: &RunQuery) -> Result<Vec<Run>, StateError> {
        Ok(Vec::new())
    }

    /// Returns the events of a run after the one with this number: first what is kept, then what comes; `None` if there is
    /// no such run.
    ///
    /// The stream ends after `finished`. A slow reader loses `progress` events, never others.
    pub(crate) fn events(
        &self,
        _id: &RunId,
        _after: u64,
    ) -> Result<Option<BoxStream<'static, RunEvent>>, StateError> {
        Ok(Some(stream::empty().boxed()))
    }

    /// Returns the last lines of the log of a run, at most 64 KiB, escaped.
    pub(crate) fn log_of(&self, _id: &RunId) -> io::Result<String> {
        Ok(String::new())
    }

    /// Returns what is known of the registries of the configuration.
    pub(crate) fn registries(&self) -> Vec<RegistryView> {
        Vec::new()
    }

    /// Returns what the newest audit of each job found.
    pub(crate) fn audits(&self) -> Result<Vec<AuditView>, StateError> {
        Ok(Vec::new())
    }

    /// Returns whether the state folder can be written and the last reload succeeded, or why not.
    pub(crate) fn ready(&self) -> Result<(), Vec<String>> {
        Ok(())
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.inner.log
    }

    /// Returns the configuration now in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.inner.config)
    }
}
