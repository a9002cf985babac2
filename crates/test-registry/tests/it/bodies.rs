#![expect(clippy::unwrap_used, reason = "a test fails where one of these does")]

use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};
use reqwest::{Method, Version};
use test_registry::{Coding, Fault, Framing, Persona, Route, TestRegistry};

use crate::client::{Answer, get, request};

const CONTENT: &str = r#"{"name": "a body"}"#;

async fn registry_with_blob() -> (TestRegistry, String) {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let blob = registry.put_blob("app", CONTENT);
    (registry, format!("blobs/{}", blob.digest))
}

async fn body_of(fault: Fault) -> Answer {
    let (registry, blob) = registry_with_blob().await;
    registry.fault(Route::blobs(), fault);
    let identity =
        request(&registry, Method::GET, "app", &blob).header("accept-encoding", "identity");
    let answer = Answer::of(identity).await;
    let length = answer.header("content-length");
    assert_eq!(length, answer.body.len().to_string());
    answer
}

fn read(mut decoder: impl std::io::Read) -> String {
    let mut text = String::new();
    decoder.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn a_body_is_encoded_and_says_so_whatever_the_client_accepts() {
    let gzip = body_of(Fault::encoded([Coding::Gzip])).await;
    assert_eq!(gzip.header("content-encoding"), "gzip");
    assert_eq!(read(GzDecoder::new(&gzip.body[..])), CONTENT);

    let deflate = body_of(Fault::encoded([Coding::Deflate])).await;
    assert_eq!(deflate.header("content-encoding"), "deflate");
    assert_eq!(read(ZlibDecoder::new(&deflate.body[..])), CONTENT);

    let raw = body_of(Fault::encoded([Coding::RawDeflate])).await;
    assert_eq!(raw.header("content-encoding"), "deflate");
    assert_eq!(read(DeflateDecoder::new(&raw.body[..])), CONTENT);

    let both = body_of(Fault::encoded([Coding::Deflate, Coding::Gzip])).await;
    assert_eq!(both.header("content-encoding"), "deflate, gzip");
    let outer = GzDecoder::new(&both.body[..]);
    assert_eq!(read(ZlibDecoder::new(outer)), CONTENT);

    let opaque = body_of(Fault::encoded([Coding::Opaque("br")])).await;
    assert_eq!(opaque.header("content-encoding"), "br");
    assert_eq!(opaque.body[0], !b'{');
}

#[tokio::test]
async fn a_coding_can_be_named_that_the_body_is_not_in() {
    for coding in ["gzip", "br", "identity"] {
        let answer = body_of(Fault::pass().header("Content-Encoding", coding)).await;
        assert_eq!(answer.header("content-encoding"), coding);
        assert_eq!(answer.text(), CONTENT);
    }
}

#[tokio::test]
async fn a_byte_order_mark_and_blanks_come_before_the_body() {
    for prefix in ["\u{feff}".to_owned(), "\n".to_owned(), " ".repeat(100_000)] {
        let answer = body_of(Fault::prefix(prefix.clone())).await;
        assert_eq!(answer.text(), prefix + CONTENT);
    }
}

#[tokio::test]
async fn a_body_is_empty_with_the_registrys_headers_and_without() {
    let empty = body_of(Fault::shorten(0)).await;
    assert_eq!((empty.status, empty.text()), (200, ""));
    assert_ne!(empty.header("docker-content-digest"), "");
    for status in [200, 404, 503] {
        let empty = body_of(Fault::body(status, "application/json", "")).await;
        assert_eq!((empty.status, empty.text()), (status, ""));
    }
}

#[tokio::test]
async fn a_shortened_body_looks_whole_in_every_framing() {
    let (registry, blob) = registry_with_blob().await;
    for (framing, length, coding, version) in [
        (Framing::Length, "7", "", Version::HTTP_11),
        (Framing::Chunked, "", "chunked", Version::HTTP_11),
        (Framing::UntilClose, "", "", Version::HTTP_10),
    ] {
        registry.fault(Route::blobs(), Fault::shorten(7).framing(framing));
        registry.fault(
            Route::blobs(),
            Fault::body(200, "text/plain", &CONTENT[..7]).framing(framing),
        );
        for _ in 0..2 {
            let sent = request(&registry, Method::GET, "app", &blob)
                .send()
                .await
                .unwrap();
            assert_eq!(sent.version(), version, "{framing:?}");
            let header = |name: &str| {
                sent.headers()
                    .get(name)
                    .map_or("", |value| value.to_str().unwrap())
                    .to_owned()
            };
            let seen = [header("content-length"), header("transfer-encoding")];
            assert_eq!(seen, [length, coding], "{framing:?}");
            assert_eq!(sent.text().await.unwrap(), CONTENT[..7], "{framing:?}");
        }
    }
    assert_eq!(get(&registry, "app", &blob).await.text(), CONTENT);
}

#[tokio::test]
async fn a_truncated_body_is_seen_to_be_in_chunks_and_cannot_be_until_the_close() {
    let (registry, blob) = registry_with_blob().await;
    let cut = |framing| Fault::truncate_after(7).framing(framing);
    for (framing, is_seen) in [
        (Framing::Length, true),
        (Framing::Chunked, true),
        (Framing::UntilClose, false),
    ] {
        registry.fault(Route::blobs(), cut(framing));
        let sent = request(&registry, Method::GET, "app", &blob)
            .send()
            .await
            .unwrap();
        assert_eq!(sent.text().await.is_err(), is_seen, "{framing:?}");
    }
}

#[tokio::test]
async fn a_head_keeps_its_length_whatever_the_framing() {
    let (registry, blob) = registry_with_blob().await;
    registry.fault(Route::blobs(), Fault::pass().framing(Framing::Chunked));
    let head = Answer::of(request(&registry, Method::HEAD, "app", &blob)).await;
    assert_eq!(head.header("content-length"), CONTENT.len().to_string());
}
