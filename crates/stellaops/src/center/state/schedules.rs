use jiff::Timestamp;
use jiff::civil::DateTime;
use rusqlite::{OptionalExtension as _, params};

use super::runs::{end, insert, under_way};
use super::{NewEvent, NewRun, State, StateError, time};
use crate::center::model::{Run, RunId, RunMessage, RunStatus};
use crate::center::notify::Delivery;

/// The most times of a schedule that are remembered as used: two days of a schedule that fires each minute.
const MAX_FIRED: i64 = 2 * 24 * 60;

/// Up to when a schedule has been obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The schedule, as the configuration had it.
    pub(crate) rule: String,
    pub(crate) at: Timestamp,
}

/// A time of a schedule that has come.
#[derive(Clone, Debug)]
pub(crate) struct Firing {
    pub(crate) run: NewRun,
    pub(crate) purpose: &'static str,
    /// In the zone of the schedule.
    pub(crate) local: DateTime,
    pub(crate) mark: Mark,
    /// Why the run does not begin.
    pub(crate) expired: Option<RunMessage>,
}

/// The outcome of firing a schedule.
#[derive(Clone, Debug)]
pub(crate) enum Fired {
    Run(Box<Run>),
    /// This run of the job is under way, so the time stays due.
    Busy(RunId),
}

impl State {
    /// Makes the run of a schedule's time, and remembers that the time is used. `deliveries` says who is to be told if the run
    /// has expired.
    pub(crate) fn fire(
        &self,
        firing: &Firing,
        deliveries: impl FnOnce(&Run) -> Vec<Delivery>,
    ) -> Result<Fired, StateError> {
        self.write(|transaction| {
            let (new, purpose) = (&firing.run, firing.purpose);
            if let Some(busy) = under_way(transaction, &new.job)? {
                return Ok(Fired::Busy(busy));
            }
            let mut run = insert(transaction, new)?;
            if let Some(message) = &firing.expired {
                run.status = RunStatus::Expired;
                run.finished = Some(new.at);
                run.errors.push(message.clone());
                let finished = NewEvent::finished(new.at);
                end(transaction, &run, &[finished], &deliveries(&run))?;
            }
            let job = new.job.as_str();
            let sql = "INSERT INTO fired (job, purpose, local) VALUES (?1, ?2, ?3)";
            transaction.execute(sql, params![job, purpose, firing.local.to_string()])?;
            let sql = "DELETE FROM fired WHERE job = ?1 AND purpose = ?2 AND number <= (
                           SELECT number FROM fired WHERE job = ?1 AND purpose = ?2
                           ORDER BY number DESC LIMIT 1 OFFSET ?3)";
            transaction.execute(sql, params![job, purpose, MAX_FIRED])?;
            set_mark(transaction, job, purpose, &firing.mark)?;
            Ok(Fired::Run(Box::new(run)))
        })
    }

    /// Returns up to when a schedule has been obeyed; `None` if it is new.
    pub(crate) fn mark(&self, job: &str, purpose: &str) -> Result<Option<Mark>, StateError> {
        self.read(|connection| {
            let sql = "SELECT rule, mark FROM schedules WHERE job = ?1 AND purpose = ?2";
            let mark = connection.query_row(sql, params![job, purpose], |row| {
                Ok(Mark {
                    rule: row.get(0)?,
                    at: time(row, 1)?,
                })
            });
            mark.optional()
        })
    }

    pub(crate) fn set_mark(&self, job: &str, purpose: &str, mark: &Mark) -> Result<(), StateError> {
        self.write(|transaction| set_mark(transaction, job, purpose, mark))
    }

    /// Returns whether a run was made for a time of a schedule.
    pub(crate) fn has_fired(
        &self,
        job: &str,
        purpose: &str,
        local: DateTime,
    ) -> Result<bool, StateError> {
        self.read(|connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM fired WHERE job = ?1 AND purpose = ?2 AND local = ?3)";
            connection.query_row(sql, params![job, purpose, local.to_string()], |row| {
                row.get(0)
            })
        })
    }
}

fn set_mark(
    transaction: &rusqlite::Transaction<'_>,
    job: &str,
    purpose: &str,
    mark: &Mark,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO schedules (job, purpose, rule, mark) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (job, purpose) DO UPDATE SET rule = ?3, mark = ?4";
    let values = params![job, purpose, mark.rule, mark.at.to_string()];
    transaction.execute(sql, values).map(drop)
}
