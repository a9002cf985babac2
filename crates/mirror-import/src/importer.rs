use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bundle_format::{BundleManifest, StreamName};
use oci_content::{Registry, RepositoryName};
use registry_client::Client;

use crate::base;
use crate::error::{ImportError, ImportErrorKind};
use crate::layout_target::LayoutTarget;
use crate::ledger::Admitted;
use crate::ledger::Ledger;
use crate::mapping::Mapping;
use crate::plan::ImportPlan;
use crate::registry_target::RegistryTarget;
use crate::report::{ImportReport, ImportedImage, TransferCounts};
use crate::source::BundleSource;
use import_validator::ValidatedBundle;

/// Where a bundle goes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ImportTarget {
    /// A registry; the mapping decides the repositories.
    Registry {
        /// The registry.
        registry: Registry,
        /// The client that speaks to it.
        client: Client,
    },
    /// An image layout folder, created where there is none.
    Layout {
        /// The folder.
        folder: PathBuf,
        /// Whether entries are named by the full source reference, as the local store has it. Otherwise by the bare
        /// tag while the bundle has one repository.
        full_references: bool,
    },
}

/// How a bundle is imported.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Where repositories go.
    pub mapping: Mapping,
    /// Repositories of the target registry from which blobs that a delta leaves out may be mounted, beside those that
    /// the bundle goes into.
    pub mount_from: Vec<RepositoryName>,
    /// Whether a tag that holds something else at the target may be moved.
    pub overwrite_tags: bool,
    /// Whether to plan only.
    pub dry_run: bool,
    /// Where the sequences of imported bundles are remembered. None by default: nothing is remembered, and nothing refused for it.
    pub ledger: Option<Ledger>,
    /// Whether a bundle may be imported although the ledger knows a later one, or another one with the same sequence.
    pub allow_rollback: bool,
    /// The only stream that a bundle may be of; of any by default.
    pub stream: Option<StreamName>,
    /// Whether a bundle without a sequence is refused: nothing could be said of its age.
    pub require_sequence: bool,
    /// Objects that are sent at once; 16 by default.
    pub max_concurrent_transfers: usize,
    /// Whether what a registry has already is read and hashed, and sent again where it is not what it should be. Otherwise
    /// its size is compared. In a folder everything is always hashed.
    pub verify_existing: bool,
    /// How long a target is given to show what it has taken, before that is sent again or given up: 15 s by default, for
    /// each tag, blob and repository whose lists are looked at.
    pub patience: Duration,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            mapping: Mapping::default(),
            mount_from: Vec::new(),
            overwrite_tags: false,
            dry_run: false,
            ledger: None,
            allow_rollback: false,
            stream: None,
            require_sequence: false,
            max_concurrent_transfers: 16,
            verify_existing: false,
            patience: Duration::from_secs(15),
        }
    }
}

/// Is told how far an import is.
pub trait ImportObserver: fmt::Debug + Send + Sync {
    /// Is called once, when it is known how many objects there are to send or to find there, and of how many bytes
    /// together.
    fn planned(&self, objects: usize, bytes: u64);

    /// Is called as objects are read to be sent, with how many more bytes were read. When an object is at the target, be it
    /// that it was there already, they sum up to its size.
    fn advanced(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Is called when so many bytes, of which [`advanced`](Self::advanced) has told, have to be sent again.
    fn set_back(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Is called when an object of so many bytes is at the target.
    fn arrived(&self, bytes: u64);

    /// Is called when everything was sent, and the target is asked whether it has it.
    fn proving(&self) {}
}

/// Nobody is told.
impl ImportObserver for () {
    fn planned(&self, _: usize, _: u64) {}

    fn arrived(&self, _: u64) {}
}

/// Puts a validated bundle into a target and proves that it arrived.
///
/// - Nothing is sent before it is known that no tag would be moved against the caller's will, that the target has what a
///   delta leaves out, and that the [`Ledger`], where one is kept, knows no later bundle of the series.
/// - Blobs go first, then manifests, children before those that list them, then referrers, then referrers tags, and
///   the tags of images last: a tag never points at something incomplete.
/// - What is there already is not sent again, so an interrupted import goes on where it stopped, and a second one
///   sends nothing.
/// - A write whose answer is lost is looked for before it is sent again or given up.
/// - A blob that was sent is looked for, by its size, before a manifest names it.
/// - At the end the tags are read back, every blob is looked for once more, and the target is asked for the referrers of every
///   image. What it does not list after [`patience`](ImportOptions::patience) is sent again, one at a time; if it is still
///   not listed, the import fails and names it.
#[derive(Clone, Debug)]
pub struct Importer {
    target: ImportTarget,
    options: ImportOptions,
    observer: Arc<dyn ImportObserver>,
}

impl Importer {
    /// Creates an importer.
    pub fn new(
        target: ImportTarget,
        options: ImportOptions,
        observer: Arc<dyn ImportObserver>,
    ) -> Self {
        Self {
            target,
            options,
            observer,
        }
    }

    /// Imports. That the bundle was validated is in its type.
    ///
    /// # Errors
    ///
    /// When something could not be sent, or was sent and is not found; see [`ImportError::report`].
    pub async fn import(&self, bundle: Arc<ValidatedBundle>) -> Result<ImportReport, ImportError> {
        let bundle = BundleSource::new(bundle, Arc::clone(&self.observer));
        let plan = ImportPlan::new(&bundle, &self.options.mapping)?;
        let mut report = self.report(&bundle, &plan);
        let admitted = self.admit(&bundle, &mut report)?;
        let (objects, bytes) = self.amount(&plan);
        self.observer.planned(objects, bytes);
        match &self.target {
            ImportTarget::Registry { registry, client } => {
                RegistryTarget::new(client, registry, &bundle, &self.options, &self.observer)
                    .import(&plan, &mut report)
                    .await?;
            }
            ImportTarget::Layout {
                folder,
                full_references,
            } => {
                LayoutTarget::new(
                    folder,
                    *full_references,
                    &bundle,
                    &self.options,
                    &self.observer,
                )
                .import(&plan, &mut report)
                .await?;
            }
        }
        match admitted
            .filter(|_| !self.options.dry_run)
            .map(Admitted::record)
        {
            Some(Err(error)) => Err(error.with_report(report)),
            _ => Ok(report),
        }
    }

    /// Counts what is to be at the target, and its bytes: what a folder holds once, every repository of a registry holds.
    fn amount(&self, plan: &ImportPlan) -> (usize, u64) {
        let objects = plan.repositories.values().flat_map(|plan| {
            let manifests = plan.descriptors.values();
            let manifests = manifests.map(|known| (&known.digest, known.size));
            plan.blobs
                .iter()
                .map(|(digest, size)| (digest, *size))
                .chain(manifests)
        });
        let sizes: Vec<u64> = match &self.target {
            ImportTarget::Registry { .. } => objects.map(|(_, size)| size).collect(),
            ImportTarget::Layout { .. } => {
                objects.collect::<BTreeMap<_, _>>().into_values().collect()
            }
        };
        let bytes = sizes
            .iter()
            .fold(0, |sum: u64, size| sum.saturating_add(*size));
        (sizes.len(), bytes)
    }

    /// Asks the ledger, if there is one, and writes its answer into the report.
    fn admit(
        &self,
        bundle: &BundleSource,
        report: &mut ImportReport,
    ) -> Result<Option<Admitted<'_>>, ImportError> {
        self.check_series(bundle.manifest())?;
        let Some(ledger) = &self.options.ledger else {
            return Ok(None);
        };
        let options = &self.options;
        let target = self.ledger_target();
        let admitted = match ledger.claim(bundle.validated(), target.clone()) {
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
    fn check_series(&self, manifest: &BundleManifest) -> Result<(), ImportError> {
        let stream = &manifest.stream;
        let reason = match &self.options.stream {
            Some(wanted) if wanted != stream => {
                format!("the bundle is of stream {stream}, and one of stream {wanted} is wanted")
            }
            _ if self.options.require_sequence && manifest.sequence == 0 => {
                "the bundle has no sequence, so nothing says how old it is, and one is required"
                    .to_owned()
            }
            _ => return Ok(()),
        };
        let message = format!("{reason}; nothing was sent");
        Err(ImportError::new(ImportErrorKind::Authenticity, message))
    }

    /// Names the target for the ledger: a folder by its one path, however it was given, and a registry without the port that
    /// it has anyway.
    fn ledger_target(&self) -> String {
        match &self.target {
            ImportTarget::Registry { registry, .. } => {
                let registry = registry.to_string();
                let registry = registry.strip_suffix(":443").unwrap_or(&registry);
                match &self.options.mapping.prefix {
                    Some(prefix) => format!("{registry}/{prefix}"),
                    None => registry.to_owned(),
                }
            }
            ImportTarget::Layout { folder, .. } => {
                let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
                // What is not there yet cannot be a link, so its name is kept.
                let canonical = folder.ancestors().find_map(|known| {
                    let rest = folder.strip_prefix(known).ok()?.components();
                    let known = known.canonicalize().ok()?;
                    Some(known.components().chain(rest).collect::<PathBuf>())
                });
                format!("oci:{}", canonical.unwrap_or(folder).display())
            }
        }
    }

    fn report(&self, bundle: &BundleSource, plan: &ImportPlan) -> ImportReport {
        let manifest = bundle.manifest();
        let target = match &self.target {
            ImportTarget::Registry { registry, .. } => registry.to_string(),
            ImportTarget::Layout { folder, .. } => format!("oci:{}", folder.display()),
        };
        let images = plan.repositories.iter().flat_map(|(name, repository)| {
            let target = &self.target;
            repository
                .images
                .iter()
                .map(move |(source, digest, tag)| ImportedImage {
                    source: source.clone(),
                    target: match target {
                        ImportTarget::Registry { registry, .. } => match tag {
                            Some(tag) => format!("{registry}/{name}:{tag}"),
                            None => format!("{registry}/{name}@{digest}"),
                        },
                        ImportTarget::Layout { .. } => source.to_string(),
                    },
                    digest: digest.clone(),
                    tag: tag.clone(),
                })
        });
        ImportReport {
            schema_version: 1,
            target,
            manifest: bundle.manifest_digest().clone(),
            signed_by: bundle.signed_by(),
            stream: manifest.stream.to_string(),
            sequence: manifest.sequence,
            ledger: None,
            dry_run: self.options.dry_run,
            source_status: manifest.referrers.status,
            warnings: bundle.validated().warnings().to_vec(),
            warnings_omitted: bundle.validated().warnings_omitted(),
            images: images.collect(),
            blobs: TransferCounts::default(),
            blobs_checked: 0,
            manifests: TransferCounts::default(),
            base: base::report(bundle, plan),
            referrers_expected: plan.referrers(),
            referrers_found: 0,
            missing: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use registry_client::{Client, ClientOptions};

    use super::*;

    #[test]
    fn the_ledger_knows_a_registry_however_it_was_typed() {
        let name = |registry: &str, prefix: Option<&str>| {
            let target = ImportTarget::Registry {
                registry: registry.parse().unwrap(),
                client: Client::new(ClientOptions::default()).unwrap(),
            };
            let mut options = ImportOptions::default();
            options.mapping.prefix = prefix.map(|prefix| prefix.parse().unwrap());
            Importer::new(target, options, Arc::new(())).ledger_target()
        };
        assert_eq!(
            name("Registry.Example.com:443", None),
            "registry.example.com"
        );
        assert_eq!(
            name("registry.example.com", Some("a/b")),
            "registry.example.com/a/b"
        );
        assert_eq!(name("[::1]:443", None), "[::1]");
        for other in ["registry.example.com:8443", "registry.example.com:80"] {
            assert_eq!(name(other, None), other);
        }
    }
}
