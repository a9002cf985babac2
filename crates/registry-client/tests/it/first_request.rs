//! What is requested from a registry before the first request, and what a challenge with another
//! scope changes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use oci_content::{Registry, RepositoryName};
use registry_client::{
    Client, ClientOptions, CredentialError, CredentialSource, Credentials, Endpoint, ErrorKind,
};

use crate::bearer::{BASIC, good, is_token, tag, tokens, user, with};
use crate::support::{Answer, Recorder, Seen, Server, answer, hang_up, name, options};

const HIDDEN: &str = r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#;

fn is_ping(seen: &Seen) -> bool {
    seen.target == "/v2/"
}

fn bearer_challenge(seen: &Seen, scope: &str) -> String {
    let host = seen.header("host").unwrap();
    let scope = match scope {
        "" => String::new(),
        scope => format!(",scope=\"{scope}\""),
    };
    format!("Bearer realm=\"http://{host}/token\",service=\"svc\"{scope}")
}

/// A registry that shows nothing without this header, and whose `/v2/` is answered by `ping`.
async fn hiding(
    allowed: &'static str,
    hidden: u16,
    ping: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> Server {
    Server::start(move |seen, _| match seen.authorization() {
        _ if is_token(seen) => good(),
        None if is_ping(seen) => ping(seen),
        Some(carried) if carried == allowed => answer(200).body("private"),
        _ if hidden == 200 => answer(200).body("public"),
        _ => answer(hidden).body(HIDDEN),
    })
    .await
}

fn basic_ping() -> Answer {
    answer(401).header("WWW-Authenticate", "Basic realm=\"r\"")
}

#[tokio::test]
async fn what_is_hidden_without_a_challenge_is_seen_from_the_first_request_on() {
    for hidden in [404, 403, 401, 200] {
        for (what, allowed, ping) in [
            ("basic", BASIC, (|_| basic_ping()) as fn(&Seen) -> Answer),
            ("bearer", "Bearer good", |seen| {
                answer(401).header("WWW-Authenticate", &bearer_challenge(seen, ""))
            }),
            ("both", "Bearer good", |seen| {
                basic_ping().header("WWW-Authenticate", &bearer_challenge(seen, ""))
            }),
            ("403", BASIC, |_| {
                answer(403).header("WWW-Authenticate", "Basic realm=\"r\"")
            }),
            ("open", BASIC, |_| answer(200)),
            ("none", BASIC, |_| answer(404)),
            ("mute", BASIC, |_| answer(401)),
            ("unreadable", BASIC, |_| {
                answer(401).header("WWW-Authenticate", "Negotiate, \"")
            }),
            ("broken", BASIC, |_| answer(501)),
            ("endless", BASIC, |_| answer(200).body(vec![b'x'; 70 << 10])),
            ("elsewhere", BASIC, |_| {
                answer(302).header("Location", "/nowhere")
            }),
        ] {
            let server = hiding(allowed, hidden, ping).await;
            let repository = server.repository(with(user()));
            for _ in 0..2 {
                let reply = repository.get_manifest(&tag()).await.unwrap();
                assert_eq!(reply.body(), "private", "{what} {hidden}");
            }
            let reply = repository.tags(None).await.unwrap();
            assert_eq!(reply.body(), "private", "{what} {hidden}");
        }
    }
}

#[tokio::test]
async fn the_registry_is_asked_once_for_all_its_repositories_and_callers() {
    let server = hiding(BASIC, 404, |_| {
        basic_ping().delay(Duration::from_millis(100))
    })
    .await;
    let client = Client::new(with(user())).unwrap();
    let names: Vec<_> = (0..16)
        .map(|n| name(&format!("team/app{}", n / 2)))
        .collect();
    let tag = tag();
    let calls = names.iter().map(|name| {
        let repository = client.repository(&server.registry(), name);
        let tag = &tag;
        async move { repository.get_manifest(tag).await }
    });
    for reply in futures::future::join_all(calls).await {
        assert_eq!(reply.unwrap().status(), StatusCode::OK);
    }
    let pings = server.seen().iter().filter(|seen| is_ping(seen)).count();
    assert_eq!((pings, server.lines().len()), (1, 17));
    assert_eq!(server.seen()[0].authorization(), None);
}

#[tokio::test]
async fn a_ping_of_the_callers_own_is_enough() {
    let server = Server::start(|seen, _| match seen.authorization() {
        Some(BASIC) => answer(200),
        _ if is_ping(seen) => basic_ping(),
        _ => answer(404).body(HIDDEN),
    })
    .await;
    let client = Client::new(with(user())).unwrap();
    let reply = client.ping(&server.registry()).await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    let repository = client.repository(&server.registry(), &name("team/app"));
    let reply = repository.get_manifest(&tag()).await.unwrap();
    assert_eq!((reply.status(), reply.requests()), (StatusCode::OK, 1));
}

/// Has no credentials for some repositories, and counts how often it is asked.
#[derive(Debug, Default)]
struct Some0 {
    asked: AtomicUsize,
}

#[async_trait]
impl CredentialSource for Some0 {
    async fn credentials(
        &self,
        _: &Registry,
        repository: Option<&RepositoryName>,
    ) -> Result<Option<Credentials>, CredentialError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(match repository.map(RepositoryName::as_str) {
            Some("team/app") => Some(user()),
            Some("empty/user") => Some(Credentials::basic(String::new(), String::new())),
            Some("empty/token") => Some(Credentials::IdentityToken(String::new())),
            Some("empty/bearer") => Some(Credentials::Bearer(String::new())),
            _ => None,
        })
    }
}

#[tokio::test]
async fn without_credentials_nothing_is_asked_beforehand() {
    let server = hiding(BASIC, 404, |_| basic_ping()).await;
    let source = Arc::new(Some0::default());
    let mut options = options();
    options.credentials = Some(Arc::<Some0>::clone(&source));
    let client = Client::new(options).unwrap();
    for repository in ["public", "empty/user", "empty/token", "empty/bearer"] {
        let asked = source.asked.load(Ordering::Relaxed);
        let repository = client.repository(&server.registry(), &name(repository));
        for _ in 0..3 {
            let reply = repository.get_manifest(&tag()).await.unwrap();
            assert_eq!(
                (reply.status(), reply.requests()),
                (StatusCode::NOT_FOUND, 1)
            );
        }
        assert_eq!(
            source.asked.load(Ordering::Relaxed),
            asked + 1,
            "a helper costs time"
        );
    }
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.authorization().is_none())
    );
    let repository = client.repository(&server.registry(), &name("team/app"));
    let reply = repository.get_manifest(&tag()).await.unwrap();
    assert_eq!((reply.status(), reply.requests()), (StatusCode::OK, 2));
}

#[tokio::test]
async fn a_ping_that_fails_stops_nothing_and_is_not_repeated_without_end() {
    let mut quick = with(user());
    quick.response_timeout = Duration::from_millis(100);
    quick.retry.max_attempts = 2.try_into().unwrap();
    for (what, ping) in [
        ("502", (|_| answer(502)) as fn(&Seen) -> Answer),
        ("silent", |_| answer(200).delay(Duration::from_secs(60))),
        ("reset", |_| hang_up()),
    ] {
        let server = hiding(BASIC, 404, ping).await;
        let repository = server.repository(quick.clone());
        for _ in 0..6 {
            let reply = repository.get_manifest(&tag()).await.unwrap();
            assert_eq!(reply.body(), "private", "{what}");
        }
        let pings = server.seen().iter().filter(|seen| is_ping(seen)).count();
        assert!((3..=6).contains(&pings), "{what}: {pings}");
    }
    let server = Server::start(|seen, before| match seen.authorization() {
        _ if is_token(seen) => good(),
        None if is_ping(seen) && before == 0 => answer(503),
        None if is_ping(seen) => {
            answer(401).header("WWW-Authenticate", &bearer_challenge(seen, ""))
        }
        Some("Bearer good") => answer(200),
        _ => answer(404).body(HIDDEN),
    })
    .await;
    let reply = server.repository(with(user())).get_manifest(&tag()).await;
    assert_eq!(
        reply.unwrap().status(),
        StatusCode::OK,
        "a 503 is outlasted"
    );
}

#[tokio::test]
async fn a_bearer_token_and_an_identity_token_are_shown_from_the_first_request_on() {
    let bearer = |seen: &Seen| answer(401).header("WWW-Authenticate", &bearer_challenge(seen, ""));
    for credentials in [
        Credentials::Bearer("good".into()),
        Credentials::IdentityToken("refresh".into()),
    ] {
        let server = hiding("Bearer good", 404, bearer).await;
        let reply = server
            .repository(with(credentials))
            .get_manifest(&tag())
            .await;
        assert_eq!(reply.unwrap().body(), "private");
    }
    let server = hiding("Bearer good", 404, |_| answer(200)).await;
    let options = with(Credentials::Bearer("good".into()));
    let reply = server.repository(options).get_manifest(&tag()).await;
    assert_eq!(reply.unwrap().body(), "private");
}

#[tokio::test]
async fn a_path_that_wants_something_else_than_the_door_gets_it() {
    let server = Server::start(|seen, _| match seen.authorization() {
        _ if is_token(seen) => good(),
        _ if is_ping(seen) => answer(200),
        Some("Bearer good") => answer(200),
        _ => answer(401).header("WWW-Authenticate", &bearer_challenge(seen, "")),
    })
    .await;
    let repository = server.repository(with(user()));
    for requests in [4, 1] {
        let reply = repository.get_manifest(&tag()).await.unwrap();
        assert_eq!(
            (reply.status(), reply.requests()),
            (StatusCode::OK, requests)
        );
    }
}

/// A registry whose repository only accepts tokens for `needs`, and whose token service refuses
/// scopes that contain `refused`.
async fn renaming(status: u16, needs: &'static str, refused: &'static str) -> Server {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    Server::start(move |seen, _| {
        let mut asked = asked.lock().unwrap();
        if is_token(seen) {
            let query = seen.target.split_once('?').unwrap().1.as_bytes();
            let scopes: Vec<_> = url_pairs(query, "scope");
            if !refused.is_empty() && scopes.iter().any(|scope| scope.contains(refused)) {
                return answer(403).body(r#"{"errors":[{"code":"DENIED"}]}"#);
            }
            asked.push(scopes.join(" "));
            return answer(200).body(format!(r#"{{"token":"t{}"}}"#, asked.len() - 1));
        }
        let token = seen
            .authorization()
            .and_then(|carried| carried.strip_prefix("Bearer t"));
        let granted = token.and_then(|number| asked.get(number.parse::<usize>().ok()?));
        let granted = granted.map_or("", String::as_str);
        match granted.split(' ').any(|scope| scope == needs) {
            true => answer(200),
            false => answer(if token.is_none() { 401 } else { status })
                .header("WWW-Authenticate", &bearer_challenge(seen, needs)),
        }
    })
    .await
}

fn url_pairs(query: &[u8], name: &str) -> Vec<String> {
    let text = std::str::from_utf8(query).unwrap();
    text.split('&')
        .filter_map(|pair| pair.strip_prefix(&format!("{name}=")))
        .map(|value| {
            value
                .replace("%3A", ":")
                .replace("%2F", "/")
                .replace("%2C", ",")
        })
        .collect()
}

#[tokio::test]
async fn the_scope_of_a_challenge_is_added_where_ours_does_not_do() {
    const OURS: &str = "repository:team/app:pull";
    for status in [401, 403] {
        for (needs, refused, expected) in [
            (
                "repository:real/name:pull",
                "",
                &[OURS, "repository:team/app:pull repository:real/name:pull"][..],
            ),
            // The token service does not know the front end.
            (
                "repository:real/name:pull",
                "team/app",
                &["repository:real/name:pull"],
            ),
            (
                "repository:team/app:pull,push",
                "",
                &[OURS, "repository:team/app:pull,push"],
            ),
            (
                "registry:catalog:*",
                "",
                &[OURS, "repository:team/app:pull registry:catalog:*"],
            ),
        ] {
            for options in [options(), with(user())] {
                let server = renaming(status, needs, refused).await;
                let repository = server.repository(options);
                let reply = repository.get_manifest(&tag()).await.unwrap();
                assert_eq!(reply.status(), StatusCode::OK, "{status} {needs} {refused}");
                let granted: Vec<_> = tokens(&server)
                    .iter()
                    .map(|seen| url_pairs(seen.target.as_bytes(), "scope").join(" "))
                    .filter(|scopes| refused.is_empty() || !scopes.contains(refused))
                    .collect();
                assert_eq!(granted, expected, "{status} {needs} {refused}");
                let before = server.lines().len();
                let reply = repository.get_manifest(&tag()).await.unwrap();
                assert_eq!(reply.status(), StatusCode::OK);
                assert_eq!(server.lines().len(), before + 1, "remembered");
            }
        }
    }
}

#[tokio::test]
async fn a_scope_that_opens_nothing_costs_one_token_and_breaks_nothing() {
    // A placeholder in the challenge of a path that is always closed; our scope opens the other
    // paths.
    for refused in ["", "made/up"] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let server = Server::start(move |seen, _| {
            if is_token(seen) {
                count.fetch_add(1, Ordering::Relaxed);
                return match !refused.is_empty() && seen.target.contains("made%2Fup") {
                    true => answer(403),
                    false => good(),
                };
            }
            let closed = seen.target.contains("/tags/");
            match seen.authorization() {
                Some("Bearer good") if !closed => answer(200),
                _ => answer(401)
                    .header(
                        "WWW-Authenticate",
                        &bearer_challenge(seen, "repository:made/up:pull"),
                    )
                    .body(r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#),
            }
        })
        .await;
        let repository = server.repository(options());
        assert_eq!(
            repository.get_manifest(&tag()).await.unwrap().status(),
            StatusCode::OK
        );
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let reply = repository.tags(None).await.unwrap();
        assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(reply.error_codes(), ["UNAUTHORIZED"]);
        let after = asked.load(Ordering::Relaxed);
        assert!(after <= 3, "{after}");
        let reply = repository.get_manifest(&tag()).await.unwrap();
        assert_eq!((reply.status(), reply.requests()), (StatusCode::OK, 1));
        let before = server.lines().len();
        let reply = repository.tags(None).await.unwrap();
        assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
        assert!(server.lines().len() - before <= 3, "not tried again");
    }
}

#[tokio::test]
async fn a_403_without_a_challenge_of_another_scope_stands() {
    for challenge in ["", "Bearer", "Basic realm=\"x\"", "OURS"] {
        let server = Server::start(move |seen, _| {
            let own = bearer_challenge(seen, "repository:team/app:pull");
            match seen.authorization() {
                _ if is_token(seen) => good(),
                None => answer(401).header("WWW-Authenticate", &own),
                Some(_) if challenge == "OURS" => answer(403).header("WWW-Authenticate", &own),
                Some(_) if challenge.is_empty() => answer(403),
                Some(_) => answer(403).header("WWW-Authenticate", challenge),
            }
        })
        .await;
        let reply = server.repository(with(user())).get_manifest(&tag()).await;
        let reply = reply.unwrap();
        assert_eq!(
            (reply.status(), reply.requests()),
            (StatusCode::FORBIDDEN, 3),
            "{challenge}"
        );
    }
}

#[tokio::test]
async fn a_repository_that_is_to_be_written_asks_to_push_from_the_first_request_on() {
    for options in [options(), with(user())] {
        let server = renaming(401, "repository:team/app:pull,push", "").await;
        let repository = server.repository(options).for_push();
        let reply = repository.head_manifest(&tag()).await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK);
        let scopes: Vec<_> = tokens(&server)
            .iter()
            .flat_map(|seen| url_pairs(seen.target.as_bytes(), "scope"))
            .collect();
        assert_eq!(scopes, ["repository:team/app:pull,push"]);
        let before = server.lines().len();
        repository.clone().tags(None).await.unwrap();
        assert_eq!(server.lines().len(), before + 1, "with the same token");
    }
    // A user who may only read can still read.
    let server = renaming(401, "repository:team/app:pull", "push").await;
    let repository = server.repository(with(user())).for_push();
    for _ in 0..2 {
        let reply = repository.head_manifest(&tag()).await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK);
    }
    assert_eq!(
        tokens(&server).len(),
        2,
        "it is remembered that pushing is refused"
    );
    let error = repository.delete_manifest(&tag()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Token);
}

#[tokio::test]
async fn a_challenge_that_can_be_read_in_part_is_met() {
    for broken in [
        "Negotiate \"never closed, Basic realm=\"r\"",
        "Basic realm=\"f\u{fc}r\"",
        "Bearer realm=\"nowhere, Basic realm=\"r\"",
    ] {
        let server = Server::start(move |seen, _| match seen.authorization() {
            Some(BASIC) => answer(200),
            _ => answer(401).header("WWW-Authenticate", broken),
        })
        .await;
        let reply = server.repository(with(user())).get_manifest(&tag()).await;
        assert_eq!(reply.unwrap().status(), StatusCode::OK, "{broken}");
    }
}

#[tokio::test]
async fn the_observer_hears_of_the_first_question() {
    let server = hiding(BASIC, 404, |_| basic_ping()).await;
    let recorder = Arc::new(Recorder::default());
    let mut options: ClientOptions = with(user());
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    server
        .repository(options)
        .get_manifest(&tag())
        .await
        .unwrap();
    let told = recorder.requests.lock().unwrap();
    let told: Vec<_> = told
        .iter()
        .map(|told| (told.endpoint, told.status))
        .collect();
    assert_eq!(
        told,
        [(Endpoint::Ping, Some(401)), (Endpoint::Manifest, Some(200))]
    );
}
