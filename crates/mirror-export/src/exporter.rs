use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bundle_format::{
    Adopted, BundleManifest, BundlePlan, BundleWriter, Checksums, Container, EntryPath, OCI_LAYOUT,
    OutputError, OutputErrorKind, OutputFile, OutputSink, VolumeChecksum,
};
use mirror_plan::{FoundImage, Held, Known, Planner};
use oci_content::{Completeness, Digest, DiscoveryMethod, Reference, SourceRepository};
use oci_referrers::ReferrerSource;
use registry_client::Client;
use registry_probe::ProbeReport;

use crate::contents::{Contents, blob_path};
use crate::discarded::Discarded;
use crate::error::{ExportError, ExportErrorKind, ExportRemedy};
use crate::observer::{ExportEvent, ExportObserver};
use crate::report;
use crate::request::{ExportRequest, FileOutput};
use crate::tally::Tally;
use crate::transfer::{Begun, Failed, download};

/// How long a file is waited for that another run is writing. A task that was aborted is dropped a moment later.
const BUSY_GRACE: Duration = Duration::from_millis(500);

/// Writes mirror bundles.
#[derive(Clone, Debug)]
pub struct Exporter {
    planner: Planner,
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
        let graph = image.graph();
        let root = graph.report(image.digest());
        Self {
            reference: image.reference().clone(),
            digest: image.digest().clone(),
            referrers: graph.referrers.len(),
            method: root.map_or(DiscoveryMethod::FallbackTag, |report| report.method),
            status: graph.status(),
        }
    }
}

impl Exporter {
    /// Creates an exporter that asks through `client`.
    pub fn new(client: Client, observer: Arc<dyn ExportObserver>) -> Self {
        Self {
            planner: Planner::new(client, Arc::<dyn ExportObserver>::clone(&observer)),
            observer,
        }
    }

    /// Sets further sources of referrers, asked beside each registry; see [`Planner::sources`].
    #[must_use]
    pub fn sources(
        mut self,
        sources: impl Fn(&SourceRepository) -> Vec<Arc<dyn ReferrerSource>> + Send + Sync + 'static,
    ) -> Self {
        self.planner = self.planner.sources(sources);
        self
    }

    /// Exports into a file, or volumes, that get their name when the bundle is whole.
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
    pub async fn export(
        &self,
        request: &ExportRequest,
        output: &FileOutput,
    ) -> Result<ExportSummary, ExportError> {
        let started = Instant::now();
        // Taken first: what cannot be written need not be discovered.
        let file = take_output(output).await?;
        let exported = self.export_into(request, output, &file, started).await;
        let (summary, checksums, probes, images) =
            exported.map_err(|error| error.at(&output.path))?;
        let (elapsed, requests) = (started.elapsed(), self.observer.requests());
        // Before the bundle has its name: a run that is killed here leaves no bundle without its checksum.
        report::write(
            &summary,
            &probes,
            &images,
            elapsed,
            requests,
            file.is_resumed(),
        )?;
        if let Err(error) = file.publish_with(&checksums.volumes) {
            report::remove(&output.path);
            return Err(error.into());
        }
        Ok(summary)
    }

    async fn export_into(
        &self,
        request: &ExportRequest,
        output: &FileOutput,
        file: &OutputFile,
        started: Instant,
    ) -> Result<(ExportSummary, Checksums, Vec<ProbeReport>, Vec<FoundImage>), ExportError> {
        let mut wanted = request.plan.clone();
        wanted.keep_descriptors |= request.layout_tags;
        if let Some(base) = &request.base {
            let (base, held) = (base.clone(), wanted.held.take());
            wanted.held = Some(Held::new(move |digest, size| {
                let elsewhere = held.as_ref().is_some_and(|held| held.holds(digest, size));
                elsewhere || base.holds(digest, size)
            }));
        }
        let mut tally = Tally::new(request);
        let found = self.planner.find(&wanted, |image| tally.add(image)).await?;
        let mut known = Known::default();
        if file.is_resumed() {
            file.keep();
        }
        loop {
            let plan = found.plan(&known)?;
            if !plan.missing.is_empty() && !request.allow_incomplete {
                return Err(incomplete(&plan.missing));
            }
            let signed = request.sign_key.is_some();
            found.judge(&wanted, &plan, signed, &*self.observer)?;
            let contents = Contents::new(request, &found.images, plan)?;
            // From here on, what was downloaded is worth keeping, however this ends.
            file.keep();
            match self.write(request, output, file, &contents, started).await {
                Ok(written) => {
                    let summary = ExportSummary {
                        output: output.path.clone(),
                        size: written.size,
                        sha256: written.checksums.whole.clone(),
                        volumes: exported_volumes(file, &written.checksums),
                        times: written.times,
                        manifest: contents.manifest,
                        images: found.images.iter().map(ExportedImage::from).collect(),
                    };
                    return Ok((summary, written.checksums, found.probes, found.images));
                }
                // A referrer whose blob is gone is a referrer that is missing; the plan is made again without it.
                Err(WriteFailure::Blob(failed))
                    if failed.error.kind() == ExportErrorKind::Incomplete
                        && known.unavailable.insert(failed.digest.clone()) => {}
                Err(WriteFailure::Blob(failed)) => {
                    // Where a descriptor is wrong about the size, what lists it cannot be carried; the rest can.
                    match size_of(&contents, &failed).await {
                        Some(size) if known.sizes.insert(failed.digest.clone(), size).is_none() => {
                        }
                        _ => return Err(failed.error),
                    }
                }
                Err(WriteFailure::Other(error)) => return Err(error),
            }
        }
    }

    /// Writes everything into its place.
    async fn write(
        &self,
        request: &ExportRequest,
        to: &FileOutput,
        output: &OutputFile,
        contents: &Contents,
        started: Instant,
    ) -> Result<Written, WriteFailure> {
        let container = Container::from_file_name(&to.path);
        let mut bundle_plan = BundlePlan::new(&contents.manifest, container)
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
        if let Some(size) = to.volume_size {
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
        let checksum = writer.checksum(to.volume_size).ok_or_else(|| {
            let message = "what was written cannot be read back";
            ExportError::new(ExportErrorKind::LocalIo, message)
        })?;
        let checksum = tokio::task::spawn_blocking(move || {
            let hashed = |bytes| observer.event(ExportEvent::Hashed { bytes });
            (checksum.compute(hashed), since())
        });
        let filled = self.fill(request, output, contents, &writer).await;
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
            let message = format!("{}: {error}", to.path.display());
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
        contents: &Contents,
        writer: &Arc<BundleWriter<OutputSink>>,
    ) -> Result<(), WriteFailure> {
        let (mut blobs, mut begun) = (Vec::new(), Begun::new());
        let mut kept = 0;
        for (digest, piece) in contents.content.pieces() {
            let path = blob_path(digest)?;
            match &piece.raw {
                Some(raw) => writer.put(&path, raw)?,
                None if output.is_resumed() => match adopt(writer, path).await? {
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
        writer.put(&EntryPath::INDEX, &contents.index)?;
        for (record, artifact) in contents.manifest.graph.referrers() {
            let path = EntryPath::referrer(&record.subject, &artifact.digest)
                .map_err(|error| ExportError::new(ExportErrorKind::Integrity, error.to_string()))?;
            if !writer.is_done(&path)
                && let Some(raw) = contents
                    .content
                    .piece(&artifact.digest)
                    .and_then(|piece| piece.raw.as_ref())
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
            left_out: contents.manifest.left_out().count(),
        });
        let at_once = request.max_concurrent_transfers.get();
        download(writer, blobs, begun, at_once, &self.observer)
            .await
            .map_err(WriteFailure::Blob)
    }
}

async fn take_output(output: &FileOutput) -> Result<OutputFile, OutputError> {
    let started = Instant::now();
    loop {
        let file = match output.volume_size {
            Some(size) => OutputFile::create_volumes(&output.path, size, output.overwrite),
            None => OutputFile::create(&output.path, output.overwrite),
        };
        match file {
            Err(error)
                if error.kind() == OutputErrorKind::Locked && started.elapsed() < BUSY_GRACE =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            file => return file,
        }
    }
}

/// Reads and hashes what an earlier run left, on a thread of its own: a file of gigabytes keeps nobody waiting who drops
/// the export.
async fn adopt(
    writer: &Arc<BundleWriter<OutputSink>>,
    path: EntryPath,
) -> Result<Adopted<OutputSink>, ExportError> {
    let writer = Arc::clone(writer);
    let adopted = tokio::task::spawn_blocking(move || writer.adopt(&path));
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

/// Returns the size of a blob that failed, where it has another one than was asked for: the registry says so, and its bytes have the
/// right digest.
async fn size_of(contents: &Contents, failed: &Failed) -> Option<u64> {
    let piece = contents.content.piece(&failed.digest)?;
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
    let message = format!("nothing was written, because something could not be settled: {text}");
    ExportError::new(ExportErrorKind::Incomplete, message)
        .with_remedy(ExportRemedy::AllowIncomplete)
}
