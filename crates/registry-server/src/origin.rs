use std::net::IpAddr;

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, header};

use crate::error::{ApiError, ErrorCode};

/// Where a request says that it comes from and whom it is for, which shows requests that a page of
/// another site has made a browser send.
#[derive(Clone, Debug)]
pub struct RequestOrigin<'a> {
    headers: &'a HeaderMap,
    asked: Option<Authority>,
}

/// A request whose `Host` is malformed, or that names several hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Host is malformed, or the request names several hosts")]
#[non_exhaustive]
pub struct MalformedHost;

impl<'a> RequestOrigin<'a> {
    /// Reads the head of a request.
    ///
    /// # Errors
    ///
    /// When it does not say clearly for which host it is.
    pub fn of(parts: &'a Parts) -> Result<Self, MalformedHost> {
        // It is in the target for HTTP/2 and for proxies.
        let mut asked = parts.uri.authority().cloned();
        for value in parts.headers.get_all(header::HOST) {
            let host = Authority::try_from(value.as_bytes()).map_err(|_| MalformedHost)?;
            if asked.as_ref().is_some_and(|asked| *asked != host) {
                return Err(MalformedHost);
            }
            asked = Some(host);
        }
        Ok(Self {
            headers: &parts.headers,
            asked,
        })
    }

    /// Returns the host that the request is for, in lower case and without its port. Browsers always
    /// send one.
    pub fn host(&self) -> Option<String> {
        Some(self.asked.as_ref()?.host().to_ascii_lowercase())
    }

    /// Returns whether the request is for loopback, by address or by a name that is always loopback.
    pub fn is_for_loopback(&self) -> bool {
        self.host().is_some_and(|host| is_loopback(&host))
    }

    /// Returns whether no other site is behind the request, as far as `Sec-Fetch-Site` and `Origin`
    /// say. Only browsers send them.
    pub fn is_same_origin(&self) -> bool {
        let site = self.headers.get("sec-fetch-site");
        if site.is_some_and(|site| site != "same-origin" && site != "none") {
            return false;
        }
        self.headers.get_all(header::ORIGIN).iter().all(|origin| {
            let origin = origin.to_str().ok();
            let origin = origin.and_then(|origin| origin.split_once("://"));
            let origin = origin.and_then(|(_, host)| host.parse::<Authority>().ok());
            origin.is_some() && origin == self.asked
        })
    }
}

/// Refuses requests that only a page of another site makes a browser send: for a host that is not
/// in `hosts`, if there are any, and writes from another origin.
pub(crate) fn check(parts: &Parts, hosts: Option<&[String]>) -> Result<(), ApiError> {
    let origin = RequestOrigin::of(parts)
        .map_err(|error| ApiError::bad_request(ErrorCode::Denied, error.to_string()))?;
    if let (Some(hosts), Some(host)) = (hosts, origin.host())
        && !origin.is_for_loopback()
        && !hosts.contains(&host)
    {
        return Err(denied(format!(
            "this registry does not serve the host {host:?}"
        )));
    }
    if ![Method::GET, Method::HEAD].contains(&parts.method) && !origin.is_same_origin() {
        return Err(denied("writes from another origin are refused".into()));
    }
    Ok(())
}

fn denied(message: String) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message)
}

fn is_loopback(host: &str) -> bool {
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        // <https://www.rfc-editor.org/rfc/rfc6761#section-6.3>: these names are always loopback.
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn status(method: Method, target: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check(&parts, Some(&["mirror.example".to_owned()])).is_ok()
    }

    #[test]
    fn a_loopback_server_answers_for_its_own_hosts_only() {
        for (host, answered) in [
            ("localhost", true),
            ("LOCALHOST:5000", true),
            ("a.localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.1.2.3", true),
            ("[::1]:5000", true),
            ("[::ffff:127.0.0.1]", true),
            ("mirror.example", true),
            ("Mirror.Example:443", true),
            ("evil.example", false),
            ("evil.example:5000", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("mirror.example.evil.example", false),
            ("10.0.0.1:5000", false),
            ("[::]:5000", false),
            ("x", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(
                status(Method::GET, "/v2/", &[("host", host)]),
                answered,
                "{host}"
            );
        }
        assert!(!status(Method::GET, "http://evil.example/v2/", &[]));
        let both = [("host", "evil.example")];
        assert!(!status(Method::GET, "http://localhost/v2/", &both));
        // Browsers always send a host.
        assert!(status(Method::GET, "/v2/", &[]));
    }

    #[test]
    fn a_write_comes_from_no_other_origin() {
        let own = ("host", "localhost:5000");
        for (headers, written) in [
            (&[own][..], true),
            (&[own, ("origin", "http://localhost:5000")], true),
            (&[own, ("origin", "http://localhost:5001")], false),
            (&[own, ("origin", "http://evil.example")], false),
            (&[own, ("origin", "null")], false),
            (&[own, ("origin", "")], false),
            (&[own, ("sec-fetch-site", "cross-site")], false),
            (&[own, ("sec-fetch-site", "same-site")], false),
            (&[own, ("sec-fetch-site", "same-origin")], true),
            (&[own, ("sec-fetch-site", "none")], true),
        ] {
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                assert_eq!(
                    status(method, "/v2/a/blobs/uploads/", headers),
                    written,
                    "{headers:?}"
                );
            }
            assert!(status(Method::GET, "/v2/", headers), "{headers:?}");
        }
    }
}
