//! A policy over what a bundle holds: what counts as a platform, as a referrer of an image, and as its date.

use std::time::{Duration, SystemTime};

use bundle_format::Container;
use import_validator::{FindingKind, ImportValidator, Report, Severity, Stage};
use oci_content::DiscoveryRecord;
use oci_content::{ArtifactCategory, Capability, Descriptor, DiscoveryMethod, media_type};
use oci_referrers::Policy;
use serde_json::json;

use crate::fixture::{CYCLONEDX, Fixture, SIGNATURE, pack};

/// A day in 2026.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(20_780 * 86_400)
}

fn validate(rule: &str, fixture: &Fixture) -> Report {
    let policy = format!("version: 1\nrules:\n- name: tried\n  {rule}\n");
    let policy = Policy::parse(&policy).unwrap();
    let bytes = pack(&fixture.clone().files(), Container::Tar);
    let validator = ImportValidator::new().policy(policy, now());
    validator.validate("bundle", &*bytes)
}

fn kinds(rule: &str, fixture: &Fixture) -> Vec<FindingKind> {
    let report = validate(rule, fixture);
    let findings = report.findings.iter();
    assert!(
        findings
            .clone()
            .all(|finding| finding.stage == Stage::Policy),
        "{report:#?}"
    );
    findings.map(|finding| finding.kind).collect()
}

use FindingKind::{
    DeniedReferrer, PolicyRuleUnused, ReferrerTooOld, RequiredReferrerMissing,
    RequiredSignatureMissing,
};

#[test]
fn a_legacy_tag_counts_by_what_its_suffix_says() {
    // The fixture's only signature on the index is one that a tag names; its artifact type is that of a config.
    let full = Fixture::full();
    assert_eq!(kinds("signed: [image, sbom]", &full), []);
    assert_eq!(kinds("require: {category: signature}", &full), []);
    assert_eq!(
        kinds("signed: [attestation]", &full),
        [RequiredSignatureMissing]
    );
    assert_eq!(
        kinds("deny: {category: signature}", &full),
        [DeniedReferrer; 2]
    );
}

#[test]
fn what_manifest_yaml_says_of_a_category_is_not_believed() {
    let mut fixture = Fixture::small();
    fixture.manifest.graph.discovery[0].artifacts[0].category = ArtifactCategory::Signature;
    assert_eq!(
        kinds("signed: [image]", &fixture),
        [RequiredSignatureMissing]
    );
    assert_eq!(kinds("require: {category: sbom}", &fixture), []);
}

#[test]
fn platforms_are_judged_one_by_one_and_attestations_of_buildkit_are_none() {
    let full = Fixture::full();
    let rule = "require: {category: attestation, per: platform}";
    let report = validate(rule, &full);
    assert_eq!((report.findings.len(), report.exit_code()), (1, 11));
    let finding = &report.findings[0];
    assert_eq!(
        (finding.kind, finding.severity),
        (RequiredReferrerMissing, Severity::Error)
    );
    assert_eq!(
        finding.path.as_deref(),
        Some("registry.example.com/team/app:1.0")
    );

    let mut built = Fixture::empty();
    let mut image = built.image("amd64");
    image.platform = oci_content::Platform::parse("linux/amd64");
    let mut attestation = built.image("attestation");
    let annotations = [("vnd.docker.reference.type", "attestation-manifest")];
    attestation.annotations = annotations
        .map(|(key, value)| (key.into(), value.into()))
        .into();
    let index = json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [image, attestation]});
    let index = built.put(media_type::IMAGE_INDEX, &index);
    built.add_image(&index);
    let sbom = built.referrer(&image, CYCLONEDX, "sbom");
    built.discover(&index, &[]);
    built.discover(&image, &[(&sbom, Some(CYCLONEDX))]);
    assert_eq!(
        kinds("require: {category: sbom, per: platform}", &built),
        []
    );
    let report = validate("signed: [platform]", &built);
    assert_eq!(report.findings.len(), 1);
    let expected = report.findings[0].expected.as_deref().unwrap();
    assert!(expected.contains("linux/amd64"), "{expected}");
}

#[test]
fn referrers_of_the_same_image_in_another_repository_do_not_count() {
    let mut fixture = Fixture::small();
    let mut other = fixture.manifest.graph.images[0].clone();
    other.reference = "registry.example.com/other/app:1.0".parse().unwrap();
    let record = DiscoveryRecord::new(
        (&other.reference).into(),
        other.digest.clone(),
        Capability::Supported,
        DiscoveryMethod::Native,
    );
    fixture.manifest.graph.discovery.push(record);
    fixture.manifest.graph.images.push(other);
    let report = validate("require: {category: sbom}", &fixture);
    let paths: Vec<_> = report
        .findings
        .iter()
        .map(|finding| finding.path.as_deref())
        .collect();
    assert_eq!(paths, [Some("registry.example.com/other/app:1.0")]);
}

#[test]
fn a_document_is_as_old_as_it_says_and_else_as_its_manifest_says() {
    let dated = |document: Option<&str>, annotation: Option<&str>| {
        let mut fixture = Fixture::empty();
        let image = fixture.image("image");
        fixture.add_image(&image);
        let mut referrer = fixture.referrer_json(&image, CYCLONEDX, "sbom");
        if let Some(date) = document {
            let layer = fixture.put(CYCLONEDX, &json!({"metadata": {"timestamp": date}}));
            referrer["layers"] = json!([layer]);
        }
        if let Some(date) = annotation {
            referrer["annotations"] = json!({"org.opencontainers.image.created": date});
        }
        let referrer: Descriptor = fixture.put(media_type::IMAGE_MANIFEST, &referrer);
        fixture.discover(&image, &[(&referrer, Some(CYCLONEDX))]);
        fixture
            .objects
            .retain(|_, bytes| document.is_none() || !bytes.starts_with(b"{\"payload\""));
        fixture
    };
    let (young, old) = ("2026-11-20T00:00:00Z", "2026-01-01T00:00:00Z");
    for (document, annotation, counts, undated_counts) in [
        (Some(young), None, true, true),
        (Some(young), Some(old), true, true),
        (Some(old), Some(young), false, false),
        (None, Some(young), true, true),
        (None, Some(old), false, false),
        (None, None, false, true),
        (Some("yesterday"), None, false, true),
    ] {
        let fixture = dated(document, annotation);
        let expected = |counts: bool| if counts { vec![] } else { vec![ReferrerTooOld] };
        let rule = "require: {category: sbom, max_age: 30d}";
        assert_eq!(
            kinds(rule, &fixture),
            expected(counts),
            "{document:?} {annotation:?}"
        );
        let rule = "require: {category: sbom, max_age: 30d, undated: allow}";
        assert_eq!(
            kinds(rule, &fixture),
            expected(undated_counts),
            "{document:?} {annotation:?}"
        );
    }
}

#[test]
fn a_policy_is_judged_over_a_graph_that_was_checked_and_only_over_a_whole_one() {
    let mut lie = Fixture::empty();
    let image = lie.image("image");
    lie.add_image(&image);
    let signature = lie.referrer(&image, "application/vnd.example.other", "payload");
    lie.discover(&image, &[(&signature, Some(SIGNATURE))]);
    let report = validate("signed: [image]", &lie);
    assert_eq!(
        report.first_error().unwrap().kind,
        FindingKind::ArtifactTypeMismatch
    );
    let policy = Policy::parse("version: 1\nrules:\n- name: x\n  signed: [image]\n").unwrap();
    let bytes = pack(&Fixture::small().files(), Container::TarGz);
    let cut = ImportValidator::new()
        .policy(policy, now())
        .validate("cut", &bytes[..bytes.len() / 2]);
    assert!(
        cut.findings
            .iter()
            .all(|finding| finding.stage != Stage::Policy),
        "{cut:#?}"
    );
}

#[test]
fn a_rule_without_an_image_warns_and_does_not_forbid() {
    let report = validate(
        "images: [\"elsewhere/**\"]\n  signed: [image]",
        &Fixture::small(),
    );
    assert_eq!(report.findings[0].kind, PolicyRuleUnused);
    assert_eq!((report.ok, report.exit_code()), (true, 0));
}
