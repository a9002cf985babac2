//! `stellaops support`: what a maintainer needs to know of an installation.

mod archive;
mod collect;
mod configuration;
mod kind;
mod log_window;
mod names;
mod platform;
mod secrets;
mod service;
mod trace;

use clap::Subcommand;

use crate::commands::run::Run;

#[derive(Debug, Subcommand)]
pub(crate) enum SupportCommand {
    Collect(collect::CollectArgs),
}

impl SupportCommand {
    /// Returns the chosen command.
    pub(crate) fn chosen(&self) -> &dyn Run {
        match self {
            Self::Collect(args) => args,
        }
    }
}
