//! What a registry does, as data.

use std::time::Duration;

use http::StatusCode;
use registry_server::ErrorCode;

/// How a persona takes, keeps and gives manifests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manifests {
    pub(crate) subject: Subject,
    /// `If-Match` and `If-None-Match` are obeyed on a push.
    pub(crate) conditional_writes: bool,
    /// `ETag` is not sent.
    pub(crate) no_entity_tags: bool,
    /// `?tag=` is obeyed on a push.
    pub(crate) tag_parameter: bool,
    /// What is unknown in an unknown repository is a manifest.
    pub(crate) unknown_names_hidden: bool,
    /// An OCI index is unknown to a client that does not accept it by name.
    pub(crate) needs_accept: bool,
    /// A referrers tag that does not exist is the manifest with the digest that it names.
    pub(crate) digests_as_tags: bool,
    /// A tag that does not exist is 403.
    pub(crate) absent_tags_forbidden: bool,
    /// A pushed manifest's subject must be there; this is the code of the refusal.
    pub(crate) subject_must_exist: Option<ErrorCode>,
    /// A tag that exists cannot be pushed again: 412, whatever the request's conditions.
    pub(crate) tags_immutable: bool,
    /// The only config types that a pushed manifest may have.
    pub(crate) config_types: Option<&'static [&'static str]>,
    /// A manifest with a subject or an artifact type is 405.
    pub(crate) artifacts_refused: bool,
    /// Neither digests nor the content that a manifest names are checked on a push.
    pub(crate) unchecked: bool,
    pub(crate) deletes: Deletes,
    /// Pushed manifests in a second; more are 429.
    pub(crate) puts_per_second: Option<u32>,
    /// Manifests that may be pulled; more are 429.
    pub(crate) pull_limit: Option<u64>,
    /// Manifests and blobs are at another host.
    pub(crate) redirected: bool,
}

/// Whether a pushed manifest's subject is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Where there is a referrers API.
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

/// How a persona answers where the referrers API would be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReferrersApi {
    /// As the specification has it.
    Specified,
    /// There is none; this is what stands in its place.
    Absent(Absent),
    /// 401 without a challenge, whatever the credentials.
    Forbidden,
    /// 303 to the page of a package on another host, before any credentials are asked for.
    ToPackagePage,
    /// 302 to a login page on another host.
    ToLoginPage,
    /// There is one, with ways of its own.
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
    /// A descriptor's size is that of the whole artifact.
    pub(crate) artifact_sizes: bool,
    /// The same order every time, and no order that a client could guess.
    pub(crate) scrambled: bool,
    /// What the referrers tag lists is listed as well, whatever its subject.
    pub(crate) merges_tag: bool,
    pub(crate) unknown_subject: UnknownSubject,
    pub(crate) unknown_repository: UnknownRepository,
    pub(crate) bad_subject: BadSubject,
    /// One manifest that is gone makes the whole answer 404.
    pub(crate) fails_on_missing: bool,
    /// `X-Total-Count`, counted before the filter.
    pub(crate) total_count: bool,
    /// For how long an answer is given again, unless the test says otherwise.
    pub(crate) cache: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    Applied,
    /// Applied, and admitted to only when the list was not in the cache.
    AdmittedOnce,
    /// Admitted to even when the parameter is empty.
    AdmittedWhenEmpty,
    Ignored,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Pages {
    One,
    /// By bytes, under the digest of the list that is being walked.
    Bytes,
    /// So many entries, absolute links, a token for a place.
    Opaque(usize),
    /// So many entries, and links to the upstream's host.
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
    /// 404 with a code of Harbor's own.
    ProjectNotFound,
}

/// What a subject is that is no digest.
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
    /// Returns whether a client can rely on it alone.
    pub(crate) fn is_there(&self) -> bool {
        matches!(self, Self::Specified | Self::Native(_))
    }

    /// Returns whether it answers before anybody looks at credentials.
    pub(crate) fn precedes_auth(&self) -> bool {
        matches!(self, Self::Forbidden | Self::ToPackagePage)
    }
}

/// How a persona lists tags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TagListing {
    pub(crate) order: Order,
    /// Entries on a page when the client does not ask for a number; `None` for all of them.
    pub(crate) page: Option<usize>,
    /// The most entries on a page, whatever is asked; `None` where `n` is not looked at.
    pub(crate) most: Option<usize>,
    pub(crate) link: TagLink,
    pub(crate) content_type: &'static str,
    pub(crate) bad_number: BadNumber,
    pub(crate) stray_last: StrayLast,
    /// An unknown repository has an empty list, instead of none.
    pub(crate) unknown_is_empty: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Sorted,
    /// The same order every time, and no order that a client could guess.
    Scrambled,
}

/// What leads to the next page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TagLink {
    Never,
    /// `</v2/...?last=<tag>&n=<n>>; rel="next"`.
    Relative,
    /// The same with `orderby=` behind it.
    RelativeOrdered,
    /// The same with `rel=next`, without quotes.
    RelativeUnquoted,
    /// The same with scheme and host.
    Absolute,
    /// The same with a token for a tag.
    AbsoluteOpaque,
    /// `last` is a number, and the path lacks the repository's first part.
    NumericElsewhere,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum BadNumber {
    Ignored,
    /// 400 with this code.
    Refused(&'static str),
}

/// What happens to a `last` that is no tag of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StrayLast {
    /// The list goes on behind the place where it would be.
    Placed,
    /// 404 without a body.
    NotFound,
    /// Behind the end of the list, the list begins again.
    StartsOver,
}
