//! Secrets, of which the configuration says only where they are.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

use crate::small_file;

/// The most bytes of a secret: a chain of certificates with its key is far smaller.
const MAX_BYTES: u64 = 1 << 20;

/// Where a secret is: `env:VAR` or `file:PATH`. It is read whenever it is used, so that a secret that was replaced is used
/// without a restart.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    Variable(String),
    File(PathBuf),
}

/// A secret that was read.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretValue(Vec<u8>);

impl Secret {
    /// Parses `env:VAR` or `file:PATH`; everything else is likely the secret itself, so the error does not quote it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        match (text.strip_prefix("env:"), text.strip_prefix("file:")) {
            (Some(""), _) => Err("`env:` is not followed by the name of a variable"),
            (_, Some("")) => Err("`file:` is not followed by a path"),
            (Some(variable), _) => Ok(Self::Variable(variable.to_owned())),
            (_, Some(path)) => Ok(Self::File(path.into())),
            (None, None) => {
                Err("a secret cannot stand in the configuration: write env:VAR or file:PATH")
            }
        }
    }

    /// Reads the secret. A final line end is not part of it.
    ///
    /// The error names the variable or the file, and nothing that is in it.
    pub(crate) fn read(&self) -> Result<SecretValue, String> {
        let mut bytes = match self {
            Self::Variable(name) => match std::env::var(name) {
                Ok(text) => text.into_bytes(),
                Err(std::env::VarError::NotPresent) => {
                    return Err(format!("there is no variable {name} in the environment"));
                }
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(format!("the variable {name} is not UTF-8 text"));
                }
            },
            Self::File(path) => small_file::read(path, MAX_BYTES)
                .map_err(|error| format!("{}: {error}", path.display()))?,
        };
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() {
            return Err(format!("{self} is empty"));
        }
        Ok(SecretValue(bytes))
    }

    /// Returns the file of the secret, if it is in one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Variable(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

/// The place of the secret: `env:VAR`, or the path of its file.
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl SecretValue {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(***)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&text(deserializer)?).map_err(de::Error::custom)
    }
}

/// Reads a key: a secret, or the path of its file alone.
pub(crate) fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    let text = text(deserializer)?;
    if text.is_empty() {
        return Err(de::Error::custom("it names no file"));
    }
    // A key is PEM, and somebody may have put it here.
    if text.contains("-----BEGIN") {
        let message = "a key cannot stand in the configuration: write the path of its file, env:VAR or file:PATH";
        return Err(de::Error::custom(message));
    }
    match Secret::parse(&text) {
        Err(_) if !text.starts_with("env:") && !text.starts_with("file:") => {
            Ok(Secret::File(text.into()))
        }
        parsed => parsed.map_err(de::Error::custom),
    }
}

/// [`key`], where it may be absent.
pub(crate) fn optional_key<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Secret>, D::Error> {
    key(deserializer).map(Some)
}

/// Reads text; an error about another type does not quote what stands there.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map_err(|_| {
        de::Error::custom("a secret is named with env:VAR or file:PATH, and this is not text")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_named_and_never_quoted() {
        assert_eq!(
            Secret::parse("env:HOOK"),
            Ok(Secret::Variable("HOOK".into()))
        );
        assert_eq!(Secret::parse("file:/a b"), Ok(Secret::File("/a b".into())));
        for text in ["hunter2", "", "env:", "file:", "ENV:HOOK"] {
            let error = Secret::parse(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "hunter2\r\n").unwrap();
        let secret = Secret::File(path.clone());
        let value = secret.read().unwrap();
        assert_eq!(value.as_bytes(), b"hunter2");
        assert_eq!(
            format!("{secret:?} {value:?}"),
            "Secret(***) SecretValue(***)"
        );
        std::fs::write(&path, "\n").unwrap();
        assert!(secret.read().unwrap_err().ends_with("is empty"));
        std::fs::remove_file(&path).unwrap();
        assert!(secret.read().unwrap_err().contains("secret: "));
        let unset = Secret::Variable("STELLAOPS_NO_SUCH_VARIABLE".into());
        assert!(unset.read().unwrap_err().contains("STELLAOPS_NO_SUCH"));
    }
}
