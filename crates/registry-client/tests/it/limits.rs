use std::sync::Arc;
use std::time::{Duration, Instant};

use oci_content::{Digest, Tag};
use registry_client::{Endpoint, ErrorKind};

use crate::support::{Recorder, Server, Told, answer, options};

fn tag() -> Tag {
    "1.0".parse().unwrap()
}

#[tokio::test]
async fn a_body_over_the_limit_is_an_error_that_names_it() {
    for length in [Some(101), None] {
        let server =
            Server::start(move |_, _| answer(200).body("x".repeat(101)).length(length)).await;
        let mut options = options();
        options.max_manifest_bytes = 100;
        options.max_list_bytes = 100;
        let recorder = Arc::new(Recorder::default());
        options.observer = Some(Arc::<Recorder>::clone(&recorder));
        let repository = server.repository(options.clone());
        let error = repository.get_manifest(&tag()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        let text = error.to_string();
        assert!(
            text.ends_with("larger than max_manifest_bytes (100 bytes)"),
            "{text}"
        );
        for error in [
            repository.tags(None).await.unwrap_err(),
            repository
                .referrers(&Digest::of(b"x"), None)
                .await
                .unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(
                text.ends_with("larger than max_list_bytes (100 bytes)"),
                "{text}"
            );
        }
        assert_eq!(server.lines().len(), 3, "a limit is not tried again");
        for told in &*recorder.requests.lock().unwrap() {
            assert_eq!(told.error, Some(ErrorKind::LimitExceeded));
            assert!(length.is_none() || told.body_bytes == 0, "{told:?}");
        }
        options.max_manifest_bytes = 101;
        let repository = server.repository(options);
        assert_eq!(
            repository.get_manifest(&tag()).await.unwrap().body().len(),
            101
        );
    }
}

#[tokio::test]
async fn the_body_of_a_refusal_is_cut_instead() {
    let server = Server::start(|_, _| answer(404).body("x".repeat(200_000))).await;
    let reply = server.repository(options()).get_manifest(&tag()).await;
    assert_eq!(reply.unwrap().body().len(), 64 << 10);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let server = Server::start(|_, _| answer(200).delay(Duration::from_secs(60))).await;
    let mut options = options();
    options.response_timeout = Duration::from_millis(50);
    let recorder = Arc::new(Recorder::default());
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    let started = Instant::now();
    let error = server
        .repository(options)
        .get_manifest(&tag())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        error.to_string().ends_with("no answer within 50ms"),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(60));
    let told = recorder.requests.lock().unwrap();
    let errors: Vec<_> = told.iter().map(|told| told.error).collect();
    assert_eq!(errors, [Some(ErrorKind::Timeout); 6]);
}

#[tokio::test]
async fn a_body_that_stalls_or_drips_is_given_up() {
    for drip in [false, true] {
        let server = Server::start(move |_, _| match drip {
            false => answer(200).body("x").length(Some(9)).stall(),
            true => answer(200)
                .body("x".repeat(1000))
                .slowly(1, Duration::from_millis(10)),
        })
        .await;
        let mut options = options();
        options.idle_timeout = Duration::from_millis(100);
        options.retry.max_attempts = std::num::NonZeroU32::MIN;
        let error = server
            .repository(options)
            .get_manifest(&tag())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{drip}");
    }
}

#[tokio::test]
async fn a_slow_body_that_moves_is_left_to_come() {
    let server = Server::start(|_, _| {
        answer(200)
            .body("x".repeat(6 * 1024))
            .slowly(1024, Duration::from_millis(400))
    })
    .await;
    let mut options = options();
    // Less than the whole body takes, and four times what a piece takes.
    options.idle_timeout = Duration::from_millis(1600);
    let reply = server.repository(options).get_manifest(&tag()).await;
    let reply = reply.unwrap();
    assert_eq!(reply.body().len(), 6 * 1024);
    assert!(reply.elapsed() > Duration::from_millis(1600));
}

#[tokio::test]
async fn how_slow_a_body_may_be_is_an_option() {
    let server = Server::start(|_, _| {
        answer(200)
            .body("x".repeat(200))
            .slowly(10, Duration::from_millis(30))
    })
    .await;
    let mut options = options();
    options.idle_timeout = Duration::from_millis(400);
    options.retry.max_attempts = std::num::NonZeroU32::MIN;
    let error = server.repository(options.clone());
    let error = error.get_manifest(&tag()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let text = error.to_string();
    assert!(text.contains("the body stalled: "), "{text}");
    assert!(text.ends_with(" bytes in 400ms, less than 409"), "{text}");
    // Settings that demand less, down to a single byte.
    for rate in [100, 0] {
        options.min_bytes_per_second = rate;
        let repository = server.repository(options.clone());
        let reply = repository.get_manifest(&tag()).await.unwrap();
        assert_eq!(reply.body().len(), 200, "{rate}");
    }
}

#[tokio::test]
async fn the_observer_hears_of_each_request_without_its_secrets() {
    let server = Server::start(|_, before| match before {
        0 => answer(500).body("oops"),
        _ => answer(200).body("[]"),
    })
    .await;
    let recorder = Arc::new(Recorder::default());
    let mut options = options();
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    let repository = server.repository(options);
    let page = server.url("/v2/team/app/tags/list?last=secret");
    repository.get_page(&page.parse().unwrap()).await.unwrap();
    let told = |status, attempt, body_bytes| Told {
        method: "GET".into(),
        endpoint: Endpoint::Tags,
        url: server.url("/v2/team/app/tags/list"),
        status: Some(status),
        error: None,
        attempt,
        body_bytes,
        sent_bytes: 0,
    };
    assert_eq!(
        *recorder.requests.lock().unwrap(),
        [told(500, 1, 4), told(200, 2, 2)]
    );
}

#[tokio::test]
async fn silence_of_five_seconds_is_reported() {
    let server = Server::start(|seen, _| match seen.target.contains("/tags/list") {
        true => answer(200).delay(Duration::from_millis(5500)),
        false => answer(200),
    })
    .await;
    let recorder = Arc::new(Recorder::default());
    let mut options = options();
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    let repository = server.repository(options);
    repository.get_manifest(&tag()).await.unwrap();
    assert!(recorder.silences.lock().unwrap().is_empty());
    repository.tags(None).await.unwrap();
    let silences = recorder.silences.lock().unwrap();
    let [(url, silence)] = &silences[..] else {
        panic!("{silences:?}")
    };
    assert!(url.ends_with("/tags/list"), "{url}");
    assert!((5..10).contains(&silence.as_secs()), "{silence:?}");
}
