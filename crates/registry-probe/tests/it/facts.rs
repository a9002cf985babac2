//! What is concluded about each persona, and from which answer.

use oci_content::{Capability, RepositoryName};
use registry_client::{Client, ClientOptions};
use registry_probe::{Fact, FactName, Probe, ProbeReport};
use test_registry::{Fault, Persona, Route, TestRegistry};

fn app() -> RepositoryName {
    "app".parse().unwrap()
}

fn probe() -> Probe {
    let mut options = ClientOptions::default();
    options.retry.max_attempts = 1.try_into().unwrap();
    Probe::new(Client::new(options).unwrap())
}

/// Three tags, and three referrers of two types at each.
async fn registry(persona: Persona) -> TestRegistry {
    let registry = TestRegistry::builder(persona).page_size(2).start().await;
    for tag in ["1.0", "1.1", "1.2"] {
        let image = registry.image("app", tag);
        for (place, artifact_type) in ["a", "b", "b"].into_iter().enumerate() {
            let payload = format!("{tag} {place}");
            registry.referrer(
                "app",
                &image,
                &format!("application/vnd.example.{artifact_type}"),
                payload,
            );
        }
    }
    registry
}

fn fact(report: &ProbeReport, name: FactName) -> &Fact {
    report.facts.iter().find(|fact| fact.name == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_concluded_about_each_persona_follows_from_its_answers() {
    let mut table = String::new();
    for persona in Persona::ALL {
        let registry = registry(persona).await;
        let report = probe().facts(&registry.registry(), Some(&app())).await;
        assert_eq!(
            report
                .facts
                .iter()
                .map(|fact| fact.name)
                .collect::<Vec<_>>(),
            FactName::ALL,
            "every fact once, in its order"
        );
        for fact in report.facts.iter().filter(|fact| fact.asked) {
            assert!(
                fact.capability == Capability::Unknown || !fact.evidence.is_empty(),
                "{persona}: {fact:?} has no evidence"
            );
        }
        let written = registry
            .requests()
            .iter()
            .any(|request| !matches!(request.method.as_str(), "GET" | "HEAD"));
        assert!(!written, "{persona}: a probe never writes");
        table.push_str(&format!("{persona}\n"));
        for name in [
            FactName::ReferrersApi,
            FactName::ReferrersPaging,
            FactName::ReferrersFilter,
            FactName::TagPaging,
            FactName::Proxy,
            FactName::RateLimit,
        ] {
            let fact = fact(&report, name);
            let (capability, reason) = (fact.capability, &fact.reason);
            table.push_str(&format!("  {name:16} {capability:11} {reason}\n"));
        }
    }
    let table = table.lines().map(stable).collect::<Vec<_>>().join("\n");
    let expected = include_str!("personas.txt");
    assert!(table.trim() == expected.trim(), "{table}");
}

/// Takes the port out of a line.
fn stable(line: &str) -> String {
    match line.split_once("127.0.0.1:") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}127.0.0.1:PORT{after}")
        }
        None => line.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_is_claimed_and_not_applied_is_seen_through() {
    let registry = registry(Persona::Minimal).await;
    registry.fault(
        Route::referrers(),
        Fault::pass()
            .header("OCI-Filters-Applied", "artifactType")
            .forever(),
    );
    let report = probe().facts(&registry.registry(), Some(&app())).await;
    let filter = fact(&report, FactName::ReferrersFilter);
    assert_eq!(filter.capability, Capability::Unsupported, "{filter:?}");
    assert!(filter.reason.contains("not filtered"), "{filter:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_with_nothing_to_filter_is_not_called_ignored() {
    for (persona, header) in [(Persona::Minimal, false), (Persona::SpecFull, true)] {
        let registry = TestRegistry::start(persona).await;
        registry.image("app", "1.0");
        let report = probe().facts(&registry.registry(), Some(&app())).await;
        let filter = fact(&report, FactName::ReferrersFilter);
        assert_eq!(filter.capability, Capability::Unknown, "{filter:?}");
        assert_eq!(filter.reason.contains("names it"), header, "{filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_would_not_say_is_unknown_and_never_unsupported() {
    for status in [401, 403, 429, 500, 503] {
        let registry = TestRegistry::builder(Persona::SpecFull)
            .without_auth()
            .start()
            .await;
        registry.image("app", "1.0");
        registry.fault(Route::any(), Fault::statuses([status]).forever());
        let report = probe().facts(&registry.registry(), Some(&app())).await;
        for fact in &report.facts {
            let claims_absence =
                fact.capability == Capability::Unsupported && fact.name != FactName::VersionHeader;
            assert!(!claims_absence, "{status}: {fact:?}");
        }
        let limit = fact(&report, FactName::RateLimit);
        assert_eq!(limit.capability == Capability::Supported, status == 429);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_shows_itself_by_a_header() {
    let registry = registry(Persona::Dist2).await;
    registry.fault(
        Route::any(),
        Fault::pass()
            .header("Via", "1.1 cache.example.com")
            .forever(),
    );
    let report = probe().facts(&registry.registry(), Some(&app())).await;
    let proxy = fact(&report, FactName::Proxy);
    assert_eq!(proxy.capability, Capability::Supported);
    assert_eq!(proxy.reason, "via: 1.1 cache.example.com");
    assert!(proxy.evidence[0].headers.contains_key("via"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_repository_only_the_registry_speaks() {
    let registry = registry(Persona::SpecFull).await;
    let report = probe().facts(&registry.registry(), None).await;
    assert_eq!(
        fact(&report, FactName::TagPaging).capability,
        Capability::Unknown
    );
    assert!(registry.requests().len() <= 4);
}
