mod broken;

use std::panic::{AssertUnwindSafe, catch_unwind};

use oci_content::{ImageLayout, Registry};

use self::broken::{Broken, Fault};
use super::calls::name;
use super::store;
use crate::{LayoutStore, MemoryStore, Repository};

fn places() -> [Repository; 2] {
    ["contract/one", "contract/two"].map(|text| Repository::new(name(text)))
}

#[test]
fn a_store_in_memory_keeps_the_contract() {
    let [repository, other] = places();
    store(&MemoryStore::new(), &repository, &other);
}

#[test]
fn a_store_over_a_layout_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let layout = ImageLayout::create(folder.path().join("store")).unwrap();
    let host: Registry = "registry.example".parse().unwrap();
    let [repository, other] = places();
    let of_host = |repository: &Repository| repository.clone().with_namespace(Some(host.clone()));
    let default = LayoutStore::new(layout.clone(), Some(host.clone()));
    store(&default, &repository, &other);

    let layout = ImageLayout::create(folder.path().join("namespace")).unwrap();
    let by_namespace = LayoutStore::new(layout, None);
    store(&by_namespace, &of_host(&repository), &of_host(&other));

    let layout = ImageLayout::create(folder.path().join("bare")).unwrap();
    let bare = LayoutStore::new(layout, None).bare_tags_as(repository.name().clone());
    store(&bare, &repository, &other);
}

#[test]
fn a_store_that_breaks_a_rule_is_told_which() {
    for (fault, rule) in [
        (
            Fault::ListsNobody,
            "a repository that exists is listed once",
        ),
        (
            Fault::HasEveryRepository,
            "a repository that nothing was pushed to does not exist",
        ),
        (
            Fault::CutsBlobs,
            "a blob comes back with the bytes and the size that it was pushed with",
        ),
        (
            Fault::HasEveryBlob,
            "a blob that was not pushed is not there",
        ),
        (Fault::KnowsSha256Only, "a blob may have a sha512 digest"),
        (
            Fault::CountsNothing,
            "an upload counts the bytes it was given",
        ),
        (
            Fault::ShowsUnfinishedUploads,
            "an upload that is not finished is no blob",
        ),
        (
            Fault::TakesWrongDigests,
            "an upload whose bytes do not hash to the announced digest is refused",
        ),
        (Fault::MountsInWordsOnly, "a mounted blob is there"),
        (
            Fault::WritesManifestsAnew,
            "a manifest comes back byte for byte",
        ),
        (Fault::ForgetsMediaTypes, "a manifest keeps its media type"),
        (Fault::SetsTheFirstTagOnly, "a push sets each of its tags"),
        (Fault::ListsTagsTwice, "each tag is listed once"),
        (
            Fault::DropsManifestsWithTheirTag,
            "a push moves its own tags and no others",
        ),
        (Fault::KeepsRemovedTags, "a removed tag is gone"),
        (
            Fault::RemovesManifestsWithTheirTag,
            "a manifest stays when its tag moves or is removed",
        ),
        (
            Fault::ListsOnceTheSubjectIsThere,
            "before its subject is there",
        ),
        (
            Fault::ListsWithoutAnnotations,
            "with artifact type and annotations",
        ),
        (Fault::ListsUntaggedOnly, "tagged or not, image or index"),
        (
            Fault::ListsForEverySubject,
            "a referrer is listed under its own subject only",
        ),
        (
            Fault::ListsUntilTheTagMoves,
            "a referrer stays listed when its tag moves",
        ),
        (Fault::ListsRemoved, "a removed referrer is not listed"),
        (
            Fault::RemovesReferrersWithTheSubject,
            "a referrer stays listed when its subject is removed",
        ),
        (
            Fault::IgnoresConditions,
            "a push is refused as such when its tag does not hold",
        ),
        (
            Fault::IgnoresConditionsOfRemovals,
            "the removal of a tag is refused as such",
        ),
        (
            Fault::AsksForTheFirstTagOnly,
            "a condition is asked of each tag of a push",
        ),
        (
            Fault::StoresWhatItRefuses,
            "a push that is refused stores no manifest and moves no tag",
        ),
        (
            Fault::IgnoresMissingContent,
            "content that it needs is missing",
        ),
        (Fault::KeepsRemovedBlobs, "a removed blob is gone"),
        (Fault::KeepsRemovedManifests, "a removed manifest is gone"),
        (
            Fault::KeepsTagsOfRemovedManifests,
            "the tags of a removed manifest are gone",
        ),
        (
            Fault::RemovesWhatIsAbsent,
            "the removal of a blob that is not there says so",
        ),
        (
            Fault::RefusesAndRemoves,
            "a blob is there after a refused removal",
        ),
        (
            Fault::ChecksAndWritesApart,
            "of several pushes that create the same tag, one succeeds",
        ),
        (
            Fault::ReadsAndWritesSharedTagsApart,
            "of several conditional writes to one tag none is lost",
        ),
        (
            Fault::WritesBackTheTagsItRead,
            "of several tags that are set at the same time none is lost",
        ),
        (
            Fault::WritesBackTheReferrersItRead,
            "of several referrers that are pushed at the same time none is lost",
        ),
        (
            Fault::TagsBeforeItStores,
            "before a tag or a referrers list names it",
        ),
        (
            Fault::ShowsHalfABlob,
            "a blob that is being pushed is seen whole or not at all",
        ),
    ] {
        let broken = Broken::new(fault);
        let [repository, other] = places();
        let told = catch_unwind(AssertUnwindSafe(|| store(&broken, &repository, &other)));
        let told = told.expect_err("the suite fails");
        let text = told.downcast_ref::<String>().map(String::as_str);
        let text = text
            .or_else(|| told.downcast_ref::<&str>().copied())
            .unwrap();
        assert!(text.contains(rule), "{fault:?}: {text}");
    }
}
