use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use oci_content::with_causes;
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
}

/// What changes when a file is replaced or written; `None` if it cannot be found.
type Stamp = Option<(u64, u64, i64, i64)>;

/// The configuration of TLS, and the names in its certificate.
type Tls = (ServerConfig, Vec<String>);

impl Secrets {
    /// Reads the files that the configuration names.
    pub(crate) fn read(
        center: &Center,
        allowed_hosts: &[String],
    ) -> Result<(Self, Option<watch::Receiver<Arc<ServerConfig>>>), Failure> {
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
            .map(|host| without_port(host))
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
        };
        Ok((secrets, receiver))
    }

    pub(crate) fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Reads the files again. What cannot be read stays as it was.
    pub(crate) fn reload(&self) -> Result<(), Failure> {
        let config = self.center.config();
        let config = &config.center;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = stamps(config);
        if let Some(tokens) = tokens(&self.center, config)? {
            self.access.replace_tokens(tokens);
        }
        if let (Some(sender), Some(files)) = (&self.tls, &config.tls) {
            let (tls, names) = tls(files)?;
            let names = names.into_iter().chain(self.allowed_hosts.clone());
            self.access.replace_hosts(Hosts::new(config.listen, names));
            // It is kept for connections to come.
            sender.send_replace(Arc::new(tls));
        }
        Ok(())
    }

    /// Reads the files again if one of them has changed.
    pub(crate) fn look(&self) {
        let config = self.center.config();
        let now = stamps(&config.center);
        let is_same = *self.seen.lock().unwrap_or_else(PoisonError::into_inner) == now;
        if is_same {
            return;
        }
        let log = self.center.log();
        match self.reload() {
            Ok(()) => {
                log.info("The tokens and the certificate were read again: a file has changed")
            }
            Err(failure) => log.error(&format!("{failure}; what was read before is used")),
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

/// Returns the hosts that a certificate is for. What it has besides is not needed here.
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

/// Removes the port, which differs in front of and behind a proxy.
fn without_port(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name.to_owned(),
        _ => host.to_owned(),
    }
}
