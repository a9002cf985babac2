use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, StatusCode};
use oci_content::{Digest, RepositoryName};
use url::Url;

use crate::blob::BlobSource;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Failure};
use crate::exchange::{MAX_ERROR_BODY, Payload};
use crate::observer::Endpoint;
use crate::origin::{resolve, same_origin};
use crate::repository::Repository;
use crate::response::Response;
use crate::retry::{self, Budget};

/// How a pushed blob got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlobPush {
    /// The registry took it from another repository of its own.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

impl Repository {
    /// Puts a blob: mounted from `mount_from` if that is given and the registry can (end-11), else sent in
    /// one piece (end-4a and end-6).
    ///
    /// - The bytes are hashed again while they are sent, and the last of them only leaves when they are
    ///   `digest`.
    /// - An upload session that is lost, and a connection that breaks, start over with a new session; if the
    ///   blob is there by then, it is done. It gives up after
    ///   [`max_attempts`](crate::RetryPolicy::max_attempts) sessions.
    /// - The session must be at the registry's own origin.
    ///
    /// # Errors
    /// - [`ErrorKind::Status`] when the registry's last answer refuses; [`Error::response`] has it.
    /// - [`ErrorKind::UntrustedLink`] when the session is at another origin; nothing is sent there.
    /// - [`ErrorKind::LocalIo`] when the source fails, [`ErrorKind::Integrity`] when it gives other bytes.
    /// - When there is no usable answer.
    ///
    /// # Cancellation
    /// An open session is left for the registry to expire.
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
        };
        push.run(mount_from).await
    }
}

struct Push<'a> {
    repository: &'a Repository,
    digest: &'a Digest,
    size: u64,
    source: &'a dyn BlobSource,
}

/// What became of one upload.
enum Sent {
    Done,
    /// It may work in a new session; the error is the push's if there is none.
    Again(Error),
}

impl Push<'_> {
    async fn run(&self, mount_from: Option<&RepositoryName>) -> Result<BlobPush, Error> {
        let mut session = None;
        if let Some(from) = mount_from {
            let answer = self.mount(from).await?;
            match answer.status() {
                StatusCode::CREATED => return Ok(BlobPush::Mounted),
                StatusCode::ACCEPTED => session = Some(self.session(&answer)?),
                // A mount is a shortcut: where it is refused, the blob is sent.
                _ => {}
            }
        }
        let mut budget = Budget::new(self.repository.client().inner().options.retry);
        loop {
            let url = match session.take() {
                Some(url) => url,
                None => self.start().await?,
            };
            let error = match self.send(url).await? {
                Sent::Done => return Ok(BlobPush::Uploaded),
                Sent::Again(error) => error,
            };
            // The registry may have committed the blob before the answer was lost. Where that cannot be
            // known, the upload's own failure counts.
            if self.is_there().await.unwrap_or(false) {
                return Ok(BlobPush::Uploaded);
            }
            let asked = error.response().and_then(Response::retry_after);
            match budget.take_try(asked) {
                Some(wait) => {
                    let status = error.response().map(Response::status);
                    let client = self.repository.client().inner();
                    client.wait(self.repository.registry(), wait, status).await;
                }
                None => return Err(error),
            }
        }
    }

    async fn mount(&self, from: &RepositoryName) -> Result<Response, Error> {
        let mut url = self.repository.url("blobs/uploads/")?;
        url.query_pairs_mut()
            .append_pair("mount", &self.digest.to_string())
            .append_pair("from", from.as_str());
        let call = Call {
            mount_from: Some(from),
            ..self.call(Method::POST, url)
        };
        self.collect(call).await
    }

    async fn start(&self) -> Result<Url, Error> {
        let url = self.repository.url("blobs/uploads/")?;
        let answer = self.collect(self.call(Method::POST, url)).await?;
        match answer.status() {
            StatusCode::ACCEPTED => self.session(&answer),
            status => Err(self.refused(&Method::POST, answer, status)),
        }
    }

    /// Reads where an upload session is.
    fn session(&self, answer: &Response) -> Result<Url, Error> {
        let fail = |kind, text: String| {
            let failure = Failure::new(kind, text).at(&Method::POST, answer.url());
            self.error(failure.answered(answer.clone()))
        };
        let Some(location) = answer.header(LOCATION.as_str()) else {
            let text = "the upload session has no Location";
            return Err(fail(ErrorKind::Protocol, text.into()));
        };
        let Some(url) = resolve(answer.url(), location) else {
            let text = "the upload session is at no plain web address";
            return Err(fail(ErrorKind::UntrustedLink, text.into()));
        };
        if !same_origin(&url, answer.url()) {
            let text = format!(
                "the upload session is at {}, not at the registry",
                url.origin().ascii_serialization()
            );
            return Err(fail(ErrorKind::UntrustedLink, text));
        }
        Ok(url)
    }

    async fn send(&self, mut url: Url) -> Result<Sent, Error> {
        url.query_pairs_mut()
            .append_pair("digest", &self.digest.to_string());
        let mut call = self.call(Method::PUT, url);
        call.headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        call.payload = Payload::Blob {
            source: self.source,
            digest: self.digest,
            size: self.size,
        };
        let answer = match self.collect(call).await {
            Ok(answer) => answer,
            Err(error) if matches!(error.kind(), ErrorKind::Reset | ErrorKind::Timeout) => {
                return Ok(Sent::Again(error));
            }
            Err(error) => return Err(error),
        };
        let status = answer.status();
        match status.as_u16() {
            200 | 201 | 204 => Ok(Sent::Done),
            // The session is lost or is not where the client thinks it is; 400 with BLOB_UPLOAD_UNKNOWN or
            // BLOB_UPLOAD_INVALID says the same.
            404 | 416 => Ok(Sent::Again(self.refused(&Method::PUT, answer, status))),
            400 if names_lost_session(&answer) => {
                Ok(Sent::Again(self.refused(&Method::PUT, answer, status)))
            }
            // The upload may or may not have been committed. (A refusal was already repeated by the call.)
            _ if retry::is_transient(status) && !retry::is_refusal(status) => {
                Ok(Sent::Again(self.refused(&Method::PUT, answer, status)))
            }
            _ => Err(self.refused(&Method::PUT, answer, status)),
        }
    }

    async fn is_there(&self) -> Result<bool, Error> {
        let answer = self.repository.head_blob(self.digest).await?;
        Ok(answer.status() == StatusCode::OK)
    }

    fn call(&self, method: Method, url: Url) -> Call<'_> {
        // A second POST opens one session too many, which expires.
        let idempotent = method == Method::POST;
        Call {
            endpoint: Endpoint::Upload,
            idempotent,
            ..self.repository.call(method, url)
        }
    }

    async fn collect(&self, call: Call<'_>) -> Result<Response, Error> {
        self.repository
            .collect(call, MAX_ERROR_BODY, "64 KiB")
            .await
    }

    fn refused(&self, method: &Method, answer: Response, status: StatusCode) -> Error {
        let text = format!("the upload of {} is answered with {status}", self.digest);
        let failure = Failure::new(ErrorKind::Status, text).at(method, answer.url());
        self.error(failure.answered(answer))
    }

    fn error(&self, failure: Failure) -> Error {
        Error::new(self.repository.registry(), failure)
    }
}

fn names_lost_session(answer: &Response) -> bool {
    answer
        .error_codes()
        .iter()
        .any(|code| matches!(code.as_str(), "BLOB_UPLOAD_UNKNOWN" | "BLOB_UPLOAD_INVALID"))
}
