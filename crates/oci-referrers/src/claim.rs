use std::collections::{BTreeMap, HashSet};

use oci_content::{Descriptor, Digest, SourceKind, Tag};

use crate::source::Claim;

/// What one source says about one manifest.
pub(crate) struct SourcedClaim {
    pub(crate) source: SourceKind,
    /// The source has shown that it is the referrers API.
    pub(crate) by_api: bool,
    pub(crate) claim: Claim,
}

/// What all sources together say about one manifest.
#[derive(Debug)]
pub(crate) struct MergedClaim {
    pub(crate) descriptor: Descriptor,
    /// Sorted, each once.
    pub(crate) sources: Vec<SourceKind>,
    /// The legacy tag that names it; there if and only if `sources` has a legacy tag.
    pub(crate) tag: Option<Tag>,
    pub(crate) listed_by_api: bool,
}

impl MergedClaim {
    /// Returns whether only a tag's name relates the manifest to its subject.
    pub(crate) fn by_name_only(&self) -> bool {
        self.sources
            .iter()
            .all(|source| *source == SourceKind::LegacyTag)
    }

    pub(crate) fn named_by(&self) -> String {
        let names: Vec<_> = self.sources.iter().map(|source| source.as_str()).collect();
        names.join(" and ")
    }
}

/// Merges the claims about each manifest. A second legacy tag on one manifest stays a claim of its
/// own, so that the tag is not lost.
pub(crate) fn merge(claims: Vec<SourcedClaim>) -> Vec<MergedClaim> {
    let mut merged: Vec<MergedClaim> = Vec::new();
    let mut places: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut tagged: HashSet<(Tag, Digest)> = HashSet::new();
    for SourcedClaim {
        source,
        by_api,
        claim,
    } in claims
    {
        if let Some(tag) = &claim.tag
            && !tagged.insert((tag.clone(), claim.descriptor.digest.clone()))
        {
            continue;
        }
        match places.get(&claim.descriptor.digest) {
            Some(place) if merged[*place].tag.is_none() || claim.tag.is_none() => {
                let known = &mut merged[*place];
                if let Err(place) = known.sources.binary_search(&source) {
                    known.sources.insert(place, source);
                }
                known.listed_by_api |= by_api;
                known.tag = known.tag.take().or(claim.tag);
                if source == SourceKind::ReferrersApi {
                    known.descriptor = claim.descriptor;
                }
            }
            _ => {
                places.insert(claim.descriptor.digest.clone(), merged.len());
                merged.push(MergedClaim {
                    descriptor: claim.descriptor,
                    sources: vec![source],
                    tag: claim.tag,
                    listed_by_api: by_api,
                });
            }
        }
    }
    merged
}
