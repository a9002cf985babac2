//! What an export calls complete passes the strict validation and arrives; what it leaves out it
//! names.

use std::path::Path;
use std::sync::Arc;

use bundle_format::BundleManifest;
use import_validator::{ImportValidator, Report};
use mirror_export::{ExportError, ExportSummary, Exporter};
use mirror_import::{LayoutTarget, RegistryTarget};
use oci_content::{Completeness, Descriptor, Digest, Platform, media_type};
use serde_json::{Value, json};
use test_registry::{Persona, TestRegistry};

use crate::support::{Export, PATIENCE, client, import, open, options};

fn request(source: &TestRegistry, folder: &Path, images: &[&str]) -> Export {
    let reference = |image: &&str| format!("{}/{image}", source.host()).parse().unwrap();
    Export::new(images.iter().map(reference).collect(), folder.join("b.tgz"))
}

async fn export(request: &Export) -> Result<ExportSummary, ExportError> {
    let mut options = registry_client::ClientOptions::default();
    options.retry.max_attempts = std::num::NonZeroU32::MIN;
    let client = registry_client::Client::new(options).unwrap();
    let exporter = Exporter::new(client, Arc::new(()));
    exporter.export(request, &request.output).await
}

fn validate(request: &Export, strict: bool) -> Report {
    let validator = ImportValidator::new().check_referrers(true).strict(strict);
    validator.validate_path(&request.output.path).report
}

/// Imports a bundle that is complete into a folder and into a registry.
async fn arrives(request: &Export, referrers: usize) {
    let report = validate(request, true);
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let validated = || {
        let validator = ImportValidator::new().strict(true);
        Arc::new(
            validator
                .validate_path(&request.output.path)
                .bundle
                .unwrap(),
        )
    };
    let folder = request.output.path.with_file_name("layout");
    let target = Arc::new(LayoutTarget::new(folder));
    let report = import(validated(), target, options()).await.unwrap();
    assert_eq!(
        (report.referrers_expected, report.referrers_found),
        (referrers, referrers)
    );
    // It takes an index without all its children.
    let registry = open(Persona::Minimal).await;
    let target = Arc::new(RegistryTarget::new(client(), registry.registry()).patience(PATIENCE));
    let report = import(validated(), target, options()).await.unwrap();
    assert_eq!(
        (report.referrers_expected, report.referrers_found),
        (referrers, referrers)
    );
}

fn put(source: &TestRegistry, media_type: &str, mut document: Value) -> Descriptor {
    document["schemaVersion"] = json!(2);
    document["mediaType"] = json!(media_type);
    source.put_manifest("app", media_type, document.to_string())
}

fn index(source: &TestRegistry, tag: &str, children: &[Value]) -> Descriptor {
    let index = put(
        source,
        media_type::IMAGE_INDEX,
        json!({"manifests": children}),
    );
    source.tag("app", tag, &index.digest);
    index
}

/// Returns the tags of the images that a bundle holds, in its order.
fn tags_of(manifest: &BundleManifest) -> Vec<&str> {
    let images = manifest.graph.images.iter();
    images
        .map(|image| image.reference.tag().unwrap().as_str())
        .collect()
}

/// By default, what is wrong is named; with `allow_incomplete`, everything else is carried, and
/// validates.
async fn is_left_out(source: &TestRegistry, name: &str, culprit: &Digest) {
    let folder = tempfile::tempdir().unwrap();
    let mut request = request(source, folder.path(), &["app:good", "app:odd"]);
    let exported = export(&request).await.map(|summary| summary.manifest);
    assert!(exported.is_err(), "{name}: {exported:?}");
    let text = exported.unwrap_err().to_string();
    assert!(text.contains(&culprit.to_string()), "{name}: {text}");
    assert!(text.contains("app:odd"), "{name}: {text}");
    assert!(!request.output.path.exists(), "{name}");

    request.allow_incomplete = true;
    let manifest = export(&request).await.unwrap().manifest;
    assert_eq!(tags_of(&manifest), ["good"], "{name}");
    assert_eq!(
        manifest.referrers.status,
        Completeness::Incomplete,
        "{name}"
    );
    let mut missing = manifest
        .graph
        .discovery
        .iter()
        .flat_map(|record| &record.missing);
    assert!(
        missing.any(|missing| missing.digest.as_ref() == Some(culprit)),
        "{name}"
    );
    let report = validate(&request, false);
    assert!(report.ok, "{name}: {:#?}", report.findings);
    assert!(!validate(&request, true).ok, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_whose_descriptors_the_content_contradicts_is_named_and_left_out_with_leave() {
    let source = open(Persona::SpecFull).await;
    let good = source.image("app", "good");
    let other = source.image("app", "other");
    let blob = source.put_blob("app", "a blob");
    let embeds = |of: &Descriptor, data: &str| {
        let mut own = json!(of);
        own["data"] = json!(data);
        own
    };
    let longer = |of: &Descriptor, by: i64| {
        let mut own = json!(of);
        own["size"] = json!(i64::try_from(of.size).unwrap() + by);
        own
    };
    let typed = |of: &Descriptor, media_type: &str| {
        let mut own = json!(of);
        own["mediaType"] = json!(media_type);
        own
    };
    let children = [
        ("a child's size", longer(&other, 1)),
        ("a smaller size", longer(&other, -1)),
        ("a child's type", typed(&other, media_type::DOCKER_MANIFEST)),
        (
            "another kind of type",
            typed(&other, media_type::IMAGE_INDEX),
        ),
        ("no type", typed(&other, "")),
        (
            "a parameter in the type",
            typed(
                &other,
                "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
            ),
        ),
        ("a child's data", embeds(&other, "e30=")),
    ];
    for (name, child) in children {
        index(&source, "odd", &[json!(good), child]);
        is_left_out(&source, name, &other.digest).await;
    }
    // The first of two descriptors of one child is right.
    index(&source, "odd", &[json!(other), longer(&other, 1)]);
    is_left_out(&source, "listed twice", &other.digest).await;
    // A blob of an index is held to its size too.
    index(&source, "odd", &[longer(&blob, 1)]);
    is_left_out(&source, "a listed blob's size", &blob.digest).await;
    let config = source.put_blob("app", "{}");
    for (name, config, layers) in [
        ("a config's data", embeds(&config, "e31="), vec![]),
        ("a layer's data", json!(config), vec![embeds(&blob, "e30=")]),
        (
            "a layer's data that is no base64",
            json!(config),
            vec![embeds(&blob, "!")],
        ),
        ("a layer's size", json!(config), vec![longer(&blob, 1)]),
        (
            "a smaller layer's size",
            json!(config),
            vec![longer(&blob, -1)],
        ),
        (
            "two sizes",
            json!(config),
            vec![json!(blob), longer(&blob, 1)],
        ),
        (
            "a manifest as a layer of another size",
            json!(config),
            vec![longer(&good, 1)],
        ),
    ] {
        let culprit = match (&config["data"], name) {
            (Value::String(_), _) => Digest::of(b"{}"),
            (_, "a manifest as a layer of another size") => good.digest.clone(),
            _ => blob.digest.clone(),
        };
        let image = put(
            &source,
            media_type::IMAGE_MANIFEST,
            json!({"config": config, "layers": layers}),
        );
        source.tag("app", "odd", &image.digest);
        is_left_out(&source, name, &culprit).await;
    }
    // Only the header says that it is Docker's.
    let document = json!({"schemaVersion": 2, "config": config, "layers": []});
    let docker = source.put_manifest("app", media_type::DOCKER_MANIFEST, document.to_string());
    source.tag("app", "odd", &docker.digest);
    is_left_out(&source, "an image by its header", &docker.digest).await;
    index(&source, "odd", &[json!(docker)]);
    is_left_out(&source, "a child by its header", &docker.digest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_images_with_one_layer_is_carried_whichever_of_them_gives_its_right_size() {
    let source = open(Persona::SpecFull).await;
    let config = json!(source.put_blob("app", "{}"));
    let layer = source.put_blob("app", "a layer");
    for wrong in ["a", "z"] {
        for tag in ["a", "z"] {
            let mut own = layer.clone();
            own.size += u64::from(tag == wrong);
            let image = put(
                &source,
                media_type::IMAGE_MANIFEST,
                json!({"config": config, "layers": [own]}),
            );
            source.tag("app", tag, &image.digest);
        }
        let folder = tempfile::tempdir().unwrap();
        let mut request = request(&source, folder.path(), &["app:a", "app:z"]);
        let error = export(&request).await.unwrap_err().to_string();
        assert!(error.contains(&layer.digest.to_string()), "{error}");
        request.allow_incomplete = true;
        let manifest = export(&request).await.unwrap().manifest;
        let carried = tags_of(&manifest);
        assert_ne!(carried, [wrong]);
        assert_eq!(carried.len(), 1);
        assert!(validate(&request, false).ok);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_something_else_needs_as_a_blob_is_not_left_out_in_silence() {
    let source = open(Persona::SpecFull).await;
    let mut arm64 = source.image("app", "arm64");
    arm64.platform = Some(Platform::new("linux", "arm64"));
    // A layer with the very bytes of that manifest, in the image itself or in another one.
    let bytes = source.manifest("app", &arm64.digest).unwrap();
    source.put_blob("app", bytes);
    let config = json!(source.put_blob("app", "{}"));
    let mut layer = json!(arm64);
    layer["mediaType"] = json!("application/octet-stream");
    let image = put(
        &source,
        media_type::IMAGE_MANIFEST,
        json!({"config": config, "layers": [layer]}),
    );
    source.tag("app", "layer", &image.digest);
    let mut amd64 = json!(image);
    amd64["platform"] = json!({"os": "linux", "architecture": "amd64"});
    index(&source, "odd", &[amd64, json!(arm64)]);
    let good = source.image("app", "other");
    let mut amd64 = json!(good);
    amd64["platform"] = json!({"os": "linux", "architecture": "amd64"});
    index(&source, "two", &[amd64, json!(arm64)]);
    for (images, carried) in [
        (["app:odd", "app:other"], "other"),
        (["app:layer", "app:two"], "layer"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut request = request(&source, folder.path(), &images);
        request.plan.platforms = vec![Platform::new("linux", "amd64")];
        let error = export(&request).await.unwrap_err().to_string();
        assert!(error.contains(&arm64.digest.to_string()), "{error}");
        request.allow_incomplete = true;
        let manifest = export(&request).await.unwrap().manifest;
        assert_eq!(tags_of(&manifest), [carried]);
        let report = validate(&request, false);
        assert!(report.ok, "{:#?}", report.findings);
        // All platforms can be carried.
        request.plan.platforms = Vec::new();
        request.allow_incomplete = false;
        request.output.path = folder.path().join("all.tgz");
        export(&request).await.unwrap();
        arrives(&request, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_lacks_a_child_and_refers_to_another_one_arrives_without_it() {
    let source = open(Persona::Dist2).await;
    let subject = source.image("app", "subject");
    let (there, gone) = (source.image("app", "there"), source.image("app", "gone"));
    let document = json!({"manifests": [there, gone], "subject": subject, "artifactType": "a/b"});
    let lacking = put(&source, media_type::IMAGE_INDEX, document);
    source.tag("app", "lacking", &lacking.digest);
    index(&source, "outer", &[json!(lacking)]);
    source.delete("app", &gone.digest);
    for image in ["app:lacking", "app:outer"] {
        let folder = tempfile::tempdir().unwrap();
        let mut request = request(&source, folder.path(), &["app:subject", image]);
        request.allow_incomplete = true;
        let manifest = export(&request).await.unwrap().manifest;
        assert_eq!(manifest.referrers.total, 1, "{image}");
        let validation = ImportValidator::new()
            .check_referrers(true)
            .validate_path(&request.output.path);
        assert!(validation.report.ok, "{:#?}", validation.report.findings);
        let target = Arc::new(LayoutTarget::new(folder.path().join("layout")));
        let report = import(Arc::new(validation.bundle.unwrap()), target, options())
            .await
            .unwrap();
        assert_eq!(report.referrers_found, 1, "{image}");
    }
}
