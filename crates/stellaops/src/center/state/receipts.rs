use std::io;

use oci_content::with_causes;
use rusqlite::params;

use super::State;
use crate::exit::Failure;
use crate::job_lock::JobHeld;
use crate::receipts::ReceiptStore;

/// A job has at most one run in the database, so there is nothing to hold.
impl ReceiptStore for State {
    fn jobs(&self) -> Result<Vec<String>, Failure> {
        let jobs = self.read(|connection| {
            let sql = "SELECT DISTINCT job FROM receipts ORDER BY job";
            let mut statement = connection.prepare(sql)?;
            statement.query_map((), |row| row.get(0))?.collect()
        });
        jobs.map_err(Failure::from)
    }

    fn newest_first(&self, job: &str) -> Result<Vec<String>, Failure> {
        let numbers = self.read(|connection| {
            let sql = "SELECT number FROM receipts WHERE job = ?1 ORDER BY number DESC";
            let mut statement = connection.prepare(sql)?;
            statement
                .query_map([job], |row| Ok(row.get::<_, i64>(0)?.to_string()))?
                .collect()
        });
        numbers.map_err(Failure::from)
    }

    fn read(&self, job: &str, name: &str) -> io::Result<Vec<u8>> {
        let text: Result<String, _> = self.read(|connection| {
            let sql =
                "SELECT document FROM receipts WHERE job = ?1 AND number = CAST(?2 AS INTEGER)";
            connection.query_row(sql, params![job, name], |row| row.get(0))
        });
        text.map(String::into_bytes)
            .map_err(|error| io::Error::other(with_causes(&error)))
    }

    fn write(&self, job: &str, text: &str) -> io::Result<String> {
        let number = self.write(|transaction| {
            let sql = "INSERT INTO receipts (job, document) VALUES (?1, ?2)";
            transaction.execute(sql, params![job, text])?;
            Ok(transaction.last_insert_rowid().to_string())
        });
        number.map_err(|error| io::Error::other(with_causes(&error)))
    }

    fn place(&self, job: &str) -> String {
        format!("{} (job {job})", self.database.display())
    }

    fn place_of(&self, job: &str, name: &str) -> String {
        format!("{} (job {job}, receipt {name})", self.database.display())
    }

    fn hold(&self, _: &str) -> Result<Option<JobHeld>, Failure> {
        Ok(None)
    }
}
