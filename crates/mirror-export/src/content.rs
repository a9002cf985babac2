use std::collections::{BTreeMap, BTreeSet};

use bundle_format::BaseBundle;
use bytes::Bytes;
use oci_content::{Algorithm, Descriptor, Digest, Manifest};
use registry_client::Repository;

/// Everything that a bundle will hold under `blobs/`, and where it comes from.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pieces: BTreeMap<Digest, Piece>,
}

/// One blob or manifest.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) size: u64,
    /// The bytes of a manifest; a blob is downloaded into its place.
    pub(crate) raw: Option<Bytes>,
    /// The repositories that have it.
    pub(crate) from: Vec<Repository>,
}

/// Why something cannot be carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotCarried {
    pub(crate) digest: Digest,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// A manifest with what it needs, before it is known whether all of it can be carried.
#[derive(Debug, Default)]
pub(crate) struct Bill {
    manifests: Vec<Manifest>,
    blobs: Vec<Descriptor>,
}

impl Bill {
    pub(crate) fn add(&mut self, manifest: &Manifest) {
        self.blobs.extend(manifest.blobs().cloned());
        self.manifests.push(manifest.clone());
    }

    /// Returns the layers that may have to be had elsewhere: their descriptor names URLs.
    pub(crate) fn with_urls(&self) -> impl Iterator<Item = &Descriptor> {
        self.blobs.iter().filter(|blob| !blob.urls.is_empty())
    }

    fn digests(&self) -> impl Iterator<Item = (&Digest, u64)> {
        let manifests = self
            .manifests
            .iter()
            .map(|manifest| (manifest.digest(), manifest.size()));
        manifests.chain(self.blobs.iter().map(|blob| (&blob.digest, blob.size)))
    }
}

impl Content {
    /// Adds a bill, all of it or nothing.
    pub(crate) fn add(
        &mut self,
        bill: Bill,
        from: &Repository,
        unavailable: &BTreeSet<Digest>,
    ) -> Result<(), NotCarried> {
        for (digest, size) in bill.digests() {
            let fail = |code, message: String| {
                Err(NotCarried {
                    digest: digest.clone(),
                    code,
                    message,
                })
            };
            if digest.algorithm() != Algorithm::Sha256 {
                let message =
                    format!("a bundle of version 1 carries sha256 objects only, not {digest}");
                return fail("unsupported-digest", message);
            }
            if unavailable.contains(digest) {
                return fail(
                    "missing-blob",
                    format!("{}/{} does not have {digest}", from.registry(), from.name()),
                );
            }
            if let Some(known) = self.pieces.get(digest)
                && known.size != size
            {
                let message = format!(
                    "{digest} is {} bytes in one place and {size} in another",
                    known.size
                );
                return fail("integrity", message);
            }
        }
        for manifest in bill.manifests {
            let piece = self.piece(manifest.digest(), manifest.size(), from);
            piece.raw = Some(manifest.raw().clone());
        }
        for blob in bill.blobs {
            self.piece(&blob.digest, blob.size, from);
        }
        Ok(())
    }

    /// Adds a manifest that was made here.
    pub(crate) fn add_raw(&mut self, digest: Digest, raw: Bytes) {
        self.pieces.insert(
            digest,
            Piece {
                size: raw.len() as u64,
                raw: Some(raw),
                from: Vec::new(),
            },
        );
    }

    fn piece(&mut self, digest: &Digest, size: u64, from: &Repository) -> &mut Piece {
        let piece = self.pieces.entry(digest.clone()).or_insert_with(|| Piece {
            size,
            raw: None,
            from: Vec::new(),
        });
        let known =
            |other: &Repository| other.registry() == from.registry() && other.name() == from.name();
        if !piece.from.iter().any(known) {
            piece.from.push(from.clone());
        }
        piece
    }

    /// Takes out the blobs that `base` holds, and returns them with their sizes.
    ///
    /// - Manifests stay: with them the graph can be judged without the base.
    /// - The empty object stays: most referrers have it for a config, so that a repository which is new in a delta would
    ///   depend on another one of the base for two bytes.
    ///   <https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidance-for-an-empty-descriptor>
    pub(crate) fn leave_out(&mut self, base: &BaseBundle) -> Vec<(Digest, u64)> {
        let mut left_out = Vec::new();
        self.pieces.retain(|digest, piece| {
            let carried =
                piece.raw.is_some() || digest.matches(b"{}") || !base.holds(digest, piece.size);
            if !carried {
                left_out.push((digest.clone(), piece.size));
            }
            carried
        });
        left_out
    }

    pub(crate) fn pieces(&self) -> impl Iterator<Item = (&Digest, &Piece)> {
        self.pieces.iter()
    }
}
