use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use oci_content::{Digest, Tag};
use registry_client::{Client, ClientOptions, ErrorKind};

use crate::support::{Recorder, Server, answer, hang_up, name, options};

fn tag() -> Tag {
    "1.0".parse().unwrap()
}

#[tokio::test]
async fn a_burst_of_server_errors_is_outlasted() {
    for status in [408, 429, 499, 500, 502, 503, 504, 522] {
        let server = Server::start(move |_, before| match before {
            0..3 => answer(status),
            _ => answer(200).body("x"),
        })
        .await;
        let reply = server.repository(options()).get_manifest(&tag()).await;
        let reply = reply.unwrap();
        assert_eq!(reply.status(), StatusCode::OK, "{status}");
        assert_eq!(reply.requests(), 4);
    }
}

#[tokio::test]
async fn the_last_answer_stands_when_the_tries_are_used_up() {
    let recorder = Arc::new(Recorder::default());
    let server = Server::start(|_, _| answer(503).body("busy")).await;
    let mut options = options();
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    options.retry.max_attempts = NonZeroU32::new(3).unwrap();
    let reply = server.repository(options).get_manifest(&tag()).await;
    let reply = reply.unwrap();
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.body(), "busy");
    assert_eq!(reply.requests(), 3);
    let attempts: Vec<_> = recorder
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|told| told.attempt)
        .collect();
    assert_eq!(attempts, [1, 2, 3]);
    let waits = recorder.waits.lock().unwrap();
    assert_eq!(waits.len(), 2);
    assert!(waits.iter().all(|(_, status)| *status == Some(503)));
}

#[tokio::test]
async fn broken_connections_are_retried_and_end_in_an_error() {
    let server = Server::start(|_, before| match before {
        0 => hang_up(),
        1 => answer(200).body("half").length(Some(100)).reset(),
        2 => answer(200).body("half").length(Some(100)),
        _ => answer(200).body("whole"),
    })
    .await;
    let reply = server.repository(options()).get_manifest(&tag()).await;
    assert_eq!(reply.unwrap().body(), "whole");
    assert_eq!(server.lines().len(), 4);

    let server = Server::start(|_, _| hang_up()).await;
    let error = server
        .repository(options())
        .get_manifest(&tag())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reset);
    assert_eq!(server.lines().len(), 6);
    assert_eq!(
        error.to_string(),
        format!(
            "GET http://{}/v2/team/app/manifests/1.0: the connection broke",
            server.host
        )
    );
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error_after_all_tries() {
    // Bound but not listening, so that nobody else can use the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let host = socket.local_addr().unwrap().to_string();
    let recorder = Arc::new(Recorder::default());
    let mut options = options();
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    let client = Client::new(options).unwrap();
    let error = client.ping(&host.parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(error.registry().as_str(), host);
    let requests = recorder.requests.lock().unwrap();
    assert_eq!(requests.len(), 6);
    assert!(
        requests
            .iter()
            .all(|told| told.error == Some(ErrorKind::Connect))
    );
}

#[tokio::test]
async fn a_write_by_tag_is_repeated_only_after_a_refusal() {
    let put = async |server: &Server| {
        server
            .repository(options())
            .put_manifest(&tag(), Bytes::from_static(b"{}"), "a/b", None)
            .await
    };
    for (status, requests) in [(429, 2), (503, 2), (500, 1), (502, 1), (504, 1), (408, 1)] {
        let server = Server::start(move |_, before| match before {
            0 => answer(status),
            _ => answer(201),
        })
        .await;
        let reply = put(&server).await.unwrap();
        let expected = if requests == 2 { 201 } else { status };
        assert_eq!(reply.status().as_u16(), expected, "{status}");
        assert_eq!(server.lines().len(), requests, "{status}");
    }
    let server = Server::start(|_, _| hang_up()).await;
    assert_eq!(put(&server).await.unwrap_err().kind(), ErrorKind::Reset);
    assert_eq!(server.lines().len(), 1);

    let server = Server::start(|_, before| match before {
        0 => hang_up(),
        1 => answer(500),
        _ => answer(201),
    })
    .await;
    let bytes = Bytes::from_static(b"{}");
    let reply = server
        .repository(options())
        .put_manifest(&Digest::of(&bytes), bytes.clone(), "a/b", None)
        .await
        .unwrap();
    assert_eq!(
        reply.status(),
        StatusCode::CREATED,
        "by digest it is repeated"
    );
    assert!(server.seen().iter().all(|seen| seen.body == bytes));
}

#[tokio::test]
async fn retry_after_is_obeyed_in_full() {
    let server = Server::start(|_, before| match before {
        0 => answer(429).header("Retry-After", "1"),
        1 => answer(503)
            .header("Date", "Tue, 24 Nov 2026 20:28:12 GMT")
            .header("Retry-After", "Tue, 24 Nov 2026 20:28:13 GMT"),
        _ => answer(200),
    })
    .await;
    let started = Instant::now();
    let reply = server.repository(options()).get_manifest(&tag()).await;
    assert_eq!(reply.unwrap().status(), StatusCode::OK);
    assert!(started.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn without_retry_after_the_reset_of_the_rate_limit_is_waited_for() {
    let recorder = Arc::new(Recorder::default());
    let server = Server::start(|_, before| match before {
        0 => answer(429)
            .header("RateLimit-Remaining", "0")
            .header("RateLimit-Reset", "1"),
        _ => answer(200).body("x"),
    })
    .await;
    let mut options = options();
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    let reply = server
        .repository(options)
        .get_manifest(&tag())
        .await
        .unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    let waits = recorder.waits.lock().unwrap();
    assert_eq!(*waits, [(Duration::from_secs(1), Some(429))]);
}

#[tokio::test]
async fn a_wait_that_nobody_can_mean_is_as_if_it_were_not_asked_for() {
    for (name, value) in [
        ("X-RateLimit-Reset", "1795552122000"),
        ("RateLimit-Reset", "3600000"),
        ("Retry-After", "1795552122"),
        ("Retry-After", "1795552122000"),
        ("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"),
    ] {
        let server = Server::start(move |_, before| match before {
            0 => answer(429)
                .header("Date", "Tue, 24 Nov 2026 20:28:12 GMT")
                .header(name, value),
            _ => answer(200),
        })
        .await;
        let repository = server.repository(options());
        let reply = repository.get_manifest(&tag()).await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK, "{name}: {value}");
        assert!(reply.elapsed() < Duration::from_secs(1), "{name}: {value}");
    }
}

#[tokio::test]
async fn a_retry_after_beyond_the_deadline_is_given_to_the_caller_at_once() {
    let server = Server::start(|_, _| answer(429).header("Retry-After", "86400")).await;
    let repository = server.repository(options());
    for _ in 0..2 {
        let started = Instant::now();
        let reply = repository.get_manifest(&tag()).await.unwrap();
        assert_eq!(reply.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(reply.retry_after(), Some(Duration::from_secs(86_400)));
        assert_eq!(reply.requests(), 1);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn one_429_closes_the_gate_for_all_requests_to_the_host() {
    let started = Instant::now();
    let early = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&early);
    let server = Server::start(move |_, before| {
        if before == 0 {
            return answer(429).header("Retry-After", "1");
        }
        if started.elapsed() < Duration::from_secs(1) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        answer(200)
    })
    .await;
    let recorder = Arc::new(Recorder::default());
    let mut options = options();
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    let repository = server.repository(options);
    let first = tokio::spawn({
        let repository = repository.clone();
        async move { repository.get_manifest(&tag()).await }
    });
    while recorder.waits.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let tag = tag();
    let calls = (0..8).map(|_| repository.get_manifest(&tag));
    for reply in futures::future::join_all(calls).await {
        assert_eq!(reply.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(early.load(Ordering::Relaxed), 0);
    assert_eq!(server.lines().len(), 10);
    let waits = recorder.waits.lock().unwrap();
    assert_eq!(*waits, [(Duration::from_secs(1), Some(429))], "told once");
}

#[tokio::test]
async fn a_burst_of_429s_is_one_wait() {
    let server = Server::start(|_, before| match before {
        0..4 => answer(429)
            .header("Retry-After", "1")
            .delay(Duration::from_millis(100)),
        _ => answer(200),
    })
    .await;
    let recorder = Arc::new(Recorder::default());
    let mut options = options();
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    let repository = server.repository(options);
    let tag = tag();
    let calls = (0..4).map(|_| repository.get_manifest(&tag));
    for reply in futures::future::join_all(calls).await {
        assert_eq!(reply.unwrap().requests(), 2);
    }
    assert_eq!(recorder.waits.lock().unwrap().len(), 1);
}

/// Answers after 50 ms and keeps the largest number of requests that were in flight at once. The
/// first `throttled` requests are answered with 429.
async fn counting(throttled: usize) -> (wiremock::MockServer, Arc<AtomicUsize>) {
    const HOLD: Duration = Duration::from_millis(50);
    let most = Arc::new(AtomicUsize::new(0));
    let max = Arc::clone(&most);
    let seen = AtomicUsize::new(0);
    let started = std::sync::Mutex::new(Vec::<Instant>::new());
    let server = wiremock::MockServer::start().await;
    wiremock::Mock::given(wiremock::matchers::any())
        .respond_with(move |_: &wiremock::Request| {
            if seen.fetch_add(1, Ordering::SeqCst) < throttled {
                return wiremock::ResponseTemplate::new(429).set_delay(HOLD);
            }
            let mut started = started.lock().unwrap();
            started.retain(|at| at.elapsed() < HOLD);
            started.push(Instant::now());
            max.fetch_max(started.len(), Ordering::SeqCst);
            wiremock::ResponseTemplate::new(200)
                .set_body_string("{}")
                .set_delay(HOLD)
        })
        .mount(&server)
        .await;
    (server, most)
}

async fn get_many(server: &wiremock::MockServer, options: ClientOptions, calls: usize) {
    let registry = server.address().to_string().parse().unwrap();
    let client = Client::new(options).unwrap();
    let repository = client.repository(&registry, &name("a"));
    let tag = tag();
    let calls = (0..calls).map(|_| repository.get_manifest(&tag));
    for reply in futures::future::join_all(calls).await {
        assert_eq!(reply.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn no_more_requests_are_in_flight_than_allowed() {
    let (server, most) = counting(0).await;
    get_many(&server, options(), 48).await;
    let default = most.load(Ordering::SeqCst);
    assert!(default > 3 && default <= 16, "{default}");

    let (server, most) = counting(0).await;
    let mut three = options();
    three.max_in_flight = NonZeroUsize::new(3).unwrap();
    get_many(&server, three, 12).await;
    assert!(most.load(Ordering::SeqCst) <= 3);

    let (server, most) = counting(0).await;
    let mut one = options();
    let host = one.hosts.entry(server.address().to_string()).or_default();
    host.max_in_flight = NonZeroUsize::new(1);
    get_many(&server, one, 6).await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_429_that_names_no_time_lowers_the_requests_in_flight() {
    let (server, most) = counting(8).await;
    let mut eight = options();
    eight.max_in_flight = NonZeroUsize::new(8).unwrap();
    get_many(&server, eight, 8).await;
    assert!(
        most.load(Ordering::SeqCst) <= 5,
        "halved, and one more after four good answers"
    );
}

#[tokio::test]
async fn a_dropped_call_is_told_and_leaves_its_place() {
    let server = Server::start(|seen, _| match seen.method.as_str() {
        "GET" => answer(200).delay(Duration::from_secs(600)),
        _ => answer(200),
    })
    .await;
    let recorder = Arc::new(Recorder::default());
    let mut options = options();
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    options.max_in_flight = NonZeroUsize::MIN;
    let repository = server.repository(options);
    let tag = tag();
    tokio::select! {
        _ = repository.get_manifest(&tag) => unreachable!("it is never answered"),
        () = server.has_seen(1) => {}
    }
    let head = repository.head_manifest(&tag).await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(recorder.statuses(), [0, 200]);
}
