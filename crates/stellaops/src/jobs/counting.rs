use mirror_import::{AuditObserver, PruneObserver};
use oci_content::RepositoryName;
use registry_client::ManifestId;

use crate::progress::{Current, Phase, Progress};

/// Shows how many objects a command is done with.
#[derive(Debug)]
pub(crate) struct Counting {
    current: Current,
}

impl Counting {
    /// Begins to show what is done; `name` says what that is.
    pub(crate) fn new(progress: &Progress, name: &'static str) -> Self {
        let current = Current::default();
        current.begin(|| progress.phase(name, None));
        Self { current }
    }

    /// Ends what is shown.
    pub(crate) fn end(&self) {
        self.current.end();
    }
}

impl AuditObserver for Counting {
    fn looked(&self) {
        self.current.with(Phase::one_done);
    }
}

impl PruneObserver for Counting {
    fn looking(&self, _: &RepositoryName) {}

    fn deleted(&self, _: &RepositoryName, _: ManifestId<'_>) {
        self.current.with(Phase::one_done);
    }
}
