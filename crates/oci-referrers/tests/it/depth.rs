//! Referrers of referrers, platforms below an index, and the end of a walk.

use std::num::NonZeroUsize;
use std::time::Duration;

use oci_content::Capability::{Supported, Unsupported};
use oci_content::DiscoveryMethod::{FallbackTag, Native};
use oci_content::{
    Descriptor, ErrorCode, Manifest, Platform, WarningCode, media_type, referrers_tag,
};
use oci_referrers::{ImageDepth, ImageTree, Limits, RegistryManifests};
use serde_json::json;
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::support::{
    API, APP, LEGACY, SBOM, SIGNATURE, TAG, discover, discovery, expect, list, open, repository,
};

async fn tree(
    registry: &TestRegistry,
    root: &Descriptor,
    platforms: &[Platform],
    depth: ImageDepth,
) -> ImageTree {
    let bytes = registry.manifest(APP, &root.digest).unwrap();
    let root = Manifest::parse_verified(bytes, &root.digest, None).unwrap();
    let manifests = RegistryManifests::new(repository(registry));
    ImageTree::walk(&manifests, root, platforms, depth).await
}

#[tokio::test]
async fn referrers_of_referrers_are_followed_as_far_as_is_wanted() {
    for (persona, sources, method, capability) in [
        (Persona::SpecFull, API, Native, Supported),
        (Persona::Dist2, TAG, FallbackTag, Unsupported),
    ] {
        let registry = open(persona).await;
        let image = registry.image(APP, "1.0");
        let a = registry.referrer(APP, &image, SBOM, "a");
        let b = registry.referrer(APP, &a, SIGNATURE, "b");
        let c = registry.referrer(APP, &b, SIGNATURE, "c");
        let one = expect(method, capability).found(&a, sources);
        let two = one.clone().found_at(2, &b, sources);
        let all = two.clone().found_at(3, &c, sources);
        for (depth, expected) in [
            (Some(1), &one),
            (Some(2), &two),
            (Some(3), &all),
            (None, &all),
        ] {
            let discovery = discovery(&registry).depth(depth);
            expected.check(&discovery.run([image.digest.clone()]).await);
        }
        let graph = discover(&registry, &image.digest).await;
        let edges: Vec<_> = graph
            .referrers
            .iter()
            .map(|r| (&r.subject, &r.digest))
            .collect();
        let expected = [
            (&image.digest, &a.digest),
            (&a.digest, &b.digest),
            (&b.digest, &c.digest),
        ];
        assert_eq!(edges, expected);
    }
}

#[tokio::test]
async fn lists_that_name_each_other_end() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let listed = Fault::body(200, media_type::IMAGE_INDEX, list(&[&image, &a]));
    registry.fault(Route::referrers().reference(&a.digest), listed.forever());
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .found(&a, API)
        .warning_about(WarningCode::SubjectMismatch, &image.digest)
        .warning_about(WarningCode::SubjectMismatch, &a.digest)
        .check(&graph);
    let asked = registry.requests().into_iter();
    let asked = asked.filter(|request| request.path.contains("/referrers/"));
    assert_eq!(asked.count(), 2, "each subject is asked for once");
}

#[tokio::test]
async fn legacy_tags_that_name_each_other_end() {
    // No hash stands in the way of two tags that point at each other's subject.
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let other = registry.image(APP, "2.0");
    registry.tag(
        APP,
        &format!("{}.sig", referrers_tag(&image.digest)),
        &other.digest,
    );
    registry.tag(
        APP,
        &format!("{}.sig", referrers_tag(&other.digest)),
        &image.digest,
    );
    let graph = discover(&registry, &image.digest).await;
    let expected = expect(oci_content::DiscoveryMethod::LegacyTag, Unsupported)
        .tagged(1, &image.digest, &other, "sig", LEGACY)
        .tagged(2, &other.digest, &image, "sig", LEGACY);
    expected.check(&graph);
}

#[tokio::test]
async fn too_many_levels_are_a_limit() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let b = registry.referrer(APP, &a, SBOM, "b");
    registry.referrer(APP, &b, SBOM, "c");
    let mut limits = Limits::default();
    limits.max_levels = 2;
    let graph = discovery(&registry)
        .limits(limits)
        .run([image.digest.clone()])
        .await;
    expect(Native, Supported)
        .found(&a, API)
        .found_at(2, &b, API)
        .error_about(ErrorCode::Limit, &b.digest)
        .check(&graph);
}

#[tokio::test]
async fn too_many_referrers_of_one_subject_are_a_limit() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let put = |number| registry.referrer(APP, &image, SBOM, format!("{number}"));
    let mut all: Vec<_> = (0..5).map(put).collect();
    all.sort_by(|a, b| a.digest.cmp(&b.digest));
    let mut limits = Limits::default();
    limits.max_referrers_per_subject = 3;
    let graph = discovery(&registry)
        .limits(limits)
        .run([image.digest.clone()])
        .await;
    let expected = all[..3]
        .iter()
        .fold(expect(Native, Supported), |e, a| e.found(a, API));
    expected
        .error_about(ErrorCode::Limit, &image.digest)
        .check(&graph);
}

#[tokio::test]
async fn one_question_at_a_time_finds_the_same() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    registry.referrer(APP, &image, SBOM, "b");
    registry.referrer(APP, &a, SIGNATURE, "c");
    registry.legacy(APP, &a.digest, "sig", "s");
    let many = discover(&registry, &image.digest).await;
    let mut limits = Limits::default();
    limits.max_active = NonZeroUsize::MIN;
    let one = discovery(&registry)
        .limits(limits)
        .run([image.digest.clone()])
        .await;
    assert_eq!(one.referrers.len(), 4);
    assert_eq!(
        format!("{:#?}", one.referrers),
        format!("{:#?}", many.referrers)
    );
}

#[tokio::test]
async fn what_is_near_one_root_and_far_from_another_is_near_whatever_arrives_first() {
    for slow_root in [0, 1] {
        let registry = open(Persona::SpecFull).await;
        let near = registry.image(APP, "1.0");
        let far = registry.image(APP, "2.0");
        let shared = registry.legacy(APP, &near.digest, "sig", "s");
        let a = registry.referrer(APP, &far, SBOM, "a");
        let tag = format!("{}.sig", referrers_tag(&a.digest));
        registry.tag(APP, &tag, &shared.digest);
        let x = registry.referrer(APP, &shared, SBOM, "x");
        let y = registry.referrer(APP, &x, SBOM, "y");
        let slow = [&near, &far][slow_root];
        let delay = Fault::delay(Duration::from_millis(200));
        registry.fault(Route::referrers().reference(&slow.digest), delay);
        let wanted = discovery(&registry).depth(Some(3));
        let graph = wanted.run([near.digest.clone(), far.digest.clone()]).await;
        expect(Native, Supported)
            .found(&a, API)
            .tagged(1, &near.digest, &shared, "sig", LEGACY)
            .tagged(2, &a.digest, &shared, "sig", LEGACY)
            .found_at(2, &x, API)
            .found_at(3, &y, API)
            .check(&graph);
    }
}

#[tokio::test]
async fn a_limit_of_levels_that_a_shorter_way_avoids_is_no_error() {
    let registry = open(Persona::SpecFull).await;
    let near = registry.image(APP, "1.0");
    let far = registry.image(APP, "2.0");
    let shared = registry.legacy(APP, &near.digest, "sig", "s");
    let a = registry.referrer(APP, &far, SBOM, "a");
    let b = registry.referrer(APP, &a, SBOM, "b");
    registry.tag(
        APP,
        &format!("{}.sig", referrers_tag(&a.digest)),
        &shared.digest,
    );
    let delay = Fault::delay(Duration::from_millis(200));
    registry.fault(Route::referrers().reference(&near.digest), delay);
    let mut limits = Limits::default();
    limits.max_levels = 2;
    let limited = discovery(&registry).limits(limits);
    let graph = limited.run([near.digest.clone(), far.digest.clone()]).await;
    // Only b is two levels away from every root.
    expect(Native, Supported)
        .found(&a, API)
        .tagged(1, &near.digest, &shared, "sig", LEGACY)
        .tagged(2, &a.digest, &shared, "sig", LEGACY)
        .found_at(2, &b, API)
        .error_about(ErrorCode::Limit, &b.digest)
        .check(&graph);
}

#[tokio::test]
async fn the_children_of_an_index_have_referrers_of_their_own() {
    let registry = open(Persona::SpecFull).await;
    let platforms = ["linux/amd64", "linux/arm64"];
    let index = registry.index_with_attestations(APP, "1.0", &platforms);
    let a = registry.referrer(APP, &index.descriptor, SBOM, "a");
    let b = registry.referrer(APP, &index.children[0], SBOM, "b");
    let c = registry.referrer(APP, &index.children[1], SBOM, "c");

    let flat = discover(&registry, &index.descriptor.digest).await;
    expect(Native, Supported).found(&a, API).check(&flat);

    let tree = tree(&registry, &index.descriptor, &[], ImageDepth::Indexes).await;
    assert!(tree.problems.is_empty());
    let attested: Vec<_> = tree
        .children
        .iter()
        .filter(|child| child.is_attestation())
        .collect();
    assert_eq!(attested.len(), 2, "they are shown apart");
    let graph = discovery(&registry).run(tree.subjects()).await;
    expect(Native, Supported)
        .found(&a, API)
        .found(&b, API)
        .found(&c, API)
        .check(&graph);
    for (referrer, subject) in [
        (&a, &index.descriptor),
        (&b, &index.children[0]),
        (&c, &index.children[1]),
    ] {
        let found = graph
            .referrers_of(&subject.digest)
            .map(|found| &found.digest);
        assert_eq!(found.collect::<Vec<_>>(), [&referrer.digest]);
    }
    assert!(
        index
            .attestations
            .iter()
            .all(|att| graph.report(&att.digest).is_none())
    );
}

#[tokio::test]
async fn a_platform_leaves_the_others_out_and_says_so() {
    let registry = open(Persona::SpecFull).await;
    let platforms = ["linux/amd64", "linux/arm64"];
    let index = registry.index_with_attestations(APP, "1.0", &platforms);
    let arm = [Platform::parse("linux/arm64").unwrap()];
    let tree = tree(&registry, &index.descriptor, &arm, ImageDepth::Manifests).await;
    let subjects = [
        index.descriptor.digest.clone(),
        index.children[1].digest.clone(),
    ];
    assert_eq!(tree.subjects(), subjects);
    let omitted: Vec<_> = tree.omitted.iter().map(|omitted| &omitted.digest).collect();
    assert_eq!(
        omitted,
        [&index.children[0].digest, &index.attestations[0].digest]
    );
    assert!(tree.children.iter().all(|child| child.manifest.is_some()));
}

#[tokio::test]
async fn an_index_within_an_index_is_walked_and_a_missing_child_is_a_problem() {
    let registry = open(Persona::SpecFull).await;
    let inner = registry.index(APP, "1.0", &["linux/amd64", "linux/arm64"]);
    let gone = Descriptor::of(media_type::IMAGE_INDEX, b"gone");
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::IMAGE_INDEX,
        "manifests": [inner.descriptor, gone],
    });
    let outer = registry.put_manifest(APP, media_type::IMAGE_INDEX, document.to_string());
    let tree = tree(&registry, &outer, &[], ImageDepth::Indexes).await;
    let mut expected = vec![outer.digest.clone(), inner.descriptor.digest.clone()];
    expected.extend(inner.children.iter().map(|child| child.digest.clone()));
    assert_eq!(tree.subjects(), expected);
    let problems: Vec<_> = tree
        .problems
        .iter()
        .map(|p| (p.code, p.digest.clone()))
        .collect();
    assert_eq!(problems, [(ErrorCode::ServerError, Some(gone.digest))]);
}

#[tokio::test]
async fn an_index_of_a_thousand_children_ends() {
    let registry = open(Persona::SpecFull).await;
    let leaf = registry.image(APP, "1.0");
    let index = |name: &str, entries: &[Descriptor]| {
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_INDEX,
            "manifests": entries,
            "annotations": {"name": name},
        });
        registry.put_manifest(APP, media_type::IMAGE_INDEX, document.to_string())
    };
    let mut root = index("0", std::slice::from_ref(&leaf));
    for level in 1..12 {
        root = index(&level.to_string(), &[root]);
    }
    let deep = tree(&registry, &root, &[], ImageDepth::Indexes).await;
    assert_eq!(deep.problems[0].code, ErrorCode::Limit);
    assert_eq!(deep.children.len(), 8);

    let inner = |number: u32| index(&number.to_string(), std::slice::from_ref(&leaf));
    let inner: Vec<_> = (0..1_001).map(inner).collect();
    let wide = tree(&registry, &index("wide", &inner), &[], ImageDepth::Indexes).await;
    assert_eq!(wide.problems[0].code, ErrorCode::Limit);
}
