use std::collections::BTreeMap;
use std::sync::Arc;

use oci_content::MirrorGraph;

use crate::base;
use crate::error::{ImportError, ImportErrorKind, ImportRemedy};
use crate::ledger::Admitted;
use crate::mapping::Mapping;
use crate::observed::{ImportObserver, Observed};
use crate::options::ImportOptions;
use crate::plan::ImportPlan;
use crate::report::{ImportReport, ImportedImage, ImportedRepository, TransferCounts};
use crate::sequence::Sequence;
use crate::source::{Provenance, Source};
use crate::target::{Entry, Target, TargetProfile};

/// Puts a graph into a target and proves that it arrived.
///
/// - Before anything is sent, the importer checks that no tag would be moved without permission,
///   that the target has what a delta leaves out, and that the [`Ledger`](crate::Ledger), if one is
///   kept, has recorded no later bundle of the series.
/// - Blobs go first, then manifests, children before those that list them, then referrers, then
///   lists of referrers, and the tags of images last: a tag never points at something incomplete.
/// - Objects that are there already are not sent again, so an interrupted import resumes where it
///   stopped, and a second import sends nothing.
/// - If the answer to a write is lost, the importer looks for the object before it sends it again
///   or gives up.
/// - After a blob is sent, the importer checks that it is there with the right size before a
///   manifest names it.
/// - At the end the tags that were made are read back, every blob that was sent, or that a sent
///   manifest names, is looked up once more, and the target is asked for the referrers of every
///   image.
/// - A repository that has one of its images already is asked for its referrers before anything is
///   sent. What is found then is not sent, looked up or read again: an import of which nothing has
///   changed asks for everything once, and what has vanished is put back.
/// - Referrers that it does not list after its
///   [`patience`](crate::TargetProfile::patience) are sent again, one at a time; if one is still
///   not listed, the import fails and names it.
#[derive(Clone, Debug)]
pub struct Importer {
    target: Arc<dyn Target>,
    options: ImportOptions,
    observer: Arc<dyn ImportObserver>,
}

impl Importer {
    /// Creates an importer.
    pub fn new(
        target: Arc<dyn Target>,
        options: ImportOptions,
        observer: Arc<dyn ImportObserver>,
    ) -> Self {
        Self {
            target,
            options,
            observer,
        }
    }

    /// Returns the target.
    pub fn target(&self) -> &dyn Target {
        &*self.target
    }

    /// Returns where repositories go.
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.options.mapping
    }

    /// Puts the graph of `source` into the target and proves that it arrived.
    ///
    /// A bundle is a source only after [validation](import_validator::ValidatedBundle).
    ///
    /// # Errors
    ///
    /// When something could not be sent, or was sent and is not found; see [`ImportError::report`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends all transfers. What has arrived stays, without the tags that were
    /// not made yet; the next import resumes from there. The ledger is not written.
    pub async fn import(&self, source: Arc<dyn Source>) -> Result<ImportReport, ImportError> {
        let source = Observed::new(source, Arc::clone(&self.observer));
        let provenance = source.provenance();
        let plan = ImportPlan::new(&source, &self.options.mapping).await?;
        let profile = self.target.profile();
        let mut report = self.report(&provenance, source.graph(), &plan);
        let admitted = self.admit(&provenance, &mut report)?;
        let (objects, bytes) = amount(&plan, profile);
        self.observer.planned(objects, bytes);
        let sequence = Sequence {
            target: &self.target,
            source: &source,
            options: &self.options,
            observer: &self.observer,
            plan: &plan,
            profile,
        };
        if let Err(error) = sequence.run(provenance.base.as_ref(), &mut report).await {
            let is_begun = report.repositories.iter().any(|into| !into.made.is_empty());
            return Err(match error.report() {
                None if is_begun => error.with_report(report),
                _ => error,
            });
        }
        match admitted
            .filter(|_| !self.options.dry_run)
            .map(Admitted::record)
        {
            Some(Err(error)) => Err(error.with_report(report)),
            _ => Ok(report),
        }
    }

    /// Asks the ledger, if one is kept, and writes its answer into the report.
    fn admit(
        &self,
        provenance: &Provenance,
        report: &mut ImportReport,
    ) -> Result<Option<Admitted<'_>>, ImportError> {
        self.check_series(provenance)?;
        let Some(ledger) = &self.options.ledger else {
            return Ok(None);
        };
        let options = &self.options;
        let target = self.target.identity(options.mapping.prefix.as_ref());
        let admitted = match ledger.claim(provenance, target.clone()) {
            Ok(claim) => claim.admit(options.allow_rollback, options.dry_run)?,
            Err(mut nothing) => {
                nothing.other_series = ledger.series_of(&target);
                report.ledger = Some(nothing);
                return Ok(None);
            }
        };
        report.ledger = Some(admitted.report().clone());
        Ok(Some(admitted))
    }

    /// Refuses a bundle of a stream that the caller does not want, or without a required sequence.
    fn check_series(&self, provenance: &Provenance) -> Result<(), ImportError> {
        let stream = &provenance.stream;
        let refused = |reason: String| {
            let message = format!("{reason}; nothing was sent");
            ImportError::new(ImportErrorKind::Authenticity, message)
        };
        match &self.options.stream {
            Some(wanted) if wanted != stream => {
                let reason = format!(
                    "the bundle is of stream {stream}, and one of stream {wanted} is wanted"
                );
                Err(refused(reason).with_remedy(ImportRemedy::Stream(stream.clone())))
            }
            _ if self.options.require_sequence && provenance.sequence == 0 => Err(refused(
                "the bundle has no sequence, so nothing says how old it is, and one is required"
                    .to_owned(),
            )),
            _ => Ok(()),
        }
    }

    fn report(
        &self,
        provenance: &Provenance,
        graph: &MirrorGraph,
        plan: &ImportPlan,
    ) -> ImportReport {
        let images = plan.images().filter_map(|entry| self.imported(&entry));
        let repositories = plan.sources.iter();
        let repositories = repositories
            .map(|(target, source)| ImportedRepository::new(source.clone(), target.clone()));
        ImportReport {
            schema_version: 1,
            target: self.target.name(),
            target_identity: Some(self.target.identity(None)),
            proved: false,
            manifest: provenance.manifest.clone(),
            signed_by: provenance.signed_by.clone(),
            stream: provenance.stream.to_string(),
            sequence: provenance.sequence,
            ledger: None,
            dry_run: self.options.dry_run,
            source_status: provenance.status,
            warnings: provenance.warnings.clone(),
            warnings_omitted: provenance.warnings_omitted,
            graph: Some(graph.clone()),
            repositories: repositories.collect(),
            images: images.collect(),
            tags: Vec::new(),
            blobs: TransferCounts::default(),
            blobs_checked: 0,
            manifests: TransferCounts::default(),
            base: base::report(provenance.base.as_ref(), plan),
            referrers_expected: plan.referrers(),
            referrers_found: 0,
            missing: Vec::new(),
        }
    }

    fn imported(&self, entry: &Entry) -> Option<ImportedImage> {
        Some(ImportedImage {
            source: entry.source.clone()?,
            target: self.target.entry_name(entry),
            digest: entry.descriptor.digest.clone(),
            tag: entry.tag.clone(),
        })
    }
}

/// Returns the number of objects that belong at the target, and their bytes. An object counts once
/// if repositories share it, otherwise once per repository; and twice if it is a blob and a
/// manifest.
fn amount(plan: &ImportPlan, profile: TargetProfile) -> (usize, u64) {
    let objects = plan.repositories.values().flat_map(|plan| {
        let manifests = plan.descriptors.values();
        let manifests = manifests.map(|known| ((&known.digest, true), known.size));
        let blobs = plan.blobs.iter();
        blobs
            .map(|(digest, size)| ((digest, false), *size))
            .chain(manifests)
    });
    let sizes: Vec<u64> = if profile.is_shared {
        objects.collect::<BTreeMap<_, _>>().into_values().collect()
    } else {
        objects.map(|(_, size)| size).collect()
    };
    let sum = |sum: u64, size: &u64| sum.saturating_add(*size);
    (sizes.len(), sizes.iter().fold(0, sum))
}

/// Returns the report of an import that brought nothing.
#[cfg(test)]
pub(crate) fn empty_report() -> ImportReport {
    let provenance = Provenance::default();
    ImportReport {
        schema_version: 1,
        target: String::new(),
        target_identity: None,
        proved: true,
        manifest: None,
        signed_by: None,
        stream: provenance.stream.to_string(),
        sequence: 0,
        ledger: None,
        dry_run: false,
        source_status: provenance.status,
        warnings: Vec::new(),
        warnings_omitted: 0,
        graph: None,
        repositories: Vec::new(),
        images: Vec::new(),
        tags: Vec::new(),
        blobs: TransferCounts::default(),
        blobs_checked: 0,
        manifests: TransferCounts::default(),
        base: None,
        referrers_expected: 0,
        referrers_found: 0,
        missing: Vec::new(),
    }
}
