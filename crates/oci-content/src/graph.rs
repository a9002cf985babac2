use serde::{Deserialize, Serialize};

use crate::category::ArtifactCategory;
use crate::digest::Digest;
use crate::discovery::{Capability, Completeness, DiscoveryMethod, SourceKind};
use crate::reference::Reference;
use crate::source_repository::SourceRepository;
use crate::tag::Tag;

/// What is mirrored, pinned by digest: images, everything that refers to them, and how it was found.
///
/// Every mirror goes through a graph: a source is read into one, and a target receives one. A graph
/// says what there is, and not where the bytes are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MirrorGraph {
    /// The images, sorted by reference.
    pub images: Vec<ImageRecord>,
    /// What discovery found, sorted by repository and subject.
    pub discovery: Vec<DiscoveryRecord>,
}

/// An image that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImageRecord {
    /// The name under which it was asked for.
    pub reference: Reference,
    /// The manifest that the name stood for.
    pub digest: Digest,
    /// The media type of that manifest.
    pub media_type: String,
    /// The size of that manifest in bytes.
    pub size: u64,
    /// What the image lists and is left out on purpose, sorted by digest.
    pub omitted: Vec<OmittedChild>,
}

/// A manifest that an index lists and that is left out on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OmittedChild {
    /// The manifest that is left out.
    pub digest: Digest,
    /// Why, in a word: `platform`.
    pub reason: String,
}

/// What discovery found for one subject in one repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DiscoveryRecord {
    /// Where it was looked for.
    pub repository: SourceRepository,
    /// What was asked about.
    pub subject: Digest,
    /// What the registry can do.
    pub capability: Capability,
    /// How the referrers were found.
    pub method: DiscoveryMethod,
    /// Whether everything that should have been asked gave an answer.
    pub status: Completeness,
    /// What could not be settled, or was found stale, sorted.
    pub missing: Vec<Missing>,
    /// The referrers, sorted by digest and tag.
    pub artifacts: Vec<ArtifactRecord>,
}

/// Something that discovery could not settle, or that a subject needs and does not have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Missing {
    /// Why: an error or warning code, such as `rate-limited`; lower-case letters, digits and hyphens.
    pub code: String,
    /// What is missing, where it is known.
    pub digest: Option<Digest>,
    /// What failed to answer, such as `referrers-api`.
    pub source: Option<String>,
}

/// One referrer of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ArtifactRecord {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its artifact type, as the manifest gives it; an index may have none.
    pub artifact_type: Option<String>,
    /// The media type of its manifest.
    pub media_type: String,
    /// The size of its manifest in bytes.
    pub size: u64,
    /// What kind of statement it makes.
    pub category: ArtifactCategory,
    /// The sources that named it, in the order of their declaration; at least one.
    pub sources: Vec<SourceKind>,
    /// The legacy tag that named it; there exactly when the sources have [`SourceKind::LegacyTag`].
    pub tag: Option<Tag>,
}

impl MirrorGraph {
    /// Creates a graph without images.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns every referrer with its subject, in the order of the records.
    pub fn referrers(&self) -> impl Iterator<Item = (&DiscoveryRecord, &ArtifactRecord)> {
        let records = self.discovery.iter();
        records.flat_map(|record| {
            record
                .artifacts
                .iter()
                .map(move |artifact| (record, artifact))
        })
    }

    /// Returns `Complete` only when every discovery is.
    pub fn status(&self) -> Completeness {
        let mut records = self.discovery.iter();
        if records.all(|record| record.status == Completeness::Complete) {
            Completeness::Complete
        } else {
            Completeness::Incomplete
        }
    }

    /// Sorts the lists, and drops what a list states twice.
    pub fn settle(&mut self) {
        self.images
            .sort_by_cached_key(|image| image.reference.to_string());
        self.images.dedup();
        for image in &mut self.images {
            image.omitted.sort_by(|a, b| a.digest.cmp(&b.digest));
            image.omitted.dedup_by(|a, b| a.digest == b.digest);
        }
        self.discovery
            .sort_by_cached_key(|record| (record.repository.to_string(), record.subject.clone()));
        for record in &mut self.discovery {
            record.missing.sort();
            record.missing.dedup();
            for artifact in &mut record.artifacts {
                artifact.sources.sort();
                artifact.sources.dedup();
            }
            record
                .artifacts
                .sort_by(|a, b| (&a.digest, &a.tag).cmp(&(&b.digest, &b.tag)));
            record.artifacts.dedup();
        }
    }
}

impl ImageRecord {
    /// Creates the record of an image of which nothing is left out.
    pub fn new(
        reference: Reference,
        digest: Digest,
        media_type: impl Into<String>,
        size: u64,
    ) -> Self {
        Self {
            reference,
            digest,
            media_type: media_type.into(),
            size,
            omitted: Vec::new(),
        }
    }
}

impl OmittedChild {
    /// Creates the record of a child that is left out for `reason`.
    pub fn new(digest: Digest, reason: impl Into<String>) -> Self {
        Self {
            digest,
            reason: reason.into(),
        }
    }
}

impl DiscoveryRecord {
    /// Creates the record of a discovery that ended and found nothing.
    pub fn new(
        repository: SourceRepository,
        subject: Digest,
        capability: Capability,
        method: DiscoveryMethod,
    ) -> Self {
        Self {
            repository,
            subject,
            capability,
            method,
            status: Completeness::Complete,
            missing: Vec::new(),
            artifacts: Vec::new(),
        }
    }
}

impl Missing {
    /// Creates a record without a digest and a source.
    pub fn new(code: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            digest: None,
            source: None,
        }
    }
}

impl ArtifactRecord {
    /// Creates the record of a referrer that no source has named yet; the category comes from the
    /// artifact type.
    pub fn new(
        digest: Digest,
        artifact_type: Option<String>,
        media_type: impl Into<String>,
        size: u64,
    ) -> Self {
        Self {
            category: ArtifactCategory::of(artifact_type.as_deref().unwrap_or_default()),
            digest,
            artifact_type,
            media_type: media_type.into(),
            size,
            sources: Vec::new(),
            tag: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_read_back_from_its_json() {
        let reference: Reference = "registry.example.com/team/app:1.0".parse().unwrap();
        let (image, sbom) = (Digest::of(b"image"), Digest::of(b"sbom"));
        let mut record = DiscoveryRecord::new(
            SourceRepository::from(&reference),
            image.clone(),
            Capability::Supported,
            DiscoveryMethod::NativeAndTag,
        );
        let mut artifact = ArtifactRecord::new(sbom.clone(), None, "a/b", 4);
        artifact.sources = vec![SourceKind::ReferrersApi, SourceKind::LegacyTag];
        artifact.tag = Some("sha256-x.sbom".parse().unwrap());
        record.artifacts.push(artifact);
        record.missing.push(Missing::new("rate-limited"));
        record.status = Completeness::Incomplete;
        let mut graph = MirrorGraph::new();
        let mut image = ImageRecord::new(reference, image, "a/b", 5);
        image.omitted.push(OmittedChild::new(sbom, "platform"));
        graph.images.push(image);
        graph.discovery.push(record);
        let json = serde_json::to_string(&graph).unwrap();
        assert!(json.contains(r#""mediaType":"a/b""#), "{json}");
        assert_eq!(serde_json::from_str::<MirrorGraph>(&json).unwrap(), graph);
        assert_eq!(graph.status(), Completeness::Incomplete);
    }
}
