use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use oci_content::{Descriptor, Digest, Tag, media_type, referrers_tag};
use registry_client::{Precondition, ReferrersTagAnswer, Repository};
use serde_json::{Value, json};

use crate::error::{ImportError, ImportErrorKind};
use crate::manifest_push;
use crate::patience::Patience;
use crate::source::Source;

/// The number of times a write is tried because another writer was faster.
const MAX_ATTEMPTS: usize = 8;

/// Adds referrers to the index under a subject's referrers tag, on a registry without the referrers
/// API.
///
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests-with-subject>
///
/// - Existing entries stay as they are.
/// - If the target lacks one of the referrers, although it claimed to have it, they are sent again.
/// - The write is conditional, on the entity tag that was read or on there being no tag, and the
///   result is read back: a registry need not honour conditions, and another writer may have been
///   faster without either noticing.
/// - If a target refuses the condition although nothing has changed, the write is repeated without
///   one; if it refuses that too, the error repeats the target's words.
/// - The result is looked for as long as `patience` lasts before it is written again.
pub(crate) async fn add(
    repository: &Repository,
    source: &dyn Source,
    subject: &Digest,
    referrers: &[&Descriptor],
    patience: Duration,
) -> Result<(), ImportError> {
    let tag = referrers_tag(subject);
    let what = format!(
        "referrers tag {}/{}:{tag}",
        repository.registry(),
        repository.name()
    );
    let mut patience = Patience::new(patience);
    let mut conditional = true;
    let mut sent_again = false;
    let mut last = None;
    let mut current = Current::read(repository, &tag, Some(subject), &what).await?;
    for _ in 0..MAX_ATTEMPTS {
        let missing = current.lacks(referrers);
        if missing.is_empty() {
            return Ok(());
        }
        let mut entries = current.entries.clone();
        for referrer in missing {
            entries.push(
                serde_json::to_value(referrer).map_err(|error| {
                    ImportError::caused(ImportErrorKind::Integrity, &what, error)
                })?,
            );
        }
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": entries });
        let condition = if conditional {
            current.condition()
        } else {
            Precondition::None
        };
        let bytes = Bytes::from(index.to_string());
        let answer = repository
            .put_manifest(&tag, bytes, media_type::IMAGE_INDEX, condition)
            .await;
        let unsettled = manifest_push::is_unsettled(&answer);
        let mut taken = false;
        last = match answer {
            Ok(response) if response.status().is_success() => {
                taken = true;
                None
            }
            Ok(response) if response.status() == 412 && condition != Precondition::None => {
                let now = Current::read(repository, &tag, Some(subject), &what).await?;
                // If no other writer was faster, the registry accepts no condition, or the tag
                // cannot be written at all.
                conditional = now.digest != current.digest;
                current = now;
                last = None;
                continue;
            }
            Ok(response) if manifest_push::misses_content(&response) && !sent_again => {
                sent_again = true;
                for referrer in referrers {
                    manifest_push::push(repository, source, &referrer.digest, None).await?;
                }
                None
            }
            Ok(response) => Some(ImportError::refused(&what, &response)),
            Err(error) => Some(ImportError::request(&what, error)),
        };
        if let Some(error) = last.take_if(|_| !unsettled) {
            return Err(error);
        }
        let before = current.digest.take();
        loop {
            current = Current::read(repository, &tag, Some(subject), &what).await?;
            let is_late = taken && current.digest == before && !current.lacks(referrers).is_empty();
            if !is_late || !patience.wait().await {
                break;
            }
        }
    }
    if current.lacks(referrers).is_empty() {
        return Ok(());
    }
    if let Some(error) = last {
        return Err(error);
    }
    let message =
        format!("{what}: other writers were faster {MAX_ATTEMPTS} times; run the import again");
    Err(ImportError::new(ImportErrorKind::Network, message))
}

/// Takes entries out of the index under a referrers tag, on a registry without the referrers API.
///
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#deleting-manifests>
///
/// The write is conditional on the entity tag that was read, where there is one; if somebody else was
/// faster, it is repeated on what is there then. The result is read back, as in [`add`].
pub(crate) async fn remove(
    repository: &Repository,
    list: &Tag,
    gone: &BTreeSet<Digest>,
) -> Result<(), ImportError> {
    let (registry, name) = (repository.registry(), repository.name());
    let what = format!("referrers tag {registry}/{name}:{list}");
    let mut conditional = true;
    let mut current = Current::read(repository, list, None, &what).await?;
    for _ in 0..MAX_ATTEMPTS {
        let entries: Vec<&Value> = current.without(gone).collect();
        if entries.len() == current.entries.len() {
            return Ok(());
        }
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": entries });
        let condition = if conditional {
            current.condition()
        } else {
            Precondition::None
        };
        let bytes = Bytes::from(index.to_string());
        let answer = repository
            .put_manifest(list, bytes, media_type::IMAGE_INDEX, condition)
            .await;
        let response = answer.map_err(|error| ImportError::request(&what, error))?;
        let is_refused = response.status() == 412 && condition != Precondition::None;
        if !response.status().is_success() && !is_refused {
            return Err(ImportError::refused(&what, &response));
        }
        let now = Current::read(repository, list, None, &what).await?;
        if is_refused {
            conditional = now.digest != current.digest;
        }
        current = now;
    }
    if current.without(gone).count() == current.entries.len() {
        return Ok(());
    }
    let message =
        format!("{what}: other writers were faster {MAX_ATTEMPTS} times; run the prune again");
    Err(ImportError::new(ImportErrorKind::Network, message))
}

/// What a referrers tag holds.
#[derive(Default)]
struct Current {
    entries: Vec<Value>,
    digests: BTreeSet<Digest>,
    /// `None` if the tag does not exist.
    digest: Option<Digest>,
    etag: Option<String>,
}

impl Current {
    /// Reads the tag; `subject` is what it lists the referrers of, if that is known.
    async fn read(
        repository: &Repository,
        tag: &Tag,
        subject: Option<&Digest>,
        what: &str,
    ) -> Result<Self, ImportError> {
        let response = repository
            .get_manifest(tag)
            .await
            .map_err(|error| ImportError::request(what, error))?;
        // If the tag holds something else, the specification asks a client to report a failure and
        // stop.
        let not_an_index = |found: &str| {
            let message =
                format!("{what} holds {found}; remove that tag at the target, then try again");
            Err(ImportError::new(ImportErrorKind::Access, message))
        };
        let there = Self {
            digest: Some(Digest::of(response.body())),
            etag: response.header("etag").map(str::to_owned),
            ..Self::default()
        };
        let list = match response.referrers_tag_answer() {
            // GitLab returns the subject's own manifest for a referrers tag that does not exist;
            // and if such a tag does exist, overwriting it loses nothing.
            _ if response.status() == 200
                && subject.is_some_and(|subject| subject.matches(response.body())) =>
            {
                return Ok(there);
            }
            ReferrersTagAnswer::List(list) if list.unread > 0 => {
                return not_an_index("an index with more entries than are read");
            }
            ReferrersTagAnswer::List(list) => list,
            ReferrersTagAnswer::Absent => return Ok(Self::default()),
            ReferrersTagAnswer::NotAnIndex(found) => return not_an_index(found),
            ReferrersTagAnswer::Unreadable(reason) => return not_an_index(&reason),
            ReferrersTagAnswer::Denied if manifest_push::denies_absent_tags(repository).await? => {
                return Ok(Self::default());
            }
            _ => return Err(ImportError::refused(what, &response)),
        };
        let document: Value = serde_json::from_slice(response.body())
            .map_err(|error| ImportError::caused(ImportErrorKind::Access, what, error))?;
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
            ..there
        })
    }

    /// Returns the entries that are not of these manifests. What cannot be read stays.
    fn without<'a>(&'a self, gone: &'a BTreeSet<Digest>) -> impl Iterator<Item = &'a Value> {
        self.entries.iter().filter(|entry| {
            let digest = entry.get("digest").and_then(Value::as_str);
            let digest = digest.and_then(|digest| digest.parse::<Digest>().ok());
            !digest.is_some_and(|digest| gone.contains(&digest))
        })
    }

    fn lacks<'a>(&self, referrers: &[&'a Descriptor]) -> Vec<&'a Descriptor> {
        let all = referrers.iter().copied();
        all.filter(|referrer| !self.digests.contains(&referrer.digest))
            .collect()
    }

    /// Returns the condition that protects what another writer has put there in the meantime. A
    /// weak entity tag cannot be a condition: it never matches (RFC 9110, 13.1.1).
    fn condition(&self) -> Precondition<'_> {
        match (&self.digest, &self.etag) {
            (None, _) => Precondition::Absent,
            (Some(_), Some(etag)) if !etag.starts_with("W/") => Precondition::Matches(etag),
            _ => Precondition::None,
        }
    }
}
