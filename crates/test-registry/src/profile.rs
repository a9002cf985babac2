use std::time::Duration;

use http::StatusCode;
use registry_server::ErrorCode;

use crate::behaviour::{
    Absent, ArtifactTypes, BadNumber, BadSubject, Deletes, Filter, Manifests, Native, Order, Pages,
    ReferrersApi, StrayLast, Subject, TagLink, TagListing, UnknownRepository, UnknownSubject,
};
use crate::persona::{Persona, Variant};
use crate::token::TokenStyle;

/// The behaviour of a persona, as data.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) auth: Auth,
    pub(crate) referrers: ReferrersApi,
    /// The behaviour towards lists of tags; `None` for that of the specification.
    pub(crate) tags: Option<TagListing>,
    pub(crate) manifests: Manifests,
    /// The headers of every answer.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// The answer of `/v2/`, if it is not `{}`.
    pub(crate) ping: Option<Absent>,
    pub(crate) read_only: bool,
    /// Whether `Location` has scheme and host, and for an upload a state that the client must send
    /// back.
    pub(crate) absolute_locations: bool,
    /// Whether entries of a referrers tag have the media type of the config and no annotations, as
    /// written by go-containerregistry before 2026.
    pub(crate) poor_tag_index: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Auth {
    None,
    Basic {
        realm: &'static str,
        /// Whether the error has a `status` instead of a `code`.
        without_code: bool,
    },
    Bearer {
        realm: &'static str,
        /// Whether the token service is on the second host.
        foreign: bool,
        style: TokenStyle,
        challenge: Challenge,
    },
}

/// The form of a bearer challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Specified,
    /// For a route that the registry does not have, the scope names an invented repository.
    Placeholder,
    /// A repository that does not exist is reported as insufficient scope.
    UnknownIsDenied,
}

const MINUTE: Duration = Duration::from_secs(60);

const TAGS: TagListing = TagListing {
    order: Order::Sorted,
    page: Some(100),
    most: Some(1000),
    link: TagLink::Relative,
    content_type: "application/json",
    bad_number: BadNumber::Ignored,
    stray_last: StrayLast::Placed,
    unknown_is_empty: false,
};

const NATIVE: Native = Native {
    content_type: "application/vnd.oci.image.index.v1+json",
    filter: Filter::Applied,
    pages: Pages::One,
    artifact_types: ArtifactTypes::Right,
    annotations: true,
    artifact_sizes: false,
    scrambled: false,
    merges_tag: false,
    unknown_subject: UnknownSubject::Empty,
    unknown_repository: UnknownRepository::Empty,
    bad_subject: BadSubject::Invalid,
    fails_on_missing: false,
    total_count: false,
    cache: None,
};

/// The default of the router of Go, which distribution answers for unknown paths.
const NO_ROUTE: Absent = Absent {
    status: StatusCode::NOT_FOUND,
    content_type: "text/plain; charset=utf-8",
    body: "404 page not found\n",
};

const MANIFEST_UNKNOWN: Absent = Absent {
    status: StatusCode::NOT_FOUND,
    content_type: "application/json",
    body: r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
};

const TOKEN: TokenStyle = TokenStyle {
    ttl: Duration::from_secs(300),
    token_only: false,
    refuses: false,
};

const fn bearer(realm: &'static str, ttl: Duration) -> Auth {
    Auth::Bearer {
        realm,
        foreign: false,
        style: TokenStyle { ttl, ..TOKEN },
        challenge: Challenge::Specified,
    }
}

const HUB_AUTH: Auth = Auth::Bearer {
    realm: "/token",
    foreign: true,
    style: TOKEN,
    challenge: Challenge::UnknownIsDenied,
};

impl Profile {
    pub(crate) fn of(persona: Persona, variant: Option<Variant>) -> Self {
        let plain = Self {
            auth: Auth::None,
            referrers: ReferrersApi::Specified,
            tags: Some(TAGS),
            manifests: Manifests::default(),
            headers: &[],
            ping: None,
            read_only: false,
            absolute_locations: false,
            poor_tag_index: false,
        };
        match persona {
            Persona::SpecFull => Self::spec_full(plain, variant),
            Persona::PagedBytes => Self {
                auth: Auth::Basic {
                    realm: "olareg",
                    without_code: false,
                },
                referrers: ReferrersApi::Native(Native {
                    filter: Filter::AdmittedOnce,
                    pages: Pages::Bytes,
                    bad_subject: BadSubject::Empty,
                    ..NATIVE
                }),
                tags: Some(TagListing {
                    page: None,
                    most: Some(usize::MAX),
                    link: TagLink::RelativeUnquoted,
                    unknown_is_empty: true,
                    ..TAGS
                }),
                manifests: Manifests {
                    unknown_names_hidden: true,
                    no_entity_tags: true,
                    deletes: Deletes::None,
                    ..plain.manifests
                },
                ..plain
            },
            Persona::Minimal => Self {
                referrers: ReferrersApi::Native(Native {
                    filter: Filter::Ignored,
                    artifact_types: ArtifactTypes::OfConfig,
                    annotations: false,
                    scrambled: true,
                    unknown_repository: UnknownRepository::NameUnknown,
                    bad_subject: BadSubject::Unsupported,
                    ..NATIVE
                }),
                tags: Some(TagListing {
                    page: None,
                    most: Some(usize::MAX),
                    link: TagLink::Never,
                    content_type: "text/plain; charset=utf-8",
                    bad_number: BadNumber::Refused("BAD_REQUEST"),
                    stray_last: StrayLast::StartsOver,
                    ..TAGS
                }),
                manifests: Manifests {
                    subject: Subject::NeverAcknowledged,
                    unchecked: true,
                    no_entity_tags: true,
                    ..plain.manifests
                },
                ..plain
            },
            Persona::Ecr => Self {
                auth: Auth::Basic {
                    realm: "https://ecr.amazonaws.com/",
                    without_code: false,
                },
                referrers: ReferrersApi::Native(Native {
                    pages: Pages::Opaque(50),
                    unknown_repository: UnknownRepository::NameUnknown,
                    ..NATIVE
                }),
                tags: Some(TagListing {
                    order: Order::Scrambled,
                    link: TagLink::AbsoluteOpaque,
                    content_type: "text/plain; charset=utf-8",
                    ..TAGS
                }),
                manifests: Manifests {
                    puts_per_second: Some(10),
                    artifacts_refused: variant == Some(Variant::EcrBeforeArtifacts),
                    ..plain.manifests
                },
                ..plain
            },
            Persona::HubNow => Self {
                auth: HUB_AUTH,
                manifests: Manifests {
                    pull_limit: Some(100),
                    ..plain.manifests
                },
                ..plain
            },
            Persona::HubLiar => Self {
                auth: HUB_AUTH,
                referrers: ReferrersApi::Absent(NO_ROUTE),
                manifests: Manifests {
                    subject: Subject::AlwaysAcknowledged,
                    subject_must_exist: Some(ErrorCode::ManifestUnknown),
                    pull_limit: Some(100),
                    ..plain.manifests
                },
                ..plain
            },
            Persona::Ghcr => Self::ghcr(plain, ReferrersApi::Absent(MANIFEST_UNKNOWN)),
            Persona::Ghcr303 => Self::ghcr(plain, ReferrersApi::ToPackagePage),
            Persona::Html200 => Self {
                auth: bearer("/v2/token", 60 * MINUTE),
                referrers: ReferrersApi::ToLoginPage,
                ..plain
            },
            Persona::Quay => Self {
                auth: Auth::Bearer {
                    realm: "/v2/auth",
                    foreign: false,
                    style: TokenStyle {
                        token_only: true,
                        refuses: variant == Some(Variant::QuayFirstPush),
                        ..TOKEN
                    },
                    challenge: Challenge::Specified,
                },
                referrers: ReferrersApi::Native(Native {
                    filter: Filter::AdmittedWhenEmpty,
                    artifact_types: ArtifactTypes::OwnOnly,
                    merges_tag: true,
                    unknown_subject: match variant {
                        Some(Variant::QuayBefore312) => UnknownSubject::ManifestUnknown,
                        _ => UnknownSubject::ManifestInvalid,
                    },
                    unknown_repository: UnknownRepository::NameUnknown,
                    cache: Some(Duration::ZERO),
                    ..NATIVE
                }),
                tags: Some(TagListing {
                    most: Some(100),
                    link: TagLink::Absolute,
                    ..TAGS
                }),
                manifests: Manifests {
                    subject: Subject::NeverAcknowledged,
                    ..plain.manifests
                },
                ..plain
            },
            Persona::Harbor27 => Self::harbor(plain, ReferrersApi::Forbidden),
            Persona::Harbor28 => Self::harbor(
                Self {
                    manifests: Manifests {
                        tags_immutable: variant == Some(Variant::HarborImmutable),
                        ..plain.manifests
                    },
                    ..plain
                },
                ReferrersApi::Native(Native {
                    content_type: "application/json; charset=utf-8",
                    artifact_types: ArtifactTypes::OfConfig,
                    artifact_sizes: true,
                    unknown_subject: UnknownSubject::EmptyObject,
                    unknown_repository: UnknownRepository::ProjectNotFound,
                    fails_on_missing: true,
                    total_count: true,
                    ..NATIVE
                }),
            ),
            Persona::Dist2 | Persona::Dist3 => Self::distribution(plain, persona),
            Persona::GitLab => Self {
                auth: Auth::Bearer {
                    realm: "/jwt/auth",
                    foreign: true,
                    style: TokenStyle {
                        token_only: true,
                        ..TOKEN
                    },
                    challenge: Challenge::Specified,
                },
                referrers: ReferrersApi::Absent(Absent {
                    body: r#"{"errors":[{"code":"NOT_FOUND","message":"resource not found"}]}"#,
                    ..MANIFEST_UNKNOWN
                }),
                manifests: Manifests {
                    digests_as_tags: true,
                    subject_must_exist: Some(ErrorCode::ManifestBlobUnknown),
                    config_types: Some(&[
                        "application/vnd.oci.image.config.v1+json",
                        "application/vnd.oci.empty.v1+json",
                        "application/vnd.docker.container.image.v1+json",
                        "application/vnd.cncf.helm.config.v1+json",
                    ]),
                    ..plain.manifests
                },
                ..plain
            },
            Persona::ArtifactoryOld => Self {
                auth: Auth::Basic {
                    realm: "Artifactory Realm",
                    without_code: true,
                },
                referrers: ReferrersApi::Absent(Absent {
                    status: StatusCode::NOT_ACCEPTABLE,
                    content_type: "application/json;charset=ISO-8859-1",
                    body: r#"{"errors":[{"status":406,"message":"Not Acceptable"}]}"#,
                }),
                tags: Some(TagListing {
                    link: TagLink::NumericElsewhere,
                    ..TAGS
                }),
                manifests: Manifests {
                    absent_tags_forbidden: true,
                    deletes: Deletes::ManifestsOnly,
                    ..plain.manifests
                },
                headers: &[("x-jfrog-version", "Artifactory/7.46.11 74611900")],
                ..plain
            },
            Persona::EdgeProxy => Self::edge_proxy(plain, variant),
        }
    }

    fn spec_full(plain: Self, variant: Option<Variant>) -> Self {
        let specified = Self {
            auth: bearer("/token", 60 * MINUTE),
            tags: None,
            manifests: Manifests {
                conditional_writes: true,
                tag_parameter: true,
                ..plain.manifests
            },
            ..plain
        };
        match variant {
            Some(Variant::Acr) => Self {
                referrers: ReferrersApi::Native(Native {
                    unknown_repository: UnknownRepository::NameUnknown,
                    ..NATIVE
                }),
                tags: Some(TagListing {
                    link: TagLink::RelativeOrdered,
                    ..TAGS
                }),
                headers: &[("server", "AzureContainerRegistry")],
                ..specified
            },
            Some(Variant::Zot) => Self {
                referrers: ReferrersApi::Native(Native {
                    bad_subject: BadSubject::InvalidEmpty,
                    fails_on_missing: true,
                    ..NATIVE
                }),
                tags: Some(TagListing {
                    page: None,
                    most: Some(usize::MAX),
                    stray_last: StrayLast::NotFound,
                    ..TAGS
                }),
                ..specified
            },
            _ => specified,
        }
    }

    fn ghcr(plain: Self, referrers: ReferrersApi) -> Self {
        Self {
            auth: Auth::Bearer {
                realm: "/token",
                foreign: false,
                style: TokenStyle {
                    refuses: true,
                    ..TOKEN
                },
                challenge: Challenge::Placeholder,
            },
            referrers,
            tags: Some(TagListing {
                order: Order::Scrambled,
                most: Some(10_000),
                ..TAGS
            }),
            headers: &[("x-github-request-id", "C0DE:0:0:0:0")],
            poor_tag_index: true,
            ..plain
        }
    }

    fn harbor(plain: Self, referrers: ReferrersApi) -> Self {
        Self {
            auth: bearer("/service/token", 30 * MINUTE),
            referrers,
            tags: Some(TagListing {
                page: None,
                most: Some(usize::MAX),
                ..TAGS
            }),
            headers: &[
                ("server", "nginx"),
                ("set-cookie", "sid=0; Path=/; HttpOnly"),
            ],
            ..plain
        }
    }

    fn distribution(plain: Self, persona: Persona) -> Self {
        let is_v2 = persona == Persona::Dist2;
        Self {
            auth: bearer("/token", 5 * MINUTE),
            referrers: ReferrersApi::Absent(NO_ROUTE),
            tags: Some(if is_v2 {
                TagListing {
                    order: Order::Scrambled,
                    page: None,
                    most: None,
                    link: TagLink::Never,
                    content_type: "application/json; charset=utf-8",
                    ..TAGS
                }
            } else {
                TagListing {
                    bad_number: BadNumber::Refused("PAGINATION_NUMBER_INVALID"),
                    ..TAGS
                }
            }),
            manifests: Manifests {
                needs_accept: is_v2,
                unknown_names_hidden: true,
                deletes: Deletes::None,
                ..plain.manifests
            },
            absolute_locations: true,
            ..plain
        }
    }

    fn edge_proxy(plain: Self, variant: Option<Variant>) -> Self {
        let json = |status, body| Absent {
            status,
            content_type: "application/json",
            body,
        };
        let html = |status, body| Absent {
            status,
            content_type: "text/html; charset=UTF-8",
            body,
        };
        let referrers = match variant {
            Some(Variant::EdgeForbidden) => ReferrersApi::Absent(html(
                StatusCode::FORBIDDEN,
                "<!doctype html><title>403</title>403 Forbidden",
            )),
            Some(Variant::EdgeFailedDependency) => ReferrersApi::Absent(json(
                StatusCode::FAILED_DEPENDENCY,
                r#"{"errors":[{"code":"UNKNOWN","message":"the upstream did not answer"}]}"#,
            )),
            Some(Variant::EdgeUpstreamNotFound) => ReferrersApi::Absent(MANIFEST_UNKNOWN),
            Some(Variant::EdgeCachedIndex) => ReferrersApi::Native(Native {
                cache: Some(Duration::from_secs(7 * 24 * 60 * 60)),
                ..NATIVE
            }),
            Some(Variant::EdgeUpstreamLink) => ReferrersApi::Native(Native {
                pages: Pages::Upstream(50),
                ..NATIVE
            }),
            _ => ReferrersApi::Absent(html(
                StatusCode::NOT_FOUND,
                "<!doctype html><title>404</title>404 Not Found",
            )),
        };
        Self {
            referrers,
            manifests: Manifests {
                redirected: true,
                ..plain.manifests
            },
            headers: &[("server", "Google Frontend")],
            ping: Some(Absent {
                status: StatusCode::OK,
                content_type: "text/html",
                body: "",
            }),
            read_only: true,
            ..plain
        }
    }
}
