use std::fmt;
use std::str::FromStr;

use crate::layout_reference::{LayoutReference, PREFIX};
use crate::name::{ReferenceError, text_form};
use crate::reference::Reference;
use crate::registry::Registry;

/// Where an image is read from: a registry, or an image layout folder.
///
/// A leading `docker://` is dropped. What begins with `oci:` is in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a caller that skipped an unknown kind of source would lose images"
)]
pub enum ImageSource {
    /// An image of a registry.
    Registry(Reference),
    /// An image of a folder, or all of its images.
    Layout(LayoutReference),
}

impl ImageSource {
    /// Returns the registry; `None` for a folder.
    pub fn registry(&self) -> Option<&Registry> {
        match self {
            Self::Registry(reference) => Some(reference.registry()),
            Self::Layout(_) => None,
        }
    }
}

impl From<Reference> for ImageSource {
    fn from(reference: Reference) -> Self {
        Self::Registry(reference)
    }
}

impl From<LayoutReference> for ImageSource {
    fn from(reference: LayoutReference) -> Self {
        Self::Layout(reference)
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout(reference) => reference.fmt(f),
        }
    }
}

text_form!(ImageSource);

impl FromStr for ImageSource {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.starts_with(PREFIX) {
            return text.parse().map(Self::Layout);
        }
        let reference: Reference = text.strip_prefix("docker://").unwrap_or(text).parse()?;
        if reference.registry().is_layouts() {
            let reason = "oci/ is how images from folders are named; to read one, write \
                          oci:FOLDER[:TAG]";
            return Err(ReferenceError::new("reference", text, reason));
        }
        Ok(Self::Registry(reference))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_registry_or_a_folder() {
        for (text, same) in [
            ("a.b/app:1.0", "a.b/app:1.0"),
            ("docker://a.b/app", "a.b/app:latest"),
            ("oci:/a/b:1.0", "oci:/a/b:1.0"),
            ("oci:5000/app:1.0", "oci:5000/app:1.0"),
        ] {
            let source: ImageSource = text.parse().unwrap();
            assert_eq!(source.to_string(), same);
            let is_folder = matches!(source, ImageSource::Layout(_));
            assert_eq!(is_folder, text.starts_with("oci:"));
            assert_eq!(same.parse::<ImageSource>().unwrap(), source);
        }
    }

    #[test]
    fn what_is_neither_says_what_to_write() {
        for (text, message) in [
            (
                "docker://alpine:3",
                "\"alpine:3\" is not a reference: it names no registry; for Docker Hub write docker.io/library/alpine:3",
            ),
            (
                "oci/app:1.0",
                "\"oci/app:1.0\" is not a reference: oci/ is how images from folders are named; to read one, write oci:FOLDER[:TAG]",
            ),
            ("oci:", "\"oci:\" is not a reference: it names no folder"),
        ] {
            let error = text.parse::<ImageSource>().unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        let error = "https://a.b/app".parse::<ImageSource>().unwrap_err();
        assert!(error.has_scheme());
    }
}
