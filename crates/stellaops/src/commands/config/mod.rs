//! `stellaops config`: whether a configuration is right, and what it may contain.

mod check;
mod schema;

use clap::Subcommand;

use crate::commands::run::Run;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    Check(check::CheckArgs),
    Schema(schema::SchemaArgs),
}

impl ConfigCommand {
    /// Returns the chosen command.
    pub(crate) fn chosen(&self) -> &dyn Run {
        match self {
            Self::Check(args) => args,
            Self::Schema(args) => args,
        }
    }
}
