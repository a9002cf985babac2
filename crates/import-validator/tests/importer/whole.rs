//! From a source through export and strict validation into a folder: the three agree on what is whole.

use std::sync::Arc;

use import_validator::{
    FindingKind, ImportError, ImportReport, ImportTarget, ImportValidator, Report,
};
use mirror_export::{ExportError, ExportRequest, ExportSummary, Exporter};
use oci_content::{Completeness, Descriptor, Digest, media_type};
use serde_json::{Value, json};
use test_registry::{Persona, TestRegistry};

use crate::support::{client, import, open, options};

/// What became of one export on its way.
pub(crate) struct Way {
    folder: tempfile::TempDir,
    pub(crate) request: ExportRequest,
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
        let request = ExportRequest::new(images, folder.path().join("b.tar"));
        Self { folder, request }
    }

    /// Exports, validates and imports.
    pub(crate) async fn go(&self) -> Result<Verdicts, ExportError> {
        let exporter = Exporter::new(client(), Arc::new(()));
        let mut request = self.request.clone();
        request.overwrite = true;
        let summary = exporter.export(&request).await?;
        let validator = ImportValidator::new().check_referrers(true);
        let strict = validator.clone().strict(true);
        let strict = strict.validate_path(&request.output).report;
        let validation = validator.validate_path(&request.output);
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        let target = ImportTarget::Layout {
            folder: folder.path().join("layout"),
            full_references: false,
        };
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
        let mut records = manifest.discovery.iter();
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
        let records = self.summary.manifest.discovery.iter();
        let missing = records.flat_map(|record| &record.missing);
        missing
            .filter_map(|missing| missing.digest.as_ref())
            .collect()
    }

    pub(crate) fn images(&self) -> Vec<String> {
        let images = self.summary.manifest.images.iter();
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
    // The cache, its three blobs, the SBOM with its config and payload, and the two files of the layout.
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
