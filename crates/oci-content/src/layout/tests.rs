use super::*;

fn layout() -> (tempfile::TempDir, ImageLayout) {
    let folder = tempfile::tempdir().unwrap();
    let layout = ImageLayout::create(folder.path().join("store")).unwrap();
    (folder, layout)
}

#[test]
fn a_blob_is_there_whole_or_not_at_all() {
    let (_folder, layout) = layout();
    let digest = Digest::of(b"hello");
    let mut short = layout.blob_writer(&digest, 5).unwrap();
    short.write(b"hell").unwrap();
    assert_eq!(short.commit().unwrap_err().kind(), LayoutErrorKind::Corrupt);
    let mut other = layout.blob_writer(&digest, 5).unwrap();
    other.write(b"hallo").unwrap();
    assert_eq!(other.commit().unwrap_err().kind(), LayoutErrorKind::Corrupt);
    let mut long = layout.blob_writer(&digest, 5).unwrap();
    assert_eq!(
        long.write(b"hello!").unwrap_err().kind(),
        LayoutErrorKind::Corrupt
    );
    drop(long);
    let blobs = layout.blob_path(&digest).parent().unwrap().to_owned();
    assert_eq!(fs::read_dir(&blobs).unwrap().count(), 0);
    layout.write_blob(&digest, b"hello").unwrap();
    assert_eq!(layout.read_blob(&digest, 5).unwrap(), "hello");
    assert_eq!(
        layout.read_blob(&digest, 4).unwrap_err().kind(),
        LayoutErrorKind::TooLarge
    );
    fs::write(layout.blob_path(&digest), b"hallo").unwrap();
    assert_eq!(
        layout.read_blob(&digest, 5).unwrap_err().kind(),
        LayoutErrorKind::Corrupt
    );
}

#[test]
fn an_index_with_null_for_its_entries_is_an_empty_one() {
    let (_folder, layout) = layout();
    let null = r#"{"schemaVersion":2,"manifests":null}"#;
    fs::write(layout.root().join("index.json"), null).unwrap();
    assert!(layout.index().unwrap().is_empty());
    let added = Descriptor::of(media_type::IMAGE_MANIFEST, b"one");
    layout.add_to_index(std::slice::from_ref(&added)).unwrap();
    assert_eq!(layout.index().unwrap(), [added]);
    for other in [r#"{"schemaVersion":2}"#, r#"{"manifests":{}}"#, "null"] {
        fs::write(layout.root().join("index.json"), other).unwrap();
        assert!(layout.index().is_err(), "{other}");
    }
}

#[test]
fn an_index_entry_takes_the_place_of_its_name_and_others_stay_as_they_are() {
    let (_folder, layout) = layout();
    let named = |name: &str, bytes: &[u8]| {
        let mut descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, bytes);
        descriptor.annotations.insert(REF_NAME.into(), name.into());
        descriptor
    };
    let foreign = format!(
        r#"{{"schemaVersion":2,"x-own":1,"manifests":[{{"mediaType":"a/b","digest":"{}","size":1,"x-other":[1]}}]}}"#,
        Digest::of(b"f")
    );
    fs::write(layout.root().join("index.json"), foreign).unwrap();
    layout
        .add_to_index(&[named("1.0", b"one"), named("2.0", b"two")])
        .unwrap();
    layout.add_to_index(&[named("1.0", b"three")]).unwrap();
    let digests: Vec<_> = layout
        .index()
        .unwrap()
        .into_iter()
        .map(|d| d.digest)
        .collect();
    assert_eq!(
        digests,
        [Digest::of(b"f"), Digest::of(b"three"), Digest::of(b"two")]
    );
    let text = fs::read_to_string(layout.root().join("index.json")).unwrap();
    assert!(
        text.contains(r#""x-own":1"#) && text.contains(r#""x-other":[1]"#),
        "{text}"
    );
    layout
        .retain_in_index(|d| d.digest != Digest::of(b"three"))
        .unwrap();
    assert_eq!(layout.index().unwrap().len(), 2);
}

#[test]
fn what_a_killed_creation_left_is_taken_over() {
    const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
    for left in [
        &[(".partial-x", "{")][..],
        &[(".index.lock", "")],
        &[("oci-layout", LAYOUT), (".partial-x", "{")],
        &[
            ("oci-layout", LAYOUT),
            ("index.json", r#"{"schemaVersion":2,"manifests":[]}"#),
        ],
    ] {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in left {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let layout = ImageLayout::create(folder.path()).unwrap();
        assert_eq!(layout.index().unwrap(), Vec::new(), "{left:?}");
        let mut writer = layout.blob_writer(&Digest::of(b"x"), 1).unwrap();
        writer.write(b"x").unwrap();
        writer.commit().unwrap();
    }
    // A lost index is different from one that never existed.
    let (_folder, layout) = layout();
    fs::remove_file(layout.root().join("index.json")).unwrap();
    assert!(ImageLayout::create(layout.root()).is_ok());
    assert!(layout.index().is_err());
}

#[test]
fn a_folder_with_other_things_in_it_is_no_layout() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter.txt"), "x").unwrap();
    let error = ImageLayout::create(folder.path()).unwrap_err();
    assert_eq!(error.kind(), LayoutErrorKind::NotALayout);
    assert_eq!(
        ImageLayout::open(folder.path()).unwrap_err().kind(),
        LayoutErrorKind::NotALayout
    );
    fs::write(
        folder.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"2.0.0"}"#,
    )
    .unwrap();
    assert!(
        ImageLayout::open(folder.path())
            .unwrap_err()
            .to_string()
            .contains("\"2.0.0\" is not supported")
    );
}

#[test]
fn a_link_or_a_pipe_at_the_place_of_a_file_is_not_opened_and_its_target_is_untouched() {
    use std::os::unix::fs::symlink;
    let digest = Digest::of(b"hello");
    let pipe = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    let entry = Descriptor::of(media_type::IMAGE_MANIFEST, b"hello");
    for name in ["oci-layout", "index.json", ".index.lock", "blob"] {
        for linked in [true, false] {
            let (folder, layout) = layout();
            let target = folder.path().join("target");
            fs::write(&target, "hello").unwrap();
            let path = match name {
                "blob" => layout.blob_path(&digest),
                name => layout.root().join(name),
            };
            fs::remove_file(&path).ok();
            if linked {
                symlink(&target, &path).unwrap()
            } else {
                pipe(&path)
            }
            let refused = match name {
                "oci-layout" => ImageLayout::open(layout.root()).unwrap_err(),
                "index.json" => layout.index().unwrap_err(),
                "blob" => layout.open_blob(&digest).unwrap_err(),
                _ => layout
                    .add_to_index(std::slice::from_ref(&entry))
                    .unwrap_err(),
            };
            assert_eq!(
                refused.kind(),
                LayoutErrorKind::Corrupt,
                "{name}: {refused}"
            );
            assert_eq!(layout.blob_size(&digest).unwrap(), None);
            // A write replaces the file with the name of the blob, never the target of the link.
            layout.write_blob(&digest, b"hello").unwrap();
            assert_eq!(layout.read_blob(&digest, 5).unwrap(), "hello");
            assert_eq!(fs::read(&target).unwrap(), b"hello");
        }
    }
}

#[test]
fn a_blob_with_other_bytes_of_the_same_size_is_replaced() {
    let (_folder, layout) = layout();
    let digest = Digest::of(b"hello");
    for damaged in [&b"hallo"[..], b"hell", b""] {
        fs::write(layout.blob_path(&digest), damaged).unwrap();
        layout.write_blob(&digest, b"hello").unwrap();
        assert_eq!(layout.read_blob(&digest, 5).unwrap(), "hello");
    }
}

#[test]
fn what_killed_runs_left_is_removed_and_what_running_ones_write_is_not() {
    let (_folder, layout) = layout();
    let digest = Digest::of(b"hello");
    let mut writer = layout.blob_writer(&digest, 5).unwrap();
    let mut partial = layout.partial_blob().unwrap();
    let blobs = layout.root().join("blobs");
    let places = [
        layout.root().to_owned(),
        blobs.clone(),
        blobs.join("sha256"),
    ];
    for place in &places {
        fs::write(place.join(".partial-left"), "he").unwrap();
        fs::write(place.join("partial-other"), "he").unwrap();
    }
    ImageLayout::create(layout.root()).unwrap();
    for place in &places {
        assert!(!place.join(".partial-left").exists(), "{place:?}");
        assert!(place.join("partial-other").exists(), "{place:?}");
    }
    writer.write(b"hello").unwrap();
    writer.commit().unwrap();
    partial.write(b"hello").unwrap();
    partial.commit(&digest).unwrap();
    assert_eq!(layout.read_blob(&digest, 5).unwrap(), "hello");
    let hidden = |place: &Path| {
        let entries = fs::read_dir(place).unwrap();
        entries
            .filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_string_lossy().starts_with(PARTIAL)
            })
            .count()
    };
    assert_eq!(places.map(|place| hidden(&place)), [0, 0, 0]);
}

#[test]
fn an_error_names_the_file_and_leaves_the_reason_to_its_source() {
    use std::error::Error as _;

    let (_folder, layout) = layout();
    let digest = Digest::of(b"hello");
    let missing = layout.open_blob(&digest).unwrap_err();
    fs::write(layout.blob_path(&digest), "hallo").unwrap();
    let other = layout.read_blob(&digest, 5).unwrap_err();
    let mut short = layout.blob_writer(&digest, 5).unwrap();
    short.write(b"hell").unwrap();
    let short = short.commit().unwrap_err();
    let path = layout.blob_path(&digest).display().to_string();
    for (error, kind, cause) in [
        (
            missing,
            LayoutErrorKind::NotFound,
            "No such file or directory",
        ),
        (other, LayoutErrorKind::Corrupt, "hash to sha256:"),
        (short, LayoutErrorKind::Corrupt, "is 5 bytes long, but 4"),
    ] {
        assert_eq!(error.kind(), kind);
        assert_eq!(error.to_string(), format!("{path}: it cannot be used"));
        assert!(error.source().unwrap().to_string().contains(cause));
        assert!(crate::with_causes(&error).contains(cause));
    }
}
