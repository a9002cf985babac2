//! What commands print on stdout.

mod table;
mod tree;

use std::io::{self, Write as _};
use std::path::Path;

use oci_content::{Digest, MAX_FOREIGN_CHARS, bounded};
use serde::Serialize;

pub(crate) use table::Table;
pub(crate) use tree::Tree;

use crate::exit::{Exit, Failure};
use crate::log::{escape, escape_json};

/// Prints text, escaping what could draw on the terminal.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let lines: Vec<String> = text.lines().map(escape).collect();
    write(&format!("{}\n", lines.join("\n")))
}

/// Prints a JSON document, its members sorted by name. JSON itself escapes only the first 32 control characters.
pub(crate) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let document = serde_json::to_value(document)
        .map_err(|error| Failure::new(Exit::Bug, format!("the document: {error}")))?;
    write(&escape_json(&format!("{document:#}\n")))
}

fn write(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A reader that closes the pipe has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(Exit::LocalIo, format!("stdout: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Makes foreign text fit for a line: cuts it to a readable length, and escapes line ends and whatever else draws on a
/// terminal.
pub(crate) fn foreign(text: &str) -> String {
    bounded(&escape(text), MAX_FOREIGN_CHARS).into_owned()
}

/// Shortens a digest for a tree; tables and JSON show it in full.
pub(crate) fn short(digest: &Digest) -> String {
    format!(
        "{}:{}",
        digest.algorithm().as_str(),
        &digest.encoded()[..12]
    )
}

/// Formats a number of bytes with a unit for people.
pub(crate) fn bytes(bytes: u64) -> String {
    let unit = unit(bytes);
    format!("{} {}", in_unit(bytes, unit), UNITS[unit])
}

/// Formats a number of bytes out of a total, both in the unit of the total.
pub(crate) fn bytes_of(bytes: u64, of: u64) -> String {
    let unit = unit(of);
    format!(
        "{} of {} {}",
        in_unit(bytes, unit),
        in_unit(of, unit),
        UNITS[unit]
    )
}

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

fn unit(bytes: u64) -> usize {
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024 && unit < UNITS.len() - 1 {
        value /= 1024;
        unit += 1;
    }
    unit
}

fn in_unit(bytes: u64, unit: usize) -> String {
    let Some(below) = unit.checked_sub(1) else {
        return bytes.to_string();
    };
    let value = bytes >> (10 * below);
    format!("{}.{}", value / 1024, value % 1024 * 10 / 1024)
}

/// Describes the volumes of a bundle and names the first; empty for a bundle in one file.
pub(crate) fn in_volumes(bundle: &Path, volumes: usize) -> String {
    match volumes {
        0 => String::new(),
        volumes => format!(
            " in {}, of which {}.001 is the first",
            count(volumes, "volume"),
            bundle.display()
        ),
    }
}

/// Formats a count with its noun.
pub(crate) fn count<N: std::fmt::Display + PartialEq + From<u8>>(number: N, one: &str) -> String {
    if number == N::from(1) {
        format!("1 {one}")
    } else {
        format!("{number} {one}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_unit_that_people_read() {
        for (number, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024, "1.0 MiB"),
            (636_000_000, "606.5 MiB"),
            (10 * 1024 * 1024 * 1024, "10.0 GiB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
    }
}
