use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use oci_content::{FileSystemGaps, replace_file};

use super::{MAX_RECEIPT_BYTES, ReceiptStore};
use crate::exit::{Exit, Failure};
use crate::job_lock::JobHeld;
use crate::small_file;

/// More files than this are refused: a run each hour makes 8,760 a year.
const MAX_RECEIPTS: usize = 100_000;

/// The receipts of `mirror run`: one file for each run of a job, in `$XDG_STATE_HOME/stellaops/receipts/JOB/`.
#[derive(Debug)]
pub(crate) struct FolderReceipts {
    folder: PathBuf,
    gaps: FileSystemGaps,
}

impl FolderReceipts {
    pub(crate) fn new(folder: PathBuf, gaps: FileSystemGaps) -> Self {
        Self { folder, gaps }
    }

    fn files_newest_first(&self, job: &str) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(self.folder.join(job)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let is_json = path
                .extension()
                .is_some_and(|extension| extension == "json");
            let hidden = path.file_name().is_some_and(|name| {
                // What a run that was killed left over.
                name.as_encoded_bytes().starts_with(b".")
            });
            if !is_json || hidden {
                continue;
            }
            if paths.len() == MAX_RECEIPTS {
                let message = format!("there are more than {MAX_RECEIPTS}");
                return Err(io::Error::other(message));
            }
            paths.push(path);
        }
        paths.sort();
        paths.reverse();
        Ok(paths)
    }
}

impl ReceiptStore for FolderReceipts {
    fn jobs(&self) -> Result<Vec<String>, Failure> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
        };
        let entries = entries.map_err(|error| {
            let message = format!("{} cannot be listed: {error}", self.folder.display());
            Failure::new(Exit::LocalIo, message)
        })?;
        let folders = entries.iter().filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> = folders
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        Ok(names)
    }

    fn newest_first(&self, job: &str) -> Result<Vec<String>, Failure> {
        let paths = self.files_newest_first(job).map_err(|error| {
            let message = format!(
                "the receipts in {} cannot be listed: {error}",
                self.place(job)
            );
            Failure::new(Exit::LocalIo, message)
        })?;
        let names = paths.iter().filter_map(|path| path.file_name());
        Ok(names
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    fn read(&self, job: &str, name: &str) -> io::Result<Vec<u8>> {
        small_file::read(&self.folder.join(job).join(name), MAX_RECEIPT_BYTES)
    }

    fn write(&self, job: &str, text: &str) -> io::Result<String> {
        let folder = self.folder.join(job);
        fs::create_dir_all(&folder)?;
        let last = self.files_newest_first(job)?.into_iter().next();
        let name = name_after(SystemTime::now(), last.as_deref());
        replace_file(&folder.join(&name), text.as_bytes(), &self.gaps)?;
        Ok(name)
    }

    fn place(&self, job: &str) -> String {
        self.folder.join(job).display().to_string()
    }

    fn place_of(&self, job: &str, name: &str) -> String {
        self.folder.join(job).join(name).display().to_string()
    }

    fn hold(&self, job: &str) -> Result<Option<JobHeld>, Failure> {
        JobHeld::take(job, &self.folder.join(job), &self.gaps).map(Some)
    }
}

/// Returns a file name that sorts after `last`: the time, down to the nanosecond, or the nanosecond after that of `last`.
fn name_after(now: SystemTime, last: Option<&Path>) -> String {
    let last = last
        .and_then(Path::file_stem)
        .and_then(|stem| stem.to_str());
    let last = last.and_then(|stem| humantime::parse_rfc3339(&stem.replace('_', ":")).ok());
    let time = match last {
        Some(last) if last >= now => last + Duration::from_nanos(1),
        _ => now,
    };
    let time = humantime::format_rfc3339_nanos(time).to_string();
    // A colon is not allowed in the names of some file systems.
    format!("{}.json", time.replace(':', "_"))
}
