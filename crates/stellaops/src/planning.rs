//! What an export and a mirror do before anything is written or sent: find images and referrers, and say so.

use std::time::Duration;

use mirror_plan::{PlanEvent, PlanObserver, PlanRequest};
use oci_content::ImageSource;
use serde_json::json;

use crate::announce;
use crate::context::Context;
use crate::log::LogLevel;
use crate::progress::{Current, Phase, Progress};

/// Returns the request for images, with the limits of the configuration.
pub(crate) fn request(context: &Context, images: Vec<ImageSource>) -> PlanRequest {
    let discovery = &context.config.export.referrer_discovery;
    let mut request = PlanRequest::of_sources(images);
    request.discovery_timeout = Duration::from_secs(discovery.timeout_seconds.get());
    request.max_concurrent_discoveries = discovery.max_concurrent_discoveries;
    for reference in &request.images {
        if let Some(capability) = context.configured_api(reference.registry()) {
            request
                .configured
                .insert(reference.registry().clone(), capability);
        }
    }
    request
}

/// Returns the request of a mirror, which carries objects with any digest.
pub(crate) fn mirror_request(context: &Context, images: Vec<ImageSource>) -> PlanRequest {
    let mut request = request(context, images);
    request.sha512 = true;
    request
}

/// Reports the search for images and referrers to the log, the metrics and the terminal.
#[derive(Debug)]
pub(crate) struct Planning {
    context: Context,
    progress: Progress,
    current: Current,
    /// What the search is for, in a word.
    purpose: &'static str,
}

impl Planning {
    pub(crate) fn new(context: &Context, progress: &Progress, purpose: &'static str) -> Self {
        Self {
            context: context.clone(),
            progress: progress.clone(),
            current: Current::default(),
            purpose,
        }
    }

    /// Ends what is shown as progress.
    pub(crate) fn end(&self) {
        self.current.end();
    }
}

impl PlanObserver for Planning {
    fn planning(&self, event: PlanEvent<'_>) {
        let log = &self.context.log;
        match event {
            PlanEvent::Probing { registries, .. } => {
                let message = format!(
                    "Probing {registries} registries for OCI referrer capabilities before {}",
                    self.purpose
                );
                let fields = json!({ "registries": registries })
                    .as_object()
                    .cloned()
                    .unwrap_or_default();
                log.write(LogLevel::Info, &message, fields);
                let of = Some(("host", registries as u64));
                self.current.begin(|| self.progress.phase("probe", of));
            }
            PlanEvent::Probed(report) => {
                announce::probed(&self.context, report);
                self.current.with(Phase::one_done);
            }
            PlanEvent::Discovering { images, .. } => {
                self.current
                    .begin(|| self.progress.discovery(images as u64));
            }
            PlanEvent::TagMoved { reference, now, .. } => {
                log.warn(&format!(
                    "tag-moved: {reference}: the tag points to {now} now; the digest is used"
                ));
            }
            PlanEvent::Discovered {
                reference,
                origin,
                root,
                graph,
                timeout,
                ..
            } => {
                let registry = origin.repository().map(|repository| repository.registry());
                let context = &self.context;
                if let Some(findings) = &context.findings {
                    findings.add(reference, graph);
                }
                announce::discovered(context, reference, registry, root, graph, timeout, false);
                for (warning, times) in announce::folded_warnings(graph.warnings()) {
                    let about = warning
                        .digest
                        .as_ref()
                        .map(|digest| format!(" {digest}"))
                        .unwrap_or_default();
                    log.warn(&format!(
                        "{}: {reference}{about}: {}{times}",
                        warning.code, warning.message
                    ));
                }
                self.current.with(Phase::one_done);
            }
            PlanEvent::PolicyWarning(violation) => log.warn(&format!(
                "the policy expects {}: {}",
                violation.expected, violation.found
            )),
            _ => {}
        }
    }
}
