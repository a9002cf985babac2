use mirror_import::ImportObserver;

use crate::progress::{Current, Phase, Progress};

/// Shows the progress of what is sent.
#[derive(Debug)]
pub(crate) struct Sending {
    progress: Progress,
    current: Current,
    /// What is done, in a word.
    name: &'static str,
}

impl Sending {
    pub(crate) fn new(progress: &Progress, name: &'static str) -> Self {
        Self {
            progress: progress.clone(),
            current: Current::default(),
            name,
        }
    }

    /// Ends what is shown.
    pub(crate) fn end(&self) {
        self.current.end();
    }
}

impl ImportObserver for Sending {
    fn planned(&self, objects: usize, bytes: u64) {
        self.current.begin(|| {
            let phase = self
                .progress
                .phase(self.name, Some(("object", objects as u64)));
            phase.bytes_in_all(Some(bytes));
            phase
        });
    }

    fn advanced(&self, bytes: u64) {
        self.current.with(|phase| phase.bytes(bytes));
    }

    fn set_back(&self, bytes: u64) {
        self.current.with(|phase| phase.bytes_again(bytes));
    }

    fn arrived(&self, _: u64) {
        self.current.with(Phase::one_done);
    }

    fn proving(&self) {
        self.current.begin(|| self.progress.phase("proof", None));
    }
}
