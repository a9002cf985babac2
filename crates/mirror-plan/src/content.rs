use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use oci_content::{Algorithm, Digest, Manifest};

use crate::origin::Origin;

/// The manifests and blobs of a plan, and where each comes from.
#[derive(Debug, Default)]
pub struct Content {
    pieces: BTreeMap<Digest, Piece>,
    /// The known true sizes, of manifests and of blobs that were looked at; descriptors may say
    /// something else.
    sizes: BTreeMap<Digest, u64>,
    /// Whether objects that are addressed by SHA-512 are carried.
    sha512: bool,
}

/// A manifest or a blob.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Piece {
    /// Its size in bytes.
    pub size: u64,
    /// The bytes of a manifest; `None` for a blob, which is yet to be fetched.
    pub raw: Option<Bytes>,
    /// The places that have it; none for a manifest that was [generated](Content::add_raw).
    pub from: Vec<Arc<Origin>>,
}

/// Why something cannot be carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotCarried {
    pub(crate) digest: Digest,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl NotCarried {
    /// Creates the reason for a digest whose algorithm is not supported.
    pub(crate) fn by_digest(digest: &Digest) -> Self {
        Self {
            digest: digest.clone(),
            code: "unsupported-digest",
            message: format!("only sha256 objects are carried, not {digest}"),
        }
    }
}

/// Manifests with everything that they need, before it is known whether all of it can be carried.
///
/// Each image and each referrer has a bill until the export ends, so a bill holds nothing parsed.
#[derive(Debug, Default)]
pub(crate) struct Bill {
    manifests: Box<[(Digest, Bytes)]>,
    blobs: Box<[(Digest, u64)]>,
}

impl Bill {
    pub(crate) fn of<'a>(manifests: impl Iterator<Item = &'a Manifest> + Clone) -> Self {
        let blobs = manifests.clone().flat_map(Manifest::blobs);
        Self {
            blobs: blobs.map(|blob| (blob.digest.clone(), blob.size)).collect(),
            manifests: manifests
                .map(|manifest| (manifest.digest().clone(), manifest.raw().clone()))
                .collect(),
        }
    }

    /// Returns the blobs of a single manifest; nothing for an index with its children.
    pub(crate) fn payloads(&self) -> &[(Digest, u64)] {
        match *self.manifests {
            [_] => &self.blobs,
            _ => &[],
        }
    }

    pub(crate) fn manifests(&self) -> impl Iterator<Item = &Digest> {
        self.manifests.iter().map(|(digest, _)| digest)
    }

    /// Returns the sizes of the manifests.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&Digest, u64)> {
        let sizes = self.manifests.iter();
        sizes.map(|(digest, raw)| (digest, raw.len() as u64))
    }

    pub(crate) fn digests(&self) -> impl Iterator<Item = (&Digest, u64)> {
        self.sizes()
            .chain(self.blobs.iter().map(|(digest, size)| (digest, *size)))
    }
}

impl Content {
    /// Creates an empty content with known sizes.
    pub(crate) fn new(sizes: BTreeMap<Digest, u64>, sha512: bool) -> Self {
        Self {
            pieces: BTreeMap::new(),
            sizes,
            sha512,
        }
    }

    /// Adds a bill, all of it or nothing.
    pub(crate) fn add(
        &mut self,
        bill: &Bill,
        from: &Arc<Origin>,
        unavailable: &BTreeSet<Digest>,
    ) -> Result<(), NotCarried> {
        let mut own = BTreeMap::new();
        for (digest, size) in bill.digests() {
            let fail = |code, message: String| {
                Err(NotCarried {
                    digest: digest.clone(),
                    code,
                    message,
                })
            };
            if digest.algorithm() != Algorithm::Sha256 && !self.sha512 {
                return Err(NotCarried::by_digest(digest));
            }
            if unavailable.contains(digest) {
                return fail("missing-blob", format!("{from} does not have {digest}"));
            }
            if let Some(known) = self.sizes.get(digest).filter(|known| **known != size) {
                let message = format!("{digest} is listed with {size} bytes, it has {known}");
                return fail("integrity", message);
            }
            // One manifest can contradict itself.
            let listed = *own.entry(digest).or_insert(size);
            let known = self.pieces.get(digest).map_or(listed, |known| known.size);
            if let Some(known) = [known, listed].into_iter().find(|known| *known != size) {
                let message =
                    format!("{digest} is {known} bytes in one place and {size} in another");
                return fail("integrity", message);
            }
        }
        for (digest, raw) in &bill.manifests {
            self.piece_mut(digest, raw.len() as u64, from).raw = Some(raw.clone());
        }
        for (digest, size) in &bill.blobs {
            self.piece_mut(digest, *size, from);
        }
        Ok(())
    }

    /// Adds a generated manifest, which no place has.
    pub fn add_raw(&mut self, digest: Digest, raw: Bytes) {
        self.pieces.insert(
            digest,
            Piece {
                size: raw.len() as u64,
                raw: Some(raw),
                from: Vec::new(),
            },
        );
    }

    fn piece_mut(&mut self, digest: &Digest, size: u64, from: &Arc<Origin>) -> &mut Piece {
        let piece = self.pieces.entry(digest.clone()).or_insert_with(|| Piece {
            size,
            raw: None,
            // Most pieces have one; room for more would be most of a piece's memory.
            from: Vec::with_capacity(1),
        });
        let known = |other: &Arc<Origin>| Arc::ptr_eq(other, from) || other.is(from);
        if !piece.from.iter().any(known) {
            piece.from.push(Arc::clone(from));
        }
        piece
    }

    /// Removes the blobs that are held elsewhere, and returns them with their sizes.
    ///
    /// - Manifests stay, so that the graph can be checked on its own.
    /// - The empty object stays: it is the config of most referrers, so a repository that is new in
    ///   a delta would otherwise depend on another one for two bytes.
    ///   <https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidance-for-an-empty-descriptor>
    pub fn leave_out(&mut self, holds: impl Fn(&Digest, u64) -> bool) -> Vec<(Digest, u64)> {
        let mut left_out = Vec::new();
        self.pieces.retain(|digest, piece| {
            let carried =
                piece.raw.is_some() || digest.matches(b"{}") || !holds(digest, piece.size);
            if !carried {
                left_out.push((digest.clone(), piece.size));
            }
            carried
        });
        left_out
    }

    /// Returns whether a manifest is carried.
    pub fn has_manifest(&self, digest: &Digest) -> bool {
        self.pieces
            .get(digest)
            .is_some_and(|piece| piece.raw.is_some())
    }

    /// Returns one object.
    pub fn piece(&self, digest: &Digest) -> Option<&Piece> {
        self.pieces.get(digest)
    }

    /// Returns all objects, sorted by digest.
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = (&Digest, &Piece)> {
        self.pieces.iter()
    }
}
