//! Finds what a delta leaves out at the target, before anything is sent.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{Digest, RepositoryName};

use crate::error::{ImportError, ImportErrorKind};
use crate::plan::ImportPlan;
use crate::report::BaseReport;
use crate::target::{Check, Holding, Target};

/// A blob that one repository needs and another repository of the same target has.
#[derive(Debug)]
pub(crate) struct Mount {
    digest: Digest,
    from: RepositoryName,
    into: RepositoryName,
}

/// A blob that is left out, with the repository that needs it and its size.
type Wanted<'p> = (&'p RepositoryName, &'p Digest, u64);

/// A search for the blobs of the base at a target.
pub(crate) struct BaseSearch<'a> {
    pub(crate) target: &'a dyn Target,
    pub(crate) plan: &'a ImportPlan,
    /// Further repositories that may have a blob, beyond those of the plan.
    pub(crate) elsewhere: &'a [RepositoryName],
    pub(crate) check: Check,
    /// The digest of the base's `manifest.yaml`.
    pub(crate) base: Option<&'a Digest>,
}

impl BaseSearch<'_> {
    /// Looks up every blob that is left out: in the repository that needs it, then in the others.
    ///
    /// Returns what must be mounted; the error names the blobs that no repository has.
    pub(crate) async fn run(&self) -> Result<Vec<Mount>, ImportError> {
        let profile = self.target.profile();
        let at_once = profile.max_concurrent.get();
        let mut seen = BTreeSet::new();
        let wanted =
            wanted(self.plan).filter(|(_, digest, _)| !profile.is_shared || seen.insert(*digest));
        let mut found = stream::iter(wanted)
            .map(|(name, digest, size)| async move {
                let there = self.has(name, digest, size).await?;
                Ok::<_, ImportError>(((name, digest, size), there))
            })
            .buffer_unordered(at_once)
            .boxed();
        let mut absent = BTreeSet::new();
        while let Some((wanted, there)) = found.try_next().await? {
            if !there {
                absent.insert(wanted);
            }
        }
        let mut homes = BTreeMap::new();
        if !profile.is_shared {
            let blobs = absent.iter().map(|(_, digest, size)| (*digest, *size));
            let blobs: BTreeMap<&Digest, u64> = blobs.collect();
            homes = stream::iter(blobs)
                .map(|(digest, size)| async move {
                    Ok::<_, ImportError>((digest, self.home(digest, size).await?))
                })
                .buffer_unordered(at_once)
                .boxed()
                .try_collect::<BTreeMap<_, _>>()
                .await?;
        }
        let mut mounts = Vec::new();
        let mut lacking = Vec::new();
        for (into, digest, _) in absent {
            match homes.get(digest).copied().flatten() {
                Some(from) => mounts.push(Mount {
                    digest: digest.clone(),
                    from: from.clone(),
                    into: into.clone(),
                }),
                None if profile.is_shared => lacking.push((self.target.name(), digest)),
                None => lacking.push((format!("{}/{into}", self.target.name()), digest)),
            }
        }
        if lacking.is_empty() {
            Ok(mounts)
        } else {
            Err(self.refused(&lacking))
        }
    }

    /// Returns whether a blob is there whole. A damaged one counts as missing, because nothing in
    /// the bundle can replace it.
    async fn has(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) -> Result<bool, ImportError> {
        let there = self
            .target
            .blob(repository, digest, size, self.check)
            .await?;
        Ok(there == Holding::Whole)
    }

    /// Finds a repository that has a blob. A repository that may not be read counts as one that
    /// does not have it.
    async fn home(
        &self,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<&RepositoryName>, ImportError> {
        for name in self.plan.repositories.keys().chain(self.elsewhere) {
            match self.has(name, digest, size).await {
                Ok(true) => return Ok(Some(name)),
                Ok(false) => {}
                Err(error) if error.kind() == ImportErrorKind::Access => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Mounts blobs from one repository of the target into another.
    pub(crate) async fn mount(&self, mounts: Vec<Mount>) -> Result<(), ImportError> {
        let at_once = self.target.profile().max_concurrent.get();
        stream::iter(mounts)
            .map(|mount| async move {
                let Mount { digest, from, into } = &mount;
                let error = match self.target.mount_blob(into, digest, from).await {
                    Err(error) if error.kind() == ImportErrorKind::BaseMissing => error,
                    done => return done,
                };
                let message = format!(
                    "the base brought {digest} to {target}/{from}, this bundle needs it in {target}/{into}, and the \
                     registry does not mount it there; no manifest and no tag was sent; copy the blob there, or export \
                     the images of {into} without a base",
                    target = self.target.name(),
                );
                Err(ImportError::caused(ImportErrorKind::BaseMissing, message, error))
            })
            .buffer_unordered(at_once)
            .try_collect()
            .await
    }

    /// Creates the error that names what is not at the target, and says what to do.
    fn refused(&self, lacking: &[(String, &Digest)]) -> ImportError {
        const SHOWN: usize = 3;
        let shown = lacking.iter().take(SHOWN);
        let shown: Vec<_> = shown
            .map(|(place, digest)| format!("{digest} in {place}"))
            .collect();
        let more = match lacking.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "this bundle is a delta, and the target lacks {} of {} blobs that it leaves out: {}{more}; nothing was sent; \
             import the base first, the bundle whose manifest.yaml is {}, or export without a base",
            lacking.len(),
            wanted(self.plan).count(),
            shown.join(", "),
            self.base.map(ToString::to_string).unwrap_or_default(),
        );
        ImportError::new(ImportErrorKind::BaseMissing, message)
    }
}

/// Returns the blobs that are left out, once for each repository that needs them.
fn wanted(plan: &ImportPlan) -> impl Iterator<Item = Wanted<'_>> {
    let repositories = plan.repositories.iter();
    repositories.flat_map(|(name, repository)| {
        let blobs = repository.left_out.iter();
        blobs.map(move |(digest, size)| (name, digest, *size))
    })
}

/// Returns the report about the base, for a target that has all of it.
pub(crate) fn report(base: Option<&Digest>, plan: &ImportPlan) -> Option<BaseReport> {
    let mut report = BaseReport {
        manifest: base?.clone(),
        blobs: 0,
        bytes: 0,
        mounted: 0,
    };
    for (_, _, size) in wanted(plan) {
        report.blobs += 1;
        report.bytes = report.bytes.saturating_add(size);
    }
    Some(report)
}
