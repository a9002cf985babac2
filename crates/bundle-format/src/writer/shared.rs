use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::plan::BundlePlan;

#[derive(Debug)]
pub(super) struct Shared<S> {
    pub(super) plan: BundlePlan,
    pub(super) sink: S,
    pub(super) progress: Mutex<Progress>,
    /// How many parts of the frame around the files are settled. Held by the one that ends the bundle.
    pub(super) frame: Mutex<usize>,
    /// Tells those who wait for progress that there was some.
    pub(super) advanced: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What has been begun, by the offset of the file, which is shorter than its path; a file that is not in here has not.
    pub(super) states: BTreeMap<u64, State>,
    /// Whether the frame around the files is written: every byte is there.
    pub(super) framed: bool,
    /// The writer is gone: nothing more will come.
    pub(super) closed: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Open,
    /// Written and verified; the CRC-32 of its part of the tar archive.
    Done(u32),
}

impl<S> Shared<S> {
    /// A thread that panicked has left no half-made state: each change is one insertion, removal or assignment.
    pub(super) fn frame(&self) -> MutexGuard<'_, usize> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
