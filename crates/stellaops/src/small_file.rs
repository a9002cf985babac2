//! Files that an option or the configuration names.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::exit::{Exit, Failure};

/// Reads a file of at most `max_bytes`; a device without an end is not read forever.
pub(crate) fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = File::open(path)?.take(max_bytes.saturating_add(1));
    file.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let message = format!("it is larger than {max_bytes} bytes");
        return Err(io::Error::other(message));
    }
    Ok(bytes)
}

/// Reads a file of at most 16 MiB; a failure names the option that the path comes from.
pub(crate) fn read_option(path: &Path, option: &str) -> Result<Vec<u8>, Failure> {
    read(path, 16 << 20).map_err(|error| {
        let message = format!("{option} {}: {error}", path.display());
        Failure::new(Exit::Usage, message)
    })
}

/// Fails if a file cannot be replaced or created. What is there is left as it is.
pub(crate) fn check_writable(path: &Path) -> io::Result<()> {
    let metadata = match path.metadata() {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    match metadata {
        Some(folder) if folder.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        // A device or a pipe is opened only when there is something to write.
        Some(other) if !other.is_file() => Ok(()),
        _ => {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            tempfile::tempfile_in(folder.unwrap_or(Path::new("."))).map(drop)
        }
    }
}
