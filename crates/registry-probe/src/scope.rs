use oci_content::{Digest, Registry, RepositoryName};
use registry_client::{CredentialSource, Credentials};

/// The user who asks, as far as answers may depend on it. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CredentialScope(String);

impl CredentialScope {
    /// Returns the user who asks; `None` if that cannot be known.
    pub(crate) async fn of(
        credentials: Option<&dyn CredentialSource>,
        registry: &Registry,
        repository: Option<&RepositoryName>,
    ) -> Option<Self> {
        let credentials = match credentials {
            Some(source) => source.credentials(registry, repository).await.ok()?,
            None => None,
        };
        Some(Self(match credentials {
            None | Some(Credentials::Anonymous) => "anonymous".to_owned(),
            // From a digest in the file, a password could be guessed, so only the name is used.
            Some(Credentials::Basic { username, .. }) => format!("user:{username}"),
            Some(Credentials::IdentityToken(token)) => format!("identity:{}", short(&token)),
            Some(Credentials::Bearer(token)) => format!("bearer:{}", short(&token)),
            Some(_) => return None,
        }))
    }

    pub(crate) fn from_stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Tokens are long and random, so a part of their digest tells them apart and reveals nothing.
fn short(token: &str) -> String {
    Digest::of(token.as_bytes()).encoded()[..16].to_owned()
}
