use std::num::NonZeroU64;
use std::path::PathBuf;

use mirror_plan::JobName;
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{State, StateError, from_json, integer, natural, to_json};
use crate::center::model::RunId;

/// A bundle of a series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bundle {
    pub(crate) sequence: u64,
    pub(crate) run: RunId,
    /// The path that the bundle was written to, without the numbers of volumes.
    pub(crate) path: PathBuf,
    /// The files of the bundle: one, or its volumes.
    pub(crate) files: Vec<PathBuf>,
    /// The sequence of the full bundle that a delta rests on.
    pub(crate) base: Option<u64>,
}

impl State {
    /// Adds a bundle to a series, or replaces what is known of it.
    pub(crate) fn add_bundle(&self, job: &JobName, bundle: &Bundle) -> Result<(), StateError> {
        self.write(|transaction| {
            let sql =
                "INSERT INTO bundles (job, sequence, is_removed, document) VALUES (?1, ?2, 0, ?3)
                       ON CONFLICT (job, sequence) DO UPDATE SET is_removed = 0, document = ?3";
            let values = params![job.as_str(), integer(bundle.sequence), to_json(bundle)?];
            transaction.execute(sql, values).map(drop)
        })
    }

    /// Remembers that the files of a bundle are removed.
    pub(crate) fn remove_bundle(&self, job: &JobName, sequence: u64) -> Result<(), StateError> {
        self.write(|transaction| {
            let sql = "UPDATE bundles SET is_removed = 1 WHERE job = ?1 AND sequence = ?2";
            let values = params![job.as_str(), integer(sequence)];
            transaction.execute(sql, values).map(drop)
        })
    }

    /// Returns the bundles of a series whose files are not removed, oldest first.
    pub(crate) fn bundles(&self, job: &JobName) -> Result<Vec<Bundle>, StateError> {
        self.read(|connection| {
            let sql =
                "SELECT document FROM bundles WHERE job = ?1 AND NOT is_removed ORDER BY sequence";
            let mut statement = connection.prepare(sql)?;
            statement
                .query_map([job.as_str()], |row| from_json(row, 0))?
                .collect()
        })
    }

    /// Returns the highest sequence of a series, removed bundles included; 0 if it has none.
    pub(crate) fn highest_sequence(&self, job: &JobName) -> Result<u64, StateError> {
        self.read(|connection| {
            let sql = "SELECT COALESCE(MAX(sequence), 0) FROM bundles WHERE job = ?1";
            Ok(natural(connection.query_row(
                sql,
                [job.as_str()],
                |row| row.get(0),
            )?))
        })
    }
}

/// Returns the full bundle that the next one is a delta on; `None` if the next one is to be full.
///
/// Every `full_every`-th bundle is full. Without it, all are.
pub(crate) fn next_full(bundles: &[Bundle], full_every: Option<NonZeroU64>) -> Option<&Bundle> {
    let last = bundles.iter().rposition(|bundle| bundle.base.is_none())?;
    let (full, since) = bundles.get(last..)?.split_first()?;
    let deltas = since.len() as u64;
    (deltas + 1 < full_every?.get()).then_some(full)
}

/// Returns the bundles that can go if the newest `keep` stay, along with the full bundles that they need.
pub(crate) fn expendable(bundles: &[Bundle], keep: NonZeroU64) -> Vec<&Bundle> {
    let keep = usize::try_from(keep.get()).unwrap_or(usize::MAX);
    let (older, kept) = bundles.split_at(bundles.len().saturating_sub(keep));
    let is_needed = |bundle: &&Bundle| kept.iter().any(|kept| kept.base == Some(bundle.sequence));
    older.iter().filter(|bundle| !is_needed(bundle)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(bases: &[Option<u64>]) -> Vec<Bundle> {
        let bundle = |(sequence, base): (u64, &Option<u64>)| Bundle {
            sequence,
            run: "20261130-000001".parse().unwrap(),
            path: PathBuf::new(),
            files: Vec::new(),
            base: *base,
        };
        (1..).zip(bases).map(bundle).collect()
    }

    fn number(number: u64) -> NonZeroU64 {
        NonZeroU64::new(number).unwrap()
    }

    #[test]
    fn every_nth_bundle_is_full_and_those_between_rest_on_the_last_full_one() {
        let every = |bases: &[Option<u64>], every| {
            let bundles = series(bases);
            next_full(&bundles, every).map(|full| full.sequence)
        };
        let three = Some(number(3));
        assert_eq!(every(&[], three), None);
        assert_eq!(every(&[None], three), Some(1));
        assert_eq!(every(&[None, Some(1)], three), Some(1));
        assert_eq!(every(&[None, Some(1), Some(1)], three), None);
        assert_eq!(every(&[None, Some(1), Some(1), None], three), Some(4));
        assert_eq!(every(&[None], None), None);
        assert_eq!(every(&[None], Some(number(1))), None);
    }

    #[test]
    fn what_a_kept_delta_rests_on_is_kept() {
        let removed = |bases: &[Option<u64>], keep| -> Vec<u64> {
            let bundles = series(bases);
            let expendable = expendable(&bundles, number(keep));
            expendable.iter().map(|bundle| bundle.sequence).collect()
        };
        let bases = [None, Some(1), Some(1), None, Some(4)];
        assert_eq!(removed(&bases, 2), [1, 2, 3]);
        assert_eq!(removed(&bases, 3), [2]);
        assert_eq!(removed(&bases, 1), [1, 2, 3]);
        assert_eq!(removed(&bases, 9), Vec::<u64>::new());
    }
}
