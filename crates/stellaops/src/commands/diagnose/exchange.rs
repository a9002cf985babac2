use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const MAX_HEAD: usize = 64 << 10;
const MAX_BODY: usize = 16 << 10;

/// The first answer on a separate connection, verbatim: without credentials, redirects or retries, each of which would
/// hide what is looked for here.
#[derive(Clone, Debug)]
pub(super) struct FirstAnswer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// Why there is no first answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoFirstAnswer {
    /// There was no answer in time.
    Silent,
    /// The connection was closed or broke.
    Closed(String),
    /// The answer is not HTTP.
    NotHttp,
    /// The answer is a TLS alert.
    SpeaksTls,
}

impl FirstAnswer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    pub(super) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns whether the body is HTML.
    pub(super) fn is_page(&self) -> bool {
        let start = self.body.trim_ascii_start();
        start.starts_with(b"<")
    }

    pub(super) fn body_has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(text)
    }
}

/// A connection to the registry or to a proxy in between.
pub(super) trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection for S {}

/// Formats the head of a request without a body.
///
/// `more` are further header lines, each with its line end.
pub(super) fn request(method: &str, target: &str, host: &str, more: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: stellaops/{}\r\n{more}\r\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// Sends a request on a new connection and reads the answer.
pub(super) async fn ask<S: Connection>(
    mut stream: S,
    request: &str,
    within: Duration,
) -> Result<FirstAnswer, NoFirstAnswer> {
    let mut bytes = Vec::new();
    let mut answer = None;
    let exchange = async {
        let closed = |error: std::io::Error| NoFirstAnswer::Closed(error.to_string());
        stream.write_all(request.as_bytes()).await.map_err(closed)?;
        stream.flush().await.map_err(closed)?;
        loop {
            let mut buffer = [0; 4096];
            let count = match stream.read(&mut buffer).await {
                Ok(count) => count,
                // The head may have arrived before the connection broke.
                Err(_) if answer.is_some() => 0,
                Err(error) => return Err(closed(error)),
            };
            bytes.extend_from_slice(&buffer[..count]);
            if answer.is_none() {
                answer = head(&bytes)?;
            }
            match &answer {
                Some((answer, length)) => {
                    let body = bytes.len() - length;
                    let whole = answer
                        .header("content-length")
                        .and_then(|length| length.parse().ok())
                        .is_some_and(|length: usize| body >= length);
                    if count == 0 || whole || body >= MAX_BODY {
                        return Ok(());
                    }
                }
                None if count == 0 => {
                    return Err(if bytes.is_empty() {
                        NoFirstAnswer::Closed("without an answer".to_owned())
                    } else {
                        NoFirstAnswer::NotHttp
                    });
                }
                None if bytes.len() >= MAX_HEAD => return Err(NoFirstAnswer::NotHttp),
                None => {}
            }
        }
    };
    // If the body does not end in time, the head still counts.
    if let Ok(exchanged) = tokio::time::timeout(within, exchange).await {
        exchanged?;
    }
    let (mut answer, length) = answer.ok_or(NoFirstAnswer::Silent)?;
    bytes.drain(..length);
    bytes.truncate(MAX_BODY);
    answer.body = bytes;
    Ok(answer)
}

/// Asks a proxy for a tunnel and returns the status; after a 2xx the connection is the tunnel.
pub(super) async fn tunnel<S: Connection>(
    stream: &mut S,
    request: &str,
    within: Duration,
) -> Result<u16, NoFirstAnswer> {
    let exchange = async {
        let closed = |error: std::io::Error| NoFirstAnswer::Closed(error.to_string());
        stream.write_all(request.as_bytes()).await.map_err(closed)?;
        stream.flush().await.map_err(closed)?;
        let mut bytes = Vec::new();
        // Byte by byte: what follows the head no longer comes from the proxy.
        while bytes.len() < MAX_HEAD {
            match stream.read_u8().await {
                Ok(byte) => bytes.push(byte),
                Err(_) if bytes.is_empty() => {
                    return Err(NoFirstAnswer::Closed("without an answer".to_owned()));
                }
                Err(error) => return Err(closed(error)),
            }
            if bytes.ends_with(b"\n\r\n") || bytes.ends_with(b"\n\n") {
                let (answer, _) = head(&bytes)?.ok_or(NoFirstAnswer::NotHttp)?;
                return Ok(answer.status);
            }
        }
        Err(NoFirstAnswer::NotHttp)
    };
    match tokio::time::timeout(within, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(NoFirstAnswer::Silent),
    }
}

/// Parses the head of an answer and returns it with its length; `None` while it is incomplete.
fn head(bytes: &[u8]) -> Result<Option<(FirstAnswer, usize)>, NoFirstAnswer> {
    // An alert record of TLS 1.0 or later.
    if bytes.starts_with(&[0x15, 0x03]) {
        return Err(NoFirstAnswer::SpeaksTls);
    }
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => {
            let headers = response.headers.iter().map(|header| {
                let value = String::from_utf8_lossy(header.value);
                (header.name.to_owned(), value.trim().to_owned())
            });
            let answer = FirstAnswer {
                status: response.code.unwrap_or_default(),
                headers: headers.collect(),
                body: Vec::new(),
            };
            Ok(Some((answer, length)))
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(NoFirstAnswer::NotHttp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(bytes: &[u8], ends: bool) -> Result<FirstAnswer, NoFirstAnswer> {
        let (client, mut server) = tokio::io::duplex(256 << 10);
        server.write_all(bytes).await.unwrap();
        let _open = if ends {
            server.shutdown().await.unwrap();
            None
        } else {
            Some(server)
        };
        let request = request("GET", "/v2/", "r.test", "");
        ask(client, &request, Duration::from_millis(100)).await
    }

    #[tokio::test]
    async fn what_comes_first_is_told_apart() {
        let answer = answered(
            b"HTTP/1.1 401 x\r\nA: 1\r\na: 2\r\nContent-Length: 2\r\n\r\n{}more",
            false,
        )
        .await
        .unwrap();
        assert_eq!(answer.status, 401);
        assert_eq!(answer.headers("A").collect::<Vec<_>>(), ["1", "2"]);
        assert!(answer.body_has("{}") && !answer.is_page());
        let endless = answered(b"HTTP/1.1 400 x\r\n\r\nHTTPS", false).await;
        assert!(endless.unwrap().body_has("HTTPS"));
        let page = answered(b"HTTP/1.0 200 OK\r\n\r\n \n<html>", true).await;
        assert!(page.unwrap().is_page());
        let huge = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'a'; 100_000]].concat();
        for (bytes, ends, expected) in [
            (&b""[..], false, NoFirstAnswer::Silent),
            (b"HTTP/1.1 200 OK\r\nX", false, NoFirstAnswer::Silent),
            (b"", true, NoFirstAnswer::Closed("without an answer".into())),
            (
                b"\x15\x03\x03\0\x02\x02\x0a",
                true,
                NoFirstAnswer::SpeaksTls,
            ),
            (b"SSH-2.0-OpenSSH\r\n", true, NoFirstAnswer::NotHttp),
            (b"HTTP/1.1 200 OK\r\nX", true, NoFirstAnswer::NotHttp),
            (&huge, false, NoFirstAnswer::NotHttp),
        ] {
            assert_eq!(answered(bytes, ends).await.unwrap_err(), expected);
        }
    }
}
