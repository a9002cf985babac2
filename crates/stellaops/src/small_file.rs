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
