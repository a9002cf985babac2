use std::sync::Arc;

use async_trait::async_trait;
use oci_content::{Digest, ErrorCode, media_type};

use super::dropped::{DROPS, drop_after};
use crate::manifests::{ManifestFailure, ManifestSource};

/// A place that a [`ManifestSource`] reads, under the control of a test.
#[async_trait]
pub trait ManifestPlace: Send + Sync {
    /// Returns a source over the place.
    fn source(&self) -> Arc<dyn ManifestSource>;

    /// Stores a manifest under the SHA-256 of its bytes.
    async fn put(&self, raw: &[u8]);

    /// Replaces the bytes that are stored under a digest with other bytes.
    async fn corrupt(&self, digest: &Digest);

    /// Breaks the place: from now on, every read of a stored manifest fails.
    async fn fail(&self);
}

/// Tests a [`ManifestSource`] against its contract. `place` creates an empty place, a new one for
/// each rule.
///
/// - A manifest has the bytes that were stored, and the digest that was requested.
/// - A manifest that is not stored is [`NotFound`](ManifestFailure::NotFound).
/// - Bytes that do not have the digest are a failure with the code `integrity`.
/// - A manifest that cannot be read is a failure, never `NotFound`.
/// - A dropped call does not change later calls.
///
/// # Panics
///
/// When a rule is broken.
pub async fn manifest_source<P, F>(place: impl Fn() -> F + Sync)
where
    P: ManifestPlace,
    F: Future<Output = P> + Send,
{
    gives_the_bytes(&place().await).await;
    absent_is_not_found(&place().await).await;
    other_bytes_are_a_failure(&place().await).await;
    failure_is_no_absence(&place().await).await;
    dropping_leaves_nothing(&place().await).await;
}

/// Returns a manifest with unusual formatting, so that parsing and writing it changes its bytes.
fn manifest() -> Vec<u8> {
    let config = Digest::of(b"{}");
    format!(
        "{{\n  \"unknown\": [1.0, null],\t\"layers\" : [], \"schemaVersion\":2,\n \"mediaType\":\"{}\",\"config\":{{\"size\":2,\
         \"digest\":\"{config}\",\"mediaType\":\"{}\"}} }}\n",
        media_type::IMAGE_MANIFEST,
        media_type::EMPTY,
    )
    .into_bytes()
}

async fn gives_the_bytes(place: &impl ManifestPlace) {
    let raw = manifest();
    place.put(&raw).await;
    let source = place.source();
    for _ in 0..2 {
        let manifest = match source.manifest(&Digest::of(&raw)).await {
            Ok(manifest) => manifest,
            Err(failure) => panic!("a stored manifest must be readable: {failure:?}"),
        };
        assert_eq!(
            manifest.raw(),
            &raw[..],
            "a manifest must have the bytes that were stored"
        );
        assert_eq!(
            *manifest.digest(),
            Digest::of(&raw),
            "a manifest must have the digest that was requested"
        );
    }
}

async fn absent_is_not_found(place: &impl ManifestPlace) {
    place.put(&manifest()).await;
    let answer = place.source().manifest(&Digest::of(b"absent")).await;
    assert!(
        matches!(answer, Err(ManifestFailure::NotFound)),
        "a manifest that is not stored must be `NotFound`: {answer:?}"
    );
}

async fn other_bytes_are_a_failure(place: &impl ManifestPlace) {
    let raw = manifest();
    let digest = Digest::of(&raw);
    place.put(&raw).await;
    let source = place.source();
    place.corrupt(&digest).await;
    match source.manifest(&digest).await {
        Err(ManifestFailure::Failed(problem)) => assert_eq!(
            problem.code,
            ErrorCode::Integrity,
            "bytes that do not have the digest must fail with the code `integrity`: {problem:?}"
        ),
        answer => panic!("bytes that do not have the digest must be a failure: {answer:?}"),
    }
}

async fn failure_is_no_absence(place: &impl ManifestPlace) {
    let raw = manifest();
    place.put(&raw).await;
    let source = place.source();
    place.fail().await;
    let answer = source.manifest(&Digest::of(&raw)).await;
    assert!(
        matches!(answer, Err(ManifestFailure::Failed(_))),
        "a manifest that cannot be read must be a failure, not `NotFound`: {answer:?}"
    );
}

async fn dropping_leaves_nothing(place: &impl ManifestPlace) {
    let raw = manifest();
    let digest = Digest::of(&raw);
    place.put(&raw).await;
    let source = place.source();
    for steps in 1..=DROPS {
        drop_after(source.manifest(&digest), steps).await;
        let answer = source.manifest(&digest).await;
        assert!(
            answer
                .as_ref()
                .is_ok_and(|manifest| manifest.raw() == &raw[..]),
            "a dropped call must not change later calls: {answer:?}"
        );
    }
}
