use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use oci_content::{
    Digest, Manifest, MirrorGraph, RepositoryName, SourceRepository, Tag, with_causes,
};
use registry_client::{ErrorKind, ManifestId};

use crate::audit_report::{AuditFinding, AuditReport, AuditedObject, DriftKind};
use crate::error::{ImportError, ImportErrorKind};
use crate::manifest_push;
use crate::proof::ROOTS_AT_ONCE;
use crate::prune_registry::settled;
use crate::registry_target::RegistryTarget;
use crate::report::{ImportReport, ImportedRepository};
use crate::target::{Check, Holding, Target as _};

/// The number of questions without an answer after which an audit ends.
const MAX_UNANSWERED: usize = 16;

/// Compares what a registry has with what a receipt says was brought there.
///
/// - Each tag is read. Each manifest is read by its digest and hashed; each blob that it names is
///   looked up, with its size.
/// - What refers to the images and to everything below them is discovered anew: a referrer that the
///   target has and does not list counts as missing.
/// - A question without an answer makes the audit incomplete. It is never clean then.
#[derive(Clone, Debug)]
pub struct Auditor {
    target: RegistryTarget,
    observer: Arc<dyn AuditObserver>,
}

/// Receives the progress of an audit.
pub trait AuditObserver: fmt::Debug + Send + Sync {
    /// Called when a manifest or a blob has been looked at.
    fn looked(&self);
}

/// An observer that ignores everything.
impl AuditObserver for () {
    fn looked(&self) {}
}

/// Blobs with their sizes, each with a manifest that names it.
type Blobs = BTreeMap<Digest, (u64, Digest)>;

/// The audit of one repository.
struct Auditing<'a> {
    auditor: &'a Auditor,
    graph: &'a MirrorGraph,
    record: &'a ImportedRepository,
    report: &'a mut AuditReport,
    first: &'a mut Option<ImportErrorKind>,
}

impl Auditor {
    /// Creates an auditor.
    pub fn new(target: RegistryTarget, observer: Arc<dyn AuditObserver>) -> Self {
        Self { target, observer }
    }

    /// Audits the target. The report says what was found, whatever the result.
    ///
    /// # Errors
    ///
    /// [`Usage`](ImportErrorKind::Usage) if the receipt is of another target, of a dry run or of an
    /// older version; if a question got no answer, the class of the reason; else
    /// [`Incomplete`](ImportErrorKind::Incomplete) if something is missing or changed.
    pub async fn audit(&self, receipt: &ImportReport) -> (AuditReport, Result<(), ImportError>) {
        let mut report = AuditReport::new(self.target.name());
        let graph = match self.check(receipt) {
            Ok(graph) => graph,
            Err(error) => return (report, Err(error)),
        };
        let mut first = None;
        for record in &receipt.repositories {
            let mut auditing = Auditing {
                auditor: self,
                graph,
                record,
                report: &mut report,
                first: &mut first,
            };
            auditing.run(receipt).await;
            if report.unanswered.len() >= MAX_UNANSWERED {
                break;
            }
        }
        report.settle();
        let result = conclude(&report, first);
        (report, result)
    }

    fn check<'r>(&self, receipt: &'r ImportReport) -> Result<&'r MirrorGraph, ImportError> {
        let identity = self.target.identity(None);
        let message = match (&receipt.graph, &receipt.target_identity) {
            _ if receipt.dry_run => "the receipt is of a dry run, which brought nothing".to_owned(),
            (Some(graph), Some(target)) if *target == identity => return Ok(graph),
            (Some(_), Some(target)) => {
                format!("the receipt is of {target}, and not of {identity}")
            }
            _ => format!(
                "the receipt for {} was written by an older version, which did not record what it takes; a new import \
                 writes one that does",
                receipt.target
            ),
        };
        Err(ImportError::new(ImportErrorKind::Usage, message))
    }

    fn at_once(&self) -> usize {
        self.target.profile().max_concurrent.get()
    }

    async fn tag(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, ImportError> {
        let repository = self.target.reader(name);
        let what = format!("{}/{name}:{tag}", self.target.name());
        let read = manifest_push::read(&repository, ManifestId::Tag(tag), &what).await?;
        Ok(read.map(|response| Digest::of(response.body())))
    }

    /// Reads a manifest; an error means that there is no answer.
    async fn manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<Read, ImportError> {
        let repository = self.target.reader(name);
        let what = || format!("{}/{name}@{digest}", self.target.name());
        // The client hashes what it reads; a difference is an answer.
        let response = match repository.get_manifest(digest).await {
            Err(error) if error.kind() == ErrorKind::Integrity => return Ok(Read::Changed),
            response => response.map_err(|error| ImportError::request(what(), error))?,
        };
        match response.status().as_u16() {
            200 => {
                let content_type = response.header("content-type");
                let body = response.body().clone();
                let manifest = Manifest::parse_verified(body, digest, content_type);
                let manifest = manifest.map_err(|error| {
                    ImportError::caused(ImportErrorKind::Incomplete, what(), error)
                })?;
                Ok(Read::Whole(Box::new(manifest)))
            }
            404 if !response.is_foreign() => Ok(Read::Missing),
            _ => Err(ImportError::refused(&what(), &response)),
        }
    }
}

/// What is under a digest.
enum Read {
    Whole(Box<Manifest>),
    Changed,
    Missing,
}

impl<'a> Auditing<'a> {
    async fn run(&mut self, receipt: &ImportReport) {
        self.tags(receipt).await;
        let (manifests, blobs) = self.manifests().await;
        self.blobs(&blobs).await;
        self.referrers(&manifests).await;
    }

    async fn tags(&mut self, receipt: &ImportReport) {
        let (auditor, name) = (self.auditor, &self.record.target);
        let tags = receipt.tags.iter().filter(|tag| tag.repository == *name);
        let answers =
            stream::iter(tags).map(|tag| async move { (tag, auditor.tag(name, &tag.tag).await) });
        let mut answers = answers.buffered(self.auditor.at_once()).boxed();
        while let Some((tag, answer)) = answers.next().await {
            self.report.tags += 1;
            let kind = match answer {
                Ok(Some(now)) if now == tag.digest => continue,
                Ok(Some(now)) => (DriftKind::Changed, Some(now)),
                Ok(None) => (DriftKind::Missing, None),
                Err(error) => {
                    if self.unanswered(&error) {
                        return;
                    }
                    continue;
                }
            };
            let mut finding = self.finding(kind.0, AuditedObject::Tag, &tag.digest);
            finding.tag = Some(tag.tag.clone());
            finding.found = kind.1;
            self.report.findings.push(finding);
        }
    }

    /// Reads every manifest that was brought, and returns those that are whole, and the blobs that
    /// they name, each with its size and one of the manifests.
    async fn manifests(&mut self) -> (BTreeSet<Digest>, Blobs) {
        let (auditor, record) = (self.auditor, self.record);
        let all = record.made.union(&record.present);
        let images = self.images();
        let referrers = self.graph.referrers();
        let referrers: BTreeMap<&Digest, &Digest> = referrers
            .filter(|(found, _)| found.repository == record.source)
            .map(|(found, artifact)| (&artifact.digest, &found.subject))
            .collect();
        let answers = stream::iter(all).map(|digest| async move {
            let answer = auditor.manifest(&record.target, digest).await;
            auditor.observer.looked();
            (digest, answer)
        });
        let mut answers = answers.buffered(auditor.at_once()).boxed();
        let (mut read, mut blobs) = (BTreeSet::new(), Blobs::new());
        while let Some((digest, answer)) = answers.next().await {
            self.report.manifests += 1;
            let kind = match answer {
                Ok(Read::Whole(manifest)) => {
                    for blob in manifest.blobs() {
                        blobs.insert(blob.digest.clone(), (blob.size, digest.clone()));
                    }
                    read.insert(digest.clone());
                    continue;
                }
                Ok(Read::Changed) => DriftKind::Changed,
                Ok(Read::Missing) => DriftKind::Missing,
                Err(error) => {
                    if self.unanswered(&error) {
                        break;
                    }
                    continue;
                }
            };
            let object = if images.contains(digest) {
                AuditedObject::Image
            } else if referrers.contains_key(digest) {
                AuditedObject::Referrer
            } else {
                AuditedObject::Child
            };
            let mut finding = self.finding(kind, object, digest);
            finding.subject = referrers.get(digest).map(|subject| (*subject).clone());
            self.report.findings.push(finding);
        }
        (read, blobs)
    }

    /// Looks up the blobs that the manifests name.
    async fn blobs(&mut self, blobs: &Blobs) {
        let (auditor, name) = (self.auditor, &self.record.target);
        let answers = stream::iter(blobs).map(|(digest, (size, of))| async move {
            let answer = auditor.target.blob(name, digest, *size, Check::Size).await;
            auditor.observer.looked();
            (digest, of, answer)
        });
        let mut answers = answers.buffered(auditor.at_once()).boxed();
        while let Some((digest, of, answer)) = answers.next().await {
            self.report.blobs += 1;
            let kind = match answer {
                Ok(Holding::Whole) => continue,
                Ok(Holding::Damaged) => DriftKind::Changed,
                Ok(Holding::Nothing) => DriftKind::Missing,
                Err(error) => {
                    if self.unanswered(&error) {
                        return;
                    }
                    continue;
                }
            };
            let mut finding = self.finding(kind, AuditedObject::Blob, digest);
            finding.subject = Some(of.clone());
            self.report.findings.push(finding);
        }
    }

    /// Discovers what refers to everything that was brought.
    async fn referrers(&mut self, manifests: &BTreeSet<Digest>) {
        type Edge = (Digest, Digest, Option<Tag>);
        let records = self.graph.discovery.iter();
        let records = records.filter(|found| found.repository == self.record.source);
        let mut expected: BTreeSet<Edge> = BTreeSet::new();
        let mut roots = manifests.clone();
        for found in records {
            roots.insert(found.subject.clone());
            for artifact in &found.artifacts {
                let (digest, tag) = (artifact.digest.clone(), artifact.tag.clone());
                expected.insert((found.subject.clone(), digest, tag));
            }
        }
        self.report.referrers += expected.len();
        let discovery = match self
            .auditor
            .target
            .discovery(&self.record.target, Check::Content)
        {
            Ok(discovery) => discovery.one_of_many(roots.len() > ROOTS_AT_ONCE),
            Err(error) => {
                self.unanswered(&error);
                return;
            }
        };
        let mut found: BTreeSet<Edge> = BTreeSet::new();
        let roots: Vec<Digest> = roots.into_iter().collect();
        for roots in roots.chunks(ROOTS_AT_ONCE) {
            let graph = discovery.run(roots.iter().cloned()).await;
            for known in &graph.referrers {
                let (subject, digest) = (known.subject.clone(), known.digest.clone());
                found.insert((subject, digest, known.tag.clone()));
            }
            let what = || format!("{}/{}", self.auditor.target.name(), self.record.target);
            if let Err(error) = settled(&graph, what)
                && self.unanswered(&error)
            {
                return;
            }
        }
        let pairs: BTreeSet<(&Digest, &Digest)> = found
            .iter()
            .map(|(subject, digest, _)| (subject, digest))
            .collect();
        // A referrer in a list counts, whether or not a legacy tag names it as well.
        let is_there = |edge: &Edge| {
            found.contains(edge) || edge.2.is_none() && pairs.contains(&(&edge.0, &edge.1))
        };
        let missing: Vec<Edge> = expected
            .iter()
            .filter(|edge| !is_there(edge))
            .cloned()
            .collect();
        let known: BTreeSet<(&Digest, &Digest)> = expected
            .iter()
            .map(|(subject, digest, _)| (subject, digest))
            .collect();
        let extra: Vec<Edge> = found
            .iter()
            .filter(|(subject, digest, _)| !known.contains(&(subject, digest)))
            .cloned()
            .collect();
        for (kind, edges) in [(DriftKind::Missing, missing), (DriftKind::Extra, extra)] {
            for (subject, digest, tag) in edges {
                let mut finding = self.finding(kind, AuditedObject::Referrer, &digest);
                finding.subject = Some(subject);
                finding.tag = tag;
                self.report.findings.push(finding);
            }
        }
    }

    fn images(&self) -> BTreeSet<&'a Digest> {
        let images = self.graph.images.iter();
        let own =
            images.filter(|image| SourceRepository::from(&image.reference) == self.record.source);
        own.map(|image| &image.digest).collect()
    }

    fn finding(&self, kind: DriftKind, object: AuditedObject, digest: &Digest) -> AuditFinding {
        AuditFinding {
            kind,
            object,
            repository: self.record.target.clone(),
            digest: digest.clone(),
            tag: None,
            subject: None,
            found: None,
        }
    }

    /// Notes a question without an answer, and returns whether there are too many of them.
    fn unanswered(&mut self, error: &ImportError) -> bool {
        self.first.get_or_insert(error.kind());
        self.report.unanswered.push(with_causes(error));
        self.report.unanswered.len() >= MAX_UNANSWERED
    }
}

fn conclude(report: &AuditReport, unanswered: Option<ImportErrorKind>) -> Result<(), ImportError> {
    if let (Some(kind), Some(first)) = (unanswered, report.unanswered.first()) {
        let message = format!(
            "{} questions got no answer, so it is not known whether everything is there: {first}",
            report.unanswered.len()
        );
        return Err(ImportError::new(kind, message));
    }
    let (missing, changed) = (
        report.count(DriftKind::Missing),
        report.count(DriftKind::Changed),
    );
    let lost = report
        .findings
        .iter()
        .find(|finding| finding.kind != DriftKind::Extra);
    let Some(first) = lost else {
        return Ok(());
    };
    let message = format!(
        "{missing} missing and {changed} changed at {}: the {} {} in {} is {} ({})",
        report.target,
        first.object,
        first.digest,
        first.repository,
        first.kind,
        first.cause()
    );
    Err(ImportError::new(ImportErrorKind::Incomplete, message))
}
