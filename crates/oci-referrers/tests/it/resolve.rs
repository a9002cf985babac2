//! From a reference to the subject's manifest.

use oci_content::Capability::Supported;
use oci_content::DiscoveryMethod::Native;
use oci_content::{Algorithm, Digest, ErrorCode, Reference, media_type};
use oci_referrers::{ImageTree, ResolveError, Resolved, resolve};
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::support::{API, APP, SBOM, discovery, expect, open, repository};

async fn ask(registry: &TestRegistry, rest: &str) -> Result<Resolved, ResolveError> {
    let reference: Reference = format!("{}/{APP}{rest}", registry.host()).parse().unwrap();
    resolve(&repository(registry), &reference).await
}

#[tokio::test]
async fn a_tag_and_a_digest_lead_to_the_manifest() {
    for persona in [
        Persona::SpecFull,
        Persona::Dist2,
        Persona::EdgeProxy,
        Persona::GitLab,
    ] {
        let registry = open(persona).await;
        let image = registry.image(APP, "1.0");
        for rest in [":1.0".to_owned(), format!("@{}", image.digest)] {
            let found = ask(&registry, &rest).await.unwrap();
            assert_eq!(found.manifest.digest(), &image.digest, "{persona} {rest}");
            assert_eq!(found.tag_moved_to, None);
        }
    }
}

#[tokio::test]
async fn of_a_tag_and_a_digest_the_digest_decides_and_a_tag_that_moved_is_noted() {
    let registry = open(Persona::SpecFull).await;
    let old = registry.image(APP, "1.0");
    let rest = format!(":1.0@{}", old.digest);
    let found = ask(&registry, &rest).await.unwrap();
    assert_eq!(
        (found.manifest.digest(), found.tag_moved_to),
        (&old.digest, None)
    );

    let new = registry.image(APP, "2.0");
    registry.tag(APP, "1.0", &new.digest);
    let found = ask(&registry, &rest).await.unwrap();
    assert_eq!(found.manifest.digest(), &old.digest);
    assert_eq!(found.tag_moved_to, Some(new.digest));

    // A tag that is gone has moved nowhere.
    registry.untag(APP, "1.0");
    let found = ask(&registry, &rest).await.unwrap();
    assert_eq!(found.tag_moved_to, None);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_with_the_registry_s_words() {
    let registry = open(Persona::SpecFull).await;
    registry.image(APP, "1.0");
    for rest in [":2.0".to_owned(), format!("@{}", Digest::of(b"nobody"))] {
        let error = ask(&registry, &rest).await.unwrap_err();
        assert!(matches!(error, ResolveError::NotFound { .. }), "{error}");
        assert!(error.to_string().contains(&rest), "{error}");
        assert!(error.to_string().contains("404"), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_says_why() {
    for (fault, code) in [
        (Fault::statuses([401]), ErrorCode::Denied),
        (Fault::statuses([403]), ErrorCode::Denied),
        (Fault::statuses([429]), ErrorCode::RateLimited),
        (Fault::statuses([500]), ErrorCode::ServerError),
        (Fault::reset(), ErrorCode::Network),
        (
            Fault::body(200, "text/html", "<!doctype html>"),
            ErrorCode::Malformed,
        ),
    ] {
        let registry = open(Persona::SpecFull).await;
        registry.image(APP, "1.0");
        registry.fault(Route::manifests(), fault.clone().forever());
        let error = ask(&registry, ":1.0").await.unwrap_err();
        let ResolveError::Failed { problem, .. } = &error else {
            panic!("{fault:?}: {error}");
        };
        assert_eq!(problem.code, code, "{fault:?}");
        // The cause is said once, by the cause.
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, problem.message);
        assert!(!error.to_string().contains(&cause), "{error}");
        let asks_for_credentials = error.to_string().contains("check the credentials for");
        assert_eq!(asks_for_credentials, code == ErrorCode::Denied, "{error}");
    }
}

#[tokio::test]
async fn a_404_of_another_host_is_no_word_of_the_registry() {
    let elsewhere = open(Persona::SpecFull).await;
    let registry = open(Persona::SpecFull).await;
    registry.image(APP, "1.0");
    let moved = Fault::redirect(elsewhere.url("/v2/other/manifests/1.0"), 307).forever();
    registry.fault(Route::manifests(), moved);
    let error = ask(&registry, ":1.0").await.unwrap_err();
    assert!(matches!(error, ResolveError::Failed { .. }), "{error}");
}

#[tokio::test]
async fn bytes_that_are_not_those_of_the_digest_are_refused() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let other = registry
        .manifest(APP, &registry.image(APP, "2.0").digest)
        .unwrap();
    let wrong = Fault::body(200, media_type::IMAGE_MANIFEST, other).forever();
    registry.fault(Route::manifests(), wrong);
    match ask(&registry, &format!("@{}", image.digest))
        .await
        .unwrap_err()
    {
        ResolveError::Failed { problem, .. } => assert_eq!(problem.code, ErrorCode::Integrity),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_tag_leads_to_the_digest_that_the_registry_names_if_the_bytes_have_it() {
    let registry = open(Persona::SpecFull).await;
    let plain = registry.image(APP, "plain");
    let bytes = registry.manifest(APP, &plain.digest).unwrap();
    let sha512 = Digest::compute(Algorithm::Sha512, &bytes);
    let image = registry.put_manifest_as(APP, &sha512, media_type::IMAGE_MANIFEST, bytes);
    registry.tag(APP, "1.0", &sha512);
    let found = ask(&registry, ":1.0").await.unwrap();
    assert_eq!(found.manifest.digest(), &sha512);

    // Referrers may name either.
    let a = registry.referrer(APP, &image, SBOM, "a");
    let b = registry.referrer(APP, &plain, SBOM, "b");
    let graph = discovery(&registry)
        .run(ImageTree::names(&found.manifest))
        .await;
    expect(Native, Supported)
        .found(&a, API)
        .found(&b, API)
        .check(&graph);

    let other = Digest::of(b"other bytes").to_string();
    let header = "Docker-Content-Digest";
    for (value, code) in [
        (other.as_str(), Some(ErrorCode::Malformed)),
        (
            &Digest::compute(Algorithm::Sha512, b"other bytes").to_string(),
            Some(ErrorCode::Malformed),
        ),
        // What is no digest of a known algorithm says nothing.
        ("sha1:0123", None),
    ] {
        registry.clear_faults();
        let fault = Fault::pass().header(header, value).forever();
        registry.fault(Route::manifests().reference("plain"), fault);
        let found = ask(&registry, ":plain").await;
        match (found, code) {
            (Ok(found), None) => assert_eq!(found.manifest.digest(), &plain.digest),
            (Err(ResolveError::Failed { problem, .. }), Some(code)) => {
                assert_eq!(problem.code, code);
            }
            (found, _) => panic!("{value}: {found:?}"),
        }
    }
}
