use oci_content::{
    ArtifactRecord, Capability, Digest, DiscoveryMethod, DiscoveryRecord, ImageRecord, Missing,
    OmittedChild, Reference, SourceKind, SourceRepository, Tag, media_type,
};
use proptest::prelude::*;

use super::*;
use crate::limits::Limits;

/// An image, an SBOM on it, a signature on the SBOM and a legacy signature on the image, with one
/// blob each.
pub(crate) fn sample() -> BundleManifest {
    let blob = |name: &str| (Digest::of(name.as_bytes()), name.len() as u64);
    let (image, image_size) = blob("image");
    let (sbom, sbom_size) = blob("sbom");
    let (signature, signature_size) = blob("signature");
    let (legacy, legacy_size) = blob("legacy");
    let reference: Reference = "registry.example.com/team/app:1.0".parse().unwrap();
    let repository = SourceRepository::from(&reference);
    let manifest_type = media_type::IMAGE_MANIFEST;
    let record = |subject: &Digest| {
        DiscoveryRecord::new(
            repository.clone(),
            subject.clone(),
            Capability::Supported,
            DiscoveryMethod::Native,
        )
    };
    let artifact = |digest: &Digest, artifact_type: &str, size| {
        let artifact_type = Some(artifact_type.to_owned());
        let mut artifact = ArtifactRecord::new(digest.clone(), artifact_type, manifest_type, size);
        artifact.sources = vec![SourceKind::ReferrersApi];
        artifact
    };
    let mut on_image = record(&image);
    let cyclonedx = "application/vnd.cyclonedx+json";
    on_image
        .artifacts
        .push(artifact(&sbom, cyclonedx, sbom_size));
    let mut tagged = artifact(&legacy, media_type::IMAGE_CONFIG, legacy_size);
    tagged.sources = vec![SourceKind::LegacyTag];
    tagged.tag = Some(format!("sha256-{}.sig", image.encoded()).parse().unwrap());
    tagged.category = ArtifactCategory::Signature;
    on_image.artifacts.push(tagged);
    let mut dangling = Missing::new("dangling-referrer");
    dangling.digest = Some(blob("gone").0);
    dangling.source = Some("referrers-tag".into());
    on_image.missing.push(dangling);
    let mut on_sbom = record(&sbom);
    let notation = "application/vnd.cncf.notary.signature";
    on_sbom
        .artifacts
        .push(artifact(&signature, notation, signature_size));

    let mut manifest = BundleManifest::new(StreamName::default(), 1);
    let mut asked = ImageRecord::new(reference, image.clone(), manifest_type, image_size);
    asked
        .omitted
        .push(OmittedChild::new(blob("child").0, "platform"));
    manifest.graph.images.push(asked);
    manifest.graph.discovery = vec![on_image, on_sbom];
    for (digest, size) in [image, sbom, signature, legacy].into_iter().zip([
        image_size,
        sbom_size,
        signature_size,
        legacy_size,
    ]) {
        manifest
            .entries
            .push(EntryRecord::blob(&digest, size).unwrap());
    }
    let index = crate::index_json(&crate::index_descriptors(
        &manifest.graph.images,
        &manifest.graph.discovery,
    ));
    manifest
        .entries
        .push(EntryRecord::of(EntryPath::INDEX, &index));
    manifest
        .entries
        .push(EntryRecord::of(EntryPath::OCI_LAYOUT, crate::OCI_LAYOUT));
    manifest.settle(0);
    manifest
}

fn parse(bytes: &[u8]) -> Result<BundleManifest, ManifestError> {
    BundleManifest::parse(bytes, &Limits::default())
}

#[test]
fn the_sample_has_the_encoding_that_the_specification_shows() {
    let yaml = String::from_utf8(sample().to_yaml().unwrap()).unwrap();
    let expected = include_str!("sample.yaml");
    assert_eq!(yaml, expected);
    assert_eq!(parse(yaml.as_bytes()).unwrap(), sample());
}

#[test]
fn an_empty_bundle_has_an_encoding_too() {
    let mut manifest = BundleManifest::new("site-1".parse().unwrap(), 0);
    for path in [EntryPath::INDEX, EntryPath::OCI_LAYOUT] {
        manifest.entries.push(EntryRecord::of(path, b""));
    }
    manifest.settle(0);
    let yaml = manifest.to_yaml().unwrap();
    assert_eq!(parse(&yaml).unwrap(), manifest);
    let text = String::from_utf8(yaml).unwrap();
    assert!(
        text.contains("  by_category: {}\nimages: []\ndiscovery: []\nentries:\n"),
        "{text}"
    );
}

/// Strings that a registry could choose.
fn hostile() -> impl Strategy<Value = String> {
    let traps = [
        "",
        " ",
        "~",
        "null",
        "Yes",
        "off",
        "1",
        "1_0",
        "0x10",
        "0o7",
        "1e5",
        ".nan",
        "-.inf",
        "2024-01-01",
        "12:30:45",
        "- a",
        "a: b",
        "a:",
        "# a",
        "a #b",
        "&a",
        "*a",
        "!a",
        "%a",
        "@a",
        "`a",
        "{a}",
        "[a]",
        "|",
        ">",
        "\"",
        "'",
        "\\",
        "a\\x0a",
        "\n",
        "\r\n",
        "a\nreferrers:\n",
        "referrers:",
        "referrers: []",
        "xreferrers:x",
        "referrers\\x3a",
        "\u{0}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{202e}",
        "\u{1b}[31m",
        "é",
        "\u{1f980}",
        "---",
        "...",
        "<<",
        "=",
    ];
    prop_oneof![
        prop::sample::select(traps.to_vec()).prop_map(str::to_owned),
        any::<String>(),
        "[a-z0-9./+:-]{1,20}",
        "[ -~]{0,20}",
    ]
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<u16>().prop_map(|seed| Digest::of(&seed.to_le_bytes()))
}

fn source(word: &str) -> SourceKind {
    SourceKind::from_word(word).unwrap()
}

fn artifact(subject: Digest) -> impl Strategy<Value = ArtifactRecord> {
    let mut sources = SourceKind::ALL.to_vec();
    sources.extend(["other:a", "other:referrers"].map(source));
    let count = sources.len();
    let sources = prop::sample::subsequence(sources, 1..=count);
    let parts = (
        digest(),
        prop::option::of(hostile()),
        hostile(),
        any::<u32>(),
        sources,
        "[a-z]{1,8}",
    );
    parts.prop_map(
        move |(digest, artifact_type, media_type, size, sources, suffix)| {
            let size = u64::from(size);
            let mut artifact = ArtifactRecord::new(digest, artifact_type, media_type, size);
            if sources.contains(&SourceKind::LegacyTag) {
                let tag = format!("sha256-{}.{suffix}", subject.encoded());
                artifact.tag = Some(tag.parse().unwrap());
            }
            artifact.sources = sources;
            artifact
        },
    )
}

fn missing() -> impl Strategy<Value = Missing> {
    let parts = (
        "[a-z-]{1,12}",
        prop::option::of(digest()),
        prop::option::of(prop::sample::select(vec![
            "referrers-api",
            "legacy-tag",
            "manifest",
            "other:x.y",
        ])),
    );
    parts.prop_map(|(code, digest, source)| {
        let mut missing = Missing::new(code);
        (missing.digest, missing.source) = (digest, source.map(str::to_owned));
        missing
    })
}

fn discovery() -> impl Strategy<Value = DiscoveryRecord> {
    let repository = prop::sample::select(vec![
        "a.example/app",
        "referrers:5000/referrers",
        "127.0.0.1:5000/x/y",
        "[::1]:5000/app",
    ]);
    digest().prop_flat_map(move |subject| {
        let artifacts = prop::collection::vec(artifact(subject.clone()), 0..4);
        let words = (
            prop::sample::select(Capability::ALL),
            prop::sample::select(DiscoveryMethod::ALL),
            prop::sample::select(Completeness::ALL),
        );
        let missing = prop::collection::vec(missing(), 0..3);
        (repository.clone(), words, missing, artifacts).prop_map(
            move |(repository, (capability, method, status), missing, artifacts)| {
                let repository = repository.parse().unwrap();
                let mut record =
                    DiscoveryRecord::new(repository, subject.clone(), capability, method);
                (record.status, record.missing) = (status, missing);
                record.artifacts = artifacts;
                record
            },
        )
    })
}

fn image() -> impl Strategy<Value = ImageRecord> {
    let reference = prop::sample::select(vec![
        "a.example/app:1.0",
        "a.example/referrers:1.0",
        "referrers:5000/app:latest",
        "127.0.0.1:5000/app:x",
        "a.example/app@",
    ]);
    let omitted = prop::collection::vec((digest(), "[a-z-]{1,8}"), 0..3);
    (reference, digest(), hostile(), any::<u32>(), omitted).prop_map(
        |(reference, digest, media_type, size, omitted)| {
            let reference = match reference.strip_suffix('@') {
                Some(name) => format!("{name}@{digest}"),
                None => reference.to_owned(),
            };
            let reference = reference.parse().unwrap();
            let mut image = ImageRecord::new(reference, digest, media_type, size.into());
            let omitted = omitted.into_iter();
            image.omitted = omitted
                .map(|(d, reason)| OmittedChild::new(d, reason))
                .collect();
            image
        },
    )
}

/// Any manifest that can be written, once it is settled; a few cannot, because two things of one
/// name differ.
fn manifest() -> impl Strategy<Value = BundleManifest> {
    let entries = prop::collection::vec((digest(), any::<u32>(), any::<bool>()), 0..4);
    let head = (
        "[a-z0-9][a-z0-9._-]{0,20}",
        any::<u64>(),
        prop::option::of(
            "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T[01][0-9]:[0-5][0-9]:[0-5][0-9]Z",
        ),
        prop::option::of(digest()),
    );
    let lists = (
        prop::collection::vec(image(), 0..3),
        prop::collection::vec(discovery(), 0..4),
        entries,
        prop::collection::vec(("[a-z0-9][a-z0-9._-]{0,8}[a-z]", any::<u16>()), 0..3),
    );
    (head, lists).prop_map(
        |((stream, sequence, created, base), (images, discovery, entries, trust))| {
            let mut manifest = BundleManifest::new(stream.parse().unwrap(), sequence);
            manifest.created = created.map(|created| created.parse().unwrap());
            manifest.graph.images = images;
            manifest.graph.discovery = discovery;
            for (name, size) in trust {
                let Ok(name) = name.parse() else { continue };
                let digest = Digest::of(&size.to_le_bytes());
                let entry = EntryRecord::new(EntryPath::trust(name), size.into(), digest);
                manifest.entries.push(entry);
            }
            for (digest, size, in_base) in entries {
                let mut entry = EntryRecord::blob(&digest, size.into()).unwrap();
                entry.base = in_base && base.is_some();
                manifest.entries.push(entry);
            }
            manifest
                .entries
                .push(EntryRecord::of(EntryPath::INDEX, b"{}"));
            manifest
                .entries
                .push(EntryRecord::of(EntryPath::OCI_LAYOUT, b""));
            manifest.base = base;
            manifest.settle(0);
            manifest
        },
    )
}

/// What a YAML library makes of a manifest; every value is a string, a number or a list of them.
mod by_library {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Manifest {
        pub(super) format: String,
        pub(super) stream: String,
        pub(super) sequence: u64,
        pub(super) created: Option<String>,
        pub(super) base: Option<String>,
        pub(super) referrers: Totals,
        pub(super) images: Vec<Image>,
        pub(super) discovery: Vec<Discovery>,
        pub(super) entries: Vec<Entry>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Totals {
        pub(super) total: u64,
        pub(super) subjects: u64,
        pub(super) bare_images: u64,
        pub(super) status: String,
        pub(super) by_category: BTreeMap<String, u64>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Image {
        pub(super) reference: String,
        pub(super) digest: String,
        pub(super) media_type: String,
        pub(super) size: u64,
        pub(super) omitted: Vec<BTreeMap<String, String>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Discovery {
        pub(super) repository: String,
        pub(super) subject: String,
        pub(super) capability: String,
        pub(super) method: String,
        pub(super) status: String,
        pub(super) missing: Vec<BTreeMap<String, String>>,
        pub(super) artifacts: Vec<Artifact>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Artifact {
        pub(super) digest: String,
        pub(super) artifact_type: Option<String>,
        pub(super) media_type: String,
        pub(super) size: u64,
        pub(super) category: String,
        pub(super) sources: Vec<String>,
        pub(super) tag: Option<String>,
        pub(super) path: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Entry {
        pub(super) path: String,
        pub(super) size: u64,
        pub(super) sha256: String,
        #[serde(default)]
        pub(super) base: bool,
    }
}

fn assert_library_agrees(manifest: &BundleManifest, yaml: &[u8]) {
    let text = std::str::from_utf8(yaml).unwrap();
    let read: by_library::Manifest = serde_saphyr::from_str(text).unwrap();
    assert_eq!(read.format, BundleManifest::FORMAT);
    assert_eq!(read.stream, manifest.stream.as_str());
    assert_eq!(read.sequence, manifest.sequence);
    assert_eq!(
        read.created,
        manifest.created.as_ref().map(ToString::to_string)
    );
    assert_eq!(read.base, manifest.base.as_ref().map(ToString::to_string));
    let (totals, expected) = (read.referrers, &manifest.referrers);
    assert_eq!(
        (
            totals.total,
            totals.subjects,
            totals.bare_images,
            &*totals.status
        ),
        (
            expected.total,
            expected.subjects,
            expected.bare_images,
            expected.status.as_str()
        )
    );
    let counts = expected.by_category.iter();
    let counts: BTreeMap<_, _> = counts.map(|(c, count)| (c.to_string(), *count)).collect();
    assert_eq!(totals.by_category, counts);
    assert_eq!(read.images.len(), manifest.graph.images.len());
    for (read, image) in read.images.iter().zip(&manifest.graph.images) {
        assert_eq!(read.reference, image.reference.to_string());
        assert_eq!(read.digest, image.digest.to_string());
        assert_eq!(
            (&read.media_type, read.size),
            (&image.media_type, image.size)
        );
        assert_eq!(read.omitted.len(), image.omitted.len());
        for (read, child) in read.omitted.iter().zip(&image.omitted) {
            assert_eq!(read["digest"], child.digest.to_string());
            assert_eq!(read["reason"], child.reason);
        }
    }
    assert_eq!(read.discovery.len(), manifest.graph.discovery.len());
    for (read, record) in read.discovery.iter().zip(&manifest.graph.discovery) {
        assert_eq!(read.repository, record.repository.to_string());
        assert_eq!(read.subject, record.subject.to_string());
        assert_eq!(read.capability, record.capability.as_str());
        assert_eq!(read.method, record.method.as_str());
        assert_eq!(read.status, record.status.as_str());
        assert_eq!(read.missing.len(), record.missing.len());
        for (read, missing) in read.missing.iter().zip(&record.missing) {
            assert_eq!(read["code"], missing.code);
            assert_eq!(
                read.get("digest"),
                missing.digest.as_ref().map(ToString::to_string).as_ref()
            );
            assert_eq!(read.get("source"), missing.source.as_ref());
        }
        assert_eq!(read.artifacts.len(), record.artifacts.len());
        for (read, artifact) in read.artifacts.iter().zip(&record.artifacts) {
            assert_eq!(read.digest, artifact.digest.to_string());
            assert_eq!(read.artifact_type, artifact.artifact_type);
            assert_eq!(
                (&read.media_type, read.size),
                (&artifact.media_type, artifact.size)
            );
            assert_eq!(read.category, artifact.category.as_str());
            let sources: Vec<_> = artifact.sources.iter().map(|s| s.as_str()).collect();
            assert_eq!(read.sources, sources);
            assert_eq!(read.tag.as_deref(), artifact.tag.as_ref().map(Tag::as_str));
            let path = EntryPath::referrer(&record.subject, &artifact.digest).unwrap();
            assert_eq!(read.path, path.to_string());
        }
    }
    assert_eq!(read.entries.len(), manifest.entries.len());
    for (read, entry) in read.entries.iter().zip(&manifest.entries) {
        assert_eq!(read.path, entry.path.to_string());
        assert_eq!((read.size, read.base), (entry.size, entry.base));
        assert_eq!(read.sha256, entry.sha256.encoded());
    }
}

proptest! {
    #[test]
    fn whatever_can_be_written_is_read_back_and_a_library_reads_the_same(manifest in manifest()) {
        match manifest.to_yaml() {
            Err(error) => prop_assert_eq!(error.kind(), ManifestErrorKind::Inconsistent),
            Ok(yaml) => {
                prop_assert_eq!(&parse(&yaml).unwrap(), &manifest);
                assert_library_agrees(&manifest, &yaml);
                let text = String::from_utf8(yaml).unwrap();
                let counts: Vec<_> = text.lines().filter(|l| l.contains("referrers:")).collect();
                prop_assert_eq!(counts, ["referrers:"]);
                prop_assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)));
            }
        }
    }

    #[test]
    fn a_changed_manifest_is_refused_or_is_another_manifest(at: prop::sample::Index, byte: u8) {
        let mut yaml = sample().to_yaml().unwrap();
        let at = at.index(yaml.len());
        yaml[at] = byte;
        if let Ok(read) = parse(&yaml) {
            prop_assert_eq!(read.to_yaml().unwrap(), yaml);
        }
    }

    #[test]
    fn any_text_is_refused_without_a_panic(text: Vec<u8>) {
        prop_assert!(parse(&text).is_err());
    }
}

#[test]
fn grep_shows_the_counts() {
    let yaml = String::from_utf8(sample().to_yaml().unwrap()).unwrap();
    let lines: Vec<_> = yaml.lines().collect();
    let key = lines
        .iter()
        .position(|line| line.contains("referrers:"))
        .unwrap();
    assert_eq!(
        lines[key..key + 6],
        [
            "referrers:",
            "  total: 3",
            "  subjects: 2",
            "  bare_images: 0",
            "  status: complete",
            "  by_category:"
        ]
    );
}

#[test]
fn a_referrer_that_two_repositories_list_is_counted_and_stored_once() {
    let mut manifest = sample();
    let mut copy = manifest.graph.discovery[0].clone();
    copy.repository = "other.example/app".parse().unwrap();
    let files = manifest.files();
    manifest.graph.discovery.push(copy);
    manifest.settle(0);
    assert_eq!(
        (manifest.referrers.total, manifest.referrers.subjects),
        (3, 2)
    );
    assert_eq!(manifest.files(), files);
    for (path, file) in files {
        assert_eq!(manifest.file(&path), Some(file));
    }
    assert_eq!(manifest.file(&EntryPath::MANIFEST), None);
    manifest.to_yaml().unwrap();
    manifest.graph.discovery[0].artifacts[0].size += 1;
    let error = manifest.to_yaml().unwrap_err();
    assert!(
        error.reason().ends_with("is described in two ways"),
        "{error}"
    );
}

#[test]
fn another_encoding_of_the_same_values_is_refused_with_its_line() {
    use ManifestErrorKind::{Malformed, NotCanonical, Version};
    let yaml = String::from_utf8(sample().to_yaml().unwrap()).unwrap();
    let change = |from: &str, to: &str| {
        assert!(yaml.contains(from), "{from}");
        yaml.replacen(from, to, 1)
    };
    let cases = [
        ("newer format", change("bundle/v1", "bundle/v2"), Version, 1),
        (
            "other format",
            change("stellaops-mirror-bundle/v1", "x"),
            Version,
            1,
        ),
        ("byte order mark", format!("\u{feff}{yaml}"), Malformed, 1),
        ("comment", format!("# hello\n{yaml}"), Malformed, 1),
        ("document marker", format!("---\n{yaml}"), Malformed, 1),
        (
            "second document",
            format!("{yaml}---\n{yaml}"),
            Malformed,
            0,
        ),
        ("carriage returns", yaml.replace('\n', "\r\n"), Malformed, 1),
        (
            "comment at the end of a line",
            change("sequence: 1", "sequence: 1 # one"),
            Malformed,
            3,
        ),
        (
            "hexadecimal",
            change("sequence: 1", "sequence: 0x1"),
            Malformed,
            3,
        ),
        (
            "leading zero",
            change("sequence: 1", "sequence: 01"),
            NotCanonical,
            3,
        ),
        ("sign", change("sequence: 1", "sequence: +1"), Malformed, 3),
        (
            "negative",
            change("sequence: 1", "sequence: -1"),
            Malformed,
            3,
        ),
        (
            "too large",
            change("sequence: 1", "sequence: 18446744073709551616"),
            Malformed,
            3,
        ),
        (
            "quoted number",
            change("sequence: 1", "sequence: \"1\""),
            Malformed,
            3,
        ),
        (
            "needless quotes",
            change("stream: default", "stream: \"default\""),
            NotCanonical,
            2,
        ),
        (
            "single quotes",
            change("stream: default", "stream: 'default'"),
            Malformed,
            2,
        ),
        (
            "tag",
            change("stream: default", "stream: !!str default"),
            Malformed,
            2,
        ),
        (
            "anchor",
            change("stream: default", "stream: &a default"),
            Malformed,
            2,
        ),
        (
            "two blanks",
            change("stream: default", "stream:  default"),
            Malformed,
            2,
        ),
        (
            "no blank",
            change("stream: default", "stream:default"),
            Malformed,
            2,
        ),
        (
            "blank at the end",
            change("stream: default", "stream: default "),
            Malformed,
            2,
        ),
        ("empty line", change("sequence", "\nsequence"), Malformed, 3),
        (
            "unknown key",
            change("sequence: 1", "sequence: 1\nowner: me"),
            Malformed,
            4,
        ),
        (
            "key twice",
            change("sequence: 1", "sequence: 1\nsequence: 1"),
            Malformed,
            4,
        ),
        (
            "keys in another order",
            change(
                "stream: default\nsequence: 1",
                "sequence: 1\nstream: default",
            ),
            Malformed,
            2,
        ),
        (
            "missing key",
            change("  bare_images: 0\n", ""),
            Malformed,
            7,
        ),
        (
            "value beside the counts",
            change("referrers:\n", "referrers: {}\n"),
            NotCanonical,
            4,
        ),
        (
            "unknown category",
            change("    sbom: 1", "    recipe: 1"),
            Malformed,
            10,
        ),
        (
            "categories in another order",
            change(
                "    sbom: 1\n    signature: 2",
                "    signature: 2\n    sbom: 1",
            ),
            NotCanonical,
            10,
        ),
        (
            "category twice",
            change("    sbom: 1", "    sbom: 1\n    sbom: 1"),
            NotCanonical,
            11,
        ),
        (
            "flow list",
            change(
                "    sources:\n    - referrers-api",
                "    sources: [referrers-api]",
            ),
            Malformed,
            36,
        ),
        (
            "more indentation",
            change("- reference", "  - reference"),
            Malformed,
            13,
        ),
        (
            "upper-case digest",
            change("  digest: sha256:6105d6", "  digest: sha256:6105D6"),
            Malformed,
            14,
        ),
        (
            "base that is false",
            change("  sha256: 1a2f", "  base: false\n  sha256: 1a2f"),
            Malformed,
            0,
        ),
        ("no end of line", yaml.trim_end().to_owned(), Malformed, 0),
        ("nothing", String::new(), Malformed, 1),
    ];
    for (name, text, kind, line) in cases {
        let error = parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        if line > 0 {
            assert_eq!(error.line(), Some(line), "{name}: {error}");
        }
    }
    let error = parse(change("bundle/v1", "bundle/v2").as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "manifest.yaml, line 1: \"stellaops-mirror-bundle/v2\" needs a newer release of stellaops"
    );
    let limits = Limits {
        max_manifest_bytes: yaml.len() as u64 - 1,
        ..Limits::default()
    };
    let error = BundleManifest::parse(yaml.as_bytes(), &limits).unwrap_err();
    assert_eq!(error.kind(), ManifestErrorKind::TooLarge);
}

#[test]
fn statements_that_contradict_each_other_are_refused() {
    type Change = fn(&mut BundleManifest);
    let cases: [(Change, &str); 39] = [
        (
            |m| m.referrers.total += 1,
            "the counts are not those of the lists",
        ),
        (
            |m| m.referrers.subjects = 0,
            "the counts are not those of the lists",
        ),
        (
            |m| m.referrers.by_category.clear(),
            "the counts are not those of the lists",
        ),
        (|m| m.referrers.bare_images = 2, "2 bare images of 1"),
        (
            |m| m.graph.discovery[0].status = Completeness::Incomplete,
            "the status is complete, and that of",
        ),
        (
            |m| m.graph.images.push(m.graph.images[0].clone()),
            "image registry.example.com/team/app:1.0 is there twice",
        ),
        (|m| m.graph.discovery.swap(0, 1), "is out of order"),
        (
            |m| m.graph.discovery.push(m.graph.discovery[1].clone()),
            "is there twice",
        ),
        (
            |m| m.graph.discovery[0].artifacts.swap(0, 1),
            "is out of order",
        ),
        (
            |m| m.graph.discovery[0].artifacts[0].sources.clear(),
            "no source named artifact",
        ),
        (
            |m| {
                m.graph.discovery[0].artifacts[0]
                    .sources
                    .push(SourceKind::ReferrersApi)
            },
            "is there twice",
        ),
        (
            |m| {
                let subject = m.graph.discovery[1].subject.clone();
                let artifact = &mut m.graph.discovery[1].artifacts[0];
                artifact.digest = subject;
            },
            "is its own subject",
        ),
        (
            |m| m.graph.discovery[0].artifacts[0].tag = Some("x".parse().unwrap()),
            "has a tag without the source",
        ),
        (
            |m| m.graph.discovery[0].artifacts[1].tag = None,
            "or the source without a tag",
        ),
        (
            |m| m.graph.discovery[0].artifacts[1].tag = Some("x".parse().unwrap()),
            "x is no legacy tag of the subject",
        ),
        (
            |m| m.graph.discovery[0].missing[0].code = "Not A Code".into(),
            "not 1 to 64 lower-case",
        ),
        (
            |m| m.graph.discovery[0].missing[0].source = Some("somewhere".into()),
            "is no source",
        ),
        (
            |m| {
                let sources = &mut m.graph.discovery[0].artifacts[0].sources;
                *sources = ["other:a", "manifest"].map(source).to_vec();
            },
            "source manifest of artifact",
        ),
        (
            |m| {
                m.graph.images[0].omitted[0].digest = m.graph.images[0].digest.clone();
            },
            "which the bundle holds",
        ),
        (
            |m| trust(m, 1, true),
            "trust/root.json cannot be in the base",
        ),
        (|m| trust(m, (1 << 20) + 1, false), "more than 1048576"),
        (
            |m| m.graph.images[0].omitted[0].reason = String::new(),
            "not 1 to 64 lower-case",
        ),
        (
            |m| m.graph.images[0].digest = sha512(),
            "sha256 objects only",
        ),
        (
            |m| m.graph.discovery[1].artifacts[0].digest = sha512(),
            "sha256 objects only",
        ),
        (
            |m| m.graph.discovery[1].subject = sha512(),
            "sha256 objects only",
        ),
        (|m| m.entries.swap(0, 1), "is out of order"),
        (|m| m.entries[1] = m.entries[0].clone(), "is there twice"),
        (|m| m.entries[0].sha256 = Digest::of(b"?"), "has the sha256"),
        (|m| m.entries[0].base = true, "and there is no base"),
        (
            |m| in_base(m, |path| *path == EntryPath::INDEX),
            "index.json cannot be in the base",
        ),
        (
            |m| in_base(m, |path| *path == EntryPath::OCI_LAYOUT),
            "oci-layout cannot be in the base",
        ),
        (
            |m| in_base(m, is(m.graph.images[0].digest.clone())),
            "is a manifest and cannot be in the base",
        ),
        (
            |m| in_base(m, is(m.graph.discovery[1].subject.clone())),
            "is a manifest and cannot be in the base",
        ),
        (
            |m| in_base(m, is(m.graph.discovery[1].artifacts[0].digest.clone())),
            "is a manifest and cannot be in the base",
        ),
        (
            |m| m.entries[0].size = u64::MAX,
            "more than a file can hold",
        ),
        (|m| m.entries.truncate(5), "there is no entry oci-layout"),
        (
            |m| m.entries[4].path = EntryPath::MANIFEST,
            "is not in `entries`",
        ),
        (
            |m| m.graph.images.push(described_otherwise(&m.graph.images[0])),
            "is described in two ways",
        ),
        (
            |m| m.graph.images.push(other_digest(&m.graph.images[0])),
            "stands for two digests",
        ),
    ];
    fn trust(manifest: &mut BundleManifest, size: u64, in_base: bool) {
        manifest.base = Some(Digest::of(b"base"));
        let path = EntryPath::trust("root.json".parse().unwrap());
        let mut entry = EntryRecord::new(path, size, Digest::of(b"root"));
        entry.base = in_base;
        manifest.entries.push(entry);
    }
    fn in_base(manifest: &mut BundleManifest, which: impl Fn(&EntryPath) -> bool) {
        manifest.base = Some(Digest::of(b"base"));
        let mut entries = manifest.entries.iter_mut();
        entries.find(|entry| which(&entry.path)).unwrap().base = true;
    }
    fn is(digest: Digest) -> impl Fn(&EntryPath) -> bool {
        move |path| path.digest() == Some(&digest)
    }
    fn described_otherwise(image: &ImageRecord) -> ImageRecord {
        let reference = format!("{}-2", image.reference).parse().unwrap();
        let mut other = image.clone();
        (other.reference, other.omitted) = (reference, Vec::new());
        other
    }
    fn sha512() -> Digest {
        Digest::compute(oci_content::Algorithm::Sha512, b"x")
    }
    fn other_digest(image: &ImageRecord) -> ImageRecord {
        let digest = Digest::of(b"other");
        let reference = format!("{}@{digest}", image.reference).parse().unwrap();
        ImageRecord::new(reference, digest, "a/b", 1)
    }
    for (number, (change, reason)) in cases.into_iter().enumerate() {
        let mut manifest = sample();
        change(&mut manifest);
        let error = manifest.to_yaml().unwrap_err();
        assert_eq!(
            error.kind(),
            ManifestErrorKind::Inconsistent,
            "case {number}: {error}"
        );
        assert!(error.to_string().contains(reason), "case {number}: {error}");
        // Somebody else may have written it all the same.
        let mut yaml = Vec::new();
        emit::emit(&manifest, &mut yaml);
        assert!(parse(&yaml).is_err(), "case {number}");
    }
    let mut pinned = sample();
    let other = format!("a.example/app@{}", Digest::of(b"?"));
    pinned.graph.images[0].reference = other.parse().unwrap();
    assert!(pinned.to_yaml().is_err());
}

#[test]
fn an_artifact_stands_in_the_folder_of_its_subject_and_nowhere_else() {
    let yaml = String::from_utf8(sample().to_yaml().unwrap()).unwrap();
    let path = yaml.split("    path: ").nth(1).unwrap();
    let path = path.split('\n').next().unwrap();
    for other in [
        "index.json",
        &path
            .replacen("sha256-", "sha256-0", 1)
            .replacen("0.json", ".json", 1),
    ] {
        let changed = yaml.replacen(
            &format!("    path: {path}"),
            &format!("    path: {other}"),
            1,
        );
        let error = parse(changed.as_bytes()).unwrap_err();
        assert!(error.line().is_some(), "{error}");
        let expected = match other {
            "index.json" => ManifestErrorKind::Inconsistent,
            _ => ManifestErrorKind::Malformed,
        };
        assert_eq!(error.kind(), expected, "{error}");
    }
}

#[test]
fn what_version_1_cannot_carry_can_still_be_named_as_missing() {
    let sha512 = Digest::compute(oci_content::Algorithm::Sha512, b"x");
    let mut manifest = sample();
    let repository = manifest.graph.discovery[0].repository.clone();
    let mut record = DiscoveryRecord::new(
        repository,
        sha512.clone(),
        Capability::Supported,
        DiscoveryMethod::Native,
    );
    record.status = Completeness::Incomplete;
    let mut missing = Missing::new("unsupported-algorithm");
    missing.digest = Some(sha512.clone());
    record.missing.push(missing);
    manifest.graph.discovery.push(record);
    manifest.graph.images[0]
        .omitted
        .push(OmittedChild::new(sha512, "platform"));
    manifest.settle(0);
    assert_eq!(manifest.referrers.status, Completeness::Incomplete);
    assert_eq!(parse(&manifest.to_yaml().unwrap()).unwrap(), manifest);
}

#[test]
fn the_time_is_optional_quoted_and_stands_between_sequence_and_base() {
    let mut manifest = sample();
    manifest.created = Some("2026-11-30T04:05:06Z".parse().unwrap());
    manifest.base = Some(Digest::of(b"base"));
    let text = String::from_utf8(manifest.to_yaml().unwrap()).unwrap();
    let line = "sequence: 1\ncreated: \"2026-11-30T04:05:06Z\"\nbase: sha256:";
    assert!(text.contains(line), "{text}");
    assert_eq!(parse(text.as_bytes()).unwrap(), manifest);
    assert_library_agrees(&manifest, text.as_bytes());
    use ManifestErrorKind::{Malformed, NotCanonical};
    for (from, to, kind) in [
        (
            "\"2026-11-30T04:05:06Z\"",
            "2026-11-30T04:05:06Z",
            NotCanonical,
        ),
        ("2026-11-30T04", "2026-11-30T24", Malformed),
        ("2026-11-30T", "2026-11-31T", Malformed),
        ("\"2026", "\"\\x32026", NotCanonical),
        ("created: \"", "created:  \"", Malformed),
    ] {
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text);
        assert_eq!(parse(other.as_bytes()).unwrap_err().kind(), kind, "{to}");
    }
    let moved = text.replacen(
        "sequence: 1\ncreated: \"2026-11-30T04:05:06Z\"\n",
        "created: \"2026-11-30T04:05:06Z\"\nsequence: 1\n",
        1,
    );
    assert_eq!(parse(moved.as_bytes()).unwrap_err().kind(), Malformed);
}

#[test]
fn sources_and_methods_of_other_programs_have_their_words() {
    let mut manifest = sample();
    let record = &mut manifest.graph.discovery[1];
    record.method = DiscoveryMethod::Other;
    record.artifacts[0].sources = ["manifest", "other:a", "other:inventory.db"]
        .map(source)
        .to_vec();
    let text = String::from_utf8(manifest.to_yaml().unwrap()).unwrap();
    assert!(text.contains("  method: other\n"), "{text}");
    assert!(
        text.contains("    - manifest\n    - other:a\n    - other:inventory.db\n"),
        "{text}"
    );
    assert_eq!(parse(text.as_bytes()).unwrap(), manifest);
    assert_library_agrees(&manifest, text.as_bytes());
    for word in ["other:", "other:A", "other:a:b", "others:a", "\"other:a\""] {
        let other = text.replacen("- other:a\n", &format!("- {word}\n"), 1);
        assert_eq!(
            parse(other.as_bytes()).unwrap_err().kind(),
            ManifestErrorKind::Malformed,
            "{word}"
        );
    }
}
