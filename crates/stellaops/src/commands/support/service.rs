use std::time::Duration;

use oci_content::with_causes;

use crate::config::{CenterConfig, TlsConfig};
use crate::small_file;

/// The time for one answer of the service.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of an answer.
const MAX_BYTES: usize = 16 << 20;
/// The variable with the token, if the service demands one.
const TOKEN: &str = "STELLAOPS_TOKEN";

/// Asks the running service, and returns its answer, or why there is none.
pub(super) async fn ask(config: &CenterConfig, path: &str) -> Result<String, String> {
    let client = client(config.tls.as_ref())?;
    let scheme = if config.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let mut address = config.listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let mut request = client
        .get(format!("{scheme}://{address}{path}"))
        .header("X-Stella-Tenant", &config.tenant);
    if let Ok(token) = std::env::var(TOKEN) {
        request = request.bearer_auth(token);
    }
    let mut answer = request
        .send()
        .await
        .map_err(|error| with_causes(&error.without_url()))?;
    let status = answer.status().as_u16();
    if status == 401 || status == 403 {
        return Err(format!(
            "the service demands a token ({status}): set {TOKEN} to one with the scope export:read"
        ));
    }
    let mut body = Vec::new();
    while let Some(part) = answer
        .chunk()
        .await
        .map_err(|error| with_causes(&error.without_url()))?
    {
        body.extend(part);
        if body.len() > MAX_BYTES {
            return Err(format!("the answer has more than {MAX_BYTES} bytes"));
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    if answer.status().is_success() {
        Ok(body)
    } else {
        Err(format!("the service answered {status}: {body}"))
    }
}

fn client(tls: Option<&TlsConfig>) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT);
    if let Some(tls) = tls {
        let pem = small_file::read(&tls.cert, MAX_BYTES as u64)
            .map_err(|error| format!("{}: {error}", tls.cert.display()))?;
        let certificates =
            reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| with_causes(&error))?;
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|error| with_causes(&error))
}
