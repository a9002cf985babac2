use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, TryStreamExt as _};
use http::header::{CONTENT_RANGE, HeaderValue, RANGE};
use http::{Method, StatusCode};
use oci_content::{Digest, VerifyError};
use tokio::time::Instant;
use url::Url;

use crate::blob::{BlobSink, BlobStream};
use crate::call::{Body, Mode, Reply};
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::observer::Endpoint;
use crate::repository::Repository;
use crate::response::Response;
use crate::retry::Budget;

impl Repository {
    /// Downloads a blob into `sink` (end-2).
    ///
    /// - A broken transfer continues where it stopped (`Range`) if the server supports that, else
    ///   from the start; if a redirect target has expired, the registry is asked again. Bytes that
    ///   `sink` [has](BlobSink::written) from an earlier pull are not requested again. The pull
    ///   fails after [`max_attempts`](crate::RetryPolicy::max_attempts) broken transfers in a row
    ///   without progress, which means at least
    ///   [`min_bytes_per_second`](crate::ClientOptions::min_bytes_per_second) of new bytes for the
    ///   time that the transfer took, and for one second. So a blob that only trickles is an error.
    /// - If a range is refused (with 416; by the registry itself also with 405, 406, 412, 417, 500
    ///   or 501), or answered with another range, the blob is fetched from the start. The first
    ///   time, that does not count as an attempt.
    /// - Bytes that turn out not to be the blob are discarded and fetched once more. Bytes from an
    ///   earlier pull do not count as fetched.
    /// - At most one byte past `size` is read.
    ///
    /// # Errors
    /// - [`ErrorKind::Status`] when the last answer of the registry is not a blob;
    ///   [`Error::response`] has it.
    /// - [`ErrorKind::Integrity`] when the bytes do not have `digest` or `size`.
    /// - [`ErrorKind::LocalIo`] when the sink fails.
    /// - When there is no usable answer.
    ///
    /// # Cancellation
    /// What the sink got so far stays there, unverified; a later pull into the same sink continues
    /// from there.
    pub async fn pull_blob(
        &self,
        digest: &Digest,
        size: u64,
        sink: &mut dyn BlobSink,
    ) -> Result<(), Error> {
        let mut download = Download::new(self, digest, size, sink.written())?;
        let mut refetched = false;
        loop {
            match download.step().await? {
                Step::Bytes(bytes) => sink
                    .write(&bytes)
                    .map_err(|error| download.local("writing", error))?,
                Step::Restart => sink
                    .restart()
                    .map_err(|error| download.local("starting over", error))?,
                Step::End => match sink.finish() {
                    Ok(()) => return Ok(()),
                    Err(_) if download.begun => download.again(),
                    Err(error) if refetched => {
                        return Err(download.error(download.integrity(error)));
                    }
                    Err(_) => {
                        refetched = true;
                        download.again();
                    }
                },
            }
        }
    }

    /// Downloads a blob as a stream (end-2), from byte `from` on, which is at most `size`.
    ///
    /// Like [`pull_blob`](Self::pull_blob), a broken transfer continues where it stopped. If the
    /// registry refuses ranges, the bytes that were received before are received again and dropped.
    /// The stream ends after byte `size`. The digest is not verified: the caller sees all bytes and
    /// hashes them. Errors are [`Error`]s, each in an [`io::Error`].
    pub fn stream_blob(&self, digest: &Digest, size: u64, from: u64) -> BlobStream {
        let begin = (self.clone(), digest.clone());
        let download = stream::once(async move {
            let (repository, digest) = begin;
            Download::new(&repository, &digest, size, from).map_err(io::Error::other)
        });
        Box::pin(
            download
                .map_ok(move |download| stream::try_unfold((download, from, 0), next_bytes))
                .try_flatten(),
        )
    }
}

/// Returns the next bytes of a stream that has delivered the bytes before `place`, of which `again`
/// are yet to be received again.
async fn next_bytes(
    (mut download, place, mut again): (Download, u64, u64),
) -> io::Result<Option<(Bytes, (Download, u64, u64))>> {
    loop {
        match download.step().await.map_err(io::Error::other)? {
            Step::End => return Ok(None),
            Step::Restart => again = place,
            Step::Bytes(mut bytes) => {
                let known = bytes
                    .len()
                    .min(usize::try_from(again).unwrap_or(usize::MAX));
                again -= known as u64;
                let new = bytes.split_off(known);
                if !new.is_empty() {
                    let place = place + new.len() as u64;
                    return Ok(Some((new, (download, place, again))));
                }
            }
        }
    }
}

/// A blob on its way from a registry: requests, breaks, ranges and redirects behind a sequence of
/// steps.
struct Download {
    repository: Repository,
    digest: Digest,
    size: u64,
    url: Url,
    /// Where the bytes came from, after redirects.
    source: Url,
    received: u64,
    /// The most that had been received before the current transfer: starting over is not progress.
    furthest: u64,
    /// Whether the bytes before the first ones are from an earlier download.
    begun: bool,
    /// Whether a range has been refused before.
    range_refused: bool,
    /// Whether the bytes so far are discarded, and the caller does not know it yet.
    restarted: bool,
    /// The body that is being received.
    body: Option<Box<Body>>,
    /// The time that the current transfer waited for its body.
    took: Duration,
    budget: Budget,
}

/// What happened next to a download.
enum Step {
    /// More bytes arrived.
    Bytes(Bytes),
    /// The bytes so far are discarded; the next ones are the first of the blob.
    Restart,
    /// All bytes have arrived.
    End,
}

/// How a request for a blob ended, unless its error ends the download.
enum Answer {
    Body(Box<Body>),
    /// A range was refused; what was there is discarded.
    NoRange,
    /// It stopped early; the download fails with this unless another transfer makes progress.
    Broken(Failure),
}

impl Download {
    fn new(
        repository: &Repository,
        digest: &Digest,
        size: u64,
        received: u64,
    ) -> Result<Self, Error> {
        let url = repository.url(&format!("blobs/{digest}"))?;
        let mut download = Self {
            repository: repository.clone(),
            digest: digest.clone(),
            size,
            source: url.clone(),
            url,
            received,
            furthest: received,
            begun: received > 0,
            range_refused: false,
            restarted: false,
            body: None,
            took: Duration::ZERO,
            budget: Budget::new(repository.client().options().retry),
        };
        if received > size {
            download.restart();
        }
        Ok(download)
    }

    /// Waits for what happens next. After [`Step::End`], [`again`](Self::again) starts over.
    async fn step(&mut self) -> Result<Step, Error> {
        loop {
            if std::mem::take(&mut self.restarted) {
                return Ok(Step::Restart);
            }
            let Some(body) = &mut self.body else {
                if self.begun && self.received == self.size {
                    return Ok(Step::End);
                }
                self.took = Duration::ZERO;
                match self.request().await? {
                    Answer::Body(body) => self.body = Some(body),
                    Answer::NoRange => {}
                    Answer::Broken(failure) => self.broken(failure).await?,
                }
                continue;
            };
            body.open.pay().await;
            let asked = Instant::now();
            let chunk = body.open.chunk().await;
            self.took += asked.elapsed();
            let left = self.size - self.received;
            let failure = match chunk {
                Ok(Some(chunk)) if chunk.len() as u64 > left => {
                    return Err(self.error(self.integrity(self.length(self.size + 1))));
                }
                Ok(Some(chunk)) => {
                    self.received += chunk.len() as u64;
                    return Ok(Step::Bytes(chunk));
                }
                // All bytes have arrived; how the connection ended does not matter.
                Ok(None) | Err(_) if left == 0 => {
                    self.body = None;
                    return Ok(Step::End);
                }
                Ok(None) => self.integrity(self.length(self.received)),
                Err(failure) => failure,
            };
            self.body = None;
            self.broken(failure).await?;
        }
    }

    /// Starts over after all bytes have arrived and are not the blob.
    fn again(&mut self) {
        self.furthest = 0;
        self.restart();
    }

    /// Waits before the next transfer; an error if there is none.
    async fn broken(&mut self, failure: Failure) -> Result<(), Error> {
        if self.brought_enough() {
            self.budget.reset();
        }
        self.furthest = self.furthest.max(self.received);
        let Some(wait) = self.budget.take_try(None) else {
            return Err(self.error(failure));
        };
        let status = failure.response.as_ref().map(|answer| answer.status());
        let client = self.repository.client();
        client.wait(self.repository.registry(), wait, status).await;
        Ok(())
    }

    /// Returns whether the current transfer made progress. At least one second counts, because a
    /// server that closes each connection after one byte is no faster than one that sends one byte
    /// per minute.
    fn brought_enough(&self) -> bool {
        let options = &self.repository.client().options();
        let brought = self.received.saturating_sub(self.furthest);
        brought
            >= options
                .min_bytes(self.took.max(Duration::from_secs(1)))
                .max(1)
    }

    /// Requests what is missing.
    async fn request(&mut self) -> Result<Answer, Error> {
        let mut call = self.repository.call(Method::GET, self.url.clone());
        call.endpoint = Endpoint::Blob;
        if self.received > 0 {
            let range = format!("bytes={}-", self.received);
            let range = HeaderValue::try_from(range).map_err(|error| {
                self.error(Failure::new(ErrorKind::Protocol, "").caused_by(error))
            })?;
            call.headers.insert(RANGE, range);
        }
        let (head, body) = match self.repository.client().run(&call, Mode::Stream).await? {
            Reply::Stream(head, body) => (head, body),
            Reply::Response(response) => return self.refused(response),
        };
        self.source = head.url().clone();
        match head.status() {
            StatusCode::PARTIAL_CONTENT if starts_at(&head, self.received, self.size) => {}
            StatusCode::OK if self.received == 0 => {}
            StatusCode::OK => self.restart(),
            StatusCode::PARTIAL_CONTENT => {
                let text = "the range is not the requested one";
                return Ok(self.without_range(self.protocol(head, text)));
            }
            _ => return Err(self.error(self.protocol(head, "the status is unexpected for a blob"))),
        }
        Ok(Answer::Body(body))
    }

    fn refused(&mut self, response: Response) -> Result<Answer, Error> {
        let status = response.status();
        let text = format!("the blob is answered with {status}");
        let failure = Failure::new(ErrorKind::Status, text)
            .at(&Method::GET, response.url())
            .answered(response.clone());
        let about_the_range = status == StatusCode::RANGE_NOT_SATISFIABLE
            || !response.is_foreign()
                && matches!(status.as_u16(), 405 | 406 | 412 | 417 | 500 | 501);
        if self.received > 0 && about_the_range {
            return Ok(self.without_range(failure));
        }
        // A signed URL has expired, or an edge server has lost the blob: the registry redirects to
        // a new one.
        let stale = matches!(status.as_u16(), 400 | 401 | 403 | 404 | 410);
        if response.is_foreign() && stale {
            return Ok(Answer::Broken(failure));
        }
        Err(self.error(failure))
    }

    /// Discards what is there, so that no range is requested next.
    fn without_range(&mut self, failure: Failure) -> Answer {
        let first = self.received > 0 && !self.range_refused;
        self.range_refused = true;
        self.restart();
        if first {
            Answer::NoRange
        } else {
            Answer::Broken(failure)
        }
    }

    fn restart(&mut self) {
        self.received = 0;
        self.begun = false;
        self.restarted = true;
    }

    fn length(&self, found: u64) -> VerifyError {
        VerifyError::size(&self.digest, self.size, found)
    }

    fn integrity(&self, error: VerifyError) -> Failure {
        let host = self.source.origin().ascii_serialization();
        let text = format!("what {host} serves is not what was requested");
        Failure::new(ErrorKind::Integrity, text)
            .at(&Method::GET, &self.url)
            .caused_by(error)
    }

    fn protocol(&self, head: Response, text: &str) -> Failure {
        Failure::new(ErrorKind::Protocol, text)
            .at(&Method::GET, head.url())
            .answered(head.clone())
    }

    fn local(&self, what: &str, error: io::Error) -> Error {
        let text = format!("{what} {} failed", self.digest);
        let failure = Failure::new(ErrorKind::LocalIo, text).at(&Method::GET, &self.url);
        self.error(failure.caused_by(error))
    }

    fn error(&self, failure: Failure) -> Error {
        Error::new(self.repository.registry(), failure)
    }
}

/// Checks `Content-Range: bytes <start>-<end>/<size>`; the size may be `*`.
fn starts_at(head: &Response, start: u64, size: u64) -> bool {
    let parse = || {
        let range = head.header(CONTENT_RANGE.as_str())?;
        let (range, total) = range.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.trim().split_once('-')?;
        let first: u64 = first.trim().parse().ok()?;
        let last: u64 = last.trim().parse().ok()?;
        let total_agrees = total.trim() == "*" || total.trim().parse() == Ok(size);
        Some(first == start && last >= first && last < size && total_agrees)
    };
    parse().unwrap_or(false)
}
