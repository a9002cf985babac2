use std::collections::{HashMap, HashSet};

use bundle_format::{BundleManifest, EntryRecord};
use mirror_plan::{FoundImage, PlanError, PlanErrorKind};
use oci_content::{ArtifactRecord, DiscoveryRecord, SourceRepository};
use oci_content::{Capability, Digest, DiscoveryMethod};

use crate::contents::blob_path;
use crate::request::ExportRequest;

/// The part of `manifest.yaml` that the referrers of the images found so far will take. It is never
/// overestimated, so no bundle that fits is refused.
#[derive(Debug)]
pub(crate) struct Tally<'a> {
    request: &'a ExportRequest,
    /// The number of images to find, where each whole folder counts as one.
    wanted: usize,
    found: usize,
    /// Pairs of subject and referrer, by repository.
    referrers: HashMap<String, HashSet<(Digest, Digest)>>,
    files: HashSet<Digest>,
    bytes: u64,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(request: &'a ExportRequest) -> Self {
        Self {
            request,
            wanted: request.plan.distinct_images().len() + request.plan.layouts.len(),
            found: 0,
            referrers: HashMap::new(),
            files: HashSet::new(),
            bytes: 0,
        }
    }

    /// Adds an image. Fails if `manifest.yaml` can no longer hold what was found.
    pub(crate) fn add(&mut self, image: &FoundImage) -> Result<(), PlanError> {
        let repository = SourceRepository::from(image.reference());
        let known = self.referrers.entry(repository.to_string()).or_default();
        let (capability, method) = (Capability::Unknown, DiscoveryMethod::Other);
        let root = image.digest().clone();
        let mut record = DiscoveryRecord::new(repository, root, capability, method);
        let mut entries = Vec::new();
        for (referrer, needs) in image.carried() {
            if !known.insert((referrer.subject.clone(), referrer.digest.clone())) {
                continue;
            }
            record.artifacts.push(ArtifactRecord::from(referrer));
            for (digest, size) in needs {
                if self.files.insert(digest.clone())
                    && let Ok(path) = blob_path(digest)
                {
                    entries.push(EntryRecord::new(path, size, digest.clone()));
                }
            }
        }
        self.bytes += listed_bytes(self.request, record, entries);
        self.found += 1;
        if self.bytes > self.request.max_manifest_bytes {
            Err(self.full(image))
        } else {
            Ok(())
        }
    }

    fn full(&self, image: &FoundImage) -> PlanError {
        let referrers: usize = self.referrers.values().map(HashSet::len).sum();
        let limit = self.request.max_manifest_bytes;
        // A whole folder can hold more images than are known yet.
        let wanted = self.wanted.max(self.found);
        let way_out = match self.found - 1 {
            0 => format!(
                "{} alone does not fit; export its platforms one by one",
                image.reference()
            ),
            fit => {
                let bundles = wanted.div_ceil(fit).max(2);
                let each = wanted.div_ceil(bundles);
                format!("export the images in at least {bundles} bundles, of about {each} each")
            }
        };
        let message = format!(
            "manifest.yaml would be larger than its limit of {limit} bytes: the {referrers} referrers of the first {} of {} images fill it; \
             {way_out}",
            self.found, wanted
        );
        PlanError::new(PlanErrorKind::Limit, message)
    }
}

/// Returns what these artifacts and files take in `manifest.yaml`, in bytes.
fn listed_bytes(
    request: &ExportRequest,
    record: DiscoveryRecord,
    entries: Vec<EntryRecord>,
) -> u64 {
    let mut manifest = BundleManifest::new(request.stream.clone(), request.sequence);
    manifest.graph.discovery = vec![record];
    manifest.entries = entries;
    let with = manifest.yaml_bytes();
    manifest.graph.discovery[0].artifacts.clear();
    manifest.entries.clear();
    // The marks of lists that are empty now.
    with.saturating_sub(manifest.yaml_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_content::SourceKind;

    /// What `docs/bundle-format.md` says of the size of `manifest.yaml`.
    #[test]
    fn the_documented_number_of_referrers_fits() {
        const DOCUMENT: &str = include_str!("../docs/bundle-format.md");
        let request = ExportRequest::new(Vec::new());
        let repository: SourceRepository = "registry.example.com/team/app".parse().unwrap();
        let of = |text: &str| Digest::of(text.as_bytes());
        let mut rows = Vec::new();
        for (name, artifact_type, sources, files) in [
            (
                "a signature of cosign 3",
                "application/vnd.dev.sigstore.bundle.v0.3+json",
                vec![SourceKind::ReferrersApi],
                2,
            ),
            (
                "an SBOM in CycloneDX",
                "application/vnd.cyclonedx+json",
                vec![SourceKind::ReferrersApi],
                2,
            ),
            (
                "an SBOM in CycloneDX that API and referrers tag list",
                "application/vnd.cyclonedx+json",
                vec![SourceKind::ReferrersApi, SourceKind::ReferrersTag],
                2,
            ),
            (
                "an SBOM in SPDX with a config of its own",
                "application/spdx+json",
                vec![SourceKind::ReferrersApi],
                3,
            ),
        ] {
            let mut record = DiscoveryRecord::new(
                repository.clone(),
                of("image"),
                Capability::Supported,
                DiscoveryMethod::Native,
            );
            let mut artifact = ArtifactRecord::new(
                of("referrer"),
                Some(artifact_type.to_owned()),
                "application/vnd.oci.image.manifest.v1+json",
                700,
            );
            artifact.sources = sources;
            record.artifacts = vec![artifact];
            let entry = |number: u32| {
                let digest = of(&number.to_string());
                EntryRecord::new(blob_path(&digest).unwrap(), 50_000, digest)
            };
            let bytes = listed_bytes(&request, record, (0..files).map(entry).collect());
            let thousands = request.max_manifest_bytes / bytes / 1000;
            let row = format!("| {name} | {bytes} | {thousands},000 |");
            rows.push(row);
        }
        let missing: Vec<_> = rows.iter().filter(|row| !DOCUMENT.contains(*row)).collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }
}
