use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use oci_content::Digest;
use registry_client::{Client, Credentials, ErrorKind};

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
            "the token service answers 403 Forbidden: DENIED",
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
            3,
            "the answer of the token service is not a token object",
        ),
        (
            answer(200).body(r#"{"token":""}"#),
            ErrorKind::Token,
            1,
            "the token service's answer has no token",
        ),
        (
            answer(200).body(r#"{"errors":[{"code":"DENIED","message":"not you"}]}"#),
            ErrorKind::Token,
            1,
            "the token service's answer has no token: not you",
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

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_asked_for_again() {
    for broken in [
        answer(200).body(r#"{"token":"go"#),
        answer(200).body(""),
        answer(204).length(None),
        answer(200).body("\u{feff}{\"token\":\"good\"}"),
        answer(200).body("<html>"),
        answer(200).body(r#"["good"]"#),
        answer(200).body(r#"{"token":7}"#),
        answer(200).body("\x1f\u{8b}\x08"),
    ] {
        let script = broken.clone();
        let server = bearer(move |_, before| match before {
            1 | 2 => script.clone(),
            _ => answer(201).body(r#"{"token":"good"}"#),
        })
        .await;
        let reply = server.repository(options()).get_manifest(&tag()).await;
        assert_eq!(reply.unwrap().requests(), 5, "{broken:?}");

        let script = broken.clone();
        let server = bearer(move |_, _| script.clone()).await;
        let error = server.repository(options()).get_manifest(&tag()).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Token, "{broken:?}");
        assert_eq!(tokens(&server).len(), 3, "{broken:?}");
    }
}

#[tokio::test]
async fn the_token_services_own_words_are_repeated_without_the_secret() {
    let long = format!(r#"{{"details":"{}"}}"#, "x".repeat(1000));
    let cut = format!(": {}…", "x".repeat(255));
    for (body, said) in [
        (
            r#"{"errors":[{"code":"DENIED","message":"no seat left"}]}"#,
            ": no seat left",
        ),
        (
            r#"{"error":"invalid_grant","error_description":"token was revoked"}"#,
            ": token was revoked",
        ),
        (r#"{"error":"invalid_grant"}"#, ": invalid_grant"),
        (
            r#"{"details":"incorrect username or password"}"#,
            ": incorrect username or password",
        ),
        (
            r#"{"message":"wrong password sw0rdfish"}"#,
            ": wrong password ***",
        ),
        ("plain\x1b[31m words", ": plain [31m words"),
        ("<html>", ""),
        ("", ""),
        (&long, &cut),
    ] {
        let text = body.to_owned();
        let server = bearer(move |_, _| answer(401).body(&text)).await;
        let secret = Credentials::basic("user", "sw0rdfish");
        let error = server.repository(with(secret)).get_manifest(&tag()).await;
        let error = error.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "GET http://{}/token: the token service answers 401 Unauthorized{said}",
                server.host
            )
        );
        let secret = Credentials::IdentityToken("sw0rdfish".into());
        let error = server.repository(with(secret)).get_manifest(&tag()).await;
        assert!(!format!("{:?}", error.unwrap_err()).contains("sw0rdfish"));
    }
}

/// A token service that accepts each refresh token once and returns the next one.
async fn rotating() -> Server {
    let valid = Arc::new(Mutex::new(("r0".to_owned(), 0)));
    Server::start(move |seen, _| match seen.authorization() {
        _ if is_token(seen) => {
            let mut valid = valid.lock().unwrap();
            let (current, number) = &mut *valid;
            let body = String::from_utf8_lossy(&seen.body).into_owned();
            if !body.contains(&format!("refresh_token={current}&")) {
                return answer(400).body(r#"{"error":"invalid_grant"}"#);
            }
            *number += 1;
            *current = format!("r{number}");
            answer(200).body(format!(
                r#"{{"access_token":"good","refresh_token":"{current}","expires_in":300}}"#
            ))
        }
        Some("Bearer good") => answer(200),
        _ => challenge(seen),
    })
    .await
}

#[tokio::test]
async fn a_refresh_token_that_the_service_replaces_is_used_from_then_on() {
    let server = rotating().await;
    let client = Client::new(with(Credentials::IdentityToken("r0".into()))).unwrap();
    let names: Vec<_> = (0..8).map(|n| name(&format!("team/app{n}"))).collect();
    let tag = tag();
    let calls = names.iter().map(|name| {
        let repository = client.repository(&server.registry(), name);
        let tag = &tag;
        async move { repository.get_manifest(tag).await }
    });
    for reply in futures::future::join_all(calls).await {
        assert_eq!(reply.unwrap().status(), StatusCode::OK);
    }
    let used: Vec<_> = tokens(&server)
        .iter()
        .map(|seen| {
            let body = String::from_utf8_lossy(&seen.body).into_owned();
            let (_, rest) = body.split_once("refresh_token=r").unwrap();
            rest.split('&').next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(used, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    let all = format!("{client:?}");
    assert!(!all.contains("r8") && !all.contains("r0"), "{all}");
}

#[tokio::test]
async fn a_replaced_refresh_token_that_is_refused_gives_way_to_the_stored_one() {
    let server = bearer(|seen, _| {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        match body.contains("refresh_token=stored&") {
            true => {
                answer(200).body(r#"{"access_token":"good","refresh_token":"void","expires_in":1}"#)
            }
            false => answer(400).body(r#"{"error":"invalid_grant"}"#),
        }
    })
    .await;
    let repository = server.repository(with(Credentials::IdentityToken("stored".into())));
    repository.get_manifest(&tag()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let reply = repository.get_manifest(&tag()).await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    assert_eq!(tokens(&server).len(), 3);
}

#[tokio::test]
async fn a_token_for_the_catalog_is_asked_for_with_its_scope() {
    for options in [options(), with(user())] {
        let server = bearer(|_, _| good()).await;
        let client = Client::new(options).unwrap();
        let catalog = client.catalog(&server.registry());
        let reply = catalog.repositories(Some(10)).await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK);
        let asked = tokens(&server);
        let target = asked[0].target.replace("%3A", ":");
        assert!(
            target.contains("scope=registry:catalog:*") && !target.contains("user/image"),
            "{target}"
        );
        let last = server.seen().pop().unwrap();
        assert_eq!(last.target, "/v2/_catalog?n=10");
    }
}
