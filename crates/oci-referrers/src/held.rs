use std::mem::size_of;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci_content::Manifest;

use crate::source::{Answer, Claim};

/// The bytes that a pair of short strings takes in a map: two strings, two allocations, a share of
/// the node.
const PAIR: usize = 112;
/// The bytes of a descriptor with its strings, which are short except for annotations, which are
/// rare.
const DESCRIPTOR: usize = 384;
pub(crate) const DIGEST: usize = 96;
/// The bytes of the state of a subject without its referrers.
pub(crate) const SUBJECT: usize = 512;

/// The number of bytes that the results of a discovery may still take.
///
/// An estimate: strings count with their length, and maps and lists with what they need besides.
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

    /// Takes bytes, if there are enough left; otherwise takes nothing and returns false.
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

/// Returns the bytes that a claim takes without its manifest.
pub(crate) fn of_claim(claim: &Claim) -> usize {
    let listed = &claim.descriptor;
    size_of::<Claim>()
        + 2 * DIGEST
        + listed.media_type.len()
        + listed.artifact_type.as_ref().map_or(0, String::len)
}

/// Returns the bytes that an answer takes without its claims.
pub(crate) fn of_words(answer: &Answer) -> usize {
    let errors = answer.errors.iter().map(|problem| problem.message.len());
    let warnings = answer.warnings.iter().map(|warning| warning.message.len());
    let exchanges = answer.exchanges.iter();
    let exchanges = exchanges.map(|exchange| exchange.request.len() + exchange.answer.len());
    let words = errors.chain(warnings).chain(exchanges);
    words.map(|length| length + DIGEST + PAIR).sum()
}
