use oci_content::{Algorithm, Digest, Hasher};
use serde::{Deserialize, Serialize};

use crate::volume_size::VolumeSize;

/// The digests of a bundle that was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Checksums {
    /// The SHA-256 of the bundle: of the one file, or of all volumes one after the other.
    pub whole: Digest,
    /// The volumes in their order; empty if the bundle is one file.
    pub volumes: Vec<VolumeChecksum>,
}

/// The digest of one volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VolumeChecksum {
    /// The number of the volume; the first is 1.
    pub number: usize,
    /// The size of the volume in bytes.
    pub size: u64,
    /// The SHA-256 of the volume.
    pub sha256: Digest,
}

/// Computes [`Checksums`] from the bytes of a bundle as they pass.
#[derive(Debug)]
pub(crate) struct ChecksumHasher {
    whole: Hasher,
    volume_bytes: Option<u64>,
    volumes: Vec<VolumeChecksum>,
    /// The volume that is not full yet.
    volume: Hasher,
    in_volume: u64,
}

impl ChecksumHasher {
    pub(crate) fn new(volume: Option<VolumeSize>) -> Self {
        Self {
            whole: Hasher::new(Algorithm::Sha256),
            volume_bytes: volume.map(VolumeSize::bytes),
            volumes: Vec::new(),
            volume: Hasher::new(Algorithm::Sha256),
            in_volume: 0,
        }
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        let Some(volume_bytes) = self.volume_bytes else {
            return;
        };
        while !bytes.is_empty() {
            if self.in_volume == volume_bytes {
                self.end_volume();
            }
            let room = usize::try_from(volume_bytes - self.in_volume).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.volume.update(now);
            self.in_volume += now.len() as u64;
            bytes = later;
        }
    }

    fn end_volume(&mut self) {
        let volume = std::mem::replace(&mut self.volume, Hasher::new(Algorithm::Sha256));
        self.volumes.push(VolumeChecksum {
            number: self.volumes.len() + 1,
            size: std::mem::take(&mut self.in_volume),
            sha256: volume.finish(),
        });
    }

    pub(crate) fn finish(mut self) -> Checksums {
        if self.volume_bytes.is_some() {
            self.end_volume();
        }
        Checksums {
            whole: self.whole.finish(),
            volumes: self.volumes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volumes_are_hashed_at_their_boundaries_whatever_the_pieces() {
        let bytes: Vec<u8> = (0..=250).collect();
        for volume in [1_u8, 7, 50, 250, 251, 255] {
            for piece in [1, 6, 50, 300] {
                let size = VolumeSize::tiny(volume.into());
                let mut hasher = ChecksumHasher::new(Some(size));
                bytes.chunks(piece).for_each(|piece| hasher.update(piece));
                let checksums = hasher.finish();
                assert_eq!(checksums.whole, Digest::of(&bytes));
                let expected: Vec<_> = bytes.chunks(volume.into()).map(Digest::of).collect();
                let found: Vec<_> = checksums.volumes.iter().map(|v| v.sha256.clone()).collect();
                assert_eq!(found, expected);
                let sizes: u64 = checksums.volumes.iter().map(|volume| volume.size).sum();
                assert_eq!(sizes, 251);
            }
        }
        assert_eq!(ChecksumHasher::new(None).finish().volumes, []);
    }
}
