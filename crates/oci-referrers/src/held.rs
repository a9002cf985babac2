use std::mem::size_of;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci_content::Manifest;

use crate::source::{Answer, Claim};

/// A pair of short strings in a map: two strings, two allocations, its share of the node.
const PAIR: usize = 112;
/// A descriptor beside its strings, which are short but for annotations that nobody writes.
const DESCRIPTOR: usize = 384;
pub(crate) const DIGEST: usize = 96;
/// What is known of a subject beside what was found.
pub(crate) const SUBJECT: usize = 512;

/// How many bytes the results of a discovery may still take.
///
/// An estimate: strings by their length, and what a map or a list needs beside them.
#[derive(Debug)]
pub(crate) struct Held {
    left: AtomicUsize,
}

impl Held {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            left: AtomicUsize::new(max_bytes),
        }
    }

    /// Takes room; returns false, and takes nothing, where there is not enough.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let rest = |left: usize| left.checked_sub(bytes);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest)
            .is_ok()
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

pub(crate) fn of_annotations<'a>(
    annotations: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> usize {
    annotations
        .into_iter()
        .map(|(key, value)| key.len() + value.len() + PAIR)
        .sum()
}

pub(crate) fn of_manifest(manifest: &Manifest) -> usize {
    let descriptors = manifest.children().count() + manifest.blobs().count();
    manifest.raw().len() + of_annotations(manifest.annotations()) + descriptors * DESCRIPTOR
}

/// Returns what a claim takes without its manifest.
pub(crate) fn of_claim(claim: &Claim) -> usize {
    let listed = &claim.descriptor;
    size_of::<Claim>()
        + 2 * DIGEST
        + listed.media_type.len()
        + listed.artifact_type.as_ref().map_or(0, String::len)
}

/// Returns what an answer takes beside its claims.
pub(crate) fn of_words(answer: &Answer) -> usize {
    let errors = answer.errors.iter().map(|problem| problem.message.len());
    let warnings = answer.warnings.iter().map(|warning| warning.message.len());
    let exchanges = answer.exchanges.iter();
    let exchanges = exchanges.map(|exchange| exchange.request.len() + exchange.answer.len());
    let words = errors.chain(warnings).chain(exchanges);
    words.map(|length| length + DIGEST + PAIR).sum()
}
