//! From a source through export and strict validation into a folder: the three agree on what is
//! whole.

use std::sync::Arc;

use import_validator::{FindingKind, ImportValidator, Report};
use mirror_export::{ExportError, ExportSummary, Exporter};
use mirror_import::{ImportError, ImportReport, LayoutTarget};
use oci_content::{Completeness, Descriptor, Digest, media_type};
use serde_json::{Value, json};
use test_registry::{Persona, TestRegistry};

use crate::support::{Export, client, import, open, options};

/// What became of one export on its way.
pub(crate) struct Way {
    folder: tempfile::TempDir,
    pub(crate) request: Export,
}

/// What a bundle was found to be, by each of those who judge it.
#[derive(Debug)]
pub(crate) struct Verdicts {
    pub(crate) summary: ExportSummary,
    pub(crate) validated: Report,
    pub(crate) strict: Report,
    pub(crate) imported: Result<ImportReport, ImportError>,
}

impl Way {
    pub(crate) fn new(source: &TestRegistry, images: &[&str]) -> Self {
        let reference = |image: &&str| format!("{}/{image}", source.host()).parse().unwrap();
        let images = images.iter().map(reference).collect();
        let folder = tempfile::tempdir().unwrap();
        let request = Export::new(images, folder.path().join("b.tar"));
        Self { folder, request }
    }

    /// Exports, validates and imports.
    pub(crate) async fn go(&self) -> Result<Verdicts, ExportError> {
        let exporter = Exporter::new(client(), Arc::new(()));
        let mut request = self.request.clone();
        request.output.overwrite = true;
        let summary = exporter.export(&request, &request.output).await?;
        let validator = ImportValidator::new().check_referrers(true);
        let strict = validator.clone().strict(true);
        let strict = strict.validate_path(&request.output.path).report;
        let validation = validator.validate_path(&request.output.path);
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        let target = Arc::new(LayoutTarget::new(folder.path().join("layout")));
        let Some(bundle) = validation.bundle else {
            panic!("{:#?}\n{:#?}", validation.report, summary.manifest);
        };
        let imported = import(Arc::new(bundle), target, options()).await;
        Ok(Verdicts {
            summary,
            validated: validation.report,
            strict,
            imported,
        })
    }
}

impl Verdicts {
    /// Returns whether the export says that everything is there and that there is nothing to note.
    pub(crate) fn is_complete(&self) -> bool {
        let manifest = &self.summary.manifest;
        let mut records = manifest.graph.discovery.iter();
        manifest.referrers.status == Completeness::Complete
            && records.all(|record| record.missing.is_empty())
    }

    /// Checks that validation and import say what the export says.
    pub(crate) fn agree(&self) {
        assert!(self.validated.ok, "{:#?}", self.validated);
        let mut findings = self.validated.findings.iter();
        let unneeded = findings.find(|one| one.kind == FindingKind::UnreferencedObject);
        assert!(unneeded.is_none(), "{unneeded:#?}");
        let manifest = &self.summary.manifest;
        assert_eq!(
            self.strict.ok,
            self.is_complete(),
            "{:#?}\n{manifest:#?}",
            self.strict
        );
        let imported = self.imported.as_ref();
        let imported = imported.unwrap_or_else(|error| panic!("{error}\n{manifest:#?}"));
        assert!(imported.missing.is_empty(), "{imported:#?}");
    }

    pub(crate) fn whole(&self) {
        self.agree();
        assert!(self.is_complete(), "{:#?}", self.summary.manifest);
    }

    /// Returns what is noted as missing.
    pub(crate) fn missing(&self) -> Vec<&Digest> {
        let records = self.summary.manifest.graph.discovery.iter();
        let missing = records.flat_map(|record| &record.missing);
        missing
            .filter_map(|missing| missing.digest.as_ref())
            .collect()
    }

    pub(crate) fn images(&self) -> Vec<String> {
        let images = self.summary.manifest.graph.images.iter();
        images
            .map(|image| image.reference.tag().unwrap().to_string())
            .collect()
    }
}

fn put(source: &TestRegistry, tag: &str, document: &Value) -> Descriptor {
    let media_type = document["mediaType"].as_str().unwrap();
    let put = source.put_manifest("app", media_type, document.to_string());
    source.tag("app", tag, &put.digest);
    put
}

fn index(entries: Value) -> Value {
    json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": entries})
}

/// A build cache as BuildKit writes it: an index whose entries are layers, and a config.
fn cache(source: &TestRegistry) -> Descriptor {
    let mut layers = ["one", "two"].map(|layer| source.put_blob("app", layer));
    for layer in &mut layers {
        layer.media_type = "application/vnd.oci.image.layer.v1.tar+gzip".into();
    }
    let mut config = source.put_blob("app", r#"{"layers":[{"blob":"one"}],"records":[]}"#);
    config.media_type = "application/vnd.buildkit.cacheconfig.v0".into();
    put(
        source,
        "cache",
        &index(json!([layers[0], layers[1], config])),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_cache_is_carried_with_the_layers_that_its_index_lists() {
    let source = open(Persona::SpecFull).await;
    let cache = cache(&source);
    source.referrer("app", &cache, "application/spdx+json", "sbom");
    let verdicts = Way::new(&source, &["app:cache"]).go().await.unwrap();
    verdicts.whole();
    // The cache, its three blobs, the SBOM with its config and payload, and the two files of the
    // layout.
    assert_eq!(verdicts.summary.manifest.entries.len(), 9);
    let asked = source.requests();
    let mut as_manifests = asked.iter().filter(|request| {
        let layer = Digest::of(b"one").to_string();
        request.path.ends_with(&layer) && !request.path.contains("/blobs/")
    });
    assert_eq!(as_manifests.next().map(|request| &request.path), None);

    source.delete("app", &Digest::of(b"two"));
    let mut way = Way::new(&source, &["app:cache"]);
    let error = way.go().await.unwrap_err().to_string();
    assert!(error.contains(&Digest::of(b"two").to_string()), "{error}");
    source.image("app", "good");
    way = Way::new(&source, &["app:cache", "app:good"]);
    way.request.allow_incomplete = true;
    let verdicts = way.go().await.unwrap();
    verdicts.agree();
    assert_eq!(verdicts.images(), ["good"]);
    assert_eq!(verdicts.missing(), [&Digest::of(b"two")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_cache_goes_into_a_store_as_it_came() {
    let source = open(Persona::SpecFull).await;
    let cache = cache(&source);
    let folder = crate::support::export(&source, &["app:cache"]).await;
    let target = open(Persona::SpecFull).await;
    let validation = ImportValidator::new().validate_path(&folder.path().join("b.tgz"));
    let bundle = Arc::new(validation.bundle.unwrap());
    let report = import(bundle, crate::support::registry(&target), options()).await;
    assert!(report.unwrap().missing.is_empty());
    assert_eq!(target.resolve("app", "cache"), Some(cache.digest));
    assert!(target.has_blob("app", &Digest::of(b"two")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attestation_with_a_subject_that_no_list_names_goes_all_the_way() {
    for tags in [false, true] {
        let source = TestRegistry::builder(Persona::Dist2)
            .without_auth()
            .start()
            .await;
        let images = ["amd64", "arm64"].map(|tag| source.image("app", tag));
        let config = source.put_blob("app", "{}");
        let attestations = images.clone().map(|image| {
            let attestation = json!({
                "schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "config": config, "layers": [],
                "artifactType": "application/vnd.docker.attestation.manifest.v1+json", "subject": image,
            });
            let put = source.put_manifest("app", media_type::IMAGE_MANIFEST, attestation.to_string());
            let mut child = json!(put);
            child["annotations"] = json!({
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": image.digest,
            });
            child
        });
        put(
            &source,
            "1",
            &index(json!([
                images[0],
                images[1],
                attestations[0],
                attestations[1]
            ])),
        );
        let mut way = Way::new(&source, &["app:1"]);
        way.request.layout_tags = tags;
        let verdicts = way.go().await.unwrap();
        verdicts.whole();
        assert_eq!(verdicts.summary.manifest.referrers.total, 2);
        assert_eq!(verdicts.imported.unwrap().referrers_found, 2);
    }
}

/// Puts in an image whose config is changed by `change`, under a tag.
fn image(source: &TestRegistry, tag: &str, change: impl Fn(&mut Value)) -> Descriptor {
    let config = source.put_blob("app", format!("{{\"config of\":\"{tag}\"}}"));
    let layer = source.put_blob("app", format!("layer of {tag}"));
    let mut document = json!({
        "schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST,
        "config": Descriptor::new(media_type::IMAGE_CONFIG, config.digest, config.size),
        "layers": [layer],
    });
    change(&mut document);
    let put = source.put_manifest("app", media_type::IMAGE_MANIFEST, document.to_string());
    source.tag("app", tag, &put.digest);
    put
}

/// Checks that `app:bad` is refused by name with the culprit, and that with leave the good image
/// beside it is carried without it.
async fn refused(what: &str, source: &TestRegistry, culprit: &Digest) {
    source.image("app", "good");
    let mut way = Way::new(source, &["app:bad", "app:good"]);
    let error = way.go().await.unwrap_err();
    assert_eq!(
        error.kind(),
        mirror_export::ExportErrorKind::Incomplete,
        "{what}: {error}"
    );
    let error = error.to_string();
    assert!(error.contains("app:bad"), "{what}: {error}");
    assert!(error.contains(&culprit.to_string()), "{what}: {error}");
    way.request.allow_incomplete = true;
    let verdicts = way.go().await.unwrap();
    verdicts.agree();
    assert_eq!(verdicts.images(), ["good"], "{what}");
    assert_eq!(verdicts.missing(), [culprit], "{what}");
    assert!(!verdicts.is_complete());
    Way::new(source, &["app:good"]).go().await.unwrap().whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_wrong_about_its_content_is_named_and_left_out_only_with_leave() {
    const LIES: &[(&str, &str, &str)] = &[
        ("the size of a child", "size", "child"),
        ("the type of a child", "mediaType", "child"),
        ("the data of a child", "data", "child"),
        ("the size of a layer", "size", "layer"),
        ("a layer that is shorter than it is", "shorter", "layer"),
        ("the data of a layer", "data", "layer"),
        ("the data of a config", "data", "config"),
        ("the size of a config", "size", "config"),
        ("the size of a child of a child", "size", "grandchild"),
    ];
    for (what, member, of) in LIES {
        let source = open(Persona::SpecFull).await;
        let lie = |descriptor: &mut Value| match *member {
            "size" => descriptor["size"] = json!(descriptor["size"].as_u64().unwrap() + 1),
            "shorter" => descriptor["size"] = json!(descriptor["size"].as_u64().unwrap() - 1),
            "data" => descriptor["data"] = json!("b3RoZXI="),
            _ => descriptor["mediaType"] = json!(media_type::DOCKER_MANIFEST),
        };
        let culprit = match *of {
            "layer" => image(&source, "bad", |image| lie(&mut image["layers"][0])).digest,
            "config" => image(&source, "bad", |image| lie(&mut image["config"])).digest,
            _ => {
                let child = image(&source, "child", |_| {});
                let mut entry = json!(child);
                lie(&mut entry);
                let mut list = put(&source, "bad", &index(json!([entry])));
                if *of == "grandchild" {
                    list = put(&source, "bad", &index(json!([list])));
                }
                drop(list);
                child.digest
            }
        };
        let culprit = match *of {
            "layer" => Digest::of(b"layer of bad"),
            "config" => Digest::of(b"{\"config of\":\"bad\"}"),
            _ => culprit,
        };
        refused(what, &source, &culprit).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_whose_type_only_the_registry_tells_is_not_called_carried() {
    let untyped = json!({
        "schemaVersion": 2, "config": Descriptor::of(media_type::IMAGE_CONFIG, b"{}"), "layers": [],
    });
    for as_child in [false, true] {
        let source = open(Persona::SpecFull).await;
        source.put_blob("app", "{}");
        let docker = source.put_manifest("app", media_type::DOCKER_MANIFEST, untyped.to_string());
        source.tag("app", "bad", &docker.digest);
        if as_child {
            put(&source, "bad", &index(json!([docker])));
        }
        refused("docker", &source, &docker.digest).await;
        // The same bytes as what they read as are carried.
        let oci = source.put_manifest("app", media_type::IMAGE_MANIFEST, untyped.to_string());
        source.tag("app", "oci", &oci.digest);
        put(&source, "index", &index(json!([oci])));
        let both = Way::new(&source, &["app:oci", "app:index"]);
        both.go().await.unwrap().whole();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrer_that_is_wrong_about_its_content_is_named_and_left_out_only_with_leave() {
    let source = open(Persona::SpecFull).await;
    let subject = source.image("app", "1");
    let sbom = source.referrer("app", &subject, "application/spdx+json", "sbom");
    let child = source.image("app", "child");
    let wrong = Descriptor::new(&child.media_type, child.digest.clone(), child.size + 1);
    let mut set = index(json!([wrong]));
    set["subject"] = json!(subject);
    set["artifactType"] = json!("application/vnd.example.set");
    let set = source.put_manifest("app", media_type::IMAGE_INDEX, set.to_string());
    let mut way = Way::new(&source, &["app:1"]);
    let error = way.go().await.unwrap_err().to_string();
    for digest in [&set.digest, &child.digest] {
        assert!(error.contains(&digest.to_string()), "{error}");
    }
    way.request.allow_incomplete = true;
    let verdicts = way.go().await.unwrap();
    verdicts.agree();
    assert_eq!(verdicts.missing(), [&set.digest]);
    let records = verdicts.summary.manifest.graph.discovery.iter();
    let carried: Vec<_> = records.flat_map(|record| &record.artifacts).collect();
    assert_eq!(carried.len(), 1);
    assert_eq!(carried[0].digest, sbom.digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrer_that_names_its_subject_otherwise_than_it_is_is_carried_and_noted() {
    for (size, media_type) in [
        (1, media_type::IMAGE_MANIFEST),
        (0, media_type::DOCKER_MANIFEST),
    ] {
        let source = open(Persona::SpecFull).await;
        let mut subject = source.image("app", "1");
        subject.size += size;
        subject.media_type = media_type.into();
        let sbom = source.referrer("app", &subject, "application/spdx+json", "sbom");
        let verdicts = Way::new(&source, &["app:1"]).go().await.unwrap();
        verdicts.agree();
        let manifest = &verdicts.summary.manifest;
        assert_eq!(manifest.referrers.status, Completeness::Complete);
        assert_eq!(manifest.referrers.total, 1);
        let missing = &manifest.graph.discovery[0].missing;
        assert_eq!(missing[0].code, "subject-descriptor-mismatch");
        assert_eq!(missing[0].digest, Some(sbom.digest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_child_of_an_index_is_named_and_the_rest_is_carried_with_leave() {
    let source = open(Persona::SpecFull).await;
    let index = source.index("app", "1", &["linux/amd64", "linux/arm64", "linux/s390x"]);
    source.referrer("app", &index.children[1], "application/spdx+json", "sbom");
    source.delete("app", &index.children[0].digest);
    let mut way = Way::new(&source, &["app:1"]);
    let error = way.go().await.unwrap_err().to_string();
    for text in [&index.children[0].digest.to_string(), "linux/amd64"] {
        assert!(error.contains(text), "{error}");
    }
    way.request.allow_incomplete = true;
    let verdicts = way.go().await.unwrap();
    verdicts.agree();
    assert_eq!(verdicts.missing(), [&index.children[0].digest]);
    let manifest = &verdicts.summary.manifest;
    let [omitted] = &*manifest.graph.images[0].omitted else {
        panic!("{manifest:#?}");
    };
    assert_eq!(omitted.digest, index.children[0].digest);
    assert_eq!((&*omitted.reason, manifest.referrers.total), ("missing", 1));
    assert_eq!(
        verdicts.imported.unwrap().source_status,
        Completeness::Incomplete
    );

    way.request.allow_incomplete = false;
    way.request.plan.platforms = vec!["linux/arm64", "linux/s390x"]
        .into_iter()
        .map(|platform| oci_content::Platform::parse(platform).unwrap())
        .collect();
    way.go().await.unwrap().whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_also_a_platform_left_out_is_refused_by_name() {
    let source = open(Persona::SpecFull).await;
    let arm = image(&source, "arm", |_| {});
    let raw = source.manifest("app", &arm.digest).unwrap();
    source.put_blob("app", raw);
    let amd = image(&source, "amd", |image| image["layers"][0] = json!(arm));
    let platform = |image: &Descriptor, architecture: &str| {
        let mut entry = json!(image);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    put(
        &source,
        "bad",
        &index(json!([platform(&amd, "amd64"), platform(&arm, "arm64")])),
    );
    source.image("app", "good");
    let mut way = Way::new(&source, &["app:bad", "app:good"]);
    way.go().await.unwrap().whole();
    way.request.plan.platforms = vec![oci_content::Platform::parse("linux/amd64").unwrap()];
    let error = way.go().await.unwrap_err().to_string();
    assert!(error.contains(&arm.digest.to_string()), "{error}");
    way.request.allow_incomplete = true;
    let verdicts = way.go().await.unwrap();
    verdicts.agree();
    assert_eq!(verdicts.images(), ["good"]);
    // By another image, and with the manifest carried as one, nothing is in the way.
    let mut both = Way::new(&source, &["app:bad", "app:arm"]);
    both.request
        .plan
        .platforms
        .clone_from(&way.request.plan.platforms);
    both.go().await.unwrap().whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrer_of_what_is_carried_as_a_layer_alone_is_an_image_like_others() {
    let source = open(Persona::SpecFull).await;
    let inner = source.image("app", "inner");
    let raw = source.manifest("app", &inner.digest).unwrap();
    source.put_blob("app", raw);
    image(&source, "outer", |image| image["layers"][0] = json!(inner));
    let sbom = source.referrer("app", &inner, "application/spdx+json", "sbom");
    source.tag("app", "sbom", &sbom.digest);
    let verdicts = Way::new(&source, &["app:outer", "app:sbom"]).go().await;
    verdicts.unwrap().whole();
    let verdicts = Way::new(&source, &["app:outer", "app:inner"])
        .go()
        .await
        .unwrap();
    verdicts.whole();
    assert_eq!(verdicts.summary.manifest.referrers.total, 1);
}
