//! `oci-client` as an independent oracle, and the adapter over it.
#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, but not what they share"
)]

use std::sync::Arc;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use oci_content::{Capability, Completeness, Digest, DiscoveryMethod, ErrorCode, RepositoryName};
use oci_referrers::{Discovery, NativeReferrers, OciClientReferrers, Query, ReferrerSource as _};
use registry_client::ClientOptions;
use test_registry::{Fault, Persona, Route, TestRegistry};

fn client() -> Client {
    let config = ClientConfig {
        protocol: ClientProtocol::Http,
        ..ClientConfig::default()
    };
    Client::try_from(config).unwrap()
}

fn name() -> RepositoryName {
    "app".parse().unwrap()
}

fn adapter(registry: &TestRegistry) -> OciClientReferrers {
    OciClientReferrers::new(
        client(),
        RegistryAuth::Anonymous,
        registry.registry(),
        name(),
    )
}

async fn open(persona: Persona) -> TestRegistry {
    TestRegistry::builder(persona).without_auth().start().await
}

#[tokio::test]
async fn our_first_page_is_the_one_that_oci_client_reads() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image("app", "1");
    for number in 0..5 {
        registry.referrer("app", &image, "application/spdx+json", format!("{number}"));
    }
    let reference = Reference::with_digest(registry.host(), "app".into(), image.digest.to_string());
    let theirs = client().pull_referrers(&reference, None).await.unwrap();
    let mut theirs: Vec<String> = theirs
        .manifests
        .into_iter()
        .map(|entry| entry.digest)
        .collect();

    let ours = registry_client::Client::new(ClientOptions::default()).unwrap();
    let ours = NativeReferrers::new(ours.repository(&registry.registry(), &name()));
    let ours = ours.referrers(&Query::direct(image.digest)).await;
    let mut ours: Vec<String> = ours
        .claims
        .iter()
        .map(|claim| claim.descriptor.digest.to_string())
        .collect();
    ours.sort();
    theirs.sort();
    assert_eq!((ours.len(), ours), (5, theirs));
}

#[tokio::test]
async fn the_adapter_finds_what_is_there_and_says_that_it_saw_one_page() {
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let registry = open(persona).await;
        let image = registry.image("app", "1");
        let sbom = registry.referrer("app", &image, "application/spdx+json", "sbom");
        registry.referrer(
            "app",
            &sbom,
            "application/vnd.cncf.notary.signature",
            "signature",
        );
        let run = async |source: OciClientReferrers| {
            let source = Arc::new(source);
            let discovery =
                Discovery::new(Arc::<OciClientReferrers>::clone(&source)).source(source);
            discovery.run([image.digest.clone()]).await
        };
        let doubtful = run(adapter(&registry)).await;
        assert_eq!(
            (doubtful.referrers.len(), doubtful.status()),
            (2, Completeness::Incomplete)
        );
        assert!(
            doubtful
                .errors()
                .all(|problem| problem.code == ErrorCode::PageFailed)
        );
        let vouched = run(adapter(&registry).assume_single_page()).await;
        assert_eq!(
            (vouched.referrers.len(), vouched.status()),
            (2, Completeness::Complete),
            "{persona}"
        );
        // Whether the API or the tag answered cannot be known through it.
        assert_eq!(vouched.referrers[0].sources[0].as_str(), "other:oci-client");
        let report = &vouched.subjects[0];
        assert_eq!(
            (report.method, report.capability),
            (DiscoveryMethod::Other, Capability::Unknown)
        );
    }
}

#[tokio::test]
async fn a_throttled_tag_is_an_error_and_not_an_empty_list() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image("app", "1");
    let throttled = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
    registry.fault(
        Route::path_prefix("/v2/app/manifests/sha256-"),
        Fault::body(429, "application/json", throttled).forever(),
    );
    let answer = adapter(&registry)
        .referrers(&Query::direct(image.digest.clone()))
        .await;
    assert_eq!(
        answer
            .errors
            .iter()
            .map(|problem| problem.code)
            .collect::<Vec<_>>(),
        [ErrorCode::RateLimited]
    );

    let registry = open(Persona::SpecFull).await;
    let image = registry.image("app", "1");
    let none = adapter(&registry)
        .referrers(&Query::direct(image.digest))
        .await;
    assert!(none.errors.is_empty() && none.claims.is_empty(), "{none:?}");
    let unknown = adapter(&open(Persona::SpecFull).await)
        .referrers(&Query::direct(Digest::of(b"x")))
        .await;
    assert!(
        !unknown.errors.is_empty(),
        "an unknown repository is not an empty one"
    );
}
