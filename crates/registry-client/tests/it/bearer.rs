//! A registry that demands a bearer token, and credentials for it.

use std::sync::Arc;

use async_trait::async_trait;
use oci_content::{Registry, RepositoryName, Tag};
use registry_client::{ClientOptions, CredentialError, CredentialSource, Credentials};

use crate::support::{Answer, Seen, Server, answer, options};

/// Base64 of `user:pass`.
pub(crate) const BASIC: &str = "Basic dXNlcjpwYXNz";

pub(crate) fn tag() -> Tag {
    "1.0".parse().unwrap()
}

pub(crate) fn user() -> Credentials {
    Credentials::basic("user", "pass")
}

/// Returns the same credentials for every registry.
#[derive(Debug)]
struct Fixed(Credentials);

#[async_trait]
impl CredentialSource for Fixed {
    async fn credentials(
        &self,
        _: &Registry,
        _: Option<&RepositoryName>,
    ) -> Result<Option<Credentials>, CredentialError> {
        Ok(Some(self.0.clone()))
    }
}

pub(crate) fn with(credentials: Credentials) -> ClientOptions {
    let mut options = options();
    options.credentials = Some(Arc::new(Fixed(credentials)));
    options
}

pub(crate) fn is_token(seen: &Seen) -> bool {
    seen.target.starts_with("/token")
}

pub(crate) fn challenge(seen: &Seen) -> Answer {
    let host = seen.header("host").unwrap();
    answer(401)
        .header("WWW-Authenticate", "Negotiate")
        .header(
            "WWW-Authenticate",
            &format!(
                "Bearer realm=\"http://{host}/token\",service=\"svc\",\
                 scope=\"repository:user/image:pull\""
            ),
        )
        .body(r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#)
}

/// A registry that demands a token from its own `/token`, which `token` answers.
pub(crate) async fn bearer(
    token: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
) -> Server {
    Server::start(move |seen, before| match seen.authorization() {
        _ if is_token(seen) => token(seen, before),
        Some("Bearer good") => answer(200).body("ok"),
        _ => challenge(seen),
    })
    .await
}

pub(crate) fn good() -> Answer {
    answer(200).body(r#"{"token":"good","expires_in":300}"#)
}

pub(crate) fn tokens(server: &Server) -> Vec<Seen> {
    server.seen().into_iter().filter(is_token).collect()
}
