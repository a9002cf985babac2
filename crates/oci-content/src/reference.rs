use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};
use crate::name::{ReferenceError, text_form};
use crate::registry::Registry;
use crate::repository_name::RepositoryName;
use crate::tag::Tag;

/// The name of a manifest: registry, repository, and a tag, a digest or both.
///
/// - The registry is always explicit; there is no default registry.
/// - Without a tag and a digest, the tag is `latest`, as for docker and crane.
/// - With both, the digest decides and the tag is only a name.
/// - An image from a layout folder that does not say its registry is named `oci/REPOSITORY`;
///   [`ImageSource`](crate::ImageSource) is what users write.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: Registry,
    repository: RepositoryName,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// Creates a reference to a tag.
    pub fn with_tag(registry: Registry, repository: RepositoryName, tag: Tag) -> Self {
        Self {
            registry,
            repository,
            tag: Some(tag),
            digest: None,
        }
    }

    /// Creates a reference to a digest.
    pub fn with_digest(registry: Registry, repository: RepositoryName, digest: Digest) -> Self {
        Self {
            registry,
            repository,
            tag: None,
            digest: Some(digest),
        }
    }

    /// Pins the reference to a digest; its tag becomes only a name.
    #[must_use]
    pub fn pinned_to(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Returns the registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns the repository's name.
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// Returns the tag; `None` only if there is a digest.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// Returns the digest, if the reference is pinned to one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reference({self})")
    }
}

text_form!(Reference);

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason: String| ReferenceError::new("reference", text, reason);
        if text.contains("://") {
            let mut error = fail("leave out the scheme".into());
            error.has_scheme = true;
            return Err(error);
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|e: DigestError| fail(e.to_string()))?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        let Some((registry, path)) = name
            .split_once('/')
            .filter(|(first, _)| names_registry(first))
        else {
            let example = if name.contains('/') {
                format!("docker.io/{name}")
            } else {
                format!("docker.io/library/{name}")
            };
            return Err(fail(format!(
                "it names no registry; for Docker Hub write {example}"
            )));
        };
        let registry: Registry = registry
            .parse()
            .map_err(|e: ReferenceError| fail(e.reason))?;
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path, None),
        };
        let part = |e: ReferenceError| fail(format!("{} {:?}: {}", e.what, e.text, e.reason));
        let repository: RepositoryName = match registry.as_str() {
            "docker.io" | "index.docker.io" if !path.contains('/') => {
                format!("library/{path}").parse()
            }
            _ => path.parse(),
        }
        .map_err(part)?;
        let tag = match tag {
            Some(tag) => Some(tag.parse().map_err(part)?),
            None if digest.is_some() => None,
            None => Some(Tag::latest()),
        };
        Ok(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }
}

/// Docker's rule without its last clause: the first part is a registry if it cannot be mistaken for
/// part of a repository name. For Docker an upper-case letter makes it a registry too, but
/// registries are stored in lower case here, so `App/x` would become `app/x`, which is a different
/// reference.
///
/// `oci` is [not a registry](Registry::layouts), and is read back from what was written.
fn names_registry(first: &str) -> bool {
    first.contains(['.', ':'])
        || first.eq_ignore_ascii_case("localhost")
        || first == Registry::layouts().as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_parse_into_their_parts() {
        let hex = "b".repeat(64);
        for (text, registry, repository, tag, digest, api_host) in [
            (
                "localhost:5000/app:1.0",
                "localhost:5000",
                "app",
                Some("1.0"),
                false,
                "localhost:5000",
            ),
            (
                "registry.example.com/a/b-c/d",
                "registry.example.com",
                "a/b-c/d",
                Some("latest"),
                false,
                "registry.example.com",
            ),
            (
                "docker.io/alpine:3.20",
                "docker.io",
                "library/alpine",
                Some("3.20"),
                false,
                "registry-1.docker.io",
            ),
            (
                "[::1]:5000/app:x",
                "[::1]:5000",
                "app",
                Some("x"),
                false,
                "[::1]:5000",
            ),
            (
                "GHCR.io/org/app@DIGEST",
                "ghcr.io",
                "org/app",
                None,
                true,
                "ghcr.io",
            ),
            (
                "LOCALHOST/app:1.0",
                "localhost",
                "app",
                Some("1.0"),
                false,
                "localhost",
            ),
            (
                "ghcr.io/org/app:v1@DIGEST",
                "ghcr.io",
                "org/app",
                Some("v1"),
                true,
                "ghcr.io",
            ),
        ] {
            let text = text.replace("DIGEST", &format!("sha256:{hex}"));
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.registry().as_str(), registry);
            assert_eq!(reference.registry().api_host(), api_host);
            assert_eq!(reference.repository().as_str(), repository);
            assert_eq!(reference.tag().map(Tag::as_str), tag);
            assert_eq!(reference.digest().is_some(), digest);
            assert_eq!(
                reference.to_string().parse::<Reference>().unwrap(),
                reference
            );
        }
    }

    #[test]
    fn what_does_not_parse_says_why_and_what_to_do() {
        for (text, message) in [
            (
                "alpine:3",
                "\"alpine:3\" is not a reference: it names no registry; for Docker Hub write docker.io/library/alpine:3",
            ),
            (
                "team/app",
                "\"team/app\" is not a reference: it names no registry; for Docker Hub write docker.io/team/app",
            ),
            (
                "Team/app",
                "\"Team/app\" is not a reference: it names no registry; for Docker Hub write docker.io/Team/app",
            ),
            (
                "127.1:5000/app",
                "\"127.1:5000/app\" is not a reference: a host that ends in a number must be an IPv4 address, a.b.c.d",
            ),
            (
                "https://a.b/c",
                "\"https://a.b/c\" is not a reference: leave out the scheme",
            ),
            (
                "a.b/App:1",
                "\"a.b/App:1\" is not a reference: repository name \"App\": upper-case letters are not allowed",
            ),
            (
                "a.b/app:",
                "\"a.b/app:\" is not a reference: tag \"\": it is empty",
            ),
            (
                "a.b:0/app",
                "\"a.b:0/app\" is not a reference: the port is not a number from 1 to 65535",
            ),
            (
                "a.b/app@sha256:xyz",
                "\"a.b/app@sha256:xyz\" is not a reference: \"sha256:xyz\" is not a digest: sha256 takes 64 lower-case hex characters",
            ),
        ] {
            let error = text.parse::<Reference>().unwrap_err();
            assert_eq!(error.to_string(), message);
            assert_eq!(error.has_scheme(), text == "https://a.b/c", "{text}");
        }
        for (text, shown) in [
            ("bob:hunter2@a.b/app", "\"***@a.b/app\""),
            ("https://bob:hunter2@a.b/app", "\"https://***@a.b/app\""),
            ("bob:hunter2@shared.test/App", "\"***@shared.test/App\""),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.starts_with(shown), "{error}");
        }
        let long_tag = format!("a.b/app:{}", "t".repeat(129));
        for text in [
            "a.b/../etc",
            "a.b/a//b",
            "a.b/a/",
            "user@a.b/app",
            "a.b:99999/app",
            "[::1/app",
            "a.b/app:.x",
            "",
            "a.b/a___b",
            "a.b/é",
            "-a.b/app",
            "127.0.0.01/app",
            "2130706433:5000/app",
            "registry.0x7F/app",
            "1.2.3.4.5/app",
            &long_tag,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
