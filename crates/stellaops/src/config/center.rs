//! The settings of the service, as the configuration writes them: one file serves it and the command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

use super::secret::{self, Secret};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CenterConfig {
    pub(crate) listen: SocketAddr,
    /// The folder of the database, and of what runs leave behind.
    pub(crate) state: PathBuf,
    pub(crate) log_file: PathBuf,
    pub(crate) tls: Option<TlsConfig>,
    /// The file of the tokens; without one, only this machine may ask.
    pub(crate) tokens: Option<PathBuf>,
    #[serde(deserialize_with = "tenant")]
    pub(crate) tenant: String,
}

impl Default for CenterConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8443).into(),
            state: "/var/lib/stellaops".into(),
            log_file: "/var/log/stellaops/export-center.log".into(),
            tls: None,
            tokens: None,
            tenant: "default".into(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsConfig {
    /// The certificate with its chain, in PEM.
    pub(crate) cert: PathBuf,
    #[serde(deserialize_with = "secret::key")]
    pub(crate) key: Secret,
    /// The authorities of client certificates, of which every client then needs one.
    pub(crate) client_ca: Option<PathBuf>,
}

/// Reads the name of a tenant, which has to fit into a header.
fn tenant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(de::Error::custom(
            "a tenant is a name of printable ASCII characters without spaces",
        ));
    }
    Ok(text)
}
