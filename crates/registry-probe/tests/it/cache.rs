//! What is kept of an answer, for whom and for how long.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use oci_content::{Capability, RepositoryName};
use registry_client::{Client, ClientOptions, CredentialError, CredentialSource, Credentials};
use registry_probe::{Probe, ProbeCache, ProbeReport};
use test_registry::{Fault, Persona, Route, TestRegistry};

fn app() -> RepositoryName {
    "app".parse().unwrap()
}

async fn registry(persona: Persona) -> TestRegistry {
    let registry = TestRegistry::builder(persona).without_auth().start().await;
    registry.image("app", "1.0");
    registry
}

fn client() -> Client {
    let mut options = ClientOptions::default();
    options.retry.max_attempts = 1.try_into().unwrap();
    options.response_timeout = Duration::from_millis(300);
    Client::new(options).unwrap()
}

fn probe(cache: &Arc<ProbeCache>) -> Probe {
    Probe::new(client()).cached(Arc::clone(cache), None)
}

async fn run(cache: &Arc<ProbeCache>, registry: &TestRegistry) -> ProbeReport {
    probe(cache).probe(&registry.registry(), Some(&app())).await
}

fn file(folder: &Path) -> std::path::PathBuf {
    folder.join(ProbeCache::FILE_NAME)
}

/// A clock that stands where it is put, in seconds.
#[derive(Clone, Debug)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_000_000)))
    }

    fn of(&self, cache: ProbeCache) -> Arc<ProbeCache> {
        let seconds = Arc::clone(&self.0);
        Arc::new(cache.clock(move || {
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::Relaxed))
        }))
    }

    fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_asks_nothing_until_six_hours_have_passed() {
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let registry = registry(persona).await;
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::new();
        let folder = folder.path().join("made/when/needed");
        let first = run(&clock.of(ProbeCache::open(&folder)), &registry).await;
        assert_eq!(first.cached, None);
        let asked = registry.requests().len();
        assert!(asked > 0);

        clock.set(1_000_000 + 6 * 3600 - 1);
        let second = run(&clock.of(ProbeCache::open(&folder)), &registry).await;
        assert_eq!(registry.requests().len(), asked, "no request");
        let hit = second.cached.unwrap();
        assert_eq!((hit.age_seconds, hit.expires_in_seconds), (21_599, 1));
        assert_eq!(
            (second.capability, &second.evidence, &second.version),
            (first.capability, &first.evidence, &first.version)
        );

        clock.set(1_000_000 + 6 * 3600);
        let third = run(&clock.of(ProbeCache::open(&folder)), &registry).await;
        assert_eq!(third.cached, None);
        assert_eq!(registry.requests().len(), 2 * asked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_the_future_is_not_believed() {
    let registry = registry(Persona::SpecFull).await;
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    run(&clock.of(ProbeCache::open(folder.path())), &registry).await;
    clock.set(999_999);
    let cache = clock.of(ProbeCache::open(folder.path()));
    assert_eq!(run(&cache, &registry).await.cached, None);
    // What was asked by the clock that was set back is believed by it.
    assert!(run(&cache, &registry).await.cached.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_otherwise_in_a_moment_is_never_kept() {
    let faults = [401, 403, 404, 429, 500, 503].map(|status| Fault::statuses([status]));
    let not_found = |fault: &Fault| format!("{fault:?}").contains("404");
    for fault in faults.into_iter().chain([Fault::stall(), Fault::reset()]) {
        let registry = registry(Persona::SpecFull).await;
        let folder = tempfile::tempdir().unwrap();
        let keeps = not_found(&fault);
        registry.fault(Route::referrers(), fault.clone());
        let cache = Arc::new(ProbeCache::open(folder.path()));
        let first = run(&cache, &registry).await;
        assert_ne!(first.capability, Capability::Supported, "{fault:?}");
        let second = run(&cache, &registry).await;
        if keeps {
            // 404 is what a registry without the API answers, and the answer that is kept.
            assert!(second.cached.is_some());
        } else {
            assert_eq!(first.capability, Capability::Unknown, "{fault:?}");
            assert_eq!(second.cached, None, "{fault:?}");
            assert_eq!(second.capability, Capability::Supported, "{fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_rest_on_a_refusal_are_asked_again_and_the_api_is_not() {
    let registry = registry(Persona::SpecFull).await;
    let cache = Arc::new(ProbeCache::in_memory());
    registry.fault(Route::tags(), Fault::statuses([429]));
    let (name, app) = (registry.registry(), app());
    let facts = |cache| async move { probe(cache).facts(&name, Some(&app)).await };
    assert_eq!(facts.clone()(&cache).await.cached, None);
    assert!(run(&cache, &registry).await.cached.is_some());
    let again = facts.clone()(&cache).await;
    assert_eq!(again.cached, None);
    assert!(!again.facts.is_empty());
    let kept = facts(&cache).await;
    assert!(kept.cached.is_some());
    assert_eq!(kept.facts, again.facts);
    assert!(run(&cache, &registry).await.facts.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_one_probe_whatever_it_finds() {
    for fault in [
        Fault::delay(Duration::from_millis(100)),
        Fault::statuses([503]),
    ] {
        let registry = TestRegistry::builder(Persona::SpecFull)
            .without_auth()
            .latency(Duration::from_millis(50))
            .start()
            .await;
        registry.fault(Route::referrers(), fault);
        let cache = Arc::new(ProbeCache::in_memory());
        // One for all: to make a client takes as long as a probe.
        let (probe, name, app) = (probe(&cache), registry.registry(), app());
        let reports = join_all((0..20).map(|_| probe.probe(&name, Some(&app)))).await;
        let referrers = registry
            .requests()
            .iter()
            .filter(|request| request.path.contains("/referrers/"))
            .count();
        assert_eq!(referrers, 1);
        for report in &reports {
            assert_eq!(*report, reports[0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_takes_nothing_from_the_others() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .latency(Duration::from_millis(200))
        .start()
        .await;
    let cache = Arc::new(ProbeCache::in_memory());
    let (probe, name, app) = (probe(&cache), registry.registry(), app());
    // The first to ask is the first to give up.
    let impatient = tokio::time::timeout(Duration::from_millis(20), probe.probe(&name, Some(&app)));
    let (given_up, report) = tokio::join!(impatient, probe.probe(&name, Some(&app)));
    assert!(given_up.is_err());
    assert_eq!(report.capability, Capability::Supported);
    let referrers = registry
        .requests()
        .iter()
        .filter(|request| request.path.contains("/referrers/"))
        .count();
    assert_eq!(referrers, 1);
}

#[derive(Debug)]
struct User(&'static str);

#[async_trait::async_trait]
impl CredentialSource for User {
    async fn credentials(
        &self,
        _: &oci_content::Registry,
        _: Option<&RepositoryName>,
    ) -> Result<Option<Credentials>, CredentialError> {
        Ok(match self.0 {
            "" => return Err(CredentialError::new("the helper failed")),
            name => Some(Credentials::basic(name, "correct horse")),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_for_one_repository_and_one_user_and_no_password_is_written() {
    let registry = registry(Persona::SpecFull).await;
    let folder = tempfile::tempdir().unwrap();
    let cache = Arc::new(ProbeCache::open(folder.path()));
    let ask = async |user: &'static str, repository: &str| {
        Probe::new(client())
            .cached(Arc::clone(&cache), Some(Arc::new(User(user))))
            .probe(&registry.registry(), Some(&repository.parse().unwrap()))
            .await
            .cached
            .is_some()
    };
    assert!(!ask("alice", "app").await);
    assert!(ask("alice", "app").await);
    assert!(!ask("bob", "app").await);
    assert!(!ask("alice", "other").await);
    for _ in 0..2 {
        assert!(!ask("", "app").await, "who is not known has no cache");
    }
    let text = std::fs::read_to_string(file(folder.path())).unwrap();
    assert!(
        text.contains("user:alice") && !text.contains("horse"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_noted_and_replaced() {
    let registry = registry(Persona::SpecFull).await;
    let folder = tempfile::tempdir().unwrap();
    let good = {
        run(&Arc::new(ProbeCache::open(folder.path())), &registry).await;
        std::fs::read(file(folder.path())).unwrap()
    };
    let torn = &good[..good.len() / 2];
    for bytes in [&b""[..], b"\0\0", b"[]", b"{\"schemaVersion\":1}", torn] {
        std::fs::write(file(folder.path()), bytes).unwrap();
        let cache = Arc::new(ProbeCache::open(folder.path()));
        let notes = cache.notes();
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains("damaged"), "{notes:?}");
        assert!(notes[0].contains(ProbeCache::FILE_NAME), "{notes:?}");
        assert_eq!(run(&cache, &registry).await.cached, None);
        let next = Arc::new(ProbeCache::open(folder.path()));
        assert!(next.notes().is_empty());
        assert!(run(&next, &registry).await.cached.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_header_of_any_length_is_cut_and_kept_so() {
    let registry = registry(Persona::SpecFull).await;
    let long = Fault::pass()
        .header("Docker-Distribution-Api-Version", "v".repeat(70_000))
        .header("Server", "s".repeat(70_000));
    registry.fault(Route::any(), long.forever());
    let folder = tempfile::tempdir().unwrap();
    for cached in [false, true] {
        let report = run(&Arc::new(ProbeCache::open(folder.path())), &registry).await;
        assert_eq!(report.cached.is_some(), cached);
        assert_eq!(report.version, format!("{}…", "v".repeat(255)));
        assert!(
            report
                .evidence
                .iter()
                .all(registry_client::Evidence::is_bounded)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_read_or_shown_is_asked_for_anew_and_spoils_no_other() {
    let registry = registry(Persona::SpecFull).await;
    let other = self::registry(Persona::Dist2).await;
    let folder = tempfile::tempdir().unwrap();
    run(&Arc::new(ProbeCache::open(folder.path())), &other).await;
    run(&Arc::new(ProbeCache::open(folder.path())), &registry).await;
    let good: serde_json::Value =
        serde_json::from_slice(&std::fs::read(file(folder.path())).unwrap()).unwrap();
    let place = good["probes"].as_array().unwrap();
    let place = place
        .iter()
        .position(|probe| probe["registry"] == registry.registry().as_str());
    let long = serde_json::json!("x".repeat(70_000));
    for (member, value) in [
        ("/version", &long),
        ("/evidence/0/reason", &long),
        ("/evidence/0/request", &long),
        ("/evidence/0/headers", &serde_json::json!({"server": long})),
        ("/version", &serde_json::json!(7)),
        ("/capability", &serde_json::json!("maybe")),
        ("/evidence", &serde_json::json!(null)),
        ("/registry", &serde_json::json!("not a registry")),
        ("", &serde_json::json!(null)),
    ] {
        let mut damaged = good.clone();
        let at = format!("/probes/{}{member}", place.unwrap());
        *damaged.pointer_mut(&at).unwrap() = value.clone();
        std::fs::write(file(folder.path()), damaged.to_string()).unwrap();
        let cache = Arc::new(ProbeCache::open(folder.path()));
        assert_eq!(run(&cache, &registry).await.cached, None, "{member}");
        assert!(run(&cache, &registry).await.cached.is_some(), "{member}");
        assert!(run(&cache, &other).await.cached.is_some(), "{member}");
        assert!(cache.notes().is_empty(), "{member}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_newer_version_is_noted_and_left_alone() {
    let registry = registry(Persona::SpecFull).await;
    let folder = tempfile::tempdir().unwrap();
    let newer = r#"{"schemaVersion": 2, "probes": "of another form"}"#;
    std::fs::write(file(folder.path()), newer).unwrap();
    let cache = Arc::new(ProbeCache::open(folder.path()));
    run(&cache, &registry).await;
    assert!(
        run(&cache, &registry).await.cached.is_some(),
        "the process still remembers"
    );
    let notes = cache.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("version 2"), "{notes:?}");
    assert_eq!(std::fs::read_to_string(file(folder.path())).unwrap(), newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_is_noted_and_costs_nothing_else() {
    let registry = registry(Persona::SpecFull).await;
    let folder = tempfile::tempdir().unwrap();
    let not_a_folder = folder.path().join("file");
    std::fs::write(&not_a_folder, "").unwrap();
    let cache = Arc::new(ProbeCache::open(&not_a_folder));
    assert_eq!(
        run(&cache, &registry).await.capability,
        Capability::Supported
    );
    assert!(!cache.notes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_write_at_once_never_leave_a_torn_file() {
    let folder = tempfile::tempdir().unwrap();
    let registries = [
        registry(Persona::SpecFull).await,
        registry(Persona::Dist2).await,
    ];
    let writers = (0..8).map(|writer| {
        let registry = &registries[writer % 2];
        let folder = folder.path();
        async move {
            for round in 0..10 {
                // Each opens the file anew, as another process would.
                let cache = Arc::new(ProbeCache::open(folder));
                assert_eq!(cache.notes(), Vec::<String>::new());
                let name: RepositoryName = format!("app/{writer}/{round}").parse().unwrap();
                probe(&cache).probe(&registry.registry(), Some(&name)).await;
            }
        }
    });
    join_all(writers).await;
    let cache = ProbeCache::open(folder.path());
    assert_eq!(cache.notes(), Vec::<String>::new());
    let names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, [ProbeCache::FILE_NAME], "nothing partial is left");
}
