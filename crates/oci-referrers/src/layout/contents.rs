use std::collections::{BTreeMap, BTreeSet};

use oci_content::{
    Algorithm, CONTAINERD_IMAGE_NAME, Descriptor, Digest, ErrorCode, ImageLayout, LayoutError,
    LayoutErrorKind, MAX_MANIFEST_BYTES, Manifest, REF_NAME, Reference, SourceRepository, Tag,
    TagKind, referrers_tag, with_causes,
};

use crate::manifests::ManifestFailure;
use crate::source::{Answer, Claim, Problem};

/// What a layout folder holds, as far as `index.json` leads to it.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) layout: ImageLayout,
    /// The entries of `index.json`, in order.
    pub(super) entries: Vec<Entry>,
    /// Every manifest that was read.
    manifests: BTreeMap<Digest, Links>,
    /// Referrers by subject.
    referrers: BTreeMap<Digest, Vec<Digest>>,
    /// What has a referrers tag as its name.
    pub(super) referrers_tags: BTreeMap<Tag, Vec<Named>>,
    /// What has a legacy tag as its name, by the subject that the tag names.
    pub(super) legacy: BTreeMap<Digest, Vec<Named>>,
    /// Failures to read manifests when the folder was opened.
    pub(super) unreadable: Vec<Problem>,
}

/// What a manifest leads to.
#[derive(Debug)]
struct Links {
    subject: Option<Digest>,
    children: Box<[Digest]>,
}

/// An entry of `index.json`.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) digest: Digest,
    /// Its `ref.name`.
    pub(super) name: Option<String>,
    /// Its full name, with a registry.
    pub(super) full: Option<Reference>,
    pub(super) tag: Option<Tag>,
}

/// A manifest under a tag that says what it refers to.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) tag: Tag,
    /// The repository of the tag; `None` if `index.json` has the bare tag.
    pub(super) repository: Option<SourceRepository>,
    pub(super) digest: Digest,
}

impl Entry {
    fn new(descriptor: Descriptor) -> Self {
        let mut annotations = descriptor.annotations;
        let name = annotations.remove(REF_NAME);
        let containerd = annotations.remove(CONTAINERD_IMAGE_NAME);
        let parse = |text: &String| text.parse::<Reference>().ok();
        let by_name = name.as_ref().and_then(parse);
        let full = containerd.as_ref().and_then(parse).or(by_name.clone());
        // The name of the layout specification comes first: tools that tag an image again change
        // this one only.
        let tag = match (&name, &by_name) {
            (_, Some(reference)) => reference.tag().cloned(),
            (Some(name), None) => name.parse().ok(),
            (None, None) => None,
        };
        let tag = tag.or_else(|| full.as_ref()?.tag().cloned());
        Self {
            digest: descriptor.digest,
            name,
            full,
            tag,
        }
    }

    /// Returns the repository that the entry says it is in.
    pub(super) fn repository(&self) -> Option<SourceRepository> {
        self.full.as_ref().map(SourceRepository::from)
    }
}

impl Contents {
    pub(super) fn read(layout: ImageLayout) -> Result<Self, LayoutError> {
        let entries = layout.index()?;
        let mut contents = Self {
            layout,
            entries: entries.into_iter().map(Entry::new).collect(),
            manifests: BTreeMap::new(),
            referrers: BTreeMap::new(),
            referrers_tags: BTreeMap::new(),
            legacy: BTreeMap::new(),
            unreadable: Vec::new(),
        };
        for entry in &contents.entries {
            let Some(tag) = &entry.tag else { continue };
            let named = Named {
                tag: tag.clone(),
                repository: entry.repository(),
                digest: entry.digest.clone(),
            };
            let place = match tag.kind() {
                TagKind::Referrers { .. } => {
                    contents.referrers_tags.entry(tag.clone()).or_default()
                }
                TagKind::Legacy(legacy) => {
                    contents.legacy.entry(legacy.subject().clone()).or_default()
                }
                _ => continue,
            };
            place.push(named);
        }
        contents.follow();
        Ok(contents)
    }

    /// Reads every manifest that `index.json` leads to.
    fn follow(&mut self) {
        let mut stack: Vec<_> = self
            .entries
            .iter()
            .map(|entry| entry.digest.clone())
            .collect();
        let mut seen = BTreeSet::new();
        while let Some(digest) = stack.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            match self.read_manifest(&digest) {
                Ok(manifest) => stack.extend(self.add(&manifest)),
                Err(ManifestFailure::NotFound) => {
                    let message = "index.json lists a manifest that is not there";
                    let problem = Problem::new(ErrorCode::Integrity, message).about(&digest);
                    self.unreadable.push(problem);
                }
                Err(ManifestFailure::Failed(problem)) => self.unreadable.push(problem),
            }
        }
    }

    /// Adds a manifest, and returns its children that are there.
    fn add(&mut self, manifest: &Manifest) -> Vec<Digest> {
        let digest = manifest.digest();
        let subject = manifest.subject().map(|subject| subject.digest.clone());
        if let Some(subject) = &subject {
            let known = self.referrers.entry(subject.clone()).or_default();
            known.push(digest.clone());
        }
        let mut children = Vec::new();
        for child in manifest.children() {
            match self.layout.blob_size(&child.digest) {
                // It was left out by a platform filter, or a stale tag names it.
                Ok(None) => {}
                Ok(Some(_)) => children.push(child.digest.clone()),
                Err(error) => {
                    let problem = Problem::new(ErrorCode::ServerError, with_causes(&error));
                    self.unreadable.push(problem.about(&child.digest));
                }
            }
        }
        let links = Links {
            subject,
            children: children.as_slice().into(),
        };
        self.manifests.insert(digest.clone(), links);
        children
    }

    pub(super) fn read_manifest(&self, digest: &Digest) -> Result<Manifest, ManifestFailure> {
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

    pub(super) fn referrers(&self, subject: &Digest) -> &[Digest] {
        let referrers = self.referrers.get(subject);
        referrers.map(Vec::as_slice).unwrap_or_default()
    }

    /// Reads the referrers of a subject. They were there when the folder was opened, so one that
    /// cannot be read now is a failure.
    pub(super) fn list(&self, digests: &[Digest]) -> Answer {
        let mut answer = Answer::list([]);
        for digest in digests {
            match self.read_manifest(digest) {
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

    /// Returns whether a manifest belongs to an image that has a name in `repository`.
    pub(super) fn has(&self, repository: &SourceRepository, digest: &Digest) -> bool {
        let own = self.entries.iter().filter(|entry| {
            let is_image = entry
                .tag
                .as_ref()
                .is_none_or(|tag| tag.kind() == TagKind::Plain);
            is_image && entry.repository().as_ref() == Some(repository)
        });
        let mut stack: Vec<_> = own.map(|entry| &entry.digest).collect();
        let mut seen = BTreeSet::new();
        while let Some(next) = stack.pop() {
            if next == digest {
                return true;
            }
            if seen.insert(next) {
                let links = self.manifests.get(next);
                stack.extend(links.into_iter().flat_map(|links| &links.children));
                stack.extend(self.referrers(next));
            }
        }
        false
    }

    /// Returns the entries that are images: everything that does not belong to something else in
    /// the folder, as a child of an index, a referrer, or what holds referrers.
    ///
    /// What has an ordinary name is an image although an index lists it as well. A referrer is one
    /// only if its subject is not in the folder: it would not be found otherwise.
    pub(super) fn images(&self) -> impl Iterator<Item = &Entry> {
        let children: BTreeSet<&Digest> = self
            .manifests
            .values()
            .flat_map(|links| &links.children)
            .collect();
        // The tag of a sha512 subject has only a part of its digest.
        let sha512 = self.manifests.keys();
        let sha512 = sha512.filter(|known| known.algorithm() == Algorithm::Sha512);
        let cut: BTreeSet<Tag> = sha512.map(referrers_tag).collect();
        self.entries.iter().filter(move |entry| {
            let is_here = |subject: &Digest| self.manifests.contains_key(subject);
            let links = self.manifests.get(&entry.digest);
            if links
                .and_then(|links| links.subject.as_ref())
                .is_some_and(is_here)
            {
                return false;
            }
            match entry.tag.as_ref().map(Tag::kind) {
                Some(TagKind::Legacy(legacy)) => !is_here(legacy.subject()),
                Some(TagKind::Referrers { subject, .. }) => !match subject {
                    Some(subject) => is_here(&subject),
                    None => entry.tag.as_ref().is_some_and(|tag| cut.contains(tag)),
                },
                Some(_) => true,
                // What cannot be read is not known to be an image; every answer names it.
                None => links.is_some() && !children.contains(&entry.digest),
            }
        })
    }
}
