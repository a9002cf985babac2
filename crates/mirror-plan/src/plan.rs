use std::collections::{BTreeMap, BTreeSet, HashSet};

use oci_content::{
    ArtifactRecord, Capability, Completeness, Digest, DiscoveryMethod, DiscoveryRecord, ErrorCode,
    ImageRecord, MirrorGraph, Missing, OmittedChild, SourceKind, SourceRepository, WarningCode,
};
use oci_referrers::{FoldedProblem, Problem, Referrer};

use crate::content::{Bill, Content, NotCarried};
use crate::error::{PlanError, PlanErrorKind};
use crate::found::FoundImage;
use crate::judge::{mismatch, read};

/// What is mirrored, where it comes from, and what is missing.
#[derive(Debug)]
#[non_exhaustive]
pub struct MirrorPlan {
    /// The images and what was discovered of each.
    pub graph: MirrorGraph,
    /// The objects, and where each comes from.
    pub content: Content,
    /// What is missing or could not be settled, in words; the graph has the same under each
    /// subject.
    pub missing: Vec<String>,
    /// The number of images without referrers, on the image itself and on its children.
    pub bare_images: u64,
}

/// What earlier transfers have shown, for the next plan.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Known {
    /// Blobs that no repository has.
    pub unavailable: BTreeSet<Digest>,
    /// The true sizes of blobs whose descriptors are wrong.
    pub sizes: BTreeMap<Digest, u64>,
}

/// Decides everything that is mirrored.
pub(crate) fn plan(images: &[FoundImage], known: &Known) -> Result<MirrorPlan, PlanError> {
    let sizes = known_sizes(images, &known.sizes);
    let mut clashing = BTreeMap::new();
    let (mut draft, carried) = loop {
        let (draft, carried) = Draft::of(images, &known.unavailable, &sizes, &clashing);
        let found = draft.clashes(&carried);
        if found.is_empty() {
            break (draft, carried);
        }
        clashing.extend(found);
    };
    if carried.is_empty() {
        let message = format!("no image can be carried: {}", draft.missing.join("; "));
        return Err(PlanError::new(PlanErrorKind::Incomplete, message));
    }
    let mut graph = MirrorGraph::new();
    graph.images = carried.iter().map(|image| image.record.clone()).collect();
    let attached = draft.add_attached(&carried);
    let is_bare = |image: &&&FoundImage| {
        let mut own = image.bill.manifests();
        image.graph.referrers.is_empty() && !own.any(|digest| attached.contains(digest))
    };
    let bare_images = carried.iter().filter(is_bare).count() as u64;
    graph.discovery = draft.records.into_values().collect();
    settle_omitted(&mut graph.images, &draft.content);
    graph.settle();
    Ok(MirrorPlan {
        graph,
        content: draft.content,
        missing: draft.missing,
        bare_images,
    })
}

/// Returns the sizes of all manifests, and of the blobs that were looked at.
fn known_sizes(images: &[FoundImage], looked_at: &BTreeMap<Digest, u64>) -> BTreeMap<Digest, u64> {
    let bills = images
        .iter()
        .flat_map(|image| image.bills.iter().flatten().chain([&image.bill]));
    let manifests = bills.flat_map(Bill::sizes);
    let manifests = manifests.map(|(digest, size)| (digest.clone(), size));
    let looked_at = looked_at
        .iter()
        .map(|(digest, size)| (digest.clone(), *size));
    manifests.chain(looked_at).collect()
}

/// Sets each image's omitted children: those that its indexes list and that are not carried.
/// Another image or a referrer can bring what one image leaves out, and with it indexes whose
/// manifests are missing.
fn settle_omitted(images: &mut [ImageRecord], content: &Content) {
    let omitted = images.iter().flat_map(|image| &image.omitted);
    let mut reasons: BTreeMap<Digest, String> = BTreeMap::new();
    for child in omitted {
        let reason = reasons.entry(child.digest.clone()).or_default();
        // A child that is missing anywhere is not left out on purpose.
        if reason != "missing" {
            reason.clone_from(&child.reason);
        }
    }
    if reasons.is_empty() {
        return;
    }
    for image in images {
        let mut absent = BTreeSet::new();
        let mut seen = HashSet::new();
        let mut left = vec![image.digest.clone()];
        while let Some(digest) = left.pop() {
            let raw = content.piece(&digest).and_then(|piece| piece.raw.as_ref());
            let Some(manifest) = raw.and_then(read) else {
                continue;
            };
            for child in manifest.children() {
                if !content.has_manifest(&child.digest) {
                    absent.insert(child.digest.clone());
                } else if seen.insert(child.digest.clone()) {
                    left.push(child.digest.clone());
                }
            }
        }
        image.omitted = absent
            .into_iter()
            .map(|digest| {
                let reason = reasons.get(&digest).map_or("platform", String::as_str);
                OmittedChild::new(digest, reason)
            })
            .collect();
    }
}

/// A plan in the making, image by image.
#[derive(Default)]
struct Draft {
    content: Content,
    /// By repository and subject: two images of one repository can share a subject.
    records: BTreeMap<(String, Digest), DiscoveryRecord>,
    missing: Vec<String>,
}

impl Draft {
    /// Adds all images except those that clash with what others carry; also returns the images that
    /// are carried.
    fn of<'a>(
        images: &'a [FoundImage],
        unavailable: &BTreeSet<Digest>,
        sizes: &BTreeMap<Digest, u64>,
        clashing: &BTreeMap<String, NotCarried>,
    ) -> (Self, Vec<&'a FoundImage>) {
        let mut draft = Self {
            content: Content::new(sizes.clone(), images.iter().any(|image| image.sha512)),
            ..Self::default()
        };
        let mut carried = Vec::new();
        for image in images {
            let mut gone = unavailable.clone();
            gone.extend(image.absent.iter().cloned());
            let clash = clashing.get(&image.reference().to_string());
            let added = match clash {
                Some(why) => Err(why.clone()),
                None => draft.carry(image, &gone),
            };
            match added {
                Ok(()) => {
                    draft.add_referrers(image, &gone);
                    carried.push(image);
                }
                Err(why) => draft.leave_out(image, &why),
            }
        }
        (draft, carried)
    }

    /// Finds images that leave out a child which another image brings with a different type or
    /// size.
    fn clashes(&self, carried: &[&FoundImage]) -> Vec<(String, NotCarried)> {
        let mut clashes = Vec::new();
        for image in carried {
            let mut found = image.open.iter().filter_map(|child| {
                let piece = self.content.piece(&child.digest)?;
                let (code, message) = match piece.raw.as_ref().and_then(read) {
                    Some(own) => mismatch(child, &own)?,
                    None => {
                        let message = "the image leaves it out, and it is a layer or a config of something that is \
                                       carried: the image can only be carried with all its platforms";
                        (ErrorCode::Integrity, message.to_owned())
                    }
                };
                Some(NotCarried {
                    digest: child.digest.clone(),
                    code: code.as_str(),
                    message,
                })
            });
            if let Some(why) = found.next() {
                clashes.push((image.reference().to_string(), why));
            }
        }
        clashes
    }

    /// Adds an image to the content, all of it or nothing.
    fn carry(&mut self, image: &FoundImage, gone: &BTreeSet<Digest>) -> Result<(), NotCarried> {
        match &image.problem {
            Some(problem) => Err(problem.clone()),
            None => self.content.add(&image.bill, &image.origin, gone),
        }
    }

    /// Records that an image is left out, with everything that refers to it.
    fn leave_out(&mut self, image: &FoundImage, why: &NotCarried) {
        self.missing.push(format!(
            "{} cannot be carried: {}: {}",
            image.reference(),
            why.digest,
            why.message
        ));
        let root = &image.record.digest;
        let Some(report) = image.graph.report(root) else {
            return;
        };
        let (capability, method) = (report.capability, report.method);
        let repository = SourceRepository::from(image.reference());
        let mut record = DiscoveryRecord::new(repository, root.clone(), capability, method);
        record.status = Completeness::Incomplete;
        let mut noted = Missing::new(why.code);
        noted.digest = Some(why.digest.clone());
        record.missing.push(noted);
        self.record(record);
    }

    fn record(&mut self, record: DiscoveryRecord) {
        let key = (record.repository.to_string(), record.subject.clone());
        let Some(known) = self.records.get_mut(&key) else {
            self.records.insert(key, record);
            return;
        };
        if record.status == Completeness::Incomplete {
            known.status = Completeness::Incomplete;
        }
        known.missing.extend(record.missing);
        let listed: BTreeSet<_> = known
            .artifacts
            .iter()
            .map(|artifact| (artifact.digest.clone(), artifact.tag.clone()))
            .collect();
        let new = record
            .artifacts
            .into_iter()
            .filter(|artifact| !listed.contains(&(artifact.digest.clone(), artifact.tag.clone())));
        known.artifacts.extend(new);
    }

    /// Adds the referrers of an image to the content, each with everything that it needs, and
    /// records what was found.
    fn add_referrers(&mut self, image: &FoundImage, gone: &BTreeSet<Digest>) {
        let repository = SourceRepository::from(image.reference());
        let mut by_subject: BTreeMap<&Digest, Vec<(&Referrer, &Bill)>> = BTreeMap::new();
        for (referrer, bill) in image.graph.referrers.iter().zip(&image.bills) {
            let known = by_subject.entry(&referrer.subject).or_default();
            known.extend(bill.as_ref().map(|bill| (referrer, bill)));
        }
        for problem in FoldedProblem::fold(image.graph.errors()) {
            let digest = problem.problem.digest.as_ref();
            let about = digest.map(|digest| format!(", {digest}"));
            let about = about.unwrap_or_default();
            self.missing
                .push(format!("{}{about}: {problem}", image.reference()));
        }
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
            }
            for warning in &report.warnings {
                if matches!(
                    warning.code,
                    WarningCode::DanglingReferrer
                        | WarningCode::StaleTagIndex
                        | WarningCode::SubjectDescriptorMismatch
                ) {
                    let mut noted = Missing::new(warning.code.as_str());
                    noted.digest.clone_from(&warning.digest);
                    record.missing.push(noted);
                }
            }
            for (referrer, bill) in by_subject.get(subject).into_iter().flatten() {
                self.add_referrer(image, referrer, bill, gone, &mut record);
            }
            record.artifacts.shrink_to_fit();
            // A referrer without referrers of its own needs no record.
            let silent = (report.depth > 0 || !image.takes(subject))
                && record.artifacts.is_empty()
                && record.missing.is_empty();
            if !silent {
                self.record(record);
            }
        }
    }

    /// Adds the carried manifests that refer to another carried manifest and that no discovery has
    /// named, as at a registry without the API whose referrers tag was never written. Returns their
    /// subjects.
    fn add_attached(&mut self, images: &[&FoundImage]) -> BTreeSet<Digest> {
        let mut subjects = BTreeSet::new();
        let mut listed: BTreeSet<(Digest, Digest)> = BTreeSet::new();
        if images.iter().any(|image| !image.attached.is_empty()) {
            let records = self.records.values();
            listed.extend(records.flat_map(|record| {
                let artifacts = record.artifacts.iter();
                artifacts.map(|artifact| (record.subject.clone(), artifact.digest.clone()))
            }));
        }
        for image in images {
            for attached in &image.attached {
                let (subject, digest) = (&attached.subject, &attached.digest);
                let is_carried =
                    self.content.has_manifest(subject) && self.content.has_manifest(digest);
                if !is_carried || !listed.insert((subject.clone(), digest.clone())) {
                    continue;
                }
                let own = &attached.descriptor;
                let artifact_type = own.artifact_type.clone();
                let mut artifact =
                    ArtifactRecord::new(digest.clone(), artifact_type, &own.media_type, own.size);
                artifact.sources = vec![SourceKind::Manifest];
                let report = image.graph.report(subject);
                let report = report.or_else(|| image.graph.report(&image.record.digest));
                let (capability, method) = report
                    .map_or((Capability::Unknown, DiscoveryMethod::Other), |report| {
                        (report.capability, report.method)
                    });
                let repository = SourceRepository::from(image.reference());
                let mut record =
                    DiscoveryRecord::new(repository, subject.clone(), capability, method);
                record.artifacts.push(artifact);
                let piece = self.content.piece(subject);
                let known = piece.and_then(|piece| read(piece.raw.as_ref()?));
                if known.is_some_and(|known| mismatch(&attached.named, &known).is_some()) {
                    let code = WarningCode::SubjectDescriptorMismatch.as_str();
                    let mut noted = Missing::new(code);
                    noted.digest = Some(digest.clone());
                    record.missing.push(noted);
                }
                self.record(record);
                subjects.insert(subject.clone());
            }
        }
        subjects
    }

    fn add_referrer(
        &mut self,
        image: &FoundImage,
        referrer: &Referrer,
        bill: &Bill,
        gone: &BTreeSet<Digest>,
        record: &mut DiscoveryRecord,
    ) {
        let added = if image.takes(&record.subject) {
            self.content.add(bill, &image.origin, gone)
        } else {
            // The image itself may be carried, by its SHA-256; referrers of its other digest would
            // not be found there.
            Err(NotCarried::by_digest(&record.subject))
        };
        if let Err(why) = added {
            record.status = Completeness::Incomplete;
            let mut noted = Missing::new(why.code);
            noted.digest = Some(referrer.digest.clone());
            record.missing.push(noted);
            self.missing.push(format!(
                "{}, referrer {}: {}",
                image.reference(),
                referrer.digest,
                why.message
            ));
            return;
        }
        record.artifacts.push(ArtifactRecord::from(referrer));
    }
}

fn missing_of(problem: &Problem) -> Missing {
    let mut missing = Missing::new(problem.code.as_str());
    missing.digest.clone_from(&problem.digest);
    missing.source = problem.source.map(|source| source.as_str().to_owned());
    missing
}
