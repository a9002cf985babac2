use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bundle_format::{
    Adopted, BundleManifest, BundlePlan, BundleWriter, Checksums, Container, EntryPath, OCI_LAYOUT,
    OutputError, OutputErrorKind, OutputFile, OutputSink, VolumeChecksum,
};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{
    Algorithm, Completeness, Digest, DiscoveryMethod, Manifest, Reference, Registry, RepositoryName,
};
use oci_referrers::{ImageDepth, ImageTree, RegistryManifests, RegistrySources, resolve};
use registry_client::{Client, Repository};
use registry_probe::{Probe, ProbeReport};
use tokio::time::timeout;

use crate::discarded::Discarded;
use crate::error::{ExportError, ExportErrorKind};
use crate::found::{FoundImage, absent_layers};
use crate::judge::judge;
use crate::observer::{ExportEvent, ExportObserver};
use crate::plan::{Plan, blob_path, plan};
use crate::policy::Judged;
use crate::report;
use crate::request::ExportRequest;
use crate::tally::Tally;
use crate::transfer::{Begun, Failed, download};

/// The longest that the probe of a registry may take, however much time an image has.
const MAX_PROBE_TIME: Duration = Duration::from_secs(30);

/// How long a file is waited for that another run is writing. A task that was aborted is dropped a moment later.
const BUSY_GRACE: Duration = Duration::from_millis(500);

/// Writes mirror bundles.
#[derive(Clone, Debug)]
pub struct Exporter {
    client: Client,
    observer: Arc<dyn ExportObserver>,
}

/// What an export wrote.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportSummary {
    /// The bundle.
    pub output: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest, as it stands in the checksum file beside it unless it is in volumes.
    pub sha256: Digest,
    /// The volumes that it is written in, in their order; none when it is one file.
    pub volumes: Vec<ExportedVolume>,
    /// When each part of the work was over.
    pub times: ExportTimes,
    /// What it says about itself.
    pub manifest: BundleManifest,
    /// What was found of each image.
    pub images: Vec<ExportedImage>,
}

impl ExportSummary {
    /// Counts the blobs that are left to the base, and their bytes.
    pub fn left_out(&self) -> (usize, u64) {
        let sizes = self.manifest.left_out().map(|entry| entry.size);
        sizes.fold((0, 0), |(blobs, bytes), size| {
            (blobs + 1, bytes.saturating_add(size))
        })
    }
}

/// When each part of an export was over, each from the start of the export.
///
/// The last two go on at the same time.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ExportTimes {
    /// Everything is found, and the bundle planned, in seconds.
    pub planned: f64,
    /// Every blob is downloaded and verified, in seconds.
    pub transferred: f64,
    /// The SHA-256 of the bundle is known, in seconds.
    pub checksum: f64,
    /// The bundle is on the disk, in seconds.
    pub synced: f64,
}

/// A volume of a bundle.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportedVolume {
    /// Its name.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest, as it stands in the checksum file beside it.
    pub sha256: Digest,
}

/// What was found of one image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportedImage {
    /// The image.
    pub reference: Reference,
    /// Its digest.
    pub digest: Digest,
    /// The referrers of the image and its children, at every level.
    pub referrers: usize,
    /// How the image's own referrers were found.
    pub method: DiscoveryMethod,
    /// Whether everything could be settled.
    pub status: Completeness,
}

impl From<&FoundImage> for ExportedImage {
    fn from(image: &FoundImage) -> Self {
        let root = &image.record.digest;
        Self {
            reference: image.reference().clone(),
            digest: root.clone(),
            referrers: image.graph.referrers.len(),
            method: image
                .graph
                .report(root)
                .map_or(DiscoveryMethod::FallbackTag, |report| report.method),
            status: image.graph.status(),
        }
    }
}

/// Where images are looked for: a repository, and how many of the images are in it.
struct Source {
    repository: Arc<Repository>,
    sources: RegistrySources,
    images: usize,
}

impl Exporter {
    /// Creates an exporter that asks through `client`.
    pub fn new(client: Client, observer: Arc<dyn ExportObserver>) -> Self {
        Self { client, observer }
    }

    /// Exports.
    ///
    /// # Errors
    ///
    /// When there is no bundle at the end: nothing is then left under its name. An incomplete bundle that was
    /// allowed is no error; its manifest says so.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends all transfers and leaves the partial file, from which the next export goes on. When it has
    /// been dropped, nothing is written any more and the file is free; a task that was aborted drops it a moment later, and
    /// an export to the same file waits that long.
    pub async fn export(&self, request: &ExportRequest) -> Result<ExportSummary, ExportError> {
        let started = Instant::now();
        if request.images.is_empty() {
            return Err(ExportError::new(
                ExportErrorKind::Usage,
                "there is no image to export",
            ));
        }
        // Taken first: what cannot be written need not be discovered.
        let output = take_output(request).await?;
        let exported = self.export_into(request, &output, started).await;
        let (summary, checksums, probes, images) =
            exported.map_err(|error| error.at(&request.output))?;
        let (elapsed, requests) = (started.elapsed(), self.observer.requests());
        // Before the bundle has its name: a run that is killed here leaves no bundle without its checksum.
        report::write(
            &summary,
            &probes,
            &images,
            elapsed,
            requests,
            output.is_resumed(),
        )?;
        if let Err(error) = output.publish_with(&checksums.volumes) {
            report::remove(&request.output);
            return Err(error.into());
        }
        Ok(summary)
    }

    async fn export_into(
        &self,
        request: &ExportRequest,
        output: &OutputFile,
        started: Instant,
    ) -> Result<(ExportSummary, Checksums, Vec<ProbeReport>, Vec<FoundImage>), ExportError> {
        let (probes, spent) = self.probe(request).await;
        let mut images = self.find(request, &spent).await?;
        require_artifact_types(request, &images)?;
        let judged = Judged::new(request, &mut images).await?;
        let mut unavailable = BTreeSet::new();
        let mut sizes = BTreeMap::new();
        if output.is_resumed() {
            output.keep();
        }
        loop {
            let plan = plan(request, &images, &unavailable, &sizes)?;
            if !plan.missing.is_empty() && !request.allow_incomplete {
                return Err(incomplete(&plan.missing));
            }
            judged.check(request, &plan, &*self.observer)?;
            // From here on, what was downloaded is worth keeping, however this ends.
            output.keep();
            match self.write(request, output, &plan, started).await {
                Ok(written) => {
                    let summary = ExportSummary {
                        output: request.output.clone(),
                        size: written.size,
                        sha256: written.checksums.whole.clone(),
                        volumes: exported_volumes(output, &written.checksums),
                        times: written.times,
                        manifest: plan.manifest,
                        images: images.iter().map(ExportedImage::from).collect(),
                    };
                    return Ok((summary, written.checksums, probes, images));
                }
                // A referrer whose blob is gone is a referrer that is missing; the plan is made again without it.
                Err(WriteFailure::Blob(failed))
                    if failed.error.kind() == ExportErrorKind::Incomplete
                        && unavailable.insert(failed.digest.clone()) => {}
                Err(WriteFailure::Blob(failed)) => {
                    // Where a descriptor is wrong about the size, what lists it cannot be carried; the rest can.
                    match size_of(&plan, &failed).await {
                        Some(size) if sizes.insert(failed.digest.clone(), size).is_none() => {}
                        _ => return Err(failed.error),
                    }
                }
                Err(WriteFailure::Other(error)) => return Err(error),
            }
        }
    }

    /// Asks each registry once what it can do, before anything else, and says how long that took.
    ///
    /// Nothing is decided by it, so it has at most half of an image's time, which is then shorter by what it took.
    async fn probe(
        &self,
        request: &ExportRequest,
    ) -> (Vec<ProbeReport>, BTreeMap<Registry, Duration>) {
        let mut registries: BTreeMap<&Registry, &RepositoryName> = BTreeMap::new();
        for reference in &request.images {
            registries
                .entry(reference.registry())
                .or_insert(reference.repository());
        }
        self.observer.event(ExportEvent::Probing {
            registries: registries.len(),
        });
        let time = (request.discovery_timeout / 2).min(MAX_PROBE_TIME);
        let probe = &Probe::new(self.client.clone()).timeout(time);
        let probes = registries
            .into_iter()
            .map(|(registry, repository)| async move {
                let started = Instant::now();
                let report = probe.probe(registry, Some(repository)).await;
                (report, (registry.clone(), started.elapsed()))
            });
        let (reports, spent): (Vec<_>, _) =
            futures::future::join_all(probes).await.into_iter().unzip();
        for report in &reports {
            self.observer.event(ExportEvent::Probed(report));
        }
        (reports, spent)
    }

    async fn find(
        &self,
        request: &ExportRequest,
        spent: &BTreeMap<Registry, Duration>,
    ) -> Result<Vec<FoundImage>, ExportError> {
        let mut sources: BTreeMap<(Registry, RepositoryName), Source> = BTreeMap::new();
        for reference in &request.images {
            let (registry, name) = (reference.registry().clone(), reference.repository().clone());
            let source = sources.entry((registry, name)).or_insert_with(|| {
                let repository = self
                    .client
                    .repository(reference.registry(), reference.repository());
                let configured = request.configured.get(reference.registry()).copied();
                let sources = RegistrySources::new(repository.clone())
                    .legacy_tags(request.legacy_tags)
                    .configured(configured);
                Source {
                    repository: Arc::new(repository),
                    sources,
                    images: 0,
                }
            });
            source.images += 1;
        }
        let unique: BTreeSet<String> = request.images.iter().map(ToString::to_string).collect();
        let wanted = unique.len();
        self.observer
            .event(ExportEvent::Discovering { images: wanted });
        let images = unique
            .into_iter()
            .filter_map(|text| text.parse::<Reference>().ok());
        // Made one by one: a search that waits for its turn takes as much memory as one that is under way.
        let finds = stream::iter(images).map(|reference| {
            let key = (reference.registry().clone(), reference.repository().clone());
            let spent = spent.get(&key.0).copied().unwrap_or_default();
            self.find_image(request, reference, &sources[&key], spent)
        });
        let mut finds = finds.buffer_unordered(request.max_concurrent_discoveries.get());
        let mut tally = Tally::new(request, wanted);
        let mut found: Vec<FoundImage> = Vec::new();
        while let Some(image) = finds.try_next().await? {
            tally.add(&image)?;
            found.push(image);
        }
        found.sort_by_cached_key(|image| image.reference().to_string());
        Ok(found)
    }

    async fn find_image(
        &self,
        request: &ExportRequest,
        reference: Reference,
        source: &Source,
        spent: Duration,
    ) -> Result<FoundImage, ExportError> {
        let started = Instant::now();
        let time = request.discovery_timeout.saturating_sub(spent);
        let left = || time.saturating_sub(started.elapsed());
        let late = |_| {
            let seconds = request.discovery_timeout.as_secs();
            let message = format!("{reference} could not be read within {seconds} s");
            ExportError::new(ExportErrorKind::Network, message)
        };
        let repository = &source.repository;
        let resolved = timeout(left(), resolve(repository, &reference))
            .await
            .map_err(late)?
            .map_err(|error| ExportError::from(&error))?;
        if let Some(now) = &resolved.tag_moved_to {
            self.observer.event(ExportEvent::TagMoved {
                reference: &reference,
                now,
            });
        }
        let manifests = RegistryManifests::new(Repository::clone(repository)).within(left());
        let (root, named) = carried_root(&reference, resolved.manifest)?;
        let tree =
            ImageTree::walk(&manifests, root, &request.platforms, ImageDepth::Manifests).await;
        if !request.platforms.is_empty() && tree.children.is_empty() && !tree.omitted.is_empty() {
            let there: Vec<_> = ImageTree::platforms(&tree.root)
                .iter()
                .map(ToString::to_string)
                .collect();
            let message = format!(
                "{reference} has none of the platforms asked for; it has {}",
                there.join(", ")
            );
            return Err(ExportError::new(ExportErrorKind::Access, message));
        }
        let mut subjects = tree.all_subjects();
        subjects.extend(named);
        let many = source.images * subjects.len() >= 25;
        let discovery = source
            .sources
            .discovery(Some(left()))
            .one_of_many(many)
            .children(Some(ImageDepth::Manifests))
            .keep_manifests(true);
        let mut graph = discovery.run(subjects).await;
        let absent = absent_layers(request, repository, &tree, &graph);
        // What was found is worth more than the time that a few HEADs take beyond it.
        let absent = timeout(left().max(request.discovery_timeout / 10), absent)
            .await
            .map_err(late)??;
        let refused = judge(&tree, &mut graph);
        let root = graph.report(tree.root.digest());
        self.observer.event(ExportEvent::Discovered {
            reference: &reference,
            root,
            graph: &graph,
            timeout: request.discovery_timeout,
        });
        let repository = Arc::clone(repository);
        let mut image = FoundImage::new(request, reference, repository, &tree, graph, refused);
        image.absent = absent;
        image.seconds = started.elapsed().as_secs_f64();
        Ok(image)
    }

    /// Writes everything into its place.
    async fn write(
        &self,
        request: &ExportRequest,
        output: &OutputFile,
        plan: &Plan,
        started: Instant,
    ) -> Result<Written, WriteFailure> {
        let container = Container::from_file_name(&request.output);
        let mut bundle_plan = BundlePlan::new(&plan.manifest, container)
            .map_err(|error| ExportError::new(ExportErrorKind::Limit, error.to_string()))?;
        let (bytes, limit) = (
            bundle_plan.manifest_yaml().len(),
            request.max_manifest_bytes,
        );
        if bytes as u64 > limit {
            let message = format!(
                "manifest.yaml would have {bytes} bytes, more than its limit of {limit}; export fewer images in one bundle"
            );
            return Err(ExportError::new(ExportErrorKind::Limit, message).into());
        }
        if let Some(key) = &request.sign_key {
            let signature = key.sign(bundle_plan.manifest_yaml());
            bundle_plan = bundle_plan.with_signature(signature);
        }
        if let Some(size) = request.volume_size {
            size.volumes_of(bundle_plan.size())
                .map_err(|error| ExportError::new(ExportErrorKind::Usage, error.to_string()))?;
        }
        let writer = Arc::new(match output.is_resumed() {
            true => BundleWriter::resume(bundle_plan, output.sink())?,
            false => BundleWriter::new(bundle_plan, output.sink())?,
        });
        let since = move || started.elapsed().as_secs_f64();
        let mut times = ExportTimes {
            planned: since(),
            ..ExportTimes::default()
        };
        let observer = Arc::clone(&self.observer);
        let checksum = writer.checksum(output.sink(), request.volume_size);
        let checksum = tokio::task::spawn_blocking(move || {
            let hashed = |bytes| observer.event(ExportEvent::Hashed { bytes });
            (checksum.compute(hashed), since())
        });
        let filled = self.fill(request, output, plan, &writer).await;
        times.transferred = since();
        let finished = match filled {
            Ok(()) => {
                self.observer.event(ExportEvent::Syncing);
                let finished = tokio::task::spawn_blocking(move || writer.finish());
                let finished = joined(finished.await).map_err(WriteFailure::from);
                self.observer.event(ExportEvent::Checksumming);
                finished
            }
            Err(failure) => {
                drop(writer);
                Err(failure)
            }
        };
        times.synced = since();
        // Also after a failure: until it has ended, it holds the file open, and with it the lock.
        let (checksums, checksum_time) = joined(checksum.await);
        times.checksum = checksum_time;
        let size = finished?.size;
        let checksums = checksums.map_err(|error| {
            let message = format!("{}: {error}", request.output.display());
            ExportError::new(ExportErrorKind::LocalIo, message)
        })?;
        let checksums = checksums.ok_or_else(|| {
            let message = "the checksum ended before the bundle";
            ExportError::new(ExportErrorKind::LocalIo, message)
        })?;
        Ok(Written {
            size,
            checksums,
            times,
        })
    }

    /// Puts every file into its place, from an earlier run, from memory, or from a registry.
    async fn fill(
        &self,
        request: &ExportRequest,
        output: &OutputFile,
        plan: &Plan,
        writer: &Arc<BundleWriter<OutputSink>>,
    ) -> Result<(), WriteFailure> {
        let (mut blobs, mut begun) = (Vec::new(), Begun::new());
        let mut kept = 0;
        for (digest, piece) in plan.content.pieces() {
            let path = blob_path(digest)?;
            match &piece.raw {
                Some(raw) => writer.put(&path, raw)?,
                None if output.is_resumed() => match adopt(writer, path, output.sink()).await? {
                    Adopted::Whole => kept += 1,
                    Adopted::Begun(place) => {
                        begun.insert(digest.clone(), place);
                        blobs.push((digest, piece));
                    }
                    _ => blobs.push((digest, piece)),
                },
                None => blobs.push((digest, piece)),
            }
        }
        writer.put(&EntryPath::OCI_LAYOUT, OCI_LAYOUT)?;
        writer.put(&EntryPath::INDEX, &plan.index)?;
        let raw: BTreeMap<_, _> = plan
            .content
            .pieces()
            .filter_map(|(digest, piece)| Some((digest, piece.raw.as_ref()?)))
            .collect();
        for (record, artifact) in plan.manifest.graph.referrers() {
            let path = EntryPath::referrer(&record.subject, &artifact.digest)
                .map_err(|error| ExportError::new(ExportErrorKind::Integrity, error.to_string()))?;
            if !writer.is_done(&path)
                && let Some(raw) = raw.get(&artifact.digest)
            {
                writer.put(&path, raw)?;
            }
        }
        self.observer.event(ExportEvent::Planned {
            bytes: writer.plan().size(),
            blobs: blobs.len(),
            blob_bytes: blobs
                .iter()
                .fold(0, |sum: u64, (_, piece)| sum.saturating_add(piece.size)),
            kept,
            left_out: plan.manifest.left_out().count(),
        });
        let at_once = request.max_concurrent_transfers.get();
        download(writer, blobs, begun, at_once, &self.observer)
            .await
            .map_err(WriteFailure::Blob)
    }
}

async fn take_output(request: &ExportRequest) -> Result<OutputFile, OutputError> {
    let started = Instant::now();
    loop {
        let output = match request.volume_size {
            Some(size) => OutputFile::create_volumes(&request.output, size, request.overwrite),
            None => OutputFile::create(&request.output, request.overwrite),
        };
        match output {
            Err(error)
                if error.kind() == OutputErrorKind::Locked && started.elapsed() < BUSY_GRACE =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            output => return output,
        }
    }
}

/// Reads and hashes what an earlier run left, on a thread of its own: a file of gigabytes keeps nobody waiting who drops
/// the export.
async fn adopt(
    writer: &Arc<BundleWriter<OutputSink>>,
    path: EntryPath,
    partial: OutputSink,
) -> Result<Adopted<OutputSink>, ExportError> {
    let writer = Arc::clone(writer);
    let adopted = tokio::task::spawn_blocking(move || writer.adopt(&path, partial));
    Ok(joined(adopted.await)?)
}

fn exported_volumes(output: &OutputFile, checksums: &Checksums) -> Vec<ExportedVolume> {
    let volume = |volume: &VolumeChecksum| ExportedVolume {
        path: output.volume_path(volume.number),
        size: volume.size,
        sha256: volume.sha256.clone(),
    };
    checksums.volumes.iter().map(volume).collect()
}

/// Takes what a task has returned; a panic of the task goes on here.
fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    match result {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Returns the manifest of an image as a bundle carries it, by its SHA-256, and the digest that the registry names for the tag
/// where that is another one.
fn carried_root(
    reference: &Reference,
    root: Manifest,
) -> Result<(Manifest, Option<Digest>), ExportError> {
    if reference.digest().is_some() || root.digest().algorithm() == Algorithm::Sha256 {
        return Ok((root, None));
    }
    let carried = Manifest::parse(root.raw().clone(), Some(root.media_type()))
        .map_err(|error| ExportError::new(ExportErrorKind::Incomplete, error.to_string()))?;
    Ok((carried, Some(root.digest().clone())))
}

/// Returns the size of a blob that failed, where it has another one than was asked for: the registry says so, and its bytes have the
/// right digest.
async fn size_of(plan: &Plan, failed: &Failed) -> Option<u64> {
    let piece = plan.content.piece_of(&failed.digest)?;
    // Of one that is said to be longer than it is, the rest is asked for in vain.
    if !matches!(
        failed.error.kind(),
        ExportErrorKind::Integrity | ExportErrorKind::Network
    ) {
        return None;
    }
    for repository in &piece.from {
        let head = repository.head_blob(&failed.digest).await.ok();
        let length = head.filter(|head| head.status() == 200);
        let length = length.and_then(|head| head.header("content-length")?.parse().ok());
        let Some(size) = length.filter(|size| *size != piece.size) else {
            continue;
        };
        let mut sink = Discarded::new(failed.digest.clone());
        let pulled = repository.pull_blob(&failed.digest, size, &mut sink);
        if pulled.await.is_ok() {
            return Some(size);
        }
    }
    None
}

/// A bundle that is written and not published.
struct Written {
    size: u64,
    checksums: Checksums,
    times: ExportTimes,
}

/// Why writing stopped.
enum WriteFailure {
    /// A blob could not be had.
    Blob(Failed),
    Other(ExportError),
}

impl<E: Into<ExportError>> From<E> for WriteFailure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

fn require_artifact_types(
    request: &ExportRequest,
    images: &[FoundImage],
) -> Result<(), ExportError> {
    for image in images {
        for wanted in &request.require_artifact_types {
            let has = |own: &Option<String>| own.as_ref() == Some(wanted);
            if !image
                .graph
                .referrers
                .iter()
                .any(|referrer| has(&referrer.artifact_type))
            {
                let message = format!(
                    "{} has no referrer of the required artifact type {wanted}",
                    image.reference()
                );
                return Err(ExportError::new(ExportErrorKind::Incomplete, message));
            }
        }
    }
    Ok(())
}

fn incomplete(missing: &[String]) -> ExportError {
    const SHOWN: usize = 5;
    let mut text = missing
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    if missing.len() > SHOWN {
        text.push_str(&format!("; and {} more", missing.len() - SHOWN));
    }
    let message = format!(
        "nothing was written, because something could not be settled (--allow-incomplete writes \
                           the bundle without it): {text}"
    );
    ExportError::new(ExportErrorKind::Incomplete, message)
}
