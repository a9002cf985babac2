use std::fmt;

use async_trait::async_trait;
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use oci_content::{
    Capability, Descriptor, Digest, ErrorCode, MAX_MANIFEST_BYTES, Manifest, OtherSource, Registry,
    RepositoryName, SourceKind, Tag, WarningCode, media_type, referrers_tag,
};

use crate::manifests::{ManifestFailure, ManifestSource};
use crate::source::{Answer, Claim, Exchange, Problem, Query, ReferrerSource, Warning};

const ACCEPT: [&str; 5] = [
    media_type::IMAGE_INDEX,
    media_type::IMAGE_MANIFEST,
    media_type::ARTIFACT_MANIFEST,
    media_type::DOCKER_MANIFEST_LIST,
    media_type::DOCKER_MANIFEST,
];

/// Referrers and manifests of one repository, through an `oci_client::Client` that the embedding
/// service holds.
///
/// `oci-client` hides the status and headers of responses, so this source cannot keep all promises
/// of this crate. It works around some gaps and reports the others:
///
/// - `oci-client` reads one page and drops the link to the next. A list with entries is therefore
///   reported as partial (`page-failed`), unless the service states with
///   [`assume_single_page`](Self::assume_single_page) that its registry does not split lists into
///   pages.
/// - `oci-client` turns most errors on the referrers tag into an empty list. This source requests
///   the tag again, so that errors are seen, and uses the right tag for `sha512` subjects.
/// - `oci-client` does not tell whether the API or the tag answered. The kind of this source is
///   therefore `other:oci-client`, and the capability is `unknown`.
/// - Legacy tags are not searched.
#[derive(Clone)]
pub struct OciClientReferrers {
    client: Client,
    auth: RegistryAuth,
    registry: Registry,
    repository: RepositoryName,
    single_page: bool,
}

impl fmt::Debug for OciClientReferrers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "OciClientReferrers({}/{})",
            self.registry, self.repository
        )
    }
}

impl OciClientReferrers {
    /// Creates a source over one repository.
    pub fn new(
        client: Client,
        auth: RegistryAuth,
        registry: Registry,
        repository: RepositoryName,
    ) -> Self {
        Self {
            client,
            auth,
            registry,
            repository,
            single_page: false,
        }
    }

    /// States that the registry always sends the whole list in one page.
    #[must_use]
    pub fn assume_single_page(mut self) -> Self {
        self.single_page = true;
        self
    }

    fn name() -> SourceKind {
        SourceKind::Other(OtherSource::new("oci-client").expect("these letters make a name"))
    }

    fn by_digest(&self, digest: &Digest) -> Reference {
        let (registry, repository) = (self.registry.to_string(), self.repository.to_string());
        Reference::with_digest(registry, repository, digest.to_string())
    }

    fn by_tag(&self, tag: &Tag) -> Reference {
        Reference::with_tag(
            self.registry.to_string(),
            self.repository.to_string(),
            tag.to_string(),
        )
    }

    /// Reads the manifest under the referrers tag; `None` if there is no such tag.
    async fn tag_index(&self, tag: &Tag) -> Result<Option<Manifest>, Problem> {
        match self
            .client
            .pull_manifest_raw(&self.by_tag(tag), &self.auth, &ACCEPT)
            .await
        {
            Ok((raw, _)) => Manifest::parse(raw, None)
                .map(Some)
                .map_err(|error| Problem::new(ErrorCode::Malformed, format!("tag {tag}: {error}"))),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(problem(&error)),
        }
    }

    async fn take_tag(&self, subject: &Digest, answer: &mut Answer) {
        let tag = referrers_tag(subject);
        let index = match self.tag_index(&tag).await {
            Ok(Some(index)) => index,
            Ok(None) => return,
            Err(problem) => return answer.fail(problem),
        };
        if index.digest() == subject {
            let message = format!("tag {tag} resolves to the subject itself");
            answer
                .warnings
                .push(Warning::new(WarningCode::TagIsSubject, message));
        } else if index.media_type() == media_type::IMAGE_INDEX {
            let known: Vec<Digest> = answer
                .claims
                .iter()
                .map(|claim| claim.descriptor.digest.clone())
                .collect();
            let new = index
                .entries()
                .iter()
                .filter(|child| !known.contains(&child.digest));
            answer.claims.extend(new.cloned().map(Claim::new));
        } else {
            let message = format!("tag {tag} holds {}; it is ignored", index.media_type());
            answer
                .warnings
                .push(Warning::new(WarningCode::NotAnIndex, message));
        }
    }
}

#[async_trait]
impl ReferrerSource for OciClientReferrers {
    fn kind(&self) -> SourceKind {
        Self::name()
    }

    async fn referrers(&self, query: &Query) -> Answer {
        let subject = query.subject();
        self.client
            .store_auth_if_needed(self.registry.as_str(), &self.auth)
            .await;
        let mut answer = match self
            .client
            .pull_referrers(&self.by_digest(subject), None)
            .await
        {
            Ok(index) => {
                let mut answer = Answer::list([]);
                for entry in &index.manifests {
                    let json = serde_json::to_string(entry).unwrap_or_default();
                    match Descriptor::from_json(&json) {
                        Ok(descriptor) => answer.claims.push(Claim::new(descriptor)),
                        Err(error) => {
                            answer.fail(Problem::new(
                                ErrorCode::Malformed,
                                format!("an entry is {error}"),
                            ));
                        }
                    }
                }
                let said = format!("{} entries of the first page", index.manifests.len());
                let exchange = Exchange::new(Self::name(), "pull_referrers", said);
                answer.exchanges.push(exchange);
                answer
            }
            Err(error) => Answer::failed(problem(&error)),
        };
        answer.capability = Some(Capability::Unknown);
        if !answer.claims.is_empty() && !self.single_page {
            let message =
                "oci-client reads only the first page and does not say whether there are more";
            answer.fail(Problem::new(ErrorCode::PageFailed, message));
        }
        self.take_tag(subject, &mut answer).await;
        answer
    }
}

#[async_trait]
impl ManifestSource for OciClientReferrers {
    async fn manifest(&self, digest: &Digest) -> Result<Manifest, ManifestFailure> {
        let failed = |problem: Problem| ManifestFailure::Failed(problem.about(digest));
        match self
            .client
            .pull_manifest_raw(&self.by_digest(digest), &self.auth, &ACCEPT)
            .await
        {
            Ok((raw, _)) if raw.len() as u64 > MAX_MANIFEST_BYTES => {
                let message = format!("larger than the limit of {MAX_MANIFEST_BYTES} bytes");
                Err(failed(Problem::new(ErrorCode::Limit, message)))
            }
            Ok((raw, _)) => Manifest::parse_verified(raw, digest, None)
                .map_err(|error| failed(Problem::from(&error))),
            Err(error) if is_not_found(&error) => Err(ManifestFailure::NotFound),
            Err(error) => Err(failed(problem(&error))),
        }
    }
}

/// Returns whether the registry said that it has no such manifest.
fn is_not_found(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) => true,
        OciDistributionError::ServerError { code: 404, .. } => true,
        OciDistributionError::RegistryError { envelope, .. } => {
            envelope.errors.iter().any(|error| {
                matches!(
                    error.code,
                    OciErrorCode::ManifestUnknown | OciErrorCode::NotFound
                )
            })
        }
        _ => false,
    }
}

fn problem(error: &OciDistributionError) -> Problem {
    let code = match error {
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_) => ErrorCode::Denied,
        OciDistributionError::RegistryError { envelope, .. } => {
            let has = |wanted: fn(&OciErrorCode) -> bool| {
                envelope.errors.iter().any(|error| wanted(&error.code))
            };
            if has(|code| matches!(code, OciErrorCode::Toomanyrequests)) {
                ErrorCode::RateLimited
            } else if has(|code| matches!(code, OciErrorCode::Denied | OciErrorCode::Unauthorized))
            {
                ErrorCode::Denied
            } else {
                ErrorCode::ServerError
            }
        }
        OciDistributionError::ServerError { code: 429, .. } => ErrorCode::RateLimited,
        OciDistributionError::ServerError {
            code: 401 | 403, ..
        } => ErrorCode::Denied,
        OciDistributionError::ServerError { .. } => ErrorCode::ServerError,
        OciDistributionError::DigestError(_) => ErrorCode::Integrity,
        OciDistributionError::JsonError(_)
        | OciDistributionError::ManifestParsingError(_)
        | OciDistributionError::SpecViolationError(_)
        | OciDistributionError::VersionedParsingError(_) => ErrorCode::Malformed,
        _ => ErrorCode::Network,
    };
    Problem::new(code, error.to_string())
}
