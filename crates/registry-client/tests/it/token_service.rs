use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use oci_content::Digest;
use registry_client::{Credentials, ErrorKind};

use crate::bearer::{bearer, challenge, good, is_token, tag, tokens, user, with};
use crate::support::{Recorder, Server, answer, name, options};

#[tokio::test]
async fn many_parallel_first_calls_ask_for_one_token() {
    let server = bearer(|_, _| good().delay(Duration::from_millis(100))).await;
    let mut options = options();
    options.max_in_flight = std::num::NonZeroUsize::new(32).unwrap();
    let repository = server.repository(options);
    let tag = tag();
    let calls = (0..32).map(|_| repository.get_manifest(&tag));
    for reply in futures::future::join_all(calls).await {
        assert_eq!(reply.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(tokens(&server).len(), 1);
}

#[tokio::test]
async fn a_token_is_had_even_with_one_request_in_flight() {
    let server = bearer(|_, _| good()).await;
    let mut options = options();
    options.max_in_flight = std::num::NonZeroUsize::MIN;
    let repository = server.repository(options);
    let tag = tag();
    let calls = (0..4).map(|_| repository.get_manifest(&tag));
    for reply in futures::future::join_all(calls).await {
        assert_eq!(reply.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let server = bearer(|seen, _| {
        assert_eq!(seen.method, "POST");
        assert_eq!(seen.target, "/token");
        assert_eq!(seen.authorization(), None);
        assert_eq!(
            String::from_utf8_lossy(&seen.body),
            "grant_type=refresh_token&client_id=registry-client&refresh_token=a%2Bb&service=svc\
             &scope=repository%3Ateam%2Fapp%3Apull"
        );
        answer(200).body(r#"{"access_token":"good"}"#)
    })
    .await;
    let options = with(Credentials::IdentityToken("a+b".into()));
    let reply = server.repository(options).get_manifest(&tag()).await;
    assert_eq!(reply.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_bearer_token_among_the_credentials_is_taken_as_it_is() {
    let server = bearer(|_, _| answer(500)).await;
    let options = with(Credentials::Bearer("good".into()));
    let reply = server.repository(options).get_manifest(&tag()).await;
    assert_eq!(reply.unwrap().status(), StatusCode::OK);
    assert_eq!(tokens(&server).len(), 0);
}

#[tokio::test]
async fn a_token_that_expires_is_asked_for_again() {
    let server = bearer(|_, _| answer(200).body(r#"{"token":"good","expires_in":1}"#)).await;
    let repository = server.repository(options());
    repository.get_manifest(&tag()).await.unwrap();
    repository.get_manifest(&tag()).await.unwrap();
    assert_eq!(tokens(&server).len(), 1);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let reply = repository.get_manifest(&tag()).await.unwrap();
    assert_eq!(reply.requests(), 2, "before it is used, not after a 401");
    assert_eq!(tokens(&server).len(), 2);
}

#[tokio::test]
async fn a_token_service_that_fails_is_an_error_that_carries_its_answer() {
    for (reply, kind, requests, text) in [
        (
            answer(403).body(r#"{"errors":[{"code":"DENIED"}]}"#),
            ErrorKind::Token,
            1,
            "the token service answers 403 Forbidden",
        ),
        (
            answer(401),
            ErrorKind::Token,
            1,
            "the token service answers 401 Unauthorized",
        ),
        (
            answer(500),
            ErrorKind::Token,
            6,
            "the token service answers 500 Internal Server Error",
        ),
        (
            answer(200).body("<html>secret"),
            ErrorKind::Token,
            1,
            "the token service answers with no token object",
        ),
        (
            answer(200).body(r#"{"token":""}"#),
            ErrorKind::Token,
            1,
            "the token service's answer has no token",
        ),
        (
            answer(200).body(vec![b' '; 70_000]),
            ErrorKind::LimitExceeded,
            1,
            "the answer is larger than max_token_bytes (65536 bytes)",
        ),
    ] {
        let status = reply.clone();
        let server = bearer(move |_, _| status.clone()).await;
        let error = server
            .repository(with(user()))
            .get_manifest(&tag())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{text}");
        assert_eq!(tokens(&server).len(), requests, "{text}");
        let expected = format!("GET http://{}/token: {text}", server.host);
        assert_eq!(error.to_string(), expected);
        let all = format!("{error:?} {error}");
        assert!(
            !all.contains("secret") && !all.contains("dXNlcjpwYXNz"),
            "{all}"
        );
        if requests == 6 || text.contains("403") {
            assert!(error.response().is_some());
        }
    }
}

#[tokio::test]
async fn calls_that_wait_for_a_token_share_its_failure() {
    let server = bearer(|_, _| answer(403).delay(Duration::from_millis(300))).await;
    let repository = server.repository(options());
    let tag = tag();
    let calls = (0..8).map(|_| repository.get_manifest(&tag));
    for reply in futures::future::join_all(calls).await {
        assert_eq!(reply.unwrap_err().kind(), ErrorKind::Token);
    }
    assert_eq!(tokens(&server).len(), 1);
}

#[tokio::test]
async fn a_token_service_under_load_is_waited_for() {
    let server = bearer(|_, before| match before {
        1 => answer(429).header("Retry-After", "1"),
        2 => answer(503),
        _ => good(),
    })
    .await;
    let recorder = Arc::new(Recorder::default());
    let mut options = options();
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    let started = std::time::Instant::now();
    let reply = server.repository(options).get_manifest(&tag()).await;
    assert_eq!(reply.unwrap().requests(), 5);
    assert!(started.elapsed() >= Duration::from_secs(1));
    let waits = recorder.waits.lock().unwrap();
    assert_eq!(waits[0], (Duration::from_secs(1), Some(429)));
}

#[tokio::test]
async fn a_realm_that_may_not_be_asked_gets_no_request() {
    let other = Server::start(|_, _| good()).await;
    let port = other.host.rsplit_once(':').unwrap().1.to_owned();
    for realm in [
        "http://10.0.0.1/token".to_owned(),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "http://auth.example.com/token".to_owned(),
        // 0.0.0.0 would reach this machine, but not over https.
        format!("http://0.0.0.0:{port}/token"),
    ] {
        let header = format!("Bearer realm=\"{realm}\"");
        let server =
            Server::start(move |_, _| answer(401).header("WWW-Authenticate", &header)).await;
        let error = server
            .repository(with(user()))
            .get_manifest(&tag())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UntrustedRealm, "{realm}");
        assert_eq!(server.lines().len(), 1);
    }
    assert!(other.lines().is_empty());
}

#[tokio::test]
async fn redirects_of_the_token_service_are_checked_and_lose_the_password() {
    let second = Server::start(|seen, _| match seen.authorization() {
        None => good(),
        Some(_) => answer(500),
    })
    .await;
    let target = second.url("/token2");
    let server = bearer(move |_, _| answer(307).header("Location", &target)).await;
    let reply = server.repository(with(user())).get_manifest(&tag()).await;
    assert_eq!(reply.unwrap().status(), StatusCode::OK);
    assert_eq!(second.lines(), ["GET /token2"]);

    for target in ["http://10.0.0.1/token", "https://169.254.169.254/"] {
        let server = bearer(move |_, _| answer(302).header("Location", target)).await;
        let error = server
            .repository(options())
            .get_manifest(&tag())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UntrustedRealm, "{target}");
        assert_eq!(tokens(&server).len(), 1);
    }
    let server = bearer(|_, _| answer(302).header("Location", "/token")).await;
    let error = server
        .repository(options())
        .get_manifest(&tag())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Redirect);
    assert_eq!(tokens(&server).len(), 6);

    let target = second.url("/token2");
    let server = bearer(move |_, _| answer(307).header("Location", &target)).await;
    let error = server
        .repository(with(Credentials::IdentityToken("secret".into())))
        .get_manifest(&tag())
        .await
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Redirect,
        "a refresh token is not sent on"
    );
    assert_eq!(second.lines().len(), 1);
}

#[tokio::test]
async fn each_kind_of_access_has_its_scope() {
    let bytes = Bytes::from_static(b"blob");
    let digest = Digest::of(&bytes);
    let server = Server::start(|seen, _| match seen.authorization() {
        _ if is_token(seen) => good(),
        Some("Bearer good") if seen.method == "POST" => answer(202).header("Location", "/v2/u"),
        Some("Bearer good") => answer(201),
        _ => challenge(seen),
    })
    .await;
    let repository = server.repository(options());
    repository.head_manifest(&digest).await.unwrap();
    repository
        .put_manifest(&digest, bytes.clone(), "a/b", None)
        .await
        .unwrap();
    repository.delete_manifest(&digest).await.unwrap();
    repository
        .push_blob(&digest, 4, &bytes, Some(&name("base")))
        .await
        .unwrap();
    let scopes: Vec<_> = tokens(&server)
        .iter()
        .map(|seen| seen.target.split_once("scope=").unwrap().1.to_owned())
        .collect();
    assert_eq!(
        scopes,
        [
            "repository%3Ateam%2Fapp%3Apull",
            "repository%3Ateam%2Fapp%3Apull%2Cpush",
            "repository%3Ateam%2Fapp%3Apull%2Cpush%2Cdelete",
            "repository%3Ateam%2Fapp%3Apull%2Cpush&scope=repository%3Abase%3Apull",
        ]
    );
}
