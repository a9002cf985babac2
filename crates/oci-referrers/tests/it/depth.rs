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
use test_registry::{Fault, Persona, Referrer, Route, TestRegistry};

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

/// Puts in an index of these manifests, with a subject, and lists it as the persona lists
/// referrers.
fn index_referrer(
    registry: &TestRegistry,
    persona: Persona,
    subject: &Descriptor,
    children: &[&Descriptor],
) -> Descriptor {
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "artifactType": "application/vnd.example.set",
        "manifests": children,
        "subject": { "mediaType": subject.media_type, "digest": subject.digest, "size": subject.size },
    });
    let index = registry.put_manifest(APP, media_type::IMAGE_INDEX, index.to_string());
    if persona == Persona::Dist2 {
        registry.referrers_tag_index(APP, &subject.digest, std::slice::from_ref(&index));
    }
    index
}

#[tokio::test]
async fn the_children_of_a_referrer_that_is_an_index_have_referrers_too() {
    for (persona, sources, method, capability) in [
        (Persona::SpecFull, API, Native, Supported),
        (Persona::Dist2, TAG, FallbackTag, Unsupported),
    ] {
        let registry = open(persona).await;
        let image = registry.image(APP, "1.0");
        let [one, two, deep] = ["one", "two", "deep"].map(|tag| registry.image(APP, tag));
        let nested = json!({
            "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [deep],
        });
        let nested = registry.put_manifest(APP, media_type::IMAGE_INDEX, nested.to_string());
        let set = index_referrer(&registry, persona, &image, &[&one, &two, &nested]);
        let on_one = registry.referrer(APP, &one, SBOM, "on one");
        let on_that = registry.referrer(APP, &on_one, SIGNATURE, "on that");
        let on_deep = registry.referrer(APP, &deep, SBOM, "on deep");
        // A referrer of a child can be an index again.
        let more = registry.image(APP, "more");
        let again = index_referrer(&registry, persona, &two, &[&more]);
        let on_more = registry.referrer(APP, &more, SBOM, "on more");
        let on_nested = registry.legacy(APP, &nested.digest, "sig", "on nested");

        let own = expect(method, capability).found(&set, sources);
        let graph = discover(&registry, &image.digest).await;
        own.check(&graph);
        assert!(graph.unopened.iter().eq([&set.digest]));
        let all = own
            .clone()
            .found_at(2, &on_one, sources)
            .found_at(3, &on_that, sources)
            .found_at(2, &on_deep, sources)
            .found_at(2, &again, sources)
            .found_at(3, &on_more, sources)
            .tagged(2, &nested.digest, &on_nested, "sig", LEGACY);
        for depth in [ImageDepth::Indexes, ImageDepth::Manifests] {
            let discovery = discovery(&registry).children(Some(depth));
            let graph = discovery.run([image.digest.clone()]).await;
            all.check(&graph);
            assert_eq!(graph.indexes[&set.digest].children.len(), 4);
            assert_eq!(graph.indexes[&again.digest].children.len(), 1);
            assert!(graph.unopened.is_empty());
        }
        // What is beyond the wanted depth is neither asked for nor warned of.
        let discovery = discovery(&registry).depth(Some(1));
        let graph = discovery.run([image.digest.clone()]).await;
        own.check(&graph);
        assert!(graph.unopened.is_empty());
    }
}

#[tokio::test]
async fn an_index_below_a_legacy_tag_is_walked_and_its_attestations_with_its_manifests() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let set = registry.index_with_attestations(APP, "set", &["linux/amd64"]);
    let tag = format!("{}.sig", referrers_tag(&image.digest));
    registry.tag(APP, &tag, &set.descriptor.digest);
    // The way back, by another tag: such a circle ends.
    let platform = &set.children[0];
    let back = format!("{}.sig", referrers_tag(&platform.digest));
    registry.tag(APP, &back, &set.descriptor.digest);
    let on_attestation = registry.referrer(APP, &set.attestations[0], SIGNATURE, "a");
    let without = expect(Native, Supported)
        .tagged(1, &image.digest, &set.descriptor, "sig", LEGACY)
        .tagged(2, &platform.digest, &set.descriptor, "sig", LEGACY);
    let with = without.clone().found_at(2, &on_attestation, API);
    for (depth, expected) in [
        (ImageDepth::Indexes, without),
        (ImageDepth::Manifests, with),
    ] {
        let discovery = discovery(&registry).children(Some(depth));
        expected.check(&discovery.run([image.digest.clone()]).await);
    }
}

#[tokio::test]
async fn a_child_that_cannot_be_read_leaves_the_subject_of_its_index_incomplete() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let [one, two] = ["one", "two"].map(|tag| registry.image(APP, tag));
    let set = index_referrer(&registry, Persona::SpecFull, &image, &[&one, &two]);
    let on_two = registry.referrer(APP, &two, SBOM, "on two");
    registry.delete(APP, &one.digest);
    let discovery = discovery(&registry).children(Some(ImageDepth::Manifests));
    expect(Native, Supported)
        .found(&set, API)
        .found_at(2, &on_two, API)
        .error_about(ErrorCode::ServerError, &one.digest)
        .check(&discovery.run([image.digest.clone()]).await);
}

#[tokio::test]
async fn what_a_discovery_may_hold_is_bounded_and_what_is_too_much_is_named() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let put = |number: usize| {
        let referrer = Referrer::new(&image, SBOM, format!("{number}"));
        registry.put_referrer(APP, referrer.annotation("long", "x".repeat(20_000)))
    };
    let all: Vec<_> = (0..20).map(put).collect();
    let run = |max_bytes, keep| {
        let mut limits = Limits::default();
        limits.max_bytes = max_bytes;
        limits.max_active = NonZeroUsize::MIN;
        discovery(&registry).limits(limits).keep_manifests(keep)
    };
    for (keep, at_least, at_most) in [(false, 8, 10), (true, 2, 5)] {
        let graph = run(220_000, keep).run([image.digest.clone()]).await;
        let found = graph.referrers.len();
        assert!((at_least..=at_most).contains(&found), "{keep}: {found}");
        assert_eq!(graph.status(), oci_content::Completeness::Incomplete);
        let named: Vec<_> = graph
            .errors()
            .filter_map(|problem| problem.digest.as_ref())
            .collect();
        assert!(
            graph
                .errors()
                .all(|problem| problem.code == ErrorCode::Limit)
        );
        for referrer in &all {
            let found = graph
                .referrers
                .iter()
                .any(|known| known.digest == referrer.digest);
            assert!(
                found != named.contains(&&referrer.digest),
                "{}",
                referrer.digest
            );
        }
    }
    // A list that is too long by itself.
    let graph = run(3_000, false).run([image.digest.clone()]).await;
    assert!(graph.referrers.is_empty());
    assert!(graph.errors().any(|problem| problem.digest.is_none()));
    assert!(
        graph
            .errors()
            .all(|problem| problem.code == ErrorCode::Limit)
    );
    let graph = run(2_000_000, true).run([image.digest.clone()]).await;
    assert_eq!((graph.referrers.len(), graph.errors().count()), (20, 0));
}

#[tokio::test]
async fn what_lies_below_indexes_counts_towards_what_is_held() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let children: Vec<_> = (0..10)
        .map(|number| {
            let note = "x".repeat(20_000);
            let child = json!({
                "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [],
                "annotations": { "number": format!("{number}"), "note": note },
            });
            registry.put_manifest(APP, media_type::IMAGE_INDEX, child.to_string())
        })
        .collect();
    let children: Vec<_> = children.iter().collect();
    let set = index_referrer(&registry, Persona::SpecFull, &image, &children);
    let mut limits = Limits::default();
    limits.max_bytes = 200_000;
    let discovery = discovery(&registry)
        .limits(limits)
        .children(Some(ImageDepth::Manifests));
    let graph = discovery.run([image.digest.clone()]).await;
    assert!(
        graph
            .referrers
            .iter()
            .any(|known| known.digest == set.digest)
    );
    let tree = &graph.indexes[&set.digest];
    assert!(!tree.children.is_empty() && tree.children.len() < 10);
    assert_eq!(tree.children.len() + tree.problems.len(), 10);
    assert!(
        graph
            .errors()
            .all(|problem| problem.code == ErrorCode::Limit)
    );
    assert_eq!(graph.errors().count(), tree.problems.len());
}
