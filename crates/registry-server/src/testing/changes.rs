use oci_content::{Descriptor, Digest, Manifest, Tag, media_type};
use serde_json::json;

use super::calls::{blob, done, image, kind, parse, push, put, tag};
use crate::precondition::Precondition;
use crate::store::{Repository, Store, StoreErrorKind};

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

/// Checks that a manifest is listed under its subject from the moment it is stored until it is
/// removed.
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
