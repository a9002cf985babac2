use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mirror_export::ExportErrorKind;
use oci_content::{
    Algorithm, Completeness, Descriptor, Digest, OtherSource, SourceKind, media_type,
};
use oci_referrers::{Answer, Query, ReferrerSource};
use serde_json::json;
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::support::{Site, export, exporter, registry};

async fn empty() -> TestRegistry {
    TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrer_whose_payload_is_gone_is_named_and_left_out_only_with_leave() {
    let registry = empty().await;
    let image = registry.image("app", "1");
    let kept = registry.referrer("app", &image, "application/spdx+json", "kept");
    let gone = registry.referrer(
        "app",
        &image,
        "application/vnd.example.gone",
        "payload that is lost",
    );
    let payload = Digest::of(b"payload that is lost");
    registry.fault(
        Route::path_prefix(format!("/v2/app/blobs/{payload}")),
        Fault::statuses([404]).forever(),
    );
    let site = Site::new();
    let mut request = site.request(&registry, &["app:1"], "b.tgz");
    let error = export(&request).await.unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Incomplete);
    assert!(
        error.to_string().contains(&gone.digest.to_string()),
        "{error}"
    );
    assert!(!site.path("b.tgz").exists());

    request.allow_incomplete = true;
    let manifest = export(&request).await.unwrap().manifest;
    assert_eq!(
        (manifest.referrers.total, manifest.referrers.status),
        (1, Completeness::Incomplete)
    );
    let record = &manifest.graph.discovery[0];
    assert_eq!(record.artifacts[0].digest, kept.digest);
    assert_eq!(
        (
            record.missing[0].code.as_str(),
            record.missing[0].digest.as_ref()
        ),
        ("missing-blob", Some(&gone.digest))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_with_urls_is_taken_from_the_registry_or_missing_and_the_urls_are_never_asked() {
    let registry = empty().await;
    let foreign = TestRegistry::start(Persona::SpecFull).await;
    let config = registry.put_blob("app", "{}");
    for (tag, bytes, there) in [
        ("there", "layer that is there", true),
        ("absent", "layer that is not", false),
    ] {
        let mut layer = Descriptor::of(
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            bytes.as_bytes(),
        );
        layer.urls.push(foreign.url("/layer"));
        if there {
            registry.put_blob("app", bytes);
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST,
            "config": Descriptor::new(media_type::IMAGE_CONFIG, config.digest.clone(), config.size), "layers": [layer],
        });
        let image = registry.put_manifest("app", media_type::IMAGE_MANIFEST, manifest.to_string());
        registry.tag("app", tag, &image.digest);
    }
    let site = Site::new();
    export(&site.request(&registry, &["app:there"], "there.tgz"))
        .await
        .unwrap();
    let error = export(&site.request(&registry, &["app:absent"], "absent.tgz"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Incomplete);
    assert!(foreign.requests().is_empty());

    // With `allow_incomplete`, the other image is carried, and the one that is not is named.
    let mut both = site.request(&registry, &["app:there", "app:absent"], "both.tgz");
    both.allow_incomplete = true;
    let manifest = export(&both).await.unwrap().manifest;
    assert_eq!(manifest.graph.images.len(), 1);
    assert_eq!(manifest.referrers.status, Completeness::Incomplete);
    assert!(
        manifest
            .graph
            .discovery
            .iter()
            .any(|record| record.missing.iter().any(|m| m.code == "missing-blob"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrer_that_is_an_index_is_carried_with_its_children() {
    let registry = empty().await;
    let image = registry.image("app", "1");
    let child = registry.image("app", "child");
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "artifactType": "application/vnd.example.set",
        "manifests": [child],
        "subject": { "mediaType": image.media_type, "digest": image.digest, "size": image.size },
    });
    registry.put_manifest("app", media_type::IMAGE_INDEX, index.to_string());
    let site = Site::new();
    let manifest = export(&site.request(&registry, &["app:1"], "b.tgz"))
        .await
        .unwrap()
        .manifest;
    assert_eq!(manifest.referrers.total, 1);
    let blobs: Vec<String> = manifest
        .entries
        .iter()
        .map(|entry| entry.path.to_string())
        .collect();
    assert!(
        blobs.contains(&format!("blobs/sha256/{}", child.digest.encoded())),
        "{blobs:?}"
    );
}

/// An image with a set of two manifests as its referrer, and an SBOM on one of them.
async fn registry_with_a_set() -> (TestRegistry, [Descriptor; 4]) {
    let registry = empty().await;
    let image = registry.image("app", "1");
    let [one, two] = ["one", "two"].map(|tag| registry.image("app", tag));
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "artifactType": "application/vnd.example.set",
        "manifests": [one, two],
        "subject": { "mediaType": image.media_type, "digest": image.digest, "size": image.size },
    });
    let set = registry.put_manifest("app", media_type::IMAGE_INDEX, index.to_string());
    let sbom = registry.referrer("app", &two, "application/spdx+json", "sbom");
    (registry, [set, one, two, sbom])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_manifest_that_is_carried_has_been_asked_for_its_referrers() {
    let (registry, [set, _, two, sbom]) = registry_with_a_set().await;
    let site = Site::new();
    let request = site.request(&registry, &["app:1"], "b.tgz");
    let manifest = export(&request).await.unwrap().manifest;
    assert_eq!(manifest.referrers.status, Completeness::Complete);
    let found: Vec<_> = manifest
        .graph
        .discovery
        .iter()
        .flat_map(|record| {
            record
                .artifacts
                .iter()
                .map(|own| (&record.subject, &own.digest))
        })
        .collect();
    assert!(found.contains(&(&two.digest, &sbom.digest)), "{found:?}");
    assert!(found.iter().any(|(_, digest)| **digest == set.digest));
    let asked: Vec<_> = registry
        .requests()
        .into_iter()
        .filter_map(|request| Some(request.path.split_once("/referrers/")?.1.to_owned()))
        .collect();
    let blobs = manifest.entries.iter().map(|entry| entry.path.to_string());
    let blobs = blobs.filter_map(|path| Some(path.strip_prefix("blobs/sha256/")?.to_owned()));
    let mut manifests = 0;
    for hex in blobs {
        let digest = format!("sha256:{hex}").parse().unwrap();
        if registry.manifest("app", &digest).is_some() {
            manifests += 1;
            assert!(
                asked.contains(&digest.to_string()),
                "{digest} was not asked for"
            );
        }
    }
    assert_eq!(manifests, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_without_one_of_its_manifests_is_named_and_left_out_only_with_leave() {
    let (registry, [set, one, ..]) = registry_with_a_set().await;
    registry.delete("app", &one.digest);
    let site = Site::new();
    let mut request = site.request(&registry, &["app:1"], "b.tgz");
    let error = export(&request).await.unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Incomplete);

    request.allow_incomplete = true;
    let manifest = export(&request).await.unwrap().manifest;
    assert_eq!(manifest.referrers.status, Completeness::Incomplete);
    let mut artifacts = manifest
        .graph
        .discovery
        .iter()
        .flat_map(|record| &record.artifacts);
    assert!(artifacts.all(|artifact| artifact.digest != set.digest));
    let missing = manifest
        .graph
        .discovery
        .iter()
        .flat_map(|record| &record.missing);
    let missing: Vec<_> = missing
        .filter_map(|missing| missing.digest.as_ref())
        .collect();
    assert!(missing.contains(&&one.digest), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_refers_to_the_sha512_that_a_registry_names_for_a_tag_is_named_as_missing() {
    let registry = empty().await;
    let plain = registry.image("app", "plain");
    let bytes = registry.manifest("app", &plain.digest).unwrap();
    let sha512 = Digest::compute(Algorithm::Sha512, &bytes);
    let image = registry.put_manifest_as("app", &sha512, media_type::IMAGE_MANIFEST, bytes);
    registry.tag("app", "1", &sha512);
    let kept = registry.referrer("app", &plain, "application/spdx+json", "kept");
    let site = Site::new();
    // The image is what its SHA-256 says as well, and nothing is missing of it.
    let manifest = export(&site.request(&registry, &["app:1"], "a.tgz")).await;
    let manifest = manifest.unwrap().manifest;
    assert_eq!(manifest.graph.images[0].digest, plain.digest);
    assert_eq!(manifest.referrers.total, 1);

    let lost = registry.referrer("app", &image, "application/spdx+json", "lost");
    let mut request = site.request(&registry, &["app:1"], "b.tgz");
    let error = export(&request).await.unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Incomplete);
    assert!(error.to_string().contains(&sha512.to_string()), "{error}");
    request.allow_incomplete = true;
    let manifest = export(&request).await.unwrap().manifest;
    assert_eq!(manifest.referrers.status, Completeness::Incomplete);
    let artifacts = manifest
        .graph
        .discovery
        .iter()
        .flat_map(|record| &record.artifacts);
    let artifacts: Vec<_> = artifacts.map(|artifact| &artifact.digest).collect();
    assert_eq!(artifacts, [&kept.digest]);
    let missing = manifest
        .graph
        .discovery
        .iter()
        .flat_map(|record| &record.missing);
    let missing: Vec<_> = missing
        .map(|missing| (&*missing.code, missing.digest.as_ref()))
        .collect();
    assert_eq!(missing, [("unsupported-digest", Some(&lost.digest))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_go_programs_write_for_empty_values_is_carried_as_it_came() {
    let registry = empty().await;
    let config = json!(registry.put_blob("app", "{}"));
    let put = |media_type: &str, document: serde_json::Value| {
        registry.put_manifest("app", media_type, document.to_string())
    };
    let platforms = [
        json!(null),
        json!({}),
        json!({"architecture": "amd64"}),
        json!({"architecture": "", "os": "linux"}),
        json!({"architecture": "arm64", "os": null}),
    ];
    let children = platforms.map(|platform| {
        let image = put(
            media_type::IMAGE_MANIFEST,
            json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "config": config, "layers": null,
                   "annotations": {"platform": platform.to_string()}}),
        );
        let mut child = json!(image);
        child["platform"] = platform;
        child["urls"] = json!(null);
        child["data"] = json!("");
        child
    });
    let index = put(
        media_type::IMAGE_INDEX,
        json!({"schemaVersion": 2, "mediaType": "", "artifactType": "", "manifests": children, "layers": null,
               "config": null, "subject": null, "annotations": null}),
    );
    registry.tag("app", "1", &index.digest);
    let (image, none) = (media_type::IMAGE_MANIFEST, media_type::IMAGE_INDEX);
    let empty = json!({"mediaType": "", "digest": "", "size": 0});
    let mut referrers: Vec<_> = [
        (image, json!({"config": config, "layers": null})),
        (image, json!({"config": config, "annotations": null})),
        (image, json!({"config": null, "layers": []})),
        (image, json!({"config": empty, "layers": null})),
        (none, json!({"manifests": null})),
    ]
    .into_iter()
    .map(|(media_type, mut document)| {
        document["schemaVersion"] = json!(2);
        document["mediaType"] = json!(media_type);
        document["artifactType"] = json!("application/spdx+json");
        document["subject"] = json!(index);
        put(media_type, document).digest
    })
    .collect();
    referrers.sort();

    let site = Site::new();
    let mut request = site.request(&registry, &["app:1"], "b.tgz");
    for (platform, omitted) in [
        (None, 0),
        (Some("linux/amd64"), 1),
        (Some("windows/arm64"), 2),
    ] {
        request.plan.platforms = platform
            .and_then(oci_content::Platform::parse)
            .into_iter()
            .collect();
        request.output.path = site.path(&format!("{omitted}.tgz"));
        let manifest = export(&request).await.unwrap().manifest;
        let artifacts = manifest
            .graph
            .discovery
            .iter()
            .flat_map(|record| &record.artifacts);
        let mut found: Vec<_> = artifacts.map(|artifact| artifact.digest.clone()).collect();
        found.sort();
        assert_eq!(found, referrers, "{platform:?}");
        assert_eq!(
            manifest.graph.images[0].omitted.len(),
            omitted,
            "{platform:?}"
        );
        assert_eq!(manifest.referrers.status, Completeness::Complete);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attestation_in_an_index_that_nobody_lists_and_that_has_a_subject_is_listed_as_read() {
    for persona in [Persona::Dist2, Persona::SpecFull] {
        let registry = TestRegistry::builder(persona).without_auth().start().await;
        let image = registry.image("app", "amd64");
        let config = json!(registry.put_blob("app", "{}"));
        let attestation = json!({
            "schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "config": config, "layers": [],
            "artifactType": "application/vnd.docker.attestation.manifest.v1+json", "subject": image,
        });
        let attestation =
            registry.put_manifest("app", media_type::IMAGE_MANIFEST, attestation.to_string());
        let mut child = json!(attestation);
        child["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": image.digest,
        });
        let index = json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [image, child]});
        let index = registry.put_manifest("app", media_type::IMAGE_INDEX, index.to_string());
        registry.tag("app", "1", &index.digest);
        let site = Site::new();
        let mut request = site.request(&registry, &["app:1"], "b.tgz");
        request.layout_tags = true;
        let manifest = export(&request).await.unwrap().manifest;
        let records = manifest.graph.discovery.iter();
        let listed: Vec<_> = records
            .flat_map(|record| {
                record
                    .artifacts
                    .iter()
                    .map(|artifact| (&record.subject, artifact))
            })
            .collect();
        let [(subject, artifact)] = &*listed else {
            panic!("{persona:?}: {listed:?}");
        };
        assert_eq!(
            (*subject, &artifact.digest),
            (&image.digest, &attestation.digest)
        );
        let named = match persona {
            Persona::SpecFull => SourceKind::ReferrersApi,
            _ => SourceKind::Manifest,
        };
        assert_eq!(artifact.sources, [named], "{persona:?}");
        let totals = &manifest.referrers;
        assert_eq!((totals.total, totals.bare_images), (1, 0), "{persona:?}");
        assert_eq!(totals.status, Completeness::Complete);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_manifest_yaml_cannot_list_is_refused_before_everything_is_discovered() {
    let registry = registry().await;
    let site = Site::new();
    let names: Vec<_> = (0..10)
        .map(|number| format!("team/app:v{number}"))
        .collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut request = site.request(&registry, &names, "b.tgz");
    request.plan.max_concurrent_discoveries = std::num::NonZeroUsize::MIN;
    // Each image has two referrers; what four of them take.
    request.max_manifest_bytes = 8 * 820;
    let error = export(&request).await.unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Limit);
    let text = error.to_string();
    for part in [
        "its limit of 6560 bytes",
        "of 10 images",
        "export the images in at least 3 bundles, of about 4 each",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let asked = |image: &str| {
        let path = format!("/v2/team/app/manifests/{image}");
        registry
            .requests()
            .iter()
            .any(|request| request.path == path)
    };
    assert!(asked("v0") && !asked("v9"), "it ends early");
    assert!(site.files().is_empty(), "{:?}", site.files());

    request.max_manifest_bytes = 1000;
    let text = export(&request).await.unwrap_err().to_string();
    assert!(
        text.contains("alone does not fit; export its platforms"),
        "{text}"
    );

    // What the images themselves take counts in the end.
    let mut request = site.request(&registry, &names[..1], "b.tgz");
    request.max_manifest_bytes = 2000;
    let text = export(&request).await.unwrap_err().to_string();
    assert!(text.contains("more than its limit of 2000"), "{text}");

    // What fits to the last byte is written, also where two names have one image.
    let clean = export(&site.request(&registry, &names[..1], "c.tgz"))
        .await
        .unwrap();
    let pinned = format!("team/app:v0@{}", clean.images[0].digest);
    let mut images = names.clone();
    images.push(&pinned);
    let all = export(&site.request(&registry, &images, "d.tgz"))
        .await
        .unwrap();
    let mut request = site.request(&registry, &images, "e.tgz");
    request.max_manifest_bytes = all.manifest.yaml_bytes();
    export(&request).await.unwrap();
    request.max_manifest_bytes -= 1;
    request.output.overwrite = true;
    let error = export(&request).await.unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Limit);
}

/// A source that never answers.
#[derive(Debug)]
struct Silent;

impl ReferrerSource for Silent {
    fn kind(&self) -> SourceKind {
        SourceKind::Other(OtherSource::new("silent").unwrap())
    }

    fn referrers<'s, 'q, 'f>(
        &'s self,
        _: &'q Query,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'f>>
    where
        's: 'f,
        'q: 'f,
    {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_source_that_never_answers_is_waited_for_until_the_timeout_and_noted() {
    let registry = registry().await;
    let site = Site::new();
    let mut request = site.request(&registry, &["team/app:v0"], "b.tgz");
    request.plan.discovery_timeout = Duration::from_secs(2);
    let exporter = exporter().sources(|_| vec![Arc::new(Silent)]);
    let started = Instant::now();
    let error = exporter.export(&request, &request.output).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Incomplete);
    assert!(error.to_string().contains("other:silent"), "{error}");
    request.allow_incomplete = true;
    let done = exporter.export(&request, &request.output).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(done.manifest.referrers.status, Completeness::Incomplete);
    assert!(done.manifest.referrers.total > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_images_does_not_touch_its_output() {
    let registry = registry().await;
    let site = Site::new();
    let request = site.request(&registry, &[], "b.tgz");
    std::fs::write(site.path("b.tgz"), "there").unwrap();
    let error = export(&request).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no image to mirror");
    assert_eq!(site.files(), ["b.tgz"]);
}
