//! What a delta leaves out: found at the target before anything is sent.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{Digest, Registry, RepositoryName};
use registry_client::{Client, Repository};

use crate::blob_push::{self, Holding};
use crate::error::{ImportError, ImportErrorKind};
use crate::plan::ImportPlan;
use crate::report::BaseReport;
use crate::source::BundleSource;

/// A blob that one repository needs and another one of the same registry has.
#[derive(Debug)]
pub(crate) struct Mount {
    digest: Digest,
    from: RepositoryName,
    into: RepositoryName,
}

/// A blob that the bundle leaves out, with the place that needs it and its size.
type Wanted<'p> = (&'p RepositoryName, &'p Digest, u64);

/// The registry in which the blobs of the base are looked for.
pub(crate) struct BaseSearch<'a> {
    pub(crate) client: &'a Client,
    pub(crate) registry: &'a Registry,
    /// Where a blob may be beside the repositories of the plan.
    pub(crate) elsewhere: &'a [RepositoryName],
    pub(crate) at_once: usize,
    /// Whether blobs are read and hashed.
    pub(crate) read: bool,
}

impl BaseSearch<'_> {
    /// Looks up every blob that is left out: where it is needed, else in the other repositories of the import.
    ///
    /// Returns what has to be mounted; the error names what is nowhere.
    pub(crate) async fn run(
        &self,
        bundle: &BundleSource,
        plan: &ImportPlan,
    ) -> Result<Vec<Mount>, ImportError> {
        let mut absent = BTreeSet::new();
        let mut found = stream::iter(wanted(plan))
            .map(|(name, digest, size)| async move {
                let repository = self.client.repository(self.registry, name).for_push();
                let there = self.has(&repository, digest, size).await?;
                Ok((name, digest, size, there))
            })
            .buffer_unordered(self.at_once);
        while let Some((name, digest, size, there)) = found.try_next().await? {
            if !there {
                absent.insert((name, digest, size));
            }
        }
        let blobs: BTreeMap<&Digest, u64> = absent
            .iter()
            .map(|(_, digest, size)| (*digest, *size))
            .collect();
        let homes: BTreeMap<_, _> = stream::iter(blobs)
            .map(|(digest, size)| async move { Ok((digest, self.home(plan, digest, size).await?)) })
            .buffer_unordered(self.at_once)
            .try_collect()
            .await?;
        let mut mounts = Vec::new();
        let mut lacking = Vec::new();
        for (into, digest, _) in absent {
            match homes.get(digest).copied().flatten() {
                Some(from) => mounts.push(Mount {
                    digest: digest.clone(),
                    from: from.clone(),
                    into: into.clone(),
                }),
                None => lacking.push((format!("{}/{into}", self.registry), digest)),
            }
        }
        match lacking.is_empty() {
            true => Ok(mounts),
            false => Err(refused(bundle, plan, &lacking)),
        }
    }

    /// Returns whether a blob is there whole: one that is damaged is as good as none, nothing in the bundle can replace it.
    async fn has(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<bool, ImportError> {
        let there = blob_push::holding(repository, digest, size, self.read).await?;
        Ok(there == Holding::Whole)
    }

    /// Finds a repository that has a blob. One that may not be read is as good as one that does not have it.
    async fn home<'p>(
        &'p self,
        plan: &'p ImportPlan,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<&'p RepositoryName>, ImportError> {
        for name in plan.repositories.keys().chain(self.elsewhere) {
            match self
                .has(&self.client.repository(self.registry, name), digest, size)
                .await
            {
                Ok(true) => return Ok(Some(name)),
                Ok(false) => {}
                Err(error) if error.kind() == ImportErrorKind::Access => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Has the registry take over blobs from one of its repositories into another.
    pub(crate) async fn mount(&self, mounts: Vec<Mount>) -> Result<(), ImportError> {
        stream::iter(mounts)
            .map(|mount| async move {
                let Mount { digest, from, into } = &mount;
                let what = format!(
                    "{digest}, which {} has, into {}/{into}",
                    from, self.registry
                );
                let repository = self.client.repository(self.registry, into).for_push();
                let response = repository
                    .mount_blob(digest, from)
                    .await
                    .map_err(|error| ImportError::request(&what, &error))?;
                match response.status().as_u16() {
                    201 => Ok(()),
                    status => {
                        let message = format!(
                            "the base brought {digest} to {registry}/{from}, this bundle needs it in {registry}/{into}, \
                             and the registry does not mount it there (it answered {status}); no manifest and no \
                             tag was sent; copy the blob there, or export the images of {into} without --base",
                            registry = self.registry,
                        );
                        Err(ImportError::new(ImportErrorKind::BaseMissing, message))
                    }
                }
            })
            .buffer_unordered(self.at_once)
            .try_collect()
            .await
    }
}

/// Lists what the bundle leaves out, once for each repository that needs it.
fn wanted(plan: &ImportPlan) -> impl Iterator<Item = Wanted<'_>> {
    let repositories = plan.repositories.iter();
    repositories.flat_map(|(name, repository)| {
        let blobs = repository.left_out.iter();
        blobs.map(move |(digest, size)| (name, digest, *size))
    })
}

/// Says what is not at the target, and what to do.
pub(crate) fn refused(
    bundle: &BundleSource,
    plan: &ImportPlan,
    lacking: &[(String, &Digest)],
) -> ImportError {
    const SHOWN: usize = 3;
    let shown = lacking.iter().take(SHOWN);
    let shown: Vec<_> = shown
        .map(|(place, digest)| format!("{digest} in {place}"))
        .collect();
    let more = match lacking.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let base = bundle.manifest().base.as_ref();
    let message = format!(
        "this bundle is a delta, and the target lacks {} of {} blobs that it leaves out: {}{more}; nothing was sent; \
         import the base first, the bundle whose manifest.yaml is {}, or export without --base",
        lacking.len(),
        wanted(plan).count(),
        shown.join(", "),
        base.map(ToString::to_string).unwrap_or_default(),
    );
    ImportError::new(ImportErrorKind::BaseMissing, message)
}

/// Reports what the target has from the base, once all of it was found.
pub(crate) fn report(bundle: &BundleSource, plan: &ImportPlan) -> Option<BaseReport> {
    let mut report = BaseReport {
        manifest: bundle.manifest().base.clone()?,
        blobs: 0,
        bytes: 0,
        mounted: 0,
    };
    for size in plan
        .repositories
        .values()
        .flat_map(|repository| repository.left_out.values())
    {
        report.blobs += 1;
        report.bytes = report.bytes.saturating_add(*size);
    }
    Some(report)
}
