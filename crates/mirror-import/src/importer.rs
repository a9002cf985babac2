use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base;
use crate::error::{ImportError, ImportErrorKind, ImportRemedy};
use crate::ledger::Admitted;
use crate::observed::{ImportObserver, Observed};
use crate::options::ImportOptions;
use crate::plan::ImportPlan;
use crate::report::{ImportReport, ImportedImage, TransferCounts};
use crate::sequence::Sequence;
use crate::source::{Provenance, Source};
use crate::target::{Entry, Target, TargetProfile};

/// Puts a graph into a target and proves that it arrived.
///
/// - Nothing is sent before it is known that no tag would be moved against the caller's will, that the target has what a
///   delta leaves out, and that the [`Ledger`](crate::Ledger), where one is kept, knows no later bundle of the series.
/// - Blobs go first, then manifests, children before those that list them, then referrers, then lists of referrers, and
///   the tags of images last: a tag never points at something incomplete.
/// - What is there already is not sent again, so an interrupted import goes on where it stopped, and a second one
///   sends nothing.
/// - A write whose answer is lost is looked for before it is sent again or given up.
/// - A blob that was sent is looked for, by its size, before a manifest names it.
/// - At the end the tags are read back, every blob is looked for once more, and the target is asked for the referrers of every
///   image. What it does not list after its [`patience`](crate::TargetProfile::patience) is sent again, one at a time; if it
///   is still not listed, the import fails and names it.
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

    /// Imports. Of bundles only one that [was validated](import_validator::ValidatedBundle) is a source.
    ///
    /// # Errors
    ///
    /// When something could not be sent, or was sent and is not found; see [`ImportError::report`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends all transfers. What arrived stays, without the tags that were to be made; the next import goes
    /// on from there. A ledger is not written.
    pub async fn import(&self, source: Arc<dyn Source>) -> Result<ImportReport, ImportError> {
        let source = Observed::new(source, Arc::clone(&self.observer));
        let provenance = source.provenance();
        let plan = ImportPlan::new(&source, &self.options.mapping).await?;
        let profile = self.target.profile();
        let mut report = self.report(&provenance, &plan);
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
        sequence.run(provenance.base.as_ref(), &mut report).await?;
        match admitted
            .filter(|_| !self.options.dry_run)
            .map(Admitted::record)
        {
            Some(Err(error)) => Err(error.with_report(report)),
            _ => Ok(report),
        }
    }

    /// Asks the ledger, if there is one, and writes its answer into the report.
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

    /// Refuses a bundle of another series than the caller wants.
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

    fn report(&self, provenance: &Provenance, plan: &ImportPlan) -> ImportReport {
        let entries = plan.entries();
        let images = entries.iter().filter(|entry| entry.is_image);
        let images = images.filter_map(|entry| self.imported(entry));
        ImportReport {
            schema_version: 1,
            target: self.target.name(),
            manifest: provenance.manifest.clone(),
            signed_by: provenance.signed_by.clone(),
            stream: provenance.stream.to_string(),
            sequence: provenance.sequence,
            ledger: None,
            dry_run: self.options.dry_run,
            source_status: provenance.status,
            warnings: provenance.warnings.clone(),
            warnings_omitted: provenance.warnings_omitted,
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

/// Counts what is to be at the target, and its bytes: what is shared once, else for every repository.
fn amount(plan: &ImportPlan, profile: TargetProfile) -> (usize, u64) {
    let objects = plan.repositories.values().flat_map(|plan| {
        let manifests = plan.descriptors.values();
        let manifests = manifests.map(|known| (&known.digest, known.size));
        let blobs = plan.blobs.iter().map(|(digest, size)| (digest, *size));
        blobs.chain(manifests)
    });
    let sizes: Vec<u64> = if profile.is_shared {
        objects.collect::<BTreeMap<_, _>>().into_values().collect()
    } else {
        objects.map(|(_, size)| size).collect()
    };
    let sum = |sum: u64, size: &u64| sum.saturating_add(*size);
    (sizes.len(), sizes.iter().fold(0, sum))
}
