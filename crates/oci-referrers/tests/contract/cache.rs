//! The cache of manifests in a folder, and caches that break a rule.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Mutex;

use oci_content::{Digest, Manifest};
use oci_referrers::testing::manifest_cache;
use oci_referrers::{ManifestCache, ManifestFolder};

#[test]
fn a_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    manifest_cache(|| ManifestFolder::new(folder.path()));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    GivesAnother,
    LosesTheMediaType,
    LosesTheDigest,
}

#[derive(Debug)]
struct Memory {
    flaw: Flaw,
    kept: Mutex<BTreeMap<Digest, Manifest>>,
}

impl ManifestCache for Memory {
    fn manifest(&self, digest: &Digest) -> Option<Manifest> {
        let kept = self.kept.lock().unwrap();
        let found = kept.get(digest)?;
        let raw = found.raw().clone();
        match self.flaw {
            Flaw::None => Some(found.clone()),
            Flaw::GivesAnother => kept.values().next().cloned(),
            Flaw::LosesTheMediaType => Manifest::parse_verified(raw, digest, None).ok(),
            Flaw::LosesTheDigest => Manifest::parse(raw, Some(found.media_type())).ok(),
        }
    }

    fn keep(&self, manifest: &Manifest) {
        let mut kept = self.kept.lock().unwrap();
        kept.insert(manifest.digest().clone(), manifest.clone());
    }
}

#[test]
fn the_suite_catches_a_cache_that_gives_anything_else() {
    let whole = |flaw| {
        let memory = || Memory {
            flaw,
            kept: Mutex::default(),
        };
        catch_unwind(|| manifest_cache(memory)).is_ok()
    };
    assert!(whole(Flaw::None));
    for flaw in [
        Flaw::GivesAnother,
        Flaw::LosesTheMediaType,
        Flaw::LosesTheDigest,
    ] {
        assert!(!whole(flaw), "{flaw:?}");
    }
}
