//! What the checks ask of a store, without its errors.

use bytes::Bytes;
use oci_content::{Descriptor, Digest, Manifest, RepositoryName, Tag, media_type};
use serde_json::{Value, json};

use crate::precondition::Precondition;
use crate::store::{Repository, Store, StoreError, StoreErrorKind};

pub(super) fn done<T>(result: Result<T, StoreError>) -> T {
    result.unwrap_or_else(|error| panic!("a call that nothing forbids succeeds: {error}"))
}

pub(super) fn kind<T>(result: Result<T, StoreError>) -> Option<StoreErrorKind> {
    result.err().map(|error| error.kind())
}

pub(super) fn blob(store: &dyn Store, repository: &Repository, digest: &Digest) -> Option<Bytes> {
    let blob = done(store.blob(repository, digest))?;
    let read = blob.read(0..blob.size());
    Some(read.unwrap_or_else(|error| panic!("a blob can be read: {error}")))
}

pub(super) fn push(store: &dyn Store, repository: &Repository, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    done(finish(store, repository, bytes, &digest));
    digest
}

pub(super) fn finish(
    store: &dyn Store,
    repository: &Repository,
    bytes: &[u8],
    digest: &Digest,
) -> Result<(), StoreError> {
    let mut upload = store.upload()?;
    // In parts, so that one that is visible too early can be seen.
    for part in bytes.chunks(64 * 1024) {
        upload.write(part)?;
    }
    upload.finish(repository, digest)
}

pub(super) fn put(
    store: &dyn Store,
    repository: &Repository,
    manifest: &Manifest,
    tags: &[Tag],
    precondition: &Precondition,
) -> Result<(), StoreError> {
    store.put_manifest(repository, manifest, tags, precondition)
}

/// Makes an image without layers that `note` tells from every other.
pub(super) fn image(note: &str, subject: Option<&Manifest>) -> Manifest {
    let config = Descriptor::of(media_type::EMPTY, b"{}");
    let mut image = json!({
        "schemaVersion": 2,
        "mediaType": media_type::IMAGE_MANIFEST,
        "artifactType": "application/vnd.example",
        "config": config,
        "layers": [],
        "annotations": {"note": note},
    });
    if let (Some(subject), Value::Object(members)) = (subject, &mut image) {
        members.insert("subject".into(), json!(subject.descriptor()));
    }
    parse(image.to_string())
}

pub(super) fn parse(text: impl Into<Bytes>) -> Manifest {
    Manifest::parse(text.into(), None).expect("the checks write well-formed manifests")
}

pub(super) fn tag(text: &str) -> Tag {
    text.parse().expect("the checks write well-formed tags")
}

pub(super) fn name(text: &str) -> RepositoryName {
    text.parse().expect("the checks write well-formed names")
}
