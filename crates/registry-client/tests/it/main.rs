//! `registry-client` against scripted servers and test registries on loopback.
#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, but not what they share"
)]

mod answers;
mod auth;
mod bearer;
mod bodies;
mod budget;
mod calls;
mod chunks;
mod first_request;
mod limits;
mod personas;
mod proxy;
mod pull;
mod push;
mod redirects;
mod retries;
mod support;
mod tls;
mod token_service;
