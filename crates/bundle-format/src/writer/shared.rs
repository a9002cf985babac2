use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::plan::BundlePlan;

#[derive(Debug)]
pub(super) struct Shared<S> {
    pub(super) plan: BundlePlan,
    pub(super) sink: S,
    pub(super) progress: Mutex<Progress>,
    /// The number of parts of the frame around the files that are settled. Locked while the bundle
    /// is finished.
    pub(super) frame: Mutex<usize>,
    /// Wakes threads that wait for progress.
    pub(super) advanced: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The files that were begun, by their offset, which is shorter than a path.
    pub(super) states: BTreeMap<u64, State>,
    /// Whether the frame around the files is written: every byte is there.
    pub(super) framed: bool,
    /// The writer was dropped: nothing more will come.
    pub(super) closed: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Open,
    /// Written and verified; the CRC-32 of its part of the tar archive.
    Done(u32),
}

impl<S> Shared<S> {
    /// A thread that panicked has left no half-made state: each change is one insertion, removal or
    /// assignment.
    pub(super) fn frame(&self) -> MutexGuard<'_, usize> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
