//! Makes runs: one thread for each, so that a disk that blocks one holds up nothing else.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use oci_content::with_causes;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::center::{Center, kind};
use super::live::{Live, LiveRun, Stop};
use super::model::{Run, RunId, RunKind, RunMessage, RunOutput, RunProgress, RunStatus, Trigger};
use super::notify::{Delivery, deliveries};
use super::state::{NewEvent, State, StateError};
use super::view::RunEventKind;
use super::{audit_job, bundle_job, mirror_job};
use crate::config::{JobConfig, JobTarget};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::log::{Log, escape};
use crate::progress::{Now, Progress};
use crate::window::DailyWindow;

/// The time between two looks at how far a run is.
const LOOK: Duration = Duration::from_secs(1);
/// The time between two tries to write the end of a run.
const RETRY: Duration = Duration::from_secs(10);
/// The stack size of a main thread.
const STACK_BYTES: usize = 8 << 20;

/// A run while it works.
pub(super) struct Running<'a> {
    center: &'a Center,
    pub(super) context: &'a Context,
    pub(super) job: &'a JobConfig,
    pub(super) run: Run,
}

/// What a run has produced.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) outputs: Vec<RunOutput>,
    /// What could no longer be found, in words.
    pub(super) missing: Vec<String>,
}

/// How a run ended, and what it said.
struct Outcome {
    status: RunStatus,
    work: Work,
    errors: Vec<RunMessage>,
    /// The context of the run, if it has begun.
    context: Option<Context>,
}

impl Outcome {
    fn new(status: RunStatus) -> Self {
        Self {
            status,
            work: Work::default(),
            errors: Vec::new(),
            context: None,
        }
    }

    fn failed(failure: &Failure) -> Self {
        let status = if failure.is(Exit::Incomplete) {
            RunStatus::Incomplete
        } else {
            RunStatus::Failed
        };
        Self {
            errors: vec![RunMessage {
                message: escape(&failure.to_string()),
                code: failure.code(),
            }],
            ..Self::new(status)
        }
    }
}

impl Running<'_> {
    pub(super) fn state(&self) -> &State {
        &self.center.inner.state
    }

    /// Keeps the number of the bundle that the run writes, so that it goes on with the same one after a restart.
    pub(super) fn set_sequence(&mut self, sequence: u64) -> Result<(), Failure> {
        self.run.sequence = Some(sequence);
        self.state().save_run(&self.run, &[])?;
        if let Some(live) = self.center.live().get(&self.run.id) {
            live.view
                .send_modify(|view| view.run.sequence = Some(sequence));
        }
        Ok(())
    }

    async fn work(&mut self, work: &mut Work) -> Result<(), Failure> {
        match (self.run.kind, &self.job.to) {
            (RunKind::Audit, _) => audit_job::run(self).await,
            (_, JobTarget::Bundle(to)) => bundle_job::run(self, to, work).await,
            (_, JobTarget::Mirror(to)) => mirror_job::run(self, to, work).await,
        }
    }
}

impl Center {
    /// Resumes the runs that had not ended when the service did.
    pub(super) fn recover(&self) -> Result<(), StateError> {
        let config = self.config();
        for mut run in self.inner.state.unfinished()? {
            let obstacle = obstacle(&run, config.jobs.get(&run.job));
            run.progress = RunProgress::default();
            if let Some((status, message)) = obstacle {
                run.status = status;
                let now = Timestamp::now();
                run.finished = Some(now);
                run.errors.push(message);
                let events = [NewEvent::finished(now)];
                let told = self.deliveries(&run);
                self.inner.state.end_run(&run, &events, &told)?;
                self.tell_unbegun(run);
                continue;
            }
            let events = self.inner.state.save_run(&run, &[])?;
            self.log().info(&format!(
                "Run {} of job {} was {} when the service ended, and goes on",
                run.id,
                run.job,
                run.status.as_str()
            ));
            self.begin(run, events);
        }
        Ok(())
    }

    /// Reports the end of a run that never begins.
    pub(super) fn tell_unbegun(&self, run: Run) {
        let log = self.log_of_run(&run);
        for error in &run.errors {
            log.error(&error.message);
        }
        self.tell_end(&run, &log);
    }

    /// Returns who is to be told of the end of a run.
    fn deliveries(&self, run: &Run) -> Vec<Delivery> {
        let config = self.config();
        let job = config.jobs.get(&run.job);
        job.map(|job| deliveries(run, &job.notify, Timestamp::now()))
            .unwrap_or_default()
    }

    /// Begins a run, or goes on with one that has this many events.
    pub(super) fn begin(&self, run: Run, events: u64) {
        let id = run.id.clone();
        let (stop, stopped) = watch::channel(None);
        let view = watch::Sender::new(LiveRun { run, events });
        self.live().insert(id.clone(), Live { view, stop });
        let center = self.clone();
        self.inner
            .runtime
            .spawn(async move { center.see_through(&id, stopped).await });
    }

    async fn see_through(self, id: &RunId, mut stop: watch::Receiver<Option<Stop>>) {
        let place = tokio::select! {
            place = Arc::clone(&self.inner.places).acquire_owned() => place,
            stop = stopped(&mut stop) => return self.end_or_leave(id, stop).await,
        };
        let (send, ended) = oneshot::channel();
        let (worker, own) = (self.clone(), id.clone());
        let thread = thread::Builder::new()
            .name("run".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let runtime = worker.inner.runtime.clone();
                let outcome = runtime.block_on(worker.carry_out(&own, stop));
                send.send(outcome).ok();
            });
        let outcome = match thread {
            Ok(_) => ended.await.unwrap_or_else(|_| {
                // The thread panicked, and the panic hook has printed why.
                let message =
                    "the run ended by a bug of this program, which the service printed on stderr";
                Some(Outcome::failed(&Failure::new(Exit::Bug, message)))
            }),
            Err(error) => {
                let message = format!("no thread for the run: {error}");
                Some(Outcome::failed(&Failure::new(Exit::LocalIo, message)))
            }
        };
        drop(place);
        match outcome {
            Some(outcome) => self.end(id, outcome).await,
            None => self.leave(id),
        }
    }

    async fn end_or_leave(&self, id: &RunId, stop: Stop) {
        match stop {
            Stop::Cancelled => self.end(id, Outcome::new(RunStatus::Cancelled)).await,
            Stop::Service => self.leave(id),
        }
    }

    /// Leaves a run to the next start.
    fn leave(&self, id: &RunId) {
        self.live().remove(id);
        self.inner.emptied.notify_waiters();
    }

    /// Does the work of a run; returns `None` if the service ends in the meantime.
    async fn carry_out(
        &self,
        id: &RunId,
        mut stop: watch::Receiver<Option<Stop>>,
    ) -> Option<Outcome> {
        let mut run = self.live().get(id)?.view.borrow().run.clone();
        let current = self.current();
        let Some(job) = current.context.config.jobs.get(&run.job) else {
            let message = format!("the configuration has no job {} any more", run.job);
            return Some(Outcome::failed(&Failure::new(Exit::Usage, message)));
        };
        let log = Arc::new(self.log_of_run(&run));
        let has_begun = run.started.is_some();
        run.status = RunStatus::Running;
        let now = *run.started.get_or_insert_with(Timestamp::now);
        let started = NewEvent {
            kind: RunEventKind::Started,
            at: now,
            output: None,
        };
        let events: &[_] = if has_begun { &[] } else { &[started] };
        match self.inner.state.save_run(&run, events) {
            Ok(events) => self.show(LiveRun {
                run: run.clone(),
                events,
            }),
            Err(error) => return Some(Outcome::failed(&error.into())),
        }
        let how = if has_begun { "goes on" } else { "begins" };
        log.info(&format!("The run {how}: {}", describe(&run, job)));
        let progress = Progress::watched(Arc::clone(&log));
        let context = current.context.for_run(log, progress.clone());
        let context = context.for_job(&run.job, window(job, run.kind));
        let watching = self.clone().watch(id.clone(), progress);
        let watching = self.inner.runtime.spawn(watching);
        let mut work = Work::default();
        let mut running = Running {
            center: self,
            context: &context,
            job,
            run,
        };
        let result = tokio::select! {
            result = running.work(&mut work) => Ok(result),
            stop = stopped(&mut stop) => Err(stop),
        };
        watching.abort();
        context.log.warn_of_gaps(&context.gaps);
        context.warn_of_caches();
        let outcome = match result {
            Ok(Ok(())) => Outcome::new(RunStatus::Succeeded),
            Ok(Err(failure)) => {
                let failure = context.explained(failure);
                context.log.failure(&failure);
                Outcome::failed(&failure)
            }
            Err(Stop::Cancelled) => Outcome::new(RunStatus::Cancelled),
            Err(Stop::Service) => {
                context
                    .log
                    .info("The run is interrupted, and goes on at the next start of the service");
                return None;
            }
        };
        Some(Outcome {
            work,
            context: Some(context),
            ..outcome
        })
    }

    /// Shows how far a run is, until it is aborted.
    async fn watch(self, id: RunId, progress: Progress) {
        loop {
            sleep(LOOK).await;
            let now = of_now(progress.now());
            if let Some(live) = self.live().get(&id) {
                live.view.send_if_modified(|view| {
                    let has_changed = view.run.progress != now;
                    view.run.progress.clone_from(&now);
                    has_changed
                });
            }
        }
    }

    fn show(&self, now: LiveRun) {
        if let Some(live) = self.live().get(&now.run.id) {
            live.view.send_replace(now);
        }
    }

    /// Saves and reports how a run ended.
    async fn end(&self, id: &RunId, outcome: Outcome) {
        let Some(mut run) = self
            .live()
            .get(id)
            .map(|live| live.view.borrow().run.clone())
        else {
            return;
        };
        let now = Timestamp::now();
        run.status = outcome.status;
        run.finished = Some(now);
        run.errors = outcome.errors;
        run.outputs = outcome.work.outputs;
        let log = match &outcome.context {
            Some(context) => {
                describe_findings(&mut run, context, outcome.work.missing);
                Arc::clone(&context.log)
            }
            None => Arc::new(self.log_of_run(&run)),
        };
        let ready = run.outputs.iter().map(|output| NewEvent {
            kind: RunEventKind::ArtifactReady,
            at: now,
            output: Some(output.clone()),
        });
        let mut events: Vec<_> = ready.collect();
        events.push(NewEvent::finished(now));
        let deliveries = self.deliveries(&run);
        let mut is_told = false;
        let number = loop {
            match self.inner.state.end_run(&run, &events, &deliveries) {
                Ok(number) => break number,
                Err(error) => {
                    if !is_told {
                        log.error(&format!(
                            "The end of the run, {}, cannot be written yet: {}",
                            run.status.as_str(),
                            with_causes(&error)
                        ));
                        is_told = true;
                    }
                    if self.is_stopping() {
                        return self.leave(id);
                    }
                    sleep(RETRY).await;
                }
            }
        };
        let probes = self.inner.process.board.known().into_iter();
        let probes = probes.filter_map(|(registry, known)| Some((registry, known.probed?)));
        // They only spare a look at registries after a restart.
        self.inner.state.save_probes(&probes.collect()).ok();
        self.show(LiveRun {
            run: run.clone(),
            events: number,
        });
        self.tell_end(&run, &log);
        self.leave(id);
        self.inner.woken.notify_one();
    }

    /// Logs and counts the end of a run, and wakes the notifier.
    fn tell_end(&self, run: &Run, log: &Log) {
        let since = run.started.unwrap_or(run.created);
        let took = run.finished.map(|finished| finished.duration_since(since));
        let took = took.and_then(|took| Duration::try_from(took).ok());
        let took = took.unwrap_or_default();
        log.info(&format!(
            "The run ends: {}, after {} s",
            run.status.as_str(),
            took.as_secs()
        ));
        self.metrics().run_ended(run, took);
        self.inner.notifier.wake();
    }

    fn log_of_run(&self, run: &Run) -> Log {
        let fields = vec![("run", run.id.to_string()), ("job", run.job.to_string())];
        let file = self.inner.state.file_of_run(run.id.as_str(), "log");
        self.log().for_run(fields, &file)
    }
}

/// Returns how a run that was interrupted ends, if it cannot go on.
fn obstacle(run: &Run, job: Option<&JobConfig>) -> Option<(RunStatus, RunMessage)> {
    let name = &run.job;
    let failed = |message: String| {
        let code = Exit::Usage as u8;
        Some((RunStatus::Failed, RunMessage { message, code }))
    };
    let Some(job) = job else {
        return failed(format!("the configuration has no job {name} any more"));
    };
    if run.kind == RunKind::Audit && job.audit.is_none() {
        return failed(format!("job {name} is not audited any more"));
    }
    if run.kind != RunKind::Audit && run.kind != kind(job) {
        return failed(format!("job {name} goes to another kind of target now"));
    }
    let window = window(job, run.kind)?;
    if !window.is_over(run.created, Timestamp::now()) || bundle_job::is_written(run, job) {
        return None;
    }
    let message = format!(
        "the service was interrupted, and the window {window} was over when it started again; the next run goes on from what \
         was downloaded"
    );
    let code = Exit::Incomplete as u8;
    Some((RunStatus::Expired, RunMessage { message, code }))
}

/// Returns the time of day in which a run may speak to registries.
fn window(job: &JobConfig, kind: RunKind) -> Option<DailyWindow> {
    match kind {
        RunKind::Audit => job.audit.as_ref()?.schedule.window(),
        RunKind::Bundle | RunKind::Mirror => job.window(),
    }
}

/// Waits until a run is to be ended.
async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    loop {
        if let Some(stop) = *stop.borrow_and_update() {
            return stop;
        }
        if stop.changed().await.is_err() {
            // The sender lives as long as the run.
            std::future::pending::<()>().await;
        }
    }
}

fn describe(run: &Run, job: &JobConfig) -> String {
    let what = match run.kind {
        RunKind::Bundle => "a bundle to",
        RunKind::Mirror => "a mirror to",
        RunKind::Audit => "an audit of",
    };
    let by = match &run.trigger {
        Trigger::Schedule => "the schedule".to_owned(),
        Trigger::Caller(name) => escape(name),
    };
    format!("{what} {}, asked for by {by}", job.to)
}

/// Fills in what a run found, and what it warned of.
fn describe_findings(run: &mut Run, context: &Context, missing: Vec<String>) {
    run.progress = of_now(context.progress.now());
    run.progress.waits_for = None;
    let found = context.findings.as_ref().map(|findings| findings.found());
    let found = found.unwrap_or_default();
    run.referrers.total = found.referrers.len() as u64;
    for category in found.referrers.values() {
        let count = run.referrers.by_category.entry(category.to_string());
        *count.or_default() += 1;
    }
    run.referrers.missing = found.missing;
    run.referrers.missing.extend(missing);
    let warnings = context.log.warnings();
    let more = (warnings.more > 0).then(|| format!("and {} more, in the log", warnings.more));
    run.warnings = warnings
        .messages
        .into_iter()
        .chain(more)
        .map(|message| RunMessage { message, code: 0 })
        .collect();
}

fn of_now(now: Now) -> RunProgress {
    RunProgress {
        phase: now.phase.to_owned(),
        items_completed: now.done,
        items_total: now.total,
        bytes_completed: now.bytes,
        bytes_total: now.bytes_total,
        waits_for: now.waits_for,
    }
}
