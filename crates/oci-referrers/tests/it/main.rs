//! What a discovery finds on registries as they are out there, and what it says of itself.
#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, but not what they share"
)]

mod access;
mod api_answers;
mod cache;
mod catalog;
mod claims;
mod depth;
mod document;
mod model;
mod own_sources;
mod pages;
mod property;
mod redirects;
mod requests;
mod resolve;
mod support;
mod tags;
mod time;
mod union;
mod unreadable;
