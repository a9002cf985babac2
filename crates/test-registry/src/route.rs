use std::fmt;

use http::header;
use http::request::Parts;
use registry_server::Endpoint;
use url::form_urlencoded;

/// One of the two hosts of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Own,
    Foreign,
}

/// Facts about a request that are not in the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) host: Host,
    /// Whether it is a request to the token service.
    pub(crate) is_token: bool,
    /// Whether it has neither credentials nor a token that was issued for credentials.
    pub(crate) is_anonymous: bool,
}

/// Selects the requests that a fault happens to.
#[derive(Clone, Debug)]
pub struct Route {
    kind: Kind,
    method: Option<String>,
    repository: Option<String>,
    reference: Option<String>,
    fragment: Option<String>,
    n_above: Option<u64>,
    anonymous: bool,
    ranged: bool,
    elsewhere: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Any,
    Ping,
    Referrers,
    Manifests,
    Tags,
    Blobs,
    Uploads,
    Token,
    PathPrefix(String),
}

impl Route {
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            method: None,
            repository: None,
            reference: None,
            fragment: None,
            n_above: None,
            anonymous: false,
            ranged: false,
            elsewhere: false,
        }
    }

    /// Selects every request to the first host of the registry.
    pub fn any() -> Self {
        Self::of(Kind::Any)
    }

    /// Selects requests to `/v2/`.
    pub fn ping() -> Self {
        Self::of(Kind::Ping)
    }

    /// Selects requests to the referrers API.
    pub fn referrers() -> Self {
        Self::of(Kind::Referrers)
    }

    /// Selects requests for manifests, by tag and by digest.
    pub fn manifests() -> Self {
        Self::of(Kind::Manifests)
    }

    /// Selects requests for lists of tags.
    pub fn tags() -> Self {
        Self::of(Kind::Tags)
    }

    /// Selects requests for blobs, without uploads.
    pub fn blobs() -> Self {
        Self::of(Kind::Blobs)
    }

    /// Selects requests of blob uploads: their start and their sessions.
    pub fn uploads() -> Self {
        Self::of(Kind::Uploads)
    }

    /// Selects requests to the token service, on either host.
    pub fn token() -> Self {
        Self::of(Kind::Token)
    }

    /// Selects requests whose path has this prefix, on either host.
    pub fn path_prefix(prefix: impl Into<String>) -> Self {
        Self::of(Kind::PathPrefix(prefix.into()))
    }

    /// Restricts the route to requests with this method.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// Restricts the route to requests for this repository.
    #[must_use]
    pub fn repository(mut self, repository: impl Into<String>) -> Self {
        self.repository = Some(repository.into());
        self
    }

    /// Restricts the route to requests for this tag, digest or upload session: the last part of the
    /// path.
    #[must_use]
    pub fn reference(mut self, reference: impl ToString) -> Self {
        self.reference = Some(reference.to_string());
        self
    }

    /// Restricts the route to requests whose path and query, joined by `?`, contain this text.
    #[must_use]
    pub fn containing(mut self, text: impl Into<String>) -> Self {
        self.fragment = Some(text.into());
        self
    }

    /// Restricts the route to requests whose `n` asks for more entries than this. With 0, any `n`
    /// matches.
    #[must_use]
    pub fn n_above(mut self, entries: u64) -> Self {
        self.n_above = Some(entries);
        self
    }

    /// Restricts the route to anonymous requests: with neither a name and password nor a token that
    /// was issued for them.
    ///
    /// With [`Fault::error`](crate::Fault::error) forever, a registry hides content from anonymous
    /// users without a challenge. With [`Fault::omit`](crate::Fault::omit) and
    /// [`Fault::without_auth`](crate::Fault::without_auth), it shows them a shorter list.
    #[must_use]
    pub fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    /// Restricts the route to requests for a range.
    #[must_use]
    pub fn ranged(mut self) -> Self {
        self.ranged = true;
        self
    }

    /// Restricts the route to requests to the [second host](crate::TestRegistry::foreign_host).
    /// Otherwise only [`token`](Self::token) and [`path_prefix`](Self::path_prefix) match there.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }

    pub(crate) fn matches(&self, parts: &Parts, asked: Asked) -> bool {
        let on_both = matches!(self.kind, Kind::Token | Kind::PathPrefix(_));
        let place = match asked.host {
            Host::Own => !self.elsewhere,
            Host::Foreign => self.elsewhere || on_both,
        };
        let who = asked.is_anonymous || !self.anonymous;
        let what = parts.headers.contains_key(header::RANGE) || !self.ranged;
        place && who && what && self.matches_request(parts, asked.is_token)
    }

    fn matches_request(&self, parts: &Parts, is_token: bool) -> bool {
        let path = parts.uri.path();
        let endpoint = Endpoint::of(path);
        let kind = match &self.kind {
            Kind::Any => true,
            Kind::Token => is_token,
            Kind::PathPrefix(prefix) => path.starts_with(prefix.as_str()),
            kind => endpoint.as_ref().and_then(kind_of).as_ref() == Some(kind),
        };
        let method = self.method.as_deref();
        let repository = self.repository.as_deref();
        let asked = || endpoint.as_ref().and_then(Endpoint::repository);
        let reference = self.reference.as_deref();
        let fragment = self.fragment.as_deref();
        let whole = || {
            parts
                .uri
                .path_and_query()
                .map_or("", |whole| whole.as_str())
        };
        let asked_n = || {
            let query = parts.uri.query().unwrap_or_default().as_bytes();
            let mut fields = form_urlencoded::parse(query);
            fields.find_map(|(name, value)| (name == "n").then(|| value.parse::<u64>().ok())?)
        };
        kind && method.is_none_or(|method| parts.method.as_str().eq_ignore_ascii_case(method))
            && repository.is_none_or(|wanted| asked() == Some(wanted))
            && reference
                .is_none_or(|wanted| path.replace("%3A", ":").rsplit('/').next() == Some(wanted))
            && fragment.is_none_or(|wanted| whole().contains(wanted))
            && self
                .n_above
                .is_none_or(|most| asked_n().is_some_and(|asked| asked > most))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        let parts = [
            ("method", &self.method),
            ("repository", &self.repository),
            ("reference", &self.reference),
            ("containing", &self.fragment),
        ];
        for (name, part) in parts {
            if let Some(part) = part {
                write!(f, " {name} {part:?}")?;
            }
        }
        if let Some(entries) = self.n_above {
            write!(f, " n above {entries}")?;
        }
        f.write_str(if self.anonymous { " anonymous" } else { "" })?;
        f.write_str(if self.ranged { " ranged" } else { "" })?;
        f.write_str(if self.elsewhere { " elsewhere" } else { "" })
    }
}

fn kind_of(endpoint: &Endpoint) -> Option<Kind> {
    Some(match endpoint {
        Endpoint::Ping => Kind::Ping,
        Endpoint::Referrers { .. } => Kind::Referrers,
        Endpoint::Manifest { .. } => Kind::Manifests,
        Endpoint::Tags { .. } => Kind::Tags,
        Endpoint::Blob { .. } => Kind::Blobs,
        Endpoint::Uploads { .. } | Endpoint::Upload { .. } => Kind::Uploads,
        _ => return None,
    })
}
