use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use bundle_format::CONTAINERD_IMAGE_NAME;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{
    Descriptor, Digest, ImageLayout, LayoutErrorKind, REF_NAME, Reference, Tag, VerifyingReader,
};
use oci_referrers::LayoutReferrers;
use registry_client::BlobSource as _;

use crate::base;
use crate::error::{ImportError, ImportErrorKind};
use crate::importer::{ImportObserver, ImportOptions};
use crate::plan::{ImportPlan, RepositoryPlan};
use crate::proof::{self, Comparison};
use crate::report::{ImportReport, TransferCounts};
use crate::source::{BundleBlob, BundleSource};

/// An image layout folder that a bundle goes into.
pub(crate) struct LayoutTarget<'a> {
    folder: &'a Path,
    full_references: bool,
    bundle: &'a BundleSource,
    options: &'a ImportOptions,
    observer: &'a Arc<dyn ImportObserver>,
}

impl<'a> LayoutTarget<'a> {
    pub(crate) fn new(
        folder: &'a Path,
        full_references: bool,
        bundle: &'a BundleSource,
        options: &'a ImportOptions,
        observer: &'a Arc<dyn ImportObserver>,
    ) -> Self {
        Self {
            folder,
            full_references,
            bundle,
            options,
            observer,
        }
    }

    pub(crate) async fn import(
        &self,
        plan: &ImportPlan,
        report: &mut ImportReport,
    ) -> Result<(), ImportError> {
        let has = |name: &str| self.folder.join(name).exists();
        // A run that was killed while it made the layout has left no index, and nothing to ask.
        let there = match has("oci-layout") && has("index.json") {
            true => Some(ImageLayout::open(self.folder).map_err(|e| ImportError::layout(&e))?),
            false => None,
        };
        let names = match &there {
            Some(layout) => layout
                .index()
                .map_err(|error| ImportError::layout(&error))?,
            None => Vec::new(),
        };
        let entries = self.entries(plan, self.named_in_full(plan, &names));
        self.check_names(&names, &entries)?;
        self.find_base(there.as_ref(), plan).await?;
        if self.options.dry_run {
            return Ok(());
        }
        let layout =
            ImageLayout::create(self.folder).map_err(|error| ImportError::layout(&error))?;
        let mut blobs = BTreeMap::new();
        let mut manifests = BTreeMap::new();
        for repository in plan.repositories.values() {
            blobs.extend(
                repository
                    .blobs
                    .iter()
                    .map(|(digest, size)| (digest.clone(), *size)),
            );
            let all = repository.descriptors.values();
            manifests.extend(all.map(|descriptor| (descriptor.digest.clone(), descriptor.size)));
        }
        self.store(&layout, &blobs, &mut report.blobs).await?;
        report.blobs_checked = blobs.len();
        self.store(&layout, &manifests, &mut report.manifests)
            .await?;
        if entries.iter().any(is_named_in_full) {
            name_in_full(&layout, &names)?;
        }
        layout
            .add_to_index(&entries)
            .map_err(|error| ImportError::layout(&error))?;
        self.prove(layout, plan, report).await
    }

    /// Returns whether names have to be full references: by a bare tag nobody could tell two repositories apart, be they
    /// both in the bundle or one of them in the folder already.
    fn named_in_full(&self, plan: &ImportPlan, there: &[Descriptor]) -> bool {
        let images = plan.repositories.values().flat_map(|plan| &plan.images);
        let own: BTreeSet<String> = images.map(|(source, _, _)| repository(source)).collect();
        let there = there
            .iter()
            .filter_map(|entry| entry.annotations.get(CONTAINERD_IMAGE_NAME)?.parse().ok());
        self.full_references
            || plan.repositories.len() > 1
            || there
                .into_iter()
                .any(|name: Reference| !own.contains(&repository(&name)))
    }

    /// Lists what goes into `index.json`: images and legacy tags by name, every other referrer without one.
    fn entries(&self, plan: &ImportPlan, several: bool) -> Vec<Descriptor> {
        let mut entries = Vec::new();
        for repository in plan.repositories.values() {
            for (source, digest, tag) in &repository.images {
                let name = tag.as_ref().map(|tag| (source, tag));
                entries.push(self.entry(repository, digest, name, several));
            }
            let source = repository.images.first().map(|(source, _, _)| source);
            for (_, referrer, tag) in &repository.edges {
                let name = source.zip(tag.as_ref());
                entries.push(self.entry(repository, referrer, name, several));
            }
        }
        entries
    }

    fn entry(
        &self,
        plan: &RepositoryPlan,
        digest: &Digest,
        name: Option<(&Reference, &Tag)>,
        several: bool,
    ) -> Descriptor {
        let known = &plan.descriptors[digest];
        let mut entry = Descriptor::new(&known.media_type, digest.clone(), known.size);
        entry.artifact_type.clone_from(&known.artifact_type);
        if let Some((source, tag)) = name {
            let full = Reference::with_tag(
                source.registry().clone(),
                source.repository().clone(),
                tag.clone(),
            );
            let full = full.to_string();
            let ref_name = if several {
                full.clone()
            } else {
                tag.to_string()
            };
            entry.annotations.insert(REF_NAME.to_owned(), ref_name);
            entry
                .annotations
                .insert(CONTAINERD_IMAGE_NAME.to_owned(), full);
            // An image's own annotations are no part of its entry; a name is.
            entry.artifact_type = None;
        } else {
            entry.annotations.clone_from(&known.annotations);
        }
        entry
    }

    /// Refuses to move a name that holds something else.
    fn check_names(&self, there: &[Descriptor], entries: &[Descriptor]) -> Result<(), ImportError> {
        if self.options.overwrite_tags {
            return Ok(());
        }
        let keys = |entry: &Descriptor| {
            let keys =
                [REF_NAME, CONTAINERD_IMAGE_NAME].map(|key| entry.annotations.get(key).cloned());
            keys.into_iter().flatten()
        };
        let names: BTreeMap<String, &Digest> = there
            .iter()
            .flat_map(|entry| keys(entry).map(|name| (name, &entry.digest)))
            .collect();
        for entry in entries {
            let moved = keys(entry).find_map(|name| {
                let other = *names.get(&name)?;
                (*other != entry.digest).then_some((name, other))
            });
            if let Some((name, other)) = moved {
                let message = format!(
                    "{name} is {other} in {} and {} in the bundle; nothing was written; --overwrite-tags moves it",
                    self.folder.display(),
                    entry.digest,
                );
                return Err(ImportError::new(ImportErrorKind::Access, message));
            }
        }
        Ok(())
    }

    /// Looks up every blob that the bundle leaves out, and hashes it: nothing in the bundle can replace it.
    async fn find_base(
        &self,
        there: Option<&ImageLayout>,
        plan: &ImportPlan,
    ) -> Result<(), ImportError> {
        let repositories = plan.repositories.values();
        let left_out: BTreeMap<_, _> = repositories.flat_map(|r| &r.left_out).collect();
        let looks = left_out.into_iter().map(|(digest, size)| {
            let (layout, wanted, size) = (there.cloned(), digest.clone(), *size);
            async move {
                let look = move || layout.is_some_and(|layout| is_whole(&layout, &wanted, size));
                (digest, blocking(look).await)
            }
        });
        let mut looks = stream::iter(looks.collect::<Vec<_>>()).buffered(AT_ONCE);
        let mut lacking = Vec::new();
        while let Some((digest, whole)) = looks.next().await {
            if !whole {
                lacking.push((self.folder.display().to_string(), digest));
            }
        }
        match lacking.is_empty() {
            true => Ok(()),
            false => Err(base::refused(self.bundle, plan, &lacking)),
        }
    }

    /// Puts blobs that are not there, several at once. What is there is hashed: a file of the right name and size may
    /// still hold something else, and is then replaced.
    async fn store(
        &self,
        layout: &ImageLayout,
        blobs: &BTreeMap<Digest, u64>,
        counts: &mut TransferCounts,
    ) -> Result<(), ImportError> {
        let puts = blobs.iter().map(|(digest, size)| {
            let (layout, digest, size) = (layout.clone(), digest.clone(), *size);
            let blob = self.bundle.blob(&digest);
            async move {
                let sent = blocking(move || {
                    let sent = put(&layout, &blob, &digest, size);
                    blob.arrived(size);
                    sent
                });
                let sent = sent.await?;
                Ok::<_, ImportError>((sent, size))
            }
        });
        let mut puts = stream::iter(puts.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        while let Some((sent, size)) = puts.try_next().await? {
            match sent {
                true => counts.sent += 1,
                false => counts.present += 1,
            }
            self.observer.arrived(size);
        }
        Ok(())
    }

    async fn prove(
        &self,
        layout: ImageLayout,
        plan: &ImportPlan,
        report: &mut ImportReport,
    ) -> Result<(), ImportError> {
        self.observer.proving();
        let referrers =
            LayoutReferrers::open(layout).map_err(|error| ImportError::layout(&error))?;
        let mut reasons = Vec::new();
        for (name, repository) in &plan.repositories {
            let discovery = |many| referrers.discovery().one_of_many(many);
            let (missing, why) = Comparison::of(name, repository, discovery).await.missing();
            report.missing.extend(missing);
            reasons.extend(why);
        }
        proof::conclude(report, &reasons)
    }
}

fn repository(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

fn is_named_in_full(entry: &Descriptor) -> bool {
    let name = entry.annotations.get(REF_NAME);
    name.is_some() && name == entry.annotations.get(CONTAINERD_IMAGE_NAME)
}

/// Gives what is named by a bare tag its full name, so that both repositories of one folder keep their tags.
fn name_in_full(layout: &ImageLayout, there: &[Descriptor]) -> Result<(), ImportError> {
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
    // Added before the old names go: what is killed in between leaves a name too many, and never one too few.
    layout
        .add_to_index(&full.collect::<Vec<_>>())
        .and_then(|()| layout.retain_in_index(|entry| !bare.contains(&entry)))
        .map_err(|error| ImportError::layout(&error))
}

/// Files written at once: while one waits for the disk, others are hashed.
const AT_ONCE: usize = 4;

const BUFFER_BYTES: usize = 256 << 10;

/// Runs what waits for the disk beside the tasks that do not.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Writes a blob unless it is there; tells whether it was written.
fn put(
    layout: &ImageLayout,
    blob: &BundleBlob,
    digest: &Digest,
    size: u64,
) -> Result<bool, ImportError> {
    if is_whole(layout, digest, size) {
        return Ok(false);
    }
    let unreadable = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::InvalidData => ImportErrorKind::Integrity,
            _ => ImportErrorKind::LocalIo,
        };
        ImportError::new(kind, format!("{digest} of the bundle: {error}"))
    };
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut reader = blob.open().map_err(unreadable)?;
    let mut writer = layout
        .blob_writer(digest, size)
        .map_err(|error| ImportError::layout(&error))?;
    loop {
        match reader.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            count => writer
                .write(&buffer[..count])
                .map_err(|error| ImportError::layout(&error))?,
        }
    }
    writer.commit().map_err(|error| match error.kind() {
        LayoutErrorKind::Corrupt => {
            let message = format!("{digest} of the bundle changed after it was validated: {error}");
            ImportError::new(ImportErrorKind::Integrity, message)
        }
        _ => ImportError::layout(&error),
    })?;
    Ok(true)
}

fn is_whole(layout: &ImageLayout, digest: &Digest, size: u64) -> bool {
    // One that cannot be read is written again, and what is wrong with the folder shows there.
    let file = layout.open_blob(digest);
    file.is_ok_and(|file| {
        let reader = VerifyingReader::new(file, digest.clone(), size);
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        std::io::copy(&mut reader, &mut std::io::sink()).is_ok()
    })
}
