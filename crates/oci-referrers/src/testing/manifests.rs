use std::sync::Arc;

use async_trait::async_trait;
use oci_content::{Digest, ErrorCode, media_type};

use super::dropped::{DROPS, drop_after};
use crate::manifests::{ManifestFailure, ManifestSource};

/// A place that a [`ManifestSource`] reads, as its tests see it.
#[async_trait]
pub trait ManifestPlace: Send + Sync {
    /// Returns a source over the place.
    fn source(&self) -> Arc<dyn ManifestSource>;

    /// Puts a manifest into the place, under the SHA-256 of its bytes.
    async fn put(&self, raw: &[u8]);

    /// Has other bytes given out under a digest that the place holds.
    async fn corrupt(&self, digest: &Digest);

    /// Breaks the place: from now on what it holds cannot be read.
    async fn fail(&self);
}

/// Holds a [`ManifestSource`] to its contract. `place` makes an empty place, a new one for each rule.
///
/// - A manifest comes with the bytes that were stored, and hashes to the digest that was asked for.
/// - What is not there is [`NotFound`](ManifestFailure::NotFound).
/// - Other bytes than those of the digest are a failure with the code `integrity`.
/// - What cannot be read is a failure, and never `NotFound`.
/// - A call that was dropped changes no later one.
///
/// # Panics
///
/// When a rule is broken, with the rule.
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

/// A manifest as nobody would write it: what is parsed and written again has other bytes.
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
            Err(failure) => panic!("what is there is read: {failure:?}"),
        };
        assert_eq!(
            manifest.raw(),
            &raw[..],
            "a manifest comes with the bytes that were stored"
        );
        assert_eq!(
            *manifest.digest(),
            Digest::of(&raw),
            "a manifest has the digest that was asked for"
        );
    }
}

async fn absent_is_not_found(place: &impl ManifestPlace) {
    place.put(&manifest()).await;
    let answer = place.source().manifest(&Digest::of(b"absent")).await;
    assert!(
        matches!(answer, Err(ManifestFailure::NotFound)),
        "what is not there is not found: {answer:?}"
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
            "bytes that do not hash to the digest are a matter of integrity: {problem:?}"
        ),
        answer => panic!("other bytes than those of the digest are a failure: {answer:?}"),
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
        "what cannot be read is a failure, and not an absence: {answer:?}"
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
            "a call that was dropped changes no later one: {answer:?}"
        );
    }
}
