use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use mirror_plan::JobName;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, named_params, params};

use super::{
    State, StateError, deliveries, from_json, integer, natural, time, to_json, unreadable,
};
use crate::center::model::{Run, RunId, RunKind, RunOutput, RunStatus, Trigger};
use crate::center::notify::Delivery;
use crate::center::view::{RunEventKind, RunQuery};

/// How long the key of a caller gives the same run again.
const KEY_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// A run that is to be made.
#[derive(Clone, Debug)]
pub(crate) struct NewRun {
    pub(crate) job: JobName,
    pub(crate) kind: RunKind,
    pub(crate) trigger: Trigger,
    pub(crate) at: Timestamp,
}

/// The outcome of a request for a run.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    New(Run),
    /// The caller has used the key before.
    Again(Run),
    /// This run of the job is under way.
    Busy(RunId),
    /// The caller has used the key for another job.
    KeyReused,
}

/// An event that is to be kept.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    pub(crate) kind: RunEventKind,
    pub(crate) at: Timestamp,
    pub(crate) output: Option<RunOutput>,
}

impl NewEvent {
    /// Creates the last event of a run.
    pub(crate) fn finished(at: Timestamp) -> Self {
        Self {
            kind: RunEventKind::Finished,
            at,
            output: None,
        }
    }
}

/// An event that is kept.
#[derive(Clone, Debug)]
pub(crate) struct EventRow {
    pub(crate) number: u64,
    pub(crate) event: NewEvent,
}

impl State {
    /// Adds a queued run, unless a run of the job is under way. A repeated request with the same key of a caller adds no
    /// second run.
    pub(crate) fn add_run(
        &self,
        new: &NewRun,
        key: Option<(&str, &str)>,
    ) -> Result<Asked, StateError> {
        self.write(|transaction| {
            if let Some((caller, key)) = key
                && let Some(known) = known_key(transaction, caller, key, new)?
            {
                return Ok(known);
            }
            if let Some(busy) = under_way(transaction, &new.job)? {
                return Ok(Asked::Busy(busy));
            }
            let run = insert(transaction, new)?;
            if let Some((caller, key)) = key {
                let sql = "INSERT INTO keys (caller, key, job, run, at)
                           SELECT ?1, ?2, ?3, number, ?4 FROM runs WHERE id = ?5";
                let at = new.at.as_second();
                let values = params![caller, key, new.job.as_str(), at, run.id.as_str()];
                transaction.execute(sql, values)?;
            }
            Ok(Asked::New(run))
        })
    }

    /// Replaces what is known of a run, and adds events. Returns the number of its last event.
    pub(crate) fn save_run(&self, run: &Run, events: &[NewEvent]) -> Result<u64, StateError> {
        self.write(|transaction| save(transaction, run, events))
    }

    /// Writes the end of a run, with its last events and who is to be told. Returns the number of its last event.
    pub(crate) fn end_run(
        &self,
        run: &Run,
        events: &[NewEvent],
        deliveries: &[Delivery],
    ) -> Result<u64, StateError> {
        self.write(|transaction| end(transaction, run, events, deliveries))
    }

    pub(crate) fn run(&self, id: &RunId) -> Result<Option<Run>, StateError> {
        self.read(|connection| run(connection, id))
    }

    /// Returns runs, newest first.
    pub(crate) fn runs(&self, query: &RunQuery) -> Result<Vec<Run>, StateError> {
        let mut sql = "SELECT document FROM runs WHERE number < :before".to_owned();
        if query.job.is_some() {
            sql.push_str(" AND job = :job");
        } else {
            sql.push_str(" AND :job IS NULL");
        }
        if query.status.is_some() {
            sql.push_str(" AND status = :status");
        } else {
            sql.push_str(" AND :status IS NULL");
        }
        sql.push_str(" ORDER BY number DESC LIMIT :limit");
        let before = query.before.as_ref().map(number_of);
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
        self.read(|connection| {
            let mut statement = connection.prepare(&sql)?;
            let values = named_params! {
                ":before": before.unwrap_or(i64::MAX),
                ":job": query.job.as_ref().map(JobName::as_str),
                ":status": query.status.map(RunStatus::as_str),
                ":limit": limit,
            };
            statement
                .query_map(values, |row| from_json(row, 0))?
                .collect()
        })
    }

    /// Returns the runs that have not ended, oldest first.
    pub(crate) fn unfinished(&self) -> Result<Vec<Run>, StateError> {
        self.read(|connection| {
            let sql =
                "SELECT document FROM runs WHERE status IN ('queued', 'running') ORDER BY number";
            let mut statement = connection.prepare(sql)?;
            statement.query_map((), |row| from_json(row, 0))?.collect()
        })
    }

    /// Returns the newest run of a job that is not an audit.
    pub(crate) fn last_run(&self, job: &JobName) -> Result<Option<Run>, StateError> {
        let sql = "SELECT document FROM runs WHERE job = ?1 AND kind <> 'audit'
                   ORDER BY number DESC LIMIT 1";
        self.read(|connection| one(connection, sql, job))
    }

    /// Returns the newest run of a job that succeeded and is not an audit.
    pub(crate) fn last_success(&self, job: &JobName) -> Result<Option<Run>, StateError> {
        let sql =
            "SELECT document FROM runs WHERE job = ?1 AND status = 'succeeded' AND kind <> 'audit'
                   ORDER BY number DESC LIMIT 1";
        self.read(|connection| one(connection, sql, job))
    }

    /// Returns the newest run of a job that has ended: of its audits, or of its other runs.
    pub(crate) fn last_ended(
        &self,
        job: &JobName,
        is_audit: bool,
    ) -> Result<Option<Run>, StateError> {
        let sql = "SELECT document FROM runs WHERE job = ?1 AND (kind = 'audit') = ?2
                   AND status NOT IN ('queued', 'running') ORDER BY number DESC LIMIT 1";
        self.read(|connection| {
            connection
                .query_row(sql, params![job.as_str(), is_audit], |row| {
                    from_json(row, 0)
                })
                .optional()
        })
    }

    /// Returns the events of a run after the one with this number.
    pub(crate) fn events(&self, id: &RunId, after: u64) -> Result<Vec<EventRow>, StateError> {
        self.read(|connection| {
            let sql = "SELECT events.number, events.kind, at, output FROM events JOIN runs ON run = runs.number
                       WHERE id = ?1 AND events.number > ?2 ORDER BY events.number";
            let mut statement = connection.prepare(sql)?;
            statement
                .query_map(params![id.as_str(), integer(after)], event)?
                .collect()
        })
    }
}

fn event(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    let kind: String = row.get(1)?;
    let kind = RunEventKind::parse(&kind)
        .ok_or_else(|| unreadable(1, format!("{kind:?} is not an event")))?;
    let is_there = row.get_ref(3)?.data_type() != rusqlite::types::Type::Null;
    Ok(EventRow {
        number: natural(row.get(0)?),
        event: NewEvent {
            kind,
            at: time(row, 2)?,
            output: is_there.then(|| from_json(row, 3)).transpose()?,
        },
    })
}

fn one(connection: &Connection, sql: &str, job: &JobName) -> rusqlite::Result<Option<Run>> {
    connection
        .query_row(sql, [job.as_str()], |row| from_json(row, 0))
        .optional()
}

fn run(connection: &Connection, id: &RunId) -> rusqlite::Result<Option<Run>> {
    let sql = "SELECT document FROM runs WHERE id = ?1";
    connection
        .query_row(sql, [id.as_str()], |row| from_json(row, 0))
        .optional()
}

/// Returns what the key of a caller was used for in the last day.
fn known_key(
    transaction: &Transaction<'_>,
    caller: &str,
    key: &str,
    new: &NewRun,
) -> rusqlite::Result<Option<Asked>> {
    let now = new.at.as_second();
    let life = integer(KEY_LIFE.as_secs());
    // A key from the future was used before the clock was set back.
    let sql = "DELETE FROM keys WHERE at <= ?1 OR at > ?2";
    transaction.execute(sql, params![now - life, now + life])?;
    let sql = "SELECT keys.job, document FROM keys JOIN runs ON run = runs.number
               WHERE caller = ?1 AND key = ?2";
    let known = transaction
        .query_row(sql, params![caller, key], |row| {
            Ok((row.get::<_, String>(0)?, from_json(row, 1)?))
        })
        .optional()?;
    Ok(known.map(|(job, run)| {
        if job == new.job.as_str() {
            Asked::Again(run)
        } else {
            Asked::KeyReused
        }
    }))
}

/// Returns the run of a job that has not ended.
pub(super) fn under_way(
    transaction: &Transaction<'_>,
    job: &JobName,
) -> rusqlite::Result<Option<RunId>> {
    let sql = "SELECT document FROM runs WHERE job = ?1 AND status IN ('queued', 'running')";
    let run: Option<Run> = one(transaction, sql, job)?;
    Ok(run.map(|run| run.id))
}

/// Adds a run that waits to begin.
pub(super) fn insert(transaction: &Transaction<'_>, new: &NewRun) -> rusqlite::Result<Run> {
    let last: Option<(i64, String)> = transaction
        .query_row(
            "SELECT number, id FROM runs ORDER BY number DESC LIMIT 1",
            (),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let today = new.at.to_zoned_datetime(TimeZone::UTC).date();
    let (number, day) = match &last {
        // Later runs sort after earlier ones, even if the clock was set back.
        Some((number, id)) => {
            let day = id.split_once('-').and_then(|(day, _)| day.parse().ok());
            (
                natural(*number) + 1,
                day.map_or(today, |day| today.max(day)),
            )
        }
        None => (1, today),
    };
    let run = Run {
        id: RunId::new(day, number),
        job: new.job.clone(),
        kind: new.kind,
        trigger: new.trigger.clone(),
        status: RunStatus::Queued,
        created: new.at,
        started: None,
        finished: None,
        progress: Default::default(),
        outputs: Vec::new(),
        referrers: Default::default(),
        warnings: Vec::new(),
        errors: Vec::new(),
        sequence: None,
    };
    let sql = "INSERT INTO runs (number, id, job, kind, status, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let values = params![
        integer(number),
        run.id.as_str(),
        run.job.as_str(),
        run.kind.as_str(),
        run.status.as_str(),
        to_json(&run)?,
    ];
    transaction.execute(sql, values)?;
    Ok(run)
}

fn save(transaction: &Transaction<'_>, run: &Run, events: &[NewEvent]) -> rusqlite::Result<u64> {
    let sql = "UPDATE runs SET status = ?2, document = ?3 WHERE id = ?1 RETURNING number";
    let values = params![run.id.as_str(), run.status.as_str(), to_json(run)?];
    let number: i64 = transaction.query_row(sql, values, |row| row.get(0))?;
    for event in events {
        let output = event.output.as_ref().map(to_json).transpose()?;
        let sql = "INSERT INTO events (run, number, kind, at, output)
                   SELECT ?1, COALESCE(MAX(number), 0) + 1, ?2, ?3, ?4 FROM events WHERE run = ?1";
        let values = params![number, event.kind.as_str(), event.at.to_string(), output];
        transaction.execute(sql, values)?;
    }
    let sql = "SELECT COALESCE(MAX(number), 0) FROM events WHERE run = ?1";
    let last = transaction.query_row(sql, [number], |row| row.get(0))?;
    Ok(natural(last))
}

pub(super) fn end(
    transaction: &Transaction<'_>,
    run: &Run,
    events: &[NewEvent],
    deliveries: &[Delivery],
) -> rusqlite::Result<u64> {
    for delivery in deliveries {
        deliveries::insert(transaction, delivery)?;
    }
    save(transaction, run, events)
}

/// Returns the number in the id of a run; one that no run has if it is too large.
fn number_of(id: &RunId) -> i64 {
    let number = id.as_str().split_once('-').map(|(_, number)| number);
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or(i64::MAX)
}
