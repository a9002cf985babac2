//! Sources that are not a registry's: what they name is verified, and nobody takes them for what
//! they are not.

use std::sync::Arc;

use async_trait::async_trait;
use oci_content::Capability::{Supported, Unknown, Unsupported};
use oci_content::DiscoveryMethod::{FallbackTag, Native, NativeAndTag, Other};
use oci_content::{Capability, ErrorCode, Manifest, SourceKind, WarningCode};
use oci_referrers::{Answer, Claim, Discovery, Query, ReferrerSource, RegistryManifests};
use test_registry::{Persona, Referrer, TestRegistry};

use crate::support::{API, APP, SBOM, SIGNATURE, discovery, expect, open, repository};

/// A source that gives one answer for the subject that was asked for, and an empty list for all
/// others.
#[derive(Debug)]
struct Fixed {
    kind: SourceKind,
    subject: oci_content::Digest,
    claims: Vec<Claim>,
    capability: Option<Capability>,
}

#[async_trait]
impl ReferrerSource for Fixed {
    fn kind(&self) -> SourceKind {
        self.kind
    }

    async fn referrers(&self, query: &Query) -> Answer {
        let mut answer = Answer::list([]);
        if *query.subject() == self.subject {
            answer.claims.clone_from(&self.claims);
        }
        answer.capability = self.capability;
        answer
    }
}

fn inventory() -> SourceKind {
    SourceKind::from_word("other:inventory").unwrap()
}

/// The sources of the registry and one more, over the manifests of the registry.
fn with(registry: &TestRegistry, source: Fixed) -> Discovery {
    discovery(registry).source(Arc::new(source))
}

/// One source alone, over the manifests of the registry.
fn alone(registry: &TestRegistry, source: Fixed) -> Discovery {
    let manifests = RegistryManifests::new(repository(registry));
    Discovery::new(Arc::new(manifests)).source(Arc::new(source))
}

#[tokio::test]
async fn where_only_a_source_of_the_program_answers_the_method_is_other() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let lost = Referrer::new(&image, SBOM, "{}").without_tag_index();
    let lost = registry.put_referrer(APP, lost);
    let source = || Fixed {
        kind: inventory(),
        subject: image.digest.clone(),
        claims: vec![Claim::new(lost.clone())],
        capability: None,
    };
    let graph = with(&registry, source()).run([image.digest.clone()]).await;
    expect(Other, Unsupported)
        .found(&lost, &[inventory()])
        .check(&graph);
    let graph = alone(&registry, source()).run([image.digest.clone()]).await;
    expect(Other, Unknown)
        .found(&lost, &[inventory()])
        .check(&graph);
}

#[tokio::test]
async fn where_the_registry_answers_too_the_method_speaks_of_the_registry() {
    for (persona, method, capability, own) in [
        (
            Persona::SpecFull,
            Native,
            Supported,
            SourceKind::ReferrersApi,
        ),
        (
            Persona::Dist2,
            FallbackTag,
            Unsupported,
            SourceKind::ReferrersTag,
        ),
    ] {
        let registry = open(persona).await;
        let image = registry.image(APP, "1.0");
        let sbom = registry.referrer(APP, &image, SBOM, "{}");
        let source = Fixed {
            kind: inventory(),
            subject: image.digest.clone(),
            claims: vec![Claim::new(sbom.clone())],
            capability: None,
        };
        let graph = with(&registry, source).run([image.digest]).await;
        expect(method, capability)
            .found(&sbom, &[own, inventory()])
            .check(&graph);
    }
}

#[tokio::test]
async fn a_source_that_calls_itself_the_api_is_not_believed_without_the_capability() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let tagged = registry.referrer(APP, &image, SBOM, "{}");
    let source = |claims: &[&oci_content::Descriptor], capability| Fixed {
        kind: SourceKind::ReferrersApi,
        subject: image.digest.clone(),
        claims: claims
            .iter()
            .map(|&entry| Claim::new(entry.clone()))
            .collect(),
        capability,
    };
    // What the referrers tag names is not stale beside a list that is not the API's.
    let graph = with(&registry, source(&[], None))
        .run([image.digest.clone()])
        .await;
    expect(FallbackTag, Unsupported)
        .found(&tagged, &[SourceKind::ReferrersTag])
        .check(&graph);
    let graph = alone(&registry, source(&[&tagged], None))
        .run([image.digest.clone()])
        .await;
    expect(Other, Unknown).found(&tagged, API).check(&graph);
    let graph = with(&registry, source(&[], Some(Supported)))
        .run([image.digest.clone()])
        .await;
    expect(NativeAndTag, Supported)
        .found(&tagged, &[SourceKind::ReferrersTag])
        .warning_about(WarningCode::StaleTagIndex, &tagged.digest)
        .check(&graph);
}

#[tokio::test]
async fn only_the_name_of_a_tag_relates_what_has_no_subject() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let other = registry.image(APP, "2.0");
    let legacy = registry.legacy(APP, &other.digest, "sig", "signature of another image");
    let raw = registry.manifest(APP, &legacy.digest).unwrap();
    let manifest = Manifest::parse(raw, None).unwrap();
    let tag = format!("sha256-{}.sig", other.digest.encoded());
    let tagged = Claim::tagged(tag.parse().unwrap(), manifest.clone());
    for claim in [
        Claim::new(legacy.clone()),
        Claim::tagged("latest".parse().unwrap(), manifest),
        tagged.clone(),
    ] {
        let source = |kind| Fixed {
            kind,
            subject: image.digest.clone(),
            claims: vec![claim.clone()],
            capability: None,
        };
        let legacy_kind = source(SourceKind::LegacyTag);
        let graph = with(&registry, legacy_kind)
            .run([image.digest.clone()])
            .await;
        expect(FallbackTag, Unsupported)
            .error_about(ErrorCode::Malformed, &legacy.digest)
            .check(&graph);
        let graph = with(&registry, source(inventory()))
            .run([image.digest.clone()])
            .await;
        expect(Other, Unsupported)
            .warning_about(WarningCode::SubjectMismatch, &legacy.digest)
            .check(&graph);
    }
    // A source of the program that asks tags says so by its kind.
    for (kind, found) in [(SourceKind::LegacyTag, true), (inventory(), false)] {
        let source = Fixed {
            kind,
            subject: other.digest.clone(),
            claims: vec![tagged.clone()],
            capability: None,
        };
        let graph = alone(&registry, source).run([other.digest.clone()]).await;
        assert_eq!(graph.referrers.len(), usize::from(found), "{kind}");
    }
}

#[tokio::test]
async fn a_manifest_that_is_not_the_one_that_is_claimed_is_not_used_in_its_place() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let sbom = registry.referrer(APP, &image, SBOM, "{}");
    let other = registry.referrer(APP, &image, SIGNATURE, "another one");
    let mut claim = Claim::new(sbom.clone());
    claim.manifest = registry
        .manifest(APP, &other.digest)
        .map(|raw| Manifest::parse(raw, None).unwrap());
    let source = Fixed {
        kind: inventory(),
        subject: image.digest.clone(),
        claims: vec![claim],
        capability: None,
    };
    let graph = alone(&registry, source).run([image.digest]).await;
    expect(Other, Unknown)
        .found(&sbom, &[inventory()])
        .check(&graph);
}
