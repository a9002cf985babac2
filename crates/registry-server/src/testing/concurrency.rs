use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use oci_content::{Digest, Tag};

use super::calls::{blob, done, image, kind, parse, push, put, tag};
use crate::precondition::Precondition;
use crate::store::{Repository, Store, StoreErrorKind};

/// How many threads write at the same time.
const WRITERS: usize = 4;
/// How many changes each of them makes.
const CHANGES: usize = 4;
/// How often a conditional write is tried. Each failure means that another writer has succeeded, so
/// fewer suffice.
const MAX_TRIES: usize = 1000;

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
