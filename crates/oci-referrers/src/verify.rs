use std::collections::BTreeMap;

use oci_content::{ArtifactCategory, Digest, LegacyTag, Manifest, SourceKind, WarningCode};

use crate::claim::MergedClaim;
use crate::graph::Referrer;
use crate::held;
use crate::source::Warning;

/// The result of checking a claim against the manifest itself.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is a referrer; where the lists say otherwise there is a warning.
    Referrer(Box<Referrer>, Vec<Warning>),
    /// It is not a referrer of this subject.
    Dropped(Warning),
}

/// What a manifest says about itself, as far as a claim is checked against it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    digest: Digest,
    media_type: String,
    artifact_type: Option<String>,
    size: u64,
    annotations: BTreeMap<String, String>,
    subject: Option<Digest>,
    /// The manifest itself, if it is kept or lists other manifests.
    manifest: Option<Manifest>,
}

impl Facts {
    pub(crate) fn of(manifest: Manifest, keep: bool) -> Self {
        Self {
            digest: manifest.digest().clone(),
            media_type: manifest.media_type().to_owned(),
            artifact_type: manifest.artifact_type().map(str::to_owned),
            size: manifest.size(),
            annotations: manifest.annotations().clone(),
            subject: manifest.subject().map(|subject| subject.digest.clone()),
            manifest: (keep || !manifest.entries().is_empty()).then_some(manifest),
        }
    }

    /// Returns the number of bytes that this takes.
    pub(crate) fn held(&self) -> usize {
        size_of::<Self>()
            + self.media_type.len()
            + self.artifact_type.as_ref().map_or(0, String::len)
            + held::of_annotations(&self.annotations)
            + self.manifest.as_ref().map_or(0, held::of_manifest)
    }
}

/// Checks a claim against the manifest itself.
///
/// The subject must be the *full* digest: the referrers tag of a `sha512` subject is cut, so
/// subjects can share it.
pub(crate) fn verify(subject: &Digest, claim: &MergedClaim, facts: &Facts) -> Verdict {
    let digest = &facts.digest;
    if let Some(tag) = &claim.tag
        && digest == subject
    {
        let message = format!("tag {tag} holds the subject itself, not a referrer");
        return Verdict::Dropped(Warning::new(WarningCode::TagIsSubject, message).about(digest));
    }
    let mut warnings = Vec::new();
    let mut sources = claim.sources.clone();
    if !claim.by_name_only() {
        let message = match &facts.subject {
            Some(own) if own == subject => None,
            Some(own) => Some(format!(
                "it is listed as a referrer, but its subject is {own}"
            )),
            None => Some("it is listed as a referrer, but it has no subject".to_owned()),
        };
        if let Some(message) = message {
            let warning = Warning::new(WarningCode::SubjectMismatch, message).about(digest);
            // A wrong entry in a list does not invalidate what the name of a legacy tag says.
            if claim.tag.is_none() {
                return Verdict::Dropped(warning);
            }
            warnings.push(warning);
            sources = vec![SourceKind::LegacyTag];
        }
    }
    let by_name_only = sources
        .iter()
        .all(|source| *source == SourceKind::LegacyTag);
    let listed = &claim.descriptor;
    if listed.size != facts.size {
        let message = format!(
            "listed with {} bytes, but it has {}",
            listed.size, facts.size
        );
        warnings.push(Warning::new(WarningCode::SizeMismatch, message).about(digest));
    }
    if let Some(artifact_type) = &listed.artifact_type
        && facts.artifact_type.as_ref() != Some(artifact_type)
    {
        let own = facts.artifact_type.as_deref().unwrap_or("none");
        let message =
            format!("listed with artifact type {artifact_type:?}, but its own is {own:?}");
        warnings.push(Warning::new(WarningCode::ArtifactTypeCorrected, message).about(digest));
    }
    let legacy = claim
        .tag
        .as_ref()
        .filter(|_| by_name_only)
        .and_then(LegacyTag::from_tag);
    let category = match legacy {
        Some(legacy) => legacy.category(),
        None => facts
            .artifact_type
            .as_deref()
            .map_or(ArtifactCategory::Other, ArtifactCategory::of),
    };
    let referrer = Referrer {
        digest: digest.clone(),
        media_type: facts.media_type.clone(),
        artifact_type: facts.artifact_type.clone(),
        size: facts.size,
        annotations: facts.annotations.clone(),
        subject: subject.clone(),
        depth: 0,
        category,
        sources,
        tag: claim.tag.clone(),
        manifest: facts.manifest.clone(),
    };
    Verdict::Referrer(Box::new(referrer), warnings)
}
