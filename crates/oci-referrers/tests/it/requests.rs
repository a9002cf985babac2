//! How many requests a discovery may cost.
//!
//! A node is an image or a referrer. Tokens and the 401s that lead to them are not counted: the
//! registries of these tests ask for none.

use oci_content::{Completeness, Descriptor, Reference};
use oci_referrers::{Discovery, ReferrerGraph, resolve};
use test_registry::{Persona, Referrer, TestRegistry};

use crate::support::{APP, SBOM, discovery, open, repository, sources};

fn count(registry: &TestRegistry) -> usize {
    registry.requests().len()
}

fn of_path(registry: &TestRegistry, text: &str) -> usize {
    let requests = registry.requests().into_iter();
    requests
        .filter(|request| request.path.contains(text))
        .count()
}

fn put(registry: &TestRegistry, subject: &Descriptor, referrers: usize) {
    let put = |number| {
        let payload = format!("{number} of {}", subject.digest);
        let referrer = Referrer::new(subject, SBOM, payload);
        registry.put_referrer(APP, referrer.without_tag_index())
    };
    let all: Vec<_> = (0..referrers).map(put).collect();
    if registry.persona() == Persona::Dist2 {
        registry.referrers_tag_index(APP, &subject.digest, &all);
    }
}

async fn run(discovery: Discovery, images: &[Descriptor]) -> ReferrerGraph {
    let graph = discovery
        .run(images.iter().map(|image| image.digest.clone()))
        .await;
    assert_eq!(graph.status(), Completeness::Complete);
    assert_eq!(graph.warnings().count(), 0);
    graph
}

#[tokio::test]
async fn one_image_with_ten_referrers_costs_17() {
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let registry = open(persona).await;
        let image = registry.image(APP, "1.0");
        put(&registry, &image, 10);
        let reference: Reference = format!("{}/{APP}:1.0", registry.host()).parse().unwrap();
        let found = resolve(&repository(&registry), &reference).await.unwrap();
        assert_eq!(found.manifest.digest(), &image.digest);
        let graph = run(discovery(&registry).depth(Some(1)), &[image]).await;
        assert_eq!(graph.referrers.len(), 10);
        // The tag, API, referrers tag, three legacy tags, the listing, ten manifests.
        assert_eq!(count(&registry), 17, "{persona}");
    }
}

#[tokio::test]
async fn a_thousand_referrers_cost_two_requests_each() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    put(&registry, &image, 1_000);
    let graph = run(discovery(&registry), &[image]).await;
    assert_eq!(graph.referrers.len(), 1_000);
    let per_node = count(&registry) as f64 / 1_001.0;
    assert!(per_node <= 2.1, "{per_node}");
    assert_eq!(of_path(&registry, "/tags/list"), 1);
}

#[tokio::test]
async fn a_thousand_referrers_of_a_registry_without_the_api_cost_one_request_each() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    put(&registry, &image, 1_000);
    let graph = run(discovery(&registry), &[image]).await;
    assert_eq!(graph.referrers.len(), 1_000);
    let per_node = count(&registry) as f64 / 1_001.0;
    assert!(per_node <= 1.2, "{per_node}");
    assert_eq!(of_path(&registry, "/tags/list"), 1);
    assert!(of_path(&registry, "/referrers/") <= 2);
}

#[tokio::test]
async fn a_hundred_images_of_one_repository_list_its_tags_once() {
    for (persona, most) in [(Persona::SpecFull, 2.5), (Persona::Dist2, 1.2)] {
        let registry = open(persona).await;
        let images: Vec<_> = (0..100)
            .map(|number| registry.image(APP, &format!("v{number}")))
            .inspect(|image| put(&registry, image, 6))
            .collect();
        let sources = sources(&registry);
        let runs = images.chunks(1).map(|image| {
            let discovery = sources.discovery(None).one_of_many(true);
            run(discovery, image)
        });
        let graphs = futures::future::join_all(runs).await;
        assert!(graphs.iter().all(|graph| graph.referrers.len() == 6));
        let per_node = count(&registry) as f64 / 700.0;
        assert!(per_node <= most, "{persona}: {per_node}");
        assert_eq!(of_path(&registry, "/tags/list"), 1, "{persona}");
        assert!(registry.max_in_flight_seen() <= 16, "{persona}");
    }
}

#[tokio::test]
async fn many_subjects_of_one_run_list_the_tags_once_and_ask_for_no_absent_tag() {
    let registry = open(Persona::SpecFull).await;
    let images: Vec<_> = (0..25)
        .map(|number| registry.image(APP, &format!("v{number}")))
        .collect();
    let graph = run(discovery(&registry), &images[..24]).await;
    assert!(graph.referrers.is_empty());
    assert_eq!(
        of_path(&registry, "/manifests/sha256-"),
        24 * 4,
        "each is asked for"
    );
    registry.clear_requests();
    run(discovery(&registry), &images).await;
    assert_eq!(of_path(&registry, "/manifests/"), 0);
    assert_eq!(count(&registry), 26);
}
