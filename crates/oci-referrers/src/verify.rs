use std::collections::BTreeSet;

use oci_content::{ArtifactCategory, Digest, LegacyTag, Manifest, SourceKind, WarningCode};

use crate::discovery::MergedClaim;
use crate::graph::Referrer;
use crate::source::Warning;

/// What a manifest makes of the claim that it is a referrer.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is one; what the lists said otherwise is noted.
    Referrer(Box<Referrer>, Vec<Warning>),
    /// It is none of this subject.
    Dropped(Warning),
}

/// Holds a claim against the manifest itself.
///
/// The subject must be the *full* digest: a referrers tag of a `sha512` subject is cut and can be shared.
pub(crate) fn verify(subject: &Digest, claim: &MergedClaim, manifest: &Manifest) -> Verdict {
    let digest = manifest.digest();
    let mut warnings = Vec::new();
    let mut sources = claim.sources.clone();
    if !claim.by_name_only() {
        let message = match manifest.subject() {
            Some(own) if own.digest == *subject => None,
            Some(own) => Some(format!(
                "it is listed as a referrer, but its subject is {}",
                own.digest
            )),
            None => Some("it is listed as a referrer, but it has no subject".to_owned()),
        };
        if let Some(message) = message {
            let warning = Warning::new(WarningCode::SubjectMismatch, message).about(digest);
            // What a list says wrongly does not undo what a legacy tag's name says.
            if claim.tag.is_none() {
                return Verdict::Dropped(warning);
            }
            warnings.push(warning);
            sources = BTreeSet::from([SourceKind::LegacyTag]);
        }
    }
    let by_name_only = sources
        .iter()
        .all(|source| *source == SourceKind::LegacyTag);
    let listed = &claim.descriptor;
    if listed.size != manifest.size() {
        let message = format!(
            "listed with {} bytes, it has {}",
            listed.size,
            manifest.size()
        );
        warnings.push(Warning::new(WarningCode::SizeMismatch, message).about(digest));
    }
    if let Some(artifact_type) = &listed.artifact_type
        && manifest.artifact_type() != Some(artifact_type)
    {
        let own = manifest.artifact_type().unwrap_or("none");
        let message = format!("listed with artifact type {artifact_type:?}, its own is {own:?}");
        warnings.push(Warning::new(WarningCode::ArtifactTypeCorrected, message).about(digest));
    }
    let legacy = claim
        .tag
        .as_ref()
        .filter(|_| by_name_only)
        .and_then(LegacyTag::from_tag);
    let category = match legacy {
        Some(legacy) => legacy.category(),
        None => manifest
            .artifact_type()
            .map_or(ArtifactCategory::Other, ArtifactCategory::of),
    };
    let referrer = Referrer {
        digest: digest.clone(),
        media_type: manifest.media_type().to_owned(),
        artifact_type: manifest.artifact_type().map(str::to_owned),
        size: manifest.size(),
        annotations: manifest.annotations().clone(),
        subject: subject.clone(),
        depth: 0,
        category,
        sources,
        tag: claim.tag.clone(),
        manifest: None,
    };
    Verdict::Referrer(Box::new(referrer), warnings)
}
