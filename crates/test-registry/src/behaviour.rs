//! The behaviour of a registry, as data.

use std::time::Duration;

use http::StatusCode;
use registry_server::ErrorCode;

/// The behaviour of a persona towards manifests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manifests {
    pub(crate) subject: Subject,
    /// Whether `If-Match` and `If-None-Match` are obeyed on a push.
    pub(crate) conditional_writes: bool,
    /// Whether `ETag` is not sent.
    pub(crate) no_entity_tags: bool,
    /// Whether `?tag=` is obeyed on a push.
    pub(crate) tag_parameter: bool,
    /// Whether an unknown repository is reported as an unknown manifest.
    pub(crate) unknown_names_hidden: bool,
    /// Whether an OCI index is hidden from clients that do not accept it by name.
    pub(crate) needs_accept: bool,
    /// Whether a referrers tag that does not exist returns the manifest with the digest that it
    /// names.
    pub(crate) digests_as_tags: bool,
    /// Whether a tag that does not exist is 403.
    pub(crate) absent_tags_forbidden: bool,
    /// The code of the refusal of a manifest whose subject is missing, if it must be there.
    pub(crate) subject_must_exist: Option<ErrorCode>,
    /// Whether an existing tag cannot be pushed again: 412, whatever the conditions of the request.
    pub(crate) tags_immutable: bool,
    /// The only config types that a pushed manifest may have.
    pub(crate) config_types: Option<&'static [&'static str]>,
    /// Whether a manifest with a subject or an artifact type is 405.
    pub(crate) artifacts_refused: bool,
    /// Whether neither digests nor the content that a manifest needs are checked on a push.
    pub(crate) unchecked: bool,
    pub(crate) deletes: Deletes,
    /// The pushed manifests per second; more are 429.
    pub(crate) puts_per_second: Option<u32>,
    /// The manifests that may be pulled; more are 429.
    pub(crate) pull_limit: Option<u64>,
    /// Whether manifests and blobs are on another host.
    pub(crate) redirected: bool,
}

/// Whether the subject of a pushed manifest is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Subject {
    /// If there is a referrers API.
    #[default]
    Honest,
    AlwaysAcknowledged,
    NeverAcknowledged,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Deletes {
    #[default]
    All,
    ManifestsOnly,
    None,
}

/// The answer of a persona to requests for the referrers API.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReferrersApi {
    /// Follows the specification.
    Specified,
    /// There is no API; this is the answer instead.
    Absent(Absent),
    /// 401 without a challenge, whatever the credentials.
    Forbidden,
    /// 303 to the page of a package on another host, before any credentials are asked for.
    ToPackagePage,
    /// 302 to a login page on another host.
    ToLoginPage,
    /// There is an API with its own behaviour.
    Native(Native),
}

/// An answer that says nothing about referrers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Absent {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Native {
    pub(crate) content_type: &'static str,
    pub(crate) filter: Filter,
    pub(crate) pages: Pages,
    pub(crate) artifact_types: ArtifactTypes,
    pub(crate) annotations: bool,
    /// Whether the size of a descriptor is that of the whole artifact.
    pub(crate) artifact_sizes: bool,
    /// A fixed order that clients cannot guess.
    pub(crate) scrambled: bool,
    /// Whether entries of the referrers tag are listed too, whatever their subject.
    pub(crate) merges_tag: bool,
    pub(crate) unknown_subject: UnknownSubject,
    pub(crate) unknown_repository: UnknownRepository,
    pub(crate) bad_subject: BadSubject,
    /// Whether one missing manifest makes the whole answer 404.
    pub(crate) fails_on_missing: bool,
    /// Whether `X-Total-Count` is sent, counted before the filter.
    pub(crate) total_count: bool,
    /// How long an answer is cached, unless the test sets a time.
    pub(crate) cache: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    Applied,
    /// Applied, and acknowledged only if the list was not in the cache.
    AdmittedOnce,
    /// Acknowledged even if the parameter is empty.
    AdmittedWhenEmpty,
    Ignored,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Pages {
    One,
    /// Limited by bytes, addressed by the digest of the whole list.
    Bytes,
    /// This many entries, with absolute links and a token for the position.
    Opaque(usize),
    /// This many entries, with links to the upstream host.
    Upstream(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ArtifactTypes {
    Right,
    /// The media type of the config, always.
    OfConfig,
    /// Only what the manifest says in `artifactType`.
    OwnOnly,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum UnknownSubject {
    Empty,
    /// 200 and `{}`.
    EmptyObject,
    /// 400 `MANIFEST_INVALID`.
    ManifestInvalid,
    /// 404 `MANIFEST_UNKNOWN`.
    ManifestUnknown,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum UnknownRepository {
    Empty,
    NameUnknown,
    /// 404 with a code that only Harbor has.
    ProjectNotFound,
}

/// The answer to a subject that is not a digest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BadSubject {
    /// 400 `DIGEST_INVALID`.
    Invalid,
    /// 400 without a body.
    InvalidEmpty,
    /// 400 `UNSUPPORTED`.
    Unsupported,
    /// An empty list.
    Empty,
}

impl ReferrersApi {
    /// Returns whether a client can rely on the API alone.
    pub(crate) fn is_there(&self) -> bool {
        matches!(self, Self::Specified | Self::Native(_))
    }

    /// Returns whether it answers before credentials are checked.
    pub(crate) fn precedes_auth(&self) -> bool {
        matches!(self, Self::Forbidden | Self::ToPackagePage)
    }
}

/// The behaviour of a persona towards lists of tags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TagListing {
    pub(crate) order: Order,
    /// The entries on a page if the client does not ask for a number; `None` for all.
    pub(crate) page: Option<usize>,
    /// The maximum entries on a page; `None` if `n` is ignored.
    pub(crate) most: Option<usize>,
    pub(crate) link: TagLink,
    pub(crate) content_type: &'static str,
    pub(crate) bad_number: BadNumber,
    pub(crate) stray_last: StrayLast,
    /// Whether an unknown repository has an empty list instead of a 404.
    pub(crate) unknown_is_empty: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Sorted,
    /// A fixed order that clients cannot guess.
    Scrambled,
}

/// The link to the next page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TagLink {
    Never,
    /// `</v2/...?last=<tag>&n=<n>>; rel="next"`.
    Relative,
    /// The same, followed by `orderby=`.
    RelativeOrdered,
    /// The same with `rel=next`, without quotes.
    RelativeUnquoted,
    /// The same with scheme and host.
    Absolute,
    /// The same with a token instead of the tag.
    AbsoluteOpaque,
    /// `last` is a number, and the path lacks the first part of the repository.
    NumericElsewhere,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum BadNumber {
    Ignored,
    /// 400 with this code.
    Refused(&'static str),
}

/// The answer to a `last` that is not a tag in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StrayLast {
    /// The list continues after the position that it would have.
    Placed,
    /// 404 without a body.
    NotFound,
    /// The list starts again from its beginning.
    StartsOver,
}
