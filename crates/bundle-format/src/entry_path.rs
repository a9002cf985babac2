use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use oci_content::{Algorithm, Digest};

use crate::path_grammar::{self, clip, is_portable};
use crate::trust_name::TrustName;

/// The path of a file in a bundle.
///
/// There are seven forms and no others, so a path that exists is safe on every file system:
///
/// | path | what it holds |
/// |---|---|
/// | `manifest.yaml` | what the bundle claims to hold |
/// | `manifest.yaml.sigstore.json` | a signature over the exact bytes of `manifest.yaml` |
/// | `oci-layout` | the marker of an OCI image layout |
/// | `index.json` | the layout's index |
/// | `referrers/sha256-<subject>/sha256-<referrer>.json` | a referrer's manifest |
/// | `trust/<name>` | what a site verifies with: keys, roots |
/// | `blobs/sha256/<digest>` | any content, by its digest |
///
/// Paths are ordered as the files are in the archive: in the order of the table, then by name or
/// digest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(EntryKind);

/// What an [`EntryPath`] names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EntryKind {
    /// `manifest.yaml`.
    Manifest,
    /// `manifest.yaml.sigstore.json`.
    Signature,
    /// `oci-layout`.
    OciLayout,
    /// `index.json`.
    Index,
    /// A referrer's manifest, in the folder of its subject.
    #[non_exhaustive]
    Referrer {
        /// The manifest that is referred to.
        subject: Digest,
        /// The manifest that refers to it, and whose bytes the file holds.
        referrer: Digest,
    },
    /// A file that a site verifies with.
    Trust(TrustName),
    /// Content under its own digest.
    Blob(Digest),
}

/// A string or a digest that does not name a file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} does not name a file of a bundle: {reason}")]
pub struct EntryPathError {
    what: String,
    reason: &'static str,
}

const NOT_SHA256: &str = "version 1 of the bundle carries sha256 objects only";

impl EntryPath {
    /// The path of `manifest.yaml`.
    pub const MANIFEST: Self = Self(EntryKind::Manifest);
    /// The path of the signature over `manifest.yaml`.
    pub const SIGNATURE: Self = Self(EntryKind::Signature);
    /// The path of the layout marker.
    pub const OCI_LAYOUT: Self = Self(EntryKind::OciLayout);
    /// The path of the layout's index.
    pub const INDEX: Self = Self(EntryKind::Index);

    /// Names the copy of a referrer's manifest in the folder of its subject.
    ///
    /// # Errors
    ///
    /// When one of the two is not a sha256 digest.
    pub fn referrer(subject: &Digest, referrer: &Digest) -> Result<Self, EntryPathError> {
        Ok(Self(EntryKind::Referrer {
            subject: sha256(subject)?,
            referrer: sha256(referrer)?,
        }))
    }

    /// Names the content of `digest`.
    ///
    /// # Errors
    ///
    /// When it is not a sha256 digest.
    pub fn blob(digest: &Digest) -> Result<Self, EntryPathError> {
        Ok(Self(EntryKind::Blob(sha256(digest)?)))
    }

    /// Names a file below `trust/`.
    pub fn trust(name: TrustName) -> Self {
        Self(EntryKind::Trust(name))
    }

    /// Returns what the path names.
    pub fn kind(&self) -> &EntryKind {
        &self.0
    }

    /// Returns the digest that the path promises of the content, if it does.
    pub fn digest(&self) -> Option<&Digest> {
        match &self.0 {
            EntryKind::Referrer { referrer, .. } => Some(referrer),
            EntryKind::Blob(digest) => Some(digest),
            _ => None,
        }
    }

    /// Compares as the bytes of the two paths do: the order of `entries` in `manifest.yaml`.
    pub(crate) fn byte_order(&self, other: &Self) -> Ordering {
        let rank = |path: &Self| match path.0 {
            EntryKind::Blob(_) => 0,
            EntryKind::Index => 1,
            EntryKind::Manifest => 2,
            EntryKind::Signature => 3,
            EntryKind::OciLayout => 4,
            EntryKind::Referrer { .. } => 5,
            EntryKind::Trust(_) => 6,
        };
        rank(self).cmp(&rank(other)).then_with(|| self.cmp(other))
    }
}

fn sha256(digest: &Digest) -> Result<Digest, EntryPathError> {
    match digest.algorithm() {
        Algorithm::Sha256 => Ok(digest.clone()),
        _ => Err(EntryPathError {
            what: digest.to_string(),
            reason: NOT_SHA256,
        }),
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            EntryKind::Manifest => f.write_str(path_grammar::MANIFEST),
            EntryKind::Signature => f.write_str(path_grammar::SIGNATURE),
            EntryKind::OciLayout => f.write_str(path_grammar::OCI_LAYOUT),
            EntryKind::Index => f.write_str(path_grammar::INDEX),
            EntryKind::Referrer { subject, referrer } => {
                ReferrerPath::new(subject, referrer).fmt(f)
            }
            EntryKind::Trust(name) => write!(f, "trust/{name}"),
            EntryKind::Blob(digest) => write!(f, "blobs/sha256/{}", digest.encoded()),
        }
    }
}

/// The path of a referrer's manifest, in the folder of its subject, as text;
/// [`EntryPath::referrer`] is the path itself.
#[derive(Clone, Copy, Debug)]
pub struct ReferrerPath<'a> {
    subject: &'a Digest,
    referrer: &'a Digest,
}

impl<'a> ReferrerPath<'a> {
    /// Names the manifest of `referrer` in the folder of `subject`.
    pub fn new(subject: &'a Digest, referrer: &'a Digest) -> Self {
        Self { subject, referrer }
    }
}

impl fmt::Display for ReferrerPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, referrer) = (self.subject.encoded(), self.referrer.encoded());
        write!(f, "referrers/sha256-{subject}/sha256-{referrer}.json")
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryPath({self})")
    }
}

impl FromStr for EntryPath {
    type Err = EntryPathError;

    fn from_str(text: &str) -> Result<Self, EntryPathError> {
        let kind = match text {
            path_grammar::MANIFEST => EntryKind::Manifest,
            path_grammar::SIGNATURE => EntryKind::Signature,
            path_grammar::OCI_LAYOUT => EntryKind::OciLayout,
            path_grammar::INDEX => EntryKind::Index,
            _ => parse_named(text).ok_or_else(|| EntryPathError {
                what: format!("{:?}", clip(text)),
                reason: "docs/bundle-format.md lists the forms a path has",
            })?,
        };
        Ok(Self(kind))
    }
}

fn parse_named(text: &str) -> Option<EntryKind> {
    let digest = |hex: &str| format!("sha256:{hex}").parse::<Digest>().ok();
    if let Some(hex) = text.strip_prefix("blobs/sha256/") {
        return Some(EntryKind::Blob(digest(hex)?));
    }
    if let Some(name) = text.strip_prefix("trust/") {
        return Some(EntryKind::Trust(name.parse().ok()?));
    }
    let (subject, referrer) = text.strip_prefix("referrers/sha256-")?.split_once('/')?;
    let referrer = referrer.strip_prefix("sha256-")?.strip_suffix(".json")?;
    Some(EntryKind::Referrer {
        subject: digest(subject)?,
        referrer: digest(referrer)?,
    })
}

/// Returns whether a path that a bundle does not have would do no harm, wherever it is extracted.
pub(crate) fn is_harmless(path: &str) -> bool {
    // On a file system that folds case, a path that differs only in case is that file.
    is_portable(path) && path.to_ascii_lowercase().parse::<EntryPath>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_path_comes_back_and_nothing_else_parses() {
        let (subject, referrer) = (Digest::of(b"subject"), Digest::of(b"referrer"));
        for path in [
            EntryPath::MANIFEST,
            EntryPath::SIGNATURE,
            EntryPath::OCI_LAYOUT,
            EntryPath::INDEX,
            EntryPath::referrer(&subject, &referrer).unwrap(),
            EntryPath::trust("root.json".parse().unwrap()),
            EntryPath::blob(&subject).unwrap(),
        ] {
            assert_eq!(path.to_string().parse(), Ok(path));
        }
        let hex = subject.encoded();
        for text in [
            "".to_owned(),
            "./manifest.yaml".into(),
            "Manifest.yaml".into(),
            "manifest.yaml/".into(),
            "../manifest.yaml".into(),
            "blobs/sha256/../../etc/passwd".into(),
            format!("blobs/sha256/{}", hex.to_uppercase()),
            format!("blobs/sha256/{}", &hex[1..]),
            format!("blobs/sha256/{hex}/"),
            format!("blobs/sha512/{hex}{hex}"),
            format!("/blobs/sha256/{hex}"),
            format!("blobs//sha256/{hex}"),
            format!("referrers/sha256-{hex}"),
            format!("referrers/sha256-{hex}/sha256-{hex}"),
            format!("referrers/sha256-{hex}/sha256-{hex}.json/x"),
            format!("referrers/sha256-{hex}/sha512-{hex}{hex}.json"),
            format!("referrers/sha256-{hex}/../sha256-{hex}.json"),
            "trust".into(),
            "trust/".into(),
            "trust/a/b".into(),
            "trust/../a".into(),
            "trust/Key.pub".into(),
            "trust/con".into(),
        ] {
            assert!(text.parse::<EntryPath>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_sha512_digest_names_no_file() {
        let digest = Digest::compute(Algorithm::Sha512, b"x");
        let error = EntryPath::blob(&digest).unwrap_err().to_string();
        assert!(error.ends_with("version 1 of the bundle carries sha256 objects only"));
        assert!(EntryPath::referrer(&digest, &Digest::of(b"x")).is_err());
    }

    #[test]
    fn the_byte_order_is_the_order_of_the_bytes() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let paths = [
            EntryPath::MANIFEST,
            EntryPath::SIGNATURE,
            EntryPath::OCI_LAYOUT,
            EntryPath::INDEX,
            EntryPath::referrer(&a, &b).unwrap(),
            EntryPath::referrer(&b, &a).unwrap(),
            EntryPath::trust("a-".parse().unwrap()),
            EntryPath::trust("a.b".parse().unwrap()),
            EntryPath::blob(&a).unwrap(),
            EntryPath::blob(&b).unwrap(),
        ];
        for left in &paths {
            for right in &paths {
                let bytes = left.to_string().cmp(&right.to_string());
                assert_eq!(left.byte_order(right), bytes, "{left} {right}");
            }
        }
    }
}
