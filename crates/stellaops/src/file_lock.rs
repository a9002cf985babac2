//! Files that one process at a time holds.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use oci_content::{FileSystemGaps, bounded, try_lock};

use crate::render;

/// Takes the lock on a file, which is created if it does not exist, and writes `own` into it, for those who find it held.
///
/// The lock is held until the file is dropped, or until the process ends in any way. If another process holds it, what that
/// one wrote is the inner error.
pub(crate) fn take(
    path: &Path,
    own: &str,
    gaps: &FileSystemGaps,
) -> io::Result<Result<File, String>> {
    let mut options = OpenOptions::new();
    // What another process wrote there is kept until the lock is held.
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(path)?;
    if !try_lock(&file, path, gaps)? {
        let mut holder = String::new();
        let read = (&file).take(512).read_to_string(&mut holder);
        return Ok(Err(match (read, holder.trim()) {
            (Ok(_), holder) if !holder.is_empty() => render::foreign(&bounded(holder, 256)),
            _ => "another process".to_owned(),
        }));
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{own}")?;
    Ok(Ok(file))
}
