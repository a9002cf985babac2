use std::fmt;

use async_trait::async_trait;
use oci_content::{Registry, RepositoryName};

/// The credentials for a registry. `Debug` does not show secrets.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// No credentials: only public content can be read.
    Anonymous,
    /// A user and a password, or what is used as one.
    #[non_exhaustive]
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// A refresh token for the registry's token service, `identitytoken` in Docker's file.
    IdentityToken(String),
    /// A bearer token that the registry takes as it is, `registrytoken` in Docker's file.
    Bearer(String),
}

impl Credentials {
    /// Creates the credentials of a user with a password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Basic {
            username: username.into(),
            password: password.into(),
        }
    }

    /// Returns whether they are empty: no user and no password, or an empty token.
    pub(crate) fn are_empty(&self) -> bool {
        match self {
            Self::Anonymous => true,
            Self::Basic { username, password } => username.is_empty() && password.is_empty(),
            Self::IdentityToken(token) | Self::Bearer(token) => token.is_empty(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { username, .. } => f
                .debug_struct("Basic")
                .field("username", username)
                .finish_non_exhaustive(),
            Self::IdentityToken(_) => f.write_str("IdentityToken(..)"),
            Self::Bearer(_) => f.write_str("Bearer(..)"),
        }
    }
}

/// A source of credentials.
///
/// # Contract
/// - It is asked before the first request to a repository, again when credentials were refused or
///   have expired, and after a minute if there were none.
/// - `Ok(None)` means that there are none for exactly this host and port; those of another host are
///   never returned. An empty user with an empty password, and an empty token, count as none.
/// - An answer is only ever sent to the registry itself and to the token service that it names.
#[async_trait]
pub trait CredentialSource: fmt::Debug + Send + Sync {
    /// Returns the credentials for a repository, or for the registry as a whole.
    ///
    /// # Errors
    /// When it is unknown whether there are any, for example because a file cannot be read.
    async fn credentials(
        &self,
        registry: &Registry,
        repository: Option<&RepositoryName>,
    ) -> Result<Option<Credentials>, CredentialError>;
}

/// A failure to obtain credentials. The text names the file or the helper and contains no secret.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct CredentialError {
    text: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl CredentialError {
    /// Creates an error with `text`, a lower-case fragment that names what failed.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            source: None,
        }
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }
}
