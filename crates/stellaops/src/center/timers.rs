//! Fires the schedules of jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use mirror_plan::JobName;
use oci_content::with_causes;

use super::center::{Center, kind, locked};
use super::model::{Run, RunId, RunKind, RunMessage, RunStatus, Trigger};
use super::notify::deliveries;
use super::schedule::{Due, Occurrence, Schedule};
use super::state::{Fired, Firing, Mark, NewRun, StateError};
use crate::config::{Config, JobConfig, ScheduleConfig};
use crate::exit::Exit;

/// The most time between two looks at the clock, which may be set.
const LOOK: Duration = Duration::from_secs(20);
/// A run that begins this much after its time was missed.
const LATE: Duration = Duration::from_secs(5 * 60);

/// What a schedule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    Run,
    Audit,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Audit => "audit",
        }
    }

    fn schedule(self, job: &JobConfig) -> Option<&ScheduleConfig> {
        match self {
            Self::Run => job.schedule.as_ref(),
            Self::Audit => job.audit.as_ref().map(|audit| &audit.schedule),
        }
    }
}

/// A schedule, and up to when it has been obeyed.
#[derive(Debug)]
pub(super) struct Timer {
    schedule: Schedule,
    mark: Timestamp,
    next: Option<Occurrence>,
    /// The run that a time waits for, as was logged.
    told: Option<RunId>,
}

impl Timer {
    /// Returns when the next run begins.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.next.map(|next| next.due)
    }

    pub(super) fn zone_name(&self) -> &str {
        self.schedule.zone_name()
    }

    fn mark(&self) -> Mark {
        Mark {
            rule: self.schedule.rule(),
            at: self.mark,
        }
    }
}

/// The timers of the jobs that have schedules.
pub(super) type Timers = BTreeMap<(JobName, Purpose), Timer>;

impl Center {
    /// Returns the timers of the schedules of a configuration. A schedule that is new, or has changed, begins now.
    pub(super) fn timers_of(&self, config: &Config) -> Result<Timers, StateError> {
        let now = Timestamp::now();
        let mut timers = Timers::new();
        for (name, job) in &config.jobs {
            for purpose in [Purpose::Run, Purpose::Audit] {
                let Some(schedule) = purpose.schedule(job) else {
                    continue;
                };
                let schedule = Schedule::new(schedule, name.as_str(), purpose.as_str());
                let rule = schedule.rule();
                let kept = self.inner.state.mark(name.as_str(), purpose.as_str())?;
                let mark = match kept {
                    Some(kept) if kept.rule == rule => kept.at,
                    _ => {
                        let mark = Mark { rule, at: now };
                        let state = &self.inner.state;
                        state.set_mark(name.as_str(), purpose.as_str(), &mark)?;
                        now
                    }
                };
                let mut timer = Timer {
                    schedule,
                    mark,
                    next: None,
                    told: None,
                };
                self.look_ahead(name, purpose, &mut timer)?;
                timers.insert((name.clone(), purpose), timer);
            }
        }
        Ok(timers)
    }

    fn look_ahead(
        &self,
        job: &JobName,
        purpose: Purpose,
        timer: &mut Timer,
    ) -> Result<(), StateError> {
        let state = &self.inner.state;
        timer.next = timer.schedule.next(timer.mark, |local| {
            state.has_fired(job.as_str(), purpose.as_str(), local)
        })?;
        Ok(())
    }

    /// Makes the runs that are due, and returns how long nothing is.
    pub(super) fn fire_due(&self) -> Duration {
        let now = Timestamp::now();
        let mut runs = Vec::new();
        let mut timers = locked(&self.inner.timers);
        let mut wait = LOOK;
        for ((job, purpose), timer) in timers.iter_mut() {
            match self.fire(job, *purpose, timer, now) {
                Ok(run) => runs.extend(run),
                Err(error) => self.log().error(&format!(
                    "The {} of job {job} that is due cannot be started: {}",
                    purpose.as_str(),
                    with_causes(&error)
                )),
            }
            if let Some(due) = timer.next()
                && let Ok(left) = Duration::try_from(due.duration_since(now))
                && !left.is_zero()
            {
                wait = wait.min(left);
            }
        }
        drop(timers);
        for run in runs {
            if run.status != RunStatus::Expired {
                self.begin(run, 0);
            } else {
                self.tell_unbegun(run);
            }
        }
        wait
    }

    fn fire(
        &self,
        job: &JobName,
        purpose: Purpose,
        timer: &mut Timer,
        now: Timestamp,
    ) -> Result<Option<Run>, StateError> {
        let state = &self.inner.state;
        if timer.mark > now {
            // The clock was set back. What was used before is known, and is not used again.
            timer.mark = now;
            state.set_mark(job.as_str(), purpose.as_str(), &timer.mark())?;
            self.look_ahead(job, purpose, timer)?;
        }
        if timer.next().is_none_or(|due| due > now) {
            return Ok(None);
        }
        let is_used = |local| state.has_fired(job.as_str(), purpose.as_str(), local);
        let Some(due) = timer.schedule.due(timer.mark, now, is_used)? else {
            return Ok(None);
        };
        let config = self.config();
        let Some(config) = config.jobs.get(job) else {
            return Ok(None);
        };
        let firing = Firing {
            run: NewRun {
                job: job.clone(),
                kind: match purpose {
                    Purpose::Run => kind(config),
                    Purpose::Audit => RunKind::Audit,
                },
                trigger: Trigger::Schedule,
                at: now,
            },
            purpose: purpose.as_str(),
            local: due.newest.local,
            mark: Mark {
                at: due.newest.at,
                ..timer.mark()
            },
            expired: expired(purpose.schedule(config), &due, now),
        };
        match state.fire(&firing, |run| deliveries(run, &config.notify, now))? {
            Fired::Busy(id) => {
                if timer.told.as_ref() != Some(&id) {
                    self.log().info(&format!(
                        "The {} of job {job} of {} is due, and waits until run {id} of the job has ended",
                        purpose.as_str(),
                        due.newest.local
                    ));
                    timer.told = Some(id);
                }
                Ok(None)
            }
            Fired::Run(run) => {
                timer.mark = due.newest.at;
                timer.told = None;
                self.look_ahead(job, purpose, timer)?;
                if due.count > 1 {
                    self.log().warn(&format!(
                        "{} times of the schedule of job {job} were missed; run {} makes up for them",
                        due.count, run.id
                    ));
                }
                Ok(Some(*run))
            }
        }
    }
}

/// Returns why a run does not begin although it is due: it was missed, and its window has passed.
fn expired(schedule: Option<&ScheduleConfig>, due: &Due, now: Timestamp) -> Option<RunMessage> {
    let window = schedule?.window()?;
    let late = Duration::try_from(now.duration_since(due.newest.due)).unwrap_or_default();
    if late < LATE || !window.is_over(due.newest.at, now) {
        return None;
    }
    Some(RunMessage {
        message: format!(
            "the service did not run at {}, and the window {window} was over when it did; the next run is made at its time",
            due.newest.local
        ),
        code: Exit::Incomplete as u8,
    })
}
