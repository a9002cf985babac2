use http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use oci_content::{Digest, RepositoryName};

use crate::blob::BlobSource;
use crate::call::{Access, Call};
use crate::error::{Error, ErrorKind};
use crate::exchange::{MAX_ERROR_BODY, Payload};
use crate::failure::Failure;
use crate::observer::Endpoint;
use crate::repository::Repository;
use crate::response::Response;
use crate::retry::{self, Budget};
use crate::upload::{Part, Slot};
use crate::upload_session::UploadSession;

/// How a pushed blob got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlobPush {
    /// The registry mounted it from another of its repositories.
    Mounted,
    /// The bytes were sent.
    Uploaded,
}

/// The chunk size that is tried first when a registry refuses a blob in one piece.
const MAX_CHUNK_BYTES: u64 = 8 << 20;

/// The smallest chunk size that is tried.
const MIN_CHUNK_BYTES: u64 = 256 << 10;

impl Repository {
    /// Uploads a blob. It is mounted from `mount_from` if given and possible (end-11), else sent in
    /// one piece (end-4a and end-6).
    ///
    /// - The bytes are hashed again while they are sent, and the last ones are only sent if the
    ///   digest matches.
    /// - A blob that is refused as too large (413), usually by a proxy in front of the registry, is
    ///   sent [in
    ///   chunks](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-a-blob-in-chunks)
    ///   (end-5): of 8 MiB, or half of the blob if that is less, then of half that size as long as
    ///   they are refused, down to 256 KiB or `OCI-Chunk-Min-Length`. A size that works is
    ///   remembered for the next blob. Chunks are also tried after two connections that broke
    ///   before anything had arrived.
    /// - A broken upload continues where the registry says it stopped (end-13), and the source is
    ///   read from the last 8 MiB before that place. If the session is lost, a new one is opened, unless the blob exists by then. The push fails after
    ///   [`max_attempts`](crate::RetryPolicy::max_attempts) tries in a row, none of which
    ///   transferred 256 KiB.
    /// - The session must be at the registry's own origin.
    /// - If mounting fails for any reason, the blob is sent.
    ///
    /// # Errors
    /// - [`ErrorKind::Status`] when the last answer of the registry is a refusal;
    ///   [`Error::response`] has it.
    /// - [`ErrorKind::UntrustedLink`] when the session is at another origin; nothing is sent there.
    /// - [`ErrorKind::LocalIo`] when the source fails, [`ErrorKind::Source`] if it is a registry,
    ///   and [`ErrorKind::Integrity`] when its bytes do not match.
    /// - When there is no usable answer.
    ///
    /// # Cancellation
    /// An open session is left for the registry to expire. If the last request was already
    /// processed, the blob exists: [`head_blob`](Self::head_blob) tells.
    pub async fn push_blob(
        &self,
        digest: &Digest,
        size: u64,
        source: &dyn BlobSource,
        mount_from: Option<&RepositoryName>,
    ) -> Result<BlobPush, Error> {
        let push = Push {
            repository: self,
            digest,
            size,
            source,
            slot: Slot::default(),
        };
        push.run(mount_from).await
    }

    /// Asks the registry to mount a blob from another of its repositories (end-11), without sending
    /// it.
    ///
    /// 201 means that it did. Any other status is returned too: 202 opens an upload session, which
    /// is left for the registry to expire.
    ///
    /// # Errors
    /// When there is no usable answer.
    ///
    /// # Cancellation
    /// The blob may be mounted, or a session may be open, which is left for the registry to expire.
    pub async fn mount_blob(
        &self,
        digest: &Digest,
        from: &RepositoryName,
    ) -> Result<Response, Error> {
        self.mount(digest, from, true).await
    }

    async fn mount(
        &self,
        digest: &Digest,
        from: &RepositoryName,
        persistent: bool,
    ) -> Result<Response, Error> {
        let mut url = self.url("blobs/uploads/")?;
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from.as_str());
        let call = Call {
            endpoint: Endpoint::Upload,
            // A repeated request opens one more session, which expires.
            idempotent: persistent,
            mount_from: Some(from),
            ..self.call(Method::POST, url)
        };
        self.collect(call, MAX_ERROR_BODY, "64 KiB").await
    }
}

struct Push<'a> {
    repository: &'a Repository,
    digest: &'a Digest,
    size: u64,
    source: &'a dyn BlobSource,
    slot: Slot,
}

/// The outcome of one try.
enum Sent {
    Done,
    /// Another try may work, in this session if there is one. If there is no other try, the push
    /// fails with this error.
    Again(Error, Option<UploadSession>),
}

impl Push<'_> {
    async fn run(&self, mount_from: Option<&RepositoryName>) -> Result<BlobPush, Error> {
        let mut session = None;
        if let Some(from) = mount_from {
            // Mounting is only a shortcut. If it fails for any reason, from the token for two
            // repositories to an unusable answer, the blob is sent. So it is not retried for long
            // either.
            if let Ok(answer) = self.repository.mount(self.digest, from, false).await {
                match answer.status() {
                    StatusCode::CREATED => return Ok(BlobPush::Mounted),
                    StatusCode::ACCEPTED => session = self.session(&answer).ok(),
                    _ => {}
                }
            }
        }
        let client = self.repository.client();
        let registry = self.repository.registry();
        let host = client.network().host(&self.repository.url("")?);
        let mut chunk = host.max_body_bytes().filter(|max| *max < self.size);
        let mut budget = Budget::new(client.options().retry);
        let mut reached = 0;
        let mut in_vain = 0;
        loop {
            let open = match session.take() {
                Some(session) => session,
                None => self.start().await?,
            };
            let (error, left) = match self.send(open, &mut chunk).await? {
                Sent::Done => {
                    if let Some(bytes) = chunk {
                        host.remember_max_body(bytes);
                    }
                    return Ok(BlobPush::Uploaded);
                }
                Sent::Again(error, left) => (error, left),
            };
            // The registry may have committed the blob before the answer was lost. If that cannot
            // be determined, the failure of the upload counts.
            if self.is_there().await.unwrap_or(false) {
                return Ok(BlobPush::Uploaded);
            }
            if let Some(left) = left {
                let before = left.resumed_at;
                // A resumed session that has received nothing since may not accept chunks.
                session = self
                    .resume(left)
                    .await
                    .filter(|session| before != Some(session.offset));
            }
            if let Some(session) = &session
                && session.offset >= reached + MIN_CHUNK_BYTES
            {
                reached = session.offset;
                budget.reset();
            }
            if session.is_none() && error.kind() == ErrorKind::Reset {
                in_vain += 1;
                // A server that refuses a large body may close the connection before its 413 can be
                // read, and one that does not accept chunks, before its 405.
                chunk = match in_vain {
                    2 if chunk.is_none() => smaller(self.size, 0),
                    3 => None,
                    _ => chunk,
                };
            }
            let asked = error.response().and_then(Response::retry_after);
            match budget.take_try(asked) {
                Some(wait) => {
                    let status = error.response().map(Response::status);
                    client.wait(registry, wait, status).await;
                }
                None => return Err(error),
            }
        }
    }

    async fn start(&self) -> Result<UploadSession, Error> {
        let url = self.repository.url("blobs/uploads/")?;
        let call = Call {
            idempotent: true,
            ..self.repository.call(Method::POST, url)
        };
        let answer = self.collect(call).await?;
        match answer.status() {
            StatusCode::ACCEPTED => self.session(&answer),
            _ => Err(self.refused(&Method::POST, answer)),
        }
    }

    fn session(&self, answer: &Response) -> Result<UploadSession, Error> {
        UploadSession::opened(answer).map_err(|failure| self.error(failure))
    }

    /// Sends what the session does not have yet. `chunk` is the maximum size of one request, once
    /// there is a limit.
    async fn send(
        &self,
        mut session: UploadSession,
        chunk: &mut Option<u64>,
    ) -> Result<Sent, Error> {
        if session.offset == 0 && chunk.is_none() {
            let answer = self.put(&session, Some(self.part(0..self.size))).await;
            let too_large = |answer: &Response| answer.status() == StatusCode::PAYLOAD_TOO_LARGE;
            *chunk = match &answer {
                Ok(answer) if too_large(answer) => smaller(self.size, session.min_chunk_bytes),
                _ => None,
            };
            if chunk.is_none() {
                return self.ended(answer, session);
            }
        }
        while session.offset < self.size {
            let left = self.size - session.offset;
            let length = left.min(chunk.unwrap_or(left).max(session.min_chunk_bytes));
            let end = session.offset + length;
            let answer = match self.patch(&session, end).await {
                Ok(answer) => answer,
                Err(error) => return broken(error, session),
            };
            let status = answer.status();
            match status.as_u16() {
                200..=299 => session
                    .advance(&answer, end)
                    .map_err(|failure| self.error(failure))?,
                413 => match smaller(length, session.min_chunk_bytes) {
                    Some(less) => *chunk = Some(less),
                    None => return Err(self.refused(&Method::PATCH, answer)),
                },
                // The session has another offset than expected.
                416 => {
                    let error = self.refused(&Method::PATCH, answer);
                    return Ok(Sent::Again(error, Some(session)));
                }
                // A registry that accepts a blob in one piece need not accept it in chunks.
                405 | 501 => {
                    *chunk = None;
                    let error = self.refused(&Method::PATCH, answer);
                    return Ok(Sent::Again(error, None));
                }
                _ if chunk.is_none() && !retry::is_refusal(status) => {
                    let error = self.refused(&Method::PATCH, answer);
                    return Ok(Sent::Again(error, None));
                }
                _ => return self.failed(&Method::PATCH, answer, session),
            }
        }
        let answer = self.put(&session, None).await;
        self.ended(answer, session)
    }

    /// Decides what the answer to the final request of a session means.
    fn ended(
        &self,
        answer: Result<Response, Error>,
        session: UploadSession,
    ) -> Result<Sent, Error> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return broken(error, session),
        };
        match answer.status().as_u16() {
            200 | 201 | 204 => Ok(Sent::Done),
            // What it had before was not what it said.
            400 if session.resumed_at.is_some() => {
                let error = self.refused(&Method::PUT, answer);
                Ok(Sent::Again(error, None))
            }
            _ => self.failed(&Method::PUT, answer, session),
        }
    }

    fn failed(
        &self,
        method: &Method,
        answer: Response,
        session: UploadSession,
    ) -> Result<Sent, Error> {
        let status = answer.status();
        let lost = match status.as_u16() {
            404 | 416 => true,
            400 => names_lost_session(&answer),
            _ => false,
        };
        let error = self.refused(method, answer);
        if lost {
            return Ok(Sent::Again(error, None));
        }
        // It may or may not have been processed. (A refusal was already repeated by the call.)
        if retry::is_transient(status) && !retry::is_refusal(status) {
            Ok(Sent::Again(error, Some(session)))
        } else {
            Err(error)
        }
    }

    /// Asks how much of the blob a session has; `None` if it is gone, has nothing, or does not say.
    async fn resume(&self, session: UploadSession) -> Option<UploadSession> {
        let call = Call {
            // The token of the upload is for pushes.
            access: Access::Push,
            ..self.repository.call(Method::GET, session.url.clone())
        };
        let answer = self.collect(call).await.ok()?;
        session.found(&answer, self.size)
    }

    fn part(&self, range: std::ops::Range<u64>) -> Part<'_> {
        Part {
            source: self.source,
            digest: self.digest,
            size: self.size,
            range,
            slot: &self.slot,
        }
    }

    async fn patch(&self, session: &UploadSession, end: u64) -> Result<Response, Error> {
        let range = format!("{}-{}", session.offset, end - 1);
        let mut call = self.repository.call(Method::PATCH, session.url.clone());
        let range = HeaderValue::try_from(range)
            .map_err(|error| self.error(Failure::new(ErrorKind::Protocol, "").caused_by(error)))?;
        call.headers.insert(CONTENT_RANGE, range);
        self.bring(call, self.part(session.offset..end)).await
    }

    async fn put(
        &self,
        session: &UploadSession,
        part: Option<Part<'_>>,
    ) -> Result<Response, Error> {
        let mut url = session.url.clone();
        url.query_pairs_mut()
            .append_pair("digest", &self.digest.to_string());
        let call = self.repository.call(Method::PUT, url);
        match part {
            Some(part) => self.bring(call, part).await,
            None => self.collect(call).await,
        }
    }

    async fn bring<'c>(&self, mut call: Call<'c>, part: Part<'c>) -> Result<Response, Error> {
        call.headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        call.payload = Payload::Part(part);
        self.collect(call).await
    }

    async fn is_there(&self) -> Result<bool, Error> {
        let answer = self.repository.head_blob(self.digest).await?;
        Ok(answer.status() == StatusCode::OK)
    }

    async fn collect(&self, mut call: Call<'_>) -> Result<Response, Error> {
        call.endpoint = Endpoint::Upload;
        self.repository
            .collect(call, MAX_ERROR_BODY, "64 KiB")
            .await
    }

    fn refused(&self, method: &Method, answer: Response) -> Error {
        let status = answer.status();
        let mut text = format!("the upload of {} is answered with {status}", self.digest);
        if let Some(said) = answer.error_message() {
            text.push_str(&format!(" ({said})"));
        }
        if method == Method::PATCH && status == StatusCode::PAYLOAD_TOO_LARGE {
            text.push_str(
                ", even in the smallest chunks; the registry, or a proxy in front of it, limits the size of requests",
            );
        }
        let failure = Failure::new(ErrorKind::Status, text).at(method, answer.url());
        self.error(failure.answered(answer))
    }

    fn error(&self, failure: Failure) -> Error {
        Error::new(self.repository.registry(), failure)
    }
}

/// Returns the chunk size to try after `refused` bytes were too many; at least `min_bytes`.
fn smaller(refused: u64, min_bytes: u64) -> Option<u64> {
    let least = MIN_CHUNK_BYTES.max(min_bytes);
    let less = (refused / 2).clamp(least, MAX_CHUNK_BYTES.max(least));
    (less < refused).then_some(less)
}

/// Decides whether to go on after a request without an answer.
fn broken(error: Error, session: UploadSession) -> Result<Sent, Error> {
    match error.kind() {
        ErrorKind::Reset | ErrorKind::Timeout => Ok(Sent::Again(error, Some(session))),
        _ => Err(error),
    }
}

fn names_lost_session(answer: &Response) -> bool {
    answer
        .error_codes()
        .iter()
        .any(|code| matches!(code.as_str(), "BLOB_UPLOAD_UNKNOWN" | "BLOB_UPLOAD_INVALID"))
}
