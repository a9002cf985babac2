use std::sync::Arc;
use std::time::Instant;

use bundle_format::{
    Adopted, BundlePlan, BundleWriter, Checksums, Container, EntryPath, OCI_LAYOUT, Sink,
    VolumeSize,
};
use mirror_plan::{Found, Held, Known, PlanRequest, Planner};

use crate::contents::{Contents, blob_path};
use crate::discarded::Discarded;
use crate::error::{ExportError, ExportErrorKind, ExportRemedy};
use crate::observer::{ExportEvent, ExportObserver};
use crate::request::ExportRequest;
use crate::summary::ExportTimes;
use crate::tally::Tally;
use crate::transfer::{Begun, Failed, download};

/// One export into one sink.
pub(crate) struct Writing<'a, S, K> {
    pub(crate) request: &'a ExportRequest,
    pub(crate) observer: &'a Arc<dyn ExportObserver>,
    pub(crate) sink: S,
    pub(crate) container: Container,
    pub(crate) volume_size: Option<VolumeSize>,
    /// Whether an earlier run has left something in the sink.
    pub(crate) is_resumed: bool,
    /// Called when what was written is worth keeping, whatever the outcome.
    pub(crate) keep: K,
    pub(crate) started: Instant,
}

/// A bundle that is written and not published.
pub(crate) struct Written {
    pub(crate) size: u64,
    /// `None` if the sink cannot be read back.
    pub(crate) checksums: Option<Checksums>,
    pub(crate) times: ExportTimes,
    pub(crate) contents: Contents,
    pub(crate) found: Found,
}

impl<S: Sink + Clone + 'static, K: Fn() + Sync> Writing<'_, S, K> {
    /// Finds what there is to carry, and writes it.
    pub(crate) async fn run(&self, planner: &Planner) -> Result<Written, ExportError> {
        let request = self.request;
        let wanted = plan_request(request);
        let mut tally = Tally::new(request);
        let found = planner.find(&wanted, |image| tally.add(image)).await?;
        let mut known = Known::default();
        if self.is_resumed {
            (self.keep)();
        }
        loop {
            let plan = found.plan(&known)?;
            if !plan.missing.is_empty() && !request.allow_incomplete {
                return Err(incomplete(&plan.missing));
            }
            let signed = request.sign_key.is_some();
            found.judge(&plan, signed, &**self.observer)?;
            let contents = Contents::new(request, &found.images, plan)?;
            // From here on, downloads are worth keeping.
            (self.keep)();
            match self.write(&contents).await {
                Ok((size, checksums, times)) => {
                    return Ok(Written {
                        size,
                        checksums,
                        times,
                        contents,
                        found,
                    });
                }
                // A referrer whose blob is gone counts as missing; the plan is made again without
                // it.
                Err(WriteFailure::Blob(failed))
                    if failed.error.kind() == ExportErrorKind::Incomplete
                        && known.unavailable.insert(failed.digest.clone()) => {}
                Err(WriteFailure::Blob(failed)) => {
                    // If a descriptor has the wrong size, the manifests that list it cannot be
                    // carried; the rest can.
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
        contents: &Contents,
    ) -> Result<(u64, Option<Checksums>, ExportTimes), WriteFailure> {
        let (request, started) = (self.request, self.started);
        let mut bundle_plan = BundlePlan::new(&contents.manifest, self.container)
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
        if let Some(size) = self.volume_size {
            size.volumes_of(bundle_plan.size())
                .map_err(|error| ExportError::new(ExportErrorKind::Usage, error.to_string()))?;
        }
        let writer = Arc::new(if self.is_resumed {
            BundleWriter::resume(bundle_plan, self.sink.clone())?
        } else {
            BundleWriter::new(bundle_plan, self.sink.clone())?
        });
        let since = move || started.elapsed().as_secs_f64();
        let mut times = ExportTimes {
            planned: since(),
            ..ExportTimes::default()
        };
        let observer = Arc::clone(self.observer);
        let checksum = writer.checksum(self.volume_size);
        let checksum = tokio::task::spawn_blocking(move || {
            let hashed = |bytes| observer.event(ExportEvent::Hashed { bytes });
            (checksum.map(|checksum| checksum.compute(hashed)), since())
        });
        let filled = self.fill(contents, &writer).await;
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
        let checksums = match checksums {
            None => None,
            Some(Err(error)) => return Err(ExportError::io(error).into()),
            Some(Ok(None)) => {
                let message = "the checksum ended before the bundle";
                return Err(ExportError::new(ExportErrorKind::LocalIo, message).into());
            }
            Some(Ok(checksums)) => checksums,
        };
        Ok((size, checksums, times))
    }

    /// Puts every file into its place, from an earlier run, from memory, or from where it is.
    async fn fill(
        &self,
        contents: &Contents,
        writer: &Arc<BundleWriter<S>>,
    ) -> Result<(), WriteFailure> {
        let (mut blobs, mut begun) = (Vec::new(), Begun::<S>::new());
        let mut kept = 0;
        for (digest, piece) in contents.content.pieces() {
            let path = blob_path(digest)?;
            match &piece.raw {
                Some(raw) => writer.put(&path, raw)?,
                None if self.is_resumed => match adopt(writer, path).await? {
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
        let at_once = self.request.max_concurrent_transfers.get();
        download(writer, blobs, begun, at_once, self.observer)
            .await
            .map_err(WriteFailure::Blob)
    }
}

/// Returns the request to the planner: what the base holds need not be fetched.
fn plan_request(request: &ExportRequest) -> PlanRequest {
    let mut wanted = request.plan.clone();
    wanted.keep_descriptors |= request.layout_tags;
    if let Some(base) = &request.base {
        let (base, held) = (base.clone(), wanted.held.take());
        wanted.held = Some(Held::new(move |digest, size| {
            let elsewhere = held.as_ref().is_some_and(|held| held.holds(digest, size));
            elsewhere || base.holds(digest, size)
        }));
    }
    wanted
}

/// Reads and hashes what an earlier run left, on a thread of its own, so that dropping the export
/// does not wait for gigabytes.
async fn adopt<S: Sink + 'static>(
    writer: &Arc<BundleWriter<S>>,
    path: EntryPath,
) -> Result<Adopted<S>, ExportError> {
    let writer = Arc::clone(writer);
    let adopted = tokio::task::spawn_blocking(move || writer.adopt(&path));
    Ok(joined(adopted.await)?)
}

/// Returns the result of a task, and resumes its panic.
fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    match result {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Returns the true size of a blob that failed, if its descriptor has the wrong size: its origin
/// gives another size, and the content of that size has the right digest.
async fn size_of(contents: &Contents, failed: &Failed) -> Option<u64> {
    let piece = contents.content.piece(&failed.digest)?;
    // If a descriptor says that a blob is longer than it is, requests for the rest fail.
    if !matches!(
        failed.error.kind(),
        ExportErrorKind::Integrity | ExportErrorKind::Network
    ) {
        return None;
    }
    for origin in &piece.from {
        let length = origin.blob_size(&failed.digest).await;
        let Some(size) = length.filter(|size| *size != piece.size) else {
            continue;
        };
        let mut sink = Discarded::new(failed.digest.clone());
        let pulled = origin.pull_blob(&failed.digest, size, &mut sink);
        if pulled.await.is_ok() {
            return Some(size);
        }
    }
    None
}

/// Why writing stopped.
enum WriteFailure {
    /// A blob could not be fetched.
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
