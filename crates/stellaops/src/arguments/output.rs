//! Checks of the names that bundles are written to.

use std::path::Path;

use crate::exit::{Exit, Failure};

/// Extensions that suggest a format other than the one that is written.
const OTHERS: [&str; 20] = [
    "zip", "jar", "7z", "rar", "zst", "tzst", "bz2", "tbz", "tbz2", "xz", "txz", "lzma", "lz4",
    "br", "age", "gpg", "json", "yaml", "yml", "html",
];

/// Refuses a name that cannot be intended. `option` is what gives it.
pub(crate) fn check(output: &Path, option: &str) -> Result<(), Failure> {
    let refused = |reason: &str| {
        let message = format!("{option} {}: {reason}", output.display());
        Err(Failure::new(Exit::Usage, message))
    };
    if output.as_os_str() == "-" {
        return refused(
            "a bundle cannot be written to standard output; name a file (./- is a file of that name)",
        );
    }
    let ending = output
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    match ending.filter(|ending| OTHERS.contains(&ending.as_str())) {
        Some(ending) => refused(&format!(
            "a bundle is not a .{ending} file; name it NAME.tgz, or NAME.tar for the same archive without gzip"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_another_format_are_refused_and_all_others_taken() {
        for name in ["-", "b.zip", "b.tar.zst", "B.ZIP", "dir.d/b.Json"] {
            let failure = check(Path::new(name), "--output").unwrap_err();
            assert!(failure.is(Exit::Usage), "{failure}");
            assert!(failure.to_string().contains(name), "{failure}");
        }
        for name in [
            "b",
            "b.tgz",
            "b.tar",
            "b.tar.gz",
            "b-1.2.3",
            "./-",
            "b.bundle",
            "x.zip/b.tgz",
            ".zip",
        ] {
            assert!(check(Path::new(name), "--output").is_ok(), "{name}");
        }
    }
}
