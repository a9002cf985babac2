use std::sync::Arc;

use oci_content::{Digest, RepositoryName};

use crate::error::{ImportError, ImportErrorKind};
use crate::observed::{ImportObserver, Observed};
use crate::patience::Patience;
use crate::source::Source as _;
use crate::target::{BlobPut, Check, Holding, Target, TargetProfile};

/// One blob, on its way into all repositories that need it.
pub(crate) struct BlobTask {
    pub(crate) target: Arc<dyn Target>,
    pub(crate) source: Observed,
    pub(crate) observer: Arc<dyn ImportObserver>,
    pub(crate) profile: TargetProfile,
    pub(crate) check: Check,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl BlobTask {
    /// Puts the blob into every repository that does not have it, and returns how it came there;
    /// `None` if it was there already.
    pub(crate) async fn run(
        &self,
        repositories: Vec<RepositoryName>,
    ) -> Result<Vec<(RepositoryName, Option<BlobPut>)>, ImportError> {
        let mut done = Vec::with_capacity(repositories.len());
        // A repository that has the blob; the next ones can mount it from there.
        let origins = self.source.repositories_with(&self.digest);
        let mut origins = origins.iter();
        let own = origins.find_map(|origin| self.target.own_repository(origin));
        let mut home = own.as_ref();
        for name in &repositories {
            done.push(match self.blob(name, self.check).await? {
                Holding::Whole => {
                    self.observer.advanced(self.size);
                    None
                }
                there => {
                    let home = home.filter(|_| there == Holding::Nothing);
                    Some(self.put(name, home).await?)
                }
            });
            self.observer.arrived(self.size);
            home.get_or_insert(name);
        }
        Ok(repositories.into_iter().zip(done).collect())
    }

    /// Puts the blob and checks that it is there: a target that accepted it need not have kept it.
    /// Waits for a target that shows it late, and sends it once more to one that does not show it.
    pub(crate) async fn put(
        &self,
        name: &RepositoryName,
        mount_from: Option<&RepositoryName>,
    ) -> Result<BlobPut, ImportError> {
        let content = self.source.blob(&self.digest);
        let (digest, size) = (&self.digest, self.size);
        let put = |from| self.target.put_blob(name, digest, size, &content, from);
        let send = async |from| match put(from).await {
            // What turns out not to be the blob is read once more, as for a pull.
            Err(error) if error.kind() == ImportErrorKind::Integrity => put(None).await,
            done => done,
        };
        let about = |error: ImportError| error.about(digest);
        let mut done = send(mount_from).await.map_err(about)?;
        let mut there = self.shown(name).await?;
        if there != Holding::Whole {
            done = send(None).await.map_err(about)?;
            there = self.shown(name).await?;
        }
        let found = match there {
            Holding::Whole => {
                content.arrived(size);
                return Ok(done);
            }
            Holding::Damaged => "has something else in its place",
            Holding::Nothing => "does not have it",
        };
        let message = format!(
            "{digest} into {}/{name}: it was sent twice and accepted, and the target {found}",
            self.target.name()
        );
        Err(ImportError::new(ImportErrorKind::Incomplete, message))
    }

    /// Returns what the target shows of a blob that was put.
    async fn shown(&self, name: &RepositoryName) -> Result<Holding, ImportError> {
        if self.profile.is_sure {
            return Ok(Holding::Whole);
        }
        let mut patience = Patience::new(self.profile.patience);
        loop {
            match self.blob(name, Check::Size).await? {
                Holding::Nothing if patience.wait().await => {}
                // A reported size is not always right; the content decides.
                Holding::Damaged => return self.blob(name, Check::Content).await,
                there => return Ok(there),
            }
        }
    }

    async fn blob(&self, name: &RepositoryName, check: Check) -> Result<Holding, ImportError> {
        self.target.blob(name, &self.digest, self.size, check).await
    }
}
