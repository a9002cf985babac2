use std::collections::BTreeSet;

use async_trait::async_trait;
use oci_content::{Completeness, Digest, ErrorCode, Manifest, RepositoryName, Tag};
use oci_referrers::{
    LegacyTags, ManifestFailure, ManifestSource as _, Problem, ReferrerGraph, RegistryManifests,
    RegistrySources, list_tags,
};
use registry_client::{ManifestId, Repository};

use crate::error::{ImportError, ImportErrorKind};
use crate::manifest_push;
use crate::patience::Patience;
use crate::prune_target::{Deletion, PruneTarget, StoredManifest};
use crate::referrers_tag;
use crate::registry_target::RegistryTarget;
use crate::target::Target as _;

/// The number of tags of one repository that are read.
const MAX_TAGS: usize = 1_000_000;

#[async_trait]
impl PruneTarget for RegistryTarget {
    fn identity(&self) -> String {
        crate::target::Target::identity(self, None)
    }

    async fn tags(&self, name: &RepositoryName) -> Result<BTreeSet<Tag>, ImportError> {
        let tags = list_tags(&self.reader(name), MAX_TAGS).await;
        let tags = tags.map_err(|problem| {
            unsettled(format!("the tags of {}/{name}", self.name()), &problem)
        })?;
        Ok(tags.into_iter().collect())
    }

    async fn manifest(
        &self,
        name: &RepositoryName,
        id: ManifestId<'_>,
    ) -> Result<Option<StoredManifest>, ImportError> {
        let repository = self.reader(name);
        let ManifestId::Digest(digest) = id else {
            return self.tagged(&repository, id).await;
        };
        let what = || format!("manifest {}/{name}@{digest}", self.name());
        match RegistryManifests::new(repository).manifest(digest).await {
            Ok(manifest) => Ok(Some(StoredManifest::from(&manifest))),
            Err(ManifestFailure::NotFound) => Ok(None),
            Err(ManifestFailure::Failed(problem)) => Err(unsettled(what(), &problem)),
            Err(error) => {
                let kind = ImportErrorKind::Incomplete;
                Err(ImportError::caused(kind, what(), error))
            }
        }
    }

    async fn referrers(
        &self,
        name: &RepositoryName,
        subjects: &BTreeSet<Digest>,
    ) -> Result<BTreeSet<(Digest, Digest)>, ImportError> {
        let sources = RegistrySources::new(self.reader(name)).legacy_tags(LegacyTags::Off);
        let discovery = self
            .with_further(name, sources.discovery(None))
            .depth(Some(1));
        let graph = discovery.run(subjects.iter().cloned()).await;
        settled(&graph, || {
            format!("what refers to images of {}/{name}", self.name())
        })?;
        let edges = graph.edges().into_iter();
        Ok(edges
            .map(|(subject, referrer)| (subject.clone(), referrer.clone()))
            .collect())
    }

    async fn delete(
        &self,
        name: &RepositoryName,
        id: ManifestId<'_>,
    ) -> Result<Deletion, ImportError> {
        let repository = self.reader(name);
        let what = format!("deleting {id} in {}/{name}", self.name());
        let response = repository.delete_manifest(id).await;
        let response = response.map_err(|error| ImportError::request(&what, error))?;
        match response.status().as_u16() {
            200..=299 => {}
            // Some registries answer 404 for any tag, because they only delete by digest (Harbor).
            404 | 410 if self.is_there(&repository, id).await? => return Ok(Deletion::Refused),
            404 | 410 => return Ok(Deletion::Absent),
            400 | 405 | 415 | 501 => return Ok(Deletion::Refused),
            _ => return Err(ImportError::refused(&what, &response)),
        }
        // What was accepted need not have happened.
        let mut patience = Patience::new(self.profile().patience);
        while self.is_there(&repository, id).await? {
            if !patience.wait().await {
                return Ok(Deletion::Refused);
            }
        }
        Ok(Deletion::Deleted)
    }

    async fn remove_from_list(
        &self,
        name: &RepositoryName,
        list: &Tag,
        gone: &BTreeSet<Digest>,
    ) -> Result<(), ImportError> {
        referrers_tag::remove(&self.reader(name), list, gone).await
    }
}

impl RegistryTarget {
    async fn is_there(
        &self,
        repository: &Repository,
        id: ManifestId<'_>,
    ) -> Result<bool, ImportError> {
        let what = format!("{}/{} {id}", repository.registry(), repository.name());
        let head = repository.head_manifest(id).await;
        let head = head.map_err(|error| ImportError::request(&what, error))?;
        // Registries that do not serve HEAD answer it with an error status.
        Ok(head.status() == 200 || manifest_push::read(repository, id, &what).await?.is_some())
    }

    /// Reads what a tag stands for.
    async fn tagged(
        &self,
        repository: &Repository,
        id: ManifestId<'_>,
    ) -> Result<Option<StoredManifest>, ImportError> {
        let what = format!("{}/{}:{id}", repository.registry(), repository.name());
        let Some(response) = manifest_push::read(repository, id, &what).await? else {
            return Ok(None);
        };
        let content_type = response.header("content-type");
        let manifest = Manifest::parse(response.body().clone(), content_type);
        let manifest = manifest.map_err(|error| {
            let message = format!("{what} cannot be read, so it is not known what it needs");
            ImportError::caused(ImportErrorKind::Incomplete, message, error)
        })?;
        Ok(Some(StoredManifest::from(&manifest)))
    }
}

/// Fails if a discovery is incomplete; `what` says what it was about.
pub(crate) fn settled(
    graph: &ReferrerGraph,
    what: impl FnOnce() -> String,
) -> Result<(), ImportError> {
    if graph.status() != Completeness::Incomplete {
        return Ok(());
    }
    Err(match graph.errors().next() {
        Some(problem) => unsettled(what(), problem),
        None => ImportError::new(ImportErrorKind::Incomplete, what()),
    })
}

/// Classifies a question without an answer.
fn unsettled(what: String, problem: &Problem) -> ImportError {
    let kind = match problem.code {
        ErrorCode::Denied => ImportErrorKind::Access,
        ErrorCode::Network
        | ErrorCode::RateLimited
        | ErrorCode::ServerError
        | ErrorCode::Timeout => ImportErrorKind::Network,
        _ => ImportErrorKind::Incomplete,
    };
    let message = format!("{what} could not be read: {}", problem.message);
    ImportError::new(kind, message)
}
