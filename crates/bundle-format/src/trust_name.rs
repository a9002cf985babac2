use std::fmt;
use std::str::FromStr;

use crate::path_grammar::{self, clip, is_portable, is_short_name};

/// The name of a file below `trust/`: what a site needs to verify what it receives, such as a
/// trusted root or a public key.
///
/// 1 to 64 characters of `[a-z0-9][a-z0-9._-]*`, not ending in a dot, and not a name that a system
/// reserves for a device, so that the file can be written on any system. These files are never used
/// to judge the bundle that carries them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustName(Box<str>);

/// A string that is not a name below `trust/`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a name below trust/: it has at most 64 lower-case letters, digits, '.', '_' and '-', starts with a letter or \
     digit, ends in no dot, and is not that of a device"
)]
pub struct TrustNameError {
    text: String,
}

impl TrustName {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for TrustName {
    type Err = TrustNameError;

    fn from_str(text: &str) -> Result<Self, TrustNameError> {
        // A bundle has files of these names at its top level.
        const TAKEN: [&str; 4] = [
            path_grammar::MANIFEST,
            path_grammar::SIGNATURE,
            path_grammar::OCI_LAYOUT,
            path_grammar::INDEX,
        ];
        if is_short_name(text) && is_portable(text) && !TAKEN.contains(&text) {
            Ok(Self(text.into()))
        } else {
            Err(TrustNameError { text: clip(text) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_in_every_folder() {
        for name in [
            "a",
            "trusted_root.json",
            "0-key.pub",
            "cosign.pub",
            &"a".repeat(64),
        ] {
            assert_eq!(name.parse::<TrustName>().unwrap().as_str(), name);
        }
        for name in [
            "",
            ".",
            "..",
            ".a",
            "-a",
            "a.",
            "A",
            "a/b",
            "a b",
            "a\\b",
            "\u{e9}",
            "con",
            "nul.txt",
            "com1",
            "lpt9.pub",
            "manifest.yaml",
            &"a".repeat(65),
        ] {
            assert!(name.parse::<TrustName>().is_err(), "{name}");
        }
    }
}
