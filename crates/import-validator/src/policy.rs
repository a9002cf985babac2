//! The policy of a site over what a bundle holds.

use std::time::SystemTime;

use crate::contents::Contents;
use crate::report::Findings;

#[cfg(feature = "policy")]
use std::collections::{BTreeMap, HashMap, HashSet};
#[cfg(feature = "policy")]
use std::sync::Arc;

#[cfg(feature = "policy")]
use oci_content::{ArtifactCategory, Digest, LegacyTag, SourceKind, media_type};
#[cfg(feature = "policy")]
use oci_content::{ArtifactRecord, ImageRecord, SourceRepository};
#[cfg(feature = "policy")]
use oci_referrers::{
    JudgedBundle, JudgedImage, JudgedReferrer, Policy, Violation, ViolationKind, created,
    document_date,
};

#[cfg(feature = "policy")]
use crate::report::{FindingKind, Report};

/// What a validation demands of referrers beyond their presence.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyCheck {
    /// The policy, and the time from which ages are counted.
    #[cfg(feature = "policy")]
    pub(crate) policy: Option<(Policy, SystemTime)>,
    /// Where images go.
    #[cfg(feature = "policy")]
    pub(crate) targets: Option<Targets>,
    /// Whether a rule that applies to no image is an error.
    #[cfg(feature = "policy")]
    pub(crate) refuse_unused: bool,
}

/// Returns the target of the images of a repository.
#[cfg(feature = "policy")]
pub(crate) type NameTarget = dyn Fn(&SourceRepository) -> Option<String> + Send + Sync;

#[cfg(feature = "policy")]
#[derive(Clone)]
pub(crate) struct Targets(pub(crate) Arc<NameTarget>);

#[cfg(feature = "policy")]
impl std::fmt::Debug for Targets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Targets")
    }
}

#[cfg(not(feature = "policy"))]
impl PolicyCheck {
    pub(crate) fn is_given(&self) -> bool {
        false
    }

    pub(crate) fn max_dated_bytes(&self) -> u64 {
        0
    }

    pub(crate) fn date(&self, _: &[u8]) -> Option<SystemTime> {
        None
    }

    pub(crate) fn check(&self, _: &Contents, _: &mut Findings) {}
}

#[cfg(feature = "policy")]
impl PolicyCheck {
    pub(crate) fn is_given(&self) -> bool {
        self.policy.is_some()
    }

    /// Returns the maximum size in bytes of a document whose date is needed; 0 if none is.
    pub(crate) fn max_dated_bytes(&self) -> u64 {
        match &self.policy {
            Some((policy, _)) if policy.needs_dates() => oci_referrers::MAX_DATED_DOCUMENT_BYTES,
            _ => 0,
        }
    }

    /// Reads the date of a document or of a manifest, if it is needed.
    pub(crate) fn date(&self, json: &[u8]) -> Option<SystemTime> {
        #[derive(serde::Deserialize)]
        struct Annotated {
            annotations: BTreeMap<String, Option<String>>,
        }
        if self.max_dated_bytes() == 0 {
            return None;
        }
        document_date(json).or_else(|| {
            let manifest: Annotated = serde_json::from_slice(json).ok()?;
            let annotations = manifest.annotations.into_iter();
            created(
                &annotations
                    .filter_map(|(key, value)| Some((key, value?)))
                    .collect(),
            )
        })
    }

    pub(crate) fn check(&self, contents: &Contents, findings: &mut Findings) {
        let Some((policy, now)) = &self.policy else {
            return;
        };
        let mut bundle = JudgedBundle::new(contents.proof.is_some());
        let mut edges = Edges::new();
        for record in &contents.manifest.graph.discovery {
            edges
                .entry((&record.repository, &record.subject))
                .or_default()
                .extend(&record.artifacts);
        }
        for image in &contents.manifest.graph.images {
            let mut judged = judged(contents, &edges, image);
            let source = SourceRepository::from(&image.reference);
            let target = self.targets.as_ref();
            judged.target = target.and_then(|Targets(target)| target(&source));
            bundle.images.push(judged);
        }
        if self.refuse_unused {
            findings.refuse(FindingKind::PolicyRuleUnused);
        }
        add(findings, &policy.judge(&bundle, *now));
    }
}

/// The referrers of a subject in a repository.
#[cfg(feature = "policy")]
type Edges<'a> = HashMap<(&'a SourceRepository, &'a Digest), Vec<&'a ArtifactRecord>>;

/// Describes an image with its platforms and everything that refers to them.
#[cfg(feature = "policy")]
fn judged(contents: &Contents, edges: &Edges<'_>, record: &ImageRecord) -> JudgedImage {
    let mut image = JudgedImage::new(record.reference.clone(), record.digest.clone());
    if !media_type::is_index(&record.media_type) {
        image.platforms.push((record.digest.clone(), String::new()));
    }
    let mut seen = HashSet::from([&record.digest]);
    let mut subjects = vec![&record.digest];
    let mut at = 0;
    while let Some(index) = subjects.get(at) {
        at += 1;
        let links = contents.objects.links(index);
        for child in links.map(|links| &*links.children).unwrap_or_default() {
            let digest = &child.target.digest;
            if contents.blobs.contains_key(digest) && seen.insert(digest) {
                subjects.push(digest);
                if !child.attestation && !media_type::is_index(&child.target.media_type) {
                    let name = child.platform.as_deref().unwrap_or_default();
                    image.platforms.push((digest.clone(), name.to_owned()));
                }
            }
        }
    }
    let repository = SourceRepository::from(&record.reference);
    while let Some(subject) = subjects.pop() {
        // A referrer can be an index too, and the referrers of its children belong to the image.
        let links = contents.objects.links(subject);
        let below = links.map(|links| &*links.children).unwrap_or_default();
        let below = below.iter().map(|child| &child.target.digest);
        subjects
            .extend(below.filter(|child| contents.blobs.contains_key(child) && seen.insert(child)));
        let artifacts = edges.get(&(&repository, subject)).into_iter().flatten();
        // A legacy tag can hold the image itself, which says nothing about it.
        for artifact in artifacts.filter(|artifact| artifact.digest != *subject) {
            image.referrers.push(referrer(contents, subject, artifact));
            if seen.insert(&artifact.digest) {
                subjects.push(&artifact.digest);
            }
        }
    }
    image
}

#[cfg(feature = "policy")]
fn referrer(contents: &Contents, subject: &Digest, artifact: &ArtifactRecord) -> JudgedReferrer {
    // The category in manifest.yaml decides nothing.
    let by_name_only = artifact
        .sources
        .iter()
        .all(|source| *source == SourceKind::LegacyTag);
    let tag = artifact.tag.as_ref().filter(|_| by_name_only);
    let category = match (tag.and_then(LegacyTag::from_tag), &artifact.artifact_type) {
        (Some(tag), _) => tag.category(),
        (None, Some(artifact_type)) => ArtifactCategory::of(artifact_type),
        (None, None) => ArtifactCategory::Other,
    };
    let mut referrer = JudgedReferrer::new(artifact.digest.clone(), subject.clone(), category);
    referrer.artifact_type.clone_from(&artifact.artifact_type);
    let links = contents.objects.links(&artifact.digest);
    let payloads = links.map(|links| &*links.blobs).unwrap_or_default();
    let dates = payloads
        .iter()
        .filter_map(|payload| contents.dates.get(&payload.digest));
    // The date in a document is when it was made, the one beside it when it was attached.
    let date = dates.max().or_else(|| contents.dates.get(&artifact.digest));
    referrer.created = date.copied();
    referrer
}

#[cfg(feature = "policy")]
fn add(findings: &mut Findings, violations: &[Violation]) {
    for violation in violations {
        let draft = findings.add(match violation.kind {
            ViolationKind::ReferrerTooOld => FindingKind::ReferrerTooOld,
            ViolationKind::DeniedReferrer => FindingKind::DeniedReferrer,
            ViolationKind::RequiredSignatureMissing => FindingKind::RequiredSignatureMissing,
            ViolationKind::RuleUnused => FindingKind::PolicyRuleUnused,
            // A demand of a later policy is unknown here.
            _ => FindingKind::RequiredReferrerMissing,
        });
        let draft = draft.expected(&violation.expected).found(&violation.found);
        if let Some(image) = &violation.image {
            draft.path(image);
        }
    }
}

#[cfg(feature = "policy")]
impl Report {
    /// Reports what a policy says about a bundle that is not written yet: the findings that a
    /// validation would report.
    pub fn of_policy(file: &str, violations: &[Violation]) -> Self {
        let mut findings = Findings::new(false, usize::MAX);
        add(&mut findings, violations);
        findings.into_report(file.to_owned())
    }
}
