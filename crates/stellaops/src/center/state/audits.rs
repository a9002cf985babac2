use std::collections::BTreeMap;

use oci_content::Registry;
use rusqlite::params;

use super::{State, StateError, from_json, to_json};
use crate::center::view::AuditView;
use crate::registry_board::Probed;

impl State {
    /// Replaces what the newest audit of a job found.
    pub(crate) fn save_audit(&self, audit: &AuditView) -> Result<(), StateError> {
        self.write(|transaction| {
            let sql = "INSERT INTO audits (job, document) VALUES (?1, ?2)
                       ON CONFLICT (job) DO UPDATE SET document = ?2";
            let values = params![audit.job.as_str(), to_json(audit)?];
            transaction.execute(sql, values).map(drop)
        })
    }

    /// Returns what the newest audit of each job found, by job.
    pub(crate) fn audits(&self) -> Result<Vec<AuditView>, StateError> {
        self.read(|connection| {
            let mut statement = connection.prepare("SELECT document FROM audits ORDER BY job")?;
            statement.query_map((), |row| from_json(row, 0))?.collect()
        })
    }

    /// Replaces the newest probes of registries.
    pub(crate) fn save_probes(
        &self,
        probes: &BTreeMap<Registry, Probed>,
    ) -> Result<(), StateError> {
        self.write(|transaction| {
            for (registry, probed) in probes {
                let sql = "INSERT INTO probes (registry, document) VALUES (?1, ?2)
                           ON CONFLICT (registry) DO UPDATE SET document = ?2";
                transaction.execute(sql, params![registry.as_str(), to_json(probed)?])?;
            }
            Ok(())
        })
    }

    /// Returns the newest probe of each registry; those whose names are no longer understood are left out.
    pub(crate) fn probes(&self) -> Result<Vec<(Registry, Probed)>, StateError> {
        let rows: Vec<(String, Probed)> = self.read(|connection| {
            let mut statement = connection.prepare("SELECT registry, document FROM probes")?;
            statement
                .query_map((), |row| Ok((row.get(0)?, from_json(row, 1)?)))?
                .collect()
        })?;
        let named = rows.into_iter();
        Ok(named
            .filter_map(|(name, probed)| Some((name.parse().ok()?, probed)))
            .collect())
    }
}
