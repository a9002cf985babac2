use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name of a job, in characters.
const MAX_NAME: usize = 64;

/// The name of a mirror job: at most 64 characters of `[a-z0-9][a-z0-9._-]*`, in lower case.
///
/// It is part of paths, so it never begins with a dot, and no two names differ only by case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobName(Box<str>);

/// Why a text is not the name of a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of a job: it may have lower-case letters, digits, '.', '_' and '-', begins with a letter or a digit, and has at most {MAX_NAME} characters"
)]
pub struct JobNameError(String);

impl JobName {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobName {
    type Err = JobNameError;

    fn from_str(text: &str) -> Result<Self, JobNameError> {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let fits = text.len() <= MAX_NAME
            && text.starts_with(word)
            && text.chars().all(|c| word(c) || "._-".contains(c));
        if fits {
            Ok(Self(text.into()))
        } else {
            let shown = oci_content::bounded(text, MAX_NAME);
            Err(JobNameError(shown.into_owned()))
        }
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for JobName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for JobName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for JobName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_in_a_path() {
        for name in ["nightly", "0", "a.b_c-d", &"x".repeat(64)] {
            assert_eq!(name.parse::<JobName>().unwrap().as_str(), name);
        }
        for name in [
            "",
            ".",
            "..",
            "-x",
            "Nightly",
            "a/b",
            "a b",
            &"x".repeat(65),
        ] {
            let error = name.parse::<JobName>().unwrap_err();
            assert!(error.to_string().contains("not the name of a job"));
        }
    }
}
