//! Documents that both parsers accept are parsed the same way as by the `oci-spec` crate.

use std::collections::{BTreeMap, HashMap};

use oci_content::{Descriptor, Digest, Manifest, ManifestContent, Platform, media_type};
use oci_spec::image::{Descriptor as SpecDescriptor, ImageIndex, ImageManifest, MediaType};
use proptest::prelude::*;
use serde_json::{Value, json};

/// An optional member.
fn maybe(strategy: impl Strategy<Value = Value>) -> impl Strategy<Value = Option<Value>> {
    proptest::option::of(strategy)
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![r"[a-z]{1,8}/[a-z0-9.+-]{1,20}", r#"[ -~éß\\"\n]{1,20}"#].prop_map(Value::from)
}

fn annotations() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map(r"[a-z.]{1,12}", r"[ -~ü]{0,12}", 0..4)
        .prop_map(|map| json!(map))
}

/// Without `os.version`, which oci-spec 0.10 expects under the name `os_version`.
fn platform() -> impl Strategy<Value = Value> {
    let words = (
        prop_oneof!["linux", "windows", "[a-z]{1,8}"],
        "amd64|arm|arm64|[a-z0-9]{1,8}",
    );
    (words, maybe("v[5-8]".prop_map(Value::from))).prop_map(|((os, architecture), variant)| {
        let mut platform = json!({ "os": os, "architecture": architecture });
        set(&mut platform, "variant", variant);
        platform
    })
}

fn descriptor() -> impl Strategy<Value = Value> {
    let required = (text(), any::<u64>(), any::<u64>());
    let data = "[a-zA-Z0-9+/]{4}".prop_map(Value::from);
    let urls = proptest::collection::vec("https://[a-z]{1,8}/[a-z]{0,8}", 1..3);
    let urls = urls.prop_map(|urls| json!(urls));
    (
        required,
        maybe(annotations()),
        maybe(platform()),
        maybe(urls),
        maybe(data),
        maybe(text()),
    )
        .prop_map(
            |(required, annotations, platform, urls, data, artifact_type)| {
                let (media_type, content, size) = required;
                let digest = Digest::of(&content.to_le_bytes());
                let mut one =
                    json!({ "mediaType": media_type, "digest": digest, "size": size, "x": [{}] });
                set(&mut one, "annotations", annotations);
                set(&mut one, "platform", platform);
                set(&mut one, "urls", urls);
                set(&mut one, "data", data);
                set(&mut one, "artifactType", artifact_type);
                one
            },
        )
}

/// The members that every kind of manifest may have.
fn document(media_type: &'static str) -> impl Strategy<Value = Value> {
    (
        any::<bool>(),
        maybe(text()),
        maybe(descriptor()),
        maybe(annotations()),
    )
        .prop_map(move |(typed, artifact_type, subject, annotations)| {
            let mut document = json!({ "schemaVersion": 2, "unknown": { "a": [null, 1.5, true] } });
            set(&mut document, "mediaType", typed.then(|| media_type.into()));
            set(&mut document, "artifactType", artifact_type);
            set(&mut document, "subject", subject);
            set(&mut document, "annotations", annotations);
            document
        })
}

fn set(object: &mut Value, member: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[member] = value;
    }
}

fn descriptors() -> impl Strategy<Value = Vec<Value>> {
    proptest::collection::vec(descriptor(), 0..4)
}

fn ours(spec: &SpecDescriptor) -> Descriptor {
    let digest = spec.digest().to_string().parse().unwrap();
    let mut descriptor = Descriptor::new(spec.media_type().as_ref(), digest, spec.size());
    descriptor.urls = spec.urls().clone().unwrap_or_default();
    descriptor.annotations = sorted(spec.annotations().as_ref());
    descriptor.data.clone_from(spec.data());
    descriptor.artifact_type = spec.artifact_type().as_ref().map(MediaType::to_string);
    descriptor.platform = spec.platform().as_ref().map(|platform| {
        let (os, architecture) = (platform.os(), platform.architecture());
        let mut own = Platform::new(os.to_string(), architecture.to_string());
        own.variant.clone_from(platform.variant());
        own
    });
    descriptor
}

fn all(specs: &[SpecDescriptor]) -> Vec<Descriptor> {
    specs.iter().map(ours).collect()
}

fn sorted(annotations: Option<&HashMap<String, String>>) -> BTreeMap<String, String> {
    annotations.cloned().into_iter().flatten().collect()
}

proptest! {
    #[test]
    fn an_image_manifest_reads_as_oci_spec_reads_it(
        mut document in document(media_type::IMAGE_MANIFEST),
        config in descriptor(),
        layers in descriptors(),
    ) {
        set(&mut document, "config", Some(config));
        set(&mut document, "layers", Some(layers.into()));
        let bytes = document.to_string().into_bytes();
        let spec = ImageManifest::from_reader(bytes.as_slice()).unwrap();
        let read = Manifest::parse(bytes.into(), None).unwrap();
        let ManifestContent::Image { config, layers, .. } = read.content() else {
            panic!("not an image manifest: {document}");
        };
        prop_assert_eq!(config.as_deref(), Some(&ours(spec.config())));
        prop_assert_eq!(layers, &all(spec.layers()));
        prop_assert_eq!(read.subject().cloned(), spec.subject().as_ref().map(ours));
        prop_assert_eq!(read.annotations(), &sorted(spec.annotations().as_ref()));
        let artifact_type = spec.artifact_type().as_ref().unwrap_or(spec.config().media_type());
        prop_assert_eq!(read.artifact_type(), Some(artifact_type.as_ref()));
    }

    #[test]
    fn an_index_reads_as_oci_spec_reads_it(
        mut document in document(media_type::IMAGE_INDEX),
        manifests in descriptors(),
    ) {
        set(&mut document, "manifests", Some(manifests.into()));
        let bytes = document.to_string().into_bytes();
        let spec = ImageIndex::from_reader(bytes.as_slice()).unwrap();
        let read = Manifest::parse(bytes.into(), None).unwrap();
        prop_assert_eq!(read.entries(), all(spec.manifests()));
        prop_assert_eq!(read.subject().cloned(), spec.subject().as_ref().map(ours));
        prop_assert_eq!(read.annotations(), &sorted(spec.annotations().as_ref()));
        let artifact_type = spec.artifact_type().as_ref().map(MediaType::to_string);
        prop_assert_eq!(read.artifact_type(), artifact_type.as_deref());
    }

    #[test]
    fn a_descriptor_that_is_written_reads_the_same_in_oci_spec(json in descriptor()) {
        let read = Descriptor::from_json(&json.to_string()).unwrap();
        let written = serde_json::to_string(&read).unwrap();
        let spec: SpecDescriptor = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(ours(&spec), read);
    }
}
