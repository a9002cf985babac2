#![expect(clippy::unwrap_used, reason = "a test fails where one of these does")]

use std::error::Error as _;
use std::io;
use std::time::{Duration, Instant};

use test_registry::{Fault, Persona, Route, TestRegistry};

use reqwest::Method;

use crate::client::{Answer, client, get, request};

async fn registry_with_blob() -> (TestRegistry, String) {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let blob = registry.put_blob("app", vec![b'x'; 1000]);
    (registry, format!("blobs/{}", blob.digest))
}

/// Asks for something whose body the test reads by itself.
async fn send(registry: &TestRegistry, path: &str) -> reqwest::Response {
    request(registry, Method::GET, "app", path)
        .send()
        .await
        .unwrap()
}

/// Returns what arrived of a body, and how it ended.
async fn read(response: &mut reqwest::Response) -> (Vec<u8>, Option<reqwest::Error>) {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return (bytes, None),
            Err(error) => return (bytes, Some(error)),
        }
    }
}

fn is_reset(error: &reqwest::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        let error_io = error.downcast_ref::<io::Error>();
        if error_io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset) {
            return true;
        }
        source = error.source();
    }
    false
}

#[tokio::test]
async fn statuses_come_one_after_the_other_and_then_the_registry_itself() {
    let (registry, blob) = registry_with_blob().await;
    registry.fault(
        Route::blobs(),
        Fault::statuses([429, 503, 200]).header("Retry-After", "1"),
    );
    let mut seen = Vec::new();
    for _ in 0..4 {
        let answer = get(&registry, "app", &blob).await;
        seen.push((answer.status, answer.header("retry-after").to_owned()));
    }
    let expected = [(429, "1"), (503, "1"), (200, ""), (200, "")];
    assert_eq!(
        seen,
        expected.map(|(status, after)| (status, after.to_owned()))
    );
    let recorded: Vec<_> = registry.requests().iter().map(|r| r.status).collect();
    assert_eq!(recorded, [Some(429), Some(503), Some(200), Some(200)]);
}

#[tokio::test]
async fn a_fault_skips_and_ends_as_it_is_told_and_is_for_its_route_only() {
    let (registry, blob) = registry_with_blob().await;
    registry.image("app", "1.0");
    registry.fault(
        Route::blobs().method("get"),
        Fault::statuses([500]).skip(1).times(2),
    );
    registry.fault(
        Route::manifests().reference("1.0"),
        Fault::statuses([403]).forever(),
    );
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(get(&registry, "app", &blob).await.status);
    }
    assert_eq!(seen, [200, 500, 500, 200, 200]);
    for _ in 0..3 {
        assert_eq!(get(&registry, "app", "manifests/1.0").await.status, 403);
    }
    assert_eq!(get(&registry, "app", "manifests/2.0").await.status, 404);
    registry.clear_faults();
    assert_eq!(get(&registry, "app", "manifests/1.0").await.status, 200);
}

#[tokio::test]
async fn a_reset_and_a_truncation_come_after_the_bytes_that_they_leave() {
    let (registry, blob) = registry_with_blob().await;
    registry.fault(Route::blobs(), Fault::reset_after(300));
    registry.fault(Route::blobs(), Fault::truncate_after(300));
    registry.fault(Route::blobs(), Fault::reset());
    for is_expected_reset in [true, false] {
        let mut answer = send(&registry, &blob).await;
        assert_eq!(
            (answer.status().as_u16(), answer.content_length()),
            (200, Some(1000))
        );
        let (bytes, error) = read(&mut answer).await;
        assert_eq!(
            (bytes.len(), is_reset(&error.unwrap())),
            (300, is_expected_reset)
        );
    }
    let request = client().get(registry.url("/v2/app/blobs/sha256:0"));
    assert!(is_reset(&request.send().await.unwrap_err()));
    assert_eq!(get(&registry, "app", &blob).await.status, 200);
}

#[tokio::test]
async fn bytes_are_changed_added_and_left_out_under_a_length_that_agrees() {
    let (registry, blob) = registry_with_blob().await;
    for (fault, length, differs_at) in [
        (Fault::corrupt_byte(7), 1000, Some(7)),
        (Fault::extend(), 1001, None),
        (Fault::shorten(10), 10, None),
    ] {
        registry.fault(Route::blobs(), fault);
        let mut answer = send(&registry, &blob).await;
        assert_eq!(answer.content_length(), Some(length));
        let (bytes, error) = read(&mut answer).await;
        assert!(error.is_none());
        let differs = bytes.iter().take(1000).position(|byte| *byte != b'x');
        assert_eq!((bytes.len() as u64, differs), (length, differs_at));
    }
}

#[tokio::test]
async fn a_fault_of_the_body_waits_for_a_request_that_has_one() {
    let (registry, blob) = registry_with_blob().await;
    registry.fault(Route::blobs(), Fault::shorten(10).header("X-Own", "1"));
    let head = Answer::of(request(&registry, Method::HEAD, "app", &blob)).await;
    let seen = (
        head.status,
        head.header("content-length"),
        head.header("x-own"),
    );
    assert_eq!(seen, (200, "1000", ""));
    let got = get(&registry, "app", &blob).await;
    assert_eq!((got.body.len(), got.header("x-own")), (10, "1"));
}

#[tokio::test]
async fn faults_reach_the_second_host_where_they_are_told_to() {
    let registry = TestRegistry::start(Persona::HubNow).await;
    let foreign = registry.foreign_host();
    let ask = async |path: &str| {
        let url = format!("http://{foreign}{path}");
        Answer::of(client().get(url)).await.status
    };
    registry.fault(Route::any(), Fault::statuses([500]));
    assert_eq!(ask("/other").await, 404);
    assert_eq!(get(&registry, "app", "/v2/").await.status, 500);
    registry.fault(Route::any().elsewhere(), Fault::statuses([502]));
    assert_eq!(ask("/other").await, 502);
    registry.fault(Route::token(), Fault::statuses([503]));
    registry.fault(Route::path_prefix("/oth"), Fault::statuses([504]));
    assert_eq!([ask("/token").await, ask("/other").await], [503, 504]);
    assert_eq!(ask("/token").await, 200);
    let paths: Vec<_> = registry
        .foreign_requests()
        .into_iter()
        .map(|r| r.path)
        .collect();
    assert_eq!(paths, ["/other", "/other", "/token", "/other", "/token"]);
}

#[tokio::test]
async fn a_route_can_name_a_repository_and_a_part_of_the_query() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    registry.image("a", "1.0");
    registry.image("b", "1.0");
    let page_2 = Route::tags().repository("b").containing("last=");
    registry.fault(page_2, Fault::statuses([500]).forever());
    for (name, query, status) in [
        ("a", "tags/list?last=0", 200),
        ("b", "tags/list", 200),
        ("b", "tags/list?last=0", 500),
    ] {
        assert_eq!(
            get(&registry, name, query).await.status,
            status,
            "{name} {query}"
        );
    }
}

#[tokio::test]
async fn a_stall_lasts_and_a_slow_body_takes_its_time() {
    let (registry, blob) = registry_with_blob().await;
    let soon = Duration::from_millis(300);
    registry.fault(Route::blobs(), Fault::stall());
    assert!(
        tokio::time::timeout(soon, get(&registry, "app", &blob))
            .await
            .is_err()
    );
    registry.fault(Route::blobs(), Fault::stall_after(10));
    let mut answer = send(&registry, &blob).await;
    assert_eq!(answer.chunk().await.unwrap().unwrap().len(), 10);
    assert!(tokio::time::timeout(soon, answer.chunk()).await.is_err());

    registry.fault(Route::blobs(), Fault::slow(2000));
    let begin = Instant::now();
    assert_eq!(get(&registry, "app", &blob).await.body.len(), 1000);
    assert!(
        begin.elapsed() >= Duration::from_millis(400),
        "{:?}",
        begin.elapsed()
    );
    registry.fault(Route::blobs(), Fault::delay(soon));
    let begin = Instant::now();
    assert_eq!(get(&registry, "app", &blob).await.status, 200);
    assert!(begin.elapsed() >= soon);
    registry.fault(Route::blobs(), Fault::statuses([500]).after(soon));
    let begin = Instant::now();
    assert_eq!(get(&registry, "app", &blob).await.status, 500);
    assert!(begin.elapsed() >= soon);
}

#[tokio::test]
async fn answers_are_replaced_redirected_and_stripped() {
    let (registry, blob) = registry_with_blob().await;
    registry.fault(Route::blobs(), Fault::body(200, "text/html", "<html>"));
    registry.fault(Route::blobs(), Fault::redirect("http://127.0.0.1:1/x", 307));
    registry.fault(
        Route::blobs(),
        Fault::pass()
            .without_header("docker-content-digest")
            .header("X-Own", "1"),
    );
    let html = get(&registry, "app", &blob).await;
    assert_eq!(html.header("content-type"), "text/html");
    assert_eq!(html.text(), "<html>");
    let moved = get(&registry, "app", &blob).await;
    assert_eq!(
        (moved.status, moved.header("location")),
        (307, "http://127.0.0.1:1/x")
    );
    let stripped = get(&registry, "app", &blob).await;
    assert_eq!(
        (
            stripped.header("docker-content-digest"),
            stripped.header("x-own")
        ),
        ("", "1")
    );
    assert_eq!(stripped.body.len(), 1000);
}

#[tokio::test]
async fn an_expired_token_is_answered_with_a_challenge() {
    let (registry, blob) = registry_with_blob().await;
    registry.fault(Route::blobs(), Fault::expire_token());
    let refused = get(&registry, "app", &blob).await;
    assert_eq!(refused.status, 401);
    assert!(
        refused
            .header("www-authenticate")
            .starts_with("Bearer realm=")
    );
    assert_eq!(get(&registry, "app", &blob).await.status, 200);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_the_session_what_came() {
    let (registry, _) = registry_with_blob().await;
    registry.fault(
        Route::uploads().method("PATCH"),
        Fault::break_upload_after(300),
    );
    let begun = Answer::of(request(&registry, Method::POST, "app", "blobs/uploads/")).await;
    let session = begun.header("location").strip_prefix("/v2/app/").unwrap();
    let chunk = request(&registry, Method::PATCH, "app", session).body(vec![b'x'; 1000]);
    assert!(chunk.send().await.is_err());
    let state = get(&registry, "app", session).await;
    assert_eq!((state.status, state.header("range")), (204, "0-299"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_as_a_proxy_does() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .max_body_bytes(1000)
        .chunk_min_bytes(500)
        .start()
        .await;
    let begun = Answer::of(request(&registry, Method::POST, "app", "blobs/uploads/")).await;
    assert_eq!(begun.header("oci-chunk-min-length"), "500");
    let session = begun.header("location").strip_prefix("/v2/app/").unwrap();
    for (bytes, status, content_type) in [(1001, 413, "text/html"), (1000, 202, "")] {
        let chunk = request(&registry, Method::PATCH, "app", session).body(vec![b'x'; bytes]);
        let answer = Answer::of(chunk).await;
        let found = (answer.status, answer.header("content-type"));
        assert_eq!(found, (status, content_type));
    }
}

#[tokio::test]
async fn the_most_requests_at_a_time_are_counted() {
    let (registry, blob) = registry_with_blob().await;
    registry.fault(
        Route::blobs(),
        Fault::delay(Duration::from_millis(200)).times(3),
    );
    let (a, b, c) = tokio::join!(
        get(&registry, "app", &blob),
        get(&registry, "app", &blob),
        get(&registry, "app", &blob),
    );
    assert_eq!([a.status, b.status, c.status], [200; 3]);
    assert_eq!(registry.max_in_flight_seen(), 3);
}

#[tokio::test]
async fn a_dropped_registry_is_gone() {
    let (registry, _) = registry_with_blob().await;
    let url = registry.url("/v2/");
    let client = client();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 401);
    drop(registry);
    assert!(client.get(&url).send().await.is_err());
}
