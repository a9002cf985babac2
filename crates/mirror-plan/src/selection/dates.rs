//! The dates of images, by which the newest are found.

use std::collections::BTreeSet;
use std::time::SystemTime;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{Descriptor, Manifest, ManifestContent, Reference, Tag, media_type};
use oci_referrers::{
    ManifestFailure, ManifestSource as _, RegistryManifests, ResolveError, created, parse_rfc3339,
    resolve,
};
use registry_client::{MemorySink, Repository};
use serde::Deserialize;

use super::tag_rule::Dates;
use crate::error::{PlanError, PlanErrorKind};

/// The most tags of a repository whose configs are read for one rule.
const MAX_DATED_TAGS: usize = 10_000;

/// The most manifests of one image whose configs are read.
const MAX_DATED_CHILDREN: usize = 256;

/// The largest config that is read: 4 MiB.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// The number of tags whose dates are read at once.
const MAX_CONCURRENT_DATES: usize = 8;

const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// The dates of tags.
#[derive(Debug, Default)]
pub(crate) struct Dated {
    pub(crate) dates: Dates,
    /// Tags that the registry lists and does not have.
    pub(crate) vanished: BTreeSet<Tag>,
}

impl Dated {
    /// Reads the dates of tags of a repository.
    ///
    /// # Errors
    ///
    /// When a manifest or a config cannot be read, or there are too many. What has no date is not
    /// an error.
    pub(crate) async fn read(repository: &Repository, tags: Vec<Tag>) -> Result<Self, PlanError> {
        let name = format!("{}/{}", repository.registry(), repository.name());
        if tags.len() > MAX_DATED_TAGS {
            let message = format!(
                "the newest of {} tags of {name} cannot be found by their dates: the configs of at most \
                 {MAX_DATED_TAGS} are read; select fewer tags by a pattern",
                tags.len()
            );
            return Err(PlanError::new(PlanErrorKind::Limit, message));
        }
        let reads = tags.into_iter().map(|tag| async move {
            let date = date_of_tag(repository, &tag).await?;
            Ok::<_, PlanError>((tag, date))
        });
        let read: Vec<_> = stream::iter(reads)
            .buffer_unordered(MAX_CONCURRENT_DATES)
            .try_collect()
            .await?;
        let mut dated = Self::default();
        for (tag, date) in read {
            match date {
                Found::There(date) => drop(dated.dates.insert(tag, date)),
                Found::Vanished => drop(dated.vanished.insert(tag)),
            }
        }
        Ok(dated)
    }
}

enum Found {
    There(Option<SystemTime>),
    Vanished,
}

async fn date_of_tag(repository: &Repository, tag: &Tag) -> Result<Found, PlanError> {
    let (registry, name) = (repository.registry().clone(), repository.name().clone());
    let reference = Reference::with_tag(registry, name, tag.clone());
    let root = match resolve(repository, &reference).await {
        Ok(resolved) => resolved.manifest,
        Err(ResolveError::NotFound { .. }) => return Ok(Found::Vanished),
        Err(error) => return Err(error.into()),
    };
    let (mut newest, mut left, mut seen) = (None, vec![root.clone()], BTreeSet::new());
    while let Some(manifest) = left.pop() {
        newest = newest.max(config_date(repository, &reference, &manifest).await?);
        let children = manifest
            .children()
            .filter(|child| !child.is_buildkit_attestation());
        for child in children {
            if !seen.insert(child.digest.clone()) {
                continue;
            }
            if seen.len() > MAX_DATED_CHILDREN {
                let message = format!(
                    "{reference} lists more than {MAX_DATED_CHILDREN} manifests, too many to find its date"
                );
                return Err(PlanError::new(PlanErrorKind::Limit, message));
            }
            left.extend(child_manifest(repository, &reference, child).await?);
        }
    }
    Ok(Found::There(newest.or_else(|| created(root.annotations()))))
}

/// Reads a child of an index; `None` if the registry does not have it, as in an index of which only
/// some platforms were mirrored.
async fn child_manifest(
    repository: &Repository,
    image: &Reference,
    child: &Descriptor,
) -> Result<Option<Manifest>, PlanError> {
    let manifests = RegistryManifests::new(repository.clone());
    match manifests.manifest(&child.digest).await {
        Ok(manifest) => Ok(Some(manifest)),
        Err(ManifestFailure::NotFound) => Ok(None),
        Err(ManifestFailure::Failed(problem)) => {
            let what = format!(
                "{} of {image}, whose date a rule asks for, could not be read",
                child.digest
            );
            let kind = PlanErrorKind::of_problem(&problem);
            Err(PlanError::new(kind, what).caused_by(problem))
        }
        Err(error) => Err(PlanError::new(PlanErrorKind::Network, error.to_string())),
    }
}

/// Reads the date of an image manifest's config; `None` for other manifests, and if the config has
/// none.
async fn config_date(
    repository: &Repository,
    image: &Reference,
    manifest: &Manifest,
) -> Result<Option<SystemTime>, PlanError> {
    let ManifestContent::Image {
        config: Some(config),
        ..
    } = manifest.content()
    else {
        return Ok(None);
    };
    let is_of_image = [media_type::IMAGE_CONFIG, DOCKER_CONFIG]
        .contains(&&*media_type::essence(&config.media_type));
    if !is_of_image {
        return Ok(None);
    }
    let what = format!("the config of {image}, whose date a rule asks for");
    if config.size > MAX_CONFIG_BYTES {
        let message = format!("{what}, is larger than {MAX_CONFIG_BYTES} bytes");
        return Err(PlanError::new(PlanErrorKind::Limit, message));
    }
    let mut sink = MemorySink::new(config.digest.clone(), config.size);
    if let Err(error) = repository
        .pull_blob(&config.digest, config.size, &mut sink)
        .await
    {
        return Err(PlanError::transfer(what, error));
    }
    let bytes = sink.into_bytes().unwrap_or_default();
    match serde_json::from_slice::<Config>(&bytes) {
        Ok(config) => Ok(config.created.as_deref().and_then(parse_rfc3339)),
        Err(error) => {
            let message = format!("{what}, is malformed: {error}");
            Err(PlanError::new(PlanErrorKind::Incomplete, message))
        }
    }
}

/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md#properties>
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    created: Option<String>,
}
