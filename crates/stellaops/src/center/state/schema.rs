use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::StateError;

/// `OCIX`: so that a database of another program is not taken for one of this.
const APPLICATION: i32 = 0x4f43_4958;

/// What brings a database from each version to the next. The first creates it.
const MIGRATIONS: [&str; 1] = ["
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;

CREATE TABLE runs (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    job TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    document TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_run_of_a_job ON runs (job) WHERE status IN ('queued', 'running');
CREATE INDEX runs_of_jobs ON runs (job, status, number);
CREATE INDEX runs_by_job ON runs (job, number);
CREATE INDEX runs_by_status ON runs (status, number);

CREATE TABLE events (
    run INTEGER NOT NULL REFERENCES runs,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at TEXT NOT NULL,
    output TEXT,
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    caller TEXT NOT NULL,
    key TEXT NOT NULL,
    job TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES runs,
    at INTEGER NOT NULL,
    PRIMARY KEY (caller, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedules (
    job TEXT NOT NULL,
    purpose TEXT NOT NULL,
    rule TEXT NOT NULL,
    mark TEXT NOT NULL,
    PRIMARY KEY (job, purpose)
) STRICT, WITHOUT ROWID;

CREATE TABLE fired (
    number INTEGER PRIMARY KEY,
    job TEXT NOT NULL,
    purpose TEXT NOT NULL,
    local TEXT NOT NULL
) STRICT;
CREATE INDEX fired_by_job ON fired (job, purpose, local);

CREATE TABLE receipts (
    number INTEGER PRIMARY KEY,
    job TEXT NOT NULL,
    document TEXT NOT NULL
) STRICT;
CREATE INDEX receipts_by_job ON receipts (job, number);

CREATE TABLE bundles (
    job TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    is_removed INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (job, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE audits (
    job TEXT PRIMARY KEY,
    document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    id TEXT PRIMARY KEY,
    due INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_by_due ON deliveries (due);

CREATE TABLE probes (
    registry TEXT PRIMARY KEY,
    document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"];

/// Creates the tables of the newest version.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", APPLICATION)?;
    migrate(connection, 0)
}

/// Checks that a database is whole and of a known version.
pub(super) fn check(connection: &Connection, database: &Path) -> Result<(), StateError> {
    version(connection, database).map(drop)
}

/// Checks a database, and brings it to the newest version.
pub(super) fn check_and_migrate(
    connection: &Connection,
    database: &Path,
) -> Result<(), StateError> {
    let version = version(connection, database)?;
    migrate(connection, version).map_err(|error| StateError::new(database, error))
}

fn version(connection: &Connection, database: &Path) -> Result<usize, StateError> {
    let failed = |error| StateError::new(database, error);
    let number = |name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i32>(0))
            .map_err(failed)
    };
    let said: String = connection
        .pragma_query_value(None, "quick_check", |row| row.get(0))
        .map_err(failed)?;
    if said != "ok" {
        return Err(StateError::damaged(database, said));
    }
    if number("application_id")? != APPLICATION {
        let reason = "it is a database of another program";
        return Err(StateError::damaged(database, reason));
    }
    let version = number("user_version")?;
    match usize::try_from(version) {
        Ok(known @ 1..=MIGRATIONS_LEN) => Ok(known),
        _ => {
            let reason = format!(
                "it is of version {version}, and this program knows versions up to {MIGRATIONS_LEN}"
            );
            Err(StateError::damaged(database, reason))
        }
    }
}

const MIGRATIONS_LEN: usize = MIGRATIONS.len();

fn migrate(connection: &Connection, from: usize) -> rusqlite::Result<()> {
    for (version, sql) in MIGRATIONS.iter().enumerate().skip(from) {
        let transaction =
            rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        let version = i32::try_from(version + 1).unwrap_or(i32::MAX);
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
