use std::io::Read;
use std::sync::Arc;

use crate::container::Container;
use crate::container_error::{ContainerError, ContainerErrorKind};
use crate::entry_path::EntryPath;
use crate::entry_reader::EntryReader;
use crate::limits::Limits;
use crate::manifest::{BundleManifest, ManifestError};
use crate::plan::BundlePlan;
use crate::read_at::{ReadAt, Sequential};
use crate::reader::BundleReader;

/// A bundle in which any file can be read without the others.
///
/// Opening it reads only `manifest.yaml`, the signature and the length of the source, so it does
/// not prove that the bundle is whole. What is read from a file is compared with `manifest.yaml`.
#[derive(Clone, Debug)]
pub struct BundleArchive<S> {
    source: S,
    manifest: BundleManifest,
    plan: BundlePlan,
}

/// Why a bundle cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file is not the container of a bundle.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The `manifest.yaml` in it is not valid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl<S: ReadAt> BundleArchive<S> {
    /// Opens the bundle that `source` holds.
    ///
    /// # Errors
    ///
    /// When the first files are not those of a bundle, or the source is longer or shorter than
    /// `manifest.yaml` implies.
    pub fn open(source: S, limits: &Limits) -> Result<Self, OpenError> {
        let archive = Self::lay_out(source, limits)?;
        let size = archive.source.size();
        let size = size.map_err(|error| ContainerError::io(0, error))?;
        let listed = archive.plan.size();
        let kind = match size.cmp(&listed) {
            std::cmp::Ordering::Equal => return Ok(archive),
            std::cmp::Ordering::Less => ContainerErrorKind::Truncated,
            std::cmp::Ordering::Greater => ContainerErrorKind::TrailingData,
        };
        let reason = format!("the file has {size} bytes, and manifest.yaml implies {listed}");
        Err(ContainerError::new(kind, size.min(listed), reason).into())
    }

    /// Opens anything that begins as a bundle, whatever its length.
    pub(crate) fn lay_out(source: S, limits: &Limits) -> Result<Self, OpenError> {
        let mut reader = BundleReader::new(Sequential::new(&source), *limits);
        let mut manifest_yaml = Vec::new();
        let mut signature = None;
        // The container is known when the first file is, and there is no bundle without one.
        let mut container = Container::TarGz;
        while let Some(head) = reader.next_entry()? {
            container = reader.container().unwrap_or(container);
            match head.path {
                EntryPath::MANIFEST => read_all(&mut reader, &mut manifest_yaml)?,
                EntryPath::SIGNATURE => {
                    let mut bytes = Vec::new();
                    read_all(&mut reader, &mut bytes)?;
                    signature = Some(bytes.into());
                }
                _ => break,
            }
        }
        let manifest = BundleManifest::parse(&manifest_yaml, limits)?;
        let plan = BundlePlan::lay_out(&manifest, Arc::new(manifest_yaml), signature, container);
        Ok(Self {
            source,
            manifest,
            plan,
        })
    }

    /// Returns what the bundle claims to hold.
    pub fn manifest(&self) -> &BundleManifest {
        &self.manifest
    }

    /// Returns where every file is, and the exact bytes of `manifest.yaml` and its signature.
    pub fn plan(&self) -> &BundlePlan {
        &self.plan
    }
}

impl<S: ReadAt + Clone> BundleArchive<S> {
    /// Opens a file of the bundle, if `manifest.yaml` lists it. Several can be read at once.
    ///
    /// What is read is compared with `manifest.yaml`: see [`EntryReader`].
    pub fn open_entry(&self, path: &EntryPath) -> Option<EntryReader<S>> {
        let entry = self.plan.entry(path)?;
        let container = self.plan.container();
        Some(EntryReader::new(
            self.source.clone(),
            container,
            path,
            entry,
        ))
    }

    /// Opens a file as [`open_entry`](Self::open_entry) does, for a caller that compares size and
    /// SHA-256 itself: the reader compares the framing around the content only, and hashes nothing.
    pub fn open_unverified(&self, path: &EntryPath) -> Option<EntryReader<S>> {
        self.open_entry(path).map(EntryReader::unverified)
    }
}

fn read_all(reader: &mut impl Read, into: &mut Vec<u8>) -> Result<(), ContainerError> {
    // The reader has checked the size against the limit of the file.
    match reader.read_to_end(into) {
        Ok(_) => {
            // It grew by doubling, and is kept as long as the bundle is open.
            into.shrink_to_fit();
            Ok(())
        }
        Err(error) => Err(ContainerError::from_io(error)),
    }
}

#[cfg(test)]
mod tests;
