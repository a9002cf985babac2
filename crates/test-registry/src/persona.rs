use std::fmt;
use std::str::FromStr;

/// A kind of registry, by the way it behaves towards a client that looks for referrers.
///
/// Each follows what was seen or reported of the registry that it is modelled on, at the time that is given; where
/// nothing was, it follows the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Persona {
    /// The specification to the letter: referrers API with a filter, sorted tags, bearer tokens.
    SpecFull,
    /// olareg 0.2: pages of so many bytes, an unquoted `rel=next`, a filter that only the first answer admits to; a
    /// descriptor larger than a page is missing.
    PagedBytes,
    /// The registry of go-containerregistry: no filter, no annotations, the config's type for every artifact type, no
    /// order; pushes are not checked.
    Minimal,
    /// Amazon ECR since 2024: pages of 50 with absolute links, archived referrers hidden, tags in no order.
    Ecr,
    /// Docker Hub since 2025: tokens from another host, for everything; limited pulls; old referrers in the tag only.
    HubNow,
    /// Docker Hub in March 2024, ECR in June 2024: acknowledges a subject and has no referrers API.
    HubLiar,
    /// GitHub's registry: no referrers API; the token service refuses what cannot be read.
    Ghcr,
    /// GitHub's registry from April to the middle of 2026: a redirect to another host in the API's place.
    Ghcr303,
    /// Google Artifact Registry in 2023 and 2024: a login page, with status 200, in the API's place.
    Html200,
    /// Quay since 3.12: lists the tag's entries too, refuses unknown subjects, acknowledges none.
    Quay,
    /// Harbor up to 2.7: 401 without a challenge in the API's place.
    Harbor27,
    /// Harbor 2.8 to 2.10: the API under another content type, with the config's type and the artifact's size.
    Harbor28,
    /// distribution 2.8: no referrers API, every tag in one page in no order, absolute locations.
    Dist2,
    /// distribution 3: no referrers API, sorted tags in pages.
    Dist3,
    /// GitLab: no referrers API; a digest's referrers tag is the digest's own manifest; a subject that is not there is a
    /// blob that is not there.
    GitLab,
    /// Artifactory before 7.90: 406 in the API's place, 403 for absent tags, a next link that leads nowhere.
    ArtifactoryOld,
    /// A proxy at the edge, such as the one before registry.k8s.io: read-only, manifests elsewhere, and it stops
    /// requests to the referrers API itself.
    EdgeProxy,
}

impl Persona {
    /// Every persona.
    pub const ALL: [Self; 17] = [
        Self::SpecFull,
        Self::PagedBytes,
        Self::Minimal,
        Self::Ecr,
        Self::HubNow,
        Self::HubLiar,
        Self::Ghcr,
        Self::Ghcr303,
        Self::Html200,
        Self::Quay,
        Self::Harbor27,
        Self::Harbor28,
        Self::Dist2,
        Self::Dist3,
        Self::GitLab,
        Self::ArtifactoryOld,
        Self::EdgeProxy,
    ];

    /// Returns the name, in kebab case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SpecFull => "spec-full",
            Self::PagedBytes => "paged-bytes",
            Self::Minimal => "minimal",
            Self::Ecr => "ecr",
            Self::HubNow => "hub-now",
            Self::HubLiar => "hub-liar",
            Self::Ghcr => "ghcr",
            Self::Ghcr303 => "ghcr-303",
            Self::Html200 => "html-200",
            Self::Quay => "quay",
            Self::Harbor27 => "harbor-27",
            Self::Harbor28 => "harbor-28",
            Self::Dist2 => "dist2",
            Self::Dist3 => "dist3",
            Self::GitLab => "gitlab",
            Self::ArtifactoryOld => "af-old",
            Self::EdgeProxy => "edge-proxy",
        }
    }
}

impl fmt::Display for Persona {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A name that no persona has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no persona")]
pub struct UnknownPersona(String);

impl FromStr for Persona {
    type Err = UnknownPersona;

    fn from_str(name: &str) -> Result<Self, UnknownPersona> {
        let found = Self::ALL
            .into_iter()
            .find(|persona| persona.as_str() == name);
        found.ok_or_else(|| UnknownPersona(name.to_owned()))
    }
}

/// Another way in which one of the personas has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Variant {
    /// [`SpecFull`](Persona::SpecFull) as Azure Container Registry: 404 for an unknown repository, at most 1000 tags a
    /// page.
    Acr,
    /// [`SpecFull`](Persona::SpecFull) as zot: 404 when `last` is no tag of the list any more, and for every subject
    /// of a repository in which one referrer's manifest is missing.
    Zot,
    /// [`Ecr`](Persona::Ecr) before it took manifests with a subject or an artifact type: 405.
    EcrBeforeArtifacts,
    /// [`Ghcr303`](Persona::Ghcr303), where the other host says 429.
    Ghcr303TooManyRequests,
    /// [`Ghcr303`](Persona::Ghcr303), where the other host sends a page with status 200.
    Ghcr303Html,
    /// [`Quay`](Persona::Quay) before July 2024: an unknown subject is 404.
    QuayBefore312,
    /// [`Quay`](Persona::Quay), whose token service gives no token that only reads what does not exist yet.
    QuayFirstPush,
    /// [`Harbor28`](Persona::Harbor28) with a rule that makes tags immutable: 412 for each that exists.
    HarborImmutable,
    /// [`EdgeProxy`](Persona::EdgeProxy) that says 403 where the API would be.
    EdgeForbidden,
    /// [`EdgeProxy`](Persona::EdgeProxy) as a cache rule of Azure Container Registry: 424.
    EdgeFailedDependency,
    /// [`EdgeProxy`](Persona::EdgeProxy) as a Harbor proxy cache: it passes the upstream's 404 on.
    EdgeUpstreamNotFound,
    /// [`EdgeProxy`](Persona::EdgeProxy) that answers for ever what it answered first.
    EdgeCachedIndex,
    /// [`EdgeProxy`](Persona::EdgeProxy) that leaves the upstream's absolute next link as it is.
    EdgeUpstreamLink,
}

impl Variant {
    /// Returns the persona that this is a variant of.
    pub fn persona(self) -> Persona {
        match self {
            Self::Acr | Self::Zot => Persona::SpecFull,
            Self::EcrBeforeArtifacts => Persona::Ecr,
            Self::Ghcr303TooManyRequests | Self::Ghcr303Html => Persona::Ghcr303,
            Self::QuayBefore312 | Self::QuayFirstPush => Persona::Quay,
            Self::HarborImmutable => Persona::Harbor28,
            Self::EdgeForbidden
            | Self::EdgeFailedDependency
            | Self::EdgeUpstreamNotFound
            | Self::EdgeCachedIndex
            | Self::EdgeUpstreamLink => Persona::EdgeProxy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persona_is_found_by_its_name() {
        for persona in Persona::ALL {
            assert_eq!(persona.to_string().parse(), Ok(persona));
        }
        let error = "nexus".parse::<Persona>().unwrap_err();
        assert_eq!(error.to_string(), "\"nexus\" is no persona");
    }
}
