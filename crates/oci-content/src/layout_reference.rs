use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::digest::{Digest, DigestError};
use crate::name::{ReferenceError, names_digest, text_form};
use crate::reference::Reference;
use crate::registry::Registry;
use crate::repository_name::RepositoryName;
use crate::source_repository::SourceRepository;

/// The name of one image in an image layout folder, or of all its images:
/// `oci:FOLDER[:NAME][@DIGEST]`.
///
/// - `NAME` is the `ref.name` of an entry of `index.json`, or the tag of one that is a full
///   reference. Without a name and a digest, the whole folder is meant.
/// - With a name and a digest, the digest decides and the name is only a name.
/// - `FOLDER` ends at the last colon, as for oras: `oci:/a/b:c` is `c` in `/a/b`. What follows the
///   last colon is a name only if it has no slash, so `oci:/a:b/c` is the folder `/a:b/c`, and
///   `oci:/a/b:c/` is the folder `/a/b:c`.
/// - `NAME` may also be a full reference with a registry and a tag, as skopeo and imports of
///   several repositories write: `oci:/a/b:registry.example.com/team/app:1.0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayoutReference {
    folder: PathBuf,
    name: Option<Box<str>>,
    digest: Option<Digest>,
}

/// What a text begins with if it is a [`LayoutReference`].
pub(crate) const PREFIX: &str = "oci:";

/// The longest repository name that is made of a folder's name.
const MAX_NAME: usize = 128;

impl LayoutReference {
    /// Creates a reference to all images of a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            name: None,
            digest: None,
        }
    }

    /// Selects the image with this digest.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the name of the image in `index.json`; `None` if it is given by its digest, or if
    /// the whole folder is meant.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the digest, if the reference is pinned to one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns the repository of images whose names in the folder do not say one: `oci/NAME`.
    ///
    /// `NAME` is the last part of the folder's path in lower case, with a hyphen for everything
    /// that a [`RepositoryName`] cannot have.
    ///
    /// # Panics
    ///
    /// Never: the name is made of what is allowed.
    pub fn repository(&self) -> SourceRepository {
        let last = |path: &Path| Some(path.file_name()?.to_string_lossy().to_ascii_lowercase());
        // Only `.`, `..` and the root have no name of their own.
        let name = last(&self.folder).or_else(|| last(&self.folder.canonicalize().ok()?));
        let name = repository_name(&name.unwrap_or_default());
        let name: RepositoryName = name.parse().expect("it is made of what is allowed");
        SourceRepository::new(Registry::layouts(), name)
    }
}

/// Makes a repository name of any text.
fn repository_name(text: &str) -> String {
    let mut name = String::new();
    let mut separator = String::new();
    for c in text.chars() {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            let is_allowed =
                matches!(&*separator, "." | "_" | "__") || separator.chars().all(|c| c == '-');
            if !name.is_empty() {
                name.push_str(if is_allowed { &separator } else { "-" });
            }
            separator.clear();
            name.push(c);
        } else {
            separator.push(c);
        }
    }
    name.truncate(MAX_NAME);
    let end = name.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    if end.is_empty() {
        "folder".to_owned()
    } else {
        end.to_owned()
    }
}

impl fmt::Display for LayoutReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = self.folder.display().to_string();
        write!(f, "{PREFIX}{folder}")?;
        match &self.name {
            Some(name) => write!(f, ":{name}")?,
            None if last_part(&folder).contains(':') => f.write_str("/")?,
            None => {}
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

fn last_part(folder: &str) -> &str {
    folder.rsplit_once('/').map_or(folder, |(_, last)| last)
}

text_form!(LayoutReference);

impl FromStr for LayoutReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason: &str| Err(ReferenceError::new("reference", text, reason));
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return fail("it does not begin with oci:");
        };
        let (rest, digest) = match rest.rsplit_once('@') {
            Some((rest, digest)) if names_digest(digest) => {
                let digest = digest.parse().map_err(|error: DigestError| {
                    ReferenceError::new("reference", text, error.to_string())
                })?;
                (rest, Some(digest))
            }
            _ => (rest, None),
        };
        let by_tag = || {
            rest.rsplit_once(':')
                .filter(|(_, name)| !name.contains('/'))
        };
        let (folder, name) = match full_name(rest).or_else(by_tag) {
            Some((folder, name)) => (folder, Some(name)),
            None => (rest, None),
        };
        if folder.is_empty() {
            return fail("it names no folder");
        }
        if name.is_some_and(str::is_empty) {
            return fail("the tag after the colon is empty");
        }
        Ok(Self {
            folder: folder.into(),
            name: name.map(Into::into),
            digest,
        })
    }
}

/// Splits a folder from a full reference with an explicit tag.
fn full_name(text: &str) -> Option<(&str, &str)> {
    let mut colons = text.match_indices(':');
    colons.find_map(|(place, _)| {
        let (folder, name) = (&text[..place], &text[place + 1..]);
        let has_tag = last_part(name).contains(':');
        (has_tag && name.parse::<Reference>().is_ok()).then_some((folder, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> String {
        Digest::of(b"x").to_string()
    }

    #[test]
    fn references_into_folders_parse_into_their_parts_and_back() {
        for (text, folder, name, pinned) in [
            ("oci:folder", "folder", None, false),
            ("oci:folder:1.0", "folder", Some("1.0"), false),
            ("oci:folder@DIGEST", "folder", None, true),
            ("oci:folder:1.0@DIGEST", "folder", Some("1.0"), true),
            ("oci:/a/b:c", "/a/b", Some("c"), false),
            ("oci:/a:b/c", "/a:b/c", None, false),
            ("oci:/a:b/c:1.0", "/a:b/c", Some("1.0"), false),
            ("oci:/a/b:c/", "/a/b:c/", None, false),
            ("oci:/a/b:c/@DIGEST", "/a/b:c/", None, true),
            ("oci:/a/b:c:1.0", "/a/b:c", Some("1.0"), false),
            ("oci:.", ".", None, false),
            ("oci:/home/me@work/l", "/home/me@work/l", None, false),
            ("oci:me@share:1.0", "me@share", Some("1.0"), false),
            ("oci:folder:1.0+build", "folder", Some("1.0+build"), false),
            ("oci:a b:1.0", "a b", Some("1.0"), false),
            (
                "oci:l:localhost:5000/app:1.0",
                "l",
                Some("localhost:5000/app:1.0"),
                false,
            ),
            (
                "oci:/a/l:a.b/app:1.0@DIGEST",
                "/a/l",
                Some("a.b/app:1.0"),
                true,
            ),
        ] {
            let text = text.replace("DIGEST", &digest());
            let parsed: LayoutReference = text.parse().unwrap();
            assert_eq!(parsed.folder(), Path::new(folder), "{text}");
            assert_eq!(parsed.name(), name, "{text}");
            assert_eq!(parsed.digest().is_some(), pinned, "{text}");
            assert_eq!(parsed.to_string(), text);
        }
        // A folder that was not parsed is written so that it can be.
        for folder in ["/a/b:c", "a:b", "x@sha256:0"] {
            let made = LayoutReference::new(folder);
            let parsed: LayoutReference = made.to_string().parse().unwrap();
            let trimmed = parsed.folder().components().collect::<PathBuf>();
            assert_eq!((trimmed.as_path(), parsed.name()), (made.folder(), None));
        }
    }

    #[test]
    fn what_does_not_parse_says_why() {
        for (text, reason) in [
            ("oci:", "it names no folder"),
            ("oci::1.0", "it names no folder"),
            ("oci:folder:", "the tag after the colon is empty"),
            ("a.b/app", "it does not begin with oci:"),
            (
                "oci:folder@sha256:0",
                "\"sha256:0\" is not a digest: sha256 takes 64 lower-case hex characters",
            ),
        ] {
            let error = text.parse::<LayoutReference>().unwrap_err();
            let message = format!("{text:?} is not a reference: {reason}");
            assert_eq!(error.to_string(), message);
        }
        assert!("oci:folder@sha1:0".parse::<LayoutReference>().is_err());
    }

    #[test]
    fn a_folder_without_names_is_a_repository_of_its_own() {
        for (folder, repository) in [
            ("/srv/mirror", "oci/mirror"),
            ("mirror/", "oci/mirror"),
            ("My Images (2)", "oci/my-images-2"),
            ("a..b", "oci/a-b"),
            ("a__b--c.d", "oci/a__b--c.d"),
            ("-._x_._", "oci/x"),
            ("Übung", "oci/bung"),
            ("日本", "oci/folder"),
            ("/", "oci/folder"),
        ] {
            let named = LayoutReference::new(folder).repository();
            assert_eq!(named.to_string(), repository, "{folder}");
            assert_eq!(repository.parse::<SourceRepository>().unwrap(), named);
            let image = format!("{repository}:1.0");
            assert_eq!(image.parse::<Reference>().unwrap().to_string(), image);
        }
        let here = std::env::current_dir().unwrap();
        let of = |folder: &Path| LayoutReference::new(folder).repository();
        assert_eq!(of(Path::new(".")), of(&here));
        let long = of(Path::new(&format!(
            "{}-{}",
            "a".repeat(127),
            "b".repeat(99)
        )));
        assert_eq!(long.name().as_str(), "a".repeat(127));
    }
}
