//! Bundles whose framing is right and whose statements are not: the rows of a hostile corpus that only a reader of
//! the whole bundle can tell.

use std::collections::BTreeMap;

use bundle_format::{Container, EntryPath, EntryRecord, Limits};
use import_validator::{FindingKind, ImportValidator, Report, ValidationLimits};
use oci_content::{Descriptor, Digest, Manifest, REF_NAME, media_type};
use serde_json::{Value, json};

use crate::fixture::{Fixture, omit, pack};

type Files = BTreeMap<EntryPath, Vec<u8>>;

fn validate(files: &Files) -> Report {
    let bytes = pack(files, Container::TarGz);
    ImportValidator::new()
        .check_referrers(true)
        .validate("bundle", &*bytes)
}

/// Asserts which kinds are found, in the order of the stages, and the exit code.
#[track_caller]
fn assert_found(files: &Files, kinds: &[FindingKind], exit_code: u8) {
    let report = validate(files);
    let found: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(found, kinds, "{:#?}", report.findings);
    assert_eq!(report.exit_code(), exit_code);
    assert_eq!(report.ok, exit_code == 0);
}

fn blob(digest: &Digest) -> EntryPath {
    EntryPath::blob(digest).unwrap()
}

/// The path of the first referrer's manifest.
fn referrer(files: &Files) -> EntryPath {
    let mut paths = files.keys();
    paths
        .find(|path| path.to_string().starts_with("referrers/"))
        .unwrap()
        .clone()
}

#[test]
fn a_file_that_is_listed_and_not_there_is_missing() {
    let mut files = Fixture::small().files();
    let path = referrer(&files);
    files.remove(&path);
    assert_found(&files, &[FindingKind::ReferrerMissing], 4);
    for digest in Fixture::small().objects.into_keys() {
        let mut files = Fixture::small().files();
        files.remove(&blob(&digest));
        assert_found(&files, &[FindingKind::EntryMissing], 4);
    }
    for path in [EntryPath::INDEX, EntryPath::OCI_LAYOUT] {
        let mut files = Fixture::small().files();
        files.remove(&path);
        assert_found(&files, &[FindingKind::EntryMissing], 4);
    }
}

#[test]
fn a_file_that_is_there_and_not_listed_is_an_error() {
    let mut files = Fixture::small().files();
    files.insert(blob(&Digest::of(b"extra")), b"extra".to_vec());
    assert_found(&files, &[FindingKind::EntryNotListed], 4);
    let mut files = Fixture::small().files();
    let subject = Digest::of(b"subject");
    files.insert(
        EntryPath::referrer(&subject, &subject).unwrap(),
        b"subject".to_vec(),
    );
    assert_found(&files, &[FindingKind::EntryNotListed], 4);
}

#[test]
fn a_file_of_another_size_or_content_is_an_error() {
    let files = Fixture::small().files();
    for (path, content) in files
        .iter()
        .filter(|(path, _)| **path != EntryPath::MANIFEST)
    {
        let is_referrer = *path == referrer(&files);
        let (size, checksum) = if is_referrer {
            (
                FindingKind::ReferrerSizeMismatch,
                FindingKind::ReferrerChecksumMismatch,
            )
        } else {
            (
                FindingKind::EntrySizeMismatch,
                FindingKind::EntryChecksumMismatch,
            )
        };
        let mut longer = files.clone();
        longer.insert(path.clone(), [&content[..], b"x"].concat());
        assert_found(&longer, &[size], 4);
        let mut other = files.clone();
        other.insert(path.clone(), vec![b'x'; content.len()]);
        assert_found(&other, &[checksum], 4);
    }
}

/// Makes `manifest.yaml` say something else than the writer would.
fn with_yaml(change: impl Fn(&str) -> String) -> Files {
    let mut files = Fixture::small().files();
    let yaml = String::from_utf8(files[&EntryPath::MANIFEST].clone()).unwrap();
    files.insert(EntryPath::MANIFEST, change(&yaml).into_bytes());
    files
}

#[test]
fn a_list_that_cannot_be_read_ends_the_validation() {
    let replaced =
        |from: &'static str, to: &'static str| with_yaml(move |yaml| yaml.replace(from, to));
    let cases = [
        (
            replaced("bundle/v1", "bundle/v9"),
            FindingKind::ManifestVersion,
        ),
        (
            replaced("stream: default", "stream: &a default"),
            FindingKind::ManifestMalformed,
        ),
        (
            replaced("stream: default", "stream: \"default\""),
            FindingKind::ManifestNotCanonical,
        ),
        (
            replaced("  total: 1", "  total: 2"),
            FindingKind::ManifestInconsistent,
        ),
        (
            with_yaml(|yaml| format!("{yaml}# end\n")),
            FindingKind::ManifestMalformed,
        ),
        (
            with_yaml(|yaml| yaml.replace('\n', "\r\n")),
            FindingKind::ManifestMalformed,
        ),
        (
            with_yaml(|_| "a: &x [*x, *x]\n".repeat(1_000)),
            FindingKind::ManifestMalformed,
        ),
        (
            with_yaml(|_| "[".repeat(20_000)),
            FindingKind::ManifestMalformed,
        ),
    ];
    for (files, kind) in cases {
        assert_found(&files, &[kind], 3);
    }
    let files = replaced("bundle/v1", "bundle/v9");
    let finding = &validate(&files).findings[0];
    assert!(
        finding.found.as_ref().unwrap().starts_with("line 1: "),
        "{finding}"
    );
}

#[test]
fn the_layout_marker_and_the_index_have_to_be_what_they_are() {
    use FindingKind::*;
    let with_index = |change: fn(&mut Value)| {
        let mut fixture = Fixture::small();
        let files = fixture.clone().files();
        let mut index: Value = serde_json::from_slice(&files[&EntryPath::INDEX]).unwrap();
        change(&mut index);
        let index = index.to_string().into_bytes();
        fixture.list_with_index(&index);
        fixture.listed_files(&index)
    };
    // Only the order of the members changes.
    assert_found(&with_index(|_| {}), &[IndexNotCanonical], 3);
    type Change = fn(&mut Value);
    let cases: [(Change, &[FindingKind], u8); 12] = [
        (|index| *index = Value::Null, &[IndexMalformed], 3),
        (
            |index| index["manifests"] = Value::Null,
            &[IndexMalformed],
            3,
        ),
        (
            |index| index["schemaVersion"] = json!(1),
            &[IndexMalformed],
            3,
        ),
        (
            |index| index["mediaType"] = json!("a/b"),
            &[IndexMalformed],
            3,
        ),
        (
            |index| index["manifests"][0]["digest"] = json!("sha256:../../x"),
            &[IndexMalformed],
            3,
        ),
        (
            |index| index["manifests"] = json!([]),
            &[IndexEntryMissing, IndexEntryMissing],
            3,
        ),
        (
            |index| drop(index["manifests"].as_array_mut().unwrap().pop()),
            &[IndexEntryMissing],
            3,
        ),
        (
            |index| index["manifests"][0]["annotations"][REF_NAME] = json!("2.0"),
            &[IndexEntryMissing, IndexEntryUnexpected],
            3,
        ),
        (
            |index| {
                let sbom = index["manifests"][1]["digest"].clone();
                index["manifests"][0]["digest"] = sbom;
            },
            &[IndexEntryMissing, ReferenceConflict, ObjectSizeMismatch],
            3,
        ),
        (
            |index| index["manifests"][0]["size"] = json!(1),
            &[ObjectSizeMismatch],
            4,
        ),
        (
            |index| index["manifests"][0]["mediaType"] = json!(media_type::IMAGE_INDEX),
            &[MediaTypeMismatch],
            3,
        ),
        (
            |index| {
                let gone = Descriptor::of(media_type::IMAGE_MANIFEST, b"gone");
                index["manifests"].as_array_mut().unwrap().push(json!(gone));
            },
            &[IndexEntryUnexpected, ObjectMissing],
            3,
        ),
    ];
    for (number, (change, kinds, exit_code)) in cases.into_iter().enumerate() {
        eprintln!("case {number}");
        assert_found(&with_index(change), kinds, exit_code);
    }
    let mut fixture = Fixture::small();
    fixture.list();
    let marker = br#"{"imageLayoutVersion":"2.0.0"}"#;
    let index = fixture.clone().files()[&EntryPath::INDEX].clone();
    let entry = fixture.manifest.entries.last_mut().unwrap();
    *entry = EntryRecord::of(EntryPath::OCI_LAYOUT, marker);
    let mut files = fixture.listed_files(&index);
    files.insert(EntryPath::OCI_LAYOUT, marker.to_vec());
    assert_found(&files, &[LayoutMarker], 3);
}

/// `Fixture::full` with the indexes of referrers that a writer may add, changed before they are stored.
fn with_referrers_tags(change: impl Fn(&mut Vec<(Descriptor, Vec<u8>)>)) -> Files {
    let mut fixture = Fixture::full();
    let manifests: BTreeMap<_, _> = fixture
        .objects
        .iter()
        .filter_map(|(digest, bytes)| {
            Some((
                digest.clone(),
                Manifest::parse(bytes.clone().into(), None).ok()?,
            ))
        })
        .map(|(digest, manifest)| (digest, manifest.descriptor()))
        .collect();
    fixture.list();
    let (images, discovery) = (
        &fixture.manifest.graph.images,
        &fixture.manifest.graph.discovery,
    );
    let mut entries = bundle_format::index_descriptors(images, discovery);
    let mut tags =
        bundle_format::referrers_tag_indexes(images, discovery, |digest| manifests.get(digest));
    change(&mut tags);
    for (entry, bytes) in tags {
        fixture.objects.insert(entry.digest.clone(), bytes);
        entries.push(entry);
    }
    let index = bundle_format::index_json(&entries);
    fixture.list_with_index(&index);
    fixture.listed_files(&index)
}

/// Makes an entry point at other bytes.
fn point(entry: &mut (Descriptor, Vec<u8>), bytes: Vec<u8>) {
    let mut other = Descriptor::of(media_type::IMAGE_INDEX, &bytes);
    other.annotations = std::mem::take(&mut entry.0.annotations);
    *entry = (other, bytes);
}

#[test]
fn referrers_tags_of_a_layout_are_all_there_and_hold_what_they_have_to_or_none_is() {
    use FindingKind::{IndexEntryMissing, IndexEntryUnexpected, ReferenceConflict};
    assert_found(&with_referrers_tags(|_| {}), &[], 0);
    let one_less = with_referrers_tags(|tags| drop(tags.pop()));
    assert_found(&one_less, &[IndexEntryMissing], 3);
    let stranger = with_referrers_tags(|tags| {
        let mut other = tags[0].clone();
        let tag = oci_content::referrers_tag(&Digest::of(b"stranger")).to_string();
        other.0.annotations.insert(REF_NAME.into(), tag);
        tags.push(other);
    });
    assert_found(&stranger, &[IndexEntryUnexpected], 3);
    // An empty list, the list in other bytes, and something that is no list.
    for bytes in [
        json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": []})
            .to_string(),
        "spaced".to_owned(),
        "hello".to_owned(),
    ] {
        let other = with_referrers_tags(|tags| {
            let bytes = match &*bytes {
                "spaced" => [&tags[0].1[..], b" "].concat(),
                bytes => bytes.as_bytes().to_vec(),
            };
            point(&mut tags[0], bytes);
        });
        let report = validate(&other);
        let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
        assert_eq!(
            kinds[..2],
            [IndexEntryMissing, ReferenceConflict],
            "{bytes}"
        );
        assert_eq!(report.exit_code(), 3);
    }
}

#[test]
fn an_index_has_the_bytes_that_the_list_determines_and_no_others() {
    let with = |change: &dyn Fn(String) -> String| {
        let mut fixture = Fixture::small();
        let index = String::from_utf8(fixture.clone().files()[&EntryPath::INDEX].clone()).unwrap();
        let changed = change(index.clone());
        assert_ne!(changed, index);
        fixture.list_with_index(changed.as_bytes());
        fixture.listed_files(changed.as_bytes())
    };
    let replaced = |from: &'static str, to: &'static str| {
        move |index: String| {
            assert!(index.contains(from));
            index.replacen(from, to, 1)
        }
    };
    let name = r#""io.containerd.image.name":"registry.example.com/team/app:1.0""#;
    let changes: [&dyn Fn(String) -> String; 9] = [
        &|index| format!("{index}\n"),
        &replaced(":2,", ": 2,"),
        &replaced("schemaVersion", "\\u0073chemaVersion"),
        &replaced(
            r#""schemaVersion":2,"#,
            r#""schemaVersion":2,"annotations":{},"#,
        ),
        &replaced(
            r#""mediaType":"application/vnd.oci.image.index.v1+json","#,
            "",
        ),
        &replaced(
            name,
            r#""io.containerd.image.name":"registry.example.com/team/other:1.0""#,
        ),
        &replaced(
            name,
            r#""io.containerd.image.name":"registry.example.com/team/app:1.0","x":"y""#,
        ),
        &replaced(r#","artifactType":"application/vnd.cyclonedx+json""#, ""),
        &|index| {
            let mut value: Value = serde_json::from_str(&index).unwrap();
            value["manifests"].as_array_mut().unwrap().reverse();
            serde_json::to_string(&value).unwrap()
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        eprintln!("case {number}");
        assert_found(&with(change), &[FindingKind::IndexNotCanonical], 3);
    }
}

#[test]
fn everything_that_a_manifest_needs_has_to_be_listed() {
    // A blob that neither the bundle holds nor manifest.yaml lists.
    for needed in ["layer of small", "{\"payload\":\"sbom\"}", "{}"] {
        let mut fixture = Fixture::small();
        fixture
            .objects
            .remove(&Digest::of(needed.as_bytes()))
            .unwrap();
        assert_found(&fixture.files(), &[FindingKind::ObjectMissing], 4);
    }
    let mut fixture = Fixture::small();
    fixture.put_bytes("a/b", b"nobody needs this");
    let files = fixture.files();
    assert_found(&files, &[FindingKind::UnreferencedObject], 0);
}

/// An image of one layer whose manifest is changed before it is stored.
fn changed_image(change: impl Fn(&mut Value)) -> Files {
    let mut fixture = Fixture::empty();
    let original = fixture.image("changed");
    let bytes = fixture.objects.remove(&original.digest).unwrap();
    let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
    change(&mut manifest);
    let image = fixture.put(media_type::IMAGE_MANIFEST, &manifest);
    fixture.add_image(&image);
    fixture.discover(&image, &[]);
    fixture.manifest.referrers.bare_images = 1;
    fixture.files()
}

#[test]
fn a_manifest_that_lies_is_found_out() {
    use FindingKind::*;
    assert_found(&changed_image(|_| {}), &[], 0);
    type Change = fn(&mut Value);
    let cases: [(Change, &[FindingKind], u8); 12] = [
        (
            |m| m["layers"][0]["size"] = json!(1),
            &[ObjectSizeMismatch],
            4,
        ),
        (
            |m| m["config"]["data"] = json!("e30="),
            &[EmbeddedDataMismatch],
            4,
        ),
        (
            |m| m["mediaType"] = json!(media_type::IMAGE_INDEX),
            &[ObjectMalformed],
            3,
        ),
        (
            |m| m["mediaType"] = json!(media_type::DOCKER_MANIFEST),
            &[MediaTypeMismatch],
            3,
        ),
        (|m| m["manifests"] = json!([]), &[TypeConfusion], 3),
        (
            |m| *m = json!({"schemaVersion": 1, "name": "x"}),
            &[ObjectUnsupported],
            3,
        ),
        (|m| *m = json!([]), &[ObjectMalformed], 3),
        (
            |m| m["config"]["digest"] = json!("md5:d41d8cd98f00b204e9800998ecf8427e"),
            &[ObjectMalformed],
            3,
        ),
        (
            |m| m["layers"][0]["size"] = json!(-1),
            &[ObjectMalformed],
            3,
        ),
        (
            |m| m["layers"][0]["size"] = json!(1.5),
            &[ObjectMalformed],
            3,
        ),
        (
            |m| m["layers"][0]["digest"] = json!(format!("sha512:{}", "a".repeat(128))),
            &[ObjectMissing, UnreferencedObject],
            4,
        ),
        (
            |m| {
                // A layer that its registry does not have, and that is to be had elsewhere: never asked.
                let mut layer = json!(Descriptor::of("a/b", b"elsewhere"));
                layer["urls"] = json!(["https://elsewhere.example/layer"]);
                m["layers"][0] = layer;
            },
            &[ObjectMissing, UnreferencedObject],
            4,
        ),
    ];
    for (number, (change, kinds, exit_code)) in cases.into_iter().enumerate() {
        eprintln!("case {number}");
        assert_found(&changed_image(change), kinds, exit_code);
    }
}

#[test]
fn a_manifest_keeps_its_bytes_however_they_are_spaced() {
    let mut fixture = Fixture::empty();
    let original = fixture.image("spaced");
    let bytes = fixture.objects.remove(&original.digest).unwrap();
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    let spaced = format!("\n  {}\t\n", serde_json::to_string_pretty(&value).unwrap());
    let image = fixture.put_bytes(media_type::IMAGE_MANIFEST, spaced.as_bytes());
    fixture.add_image(&image);
    fixture.discover(&image, &[]);
    fixture.manifest.referrers.bare_images = 1;
    assert_found(&fixture.files(), &[], 0);
}

#[test]
fn children_may_be_left_out_only_where_the_image_says_so() {
    use FindingKind::*;
    let without_arm64 = |omitted: bool| {
        let mut fixture = Fixture::full();
        let arm64 = fixture.clone().image("arm64");
        for digest in [
            arm64.digest.clone(),
            Digest::of(b"layer of arm64"),
            crate::fixture::digest_of(
                &json!({"architecture": "amd64", "os": "linux", "config": {"Labels": {"seed": "arm64"}}}),
            ),
        ] {
            fixture.objects.remove(&digest).unwrap();
        }
        if omitted {
            omit(&mut fixture.manifest.graph.images[0], &arm64.digest);
        }
        fixture.files()
    };
    assert_found(&without_arm64(false), &[ObjectMissing], 4);
    assert_found(&without_arm64(true), &[], 0);
}

#[test]
fn an_image_leaves_out_what_it_lists_and_the_bundle_does_not_hold() {
    use FindingKind::*;
    let claims = |claim: &dyn Fn(&mut Fixture) -> Digest| {
        let mut fixture = Fixture::full();
        let digest = claim(&mut fixture);
        omit(&mut fixture.manifest.graph.images[0], &digest);
        fixture.manifest.settle(0);
        fixture
    };
    // A stranger can be told only by the manifest of the image.
    let stranger = claims(&|_| Digest::of(b"stranger"));
    assert_found(&stranger.files(), &[ManifestInconsistent], 3);
    let held: [&dyn Fn(&mut Fixture) -> Digest; 4] = [
        &|fixture| fixture.manifest.graph.images[0].digest.clone(),
        &|fixture| fixture.clone().image("arm64").digest,
        &|fixture| {
            fixture.manifest.graph.discovery[0].artifacts[0]
                .digest
                .clone()
        },
        &|_| Digest::of(b"layer of arm64"),
    ];
    for (number, claim) in held.into_iter().enumerate() {
        eprintln!("case {number}");
        let mut fixture = claims(claim);
        fixture.list();
        let error = fixture.manifest.to_yaml().unwrap_err();
        assert_eq!(error.kind(), bundle_format::ManifestErrorKind::Inconsistent);
        assert!(
            error.to_string().contains("which the bundle holds"),
            "{error}"
        );
    }
}

#[test]
fn what_one_image_leaves_out_no_other_one_and_no_referrer_may_lack() {
    use FindingKind::*;
    let index_of = |children: &[&Descriptor], subject: Option<&Descriptor>| {
        let mut index = json!({
            "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": children,
        });
        if let Some(subject) = subject {
            index["artifactType"] = json!("a/b");
            index["subject"] = json!(subject);
        }
        index
    };
    let mut fixture = Fixture::empty();
    let kept = fixture.image("kept");
    let absent = Fixture::empty().image("absent");
    let nested = fixture.put(media_type::IMAGE_INDEX, &index_of(&[&absent], None));
    let image = fixture.put(media_type::IMAGE_INDEX, &index_of(&[&kept, &nested], None));
    fixture.add_image(&image);
    omit(&mut fixture.manifest.graph.images[0], &absent.digest);
    fixture.discover(&image, &[]);
    fixture.manifest.referrers.bare_images = 1;
    // Below an index within the index as well.
    assert_found(&fixture.clone().files(), &[], 0);

    let mut referrer = fixture.clone();
    let list = referrer.put(media_type::IMAGE_INDEX, &index_of(&[&absent], Some(&kept)));
    referrer.discover(&kept, &[(&list, Some("a/b"))]);
    referrer.manifest.referrers.bare_images = 0;
    assert_found(&referrer.files(), &[ObjectMissing], 4);

    let mut other = fixture.clone();
    let mut second = other.manifest.graph.images[0].clone();
    second.reference = "registry.example.com/team/app:2.0".parse().unwrap();
    let list = other.put(media_type::IMAGE_INDEX, &index_of(&[&nested], None));
    (second.digest, second.size) = (list.digest.clone(), list.size);
    second.omitted.clear();
    other.manifest.graph.images.push(second.clone());
    other.discover(&list, &[]);
    other.manifest.referrers.bare_images = 2;
    assert_found(&other.clone().files(), &[ObjectMissing], 4);
    omit(&mut other.manifest.graph.images[1], &absent.digest);
    assert_found(&other.files(), &[], 0);
}

#[test]
fn every_limit_is_an_error_that_names_it() {
    use FindingKind::*;
    let mut deep = Fixture::full();
    let image = deep.image("deep");
    let mut level = image;
    for _ in 0..17 {
        let index =
            json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [level]});
        level = deep.put(media_type::IMAGE_INDEX, &index);
    }
    deep.manifest.graph.images.clear();
    deep.manifest.graph.discovery.clear();
    deep.add_image(&level);
    deep.manifest.referrers.bare_images = 1;
    let deep = pack(&deep.files(), Container::TarGz);
    let report = ImportValidator::new().validate("deep", &*deep);
    let limits: Vec<_> = report
        .findings
        .iter()
        .filter(|f| f.exit_code() == 6)
        .collect();
    assert_eq!(limits.len(), 1, "{limits:?}");
    assert_eq!((limits[0].kind, report.exit_code()), (IndexDepth, 6));

    let files = Fixture::full().files();
    let bytes = pack(&files, Container::TarGz);
    type Set = fn(&mut ValidationLimits);
    let cases: [(Set, FindingKind); 6] = [
        (|limits| limits.max_index_bytes = 100, IndexBytes),
        (|limits| limits.max_graph_bytes = 1_000, GraphBytes),
        (
            |limits| limits.max_referrers_per_subject = 1,
            ReferrersPerSubject,
        ),
        (|limits| limits.max_index_depth = 0, IndexDepth),
        (|limits| limits.bundle.max_entries = 5, Entries),
        (
            |limits| limits.bundle.max_manifest_bytes = 100,
            ManifestBytes,
        ),
    ];
    for (set, kind) in cases {
        let mut limits = ValidationLimits::default();
        set(&mut limits);
        let validator = ImportValidator::new().check_referrers(true).limits(limits);
        let report = validator.validate("bundle", &*bytes);
        let found: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
        assert!(found.contains(&kind), "{kind}: {:#?}", report.findings);
        assert!(
            found.iter().all(|found| *found == kind),
            "{kind}: {found:?}"
        );
        assert_eq!(report.exit_code(), 6);
    }
    assert_eq!(Limits::default(), ValidationLimits::default().bundle);

    let mut large = Fixture::small();
    let padding = " ".repeat(5 << 20);
    let image = large.image("large");
    let text = large.objects.remove(&image.digest).unwrap();
    let text = [&text[..], padding.as_bytes()].concat();
    let image = large.put_bytes(media_type::IMAGE_MANIFEST, &text);
    large.manifest.graph.images.clear();
    large.manifest.graph.discovery.clear();
    large.add_image(&image);
    let report = validate(&large.files());
    assert_eq!(
        (report.findings[0].kind, report.exit_code()),
        (ObjectBytes, 6)
    );
}
