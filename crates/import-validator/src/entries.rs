use std::collections::btree_map;
use std::fs::File;
use std::io::{self, Read};

use bundle_format::{BundleFolder, BundleReader, ContainerError, EntryPath, FolderScan, Limits};

/// The files of a bundle, one after the other, `manifest.yaml` first.
pub(crate) trait Entries {
    /// Moves on to the next file; `None` is the end.
    fn next_entry(&mut self) -> Result<Option<(EntryPath, u64)>, ContainerError>;

    /// Reads content of the current file; 0 is its end.
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
}

impl FolderEntries {
    /// Lists the folder; what is in it and does not belong into a bundle is returned beside.
    pub(crate) fn new(
        folder: BundleFolder,
        limits: Limits,
    ) -> Result<(Self, Vec<ContainerError>), ContainerError> {
        let FolderScan {
            files, problems, ..
        } = folder.scan(&limits)?;
        let entries = Self {
            folder,
            files: files.into_iter(),
            current: None,
            limits,
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
                other => return other.map_err(ContainerError::from_io),
            }
        }
    }
}
