use std::fmt;

use async_trait::async_trait;
use oci_content::{Registry, RepositoryName};

/// What proves to a registry who asks. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// Nobody: what may be read by everyone.
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

    /// Returns whether they say nothing about who asks: no user and no password, or an empty token.
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

/// Where credentials come from.
///
/// # Contract
/// - Asked before the first request to a repository, again when credentials were refused or have expired, and
///   where there were none, after a minute.
/// - `Ok(None)` means that there are none for exactly this host and port; another host's are never given. An empty
///   user with an empty password, and an empty token, are as good as none.
/// - An answer is sent to no other place than the registry itself and the token service it names.
#[async_trait]
pub trait CredentialSource: fmt::Debug + Send + Sync {
    /// Returns the credentials for a repository, or for the registry as a whole.
    ///
    /// # Errors
    /// When it cannot be known whether there are any, e.g. a file cannot be read.
    async fn credentials(
        &self,
        registry: &Registry,
        repository: Option<&RepositoryName>,
    ) -> Result<Option<Credentials>, CredentialError>;
}

/// Credentials that could not be had. Its text names the file or the helper, and holds no secret.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct CredentialError {
    text: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl CredentialError {
    /// Creates an error that says `text`: a lower-case fragment that names what failed.
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
