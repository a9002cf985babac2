use std::collections::BTreeSet;

use bytes::Bytes;
use oci_content::{Descriptor, Digest, media_type, referrers_tag};
use registry_client::{ReferrersTagAnswer, Repository};
use serde_json::{Value, json};

use super::error::{ImportError, ImportErrorKind};
use super::manifest_push;
use super::source::BundleSource;

/// Times that a write is repeated because another writer was faster.
const MAX_ATTEMPTS: usize = 8;

/// Adds referrers to the index under a subject's referrers tag, on a registry without the referrers API.
///
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests-with-subject>
///
/// - Entries that are there stay as they are.
/// - Where the target misses one of the referrers, although it said that it had it, they are sent again.
/// - The write is conditional where the registry gives an `ETag`, and what was written is read back: another
///   writer may have been faster without either noticing.
pub(super) async fn add(
    repository: &Repository,
    bundle: &BundleSource,
    subject: &Digest,
    referrers: &[&Descriptor],
) -> Result<(), ImportError> {
    let tag = referrers_tag(subject);
    let what = format!(
        "referrers tag {}/{}:{tag}",
        repository.registry(),
        repository.name()
    );
    let mut last = None;
    let mut sent_again = false;
    for _ in 0..MAX_ATTEMPTS {
        let current = Current::read(repository, subject, &what).await?;
        let missing: Vec<_> = referrers
            .iter()
            .filter(|referrer| !current.digests.contains(&referrer.digest))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut entries = current.entries;
        for referrer in missing {
            entries.push(serde_json::to_value(referrer).map_err(|error| {
                ImportError::new(ImportErrorKind::Integrity, format!("{what}: {error}"))
            })?);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": entries });
        let bytes = Bytes::from(index.to_string());
        let answer = repository
            .put_manifest(
                &tag,
                bytes,
                media_type::IMAGE_INDEX,
                current.etag.as_deref(),
            )
            .await;
        let unsettled = manifest_push::is_unsettled(&answer);
        last = match answer {
            // Read back at the top of the loop.
            Ok(response) if response.status().is_success() => None,
            Ok(response) if response.status().as_u16() == 412 => None,
            Ok(response) if manifest_push::misses_content(&response) && !sent_again => {
                sent_again = true;
                for referrer in referrers {
                    manifest_push::push(repository, bundle, &referrer.digest, None).await?;
                }
                None
            }
            Ok(response) => Some(ImportError::refused(&what, &response)),
            Err(error) => Some(ImportError::request(&what, &error)),
        };
        if let Some(error) = last.take_if(|_| !unsettled) {
            return Err(error);
        }
    }
    let current = Current::read(repository, subject, &what).await?;
    if referrers
        .iter()
        .all(|referrer| current.digests.contains(&referrer.digest))
    {
        return Ok(());
    }
    if let Some(error) = last {
        return Err(error);
    }
    let message =
        format!("{what}: other writers were faster {MAX_ATTEMPTS} times; run the import again");
    Err(ImportError::new(ImportErrorKind::Network, message))
}

/// What a referrers tag holds.
struct Current {
    entries: Vec<Value>,
    digests: BTreeSet<Digest>,
    etag: Option<String>,
}

impl Current {
    fn absent() -> Self {
        Self {
            entries: Vec::new(),
            digests: BTreeSet::new(),
            etag: None,
        }
    }

    async fn read(
        repository: &Repository,
        subject: &Digest,
        what: &str,
    ) -> Result<Self, ImportError> {
        let response = repository
            .get_manifest(&referrers_tag(subject))
            .await
            .map_err(|error| ImportError::request(what, &error))?;
        // The specification asks a client to report a failure and stop when the tag holds something else.
        let not_an_index = |found: &str| {
            let message =
                format!("{what} holds {found}; remove that tag at the target, then import again");
            Err(ImportError::new(ImportErrorKind::Access, message))
        };
        let list = match response.referrers_tag_answer() {
            // GitLab gives a digest's own manifest under a referrers tag that does not exist; and where such a tag does
            // exist, nothing is lost with it.
            _ if response.status() == 200 && subject.matches(response.body()) => {
                return Ok(Self::absent());
            }
            ReferrersTagAnswer::List(list) if list.unread > 0 => {
                return not_an_index("an index with more entries than are read");
            }
            ReferrersTagAnswer::List(list) => list,
            ReferrersTagAnswer::Absent => return Ok(Self::absent()),
            ReferrersTagAnswer::NotAnIndex(found) => return not_an_index(found),
            ReferrersTagAnswer::Unreadable(reason) => return not_an_index(&reason),
            _ => return Err(ImportError::refused(what, &response)),
        };
        let document: Value = serde_json::from_slice(response.body()).map_err(|error| {
            ImportError::new(ImportErrorKind::Access, format!("{what}: {error}"))
        })?;
        let entries = document
            .get("manifests")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let digests = list
            .entries
            .into_iter()
            .flatten()
            .map(|entry| entry.digest)
            .collect();
        Ok(Self {
            entries,
            digests,
            etag: response.header("etag").map(str::to_owned),
        })
    }
}
