use oci_content::{Algorithm, Digest, media_type};
use serde_json::json;

use super::calls::{blob, done, finish, kind, name, parse, push, put, tag};
use crate::precondition::Precondition;
use crate::store::{Repository, Store, StoreErrorKind};

/// Checks that a repository exists from the first push to it, and is listed.
///
/// # Panics
///
/// When the store breaks a rule.
pub fn repositories(store: &dyn Store, repository: &Repository) {
    let nobody = Repository::new(name("contract/nobody-pushes-here"));
    assert!(
        !done(store.contains(&nobody)),
        "a repository that nothing was pushed to does not exist"
    );
    assert!(
        done(store.tags(&nobody)).is_empty(),
        "a repository that does not exist has no tags"
    );
    push(store, repository, b"repositories");
    assert!(
        done(store.contains(repository)),
        "a repository exists once something was pushed to it"
    );
    let listed = done(store.repositories(None));
    let times = listed.iter().filter(|name| *name == repository.name());
    assert_eq!(times.count(), 1, "a repository that exists is listed once");
    assert!(
        !listed.contains(nobody.name()),
        "a repository that does not exist is not listed"
    );
}

/// Checks that blobs come back as they were pushed, and no others.
///
/// # Panics
///
/// When the store breaks a rule.
pub fn blobs(store: &dyn Store, repository: &Repository) {
    // A store may treat large and small ones differently.
    for bytes in [&b""[..], b"blobs", &vec![7; 300 * 1024]] {
        let digest = push(store, repository, bytes);
        assert!(
            blob(store, repository, &digest).is_some_and(|kept| kept == bytes),
            "a blob comes back with the bytes and the size that it was pushed with"
        );
    }
    let digest = Digest::compute(Algorithm::Sha512, b"blobs");
    finish(store, repository, b"blobs", &digest).expect("a blob may have a sha512 digest");
    assert!(
        blob(store, repository, &digest).is_some_and(|kept| kept == b"blobs"[..]),
        "a blob comes back under the digest that it was pushed with"
    );
    let absent = Digest::of(b"blobs: absent");
    assert!(
        blob(store, repository, &absent).is_none(),
        "a blob that was not pushed is not there"
    );
}

/// Checks that an upload becomes a blob when it is finished with its own digest, and otherwise
/// leaves nothing.
///
/// # Panics
///
/// When the store breaks a rule.
pub fn uploads(store: &dyn Store, repository: &Repository) {
    let (first, whole) = (Digest::of(b"uploads: "), Digest::of(b"uploads: whole"));
    let visible = || [&first, &whole].map(|digest| blob(store, repository, digest).is_some());
    let mut upload = done(store.upload());
    assert_eq!(upload.written(), 0, "an upload begins empty");
    done(upload.write(b"uploads: "));
    assert_eq!(
        upload.written(),
        9,
        "an upload counts the bytes it was given"
    );
    done(upload.write(b"whole"));
    assert_eq!(
        visible(),
        [false, false],
        "an upload that is not finished is no blob"
    );
    done(upload.finish(repository, &whole));
    assert_eq!(
        visible(),
        [false, true],
        "a finished upload is the blob of its whole content"
    );

    let (sent, announced) = (Digest::of(b"uploads: sent"), Digest::of(b"uploads: other"));
    assert_eq!(
        kind(finish(store, repository, b"uploads: sent", &announced)),
        Some(StoreErrorKind::Digest),
        "an upload whose bytes do not hash to the announced digest is refused as such"
    );
    let mut dropped = done(store.upload());
    done(dropped.write(b"uploads: dropped"));
    drop(dropped);
    for digest in [sent, announced, Digest::of(b"uploads: dropped")] {
        assert!(
            blob(store, repository, &digest).is_none(),
            "an upload that was refused or dropped leaves nothing"
        );
    }
}

/// Checks that a mount takes a blob that the other repository has, and claims nothing else.
///
/// # Panics
///
/// When the store breaks a rule.
pub fn mounts(store: &dyn Store, repository: &Repository, other: &Repository) {
    let digest = push(store, other, b"mounts");
    assert!(
        done(store.mount(repository, &digest, Some(other))),
        "a blob is mounted from a repository that has it"
    );
    assert!(
        blob(store, repository, &digest).is_some_and(|kept| kept == b"mounts"[..]),
        "a mounted blob is there"
    );
    let absent = Digest::of(b"mounts: absent");
    assert!(
        !done(store.mount(repository, &absent, Some(other))),
        "a blob that no repository has is not mounted"
    );
    // Whether content is found without a hint is the store's affair; what it claims must be true.
    let claimed = done(store.mount(repository, &digest, None));
    assert!(
        !claimed || blob(store, repository, &digest).is_some(),
        "a mounted blob is there"
    );
}

/// Checks that manifests come back as they were pushed, by digest and by tag, and no others.
///
/// # Panics
///
/// When the store breaks a rule.
pub fn manifests(store: &dyn Store, repository: &Repository) {
    // A store that parses and writes it again loses the spaces, the unknown member or the line
    // break.
    let config = Digest::of(b"{}");
    let text = format!(
        "{{ \"schemaVersion\": 2, \"mediaType\":\"{}\",\n\"unknown\": null, \"config\": {{\"size\":2, \"digest\":\"{config}\", \"mediaType\":\"{}\"}}, \"layers\":[] }}\n",
        media_type::IMAGE_MANIFEST,
        media_type::EMPTY
    );
    let odd = parse(text);
    let index = parse(
        json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": []})
            .to_string(),
    );
    let tagged = tag("manifests");
    done(put(store, repository, &odd, &[], &Precondition::default()));
    done(put(
        store,
        repository,
        &index,
        std::slice::from_ref(&tagged),
        &Precondition::default(),
    ));
    for pushed in [&odd, &index] {
        let kept = done(store.manifest(repository, pushed.digest()));
        let kept = kept.expect("a manifest that was pushed is there");
        assert_eq!(
            kept.bytes,
            pushed.raw(),
            "a manifest comes back byte for byte"
        );
        assert_eq!(
            kept.media_type,
            pushed.media_type(),
            "a manifest keeps its media type"
        );
    }
    assert_eq!(
        done(store.resolve(repository, &tagged)).as_ref(),
        Some(index.digest()),
        "a tag holds the manifest that was pushed with it"
    );
    assert!(
        done(store.manifest(repository, &Digest::of(b"manifests: absent"))).is_none(),
        "a manifest that was not pushed is not there"
    );
}
