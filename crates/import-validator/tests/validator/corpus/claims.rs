//! Claims that only a second look finds false.

use std::collections::BTreeMap;

use bundle_format::{EntryPath, EntryRecord, SigningKey, index_descriptors, referrers_tag_indexes};
use import_validator::FindingKind::{self, *};
use oci_content::{Descriptor, Digest, Manifest, REF_NAME, media_type};
use serde_json::json;

use super::Corpus;
use super::content::{image, packed, with_yaml};
use crate::fixture::{Fixture, omit};
use crate::signature::KEY;

pub(super) fn rows(corpus: &mut Corpus) {
    manifest_yaml(corpus);
    omitted(corpus);
    index_json(corpus);
    referrers_tags(corpus);
    objects(corpus);
    trust(corpus);
    signatures(corpus);
}

fn manifest_yaml(corpus: &mut Corpus) {
    let replaced = |from: &str, to: &str| with_yaml(|yaml| yaml.replacen(from, to, 1));
    let created =
        |text: &str| replaced("sequence: 1\n", &format!("sequence: 1\ncreated: {text}\n"));
    let time = "2026-11-30T04:05:06Z";
    let quoted = format!("\"{time}\"");
    for (name, bytes) in [
        (
            "yaml-created: an escape",
            created(&quoted.replace('Z', "\\x5a")),
        ),
        (
            "yaml-zeros in front",
            replaced("sequence: 1", "sequence: 01"),
        ),
        ("yaml-no items", replaced("missing: []", "missing:")),
        (
            "yaml-escape of a letter",
            replaced("stream: default", "stream: \"d\\x65fault\""),
        ),
    ] {
        corpus.add(51, name, bytes, ManifestNotCanonical, 3);
    }
    for (name, bytes) in [
        (
            "yaml-created: before the sequence",
            replaced(
                "sequence: 1\n",
                &format!("created: {quoted}\nsequence: 1\n"),
            ),
        ),
        ("yaml-plus", replaced("sequence: 1", "sequence: +1")),
        ("yaml-blank behind", replaced("sequence: 1", "sequence: 1 ")),
        ("yaml-tab", replaced("  total: 1", "\ttotal: 1")),
        (
            "yaml-end of a document",
            with_yaml(|yaml| format!("{yaml}...\n")),
        ),
        ("yaml-an empty line", with_yaml(|yaml| format!("{yaml}\n"))),
        (
            "yaml-no last line feed",
            with_yaml(|yaml| yaml.trim_end().to_owned()),
        ),
        (
            "yaml-half of a surrogate pair",
            replaced("stream: default", "stream: \"\\ud800\""),
        ),
        (
            "a source that is none",
            replaced("- referrers-api", "- referrers"),
        ),
        (
            "a method that is none",
            replaced("method: native", "method: tag"),
        ),
    ] {
        corpus.add(51, name, bytes, ManifestMalformed, 3);
    }
    for (name, bytes) in [
        (
            "no source",
            replaced("    sources:\n    - referrers-api\n", "    sources: []\n"),
        ),
        (
            "a legacy tag without its name",
            replaced("- referrers-api", "- legacy-tag"),
        ),
        (
            "a code in capitals",
            replaced("missing: []", "missing:\n  - code: Denied"),
        ),
        (
            "something missing twice",
            replaced(
                "missing: []",
                "missing:\n  - code: denied\n  - code: denied",
            ),
        ),
        (
            "a source of what is missing that is none",
            replaced(
                "missing: []",
                "missing:\n  - code: denied\n    source: cache",
            ),
        ),
        ("a base by SHA-512", {
            let base = format!("sequence: 1\nbase: sha512:{:0128}\n", 0);
            replaced("sequence: 1\n", &base)
        }),
        ("a referrer of 2^64 - 1 bytes", {
            let small = Fixture::small();
            let own = small.manifest.graph.discovery[0].artifacts[0].size;
            let line = |size: u64| format!("    size: {size}\n    category");
            replaced(&line(own), &line(u64::MAX))
        }),
    ] {
        corpus.add(96, name, bytes, ManifestInconsistent, 3);
    }
}

/// An index with one child that the bundle holds and one that it does not.
fn partial() -> (Fixture, Descriptor, Descriptor) {
    let mut fixture = Fixture::empty();
    let (here, gone) = (
        fixture.image("here"),
        Descriptor::of(media_type::IMAGE_MANIFEST, b"gone"),
    );
    let index = json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [here, gone]});
    let index = fixture.put(media_type::IMAGE_INDEX, &index);
    fixture.add_image(&index);
    omit(&mut fixture.manifest.graph.images[0], &gone.digest);
    fixture.discover(&index, &[]);
    fixture.discover(&here, &[]);
    fixture.manifest.referrers.bare_images = 1;
    (fixture, index, gone)
}

fn omitted(corpus: &mut Corpus) {
    corpus.accepted(93, "omitted: what it lists", packed(&partial().0.files()));
    let mut silent = partial().0;
    silent.manifest.graph.images[0].omitted.clear();
    corpus.add(
        93,
        "omitted: nothing is said",
        packed(&silent.files()),
        ObjectMissing,
        4,
    );

    let (mut other, _, gone) = partial();
    let complete = other.image("complete");
    other.add_image(&complete);
    other.manifest.graph.images[1].reference = "registry.example.com/team/app:2.0".parse().unwrap();
    omit(&mut other.manifest.graph.images[1], &gone.digest);
    other.discover(&complete, &[]);
    other.manifest.referrers.bare_images = 2;
    let other = packed(&other.files());
    corpus.add(
        93,
        "omitted: by an image that does not list it",
        other,
        ManifestInconsistent,
        3,
    );

    let (mut referrer, index, gone) = partial();
    let lacking = json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "artifactType": "a/b",
        "manifests": [gone], "subject": index});
    let lacking = referrer.put(media_type::IMAGE_INDEX, &lacking);
    referrer.manifest.graph.discovery.clear();
    referrer.discover(&index, &[(&lacking, Some("a/b"))]);
    referrer.manifest.referrers.bare_images = 0;
    let referrer = packed(&referrer.files());
    corpus.add(
        93,
        "omitted: a referrer lacks it as well",
        referrer,
        ObjectMissing,
        4,
    );

    let mut layer = Fixture::empty();
    let bare = layer.image("bare");
    let gone = Digest::of(b"layer of bare");
    layer.objects.remove(&gone);
    layer.add_image(&bare);
    omit(&mut layer.manifest.graph.images[0], &gone);
    layer.discover(&bare, &[]);
    layer.manifest.referrers.bare_images = 1;
    let layer = packed(&layer.files());
    corpus.add(
        93,
        "omitted: a layer of an image",
        layer,
        ManifestInconsistent,
        3,
    );
}

/// The smallest bundle with other bytes in `index.json`, which `manifest.yaml` lists as they are.
fn with_index_bytes(change: impl Fn(String) -> Vec<u8>) -> Vec<u8> {
    let mut fixture = Fixture::small();
    let index = fixture.clone().files()[&EntryPath::INDEX].clone();
    let index = change(String::from_utf8(index).unwrap());
    fixture.list_with_index(&index);
    packed(&fixture.listed_files(&index))
}

fn replaced_once(text: &str, from: &str, to: &str) -> Vec<u8> {
    assert!(text.contains(from));
    text.replacen(from, to, 1).into_bytes()
}

fn index_json(corpus: &mut Corpus) {
    let replaced = |from, to| with_index_bytes(|index| replaced_once(&index, from, to));
    for (name, bytes) in [
        (
            "index-bad: annotations of its own",
            replaced("{", "{\"annotations\":{},"),
        ),
        (
            "index-bad: the referrer first",
            with_index_bytes(|index| {
                let (head, list) = index.split_once("\"manifests\":[").unwrap();
                let (image, referrer) = list.split_once("}},").unwrap();
                let referrer = referrer.strip_suffix("]}").unwrap();
                format!("{head}\"manifests\":[{referrer},{image}}}}}]}}").into_bytes()
            }),
        ),
    ] {
        corpus.add(61, name, bytes, IndexNotCanonical, 3);
    }
    for (name, bytes) in [
        (
            "index-bad: version 3",
            replaced("\"schemaVersion\":2", "\"schemaVersion\":3"),
        ),
        (
            "index-bad: capitals",
            replaced("\"manifests\"", "\"Manifests\""),
        ),
        (
            "index-bad: a second document",
            with_index_bytes(|index| index.repeat(2).into_bytes()),
        ),
        (
            "index-bad: not UTF-8",
            with_index_bytes(|index| {
                let at = index.find("team").unwrap();
                [
                    &index.as_bytes()[..at],
                    b"\xc0\xaf",
                    &index.as_bytes()[at..],
                ]
                .concat()
            }),
        ),
    ] {
        corpus.add(61, name, bytes, IndexMalformed, 3);
    }
    let named = with_index_bytes(|index| {
        let sbom = ",\"artifactType\"";
        assert!(index.contains(sbom));
        let name = format!(",\"annotations\":{{\"{REF_NAME}\":\"sbom\"}}{sbom}");
        index.replacen(sbom, &name, 1).into_bytes()
    });
    corpus.add(
        61,
        "index-bad: a name for a referrer",
        named,
        IndexEntryMissing,
        3,
    );
}

/// The smallest bundle with referrers tags, of whose one index the list is changed.
fn tagged(change: impl Fn(&str) -> String) -> Vec<u8> {
    let mut fixture = Fixture::small();
    let sbom = &fixture.manifest.graph.discovery[0].artifacts[0].digest;
    let sbom = Manifest::parse(fixture.objects[sbom].clone().into(), None);
    let sbom = sbom.unwrap().descriptor();
    let (images, discovery) = (
        &fixture.manifest.graph.images,
        &fixture.manifest.graph.discovery,
    );
    let mut tags = referrers_tag_indexes(images, discovery, |_| Some(&sbom));
    let (mut listed, index) = tags.remove(0);
    let index = String::from_utf8(index).unwrap();
    let (head, list) = index.split_once('[').unwrap();
    let list = change(list.strip_suffix("]}").unwrap());
    let index = format!("{head}[{list}]}}");
    let own = Descriptor::of(media_type::IMAGE_INDEX, index.as_bytes());
    (listed.digest, listed.size) = (own.digest.clone(), own.size);
    let mut all = index_descriptors(images, discovery);
    all.push(listed);
    fixture.objects.insert(own.digest, index.into_bytes());
    let layout = bundle_format::index_json(&all);
    fixture.list_with_index(&layout);
    packed(&fixture.listed_files(&layout))
}

fn referrers_tags(corpus: &mut Corpus) {
    corpus.accepted(90, "tag-index: the right one", tagged(str::to_owned));
    let image = &Fixture::small().manifest.graph.images[0];
    let image = Descriptor::new(&image.media_type, image.digest.clone(), image.size);
    let image = json!(image).to_string();
    for (name, bytes) in [
        ("tag-index: nothing in it", tagged(|_| String::new())),
        (
            "tag-index: a referrer twice",
            tagged(|list| format!("{list},{list}")),
        ),
        (
            "tag-index: the image as well",
            tagged(|list| format!("{list},{image}")),
        ),
        (
            "tag-index: no artifact type",
            tagged(|list| {
                let (head, _) = list.split_once(",\"artifactType\"").unwrap();
                format!("{head}}}")
            }),
        ),
    ] {
        corpus.add(90, name, bytes, IndexEntryMissing, 3);
    }
}

fn objects(corpus: &mut Corpus) {
    let unread = |value: &[u8]| {
        let value = value.to_vec();
        image(move |text| [br#"{"x":"#, &value[..], b",", &text.as_bytes()[1..]].concat())
    };
    for (name, value) in [
        ("json-half of a pair as UTF-8", &b"\"\xed\xa0\x80\""[..]),
        ("json-line feed in a text", b"\"a\nb\""),
        ("json-escape of hex", br#""\x41""#),
        ("json-no digit before the point", b".5"),
        ("json-comma behind the last", b"[1,]"),
    ] {
        corpus.add(64, name, unread(value), ObjectMalformed, 3);
    }
    let replaced = |from, to| image(|text| replaced_once(text, from, to));
    for (name, bytes) in [
        (
            "json-version as text",
            replaced("\"schemaVersion\":2", "\"schemaVersion\":\"2\""),
        ),
        (
            "json-version with an exponent",
            replaced("\"schemaVersion\":2", "\"schemaVersion\":2e0"),
        ),
        (
            "json-no version",
            replaced("\"schemaVersion\":2", "\"version\":2"),
        ),
        (
            "json-a list around it",
            image(|text| format!("[{text}]").into_bytes()),
        ),
        (
            "json-form feed",
            image(|text| format!("\u{c}{text}").into_bytes()),
        ),
        (
            "json-UTF-16",
            image(|text| text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ),
    ] {
        corpus.add(64, name, bytes, ObjectMalformed, 3);
    }
    let typed = |suffix: &'static str| {
        image(move |text| {
            let own = media_type::IMAGE_MANIFEST;
            text.replacen(&format!("{own}\""), &format!("{own}{suffix}\""), 1)
                .into_bytes()
        })
    };
    corpus.add(
        63,
        "mediatype-lie: a blank",
        typed(" "),
        ObjectUnsupported,
        3,
    );
    let version = replaced("\"schemaVersion\":2", "\"schemaVersion\":0");
    corpus.add(63, "schema 0", version, ObjectUnsupported, 3);
}

fn trust(corpus: &mut Corpus) {
    let with = |bytes: &[u8]| {
        let mut fixture = Fixture::small();
        fixture.list();
        let path = EntryPath::trust("cosign.pub".parse().unwrap());
        fixture
            .manifest
            .entries
            .push(EntryRecord::of(path.clone(), bytes));
        fixture.manifest.settle(0);
        (fixture, path)
    };
    let index = Fixture::small().files()[&EntryPath::INDEX].clone();
    let (mut fixture, path) = with(&vec![0; 1 << 20]);
    let mut files = fixture.listed_files(&index);
    files.insert(path, vec![0; 1 << 20]);
    corpus.accepted(97, "trust: 1 MiB", packed(&files));
    fixture = with(b"a key").0;
    let listed = fixture.manifest.to_yaml().unwrap();
    let listed = String::from_utf8(listed).unwrap();
    let mut add = |name, from: &str, to: &str, kind: FindingKind| {
        assert!(listed.contains(from));
        let mut files: BTreeMap<_, _> = Fixture::small().files();
        let yaml = listed.replacen(from, to, 1);
        files.insert(EntryPath::MANIFEST, yaml.into_bytes());
        corpus.add(97, name, packed(&files), kind, 3);
    };
    let sized = |size: usize| format!("trust/cosign.pub\n  size: {size}\n");
    let large = sized((1 << 20) + 1);
    add(
        "trust: 1 MiB and a byte",
        &sized(5),
        &large,
        ManifestInconsistent,
    );
    for (name, device) in [
        ("trust: a device", "trust/con.pub"),
        ("trust: a device without its number", "trust/com"),
        ("trust: a file of the bundle", "trust/index.json"),
        ("trust: a folder in it", "trust/a/b"),
    ] {
        add(name, "trust/cosign.pub", device, ManifestMalformed);
    }
}

fn signatures(corpus: &mut Corpus) {
    let key = SigningKey::from_pem(KEY).unwrap();
    let files = Fixture::small().files();
    let good = String::from_utf8(key.sign(&files[&EntryPath::MANIFEST])).unwrap();
    let (_, rest) = good.split_once("\"signature\":\"").unwrap();
    let own = rest.split('"').next().unwrap().to_owned();
    let with = |signature: &[u8]| {
        let mut files = files.clone();
        files.insert(EntryPath::SIGNATURE, signature.to_vec());
        packed(&files)
    };
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from));
        with(good.replacen(from, to, 1).as_bytes())
    };
    // SEQUENCE { INTEGER 1, INTEGER n - 1 }: of the two values of s the larger one.
    let high = "MCYCAQECIQD/////AAAAAP//////////vOb6racXnoTzucrC/GMlUA==";
    corpus.accepted(94, "sig-form: the larger s", replaced(&own, high));
    for (name, der) in [
        ("sig-form: a negative integer", "MAYCAYECAQE="),
        ("sig-form: three integers", "MAkCAQECAQECAQE="),
        ("sig-form: an integer as large as the order", {
            "MCYCIQD/////AAAAAP//////////vOb6racXnoTzucrC/GMlUQIBAQ=="
        }),
        ("sig-form: 64 bytes", {
            "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=="
        }),
    ] {
        corpus.add(94, name, replaced(&own, der), SignatureInvalid, 5);
    }
    let (half, other_half) = own.split_at(40);
    for (name, bytes) in [
        (
            "sig-form: bits behind the last byte",
            replaced(&own, "MAYCAQECAQF="),
        ),
        (
            "sig-form: a line feed in base64",
            replaced(&own, &format!("{half}\\n{other_half}")),
        ),
        (
            "sig-form: an escaped slash",
            replaced("application/", "application\\/"),
        ),
        ("sig-form: UTF-16", {
            let units = good.encode_utf16().flat_map(u16::to_le_bytes);
            with(&units.collect::<Vec<_>>())
        }),
        ("sig-form: DER", with(&[0x30, 6, 2, 1, 1, 2, 1, 1])),
        ("sig-form: base64", with(own.as_bytes())),
    ] {
        corpus.add(94, name, bytes, SignatureMalformed, 5);
    }
}
