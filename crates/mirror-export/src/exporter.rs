use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bundle_format::{
    ArtifactRecord, BundleManifest, BundlePlan, BundleWriter, Container, DiscoveryRecord,
    EntryPath, EntryRecord, ImageRecord, Missing, OCI_LAYOUT, OmittedChild, OutputFile,
    SourceRepository, index_descriptors, index_json,
};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{
    Completeness, Descriptor, Digest, DiscoveryMethod, Manifest, REF_NAME, Reference, Registry,
    RepositoryName, WarningCode, media_type, referrers_tag,
};
use oci_referrers::{
    ImageDepth, ImageTree, Problem, ReferrerGraph, RegistryManifests, RegistrySources, resolve,
};
use registry_client::{Client, Repository};
use registry_probe::{Probe, ProbeReport};
use serde_json::json;

use crate::content::{Bill, Content};
use crate::error::{ExportError, ExportErrorKind, kind_of};
use crate::observer::{ExportEvent, ExportObserver};
use crate::report;
use crate::request::ExportRequest;
use crate::transfer::{Failed, download};

/// Writes mirror bundles.
#[derive(Clone, Debug)]
pub struct Exporter {
    client: Client,
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
    /// Its digest, as it stands in the checksum file beside it.
    pub sha256: Digest,
    /// What it says about itself.
    pub manifest: BundleManifest,
    /// What was found of each image.
    pub images: Vec<ExportedImage>,
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
        let root = image.tree.root.digest();
        Self {
            reference: image.reference.clone(),
            digest: root.clone(),
            referrers: image.graph.referrers.len(),
            method: image
                .graph
                .report(root)
                .map_or(DiscoveryMethod::FallbackTag, |report| report.method),
            status: image.graph.status(),
        }
    }
}

/// An image with everything that was found out about it.
#[derive(Debug)]
pub(crate) struct FoundImage {
    pub(crate) reference: Reference,
    pub(crate) repository: Repository,
    pub(crate) tree: ImageTree,
    pub(crate) graph: ReferrerGraph,
    pub(crate) seconds: f64,
    /// The manifests below referrers that are indexes, by the referrer.
    below: BTreeMap<Digest, Vec<Manifest>>,
    /// Layers that name URLs and that the registry does not have.
    absent: BTreeSet<Digest>,
}

/// A plan: what the manifest says, and where the bytes come from.
struct Plan {
    manifest: BundleManifest,
    content: Content,
    index: Vec<u8>,
    /// What is missing, in words.
    missing: Vec<String>,
}

impl Exporter {
    /// Creates an exporter that asks through `client`.
    pub fn new(client: Client, observer: Arc<dyn ExportObserver>) -> Self {
        Self { client, observer }
    }

    /// Exports.
    ///
    /// # Errors
    ///
    /// When there is no bundle at the end: nothing is then left under its name. An incomplete bundle that was
    /// allowed is no error; its manifest says so.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends all transfers and leaves the partial file, from which the next export goes on.
    pub async fn export(&self, request: &ExportRequest) -> Result<ExportSummary, ExportError> {
        let started = Instant::now();
        if request.images.is_empty() {
            return Err(ExportError::new(
                ExportErrorKind::Usage,
                "there is no image to export",
            ));
        }
        // Taken first: what cannot be written need not be discovered.
        let output = OutputFile::create(&request.output, request.overwrite)?;
        let (mut summary, probes, images) = self.export_into(request, &output).await?;
        summary.sha256 = output.sha256()?;
        let resumed = output.is_resumed();
        output.publish()?;
        let (elapsed, requests) = (started.elapsed(), self.observer.requests());
        report::write(&summary, &probes, &images, elapsed, requests, resumed)?;
        Ok(summary)
    }

    async fn export_into(
        &self,
        request: &ExportRequest,
        output: &OutputFile,
    ) -> Result<(ExportSummary, Vec<ProbeReport>, Vec<FoundImage>), ExportError> {
        let probes = self.probe(&request.images).await;
        let images = self.find(request).await?;
        require_artifact_types(request, &images)?;
        let mut unavailable = BTreeSet::new();
        if output.is_resumed() {
            output.keep();
        }
        loop {
            let plan = plan(request, &images, &unavailable)?;
            if !plan.missing.is_empty() && !request.allow_incomplete {
                return Err(incomplete(&plan.missing));
            }
            // From here on, what was downloaded is worth keeping, however this ends.
            output.keep();
            match self.write(request, output, &plan).await {
                Ok(size) => {
                    let summary = ExportSummary {
                        output: request.output.clone(),
                        size,
                        sha256: Digest::of(b""),
                        manifest: plan.manifest,
                        images: images.iter().map(ExportedImage::from).collect(),
                    };
                    return Ok((summary, probes, images));
                }
                // A referrer whose blob is gone is a referrer that is missing; the plan is made again without it.
                Err(WriteFailure::Blob(failed))
                    if failed.error.kind() == ExportErrorKind::Incomplete
                        && unavailable.insert(failed.digest.clone()) => {}
                Err(WriteFailure::Blob(failed)) => return Err(failed.error),
                Err(WriteFailure::Other(error)) => return Err(error),
            }
        }
    }

    /// Asks each registry once what it can do, before anything else.
    async fn probe(&self, images: &[Reference]) -> Vec<ProbeReport> {
        let mut registries: BTreeMap<&Registry, &RepositoryName> = BTreeMap::new();
        for reference in images {
            registries
                .entry(reference.registry())
                .or_insert(reference.repository());
        }
        self.observer.event(ExportEvent::Probing {
            registries: registries.len(),
        });
        let probe = Probe::new(self.client.clone());
        let probes = registries
            .into_iter()
            .map(|(registry, repository)| probe.probe(registry, Some(repository)));
        let reports = futures::future::join_all(probes).await;
        for report in &reports {
            self.observer.event(ExportEvent::Probed(report));
        }
        reports
    }

    async fn find(&self, request: &ExportRequest) -> Result<Vec<FoundImage>, ExportError> {
        let mut sources: BTreeMap<(Registry, RepositoryName), (RegistrySources, usize)> =
            BTreeMap::new();
        for reference in &request.images {
            let (registry, name) = (reference.registry().clone(), reference.repository().clone());
            let (_, count) = sources.entry((registry, name)).or_insert_with(|| {
                let repository = self
                    .client
                    .repository(reference.registry(), reference.repository());
                let configured = request.configured.get(reference.registry()).copied();
                let sources = RegistrySources::new(repository)
                    .legacy_tags(request.legacy_tags)
                    .configured(configured);
                (sources, 0)
            });
            *count += 1;
        }
        let unique: BTreeSet<String> = request.images.iter().map(ToString::to_string).collect();
        let images = unique
            .into_iter()
            .filter_map(|text| text.parse::<Reference>().ok());
        let finds = images.map(|reference| {
            let key = (reference.registry().clone(), reference.repository().clone());
            let (sources, count) = &sources[&key];
            self.find_image(request, reference, sources, *count)
        });
        let mut found: Vec<FoundImage> = stream::iter(finds.collect::<Vec<_>>())
            .buffer_unordered(request.max_concurrent_discoveries.get())
            .try_collect()
            .await?;
        found.sort_by_cached_key(|image| image.reference.to_string());
        Ok(found)
    }

    async fn find_image(
        &self,
        request: &ExportRequest,
        reference: Reference,
        sources: &RegistrySources,
        images_in_repository: usize,
    ) -> Result<FoundImage, ExportError> {
        let started = Instant::now();
        let repository = self
            .client
            .repository(reference.registry(), reference.repository());
        let resolved = resolve(&repository, &reference)
            .await
            .map_err(|error| ExportError::from(&error))?;
        if let Some(now) = &resolved.tag_moved_to {
            self.observer.event(ExportEvent::TagMoved {
                reference: &reference,
                now,
            });
        }
        let manifests = RegistryManifests::new(repository.clone());
        let root = resolved.manifest;
        let tree =
            ImageTree::walk(&manifests, root, &request.platforms, ImageDepth::Manifests).await;
        if !request.platforms.is_empty() && tree.children.is_empty() && !tree.omitted.is_empty() {
            let there: Vec<_> = ImageTree::platforms(&tree.root)
                .iter()
                .map(ToString::to_string)
                .collect();
            let message = format!(
                "{reference} has none of the platforms asked for; it has {}",
                there.join(", ")
            );
            return Err(ExportError::new(ExportErrorKind::Access, message));
        }
        let subjects = tree.subjects();
        let many = images_in_repository * subjects.len() >= 25;
        let discovery = sources
            .discovery(Some(request.discovery_timeout))
            .one_of_many(many)
            .keep_manifests(true);
        let mut graph = discovery.run(subjects).await;
        let below = below_referrers(&manifests, &mut graph).await;
        let absent = absent_layers(&repository, &tree, &graph).await?;
        let root = graph.report(tree.root.digest());
        self.observer.event(ExportEvent::Discovered {
            reference: &reference,
            root,
            graph: &graph,
            timeout: request.discovery_timeout,
        });
        let seconds = started.elapsed().as_secs_f64();
        Ok(FoundImage {
            reference,
            repository,
            tree,
            graph,
            seconds,
            below,
            absent,
        })
    }

    /// Writes everything into its place; returns the size of the bundle.
    async fn write(
        &self,
        request: &ExportRequest,
        output: &OutputFile,
        plan: &Plan,
    ) -> Result<u64, WriteFailure> {
        let container = Container::from_file_name(&request.output);
        let bundle_plan = BundlePlan::new(&plan.manifest, container)
            .map_err(|error| ExportError::new(ExportErrorKind::Limit, error.to_string()))?;
        let bytes = bundle_plan.size();
        let writer = Arc::new(BundleWriter::new(bundle_plan, output.sink())?);
        let mut blobs = Vec::new();
        let mut kept = 0;
        for (digest, piece) in plan.content.pieces() {
            let path = blob_path(digest)?;
            match &piece.raw {
                Some(raw) => writer.put(&path, raw)?,
                None if output.is_resumed() && writer.adopt(&path, output.file())? => kept += 1,
                None => blobs.push((digest.clone(), piece.clone())),
            }
        }
        writer.put(&EntryPath::OCI_LAYOUT, OCI_LAYOUT)?;
        writer.put(&EntryPath::INDEX, &plan.index)?;
        let raw: BTreeMap<_, _> = plan
            .content
            .pieces()
            .filter_map(|(digest, piece)| Some((digest, piece.raw.as_ref()?)))
            .collect();
        for artifact in plan
            .manifest
            .discovery
            .iter()
            .flat_map(|record| &record.artifacts)
        {
            if !writer.is_done(&artifact.path)
                && let Some(raw) = raw.get(&artifact.digest)
            {
                writer.put(&artifact.path, raw)?;
            }
        }
        self.observer.event(ExportEvent::Planned {
            bytes,
            blobs: blobs.len(),
            kept,
        });
        // The largest first: the last transfer to end is then a short one.
        blobs.sort_by_key(|(_, piece)| std::cmp::Reverse(piece.size));
        let at_once = request.max_concurrent_transfers.get();
        download(&writer, blobs, at_once, &self.observer)
            .await
            .map_err(WriteFailure::Blob)?;
        let summary = writer.finish()?;
        Ok(summary.size)
    }
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

fn blob_path(digest: &Digest) -> Result<EntryPath, ExportError> {
    EntryPath::blob(digest)
        .map_err(|error| ExportError::new(ExportErrorKind::Integrity, error.to_string()))
}

/// Reads the manifests below referrers that are indexes. One that cannot be read makes its referrer's subject
/// incomplete.
async fn below_referrers(
    manifests: &RegistryManifests,
    graph: &mut ReferrerGraph,
) -> BTreeMap<Digest, Vec<Manifest>> {
    let mut below = BTreeMap::new();
    for referrer in &graph.referrers {
        let Some(manifest) = referrer
            .manifest
            .clone()
            .filter(|manifest| !manifest.children().is_empty())
        else {
            continue;
        };
        let tree = ImageTree::walk(manifests, manifest, &[], ImageDepth::Manifests).await;
        if let Some(report) = graph
            .subjects
            .iter_mut()
            .find(|report| report.subject == referrer.subject)
            && !tree.problems.is_empty()
        {
            report.errors.extend(tree.problems);
            report.status = Completeness::Incomplete;
        }
        let children = tree.children.into_iter().filter_map(|child| child.manifest);
        below.insert(referrer.digest.clone(), children.collect());
    }
    below
}

/// Finds the layers that name URLs and that the registry does not have. The URLs are never asked.
async fn absent_layers(
    repository: &Repository,
    tree: &ImageTree,
    graph: &ReferrerGraph,
) -> Result<BTreeSet<Digest>, ExportError> {
    let mut bill = Bill::default();
    bill.add(&tree.root);
    tree.children
        .iter()
        .filter_map(|child| child.manifest.as_ref())
        .for_each(|manifest| bill.add(manifest));
    graph
        .referrers
        .iter()
        .filter_map(|referrer| referrer.manifest.as_ref())
        .for_each(|m| bill.add(m));
    let mut absent = BTreeSet::new();
    for layer in bill.with_urls() {
        let response = repository.head_blob(&layer.digest).await.map_err(|error| {
            let (kind, message) = crate::error::transfer_failure(&error);
            ExportError::new(kind, message)
        })?;
        if response.status().as_u16() == 404 {
            absent.insert(layer.digest.clone());
        }
    }
    Ok(absent)
}

fn require_artifact_types(
    request: &ExportRequest,
    images: &[FoundImage],
) -> Result<(), ExportError> {
    for image in images {
        for wanted in &request.require_artifact_types {
            let has = |own: &Option<String>| own.as_ref() == Some(wanted);
            if !image
                .graph
                .referrers
                .iter()
                .any(|referrer| has(&referrer.artifact_type))
            {
                let message = format!(
                    "{} has no referrer of the required artifact type {wanted}",
                    image.reference
                );
                return Err(ExportError::new(ExportErrorKind::Incomplete, message));
            }
        }
    }
    Ok(())
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
    let message = format!(
        "nothing was written, because something could not be settled (--allow-incomplete writes \
                           the bundle without it): {text}"
    );
    ExportError::new(ExportErrorKind::Incomplete, message)
}

/// Decides everything that the bundle will say and hold.
fn plan(
    request: &ExportRequest,
    images: &[FoundImage],
    unavailable: &BTreeSet<Digest>,
) -> Result<Plan, ExportError> {
    let mut content = Content::default();
    let mut missing = Vec::new();
    let mut manifest = BundleManifest::new(request.stream.clone(), request.sequence);
    let mut bare_images = 0;
    for image in images {
        let mut bill = Bill::default();
        bill.add(&image.tree.root);
        image
            .tree
            .children
            .iter()
            .filter_map(|child| child.manifest.as_ref())
            .for_each(|child| bill.add(child));
        let mut gone = unavailable.clone();
        gone.extend(image.absent.iter().cloned());
        content.add(bill, &image.repository, &gone).map_err(|why| {
            let kind = match why.code {
                "integrity" => ExportErrorKind::Integrity,
                _ => ExportErrorKind::Incomplete,
            };
            ExportError::new(
                kind,
                format!("{} cannot be carried: {}", image.reference, why.message),
            )
        })?;
        if let Some(problem) = image.tree.problems.first() {
            let message = format!("{}: {}", image.reference, problem.message);
            return Err(ExportError::new(kind_of(problem), message));
        }
        manifest.images.push(image_record(image));
        if image.graph.referrers.is_empty() {
            bare_images += 1;
        }
        for record in discovery_records(image, &mut content, &gone, &mut missing)? {
            merge_record(&mut manifest.discovery, record);
        }
    }
    let index = index_json(&index_entries(request, images, &manifest, &mut content)?);
    let entry = |path, bytes: &[u8]| EntryRecord::new(path, bytes.len() as u64, Digest::of(bytes));
    manifest
        .entries
        .push(entry(EntryPath::OCI_LAYOUT, OCI_LAYOUT));
    manifest.entries.push(entry(EntryPath::INDEX, &index));
    for (digest, piece) in content.pieces() {
        manifest.entries.push(EntryRecord::new(
            blob_path(digest)?,
            piece.size,
            digest.clone(),
        ));
    }
    manifest.settle(bare_images);
    Ok(Plan {
        manifest,
        content,
        index,
        missing,
    })
}

/// Lists what `index.json` holds. With `layout_tags`, each subject's referrers also stand in an index under its
/// referrers tag, which is how regctl looks for them.
fn index_entries(
    request: &ExportRequest,
    images: &[FoundImage],
    manifest: &BundleManifest,
    content: &mut Content,
) -> Result<Vec<Descriptor>, ExportError> {
    let mut entries = index_descriptors(&manifest.images, &manifest.discovery);
    if !request.layout_tags {
        return Ok(entries);
    }
    let mut subjects: BTreeMap<&Digest, BTreeMap<&Digest, &Manifest>> = BTreeMap::new();
    let known = images.iter().flat_map(|image| &image.graph.referrers);
    let manifests: BTreeMap<_, _> = known
        .filter_map(|referrer| Some((&referrer.digest, referrer.manifest.as_ref()?)))
        .collect();
    for record in &manifest.discovery {
        for artifact in record
            .artifacts
            .iter()
            .filter(|artifact| artifact.tag.is_none())
        {
            if let Some(own) = manifests.get(&artifact.digest) {
                subjects
                    .entry(&record.subject)
                    .or_default()
                    .insert(&artifact.digest, own);
            }
        }
    }
    for (subject, referrers) in subjects {
        let listed: Vec<_> = referrers.values().map(|own| own.descriptor()).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": listed });
        let raw = Bytes::from(index.to_string());
        let mut descriptor = Descriptor::of(media_type::IMAGE_INDEX, &raw);
        descriptor
            .annotations
            .insert(REF_NAME.to_owned(), referrers_tag(subject).to_string());
        content.add_raw(descriptor.digest.clone(), raw);
        entries.push(descriptor);
    }
    Ok(entries)
}

fn image_record(image: &FoundImage) -> ImageRecord {
    let root = &image.tree.root;
    let mut record = ImageRecord::new(
        image.reference.clone(),
        root.digest().clone(),
        root.media_type(),
        root.size(),
    );
    record.omitted = image
        .tree
        .omitted
        .iter()
        .map(|child| OmittedChild::new(child.digest.clone(), "platform"))
        .collect();
    record
}

/// Puts the referrers of an image into the content, each with all that it needs, and says what was found.
fn discovery_records(
    image: &FoundImage,
    content: &mut Content,
    gone: &BTreeSet<Digest>,
    missing: &mut Vec<String>,
) -> Result<Vec<DiscoveryRecord>, ExportError> {
    let repository = SourceRepository::from(&image.reference);
    let mut records = Vec::new();
    for report in &image.graph.subjects {
        let subject = &report.subject;
        let mut record = DiscoveryRecord::new(
            repository.clone(),
            subject.clone(),
            report.capability,
            report.method,
        );
        record.status = report.status;
        for problem in &report.errors {
            record.missing.push(missing_of(problem));
            missing.push(format!("{}: {}", image.reference, problem.message));
        }
        for warning in &report.warnings {
            if matches!(
                warning.code,
                WarningCode::DanglingReferrer | WarningCode::StaleTagIndex
            ) {
                let mut noted = Missing::new(warning.code.as_str());
                noted.digest.clone_from(&warning.digest);
                record.missing.push(noted);
            }
        }
        for referrer in image.graph.referrers_of(subject) {
            let Some(own) = &referrer.manifest else {
                continue;
            };
            let mut bill = Bill::default();
            bill.add(own);
            image
                .below
                .get(&referrer.digest)
                .into_iter()
                .flatten()
                .for_each(|child| bill.add(child));
            if let Err(why) = content.add(bill, &image.repository, gone) {
                record.status = Completeness::Incomplete;
                let mut noted = Missing::new(why.code);
                noted.digest = Some(referrer.digest.clone());
                record.missing.push(noted);
                missing.push(format!(
                    "{}, referrer {}: {}",
                    image.reference, referrer.digest, why.message
                ));
                continue;
            }
            let mut artifact = ArtifactRecord::new(
                subject,
                referrer.digest.clone(),
                referrer.artifact_type.clone(),
                &referrer.media_type,
                referrer.size,
            )
            .map_err(|error| ExportError::new(ExportErrorKind::Incomplete, error.to_string()))?;
            artifact.category = referrer.category;
            artifact.sources = referrer.sources.iter().copied().collect();
            artifact.tag.clone_from(&referrer.tag);
            record.artifacts.push(artifact);
        }
        // A referrer that nothing refers to needs no record of its own.
        let silent = report.depth > 0 && record.artifacts.is_empty() && record.missing.is_empty();
        if !silent {
            records.push(record);
        }
    }
    Ok(records)
}

/// Adds a record; two images of one repository can share a subject.
fn merge_record(records: &mut Vec<DiscoveryRecord>, record: DiscoveryRecord) {
    let same = |known: &&mut DiscoveryRecord| {
        known.subject == record.subject && known.repository == record.repository
    };
    let Some(known) = records.iter_mut().find(same) else {
        return records.push(record);
    };
    if record.status == Completeness::Incomplete {
        known.status = Completeness::Incomplete;
    }
    known.missing.extend(record.missing);
    for artifact in record.artifacts {
        let listed =
            |other: &ArtifactRecord| other.digest == artifact.digest && other.tag == artifact.tag;
        if !known.artifacts.iter().any(listed) {
            known.artifacts.push(artifact);
        }
    }
}

fn missing_of(problem: &Problem) -> Missing {
    let mut missing = Missing::new(problem.code.as_str());
    missing.digest.clone_from(&problem.digest);
    missing.source = problem.source.map(|source| source.as_str().to_owned());
    missing
}
