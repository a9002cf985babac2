//! What the service keeps in its state folder: a database, the logs of runs, and caches.

mod audits;
mod deliveries;
mod error;
mod receipts;
mod runs;
mod schedules;
mod schema;
mod series;

use std::error::Error;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use oci_content::FileSystemGaps;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, Row, Transaction, TransactionBehavior};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use self::error::StateError;
pub(crate) use self::runs::{Asked, EventRow, NewEvent, NewRun};
pub(crate) use self::schedules::{Fired, Firing, Mark};
pub(crate) use self::series::{Bundle, expendable, next_full};
use crate::exit::{Exit, Failure};
use crate::file_lock;

const DATABASE: &str = "center.db";
/// How long a statement waits for another connection, such as a backup of another process.
const BUSY: Duration = Duration::from_secs(10);

/// The state of the service.
///
/// - Everything that a method writes is written in one transaction, and is on the disk when the method returns.
/// - One process at a time has a state folder.
pub(crate) struct State {
    folder: PathBuf,
    database: PathBuf,
    writer: Mutex<Connection>,
    /// Reads while something is written.
    reader: Mutex<Connection>,
    _lock: File,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("State").field(&self.folder).finish()
    }
}

impl State {
    /// Opens the state in a folder, which is created if it does not exist.
    pub(crate) fn open(folder: &Path, gaps: &FileSystemGaps) -> Result<Self, Failure> {
        let unusable = |error: std::io::Error| {
            let message = format!("the state folder {}: {error}", folder.display());
            Failure::new(Exit::LocalIo, message)
        };
        for folder in [folder, &folder.join("runs"), &folder.join("cache")] {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o750);
            builder.create(folder).map_err(unusable)?;
        }
        let lock = take_lock(folder, gaps)?;
        let database = folder.join(DATABASE);
        let open = || -> Result<_, StateError> {
            if !database.exists() {
                create(folder, &database)?;
            }
            let writer = connect(&database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            schema::check_and_migrate(&writer, &database)?;
            let reader = connect(&database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            let read_only = reader.pragma_update(None, "query_only", true);
            read_only.map_err(|error| StateError::new(&database, error))?;
            Ok((writer, reader))
        };
        let (writer, reader) = open()?;
        let state = Self {
            folder: folder.to_owned(),
            database: database.clone(),
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            _lock: lock,
        };
        state.check_writable()?;
        Ok(state)
    }

    /// Returns the file of the log of a run, or of something else that belongs to it.
    pub(crate) fn file_of_run(&self, id: &str, ending: &str) -> PathBuf {
        self.folder.join("runs").join(format!("{id}.{ending}"))
    }

    /// Returns the folder of the caches, which may be removed while the service does not run.
    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    /// Fails if nothing can be written.
    pub(crate) fn check_writable(&self) -> Result<(), StateError> {
        self.write(|transaction| {
            let sql = "INSERT INTO facts (name, value) VALUES ('checked', 1)
                       ON CONFLICT (name) DO UPDATE SET value = value + 1";
            transaction.execute(sql, ()).map(drop)
        })
    }

    /// Writes a copy of the database of a state folder to a file that does not exist, while a service may be using it.
    pub(crate) fn backup(folder: &Path, to: &Path) -> Result<(), Failure> {
        let database = folder.join(DATABASE);
        let unwritten = |error: &dyn fmt::Display| {
            let message = format!("--output {}: {error}", to.display());
            Failure::new(Exit::LocalIo, message)
        };
        if !database.exists() {
            let message = format!(
                "{} does not exist, so there is nothing to back up",
                database.display()
            );
            return Err(Failure::new(Exit::LocalIo, message));
        }
        // Taken for this backup: an earlier one is never replaced.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(to)
            .map_err(|error| unwritten(&error))?;
        let copied = || -> Result<(), StateError> {
            let source = connect(&database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            schema::check(&source, &database)?;
            let copy = source.backup("main", to, None::<fn(rusqlite::backup::Progress)>);
            copy.map_err(|error| StateError::new(to, error))?;
            let copy = Connection::open(to).map_err(|error| StateError::new(to, error))?;
            // So that the copy is one file.
            let mode = copy.pragma_update(None, "journal_mode", "DELETE");
            mode.map_err(|error| StateError::new(to, error))?;
            schema::check(&copy, to)
        };
        let result = copied().map_err(Failure::from).and_then(|()| {
            let synced = File::open(to).and_then(|file| file.sync_all());
            synced.map_err(|error| unwritten(&error))
        });
        if result.is_err() {
            // A part of a copy is of no use.
            fs::remove_file(to).ok();
        }
        result
    }

    fn read<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StateError> {
        ask(&locked(&self.reader)).map_err(|error| self.error(error))
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StateError> {
        let mut connection = locked(&self.writer);
        let written = || {
            // Taken at once: a transaction that turned into one that writes could not wait for another connection.
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        written().map_err(|error| self.error(error))
    }

    fn error(&self, error: rusqlite::Error) -> StateError {
        StateError::new(&self.database, error)
    }
}

fn locked(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the lock on a state folder, held until the file is dropped, or until the process ends in any way.
fn take_lock(folder: &Path, gaps: &FileSystemGaps) -> Result<File, Failure> {
    let path = folder.join("center.lock");
    let own = format!("process {}", std::process::id());
    let taken = file_lock::take(&path, &own, gaps)
        .map_err(|error| Failure::new(Exit::LocalIo, format!("{}: {error}", path.display())))?;
    taken.map_err(|holder| {
        let message = format!(
            "the state folder {} is in use by another service ({holder}); each service needs its own center.state",
            folder.display()
        );
        Failure::new(Exit::Usage, message)
    })
}

/// Creates an empty database. It gets its name when it is whole, so that a file without content is always a damaged one.
fn create(folder: &Path, database: &Path) -> Result<(), StateError> {
    let new = folder.join(".center.db.new");
    let failed = |error| StateError::new(&new, error);
    for ending in ["", "-journal", "-wal", "-shm"] {
        let mut name = new.clone().into_os_string();
        name.push(ending);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StateError::io(database, error));
            }
            _ => {}
        }
    }
    let connection = Connection::open(&new).map_err(failed)?;
    schema::create(&connection).map_err(failed)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    File::open(&new)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&new, database))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|error| StateError::io(database, error))
}

fn connect(database: &Path, flags: OpenFlags) -> Result<Connection, StateError> {
    let failed = |error| StateError::new(database, error);
    let empty = fs::metadata(database).is_ok_and(|file| file.len() == 0);
    if empty {
        return Err(StateError::damaged(database, "it is empty"));
    }
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags).map_err(failed)?;
    let set_up = || {
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // The memory of the pages that are kept, in KiB.
        connection.pragma_update(None, "cache_size", -1024)
    };
    set_up().map_err(failed)?;
    Ok(connection)
}

/// Returns a value as the JSON text that a column holds.
fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Reads a column that holds JSON.
fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| unreadable(column, error))
}

/// Reads a column that holds a time.
fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| unreadable(column, error))
}

/// Returns the error of a column whose text is not what this program writes.
fn unreadable(column: usize, reason: impl Into<Box<dyn Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, reason.into())
}

/// Returns a count or number as the database keeps it.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests;
