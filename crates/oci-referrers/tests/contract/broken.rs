//! Sources that break one rule each: the suites name it.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::executor::block_on;
use oci_content::{Algorithm, Capability, Descriptor, Digest, ErrorCode, Manifest, SourceKind};
use oci_referrers::testing::{ManifestPlace, ReferrerPlace, manifest_source, referrer_source};
use oci_referrers::{
    Answer, Claim, Exchange, ManifestFailure, ManifestSource, Outcome, Problem, Query,
    ReferrerSource,
};

/// What a source does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    ForgetsTheLast,
    NamesAll,
    CallsWholePartial,
    NeedsTheSubject,
    CallsNothingPartial,
    EmptyOnFailure,
    SilentOnFailure,
    LosesWhatWasRead,
    CallsPartialWhole,
    OneCallAtATime,
    TrustsWhatWasDropped,
    ChangesItsKind,
    SpeaksAsAnother,
    ApiWithoutCapability,
    TagWithCapability,
    TagOfNobody,
    LegacyWithoutTag,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Well,
    HalfWay,
    Failed,
}

/// Rows of subject and referrer.
#[derive(Debug)]
struct Rows {
    flaw: Flaw,
    state: Mutex<State>,
    rows: Mutex<Vec<(Digest, Descriptor)>>,
}

#[derive(Debug)]
struct Source {
    place: Arc<Rows>,
    /// Calls that are under way, and calls that have not come to their end.
    running: AtomicUsize,
    unfinished: AtomicUsize,
}

/// Counts a call for as long as it is not dropped.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Place(Arc<Rows>);

impl Place {
    fn new(flaw: Flaw) -> Self {
        Self(Arc::new(Rows {
            flaw,
            state: Mutex::new(State::Well),
            rows: Mutex::default(),
        }))
    }
}

#[async_trait]
impl ReferrerPlace for Place {
    fn source(&self) -> Arc<dyn ReferrerSource> {
        Arc::new(Source {
            place: Arc::clone(&self.0),
            running: AtomicUsize::new(0),
            unfinished: AtomicUsize::new(0),
        })
    }

    async fn refer(&self, subject: &Descriptor, number: usize) -> Digest {
        let referrer = format!("{number} of {}", subject.digest);
        let referrer = Descriptor::of("text/plain", referrer.as_bytes());
        let digest = referrer.digest.clone();
        let mut rows = self.0.rows.lock().unwrap();
        rows.push((subject.digest.clone(), referrer));
        digest
    }

    async fn fail(&self) {
        *self.0.state.lock().unwrap() = State::Failed;
    }

    async fn fail_half_way(&self, _: &Descriptor) -> Option<BTreeSet<Digest>> {
        *self.0.state.lock().unwrap() = State::HalfWay;
        let rows = self.0.rows.lock().unwrap();
        let first = rows.first().map(|(_, referrer)| referrer.digest.clone());
        Some(first.into_iter().collect())
    }
}

/// Lets others go on, once.
async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            std::task::Poll::Ready(())
        } else {
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        }
    })
    .await;
}

impl Source {
    fn claims(&self, query: &Query) -> Vec<Claim> {
        let flaw = self.place.flaw;
        let rows = self.place.rows.lock().unwrap();
        let of_subject = rows.iter().filter(|(subject, _)| {
            subject == query.subject() || (flaw == Flaw::NamesAll && rows.len() > 2)
        });
        let mut claims: Vec<_> = of_subject
            .map(|(_, entry)| Claim::new(entry.clone()))
            .collect();
        if flaw == Flaw::ForgetsTheLast {
            claims.pop();
        }
        if flaw == Flaw::TagOfNobody {
            for claim in &mut claims {
                claim.tag = Some("latest".parse().unwrap());
            }
        }
        claims
    }
}

#[async_trait]
impl ReferrerSource for Source {
    fn kind(&self) -> SourceKind {
        let failed = *self.place.state.lock().unwrap() == State::Failed;
        let word = match self.place.flaw {
            Flaw::ApiWithoutCapability => "referrers-api",
            Flaw::TagWithCapability => "referrers-tag",
            Flaw::LegacyWithoutTag => "legacy-tag",
            Flaw::ChangesItsKind if failed => "other:broken-rows",
            _ => "other:rows",
        };
        SourceKind::from_word(word).unwrap()
    }

    async fn referrers(&self, query: &Query) -> Answer {
        let flaw = self.place.flaw;
        let running = self.running.fetch_add(1, Ordering::Relaxed);
        let _running = Running(&self.running);
        let unfinished = self.unfinished.fetch_add(1, Ordering::Relaxed);
        match flaw {
            Flaw::OneCallAtATime if running > 0 => return Answer::none(),
            Flaw::TrustsWhatWasDropped if unfinished > running => return Answer::list([]),
            _ => {}
        }
        pause().await;
        self.unfinished.fetch_sub(1, Ordering::Relaxed);
        let claims = self.claims(query);
        let gone = || Problem::new(ErrorCode::Network, "the rows are gone");
        let state = *self.place.state.lock().unwrap();
        let mut answer = match (state, flaw) {
            (State::Failed, Flaw::EmptyOnFailure) => Answer::list([]),
            (State::Failed, Flaw::SilentOnFailure) => Answer::none(),
            (State::HalfWay, Flaw::LosesWhatWasRead) | (State::Failed, _) => Answer::failed(gone()),
            (State::HalfWay, _) => {
                let mut answer = Answer::list(claims.into_iter().take(1));
                if flaw != Flaw::CallsPartialWhole {
                    answer.fail(gone());
                }
                answer
            }
            (State::Well, Flaw::NeedsTheSubject) if claims.is_empty() => Answer::failed(gone()),
            (State::Well, Flaw::CallsNothingPartial) if claims.is_empty() => {
                Answer::with_outcome(Outcome::PartialList)
            }
            (State::Well, _) => Answer::list(claims),
        };
        match flaw {
            Flaw::CallsWholePartial => answer.outcome = Outcome::PartialList,
            Flaw::TagWithCapability => answer.capability = Some(Capability::Unsupported),
            Flaw::SpeaksAsAnother => {
                let exchange = Exchange::new(SourceKind::ReferrersApi, "GET", "200");
                answer.exchanges.push(exchange);
            }
            _ => {}
        }
        answer
    }
}

/// Returns what a suite says of what it is shown; empty where it finds nothing wrong.
fn verdict(suite: impl Future<Output = ()>) -> String {
    match catch_unwind(AssertUnwindSafe(|| block_on(suite))) {
        Ok(()) => String::new(),
        Err(panic) => match panic.downcast::<String>() {
            Ok(message) => *message,
            Err(other) => (*other.downcast::<&str>().unwrap()).to_owned(),
        },
    }
}

#[test]
fn each_broken_rule_of_a_referrer_source_is_named() {
    let judge = |flaw| verdict(referrer_source(move || async move { Place::new(flaw) }));
    assert_eq!(judge(Flaw::None), "");
    for (flaw, rule) in [
        (
            Flaw::ForgetsTheLast,
            "every referrer of a subject must be named",
        ),
        (Flaw::NamesAll, "only referrers of the subject may be named"),
        (
            Flaw::CallsWholePartial,
            "the list must be whole and without errors",
        ),
        (
            Flaw::NeedsTheSubject,
            "a subject without referrers has no claims and is not an error",
        ),
        (
            Flaw::CallsNothingPartial,
            "an empty list without errors must not be partial",
        ),
        (
            Flaw::EmptyOnFailure,
            "a failure must not be a whole list, not even an empty one",
        ),
        (Flaw::SilentOnFailure, "a failure must be in the errors"),
        (
            Flaw::LosesWhatWasRead,
            "what was read before a failure must be kept",
        ),
        (Flaw::CallsPartialWhole, "a truncated list must be partial"),
        (
            Flaw::OneCallAtATime,
            "repeated and simultaneous calls must agree",
        ),
        (
            Flaw::TrustsWhatWasDropped,
            "a dropped call must leave no state",
        ),
        (Flaw::ChangesItsKind, "the kind of a source must not change"),
        (
            Flaw::SpeaksAsAnother,
            "exchanges and errors must have the kind of their source",
        ),
        (
            Flaw::ApiWithoutCapability,
            "a list of the referrers API must come with the capability `supported`",
        ),
        (
            Flaw::TagWithCapability,
            "only a source that asks the referrers API",
        ),
        (Flaw::TagOfNobody, "a claim must have a tag if and only if"),
        (
            Flaw::LegacyWithoutTag,
            "a claim must have a tag if and only if",
        ),
    ] {
        let said = judge(flaw);
        assert!(said.contains(rule), "{flaw:?}: {said:?}");
    }
}

/// What a source of manifests does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ManifestFlaw {
    None,
    HasNothing,
    WritesAnew,
    AnotherDigest,
    AbsentIsFailure,
    TrustsBytes,
    CorruptIsMalformed,
    FailureIsAbsence,
    FailsAfterADrop,
}

#[derive(Debug)]
struct Manifests {
    flaw: ManifestFlaw,
    failed: AtomicBool,
    /// A call has begun and not ended.
    begun: AtomicBool,
    stored: Mutex<Vec<(Digest, Bytes)>>,
}

struct ManifestRows(Arc<Manifests>);

impl ManifestRows {
    fn new(flaw: ManifestFlaw) -> Self {
        Self(Arc::new(Manifests {
            flaw,
            failed: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            stored: Mutex::default(),
        }))
    }
}

#[async_trait]
impl ManifestPlace for ManifestRows {
    fn source(&self) -> Arc<dyn ManifestSource> {
        Arc::<Manifests>::clone(&self.0)
    }

    async fn put(&self, raw: &[u8]) {
        let mut stored = self.0.stored.lock().unwrap();
        stored.push((Digest::of(raw), Bytes::copy_from_slice(raw)));
    }

    async fn corrupt(&self, digest: &Digest) {
        let mut stored = self.0.stored.lock().unwrap();
        let row = stored.iter_mut().find(|(own, _)| own == digest).unwrap();
        row.1 = [&row.1[..], b" "].concat().into();
    }

    async fn fail(&self) {
        self.0.failed.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl ManifestSource for Manifests {
    async fn manifest(&self, digest: &Digest) -> Result<Manifest, ManifestFailure> {
        let failed = |code| ManifestFailure::Failed(Problem::new(code, "the rows are gone"));
        let flaw = self.flaw;
        if self.begun.swap(true, Ordering::Relaxed) && flaw == ManifestFlaw::FailsAfterADrop {
            return Err(failed(ErrorCode::Network));
        }
        pause().await;
        self.begun.store(false, Ordering::Relaxed);
        if self.failed.load(Ordering::Relaxed) {
            return Err(match flaw {
                ManifestFlaw::FailureIsAbsence => ManifestFailure::NotFound,
                _ => failed(ErrorCode::Network),
            });
        }
        let stored = self.stored.lock().unwrap();
        let raw = stored.iter().find(|(own, _)| own == digest);
        let Some(raw) = raw.map(|(_, raw)| raw.clone()) else {
            return Err(match flaw {
                ManifestFlaw::AbsentIsFailure => failed(ErrorCode::ServerError),
                _ => ManifestFailure::NotFound,
            });
        };
        let read = match flaw {
            ManifestFlaw::HasNothing => return Err(ManifestFailure::NotFound),
            ManifestFlaw::WritesAnew => {
                let document: serde_json::Value = serde_json::from_slice(&raw).unwrap();
                Manifest::parse(document.to_string().into(), None)
            }
            ManifestFlaw::AnotherDigest => {
                let digest = Digest::compute(Algorithm::Sha512, &raw);
                Manifest::parse_verified(raw, &digest, None)
            }
            ManifestFlaw::TrustsBytes => Manifest::parse(raw, None),
            _ => Manifest::parse_verified(raw, digest, None),
        };
        read.map_err(|_| match flaw {
            ManifestFlaw::CorruptIsMalformed => failed(ErrorCode::Malformed),
            _ => failed(ErrorCode::Integrity),
        })
    }
}

#[test]
fn each_broken_rule_of_a_manifest_source_is_named() {
    let judge = |flaw| {
        verdict(manifest_source(
            move || async move { ManifestRows::new(flaw) },
        ))
    };
    assert_eq!(judge(ManifestFlaw::None), "");
    for (flaw, rule) in [
        (
            ManifestFlaw::HasNothing,
            "a stored manifest must be readable",
        ),
        (
            ManifestFlaw::WritesAnew,
            "a manifest must have the bytes that were stored",
        ),
        (
            ManifestFlaw::AnotherDigest,
            "a manifest must have the digest that was requested",
        ),
        (
            ManifestFlaw::AbsentIsFailure,
            "a manifest that is not stored must be `NotFound`",
        ),
        (
            ManifestFlaw::TrustsBytes,
            "bytes that do not have the digest must be a failure",
        ),
        (
            ManifestFlaw::CorruptIsMalformed,
            "must fail with the code `integrity`",
        ),
        (
            ManifestFlaw::FailureIsAbsence,
            "a manifest that cannot be read must be a failure, not `NotFound`",
        ),
        (
            ManifestFlaw::FailsAfterADrop,
            "a dropped call must not change later calls",
        ),
    ] {
        let said = judge(flaw);
        assert!(said.contains(rule), "{flaw:?}: {said:?}");
    }
}
