//! `export-center`, the service: it runs the jobs of the configuration, on schedule and on demand.

#![expect(dead_code, reason = "the parts of the service are joined later")]

#[expect(clippy::module_inception, reason = "the service is called a center")]
mod center;
mod http;
mod model;
mod notify;
mod page;
mod state;
pub(crate) mod token;
mod view;

use std::process::ExitCode;

use crate::exit::Exit;

/// Runs the service, and returns its exit code.
pub(crate) fn run() -> ExitCode {
    (Exit::Usage as u8).into()
}
