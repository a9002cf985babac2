//! What must hold between the statements of every manifest.

use std::collections::{BTreeMap, HashSet};

use oci_content::{
    Algorithm, ArtifactRecord, Completeness, Digest, DiscoveryRecord, LegacyTag, OmittedChild,
    SourceKind,
};

use super::{BundleManifest, ManifestError, ManifestErrorKind, ReferrerTotals};
use crate::entry_path::{EntryKind, EntryPath, ReferrerPath};

/// The largest file below `trust/`, in bytes: its users read it as a whole.
const MAX_TRUST_BYTES: u64 = 1 << 20;

fn inconsistent(reason: impl Into<String>) -> ManifestError {
    ManifestError::new(ManifestErrorKind::Inconsistent, reason)
}

/// Checks that each key is greater than the one before it.
fn ascending<K: Ord>(
    keys: impl Iterator<Item = K>,
    describe: impl Fn(&K) -> String,
) -> Result<(), ManifestError> {
    let mut previous: Option<K> = None;
    for key in keys {
        if let Some(previous) = &previous {
            if *previous == key {
                return Err(inconsistent(format!("{} is there twice", describe(&key))));
            }
            if *previous > key {
                return Err(inconsistent(format!("{} is out of order", describe(&key))));
            }
        }
        previous = Some(key);
    }
    Ok(())
}

fn sha256(digest: &Digest) -> Result<(), ManifestError> {
    match digest.algorithm() {
        Algorithm::Sha256 => Ok(()),
        _ => Err(inconsistent(format!(
            "{digest}: version 1 of the bundle carries sha256 objects only"
        ))),
    }
}

impl BundleManifest {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        if let Some(base) = &self.base {
            sha256(base)?;
        }
        self.check_images()?;
        self.check_discovery()?;
        self.check_entries()?;
        self.check_totals()
    }

    fn check_images(&self) -> Result<(), ManifestError> {
        let names = self
            .graph
            .images
            .iter()
            .map(|image| image.reference.to_string());
        ascending(names, |name| format!("image {name}"))?;
        let mut tags = BTreeMap::new();
        let mut described = BTreeMap::new();
        for image in &self.graph.images {
            sha256(&image.digest)?;
            let reference = &image.reference;
            let description = (image.size, &image.media_type, &image.omitted);
            if let Some(other) = described.insert(&image.digest, description)
                && other != description
            {
                return Err(inconsistent(format!(
                    "image {reference}: {} is described in two ways",
                    image.digest
                )));
            }
            if let Some(pinned) = reference.digest()
                && *pinned != image.digest
            {
                return Err(inconsistent(format!(
                    "image {reference} has the digest {}",
                    image.digest
                )));
            }
            if let Some(tag) = reference.tag() {
                let name = (reference.registry(), reference.repository(), tag);
                if let Some(other) = tags.insert(name, &image.digest)
                    && *other != image.digest
                {
                    return Err(inconsistent(format!(
                        "the tag of image {reference} stands for two digests, {other} and {}",
                        image.digest
                    )));
                }
            }
            let omitted = image.omitted.iter().map(|child| &child.digest);
            ascending(omitted, |digest| {
                format!("image {reference}: omitted {digest}")
            })?;
            for child in &image.omitted {
                word(&child.reason).map_err(|reason| {
                    inconsistent(format!(
                        "image {reference}: reason of {}: {reason}",
                        child.digest
                    ))
                })?;
            }
        }
        Ok(())
    }

    fn check_discovery(&self) -> Result<(), ManifestError> {
        let keys = self
            .graph
            .discovery
            .iter()
            .map(|record| (record.repository.to_string(), &record.subject));
        ascending(keys, |(repository, subject)| {
            format!("discovery of {repository}@{subject}")
        })?;
        let mut copies = BTreeMap::<_, &ArtifactRecord>::new();
        for record in &self.graph.discovery {
            check_record(record).map_err(|mut error| {
                error.reason = format!(
                    "discovery of {}@{}: {}",
                    record.repository, record.subject, error.reason
                );
                error
            })?;
            for artifact in &record.artifacts {
                let one =
                    |a: &ArtifactRecord| (a.size, a.media_type.clone(), a.artifact_type.clone());
                if let Some(copy) = copies.insert((&record.subject, &artifact.digest), artifact)
                    && one(copy) != one(artifact)
                {
                    return Err(inconsistent(format!(
                        "{} is described in two ways",
                        ReferrerPath::new(&record.subject, &artifact.digest)
                    )));
                }
            }
        }
        Ok(())
    }

    fn check_entries(&self) -> Result<(), ManifestError> {
        for pair in self.entries.windows(2) {
            let path = &pair[1].path;
            match pair[0].path.byte_order(path) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => {
                    return Err(inconsistent(format!("entry {path} is there twice")));
                }
                std::cmp::Ordering::Greater => {
                    return Err(inconsistent(format!("entry {path} is out of order")));
                }
            }
        }
        for entry in &self.entries {
            let path = &entry.path;
            sha256(&entry.sha256)?;
            match path.kind() {
                EntryKind::Blob(digest) if *digest == entry.sha256 => {}
                EntryKind::Blob(_) => {
                    return Err(inconsistent(format!(
                        "entry {path} has the sha256 {}",
                        entry.sha256.encoded()
                    )));
                }
                EntryKind::Trust(_) if entry.size > MAX_TRUST_BYTES => {
                    return Err(inconsistent(format!(
                        "entry {path} has {} bytes, more than {MAX_TRUST_BYTES}",
                        entry.size
                    )));
                }
                EntryKind::OciLayout | EntryKind::Index | EntryKind::Trust(_) if !entry.base => {}
                EntryKind::OciLayout | EntryKind::Index | EntryKind::Trust(_) => {
                    return Err(inconsistent(format!("entry {path} cannot be in the base")));
                }
                _ => return Err(inconsistent(format!("{path} is not in `entries`"))),
            }
        }
        self.check_left_out()?;
        self.check_omitted()?;
        for path in [EntryPath::INDEX, EntryPath::OCI_LAYOUT] {
            if !self.entries.iter().rev().any(|entry| entry.path == path) {
                return Err(inconsistent(format!("there is no entry {path}")));
            }
        }
        // Files left to the base count too: their sizes are shown, and targets are asked for them.
        let referrers = self.graph.referrers();
        let mut sizes = referrers
            .map(|(_, artifact)| artifact.size)
            .chain(self.entries.iter().map(|entry| entry.size));
        // No file is larger, and sums below this cannot overflow an offset.
        const MAX_TOTAL_BYTES: u64 = 1 << 62;
        let total = sizes.try_fold(0_u64, u64::checked_add);
        if total.is_none_or(|total| total > MAX_TOTAL_BYTES) {
            return Err(inconsistent(
                "the sizes add up to more than a file can hold",
            ));
        }
        Ok(())
    }

    /// Checks that the bundle does not hold what an image leaves out; only the image's manifest
    /// shows whether it lists it.
    fn check_omitted(&self) -> Result<(), ManifestError> {
        for image in &self.graph.images {
            let wrong = |child: &&OmittedChild| {
                child.digest == image.digest
                    || EntryPath::blob(&child.digest).is_ok_and(|path| self.entry(&path).is_some())
            };
            if let Some(child) = image.omitted.iter().find(wrong) {
                return Err(inconsistent(format!(
                    "image {} leaves out {}, which the bundle holds",
                    image.reference, child.digest
                )));
            }
        }
        Ok(())
    }

    /// Checks the entries left to the base: a delta holds all its manifests, so that its graph can
    /// be judged without the base.
    fn check_left_out(&self) -> Result<(), ManifestError> {
        let Some(first) = self.left_out().next() else {
            return Ok(());
        };
        if self.base.is_none() {
            return Err(inconsistent(format!(
                "entry {} is in the base, and there is no base",
                first.path
            )));
        }
        let records = self.graph.discovery.iter();
        let listed = records.flat_map(|record| {
            let artifacts = record.artifacts.iter().map(|artifact| &artifact.digest);
            artifacts.chain([&record.subject])
        });
        let images = self.graph.images.iter().map(|image| &image.digest);
        let manifests: HashSet<_> = images.chain(listed).collect();
        match self
            .left_out()
            .find(|entry| manifests.contains(&entry.sha256))
        {
            None => Ok(()),
            Some(entry) => Err(inconsistent(format!(
                "entry {} is a manifest and cannot be in the base",
                entry.path
            ))),
        }
    }

    fn check_totals(&self) -> Result<(), ManifestError> {
        let mut expected = ReferrerTotals::count(&self.graph, self.referrers.bare_images);
        expected.status = self.referrers.status;
        if self.referrers != expected {
            return Err(inconsistent(format!(
                "the counts are not those of the lists: total {} and {} listed, subjects {} and {} listed, or by_category",
                self.referrers.total, expected.total, self.referrers.subjects, expected.subjects
            )));
        }
        let (bare, images) = (self.referrers.bare_images, self.graph.images.len());
        if bare > images as u64 {
            return Err(inconsistent(format!("{bare} bare images of {images}")));
        }
        let incomplete = |record: &&DiscoveryRecord| record.status == Completeness::Incomplete;
        if let Some(record) = self.graph.discovery.iter().find(incomplete)
            && self.referrers.status == Completeness::Complete
        {
            return Err(inconsistent(format!(
                "the status is complete, and that of {}@{} is not",
                record.repository, record.subject
            )));
        }
        Ok(())
    }
}

fn check_record(record: &DiscoveryRecord) -> Result<(), ManifestError> {
    ascending(record.missing.iter(), |missing| {
        format!("missing {}", missing.code)
    })?;
    for missing in &record.missing {
        word(&missing.code)
            .map_err(|reason| inconsistent(format!("code {:?}: {reason}", missing.code)))?;
        if let Some(source) = &missing.source
            && SourceKind::from_word(source).is_none()
        {
            return Err(inconsistent(format!(
                "missing {}: {source:?} is no source",
                missing.code
            )));
        }
    }
    let keys = record.artifacts.iter().map(|a| (&a.digest, &a.tag));
    ascending(keys, |(digest, _)| format!("artifact {digest}"))?;
    for artifact in &record.artifacts {
        let digest = &artifact.digest;
        EntryPath::referrer(&record.subject, digest)
            .map_err(|error| inconsistent(error.to_string()))?;
        // Only a legacy tag could say so, and discovery treats such a tag as one of the subject
        // itself.
        if *digest == record.subject {
            return Err(inconsistent(format!(
                "artifact {digest} is its own subject"
            )));
        }
        if artifact.sources.is_empty() {
            return Err(inconsistent(format!("no source named artifact {digest}")));
        }
        ascending(artifact.sources.iter(), |source| {
            format!("source {source} of artifact {digest}")
        })?;
        let legacy = artifact.sources.contains(&SourceKind::LegacyTag);
        match &artifact.tag {
            None if !legacy => {}
            Some(tag) if legacy => {
                let subject = LegacyTag::from_tag(tag).map(|tag| tag.subject().clone());
                if subject.as_ref() != Some(&record.subject) {
                    return Err(inconsistent(format!(
                        "artifact {digest}: {tag} is no legacy tag of the subject"
                    )));
                }
            }
            _ => {
                return Err(inconsistent(format!(
                    "artifact {digest} has a tag without the source legacy-tag, or the source without a tag"
                )));
            }
        }
    }
    Ok(())
}

/// Checks the spelling of a code or a reason, which programs compare.
fn word(text: &str) -> Result<(), &'static str> {
    const MAX_BYTES: usize = 64;
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let valid = !text.is_empty() && text.len() <= MAX_BYTES && text.bytes().all(letter);
    if valid {
        Ok(())
    } else {
        Err("not 1 to 64 lower-case letters, digits and hyphens")
    }
}
