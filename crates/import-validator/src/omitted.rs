//! What images leave out on purpose: exactly the manifests below them that the bundle does not
//! hold.

use std::collections::{BTreeSet, HashMap, HashSet};

use bundle_format::EntryPath;
use oci_content::Digest;

use crate::contents::Contents;
use crate::report::{FindingKind, Findings};

/// The number of index entries that are looked at, for all images together. Only indexes that lack
/// something count.
const MAX_ENTRIES: usize = 20_000_000;

/// Compares what each image claims to leave out with what is missing below it. All present
/// manifests were read, and the depth of indexes was checked.
pub(crate) fn check(contents: &Contents, findings: &mut Findings) {
    let images = &contents.manifest.graph.images;
    let by_digest: HashMap<_, _> = images.iter().map(|image| (&image.digest, image)).collect();
    if images.iter().all(|image| image.omitted.is_empty()) {
        return;
    }
    let mut below = Below {
        contents,
        lacks: HashMap::new(),
        entries: 0,
    };
    let mut seen = HashSet::new();
    let artifacts = contents.manifest.graph.referrers();
    let roots = images.iter().map(|image| &image.digest);
    let roots = roots.chain(artifacts.map(|(_, artifact)| &artifact.digest));
    // Indexes below an image that lack something, which the image has to list.
    let mut covered = HashSet::new();
    for root in roots.filter(|root| seen.insert(*root)) {
        let image = by_digest.get(root);
        if image.is_none() && covered.contains(root) {
            continue;
        }
        let mut absent = BTreeSet::new();
        let mut lacking = HashSet::new();
        below.collect(root, &mut absent, &mut lacking);
        if image.is_some() {
            covered.extend(lacking);
        }
        if below.entries > MAX_ENTRIES {
            findings
                .add(FindingKind::IndexDepth)
                .path(EntryPath::MANIFEST)
                .expected(format_args!(
                    "at most {MAX_ENTRIES} entries of indexes below images that leave some of them out"
                ))
                .found("more");
            return;
        }
        let claimed = image.iter().flat_map(|image| &image.omitted);
        let claimed: BTreeSet<_> = claimed.map(|child| &child.digest).collect();
        let name = image.map_or_else(|| root.to_string(), |image| image.reference.to_string());
        for stranger in claimed.difference(&absent) {
            findings
                .add(FindingKind::ManifestInconsistent)
                .path(EntryPath::MANIFEST)
                .expected(format_args!("{name} leaves out what it lists"))
                .found(format_args!("{stranger}, which it does not list"));
        }
        for missing in absent.difference(&claimed) {
            findings
                .add(FindingKind::ObjectMissing)
                .path(format_args!("blobs/sha256/{}", root.encoded()))
                .expected(missing)
                .found(format_args!(
                    "the bundle does not list it, and {name} does not leave it out"
                ));
        }
    }
}

struct Below<'a> {
    contents: &'a Contents,
    /// Finds whether something below an index is not in the bundle.
    lacks: HashMap<&'a Digest, bool>,
    entries: usize,
}

impl<'a> Below<'a> {
    fn listed(&self, digest: &Digest) -> impl Iterator<Item = &'a Digest> + use<'a> {
        let links = self.contents.objects.links(digest);
        links.into_iter().flat_map(|links| links.listed())
    }

    fn holds(&self, digest: &Digest) -> bool {
        self.contents.blobs.contains_key(digest)
    }

    fn lacks(&mut self, digest: &'a Digest) -> bool {
        if let Some(known) = self.lacks.get(digest) {
            return *known;
        }
        let lacks = self
            .listed(digest)
            .any(|child| !self.holds(child) || self.lacks(child));
        self.lacks.insert(digest, lacks);
        lacks
    }

    /// Collects what is listed below an index and not in the bundle.
    fn collect(
        &mut self,
        index: &'a Digest,
        absent: &mut BTreeSet<&'a Digest>,
        seen: &mut HashSet<&'a Digest>,
    ) {
        if !self.lacks(index) || !seen.insert(index) {
            return;
        }
        for child in self.listed(index) {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return;
            }
            if self.holds(child) {
                self.collect(child, absent, seen);
            } else {
                absent.insert(child);
            }
        }
    }
}
