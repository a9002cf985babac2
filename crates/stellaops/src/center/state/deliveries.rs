use rusqlite::{Transaction, params};

use super::{State, StateError, from_json, to_json};
use crate::center::notify::{Delivery, DeliveryStore};

impl DeliveryStore for State {
    fn pending(&self, limit: usize) -> Result<Vec<Delivery>, StateError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(|connection| {
            let sql = "SELECT document FROM deliveries ORDER BY due, id LIMIT ?1";
            let mut statement = connection.prepare(sql)?;
            statement
                .query_map([limit], |row| from_json(row, 0))?
                .collect()
        })
    }

    fn retry(&self, delivery: &Delivery) -> Result<(), StateError> {
        self.write(|transaction| {
            let sql = "UPDATE deliveries SET due = ?2, document = ?3 WHERE id = ?1";
            let due = delivery.due.as_millisecond();
            let values = params![delivery.id, due, to_json(delivery)?];
            transaction.execute(sql, values).map(drop)
        })
    }

    fn done(&self, id: &str) -> Result<(), StateError> {
        self.write(|transaction| {
            let sql = "DELETE FROM deliveries WHERE id = ?1";
            transaction.execute(sql, [id]).map(drop)
        })
    }
}

/// Adds a delivery, unless it is known.
pub(super) fn insert(transaction: &Transaction<'_>, delivery: &Delivery) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO deliveries (id, due, document) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    let due = delivery.due.as_millisecond();
    let values = params![delivery.id, due, to_json(delivery)?];
    transaction.execute(sql, values).map(drop)
}
