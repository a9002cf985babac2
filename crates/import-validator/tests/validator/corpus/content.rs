//! `manifest.yaml`, the image layout, and the graph.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use bundle_format::{Container, EntryPath, EntryRecord};
use import_validator::FindingKind::{self, *};
use import_validator::ValidationLimits;
use oci_content::{Algorithm, Descriptor, Digest, REF_NAME, media_type};
use serde_json::{Value, json};

use super::{Corpus, Input};
use crate::fixture::{CYCLONEDX, Fixture, SIGNATURE, entry, frame, header, pack, seal};

type Files = BTreeMap<EntryPath, Vec<u8>>;

pub(super) fn rows(corpus: &mut Corpus) {
    manifest_yaml(corpus);
    omitted(corpus);
    files(corpus);
    layout(corpus);
    objects(corpus);
    referrers(corpus);
}

pub(super) fn packed(files: &Files) -> Vec<u8> {
    pack(files, Container::TarGz)
}

/// The smallest bundle with another text in `manifest.yaml`.
pub(super) fn with_yaml(change: impl Fn(&str) -> String) -> Vec<u8> {
    let mut files = Fixture::small().files();
    let yaml = String::from_utf8(files[&EntryPath::MANIFEST].clone()).unwrap();
    let changed = change(&yaml);
    assert_ne!(changed, yaml);
    files.insert(EntryPath::MANIFEST, changed.into_bytes());
    packed(&files)
}

fn manifest_yaml(corpus: &mut Corpus) {
    let replaced =
        |from: &'static str, to: &'static str| with_yaml(|yaml| yaml.replacen(from, to, 1));
    let laughs: String = (0..9)
        .map(|level| {
            format!(
                "a{level}: &a{level} [{}]\n",
                format!("*a{},", level + 9).repeat(9)
            )
        })
        .collect();
    let malformed = [
        (50, "yaml-alias-bomb", with_yaml(|_| laughs.clone())),
        (50, "yaml-deep", with_yaml(|_| "[".repeat(20_000))),
        (
            50,
            "yaml-anchor-one",
            replaced("stream: default", "stream: &a default"),
        ),
        (
            51,
            "yaml-dup-key",
            replaced("sequence: 1\n", "sequence: 1\nsequence: 1\n"),
        ),
        (
            51,
            "yaml-unknown-key",
            replaced("sequence: 1\n", "sequence: 1\nother: 1\n"),
        ),
        (
            51,
            "yaml-tag",
            replaced("stream: default", "stream: !!str default"),
        ),
        (
            51,
            "yaml-multi-doc",
            with_yaml(|yaml| format!("{yaml}---\n{yaml}")),
        ),
        (
            51,
            "yaml-merge-key",
            replaced("sequence: 1\n", "sequence: 1\n<<: *a\n"),
        ),
        (51, "yaml-bom", with_yaml(|yaml| format!("\u{feff}{yaml}"))),
        (
            51,
            "yaml-crlf",
            with_yaml(|yaml| yaml.replace('\n', "\r\n")),
        ),
        (51, "yaml-hex-int", replaced("sequence: 1", "sequence: 0x1")),
        (
            51,
            "yaml-comment",
            with_yaml(|yaml| format!("{yaml}# end\n")),
        ),
        (51, "yaml-negative", replaced("sequence: 1", "sequence: -1")),
        (
            51,
            "yaml-65-bits",
            replaced("sequence: 1", "sequence: 18446744073709551616"),
        ),
        (
            52,
            "schema-missing",
            replaced("format: stellaops-mirror-bundle/v1\n", ""),
        ),
        (
            57,
            "digest-upper",
            with_yaml(|yaml| {
                let at = yaml.find("  digest: sha256:").unwrap() + "  digest: sha256:".len();
                format!(
                    "{}{}{}",
                    &yaml[..at],
                    yaml[at..at + 64].to_uppercase(),
                    &yaml[at + 64..]
                )
            }),
        ),
        (
            57,
            "digest-short",
            with_yaml(|yaml| {
                let at = yaml.find("  digest: sha256:").unwrap() + "  digest: sha256:".len();
                format!("{}{}", &yaml[..at], &yaml[at + 1..])
            }),
        ),
        (
            57,
            "digest-long",
            replaced("  digest: sha256:", "  digest: sha256:0"),
        ),
        (
            57,
            "digest-md5",
            replaced("  digest: sha256:", "  digest: md5:"),
        ),
        (
            57,
            "digest-sha1",
            replaced("  digest: sha256:", "  digest: sha1:"),
        ),
        (
            57,
            "digest-as-sha512",
            replaced("  digest: sha256:", "  digest: sha512:"),
        ),
        (
            57,
            "digest-dotdot",
            replaced("  digest: sha256:", "  digest: sha256:../../"),
        ),
        (
            57,
            "digest-unicode-digits",
            replaced("  digest: sha256:", "  digest: sha256:\u{ff11}"),
        ),
        (
            91,
            "ref-userinfo",
            replaced("registry.example.com/", "user:pw@registry.example.com/"),
        ),
        (91, "ref-dotdot", replaced("team/app", "team/../app")),
        (
            91,
            "ref-uppercase",
            replaced("team/app:1.0", "Team/App:1.0"),
        ),
        (
            91,
            "ref-unicode",
            replaced(
                "registry.example.com/team",
                "r\u{e9}gistry.example.com/team",
            ),
        ),
        (
            91,
            "ref-long-tag",
            with_yaml(|yaml| yaml.replacen(":1.0", &format!(":{}", "a".repeat(200)), 1)),
        ),
    ];
    for (number, name, bytes) in malformed {
        corpus.add(number, name, bytes, ManifestMalformed, 3);
    }
    let huge = |size: &'static str| {
        with_yaml(move |yaml| {
            let base = format!("sequence: 1\nbase: {}\n", Digest::of(b"base"));
            let at = yaml.find("- path: index.json").unwrap();
            let digest = format!("{:f<64}", "");
            let entry = format!(
                "- path: blobs/sha256/{digest}\n  size: {size}\n  sha256: {digest}\n  base: true\n"
            );
            let yaml = format!("{}{entry}{}", &yaml[..at], &yaml[at..]);
            yaml.replacen("sequence: 1\n", &base, 1)
        })
    };
    for (name, size) in [
        ("base: 2^64 - 1 bytes", "18446744073709551615"),
        ("base: sums beyond 2^62 bytes", "4611686018427387904"),
    ] {
        corpus.add(96, name, huge(size), ManifestInconsistent, 3);
    }
    let quoted = replaced("stream: default", "stream: \"default\"");
    corpus.add(51, "yaml-quoted", quoted, ManifestNotCanonical, 3);
    let swapped = replaced("  total: 1", "  total: 2");
    corpus.add(
        51,
        "counts that are not those of the list",
        swapped,
        ManifestInconsistent,
        3,
    );
    corpus.add(
        52,
        "schema-unknown",
        replaced("bundle/v1", "bundle/v99"),
        ManifestVersion,
        3,
    );
    corpus.add(
        52,
        "schema-older",
        replaced("bundle/v1", "bundle/v0"),
        ManifestVersion,
        3,
    );
    // A claim of 10 GiB with zeros behind it: the limit stands in the header.
    let claim = || -> Box<dyn io::Read> {
        let mut block = header("manifest.yaml", 0);
        block[124..136].copy_from_slice(b"\x80\0\0\0\0\0\0\x02\x80\0\0\0");
        let head = io::Cursor::new(seal(block).to_vec());
        Box::new(head.chain(io::repeat(0).take(10 << 30)))
    };
    corpus.row(
        50,
        "yaml-huge",
        Input::Stream(claim, 1 << 20),
        Some(ManifestBytes),
        6,
    );
}

/// A bundle whose image claims to leave something out, whatever the bundle holds.
fn omitting(digest: impl Fn(&Fixture) -> Digest) -> Vec<u8> {
    let fixture = Fixture::full();
    let omitted = digest(&fixture);
    let mut files = fixture.files();
    let yaml = String::from_utf8(files[&EntryPath::MANIFEST].clone()).unwrap();
    let claim = format!("  omitted:\n  - digest: {omitted}\n    reason: platform\n");
    let yaml = yaml.replacen("  omitted: []\n", &claim, 1);
    files.insert(EntryPath::MANIFEST, yaml.into_bytes());
    packed(&files)
}

fn omitted(corpus: &mut Corpus) {
    let rows: [(&'static str, Vec<u8>); 4] = [
        (
            "omitted: the image itself",
            omitting(|f| f.manifest.graph.images[0].digest.clone()),
        ),
        (
            "omitted: a child that is there",
            omitting(|f| f.clone().image("arm64").digest),
        ),
        (
            "omitted: a layer that is there",
            omitting(|_| Digest::of(b"layer of arm64")),
        ),
        ("omitted: a stranger", omitting(|_| Digest::of(b"stranger"))),
    ];
    for (name, bytes) in rows {
        corpus.add(93, name, bytes, ManifestInconsistent, 3);
    }
}

fn blob(digest: &Digest) -> EntryPath {
    EntryPath::blob(digest).unwrap()
}

fn layer() -> EntryPath {
    blob(&Digest::of(b"layer of small"))
}

fn referrer_path(files: &Files) -> EntryPath {
    let mut paths = files.keys();
    let found = paths.find(|path| path.to_string().starts_with("referrers/"));
    found.unwrap().clone()
}

fn files(corpus: &mut Corpus) {
    let good = Fixture::small().files();
    let with = |path: &EntryPath, bytes: &[u8]| {
        let mut files = good.clone();
        files.insert(path.clone(), bytes.to_vec());
        packed(&files)
    };
    let without = |path: &EntryPath| {
        let mut files = good.clone();
        files.remove(path).unwrap();
        packed(&files)
    };
    let referrer = referrer_path(&good);
    let mut flipped = good[&referrer].clone();
    flipped[0] ^= 1;
    corpus.add(
        53,
        "size-lie-manifest: one byte more",
        with(&layer(), b"layer of small!"),
        EntrySizeMismatch,
        4,
    );
    corpus.add(
        53,
        "size-lie-manifest: one byte less",
        with(&layer(), b"layer of smal"),
        EntrySizeMismatch,
        4,
    );
    corpus.add(
        53,
        "size-lie-manifest: a referrer",
        with(&referrer, b"{}"),
        ReferrerSizeMismatch,
        4,
    );
    corpus.add(
        55,
        "digest-lie-name",
        with(&layer(), b"other of small"),
        EntryChecksumMismatch,
        4,
    );
    corpus.add(
        56,
        "referrer-flip",
        with(&referrer, &flipped),
        ReferrerChecksumMismatch,
        4,
    );
    let sha512 = Digest::compute(Algorithm::Sha512, b"layer of small");
    let confused = sha512.encoded().as_bytes()[..14].to_vec();
    corpus.add(
        59,
        "algo-confusion: other content under blobs/sha256",
        with(&layer(), &confused),
        EntryChecksumMismatch,
        4,
    );
    corpus.add(
        66,
        "layer-missing: listed",
        without(&layer()),
        EntryMissing,
        4,
    );
    corpus.add(
        75,
        "referrer-listed-missing",
        without(&referrer),
        ReferrerMissing,
        4,
    );
    let subject = Digest::of(b"subject");
    let unlisted = EntryPath::referrer(&subject, &subject).unwrap();
    corpus.add(
        75,
        "referrer-unlisted-present",
        with(&unlisted, b"subject"),
        EntryNotListed,
        4,
    );
    // The list of one bundle with the content of another one of the same shape.
    let mut other = Fixture::small().files();
    other.insert(layer(), b"layer of other".to_vec());
    corpus.add(
        89,
        "mix-match: the content of another bundle",
        packed(&other),
        EntryChecksumMismatch,
        4,
    );
    let mut mixed = Fixture::full().files();
    mixed.insert(EntryPath::MANIFEST, good[&EntryPath::MANIFEST].clone());
    corpus.add(
        89,
        "mix-match: the files of another bundle",
        packed(&mixed),
        ReferrerMissing,
        4,
    );
    corpus.add(
        60,
        "layout-missing",
        without(&EntryPath::OCI_LAYOUT),
        EntryMissing,
        4,
    );
    corpus.add(
        61,
        "index-bad: absent",
        without(&EntryPath::INDEX),
        EntryMissing,
        4,
    );
}

/// A bundle with another `index.json`, which `manifest.yaml` lists as it is.
fn with_index(change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut fixture = Fixture::small();
    let files = fixture.clone().files();
    let mut index: Value = serde_json::from_slice(&files[&EntryPath::INDEX]).unwrap();
    change(&mut index);
    let index = index.to_string().into_bytes();
    fixture.list_with_index(&index);
    packed(&fixture.listed_files(&index))
}

fn layout(corpus: &mut Corpus) {
    let mut fixture = Fixture::small();
    fixture.list();
    let marker = br#"{"imageLayoutVersion":"2.0.0"}"#;
    let index = fixture.clone().files()[&EntryPath::INDEX].clone();
    *fixture.manifest.entries.last_mut().unwrap() = EntryRecord::of(EntryPath::OCI_LAYOUT, marker);
    let mut files = fixture.listed_files(&index);
    files.insert(EntryPath::OCI_LAYOUT, marker.to_vec());
    corpus.add(60, "layout-version", packed(&files), LayoutMarker, 3);
    let null = with_index(|index| index["manifests"] = Value::Null);
    corpus.add(61, "index-bad: null", null, IndexMalformed, 3);
    let digest = with_index(|index| index["manifests"][0]["digest"] = json!("sha256:../../x"));
    corpus.add(57, "digest-dotdot in index.json", digest, IndexMalformed, 3);
    let missing = with_index(|index| {
        let gone = Descriptor::of(media_type::IMAGE_MANIFEST, b"gone");
        index["manifests"].as_array_mut().unwrap().push(json!(gone));
    });
    corpus.add(
        61,
        "index-bad: a missing blob",
        missing,
        IndexEntryUnexpected,
        3,
    );
    let empty = with_index(|index| index["manifests"] = json!([]));
    corpus.add(61, "index-bad: empty", empty, IndexEntryMissing, 3);
    type Change = fn(&mut Value);
    let other_bytes: [(&'static str, Change); 4] = [
        ("index-bad: members in another order", |_| {}),
        ("index-bad: another name for containerd", |index| {
            index["manifests"][0]["annotations"]["io.containerd.image.name"] =
                json!("a.example/b:1")
        }),
        ("index-bad: a member more", |index| {
            index["manifests"][0]["platform"] = json!({"os": "linux", "architecture": "amd64"})
        }),
        ("index-bad: another artifact type", |index| {
            index["manifests"][1]["artifactType"] = json!(SIGNATURE)
        }),
    ];
    for (name, change) in other_bytes {
        corpus.add(61, name, with_index(change), IndexNotCanonical, 3);
    }
    let tag = |name: &Digest| json!({REF_NAME: oci_content::referrers_tag(name)});
    let stranger = with_index(|index| {
        let mut image = index["manifests"][0].clone();
        image["annotations"] = tag(&Digest::of(b"stranger"));
        index["manifests"].as_array_mut().unwrap().push(image);
    });
    corpus.add(
        90,
        "tag-hijack: a referrers tag of nothing",
        stranger,
        IndexEntryMissing,
        3,
    );
    let image = with_index(|index| {
        let subject = index["manifests"][0]["digest"].as_str().unwrap();
        let tag = tag(&subject.parse().unwrap());
        let mut image = index["manifests"][0].clone();
        image["annotations"] = tag;
        index["manifests"].as_array_mut().unwrap().push(image);
    });
    corpus.add(
        90,
        "tag-hijack: a referrers tag that holds an image",
        image,
        IndexEntryMissing,
        3,
    );
    let hijacked = with_index(|index| {
        let sbom = index["manifests"][1]["digest"].clone();
        index["manifests"][0]["digest"] = sbom;
    });
    corpus.add(90, "tag-hijack", hijacked, IndexEntryMissing, 3);
    let second = with_index(|index| {
        let mut sbom = index["manifests"][1].clone();
        sbom["annotations"] = json!({REF_NAME: "1.0"});
        index["manifests"].as_array_mut().unwrap().push(sbom);
    });
    corpus.add(
        90,
        "tag-hijack: the name a second time",
        second,
        ReferenceConflict,
        3,
    );
}

/// An image of one layer whose manifest has other bytes.
pub(super) fn image(bytes: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let mut fixture = Fixture::empty();
    let original = fixture.image("changed");
    let text = fixture.objects.remove(&original.digest).unwrap();
    let changed = bytes(std::str::from_utf8(&text).unwrap());
    let image = fixture.put_bytes(media_type::IMAGE_MANIFEST, &changed);
    fixture.add_image(&image);
    fixture.discover(&image, &[]);
    fixture.manifest.referrers.bare_images = 1;
    packed(&fixture.files())
}

fn changed(change: impl Fn(&mut Value)) -> Vec<u8> {
    image(|text| {
        let mut value: Value = serde_json::from_str(text).unwrap();
        change(&mut value);
        value.to_string().into_bytes()
    })
}

/// Files for who imports.
fn trust(corpus: &mut Corpus) {
    let with = |bytes: &[u8]| {
        let mut fixture = Fixture::small();
        fixture.list();
        let index = fixture.clone().files()[&EntryPath::INDEX].clone();
        let path = EntryPath::trust("cosign.pub".parse().unwrap());
        let entry = EntryRecord::of(path.clone(), bytes);
        fixture.manifest.entries.push(entry);
        fixture.manifest.settle(0);
        let mut files = fixture.listed_files(&index);
        files.insert(path, bytes.to_vec());
        files
    };
    let key = with(b"a key");
    corpus.accepted(97, "trust: a file", packed(&key));
    // Content that is a manifest elsewhere in the bundle.
    let fixture = Fixture::small();
    let image = &fixture.objects[&fixture.manifest.graph.images[0].digest];
    corpus.accepted(97, "trust: the bytes of an image", packed(&with(image)));
    let path = EntryPath::trust("cosign.pub".parse().unwrap());
    let mut other = key.clone();
    other.insert(path.clone(), b"a kez".to_vec());
    corpus.add(
        97,
        "trust: other bytes",
        packed(&other),
        EntryChecksumMismatch,
        4,
    );
    let mut missing = key;
    missing.remove(&path);
    corpus.add(
        97,
        "trust: listed, not there",
        packed(&missing),
        EntryMissing,
        4,
    );
    let mut unlisted = Fixture::small().files();
    unlisted.insert(path, b"a key".to_vec());
    corpus.add(
        97,
        "trust: there, not listed",
        packed(&unlisted),
        EntryNotListed,
        4,
    );
}

/// Indexes that list content which is no manifest.
fn listed(corpus: &mut Corpus) {
    let index = |media_type: &str, content: &[u8]| {
        let mut fixture = Fixture::empty();
        let child = fixture.put_bytes(media_type, content);
        let index =
            json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [child]});
        let index = fixture.put(media_type::IMAGE_INDEX, &index);
        fixture.add_image(&index);
        fixture.discover(&index, &[]);
        fixture.manifest.referrers.bare_images = 1;
        packed(&fixture.files())
    };
    let layer = index("application/vnd.oci.image.layer.v1.tar", b"a layer");
    corpus.accepted(95, "listed: a layer", layer);
    let lie = index(media_type::IMAGE_MANIFEST, b"a layer");
    corpus.add(
        95,
        "listed: a layer that is called a manifest",
        lie,
        ObjectMalformed,
        3,
    );
    let config = index(media_type::IMAGE_MANIFEST, br#"{"os":"linux"}"#);
    corpus.add(
        95,
        "listed: a config that is called a manifest",
        config,
        ObjectMalformed,
        3,
    );
}

fn objects(corpus: &mut Corpus) {
    type Change = fn(&mut Value);
    let changes: [(u32, &'static str, Change, FindingKind, u8); 15] = [
        (
            54,
            "size-lie-descriptor",
            |m| m["layers"][0]["size"] = json!(1),
            ObjectSizeMismatch,
            4,
        ),
        (
            57,
            "digest-md5 in a manifest",
            |m| m["config"]["digest"] = json!("md5:d41d8cd98f00b204e9800998ecf8427e"),
            ObjectMalformed,
            3,
        ),
        (
            57,
            "digest-dotdot in a manifest",
            |m| m["config"]["digest"] = json!("sha256:../../x"),
            ObjectMalformed,
            3,
        ),
        (
            58,
            "digest-sha512",
            |m| {
                let digest = Digest::compute(Algorithm::Sha512, b"layer of changed");
                m["layers"][0]["digest"] = json!(digest);
            },
            ObjectMissing,
            4,
        ),
        (
            62,
            "manifest-dual",
            |m| m["manifests"] = json!([]),
            TypeConfusion,
            3,
        ),
        (
            63,
            "mediatype-lie: another of its kind",
            |m| m["mediaType"] = json!(media_type::DOCKER_MANIFEST),
            MediaTypeMismatch,
            3,
        ),
        (
            63,
            "mediatype-lie: an index that is none",
            |m| m["mediaType"] = json!(media_type::IMAGE_INDEX),
            ObjectMalformed,
            3,
        ),
        (
            63,
            "schema 1",
            |m| *m = json!({"schemaVersion": 1, "name": "x"}),
            ObjectUnsupported,
            3,
        ),
        (
            64,
            "json-1.0-size",
            |m| m["layers"][0]["size"] = json!(1.0),
            ObjectMalformed,
            3,
        ),
        (
            64,
            "json-negative-size",
            |m| m["layers"][0]["size"] = json!(-1),
            ObjectMalformed,
            3,
        ),
        (
            66,
            "layer-missing: not listed",
            |m| m["layers"][0]["digest"] = json!(Digest::of(b"gone")),
            ObjectMissing,
            4,
        ),
        (
            66,
            "config-missing: not listed",
            |m| m["config"]["digest"] = json!(Digest::of(b"gone")),
            ObjectMissing,
            4,
        ),
        (
            66,
            "child-missing",
            |m| {
                *m = json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "config": m["config"], "layers": [
                Descriptor::of("a/b", b"gone")]});
            },
            ObjectMissing,
            4,
        ),
        (
            68,
            "foreign-url",
            |m| {
                let mut layer = json!(Descriptor::of("a/b", b"elsewhere"));
                layer["urls"] = json!(["https://elsewhere.example/layer"]);
                m["layers"][0] = layer;
            },
            ObjectMissing,
            4,
        ),
        (
            69,
            "embedded-data",
            |m| m["config"]["data"] = json!("e30="),
            EmbeddedDataMismatch,
            4,
        ),
    ];
    for (number, name, change, kind, exit_code) in changes {
        corpus.add(number, name, changed(change), kind, exit_code);
    }
    let malformed = [
        (
            "json-dup-key",
            image(|text| text.replacen('{', r#"{"schemaVersion":2,"#, 1).into_bytes()),
        ),
        (
            "json-trailing",
            image(|text| format!("{text}{{}}").into_bytes()),
        ),
        (
            "json-bom",
            image(|text| format!("\u{feff}{text}").into_bytes()),
        ),
        (
            "json-nan",
            image(|text| {
                text.replace("\"schemaVersion\":2", "\"schemaVersion\":NaN")
                    .into_bytes()
            }),
        ),
        (
            "json-depth",
            image(|text| {
                let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
                text.replacen('{', &format!(r#"{{"x":{deep},"#), 1)
                    .into_bytes()
            }),
        ),
    ];
    for (name, bytes) in malformed {
        corpus.add(64, name, bytes, ObjectMalformed, 3);
    }
    // In a member that nobody reads.
    let unread = |value: &[u8]| {
        let value = value.to_vec();
        image(move |text| [br#"{"x":"#, &value[..], b",", &text.as_bytes()[1..]].concat())
    };
    for (name, value) in [
        (
            "json-dup-key: in what nobody reads",
            &br#"[{"a":1,"b":2,"\u0061":3}]"#[..],
        ),
        ("json-invalid-utf8", b"\"\xc0\x80\""),
        ("json-lone-surrogate", br#""\ud800""#),
    ] {
        corpus.add(64, name, unread(value), ObjectMalformed, 3);
    }
    let dup = image(|text| {
        let annotations = r#"{"annotations":{"a":"1","a":"2"},"#;
        text.replacen('{', annotations, 1).into_bytes()
    });
    corpus.add(64, "json-dup-key: an annotation", dup, ObjectMalformed, 3);
    let schema = changed(|m| m["schemaVersion"] = json!(3));
    corpus.add(63, "schema 3", schema, ObjectUnsupported, 3);
    let float = changed(|m| m["schemaVersion"] = json!(2.0));
    corpus.add(64, "json-2.0-schemaVersion", float, ObjectMalformed, 3);
    listed(corpus);
    trust(corpus);
    let spaced = image(|text| {
        let value: Value = serde_json::from_str(text).unwrap();
        format!("\n  {}\t\n", serde_json::to_string_pretty(&value).unwrap()).into_bytes()
    });
    corpus.accepted(65, "json-noncanonical", spaced);
    let large = image(|text| format!("{text}{}", " ".repeat(5 << 20)).into_bytes());
    corpus.add(64, "a manifest of 5 MiB", large, ObjectBytes, 6);
    let escapes =
        changed(|m| m["annotations"] = json!({"a\u{1b}[2Jb\n": "\u{1b}]0;title\u{7}\u{202e}"}));
    corpus.accepted(92, "term-escape: annotations", escapes);
    let typed = changed(|m| m["mediaType"] = json!("application/\u{1b}[2J\u{202e}"));
    corpus.add(
        92,
        "term-escape: what a finding quotes",
        typed,
        ObjectUnsupported,
        3,
    );

    let mut deep = Fixture::empty();
    let mut level = deep.image("deep");
    for _ in 0..100 {
        let index =
            json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [level]});
        level = deep.put(media_type::IMAGE_INDEX, &index);
    }
    deep.add_image(&level);
    deep.discover(&level, &[]);
    deep.manifest.referrers.bare_images = 1;
    corpus.add(
        70,
        "100-deep index nest",
        packed(&deep.files()),
        IndexDepth,
        6,
    );
    // An index that lists itself: no digest is its own, so its content has to be forged.
    let mut cycle = Fixture::empty();
    let index = |digest: &Digest| {
        let own = Descriptor::new(media_type::IMAGE_INDEX, digest.clone(), 9_999);
        json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [own]})
            .to_string()
    };
    let forged = index(&Digest::of(b"placeholder"));
    let root = cycle.put_bytes(media_type::IMAGE_INDEX, forged.as_bytes());
    cycle.add_image(&root);
    cycle.discover(&root, &[]);
    cycle.manifest.referrers.bare_images = 1;
    let mut files = cycle.files();
    files.insert(blob(&root.digest), index(&root.digest).into_bytes());
    corpus.add(
        70,
        "cycle: an index that lists itself",
        packed(&files),
        EntryChecksumMismatch,
        4,
    );
}

/// An image and one referrer whose manifest is another one.
fn referrer(change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut fixture = Fixture::empty();
    let image = fixture.image("image");
    fixture.add_image(&image);
    let mut referrer = fixture.referrer_json(&image, CYCLONEDX, "sbom");
    change(&mut referrer);
    let referrer = fixture.put(media_type::IMAGE_MANIFEST, &referrer);
    fixture.discover(&image, &[(&referrer, Some(CYCLONEDX))]);
    packed(&fixture.files())
}

fn referrers(corpus: &mut Corpus) {
    let other = referrer(|r| r["subject"]["digest"] = json!(Digest::of(b"other")));
    corpus.add(71, "referrer-subject-mismatch", other, SubjectMismatch, 4);
    let absent = referrer(|r| drop(r.as_object_mut().unwrap().remove("subject")));
    corpus.add(
        72,
        "referrer-no-subject: absent",
        absent,
        ReferrerWithoutSubject,
        3,
    );
    let null = referrer(|r| r["subject"] = Value::Null);
    corpus.add(
        72,
        "referrer-no-subject: null",
        null,
        ReferrerWithoutSubject,
        3,
    );
    for (number, name, change) in [
        (
            73,
            "referrer-subject-size",
            (|r| r["subject"]["size"] = json!(1)) as fn(&mut Value),
        ),
        (73, "referrer-subject-mediaType", |r| {
            r["subject"]["mediaType"] = json!(media_type::IMAGE_INDEX)
        }),
    ] {
        corpus.add(number, name, referrer(change), SubjectDescriptorMismatch, 0);
    }
    let strict = corpus.add(
        73,
        "referrer-subject-size, strict",
        referrer(|r| r["subject"]["size"] = json!(1)),
        SubjectDescriptorMismatch,
        4,
    );
    strict.validator = strict.validator.clone().strict(true);
    let mut orphaned = Fixture::small();
    let gone = Descriptor::of(media_type::IMAGE_MANIFEST, b"gone");
    let orphan = orphaned.referrer(&gone, CYCLONEDX, "orphan");
    orphaned.discover(&gone, &[(&orphan, Some(CYCLONEDX))]);
    let orphaned = packed(&orphaned.files());
    corpus.add(74, "referrer-orphan", orphaned.clone(), OrphanedReferrer, 0);
    let strict = corpus.add(
        74,
        "referrer-orphan, strict",
        orphaned,
        OrphanedReferrer,
        11,
    );
    strict.validator = strict.validator.clone().strict(true);
    let typed = referrer(|r| r["artifactType"] = json!("a/b"));
    corpus.add(
        76,
        "referrer-artifactType-lie",
        typed,
        ArtifactTypeMismatch,
        4,
    );

    let mut nested = Fixture::small();
    let sbom = &nested.manifest.graph.discovery[0].artifacts[0];
    let sbom = Descriptor::new(&sbom.media_type, sbom.digest.clone(), sbom.size);
    let signature = nested.referrer(&sbom, SIGNATURE, "signature");
    nested.discover(&sbom, &[(&signature, Some(SIGNATURE))]);
    let nested = nested.files();
    corpus.accepted(77, "referrer-of-referrer", packed(&nested));
    // Two that name each other: the second one would have to be known before the first.
    let mut forged = nested;
    let swapped = String::from_utf8(forged[&blob(&sbom.digest)].clone()).unwrap();
    let subject = Fixture::small().manifest.graph.images[0].digest.to_string();
    let swapped = swapped.replace(&subject, &signature.digest.to_string());
    let paths: Vec<_> = forged
        .keys()
        .filter(|path| path.digest() == Some(&sbom.digest))
        .cloned()
        .collect();
    for path in paths {
        forged.insert(path, swapped.clone().into_bytes());
    }
    corpus.add(
        77,
        "referrer-cycle",
        packed(&forged),
        ReferrerChecksumMismatch,
        4,
    );

    let mut flood = Fixture::empty();
    let image = flood.image("image");
    flood.add_image(&image);
    let flooding: Vec<_> = (0..20)
        .map(|number| flood.referrer(&image, CYCLONEDX, &number.to_string()))
        .collect();
    let listed: Vec<_> = flooding.iter().map(|one| (one, Some(CYCLONEDX))).collect();
    flood.discover(&image, &listed);
    let flood = corpus.add(
        78,
        "referrer-flood",
        packed(&flood.files()),
        ReferrersPerSubject,
        6,
    );
    let mut limits = ValidationLimits::default();
    limits.max_referrers_per_subject = 19;
    flood.validator = flood.validator.clone().limits(limits);
    let mut graph = Fixture::full().files();
    let flood = corpus.add(
        78,
        "manifests without an end",
        packed(&graph),
        GraphBytes,
        6,
    );
    limits.max_graph_bytes = 1_000;
    flood.validator = flood.validator.clone().limits(limits);
    // Content that is read with a path of its own and never as the wanted one.
    graph.remove(&EntryPath::OCI_LAYOUT);
    let entries: Vec<_> = graph
        .iter()
        .map(|(path, bytes)| entry(&header(&path.to_string(), bytes.len()), bytes))
        .collect();
    corpus.add(
        60,
        "layout-missing in a plain tar",
        frame(&entries, Container::Tar),
        EntryMissing,
        4,
    );
}
