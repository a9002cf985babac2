use oci_content::{Digest, Registry, RepositoryName};
use registry_client::{CredentialSource, Credentials};

/// Who asks, as far as an answer may differ by it. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CredentialScope(String);

impl CredentialScope {
    /// Returns who asks; `None` when that cannot be known.
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
            // A digest of a password could be guessed from the file, so the name has to do.
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

/// Tokens are long and random: a part of their digest tells two apart and gives nothing away.
fn short(token: &str) -> String {
    Digest::of(token.as_bytes()).encoded()[..16].to_owned()
}
