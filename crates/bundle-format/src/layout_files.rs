use std::collections::{BTreeMap, BTreeSet};

use oci_content::{
    CONTAINERD_IMAGE_NAME, Descriptor, Digest, DiscoveryRecord, ImageRecord, REF_NAME, Reference,
    SourceKind, SourceRepository, media_type, referrers_tag,
};
use serde::Serialize;

/// The bytes of `oci-layout`, the marker of an OCI image layout.
///
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md#oci-layout-file>
pub const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Returns the bytes of `index.json` for these entries: those with a name first, by name, then the
/// others by digest.
///
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md#indexjson-file>
///
/// # Panics
///
/// Never: a descriptor has string keys only, so it always has a JSON form.
pub fn index_json(entries: &[Descriptor]) -> Vec<u8> {
    let name = |entry: &Descriptor| entry.annotations.get(REF_NAME).cloned();
    let mut manifests: Vec<&Descriptor> = entries.iter().collect();
    manifests.sort_by_cached_key(|entry| {
        let name = name(entry);
        // Images without a name can share a digest; the annotations then decide, not the caller's
        // order.
        let annotations = entry.annotations.clone();
        (name.is_none(), name, entry.digest.clone(), annotations)
    });
    manifests.dedup();
    encode(&manifests)
}

/// Writes an index in the one encoding that a bundle uses for its own indexes.
fn encode(manifests: &[&Descriptor]) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Index<'a> {
        schema_version: u8,
        media_type: &'a str,
        manifests: &'a [&'a Descriptor],
    }
    serde_json::to_vec(&Index {
        schema_version: 2,
        media_type: media_type::IMAGE_INDEX,
        manifests,
    })
    .expect("a descriptor has string keys only")
}

/// Returns the entries of `index.json`: each image under its name, and each referrer without one.
///
/// - If all images are of one repository, their name is the bare tag, else the full reference.
/// - An image that was asked for by digest has no name.
/// - A referrer that is also an image of the bundle is listed only as that image.
pub fn index_descriptors(images: &[ImageRecord], discovery: &[DiscoveryRecord]) -> Vec<Descriptor> {
    let repositories: BTreeSet<_> = images
        .iter()
        .map(|image| SourceRepository::from(&image.reference))
        .collect();
    let one_repository = repositories.len() == 1;
    let mut listed = BTreeSet::new();
    let mut entries = Vec::new();
    for image in images {
        let mut entry = Descriptor::new(&image.media_type, image.digest.clone(), image.size);
        let (name, reference) = ref_name(&image.reference, one_repository);
        if let Some(name) = name {
            entry.annotations.insert(REF_NAME.into(), name);
        }
        entry
            .annotations
            .insert(CONTAINERD_IMAGE_NAME.into(), reference);
        listed.insert(&image.digest);
        entries.push(entry);
    }
    for artifact in discovery.iter().flat_map(|record| &record.artifacts) {
        if listed.insert(&artifact.digest) {
            let digest = artifact.digest.clone();
            let mut entry = Descriptor::new(&artifact.media_type, digest, artifact.size);
            entry.artifact_type.clone_from(&artifact.artifact_type);
            entries.push(entry);
        }
    }
    entries
}

/// Returns what a writer may add for clients that look for referrers by tag in a layout: for each
/// subject an index of its referrers, and the entry of `index.json` that is named by the [referrers
/// tag](referrers_tag).
///
/// - `own` gives a referrer's descriptor with its artifact type and annotations, as
///   [`Manifest::descriptor`] does; a referrer that it does not know is left out.
/// - A referrer that only a legacy tag names is in no index.
/// - A name that an image of the bundle has stays with that image.
///
/// [`Manifest::descriptor`]: oci_content::Manifest::descriptor
pub fn referrers_tag_indexes<'a>(
    images: &[ImageRecord],
    discovery: &[DiscoveryRecord],
    own: impl Fn(&Digest) -> Option<&'a Descriptor>,
) -> Vec<(Descriptor, Vec<u8>)> {
    let mut subjects: BTreeMap<&Digest, BTreeMap<&Digest, &Descriptor>> = BTreeMap::new();
    for record in discovery {
        for artifact in &record.artifacts {
            let mut sources = artifact.sources.iter();
            if sources.all(|source| *source == SourceKind::LegacyTag) {
                continue;
            }
            if let Some(own) = own(&artifact.digest) {
                let referrers = subjects.entry(&record.subject).or_default();
                referrers.insert(&artifact.digest, own);
            }
        }
    }
    let images = index_descriptors(images, &[]);
    let taken: BTreeSet<_> = images
        .iter()
        .filter_map(|image| image.annotations.get(REF_NAME))
        .collect();
    let named = subjects.into_iter().filter_map(|(subject, referrers)| {
        let name = referrers_tag(subject).to_string();
        if taken.contains(&name) {
            return None;
        }
        let listed: Vec<_> = referrers.into_values().collect();
        let bytes = encode(&listed);
        let mut entry = Descriptor::of(media_type::IMAGE_INDEX, &bytes);
        entry.annotations.insert(REF_NAME.into(), name);
        Some((entry, bytes))
    });
    named.collect()
}

/// Returns an image's `ref.name` and its full name; of a reference with tag and digest, both use
/// the tag alone.
fn ref_name(reference: &Reference, one_repository: bool) -> (Option<String>, String) {
    let Some(tag) = reference.tag() else {
        return (None, reference.to_string());
    };
    let full = format!("{}/{}:{tag}", reference.registry(), reference.repository());
    if one_repository {
        (Some(tag.to_string()), full)
    } else {
        (Some(full.clone()), full)
    }
}

#[cfg(test)]
mod tests {
    use oci_content::{Capability, DiscoveryMethod};

    use super::*;
    use oci_content::ArtifactRecord;

    fn image(reference: &str) -> ImageRecord {
        let bytes = b"image";
        ImageRecord::new(
            reference.parse().unwrap(),
            Digest::of(bytes),
            media_type::IMAGE_MANIFEST,
            bytes.len() as u64,
        )
    }

    #[test]
    fn images_have_names_and_referrers_have_none() {
        let images = [image("a.example/app:2"), image("a.example/app:1")];
        let subject = &images[0].digest;
        let mut record = DiscoveryRecord::new(
            SourceRepository::from(&images[0].reference),
            subject.clone(),
            Capability::Supported,
            DiscoveryMethod::Native,
        );
        let artifact_type = Some("a/b".to_owned());
        let digest = Digest::of(b"referrer");
        record
            .artifacts
            .push(ArtifactRecord::new(digest.clone(), artifact_type, "c/d", 8));
        let bytes = index_json(&index_descriptors(&images, &[record.clone(), record]));
        let expected = format!(
            concat!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#,
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{s}","size":5,"#,
                r#""annotations":{{"io.containerd.image.name":"a.example/app:1","org.opencontainers.image.ref.name":"1"}}}},"#,
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{s}","size":5,"#,
                r#""annotations":{{"io.containerd.image.name":"a.example/app:2","org.opencontainers.image.ref.name":"2"}}}},"#,
                r#"{{"mediaType":"c/d","digest":"{r}","size":8,"artifactType":"a/b"}}]}}"#
            ),
            s = subject,
            r = digest
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn images_of_several_repositories_are_named_in_full() {
        let digest = Digest::of(b"image");
        let images = [
            image("a.example/app:1"),
            image("b.example/app:1"),
            image(&format!("b.example/app@{digest}")),
        ];
        let names: Vec<_> = index_descriptors(&images, &[])
            .into_iter()
            .map(|entry| entry.annotations.get(REF_NAME).cloned())
            .collect();
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(
            names,
            [named("a.example/app:1"), named("b.example/app:1"), None]
        );
    }
}
