use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use oci_content::{Digest, Registry, RepositoryName};
use registry_client::{CredentialError, CredentialSource, Credentials, Endpoint, ErrorKind};

use crate::bearer::{BASIC, bearer, challenge, good, is_token, tag, tokens, user, with};
use crate::support::{Recorder, Server, answer, name, options};

#[tokio::test]
async fn anonymous_first_then_a_token_for_the_clients_own_scope() {
    let server = bearer(|_, _| good()).await;
    let repository = server.repository(options());
    let reply = repository.get_manifest(&tag()).await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    assert_eq!(reply.requests(), 3);
    let reply = repository.head_manifest(&tag()).await.unwrap();
    assert_eq!(reply.requests(), 1, "the token goes along at once");
    assert_eq!(
        server.lines(),
        [
            "GET /v2/team/app/manifests/1.0",
            "GET /token?service=svc&scope=repository%3Ateam%2Fapp%3Apull",
            "GET /v2/team/app/manifests/1.0",
            "HEAD /v2/team/app/manifests/1.0",
        ]
    );
    let seen = server.seen();
    assert_eq!(seen[0].authorization(), None);
    assert_eq!(seen[1].authorization(), None, "nobody asks");

    let other = repository
        .client()
        .repository(&server.registry(), &name("public"));
    other.get_manifest(&tag()).await.unwrap();
    assert_eq!(
        server.seen()[4].authorization(),
        None,
        "a token is of one repository"
    );
}

#[tokio::test]
async fn user_and_password_go_to_the_realm_alone() {
    let server = bearer(|seen, _| match seen.authorization() {
        Some(BASIC) => good(),
        _ => answer(401),
    })
    .await;
    let reply = server.repository(with(user())).get_manifest(&tag()).await;
    assert_eq!(reply.unwrap().status(), StatusCode::OK);
    let carried: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| seen.authorization().map(str::to_owned))
        .collect();
    assert_eq!(
        carried,
        [None, Some(BASIC.into()), Some("Bearer good".into())]
    );
}

#[tokio::test]
async fn an_expired_token_is_refreshed_once_and_the_same_url_is_asked_again() {
    let valid = Arc::new(Mutex::new("t0".to_owned()));
    let current = Arc::clone(&valid);
    let server = Server::start(move |seen, _| {
        let current = current.lock().unwrap();
        match seen.authorization() {
            _ if is_token(seen) => answer(200).body(format!(r#"{{"token":"{current}"}}"#)),
            Some(carried) if carried == format!("Bearer {current}") => answer(200),
            _ => challenge(seen),
        }
    })
    .await;
    let repository = server.repository(options());
    repository.get_manifest(&tag()).await.unwrap();
    *valid.lock().unwrap() = "t1".into();
    let page = server.url("/v2/team/app/tags/list?last=b").parse().unwrap();
    let reply = repository.get_page(&page).await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    assert_eq!(reply.requests(), 3);
    assert_eq!(tokens(&server).len(), 2);
    let lines = server.lines();
    let pages: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("last=b"))
        .collect();
    assert_eq!(pages, ["GET /v2/team/app/tags/list?last=b"; 2]);
    *valid.lock().unwrap() = "t2".into();
    let tag = tag();
    let calls = (0..8).map(|_| repository.get_manifest(&tag));
    for reply in futures::future::join_all(calls).await {
        assert_eq!(reply.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(tokens(&server).len(), 3, "all of them share one refresh");
}

#[tokio::test]
async fn a_registry_that_never_accepts_is_asked_twice_and_no_more() {
    let server = Server::start(|seen, _| match is_token(seen) {
        true => good(),
        false => challenge(seen),
    })
    .await;
    let repository = server.repository(options());
    let reply = repository.get_manifest(&tag()).await.unwrap();
    assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(reply.error_codes(), ["UNAUTHORIZED"]);
    assert_eq!(reply.requests(), 3);
    let reply = repository.get_manifest(&tag()).await.unwrap();
    assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        reply.requests(),
        3,
        "the cached token, one refresh, once more"
    );
    assert_eq!(tokens(&server).len(), 2);
    let before = server.lines().len();
    let tag = tag();
    let calls = (0..8).map(|_| repository.get_manifest(&tag));
    for reply in futures::future::join_all(calls).await {
        assert_eq!(reply.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
    assert!(
        server.lines().len() - before <= 8 * 2 + 8,
        "bounded per call"
    );
}

#[tokio::test]
async fn a_401_without_a_challenge_that_can_be_met_is_a_value() {
    for header in [
        "",
        "Negotiate",
        "Bearer",
        "Basic realm=\"x\"",
        "Bearer realm=\"nowhere\"",
    ] {
        let server = Server::start(move |_, _| match header {
            "" => answer(401),
            header => answer(401).header("WWW-Authenticate", header),
        })
        .await;
        let reply = server.repository(options()).get_manifest(&tag()).await;
        assert_eq!(reply.unwrap().status(), StatusCode::UNAUTHORIZED);
        assert_eq!(server.lines().len(), 1, "{header}");
    }
}

#[tokio::test]
async fn a_basic_challenge_is_met_once_and_remembered() {
    let server = Server::start(|seen, _| match seen.authorization() {
        Some(BASIC) => answer(200),
        _ => answer(401).header("WWW-Authenticate", "Basic realm=\"r\""),
    })
    .await;
    let repository = server.repository(with(user()));
    for requests in [2, 1, 1] {
        let reply = repository.get_manifest(&tag()).await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK);
        assert_eq!(reply.requests(), requests);
    }
    let wrong = Credentials::basic("user", "other");
    let repository = server.repository(with(wrong));
    let reply = repository.get_manifest(&tag()).await.unwrap();
    assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(reply.requests(), 2);
    let reply = repository.get_manifest(&tag()).await.unwrap();
    assert_eq!(
        reply.requests(),
        1,
        "the same password is not tried again in one call"
    );
}

#[tokio::test]
async fn no_credential_reaches_another_origin() {
    let cdn = Server::start(|_, before| match before {
        0 => answer(200).body("blob"),
        _ => answer(302).header("Location", "BACK"),
    })
    .await;
    let target = cdn.url("/x");
    let server = Server::start(move |seen, _| match seen.authorization() {
        _ if is_token(seen) => good(),
        Some("Bearer good") => answer(307).header("Location", &target),
        _ if seen.target == "/back" => answer(200).body("anonymous"),
        _ => challenge(seen),
    })
    .await;
    let repository = server.repository(with(user()));
    let reply = repository.get_manifest(&tag()).await.unwrap();
    assert_eq!(reply.body(), "blob");
    assert!(cdn.seen().iter().all(|seen| seen.authorization().is_none()));

    // Not even when the other origin redirects back.
    let back = server.url("/back");
    let cdn = Server::start(move |_, _| answer(302).header("Location", &back)).await;
    let target = cdn.url("/x");
    let first = Server::start(move |seen, _| match seen.authorization() {
        _ if is_token(seen) => good(),
        Some("Bearer good") => answer(307).header("Location", &target),
        _ => challenge(seen),
    })
    .await;
    let reply = first.repository(with(user())).get_manifest(&tag()).await;
    let reply = reply.unwrap();
    assert_eq!(reply.body(), "anonymous");
    assert!(reply.is_foreign());
    assert_eq!(server.seen().last().unwrap().authorization(), None);
}

#[tokio::test]
async fn a_token_that_expires_during_an_upload_costs_one_replay() {
    let bytes = Bytes::from_static(b"blob");
    let digest = Digest::of(&bytes);
    let server = Server::start(move |seen, before| match seen.authorization() {
        _ if is_token(seen) => answer(200).body(format!(r#"{{"token":"t{before}"}}"#)),
        None => challenge(seen),
        Some("Bearer t1") if seen.method == "PUT" => challenge(seen),
        Some(_) if seen.method == "POST" => answer(202).header("Location", "/v2/u"),
        Some(_) => {
            assert_eq!(seen.body, b"blob");
            answer(201)
        }
    })
    .await;
    let repository = server.repository(options());
    repository
        .push_blob(&digest, 4, &bytes, None)
        .await
        .unwrap();
    let puts = server
        .seen()
        .iter()
        .filter(|seen| seen.method == "PUT")
        .count();
    assert_eq!((puts, tokens(&server).len()), (2, 2));
}

#[tokio::test]
async fn a_ping_proves_credentials_where_there_are_any() {
    let server = bearer(|seen, _| {
        assert_eq!(seen.target, "/token?service=svc");
        good()
    })
    .await;
    let client = registry_client::Client::new(with(user())).unwrap();
    let reply = client.ping(&server.registry()).await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    let client = registry_client::Client::new(options()).unwrap();
    let reply = client.ping(&server.registry()).await.unwrap();
    assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(tokens(&server).len(), 1);
}

#[derive(Debug)]
struct Failing;

#[async_trait]
impl CredentialSource for Failing {
    async fn credentials(
        &self,
        _: &Registry,
        _: Option<&RepositoryName>,
    ) -> Result<Option<Credentials>, CredentialError> {
        Err(CredentialError::new("config.json: cannot be read"))
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_had_are_an_error_and_never_taken_for_none() {
    let mut options = options();
    options.credentials = Some(Arc::new(Failing));
    let open = Server::start(|_, _| answer(200)).await;
    let repository = open.repository(options);
    for _ in 0..2 {
        let error = repository.get_manifest(&tag()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credentials);
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "config.json: cannot be read");
        assert!(error.to_string().contains(&open.host), "{error}");
    }
    assert!(open.lines().is_empty());
}

#[tokio::test]
async fn nothing_that_is_printed_holds_a_secret() {
    let server = bearer(|_, _| good()).await;
    let recorder = Arc::new(Recorder::default());
    let mut options = with(user());
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    options.client_identity = Some(b"identity-secret".to_vec());
    let text = format!("{options:?}");
    assert!(
        !text.contains("pass") && !text.contains("identity-secret"),
        "{text}"
    );
    options.client_identity = None;
    let repository = server.repository(options);
    let reply = repository.get_manifest(&tag()).await.unwrap();
    let told = recorder.requests.lock().unwrap();
    assert_eq!(told.len(), 3);
    assert_eq!(told[1].endpoint, Endpoint::Token);
    assert_eq!(told[1].url, server.url("/token"));
    let all = format!(
        "{told:?} {reply:?} {repository:?} {:?}",
        repository.client()
    );
    for secret in ["good", "pass\"", "dXNlcjpwYXNz", "Bearer", "scope"] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
    for secret in [
        Credentials::IdentityToken("secret".into()),
        Credentials::Bearer("secret".into()),
        Credentials::basic("u", "secret"),
    ] {
        assert!(!format!("{secret:?}").contains("secret"));
    }
}

#[tokio::test]
async fn each_observer_is_told_of_the_requests_of_its_own_clone() {
    let server = bearer(|_, _| good()).await;
    let [everyone, first, second] = [(); 3].map(|()| Arc::new(Recorder::default()));
    let mut options = with(user());
    options.observer = Some(Arc::<Recorder>::clone(&everyone));
    let shared = server.repository(options);
    for recorder in [&first, &second] {
        let own = shared
            .client()
            .with_observer(Arc::<Recorder>::clone(recorder));
        let own = own.repository(shared.registry(), shared.name());
        own.get_manifest(&tag()).await.unwrap();
    }
    let told = |recorder: &Recorder| {
        let requests = recorder.requests.lock().unwrap();
        requests
            .iter()
            .map(|told| told.endpoint)
            .collect::<Vec<_>>()
    };
    // The second one finds the token that the first one has asked for.
    let (ping, token, manifest) = (Endpoint::Ping, Endpoint::Token, Endpoint::Manifest);
    assert_eq!(told(&first), [ping, token, manifest]);
    assert_eq!(told(&second), [manifest]);
    assert_eq!(told(&everyone), []);
}
