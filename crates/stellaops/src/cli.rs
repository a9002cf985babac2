use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use oci_content::Registry;

use crate::log::{LogFormat, LogLevel};

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Configuration file (YAML)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) connections: Connections,
    #[command(flatten)]
    pub(crate) messages: Messages,
    /// Serve metrics at http://ADDR/metrics while the command runs
    #[arg(long, global = true, value_name = "ADDR")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Keep serving metrics after the command until they have been read once, for at most this many seconds
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        requires = "metrics_listen"
    )]
    pub(crate) metrics_linger: Option<u64>,
    /// Write metrics to this file at the end, in Prometheus' text format
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) metrics_file: Option<PathBuf>,
    /// Show no progress
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
}

/// How registries are spoken to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Connections {
    /// Credentials file, as docker and podman write it [default: those that podman reads]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) registry_config: Option<PathBuf>,
    /// Speak plain HTTP to this registry; loopback registries are plain by default
    #[arg(long, global = true, value_name = "HOST")]
    pub(crate) plain_http: Vec<Registry>,
    /// Do not verify the certificate of this registry; for labs only, since anyone who answers is trusted
    #[arg(long, global = true, value_name = "HOST")]
    pub(crate) insecure: Vec<Registry>,
    /// Also trust these certificates: those of authorities, or a registry's own (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", requires = "client_key")]
    pub(crate) client_cert: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", requires = "client_cert")]
    pub(crate) client_key: Option<PathBuf>,
}

/// What is told, and where.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Messages {
    /// Lowest severity of messages to show
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        default_value = "info",
        ignore_case = true
    )]
    pub(crate) log_level: LogLevel,
    /// Format of the messages
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Also write the messages to this file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
}
