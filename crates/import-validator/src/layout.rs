//! The bundle as an OCI image layout: its two files, and everything that its manifests need.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use bundle_format::{
    BaseBundle, BundleManifest, EntryPath, OCI_LAYOUT, index_descriptors, index_json,
    referrers_tag_indexes,
};
use oci_content::{Descriptor, Digest, ManifestErrorKind, REF_NAME, Tag, TagKind, media_type};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::contents::{Contents, Index};
use crate::limits::ValidationLimits;
use crate::objects::{Links, Object, Target};
use crate::omitted;
use crate::report::{FindingKind, Findings};

/// Checks the layout; returns the manifests that were reached from images, referrers and
/// `index.json`.
pub(crate) fn check(
    contents: &Contents,
    base: Option<&BaseBundle>,
    limits: &ValidationLimits,
    findings: &mut Findings,
) -> HashSet<Digest> {
    if let Some(marker) = &contents.oci_layout
        && marker != OCI_LAYOUT
    {
        findings
            .add(FindingKind::LayoutMarker)
            .path(EntryPath::OCI_LAYOUT)
            .expected(String::from_utf8_lossy(OCI_LAYOUT))
            .found(String::from_utf8_lossy(marker));
    }
    let (listed, is_expected) = match &contents.index {
        Index::Other(bytes) => check_index(contents, bytes, findings),
        Index::Expected | Index::Unread => (Vec::new(), true),
    };
    if let Some(base) = base {
        check_base(&contents.manifest, base, findings);
    }
    let mut walk = Walk {
        contents,
        limits,
        findings,
        omitted: contents
            .manifest
            .graph
            .images
            .iter()
            .flat_map(|image| &image.omitted)
            .map(|child| &child.digest)
            .collect(),
        reached: HashSet::new(),
        needed: HashSet::new(),
        queue: VecDeque::new(),
        complete: true,
    };
    for image in &contents.manifest.graph.images {
        let target = Target::new(&image.digest, image.size, &image.media_type);
        walk.run(&target, EntryPath::MANIFEST);
    }
    for (_, artifact) in contents.manifest.graph.referrers() {
        let target = Target::new(&artifact.digest, artifact.size, &artifact.media_type);
        walk.run(&target, EntryPath::MANIFEST);
    }
    let before = walk.findings.counts.errors;
    for descriptor in &listed {
        walk.run(&Target::from(descriptor), EntryPath::INDEX);
    }
    if !is_expected && walk.findings.counts.errors == before {
        walk.findings
            .add(FindingKind::IndexNotCanonical)
            .path(EntryPath::INDEX)
            .expected("the bytes that manifest.yaml determines")
            .found("other bytes with the same names and digests");
    }
    walk.finish()
}

/// Compares what the bundle leaves out with what the given base lists.
fn check_base(manifest: &BundleManifest, base: &BaseBundle, findings: &mut Findings) {
    if manifest.base.as_ref() != Some(base.digest()) {
        let expected = manifest.base.as_ref().map(Digest::to_string);
        let expected = expected.unwrap_or_else(|| "none, since this is not a delta".to_owned());
        findings
            .add(FindingKind::BaseMismatch)
            .path(EntryPath::MANIFEST)
            .expected(expected)
            .found(base.digest());
        return;
    }
    for entry in manifest.left_out() {
        if !base.holds(&entry.sha256, entry.size) {
            findings
                .add(FindingKind::BaseMissing)
                .path(&entry.path)
                .expected(format_args!("{} bytes in the base", entry.size))
                .found("the base lists no such blob");
        }
    }
}

fn read_index(bytes: &[u8], findings: &mut Findings) -> Option<Vec<Descriptor>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Index<'a> {
        schema_version: u64,
        #[serde(default)]
        media_type: Option<String>,
        #[serde(borrow)]
        manifests: Vec<&'a RawValue>,
    }
    let parse = || -> Result<Vec<Descriptor>, String> {
        let index: Index<'_> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let own_type = index
            .media_type
            .as_deref()
            .unwrap_or(media_type::IMAGE_INDEX);
        if index.schema_version != 2 || own_type != media_type::IMAGE_INDEX {
            return Err("it is not of schema version 2 and the type of an image index".to_owned());
        }
        let entries = index.manifests.into_iter();
        let entries = entries.map(|entry| Descriptor::from_json(entry.get()));
        entries
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())
    };
    match parse() {
        Ok(entries) => Some(entries),
        Err(reason) => {
            findings
                .add(FindingKind::IndexMalformed)
                .path(EntryPath::INDEX)
                .found(reason);
            None
        }
    }
}

fn ref_name(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(REF_NAME).map(String::as_str)
}

/// Compares an `index.json` that is not the expected one with the one that has referrers tags, if
/// it has any; returns what it lists, and whether its bytes are right or something was reported.
fn check_index(
    contents: &Contents,
    bytes: &[u8],
    findings: &mut Findings,
) -> (Vec<Descriptor>, bool) {
    let Some(listed) = read_index(bytes, findings) else {
        return (Vec::new(), true);
    };
    let manifest = &contents.manifest;
    let mut expected = index_descriptors(&manifest.graph.images, &manifest.graph.discovery);
    if listed.iter().any(is_referrers_tag) {
        let own = |digest: &Digest| contents.objects.descriptor(digest);
        let mut artifacts = manifest.graph.referrers();
        if !artifacts.all(|(_, artifact)| own(&artifact.digest).is_some()) {
            // A referrer that is missing, damaged or not a manifest was reported; without it the
            // indexes cannot be made again.
            let others = listed.iter().filter(|entry| !is_referrers_tag(entry));
            compare(&expected, others, findings);
            return (listed, true);
        }
        let tags = referrers_tag_indexes(&manifest.graph.images, &manifest.graph.discovery, own);
        expected.extend(tags.into_iter().map(|(entry, _)| entry));
    }
    let agrees = compare(&expected, listed.iter(), findings);
    (listed, !agrees || index_json(&expected) == bytes)
}

/// Compares the names and digests of `index.json`; returns whether they are the expected ones.
fn compare<'a>(
    expected: &[Descriptor],
    listed: impl Iterator<Item = &'a Descriptor>,
    findings: &mut Findings,
) -> bool {
    let name = |entry: &Descriptor| ref_name(entry).map(str::to_owned);
    let before = findings.counts.errors;
    let mut missing: BTreeMap<_, _> = expected
        .iter()
        .map(|entry| ((name(entry), entry.digest.clone()), entry))
        .collect();
    let names: BTreeMap<_, _> = expected
        .iter()
        .filter_map(|entry| Some((name(entry)?, &entry.digest)))
        .collect();
    let known: BTreeSet<_> = expected
        .iter()
        .map(|entry| (name(entry), entry.digest.clone()))
        .collect();
    for entry in listed {
        let key = (name(entry), entry.digest.clone());
        if known.contains(&key) {
            missing.remove(&key);
            continue;
        }
        let (name, digest) = key;
        match name.as_ref().and_then(|name| names.get(name)) {
            Some(expected) => {
                findings
                    .add(FindingKind::ReferenceConflict)
                    .path(EntryPath::INDEX)
                    .expected(format_args!(
                        "{} for {}",
                        expected,
                        name.unwrap_or_default()
                    ))
                    .found(digest);
            }
            None => {
                let name = name.map(|name| format!(" under the name {name}"));
                let name = name.unwrap_or_default();
                findings
                    .add(FindingKind::IndexEntryUnexpected)
                    .path(EntryPath::INDEX)
                    .expected("the images and referrers of manifest.yaml")
                    .found(format_args!("{digest}{name}"));
            }
        }
    }
    for ((name, digest), _) in missing {
        let name = name.map(|name| format!(" under the name {name}"));
        findings
            .add(FindingKind::IndexEntryMissing)
            .path(EntryPath::INDEX)
            .expected(format_args!("{digest}{}", name.unwrap_or_default()))
            .found("no such entry");
    }
    findings.counts.errors == before
}

/// Returns whether an entry has the name of a referrers tag, by which clients of a layout folder
/// look for referrers.
///
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema>
fn is_referrers_tag(entry: &Descriptor) -> bool {
    let tag = ref_name(entry).and_then(|name| name.parse::<Tag>().ok());
    let kind = tag.map(|tag| tag.kind());
    matches!(
        kind,
        Some(TagKind::Referrers {
            subject: Some(_),
            ..
        })
    )
}

/// A walk from manifests to everything that they need.
struct Walk<'a> {
    contents: &'a Contents,
    limits: &'a ValidationLimits,
    findings: &'a mut Findings,
    /// Children that an image leaves out; they may be absent wherever they are listed.
    omitted: HashSet<&'a Digest>,
    /// Manifests that were visited.
    reached: HashSet<Digest>,
    /// Content that a manifest needs.
    needed: HashSet<Digest>,
    queue: VecDeque<(Target, EntryPath, usize)>,
    /// Whether every manifest could be read; if not, it is unknown what they need.
    complete: bool,
}

impl<'a> Walk<'a> {
    /// Walks from a manifest that the file `from` lists.
    fn run(&mut self, root: &Target, from: EntryPath) {
        self.queue.push_back((root.clone(), from, 0));
        while let Some((target, from, depth)) = self.queue.pop_front() {
            if let Some(links) = self.manifest(&target, &from) {
                self.follow(&target.digest, links, depth);
            }
        }
    }

    /// Checks one edge to a manifest; returns what it says, if it was not visited before.
    fn manifest(&mut self, target: &Target, from: &EntryPath) -> Option<&'a Links> {
        let Some(path) = self.blob(target, from) else {
            self.complete = false;
            return None;
        };
        if self.contents.in_base.contains(&target.digest) {
            self.complete = false;
            if self.reached.insert(target.digest.clone()) {
                self.findings
                    .add(FindingKind::ObjectMissing)
                    .path(from)
                    .expected(format_args!("{} ({})", target.digest, target.media_type))
                    .found("it is left to the base, and a delta has to hold all its manifests");
            }
            return None;
        }
        if self.contents.damaged.contains(&path) {
            self.complete = false;
            return None;
        }
        let objects = &self.contents.objects;
        let (kind, reason) = match objects.get(&target.digest) {
            Some(Object::Manifest(links)) => {
                if *links.media_type != *target.media_type {
                    self.findings
                        .add(FindingKind::MediaTypeMismatch)
                        .path(&path)
                        .expected(format_args!("{}, as {from} says", target.media_type))
                        .found(&links.media_type);
                }
                return self.reached.insert(target.digest.clone()).then_some(links);
            }
            Some(Object::Not(kind, reason)) => {
                let reason = reason.clone();
                let reason =
                    reason.unwrap_or_else(|| format!("not a manifest, and {from} needs one"));
                match kind {
                    ManifestErrorKind::Unsupported => (FindingKind::ObjectUnsupported, reason),
                    ManifestErrorKind::TypeConfusion => (FindingKind::TypeConfusion, reason),
                    _ => (FindingKind::ObjectMalformed, reason),
                }
            }
            None if target.size > oci_content::MAX_MANIFEST_BYTES => {
                let reason = format!(
                    "{} bytes, and a manifest has at most {}",
                    target.size,
                    oci_content::MAX_MANIFEST_BYTES
                );
                (FindingKind::ObjectBytes, reason)
            }
            None => (
                FindingKind::ObjectMalformed,
                format!("not JSON, and {from} needs a manifest"),
            ),
        };
        self.complete = false;
        if self.reached.insert(target.digest.clone()) {
            self.findings.add(kind).path(&path).found(reason);
        }
        None
    }

    /// Checks one edge to content of any kind: that it is there, and of the size that the edge
    /// gives.
    fn blob(&mut self, target: &Target, from: &EntryPath) -> Option<EntryPath> {
        let Some(size) = self.contents.blobs.get(&target.digest) else {
            self.findings
                .add(FindingKind::ObjectMissing)
                .path(from)
                .expected(format_args!("{} ({})", target.digest, target.media_type))
                .found("the bundle does not list it");
            return None;
        };
        self.needed.insert(target.digest.clone());
        let path = EntryPath::blob(&target.digest).ok()?;
        if *size != target.size {
            self.findings
                .add(FindingKind::ObjectSizeMismatch)
                .path(&path)
                .expected(format_args!("{} bytes, as {from} says", target.size))
                .found(format_args!("{size} bytes"));
        }
        Some(path)
    }

    fn follow(&mut self, digest: &Digest, links: &Links, depth: usize) {
        // The content was found by its digest, so it has a path.
        let Ok(path) = EntryPath::blob(digest) else {
            return;
        };
        for digest in &links.false_data {
            self.findings
                .add(FindingKind::EmbeddedDataMismatch)
                .path(&path)
                .expected(format_args!("the content of {digest}"))
                .found("a descriptor that embeds other content");
        }
        let is_index = media_type::is_index(&links.media_type);
        for blob in &links.blobs {
            if !(is_index && self.is_omitted(&blob.digest)) {
                self.blob(blob, &path);
            }
        }
        if depth >= self.limits.max_index_depth && !links.children.is_empty() {
            self.complete = false;
            let limit = self.limits.max_index_depth;
            self.findings
                .add(FindingKind::IndexDepth)
                .path(&path)
                .expected(format_args!("at most {limit} levels of indexes"));
            return;
        }
        for child in &links.children {
            let child = &child.target;
            if !self.is_omitted(&child.digest) {
                self.queue
                    .push_back((child.clone(), path.clone(), depth + 1));
            }
        }
    }

    /// Returns whether any image leaves this content out; whether it may is checked at the end.
    fn is_omitted(&self, digest: &Digest) -> bool {
        self.omitted.contains(digest) && !self.contents.blobs.contains_key(digest)
    }

    fn finish(self) -> HashSet<Digest> {
        if !self.complete {
            return self.reached;
        }
        omitted::check(self.contents, self.findings);
        let mut unneeded: Vec<_> = self.contents.blobs.keys().collect();
        unneeded.retain(|digest| !self.needed.contains(*digest));
        // Only the first findings are listed, so their order must not change.
        unneeded.sort_unstable();
        for path in unneeded
            .into_iter()
            .filter_map(|digest| EntryPath::blob(digest).ok())
        {
            self.findings
                .add(FindingKind::UnreferencedObject)
                .path(path)
                .found("no image and no referrer needs it");
        }
        self.reached
    }
}
