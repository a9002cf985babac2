//! The endpoints of the distribution specification, each over a store in memory and over a layout
//! folder.

#[cfg(feature = "basic-auth")]
mod auth;
mod blobs;
mod layout;
mod lists;
mod manifests;
mod requests;
mod running;
mod server;
#[cfg(feature = "tls")]
mod tls;
