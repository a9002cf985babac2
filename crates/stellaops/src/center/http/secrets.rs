use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use oci_content::{Registry, with_causes};
use registry_server::{TlsError, mutual_tls_config, tls_config};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::watch;
use x509_parser::extensions::GeneralName;

use super::access::{Access, Hosts};
use crate::center::center::Center;
use crate::center::token::Tokens;
use crate::config::{CenterConfig, TlsConfig};
use crate::exit::{Exit, Failure};
use crate::small_file::read_option;

/// The tokens and the certificate, which are replaced while the service runs.
#[derive(Debug)]
pub(crate) struct Secrets {
    center: Center,
    allowed_hosts: Vec<String>,
    access: Arc<Access>,
    tls: Option<watch::Sender<Arc<ServerConfig>>>,
    /// The state of the files when they were last read.
    seen: Mutex<Vec<Stamp>>,
    /// Why they could not be used when they were last read.
    fault: Mutex<Option<String>>,
}

/// Metadata that changes when a file is replaced or written; `None` if there is no such file.
type Stamp = Option<(u64, u64, i64, i64)>;

/// The TLS configuration for new connections.
pub(crate) type NewestTls = watch::Receiver<Arc<ServerConfig>>;

/// The configuration of TLS, and the names in its certificate.
type Tls = (ServerConfig, Vec<String>);

impl Secrets {
    /// Reads the files that the configuration names.
    pub(crate) fn read(
        center: &Center,
        allowed_hosts: &[Registry],
    ) -> Result<(Self, Option<NewestTls>), Failure> {
        let config = center.config();
        let config = &config.center;
        let seen = stamps(config);
        let tokens = tokens(center, config)?;
        let (tls, names) = match &config.tls {
            Some(files) => {
                let (tls, names) = tls(files)?;
                (Some(watch::channel(Arc::new(tls))), names)
            }
            None => (None, Vec::new()),
        };
        let allowed_hosts: Vec<_> = allowed_hosts
            .iter()
            // The port differs in front of and behind a proxy.
            .map(|host| host.host().to_owned())
            .collect();
        let hosts = Hosts::new(
            config.listen,
            names.into_iter().chain(allowed_hosts.clone()),
        );
        let access = Access::new(hosts, config.tenant.clone(), tokens);
        let (sender, receiver) = tls.unzip();
        let secrets = Self {
            center: center.clone(),
            allowed_hosts,
            access: Arc::new(access),
            tls: sender,
            seen: Mutex::new(seen),
            fault: Mutex::default(),
        };
        Ok((secrets, receiver))
    }

    pub(crate) fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Returns why the files could not be used when they were last read.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads the files again. What cannot be used stays as it was, which is logged.
    pub(crate) fn reload(&self) {
        let result = self.replace();
        if let Err(failure) = &result {
            self.center.log().failure(failure);
            let message = "The tokens and the certificate in force stay as they were";
            self.center.log().warn(message);
        }
        let fault = result.err().map(|failure| failure.to_string());
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    fn replace(&self) -> Result<(), Failure> {
        let config = self.center.config();
        let config = &config.center;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = stamps(config);
        if (config.tokens.is_some(), config.tls.is_some())
            != (self.access.has_tokens(), self.tls.is_some())
        {
            let message =
                "center.tokens and center.tls are added or removed by a restart of the service";
            return Err(Failure::new(Exit::Usage, message));
        }
        // Everything is read before anything is replaced.
        let tokens = tokens(&self.center, config)?;
        let tls = config.tls.as_ref().map(tls).transpose()?;
        if let Some(tokens) = tokens {
            self.access.replace_tokens(tokens);
        }
        if let (Some(sender), Some((tls, names))) = (&self.tls, tls) {
            let names = names.into_iter().chain(self.allowed_hosts.clone());
            self.access.replace_hosts(Hosts::new(config.listen, names));
            sender.send_replace(Arc::new(tls));
        }
        Ok(())
    }

    /// Reads the files again if one of them has changed.
    pub(crate) fn look(&self) {
        let now = stamps(&self.center.config().center);
        let is_same = *self.seen.lock().unwrap_or_else(PoisonError::into_inner) == now;
        if !is_same {
            self.center
                .log()
                .info("A file of tokens or of the certificate has changed, and is read again");
            self.reload();
        }
    }
}

fn files(config: &CenterConfig) -> Vec<&Path> {
    let tls = config.tls.iter();
    let of_tls = tls.flat_map(|tls| {
        let authorities = tls.client_ca.as_deref();
        [Some(tls.cert.as_path()), tls.key.file(), authorities]
    });
    let files = of_tls.flatten();
    files.chain(config.tokens.as_deref()).collect()
}

fn stamps(config: &CenterConfig) -> Vec<Stamp> {
    let stamp = |path: &Path| {
        let metadata = path.metadata().ok()?;
        Some((
            metadata.ino(),
            metadata.size(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ))
    };
    files(config).into_iter().map(stamp).collect()
}

fn tokens(center: &Center, config: &CenterConfig) -> Result<Option<Tokens>, Failure> {
    let Some(path) = &config.tokens else {
        return Ok(None);
    };
    let tokens = Tokens::read(path)?;
    if tokens.is_empty() {
        let path = path.display();
        let message = format!(
            "tokens {path}: there is none, so nobody is admitted; `export-center token add` makes one"
        );
        center.log().warn(&message);
    }
    Ok(Some(tokens))
}

fn tls(files: &TlsConfig) -> Result<Tls, Failure> {
    let failed = |reason: &str| {
        let (certificate, key) = (files.cert.display(), &files.key);
        let message = format!("center.tls: {certificate}, {key}: {reason}");
        Failure::new(Exit::Usage, message)
    };
    let certificates = read_option(&files.cert, "center.tls.cert")?;
    let key = files.key.read().map_err(|reason| failed(&reason))?;
    let refused = |error: TlsError| failed(&with_causes(&error));
    let config = match &files.client_ca {
        Some(path) => {
            let authorities = read_option(path, "center.tls.client_ca")?;
            mutual_tls_config(&certificates, key.as_bytes(), &authorities).map_err(refused)?
        }
        None => tls_config(&certificates, key.as_bytes()).map_err(refused)?,
    };
    Ok((config, names(&certificates)))
}

/// Returns the hosts that a certificate is for. Names of other kinds are ignored.
fn names(certificates: &[u8]) -> Vec<String> {
    let Some(Ok(own)) = CertificateDer::pem_slice_iter(certificates).next() else {
        return Vec::new();
    };
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(&own) else {
        return Vec::new();
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).collect()
}
