//! The graph of subjects and referrers, according to `manifest.yaml` and to the manifests
//! themselves.

use std::collections::{HashMap, HashSet};

use bundle_format::{BundleManifest, ReferrerPath};
use oci_content::{
    ArtifactRecord, Completeness, Digest, DiscoveryRecord, MirrorGraph, SourceRepository,
};

use crate::contents::Contents;
use crate::limits::ValidationLimits;
use crate::objects::Links;
use crate::report::{Finding, FindingKind, Findings};

/// Checks what `manifest.yaml` says about its own completeness.
pub(crate) fn check_status(manifest: &BundleManifest, findings: &mut Findings) {
    if manifest.referrers.status == Completeness::Incomplete {
        findings
            .add(FindingKind::BundleIncomplete)
            .path(bundle_format::EntryPath::MANIFEST)
            .expected(Completeness::Complete)
            .found(manifest.referrers.status);
    }
    check_discovery(&manifest.graph, findings);
    let discovered: HashSet<_> = manifest
        .graph
        .discovery
        .iter()
        .map(|record| (&record.repository, &record.subject))
        .collect();
    for image in &manifest.graph.images {
        let repository = SourceRepository::from(&image.reference);
        if !discovered.contains(&(&repository, &image.digest)) {
            findings
                .add(FindingKind::ImageNotDiscovered)
                .path(&image.reference)
                .expected("a discovery of its referrers")
                .found("none");
        }
    }
}

/// Returns the warnings about what a graph says that discovery could not settle, and the number of
/// further ones: they are those that a validation of a bundle with this graph finds.
pub fn unsettled(graph: &MirrorGraph) -> (Vec<Finding>, u64) {
    let max_per_kind = ValidationLimits::default().max_findings_per_kind;
    let mut findings = Findings::new(false, max_per_kind);
    check_discovery(graph, &mut findings);
    findings.into_listed()
}

/// Checks what a graph says about its own completeness.
fn check_discovery(graph: &MirrorGraph, findings: &mut Findings) {
    for record in &graph.discovery {
        let subject = format!("{}@{}", record.repository, record.subject);
        if record.status == Completeness::Incomplete {
            findings
                .add(FindingKind::DiscoveryIncomplete)
                .path(&subject)
                .expected(Completeness::Complete)
                .found(record.status);
        }
        for missing in &record.missing {
            let digest = missing.digest.as_ref().map(|digest| format!(" {digest}"));
            let source = missing.source.as_ref().map(|source| format!(" ({source})"));
            findings
                .add(FindingKind::DiscoveryGap)
                .path(&subject)
                .found(format_args!(
                    "{}{}{}",
                    missing.code,
                    digest.unwrap_or_default(),
                    source.unwrap_or_default()
                ));
        }
    }
}

/// Checks the graph; `reached` are the manifests that belong to images and referrers.
pub(crate) fn check(contents: &Contents, reached: &HashSet<Digest>, findings: &mut Findings) {
    let mut listed = HashSet::new();
    for record in &contents.manifest.graph.discovery {
        for artifact in &record.artifacts {
            listed.insert((&record.subject, &artifact.digest));
            if !contents.holds(&record.subject) {
                findings
                    .add(FindingKind::OrphanedReferrer)
                    .path(ReferrerPath::new(&record.subject, &artifact.digest))
                    .expected(format_args!("its subject {}", record.subject))
                    .found("the bundle does not hold it");
            }
            // A referrer that is missing, damaged or not a manifest was reported.
            if let Some(links) = contents.objects.links(&artifact.digest) {
                check_artifact(contents, record, artifact, links, findings);
            }
        }
    }
    let unlisted = |digest| {
        let subject = contents.objects.links(digest)?.subject.as_ref()?;
        // Content that is only a layer is not carried as a manifest, and discovery was not asked
        // about it.
        let is_due =
            reached.contains(&subject.digest) && !listed.contains(&(&subject.digest, digest));
        is_due.then_some((digest, subject))
    };
    let mut unlisted: Vec<_> = reached.iter().filter_map(unlisted).collect();
    // Only the first findings are listed, so their order must not change.
    unlisted.sort_unstable_by_key(|(digest, _)| *digest);
    for (digest, subject) in unlisted {
        findings
            .add(FindingKind::UnlistedReferrer)
            .path(format_args!("blobs/sha256/{}", digest.encoded()))
            .expected(format_args!(
                "an artifact of {} in manifest.yaml",
                subject.digest
            ))
            .found("none");
    }
    check_bare_images(contents, findings);
}

fn check_artifact(
    contents: &Contents,
    record: &DiscoveryRecord,
    artifact: &ArtifactRecord,
    links: &Links,
    findings: &mut Findings,
) {
    let path = ReferrerPath::new(&record.subject, &artifact.digest);
    if links.artifact_type.as_deref() != artifact.artifact_type.as_deref() {
        let name = |own: Option<&str>| own.unwrap_or("none").to_owned();
        findings
            .add(FindingKind::ArtifactTypeMismatch)
            .path(path)
            .expected(name(artifact.artifact_type.as_deref()))
            .found(name(links.artifact_type.as_deref()));
    }
    match &links.subject {
        Some(subject) if subject.digest == record.subject => {
            let own = contents.objects.links(&record.subject);
            let size = contents.blobs.get(&record.subject);
            if let (Some(own), Some(size)) = (own, size)
                && (*size != subject.size || own.media_type != subject.media_type)
            {
                findings
                    .add(FindingKind::SubjectDescriptorMismatch)
                    .path(path)
                    .expected(format_args!("{size} bytes, {}", own.media_type))
                    .found(format_args!(
                        "{} bytes, {}",
                        subject.size, subject.media_type
                    ));
            }
        }
        // The name of a legacy tag, which manifest.yaml ties to the subject, says what it refers
        // to.
        _ if artifact.tag.is_some() => {}
        Some(subject) => {
            findings
                .add(FindingKind::SubjectMismatch)
                .path(path)
                .expected(&record.subject)
                .found(&subject.digest);
        }
        None => {
            findings
                .add(FindingKind::ReferrerWithoutSubject)
                .path(path)
                .expected(&record.subject)
                .found("no subject, and no legacy tag");
        }
    }
}

/// Compares the number of images that nothing refers to with what a reader of the graph finds.
fn check_bare_images(contents: &Contents, findings: &mut Findings) {
    let manifest = &contents.manifest;
    // An export that could not carry every referrer still counted those it found.
    if manifest.referrers.status == Completeness::Incomplete {
        return;
    }
    let subjects: HashSet<_> = manifest
        .graph
        .discovery
        .iter()
        .filter(|record| !record.artifacts.is_empty())
        .map(|record| &record.subject)
        .collect();
    let mut known = HashMap::new();
    let bare = manifest
        .graph
        .images
        .iter()
        .filter(|image| !is_referred_to(contents, &subjects, &image.digest, &mut known))
        .count() as u64;
    let claimed = manifest.referrers.bare_images;
    // In another repository the same image can have no referrers.
    let repositories: HashSet<_> = manifest
        .graph
        .images
        .iter()
        .map(|image| SourceRepository::from(&image.reference))
        .collect();
    if claimed < bare || (claimed > bare && repositories.len() == 1) {
        findings
            .add(FindingKind::BareImagesMismatch)
            .path(bundle_format::EntryPath::MANIFEST)
            .expected(format_args!("bare_images: {bare}"))
            .found(format_args!("bare_images: {claimed}"));
    }
}

/// Returns whether something refers to a manifest or to one that it lists. The depth of lists was
/// checked.
fn is_referred_to(
    contents: &Contents,
    subjects: &HashSet<&Digest>,
    digest: &Digest,
    known: &mut HashMap<Digest, bool>,
) -> bool {
    if let Some(known) = known.get(digest) {
        return *known;
    }
    let children = contents
        .objects
        .links(digest)
        .map(|links| links.children.as_slice());
    let mut children = children.unwrap_or_default().iter();
    let result = subjects.contains(digest)
        || children.any(|child| is_referred_to(contents, subjects, &child.target.digest, known));
    known.insert(digest.clone(), result);
    result
}
