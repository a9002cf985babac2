use std::error::Error as _;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
#[cfg(feature = "policy")]
use std::time::SystemTime;

#[cfg(feature = "signature")]
use bundle_format::PublicKey;
use bundle_format::{
    BaseBundle, BundleArchive, BundleFile, BundleFileErrorKind, BundleFolder, BundleReader, ReadAt,
    Sequential,
};
use oci_content::{Digest, with_causes};
#[cfg(feature = "policy")]
use oci_referrers::Policy;

use crate::contents::Contents;
use crate::entries::FolderEntries;
use crate::hashing::Hashing;
use crate::limits::ValidationLimits;
use crate::observer::{Observed, ValidationObserver};
use crate::policy::PolicyCheck;
#[cfg(feature = "policy")]
use crate::policy::Targets;
use crate::report::{FindingKind, Findings, Report, Stage};
use crate::scan::{Scan, add_container_error};
use crate::signature::{Proof, SignatureCheck};
use crate::validated::ValidatedBundle;
use crate::{layout, referrers, volumes};
#[cfg(feature = "policy")]
use oci_content::SourceRepository;

/// Proves a bundle whole, or says exactly what is wrong.
///
/// - A bundle is read once, from its first byte to its last, and nothing is extracted or written.
///   Large files are hashed on separate [threads](Self::threads) meanwhile.
/// - Memory is bounded by the [limits](ValidationLimits): a few times the bytes of `manifest.yaml`
///   and of all manifests together, never the size of a layer.
/// - Corrupt, missing and unlisted content is always an error. What the export could not complete
///   is a warning, and an error if the validation is [strict](Self::strict).
///
/// Calls block; in an async service they belong on a thread for blocking work.
///
/// ```
/// use import_validator::{FindingKind, ImportValidator};
///
/// let validator = ImportValidator::new().check_referrers(true);
/// let report = validator.validate("bundle.tgz", &b"no bundle"[..]);
/// assert!(!report.ok);
/// assert_eq!(report.findings[0].kind, FindingKind::NotABundle);
/// assert_eq!(report.exit_code(), 3);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ImportValidator {
    check_referrers: bool,
    strict: bool,
    limits: ValidationLimits,
    signature: SignatureCheck,
    policy: PolicyCheck,
    base: Option<Arc<BaseBundle>>,
    threads: Option<NonZeroUsize>,
    observer: Option<Arc<dyn ValidationObserver>>,
}

/// A report, and the bundle if the report has no error.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Validation {
    /// The report.
    pub report: Report,
    /// The bundle; `None` if there is an error, or if the input cannot be read a second time.
    pub bundle: Option<ValidatedBundle>,
}

impl Validation {
    fn new(findings: Findings, name: &str, bundle: Option<ValidatedBundle>) -> Self {
        let report = findings.into_report(name.to_owned());
        Self {
            bundle: bundle
                .filter(|_| report.ok)
                .map(|bundle| bundle.warned(&report)),
            report,
        }
    }
}

impl ImportValidator {
    /// Creates a validator with the default limits that checks every digest but not the graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the graph of subjects and referrers is checked too: that each `subject`,
    /// artifact type, list and folder agree. Default false.
    #[must_use]
    pub fn check_referrers(mut self, check: bool) -> Self {
        self.check_referrers = check;
        self
    }

    /// Sets whether an incomplete graph is an error: an orphaned referrer, or an export or
    /// discovery that was not complete. Includes [`check_referrers`](Self::check_referrers).
    /// Default false.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: ValidationLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the number of threads that hash large files beside the one that reads. Default: one per
    /// processor, at most 4. With 1, everything happens on the calling thread. Neither the report
    /// nor the memory, about 16 MiB, depends on it.
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets the observer of the validation's progress. Default none.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn ValidationObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Sets the bundle that a delta must be based on. What the delta leaves out is then compared
    /// with what the base lists; without a base, it is only counted.
    ///
    /// Neither proves that a target has it; the importer checks that before it has any effect.
    #[must_use]
    pub fn base(mut self, base: BaseBundle) -> Self {
        self.base = Some(Arc::new(base));
        self
    }

    /// Adds a key; the bundle must be signed by one of the added keys. Without keys, only the form
    /// of a signature in the bundle is checked, not who made it.
    ///
    /// Two keys serve during a key rotation. The report says which one verified the signature.
    ///
    /// A missing or invalid signature ends the validation: nothing else of the bundle is parsed.
    #[cfg(feature = "signature")]
    #[must_use]
    pub fn key(mut self, key: PublicKey) -> Self {
        self.signature.keys.push(key);
        self
    }

    /// Sets the signature that counts instead of the one in the bundle; it needs a
    /// [`key`](Self::key). See [`PublicKey::verify_detached`] for the accepted forms.
    #[cfg(feature = "signature")]
    #[must_use]
    pub fn detached_signature(mut self, signature: Vec<u8>) -> Self {
        self.signature.detached = Some(signature);
        self
    }

    /// Sets the policy that the bundle has to meet, and the time from which ages are counted.
    /// Includes [`check_referrers`](Self::check_referrers), since the policy relies on the graph.
    ///
    /// The age of a document counts from its own date
    /// ([`document_date`](oci_referrers::document_date)), else from that of its manifest
    /// ([`created`](oci_referrers::created)).
    #[cfg(feature = "policy")]
    #[must_use]
    pub fn policy(mut self, policy: Policy, now: SystemTime) -> Self {
        self.policy.policy = Some((policy, now));
        self
    }

    /// Sets the target (registry and repository) of the images of each repository, for rules of a
    /// [policy](Self::policy) that are about targets.
    #[cfg(feature = "policy")]
    #[must_use]
    pub fn targets(
        mut self,
        target: impl Fn(&SourceRepository) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.policy.targets = Some(Targets(Arc::new(target)));
        self
    }

    /// Sets whether a rule of the [policy](Self::policy) that applies to no image is an error
    /// instead of a warning: an import must not pass because of rules that judged nothing. Default
    /// false.
    #[cfg(feature = "policy")]
    #[must_use]
    pub fn refuse_unused_rules(mut self, refuse: bool) -> Self {
        self.policy.refuse_unused = refuse;
        self
    }

    /// Validates the bundle that `input` reads; the report names it `name`. The input need not be
    /// buffered.
    ///
    /// An input that cannot be read is a finding like any other ([`FindingKind::Io`]).
    pub fn validate(&self, name: &str, input: impl Read) -> Report {
        let mut findings = self.findings();
        self.started(None);
        self.read_archive(input, &mut findings);
        findings.into_report(name.to_owned())
    }

    /// Validates the bundle that `source` holds; the report names it `name`. The source can be
    /// bytes in memory, an open file, or anything else that is read at an offset, such as an object
    /// over HTTP.
    ///
    /// The source is read once from start to end; then its first files are read again, and the
    /// [`ValidatedBundle`] keeps it. A source that cannot be read is a finding like any other
    /// ([`FindingKind::Io`]).
    pub fn validate_source(&self, name: &str, source: impl ReadAt + 'static) -> Validation {
        let mut findings = self.findings();
        let source: Arc<dyn ReadAt> = Arc::new(source);
        self.started(source.size().ok());
        let read = self.read_archive(Sequential::new(&source), &mut findings);
        let bundle =
            read.and_then(|(digest, proof)| self.open(source, &digest, proof, &mut findings));
        Validation::new(findings, name, bundle)
    }

    /// Validates a bundle file, the volumes of a bundle by the name of the first, or a folder that
    /// a bundle was extracted into.
    ///
    /// A file that can be read only once, such as a pipe, gives a report and no
    /// [`ValidatedBundle`].
    pub fn validate_path(&self, path: &Path) -> Validation {
        let mut findings = self.findings();
        let bundle = if path.is_dir() {
            self.validate_folder(path, &mut findings)
        } else {
            match BundleFile::open(path) {
                Ok(file) => self.validate_file(file, &mut findings),
                Err(error) => {
                    let kind = match error.kind() {
                        BundleFileErrorKind::NotFirst => FindingKind::VolumeNotFirst,
                        _ => FindingKind::Io,
                    };
                    let draft = findings.add(kind);
                    let draft = if error.path() == path {
                        draft
                    } else {
                        draft.path(error.path().display())
                    };
                    match error.source() {
                        Some(source) => draft.found(source),
                        None => draft.found(error.reason()),
                    };
                    None
                }
            }
        };
        Validation::new(findings, &path.to_string_lossy(), bundle)
    }

    fn started(&self, bytes: Option<u64>) {
        if let Some(observer) = &self.observer {
            observer.started(bytes);
        }
    }

    fn findings(&self) -> Findings {
        Findings::new(self.strict, self.limits.max_findings_per_kind)
    }

    fn validate_file(&self, file: BundleFile, findings: &mut Findings) -> Option<ValidatedBundle> {
        let is_regular = file.is_regular();
        let size = is_regular.then(|| file.size().ok());
        self.started(size.flatten());
        let read = self.read_archive(file.reader(), findings);
        if findings.has_error(Stage::Container) || findings.has_error(Stage::Digests) {
            volumes::blame(&file, &self.limits.bundle, findings);
        }
        let (digest, proof) = read.filter(|_| is_regular)?;
        self.open(Arc::new(file), &digest, proof, findings)
    }

    /// Opens an archive that was read to its end without errors.
    fn open(
        &self,
        source: Arc<dyn ReadAt>,
        manifest_digest: &Digest,
        proof: Proof,
        findings: &mut Findings,
    ) -> Option<ValidatedBundle> {
        if findings.counts.errors > 0 {
            return None;
        }
        let reason = match BundleArchive::open(source, &self.limits.bundle) {
            Ok(archive) if archive.plan().manifest_digest() == manifest_digest => {
                return Some(ValidatedBundle::archive(archive, proof));
            }
            Ok(_) => "manifest.yaml is a different one now".to_owned(),
            Err(error) => with_causes(&error),
        };
        let reason = format!("the file changed while it was read: {reason}");
        findings.add(FindingKind::Io).found(reason);
        None
    }

    fn validate_folder(&self, path: &Path, findings: &mut Findings) -> Option<ValidatedBundle> {
        let opened = BundleFolder::open(path).and_then(|folder| {
            let observer = self.observer.clone();
            Ok((
                FolderEntries::new(folder.clone(), self.limits.bundle, observer)?,
                folder,
            ))
        });
        let ((entries, problems), folder) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                add_container_error(findings, &error);
                return None;
            }
        };
        for problem in &problems {
            add_container_error(findings, problem);
        }
        let mut scan = self.scan(entries, findings);
        scan.run();
        let checked = self.check(scan)?;
        Some(ValidatedBundle::folder(
            folder,
            checked.manifest,
            checked.manifest_digest,
            checked.manifest_bytes,
            checked.proof,
        ))
    }

    /// Reads an archive to its end and checks everything; returns the digest of its manifest, if it
    /// has a valid one.
    fn read_archive(&self, input: impl Read, findings: &mut Findings) -> Option<(Digest, Proof)> {
        let observer = self.observer.clone();
        let reader = BundleReader::new(Observed { input, observer }, self.limits.bundle);
        let mut scan = self.scan(reader, findings);
        scan.run();
        let checked = self.check(scan)?;
        Some((checked.manifest_digest, checked.proof))
    }

    fn scan<'a, E>(&'a self, entries: E, findings: &'a mut Findings) -> Scan<'a, E> {
        let (signature, policy) = (self.signature.clone(), self.policy.clone());
        let hashing = Hashing::new(self.threads);
        Scan::new(entries, &self.limits, signature, policy, hashing, findings)
    }

    /// Runs the stages that need the whole bundle.
    fn check<E>(&self, scan: Scan<'_, E>) -> Option<Contents> {
        let (findings, contents) = scan.finish()?;
        let check_referrers = self.check_referrers || self.strict || self.policy.is_given();
        // Content that was not read to the end, or not kept, would be reported as missing.
        if contents.complete && !findings.has(Stage::Limit) {
            let reached = layout::check(&contents, self.base.as_deref(), &self.limits, findings);
            if check_referrers && !findings.has(Stage::Limit) {
                referrers::check(&contents, &reached, findings);
            }
            self.policy.check(&contents, findings);
        }
        referrers::check_status(&contents.manifest, findings);
        Some(contents)
    }
}
