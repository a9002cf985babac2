use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::connections::ConnectionLimits;
use crate::error::{ApiError, ErrorCode};
use crate::sessions::Sessions;
use crate::store::{Repository, Store, StoreError};
use crate::traffic::ServerObserver;

/// How long an answer waits for permission to open a file.
const FILE_WAIT: Duration = Duration::from_secs(10);

/// The state that all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) options: Options,
    pub(crate) connections: ConnectionLimits,
    pub(crate) sessions: Sessions,
    pub(crate) observer: Option<Arc<dyn ServerObserver>>,
    /// Limits the files that answers read from.
    pub(crate) files: Arc<Semaphore>,
    /// Limits blocking calls of the store, each of which may open a file.
    pub(crate) calls: Semaphore,
    #[cfg(feature = "basic-auth")]
    pub(crate) users: Option<crate::Htpasswd>,
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) read_only: bool,
    pub(crate) referrers_api: bool,
    pub(crate) page_size: Option<NonZeroUsize>,
    pub(crate) page_bytes: u64,
    pub(crate) max_manifest_bytes: u64,
    pub(crate) max_blob_bytes: u64,
    pub(crate) sparse_manifests: bool,
    pub(crate) chunk_min_bytes: Option<u64>,
    /// The hosts that are answered for, `None` for all.
    pub(crate) hosts: Option<Vec<String>>,
}

impl Shared {
    /// Calls the store, on a blocking thread if it blocks.
    pub(crate) async fn store<T, F>(&self, call: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        let _place = if self.store.blocks() {
            self.calls.acquire().await.ok()
        } else {
            None
        };
        let store = Arc::clone(&self.store);
        let answer = run(self.store.blocks(), move || call(&*store)).await?;
        Ok(answer?)
    }

    /// Waits for permission to open a file for an answer.
    pub(crate) async fn file_place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let place = Arc::clone(&self.files).acquire_owned();
        match timeout(FILE_WAIT, place).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => {
                let message = "too many answers are being read from files";
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let error = ApiError::new(status, ErrorCode::TooManyRequests, message);
                Err(error.header(header::RETRY_AFTER, HeaderValue::from_static("10")))
            }
        }
    }

    /// Returns the limit of entries on a page, given what the client asked for.
    pub(crate) fn most(&self, asked: Option<usize>) -> Option<usize> {
        match (asked, self.options.page_size) {
            (Some(asked), Some(most)) => Some(asked.min(most.get())),
            (asked, most) => asked.or(most.map(NonZeroUsize::get)),
        }
    }

    /// Returns the error for something that is not found, or for a repository that does not exist.
    pub(crate) async fn unknown(
        &self,
        repository: Repository,
        code: ErrorCode,
        message: String,
    ) -> ApiError {
        let known = repository.clone();
        match self.store(move |store| store.contains(&known)).await {
            Ok(true) => ApiError::not_found(code, message),
            Ok(false) => {
                let message = format!("there is no repository {}", repository.name());
                ApiError::not_found(ErrorCode::NameUnknown, message)
            }
            Err(error) => error,
        }
    }
}

/// Runs `call` here, or on a blocking thread.
pub(crate) async fn run<T: Send + 'static>(
    blocks: bool,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if !blocks {
        return Ok(call());
    }
    spawn_blocking(call).await.map_err(|_panicked| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Unknown,
            "the store failed",
        )
    })
}
