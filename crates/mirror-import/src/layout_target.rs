use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::TryStreamExt as _;
use oci_content::{
    CONTAINERD_IMAGE_NAME, Descriptor, Digest, FileSystemGaps, ImageLayout, LayoutErrorKind,
    REF_NAME, Reference, RepositoryName, VerifyingReader,
};
use oci_referrers::{Discovery, LayoutReferrers};
use registry_client::BlobSource;

use crate::error::{ImportError, ImportErrorKind};
use crate::source::Source;
use crate::target::{BlobPut, Check, Entry, Holding, Published, Target, TargetProfile};

/// An image layout folder as a [`Target`], created if it does not exist.
///
/// - Objects are kept once for all repositories, and hashed whenever they are looked at.
/// - Images are named by their bare tag while the folder holds one repository, else by the full
///   reference.
#[derive(Debug)]
pub struct LayoutTarget {
    folder: PathBuf,
    full_references: bool,
    gaps: FileSystemGaps,
    /// The layout, once it is open for writing. Opening it again would remove files that others
    /// have begun there.
    layout: Mutex<Option<ImageLayout>>,
    /// The referrers that a discovery reads, until something is published.
    referrers: Mutex<Option<LayoutReferrers>>,
}

/// The number of files written at once: while one waits for the disk, others are hashed.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not 0");

const BUFFER_BYTES: usize = 256 << 10;

impl LayoutTarget {
    /// Creates a target in a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            full_references: false,
            gaps: FileSystemGaps::default(),
            layout: Mutex::new(None),
            referrers: Mutex::new(None),
        }
    }

    /// Sets whether images are always named by their full reference. By default they are not.
    #[must_use]
    pub fn full_references(mut self, full: bool) -> Self {
        self.full_references = full;
        self
    }

    /// Records in `gaps` what the file system of the folder cannot do.
    #[must_use]
    pub fn with_gaps(mut self, gaps: FileSystemGaps) -> Self {
        self.gaps = gaps;
        self
    }

    /// Opens the layout, if the folder holds one.
    fn there(&self) -> Result<Option<ImageLayout>, ImportError> {
        if let Some(layout) = &*lock(&self.layout) {
            return Ok(Some(layout.clone()));
        }
        let has = |name: &str| self.folder.join(name).exists();
        // A run that was killed while it created the layout has left no index, so there is nothing
        // to read.
        if !has("oci-layout") || !has("index.json") {
            return Ok(None);
        }
        let layout = ImageLayout::open(&self.folder);
        layout.map(Some).map_err(|error| self.failed(error))
    }

    fn open(&self) -> Result<ImageLayout, ImportError> {
        let mut known = lock(&self.layout);
        if let Some(layout) = &*known {
            return Ok(layout.clone());
        }
        let created = ImageLayout::create(&self.folder);
        let created = created.map_err(|error| self.failed(error))?;
        let created = created.with_gaps(self.gaps.clone());
        Ok(known.insert(created).clone())
    }

    fn failed(&self, error: oci_content::LayoutError) -> ImportError {
        ImportError::layout(self.name(), error)
    }

    fn index(&self, layout: Option<&ImageLayout>) -> Result<Vec<Descriptor>, ImportError> {
        layout.map_or_else(
            || Ok(Vec::new()),
            |layout| layout.index().map_err(|error| self.failed(error)),
        )
    }

    /// Returns whether names must be full references: a bare tag cannot tell two repositories
    /// apart, whether both are among the entries or one of them is in the folder already.
    fn named_in_full(&self, entries: &[Entry], there: &[Descriptor]) -> bool {
        let own = entries.iter().filter_map(|entry| entry.source.as_ref());
        let own: BTreeSet<String> = own.map(repository).collect();
        let mut there = there
            .iter()
            .filter_map(|entry| entry.annotations.get(CONTAINERD_IMAGE_NAME)?.parse().ok());
        self.full_references
            || own.len() > 1
            || there.any(|name: Reference| !own.contains(&repository(&name)))
    }

    /// Returns each entry's descriptor for `index.json`: images and legacy tags have a name, all
    /// other referrers have none.
    fn listed(&self, entries: &[Entry], there: &[Descriptor]) -> Vec<Descriptor> {
        let in_full = self.named_in_full(entries, there);
        let listed = entries.iter().map(|entry| listed(entry, in_full));
        listed.collect()
    }
}

#[async_trait]
impl Target for LayoutTarget {
    fn name(&self) -> String {
        format!("oci:{}", self.folder.display())
    }

    /// The absolute path with links resolved; a prefix does not make another target.
    fn identity(&self, _: Option<&RepositoryName>) -> String {
        let folder = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
        // A part of the path that does not exist cannot be a link, so its name is kept.
        let canonical = folder.ancestors().find_map(|known| {
            let rest = folder.strip_prefix(known).ok()?.components();
            let known = known.canonicalize().ok()?;
            Some(known.components().chain(rest).collect::<PathBuf>())
        });
        format!("oci:{}", canonical.unwrap_or(folder).display())
    }

    fn entry_name(&self, entry: &Entry) -> String {
        match (&entry.source, &entry.tag) {
            (Some(source), _) if entry.is_image => source.to_string(),
            (Some(source), Some(tag)) => format!("{}:{tag}", repository(source)),
            _ => entry.descriptor.digest.to_string(),
        }
    }

    fn profile(&self) -> TargetProfile {
        TargetProfile {
            is_shared: true,
            is_sure: true,
            max_concurrent: AT_ONCE,
            ..TargetProfile::default()
        }
    }

    async fn held(&self, entries: &[Entry], _: Check) -> Vec<Result<Option<Digest>, ImportError>> {
        let there = self.there().and_then(|layout| self.index(layout.as_ref()));
        let there = match there {
            Ok(there) => there,
            Err(error) => {
                let kind = error.kind();
                let others = std::iter::repeat_with(|| {
                    let message = format!("{} cannot be read", self.name());
                    Err(ImportError::new(kind, message))
                });
                let all = std::iter::once(Err(error)).chain(others);
                return all.take(entries.len()).collect();
            }
        };
        let taken: BTreeMap<&str, &Digest> = there
            .iter()
            .flat_map(|entry| names(entry).map(move |name| (name, &entry.digest)))
            .collect();
        let digests: BTreeSet<&Digest> = there.iter().map(|entry| &entry.digest).collect();
        // Whether a name is the bare tag or the full reference depends on what is published with it.
        let complete: BTreeSet<(&str, &str)> = there.iter().filter_map(both_names).collect();
        let listed = self.listed(entries, &there);
        let held = listed.iter().zip(entries).map(|(entry, asked)| {
            let digest = &entry.digest;
            let (Some((_, full)), Some(tag)) = (both_names(entry), &asked.tag) else {
                return Ok(digests.get(digest).map(|digest| Digest::clone(digest)));
            };
            let mut held = names(entry).filter_map(|name| taken.get(name).copied());
            let other = held.find(|held| *held != digest).cloned();
            let mut forms = [tag.as_str(), full].into_iter();
            let mut is_there = || forms.any(|name| complete.contains(&(name, full)));
            Ok(other.or_else(|| is_there().then(|| digest.clone())))
        });
        held.collect()
    }

    async fn blob(
        &self,
        _: &RepositoryName,
        digest: &Digest,
        size: u64,
        _: Check,
    ) -> Result<Holding, ImportError> {
        let Some(layout) = self.there()? else {
            return Ok(Holding::Nothing);
        };
        let digest = digest.clone();
        let whole = blocking(move || is_whole(&layout, &digest, size)).await;
        Ok(if whole {
            Holding::Whole
        } else {
            Holding::Nothing
        })
    }

    async fn has_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &Descriptor,
        check: Check,
    ) -> Result<bool, ImportError> {
        let (digest, size) = (&manifest.digest, manifest.size);
        Ok(self.blob(repository, digest, size, check).await? == Holding::Whole)
    }

    async fn prepare(&self) -> Result<(), ImportError> {
        *lock(&self.layout) = None;
        self.open().map(drop)
    }

    async fn put_blob(
        &self,
        _: &RepositoryName,
        digest: &Digest,
        size: u64,
        content: &dyn BlobSource,
        _: Option<&RepositoryName>,
    ) -> Result<BlobPut, ImportError> {
        let (layout, name) = (self.open()?, self.name());
        write(&layout, &name, content, digest, size).await?;
        Ok(BlobPut::Sent)
    }

    async fn put_manifest(
        &self,
        _: &RepositoryName,
        digest: &Digest,
        source: &dyn Source,
    ) -> Result<(), ImportError> {
        let raw = source.manifest(digest).await?.raw().clone();
        let size = raw.len() as u64;
        write(&self.open()?, &self.name(), &raw, digest, size).await
    }

    async fn publish(
        &self,
        entries: &[Entry],
        _: &dyn Source,
    ) -> Result<Vec<Published>, ImportError> {
        let layout = self.open()?;
        let there = self.index(Some(&layout))?;
        let listed = self.listed(entries, &there);
        if self.full_references || listed.iter().any(is_named_in_full) {
            name_in_full(&layout, &there).map_err(|error| self.failed(error))?;
        }
        let added = layout.add_to_index(&listed);
        added.map_err(|error| self.failed(error))?;
        *lock(&self.referrers) = None;
        Ok(vec![Published::Whole; entries.len()])
    }

    fn discovery(&self, _: &RepositoryName, _: Check) -> Result<Discovery, ImportError> {
        let mut known = lock(&self.referrers);
        if let Some(known) = &*known {
            return Ok(known.discovery());
        }
        let opened = ImageLayout::open(&self.folder).and_then(LayoutReferrers::open);
        let opened = opened.map_err(|error| self.failed(error))?;
        Ok(known.insert(opened).discovery())
    }
}

/// Locks a mutex, also after a panic: the values behind these locks are whole or absent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn repository(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

fn listed(entry: &Entry, in_full: bool) -> Descriptor {
    let known = &entry.descriptor;
    let mut listed = Descriptor::new(&known.media_type, known.digest.clone(), known.size);
    if let (Some(source), Some(tag)) = (&entry.source, &entry.tag) {
        let full = Reference::with_tag(
            source.registry().clone(),
            source.repository().clone(),
            tag.clone(),
        );
        let full = full.to_string();
        let name = if in_full {
            full.clone()
        } else {
            tag.to_string()
        };
        // An image's entry has its name, and not the image's own annotations and artifact type.
        listed.annotations.insert(REF_NAME.to_owned(), name);
        listed
            .annotations
            .insert(CONTAINERD_IMAGE_NAME.to_owned(), full);
    } else {
        listed.artifact_type.clone_from(&known.artifact_type);
        listed.annotations.clone_from(&known.annotations);
    }
    listed
}

/// Returns the names that an entry of `index.json` has.
fn names(entry: &Descriptor) -> impl Iterator<Item = &str> {
    let names = [REF_NAME, CONTAINERD_IMAGE_NAME];
    let names = names.map(|key| entry.annotations.get(key).map(String::as_str));
    names.into_iter().flatten()
}

/// Returns the name and the full reference of an entry that has both.
fn both_names(entry: &Descriptor) -> Option<(&str, &str)> {
    let name = entry.annotations.get(REF_NAME)?;
    Some((name, entry.annotations.get(CONTAINERD_IMAGE_NAME)?))
}

fn is_named_in_full(entry: &Descriptor) -> bool {
    both_names(entry).is_some_and(|(name, full)| name == full)
}

/// Replaces bare tags by full names, so that all repositories of a folder keep their tags.
fn name_in_full(
    layout: &ImageLayout,
    there: &[Descriptor],
) -> Result<(), oci_content::LayoutError> {
    let bare = there.iter().filter(|entry| {
        let full = entry.annotations.get(CONTAINERD_IMAGE_NAME);
        let full = full.and_then(|full| full.parse::<Reference>().ok());
        let tag = full
            .as_ref()
            .and_then(Reference::tag)
            .map(ToString::to_string);
        tag.is_some() && tag.as_ref() == entry.annotations.get(REF_NAME)
    });
    let bare: Vec<&Descriptor> = bare.collect();
    if bare.is_empty() {
        return Ok(());
    }
    let full = bare.iter().map(|entry| {
        let mut entry = Descriptor::clone(entry);
        let name = entry.annotations.get(CONTAINERD_IMAGE_NAME).cloned();
        entry
            .annotations
            .extend(name.map(|name| (REF_NAME.to_owned(), name)));
        entry
    });
    // Full names are added before the old ones are removed: a run that is killed in between leaves
    // a name too many, never one too few.
    layout
        .add_to_index(&full.collect::<Vec<_>>())
        .and_then(|()| layout.retain_in_index(|entry| !bare.contains(&entry)))
}

/// Runs work that waits for the disk on a thread for blocking work.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Writes a blob into the layout.
async fn write(
    layout: &ImageLayout,
    name: &str,
    content: &dyn BlobSource,
    digest: &Digest,
    size: u64,
) -> Result<(), ImportError> {
    let failed = |error| ImportError::layout(name, error);
    let unreadable = |error| ImportError::reading(format!("{digest} of the source"), error);
    let mut writer = layout.blob_writer(digest, size).map_err(failed)?;
    let mut chunks = content.open(0).await.map_err(unreadable)?;
    while let Some(chunk) = chunks.try_next().await.map_err(unreadable)? {
        writer.write(&chunk).map_err(failed)?;
    }
    let committed = blocking(move || writer.commit()).await;
    committed.map_err(|error| match error.kind() {
        LayoutErrorKind::Corrupt => {
            let message =
                format!("{digest} of the source is not what it was, or what it should be");
            ImportError::caused(ImportErrorKind::Integrity, message, error)
        }
        _ => failed(error),
    })
}

fn is_whole(layout: &ImageLayout, digest: &Digest, size: u64) -> bool {
    // A blob that cannot be read is written again, and that reports any fault of the folder.
    let file = layout.open_blob(digest);
    file.is_ok_and(|file| {
        let reader = VerifyingReader::new(file, digest.clone(), size);
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        std::io::copy(&mut reader, &mut std::io::sink()).is_ok()
    })
}
