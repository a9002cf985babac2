use std::sync::Arc;
use std::time::{Duration, Instant};

use bundle_format::{Container, OutputError, OutputErrorKind, OutputFile, Sink};
use mirror_plan::Planner;
use oci_content::{FileSystemGaps, SourceRepository};
use oci_referrers::{ManifestCache, ReferrerSource};
use registry_client::Client;

use crate::error::{ExportError, ExportErrorKind};
use crate::observer::ExportObserver;
use crate::report;
use crate::request::{ExportRequest, FileOutput, SinkOutput};
use crate::summary::{ExportSummary, ExportedImage, SinkSummary, exported_volumes};
use crate::writing::Writing;

/// How long an export waits for a file that another run is writing. An aborted task is dropped a
/// moment later.
const BUSY_GRACE: Duration = Duration::from_millis(500);

/// Writes mirror bundles.
#[derive(Clone, Debug)]
pub struct Exporter {
    planner: Planner,
    observer: Arc<dyn ExportObserver>,
    gaps: FileSystemGaps,
}

impl Exporter {
    /// Creates an exporter that asks through `client`.
    pub fn new(client: Client, observer: Arc<dyn ExportObserver>) -> Self {
        Self {
            planner: Planner::new(client, Arc::<dyn ExportObserver>::clone(&observer)),
            observer,
            gaps: FileSystemGaps::default(),
        }
    }

    /// Records in `gaps` what the file system that is written to cannot do.
    #[must_use]
    pub fn with_gaps(mut self, gaps: FileSystemGaps) -> Self {
        self.gaps = gaps;
        self
    }

    /// Sets further sources of referrers, which are asked in addition to each registry; see
    /// [`Planner::sources`].
    #[must_use]
    pub fn sources(
        mut self,
        sources: impl Fn(&SourceRepository) -> Vec<Arc<dyn ReferrerSource>> + Send + Sync + 'static,
    ) -> Self {
        self.planner = self.planner.sources(sources);
        self
    }

    /// Sets a cache of manifests that earlier runs have read; see [`Planner::manifest_cache`].
    #[must_use]
    pub fn manifest_cache(mut self, cache: Option<Arc<dyn ManifestCache>>) -> Self {
        self.planner = self.planner.manifest_cache(cache);
        self
    }

    /// Exports into a file, or into volumes, which get their names when the bundle is whole.
    ///
    /// # Errors
    ///
    /// When no bundle was written: then nothing is left under its name. An incomplete bundle that
    /// was allowed is not an error; its manifest says so.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends all transfers and leaves the partial file, from which the next
    /// export resumes. Once the future is dropped, nothing more is written and the file is free; an
    /// aborted task drops it a moment later, and an export to the same file waits that long.
    pub async fn export(
        &self,
        request: &ExportRequest,
        output: &FileOutput,
    ) -> Result<ExportSummary, ExportError> {
        let started = Instant::now();
        request.plan.check()?;
        // Taken first: if it cannot be written, there is no need for a discovery.
        let file = take_output(output).await?.with_gaps(self.gaps.clone());
        let writing = Writing {
            request,
            observer: &self.observer,
            sink: file.sink(),
            container: Container::from_file_name(&output.path),
            volume_size: output.volume_size,
            is_resumed: file.is_resumed(),
            keep: || file.keep(),
            started,
        };
        let named = |error: ExportError| error.at(&output.path);
        let written = writing.run(&self.planner).await.map_err(named)?;
        let checksums = written.checksums.ok_or_else(|| {
            let message = "what was written cannot be read back";
            named(ExportError::new(ExportErrorKind::LocalIo, message))
        })?;
        let found = written.found;
        let summary = ExportSummary {
            output: output.path.clone(),
            size: written.size,
            sha256: checksums.whole.clone(),
            volumes: exported_volumes(&file, &checksums),
            times: written.times,
            manifest: written.contents.manifest,
            images: found.images.iter().map(ExportedImage::from).collect(),
        };
        let (elapsed, requests) = (started.elapsed(), self.observer.requests());
        // Written before the bundle has its name, so that a run that is killed here leaves no
        // bundle without its checksum.
        report::write(
            &summary,
            &found.probes,
            &found.images,
            elapsed,
            requests,
            file.is_resumed(),
            &self.gaps,
        )?;
        if let Err(error) = file.publish_with(&checksums.volumes) {
            report::remove(&output.path);
            return Err(error.into());
        }
        Ok(summary)
    }

    /// Exports into a sink of the caller. With [`SinkOutput::resumes`], the intact parts of what an
    /// earlier run has left there are kept.
    ///
    /// # Errors
    ///
    /// When there is no whole bundle in the sink at the end.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends all transfers. The sink holds a part of the bundle, and
    /// [`Sink::sync`] was not called; a task that was aborted drops it a moment later.
    pub async fn export_to<S: Sink + Clone + 'static>(
        &self,
        request: &ExportRequest,
        output: SinkOutput<S>,
    ) -> Result<SinkSummary, ExportError> {
        let writing = Writing {
            request,
            observer: &self.observer,
            sink: output.sink,
            container: output.container,
            volume_size: None,
            is_resumed: output.resumes,
            keep: || {},
            started: Instant::now(),
        };
        let written = writing.run(&self.planner).await?;
        Ok(SinkSummary {
            size: written.size,
            sha256: written.checksums.map(|checksums| checksums.whole),
            times: written.times,
            manifest: written.contents.manifest,
            images: written
                .found
                .images
                .iter()
                .map(ExportedImage::from)
                .collect(),
        })
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
