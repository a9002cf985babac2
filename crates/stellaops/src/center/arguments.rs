//! The command line of the service.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use oci_content::Registry;

use super::token::TokenCommand;
use crate::cli::{Connections, Messages};

/// Runs the jobs of a configuration, on schedule and on demand, and answers what they do.
#[derive(Debug, Parser)]
#[command(
    name = "export-center",
    version = env!("STELLAOPS_VERSION"),
    propagate_version = true,
    max_term_width = 110
)]
#[command(
    after_help = "SIGHUP reads the configuration again and opens the log file anew; SIGTERM ends the service at a safe \
    point.\nExit codes: 0 ended by a signal, 2 usage or configuration, 8 state, log file or address."
)]
pub(super) struct CenterCli {
    /// Configuration file (YAML)
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Also answer requests for this host, as a reverse proxy passes them on; others than loopback, the listening address
    /// and the names in the certificate are refused
    #[arg(long, value_name = "HOST")]
    pub(super) allow_host: Vec<Registry>,
    #[command(flatten)]
    pub(super) connections: Connections,
    #[command(flatten)]
    pub(super) messages: Messages,
    #[command(subcommand)]
    pub(super) command: Option<CenterCommand>,
}

#[derive(Debug, Subcommand)]
pub(super) enum CenterCommand {
    /// Make the tokens with which callers say who they are
    #[command(subcommand)]
    Token(TokenCommand),
    Backup(BackupArgs),
}

/// Write a copy of the state, while the service runs or not
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The file to write, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(super) output: PathBuf,
}
