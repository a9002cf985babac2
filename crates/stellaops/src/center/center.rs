use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use jiff::Timestamp;
use mirror_plan::JobName;
use oci_content::{FileSystemGaps, with_causes};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use super::live::{self, Live, Stop};
use super::model::{Run, RunId, RunKind, Trigger};
use super::notify::{DeliveryStore, Notifier};
use super::state::{Asked, NewRun, State, StateError};
use super::timers::{Purpose, Timer, Timers};
use super::view::{AuditView, JobView, RegistryView, RunEvent, RunQuery, SubmitError, Submitted};
use crate::cli::Connections;
use crate::config::{self, Config, JobConfig, JobTarget};
use crate::context::{self, Context, Process};
use crate::exit::{Exit, Failure};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::registry_board::RegistryBoard;

/// The most runs that work at once; more wait.
const MAX_RUNS: usize = 4;
/// The most bytes of the log of a run that are returned.
const MAX_LOG_BYTES: u64 = 64 << 10;
/// How long the result of a check of the state is reused.
const CHECKED: Duration = Duration::from_secs(5);

/// The running service: what the API and the page may ask of it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Center {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) state: Arc<State>,
    pub(super) process: Process,
    connections: Connections,
    config_file: PathBuf,
    current: Mutex<Arc<Current>>,
    live: Mutex<BTreeMap<RunId, Live>>,
    pub(super) timers: Mutex<Timers>,
    is_stopping: AtomicBool,
    /// Why the last reload failed.
    reload_fault: Mutex<Option<String>>,
    checked: Mutex<Option<(Instant, Result<(), String>)>>,
    /// One permit for each run that works.
    pub(super) places: Arc<Semaphore>,
    /// Notified when something changes that a schedule may be waiting for.
    pub(super) woken: Notify,
    /// Notified when a run ends.
    pub(super) emptied: Notify,
    pub(super) notifier: Notifier,
    pub(super) runtime: Handle,
}

/// The configuration in force, and what follows from it.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) context: Context,
}

impl Center {
    /// Opens the state of a configuration. Nothing runs yet.
    pub(super) fn open(
        config: Config,
        config_file: PathBuf,
        connections: Connections,
        log: Arc<Log>,
        runtime: Handle,
    ) -> Result<Self, Failure> {
        config::demand(&config)?;
        let gaps = FileSystemGaps::default();
        let state = Arc::new(State::open(&config.center.state, &gaps)?);
        let board = RegistryBoard::default();
        for (registry, probed) in state.probes()? {
            board.restore(registry, probed);
        }
        let process = Process {
            progress: Progress::watched(Arc::clone(&log)),
            log,
            metrics: Arc::default(),
            board: Arc::new(board),
            gaps,
            receipts: Some(Arc::<State>::clone(&state)),
            cache: Some(state.cache()),
        };
        let context =
            Context::of_process(&process, &connections, config, context::Purpose::SERVICE)?;
        let store: Arc<dyn DeliveryStore> = Arc::<State>::clone(&state);
        let notifier = Notifier::new(store, Arc::clone(&process.log))
            .map_err(|error| Failure::new(Exit::LocalIo, with_causes(&error)))?;
        let center = Self {
            inner: Arc::new(Inner {
                state,
                process,
                connections,
                config_file,
                current: Mutex::new(Arc::new(Current { context })),
                live: Mutex::default(),
                timers: Mutex::default(),
                is_stopping: AtomicBool::new(false),
                reload_fault: Mutex::default(),
                checked: Mutex::default(),
                places: Arc::new(Semaphore::new(MAX_RUNS)),
                woken: Notify::new(),
                emptied: Notify::new(),
                notifier,
                runtime,
            }),
        };
        center.expect_metrics();
        center.restore_metrics()?;
        *locked(&center.inner.timers) = center.timers_of(&center.config())?;
        Ok(center)
    }

    /// Reads the configuration again. If it is wrong, the one in force stays, and the fault is shown by
    /// [`ready`](Self::ready).
    pub(super) fn reload(&self) {
        let log = self.log();
        match self.try_reload() {
            Ok(()) => {
                *locked(&self.inner.reload_fault) = None;
                log.info("The configuration is read again and in force");
            }
            Err(failure) => {
                log.failure(&failure);
                log.warn("The configuration in force stays as it was");
                let fault = format!("the last reload failed: {failure}");
                *locked(&self.inner.reload_fault) = Some(fault);
            }
        }
        self.inner.woken.notify_one();
    }

    fn try_reload(&self) -> Result<(), Failure> {
        let inner = &self.inner;
        let config = Config::read(&inner.config_file)?;
        config::demand(&config)?;
        let (old, new) = (self.config(), &config.center);
        let fixed = [
            ("listen", old.center.listen != new.listen),
            ("state", old.center.state != new.state),
            ("log_file", old.center.log_file != new.log_file),
        ];
        let purpose = context::Purpose::SERVICE;
        let context = Context::of_process(&inner.process, &inner.connections, config, purpose)?;
        // The last that can fail: until here, nothing has changed.
        let timers = self.timers_of(&context.config)?;
        for (key, _) in fixed.into_iter().filter(|(_, has_changed)| *has_changed) {
            self.log().warn(&format!(
                "center.{key} has changed, which takes a restart of the service"
            ));
        }
        *locked(&inner.current) = Arc::new(Current { context });
        *locked(&inner.timers) = timers;
        self.expect_metrics();
        Ok(())
    }

    /// Creates the counters of the registries and jobs of the configuration at 0.
    fn expect_metrics(&self) {
        let config = self.config();
        for registry in config.registries() {
            self.metrics().expect(&registry);
        }
        for job in config.jobs.keys() {
            self.metrics().expect_job(job);
            self.metrics().expect_runs(job);
        }
    }

    /// Sets the gauges to what they were when the service ended.
    fn restore_metrics(&self) -> Result<(), StateError> {
        let state = &self.inner.state;
        for job in self.config().jobs.keys() {
            let success = state.last_success(job)?;
            if let Some(finished) = success.and_then(|run| run.finished) {
                self.metrics().job_succeeded(job, finished);
            }
        }
        for audit in state.audits()? {
            let counts = [audit.missing, audit.changed, audit.extra];
            self.metrics().drift(audit.job.as_str(), counts);
        }
        Ok(())
    }

    /// Returns the jobs of the configuration now in force, by name.
    pub(crate) fn jobs(&self) -> Vec<JobView> {
        let config = self.config();
        config
            .jobs
            .iter()
            .map(|(name, job)| self.job(name, job))
            .collect()
    }

    fn job(&self, name: &JobName, config: &JobConfig) -> JobView {
        let state = &self.inner.state;
        let timers = locked(&self.inner.timers);
        let timer = timers.get(&(name.clone(), Purpose::Run));
        // A state that cannot be read is reported by `ready`.
        let last = state.last_run(name).ok().flatten();
        let success = state.last_success(name).ok().flatten();
        JobView {
            name: name.clone(),
            kind: kind(config),
            schedule: config
                .schedule
                .as_ref()
                .map(|schedule| schedule.cron.as_str().to_owned()),
            time_zone: timer.map(|timer| timer.zone_name().to_owned()),
            next: timer.and_then(Timer::next),
            last: last.map(|run| self.as_it_is_now(run)),
            last_success: success.and_then(|run| run.finished),
            target: config.to.to_string(),
            images: config.images.len(),
        }
    }

    /// Returns when a job runs next.
    pub(crate) fn next_run(&self, job: &JobName) -> Option<Timestamp> {
        let timers = locked(&self.inner.timers);
        timers.get(&(job.clone(), Purpose::Run))?.next()
    }

    /// Returns the newest run of each job that has ended, and the newest audit of each job that is audited.
    pub(crate) fn ended(&self) -> Result<Vec<Run>, StateError> {
        let (config, state) = (self.config(), &self.inner.state);
        let mut ended = Vec::new();
        for (name, job) in &config.jobs {
            ended.extend(state.last_ended(name, false)?);
            if job.audit.is_some() {
                ended.extend(state.last_ended(name, true)?);
            }
        }
        Ok(ended)
    }

    /// Starts a run of a job, unless one is under way.
    ///
    /// `key` is an `Idempotency-Key` of the caller: the same key of the same caller gives the first run again for 24 h.
    pub(crate) fn submit(
        &self,
        job: &JobName,
        caller: &str,
        key: Option<&str>,
    ) -> Result<Submitted, SubmitError> {
        if self.is_stopping() {
            return Err(SubmitError::Stopping);
        }
        let config = self.config();
        let config = config.jobs.get(job).ok_or(SubmitError::UnknownJob)?;
        let new = NewRun {
            job: job.clone(),
            kind: kind(config),
            trigger: Trigger::Caller(caller.to_owned()),
            at: Timestamp::now(),
        };
        let key = key.map(|key| (caller, key));
        match self.inner.state.add_run(&new, key) {
            Ok(Asked::New(run)) => {
                self.begin(run.clone(), 0);
                Ok(Submitted::New(run))
            }
            Ok(Asked::Again(run)) => Ok(Submitted::Again(self.as_it_is_now(run))),
            Ok(Asked::Busy(id)) => Err(SubmitError::Busy(id)),
            Ok(Asked::KeyReused) => Err(SubmitError::KeyReused),
            Err(error) => Err(SubmitError::State(error)),
        }
    }

    /// Ends a run; what was downloaded is kept. Returns `None` if there is no such run.
    pub(crate) fn cancel(&self, id: &RunId) -> Result<Option<Run>, StateError> {
        if let Some(live) = self.live().get(id) {
            live.stop.send_replace(Some(Stop::Cancelled));
        }
        self.run(id)
    }

    pub(crate) fn run(&self, id: &RunId) -> Result<Option<Run>, StateError> {
        let run = self.inner.state.run(id)?;
        Ok(run.map(|run| self.as_it_is_now(run)))
    }

    /// Returns runs, newest first.
    pub(crate) fn runs(&self, query: &RunQuery) -> Result<Vec<Run>, StateError> {
        let runs = self.inner.state.runs(query)?;
        Ok(runs.into_iter().map(|run| self.as_it_is_now(run)).collect())
    }

    /// Returns the events of a run after the one with this number: first what is kept, then what comes; `None` if there is
    /// no such run.
    ///
    /// The stream ends after `finished`. A slow reader loses `progress` events, never others.
    pub(crate) fn events(
        &self,
        id: &RunId,
        after: u64,
    ) -> Result<Option<BoxStream<'static, RunEvent>>, StateError> {
        // Looked up first: what ends in between is in the database by then.
        let live = self.live().get(id).map(|live| live.view.subscribe());
        let run = self.run(id)?;
        Ok(run.map(|run| live::events(self.clone(), &run, live, after)))
    }

    pub(super) fn kept_events(&self, id: &RunId, after: u64) -> Result<Vec<RunEvent>, StateError> {
        let rows = self.inner.state.events(id, after)?;
        let Some(run) = self.run(id)? else {
            return Ok(Vec::new());
        };
        Ok(rows.into_iter().map(|row| live::kept(row, &run)).collect())
    }

    /// Returns the last lines of the log of a run, at most 64 KiB, escaped.
    pub(crate) fn log_of(&self, id: &RunId) -> io::Result<String> {
        let mut file = File::open(self.inner.state.file_of_run(id.as_str(), "log"))?;
        let size = file.metadata()?.len();
        let skipped = size.saturating_sub(MAX_LOG_BYTES);
        file.seek(SeekFrom::Start(skipped))?;
        let mut bytes = Vec::new();
        file.take(MAX_LOG_BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        // The log escapes what it writes.
        Ok(match text.split_once('\n') {
            Some((_, whole)) if skipped > 0 => whole.to_owned(),
            _ => text.into_owned(),
        })
    }

    /// Returns what is known of the registries of the configuration.
    pub(crate) fn registries(&self) -> Vec<RegistryView> {
        let known = self.inner.process.board.known();
        let registries = self.config().registries().into_iter();
        registries
            .map(|registry| {
                let known = known.get(&registry);
                let probed = known.and_then(|known| known.probed.as_ref());
                RegistryView {
                    capability: probed.map(|probed| probed.capability),
                    version: probed.map(|probed| probed.version.clone()),
                    probed: probed.map(|probed| probed.at),
                    failure: probed.and_then(|probed| probed.failure.clone()),
                    waits: known.and_then(|known| known.waits()).map(str::to_owned),
                    registry,
                }
            })
            .collect()
    }

    /// Returns what the newest audit of each job found.
    pub(crate) fn audits(&self) -> Result<Vec<AuditView>, StateError> {
        self.inner.state.audits()
    }

    /// Returns whether the state folder can be written and the last reload succeeded, or why not.
    pub(crate) fn ready(&self) -> Result<(), Vec<String>> {
        let mut faults: Vec<_> = locked(&self.inner.reload_fault).iter().cloned().collect();
        if self.is_stopping() {
            faults.push("the service is about to end".to_owned());
        } else if let Err(fault) = self.check_state() {
            faults.push(fault);
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    fn check_state(&self) -> Result<(), String> {
        let mut checked = locked(&self.inner.checked);
        if let Some((at, result)) = &*checked
            && at.elapsed() < CHECKED
        {
            return result.clone();
        }
        let result = self.inner.state.check_writable();
        let result = result.map_err(|error| with_causes(&error));
        *checked = Some((Instant::now(), result.clone()));
        result
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.process.metrics
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.inner.process.log
    }

    /// Returns the configuration now in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.current().context.config)
    }

    pub(super) fn current(&self) -> Arc<Current> {
        Arc::clone(&locked(&self.inner.current))
    }

    pub(super) fn live(&self) -> MutexGuard<'_, BTreeMap<RunId, Live>> {
        locked(&self.inner.live)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.inner.is_stopping.load(Ordering::Acquire)
    }

    /// Ends all runs, which go on at the next start, and waits for that for at most `patience`.
    pub(super) async fn stop(&self, patience: Duration) {
        self.inner.is_stopping.store(true, Ordering::Release);
        for live in self.live().values() {
            // A run that is being cancelled stays cancelled.
            live.stop
                .send_if_modified(|stop| stop.is_none() && stop.replace(Stop::Service).is_none());
        }
        let empty = async {
            loop {
                let emptied = self.inner.emptied.notified();
                if self.live().is_empty() {
                    return;
                }
                emptied.await;
            }
        };
        if tokio::time::timeout(patience, empty).await.is_err() {
            let left: Vec<_> = self.live().keys().map(ToString::to_string).collect();
            let seconds = patience.as_secs();
            self.log().warn(&format!(
                "These runs did not end within {seconds} s, and go on at the next start: {}",
                left.join(", ")
            ));
        }
    }

    /// Returns a run of the database as it is now, if it has not ended.
    fn as_it_is_now(&self, run: Run) -> Run {
        match self.live().get(&run.id) {
            Some(live) => live.view.borrow().run.clone(),
            None => run,
        }
    }
}

/// Returns what runs of a job do.
pub(super) fn kind(job: &JobConfig) -> RunKind {
    match job.to {
        JobTarget::Bundle(_) => RunKind::Bundle,
        JobTarget::Mirror(_) => RunKind::Mirror,
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
