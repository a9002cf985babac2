//! The settings of the service, as the configuration writes them: one file serves it and the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "checked here, and used by the service")]
pub(crate) struct CenterConfig {
    listen: Option<SocketAddr>,
    state: Option<PathBuf>,
    log_file: Option<PathBuf>,
    tls: Option<TlsConfig>,
    tokens: Option<PathBuf>,
    tenant: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "checked here, and used by the service")]
struct TlsConfig {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}
