//! `registry-client` against scripted servers on loopback.
#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, but not what they share"
)]

mod auth;
mod bearer;
mod calls;
mod limits;
mod proxy;
mod pull;
mod push;
mod redirects;
mod retries;
mod support;
mod tls;
mod token_service;
