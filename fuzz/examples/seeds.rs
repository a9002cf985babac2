//! Writes the seed inputs of the fuzz targets into `fuzz/seeds`, with the same bytes every time:
//! `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bundle_format::{
    BundleManifest, Container, EntryPath, EntryRecord, OCI_LAYOUT, SigningKey, StreamName,
    index_descriptors, index_json,
};
use fuzz::{MANIFEST, PUBLIC_KEY, SIGNING_KEY, plan, write_bundle};
use import_validator::ImportValidator;
use oci_content::{
    ArtifactRecord, Capability, Completeness, Descriptor, Digest, DiscoveryMethod, DiscoveryRecord,
    ImageRecord, Missing, OmittedChild, Reference, SourceKind, SourceRepository, media_type,
};

const CYCLONEDX: &str = "application/vnd.cyclonedx+json";

fn main() {
    let digest = Digest::of(b"a");
    let (index, image) = (media_type::IMAGE_INDEX, media_type::IMAGE_MANIFEST);

    write(
        "link",
        "next",
        r#"</v2/app/tags/list?n=2&last=b>; rel="next""#,
    );
    write(
        "link",
        "two",
        "</v2/a>; rel=\"prev\"\n<https://r.test/v2/app/tags/list?last=b>;rel=next",
    );
    write(
        "link",
        "list",
        r#"</v2/a>; rel="prev next"; title="a, \"b\"", <//evil.test/v2/>; rel=last"#,
    );
    write(
        "link",
        "elsewhere",
        "<http://user:pw@evil.test/v2/../x>; rel=\"next\"",
    );

    write(
        "challenge",
        "bearer",
        r#"Bearer realm="https://auth.test/token",service="r.test",scope="repository:app:pull""#,
    );
    write(
        "challenge",
        "several",
        "Basic realm=\"x\"\nNegotiate, bearer Realm=\"http://auth.test/\", Service=r.test",
    );
    write(
        "challenge",
        "odd",
        r#"Bearer realm="https://u:p@auth.test/#f",service="a \"b\"", Basic"#,
    );

    write(
        "reference",
        "tag",
        "registry.example.com:5000/team/app_x/y:1.0-rc.1",
    );
    write(
        "reference",
        "digest",
        format!("docker.io/alpine:3@{digest}"),
    );
    write("reference", "ipv6", "[::1]:5000/app");
    write("reference", "ipv4", "127.0.0.1:5000/app");
    write("reference", "sha256", digest.to_string());
    write(
        "reference",
        "legacy-tag",
        format!("sha256-{}.sig", digest.encoded()),
    );
    write("reference", "platform", "linux/arm64/v8");

    let entry = format!(
        r#"{{"mediaType":"{image}","digest":"{digest}","size":7,"artifactType":"{CYCLONEDX}","annotations":{{"k":"v"}},"platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}}"#
    );
    let list = format!(r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[{entry}]}}"#);
    write("referrers_body", "list", format!("200|{index}\n{list}"));
    write(
        "referrers_body",
        "null",
        format!(
            "200|application/json\n{{\"schemaVersion\":2,\"mediaType\":\"{index}\",\"manifests\":null}}"
        ),
    );
    write(
        "referrers_body",
        "array",
        format!("200|{index}\n[2,\"{index}\",[]]"),
    );
    write(
        "referrers_body",
        "html",
        "200|text/html; charset=utf-8\n<html>",
    );
    write(
        "referrers_body",
        "unknown",
        "400|application/json|MANIFEST_INVALID|DIGEST_INVALID\n{}",
    );
    write(
        "referrers_body",
        "name-unknown",
        "404|application/json|NAME_UNKNOWN\n{}",
    );

    let config = r#"{"mediaType":"application/vnd.oci.empty.v1+json","digest":"DIGEST","size":2,"data":"e30="}"#;
    let config = config.replace("DIGEST", &Digest::of(b"{}").to_string());
    let referrer = format!(
        r#"{{"schemaVersion":2,"mediaType":"{image}","artifactType":"{CYCLONEDX}","config":{config},"layers":[{entry}],"subject":{entry},"annotations":{{"a":"b"}}}}"#
    );
    write("oci_manifest", "image", format!("{image}\n{referrer}"));
    write("oci_manifest", "index", format!("\n{list}"));
    write(
        "oci_manifest",
        "docker",
        format!(
            "{}\n{{\"schemaVersion\":2,\"config\":{config},\"layers\":[]}}",
            media_type::DOCKER_MANIFEST
        ),
    );
    write(
        "oci_manifest",
        "artifact",
        format!(
            "\n{{\"mediaType\":\"{}\",\"artifactType\":\"a/b\",\"blobs\":[{entry}],\"subject\":{entry}}}",
            media_type::ARTIFACT_MANIFEST
        ),
    );

    signatures();
    policies();
    for (name, bundle) in [("small", Bundle::small()), ("full", Bundle::full())] {
        write("bundle_manifest", name, bundle.manifest.to_yaml().unwrap());
        write(
            "bundle_container",
            &format!("{name}.tar"),
            bundle.write(None, Container::Tar),
        );
    }
    let small = Bundle::small();
    write(
        "bundle_container",
        "small.tgz",
        small.write(None, Container::TarGz),
    );
    write(
        "bundle_container",
        "signed.tar",
        small.write(Some(b"{}"), Container::Tar),
    );
}

/// Signatures in every form that is accepted.
fn signatures() {
    let key = SigningKey::from_pem(SIGNING_KEY).unwrap();
    let bundle = key.sign(MANIFEST);
    let json: serde_json::Value = serde_json::from_slice(&bundle).unwrap();
    let base64 = json["messageSignature"]["signature"].as_str().unwrap();
    write("signature", "sigstore", &bundle);
    write("signature", "base64", base64);
    write("signature", "der", STANDARD.decode(base64).unwrap());
    write("signature", "key", PUBLIC_KEY);
}

/// The example of the documentation, and documents with a date.
fn policies() {
    let document = include_str!("../../docs/policy.md");
    let (_, rest) = document.split_once("```yaml\n").unwrap();
    write("policy", "example", rest.split_once("```\n").unwrap().0);
    write(
        "policy",
        "lists",
        "version: 1\nrules:\n- name: x\n  require: [{artifact_type: \"*\", min: 2, per: image, max_age: 6w, undated: allow}]\n  \
         deny: [{category: vex}]\n  signed: [bundle, platform, other]\n",
    );
    let date = "2026-11-01T10:00:00.5+01:00";
    write(
        "policy",
        "cyclonedx",
        format!(r#"{{"metadata":{{"timestamp":"{date}"}}}}"#),
    );
    let statement = format!(r#"{{"predicate":{{"creationInfo":{{"created":"{date}"}}}}}}"#);
    let payload = STANDARD.encode(statement);
    write(
        "policy",
        "sigstore",
        format!(r#"{{"dsseEnvelope":{{"payload":"{payload}"}}}}"#),
    );
}

fn write(target: &str, name: &str, bytes: impl AsRef<[u8]>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

struct Bundle {
    manifest: BundleManifest,
    objects: Vec<(EntryPath, Vec<u8>)>,
}

impl Bundle {
    /// An image without layers that nothing refers to.
    fn small() -> Self {
        let mut bundle = Self {
            manifest: BundleManifest::new(StreamName::default(), 1),
            objects: Vec::new(),
        };
        let image = bundle.image(None, "small");
        bundle.name(&image);
        bundle.discover(&image, &[]);
        bundle.settle(1);
        bundle
    }

    /// An SBOM and a legacy signature for an image, with left-out and missing content.
    fn full() -> Self {
        let mut bundle = Self {
            manifest: BundleManifest::new("weekly".parse().unwrap(), 7),
            objects: Vec::new(),
        };
        let image = bundle.image(None, "full");
        let sbom = bundle.image(Some(&image), "sbom");
        let signature = bundle.image(None, "signature");
        bundle.name(&image);
        bundle.discover(
            &image,
            &[
                (&sbom, SourceKind::ReferrersApi),
                (&signature, SourceKind::LegacyTag),
            ],
        );
        bundle.manifest.base = Some(Digest::of(b"base"));
        let omitted = OmittedChild::new(Digest::of(b"omitted"), "platform");
        bundle.manifest.graph.images[0].omitted.push(omitted);
        let record = &mut bundle.manifest.graph.discovery[0];
        record.status = Completeness::Incomplete;
        record.missing.push(Missing::new("rate-limited"));
        bundle.settle(0);
        bundle
    }

    fn put(&mut self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type, bytes);
        let path = EntryPath::blob(&descriptor.digest).unwrap();
        if !self.objects.iter().any(|(known, _)| *known == path) {
            self.objects.push((path, bytes.to_vec()));
        }
        descriptor
    }

    fn image(&mut self, subject: Option<&Descriptor>, title: &str) -> Descriptor {
        let config = self.put(media_type::EMPTY, b"{}");
        let mut manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_MANIFEST,
            "config": config,
            "layers": [],
            "annotations": {"org.opencontainers.image.title": title},
        });
        if let Some(subject) = subject {
            manifest["artifactType"] = CYCLONEDX.into();
            manifest["subject"] = serde_json::to_value(subject).unwrap();
        }
        self.put(media_type::IMAGE_MANIFEST, manifest.to_string().as_bytes())
    }

    fn reference() -> Reference {
        "r.test/app:1".parse().unwrap()
    }

    fn name(&mut self, image: &Descriptor) {
        self.manifest.graph.images.push(ImageRecord::new(
            Self::reference(),
            image.digest.clone(),
            &image.media_type,
            image.size,
        ));
    }

    fn discover(&mut self, subject: &Descriptor, referrers: &[(&Descriptor, SourceKind)]) {
        let mut record = DiscoveryRecord::new(
            SourceRepository::from(&Self::reference()),
            subject.digest.clone(),
            Capability::Supported,
            DiscoveryMethod::Native,
        );
        for (referrer, source) in referrers {
            let tagged = *source == SourceKind::LegacyTag;
            let artifact_type = if tagged { media_type::EMPTY } else { CYCLONEDX };
            let mut artifact = ArtifactRecord::new(
                referrer.digest.clone(),
                Some(artifact_type.to_owned()),
                &referrer.media_type,
                referrer.size,
            );
            artifact.sources.push(*source);
            if tagged {
                let tag = format!("sha256-{}.sig", subject.digest.encoded());
                artifact.tag = Some(tag.parse().unwrap());
            }
            record.artifacts.push(artifact);
        }
        self.manifest.graph.discovery.push(record);
    }

    fn settle(&mut self, bare_images: u64) {
        let descriptors =
            index_descriptors(&self.manifest.graph.images, &self.manifest.graph.discovery);
        self.objects
            .push((EntryPath::INDEX, index_json(&descriptors)));
        self.objects
            .push((EntryPath::OCI_LAYOUT, OCI_LAYOUT.to_vec()));
        let entries = self.objects.iter();
        self.manifest.entries = entries
            .map(|(path, bytes)| EntryRecord::of(path.clone(), bytes))
            .collect();
        self.manifest.settle(bare_images);
    }

    /// A target that never sees an accepted bundle would prove nothing about accepted ones.
    fn write(&self, signature: Option<&[u8]>, container: Container) -> Vec<u8> {
        let bundle = write_bundle(plan(&self.manifest, signature, container), |path| {
            let same = |known: &EntryPath| match path.digest() {
                Some(digest) => known.digest() == Some(digest),
                None => known == path,
            };
            let mut objects = self.objects.iter();
            objects.find(|(known, _)| same(known)).unwrap().1.clone()
        });
        let report = ImportValidator::new().validate("seed", &bundle[..]);
        assert!(report.ok, "{:?}", report.findings);
        bundle
    }
}
