use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use oci_content::{
    Digest, ErrorCode, ImageLayout, LayoutError, LayoutErrorKind, LegacyTag, MAX_MANIFEST_BYTES,
    Manifest, REF_NAME, Reference, SourceKind, Tag, referrers_tag, with_causes,
};

use crate::discovery::Discovery;
use crate::manifests::{ManifestFailure, ManifestSource};
use crate::source::{Answer, Claim, Problem, Query, ReferrerSource};

/// An image layout folder as a source of referrers and manifests.
///
/// - A manifest that `index.json` leads to and that has a `subject` is a referrer of that subject.
///   The kind of its source is [`SourceKind::Manifest`], since a folder has no referrers API.
/// - A `ref.name` that is a referrers tag or a legacy tag is used as such.
/// - `index.json` is read once, when the folder is opened.
#[derive(Clone, Debug)]
pub struct LayoutReferrers {
    contents: Arc<Contents>,
}

#[derive(Debug)]
struct Contents {
    layout: ImageLayout,
    /// Referrers by subject.
    referrers: BTreeMap<Digest, Vec<Digest>>,
    /// The manifests that the tags in `index.json` name.
    tags: BTreeMap<Tag, Digest>,
    /// Failures to read manifests when the folder was opened.
    unreadable: Vec<Problem>,
}

impl LayoutReferrers {
    /// Opens a layout: reads `index.json` and every manifest that it leads to.
    ///
    /// # Errors
    ///
    /// When `index.json` cannot be read. A manifest that cannot be read is not an error here, but
    /// in every answer.
    pub fn open(layout: ImageLayout) -> Result<Self, LayoutError> {
        let mut contents = Contents {
            referrers: BTreeMap::new(),
            tags: BTreeMap::new(),
            unreadable: Vec::new(),
            layout,
        };
        let mut stack = Vec::new();
        for entry in contents.layout.index()? {
            if let Some(tag) = entry
                .annotations
                .get(REF_NAME)
                .and_then(|name| tag_of(name))
            {
                contents.tags.insert(tag, entry.digest.clone());
            }
            stack.push(entry.digest);
        }
        let mut seen = HashSet::new();
        while let Some(digest) = stack.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            match contents.read(&digest) {
                Ok(manifest) => {
                    if let Some(subject) = manifest.subject() {
                        contents
                            .referrers
                            .entry(subject.digest.clone())
                            .or_default()
                            .push(digest.clone());
                    }
                    for child in manifest.children() {
                        match contents.layout.blob_size(&child.digest) {
                            // It was left out by a platform filter, or a stale tag names it.
                            Ok(None) => {}
                            Ok(Some(_)) => stack.push(child.digest.clone()),
                            Err(error) => {
                                let problem =
                                    Problem::new(ErrorCode::ServerError, error.to_string());
                                contents.unreadable.push(problem.about(&child.digest));
                            }
                        }
                    }
                }
                Err(ManifestFailure::NotFound) => {
                    let message = "index.json lists a manifest that is not there";
                    contents
                        .unreadable
                        .push(Problem::new(ErrorCode::Integrity, message).about(&digest));
                }
                Err(ManifestFailure::Failed(problem)) => contents.unreadable.push(problem),
            }
        }
        Ok(Self {
            contents: Arc::new(contents),
        })
    }

    /// Creates a discovery over this folder.
    pub fn discovery(&self) -> Discovery {
        let manifests = Arc::new(self.clone());
        let sources = self.sources().into_iter();
        sources.fold(Discovery::new(manifests), Discovery::source)
    }

    /// Returns the sources of this folder: its manifests, its referrers tags and its legacy tags.
    pub fn sources(&self) -> [Arc<dyn ReferrerSource>; 3] {
        let source = |kind| -> Arc<dyn ReferrerSource> {
            Arc::new(LayoutSource {
                contents: Arc::clone(&self.contents),
                kind,
            })
        };
        [
            source(SourceKind::Manifest),
            source(SourceKind::ReferrersTag),
            source(SourceKind::LegacyTag),
        ]
    }
}

/// Extracts the tag from a `ref.name`, which is a bare tag or a full reference.
fn tag_of(name: &str) -> Option<Tag> {
    match name.parse::<Reference>() {
        Ok(reference) => reference.tag().cloned(),
        Err(_) => name.parse().ok(),
    }
}

impl Contents {
    fn read(&self, digest: &Digest) -> Result<Manifest, ManifestFailure> {
        let failed = |code, message: String| {
            ManifestFailure::Failed(Problem::new(code, message).about(digest))
        };
        let raw = self
            .layout
            .read_blob(digest, MAX_MANIFEST_BYTES)
            .map_err(|error| match error.kind() {
                LayoutErrorKind::NotFound => ManifestFailure::NotFound,
                LayoutErrorKind::Corrupt => failed(ErrorCode::Integrity, with_causes(&error)),
                LayoutErrorKind::TooLarge => failed(ErrorCode::Limit, with_causes(&error)),
                _ => failed(ErrorCode::ServerError, with_causes(&error)),
            })?;
        Manifest::parse_verified(raw, digest, None)
            .map_err(|error| failed(ErrorCode::Malformed, error.to_string()))
    }

    /// Reads the referrers of a subject. They were there when the folder was opened, so one that
    /// cannot be read now is a failure.
    fn list(&self, digests: &[Digest]) -> Answer {
        let mut answer = Answer::list([]);
        for digest in digests {
            match self.read(digest) {
                Ok(manifest) => answer.claims.push(Claim::new(manifest.descriptor())),
                Err(ManifestFailure::NotFound) => {
                    let message = "a manifest has been removed since the folder was opened";
                    answer.fail(Problem::new(ErrorCode::Integrity, message).about(digest));
                }
                Err(ManifestFailure::Failed(problem)) => answer.fail(problem),
            }
        }
        answer
    }
}

#[async_trait]
impl ManifestSource for LayoutReferrers {
    async fn manifest(&self, digest: &Digest) -> Result<Manifest, ManifestFailure> {
        self.contents.read(digest)
    }
}

#[derive(Debug)]
struct LayoutSource {
    contents: Arc<Contents>,
    kind: SourceKind,
}

#[async_trait]
impl ReferrerSource for LayoutSource {
    fn kind(&self) -> SourceKind {
        self.kind
    }

    async fn referrers(&self, query: &Query) -> Answer {
        let (contents, subject) = (&self.contents, query.subject());
        match self.kind {
            SourceKind::Manifest => {
                let digests = contents
                    .referrers
                    .get(subject)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                let mut answer = contents.list(digests);
                for problem in &contents.unreadable {
                    answer.fail(problem.clone());
                }
                answer
            }
            SourceKind::ReferrersTag => match contents.tags.get(&referrers_tag(subject)) {
                Some(index) => match contents.read(index) {
                    Ok(index) => Answer::list(index.entries().iter().cloned().map(Claim::new)),
                    Err(ManifestFailure::NotFound) => Answer::none(),
                    Err(ManifestFailure::Failed(problem)) => Answer::failed(problem),
                },
                None => Answer::none(),
            },
            _ => {
                let mut answer = Answer::list([]);
                let legacy = contents.tags.iter().filter_map(|(tag, digest)| {
                    let legacy = LegacyTag::from_tag(tag)?;
                    (legacy.subject() == subject).then_some((tag, digest))
                });
                for (tag, digest) in legacy {
                    match contents.read(digest) {
                        Ok(manifest) => answer.claims.push(Claim::tagged(tag.clone(), manifest)),
                        Err(ManifestFailure::NotFound) => {}
                        Err(ManifestFailure::Failed(problem)) => answer.fail(problem),
                    }
                }
                answer
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use oci_content::{Capability, Completeness, Descriptor, DiscoveryMethod, media_type};

    use super::*;

    fn put(layout: &ImageLayout, json: &str) -> Descriptor {
        let manifest =
            Manifest::parse(bytes::Bytes::copy_from_slice(json.as_bytes()), None).unwrap();
        layout
            .write_blob(manifest.digest(), manifest.raw())
            .unwrap();
        Descriptor::new(
            manifest.media_type(),
            manifest.digest().clone(),
            manifest.size(),
        )
    }

    fn artifact(artifact_type: &str, subject: Option<&Descriptor>) -> String {
        let config = Descriptor::of(media_type::EMPTY, b"{}");
        let mut json = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "artifactType": artifact_type,
            "config": config, "layers": [],
        });
        if let Some(subject) = subject {
            json["subject"] = serde_json::to_value(subject).unwrap();
        }
        json.to_string()
    }

    #[test]
    fn a_folder_yields_referrers_of_referrers_and_legacy_tags() {
        let folder = tempfile::tempdir().unwrap();
        let layout = ImageLayout::create(folder.path().join("l")).unwrap();
        let image = put(&layout, &artifact("app/image", None));
        let sbom = put(
            &layout,
            &artifact("application/vnd.cyclonedx+json", Some(&image)),
        );
        let signature = put(
            &layout,
            &artifact("application/vnd.cncf.notary.signature", Some(&sbom)),
        );
        let mut legacy = put(
            &layout,
            &artifact("application/vnd.dev.cosign.artifact.sig.v1+json", None),
        );
        let name = format!(
            "registry.example.com/app:sha256-{}.sig",
            image.digest.encoded()
        );
        legacy.annotations.insert(REF_NAME.into(), name);
        layout
            .add_to_index(&[
                image.clone(),
                sbom.clone(),
                signature.clone(),
                legacy.clone(),
            ])
            .unwrap();

        let referrers = LayoutReferrers::open(layout.clone()).unwrap();
        let graph = block_on(referrers.discovery().run([image.digest.clone()]));
        assert_eq!(graph.status(), Completeness::Complete);
        let found: Vec<_> = graph
            .referrers
            .iter()
            .map(|r| (r.depth, &r.digest, r.tag.is_some()))
            .collect();
        let mut first = [(1, &sbom.digest, false), (1, &legacy.digest, true)];
        first.sort();
        assert_eq!(found, [first[0], first[1], (2, &signature.digest, false)]);
        // A folder has no referrers API, and says nothing about one.
        let report = graph.report(&sbom.digest).unwrap();
        assert_eq!(
            (report.method, report.capability),
            (DiscoveryMethod::Other, Capability::Unknown)
        );
        assert_eq!(graph.referrers[2].sources, [SourceKind::Manifest]);

        // The folder was opened before its content is damaged or removed.
        std::fs::write(layout.blob_path(&signature.digest), b"other bytes").unwrap();
        for _ in 0..2 {
            let graph = block_on(referrers.discovery().run([image.digest.clone()]));
            assert_eq!(graph.status(), Completeness::Incomplete);
            let codes: Vec<_> = graph.errors().map(|problem| problem.code).collect();
            assert_eq!(codes, [ErrorCode::Integrity]);
            let _gone = std::fs::remove_file(layout.blob_path(&signature.digest));
        }

        std::fs::write(layout.blob_path(&signature.digest), b"other bytes").unwrap();
        let referrers = LayoutReferrers::open(layout).unwrap();
        let graph = block_on(referrers.discovery().run([image.digest]));
        assert_eq!(graph.status(), Completeness::Incomplete);
        assert!(
            graph
                .errors()
                .all(|problem| problem.code == ErrorCode::Integrity)
        );
    }
}
