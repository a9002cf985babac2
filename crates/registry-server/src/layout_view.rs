use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use oci_content::{
    Descriptor, Digest, ImageLayout, Manifest, REF_NAME, Reference, Registry, RepositoryName, Tag,
};

use crate::checked::{Kept, read_manifest};
use crate::store::{Repository, StoreError, StoreErrorKind};

/// The state of a layout when its `index.json` was read.
#[derive(Debug)]
pub(crate) struct View {
    entries: Vec<Descriptor>,
    names: Vec<Name>,
    /// Every manifest that is reachable from the index and readable.
    manifests: HashMap<Digest, Arc<Known>>,
    referrers: HashMap<Digest, Vec<Descriptor>>,
    /// Manifests that are damaged, or named by `index.json` and missing, so that their subjects are
    /// unknown. They can be repaired without a change of the index.
    unread: Vec<Digest>,
}

/// The parsed `ref.name` of an entry.
#[derive(Debug)]
struct Name {
    entry: usize,
    host: Option<Registry>,
    repository: RepositoryName,
    tag: Option<Tag>,
}

/// What a manifest says. It never changes, because its bytes do not.
#[derive(Debug)]
struct Known {
    descriptor: Descriptor,
    subject: Option<Digest>,
    children: Vec<Descriptor>,
    blobs: Vec<Digest>,
}

impl View {
    /// Reads the layout, without reading manifests again that `old` knows.
    pub(crate) fn read(
        layout: &ImageLayout,
        bare: Option<&RepositoryName>,
        old: Option<&Self>,
    ) -> Result<Self, StoreError> {
        let entries = layout.index().map_err(StoreError::failed)?;
        let names = entries.iter().enumerate().filter_map(|(at, entry)| {
            let name = entry.annotations.get(REF_NAME)?;
            if let Ok(reference) = name.parse::<Reference>() {
                return Some(Name {
                    entry: at,
                    host: Some(reference.registry().clone()),
                    repository: reference.repository().clone(),
                    tag: reference.tag().cloned(),
                });
            }
            Some(Name {
                entry: at,
                host: None,
                repository: bare?.clone(),
                tag: Some(name.parse().ok()?),
            })
        });
        let names = names.collect();
        let mut manifests: HashMap<Digest, Arc<Known>> = HashMap::new();
        let mut referrers: HashMap<Digest, Vec<Descriptor>> = HashMap::new();
        let named: HashSet<&Digest> = entries.iter().map(|entry| &entry.digest).collect();
        let mut reached: Vec<Descriptor> = entries.clone();
        let mut unread = Vec::new();
        while let Some(entry) = reached.pop() {
            if manifests.contains_key(&entry.digest) {
                continue;
            }
            let known = old.and_then(|old| old.manifests.get(&entry.digest));
            let known = match known {
                Some(known) => Arc::clone(known),
                None => match read_manifest(layout, &entry.digest) {
                    Ok(Kept::Bytes(bytes)) => match Known::parse(bytes, &entry) {
                        Some(known) => known,
                        None => continue,
                    },
                    Ok(Kept::TooLarge) => continue,
                    // A missing child is a platform that was left out.
                    Ok(Kept::Absent) if !named.contains(&entry.digest) => continue,
                    Ok(Kept::Absent) => {
                        unread.push(entry.digest);
                        continue;
                    }
                    Err(error) if error.kind() == StoreErrorKind::Damaged => {
                        unread.push(entry.digest);
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            if let Some(subject) = &known.subject {
                let list = referrers.entry(subject.clone()).or_default();
                list.push(known.descriptor.clone());
            }
            reached.extend(known.children.iter().cloned());
            manifests.insert(entry.digest, known);
        }
        Ok(Self {
            entries,
            names,
            manifests,
            referrers,
            unread,
        })
    }

    pub(crate) fn is_damaged(&self) -> bool {
        !self.unread.is_empty()
    }

    pub(crate) fn entries(&self) -> &[Descriptor] {
        &self.entries
    }

    fn names<'a>(&'a self, repository: &'a Repository) -> impl Iterator<Item = &'a Name> {
        self.names.iter().filter(move |name| {
            let host = repository.namespace();
            name.repository == *repository.name()
                && host.is_none_or(|host| name.host.as_ref() == Some(host))
        })
    }

    /// Returns the repository of each named entry, with repetitions.
    pub(crate) fn repositories<'a>(
        &'a self,
        namespace: Option<&'a Registry>,
    ) -> impl Iterator<Item = &'a RepositoryName> {
        let of_host = move |name: &&Name| namespace.is_none() || name.host.as_ref() == namespace;
        self.names
            .iter()
            .filter(of_host)
            .map(|name| &name.repository)
    }

    pub(crate) fn contains(&self, repository: &Repository) -> bool {
        self.names(repository).next().is_some()
    }

    pub(crate) fn tags<'a>(&'a self, repository: &'a Repository) -> impl Iterator<Item = &'a Tag> {
        self.names(repository).filter_map(|name| name.tag.as_ref())
    }

    /// Returns the entry that has a tag: that of the default host if there is one, otherwise the
    /// first.
    pub(crate) fn entry(
        &self,
        repository: &Repository,
        tag: &Tag,
        default_host: Option<&Registry>,
    ) -> Option<&Descriptor> {
        let tagged = || {
            self.names(repository)
                .filter(|name| name.tag.as_ref() == Some(tag))
        };
        let preferred = tagged().find(|name| name.host.as_ref() == default_host);
        let name = preferred.or_else(|| tagged().next())?;
        self.entries.get(name.entry)
    }

    pub(crate) fn resolve(
        &self,
        repository: &Repository,
        tag: &Tag,
        default_host: Option<&Registry>,
    ) -> Option<&Digest> {
        Some(&self.entry(repository, tag, default_host)?.digest)
    }

    /// Returns the entry with exactly this `ref.name`.
    pub(crate) fn named(&self, ref_name: &str) -> Option<&Descriptor> {
        let own = |entry: &&Descriptor| {
            let name = entry.annotations.get(REF_NAME);
            name.is_some_and(|name| name == ref_name)
        };
        self.entries.iter().find(own)
    }

    /// Returns the `ref.name`s that a digest has in a repository.
    pub(crate) fn names_of<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
    ) -> impl Iterator<Item = &'a str> {
        let entries = self
            .names(repository)
            .filter_map(|name| self.entries.get(name.entry));
        entries
            .filter(move |entry| entry.digest == *digest)
            .filter_map(|entry| entry.annotations.get(REF_NAME).map(String::as_str))
    }

    /// Returns the media type of a manifest that the index reaches.
    pub(crate) fn media_type(&self, digest: &Digest) -> Option<&str> {
        let known = self.manifests.get(digest)?;
        Some(&known.descriptor.media_type)
    }

    /// Returns what refers to `subject`, or an error while the subject of any manifest is unknown.
    pub(crate) fn referrers(&self, subject: &Digest) -> Result<&[Descriptor], StoreError> {
        if let Some(unread) = self.unread.first() {
            let reason = format!(
                "the referrers of {subject} are unknown: manifest {unread} is damaged or missing; push it again, or delete it"
            );
            return Err(StoreError::new(StoreErrorKind::Damaged, reason));
        }
        Ok(self.referrers.get(subject).map_or(&[], Vec::as_slice))
    }

    /// Returns whether a reachable manifest names this digest as a child or as a blob. A subject is
    /// not needed.
    pub(crate) fn needs(&self, digest: &Digest) -> bool {
        self.manifests.iter().any(|(own, known)| {
            let names = |child: &Descriptor| child.digest == *digest;
            own != digest && (known.blobs.contains(digest) || known.children.iter().any(names))
        })
    }
}

impl Known {
    /// Parses the bytes of an entry. `None` if they cannot be served as a manifest, so that they
    /// have no subject either.
    fn parse(bytes: Bytes, entry: &Descriptor) -> Option<Arc<Self>> {
        let manifest = Manifest::parse_verified(bytes, &entry.digest, Some(&entry.media_type));
        let manifest = manifest.ok()?;
        Some(Arc::new(Self {
            descriptor: manifest.descriptor(),
            subject: manifest.subject().map(|subject| subject.digest.clone()),
            children: manifest.entries().to_vec(),
            blobs: manifest.blobs().map(|blob| blob.digest.clone()).collect(),
        }))
    }
}
