//! The contract of [`Store`], as checks that a store's own tests run.
//!
//! Each check panics with a sentence that names the broken rule. [`store`] runs them all:
//!
//! ```
//! use registry_server::{MemoryStore, Repository, testing};
//!
//! let [repository, other] = ["team/app", "team/other"].map(|name| Repository::new(name.parse().unwrap()));
//! testing::store(&MemoryStore::new(), &repository, &other);
//! ```
//!
//! A check writes to the repositories that it is given and expects that no check of the same name has written to them
//! before. What else the store holds does not matter.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use oci_content::{Algorithm, Descriptor, Digest, Manifest, Tag, media_type};
use serde_json::{Value, json};

use crate::store::{Precondition, Repository, Store, StoreError, StoreErrorKind};

/// How many threads write at the same time.
const WRITERS: usize = 4;
/// How many changes each of them makes.
const CHANGES: usize = 4;
/// How often a conditional write is tried. Each failure means that another writer has succeeded, so fewer suffice.
const MAX_TRIES: usize = 1000;

/// Runs every check of this module. `other` is a second repository, for [`mounts`].
///
/// # Panics
///
/// When the store breaks a rule.
pub fn store(store: &dyn Store, repository: &Repository, other: &Repository) {
    repositories(store, repository);
    blobs(store, repository);
    uploads(store, repository);
    mounts(store, repository, other);
    manifests(store, repository);
    tags(store, repository);
    referrers(store, repository);
    preconditions(store, repository);
    removals(store, repository);
    concurrent_writes(store, repository);
    concurrent_reads(store, repository);
}

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

/// Checks that an upload becomes a blob when it is finished with its own digest, and otherwise leaves nothing.
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
    // A store that parses and writes it again loses the spaces, the unknown member or the line break.
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

/// Checks that tags are set together, move, are listed once, and go without their manifest.
///
/// # Panics
///
/// When the store breaks a rule.
pub fn tags(store: &dyn Store, repository: &Repository) {
    let [one, two] = ["tags: one", "tags: two"].map(|note| image(note, None));
    let names = ["tags-a", "tags-b"].map(tag);
    let holds = |tag: &Tag| done(store.resolve(repository, tag));
    let any = Precondition::default();
    done(put(store, repository, &one, &names, &any));
    for name in &names {
        assert_eq!(
            holds(name).as_ref(),
            Some(one.digest()),
            "a push sets each of its tags"
        );
    }
    done(put(store, repository, &two, &names[..1], &any));
    assert_eq!(
        names.each_ref().map(holds),
        [Some(two.digest().clone()), Some(one.digest().clone())],
        "a push moves its own tags and no others"
    );
    let listed = done(store.tags(repository));
    for name in &names {
        let times = listed.iter().filter(|tag| *tag == name).count();
        assert_eq!(times, 1, "each tag is listed once");
    }
    assert!(
        done(store.remove_tag(repository, &names[0], &any)),
        "a tag that is there can be removed"
    );
    assert!(
        holds(&names[0]).is_none() && !done(store.tags(repository)).contains(&names[0]),
        "a removed tag is gone"
    );
    assert!(
        !done(store.remove_tag(repository, &names[0], &any)),
        "the removal of a tag that is not there says so"
    );
    for manifest in [&one, &two] {
        assert!(
            done(store.manifest(repository, manifest.digest())).is_some(),
            "a manifest stays when its tag moves or is removed"
        );
    }
}

/// Checks that a manifest is listed under its subject from the moment it is stored until it is removed.
///
/// # Panics
///
/// When the store breaks a rule.
pub fn referrers(store: &dyn Store, repository: &Repository) {
    let subject = image("referrers: subject", None);
    let [early, tagged] =
        ["referrers: early", "referrers: tagged"].map(|note| image(note, Some(&subject)));
    let index = parse(
        json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_INDEX,
            "artifactType": "application/vnd.example.index",
            "manifests": [],
            "subject": subject.descriptor(),
        })
        .to_string(),
    );
    let any = Precondition::default();
    let listed = || {
        let mut listed = done(store.referrers(repository, subject.digest()));
        listed.sort_by(|a, b| a.digest.cmp(&b.digest));
        listed
    };
    let expected = |manifests: &[&Manifest]| {
        let mut expected: Vec<Descriptor> = manifests.iter().map(|one| one.descriptor()).collect();
        expected.sort_by(|a, b| a.digest.cmp(&b.digest));
        expected
    };
    assert_eq!(
        listed(),
        [],
        "a subject that nothing refers to has no referrers"
    );
    done(put(store, repository, &early, &[], &any));
    assert_eq!(
        listed(),
        expected(&[&early]),
        "a referrer is listed, with artifact type and annotations, before its subject is there"
    );
    done(put(store, repository, &subject, &[], &any));
    done(put(store, repository, &tagged, &[tag("referrers")], &any));
    done(put(store, repository, &index, &[], &any));
    done(put(store, repository, &early, &[], &any));
    assert_eq!(
        listed(),
        expected(&[&early, &tagged, &index]),
        "each referrer is listed once, tagged or not, image or index"
    );
    let other = done(store.referrers(repository, early.digest()));
    assert_eq!(other, [], "a referrer is listed under its own subject only");
    done(put(store, repository, &subject, &[tag("referrers")], &any));
    assert_eq!(
        listed(),
        expected(&[&early, &tagged, &index]),
        "a referrer stays listed when its tag moves"
    );
    assert!(
        done(store.remove_manifest(repository, tagged.digest())),
        "a referrer can be removed"
    );
    assert_eq!(
        listed(),
        expected(&[&early, &index]),
        "a removed referrer is not listed"
    );
    done(store.remove_manifest(repository, subject.digest()));
    assert_eq!(
        listed(),
        expected(&[&early, &index]),
        "a referrer stays listed when its subject is removed"
    );
}

/// Checks that a write whose [`Precondition`] does not hold is refused and changes nothing.
///
/// # Panics
///
/// When the store breaks a rule.
pub fn preconditions(store: &dyn Store, repository: &Repository) {
    let [one, two, three] =
        ["one", "two", "three"].map(|note| image(&format!("preconditions: {note}"), None));
    let names = ["preconditions-a", "preconditions-b"].map(tag);
    let is_there =
        |manifest: &Manifest| done(store.manifest(repository, manifest.digest())).is_some();
    let holds = || {
        names
            .each_ref()
            .map(|tag| done(store.resolve(repository, tag)))
    };
    let first = Some(one.digest().clone());

    let absent = Precondition::if_absent();
    done(put(store, repository, &one, &names[..1], &absent));
    for condition in [&absent, &Precondition::if_match(two.digest())] {
        assert_eq!(
            kind(put(store, repository, &two, &names[..1], condition)),
            Some(StoreErrorKind::Precondition),
            "a push is refused as such when its tag does not hold what the condition asks for"
        );
        assert_eq!(
            kind(store.remove_tag(repository, &names[0], &Precondition::if_match(two.digest()))),
            Some(StoreErrorKind::Precondition),
            "the removal of a tag is refused as such when it does not hold what the condition asks for"
        );
    }
    // The condition holds for the first of the tags, in either order, and not for the other.
    for tags in [[names[1].clone(), names[0].clone()], names.clone()] {
        let condition = if tags[0] == names[0] {
            Precondition::if_match(one.digest())
        } else {
            Precondition::if_absent()
        };
        assert_eq!(
            kind(put(store, repository, &two, &tags, &condition)),
            Some(StoreErrorKind::Precondition),
            "a condition is asked of each tag of a push"
        );
    }
    assert!(
        !is_there(&two) && holds() == [first.clone(), None],
        "a push that is refused stores no manifest and moves no tag"
    );
    let matching = Precondition::if_match(one.digest());
    done(put(store, repository, &two, &names[..1], &matching));
    assert_eq!(
        holds()[0].as_ref(),
        Some(two.digest()),
        "a push whose condition holds moves the tag"
    );

    let bytes = b"preconditions: content";
    let needed = Precondition::default().with_content(vec![Digest::of(bytes)]);
    assert_eq!(
        kind(put(store, repository, &three, &names[..1], &needed)),
        Some(StoreErrorKind::Missing),
        "a push is refused as such when content that it needs is missing"
    );
    assert!(
        !is_there(&three) && holds()[0].as_ref() == Some(two.digest()),
        "a push that is refused stores no manifest and moves no tag"
    );
    push(store, repository, bytes);
    done(put(store, repository, &three, &names[..1], &needed));
    assert!(is_there(&three), "a push whose content is there is stored");
    let matching = Precondition::if_match(three.digest());
    assert!(
        done(store.remove_tag(repository, &names[0], &matching)),
        "the removal of a tag whose condition holds is done"
    );
}

/// Checks that what is removed is gone, and that what a store refuses to remove stays whole.
///
/// # Panics
///
/// When the store breaks a rule.
pub fn removals(store: &dyn Store, repository: &Repository) {
    let any = Precondition::default();
    let loose = push(store, repository, b"removals: loose");
    assert!(
        done(store.remove_blob(repository, &loose)),
        "a blob that nothing needs can be removed"
    );
    assert!(
        blob(store, repository, &loose).is_none(),
        "a removed blob is gone"
    );
    assert!(
        !done(store.remove_blob(repository, &loose)),
        "the removal of a blob that is not there says so"
    );

    let tagged = image("removals: tagged", None);
    let name = tag("removals");
    done(put(
        store,
        repository,
        &tagged,
        std::slice::from_ref(&name),
        &any,
    ));
    assert!(
        done(store.remove_manifest(repository, tagged.digest())),
        "a manifest that nothing needs can be removed"
    );
    assert!(
        done(store.manifest(repository, tagged.digest())).is_none(),
        "a removed manifest is gone"
    );
    assert!(
        done(store.resolve(repository, &name)).is_none()
            && !done(store.tags(repository)).contains(&name),
        "the tags of a removed manifest are gone"
    );
    assert!(
        !done(store.remove_manifest(repository, tagged.digest())),
        "the removal of a manifest that is not there says so"
    );

    let bytes = b"removals: needed";
    let layer = Descriptor::new(
        "application/octet-stream",
        push(store, repository, bytes),
        bytes.len() as u64,
    );
    let parent = parse(
        json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_MANIFEST,
            "config": layer,
            "layers": [],
        })
        .to_string(),
    );
    done(put(store, repository, &parent, &[], &any));
    let is_there = match store.remove_blob(repository, &layer.digest) {
        Ok(removed) => !removed,
        Err(error) => {
            assert_eq!(
                error.kind(),
                StoreErrorKind::Refused,
                "a store that keeps a needed blob refuses its removal as such"
            );
            true
        }
    };
    assert_eq!(
        blob(store, repository, &layer.digest).is_some(),
        is_there,
        "a blob is there after a refused removal, and gone after one that was done"
    );
}

/// Checks that of writes at the same time none is lost.
///
/// # Panics
///
/// When the store breaks a rule.
pub fn concurrent_writes(store: &dyn Store, repository: &Repository) {
    let start = Barrier::new(WRITERS);
    let first = tag("concurrent-first");
    let created = at_once(|writer| {
        let manifest = image(&format!("concurrent: first {writer}"), None);
        start.wait();
        put(
            store,
            repository,
            &manifest,
            std::slice::from_ref(&first),
            &Precondition::if_absent(),
        )
        .is_ok()
    });
    let created = created.into_iter().filter(|created| *created).count();
    assert_eq!(
        created, 1,
        "of several pushes that create the same tag, one succeeds"
    );

    // What several clients do to one referrers tag: read, add, write if it has not changed.
    let shared = tag("concurrent-shared");
    let subject = image("concurrent: subject", None);
    let added = at_once(|writer| {
        let names = (0..CHANGES).map(|change| format!("{writer}.{change}"));
        for name in names.clone() {
            add(store, repository, &shared, &name);
            let referrer = image(&format!("concurrent: referrer {name}"), Some(&subject));
            done(put(
                store,
                repository,
                &referrer,
                &[tag(&format!("concurrent-{name}"))],
                &Precondition::default(),
            ));
        }
        names.collect::<Vec<_>>()
    });
    let current = done(store.resolve(repository, &shared)).expect("the tag was written");
    let current = entries(store, repository, &current);
    let all = done(store.tags(repository));
    let referrers = done(store.referrers(repository, subject.digest()));
    for name in added.into_iter().flatten() {
        assert!(
            current.contains(&name),
            "of several conditional writes to one tag none is lost"
        );
        assert!(
            all.contains(&tag(&format!("concurrent-{name}"))),
            "of several tags that are set at the same time none is lost"
        );
        let referrer = image(&format!("concurrent: referrer {name}"), Some(&subject));
        assert!(
            referrers
                .iter()
                .any(|listed| listed.digest == *referrer.digest()),
            "of several referrers that are pushed at the same time none is lost"
        );
    }
}

/// Checks that nobody sees content before it is whole, or a name before what it names is there.
///
/// # Panics
///
/// When the store breaks a rule.
pub fn concurrent_reads(store: &dyn Store, repository: &Repository) {
    let subject = image("reads: subject", None);
    let bytes = |change: usize| vec![u8::try_from(change).unwrap_or(0); 300 * 1024];
    let referrer = |change: usize| image(&format!("reads: {change}"), Some(&subject));
    let name = tag("reads");
    let over = AtomicBool::new(false);
    let watch = || {
        let digests = (0..CHANGES).map(|change| Digest::of(&bytes(change)));
        let digests: Vec<Digest> = digests.collect();
        loop {
            let last = over.load(Ordering::SeqCst);
            for digest in &digests {
                assert!(
                    blob(store, repository, digest).is_none_or(|bytes| digest.matches(&bytes)),
                    "a blob that is being pushed is seen whole or not at all"
                );
            }
            let held = done(store.resolve(repository, &name));
            let listed = done(store.referrers(repository, subject.digest()));
            let listed = listed.into_iter().map(|listed| listed.digest);
            for digest in held.into_iter().chain(listed) {
                let kept = done(store.manifest(repository, &digest));
                assert!(
                    kept.is_some_and(|kept| digest.matches(&kept.bytes)),
                    "a manifest is there, and whole, before a tag or a referrers list names it"
                );
            }
            if last {
                break;
            }
        }
    };
    let write = || {
        for change in 0..CHANGES {
            push(store, repository, &bytes(change));
            done(put(
                store,
                repository,
                &referrer(change),
                std::slice::from_ref(&name),
                &Precondition::default(),
            ));
        }
    };
    thread::scope(|scope| {
        let watcher = scope.spawn(watch);
        // The watcher must end although the writer has failed.
        let written = scope.spawn(write).join();
        over.store(true, Ordering::SeqCst);
        raise(written);
        raise(watcher.join());
    });
}

/// Adds a name to the annotations of the manifest that a tag holds.
fn add(store: &dyn Store, repository: &Repository, shared: &Tag, name: &str) {
    for _ in 0..MAX_TRIES {
        let current = done(store.resolve(repository, shared));
        let (mut names, condition) = match &current {
            None => (Vec::new(), Precondition::if_absent()),
            Some(digest) => (
                entries(store, repository, digest),
                Precondition::if_match(digest),
            ),
        };
        names.push(name.to_owned());
        let next = image(&format!("concurrent: {}", names.join(" ")), None);
        let put = put(
            store,
            repository,
            &next,
            std::slice::from_ref(shared),
            &condition,
        );
        match kind(put) {
            None => return,
            Some(StoreErrorKind::Precondition) => {}
            Some(kind) => {
                panic!("a conditional write fails only by its condition, not as {kind:?}")
            }
        }
    }
    panic!("a conditional write succeeds once no other writer comes between");
}

fn entries(store: &dyn Store, repository: &Repository, digest: &Digest) -> Vec<String> {
    let kept =
        done(store.manifest(repository, digest)).expect("a tag holds a manifest that is there");
    let manifest = parse(kept.bytes);
    let note = manifest.annotations().get("note").map(String::as_str);
    let names = note.and_then(|note| note.strip_prefix("concurrent: "));
    names
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned)
        .collect()
}

/// Runs `work` on several threads, with the number of each, and returns what they return.
fn at_once<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..WRITERS)
            .map(|writer| scope.spawn(move || work(writer)))
            .collect();
        threads
            .into_iter()
            .map(|thread| raise(thread.join()))
            .collect()
    })
}

/// Panics as the thread did, with the sentence that names the rule.
fn raise<T>(ended: thread::Result<T>) -> T {
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn done<T>(result: Result<T, StoreError>) -> T {
    result.unwrap_or_else(|error| panic!("a call that nothing forbids succeeds: {error}"))
}

fn kind<T>(result: Result<T, StoreError>) -> Option<StoreErrorKind> {
    result.err().map(|error| error.kind())
}

fn blob(store: &dyn Store, repository: &Repository, digest: &Digest) -> Option<Bytes> {
    let blob = done(store.blob(repository, digest))?;
    let read = blob.read(0..blob.size());
    Some(read.unwrap_or_else(|error| panic!("a blob can be read: {error}")))
}

fn push(store: &dyn Store, repository: &Repository, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    done(finish(store, repository, bytes, &digest));
    digest
}

fn finish(
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

fn put(
    store: &dyn Store,
    repository: &Repository,
    manifest: &Manifest,
    tags: &[Tag],
    precondition: &Precondition,
) -> Result<(), StoreError> {
    store.put_manifest(repository, manifest, tags, precondition)
}

/// Makes an image without layers that `note` tells from every other.
fn image(note: &str, subject: Option<&Manifest>) -> Manifest {
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

fn parse(text: impl Into<Bytes>) -> Manifest {
    Manifest::parse(text.into(), None).expect("the checks write well-formed manifests")
}

fn tag(text: &str) -> Tag {
    text.parse().expect("the checks write well-formed tags")
}

fn name(text: &str) -> oci_content::RepositoryName {
    text.parse().expect("the checks write well-formed names")
}

#[cfg(test)]
mod tests;
