use std::collections::btree_map;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use bundle_format::{BundleFolder, BundleReader, ContainerError, EntryPath, FolderScan, Limits};

use crate::observer::ValidationObserver;

/// The files of a bundle, one after the other, `manifest.yaml` first.
pub(crate) trait Entries {
    /// Moves on to the next file; returns `None` at the end.
    fn next_entry(&mut self) -> Result<Option<(EntryPath, u64)>, ContainerError>;

    /// Reads content of the current file; returns 0 at its end.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ContainerError>;
}

impl<R: Read> Entries for BundleReader<R> {
    fn next_entry(&mut self) -> Result<Option<(EntryPath, u64)>, ContainerError> {
        Ok(Self::next_entry(self)?.map(|head| (head.path, head.size)))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ContainerError> {
        Read::read(self, buffer).map_err(ContainerError::from_io)
    }
}

/// The files of an extracted bundle.
pub(crate) struct FolderEntries {
    folder: BundleFolder,
    files: btree_map::IntoIter<EntryPath, u64>,
    current: Option<File>,
    limits: Limits,
    observer: Option<Arc<dyn ValidationObserver>>,
}

impl FolderEntries {
    /// Lists the folder; also returns everything in it that does not belong in a bundle.
    pub(crate) fn new(
        folder: BundleFolder,
        limits: Limits,
        observer: Option<Arc<dyn ValidationObserver>>,
    ) -> Result<(Self, Vec<ContainerError>), ContainerError> {
        let FolderScan {
            files, problems, ..
        } = folder.scan(&limits)?;
        if let Some(observer) = &observer {
            let sum = |sum: u64, size: &u64| sum.saturating_add(*size);
            observer.started(Some(files.values().fold(0, sum)));
        }
        let entries = Self {
            folder,
            files: files.into_iter(),
            current: None,
            limits,
            observer,
        };
        Ok((entries, problems))
    }
}

impl Entries for FolderEntries {
    fn next_entry(&mut self) -> Result<Option<(EntryPath, u64)>, ContainerError> {
        let Some((path, size)) = self.files.next() else {
            return Ok(None);
        };
        self.limits.check_entry(&path, size)?;
        self.current = Some(self.folder.open_file(&path)?);
        Ok(Some((path, size)))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ContainerError> {
        let Some(file) = &mut self.current else {
            return Ok(0);
        };
        loop {
            match file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(count) => {
                    if let Some(observer) = &self.observer {
                        observer.read(count as u64);
                    }
                    return Ok(count);
                }
                Err(error) => return Err(ContainerError::from_io(error)),
            }
        }
    }
}
