use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use oci_content::{
    Algorithm, Completeness, Descriptor, Digest, ImageRecord, Manifest, OmittedChild, Reference,
};
use oci_referrers::{ImageTree, JudgedImage, Referrer, ReferrerGraph};

use crate::content::{Bill, NotCarried};
use crate::error::PlanError;
use crate::judge::{Refused, all, children, judge, own};
use crate::observer::{PlanEvent, PlanObserver};
use crate::origin::Origin;
use crate::request::PlanRequest;

/// An image and what was found about it.
///
/// All images are held until a plan is made, so their parsed manifests are dropped.
#[derive(Debug)]
pub struct FoundImage {
    pub(crate) record: ImageRecord,
    pub(crate) origin: Arc<Origin>,
    /// Why the image cannot be carried, if that is known already.
    pub(crate) problem: Option<NotCarried>,
    /// What the image itself needs.
    pub(crate) bill: Bill,
    /// What the image's indexes list and the image does not have; another image can bring it.
    pub(crate) open: Vec<Descriptor>,
    /// Its referrers, without their manifests.
    pub(crate) graph: ReferrerGraph,
    /// What each referrer needs, in the order of the graph; `None` if its manifest could not be
    /// read.
    pub(crate) bills: Vec<Option<Bill>>,
    /// The descriptors of the referrers, if the request keeps them.
    pub(crate) descriptors: Vec<Descriptor>,
    /// Manifests with a subject that discovery did not list: attestations in an index can have one.
    pub(crate) attached: Vec<Attached>,
    /// Layers that name URLs and are not there.
    pub(crate) absent: BTreeSet<Digest>,
    /// Whether objects that are addressed by SHA-512 are carried.
    pub(crate) sha512: bool,
    /// The image as a policy sees it, if there is a policy.
    pub(crate) judged: Option<JudgedImage>,
    /// The time that the search took, in seconds.
    pub(crate) seconds: f64,
}

impl FoundImage {
    pub(crate) fn new(
        request: &PlanRequest,
        reference: Reference,
        origin: Arc<Origin>,
        tree: &ImageTree,
        mut graph: ReferrerGraph,
        refused: Refused,
    ) -> Self {
        let judged = request.policy.is_some();
        let judged = judged.then(|| JudgedImage::discovered(reference.clone(), tree, &graph));
        let listed: BTreeSet<_> = graph
            .referrers
            .iter()
            .map(|known| (&known.subject, &known.digest))
            .collect();
        let attached = all(tree, &graph)
            .filter_map(Attached::of)
            .filter(|attached| !listed.contains(&(&attached.subject, &attached.digest)));
        let attached = attached.collect();
        let indexes = std::mem::take(&mut graph.indexes);
        let mut descriptors = Vec::new();
        let mut bills = Vec::with_capacity(graph.referrers.len());
        for referrer in &mut graph.referrers {
            let own = referrer.manifest.take();
            if let Some(own) = &own {
                // The same digest, sharing memory with the one in the bill.
                referrer.digest = own.digest().clone();
            }
            bills.push(match (&own, indexes.get(&referrer.digest)) {
                // No target accepts an index without one of its manifests.
                (Some(own), None) if !own.entries().is_empty() => None,
                (Some(_), Some(below)) if !below.problems.is_empty() => None,
                _ if refused.referrers.contains(&referrer.digest) => None,
                (Some(own), below) => Some(Bill::of(
                    [own]
                        .into_iter()
                        .chain(below.into_iter().flat_map(children)),
                )),
                (None, _) => None,
            });
            if let Some(own) = own.filter(|_| request.keep_descriptors) {
                descriptors.push(own.descriptor());
            }
            referrer.annotations = BTreeMap::new();
        }
        graph.referrers.shrink_to_fit();
        // A referrer without referrers of its own has nothing to report.
        let subjects: BTreeSet<&Digest> =
            graph.referrers.iter().map(|known| &known.subject).collect();
        graph.subjects.retain(|report| {
            report.depth == 0
                || report.status == Completeness::Incomplete
                || !(report.errors.is_empty() && report.warnings.is_empty())
                || subjects.contains(&report.subject)
        });
        graph.subjects.shrink_to_fit();
        Self {
            record: record(reference, tree),
            origin,
            problem: refused.image,
            open: open(tree),
            bill: Bill::of(own(tree)),
            graph,
            bills,
            descriptors,
            attached,
            absent: BTreeSet::new(),
            sha512: request.sha512,
            judged,
            seconds: 0.0,
        }
    }

    /// Judges what was discovered, and reduces it to what a plan needs.
    pub(crate) fn settle(
        request: &PlanRequest,
        observer: &dyn PlanObserver,
        reference: Reference,
        origin: Arc<Origin>,
        tree: &ImageTree,
        mut graph: ReferrerGraph,
        started: Instant,
    ) -> Self {
        let refused = judge(tree, &mut graph);
        observer.planning(PlanEvent::Discovered {
            reference: &reference,
            origin: &origin,
            root: graph.report(tree.root.digest()),
            graph: &graph,
            timeout: request.discovery_timeout,
        });
        let mut image = Self::new(request, reference, origin, tree, graph, refused);
        image.seconds = started.elapsed().as_secs_f64();
        image
    }

    /// Returns the reference that was asked for, or the name of an image from a folder.
    pub fn reference(&self) -> &Reference {
        &self.record.reference
    }

    /// Returns the digest of the image's manifest.
    pub fn digest(&self) -> &Digest {
        &self.record.digest
    }

    /// Returns what was discovered, without manifests and annotations.
    pub fn graph(&self) -> &ReferrerGraph {
        &self.graph
    }

    /// Returns the time that the search for the image and its referrers took, in seconds.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Returns the referrers that can be carried according to what is known now, each with the
    /// objects that it needs and their sizes.
    pub fn carried(
        &self,
    ) -> impl Iterator<Item = (&Referrer, impl Iterator<Item = (&Digest, u64)>)> {
        let all = self.graph.referrers.iter().zip(&self.bills);
        all.filter_map(|(referrer, bill)| {
            let bill = bill.as_ref()?;
            let carried =
                |(digest, _): (&Digest, u64)| self.takes(digest) && !self.absent.contains(digest);
            let fits = self.takes(&referrer.subject);
            (fits && bill.digests().all(carried)).then(|| (referrer, bill.digests()))
        })
    }

    /// Returns whether objects with digests of this algorithm are carried.
    pub(crate) fn takes(&self, digest: &Digest) -> bool {
        self.sha512 || digest.algorithm() == Algorithm::Sha256
    }

    /// Returns the descriptors of what refers to the image or is attached to it, as a referrers
    /// list has them, where they [are kept](PlanRequest::keep_descriptors).
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        let attached = self.attached.iter().map(|attached| &attached.descriptor);
        self.descriptors.iter().chain(attached)
    }
}

/// A manifest that is carried anyway and has a subject.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) subject: Digest,
    pub(crate) digest: Digest,
    pub(crate) descriptor: Descriptor,
    /// What the manifest says of the subject.
    pub(crate) named: Descriptor,
}

impl Attached {
    fn of(manifest: &Manifest) -> Option<Self> {
        Some(Self {
            subject: manifest.subject()?.digest.clone(),
            digest: manifest.digest().clone(),
            descriptor: manifest.descriptor(),
            named: manifest.subject()?.clone(),
        })
    }
}

fn record(reference: Reference, tree: &ImageTree) -> ImageRecord {
    let root = &tree.root;
    let mut record = ImageRecord::new(
        reference,
        root.digest().clone(),
        root.media_type(),
        root.size(),
    );
    let left_out = tree.omitted.iter().map(|child| (child, "platform"));
    let missing = tree.missing.iter().map(|child| (child, "missing"));
    record.omitted = left_out
        .chain(missing)
        .map(|(child, reason)| OmittedChild::new(child.digest.clone(), reason))
        .collect();
    record
}

/// Returns the children that the indexes of an image list and the image does not have.
fn open(tree: &ImageTree) -> Vec<Descriptor> {
    if tree.omitted.is_empty() && tree.missing.is_empty() {
        return Vec::new();
    }
    let has: BTreeSet<_> = children(tree).map(Manifest::digest).collect();
    let open = own(tree).flat_map(Manifest::children);
    open.filter(|child| !has.contains(&child.digest))
        .cloned()
        .collect()
}

/// Finds the layers that name URLs and that the origin does not have. The URLs are never asked.
pub(crate) async fn absent_layers(
    request: &PlanRequest,
    origin: &Origin,
    tree: &ImageTree,
    graph: &ReferrerGraph,
) -> Result<BTreeSet<Digest>, PlanError> {
    let layers = all(tree, graph)
        .flat_map(Manifest::blobs)
        .filter(|layer| !layer.urls.is_empty());
    let mut absent = BTreeSet::new();
    let held = request.held.as_ref();
    let is_held = |layer: &&Descriptor| held.is_some_and(|h| h.holds(&layer.digest, layer.size));
    for layer in layers.filter(|layer| !is_held(layer)) {
        if origin.lacks_blob(&layer.digest).await? {
            absent.insert(layer.digest.clone());
        }
    }
    Ok(absent)
}
