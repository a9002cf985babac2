use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use oci_content::{Algorithm, Digest, Hasher};

use crate::archive::{BundleArchive, OpenError};
use crate::bundle_file::BundleFile;
use crate::container_error::ContainerErrorKind;
use crate::limits::Limits;
use crate::read_at::read_range;
use crate::volume_names::{
    checksum_path, file_name, parse_volume_path, read_checksums, volume_path,
};
use crate::volume_size::VolumeSize;

/// What is wrong with one volume of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFault {
    path: PathBuf,
    kind: VolumeFaultKind,
    reason: String,
}

/// The classes of [`VolumeFault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VolumeFaultKind {
    /// The volume is missing.
    Missing,
    /// The volume is shorter or longer than it was written.
    Size,
    /// Its bytes are not those that were written: it belongs to another bundle or export, or is
    /// damaged.
    Content,
    /// It comes after the last volume of the bundle.
    Unexpected,
}

impl VolumeFault {
    /// Returns the name of the volume, which may be missing.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the class.
    pub fn kind(&self) -> VolumeFaultKind {
        self.kind
    }

    /// Returns the reason without the name, as a sentence fragment that says what to do.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for VolumeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// The checksums that an export has written beside its volumes, from the first volume to the last.
struct VolumeList {
    path: PathBuf,
    digests: Vec<Digest>,
}

impl BundleFile {
    /// Finds the volumes that keep a bundle from being opened, by their names and sizes alone.
    ///
    /// A bundle in one file has no such faults.
    pub fn find_missing(&self, limits: &Limits) -> Vec<VolumeFault> {
        self.compare_sizes(limits, self.list().as_ref())
    }

    /// Finds volumes that do not belong to the bundle that was opened, by the headers of the files
    /// that begin in each: a volume of another bundle or export has other bytes there.
    ///
    /// Only some headers of each volume are read, so a volume without a fault, or in which no file
    /// begins, is not proved right. A bundle in one file has no such faults.
    pub fn find_foreign(&self, archive: &BundleArchive<Self>) -> Vec<VolumeFault> {
        const MAX_HEADERS: usize = 64;
        let mut faults: Vec<VolumeFault> = Vec::new();
        let (mut place, mut headers) = (0, 0);
        for (path, entry) in archive.plan().entries() {
            let own = self.part_at(entry.offset);
            if own != place {
                (place, headers) = (own, 0);
            }
            headers += 1;
            let part = &self.parts[place];
            let known = faults.last().is_some_and(|fault| fault.path == part.path);
            if self.volumes_of.is_none() || place == 0 || known || headers > MAX_HEADERS {
                continue;
            }
            // The header is compared before the first byte of the content is read.
            let reader = archive.open_unverified(path);
            if reader.is_some_and(|mut reader| reader.read(&mut [0]).is_err()) {
                faults.push(VolumeFault {
                    path: part.path.clone(),
                    kind: VolumeFaultKind::Content,
                    reason: format!(
                        "the file {path} does not begin where it should, so this volume belongs to another bundle or export, or is \
                         damaged"
                    ),
                });
            }
        }
        faults
    }

    /// Finds the volumes that make a bundle invalid: compares them with the checksums that were
    /// written beside them, and so reads everything once more.
    ///
    /// The checksums prove nothing, since anyone who changes a volume can change them too; they
    /// only show which of the volumes of a refused bundle is wrong. A bundle in one file has no
    /// such faults.
    pub fn find_faults(&self, limits: &Limits) -> Vec<VolumeFault> {
        let list = self.list();
        let mut faults = self.compare_sizes(limits, list.as_ref());
        let volumes = self.parts.iter().filter(|_| self.volumes_of.is_some());
        let digests: Vec<_> = volumes.map(|part| digest_of(&part.file)).collect();
        // A list that none of the volumes is on was written beside another bundle.
        let list = list.filter(|list| {
            let mut pairs = digests.iter().zip(&list.digests);
            pairs.any(|(own, listed)| own.as_ref() == Some(listed))
        });
        for (place, (part, digest)) in self.parts.iter().zip(&digests).enumerate() {
            let Some(digest) = digest else {
                continue;
            };
            let sized = faults.iter().position(|fault| fault.path == part.path);
            match (
                sized,
                compare_content(&part.path, place, digest, list.as_ref()),
            ) {
                // The checksums are better evidence than the sizes.
                (Some(sized), Content::Right) if faults[sized].kind == VolumeFaultKind::Size => {
                    faults.remove(sized);
                }
                (Some(sized), Content::Misplaced(reason)) => {
                    faults[sized].kind = VolumeFaultKind::Content;
                    faults[sized].reason = reason;
                }
                (None, Content::Misplaced(reason) | Content::Wrong(reason)) => {
                    faults.push(VolumeFault {
                        path: part.path.clone(),
                        kind: VolumeFaultKind::Content,
                        reason,
                    });
                }
                _ => {}
            }
        }
        faults.sort_by(|a, b| a.path.cmp(&b.path));
        faults
    }

    fn list(&self) -> Option<VolumeList> {
        let path = checksum_path(self.volumes_of.as_deref()?);
        let lines = read_checksums(&path)?;
        let in_order = lines.iter().enumerate().all(|(place, (_, name))| {
            parse_volume_path(name).is_some_and(|(_, number)| number == place + 1)
        });
        let digests = lines.into_iter().map(|(digest, _)| digest).collect();
        in_order.then_some(VolumeList { path, digests })
    }

    /// Compares the volumes that are there with those that there should be.
    fn compare_sizes(&self, limits: &Limits, list: Option<&VolumeList>) -> Vec<VolumeFault> {
        let Some(bundle) = &self.volumes_of else {
            return Vec::new();
        };
        let (listed, ends_early) = match BundleArchive::lay_out(self, limits) {
            Ok(archive) => (Some(archive.plan().size()), false),
            Err(OpenError::Container(error)) => {
                (None, error.kind() == ContainerErrorKind::Truncated)
            }
            Err(_) => (None, false),
        };
        let volume_bytes = self.volume_bytes();
        let present = self.parts.len();
        let by_size = listed.map(|size| {
            // An absurd size must not lead to an endless list.
            let count = usize::try_from(size.div_ceil(volume_bytes));
            count.map_or(VolumeSize::MAX_VOLUMES, |count| {
                count.min(VolumeSize::MAX_VOLUMES)
            })
        });
        let expected = match (by_size, list) {
            // If the only volume is truncated, the size of the others is unknown.
            (Some(_), Some(list)) if present == 1 => Some(list.digests.len()),
            (Some(count), _) => Some(count),
            (None, list) => list.map(|list| list.digests.len()),
        };
        let of = expected
            .map(|count| format!(" of {count}"))
            .unwrap_or_default();
        let mut faults = Vec::new();
        let mut add = |number, kind, reason| {
            let path = volume_path(bundle, number);
            faults.push(VolumeFault { path, kind, reason });
        };
        for (place, part) in self.parts.iter().enumerate() {
            let number = place + 1;
            let own = match (expected, listed) {
                (Some(count), _) if number > count => {
                    let reason = format!(
                        "the bundle has {count} {}, so this one is left over from another export: remove it",
                        if count == 1 { "volume" } else { "volumes" }
                    );
                    add(number, VolumeFaultKind::Unexpected, reason);
                    continue;
                }
                (Some(count), _) if number < count => Some(volume_bytes),
                (Some(_), Some(size)) => Some(size.saturating_sub(volume_bytes * place as u64)),
                (None, _) if number < present => Some(volume_bytes),
                _ => None,
            };
            if let Some(own) = own.filter(|own| *own != part.size) {
                // With two volumes, only the first shows the size that it should have.
                let or = if present == 2 {
                    "it, or the other one,"
                } else {
                    "it"
                };
                let reason = format!(
                    "volume {number}{of} has {} bytes, not {own}: {or} is truncated, or belongs to another bundle",
                    part.size
                );
                add(number, VolumeFaultKind::Size, reason);
            }
        }
        // Without a known count, a bundle that ends too early continues in the next volume.
        let last = expected.unwrap_or(present + usize::from(ends_early));
        for number in present + 1..=last {
            match volume_path(bundle, number).exists() {
                // The volumes after the first missing one may be right.
                true if number > present + 1 => {}
                true => {
                    let reason =
                        format!("another bundle begins here, where volume {number}{of} belongs");
                    add(number, VolumeFaultKind::Content, reason);
                }
                false => {
                    let reason = format!(
                        "volume {number}{of} is missing: put it into the folder of the first"
                    );
                    add(number, VolumeFaultKind::Missing, reason);
                }
            }
        }
        faults
    }

    /// Returns the size of all volumes but the last, judging by those that are present.
    fn volume_bytes(&self) -> u64 {
        let sizes: Vec<u64> = self.parts.iter().map(|part| part.size).collect();
        let but_last = &sizes[..sizes.len().saturating_sub(1).max(1)];
        let count = |size: u64| but_last.iter().filter(|other| **other == size).count();
        // The most frequent size; of two equally frequent ones the larger, since a truncated volume
        // is smaller.
        let common = but_last
            .iter()
            .copied()
            .max_by_key(|size| (count(*size), *size));
        common.unwrap_or_default().max(1)
    }
}

/// Returns the SHA-256 of a file; `None` when it cannot be read.
fn digest_of(file: &File) -> Option<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    read_range(file, 0..u64::MAX, |bytes| hasher.update(bytes)).ok()?;
    Some(hasher.finish())
}

/// What the checksums say about the bytes of a volume.
enum Content {
    Unknown,
    Right,
    /// The bytes of another volume of the bundle.
    Misplaced(String),
    Wrong(String),
}

fn compare_content(
    path: &Path,
    place: usize,
    digest: &Digest,
    list: Option<&VolumeList>,
) -> Content {
    let own_file = checksum_path(path);
    let own = read_checksums(&own_file).and_then(|lines| lines.into_iter().next());
    let own = own.map(|(digest, _)| digest);
    let listed = list.and_then(|list| Some((list, list.digests.get(place)?)));
    let Some((list, listed)) = listed else {
        return match own {
            None => Content::Unknown,
            Some(own) if own == *digest => Content::Right,
            Some(_) => Content::Wrong(format!(
                "its bytes do not match {}: it is damaged, or belongs to another export; copy it again",
                file_name(&own_file)
            )),
        };
    };
    if listed == digest {
        return Content::Right;
    }
    let list_name = file_name(&list.path);
    if let Some(place) = list.digests.iter().position(|listed| listed == digest) {
        let number = place + 1;
        return Content::Misplaced(format!(
            "by {list_name} it is volume {number}: it has the wrong name"
        ));
    }
    Content::Wrong(if own.as_ref() == Some(digest) {
        format!(
            "it is intact but not the volume that {list_name} lists: it belongs to another bundle or export; \
             copy the one of this bundle"
        )
    } else {
        format!(
            "its bytes do not match {list_name}: it is damaged, or belongs to another bundle or export; copy it \
             again"
        )
    })
}
