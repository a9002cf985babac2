//! A scripted server on a real socket, and other helpers of the tests.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use oci_content::{Registry, RepositoryName};
use registry_client::{
    Client, ClientOptions, Endpoint, ErrorKind, Repository, RequestEvent, RequestObserver,
    SilenceEvent, WaitEvent, WaitReason,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn authorization(&self) -> Option<&str> {
        self.header("authorization")
    }
}

/// What the server does after writing its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Close,
    Reset,
    Stall,
}

/// An answer, byte for byte.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    head: String,
    body: Vec<u8>,
    length: Option<usize>,
    then: Then,
    delay: Duration,
    piece: usize,
    pause: Duration,
}

/// A 200 has a body that is valid JSON; any other status has none.
pub(crate) fn answer(status: u16) -> Answer {
    let body: &[u8] = if status == 200 { b"{}" } else { b"" };
    Answer {
        head: format!("HTTP/1.1 {status} X\r\nConnection: close\r\n"),
        body: body.to_vec(),
        length: Some(body.len()),
        then: Then::Close,
        delay: Duration::ZERO,
        piece: usize::MAX,
        pause: Duration::ZERO,
    }
}

impl Answer {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self.length = Some(self.body.len());
        self
    }

    /// The value of `Content-Length`, whatever the body is; `None` omits it.
    pub(crate) fn length(mut self, length: Option<usize>) -> Self {
        self.length = length;
        self
    }

    /// Resets the connection after the body.
    pub(crate) fn reset(mut self) -> Self {
        self.then = Then::Reset;
        self
    }

    /// Keeps the connection open after the body and sends nothing more.
    pub(crate) fn stall(mut self) -> Self {
        self.then = Then::Stall;
        self
    }

    /// Waits before the head.
    pub(crate) fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Waits before each piece of the body.
    pub(crate) fn slowly(mut self, piece: usize, pause: Duration) -> Self {
        self.piece = piece;
        self.pause = pause;
        self
    }
}

/// Sends no byte and resets the connection.
pub(crate) fn hang_up() -> Answer {
    Answer {
        head: String::new(),
        body: Vec::new(),
        length: None,
        ..answer(200)
    }
    .reset()
}

type Script = dyn Fn(&Seen, usize) -> Answer + Send + Sync;

pub(crate) struct Server {
    pub(crate) host: String,
    tls: bool,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts a server that answers each request with `script`, which also gets the number of
    /// previous requests.
    pub(crate) async fn start(
        script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::listen(None, Arc::new(script)).await
    }

    pub(crate) async fn start_tls(
        acceptor: TlsAcceptor,
        script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(acceptor), Arc::new(script)).await
    }

    async fn listen(tls: Option<TlsAcceptor>, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let is_tls = tls.is_some();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, log, tls) = (Arc::clone(&script), Arc::clone(&log), tls.clone());
                tokio::spawn(async move {
                    // Many tests are about clients that hang up.
                    drop(serve(stream, tls, &*script, &log).await);
                });
            }
        });
        Self {
            host,
            tls: is_tls,
            seen,
            task,
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Methods and targets in order of arrival.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |seen: &Seen| format!("{} {}", seen.method, seen.target);
        self.seen().iter().map(line).collect()
    }

    /// Waits until that number of requests has arrived.
    pub(crate) async fn has_seen(&self, requests: usize) {
        while self.seen.lock().unwrap().len() < requests {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.host)
    }

    pub(crate) fn registry(&self) -> Registry {
        self.host.parse().unwrap()
    }

    pub(crate) fn repository(&self, options: ClientOptions) -> Repository {
        let client = Client::new(options).unwrap();
        client.repository(&self.registry(), &name("team/app"))
    }
}

pub(crate) fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    script: &Script,
    log: &Mutex<Vec<Seen>>,
) -> io::Result<()> {
    match tls {
        None => {
            let mut stream = stream;
            if exchange(&mut stream, script, log).await? == Then::Reset {
                stream.set_zero_linger()?;
            }
            Ok(())
        }
        Some(acceptor) => {
            let mut stream = acceptor.accept(stream).await?;
            if exchange(&mut stream, script, log).await? == Then::Close {
                stream.shutdown().await?;
            }
            Ok(())
        }
    }
}

async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    script: &Script,
    log: &Mutex<Vec<Seen>>,
) -> io::Result<Then> {
    let seen = read(stream).await?;
    let before = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        log.len() - 1
    };
    let answer = script(&seen, before);
    tokio::time::sleep(answer.delay).await;
    let mut head = answer.head;
    if !head.is_empty() {
        if let Some(length) = answer.length {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head.push_str("\r\n");
    }
    stream.write_all(head.as_bytes()).await?;
    if seen.method != "HEAD" {
        for piece in answer.body.chunks(answer.piece) {
            tokio::time::sleep(answer.pause).await;
            stream.write_all(piece).await?;
            stream.flush().await?;
        }
    }
    stream.flush().await?;
    match answer.then {
        Then::Close => {}
        // What was written has to arrive before the reset overtakes it.
        Then::Reset => tokio::time::sleep(Duration::from_millis(30)).await,
        Then::Stall => std::future::pending().await,
    }
    Ok(answer.then)
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut body = bytes.split_off(end + 4);
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let mut seen = Seen {
        method: first.next().unwrap().to_owned(),
        target: first.next().unwrap().to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        body: Vec::new(),
    };
    assert_eq!(
        seen.header("transfer-encoding"),
        None,
        "lengths are always known"
    );
    let length: usize = seen
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            break;
        }
    }
    seen.body = body;
    Ok(seen)
}

/// Retries without delay, so that tests do not wait.
pub(crate) fn options() -> ClientOptions {
    let mut options = ClientOptions::default();
    options.retry.base_delay = Duration::from_millis(1);
    options
}

/// An event, without the parts that differ from run to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) method: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) url: String,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<ErrorKind>,
    pub(crate) attempt: u32,
    pub(crate) body_bytes: u64,
    pub(crate) sent_bytes: u64,
}

/// Records all events.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) requests: Mutex<Vec<Told>>,
    pub(crate) waits: Mutex<Vec<(Duration, Option<u16>)>>,
    /// The waits for the client's own budget.
    pub(crate) held: Mutex<Vec<String>>,
    /// The URLs that were silent, and for how long.
    pub(crate) silences: Mutex<Vec<(String, Duration)>>,
}

impl RequestObserver for Recorder {
    fn request(&self, event: &RequestEvent<'_>) {
        self.requests.lock().unwrap().push(Told {
            method: event.method.to_string(),
            endpoint: event.endpoint,
            url: event.url.to_string(),
            status: event.status.as_ref().map(StatusCode::as_u16),
            error: event.error,
            attempt: event.attempt,
            body_bytes: event.body_bytes,
            sent_bytes: event.sent_bytes,
        });
    }

    fn waiting(&self, event: &WaitEvent<'_>) {
        let held = match event.reason {
            WaitReason::Requests(rate) => format!("{rate} per second"),
            WaitReason::Bytes(rate) => format!("{rate} bytes per second"),
            WaitReason::Window(window) => window.to_string(),
            _ => {
                let status = event.status.as_ref().map(StatusCode::as_u16);
                self.waits.lock().unwrap().push((event.wait, status));
                return;
            }
        };
        assert!(event.status.is_none() && event.waited.is_zero());
        self.held.lock().unwrap().push(held);
    }

    fn silent(&self, event: &SilenceEvent<'_>) {
        let mut silences = self.silences.lock().unwrap();
        silences.push((event.url.to_string(), event.silence));
    }
}

impl Recorder {
    /// Statuses of the requests, 0 where there was none.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .map(|told| told.status.unwrap_or(0))
            .collect()
    }
}
