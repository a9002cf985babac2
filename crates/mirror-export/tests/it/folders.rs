//! Images from layout folders.

use bytes::Bytes;
use mirror_export::{ExportErrorKind, ExportSummary};
use oci_content::{
    CONTAINERD_IMAGE_NAME, Completeness, Descriptor, Digest, ImageLayout, Manifest, REF_NAME,
    SourceKind, media_type, referrers_tag,
};
use serde_json::json;
use test_registry::{Persona, TestRegistry};

use crate::support::{Export, Site, export};

/// A layout folder in the making.
struct Folder {
    layout: ImageLayout,
}

impl Folder {
    fn new(site: &Site, name: &str) -> Self {
        let layout = ImageLayout::create(site.path(name)).unwrap();
        Self { layout }
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let blob = Descriptor::of(media_type, bytes);
        self.layout.write_blob(&blob.digest, bytes).unwrap();
        blob
    }

    /// Stores an image, or an artifact with a subject, of one layer.
    fn manifest(&self, kind: &str, layer: &[u8], subject: Option<&Descriptor>) -> Descriptor {
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "artifactType": kind,
            "config": self.blob(media_type::EMPTY, b"{}"),
            "layers": [self.blob("application/octet-stream", layer)],
        });
        if let Some(subject) = subject {
            manifest["subject"] = serde_json::to_value(subject).unwrap();
        }
        self.stored(&manifest)
    }

    fn index(&self, children: &[&Descriptor]) -> Descriptor {
        self.stored(&json!({
            "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": children,
        }))
    }

    fn stored(&self, manifest: &serde_json::Value) -> Descriptor {
        let manifest = Manifest::parse(Bytes::from(manifest.to_string()), None).unwrap();
        let stored = self.layout.write_blob(manifest.digest(), manifest.raw());
        stored.unwrap();
        Descriptor::new(
            manifest.media_type(),
            manifest.digest().clone(),
            manifest.size(),
        )
    }

    fn list(&self, entry: &Descriptor) {
        self.layout
            .add_to_index(std::slice::from_ref(entry))
            .unwrap();
    }

    /// Lists a manifest under a `ref.name`, and a full name if there is one.
    fn name(&self, entry: &Descriptor, name: &str, full: Option<&str>) {
        let mut entry = entry.clone();
        entry.annotations.insert(REF_NAME.into(), name.into());
        let full = full.map(|full| (CONTAINERD_IMAGE_NAME.to_owned(), full.to_owned()));
        entry.annotations.extend(full);
        self.list(&entry);
    }

    fn remove(&self, digest: &Digest) {
        self.layout.remove_blob(digest).unwrap();
    }

    fn damage(&self, digest: &Digest) {
        let path = self.layout.blob_path(digest);
        let length = std::fs::metadata(&path).unwrap().len();
        std::fs::write(path, vec![b'x'; usize::try_from(length).unwrap()]).unwrap();
    }
}

/// Returns a request for what follows `oci:` and the folder of the test.
fn request(site: &Site, sources: &[&str], name: &str) -> Export {
    let mut request = Export::new(site.path(name));
    request.plan.layouts = sources
        .iter()
        .map(|source| format!("oci:{}", site.path(source).display()))
        .map(|source| source.parse().unwrap())
        .collect();
    request
}

fn images(summary: &ExportSummary) -> Vec<String> {
    let images = summary.manifest.graph.images.iter();
    images.map(|image| image.reference.to_string()).collect()
}

/// Returns the edges of the graph, each with its sources.
fn edges(summary: &ExportSummary) -> Vec<(Digest, Digest, Vec<SourceKind>)> {
    let referrers = summary.manifest.graph.referrers();
    let mut edges: Vec<_> = referrers
        .map(|(record, artifact)| {
            let (subject, digest) = (record.subject.clone(), artifact.digest.clone());
            (subject, digest, artifact.sources.clone())
        })
        .collect();
    edges.sort();
    edges
}

const SBOM: &str = "application/vnd.cyclonedx+json";

/// A folder in the form of every tool that copies into one; the referrers of `1.0` are an SBOM on
/// its platform, a signature on that SBOM, and a legacy signature.
fn of_tool(site: &Site, name: &str, tool: &str) -> (Folder, Vec<(Digest, Digest)>) {
    let folder = Folder::new(site, name);
    let child = folder.manifest("app/image", b"layer", None);
    let image = folder.index(&[&child]);
    let sbom = folder.manifest(SBOM, b"sbom", Some(&child));
    let signature = folder.manifest("sig/x", b"signature", Some(&sbom));
    let legacy = folder.manifest("sig/legacy", b"legacy", None);
    let tag = |subject: &Descriptor| referrers_tag(&subject.digest).to_string();
    let mut expected = vec![
        (child.digest.clone(), sbom.digest.clone()),
        (sbom.digest.clone(), signature.digest.clone()),
        (image.digest.clone(), legacy.digest.clone()),
    ];
    let legacy_tag = format!("{}.sig", tag(&image));
    match tool {
        // Referrers without names, and everything named in full.
        "own" => {
            let full = "registry.example.com/team/app:1.0";
            folder.name(&image, full, Some(full));
            folder.list(&sbom);
            folder.list(&signature);
            let full = format!("registry.example.com/team/app:{legacy_tag}");
            folder.name(&legacy, &full, Some(&full));
        }
        // Every manifest without a name of its own.
        "oras" => {
            folder.name(&image, "1.0", None);
            for entry in [&child, &sbom, &signature] {
                folder.list(entry);
            }
            folder.name(&legacy, &legacy_tag, None);
        }
        // Referrers only below referrers tags.
        "regctl" => {
            folder.name(&image, "1.0", None);
            folder.name(&folder.index(&[&sbom]), &tag(&child), None);
            folder.name(&folder.index(&[&signature]), &tag(&sbom), None);
            folder.name(&legacy, &legacy_tag, None);
        }
        // No referrers at all.
        _ => {
            folder.name(&image, "1.0", None);
            expected.clear();
        }
    }
    expected.sort();
    (folder, expected)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_any_tool_is_exported_with_everything_that_refers_to_its_image() {
    let site = Site::new();
    for tool in ["own", "oras", "regctl", "skopeo"] {
        let (_, expected) = of_tool(&site, tool, tool);
        let mut digests = Vec::new();
        for (place, rest) in ["", ":1.0", "/:1.0"].into_iter().enumerate() {
            let source = format!("{tool}{rest}");
            let request = request(&site, &[&source], &format!("{tool}{place}.tgz"));
            let summary = export(&request).await.unwrap();
            let status = summary.manifest.referrers.status;
            assert_eq!(status, Completeness::Complete, "{tool}");
            let found: Vec<_> = edges(&summary)
                .into_iter()
                .map(|(subject, digest, _)| (subject, digest))
                .collect();
            assert_eq!(found, expected, "{tool}");
            let name = match tool {
                "own" => "registry.example.com/team/app:1.0".to_owned(),
                _ => format!("oci/{tool}:1.0"),
            };
            assert_eq!(images(&summary), [name]);
            digests.push(summary.sha256);
        }
        // The whole folder is its one image.
        assert!(
            digests.iter().all(|digest| *digest == digests[0]),
            "{tool}: {digests:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_folder_is_all_of_its_images_and_repositories_keep_their_tags() {
    let site = Site::new();
    let folder = Folder::new(&site, "mirror");
    let image = folder.manifest("app/image", b"layer", None);
    let other = folder.manifest("app/other", b"other", None);
    let unnamed = folder.manifest("app/unnamed", b"unnamed", None);
    let tag = format!("{}.sig", referrers_tag(&image.digest));
    for (repository, signature) in [("x", &b"of x"[..]), ("y", b"of y")] {
        let full = |tag: &str| format!("registry.example.com/{repository}:{tag}");
        folder.name(&image, &full("1.0"), Some(&full("1.0")));
        let signature = folder.manifest("sig/legacy", signature, None);
        folder.name(&signature, &full(&tag), Some(&full(&tag)));
    }
    folder.name(&other, "registry.example.com/x:2.0", None);
    folder.list(&unnamed);
    let summary = export(&request(&site, &["mirror"], "b.tgz")).await.unwrap();
    let expected = [
        format!("oci/mirror@{}", unnamed.digest),
        "registry.example.com/x:1.0".to_owned(),
        "registry.example.com/x:2.0".to_owned(),
        "registry.example.com/y:1.0".to_owned(),
    ];
    assert_eq!(images(&summary), expected);
    let graph = &summary.manifest.graph;
    for repository in ["x", "y"] {
        let name = format!("registry.example.com/{repository}");
        let records = graph.discovery.iter();
        let records = records.filter(|record| record.repository.to_string() == name);
        let artifacts = records.flat_map(|record| &record.artifacts);
        assert_eq!(artifacts.count(), 1, "{repository}");
    }
    assert_eq!(summary.manifest.referrers.total, 2);

    // An image that is asked for twice is carried once, and others are left alone.
    let both = request(
        &site,
        &["mirror:registry.example.com/x:2.0", "mirror:2.0"],
        "two.tgz",
    );
    let summary = export(&both).await.unwrap();
    assert_eq!(images(&summary), ["registry.example.com/x:2.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bundle_takes_images_of_registries_and_of_folders() {
    let site = Site::new();
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    let image = registry.image("team/app", "1.0");
    registry.referrer("team/app", &image, SBOM, "sbom");
    of_tool(&site, "oras", "oras");
    let mut both = request(&site, &["oras:1.0"], "b.tgz");
    let reference = format!("{}/team/app:1.0", registry.host());
    both.plan.images = vec![reference.parse().unwrap()];
    let summary = export(&both).await.unwrap();
    assert_eq!(images(&summary), [reference, "oci/oras:1.0".to_owned()]);
    assert_eq!(summary.manifest.referrers.total, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_in_a_folder_is_named_and_never_absent() {
    let site = Site::new();
    let payload = Digest::of(b"sbom");
    let layer = Digest::of(b"layer");
    for (name, broken) in [("gone", false), ("damaged", true)] {
        let (folder, expected) = of_tool(&site, name, "oras");
        // What the signature refers to.
        let is_subject = |digest: &Digest| expected.iter().any(|(subject, _)| subject == digest);
        let (_, sbom) = expected
            .iter()
            .find(|(_, digest)| is_subject(digest))
            .unwrap();
        let spoil = |digest: &Digest| {
            if broken {
                folder.damage(digest)
            } else {
                folder.remove(digest)
            }
        };
        let whole = folder.layout.read_blob(sbom, 10_000).unwrap();

        // A manifest that index.json lists.
        spoil(sbom);
        let mut whole_folder = request(&site, &[name], &format!("{name}.tgz"));
        let error = export(&whole_folder).await.unwrap_err();
        assert_eq!(error.kind(), ExportErrorKind::Incomplete);
        assert!(error.to_string().contains(&sbom.to_string()), "{error}");
        whole_folder.allow_incomplete = true;
        let summary = export(&whole_folder).await.unwrap();
        assert_eq!(summary.manifest.referrers.status, Completeness::Incomplete);
        let missing = summary.manifest.graph.discovery.iter();
        let mut missing = missing.flat_map(|record| &record.missing);
        assert!(missing.any(|missing| missing.digest.as_ref() == Some(sbom)));
        std::fs::write(folder.layout.blob_path(sbom), &whole).unwrap();

        // A blob of a referrer.
        spoil(&payload);
        let again = request(&site, &[name], &format!("{name}-payload.tgz"));
        let error = export(&again).await.unwrap_err();
        let kind = if broken {
            ExportErrorKind::Integrity
        } else {
            ExportErrorKind::Incomplete
        };
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&payload.to_string()), "{error}");
        std::fs::write(folder.layout.blob_path(&payload), b"sbom").unwrap();

        // A layer of the image.
        spoil(&layer);
        let again = request(&site, &[name], &format!("{name}-layer.tgz"));
        let error = export(&again).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&layer.to_string()), "{error}");
    }
    // The image itself.
    let (folder, _) = of_tool(&site, "image", "skopeo");
    let image = folder.layout.index().unwrap().remove(0).digest;
    let image_of = |rest: &str| request(&site, &[&format!("image{rest}")], "image.tgz");
    folder.damage(&image);
    let error = export(&image_of(":1.0")).await.unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Integrity, "{error}");
    folder.remove(&image);
    for rest in [":1.0", ""] {
        let error = export(&image_of(rest)).await.unwrap_err();
        assert_eq!(error.kind(), ExportErrorKind::Incomplete, "{error}");
        assert!(error.to_string().contains(&image.to_string()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_leads_to_no_image_is_refused_with_a_reason() {
    let site = Site::new();
    let (folder, _) = of_tool(&site, "mirror", "skopeo");
    of_tool(&site, "other/mirror", "skopeo");
    std::fs::create_dir(site.path("plain")).unwrap();
    use ExportErrorKind as Kind;
    for (sources, kind, said) in [
        (&["nowhere:1.0"][..], Kind::Access, "there is no folder "),
        (&["plain"], Kind::Usage, "it has no oci-layout file"),
        (
            &["mirror:2.0"],
            Kind::Access,
            "has no image that is named \"2.0\"; it has :1.0",
        ),
        (
            &["mirror", "other/mirror:1.0"],
            Kind::Usage,
            "is named oci/mirror:1.0, and so is one of oci:",
        ),
    ] {
        let error = export(&request(&site, sources, "b.tgz")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    std::fs::write(folder.layout.root().join("index.json"), "{").unwrap();
    let error = export(&request(&site, &["mirror"], "b.tgz"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Incomplete, "{error}");
    assert!(
        error.to_string().contains("index.json: malformed"),
        "{error}"
    );
    assert_eq!(site.files(), ["mirror", "other", "plain"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_export_left_of_a_folder_is_not_read_as_whole() {
    let site = Site::new();
    let folder = Folder::new(&site, "mirror");
    let large: Vec<u8> = (0..3_000_000_u32)
        .map(|byte| (byte % 251) as u8 + 1)
        .collect();
    let image = folder.manifest("app/image", &large, None);
    folder.name(&image, "1.0", None);
    let clean = export(&request(&site, &["mirror"], "clean.tgz"))
        .await
        .unwrap();
    // Half of the layer is wrong, so that the export ends in the middle of it.
    let layer = folder.layout.blob_path(&Digest::of(&large));
    let mut half = large.clone();
    half[2_000_000..].fill(b'x');
    std::fs::write(&layer, &half).unwrap();
    let again = request(&site, &["mirror"], "again.tgz");
    let error = export(&again).await.unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Integrity);
    std::fs::write(&layer, &large).unwrap();
    let summary = export(&again).await.unwrap();
    assert_eq!(summary.sha256, clean.sha256);
}
