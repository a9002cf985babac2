//! `stellaops mirror`: from registry to registry, without a file in between.

mod convert;
pub(crate) mod copy;
mod job;
mod plan;
mod run;

use clap::Subcommand;

use crate::commands::run::Run;

#[derive(Debug, Subcommand)]
pub(crate) enum MirrorCommand {
    Copy(copy::CopyArgs),
    Run(run::RunArgs),
    Plan(plan::PlanArgs),
    Convert(convert::ConvertArgs),
}

impl MirrorCommand {
    /// Returns the chosen command.
    pub(crate) fn chosen(&self) -> &dyn Run {
        match self {
            Self::Copy(args) => args,
            Self::Run(args) => args,
            Self::Plan(args) => args,
            Self::Convert(args) => args,
        }
    }
}
