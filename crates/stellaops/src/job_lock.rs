//! One run of a job at a time.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use oci_content::FileSystemGaps;

use crate::exit::{Exit, Failure};
use crate::file_lock;

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
        let since = humantime::format_rfc3339_seconds(SystemTime::now());
        let own = format!("process {} since {since}", std::process::id());
        let taken = file_lock::take(&path, &own, gaps).map_err(fail)?;
        let file = taken.map_err(|holder| {
            let message = format!(
                "job {job} is being run by {holder}; wait until that run has ended (it holds {})",
                path.display()
            );
            Failure::new(Exit::Usage, message)
        })?;
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
