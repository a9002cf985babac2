//! Manifests: nothing panics, the bytes are kept, and no document reads as two types.
//!
//! The first line of the input is the content type; the manifest follows.

#![no_main]

use bytes::Bytes;
use fuzz::split_head;
use libfuzzer_sys::fuzz_target;
use oci_content::{Algorithm, Digest, Manifest, ManifestContent, media_type};
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Some((content_type, raw)) = split_head(data) else {
        return;
    };
    let content_type = (!content_type.is_empty()).then_some(content_type);
    let Ok(manifest) = Manifest::parse(Bytes::copy_from_slice(raw), content_type) else {
        return;
    };
    assert_eq!(manifest.raw(), raw);
    assert!(manifest.digest().matches(raw));
    assert!(media_type::is_manifest(manifest.media_type()));
    let descriptor = manifest.descriptor();
    assert_eq!(
        (descriptor.size, &descriptor.digest),
        (raw.len() as u64, manifest.digest())
    );

    let asked = Digest::compute(Algorithm::Sha512, raw);
    let bytes = manifest.raw().clone();
    let verified = Manifest::parse_verified(bytes.clone(), &asked, content_type).unwrap();
    assert_eq!(verified.digest(), &asked);
    assert!(Manifest::parse_verified(bytes, &Digest::of(b"another"), content_type).is_err());

    // A second parser that knows JSON but not manifests.
    let Ok(value) = serde_json::from_slice::<Value>(raw) else {
        return;
    };
    let object = value.as_object().expect("a manifest is an object");
    let has = |name: &str| object.get(name).is_some_and(|member| !member.is_null());
    assert!(!has("manifests") || !(has("layers") || has("config")));
    // Go programs write an empty string for a missing one.
    if has("mediaType") && object["mediaType"] != "" {
        assert_eq!(object["mediaType"], manifest.media_type());
    }
    match manifest.subject() {
        Some(subject) => assert_eq!(object["subject"]["digest"], subject.digest.to_string()),
        None => assert!(!has("subject")),
    }
    let digests = |name: &str| -> Vec<String> {
        let list = object.get(name).and_then(Value::as_array);
        let list = list.into_iter().flatten();
        list.map(|entry| entry["digest"].as_str().unwrap().to_owned())
            .collect()
    };
    let blobs: Vec<_> = manifest
        .blobs()
        .map(|blob| blob.digest.to_string())
        .collect();
    let children = manifest
        .entries()
        .iter()
        .map(|child| child.digest.to_string());
    let children: Vec<_> = children.collect();
    match manifest.content() {
        ManifestContent::Image { .. } => {
            let layers = digests("layers");
            let (config, rest) = blobs.split_at(blobs.len() - layers.len());
            assert_eq!(layers, rest);
            match config {
                [config] => assert_eq!(object["config"]["digest"], **config),
                _ => {
                    // One without content counts as missing.
                    let digest = object
                        .get("config")
                        .and_then(|config| config["digest"].as_str());
                    assert!(config.is_empty() && digest.unwrap_or_default().is_empty());
                }
            }
            assert!(children.is_empty());
        }
        ManifestContent::Index { .. } => {
            assert_eq!(digests("manifests"), children);
            let split = blobs.len() + manifest.children().count();
            assert_eq!(split, children.len());
        }
        ManifestContent::Artifact { .. } => assert!(children.is_empty()),
        other => panic!("{other:?}"),
    }
});
