//! One run of a job at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::SystemTime;

use oci_content::{FileSystemGaps, bounded, try_lock};

use crate::exit::{Exit, Failure};
use crate::render;

/// The lock on a job, held until it is dropped, or until the process ends in any way.
#[derive(Debug)]
pub(crate) struct JobHeld {
    _file: File,
}

impl JobHeld {
    /// Takes the lock on a job, in the folder of its receipts; fails if another run holds it.
    pub(crate) fn take(job: &str, folder: &Path, gaps: &FileSystemGaps) -> Result<Self, Failure> {
        let path = folder.join("run.lock");
        let fail = |error: std::io::Error| {
            let message = format!("job {job}: {}: {error}", path.display());
            Failure::new(Exit::LocalIo, message)
        };
        fs::create_dir_all(folder).map_err(fail)?;
        let mut options = OpenOptions::new();
        // What another run wrote there is kept until the lock is held.
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(fail)?;
        if !try_lock(&file, &path, gaps).map_err(fail)? {
            let mut holder = String::new();
            let read = (&file).take(512).read_to_string(&mut holder);
            let holder = match (read, holder.trim()) {
                (Ok(_), holder) if !holder.is_empty() => bounded(holder, 256).into_owned(),
                _ => "another process".to_owned(),
            };
            let message = format!(
                "job {job} is being run by {}; wait until that run has ended (it holds {})",
                render::foreign(&holder),
                path.display()
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        let since = humantime::format_rfc3339_seconds(SystemTime::now());
        let holder = format!("process {} since {since}\n", std::process::id());
        file.set_len(0).map_err(fail)?;
        file.rewind().map_err(fail)?;
        file.write_all(holder.as_bytes()).map_err(fail)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_run_of_a_job_says_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let gaps = FileSystemGaps::default();
        let take = || JobHeld::take("nightly", folder.path(), &gaps);
        let first = take().unwrap();
        let failure = take().unwrap_err();
        assert!(failure.is(Exit::Usage));
        let holder = format!("run by process {} since 2", std::process::id());
        assert!(failure.to_string().contains(&holder), "{failure}");
        drop(first);
        take().unwrap();
    }
}
