//! What the discoveries of a run have found.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use oci_content::{ArtifactCategory, Digest};
use oci_referrers::ReferrerGraph;

use crate::log::escape;

/// The most unsettled questions that are kept in words.
const MAX_MISSING: usize = 1000;

/// Collects what discoveries find.
#[derive(Debug, Default)]
pub(crate) struct Findings(Mutex<Found>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// Each referrer once.
    pub(crate) referrers: BTreeMap<Digest, ArtifactCategory>,
    /// What could not be settled, in words.
    pub(crate) missing: Vec<String>,
}

impl Findings {
    /// Adds what was found of an image.
    pub(crate) fn add(&self, reference: &impl Display, graph: &ReferrerGraph) {
        let mut found = self.locked();
        for referrer in &graph.referrers {
            let digest = referrer.digest.clone();
            found.referrers.insert(digest, referrer.category);
        }
        for problem in graph.errors() {
            if found.missing.len() == MAX_MISSING {
                break;
            }
            let about = problem.digest.as_ref();
            let about = about.map(|digest| format!(" {digest}")).unwrap_or_default();
            let missing = format!("{reference}{about}: {}: {}", problem.code, problem.message);
            found.missing.push(escape(&missing));
        }
    }

    pub(crate) fn found(&self) -> Found {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
