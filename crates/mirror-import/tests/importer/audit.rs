//! What an audit finds at a registry some time after an import.

use std::sync::Arc;

use mirror_import::{
    AuditReport, AuditStatus, AuditedObject, Auditor, DriftKind, ImportError, ImportErrorKind,
    ImportReport, RegistryTarget,
};
use oci_content::{Digest, LegacyTag, Manifest};
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::support::{Bundle, PATIENCE, client, open, said};

async fn audit(
    registry: &TestRegistry,
    receipt: &ImportReport,
) -> (AuditReport, Result<(), ImportError>) {
    let target = RegistryTarget::new(client(), registry.registry()).patience(PATIENCE);
    Auditor::new(target, Arc::new(())).audit(receipt).await
}

/// Imports the bundle, changes the registry, and returns what an audit finds.
async fn found(
    persona: Persona,
    change: impl Fn(&TestRegistry, &Bundle),
) -> (
    Vec<(DriftKind, AuditedObject, Digest)>,
    Result<(), ImportError>,
) {
    let registry = open(persona).await;
    let bundle = Bundle::new().await;
    let receipt = bundle.import_to(&registry).await.unwrap();
    change(&registry, &bundle);
    let (report, result) = audit(&registry, &receipt).await;
    assert_eq!(report.status == AuditStatus::Clean, result.is_ok());
    assert!(report.unanswered.is_empty(), "{report:?}");
    let findings = report.findings.into_iter();
    let findings = findings.map(|own| (own.kind, own.object, own.digest));
    (findings.collect(), result)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_brought_and_left_alone_is_clean() {
    for persona in [Persona::SpecFull, Persona::Dist2, Persona::Ghcr] {
        let (findings, result) = found(persona, |_, _| ()).await;
        result.unwrap_or_else(|error| panic!("{persona}: {}", said(&error)));
        assert_eq!(findings, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrer_that_retention_removed_is_named_on_registries_of_both_kinds() {
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let (findings, result) = found(persona, |registry, bundle| {
            registry.delete("app", &bundle.sbom.digest);
        })
        .await;
        let bundle = Bundle::new().await;
        let sbom = (
            DriftKind::Missing,
            AuditedObject::Referrer,
            bundle.sbom.digest,
        );
        assert!(findings.contains(&sbom), "{persona}: {findings:?}");
        assert!(findings.iter().all(|own| own.0 == DriftKind::Missing));
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ImportErrorKind::Incomplete);
        let words = "pruned by registry retention policy";
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrer_that_is_there_and_not_listed_is_missing() {
    let (findings, _) = found(Persona::SpecFull, |registry, bundle| {
        registry.hide_referrer("app", &bundle.sbom.digest);
    })
    .await;
    let bundle = Bundle::new().await;
    let sbom = (
        DriftKind::Missing,
        AuditedObject::Referrer,
        bundle.sbom.digest,
    );
    assert_eq!(findings, [sbom]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_tag_a_lost_blob_and_a_lost_image_are_named() {
    let (findings, result) = found(Persona::SpecFull, |registry, bundle| {
        let other = registry.image("app", "theirs");
        registry.tag("app", "1", &other.digest);
        let legacy = LegacyTag::known(&bundle.image, "sig").unwrap();
        registry.untag("app", legacy.tag().as_str());
    })
    .await;
    let kinds: Vec<_> = findings.iter().map(|own| (own.0, own.1)).collect();
    let missing_tag = (DriftKind::Missing, AuditedObject::Tag);
    let unlisted = (DriftKind::Missing, AuditedObject::Referrer);
    let moved = (DriftKind::Changed, AuditedObject::Tag);
    assert_eq!(kinds, [missing_tag, unlisted, moved]);
    assert!(result.is_err());
    let (findings, result) = found(Persona::SpecFull, |registry, bundle| {
        let image = registry.manifest("app", &bundle.image).unwrap();
        let image = Manifest::parse(image, None).unwrap();
        let route = Route::blobs().reference(&image.blobs().last().unwrap().digest);
        registry.fault(route, Fault::statuses([404]).forever());
    })
    .await;
    let kinds: Vec<_> = findings.iter().map(|own| (own.0, own.1)).collect();
    assert_eq!(kinds, [(DriftKind::Missing, AuditedObject::Blob)]);
    assert!(
        result
            .unwrap_err()
            .to_string()
            .contains("garbage collection")
    );
    let (findings, _) = found(Persona::SpecFull, |registry, bundle| {
        registry.delete("app", &bundle.image);
    })
    .await;
    let objects: Vec<_> = findings.iter().map(|own| (own.0, own.1)).collect();
    assert!(
        objects.contains(&(DriftKind::Missing, AuditedObject::Image)),
        "{objects:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_referrer_is_extra_and_no_drift() {
    let (findings, result) = found(Persona::SpecFull, |registry, bundle| {
        registry.referrer("app", &bundle.sbom, "a/b", "theirs");
    })
    .await;
    let kinds: Vec<_> = findings.iter().map(|own| (own.0, own.1)).collect();
    assert_eq!(kinds, [(DriftKind::Extra, AuditedObject::Referrer)]);
    result.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_bytes_are_named() {
    let registry = open(Persona::SpecFull).await;
    let bundle = Bundle::new().await;
    let receipt = bundle.import_to(&registry).await.unwrap();
    let route = Route::manifests()
        .method("GET")
        .reference(&bundle.sbom.digest);
    registry.fault(route, Fault::corrupt_byte(3).forever());
    let (report, result) = audit(&registry, &receipt).await;
    let changed = report
        .findings
        .iter()
        .find(|own| own.kind == DriftKind::Changed);
    assert_eq!(
        changed.map(|own| &own.digest),
        Some(&bundle.sbom.digest),
        "{report:?}"
    );
    assert!(result.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_without_an_answer_is_never_clean() {
    for (route, status, kind) in [
        (Route::referrers(), 503, ImportErrorKind::Network),
        (Route::tags(), 503, ImportErrorKind::Incomplete),
        (
            Route::manifests().method("GET"),
            503,
            ImportErrorKind::Network,
        ),
        (Route::blobs().method("HEAD"), 401, ImportErrorKind::Access),
    ] {
        let registry = open(Persona::SpecFull).await;
        let bundle = Bundle::new().await;
        let receipt = bundle.import_to(&registry).await.unwrap();
        registry.fault(route, Fault::statuses([status]).forever());
        registry.allow_unused_faults();
        let (report, result) = audit(&registry, &receipt).await;
        if report.unanswered.is_empty() {
            // Nothing had to be asked there.
            assert_eq!(kind, ImportErrorKind::Incomplete);
            result.unwrap();
            continue;
        }
        let error = result.unwrap_err();
        assert_eq!(report.status, AuditStatus::Incomplete);
        assert_ne!(error.kind(), ImportErrorKind::Usage, "{error}");
        assert!(error.to_string().contains("got no answer"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_say_too_little_or_are_of_another_target_are_refused() {
    let registry = open(Persona::SpecFull).await;
    let bundle = Bundle::new().await;
    let receipt = bundle.import_to(&registry).await.unwrap();
    let mut old = receipt.clone();
    old.graph = None;
    let mut elsewhere = receipt.clone();
    elsewhere.target_identity = Some("elsewhere.example.com".to_owned());
    let mut dry = receipt;
    dry.dry_run = true;
    for (receipt, words) in [
        (old, "older version"),
        (elsewhere, "elsewhere.example.com"),
        (dry, "dry run"),
    ] {
        let (report, result) = audit(&registry, &receipt).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ImportErrorKind::Usage);
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(report.status, AuditStatus::Incomplete);
    }
}
