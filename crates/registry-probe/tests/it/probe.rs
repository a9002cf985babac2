//! What one question tells, and from which answers.

use std::fmt::Write as _;
use std::time::Duration;

use oci_content::{Capability, ErrorCode, RepositoryName};
use registry_client::{Client, ClientOptions, nobody};
use registry_probe::{Probe, ProbeReport};
use test_registry::{Fault, Persona, Route, TestRegistry, Variant};

fn app() -> RepositoryName {
    "team/app".parse().unwrap()
}

fn probe() -> Probe {
    let mut options = ClientOptions::default();
    options.retry.max_attempts = 1.try_into().unwrap();
    options.response_timeout = Duration::from_secs(2);
    Probe::new(Client::new(options).unwrap())
}

async fn start(persona: Persona, variant: Option<Variant>) -> TestRegistry {
    let mut builder = TestRegistry::builder(persona);
    if let Some(variant) = variant {
        builder = builder.variant(variant);
    }
    let registry = builder.start().await;
    registry.image("team/app", "1.0");
    registry
}

/// What was concluded, and each piece of evidence: path, status, reason.
fn lines(report: &ProbeReport) -> Vec<String> {
    let failure = report
        .failure
        .as_ref()
        .map_or("", |failure| failure.code.as_str());
    let mut lines = vec![format!(
        "{} {} {failure}",
        report.capability, report.version
    )];
    lines.extend(report.evidence.iter().map(|evidence| {
        let path = evidence
            .request
            .split_once("//")
            .unwrap()
            .1
            .split_once('/')
            .unwrap()
            .1;
        let path = path.replace(&nobody().to_string(), "NOBODY");
        let status = evidence
            .status
            .map_or("-".to_owned(), |status| status.to_string());
        format!("  GET /{path} {status}: {}", evidence.reason)
    }));
    lines
        .iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

const VARIANTS: [Variant; 11] = [
    Variant::Acr,
    Variant::Zot,
    Variant::EcrBeforeArtifacts,
    Variant::Ghcr303TooManyRequests,
    Variant::Ghcr303Html,
    Variant::QuayBefore312,
    Variant::EdgeForbidden,
    Variant::EdgeFailedDependency,
    Variant::EdgeUpstreamNotFound,
    Variant::EdgeCachedIndex,
    Variant::EdgeUpstreamLink,
];

#[tokio::test]
async fn each_persona_is_known_by_its_answer_for_a_subject_that_nobody_has() {
    let personas = Persona::ALL.into_iter().map(|persona| (persona, None));
    let variants = VARIANTS
        .into_iter()
        .map(|variant| (variant.persona(), Some(variant)));
    let mut table = String::new();
    for (persona, variant) in personas.chain(variants) {
        let registry = start(persona, variant).await;
        let report = probe().probe(&registry.registry(), Some(&app())).await;
        let variant = variant.map_or_else(String::new, |variant| format!(" as {variant:?}"));
        writeln!(table, "{persona}{variant}").unwrap();
        for line in lines(&report) {
            writeln!(table, "  {line}").unwrap();
        }
        assert_eq!(report.repository, Some(app()));
        assert!(report.facts.is_empty());
        assert!(report.elapsed > Duration::ZERO);
    }
    let expected = include_str!("probes.txt");
    assert!(table == expected, "{table}");
}

#[tokio::test]
async fn one_request_is_enough_where_the_answer_carries_the_version() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    registry.image("team/app", "1.0");
    probe().probe(&registry.registry(), Some(&app())).await;
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn without_a_repository_a_code_of_the_registry_s_own_settles_nothing() {
    for (persona, capability) in [
        (Persona::SpecFull, Capability::Supported),
        // A path that no route has is one in every repository.
        (Persona::Dist2, Capability::Unsupported),
        (Persona::Ecr, Capability::Unknown),
        (Persona::Minimal, Capability::Unknown),
        (Persona::Quay, Capability::Unknown),
        (Persona::Harbor28, Capability::Unknown),
        (Persona::Ghcr, Capability::Unknown),
        (Persona::GitLab, Capability::Unknown),
        (Persona::HubNow, Capability::Unknown),
    ] {
        let registry = start(persona, None).await;
        let report = probe().probe(&registry.registry(), None).await;
        assert_eq!(
            report.capability, capability,
            "{persona}: {:?}",
            report.evidence
        );
        assert_eq!(report.repository, None);
        assert!(!report.evidence.is_empty(), "{persona}");
    }
}

#[tokio::test]
async fn a_repository_that_the_registry_does_not_know_settles_nothing() {
    for persona in [
        Persona::Ecr,
        Persona::Minimal,
        Persona::Quay,
        Persona::HubNow,
    ] {
        let registry = start(persona, None).await;
        let other = "team/other".parse().unwrap();
        let report = probe().probe(&registry.registry(), Some(&other)).await;
        assert_eq!(
            report.capability,
            Capability::Unknown,
            "{persona}: {:?}",
            report.evidence
        );
    }
}

#[tokio::test]
async fn what_goes_wrong_is_unknown_with_its_reason() {
    for (fault, code) in [
        (Fault::statuses([401]), ErrorCode::Denied),
        (Fault::statuses([403]), ErrorCode::Denied),
        (Fault::statuses([429]), ErrorCode::RateLimited),
        (Fault::statuses([500]), ErrorCode::ServerError),
        (Fault::statuses([503]), ErrorCode::ServerError),
        (Fault::statuses([424]), ErrorCode::ServerError),
        (Fault::reset(), ErrorCode::Network),
        (Fault::truncate_after(3), ErrorCode::Network),
        (Fault::stall(), ErrorCode::Timeout),
        (Fault::redirect("?again", 307), ErrorCode::ServerError),
    ] {
        let registry = TestRegistry::builder(Persona::SpecFull)
            .without_auth()
            .start()
            .await;
        registry.image("team/app", "1.0");
        registry.fault(Route::referrers(), fault.clone().forever());
        let report = probe().probe(&registry.registry(), Some(&app())).await;
        assert_eq!(report.capability, Capability::Unknown, "{fault:?}");
        let failure = report.failure.clone().unwrap();
        assert_eq!(failure.code, code, "{fault:?}: {}", failure.message);
        assert!(!failure.message.is_empty());
        assert_eq!(report.evidence[0].capability, Capability::Unknown);
    }
}

#[tokio::test]
async fn a_token_service_that_fails_is_not_a_denial() {
    for (fault, code) in [
        (Fault::statuses([401]), ErrorCode::Denied),
        (Fault::statuses([403]), ErrorCode::Denied),
        (Fault::statuses([429]), ErrorCode::RateLimited),
        (Fault::statuses([500]), ErrorCode::ServerError),
        (
            Fault::body(200, "text/html", "<!doctype html>"),
            ErrorCode::ServerError,
        ),
    ] {
        let registry = start(Persona::SpecFull, None).await;
        registry.fault(Route::token(), fault.clone().forever());
        let report = probe().probe(&registry.registry(), Some(&app())).await;
        let failure = report.failure.unwrap();
        assert_eq!(failure.code, code, "{fault:?}: {}", failure.message);
    }
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_named_in_the_evidence() {
    let registry = "127.0.0.1:1".parse().unwrap();
    let report = probe().probe(&registry, Some(&app())).await;
    assert_eq!(report.capability, Capability::Unknown);
    assert_eq!(report.failure.unwrap().code, ErrorCode::Network);
    assert_eq!(report.evidence[0].status, None);
    let request = format!("http://127.0.0.1:1/v2/team/app/referrers/{}", nobody());
    assert!(
        report.evidence[0].request.ends_with(&request),
        "{}",
        report.evidence[0].request
    );
}

#[tokio::test]
async fn evidence_holds_the_headers_that_bear_on_the_question_and_no_secret() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    registry.image("team/app", "1.0");
    let changed = Fault::pass()
        .header("Server", "registry.example.com")
        .header("Via", "1.1 cache")
        .header("Set-Cookie", "session=secret")
        .header("X-Token", "secret");
    registry.fault(Route::referrers(), changed);
    let report = probe().probe(&registry.registry(), Some(&app())).await;
    let headers = &report.evidence[0].headers;
    assert_eq!(headers["server"], "registry.example.com");
    assert_eq!(headers["via"], "1.1 cache");
    assert_eq!(
        headers["content-type"],
        "application/vnd.oci.image.index.v1+json"
    );
    assert!(!format!("{report:?}").contains("secret"));
}

#[tokio::test]
async fn a_version_header_is_reported_and_decides_nothing() {
    for (header, value, version) in [
        (
            "OCI-Distribution-API-Version",
            "OCI-Distribution/2.1",
            "OCI-Distribution/2.1",
        ),
        (
            "Docker-Distribution-Api-Version",
            "registry/2.0",
            "registry/2.0",
        ),
        // What would break the log line that it stands in.
        (
            "OCI-Distribution-API-Version",
            "1.1, probe_ms=1) [INFO]",
            "1.1probe_ms=1[INFO]",
        ),
    ] {
        let registry = TestRegistry::builder(Persona::Dist2)
            .without_auth()
            .start()
            .await;
        registry.image("team/app", "1.0");
        registry.fault(Route::any(), Fault::pass().header(header, value).forever());
        let report = probe().probe(&registry.registry(), Some(&app())).await;
        assert_eq!(report.version, version);
        assert_eq!(report.capability, Capability::Unsupported);
    }
    for value in ["", " , ) "] {
        let registry = TestRegistry::builder(Persona::SpecFull)
            .without_auth()
            .start()
            .await;
        registry.image("team/app", "1.0");
        let empty = Fault::pass()
            .header("OCI-Distribution-API-Version", value)
            .without_header("Docker-Distribution-Api-Version");
        registry.fault(Route::any(), empty.forever());
        let report = probe().probe(&registry.registry(), Some(&app())).await;
        assert_eq!(report.version, "unknown");
        assert_eq!(report.capability, Capability::Supported);
    }
}

#[tokio::test]
async fn a_probe_ends_when_its_time_is_over_with_what_was_found_by_then() {
    let registry = start(Persona::SpecFull, None).await;
    let timeout = Duration::from_millis(300);
    let probe = Probe::new(Client::new(ClientOptions::default()).unwrap()).timeout(timeout);
    registry.fault(Route::any(), Fault::stall().forever());
    let started = std::time::Instant::now();
    let report = probe.probe(&registry.registry(), Some(&app())).await;
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(report.capability, Capability::Unknown);
    let failure = report.failure.unwrap();
    assert_eq!(failure.code, ErrorCode::Timeout);
    assert_eq!(failure.message, "no answer within 0.3 s");
    assert_eq!(report.evidence.len(), 1);

    // The list of tags hangs, which only the facts ask for.
    registry.clear_faults();
    registry.fault(Route::tags(), Fault::stall().forever());
    let report = probe.probe(&registry.registry(), Some(&app())).await;
    assert_eq!(
        (report.capability, &report.failure),
        (Capability::Supported, &None)
    );
    let report = probe.facts(&registry.registry(), Some(&app())).await;
    assert_eq!(report.capability, Capability::Supported);
    let failure = report.failure.unwrap();
    assert_eq!(failure.code, ErrorCode::Timeout);
    assert!(
        failure.message.starts_with("not everything"),
        "{}",
        failure.message
    );
}
