//! Blobs that are sent in chunks, and broken uploads that continue.

use bytes::Bytes;
use oci_content::Digest;
use registry_client::{BlobPush, Client, Error, ErrorKind, Repository};
use test_registry::{Fault, Persona, Route, TestRegistry, TestRegistryBuilder};

use crate::bearer::{user, with};
use crate::support::{Server, answer, name, options};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn blob(size: u64) -> (Digest, Bytes) {
    let bytes: Vec<u8> = (0..size).map(|place| (place % 251) as u8).collect();
    (Digest::of(&bytes), bytes.into())
}

fn open() -> TestRegistryBuilder {
    TestRegistry::builder(Persona::SpecFull).without_auth()
}

fn repository(registry: &TestRegistry) -> Repository {
    let client = Client::new(options()).unwrap();
    client.repository(&registry.registry(), &name("app"))
}

async fn push(repository: &Repository, size: u64) -> Result<BlobPush, Error> {
    let (digest, bytes) = blob(size);
    repository.push_blob(&digest, size, &bytes, None).await
}

/// What was written, one word for each request: `PUT 5 -> 413`, `PATCH 0-4 -> 202`.
fn writes(registry: &TestRegistry) -> Vec<String> {
    let writes = registry.requests().into_iter();
    writes
        .filter(|request| ["PATCH", "PUT"].contains(&request.method.as_str()))
        .map(|request| {
            let part = request.header("content-range");
            let part = part.or_else(|| request.header("content-length")).unwrap();
            let status = request
                .status
                .map_or("broken".to_owned(), |status| status.to_string());
            format!("{} {part} -> {status}", request.method)
        })
        .collect()
}

#[tokio::test]
async fn end_5_a_blob_that_is_refused_in_one_piece_goes_in_chunks_that_are_taken() {
    let registry = open().max_body_bytes(MIB).start().await;
    let repository = repository(&registry);
    push(&repository, 3 * MIB).await.unwrap();
    assert!(registry.has_blob("app", &blob(3 * MIB).0));
    assert_eq!(
        writes(&registry),
        [
            "PUT 3145728 -> 413",
            "PATCH 0-1572863 -> 413",
            "PATCH 0-786431 -> 202",
            "PATCH 786432-1572863 -> 202",
            "PATCH 1572864-2359295 -> 202",
            "PATCH 2359296-3145727 -> 202",
            "PUT 0 -> 201",
        ]
    );
    // The next one does not provoke a refusal, and one that is small enough is sent in one piece.
    registry.clear_requests();
    push(&repository, 2 * MIB).await.unwrap();
    push(&repository, 700 * KIB).await.unwrap();
    assert_eq!(
        writes(&registry),
        [
            "PATCH 0-786431 -> 202",
            "PATCH 786432-1572863 -> 202",
            "PATCH 1572864-2097151 -> 202",
            "PUT 0 -> 201",
            "PUT 716800 -> 201",
        ]
    );
}

#[tokio::test]
async fn a_413_that_a_broken_connection_overtakes_is_guessed() {
    let closed = || Fault::break_upload_after(0).times(2);
    let registry = open().start().await;
    registry.fault(Route::uploads().method("PUT"), closed());
    push(&repository(&registry), 3 * MIB).await.unwrap();
    let found = writes(&registry);
    assert_eq!(
        found[2..],
        [
            "PATCH 0-1572863 -> 202",
            "PATCH 1572864-3145727 -> 202",
            "PUT 0 -> 201"
        ]
    );
    // The guess was wrong: chunks are not accepted at all.
    let registry = open().start().await;
    registry.fault(Route::uploads().method("PUT"), closed());
    let no_chunks = Fault::statuses([405]).forever();
    registry.fault(Route::uploads().method("PATCH"), no_chunks);
    push(&repository(&registry), 3 * MIB).await.unwrap();
    assert_eq!(writes(&registry).pop().unwrap(), "PUT 3145728 -> 201");
}

#[tokio::test]
async fn a_registry_that_takes_no_chunk_either_ends_the_push_and_says_so() {
    let registry = open().max_body_bytes(1000).start().await;
    let error = push(&repository(&registry), MIB).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Status);
    assert_eq!(error.response().unwrap().status().as_u16(), 413);
    assert!(error.to_string().contains("smallest chunks"), "{error}");
    assert_eq!(
        writes(&registry),
        [
            "PUT 1048576 -> 413",
            "PATCH 0-524287 -> 413",
            "PATCH 0-262143 -> 413"
        ]
    );
}

#[tokio::test]
async fn the_shortest_chunk_that_a_registry_wants_is_heeded() {
    let least = 600 * KIB;
    let registry = open().max_body_bytes(MIB).chunk_min_bytes(least);
    let registry = registry.start().await;
    push(&repository(&registry), 2 * MIB).await.unwrap();
    assert_eq!(
        writes(&registry)[1..],
        [
            "PATCH 0-1048575 -> 202",
            "PATCH 1048576-2097151 -> 202",
            "PUT 0 -> 201"
        ]
    );
    // No size is both large enough for the registry and small enough for the proxy.
    let registry = open().max_body_bytes(500 * KIB).chunk_min_bytes(least);
    let registry = registry.start().await;
    let error = push(&repository(&registry), 2 * MIB).await.unwrap_err();
    assert_eq!(error.response().unwrap().status().as_u16(), 413);
    let last = writes(&registry).pop().unwrap();
    assert_eq!(last, "PATCH 0-614399 -> 413");
}

#[tokio::test]
async fn end_13_an_upload_that_broke_goes_on_where_the_registry_is() {
    let registry = open().start().await;
    registry.fault(
        Route::uploads().method("PUT"),
        Fault::break_upload_after(1_000_000),
    );
    registry.fault(
        Route::uploads().method("PATCH"),
        Fault::break_upload_after(500_000),
    );
    push(&repository(&registry), 2 * MIB).await.unwrap();
    let found: Vec<_> = writes(&registry)
        .into_iter()
        .map(|write| write.split(" ->").next().unwrap().to_owned())
        .collect();
    assert_eq!(
        found,
        [
            "PUT 2097152",
            "PATCH 1000000-2097151",
            "PATCH 1500000-2097151",
            "PUT 0"
        ]
    );
    assert!(registry.has_blob("app", &blob(2 * MIB).0));
    let posts = registry.requests();
    let posts = posts.iter().filter(|request| request.method == "POST");
    assert_eq!(posts.count(), 1);
}

#[tokio::test]
async fn tries_are_counted_anew_after_progress_and_end_without() {
    let registry = open().start().await;
    for (method, times) in [("PUT", 1), ("PATCH", 9)] {
        let break_off = Fault::break_upload_after(300 * KIB).times(times);
        registry.fault(Route::uploads().method(method), break_off);
    }
    push(&repository(&registry), 3 * MIB).await.unwrap();
    assert_eq!(writes(&registry).len(), 12, "PUT, ten of PATCH, PUT");

    let registry = open().start().await;
    registry.fault(
        Route::uploads().method("PUT"),
        Fault::break_upload_after(1000).forever(),
    );
    registry.fault(
        Route::uploads().method("PATCH"),
        Fault::break_upload_after(1000).forever(),
    );
    let error = push(&repository(&registry), 3 * MIB).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reset);
    assert_eq!(writes(&registry).len(), 6, "{:?}", writes(&registry));
}

#[tokio::test]
async fn a_session_that_is_gone_or_knows_nothing_starts_over() {
    let gone = Fault::statuses([404]).forever();
    let silent = Fault::pass().without_header("range").forever();
    let nothing = Fault::pass().header("range", "0-0").forever();
    let too_much = Fault::pass().header("range", "0-99999999").forever();
    let junk = Fault::pass().header("range", "bytes 5").forever();
    let elsewhere = Fault::pass()
        .header("location", "http://127.0.0.2:9/u")
        .forever();
    for fault in [gone, silent, nothing, too_much, junk, elsewhere] {
        let registry = open().start().await;
        registry.fault(
            Route::uploads().method("PUT"),
            Fault::break_upload_after(500_000),
        );
        registry.fault(Route::uploads().method("GET"), fault.clone());
        push(&repository(&registry), MIB).await.unwrap();
        let found = writes(&registry);
        assert_eq!(found.len(), 2, "{fault:?}: {found:?}");
        assert_eq!(found[1], "PUT 1048576 -> 201", "{fault:?}");
    }
}

#[tokio::test]
async fn a_session_that_holds_something_else_than_it_says_starts_over() {
    let registry = open().start().await;
    registry.fault(
        Route::uploads().method("PUT"),
        Fault::break_upload_after(500_000),
    );
    // The registry accepts the rest at an offset that it does not check, and finds another digest
    // at the end.
    let lie = Fault::pass().header("range", "0-1048575");
    registry.fault(Route::uploads().method("GET"), lie);
    push(&repository(&registry), MIB).await.unwrap();
    let found = writes(&registry);
    assert_eq!(found[1..], ["PUT 0 -> 400", "PUT 1048576 -> 201"]);
}

#[tokio::test]
async fn a_registry_that_refuses_chunks_gets_the_blob_in_one_piece_again() {
    for status in [404, 405, 501] {
        let registry = open().start().await;
        registry.fault(
            Route::uploads().method("PUT"),
            Fault::break_upload_after(500_000),
        );
        registry.fault(
            Route::uploads().method("PATCH"),
            Fault::statuses([status]).forever(),
        );
        push(&repository(&registry), MIB).await.unwrap();
        let last = writes(&registry).pop().unwrap();
        assert_eq!(last, "PUT 1048576 -> 201", "{status}");
    }
}

#[tokio::test]
async fn what_chunks_meet_on_their_way_is_overcome() {
    let patch = || Route::uploads().method("PATCH");
    for (what, route, fault) in [
        ("throttled", patch(), Fault::statuses([429, 503])),
        ("a server error", patch(), Fault::statuses([500]).skip(1)),
        ("lost", patch(), Fault::statuses([404]).skip(1)),
        ("reset", patch(), Fault::break_upload_after(9).skip(1)),
        ("taken, then reset", patch(), Fault::reset().skip(1)),
        (
            "the end is reset",
            Route::uploads().method("PUT"),
            Fault::reset().skip(1),
        ),
        (
            "a range that says less",
            patch(),
            Fault::pass().header("range", "0-99").times(1),
        ),
        (
            "no range",
            patch(),
            Fault::pass().without_header("range").forever(),
        ),
        (
            "no Location",
            patch(),
            Fault::pass().without_header("location").forever(),
        ),
    ] {
        let registry = open().max_body_bytes(MIB).start().await;
        registry.fault(route, fault);
        let done = push(&repository(&registry), 3 * MIB).await;
        assert!(done.is_ok(), "{what}: {done:?}");
        assert!(registry.has_blob("app", &blob(3 * MIB).0), "{what}");
    }
}

#[tokio::test]
async fn a_token_that_expires_between_two_chunks_is_renewed() {
    let registry = TestRegistry::builder(Persona::Ghcr)
        .credentials("user", "pass")
        .max_body_bytes(MIB)
        .start()
        .await;
    registry.fault(
        Route::uploads().method("PATCH"),
        Fault::expire_token().skip(2),
    );
    let client = Client::new(with(user())).unwrap();
    let repository = client.repository(&registry.registry(), &name("team/app"));
    push(&repository, 3 * MIB).await.unwrap();
    assert!(registry.has_blob("team/app", &blob(3 * MIB).0));
    let refused = writes(&registry)
        .iter()
        .filter(|w| w.ends_with("401"))
        .count();
    assert_eq!(refused, 1, "{:?}", writes(&registry));
}

#[tokio::test]
async fn a_next_session_elsewhere_gets_no_byte() {
    let other = Server::start(|_, _| answer(202)).await;
    let registry = open().max_body_bytes(MIB).start().await;
    registry.fault(
        Route::uploads().method("PATCH"),
        Fault::pass().header("location", other.url("/u")).forever(),
    );
    let error = push(&repository(&registry), 3 * MIB).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UntrustedLink);
    assert!(other.lines().is_empty());
}

#[tokio::test]
async fn other_bytes_than_the_digests_never_complete_an_upload_in_chunks() {
    let registry = open().max_body_bytes(MIB).start().await;
    let (digest, bytes) = blob(3 * MIB);
    let mut other = bytes.to_vec();
    other[5] ^= 1;
    let other = Bytes::from(other);
    let pushed = repository(&registry)
        .push_blob(&digest, 3 * MIB, &other, None)
        .await;
    assert_eq!(pushed.unwrap_err().kind(), ErrorKind::Integrity);
    let ended = writes(&registry)
        .iter()
        .any(|write| write.starts_with("PUT 0"));
    assert!(!ended && !registry.has_blob("app", &digest));
}
