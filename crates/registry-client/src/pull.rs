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
    /// Gets a blob into `sink` (end-2).
    ///
    /// - A transfer that breaks goes on where it stopped (`Range`), if the server can; else from the start.
    ///   An expired redirect target leads back to the registry. What an earlier pull has brought, as far as `sink` has it
    ///   [written](BlobSink::written), is not asked for again either. It gives up after
    ///   [`max_attempts`](crate::RetryPolicy::max_attempts) broken transfers in a row of which at most the
    ///   first brought enough: as much beyond what had come before as
    ///   [`min_bytes_per_second`](crate::ClientOptions::min_bytes_per_second) asks of the time that it took, and of
    ///   a second at least. So a blob that trickles ends as an error.
    /// - Where a range is refused (416; of the registry itself also 405, 406, 412, 417, 500 and 501), or is answered
    ///   with another one, the blob is fetched from the start, the first time at no cost to these attempts.
    /// - Bytes that are not the blob are thrown away and fetched once more, from the start. Those that were there before
    ///   the pull do not count as fetched.
    /// - Not more than one byte past `size` is read.
    ///
    /// # Errors
    /// - [`ErrorKind::Status`] when the registry's last answer is no blob; [`Error::response`] has it.
    /// - [`ErrorKind::Integrity`] when it is not `digest` or not `size` bytes.
    /// - [`ErrorKind::LocalIo`] when the sink fails.
    /// - When there is no usable answer.
    ///
    /// # Cancellation
    /// What the sink got so far stays there, unverified; a later pull into the same sink goes on from there.
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
    /// The most that had been received before the current transfer: to start over is no progress.
    furthest: u64,
    /// What is there began before this pull.
    begun: bool,
    /// A range has been refused before.
    range_refused: bool,
    /// The time that the current transfer waited for its body.
    took: Duration,
    budget: Budget,
}

/// How one transfer ended, short of an error that ends the pull.
enum End {
    /// All bytes are there.
    Complete,
    /// Nothing came, because a range was asked for; what was there is forgotten.
    NoRange,
    /// It stopped before; the failure is the pull's if no further transfer brings more.
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

    /// Returns whether the current transfer made progress. A server that closes each connection after a byte
    /// goes on for as long as one that sends a byte a minute, hence the second.
    fn brought_enough(&self) -> bool {
        let options = &self.repository.client().options();
        let brought = self.received.saturating_sub(self.furthest);
        brought
            >= options
                .min_bytes(self.took.max(Duration::from_secs(1)))
                .max(1)
    }

    /// Asks for what is missing and takes what comes.
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
                let text = "the range is not the one that was asked for";
                return self.without_range(self.protocol(head, text));
            }
            _ => return Err(self.error(self.protocol(head, "the status is not that of a blob"))),
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
        // A signed URL that has expired, or an edge that has lost the blob: the registry names a fresh one.
        let stale = matches!(status.as_u16(), 400 | 401 | 403 | 404 | 410);
        if response.is_foreign() && stale {
            return Ok(End::Broken(failure));
        }
        Err(self.error(failure))
    }

    /// Forgets what is there, so that no range is asked for next.
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
                // Everything is there; how the connection ended does not matter.
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
        let text = format!("what {host} serves is not what was asked for");
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
