//! Finds what a validator would refuse, before anything is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use oci_content::{Completeness, Descriptor, Digest, ErrorCode, Manifest, WarningCode};
use oci_referrers::{ImageTree, Problem, ReferrerGraph, Warning};

use crate::content::NotCarried;

/// What cannot be carried because it contradicts itself.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// Why the image cannot be carried.
    pub(crate) image: Option<NotCarried>,
    /// Referrers that cannot be carried.
    pub(crate) referrers: BTreeSet<Digest>,
}

/// Checks an image and its referrers, and records in the graph what is wrong with them.
pub(crate) fn judge(tree: &ImageTree, graph: &mut ReferrerGraph) -> Refused {
    let root = tree.root.digest();
    let is_missing = |problem: &&Problem| {
        let mut missing = tree.missing.iter();
        missing.any(|child| problem.digest.as_ref() == Some(&child.digest))
    };
    let unread = tree.problems.iter().find(|problem| !is_missing(problem));
    let contradicts = || contradiction(own(tree));
    let fatal = unread.cloned().or_else(contradicts);
    let mut refused = Refused {
        image: fatal.as_ref().map(|problem| NotCarried {
            digest: problem.digest.clone().unwrap_or_else(|| root.clone()),
            code: problem.code.as_str(),
            message: problem.message.clone(),
        }),
        referrers: BTreeSet::new(),
    };
    for problem in tree.problems.iter().filter(is_missing).chain(&fatal) {
        note(graph, root, problem.clone());
    }
    let mut wrong = Vec::new();
    for referrer in &graph.referrers {
        let Some(own) = &referrer.manifest else {
            continue;
        };
        let below = graph.indexes.get(&referrer.digest);
        let below = below.into_iter().flat_map(children);
        if let Some(mut problem) = contradiction([own].into_iter().chain(below)) {
            let digest = problem.digest.replace(referrer.digest.clone());
            if let Some(digest) = digest.filter(|digest| *digest != referrer.digest) {
                problem.message = format!("{digest}: {}", problem.message);
            }
            refused.referrers.insert(referrer.digest.clone());
            wrong.push((referrer.subject.clone(), problem));
        }
    }
    for (subject, problem) in wrong {
        note(graph, &subject, problem);
    }
    warn_of_subjects(tree, graph);
    refused
}

fn note(graph: &mut ReferrerGraph, subject: &Digest, mut problem: Problem) {
    problem.subject = Some(subject.clone());
    let mut reports = graph.subjects.iter_mut();
    if let Some(report) = reports.find(|report| report.subject == *subject)
        && !report.errors.contains(&problem)
    {
        report.status = Completeness::Incomplete;
        report.errors.push(problem);
        report.errors.sort();
    }
}

/// Warns of referrers whose descriptor of the subject does not match the subject.
fn warn_of_subjects(tree: &ImageTree, graph: &mut ReferrerGraph) {
    let known: HashMap<&Digest, &Manifest> = all(tree, graph)
        .map(|manifest| (manifest.digest(), manifest))
        .collect();
    let mut warnings: BTreeMap<Digest, Vec<Warning>> = BTreeMap::new();
    for referrer in &graph.referrers {
        let subject = referrer.manifest.as_ref().and_then(Manifest::subject);
        if let Some(subject) = subject.filter(|subject| subject.digest == referrer.subject)
            && let Some(known) = known.get(&subject.digest)
            && let Some((_, message)) = mismatch(subject, known)
        {
            let message = format!("its descriptor of the subject is wrong: {message}");
            let warning = Warning::new(WarningCode::SubjectDescriptorMismatch, message);
            let of_subject = warnings.entry(subject.digest.clone()).or_default();
            of_subject.push(warning.about(&referrer.digest));
        }
    }
    for report in &mut graph.subjects {
        if let Some(new) = warnings.remove(&report.subject) {
            report.warnings.extend(new);
            report.warnings.sort();
            report.warnings.dedup();
        }
    }
}

/// Finds a contradiction between manifests that belong together.
///
/// Manifests that are not among them are not checked: another image can bring them.
fn contradiction<'a>(manifests: impl Iterator<Item = &'a Manifest> + Clone) -> Option<Problem> {
    let first = manifests.clone().next()?;
    if first.own_media_type() != Some(first.media_type()) {
        let message = format!(
            "only the registry says that it is {}, and a bundle has nothing but the manifest, which reads as {}",
            first.media_type(),
            first.own_media_type().unwrap_or("none")
        );
        return Some(Problem::new(ErrorCode::Malformed, message).about(first.digest()));
    }
    let known: HashMap<&Digest, &Manifest> = manifests
        .clone()
        .map(|manifest| (manifest.digest(), manifest))
        .collect();
    for manifest in manifests {
        let own = manifest.digest();
        for descriptor in manifest.descriptors() {
            if !descriptor.data_holds() {
                let message = format!("{own} embeds `data` for it that does not match its content");
                return Some(Problem::new(ErrorCode::Integrity, message).about(&descriptor.digest));
            }
        }
        for child in manifest.children() {
            if let Some(known) = known.get(&child.digest)
                && let Some((code, message)) = mismatch(child, known)
            {
                let message = format!("the index {own} describes it wrongly: {message}");
                return Some(Problem::new(code, message).about(&child.digest));
            }
        }
    }
    None
}

/// Compares a descriptor with the manifest that it describes.
pub(crate) fn mismatch(descriptor: &Descriptor, own: &Manifest) -> Option<(ErrorCode, String)> {
    if own.own_media_type() != Some(&descriptor.media_type) {
        let message = format!(
            "listed as {:?}, it is {}",
            oci_content::bounded(&descriptor.media_type, 256),
            own.own_media_type().unwrap_or("none, by its content")
        );
        return Some((ErrorCode::Malformed, message));
    }
    (descriptor.size != own.size()).then(|| {
        let message = format!(
            "listed with {} bytes, it has {}",
            descriptor.size,
            own.size()
        );
        (ErrorCode::Integrity, message)
    })
}

/// Parses a manifest as a reader of the bundle does, without the registry's headers.
pub(crate) fn read(raw: &Bytes) -> Option<Manifest> {
    Manifest::parse(raw.clone(), None).ok()
}

/// Returns the manifests below an index.
pub(crate) fn children(tree: &ImageTree) -> impl Iterator<Item = &Manifest> + Clone {
    tree.children
        .iter()
        .filter_map(|child| child.manifest.as_ref())
}

/// Returns the manifests of an image.
pub(crate) fn own(tree: &ImageTree) -> impl Iterator<Item = &Manifest> + Clone {
    [&tree.root].into_iter().chain(children(tree))
}

/// Returns the manifests of an image and of everything that refers to it.
pub(crate) fn all<'a>(
    tree: &'a ImageTree,
    graph: &'a ReferrerGraph,
) -> impl Iterator<Item = &'a Manifest> {
    let referrers = graph.referrers.iter();
    let referrers = referrers.filter_map(|referrer| referrer.manifest.as_ref());
    let below = graph.indexes.values().flat_map(children);
    own(tree).chain(referrers).chain(below)
}
