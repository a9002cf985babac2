//! The vocabulary of a discovery, as used in JSON, `manifest.yaml`, log lines and metrics.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the word that is used in JSON, `manifest.yaml` and metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Finds a value by its word.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// Whether a registry has the referrers API, as far as its answers show.
    Capability {
        /// It answered with a list of referrers.
        Supported = "supported",
        /// Its answer is one that a registry with the API must not give.
        Unsupported = "unsupported",
        /// No answer settled the question.
        Unknown = "unknown",
    }
}

words! {
    /// How the referrers of one subject were found.
    DiscoveryMethod {
        /// The API answered; the tag added nothing.
        Native = "native",
        /// The API answered, and the tag named something that the API did not list.
        NativeAndTag = "native+tag",
        /// No API; the referrers tag was looked up, whether it exists or not.
        FallbackTag = "fallback-tag",
        /// No API and no referrers tag; something was found under legacy tags.
        LegacyTag = "legacy-tag",
        /// Only sources of the program that embeds the discovery answered.
        Other = "other",
    }
}

words! {
    /// Whether every lookup succeeded.
    Completeness {
        /// Every source was read to its end.
        Complete = "complete",
        /// Some lookups failed; they are listed with the result.
        Incomplete = "incomplete",
    }
}

/// A source that names referrers.
///
/// Ordered by declaration; sources of other programs come last, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SourceKind {
    /// The referrers API: `referrers-api`.
    ReferrersApi,
    /// The referrers tag, `sha256-<hex>`: `referrers-tag`.
    ReferrersTag,
    /// A tag with a suffix, `sha256-<hex>.sig`: `legacy-tag`.
    LegacyTag,
    /// A manifest that was read for another reason and turned out to have a subject, such as an
    /// attestation in an index: `manifest`.
    Manifest,
    /// A source of the program that embeds the discovery: `other:NAME`.
    Other(OtherSource),
}

/// The name of a source that another program provides: 1 to 24 characters of `a-z`, `0-9`, `.`, `_`
/// and `-`, the first a letter or digit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OtherSource {
    /// `other:` and the name, padded with zeros so that they sort like their texts.
    word: [u8; OTHER.len() + Self::MAX_BYTES],
    length: u8,
}

const OTHER: &str = "other:";

impl OtherSource {
    const MAX_BYTES: usize = 24;

    /// Parses a name without `other:`; `None` if it is not valid.
    pub fn new(name: &str) -> Option<Self> {
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = name.as_bytes();
        let valid = bytes.len() <= Self::MAX_BYTES
            && bytes.first().is_some_and(|b| letter(*b))
            && bytes.iter().all(|b| letter(*b) || b"._-".contains(b));
        if !valid {
            return None;
        }
        let length = OTHER.len() + bytes.len();
        let mut word = [0; OTHER.len() + Self::MAX_BYTES];
        word[..OTHER.len()].copy_from_slice(OTHER.as_bytes());
        word[OTHER.len()..length].copy_from_slice(bytes);
        Some(Self {
            word,
            length: u8::try_from(length).ok()?,
        })
    }

    /// Returns the name, without `other:`.
    pub fn name(&self) -> &str {
        self.word().strip_prefix(OTHER).unwrap_or_default()
    }

    fn word(&self) -> &str {
        // It consists of ASCII.
        std::str::from_utf8(&self.word[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Debug for OtherSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OtherSource({:?})", self.name())
    }
}

impl SourceKind {
    /// Every value except [`Other`](Self::Other), in the order of declaration.
    pub const ALL: &'static [Self] = &[
        Self::ReferrersApi,
        Self::ReferrersTag,
        Self::LegacyTag,
        Self::Manifest,
    ];

    /// Returns the word that is used in JSON, `manifest.yaml` and metrics.
    pub fn as_str(&self) -> &str {
        match self {
            Self::ReferrersApi => "referrers-api",
            Self::ReferrersTag => "referrers-tag",
            Self::LegacyTag => "legacy-tag",
            Self::Manifest => "manifest",
            Self::Other(other) => other.word(),
        }
    }

    /// Finds a value by its word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word.strip_prefix(OTHER) {
            Some(name) => OtherSource::new(name).map(Self::Other),
            None => Self::ALL
                .iter()
                .copied()
                .find(|value| value.as_str() == word),
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for SourceKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for SourceKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::from_word(&word).ok_or_else(|| D::Error::custom("not a source of referrers"))
    }
}

words! {
    /// Something that a discovery noticed but that does not make it incomplete.
    WarningCode {
        /// The artifact type in a list differs from the manifest's, which is used.
        ArtifactTypeCorrected = "artifact-type-corrected",
        /// The referrers API is blocked although the subject may be read.
        CapabilityBlocked = "capability-blocked",
        /// The subject is an index and its children were not searched for referrers.
        ChildrenNotWalked = "children-not-walked",
        /// A referrers list has a content type other than that of an index.
        ContentType = "content-type",
        /// A list names a manifest that does not exist.
        DanglingReferrer = "dangling-referrer",
        /// A 200 whose body is not a referrers list.
        False200 = "false-200",
        /// The registry did not apply the requested filter; it was applied here.
        FilterNotApplied = "filter-not-applied",
        /// The referrers tag does not hold an index.
        NotAnIndex = "not-an-index",
        /// The size in a list differs from the manifest's, which is used.
        SizeMismatch = "size-mismatch",
        /// The referrers tag names something that the API does not list.
        StaleTagIndex = "stale-tag-index",
        /// A referrer gives a wrong size or media type for its subject.
        SubjectDescriptorMismatch = "subject-descriptor-mismatch",
        /// A list names a manifest with another subject.
        SubjectMismatch = "subject-mismatch",
        /// A tag that cannot exist is denied too, so a denied tag counts as absent.
        TagDenied = "tag-denied",
        /// The referrers tag resolves to the subject itself.
        TagIsSubject = "tag-is-subject",
        /// Listing the repository's tags is denied.
        TagListDenied = "tag-list-denied",
        /// There are more tags than the limit; unknown suffixes beyond it are missed.
        TagScanLimited = "tag-scan-limited",
    }
}

words! {
    /// Why a discovery is incomplete.
    ErrorCode {
        /// A 401 or 403 where an answer was needed.
        Denied = "denied",
        /// Bytes do not hash to the digest that was asked for.
        Integrity = "integrity",
        /// A documented limit was reached.
        Limit = "limit",
        /// A list or a manifest is malformed.
        Malformed = "malformed",
        /// The registry could not be reached, or the connection broke.
        Network = "network",
        /// A page of the referrers list after the first could not be read.
        PageFailed = "page-failed",
        /// A 429 that outlasted all retries.
        RateLimited = "rate-limited",
        /// A 5xx that outlasted all retries, or an answer that nothing else covers.
        ServerError = "server-error",
        /// A tag listing failed part-way.
        TagListFailed = "tag-list-failed",
        /// The time limit for one image was reached.
        Timeout = "timeout",
        /// The link to the next page leads to another origin.
        UntrustedLink = "untrusted-link",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_of_another_program_has_its_name_behind_a_word_and_comes_last() {
        let longest = format!("other:{}", "a".repeat(24));
        for word in ["other:a", "other:0.b_c-d", "other:manifest", &longest] {
            let source = SourceKind::from_word(word).unwrap();
            assert_eq!(source.as_str(), word);
            assert_eq!(source.to_string(), word);
            let json = serde_json::to_string(&source).unwrap();
            assert_eq!(json, format!("\"{word}\""));
            assert_eq!(serde_json::from_str::<SourceKind>(&json).unwrap(), source);
            assert!(source > SourceKind::Manifest);
        }
        let sources = ["other:a", "other:a-b", "other:ab", "other:b"];
        let sources = sources.map(|word| SourceKind::from_word(word).unwrap());
        assert!(sources.is_sorted());
        let too_long = format!("{longest}a");
        for word in [
            "other",
            "other:",
            "other:-a",
            "other:A",
            "other:a b",
            "other:a:b",
            &too_long,
        ] {
            assert_eq!(SourceKind::from_word(word), None, "{word}");
        }
        for source in SourceKind::ALL {
            assert_eq!(SourceKind::from_word(source.as_str()), Some(*source));
        }
    }

    #[test]
    fn every_word_leads_back_to_its_value_and_is_the_word_in_json() {
        for method in DiscoveryMethod::ALL {
            assert_eq!(DiscoveryMethod::from_word(method.as_str()), Some(*method));
            assert_eq!(
                serde_json::to_string(method).unwrap(),
                format!("\"{method}\"")
            );
        }
        assert_eq!(
            ErrorCode::from_word("rate-limited"),
            Some(ErrorCode::RateLimited)
        );
        assert_eq!(Capability::from_word("Supported"), None);
    }
}
