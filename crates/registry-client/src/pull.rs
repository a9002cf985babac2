use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, HeaderValue, RANGE};
use http::{Method, StatusCode};
use oci_content::{Digest, VerifyError};
use tokio::time::Instant;
use url::Url;

use crate::blob::BlobSink;
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
        let url = self.url(&format!("blobs/{digest}"))?;
        let received = sink.written();
        let mut pull = Pull {
            repository: self,
            digest,
            size,
            sink,
            source: url.clone(),
            url,
            received,
            furthest: received,
            begun: received > 0,
            range_refused: false,
            took: Duration::ZERO,
            budget: Budget::new(self.client().options().retry),
        };
        pull.run().await
    }
}

struct Pull<'a> {
    repository: &'a Repository,
    digest: &'a Digest,
    size: u64,
    sink: &'a mut dyn BlobSink,
    url: Url,
    /// Where the bytes came from, after redirects.
    source: Url,
    received: u64,
    /// The most that had been received before the current transfer: starting over is not progress.
    furthest: u64,
    /// Whether the bytes in the sink are from an earlier pull.
    begun: bool,
    /// Whether a range has been refused before.
    range_refused: bool,
    /// The time that the current transfer waited for its body.
    took: Duration,
    budget: Budget,
}

/// How one transfer ended, unless its error ends the pull.
enum End {
    /// All bytes have arrived.
    Complete,
    /// A range was refused; what was there is discarded.
    NoRange,
    /// It stopped early; the pull fails with this unless another transfer makes progress.
    Broken(Failure),
}

impl Pull<'_> {
    async fn run(&mut self) -> Result<(), Error> {
        let mut refetched = false;
        if self.received > self.size {
            self.restart()?;
        }
        loop {
            self.took = Duration::ZERO;
            let end = if self.begun && self.received == self.size {
                End::Complete
            } else {
                self.transfer().await?
            };
            match end {
                End::Complete => match self.sink.finish() {
                    Ok(()) => return Ok(()),
                    Err(_) if self.begun => {
                        self.furthest = 0;
                        self.restart()?;
                    }
                    Err(error) if refetched => return Err(self.error(self.integrity(error))),
                    Err(_) => {
                        refetched = true;
                        self.furthest = 0;
                        self.restart()?;
                    }
                },
                End::NoRange => {}
                End::Broken(failure) => {
                    if self.brought_enough() {
                        self.budget.reset();
                    }
                    self.furthest = self.furthest.max(self.received);
                    match self.budget.take_try(None) {
                        Some(wait) => {
                            let status = failure.response.as_ref().map(|answer| answer.status());
                            let client = self.repository.client();
                            client.wait(self.repository.registry(), wait, status).await;
                        }
                        None => return Err(self.error(failure)),
                    }
                }
            }
        }
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

    /// Requests what is missing and receives it.
    async fn transfer(&mut self) -> Result<End, Error> {
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
            StatusCode::OK => self.restart()?,
            StatusCode::PARTIAL_CONTENT => {
                let text = "the range is not the requested one";
                return self.without_range(self.protocol(head, text));
            }
            _ => return Err(self.error(self.protocol(head, "the status is unexpected for a blob"))),
        }
        self.take(body).await
    }

    fn refused(&mut self, response: Response) -> Result<End, Error> {
        let status = response.status();
        let text = format!("the blob is answered with {status}");
        let failure = Failure::new(ErrorKind::Status, text)
            .at(&Method::GET, response.url())
            .answered(response.clone());
        let about_the_range = status == StatusCode::RANGE_NOT_SATISFIABLE
            || !response.is_foreign()
                && matches!(status.as_u16(), 405 | 406 | 412 | 417 | 500 | 501);
        if self.received > 0 && about_the_range {
            return self.without_range(failure);
        }
        // A signed URL has expired, or an edge server has lost the blob: the registry redirects to
        // a new one.
        let stale = matches!(status.as_u16(), 400 | 401 | 403 | 404 | 410);
        if response.is_foreign() && stale {
            return Ok(End::Broken(failure));
        }
        Err(self.error(failure))
    }

    /// Discards what is there, so that no range is requested next.
    fn without_range(&mut self, failure: Failure) -> Result<End, Error> {
        let first = self.received > 0 && !self.range_refused;
        self.range_refused = true;
        self.restart()?;
        Ok(if first {
            End::NoRange
        } else {
            End::Broken(failure)
        })
    }

    async fn take(&mut self, mut body: Box<Body>) -> Result<End, Error> {
        loop {
            let asked = Instant::now();
            let chunk = body.open.chunk().await;
            self.took += asked.elapsed();
            let chunk = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) if self.received == self.size => return Ok(End::Complete),
                Ok(None) => {
                    let failure = self.integrity(self.length(self.received));
                    return Ok(End::Broken(failure));
                }
                // All bytes have arrived; how the connection ended does not matter.
                Err(_) if self.received == self.size => return Ok(End::Complete),
                Err(failure) => return Ok(End::Broken(failure)),
            };
            self.write(chunk)?;
        }
    }

    fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        let left = self.size - self.received;
        if chunk.len() as u64 > left {
            return Err(self.error(self.integrity(self.length(self.size + 1))));
        }
        self.sink
            .write(&chunk)
            .map_err(|error| self.local("writing", error))?;
        self.received += chunk.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Error> {
        self.received = 0;
        self.begun = false;
        self.sink
            .restart()
            .map_err(|error| self.local("starting over", error))
    }

    fn length(&self, found: u64) -> VerifyError {
        VerifyError::size(self.digest, self.size, found)
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

    fn local(&self, what: &str, error: std::io::Error) -> Error {
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
