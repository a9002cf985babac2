//! `stellaops mirror`: from registry to registry, without a file in between.

mod audit;
mod convert;
mod copy;
mod job;
mod plan;
mod prune;
mod run;

use clap::Subcommand;

use crate::commands::run::Run;

#[derive(Debug, Subcommand)]
pub(crate) enum MirrorCommand {
    Copy(copy::CopyArgs),
    Run(run::RunArgs),
    Plan(plan::PlanArgs),
    Audit(audit::AuditArgs),
    Prune(prune::PruneArgs),
    Convert(convert::ConvertArgs),
}

impl MirrorCommand {
    /// Returns the chosen command.
    pub(crate) fn chosen(&self) -> &dyn Run {
        match self {
            Self::Copy(args) => args,
            Self::Run(args) => args,
            Self::Plan(args) => args,
            Self::Audit(args) => args,
            Self::Prune(args) => args,
            Self::Convert(args) => args,
        }
    }
}
