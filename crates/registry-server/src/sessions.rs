use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Mutex as AsyncMutex;

use crate::call::Call;
use crate::error::{ApiError, ErrorCode};
use crate::store::{BlobUpload, Repository};

/// The unfinished uploads.
#[derive(Debug)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<String, Session>>,
    max: usize,
}

#[derive(Clone, Debug)]
struct Session {
    repository: Repository,
    user: Option<Arc<str>>,
    touched: Instant,
    /// Locked while a chunk is being received.
    upload: Arc<AsyncMutex<Progress>>,
}

#[derive(Debug)]
pub(crate) struct Progress {
    /// `None` once the upload was finished or the store has failed.
    pub(crate) upload: Option<Box<dyn BlobUpload>>,
}

impl Progress {
    pub(crate) fn written(&self) -> u64 {
        self.upload.as_ref().map_or(0, |upload| upload.written())
    }
}

impl Sessions {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            open: Mutex::default(),
            max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        // Nothing that happens under the lock can panic.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session. If there are too many, it replaces the one that has been idle longest of
    /// the user who has the most.
    pub(crate) fn open(&self, call: &Call, upload: Box<dyn BlobUpload>) -> String {
        // The keys of the hash come from the random source of the system, so an id cannot be
        // guessed.
        let word = || RandomState::new().hash_one(Instant::now());
        let id = format!("{:016x}{:016x}", word(), word());
        let session = Session {
            repository: call.repository.clone(),
            user: call.user.clone(),
            touched: Instant::now(),
            upload: Arc::new(AsyncMutex::new(Progress {
                upload: Some(upload),
            })),
        };
        let mut open = self.lock();
        if open.len() >= self.max {
            let mut counts = HashMap::<_, usize>::from([(session.user.clone(), 1)]);
            for other in open.values() {
                *counts.entry(other.user.clone()).or_default() += 1;
            }
            let most = counts.values().max().copied();
            let oldest = open
                .iter()
                .filter(|(_, other)| counts.get(&other.user).copied() == most)
                .min_by_key(|(_, session)| session.touched);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                open.remove(&oldest);
            }
        }
        open.insert(id.clone(), session);
        id
    }

    /// Finds a session of the user who sent the request.
    pub(crate) fn find(
        &self,
        call: &Call,
        id: &str,
    ) -> Result<Arc<AsyncMutex<Progress>>, ApiError> {
        match self.lock().get_mut(id) {
            Some(session)
                if session.repository.name() == call.repository.name()
                    && session.user == call.user =>
            {
                session.touched = Instant::now();
                Ok(Arc::clone(&session.upload))
            }
            _ => Err(unknown(id)),
        }
    }

    pub(crate) fn close(&self, id: &str) {
        self.lock().remove(id);
    }
}

pub(crate) fn unknown(id: &str) -> ApiError {
    let message = format!("there is no upload session {id:?}");
    ApiError::not_found(ErrorCode::BlobUploadUnknown, message)
}
