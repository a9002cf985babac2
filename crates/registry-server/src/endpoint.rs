/// An endpoint of the distribution API with the parts of its path.
///
/// The parts are unchecked text, because a malformed name and an unknown path have different
/// answers.
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#endpoints>
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `/v2/`: end-1.
    Ping,
    /// `/v2/_catalog`, the list of repositories. Not in the specification; distribution has it.
    Catalog,
    /// `/v2/<name>/blobs/<digest>`: end-2 and end-10.
    #[non_exhaustive]
    Blob {
        /// The name of the repository.
        repository: String,
        /// The digest of the blob.
        digest: String,
    },
    /// `/v2/<name>/blobs/uploads/`: end-4a, end-4b and end-11.
    #[non_exhaustive]
    Uploads {
        /// The name of the repository.
        repository: String,
    },
    /// `/v2/<name>/blobs/uploads/<reference>`: end-5, end-6 and end-13.
    #[non_exhaustive]
    Upload {
        /// The name of the repository.
        repository: String,
        /// The upload session.
        session: String,
    },
    /// `/v2/<name>/manifests/<reference>`: end-3, end-7 and end-9.
    #[non_exhaustive]
    Manifest {
        /// The name of the repository.
        repository: String,
        /// A tag or a digest.
        reference: String,
    },
    /// `/v2/<name>/tags/list`: end-8a and end-8b.
    #[non_exhaustive]
    Tags {
        /// The name of the repository.
        repository: String,
    },
    /// `/v2/<name>/referrers/<digest>`: end-12a and end-12b.
    #[non_exhaustive]
    Referrers {
        /// The name of the repository.
        repository: String,
        /// The digest of the subject.
        digest: String,
    },
}

impl Endpoint {
    /// Parses a path, percent-encoded or not. `None` if it is not the path of an endpoint.
    ///
    /// The name of a repository may contain `manifests`, `blobs` or `tags`, so the path is parsed
    /// from its end.
    pub fn of(path: &str) -> Option<Self> {
        let path = decode(path)?;
        let rest = path.strip_prefix("/v2")?;
        if rest.is_empty() || rest == "/" {
            return Some(Self::Ping);
        }
        let rest = rest.strip_prefix('/')?;
        if rest == "_catalog" {
            return Some(Self::Catalog);
        }
        let repository = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Some(Self::Tags {
                repository: repository(name)?,
            });
        }
        if let Some(name) = rest
            .strip_suffix("/blobs/uploads/")
            .or_else(|| rest.strip_suffix("/blobs/uploads"))
        {
            return Some(Self::Uploads {
                repository: repository(name)?,
            });
        }
        let (head, last) = rest.rsplit_once('/').filter(|(_, last)| !last.is_empty())?;
        let last = last.to_owned();
        if let Some(name) = head.strip_suffix("/blobs/uploads") {
            return Some(Self::Upload {
                repository: repository(name)?,
                session: last,
            });
        }
        let (name, kind) = head.rsplit_once('/')?;
        let repository = repository(name)?;
        match kind {
            "blobs" => Some(Self::Blob {
                repository,
                digest: last,
            }),
            "manifests" => Some(Self::Manifest {
                repository,
                reference: last,
            }),
            "referrers" => Some(Self::Referrers {
                repository,
                digest: last,
            }),
            _ => None,
        }
    }

    /// Returns the name of the repository in the path; `None` for [`Ping`](Self::Ping) and
    /// [`Catalog`](Self::Catalog).
    pub fn repository(&self) -> Option<&str> {
        match self {
            Self::Ping | Self::Catalog => None,
            Self::Blob { repository, .. }
            | Self::Uploads { repository }
            | Self::Upload { repository, .. }
            | Self::Manifest { repository, .. }
            | Self::Tags { repository }
            | Self::Referrers { repository, .. } => Some(repository),
        }
    }
}

/// Decodes percent-encoding, because some clients write the colon of a digest as `%3A`.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_from_its_end() {
        let own = str::to_owned;
        let manifest = |repository: &str, reference: &str| {
            Some(Endpoint::Manifest {
                repository: own(repository),
                reference: own(reference),
            })
        };
        let tags = |repository: &str| {
            Some(Endpoint::Tags {
                repository: own(repository),
            })
        };
        let blob = |repository: &str, digest: &str| {
            Some(Endpoint::Blob {
                repository: own(repository),
                digest: own(digest),
            })
        };
        for (path, endpoint) in [
            ("/v2/", Some(Endpoint::Ping)),
            ("/v2", Some(Endpoint::Ping)),
            ("/v2/_catalog", Some(Endpoint::Catalog)),
            ("/v2/_catalog/tags/list", tags("_catalog")),
            ("/v2/a/manifests/1.0", manifest("a", "1.0")),
            (
                "/v2/a/b/manifests/manifests/x",
                manifest("a/b/manifests", "x"),
            ),
            ("/v2/a/manifests/sha256%3Aab", manifest("a", "sha256:ab")),
            ("/v2/a/blobs/sha256:ab", blob("a", "sha256:ab")),
            (
                "/v2/a/tags/list",
                Some(Endpoint::Tags {
                    repository: own("a"),
                }),
            ),
            (
                "/v2/a/blobs/uploads/",
                Some(Endpoint::Uploads {
                    repository: own("a"),
                }),
            ),
            (
                "/v2/a/blobs/uploads",
                Some(Endpoint::Uploads {
                    repository: own("a"),
                }),
            ),
            (
                "/v2/a/blobs/uploads/7f",
                Some(Endpoint::Upload {
                    repository: own("a"),
                    session: own("7f"),
                }),
            ),
            (
                "/v2/a/referrers/sha256:ab",
                Some(Endpoint::Referrers {
                    repository: own("a"),
                    digest: own("sha256:ab"),
                }),
            ),
            ("/v2/manifests/x", None),
            ("/v2/a/manifests/", None),
            ("/v2/a/other/x", None),
            ("/v2/a/manifests/%zz", None),
            ("/v2/a/manifests/%f", None),
            ("/v3/", None),
            ("/", None),
        ] {
            assert_eq!(Endpoint::of(path), endpoint, "{path}");
        }
    }
}
