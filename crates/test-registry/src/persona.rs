use std::fmt;
use std::str::FromStr;

/// Defines the enum, the list and the names from one line for each persona.
macro_rules! personas {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A kind of registry, defined by its behaviour towards a client that looks for referrers.
        ///
        /// Each follows what was observed or reported of the registry that it is modelled on, at
        /// the given time. Where nothing is known, it follows the specification.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Persona {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Persona {
            /// Every persona.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Returns the name, in kebab case.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

personas! {
    /// The specification to the letter: referrers API with a filter, sorted tags, bearer tokens.
    SpecFull = "spec-full",
    /// olareg 0.2: pages limited by bytes, an unquoted `rel=next`, a filter that only the first
    /// answer acknowledges; a descriptor larger than a page is missing.
    PagedBytes = "paged-bytes",
    /// The registry of go-containerregistry: no filter, no annotations, the media type of the
    /// config as every artifact type, no order; pushes are not checked.
    Minimal = "minimal",
    /// Amazon ECR since 2024: pages of 50 with absolute links, archived referrers hidden, tags in
    /// no order.
    Ecr = "ecr",
    /// Docker Hub since 2025: tokens from another host, for everything; limited pulls; old
    /// referrers in the tag only.
    HubNow = "hub-now",
    /// Docker Hub in March 2024, ECR in June 2024: acknowledges a subject and has no referrers API.
    HubLiar = "hub-liar",
    /// GitHub's registry: no referrers API; the token service refuses repositories that cannot be
    /// read.
    Ghcr = "ghcr",
    /// GitHub's registry from April to the middle of 2026: a redirect to another host instead of
    /// the API.
    Ghcr303 = "ghcr-303",
    /// Google Artifact Registry in 2023 and 2024: a login page with status 200 instead of
    /// the API.
    Html200 = "html-200",
    /// Quay since 3.12: also lists the entries of the referrers tag, refuses unknown subjects,
    /// acknowledges no subject.
    Quay = "quay",
    /// Harbor up to 2.7: 401 without a challenge instead of the API.
    Harbor27 = "harbor-27",
    /// Harbor 2.8 to 2.10: the API with another content type, with the media type of the config and
    /// the size of the artifact.
    Harbor28 = "harbor-28",
    /// distribution 2.8: no referrers API, every tag in one page in no order, absolute locations.
    Dist2 = "dist2",
    /// distribution 3: no referrers API, sorted tags in pages.
    Dist3 = "dist3",
    /// GitLab: no referrers API; the referrers tag of a digest returns the manifest with that
    /// digest; a missing subject is reported as a missing blob.
    GitLab = "gitlab",
    /// Artifactory before 7.90: 406 instead of the API, 403 for absent tags, a next link that leads
    /// nowhere.
    ArtifactoryOld = "af-old",
    /// A proxy at the edge, such as the one of registry.k8s.io: read-only, manifests on another
    /// host; it answers requests to the referrers API itself.
    EdgeProxy = "edge-proxy",
}

impl fmt::Display for Persona {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The error of parsing a name that no persona has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a persona")]
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

/// A variation of a persona that has been observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Variant {
    /// [`SpecFull`](Persona::SpecFull) as Azure Container Registry: 404 for an unknown repository,
    /// at most 1000 tags a page.
    Acr,
    /// [`SpecFull`](Persona::SpecFull) as zot: 404 when `last` is no longer a tag, and for every
    /// subject of a repository in which the manifest of a referrer is missing.
    Zot,
    /// [`Ecr`](Persona::Ecr) before it accepted manifests with a subject or an artifact type: 405.
    EcrBeforeArtifacts,
    /// [`Ghcr303`](Persona::Ghcr303), where the other host says 429.
    Ghcr303TooManyRequests,
    /// [`Ghcr303`](Persona::Ghcr303), where the other host sends a page with status 200.
    Ghcr303Html,
    /// [`Quay`](Persona::Quay) before July 2024: an unknown subject is 404.
    QuayBefore312,
    /// [`Quay`](Persona::Quay), whose token service issues no read-only token for a repository that
    /// does not exist yet.
    QuayFirstPush,
    /// [`Harbor28`](Persona::Harbor28) with a rule that makes tags immutable: 412 for each that
    /// exists.
    HarborImmutable,
    /// [`EdgeProxy`](Persona::EdgeProxy) that answers 403 instead of the API.
    EdgeForbidden,
    /// [`EdgeProxy`](Persona::EdgeProxy) as a cache rule of Azure Container Registry: 424.
    EdgeFailedDependency,
    /// [`EdgeProxy`](Persona::EdgeProxy) as a Harbor proxy cache, which passes on the 404 of the
    /// upstream.
    EdgeUpstreamNotFound,
    /// [`EdgeProxy`](Persona::EdgeProxy) that repeats its first answer forever.
    EdgeCachedIndex,
    /// [`EdgeProxy`](Persona::EdgeProxy) that passes on the absolute next link of the upstream.
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
        assert_eq!(error.to_string(), "\"nexus\" is not a persona");
    }
}
