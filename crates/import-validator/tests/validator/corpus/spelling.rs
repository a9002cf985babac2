//! What the format has one spelling for, in another one.

use bundle_format::{Container, EntryPath, index_descriptors, index_json, referrers_tag_indexes};
use import_validator::FindingKind::{self, *};
use oci_content::{Descriptor, Digest, Manifest};

use super::Corpus;
use super::content::{image, packed, with_yaml};
use crate::fixture::{Fixture, header, pack, seal};

pub(super) fn rows(corpus: &mut Corpus) {
    index(corpus);
    referrers_tags(corpus);
    manifest_yaml(corpus);
    json(corpus);
    headers(corpus);
}

/// The smallest bundle with another text for `index.json`, which `manifest.yaml` lists as it is.
fn with_index(from: &str, to: &str) -> Vec<u8> {
    let mut fixture = Fixture::small();
    let index = fixture.clone().files()[&EntryPath::INDEX].clone();
    let text = String::from_utf8(index).unwrap();
    let index = text.replacen(from, to, 1);
    assert_ne!(index, text);
    fixture.list_with_index(index.as_bytes());
    packed(&fixture.listed_files(index.as_bytes()))
}

fn index(corpus: &mut Corpus) {
    for (name, from, to, kind) in [
        ("index: a blank", "\":", "\": ", IndexNotCanonical),
        (
            "index: a line feed at the end",
            "]}",
            "]}\n",
            IndexNotCanonical,
        ),
        (
            "index: an escaped slash",
            "team/app",
            "team\\/app",
            IndexNotCanonical,
        ),
        (
            "index: an escaped letter",
            "team",
            "t\\u0065am",
            IndexNotCanonical,
        ),
        (
            "index: an empty member",
            ",\"size\"",
            ",\"urls\":[],\"size\"",
            IndexNotCanonical,
        ),
        (
            "index: no mediaType",
            "\"mediaType\":\"application/vnd.oci.image.index.v1+json\",",
            "",
            IndexNotCanonical,
        ),
        (
            "index: a fraction",
            "\"schemaVersion\":2",
            "\"schemaVersion\":2.0",
            IndexMalformed,
        ),
        (
            "index: a member twice",
            "]}",
            "],\"schemaVersion\":2}",
            IndexMalformed,
        ),
        ("index: a byte order mark", "{", "\u{feff}{", IndexMalformed),
    ] {
        corpus.add(98, name, with_index(from, to), kind, 3);
    }
}

/// The full bundle with referrers tags, of which `change` makes others; each entry of `index.json` and what it points at.
fn with_tags(change: impl Fn(&mut Vec<(Descriptor, Vec<u8>)>)) -> Vec<u8> {
    let mut fixture = Fixture::full();
    fixture.list();
    let (images, discovery) = (
        &fixture.manifest.graph.images,
        &fixture.manifest.graph.discovery,
    );
    let own = |bytes: &Vec<u8>| Manifest::parse(bytes.clone().into(), None).ok();
    let own: Vec<_> = fixture.objects.values().filter_map(own).collect();
    let own: Vec<_> = own.iter().map(Manifest::descriptor).collect();
    let find = |digest: &Digest| own.iter().find(|own| own.digest == *digest);
    let mut tags = referrers_tag_indexes(images, discovery, find);
    assert!(tags.len() > 1);
    change(&mut tags);
    let mut listed = index_descriptors(images, discovery);
    for (entry, bytes) in tags {
        fixture.put_bytes(&entry.media_type, &bytes);
        listed.push(entry);
    }
    let index = index_json(&listed);
    fixture.list_with_index(&index);
    packed(&fixture.listed_files(&index))
}

fn referrers_tags(corpus: &mut Corpus) {
    corpus.accepted(98, "tags: of every subject", with_tags(|_| {}));
    let other_bytes = |from: &'static str, to: &'static str| {
        with_tags(move |tags| {
            let (entry, bytes) = &mut tags[0];
            let text = String::from_utf8(bytes.clone()).unwrap();
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            *bytes = changed.into_bytes();
            entry.digest = Digest::of(bytes);
            entry.size = bytes.len() as u64;
        })
    };
    let one_less = with_tags(|tags| drop(tags.pop()));
    corpus.add(98, "tags: one less", one_less, IndexEntryMissing, 3);
    let swapped = with_tags(|tags| {
        let names = [&tags[0], &tags[1]].map(|(entry, _)| entry.annotations.clone());
        let [first, second] = names;
        tags[0].0.annotations = second;
        tags[1].0.annotations = first;
    });
    corpus.add(98, "tags: two swapped", swapped, IndexEntryMissing, 3);
    let named = with_tags(|tags| {
        let key = "io.containerd.image.name".to_owned();
        tags[0].0.annotations.insert(key, "a.example/b:1".into());
    });
    corpus.add(
        98,
        "tags: with a name for containerd",
        named,
        IndexNotCanonical,
        3,
    );
    for (name, bytes) in [
        ("tags: an index with a blank", other_bytes("\":", "\": ")),
        (
            "tags: an index with a member more",
            other_bytes("]}", "],\"subject\":null}"),
        ),
        (
            "tags: an index of another artifact type",
            other_bytes("\"artifactType\":\"", "\"artifactType\":\"x"),
        ),
    ] {
        corpus.add(98, name, bytes, IndexEntryMissing, 3);
    }
}

fn manifest_yaml(corpus: &mut Corpus) {
    let created = |value: &'static str| {
        with_yaml(|yaml| yaml.replacen("referrers:", &format!("created: {value}\nreferrers:"), 1))
    };
    let source =
        |value: &str| with_yaml(|yaml| yaml.replacen("- referrers-api", &format!("- {value}"), 1));
    let replaced =
        |from: &'static str, to: &'static str| with_yaml(|yaml| yaml.replacen(from, to, 1));
    corpus.accepted(
        98,
        "created: a leap day",
        created("\"2024-02-29T23:59:59Z\""),
    );
    corpus.accepted(
        98,
        "sources: a name of 24",
        source(&format!("other:{}", "a".repeat(24))),
    );
    let cases: [(&'static str, Vec<u8>, FindingKind); 14] = [
        (
            "created: without quotes",
            created("2024-02-29T23:59:59Z"),
            ManifestNotCanonical,
        ),
        (
            "created: no day",
            created("\"2023-02-29T00:00:00Z\""),
            ManifestMalformed,
        ),
        (
            "created: a leap second",
            created("\"2016-12-31T23:59:60Z\""),
            ManifestMalformed,
        ),
        (
            "created: another zone",
            created("\"2024-02-29T00:00:00+00:00\""),
            ManifestMalformed,
        ),
        (
            "created: behind its place",
            replaced(
                "  by_category",
                "created: \"2024-02-29T00:00:00Z\"\n  by_category",
            ),
            ManifestMalformed,
        ),
        (
            "sources: a name of 25",
            source(&format!("other:{}", "a".repeat(25))),
            ManifestMalformed,
        ),
        ("sources: no name", source("other:"), ManifestMalformed),
        (
            "sources: a capital letter",
            source("other:A"),
            ManifestMalformed,
        ),
        (
            "sources: twice",
            source("referrers-api\n    - referrers-api"),
            ManifestInconsistent,
        ),
        (
            "sources: out of order",
            source("manifest\n    - referrers-api"),
            ManifestInconsistent,
        ),
        (
            "categories: a count of none",
            replaced("    sbom: 1\n", "    sbom: 1\n    vex: 0\n"),
            ManifestInconsistent,
        ),
        (
            "base: false",
            replaced("- path: index.json", "  base: false\n- path: index.json"),
            ManifestNotCanonical,
        ),
        (
            "host: without a dot",
            with_yaml(|yaml| yaml.replace("registry.example.com", "registry")),
            ManifestMalformed,
        ),
        (
            "host: a name that is completed",
            with_yaml(|yaml| yaml.replace("registry.example.com/team/app", "docker.io/app")),
            ManifestNotCanonical,
        ),
    ];
    for (name, bytes, kind) in cases {
        corpus.add(98, name, bytes, kind, 3);
    }
}

/// Manifests of images.
fn json(corpus: &mut Corpus) {
    let with = |member: &'static str| {
        image(move |text| format!("{},{member}}}", &text[..text.len() - 1]).into_bytes())
    };
    for (name, member) in [
        ("json: a name of half a character", r#""\ud800":1"#),
        (
            "json: a name twice, after its escape",
            r#""\u0063onfig":{}"#,
        ),
        ("json: a number beyond a double", r#""x":1e999"#),
        ("json: a number with a zero before it", r#""x":01"#),
        ("json: a tab in a text", "\"x\":\"\t\""),
        (
            "json: an annotation that is a number",
            r#""annotations":{"a":1}"#,
        ),
    ] {
        corpus.add(98, name, with(member), ObjectMalformed, 3);
    }
    for (name, member) in [
        ("json: an annotation of null", r#""annotations":{"a":null}"#),
        (
            "json: a name in capital letters is another",
            r#""SchemaVersion":1"#,
        ),
        (
            "json: a list of null that would be a second type",
            r#""manifests":null"#,
        ),
        ("json: both halves of a character", r#""x":"\ud83e\udd80""#),
    ] {
        corpus.accepted(98, name, with(member));
    }
    let parameter = image(|text| {
        text.replacen("manifest.v1+json", "manifest.v1+json; charset=utf-8", 1)
            .into_bytes()
    });
    corpus.add(
        98,
        "json: a media type with a parameter",
        parameter,
        ObjectUnsupported,
        3,
    );
    let deep = |levels: usize| {
        image(move |text| {
            let nested = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            text.replacen('{', &format!(r#"{{"x":{nested},"#), 1)
                .into_bytes()
        })
    };
    corpus.accepted(98, "json: 128 levels", deep(127));
    corpus.add(98, "json: 129 levels", deep(128), ObjectMalformed, 3);
}

fn headers(corpus: &mut Corpus) {
    let files = Fixture::small().files();
    let with = |change: fn(&mut [u8; 512])| {
        let entries: Vec<_> = files
            .iter()
            .map(|(path, bytes)| {
                let mut block = header(&path.to_string(), bytes.len());
                if *path == EntryPath::OCI_LAYOUT {
                    change(&mut block);
                    block = seal(block);
                }
                crate::fixture::entry(&block, bytes)
            })
            .collect();
        crate::fixture::frame(&entries, Container::TarGz)
    };
    assert_eq!(with(|_| {}), pack(&files, Container::TarGz));
    for (name, change) in [
        (
            "header: no type",
            (|block| block[156] = 0) as fn(&mut [u8; 512]),
        ),
        ("header: text behind the name", |block| block[90] = b'x'),
        ("header: blanks before the mode", |block| {
            block[100..107].copy_from_slice(b"   644 ")
        }),
        ("header: a byte at the end", |block| block[511] = 1),
    ] {
        corpus.add(98, name, with(change), NotCanonical, 3);
    }
}
