use super::*;

fn parse(json: &str, content_type: Option<&str>) -> Result<Manifest, ManifestError> {
    Manifest::parse(Bytes::copy_from_slice(json.as_bytes()), content_type)
}

fn descriptor(media_type: &str) -> String {
    format!(
        r#"{{"mediaType":"{media_type}","digest":"{}","size":1}}"#,
        Digest::of(b"x")
    )
}

#[test]
fn an_artifact_type_comes_from_the_manifest_else_from_its_config() {
    let config = descriptor("application/vnd.example.config");
    let image = |more: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[]{more}}}"#,
            media_type::IMAGE_MANIFEST
        )
    };
    let own = parse(&image(r#","artifactType":"a/b""#), None).unwrap();
    assert_eq!(own.artifact_type(), Some("a/b"));
    let none = parse(&image(""), None).unwrap();
    assert_eq!(none.artifact_type(), Some("application/vnd.example.config"));
    let index = parse(r#"{"schemaVersion":2,"manifests":[]}"#, None).unwrap();
    assert_eq!(
        (index.artifact_type(), index.media_type()),
        (None, media_type::IMAGE_INDEX)
    );
}

#[test]
fn every_blob_and_the_subject_are_found() {
    let image = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{},{}],"subject":{}}}"#,
        media_type::IMAGE_MANIFEST,
        descriptor("c/c"),
        descriptor("l/1"),
        descriptor("l/2"),
        descriptor(media_type::IMAGE_INDEX),
    );
    let manifest = parse(&image, None).unwrap();
    let types: Vec<_> = manifest
        .blobs()
        .map(|blob| blob.media_type.as_str())
        .collect();
    assert_eq!(types, ["c/c", "l/1", "l/2"]);
    assert_eq!(
        manifest.subject().unwrap().media_type,
        media_type::IMAGE_INDEX
    );
    assert_eq!(manifest.raw(), image.as_bytes());
}

#[test]
fn what_go_programs_write_for_empty_values_is_empty() {
    let config = descriptor("c/c");
    let none = r#"{"mediaType":"","digest":"","size":0}"#;
    let (image, index) = (media_type::IMAGE_MANIFEST, media_type::IMAGE_INDEX);
    let artifact = media_type::ARTIFACT_MANIFEST;
    for (json, artifact_type, blobs) in [
        (
            format!(r#""mediaType":"{image}","config":{config}"#),
            Some("c/c"),
            1,
        ),
        (
            format!(r#""mediaType":"{image}","config":{config},"layers":null"#),
            Some("c/c"),
            1,
        ),
        (
            format!(
                r#""mediaType":"","artifactType":"","config":{config},"layers":null,"manifests":null,"blobs":null,"subject":null,"annotations":null"#
            ),
            Some("c/c"),
            1,
        ),
        (
            format!(
                r#""mediaType":null,"artifactType":null,"config":{config},"annotations":{{"k":null}}"#
            ),
            Some("c/c"),
            1,
        ),
        (
            format!(r#""mediaType":"{image}","artifactType":"a/b","config":null"#),
            Some("a/b"),
            0,
        ),
        (
            format!(r#""mediaType":"{image}","artifactType":"a/b","config":{none}"#),
            Some("a/b"),
            0,
        ),
        (
            format!(r#""mediaType":"{image}","artifactType":"a/b","config":{{}}"#),
            Some("a/b"),
            0,
        ),
        (
            format!(r#""mediaType":"{image}","artifactType":"a/b""#),
            Some("a/b"),
            0,
        ),
        (r#""manifests":null"#.to_owned(), None, 0),
        (
            format!(r#""mediaType":"{index}","artifactType":"","manifests":null"#),
            None,
            0,
        ),
        (
            format!(
                r#""mediaType":"{index}","manifests":null,"config":null,"layers":null,"subject":null"#
            ),
            None,
            0,
        ),
        (
            format!(r#""mediaType":"{artifact}","artifactType":"a/b","blobs":null"#),
            Some("a/b"),
            0,
        ),
        (
            format!(r#""mediaType":"{artifact}","config":null"#),
            None,
            0,
        ),
    ] {
        let json = format!(r#"{{"schemaVersion":2,{json}}}"#);
        let manifest = parse(&json, None).unwrap_or_else(|error| panic!("{json}: {error}"));
        assert_eq!(manifest.artifact_type(), artifact_type, "{json}");
        assert_eq!(manifest.blobs().count(), blobs, "{json}");
        assert!(
            manifest.entries().is_empty() && manifest.subject().is_none(),
            "{json}"
        );
        assert_eq!(manifest.raw(), json.as_bytes(), "kept as it came");
    }
}

#[test]
fn what_is_no_value_of_its_type_stays_malformed() {
    let (config, image) = (descriptor("c/c"), media_type::IMAGE_MANIFEST);
    let (index, artifact) = (media_type::IMAGE_INDEX, media_type::ARTIFACT_MANIFEST);
    for json in [
        format!(r#""mediaType":"{image}","config":null"#),
        format!(r#""mediaType":"{image}","layers":[]"#),
        format!(r#""mediaType":"{image}","artifactType":"a/b","config":[]"#),
        format!(r#""mediaType":"{image}","artifactType":"a/b","config":{{"mediaType":"c/c"}}"#),
        format!(r#""mediaType":"{image}","config":{config},"layers":{{}}"#),
        format!(r#""mediaType":"{image}","config":{config},"layers":"""#),
        format!(r#""mediaType":"{image}","config":{config},"layers":[null]"#),
        format!(r#""mediaType":"{image}","config":{config},"layers":[{{}}]"#),
        format!(r#""mediaType":"{image}","config":{config},"subject":{{}}"#),
        format!(r#""mediaType":"{image}","config":{config},"subject":"x""#),
        format!(r#""mediaType":"{image}","config":{config},"annotations":[]"#),
        format!(r#""mediaType":"{image}","config":{config},"annotations":{{"k":1}}"#),
        format!(r#""mediaType":"{image}","config":{config},"artifactType":7"#),
        format!(r#""mediaType":7,"config":{config}"#),
        format!(r#""mediaType":"{image}","config":{config},"layers":null,"layers":null"#),
        format!(r#""mediaType":"{index}","manifests":{{}}"#),
        format!(r#""mediaType":"{index}","manifests":[null]"#),
        format!(r#""mediaType":"{index}","manifests":false"#),
        format!(r#""mediaType":"{artifact}","blobs":0"#),
        r#""config":null,"layers":null"#.to_owned(),
    ] {
        let json = format!(r#"{{"schemaVersion":2,{json}}}"#);
        let kind = parse(&json, None).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(kind, Err(ManifestErrorKind::Malformed), "{json}");
    }
    for json in [
        format!(r#"{{"mediaType":"{index}","manifests":null}}"#),
        format!(r#"{{"schemaVersion":null,"mediaType":"{image}","config":{config}}}"#),
        format!(r#"{{"schemaVersion":"2","mediaType":"{image}","config":{config}}}"#),
    ] {
        let kind = parse(&json, None).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(kind, Err(ManifestErrorKind::Malformed), "{json}");
    }
}

#[test]
fn documents_that_are_no_usable_manifest_are_refused_by_class() {
    use ManifestErrorKind::{Malformed, TypeConfusion, Unsupported};
    let (config, index) = (descriptor("c/c"), media_type::IMAGE_INDEX);
    let digest = Digest::of(b"x");
    for (json, kind) in [
        (
            format!(r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[],"layers":[]}}"#),
            TypeConfusion,
        ),
        (
            format!(r#"{{"schemaVersion":2,"manifests":[],"config":{config}}}"#),
            TypeConfusion,
        ),
        (
            r#"{"schemaVersion":1,"name":"x","tag":"y"}"#.to_owned(),
            Unsupported,
        ),
        (
            r#"{"schemaVersion":2,"mediaType":"text/html"}"#.to_owned(),
            Unsupported,
        ),
        (r#"{"schemaVersion":2}"#.to_owned(), Malformed),
        ("<html>".to_owned(), Malformed),
        ("[]".to_owned(), Malformed),
        // A derived `Deserialize` also accepts an array of the members.
        (format!(r#"[2,"{index}",[]]"#), Malformed),
        (
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[["a/b","{digest}",1]]}}"#
            ),
            Malformed,
        ),
        (
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[],"subject":["a/b","{digest}",1]}}"#
            ),
            Malformed,
        ),
        (
            format!(r#"{{"schemaVersion":2,"mediaType":"{index}"}}"#),
            Malformed,
        ),
        (
            r#"{"schemaVersion":2,"schemaVersion":2,"manifests":[]}"#.to_owned(),
            Malformed,
        ),
    ] {
        assert_eq!(parse(&json, None).unwrap_err().kind(), kind, "{json}");
    }
    let other = Manifest::parse_verified(Bytes::from_static(b"{}"), &Digest::of(b"x"), None);
    assert_eq!(other.unwrap_err().kind(), ManifestErrorKind::Digest);
}

#[test]
fn what_two_readers_read_in_two_ways_is_no_manifest() {
    use ManifestErrorKind::{Malformed, Unsupported};
    let with = |more: &[u8]| {
        let document = [&br#"{"schemaVersion":2,"manifests":[],"#[..], more, b"}"].concat();
        Manifest::parse(document.into(), None).map_err(|error| error.kind())
    };
    assert!(with(br#""x":{"a":[1,-1,1.5,true,null,"t"],"b":{"a":1}}"#).is_ok());
    for more in [
        &b"\"x\":\"\xff\""[..],
        b"\"\xc3(\":1",
        br#""x":"\ud800""#,
        br#""x":1,"x":1"#,
        br#""x":1,"\u0078":1"#,
        br#""x":[{"a":{"b":1,"c":2,"b":1}}]"#,
        br#""annotations":{"a":"1","a":"2"}"#,
    ] {
        let found = with(more).map(drop);
        assert_eq!(found, Err(Malformed), "{}", String::from_utf8_lossy(more));
    }
    for version in [0, 3, u32::MAX] {
        let text = format!(r#"{{"schemaVersion":{version},"manifests":[]}}"#);
        assert_eq!(
            parse(&text, None).unwrap_err().kind(),
            Unsupported,
            "{text}"
        );
    }
    for version in ["2.0", "\"2\"", "-2", "2e0", "4294967298"] {
        let text = format!(r#"{{"schemaVersion":{version},"manifests":[]}}"#);
        assert_eq!(parse(&text, None).unwrap_err().kind(), Malformed, "{text}");
    }
}

#[test]
fn json_that_is_too_deep_is_no_manifest_wherever_it_is() {
    let index = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        let text = format!(r#"{{"schemaVersion":2,"x":{open}"\"[[["{close},"manifests":[]}}"#);
        parse(&text, None)
    };
    assert!(index(127).is_ok());
    let error = index(128).unwrap_err();
    assert_eq!(error.kind(), ManifestErrorKind::Malformed);
    assert!(
        error.to_string().contains("more than 128 levels"),
        "{error}"
    );
}

#[test]
fn a_content_type_decides_only_where_the_document_does_not() {
    let docker = parse(
        r#"{"schemaVersion":2,"manifests":[]}"#,
        Some(media_type::DOCKER_MANIFEST_LIST),
    )
    .unwrap();
    assert_eq!(docker.media_type(), media_type::DOCKER_MANIFEST_LIST);
    let lying = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
        media_type::IMAGE_INDEX
    );
    assert_eq!(
        parse(&lying, Some("text/plain")).unwrap().media_type(),
        media_type::IMAGE_INDEX
    );
}
