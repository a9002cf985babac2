use oci_content::{Digest, Registry, RepositoryName, Tag};

/// A registry, and the prefix of every repository there.
pub(crate) type Target = (Registry, Option<RepositoryName>);

/// The name of an image or a repository as docker reads it, where Docker Hub and `library` may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImageName {
    pub(super) registry: Registry,
    pub(super) repository: RepositoryName,
    pub(super) tag: Option<Tag>,
    pub(super) digest: Option<Digest>,
}

/// The names under which Docker Hub is known.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

impl ImageName {
    /// Parses a name, or says why it cannot be one of ours.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix("docker://").unwrap_or(text);
        not_a_template(text)?;
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(format!("{scheme}:// is not a registry"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest = digest.parse::<Digest>().map_err(|e| e.to_string())?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => {
                let tag = tag.parse::<Tag>().map_err(|e| e.to_string())?;
                (name, Some(tag))
            }
            _ => (name, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if names_host(host) => (host, path),
            _ => ("docker.io", name),
        };
        let host = registry(host)?;
        let path = if host.as_str() == "docker.io" && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        Ok(Self {
            registry: host,
            repository: path.parse().map_err(display)?,
            tag,
            digest,
        })
    }

    /// Parses the name of a repository, which has neither tag nor digest.
    pub(super) fn parse_repository(text: &str) -> Result<Self, String> {
        let name = Self::parse(text)?;
        if name.tag.is_some() || name.digest.is_some() {
            return Err("a repository is named, and it has a tag or digest".into());
        }
        Ok(name)
    }

    /// Returns the name without tag and digest.
    pub(super) fn source(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Returns the name with tag and digest; `latest` if it has neither.
    pub(super) fn reference(&self) -> String {
        let mut text = self.source();
        match (&self.tag, &self.digest) {
            (Some(tag), _) => text.push_str(&format!(":{tag}")),
            (None, None) => text.push_str(":latest"),
            (None, Some(_)) => {}
        }
        if let Some(digest) = &self.digest {
            text.push_str(&format!("@{digest}"));
        }
        text
    }

    /// Returns the tag that an image without tag and digest has.
    pub(super) fn effective_tag(&self) -> Option<Tag> {
        match (&self.tag, &self.digest) {
            (None, None) => "latest".parse().ok(),
            (tag, _) => tag.clone(),
        }
    }
}

/// Parses the name of a registry; Docker Hub has one name here.
pub(super) fn registry(text: &str) -> Result<Registry, String> {
    not_a_template(text)?;
    if text.contains('@') {
        return Err("a login in a name is not supported".into());
    }
    let text = if DOCKER_HUB.contains(&text) {
        "docker.io"
    } else {
        text
    };
    text.parse().map_err(display)
}

/// Parses `REGISTRY[/PREFIX]`.
pub(crate) fn target(text: &str) -> Result<Target, String> {
    let text = text.strip_prefix("docker://").unwrap_or(text);
    not_a_template(text)?;
    let text = text.trim_end_matches('/');
    let (host, path) = match text.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (text, None),
    };
    let prefix = path.map(str::parse).transpose().map_err(display)?;
    Ok((registry(host)?, prefix))
}

/// Returns the prefix under which `source` is `target`; `None` if no prefix makes it that.
pub(super) fn prefix(source: &RepositoryName, target: &RepositoryName) -> Option<String> {
    let rest = target.as_str().strip_suffix(source.as_str())?;
    match rest.strip_suffix('/') {
        Some(prefix) => Some(prefix.to_owned()),
        None => rest.is_empty().then(String::new),
    }
}

/// Returns a name as it may be shown: a login in it is hidden.
pub(super) fn shown(name: &str) -> String {
    match name.rsplit_once('@') {
        Some((_, rest)) if !(rest.starts_with("sha256:") || rest.starts_with("sha512:")) => {
            format!("***@{rest}")
        }
        _ => name.to_owned(),
    }
}

fn names_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

/// Refuses text that a peer would fill in when it runs.
fn not_a_template(text: &str) -> Result<(), String> {
    if text.contains("{{") {
        return Err("it is a template, whose values only the peer knows".into());
    }
    Ok(())
}

fn display(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("grafana/grafana:10.1", "docker.io/grafana/grafana:10.1"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
            ("localhost/app:1", "localhost/app:1"),
            ("registry:5000/app", "registry:5000/app:latest"),
            ("docker://quay.io/team/app:v1", "quay.io/team/app:v1"),
        ] {
            let name = ImageName::parse(text).unwrap();
            assert_eq!(name.reference(), expected, "{text}");
            assert!(name.reference().parse::<oci_content::Reference>().is_ok());
        }
        for (text, reason) in [
            ("ocidir:///srv/layout", "ocidir://"),
            ("{{ env \"MIRROR\" }}/app", "template"),
            ("Registry.example/App", "App"),
            ("app@sha256:12", "sha256"),
        ] {
            let error = ImageName::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_prefix_is_what_goes_before_the_whole_repository() {
        let found =
            |source: &str, target: &str| prefix(&source.parse().unwrap(), &target.parse().unwrap());
        assert_eq!(found("team/app", "team/app").as_deref(), Some(""));
        assert_eq!(found("team/app", "m/x/team/app").as_deref(), Some("m/x"));
        assert_eq!(found("team/app", "myteam/app"), None);
        assert_eq!(found("library/alpine", "mirror/alpine"), None);
    }
}
