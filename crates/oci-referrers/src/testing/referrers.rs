use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use oci_content::{
    Capability, Descriptor, Digest, ErrorCode, LegacyTag, SourceKind, Tag, media_type,
};

use super::dropped::{DROPS, drop_after};
use crate::source::{Answer, Outcome, Query, ReferrerSource};

/// A place that a [`ReferrerSource`] reads, under the control of a test.
#[async_trait]
pub trait ReferrerPlace: Send + Sync {
    /// Returns a source over the place as it is now.
    fn source(&self) -> Arc<dyn ReferrerSource>;

    /// Stores a referrer of a subject, which need not be stored, and returns its digest. Each
    /// `number`, from 0 to 2, gives another referrer.
    async fn refer(&self, subject: &Descriptor, number: usize) -> Digest;

    /// Breaks the place: from now on, every request for the referrers of a subject that has some
    /// fails.
    async fn fail(&self);

    /// Breaks the place so that a source can still read some referrers of a subject, and returns
    /// those. By default returns `None`, for places that give out all or nothing.
    async fn fail_half_way(&self, subject: &Descriptor) -> Option<BTreeSet<Digest>> {
        let _ = subject;
        None
    }
}

/// Tests a [`ReferrerSource`] against its contract. `place` creates an empty place, a new one for
/// each rule.
///
/// - All referrers of a subject are named, and no others. The subject need not be stored.
/// - If there are no referrers, none are named and there is no error.
/// - A failure is never a whole list, and the errors say what happened.
/// - What was read before a failure is kept as a partial list.
/// - Calls agree with each other: repeated calls, simultaneous calls, and calls for a single
///   subject or one of many.
/// - A dropped call does not change later calls.
/// - The kind never changes, and the source uses it in its exchanges and errors.
/// - A list of the kind `referrers-api` comes with the capability `supported`, and sources of tags or
///   manifests have no capability.
/// - A claim has a tag if and only if the kind is `legacy-tag`; it is a legacy tag of the subject.
///
/// # Panics
///
/// When a rule is broken.
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

/// Returns a subject that is not stored.
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

/// What must be equal in two answers to the same query.
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
                "every referrer of a subject must be named, whether or not the subject is stored: expected {expected:?}, got {answer:?}"
            );
            assert!(
                named.is_subset(expected),
                "only referrers of the subject may be named: expected {expected:?}, got {answer:?}"
            );
            assert!(
                answer.outcome == Outcome::List && answer.errors.is_empty(),
                "if everything can be read, the list must be whole and without errors: {answer:?}"
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
            "a subject without referrers has no claims and is not an error: {answer:?}"
        );
        assert!(
            answer.outcome != Outcome::PartialList,
            "an empty list without errors must not be partial: {answer:?}"
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
                "a failure must not be a whole list, not even an empty one: {answer:?}"
            );
            assert!(
                !answer.errors.is_empty(),
                "a failure must be in the errors: {answer:?}"
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
        "what was read before a failure must be kept: {left:?} can be read, got {answer:?}"
    );
    assert!(
        answer.outcome == Outcome::PartialList && !answer.errors.is_empty(),
        "a truncated list must be partial, and the errors must say why: {answer:?}"
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
                "repeated and simultaneous calls must agree, and so must both kinds of query"
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
                "a dropped call must leave no state that a later call trusts"
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
        "the kind of a source must not change: it was {kind}, and is {}",
        source.kind()
    );
    for answer in [well, failed] {
        let exchanges = answer.exchanges.iter().map(|exchange| exchange.source);
        let problems = answer.errors.iter().filter_map(|problem| problem.source);
        let other = exchanges.chain(problems).find(|source| *source != kind);
        assert!(
            other.is_none(),
            "exchanges and errors must have the kind of their source, {kind}: {answer:?}"
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
            "a list of the referrers API must come with the capability `supported`: {answer:?}"
        ),
        SourceKind::Other(_) => {}
        _ => assert_eq!(
            answer.capability, None,
            "only a source that asks the referrers API may have a capability: {answer:?}"
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
            "a claim must have a tag if and only if a legacy tag of the subject names it: {claim:?}"
        );
    }
}
