use std::collections::{BTreeMap, HashMap, HashSet};

use bundle_format::{EntryKind, EntryRecord, ReferrerPath};
use oci_content::{
    ArtifactCategory, Capability, Completeness, Digest, DiscoveryMethod, Reference, SourceKind,
};
use oci_content::{DiscoveryRecord, ImageRecord, SourceRepository};
use serde::Serialize;

use crate::commands::inspect::signature::SignatureView;
use crate::opened_bundle::OpenedBundle;

/// What `bundle inspect` shows in every format; it serializes as the documented JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BundleView {
    pub(crate) schema_version: u32,
    pub(crate) file: String,
    pub(crate) form: &'static str,
    pub(crate) size: Option<u64>,
    pub(crate) manifest: Digest,
    pub(crate) stream: String,
    pub(crate) sequence: u64,
    pub(crate) created: Option<String>,
    pub(crate) base: Option<Digest>,
    pub(crate) trust: Vec<TrustView>,
    pub(crate) signature: Option<SignatureView>,
    pub(crate) status: Completeness,
    pub(crate) counts: CountsView,
    pub(crate) images: Vec<ImageView>,
    pub(crate) other_subjects: Vec<SubjectView>,
    pub(crate) warnings: Vec<WarningView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CountsView {
    pub(crate) images: usize,
    pub(crate) referrers: u64,
    pub(crate) subjects: u64,
    pub(crate) bare_images: u64,
    pub(crate) by_category: BTreeMap<ArtifactCategory, u64>,
    pub(crate) blobs: usize,
    pub(crate) blob_bytes: u64,
    pub(crate) blobs_in_base: usize,
    pub(crate) blob_bytes_in_base: u64,
}

/// A file for the receiving site to verify with; it proves nothing about the bundle that carries it.
#[derive(Debug, Serialize)]
pub(crate) struct TrustView {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) digest: Digest,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageView {
    pub(crate) reference: Reference,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) size: u64,
    /// The image under which the same referrers are already shown.
    pub(crate) same_as: Option<Reference>,
    #[serde(flatten)]
    pub(crate) found: FoundView,
    pub(crate) children: Vec<ChildView>,
}

/// A child of an image that is an index.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChildView {
    pub(crate) digest: Digest,
    pub(crate) platform: Option<String>,
    pub(crate) size: u64,
    /// Why the bundle omits the child, if it does.
    pub(crate) omitted: Option<String>,
    #[serde(flatten)]
    pub(crate) found: FoundView,
}

/// A subject that is neither an image, nor a child of one, nor a referrer shown under one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubjectView {
    pub(crate) repository: String,
    pub(crate) digest: Digest,
    #[serde(flatten)]
    pub(crate) found: FoundView,
}

/// The discovery of one subject; referrers are in the order of their tree, each before those that refer to it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FoundView {
    pub(crate) capability: Option<Capability>,
    pub(crate) method: Option<DiscoveryMethod>,
    pub(crate) status: Option<Completeness>,
    /// Whether the referrers are listed at an earlier occurrence of the subject, and not here.
    pub(crate) listed_before: bool,
    pub(crate) referrers: Vec<ReferrerView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReferrerView {
    pub(crate) depth: usize,
    pub(crate) subject: Digest,
    pub(crate) digest: Digest,
    pub(crate) artifact_type: Option<String>,
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) category: ArtifactCategory,
    pub(crate) sources: Vec<SourceKind>,
    pub(crate) tag: Option<String>,
    pub(crate) path: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WarningView {
    pub(crate) code: String,
    pub(crate) repository: Option<String>,
    pub(crate) subject: Option<Digest>,
    pub(crate) digest: Option<Digest>,
    pub(crate) source: Option<String>,
}

/// The deepest level that is shown as a tree. A bundle can claim a chain of any length; what is deeper is listed separately.
const MAX_DEPTH: usize = 32;

impl BundleView {
    pub(crate) fn new(bundle: &OpenedBundle) -> Self {
        let manifest = &bundle.manifest;
        let mut forest = Forest::new(&manifest.graph.discovery);
        let mut known: HashMap<(SourceRepository, &Digest), &Reference> = HashMap::new();
        let mut images = Vec::new();
        for image in &manifest.graph.images {
            let repository = SourceRepository::from(&image.reference);
            let first = *known
                .entry((repository.clone(), &image.digest))
                .or_insert(&image.reference);
            let same_as = (*first != image.reference).then(|| first.clone());
            images.push(image_view(bundle, image, &repository, same_as, &mut forest));
        }
        let other_subjects = forest.rest();
        let blobs = manifest
            .entries
            .iter()
            .filter(|entry| entry.path.digest().is_some());
        let (in_base, here): (Vec<_>, Vec<_>) = blobs.partition(|entry| entry.base);
        let bytes = |entries: &[&EntryRecord]| {
            let sizes = entries.iter().map(|entry| entry.size);
            sizes.fold(0, u64::saturating_add)
        };
        let trust = manifest.entries.iter().filter_map(|entry| {
            let EntryKind::Trust(name) = entry.path.kind() else {
                return None;
            };
            Some(TrustView {
                name: name.to_string(),
                size: entry.size,
                digest: entry.sha256.clone(),
            })
        });
        let referrers = &manifest.referrers;
        Self {
            schema_version: 1,
            file: bundle.file.clone(),
            form: bundle.form,
            size: bundle.size,
            manifest: Digest::of(&bundle.manifest_yaml),
            stream: manifest.stream.to_string(),
            sequence: manifest.sequence,
            created: manifest.created.map(|created| created.to_string()),
            base: manifest.base.clone(),
            trust: trust.collect(),
            signature: SignatureView::new(bundle),
            status: referrers.status,
            counts: CountsView {
                images: images.len(),
                referrers: referrers.total,
                subjects: referrers.subjects,
                bare_images: referrers.bare_images,
                by_category: referrers.by_category.clone(),
                blobs: here.len(),
                blob_bytes: bytes(&here),
                blobs_in_base: in_base.len(),
                blob_bytes_in_base: bytes(&in_base),
            },
            images,
            other_subjects,
            warnings: warnings(&manifest.graph.discovery),
        }
    }
}

fn image_view(
    bundle: &OpenedBundle,
    image: &ImageRecord,
    repository: &SourceRepository,
    same_as: Option<Reference>,
    forest: &mut Forest<'_>,
) -> ImageView {
    let found = forest.found(repository, &image.digest);
    let read = || bundle.read_manifest(&image.digest, &image.media_type);
    let manifest = if same_as.is_none() { read() } else { None };
    let listed = manifest.iter().flat_map(|manifest| manifest.children());
    let children = listed.map(|child| {
        let mut omitted = image.omitted.iter();
        ChildView {
            digest: child.digest.clone(),
            platform: child.platform.as_ref().map(ToString::to_string),
            size: child.size,
            omitted: omitted
                .find(|omitted| omitted.digest == child.digest)
                .map(|omitted| omitted.reason.clone()),
            found: forest.found(repository, &child.digest),
        }
    });
    ImageView {
        children: children.collect(),
        reference: image.reference.clone(),
        digest: image.digest.clone(),
        media_type: image.media_type.clone(),
        size: image.size,
        same_as,
        found,
    }
}

/// Discoveries by subject. The referrers of each subject are handed out once, so the output grows no faster than
/// `manifest.yaml`, whatever that claims.
struct Forest<'a> {
    records: &'a [DiscoveryRecord],
    places: HashMap<(&'a SourceRepository, &'a Digest), usize>,
    shown: HashSet<usize>,
}

impl<'a> Forest<'a> {
    fn new(records: &'a [DiscoveryRecord]) -> Self {
        let places = records.iter().enumerate();
        let places = places.map(|(place, record)| ((&record.repository, &record.subject), place));
        Self {
            records,
            places: places.collect(),
            shown: HashSet::new(),
        }
    }

    fn found(&mut self, repository: &SourceRepository, subject: &Digest) -> FoundView {
        let Some(place) = self.places.get(&(repository, subject)).copied() else {
            return FoundView::default();
        };
        let record = &self.records[place];
        let mut referrers = Vec::new();
        let mut open = Vec::new();
        let listed_before = !self.shown.insert(place) && !record.artifacts.is_empty();
        if !listed_before {
            open.push((1, place, 0));
        }
        while let Some((depth, place, next)) = open.pop() {
            let record = &self.records[place];
            let Some(artifact) = record.artifacts.get(next) else {
                continue;
            };
            open.push((depth, place, next + 1));
            referrers.push(ReferrerView {
                depth,
                subject: record.subject.clone(),
                digest: artifact.digest.clone(),
                artifact_type: artifact.artifact_type.clone(),
                media_type: artifact.media_type.clone(),
                size: artifact.size,
                category: artifact.category,
                sources: artifact.sources.clone(),
                tag: artifact.tag.as_ref().map(ToString::to_string),
                path: ReferrerPath::new(&record.subject, &artifact.digest).to_string(),
            });
            let below = self.places.get(&(repository, &artifact.digest)).copied();
            if let Some(below) = below.filter(|_| depth < MAX_DEPTH)
                && self.shown.insert(below)
            {
                open.push((depth + 1, below, 0));
            }
        }
        FoundView {
            capability: Some(record.capability),
            method: Some(record.method),
            status: Some(record.status),
            listed_before,
            referrers,
        }
    }

    /// Returns the subjects that have referrers and were not shown yet.
    fn rest(&mut self) -> Vec<SubjectView> {
        let mut rest = Vec::new();
        for (place, record) in self.records.iter().enumerate() {
            let silent = record.artifacts.is_empty() && record.status == Completeness::Complete;
            if silent || self.shown.contains(&place) {
                continue;
            }
            rest.push(SubjectView {
                repository: record.repository.to_string(),
                digest: record.subject.clone(),
                found: self.found(&record.repository, &record.subject),
            });
        }
        rest
    }
}

fn warnings(records: &[DiscoveryRecord]) -> Vec<WarningView> {
    let mut warnings = Vec::new();
    for record in records {
        let warning = |code: &str| WarningView {
            code: code.to_owned(),
            repository: Some(record.repository.to_string()),
            subject: Some(record.subject.clone()),
            digest: None,
            source: None,
        };
        if record.status == Completeness::Incomplete && record.missing.is_empty() {
            warnings.push(warning(Completeness::Incomplete.as_str()));
        }
        warnings.extend(record.missing.iter().map(|missing| WarningView {
            digest: missing.digest.clone(),
            source: missing.source.clone(),
            ..warning(&missing.code)
        }));
    }
    warnings
}

impl FoundView {
    /// Returns what an empty list of referrers means: nothing, if the discovery failed.
    pub(crate) fn nothing(&self) -> Option<&'static str> {
        if !self.referrers.is_empty() {
            return None;
        }
        Some(match self.status {
            _ if self.listed_before => "What refers to it is listed above.",
            Some(Completeness::Complete) => "Nothing refers to it.",
            Some(_) => "Nothing was found, but not everything could be settled.",
            None => "Its referrers were not looked up.",
        })
    }
}
