//! Writing a bundle, with log lines, metrics and progress.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mirror_export::{
    ExportError, ExportEvent, ExportObserver, ExportRequest, ExportSummary, Exporter, FileOutput,
};
use mirror_plan::{PlanEvent, PlanObserver};

use crate::context::Context;
use crate::planning::Planning;
use crate::progress::{Current, Phase, Progress};
use crate::render;

/// Exports, with log lines and metrics.
pub(crate) async fn export(
    context: &Context,
    request: &ExportRequest,
    output: &FileOutput,
    progress: &Progress,
) -> Result<ExportSummary, ExportError> {
    let observer = Arc::new(Observer {
        planning: Planning::new(context, progress, "export"),
        context: context.clone(),
        progress: progress.clone(),
        current: Current::default(),
        size: AtomicU64::new(0),
        hashed: Mutex::default(),
    });
    let exporter = Exporter::new(
        context.client.clone(),
        Arc::clone(&observer) as Arc<dyn ExportObserver>,
    )
    .with_gaps(context.gaps.clone())
    .manifest_cache(context.manifest_cache());
    let result = exporter.export(request, output).await;
    observer.planning.end();
    observer.current.end();
    result
}

/// Reports an export to the log, the metrics and the terminal.
#[derive(Debug)]
struct Observer {
    planning: Planning,
    context: Context,
    progress: Progress,
    current: Current,
    /// The size of the bundle in bytes.
    size: AtomicU64,
    hashed: Mutex<Hashed>,
}

/// How much of the bundle has been hashed for the checksum.
#[derive(Debug, Default)]
struct Hashed {
    bytes: u64,
    /// Whether hashing is all that is left, and shown as progress.
    is_shown: bool,
}

impl PlanObserver for Observer {
    fn planning(&self, event: PlanEvent<'_>) {
        self.planning.planning(event);
    }
}

impl ExportObserver for Observer {
    fn event(&self, event: ExportEvent) {
        let log = &self.context.log;
        match event {
            ExportEvent::Planned {
                bytes,
                blobs,
                blob_bytes,
                kept,
                left_out,
                ..
            } => {
                let kept = match kept {
                    0 => String::new(),
                    kept => format!(
                        ", {} kept from an interrupted export",
                        render::count(kept, "blob")
                    ),
                };
                let left_out = match left_out {
                    0 => String::new(),
                    left_out => format!(", {} left to the base", render::count(left_out, "blob")),
                };
                let blobs_text = render::count(blobs, "blob");
                log.info(&format!(
                    "Writing {} with {blobs_text} to download{kept}{left_out}",
                    render::bytes(bytes)
                ));
                self.size.store(bytes, Ordering::Relaxed);
                self.planning.end();
                self.current.begin(|| {
                    let of = Some(("blob", blobs as u64));
                    let phase = self.progress.phase("download", of);
                    phase.bytes_in_all(Some(blob_bytes));
                    phase
                });
            }
            ExportEvent::Received { bytes, .. } => self.current.with(|phase| phase.bytes(bytes)),
            ExportEvent::Discarded { bytes, .. } => {
                self.current.with(|phase| phase.bytes_again(bytes))
            }
            ExportEvent::Transferred { .. } => self.current.with(Phase::one_done),
            ExportEvent::Syncing => self.current.begin(|| self.progress.phase("fsync", None)),
            ExportEvent::Hashed { bytes, .. } => {
                let mut hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
                hashed.bytes += bytes;
                if hashed.is_shown {
                    self.current.with(|phase| phase.bytes(bytes));
                }
            }
            ExportEvent::Checksumming => {
                let mut hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
                hashed.is_shown = true;
                self.current.begin(|| {
                    let phase = self.progress.phase("checksum", None);
                    phase.bytes_in_all(Some(self.size.load(Ordering::Relaxed)));
                    phase.bytes(hashed.bytes);
                    phase
                });
            }
            _ => {}
        }
    }

    fn requests(&self) -> u64 {
        self.context.requests()
    }
}
