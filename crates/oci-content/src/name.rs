//! What the names of registries, repositories and tags have in common.

use std::borrow::Cow;

use crate::bounded::clip;

/// A string that is not a valid reference, registry, repository name or tag, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: {reason}")]
pub struct ReferenceError {
    pub(crate) text: String,
    pub(crate) what: &'static str,
    pub(crate) reason: String,
    pub(crate) has_scheme: bool,
}

impl ReferenceError {
    pub(crate) fn new(what: &'static str, text: &str, reason: impl Into<String>) -> Self {
        Self {
            text: clip(&without_login(text)),
            what,
            reason: reason.into(),
            has_scheme: false,
        }
    }

    /// Returns whether the text is a URL where a reference is wanted, so that a program can say how
    /// the scheme is chosen instead.
    pub fn has_scheme(&self) -> bool {
        self.has_scheme
    }
}

/// Hides a user and a password before a host: neither belongs in a reference, and the password not in
/// a message.
fn without_login(text: &str) -> Cow<'_, str> {
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
    match rest.split_once('@') {
        Some((login, host))
            if login.contains(':') && !login.contains('/') && !names_digest(host) =>
        {
            Cow::Owned(format!("{scheme}***@{host}"))
        }
        _ => Cow::Borrowed(text),
    }
}

/// Returns whether what follows an `@` is meant as a digest, and not part of a path.
pub(crate) fn names_digest(text: &str) -> bool {
    let number = text
        .strip_prefix("sha")
        .and_then(|rest| rest.split_once(':'));
    number.is_some_and(|(number, rest)| {
        !rest.contains('/') && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Implements the traits of a validated string: it is only created by `FromStr`, and is displayed,
/// compared and hashed like its text.
macro_rules! string_type {
    ($name:ident) => {
        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        $crate::name::text_form!($name);
    };
}

/// Implements the traits of a type that is written as text and parsed by `FromStr`.
macro_rules! text_form {
    ($name:ident) => {
        impl TryFrom<&str> for $name {
            type Error = <$name as std::str::FromStr>::Err;

            fn try_from(text: &str) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = <$name as std::str::FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use {string_type, text_form};

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use crate::{Algorithm, Digest, Platform, Reference, Registry, RepositoryName};
    use crate::{SourceRepository, Tag};

    #[test]
    fn every_name_is_written_and_read_as_its_text() {
        macro_rules! same {
            ($name:ty, $text:expr, $bad:expr) => {
                let (text, bad): (&str, &str) = (&$text, $bad);
                let name: $name = text.parse().unwrap();
                assert_eq!(name.to_string(), text);
                assert_eq!(<$name>::try_from(text), Ok(name.clone()));
                assert_eq!(<$name>::try_from(text.to_owned()), Ok(name.clone()));
                let json = serde_json::to_string(&name).unwrap();
                assert_eq!(json, format!("{text:?}"));
                assert_eq!(serde_json::from_str::<$name>(&json).unwrap(), name);
                assert_eq!(serde_json::from_value::<$name>(text.into()).unwrap(), name);
                let error = bad.parse::<$name>().unwrap_err();
                let json = serde_json::from_value::<$name>(bad.into()).unwrap_err();
                assert_eq!(json.to_string(), error.to_string());
                assert_eq!(HashMap::from([(name.clone(), 1)])[&name], 1);
                assert_eq!(BTreeMap::from([(name.clone(), 1)])[&name], 1);
            };
        }
        let digest = Digest::of(b"x").to_string();
        same!(Registry, "registry.example.com:5000", "a b");
        same!(RepositoryName, "team/app", "Team");
        same!(SourceRepository, "registry.example.com/team/app", "a.b");
        same!(Tag, "1.0", "-");
        same!(Reference, format!("a.b/app:1.0@{digest}"), "app");
        same!(Digest, digest, "md5:0");
        same!(Algorithm, "sha512", "md5");
    }

    #[test]
    fn a_name_is_looked_up_by_its_text() {
        let tag: Tag = "1.0".parse().unwrap();
        assert_eq!(HashMap::from([(tag.clone(), 1)]).get("1.0"), Some(&1));
        assert_eq!(BTreeMap::from([(tag.clone(), 1)]).get("1.0"), Some(&1));
        assert_eq!(
            (tag.as_ref(), String::from(tag.clone())),
            ("1.0", "1.0".to_owned())
        );
    }

    #[test]
    fn a_platform_is_read_from_its_text() {
        let platform: Platform = "linux/arm64/v8".parse().unwrap();
        assert_eq!(platform.to_string(), "linux/arm64/v8");
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm64/", "a/b/c/d"] {
            let error = Platform::try_from(bad).unwrap_err();
            let message = format!(
                "{bad:?} is not a platform: it is written OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT"
            );
            assert_eq!(error.to_string(), message);
            assert_eq!(Platform::parse(bad), None);
        }
    }
}
