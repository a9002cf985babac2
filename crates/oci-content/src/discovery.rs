//! The words in which a discovery speaks of itself: in JSON, in `manifest.yaml`, in log lines and in metrics.

use std::fmt;

use serde::{Deserialize, Serialize};

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

            /// Returns the word that stands in JSON, in `manifest.yaml` and in metrics.
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
    /// Whether a registry has the referrers API, as far as it said so.
    Capability {
        /// It answered with a referrers list.
        Supported = "supported",
        /// It answered in a way in which a registry that has the API may not.
        Unsupported = "unsupported",
        /// It gave no answer that settles the question.
        Unknown = "unknown",
    }
}

words! {
    /// How the referrers of one subject were found: a statement about the referrers API and the referrers tag.
    DiscoveryMethod {
        /// The API answered; the tag added nothing.
        Native = "native",
        /// The API answered, and the tag named something that the API did not list.
        NativeAndTag = "native+tag",
        /// No API; the referrers tag was asked, whether it exists or not.
        FallbackTag = "fallback-tag",
        /// No API and no referrers tag; something was found under legacy tags.
        LegacyTag = "legacy-tag",
    }
}

words! {
    /// Whether everything that should have been asked gave an answer.
    Completeness {
        /// Every source was read to its end.
        Complete = "complete",
        /// Something could not be settled; what is missing is named beside it.
        Incomplete = "incomplete",
    }
}

words! {
    /// A source that names referrers.
    SourceKind {
        /// The referrers API.
        ReferrersApi = "referrers-api",
        /// The referrers tag, `sha256-<hex>`.
        ReferrersTag = "referrers-tag",
        /// A tag with a suffix, `sha256-<hex>.sig`.
        LegacyTag = "legacy-tag",
    }
}

words! {
    /// Something that a discovery noticed and that does not make it incomplete.
    WarningCode {
        /// An artifact type in a list was not the manifest's own; the manifest's is used.
        ArtifactTypeCorrected = "artifact-type-corrected",
        /// The referrers API is blocked although the subject may be read.
        CapabilityBlocked = "capability-blocked",
        /// An index was given whose children were not asked for referrers.
        ChildrenNotWalked = "children-not-walked",
        /// A referrers list came under another content type than an index has.
        ContentType = "content-type",
        /// A list names a manifest that does not exist.
        DanglingReferrer = "dangling-referrer",
        /// A 200 whose body is no referrers list.
        False200 = "false-200",
        /// A filter was asked for and not applied by the registry; it was applied here.
        FilterNotApplied = "filter-not-applied",
        /// The referrers tag holds something else than an index.
        NotAnIndex = "not-an-index",
        /// A size in a list was not the manifest's own; the manifest's is used.
        SizeMismatch = "size-mismatch",
        /// The referrers tag names something that the API does not list.
        StaleTagIndex = "stale-tag-index",
        /// A list names a manifest that refers to something else.
        SubjectMismatch = "subject-mismatch",
        /// A tag that cannot exist is denied as well, so a denied tag counts as absent.
        TagDenied = "tag-denied",
        /// The referrers tag resolves to the subject itself.
        TagIsSubject = "tag-is-subject",
        /// Listing the repository's tags is denied.
        TagListDenied = "tag-list-denied",
        /// There are more tags than are read; unknown suffixes beyond the limit are not seen.
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
        /// A 5xx that outlasted all retries, or an answer that no rule covers.
        ServerError = "server-error",
        /// A tag listing broke half-way.
        TagListFailed = "tag-list-failed",
        /// The time for one image was over.
        Timeout = "timeout",
        /// A next page was named at another origin.
        UntrustedLink = "untrusted-link",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
