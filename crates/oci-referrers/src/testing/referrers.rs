use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use oci_content::{
    Capability, Descriptor, Digest, ErrorCode, LegacyTag, SourceKind, Tag, media_type,
};

use super::dropped::{DROPS, drop_after};
use crate::source::{Answer, Outcome, Query, ReferrerSource};

/// A place that a [`ReferrerSource`] reads, as its tests see it.
#[async_trait]
pub trait ReferrerPlace: Send + Sync {
    /// Returns a source over the place as it is now.
    fn source(&self) -> Arc<dyn ReferrerSource>;

    /// Puts something into the place that refers to a subject, which need not be there, and returns its digest: another
    /// one for each `number`, which is at most 2.
    async fn refer(&self, subject: &Descriptor, number: usize) -> Digest;

    /// Breaks the place: from now on a source can learn nothing about subjects that have referrers.
    async fn fail(&self);

    /// Breaks the place so that a source still learns some referrers of a subject, and returns those; `None`, as by default,
    /// where a source learns everything or nothing.
    async fn fail_half_way(&self, subject: &Descriptor) -> Option<BTreeSet<Digest>> {
        let _ = subject;
        None
    }
}

/// Holds a [`ReferrerSource`] to its contract. `place` makes an empty place, a new one for each rule.
///
/// - All referrers of a subject are named, and none of another one; the subject need not be there.
/// - Where there are none, nothing is named and nothing has failed.
/// - A failure is never a whole list, and says what happened.
/// - What was read before a failure is kept, as a partial list.
/// - Calls agree: repeated, at the same time, for one subject or for one of many.
/// - A call that was dropped leaves nothing behind that changes a later one.
/// - The kind stays the same, and stands in what the source says of itself.
/// - Only a list that comes with the capability `supported` is the referrers API's, and sources that do not ask the API
///   say nothing about it.
/// - Only what a legacy tag names has a tag, and the tag speaks of the subject.
///
/// # Panics
///
/// When a rule is broken, with the rule.
pub async fn referrer_source<P, F>(place: impl Fn() -> F + Sync)
where
    P: ReferrerPlace,
    F: Future<Output = P> + Send,
{
    names_what_is_there(&place().await).await;
    empty_is_said(&place().await).await;
    failure_is_no_list(&place().await).await;
    failure_keeps_what_was_read(&place().await).await;
    calls_agree(&place().await).await;
    dropping_leaves_nothing(&place().await).await;
    kind_is_one_word(&place().await).await;
    capability_is_an_answer(&place().await).await;
    tags_speak_of_the_subject(&place().await).await;
}

/// A subject that is not in the place.
fn subject(name: &str) -> Descriptor {
    let document = format!(r#"{{"schemaVersion":2,"config":{{}},"layers":[],"name":"{name}"}}"#);
    Descriptor::of(media_type::IMAGE_MANIFEST, document.as_bytes())
}

async fn refer(place: &impl ReferrerPlace, subject: &Descriptor, count: usize) -> BTreeSet<Digest> {
    let mut referrers = BTreeSet::new();
    for number in 0..count {
        let referrer = place.refer(subject, number).await;
        assert!(
            referrers.insert(referrer),
            "the place gave two referrers the same digest: the suite cannot tell them apart"
        );
    }
    referrers
}

fn queries(subject: &Descriptor) -> [Query; 2] {
    [
        Query::direct(subject.digest.clone()),
        Query::one_of_many(subject.digest.clone()),
    ]
}

fn named(answer: &Answer) -> BTreeSet<Digest> {
    let claims = answer.claims.iter();
    claims
        .map(|claim| claim.descriptor.digest.clone())
        .collect()
}

/// What two answers to the same question have in common.
type Gist = (
    Outcome,
    BTreeSet<(Digest, Option<Tag>)>,
    BTreeSet<ErrorCode>,
);

fn gist(answer: &Answer) -> Gist {
    let claims = answer.claims.iter();
    let claims = claims.map(|claim| (claim.descriptor.digest.clone(), claim.tag.clone()));
    let errors = answer.errors.iter().map(|problem| problem.code);
    (answer.outcome, claims.collect(), errors.collect())
}

async fn names_what_is_there(place: &impl ReferrerPlace) {
    let (first, second) = (subject("first"), subject("second"));
    let expected = [
        (refer(place, &first, 2).await, first),
        (refer(place, &second, 1).await, second),
    ];
    let source = place.source();
    for (expected, subject) in &expected {
        for query in queries(subject) {
            let answer = source.referrers(&query).await;
            let named = named(&answer);
            assert!(
                expected.is_subset(&named),
                "every referrer of a subject is named, whether the subject is there or not: expected {expected:?}, got {answer:?}"
            );
            assert!(
                named.is_subset(expected),
                "only referrers of the subject are named: expected {expected:?}, got {answer:?}"
            );
            assert!(
                answer.outcome == Outcome::List && answer.errors.is_empty(),
                "where everything can be read the list is whole, without errors: {answer:?}"
            );
        }
    }
}

async fn empty_is_said(place: &impl ReferrerPlace) {
    refer(place, &subject("with referrers"), 1).await;
    for query in queries(&subject("without referrers")) {
        let answer = place.source().referrers(&query).await;
        assert!(
            answer.claims.is_empty() && answer.errors.is_empty(),
            "a subject without referrers has no claims, and is no failure: {answer:?}"
        );
        assert!(
            answer.outcome != Outcome::PartialList,
            "a list of nothing that is partial has failed, and says how: {answer:?}"
        );
    }
}

async fn failure_is_no_list(place: &impl ReferrerPlace) {
    let subject = subject("image");
    refer(place, &subject, 2).await;
    let before = place.source();
    place.fail().await;
    for source in [before, place.source()] {
        for query in queries(&subject) {
            let answer = source.referrers(&query).await;
            assert!(
                answer.outcome != Outcome::List,
                "a failure is never a whole list, and never an empty one: {answer:?}"
            );
            assert!(
                !answer.errors.is_empty(),
                "a failure is said in the errors: {answer:?}"
            );
        }
    }
}

async fn failure_keeps_what_was_read(place: &impl ReferrerPlace) {
    let subject = subject("image");
    refer(place, &subject, 3).await;
    let source = place.source();
    let Some(left) = place.fail_half_way(&subject).await else {
        return;
    };
    let answer = source.referrers(&Query::direct(subject.digest)).await;
    assert!(
        left.is_subset(&named(&answer)),
        "what was read before a failure is kept: {left:?} can be read, got {answer:?}"
    );
    assert!(
        answer.outcome == Outcome::PartialList && !answer.errors.is_empty(),
        "a list that broke off is partial, and the errors say why: {answer:?}"
    );
}

async fn calls_agree(place: &impl ReferrerPlace) {
    let subject = subject("image");
    refer(place, &subject, 2).await;
    let source = place.source();
    let queries = queries(&subject);
    let first = source.referrers(&queries[0]).await;
    for query in &queries {
        for again in join_all([source.referrers(query), source.referrers(query)]).await {
            assert_eq!(
                gist(&again),
                gist(&first),
                "repeated calls agree, at the same time and for one subject of many too"
            );
        }
    }
}

async fn dropping_leaves_nothing(place: &impl ReferrerPlace) {
    let subject = subject("image");
    refer(place, &subject, 2).await;
    let queries = queries(&subject);
    let expected = place.source().referrers(&queries[0]).await;
    let source = place.source();
    for query in &queries {
        for steps in 1..=DROPS {
            drop_after(source.referrers(query), steps).await;
            let answer = source.referrers(query).await;
            assert_eq!(
                gist(&answer),
                gist(&expected),
                "a call that was dropped leaves no state behind that a later call trusts"
            );
        }
    }
}

async fn kind_is_one_word(place: &impl ReferrerPlace) {
    let subject = subject("image");
    refer(place, &subject, 1).await;
    let source = place.source();
    let kind = source.kind();
    let well = source
        .referrers(&Query::direct(subject.digest.clone()))
        .await;
    place.fail().await;
    let failed = source.referrers(&Query::direct(subject.digest)).await;
    assert!(
        source.kind() == kind && place.source().kind() == kind,
        "the kind of a source stays the same: it was {kind}, and is {}",
        source.kind()
    );
    for answer in [well, failed] {
        let exchanges = answer.exchanges.iter().map(|exchange| exchange.source);
        let problems = answer.errors.iter().filter_map(|problem| problem.source);
        let other = exchanges.chain(problems).find(|source| *source != kind);
        assert!(
            other.is_none(),
            "a source speaks of itself by its own kind, {kind}: {answer:?}"
        );
    }
}

async fn capability_is_an_answer(place: &impl ReferrerPlace) {
    let subject = subject("image");
    refer(place, &subject, 1).await;
    let source = place.source();
    let answer = source.referrers(&Query::direct(subject.digest)).await;
    match source.kind() {
        SourceKind::ReferrersApi => assert_eq!(
            answer.capability,
            Some(Capability::Supported),
            "a list of the referrers API shows that there is one: {answer:?}"
        ),
        SourceKind::Other(_) => {}
        _ => assert_eq!(
            answer.capability, None,
            "only a source that asks the referrers API says something about it: {answer:?}"
        ),
    }
}

async fn tags_speak_of_the_subject(place: &impl ReferrerPlace) {
    let subject = subject("image");
    refer(place, &subject, 2).await;
    let source = place.source();
    let answer = source
        .referrers(&Query::direct(subject.digest.clone()))
        .await;
    for claim in &answer.claims {
        let speaks_of = claim.tag.as_ref().map(|tag| {
            let tag = LegacyTag::from_tag(tag);
            tag.is_some_and(|tag| *tag.subject() == subject.digest)
        });
        let expected = (source.kind() == SourceKind::LegacyTag).then_some(true);
        assert_eq!(
            speaks_of, expected,
            "a claim has a tag exactly where a legacy tag of the subject names it: {claim:?}"
        );
    }
}
