//! What the body of a 200 must be to count as an answer.

use oci_content::{Digest, Tag, media_type};
use registry_client::{ErrorKind, ReferrersAnswer};

use crate::support::{Answer, Server, answer, options};

const INDEX: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

fn tag() -> Tag {
    "1.0".parse().unwrap()
}

fn list() -> Answer {
    answer(200)
        .header("Content-Type", media_type::IMAGE_INDEX)
        .body(INDEX)
}

fn unreadable() -> Vec<(&'static str, Answer)> {
    let digest = Digest::of(b"something else").to_string();
    vec![
        ("cut", list().body(&INDEX[..20])),
        (
            "cut, until the connection closes",
            list().body(&INDEX[..20]).length(None),
        ),
        ("empty", list().body("")),
        ("blank", list().body(" \n")),
        ("a byte order mark", list().body(format!("\u{feff}{INDEX}"))),
        ("an unknown coding", list().header("Content-Encoding", "br")),
        (
            "a coding that it does not have",
            list().header("Content-Encoding", "gzip"),
        ),
        (
            "another digest",
            list().header("Docker-Content-Digest", &digest),
        ),
        ("text under a JSON type", list().body("Internal error")),
    ]
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_asked_for_again() {
    for (what, bad) in unreadable() {
        let server = Server::start(move |_, before| match before {
            0 | 1 => bad.clone(),
            _ => list(),
        })
        .await;
        let repository = server.repository(options());
        let reply = repository.referrers(&Digest::of(b"x"), None).await;
        let reply = reply.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(
            matches!(reply.referrers_answer(), ReferrersAnswer::List(_)),
            "{what}"
        );
        assert_eq!(reply.requests(), 3, "{what}");
    }
}

#[tokio::test]
async fn a_body_that_can_never_be_read_is_an_error_of_every_call_that_reads_json() {
    for (what, bad) in unreadable() {
        let server = Server::start(move |_, _| bad.clone()).await;
        let repository = server.repository(options());
        let subject = Digest::of(b"x");
        let page = server.url("/v2/team/app/referrers/x?next").parse().unwrap();
        for reply in [
            repository.referrers(&subject, None).await,
            repository.get_page(&page).await,
            repository.tags(None).await,
            repository.get_manifest(&tag()).await,
        ] {
            let error = reply.expect_err(what);
            assert_eq!(error.kind(), ErrorKind::Unreadable, "{what}: {error}");
            assert_eq!(error.response().unwrap().status(), 200);
        }
        assert_eq!(server.lines().len(), 12, "{what}: three times each");
    }
}

#[tokio::test]
async fn a_manifest_that_is_not_its_digest_is_asked_for_again_and_then_an_error() {
    for (bad, expected) in [(2, Ok(())), (3, Err(ErrorKind::Integrity))] {
        let server = Server::start(move |_, before| match before < bad {
            true => list().body(&INDEX[..20]),
            false => list(),
        })
        .await;
        let repository = server.repository(options());
        let reply = repository.get_manifest(&Digest::of(INDEX.as_bytes())).await;
        assert_eq!(reply.map(|_| ()).map_err(|error| error.kind()), expected);
        assert_eq!(server.lines().len(), 3);
    }
}

#[tokio::test]
async fn what_hashes_to_its_digest_needs_no_header_to_agree() {
    let server = Server::start(|_, _| {
        list()
            .header("Content-Encoding", "gzip")
            .header("Docker-Content-Digest", &Digest::of(b"else").to_string())
    })
    .await;
    let repository = server.repository(options());
    let reply = repository.get_manifest(&Digest::of(INDEX.as_bytes())).await;
    assert_eq!(reply.unwrap().requests(), 1);
}

#[tokio::test]
async fn a_list_may_come_with_the_digest_of_its_subject() {
    let subject = Digest::of(b"x");
    let named = subject.to_string();
    let server = Server::start(move |_, _| list().header("Docker-Content-Digest", &named)).await;
    let reply = server.repository(options()).referrers(&subject, None).await;
    assert_eq!(reply.unwrap().requests(), 1);
}

#[tokio::test]
async fn what_is_plainly_something_else_is_not_asked_for_again() {
    for (content_type, body) in [
        ("text/html", "<html>"),
        ("application/json", "<html>"),
        ("application/json", "{}"),
        ("application/json", "null"),
        ("text/plain", "404 page not found"),
    ] {
        let server =
            Server::start(move |_, _| answer(200).header("Content-Type", content_type).body(body))
                .await;
        let repository = server.repository(options());
        let reply = repository.referrers(&Digest::of(b"x"), None).await.unwrap();
        assert!(
            matches!(
                reply.referrers_answer(),
                ReferrersAnswer::NoAnswer {
                    false_200: true,
                    ..
                }
            ),
            "{body}"
        );
        assert_eq!(reply.requests(), 1, "{body}");
    }
}

#[tokio::test]
async fn a_body_that_grows_beyond_the_limit_under_its_coding_is_refused() {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
    encoder.write_all(INDEX.as_bytes()).unwrap();
    let body = encoder.finish().unwrap();
    for (limit, fits) in [(2 << 20, true), (1 << 20, false)] {
        let body = body.clone();
        let server =
            Server::start(move |_, _| list().header("Content-Encoding", "gzip").body(&body)).await;
        let mut options = options();
        options.max_list_bytes = limit;
        let reply = server
            .repository(options)
            .referrers(&Digest::of(b"x"), None)
            .await;
        match fits {
            true => assert!(matches!(
                reply.unwrap().referrers_answer(),
                ReferrersAnswer::List(_)
            )),
            false => assert_eq!(reply.unwrap_err().kind(), ErrorKind::LimitExceeded),
        }
    }
}
