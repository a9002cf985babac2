use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;

use oci_content::{Digest, VerifyError};
use registry_client::{BlobSink, Error, ErrorKind, MemorySink, Repository, VerifyingSink};

use crate::support::{Recorder, Seen, Server, answer, hang_up, options};

const BLOB: &[u8] = b"0123456789abcdefghij";

async fn pull(repository: &Repository) -> Result<(), Error> {
    let digest = Digest::of(BLOB);
    let mut sink = MemorySink::new(digest.clone(), BLOB.len() as u64);
    repository
        .pull_blob(&digest, BLOB.len() as u64, &mut sink)
        .await?;
    assert_eq!(sink.into_bytes().unwrap(), BLOB);
    Ok(())
}

fn from(seen: &Seen) -> usize {
    let range = seen.header("range").map(|range| {
        range
            .strip_prefix("bytes=")
            .and_then(|range| range.strip_suffix('-'))
            .unwrap()
            .parse()
            .unwrap()
    });
    range.unwrap_or(0)
}

fn rest(start: usize) -> crate::support::Answer {
    let range = format!("bytes {start}-{}/{}", BLOB.len() - 1, BLOB.len());
    answer(206)
        .header("Content-Range", &range)
        .body(&BLOB[start..])
}

fn ranges(server: &Server) -> Vec<Option<String>> {
    let range = |seen: &Seen| seen.header("range").map(str::to_owned);
    server.seen().iter().map(range).collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test]
async fn end_2_a_blob_comes_whole_and_unencoded() {
    let server = Server::start(|seen, _| {
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
        answer(200).body(BLOB)
    })
    .await;
    pull(&server.repository(options())).await.unwrap();
    let path = format!("GET /v2/team/app/blobs/{}", Digest::of(BLOB));
    assert_eq!(server.lines(), [path]);
}

#[tokio::test]
async fn a_file_is_a_sink_too() {
    let server = Server::start(|_, before| match before {
        0 => answer(200).body("wrong bytes, rather.."),
        _ => answer(200).body(BLOB),
    })
    .await;
    let digest = Digest::of(BLOB);
    let file = tempfile::tempfile().unwrap();
    let mut sink = VerifyingSink::new(file, digest.clone(), 20).unwrap();
    let repository = server.repository(options());
    let error = repository
        .pull_blob(&digest, 20, &mut sink)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "21 bytes");
    sink.restart().unwrap();
    repository.pull_blob(&digest, 20, &mut sink).await.unwrap();
    use io::{Read as _, Seek as _};
    let mut file = sink.into_inner();
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, BLOB);
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_stopped() {
    let server = Server::start(|seen, before| {
        let start = from(seen);
        match before {
            0 => answer(200)
                .body(&BLOB[..5])
                .length(Some(BLOB.len()))
                .reset(),
            // Closed cleanly and without a length: only the descriptor shows that it is too short.
            1 => {
                let range = format!("bytes {start}-{}/*", BLOB.len() - 1);
                answer(206)
                    .header("Content-Range", &range)
                    .body(&BLOB[start..start + 4])
                    .length(None)
            }
            2 => hang_up(),
            3 => answer(503),
            _ => rest(start),
        }
    })
    .await;
    pull(&server.repository(options())).await.unwrap();
    assert_eq!(
        ranges(&server),
        [
            None,
            some("bytes=5-"),
            some("bytes=9-"),
            some("bytes=9-"),
            some("bytes=9-")
        ]
    );
}

#[tokio::test]
async fn a_server_without_ranges_starts_the_blob_over() {
    let server = Server::start(|_, before| match before {
        0 => answer(200).body(&BLOB[..5]).length(Some(20)).reset(),
        _ => answer(200).body(BLOB),
    })
    .await;
    pull(&server.repository(options())).await.unwrap();
    assert_eq!(ranges(&server), [None, some("bytes=5-")]);
}

#[tokio::test]
async fn a_range_that_was_not_asked_for_starts_the_blob_over() {
    for range in [
        "bytes 0-19/20",
        "bytes 6-19/20",
        "bytes 5-19/21",
        "bytes 5-25/*",
        "bytes 5-4/20",
        "items 5-19/20",
        "bytes 5-19",
        "",
    ] {
        let server = Server::start(move |seen, before| match before {
            0 => answer(200).body(&BLOB[..5]).length(Some(20)).reset(),
            1 => answer(206).header("Content-Range", range).body(&BLOB[5..]),
            _ if from(seen) == 0 => answer(200).body(BLOB),
            _ => rest(from(seen)),
        })
        .await;
        pull(&server.repository(options())).await.unwrap();
        assert_eq!(ranges(&server), [None, some("bytes=5-"), None], "{range}");
    }
}

#[tokio::test]
async fn a_416_starts_the_blob_over() {
    let server = Server::start(|seen, before| match before {
        0 => answer(200).body(&BLOB[..5]).length(Some(20)).reset(),
        _ if from(seen) > 0 => answer(416),
        _ => answer(200).body(BLOB),
    })
    .await;
    pull(&server.repository(options())).await.unwrap();
    assert_eq!(ranges(&server), [None, some("bytes=5-"), None]);
}

#[tokio::test]
async fn a_later_pull_goes_on_with_what_the_sink_has() {
    let digest = Digest::of(BLOB);
    let mut once = options();
    once.retry.max_attempts = NonZeroU32::MIN;
    let five = || {
        let mut sink = MemorySink::new(digest.clone(), 20);
        sink.write(&BLOB[..5]).unwrap();
        sink
    };
    let mut wrong = MemorySink::new(digest.clone(), 20);
    wrong.write(b"0x234").unwrap();
    let mut whole = five();
    whole.write(&BLOB[5..]).unwrap();
    let mut whole_and_wrong = MemorySink::new(digest.clone(), 20);
    whole_and_wrong.write(&[b'x'; 20]).unwrap();
    let mut too_long = MemorySink::new(digest.clone(), 20);
    too_long.write(&[b'x'; 21]).unwrap();
    for (mut sink, ranged, asked) in [
        (five(), 206, vec![some("bytes=5-")]),
        (five(), 200, vec![some("bytes=5-")]),
        (five(), 416, vec![some("bytes=5-"), None]),
        (five(), 501, vec![some("bytes=5-"), None]),
        (wrong, 206, vec![some("bytes=5-"), None]),
        (whole, 206, vec![]),
        (whole_and_wrong, 206, vec![None]),
        (too_long, 206, vec![None]),
    ] {
        let server = Server::start(move |seen, _| match (from(seen), ranged) {
            (0, _) | (_, 200) => answer(200).body(BLOB),
            (start, 206) => rest(start),
            _ => answer(ranged),
        })
        .await;
        let repository = server.repository(once.clone());
        repository.pull_blob(&digest, 20, &mut sink).await.unwrap();
        assert_eq!(sink.into_bytes().unwrap(), BLOB);
        assert_eq!(ranges(&server), asked, "{ranged}");
    }

    // That the blob is gone says nothing about the range.
    let server = Server::start(|_, _| answer(404)).await;
    let mut sink = five();
    let repository = server.repository(once);
    let error = repository.pull_blob(&digest, 20, &mut sink).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Status);
    assert_eq!(ranges(&server), [some("bytes=5-")]);
}

#[tokio::test]
async fn an_expired_redirect_target_leads_back_to_the_registry() {
    for status in [400, 401, 403, 404, 410] {
        let cdn = Server::start(move |seen, before| match before {
            0 => answer(200).body(&BLOB[..5]).length(Some(20)).reset(),
            1 => answer(status).body("<Code>ExpiredToken</Code>"),
            _ => rest(from(seen)),
        })
        .await;
        let target = cdn.url("/blob?signature=1");
        let server = Server::start(move |_, _| answer(307).header("Location", &target)).await;
        pull(&server.repository(options())).await.unwrap();
        assert_eq!(server.lines().len(), 3, "{status}");
        assert_eq!(
            ranges(&cdn),
            [None, some("bytes=5-"), some("bytes=5-")],
            "the range goes along"
        );
    }
}

#[tokio::test]
async fn the_registrys_own_refusal_is_final() {
    for status in [400, 401, 403, 404, 410, 416, 501] {
        let server = Server::start(move |_, _| answer(status).body("why")).await;
        let error = pull(&server.repository(options())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Status);
        assert_eq!(error.response().unwrap().status().as_u16(), status);
        assert_eq!(error.response().unwrap().body(), "why");
        assert_eq!(server.lines().len(), 1);
    }
    let server = Server::start(|_, _| answer(503)).await;
    let error = pull(&server.repository(options())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Status);
    assert_eq!(server.lines().len(), 6);
    let server = Server::start(|_, _| answer(202).body("later")).await;
    let error = pull(&server.repository(options())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn wrong_bytes_are_fetched_once_more_and_then_refused() {
    let mut wrong = BLOB.to_vec();
    wrong[7] ^= 1;
    let once = wrong.clone();
    let server = Server::start(move |_, before| match before {
        0 => answer(200).body(&once),
        _ => answer(200).body(BLOB),
    })
    .await;
    pull(&server.repository(options())).await.unwrap();
    assert_eq!(ranges(&server), [None, None]);

    let server = Server::start(move |_, _| answer(200).body(&wrong)).await;
    let error = pull(&server.repository(options())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert_eq!(server.lines().len(), 2);
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.downcast_ref::<VerifyError>().is_some());
    let text = error.to_string();
    let ends = format!(
        "what http://{} serves is not what was requested",
        server.host
    );
    assert!(
        text.contains("/blobs/sha256:") && text.ends_with(&ends),
        "{text}"
    );
}

#[tokio::test]
async fn a_body_that_is_too_long_is_cut_off() {
    for length in [Some(1 << 20), None] {
        let server = Server::start(move |_, _| {
            let mut body = BLOB.to_vec();
            body.resize(1 << 20, b'x');
            answer(200).body(body).length(length)
        })
        .await;
        let recorder = Arc::new(Recorder::default());
        let mut options = options();
        options.observer = Some(Arc::<Recorder>::clone(&recorder));
        let error = pull(&server.repository(options)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity);
        assert_eq!(server.lines().len(), 1);
        assert!(recorder.requests.lock().unwrap()[0].body_bytes < 1 << 20);
    }
}

#[tokio::test]
async fn without_progress_it_gives_up_and_progress_counts_anew() {
    let server = Server::start(|seen, before| match before {
        0 => answer(200).body(&BLOB[..5]).length(Some(20)).reset(),
        _ => answer(206)
            .header("Content-Range", &format!("bytes {}-19/20", from(seen)))
            .length(Some(20 - from(seen)))
            .reset(),
    })
    .await;
    let error = pull(&server.repository(options())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reset);
    // The first transfer made progress, which reset the tries.
    assert_eq!(server.lines().len(), 1 + 6 - 1);

    let server = Server::start(|_, _| answer(200).body(&BLOB[..5])).await;
    let error = pull(&server.repository(options())).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Integrity,
        "a server that has a shorter blob"
    );

    const PIECE: usize = 2048;
    let server = Server::start(|seen, _| in_pieces(from(seen), PIECE, 10 * PIECE)).await;
    let mut options = options();
    options.retry.max_attempts = NonZeroU32::new(2).unwrap();
    let blob = vec![b'x'; 10 * PIECE];
    let digest = Digest::of(&blob);
    let mut sink = MemorySink::new(digest.clone(), blob.len() as u64);
    let repository = server.repository(options);
    let size = blob.len() as u64;
    repository
        .pull_blob(&digest, size, &mut sink)
        .await
        .unwrap();
    assert_eq!(server.lines().len(), 10, "one piece at a time");
}

/// Answers with one piece of a blob of `size` bytes, and closes the connection.
fn in_pieces(start: usize, piece: usize, size: usize) -> crate::support::Answer {
    let code = if start == 0 { 200 } else { 206 };
    answer(code)
        .header(
            "Content-Range",
            &format!("bytes {start}-{}/{size}", size - 1),
        )
        .body(vec![b'x'; piece])
        .length(Some(size - start))
}

#[tokio::test]
async fn a_blob_that_trickles_for_ever_ends_as_an_error() {
    const SIZE: usize = 1 << 20;
    for (what, kind) in [
        ("a few bytes at a time", ErrorKind::Timeout),
        (
            "a fast start, then a few bytes at a time",
            ErrorKind::Timeout,
        ),
        ("a few bytes for each connection", ErrorKind::Reset),
        (
            "no ranges, and each time a little less or more",
            ErrorKind::Reset,
        ),
    ] {
        let server = Server::start(move |seen, before| {
            let start = from(seen);
            let slowly = |answer: crate::support::Answer| {
                answer.slowly(3, std::time::Duration::from_millis(20))
            };
            match what {
                "a few bytes at a time" => slowly(in_pieces(start, 1000, SIZE)),
                "a fast start, then a few bytes at a time" if before == 0 => {
                    in_pieces(0, 100_000, SIZE).stall()
                }
                "a fast start, then a few bytes at a time" => slowly(in_pieces(start, 1000, SIZE)),
                "a few bytes for each connection" => in_pieces(start, 10, SIZE),
                _ => in_pieces(0, 50_000 + before % 2 * 5_000, SIZE),
            }
        })
        .await;
        let mut options = options();
        options.idle_timeout = std::time::Duration::from_millis(100);
        let digest = Digest::of(&[b'x'; SIZE]);
        let mut sink = MemorySink::new(digest.clone(), SIZE as u64);
        let repository = server.repository(options);
        let pull = repository.pull_blob(&digest, SIZE as u64, &mut sink);
        let error = pull.await.unwrap_err();
        assert!(
            server.lines().len() <= 13,
            "{what}: {}",
            server.lines().len()
        );
        assert_eq!(error.kind(), kind, "{what}: {error}");
    }
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let server = Server::start(|_, _| answer(200).body("")).await;
    let digest = Digest::of(b"");
    let mut sink = MemorySink::new(digest.clone(), 0);
    let repository = server.repository(options());
    repository.pull_blob(&digest, 0, &mut sink).await.unwrap();
    assert_eq!(sink.into_bytes().unwrap(), "");
    let server = Server::start(|_, _| answer(200).body("x")).await;
    let mut sink = MemorySink::new(digest.clone(), 0);
    let error = server
        .repository(options())
        .pull_blob(&digest, 0, &mut sink)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
}

struct Full;

impl BlobSink for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn restart(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), VerifyError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_sink_that_fails_ends_the_pull() {
    let server = Server::start(|_, _| answer(200).body(BLOB)).await;
    let digest = Digest::of(BLOB);
    let error = server
        .repository(options())
        .pull_blob(&digest, 20, &mut Full)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LocalIo);
    assert_eq!(server.lines().len(), 1);
}
