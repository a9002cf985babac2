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
    /// It is not there.
    Missing,
    /// It is shorter or longer than it was written.
    Size,
    /// It holds other bytes than it was written with: of another bundle, of another export, or damaged ones.
    Content,
    /// It is behind the last one of the bundle.
    Unexpected,
}

impl VolumeFault {
    /// Returns the name of the volume, which need not be there.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the class.
    pub fn kind(&self) -> VolumeFaultKind {
        self.kind
    }

    /// Returns the reason without the name, in a sentence fragment that tells what to do.
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
    /// Says which volumes are to blame for a bundle that cannot be opened, from their names and sizes alone.
    ///
    /// Nothing is found in a bundle that is one file.
    pub fn find_missing(&self, limits: &Limits) -> Vec<VolumeFault> {
        self.compare_sizes(limits, self.list().as_ref())
    }

    /// Says which volumes cannot be those of the bundle that was opened, by the headers of files that begin in each: in a
    /// volume of another bundle or export, something else stands there.
    ///
    /// Some headers of each volume are read, so nothing is proved of those in which no fault is found, or no file begins.
    /// Nothing is found in a bundle that is one file.
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
                        "something else stands where the file {path} begins, so this volume is of another bundle or export, or \
                         damaged"
                    ),
                });
            }
        }
        faults
    }

    /// Says which volumes are to blame for a bundle that is not valid: compares them with the checksums that were
    /// written beside them, and so reads everything once more.
    ///
    /// Checksums prove nothing here, since whoever changes a volume can change them too; they only tell which of
    /// the volumes of a bundle that has been refused is the wrong one. Nothing is found in a bundle that is one file.
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
                // What the checksums show is more than what sizes let suspect.
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
            // A size that nobody can believe must not make a list that nobody can read.
            let count = usize::try_from(size.div_ceil(volume_bytes));
            count.map_or(VolumeSize::MAX_VOLUMES, |count| {
                count.min(VolumeSize::MAX_VOLUMES)
            })
        });
        let expected = match (by_size, list) {
            // With one volume, how large the others are is not known if that one is cut off.
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
                        "the bundle has {count} {}, so this one is left from another export: remove it",
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
                // Of two volumes, the first alone shows how large it ought to be.
                let or = if present == 2 {
                    "it, or the other one,"
                } else {
                    "it"
                };
                let reason = format!(
                    "volume {number}{of} has {} bytes and not {own}: {or} is cut off, or of another bundle",
                    part.size
                );
                add(number, VolumeFaultKind::Size, reason);
            }
        }
        // Where nothing tells how many there are, what ends too early goes on in the next.
        let last = expected.unwrap_or(present + usize::from(ends_early));
        for number in present + 1..=last {
            match volume_path(bundle, number).exists() {
                // What is behind the first that is missing may well be right.
                true if number > present + 1 => {}
                true => {
                    let reason =
                        format!("another bundle begins here, where volume {number}{of} belongs");
                    add(number, VolumeFaultKind::Content, reason);
                }
                false => {
                    let reason = format!(
                        "volume {number}{of} is missing: bring it into the folder of the first"
                    );
                    add(number, VolumeFaultKind::Missing, reason);
                }
            }
        }
        faults
    }

    /// Returns the size of all volumes but the last, as far as those that are there show it.
    fn volume_bytes(&self) -> u64 {
        let sizes: Vec<u64> = self.parts.iter().map(|part| part.size).collect();
        let but_last = &sizes[..sizes.len().saturating_sub(1).max(1)];
        let count = |size: u64| but_last.iter().filter(|other| **other == size).count();
        // What most of them have; of two that are as frequent the larger, since what is cut off is smaller.
        let common = but_last
            .iter()
            .copied()
            .max_by_key(|size| (count(*size), *size));
        common.unwrap_or_default().max(1)
    }
}

/// `None` when it cannot be read.
fn digest_of(file: &File) -> Option<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    read_range(file, 0..u64::MAX, |bytes| hasher.update(bytes)).ok()?;
    Some(hasher.finish())
}

/// What the checksums tell about the bytes of a volume.
enum Content {
    Unknown,
    Right,
    /// Those of another volume of the bundle.
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
                "its bytes are not those that {} has: it is damaged, or of another export; bring it again",
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
            "it holds volume {number} by {list_name}: it has the wrong name"
        ));
    }
    Content::Wrong(match own.as_ref() == Some(digest) {
        true => format!(
            "it is whole and not the volume that {list_name} lists: it is of another bundle or of another export; \
             bring the one of this bundle"
        ),
        false => format!(
            "its bytes are not those that {list_name} lists: it is damaged, or of another bundle or export; bring it \
             again"
        ),
    })
}
