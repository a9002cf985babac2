//! What a cache of manifests saves, and what is asked for although the cache has it.

use std::sync::Arc;

use oci_content::{Descriptor, Digest, Manifest, Reference, WarningCode, media_type};
use oci_referrers::{
    ManifestCache, ManifestFolder, ManifestSource as _, ReferrerGraph, RegistryManifests,
    ResolveError, Resolved, resolve_with_cache,
};
use tempfile::TempDir;
use test_registry::{Fault, Persona, Referrer, Route, TestRegistry};

use crate::support::{APP, SBOM, SIGNATURE, open, repository, sources};

/// A folder of manifests, as each run opens it anew.
struct Nights(TempDir);

impl Nights {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn cache(&self) -> Arc<dyn ManifestCache> {
        Arc::new(ManifestFolder::new(self.0.path()))
    }

    async fn discover(&self, registry: &TestRegistry, image: &Descriptor) -> ReferrerGraph {
        let sources = sources(registry).manifest_cache(Some(self.cache()));
        let discovery = sources.seen_before(true).discovery(None);
        let discovery = discovery.one_of_many(true);
        discovery.run([image.digest.clone()]).await
    }

    async fn prove(&self, registry: &TestRegistry, image: &Descriptor) -> ReferrerGraph {
        let sources = sources(registry).manifest_cache(Some(self.cache()));
        let sources = sources.proving(true).seen_before(true);
        let discovery = sources.discovery(None).one_of_many(true);
        discovery.run([image.digest.clone()]).await
    }

    async fn resolve(&self, registry: &TestRegistry, name: &str) -> Result<Resolved, ResolveError> {
        let reference: Reference = format!("{}/{name}", registry.host()).parse().unwrap();
        let cache = self.cache();
        resolve_with_cache(&repository(registry), &reference, Some(&*cache)).await
    }
}

/// Counts requests for manifests, by method, and leaves out tags if `by_digest` is set.
fn requests(registry: &TestRegistry, method: &str, by_digest: bool) -> usize {
    let requests = registry.requests().into_iter();
    let manifests = requests.filter(|request| {
        request.path.contains("/manifests/")
            && (!by_digest || request.path.contains("/manifests/sha256:"))
    });
    manifests.filter(|request| request.method == method).count()
}

/// Puts an SBOM with a signature on it, and a legacy signature.
fn put(registry: &TestRegistry) -> (Descriptor, Descriptor) {
    let image = registry.image(APP, "1.0");
    let sbom = registry.referrer(APP, &image, SBOM, "sbom");
    registry.referrer(APP, &sbom, SIGNATURE, "signature");
    registry.legacy(APP, &image.digest, "sig", "legacy");
    (image, sbom)
}

/// Returns everything that a graph says of referrers; requests are not compared.
fn said(graph: &ReferrerGraph) -> (Vec<Referring>, Vec<String>, Vec<String>) {
    let referrers = graph.referrers.iter();
    let referrers =
        referrers.map(|known| (known.subject.clone(), known.digest.clone(), known.depth));
    let warnings = graph.warnings().map(|warning| format!("{warning:?}"));
    let errors = graph.errors().map(|problem| format!("{problem:?}"));
    (referrers.collect(), warnings.collect(), errors.collect())
}

type Referring = (Digest, Digest, u32);

fn codes(graph: &ReferrerGraph) -> Vec<WarningCode> {
    graph.warnings().map(|warning| warning.code).collect()
}

#[tokio::test]
async fn a_second_night_finds_the_same_and_reads_no_manifest_by_digest() {
    for persona in Persona::ALL {
        let registry = open(persona).await;
        let (image, _) = put(&registry);
        let nights = Nights::new();
        let first = nights.discover(&registry, &image).await;
        registry.clear_requests();
        let second = nights.discover(&registry, &image).await;
        assert_eq!(said(&first), said(&second), "{persona}");
        assert_eq!(requests(&registry, "GET", true), 0, "{persona}");
    }
}

#[tokio::test]
async fn what_the_api_lists_costs_no_request_and_a_legacy_tag_costs_a_head() {
    let registry = open(Persona::SpecFull).await;
    let (image, _) = put(&registry);
    let nights = Nights::new();
    let first = nights.discover(&registry, &image).await;
    assert_eq!(first.referrers.len(), 3);
    registry.clear_requests();
    nights.discover(&registry, &image).await;
    // The lists of four subjects, the listing of tags, the legacy tag.
    assert_eq!(registry.requests().len(), 4 + 1 + 1);
    assert_eq!(requests(&registry, "HEAD", false), 1);
}

#[tokio::test]
async fn a_referrer_that_only_a_tag_lists_and_that_is_gone_is_dangling_as_it_is_without_a_cache() {
    let registry = open(Persona::Dist2).await;
    let (image, sbom) = put(&registry);
    let nights = Nights::new();
    assert_eq!(nights.discover(&registry, &image).await.referrers.len(), 3);
    registry.lose(APP, &sbom.digest);
    let second = nights.discover(&registry, &image).await;
    assert_eq!(codes(&second), [WarningCode::DanglingReferrer]);
    let cold = Nights::new().discover(&registry, &image).await;
    assert_eq!(said(&second), said(&cold));
}

#[tokio::test]
async fn a_referrer_that_the_api_lists_is_found_although_the_registry_has_lost_the_manifest() {
    let registry = open(Persona::SpecFull).await;
    let (image, sbom) = put(&registry);
    let nights = Nights::new();
    nights.discover(&registry, &image).await;
    registry.lose(APP, &sbom.digest);
    let second = nights.discover(&registry, &image).await;
    assert_eq!(second.referrers.len(), 3);
    assert_eq!(codes(&second), []);
}

#[tokio::test]
async fn a_proof_believes_no_list_of_what_the_cache_has() {
    for persona in [Persona::SpecFull, Persona::Dist2, Persona::Quay] {
        let registry = open(persona).await;
        let (image, sbom) = put(&registry);
        let nights = Nights::new();
        let first = nights.discover(&registry, &image).await;
        registry.clear_requests();
        let whole = nights.prove(&registry, &image).await;
        assert_eq!(said(&first), said(&whole), "{persona}");
        assert_eq!(requests(&registry, "GET", true), 0, "{persona}");
        // One more shows that the API is absent.
        let heads = if persona == Persona::Dist2 { 3 } else { 2 };
        assert_eq!(requests(&registry, "HEAD", true), heads, "{persona}");
        registry.lose(APP, &sbom.digest);
        let proof = nights.prove(&registry, &image).await;
        assert!(
            codes(&proof).contains(&WarningCode::DanglingReferrer),
            "{persona}"
        );
        assert!(
            proof
                .referrers
                .iter()
                .all(|known| known.digest != sbom.digest)
        );
    }
}

#[tokio::test]
async fn a_new_referrer_is_found_whatever_the_cache_has() {
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let registry = open(persona).await;
        let (image, sbom) = put(&registry);
        let nights = Nights::new();
        nights.discover(&registry, &image).await;
        registry.put_referrer(APP, Referrer::new(&sbom, SIGNATURE, "another"));
        registry.legacy(APP, &image.digest, "att", "attestation");
        registry.legacy(APP, &image.digest, "sig", "another legacy signature");
        let second = nights.discover(&registry, &image).await;
        let cold = Nights::new().discover(&registry, &image).await;
        assert_eq!(second.referrers.len(), 5, "{persona}");
        assert_eq!(said(&second), said(&cold), "{persona}");
    }
}

#[tokio::test]
async fn a_damaged_file_or_a_cache_that_gives_something_else_only_costs_a_request() {
    #[derive(Debug)]
    struct Wrong(Manifest);
    impl ManifestCache for Wrong {
        fn manifest(&self, _: &Digest) -> Option<Manifest> {
            Some(self.0.clone())
        }
        fn keep(&self, _: &Manifest) {}
    }
    let registry = open(Persona::SpecFull).await;
    let (image, sbom) = put(&registry);
    let nights = Nights::new();
    let first = nights.discover(&registry, &image).await;
    let path = nights.0.path().join("sha256").join(sbom.digest.encoded());
    std::fs::write(&path, "{}").unwrap();
    let second = nights.discover(&registry, &image).await;
    assert_eq!(said(&first), said(&second));
    assert_eq!(
        std::fs::read(&path).unwrap(),
        registry.manifest(APP, &sbom.digest).unwrap()
    );
    let other = registry.manifest(APP, &image.digest).unwrap();
    let wrong = Wrong(Manifest::parse(other, None).unwrap());
    let manifests = RegistryManifests::new(repository(&registry));
    let manifests = manifests.manifest_cache(Some(Arc::new(wrong)));
    let read = manifests.manifest(&sbom.digest).await.unwrap();
    assert_eq!(read.digest(), &sbom.digest);
}

#[tokio::test]
async fn a_tag_is_looked_up_and_read_only_if_it_has_moved_or_the_answer_leaves_a_doubt() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let nights = Nights::new();
    let first = nights.resolve(&registry, "team/app:1.0").await.unwrap();
    assert!(!first.from_cache);
    registry.clear_requests();
    let second = nights.resolve(&registry, "team/app:1.0").await.unwrap();
    assert_eq!(
        (&second.manifest, second.from_cache),
        (&first.manifest, true)
    );
    let methods: Vec<_> = registry
        .requests()
        .into_iter()
        .map(|request| request.method)
        .collect();
    assert_eq!(methods, ["HEAD"]);

    let head = || Route::manifests().method("HEAD");
    let other_length = Fault::pass().header("Content-Length", "1");
    for doubt in [
        Fault::pass().without_header("Docker-Content-Digest"),
        Fault::pass().header("Docker-Content-Digest", "sha256:short"),
        other_length,
        Fault::statuses([404]),
        Fault::statuses([405]),
        Fault::statuses([403]),
    ] {
        registry.fault(head(), doubt);
        let read = nights.resolve(&registry, "team/app:1.0").await.unwrap();
        assert_eq!((&read.manifest, read.from_cache), (&first.manifest, false));
    }
    let moved = registry.image(APP, "other");
    registry.tag(APP, "1.0", &moved.digest);
    let read = nights.resolve(&registry, "team/app:1.0").await.unwrap();
    assert_eq!(
        (read.manifest.digest(), read.from_cache),
        (&moved.digest, false)
    );
    let digest = &image.digest;
    let pinned = nights
        .resolve(&registry, &format!("team/app:1.0@{digest}"))
        .await
        .unwrap();
    assert_eq!(pinned.manifest.digest(), digest);
    assert_eq!(
        (pinned.tag_moved_to, pinned.from_cache),
        (Some(moved.digest), true)
    );
}

#[tokio::test]
async fn an_image_that_was_asked_for_and_is_gone_is_not_taken_from_the_cache() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let nights = Nights::new();
    let by_digest = format!("team/app@{}", image.digest);
    for _ in 0..2 {
        nights.resolve(&registry, &by_digest).await.unwrap();
    }
    assert_eq!(requests(&registry, "GET", true), 1);
    registry.lose(APP, &image.digest);
    for name in [by_digest.as_str(), "team/app:1.0"] {
        let gone = nights.resolve(&registry, name).await;
        assert!(
            matches!(gone, Err(ResolveError::NotFound { .. })),
            "{gone:?}"
        );
    }
}

#[tokio::test]
async fn what_only_the_registry_says_about_a_manifest_is_asked_for_again() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let config = Digest::of(b"{}");
    let untyped = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[],"subject":{{"mediaType":"{}","digest":"{}","size":{}}}}}"#,
        media_type::EMPTY,
        image.media_type,
        image.digest,
        image.size
    );
    let put = registry.put_manifest(APP, media_type::DOCKER_MANIFEST, untyped);
    let nights = Nights::new();
    let manifests = RegistryManifests::new(repository(&registry));
    let manifests = manifests.manifest_cache(Some(nights.cache()));
    for reads in 1..3 {
        let read = manifests.manifest(&put.digest).await.unwrap();
        assert_eq!(read.media_type(), media_type::DOCKER_MANIFEST);
        assert_eq!(requests(&registry, "GET", true), reads);
    }
}
