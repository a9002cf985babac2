//! `bundle inspect`, `bundle manifest` and `bundle diff`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use bundle_format::{
    BundleManifest, BundlePlan, BundleWriter, Container, EntryPath, EntryRecord, OCI_LAYOUT, Sink,
    StreamName, index_json,
};
use oci_content::{ArtifactRecord, DiscoveryRecord, ImageRecord, SourceRepository};
use oci_content::{Capability, Digest, DiscoveryMethod, Reference, SourceKind, media_type};
use serde_json::json;
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::run::{Site, registry_with_image};

async fn site_with_bundle(registry: &TestRegistry, name: &str) -> Site {
    let site = Site::new();
    let export = format!("bundle export {}/app:1.0 --output {name}", registry.host());
    site.stellaops(&export).await.done();
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_shown_as_its_images_and_the_trees_of_what_refers_to_them() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = site_with_bundle(&registry, "b.tgz").await;
    let host = registry.host();
    let text = site
        .stellaops("bundle inspect --file b.tgz")
        .await
        .done()
        .stdout;
    for part in [
        "b.tgz: tgz, ".to_owned(),
        format!("\n{host}/app:1.0 "),
        "8 of 4 subjects (1 attestation, 3 sbom, 3 signature, 1 vex)".to_owned(),
        "\n  - sbom application/vnd.cyclonedx+json sha256:".to_owned(),
        "\n    - signature application/vnd.cncf.notary.signature sha256:".to_owned(),
        "\n  linux/arm64 sha256:".to_owned(),
        "\n    - sbom application/vnd.cyclonedx+json sha256:".to_owned(),
        "legacy-tag, tag sha256-".to_owned(),
        "  signed     no\n  status     complete\n".to_owned(),
    ] {
        assert!(text.contains(&part), "{part:?} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extracted_bundle_and_a_plain_archive_are_shown_as_the_file_is() {
    let registry = registry_with_image(Persona::Dist2).await;
    let site = site_with_bundle(&registry, "b.tgz").await;
    site.shell("mkdir x && tar -xzf b.tgz -C x && gzip -dc b.tgz > b.tar")
        .await
        .done();
    let mut documents = Vec::new();
    for (name, form) in [("b.tgz", "tgz"), ("b.tar", "tar"), ("x", "folder")] {
        let line = format!("bundle inspect --file {name} --format json");
        let mut document = site.stellaops(&line).await.done().json();
        assert_eq!(document["schemaVersion"], 1);
        assert_eq!(document["form"], form);
        assert_eq!(document["size"].is_null(), name == "x");
        let members = document.as_object_mut().unwrap();
        for own in ["file", "form", "size"] {
            members.remove(own);
        }
        documents.push(document);
    }
    assert!(documents.windows(2).all(|two| two[0] == two[1]));
    let image = &documents[0]["images"][0];
    assert_eq!(image["method"], "fallback-tag");
    let depths: Vec<_> = image["referrers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|referrer| referrer["depth"].as_u64().unwrap())
        .collect();
    // Three on the index, one of which has a signature, and two legacy tags.
    assert_eq!(depths.iter().filter(|depth| **depth == 1).count(), 5);
    assert_eq!(depths.iter().filter(|depth| **depth == 2).count(), 1);
    assert_eq!(image["children"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_incomplete_export_lacks_is_shown_as_a_warning() {
    let registry = registry_with_image(Persona::SpecFull).await;
    registry.fault(Route::referrers(), Fault::statuses([418]).forever());
    let site = Site::new();
    let export = format!(
        "bundle export {}/app:1.0 --output b.tgz --allow-incomplete",
        registry.host()
    );
    site.stellaops(&export).await.failed(11, &[]);
    let text = site
        .stellaops("bundle inspect --file b.tgz")
        .await
        .done()
        .stdout;
    assert!(text.contains("status     incomplete"), "{text}");
    assert!(text.contains("\nWarnings\n  server-error: "), "{text}");
    // Where nothing was settled, an empty list is no claim.
    let unsettled = "\n    Nothing was found, but not everything could be settled.\n";
    assert!(text.contains(unsettled), "{text}");
    assert!(!text.contains("Nothing refers to it"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_names_have_in_common_is_listed_once_and_said_to_be() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let image = registry.index("app", "same", &["linux/amd64"]);
    registry.referrer("app", &image.descriptor, "a/b", "x");
    let digest = &image.descriptor.digest;
    let site = Site::new();
    let host = registry.host();
    let export = format!("bundle export {host}/app:same {host}/app@{digest} --output b.tgz");
    site.stellaops(&export).await.done();
    let line = "bundle inspect --file b.tgz --format json";
    let images = site.stellaops(line).await.done().json()["images"].clone();
    let [first, second] = [&images[0], &images[1]];
    assert!(first["sameAs"].is_null());
    assert_eq!(first["listedBefore"], false);
    assert_eq!(second["sameAs"], first["reference"]);
    assert_eq!(second["listedBefore"], true);
    assert_eq!(second["referrers"].as_array().unwrap().len(), 0);
    assert_ne!(first["referrers"].as_array().unwrap().len(), 0);
    let text = site
        .stellaops("bundle inspect --file b.tgz")
        .await
        .done()
        .stdout;
    assert!(text.contains("  as above   "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_is_printed_byte_for_byte() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = site_with_bundle(&registry, "b.tgz").await;
    site.shell(
        "mkdir x && tar -xzf b.tgz -C x && stellaops bundle manifest --file b.tgz | cmp - x/manifest.yaml \
         && stellaops bundle manifest --file x | cmp - x/manifest.yaml",
    )
    .await
    .done();
}

/// A file with holes: only what is written takes space.
#[derive(Debug)]
struct Sparse(File);

impl Sink for Sparse {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_gigabytes_is_not_read_to_show_a_bundle() {
    let site = Site::new();
    let index = index_json(&[]);
    let mut manifest = BundleManifest::new(StreamName::default(), 0);
    manifest.entries = vec![
        EntryRecord::blob(&Digest::of(b"other bytes than those of a hole"), 20 << 30).unwrap(),
        EntryRecord::of(EntryPath::INDEX, &index),
        EntryRecord::of(EntryPath::OCI_LAYOUT, OCI_LAYOUT),
    ];
    manifest.settle(0);
    let plan = BundlePlan::new(&manifest, Container::Tar).unwrap();
    let file = File::create(site.path("b.tar")).unwrap();
    let writer = BundleWriter::new(plan, Sparse(file)).unwrap();
    writer.put(&EntryPath::OCI_LAYOUT, OCI_LAYOUT).unwrap();
    let started = Instant::now();
    let line = "bundle inspect --file b.tar";
    let text = site.stellaops(line).await.done().stdout;
    assert!(text.contains("1 blob of 20.0 GiB"), "{text}");
    // To read the hole would take longer than this on any machine.
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_bundle_cannot_be_shown() {
    let site = Site::new();
    std::fs::write(site.path("text.tgz"), "no bundle at all").unwrap();
    site.shell("mkdir empty").await.done();
    for command in [
        "bundle inspect --file",
        "bundle manifest --file",
        "bundle diff text.tgz",
    ] {
        for (file, code) in [("text.tgz", 3), ("missing.tgz", 8), ("empty", 8)] {
            // The first of two bundles decides.
            let (file, code) = if command.contains("diff") {
                (file, 3)
            } else {
                (file, code)
            };
            let ran = site.stellaops(&format!("{command} {file}")).await;
            assert_eq!(ran.stdout, "");
            ran.failed(code, &[]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_went_and_changed_between_two_bundles_is_named() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let host = registry.host();
    let site = site_with_bundle(&registry, "old.tgz").await;
    let same = "bundle diff old.tgz old.tgz";
    let text = site.stellaops(same).await.done().stdout;
    assert!(text.contains("the same manifest.yaml"), "{text}");

    let more = registry.image("app", "2.0");
    let extra = registry.referrer("app", &more, "application/vnd.openvex+json", "v");
    let export = format!("bundle export {host}/app:1.0 {host}/app:2.0 --output new.tgz");
    site.stellaops(&export).await.done();
    let line = "bundle diff old.tgz new.tgz --format json";
    let document = site.stellaops(line).await.done().json();
    assert_eq!(
        (&document["schemaVersion"], &document["identical"]),
        (&1.into(), &false.into())
    );
    assert_eq!(
        document["images"]["added"][0]["reference"],
        format!("{host}/app:2.0")
    );
    let added = &document["referrers"]["added"];
    assert_eq!(added.as_array().unwrap().len(), 1);
    assert_eq!(added[0]["digest"], extra.digest.to_string());
    assert_eq!(added[0]["category"], "vex");
    assert_eq!(document["blobs"]["removed"].as_array().unwrap().len(), 0);
    let blobs = document["blobs"]["added"].as_array().unwrap();
    let held = |digest: &Digest| {
        blobs
            .iter()
            .any(|blob| blob["digest"] == digest.to_string())
    };
    assert!(held(&extra.digest) && held(&more.digest));

    let back = site.stellaops("bundle diff new.tgz old.tgz").await.done();
    let text = back.stdout;
    assert!(
        text.contains("images: 0 added, 1 removed, 0 changed"),
        "{text}"
    );
    assert!(
        text.contains(&format!("  - vex {}\n", extra.digest)),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moved_and_a_referrer_that_was_replaced_are_changes() {
    let site = Site::new();
    for (name, seed) in [("old.tar", "one"), ("new.tar", "two")] {
        let reference: Reference = "registry.example.com/app:1.0".parse().unwrap();
        let (subject, image) = (Digest::of(b"fixed"), Digest::of(seed.as_bytes()));
        let mut manifest = BundleManifest::new(StreamName::default(), 0);
        let mut record = DiscoveryRecord::new(
            SourceRepository::from(&reference),
            subject.clone(),
            Capability::Supported,
            DiscoveryMethod::Native,
        );
        let artifact_type = Some("application/vnd.cyclonedx+json".to_owned());
        let digest = Digest::of(format!("sbom {seed}").as_bytes());
        let media_type = media_type::IMAGE_MANIFEST;
        let mut artifact = ArtifactRecord::new(digest, artifact_type, media_type, 8);
        artifact.sources = vec![SourceKind::ReferrersApi];
        record.artifacts.push(artifact);
        manifest.graph.discovery.push(record);
        let own = format!("sbom {seed}");
        manifest.entries = vec![
            EntryRecord::blob(&image, 3).unwrap(),
            EntryRecord::blob(&Digest::of(own.as_bytes()), 8).unwrap(),
            EntryRecord::of(EntryPath::INDEX, b"{}"),
            EntryRecord::of(EntryPath::OCI_LAYOUT, OCI_LAYOUT),
        ];
        let image = ImageRecord::new(reference, image, media_type, 3);
        manifest.graph.images.push(image);
        manifest.settle(1);
        // A manifest alone is enough to compare: `diff` reads nothing else.
        std::fs::create_dir(site.path(name)).unwrap();
        let yaml = manifest.to_yaml().unwrap();
        std::fs::write(site.path(name).join("manifest.yaml"), yaml).unwrap();
    }
    let line = "bundle diff old.tar new.tar";
    let text = site.stellaops(line).await.done().stdout;
    for part in [
        "images: 0 added, 0 removed, 1 changed".to_owned(),
        "referrers: 0 added, 0 removed, 1 changed".to_owned(),
        format!(
            "  ~ {} -> {}\n",
            Digest::of(b"sbom one"),
            Digest::of(b"sbom two")
        ),
        "application/vnd.cyclonedx+json of registry.example.com/app@sha256:".to_owned(),
    ] {
        assert!(text.contains(&part), "{part:?} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_everything_loads_nothing_and_holds_no_markup_of_a_bundle() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let image = registry.image("app", "2.0");
    let hostile = "application/</td><script>alert('x')</script><img src=\"//e.example\">";
    registry.referrer("app", &image, hostile, "payload");
    let site = Site::new();
    let host = registry.host();
    let name = "<b>&'\"x.tgz";
    let export = format!("bundle export {host}/app:1.0 {host}/app:2.0 --output {name}");
    site.stellaops(&export).await.done();
    let line = format!("bundle inspect --file {name} --format html");
    let page = site.stellaops(&line).await.done().stdout;
    assert!(page.starts_with("<!doctype html>\n") && page.ends_with("</html>\n"));
    assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'\""));
    for part in [
        "<h1>&lt;b&gt;&amp;&#39;&quot;x.tgz</h1>",
        "<td>application/&lt;/td&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&lt;img src=&quot;//e.example&quot;&gt;</td>",
        "<h4>linux/arm64 <code",
        "<b>vex</b>",
        "9 of 5 subjects",
        &format!("<h3>{host}/app:2.0</h3>"),
    ] {
        assert!(page.contains(part), "{part:?} is not in\n{page}");
    }
    for markup in [
        "<script", "<img", "<link", "<b>&", "src=\"", "href=", "url(", "@import",
    ] {
        assert!(!page.contains(markup), "{markup:?} is in\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_without_referrers_are_told_of_in_a_sentence_whatever_their_number() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let bare = registry.image("app", "bare");
    let signed = registry.image("app", "signed");
    registry.referrer(
        "app",
        &signed,
        "application/vnd.cncf.notary.signature",
        "signature",
    );
    registry.image("app", "bare2");
    assert_ne!(bare.digest, signed.digest);
    let site = Site::new();
    let some = "1 of 1 subject (1 signature)";
    for (tags, found) in [
        (
            &["bare"][..],
            "none; nothing refers to the image".to_owned(),
        ),
        (
            &["signed"],
            format!("{some}; something refers to the image"),
        ),
        (
            &["bare", "bare2"],
            "none; nothing refers to any of the 2 images".to_owned(),
        ),
        (
            &["signed", "bare"],
            format!("{some}; nothing refers to 1 of the 2 images"),
        ),
    ] {
        let images: Vec<_> = tags
            .iter()
            .map(|tag| format!("{}/app:{tag}", registry.host()))
            .collect();
        let export = format!(
            "bundle export {} --output b.tgz --overwrite",
            images.join(" ")
        );
        site.stellaops(&export).await.done();
        let text = site
            .stellaops("bundle inspect --file b.tgz")
            .await
            .done()
            .stdout;
        assert!(
            text.contains(&format!("\n  referrers  {found}\n")),
            "{found:?} is not in\n{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_bundle_was_created_and_what_it_brings_to_verify_with_is_shown() {
    let site = Site::new();
    let key = EntryPath::trust("cosign.pub".parse().unwrap());
    let index = index_json(&[]);
    let mut manifest = BundleManifest::new(StreamName::default(), 1);
    manifest.created = Some("2026-01-02T03:04:05Z".parse().unwrap());
    manifest.entries = vec![
        EntryRecord::of(EntryPath::INDEX, &index),
        EntryRecord::of(EntryPath::OCI_LAYOUT, OCI_LAYOUT),
        EntryRecord::of(key.clone(), b"a key"),
    ];
    manifest.settle(0);
    let plan = BundlePlan::new(&manifest, Container::TarGz).unwrap();
    let file = File::create(site.path("b.tgz")).unwrap();
    let writer = BundleWriter::new(plan, Sparse(file)).unwrap();
    for (path, bytes) in [
        (&key, &b"a key"[..]),
        (&EntryPath::INDEX, &index),
        (&EntryPath::OCI_LAYOUT, OCI_LAYOUT),
    ] {
        writer.put(path, bytes).unwrap();
    }
    writer.finish().unwrap();
    let digest = Digest::of(b"a key");
    let json = site
        .stellaops("bundle inspect --file b.tgz --format json")
        .await
        .done()
        .json();
    assert_eq!(json["created"], "2026-01-02T03:04:05Z");
    assert_eq!(
        json["trust"],
        json!([{"name": "cosign.pub", "size": 5, "digest": digest}])
    );
    for (form, shown) in [
        (
            "text",
            [
                "  created    2026-01-02T03:04:05Z\n".to_owned(),
                format!("  trust      cosign.pub, 5 B, {digest}\n"),
            ],
        ),
        (
            "html",
            [
                "<dt>Created</dt><dd>2026-01-02T03:04:05Z</dd>".to_owned(),
                format!("<dd>cosign.pub, 5 B, {digest}</dd>"),
            ],
        ),
    ] {
        let line = format!("bundle inspect --file b.tgz --format {form}");
        let page = site.stellaops(&line).await.done().stdout;
        for part in shown {
            assert!(page.contains(&part), "{part:?} is not in\n{page}");
        }
    }
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = site_with_bundle(&registry, "b.tgz").await;
    let json = site
        .stellaops("bundle inspect --file b.tgz --format json")
        .await
        .done()
        .json();
    assert_eq!(
        (&json["created"], &json["trust"]),
        (&json!(null), &json!([]))
    );
}
