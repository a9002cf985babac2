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
    /// The registry took it from another repository of its own.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

/// The first size that is tried when a registry refuses a blob in one piece.
const MAX_CHUNK_BYTES: u64 = 8 << 20;

/// Smaller chunks than this are not tried, unless the registry's answer to them is known already.
const MIN_CHUNK_BYTES: u64 = 256 << 10;

impl Repository {
    /// Puts a blob: mounted from `mount_from` if that is given and the registry can (end-11), else sent in
    /// one piece (end-4a and end-6).
    ///
    /// - The bytes are hashed again while they are sent, and the last of them only leaves when they are
    ///   `digest`.
    /// - A blob that is refused as too large (413), mostly by a proxy before the registry, is sent
    ///   [in chunks](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-a-blob-in-chunks)
    ///   (end-5): of 8 MiB, or half of the blob if that is less, then of half as much as long as they are refused,
    ///   down to 256 KiB or to `OCI-Chunk-Min-Length`. What works is remembered for the next blob. The same is tried
    ///   after two connections that broke before anything had arrived.
    /// - An upload that breaks goes on from where the registry says it is (end-13). A session that is lost starts
    ///   over with a new one; if the blob is there by then, it is done. It gives up after
    ///   [`max_attempts`](crate::RetryPolicy::max_attempts) tries of which none brought 256 KiB.
    /// - The session must be at the registry's own origin.
    /// - Whatever goes wrong with a mount, the blob is sent.
    ///
    /// # Errors
    /// - [`ErrorKind::Status`] when the registry's last answer refuses; [`Error::response`] has it.
    /// - [`ErrorKind::UntrustedLink`] when the session is at another origin; nothing is sent there.
    /// - [`ErrorKind::LocalIo`] when the source fails, [`ErrorKind::Integrity`] when it gives other bytes.
    /// - When there is no usable answer.
    ///
    /// # Cancellation
    /// An open session, and what it has of the blob, is left for the registry to expire. The blob is there if the last
    /// request was already acted upon: [`head_blob`](Self::head_blob) tells.
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
            reader: Slot::default(),
        };
        push.run(mount_from).await
    }

    /// Asks the registry to take a blob over from another of its repositories (end-11), and sends nothing of it.
    ///
    /// 201 says that it did. Any other status is an answer as well: 202 opens an upload session, which is left for
    /// the registry to expire.
    ///
    /// # Errors
    /// When there is no usable answer.
    ///
    /// # Cancellation
    /// The blob may be there already, or a session may be open, which the registry lets expire.
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
            // A second one opens one session too many, which expires.
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
    reader: Slot,
}

/// What became of one try.
enum Sent {
    Done,
    /// Another try may work, in this session if there is one. The error is the push's if there is no other try.
    Again(Error, Option<UploadSession>),
}

impl Push<'_> {
    async fn run(&self, mount_from: Option<&RepositoryName>) -> Result<BlobPush, Error> {
        let mut session = None;
        if let Some(from) = mount_from {
            // A mount is a shortcut: whatever goes wrong with it, from the token for two repositories to an answer that
            // cannot be used, the blob is sent. So it is not tried for long either.
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
        let host = client
            .network()
            .host(&self.repository.url("")?, registry.as_str());
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
            // The registry may have committed the blob before the answer was lost. Where that cannot be
            // known, the upload's own failure counts.
            if self.is_there().await.unwrap_or(false) {
                return Ok(BlobPush::Uploaded);
            }
            if let Some(left) = left {
                let before = left.resumed_at;
                // A session that was resumed and got nothing since may be one that takes no chunks.
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
                // Whoever refuses a large body may close the connection before its 413 can be read; and whoever
                // takes no chunks, before its 405.
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

    /// Sends what the session has not got. `chunk` is the most that one request may bring, once there is such
    /// a limit.
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
                // The session is not where it was thought to be.
                416 => {
                    let error = self.refused(&Method::PATCH, answer);
                    return Ok(Sent::Again(error, Some(session)));
                }
                // A registry that takes a blob in one piece need not take it in chunks.
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

    /// Decides what the answer that ends a session means.
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
            // What it held before was not what it said.
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
        // It may or may not have been acted upon. (A refusal was already repeated by the call.)
        if retry::is_transient(status) && !retry::is_refusal(status) {
            Ok(Sent::Again(error, Some(session)))
        } else {
            Err(error)
        }
    }

    /// Asks how much of the blob a session holds; `None` where it is gone, holds nothing, or does not say.
    async fn resume(&self, session: UploadSession) -> Option<UploadSession> {
        let call = Call {
            // The token that the upload has is one for pushes.
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
            reader: &self.reader,
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
                ", in the smallest chunks as well; the registry, or a proxy before it, limits what it takes",
            );
        }
        let failure = Failure::new(ErrorKind::Status, text).at(method, answer.url());
        self.error(failure.answered(answer))
    }

    fn error(&self, failure: Failure) -> Error {
        Error::new(self.repository.registry(), failure)
    }
}

/// Returns the size of chunks to try after so many bytes were too many, where none may be shorter than `min_bytes`.
fn smaller(refused: u64, min_bytes: u64) -> Option<u64> {
    let least = MIN_CHUNK_BYTES.max(min_bytes);
    let less = (refused / 2).clamp(least, MAX_CHUNK_BYTES.max(least));
    (less < refused).then_some(less)
}

/// Decides what a request without an answer means.
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
