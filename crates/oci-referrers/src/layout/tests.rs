use futures::executor::block_on;
use oci_content::{
    CONTAINERD_IMAGE_NAME, Capability, Completeness, Descriptor, DiscoveryMethod, ErrorCode,
    LayoutReference, REF_NAME, media_type,
};

use std::collections::BTreeMap;

use std::path::Path;

use super::*;

fn put(layout: &ImageLayout, json: &str) -> Descriptor {
    let manifest = Manifest::parse(bytes::Bytes::copy_from_slice(json.as_bytes()), None).unwrap();
    layout
        .write_blob(manifest.digest(), manifest.raw())
        .unwrap();
    Descriptor::new(
        manifest.media_type(),
        manifest.digest().clone(),
        manifest.size(),
    )
}

fn artifact(artifact_type: &str, subject: Option<&Descriptor>) -> String {
    let config = Descriptor::of(media_type::EMPTY, b"{}");
    let mut json = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "artifactType": artifact_type,
        "config": config, "layers": [],
    });
    if let Some(subject) = subject {
        json["subject"] = serde_json::to_value(subject).unwrap();
    }
    json.to_string()
}

#[test]
fn a_folder_yields_referrers_of_referrers_and_legacy_tags() {
    let folder = tempfile::tempdir().unwrap();
    let layout = ImageLayout::create(folder.path().join("l")).unwrap();
    let image = put(&layout, &artifact("app/image", None));
    let sbom = put(
        &layout,
        &artifact("application/vnd.cyclonedx+json", Some(&image)),
    );
    let signature = put(
        &layout,
        &artifact("application/vnd.cncf.notary.signature", Some(&sbom)),
    );
    let mut legacy = put(
        &layout,
        &artifact("application/vnd.dev.cosign.artifact.sig.v1+json", None),
    );
    let name = format!(
        "registry.example.com/app:sha256-{}.sig",
        image.digest.encoded()
    );
    legacy.annotations.insert(REF_NAME.into(), name);
    layout
        .add_to_index(&[
            image.clone(),
            sbom.clone(),
            signature.clone(),
            legacy.clone(),
        ])
        .unwrap();

    let referrers = LayoutReferrers::open(layout.clone()).unwrap();
    let graph = block_on(referrers.discovery().run([image.digest.clone()]));
    assert_eq!(graph.status(), Completeness::Complete);
    let found: Vec<_> = graph
        .referrers
        .iter()
        .map(|r| (r.depth, &r.digest, r.tag.is_some()))
        .collect();
    let mut first = [(1, &sbom.digest, false), (1, &legacy.digest, true)];
    first.sort();
    assert_eq!(found, [first[0], first[1], (2, &signature.digest, false)]);
    // A folder has no referrers API, and says nothing about one.
    let report = graph.report(&sbom.digest).unwrap();
    assert_eq!(
        (report.method, report.capability),
        (DiscoveryMethod::Other, Capability::Unknown)
    );
    assert_eq!(graph.referrers[2].sources, [SourceKind::Manifest]);

    // The folder was opened before its content is damaged or removed.
    std::fs::write(layout.blob_path(&signature.digest), b"other bytes").unwrap();
    for _ in 0..2 {
        let graph = block_on(referrers.discovery().run([image.digest.clone()]));
        assert_eq!(graph.status(), Completeness::Incomplete);
        let codes: Vec<_> = graph.errors().map(|problem| problem.code).collect();
        assert_eq!(codes, [ErrorCode::Integrity]);
        let _gone = std::fs::remove_file(layout.blob_path(&signature.digest));
    }

    std::fs::write(layout.blob_path(&signature.digest), b"other bytes").unwrap();
    let referrers = LayoutReferrers::open(layout).unwrap();
    let graph = block_on(referrers.discovery().run([image.digest]));
    assert_eq!(graph.status(), Completeness::Incomplete);
    assert!(
        graph
            .errors()
            .all(|problem| problem.code == ErrorCode::Integrity)
    );
}

/// A folder of a test, and its layout.
fn folder() -> (tempfile::TempDir, ImageLayout) {
    let folder = tempfile::tempdir().unwrap();
    let layout = ImageLayout::create(folder.path().join("mirror")).unwrap();
    (folder, layout)
}

/// The same descriptor with names, as `ref.name` and for containerd; none where empty.
fn called(descriptor: &Descriptor, name: &str, full: &str) -> Descriptor {
    let mut named = descriptor.clone();
    for (key, value) in [(REF_NAME, name), (CONTAINERD_IMAGE_NAME, full)] {
        if !value.is_empty() {
            named.annotations.insert(key.to_owned(), value.to_owned());
        }
    }
    named
}

/// Parses `oci:FOLDER` and what follows it.
fn wanted(layout: &ImageLayout, rest: &str) -> LayoutReference {
    let text = format!("oci:{}{rest}", layout.root().display());
    text.parse().unwrap()
}

/// Returns the names of the images that are selected.
fn selected(layout: &ImageLayout, rest: &str) -> Vec<String> {
    let folder = LayoutReferrers::open_folder(&LayoutReference::new(layout.root())).unwrap();
    let images = folder.images(&wanted(layout, rest)).unwrap();
    images
        .iter()
        .map(|image| image.reference.to_string())
        .collect()
}

fn refused(layout: &ImageLayout, rest: &str) -> (LayoutImageErrorKind, String) {
    let folder = LayoutReferrers::open_folder(&LayoutReference::new(layout.root())).unwrap();
    let error = folder.image(&wanted(layout, rest)).unwrap_err();
    let place = layout.root().display().to_string();
    (error.kind(), error.to_string().replace(&place, "F"))
}

#[test]
fn an_image_is_named_by_what_its_folder_says_of_it() {
    let (_folder, layout) = folder();
    let image = |name: &str| put(&layout, &artifact(name, None));
    let (a, b, c) = (image("a/a"), image("b/b"), image("c/c"));
    let (d, e, f) = (image("d/d"), image("e/e"), image("f/f"));
    layout
        .add_to_index(&[
            called(&a, "1.0", "registry.example.com/team/a:1.0"),
            called(&b, "registry.example.com/team/b:1.0", ""),
            called(&c, "2.0", ""),
            // It was tagged again.
            called(&d, "3.0", "registry.example.com/team/d:1.0"),
            called(&e, "feature/x+y", ""),
            f.clone(),
        ])
        .unwrap();
    let mut expected = vec![
        "registry.example.com/team/a:1.0".to_owned(),
        "registry.example.com/team/b:1.0".to_owned(),
        "oci/mirror:2.0".to_owned(),
        "registry.example.com/team/d:3.0".to_owned(),
        format!("oci/mirror@{}", e.digest),
        format!("oci/mirror@{}", f.digest),
    ];
    expected.sort();
    assert_eq!(selected(&layout, ""), expected);
    for (rest, name) in [
        (":2.0".to_owned(), "oci/mirror:2.0".to_owned()),
        (
            ":3.0".to_owned(),
            "registry.example.com/team/d:3.0".to_owned(),
        ),
        (
            ":registry.example.com/team/b:1.0".to_owned(),
            "registry.example.com/team/b:1.0".to_owned(),
        ),
        (
            ":registry.example.com/team/a:1.0".to_owned(),
            "registry.example.com/team/a:1.0".to_owned(),
        ),
        // A `ref.name` comes before the tag of a full name.
        (
            ":1.0".to_owned(),
            "registry.example.com/team/a:1.0".to_owned(),
        ),
        (
            format!("@{}", a.digest),
            format!("registry.example.com/team/a@{}", a.digest),
        ),
        (
            format!(":2.0@{}", c.digest),
            format!("oci/mirror:2.0@{}", c.digest),
        ),
    ] {
        assert_eq!(selected(&layout, &rest), [name], "{rest}");
    }
    let moved = LayoutReferrers::open_folder(&LayoutReference::new(layout.root())).unwrap();
    let moved = moved.image(&wanted(&layout, &format!(":2.0@{}", a.digest)));
    assert_eq!(moved.unwrap().tag_moved_to, Some(c.digest));
}

#[test]
fn what_belongs_to_an_image_is_not_an_image() {
    let (_folder, layout) = folder();
    let child = put(&layout, &artifact("child/x", None));
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [child],
    });
    let image = put(&layout, &index.to_string());
    let sbom = put(&layout, &artifact("sbom/x", Some(&child)));
    let legacy = put(&layout, &artifact("legacy/x", None));
    let list = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [sbom],
    });
    let list = put(&layout, &list.to_string());
    let elsewhere = Descriptor::of(media_type::IMAGE_MANIFEST, b"elsewhere");
    let stray = put(&layout, &artifact("stray/x", Some(&elsewhere)));
    let stray_legacy = put(&layout, &artifact("stray-legacy/x", None));
    let tag = |subject: &Descriptor| referrers_tag(&subject.digest).to_string();
    layout
        .add_to_index(&[
            called(&image, "1.0", ""),
            // oras lists every manifest.
            child.clone(),
            sbom.clone(),
            called(&legacy, &format!("{}.sig", tag(&image)), ""),
            called(&list, &tag(&child), ""),
            // A tag makes a child an image.
            called(&child, "1.0-amd64", ""),
            stray.clone(),
            called(&stray_legacy, &format!("{}.sig", tag(&elsewhere)), ""),
        ])
        .unwrap();
    let mut expected = vec![
        "oci/mirror:1.0".to_owned(),
        "oci/mirror:1.0-amd64".to_owned(),
        // What they refer to is not here, so nothing else would find them.
        format!("oci/mirror@{}", stray.digest),
        format!("oci/mirror:{}.sig", tag(&elsewhere)),
    ];
    expected.sort();
    assert_eq!(selected(&layout, ""), expected);
    // Asked for by name, a referrer is an image.
    let asked = format!(":{}.sig", tag(&image));
    assert_eq!(selected(&layout, &asked).len(), 1);
}

#[test]
fn a_reference_that_leads_to_no_one_image_says_what_there_is() {
    let (outer, layout) = folder();
    let image = |name: &str| put(&layout, &artifact(name, None));
    let (a, b, c) = (image("a/a"), image("b/b"), image("c/c"));
    assert_eq!(
        refused(&layout, ""),
        (
            LayoutImageErrorKind::NotFound,
            "F is an image layout without an image".to_owned()
        )
    );
    let x = "registry.example.com/x:1.0";
    let y = "registry.example.com/y:1.0";
    layout
        .add_to_index(&[
            called(&a, x, x),
            called(&b, y, y),
            called(&c, "2.0", "registry.example.com/x:2.0"),
        ])
        .unwrap();
    use LayoutImageErrorKind as Kind;
    let images = format!(":2.0, :{x}, :{y}");
    assert_eq!(
        refused(&layout, ""),
        (
            Kind::Ambiguous,
            format!("oci:F holds 3 images; choose one: {images}")
        )
    );
    let several = format!(
        "F has 2 images that are named 1.0; choose one by its full name or its digest: :{x}, :{y}"
    );
    assert_eq!(refused(&layout, ":1.0"), (Kind::Ambiguous, several));
    let other = format!("F has no image that is named \"9.9\"; it has {images}");
    assert_eq!(refused(&layout, ":9.9"), (Kind::NotFound, other));
    let gone = Digest::of(b"gone");
    assert_eq!(
        refused(&layout, &format!("@{gone}")),
        (Kind::NotFound, format!("F does not have {gone}"))
    );
    // Two manifests with one name.
    let both = called(&b, "both", "");
    let index = serde_json::json!({
        "schemaVersion": 2, "manifests": [called(&a, "both", ""), both],
    });
    std::fs::write(layout.root().join("index.json"), index.to_string()).unwrap();
    let folder = LayoutReferrers::open_folder(&LayoutReference::new(layout.root())).unwrap();
    let all = folder.images(&wanted(&layout, "")).unwrap_err();
    assert_eq!(all.kind(), Kind::Ambiguous);
    let (kind, message) = refused(&layout, ":both");
    assert_eq!(kind, Kind::Ambiguous);
    assert!(message.contains(&a.digest.to_string()), "{message}");

    let open =
        |folder: &Path| LayoutReferrers::open_folder(&LayoutReference::new(folder)).unwrap_err();
    std::fs::create_dir(outer.path().join("a:b")).unwrap();
    let colon: LayoutReference = format!("oci:{}/a:b", outer.path().display())
        .parse()
        .unwrap();
    let error = LayoutReferrers::open_folder(&colon).unwrap_err();
    assert!(error.to_string().ends_with("/a:b/"), "{error}");
    let error = open(&outer.path().join("nowhere"));
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(
        error.to_string().starts_with("there is no folder "),
        "{error}"
    );
    let error = open(Path::new("~/layout"));
    assert!(error.to_string().contains("shells expand ~"), "{error}");
    let error = open(outer.path());
    assert_eq!(error.kind(), Kind::NotALayout);
    let file = layout.root().join("oci-layout");
    assert_eq!(open(&file).kind(), Kind::NotALayout);
    let index = layout.root().join("index.json");
    for broken in ["{\"manifests\": [", "{}", "[]", "{\"manifests\": [{}]}"] {
        std::fs::write(&index, broken).unwrap();
        assert_eq!(open(layout.root()).kind(), Kind::Malformed, "{broken}");
    }
    std::fs::remove_file(&index).unwrap();
    assert_eq!(open(layout.root()).kind(), Kind::Malformed);
}

#[test]
fn tags_of_other_repositories_count_unless_those_have_the_subject() {
    let (_folder, layout) = folder();
    let image = put(&layout, &artifact("app/image", None));
    let other = put(&layout, &artifact("app/other", None));
    let signature = |name: &str| put(&layout, &artifact(name, None));
    let (of_x, of_y, of_z) = (signature("sig/x"), signature("sig/y"), signature("sig/z"));
    let listed = put(&layout, &artifact("sbom/x", Some(&image)));
    let index = |entries: &[&Descriptor]| {
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": entries,
        });
        put(&layout, &index.to_string())
    };
    let tag = referrers_tag(&image.digest);
    let named = |descriptor: &Descriptor, repository: &str, tag: &str| {
        let name = format!("registry.example.com/{repository}:{tag}");
        called(descriptor, &name, &name)
    };
    layout
        .add_to_index(&[
            named(&image, "x", "1.0"),
            named(&image, "y", "1.0"),
            named(&other, "z", "1.0"),
            named(&of_x, "x", &format!("{tag}.sig")),
            named(&of_y, "y", &format!("{tag}.sig")),
            // It has a signature of an image that is in the others only.
            named(&of_z, "z", &format!("{tag}.sig")),
            named(&index(&[]), "x", tag.as_str()),
            named(&index(&[&listed]), "y", tag.as_str()),
        ])
        .unwrap();
    let folder = LayoutReferrers::open_folder(&LayoutReference::new(layout.root())).unwrap();
    let found = |rest: &str| {
        let image = folder.image(&wanted(&layout, rest)).unwrap();
        let graph = block_on(folder.of(&image).discovery().run([image.digest]));
        assert_eq!(graph.status(), Completeness::Complete);
        let found = graph.referrers.into_iter();
        found
            .map(|referrer| (referrer.digest, referrer.sources))
            .collect::<BTreeMap<_, _>>()
    };
    let legacy = vec![SourceKind::LegacyTag];
    let of = |descriptors: &[&Descriptor], listed_by: &[SourceKind]| {
        let mut all: BTreeMap<_, _> = descriptors
            .iter()
            .map(|descriptor| (descriptor.digest.clone(), legacy.clone()))
            .collect();
        all.insert(listed.digest.clone(), listed_by.to_vec());
        all
    };
    let (manifest, tagged) = (SourceKind::Manifest, SourceKind::ReferrersTag);
    assert_eq!(
        found(":registry.example.com/x:1.0"),
        of(&[&of_x, &of_z], &[manifest])
    );
    assert_eq!(
        found(":registry.example.com/y:1.0"),
        of(&[&of_y, &of_z], &[tagged, manifest])
    );
    // By digest, the image is in both.
    let by_digest = format!("@{}", image.digest);
    assert_eq!(
        found(&by_digest),
        of(&[&of_x, &of_y, &of_z], &[tagged, manifest])
    );
}
