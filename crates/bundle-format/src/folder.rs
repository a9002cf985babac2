use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::container_error::{ContainerError, ContainerErrorKind};
use crate::entry_path::{EntryPath, is_harmless};
use crate::limits::Limits;
use crate::path_grammar::clip;

/// A bundle that has been extracted into a folder.
///
/// - The folder is opened once; every file is reached from there, never through a link.
/// - Only regular files are opened.
#[derive(Clone, Debug)]
pub struct BundleFolder {
    root: Arc<OwnedFd>,
}

/// What is in a folder.
#[derive(Debug)]
#[non_exhaustive]
pub struct FolderScan {
    /// The files that a bundle may have, with their sizes in bytes.
    pub files: BTreeMap<EntryPath, u64>,
    /// Everything else, sorted by path: links, devices, folders and files that a bundle does not
    /// have, and whatever cannot be inspected.
    pub problems: Vec<ContainerError>,
}

impl BundleFolder {
    /// Opens the folder at `path`, which may itself be a link.
    ///
    /// # Errors
    ///
    /// When it is not a folder or cannot be read.
    pub fn open(path: &Path) -> Result<Self, ContainerError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(root) => Ok(Self {
                root: Arc::new(root),
            }),
            Err(error) => Err(io(error, &path.to_string_lossy())),
        }
    }

    /// Lists the folder without following links.
    ///
    /// # Errors
    ///
    /// When the folder has more than [`Limits::max_entries`] entries or cannot be listed.
    pub fn scan(&self, limits: &Limits) -> Result<FolderScan, ContainerError> {
        let mut scan = Scan {
            limits,
            seen: 0,
            files: BTreeMap::new(),
            problems: Vec::new(),
        };
        scan.folder(&self.root, "")?;
        scan.problems
            .sort_by(|a, b| (a.path(), a.kind()).cmp(&(b.path(), b.kind())));
        Ok(FolderScan {
            files: scan.files,
            problems: scan.problems,
        })
    }

    /// Opens a file for reading. The content is not checked.
    ///
    /// # Errors
    ///
    /// When the file is missing, is not a regular file, or cannot be read.
    pub fn open_file(&self, path: &EntryPath) -> Result<File, ContainerError> {
        let text = path.to_string();
        let mut parts = text.split('/').peekable();
        let mut folder = Arc::clone(&self.root);
        while let Some(part) = parts.next() {
            if parts.peek().is_some() {
                let next = open_folder(&folder, part).map_err(|error| io(error, &text))?;
                folder = Arc::new(next);
                continue;
            }
            // Without NONBLOCK, opening a FIFO would wait forever.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&folder, part, flags, Mode::empty())
                .map_err(|error| io(error, &text))?;
            let metadata = rustix::fs::fstat(&file).map_err(|error| io(error, &text))?;
            return match FileType::from_raw_mode(metadata.st_mode) {
                FileType::RegularFile => Ok(file.into()),
                _ => Err(not_a_file(&text)),
            };
        }
        Err(not_a_file(&text))
    }
}

fn open_folder(parent: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn io(error: Errno, path: &str) -> ContainerError {
    // A link in place of the file or of a folder on the way to it.
    match error {
        Errno::LOOP => not_a_file(path),
        error => ContainerError::io(0, error.into()).with_path(clip(path)),
    }
}

fn not_a_file(path: &str) -> ContainerError {
    let reason = "it is a link, a device or something else that is not a file";
    ContainerError::new(ContainerErrorKind::EntryType, 0, reason).with_path(clip(path))
}

struct Scan<'a> {
    limits: &'a Limits,
    seen: u64,
    files: BTreeMap<EntryPath, u64>,
    problems: Vec<ContainerError>,
}

impl Scan<'_> {
    /// Lists one folder; `prefix` is its path from the root, with a slash at its end unless it is
    /// the root.
    fn folder(&mut self, folder: impl AsFd, prefix: &str) -> Result<(), ContainerError> {
        let listing = Dir::read_from(&folder).map_err(|error| io(error, prefix))?;
        let mut empty = true;
        for entry in listing {
            let entry = entry.map_err(|error| io(error, prefix))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            empty = false;
            self.seen += 1;
            if self.seen > self.limits.max_entries {
                let limit = self.limits.max_entries;
                let reason = format!("the number of files is more than the limit of {limit}");
                return Err(ContainerError::new(ContainerErrorKind::Entries, 0, reason));
            }
            self.entry(&folder, prefix, name)?;
        }
        if empty {
            let reason = "a bundle has no empty folder";
            self.problem(ContainerErrorKind::UnknownPath, prefix, reason);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        folder: impl AsFd,
        prefix: &str,
        name: &CStr,
    ) -> Result<(), ContainerError> {
        let path = format!("{prefix}{}", name.to_string_lossy());
        let metadata = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(metadata) => metadata,
            Err(error) => {
                self.problems.push(io(error, &path));
                return Ok(());
            }
        };
        match FileType::from_raw_mode(metadata.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return self.subfolder(folder, &path),
            _ => {
                self.problems.push(not_a_file(&path));
                return Ok(());
            }
        }
        match path.parse::<EntryPath>() {
            Ok(path) => {
                let size = u64::try_from(metadata.st_size).unwrap_or_default();
                self.files.insert(path, size);
            }
            Err(_) if is_harmless(&path) => {
                let reason = "a bundle has no such file";
                self.problem(ContainerErrorKind::UnknownPath, &path, reason);
            }
            Err(_) => self.problem(ContainerErrorKind::UnsafePath, &path, "a path is unsafe"),
        }
        Ok(())
    }

    fn subfolder(&mut self, parent: impl AsFd, path: &str) -> Result<(), ContainerError> {
        let known = match path.strip_prefix("referrers/sha256-") {
            Some(subject) => format!("blobs/sha256/{subject}")
                .parse::<EntryPath>()
                .is_ok(),
            None => matches!(path, "blobs" | "blobs/sha256" | "referrers" | "trust"),
        };
        if !known {
            let (kind, reason) = if path.parse::<EntryPath>().is_ok() {
                let reason = "a bundle has a file of this name, not a folder";
                (ContainerErrorKind::UnknownPath, reason)
            } else if is_harmless(path) {
                (
                    ContainerErrorKind::UnknownPath,
                    "a bundle has no such folder",
                )
            } else {
                (ContainerErrorKind::UnsafePath, "a path is unsafe")
            };
            self.problem(kind, path, reason);
            return Ok(());
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        match open_folder(parent, name) {
            Ok(folder) => self.folder(folder, &format!("{path}/")),
            Err(error) => {
                self.problems.push(io(error, path));
                Ok(())
            }
        }
    }

    fn problem(&mut self, kind: ContainerErrorKind, path: &str, reason: &str) {
        self.problems
            .push(ContainerError::new(kind, 0, reason).with_path(clip(path)));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use oci_content::Digest;

    use super::*;

    #[test]
    fn a_folder_is_listed_without_following_anything() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("bundle");
        let blob = EntryPath::blob(&Digest::of(b"x")).unwrap();
        let subject = EntryPath::referrer(&Digest::of(b"s"), &Digest::of(b"r")).unwrap();
        for path in ["manifest.yaml", &blob.to_string(), &subject.to_string()] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        for name in ["Manifest.yaml", "notes.txt", "bad\u{202e}name"] {
            fs::write(root.join(name), "").unwrap();
        }
        fs::create_dir_all(root.join("blobs/sha512/empty")).unwrap();
        for folder in ["oci-layout", "trust/keys", "trust/Keys"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::create_dir_all(root.join(format!("referrers/sha256-{}", "0".repeat(64)))).unwrap();
        symlink("/etc/passwd", root.join("index.json")).unwrap();
        symlink("../..", root.join("evil")).unwrap();

        let folder = BundleFolder::open(&root).unwrap();
        let scan = folder.scan(&Limits::default()).unwrap();
        let files: Vec<_> = scan.files.into_iter().collect();
        assert_eq!(
            files,
            [(EntryPath::MANIFEST, 1), (subject, 1), (blob.clone(), 1)]
        );
        use ContainerErrorKind::{EntryType, UnknownPath, UnsafePath};
        let empty = format!("referrers/sha256-{}/", "0".repeat(64));
        let problems: Vec<_> = scan
            .problems
            .iter()
            .map(|problem| (problem.path().unwrap(), problem.kind()))
            .collect();
        assert_eq!(
            problems,
            [
                ("Manifest.yaml", UnsafePath),
                ("bad\u{202e}name", UnsafePath),
                ("blobs/sha512", UnknownPath),
                ("evil", EntryType),
                ("index.json", EntryType),
                ("notes.txt", UnknownPath),
                ("oci-layout", UnknownPath),
                (empty.as_str(), UnknownPath),
                ("trust/Keys", UnsafePath),
                ("trust/keys", UnknownPath),
            ]
        );
        let mut text = String::new();
        folder
            .open_file(&blob)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "x");
        let link = folder.open_file(&EntryPath::INDEX).unwrap_err();
        assert_eq!(link.kind(), EntryType);
        let limits = Limits {
            max_entries: 3,
            ..Limits::default()
        };
        let error = folder.scan(&limits).unwrap_err();
        assert_eq!(error.kind(), ContainerErrorKind::Entries);
    }

    #[test]
    fn a_folder_that_became_a_link_is_not_entered() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("bundle");
        let blob = EntryPath::blob(&Digest::of(b"x")).unwrap();
        fs::create_dir_all(outside.path().join("sha256")).unwrap();
        fs::create_dir_all(&root).unwrap();
        let name = Digest::of(b"x").encoded().to_owned();
        fs::write(outside.path().join("sha256").join(name), "x").unwrap();
        symlink("..", root.join("blobs")).unwrap();
        let folder = BundleFolder::open(&root).unwrap();
        assert!(folder.open_file(&blob).is_err());
        assert!(BundleFolder::open(&root.join("nothing")).is_err());
    }
}
