use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use oci_content::{Digest, Tag};
use registry_client::{Client, ErrorKind, MemorySink, ProxyOptions};

use crate::support::{Server, answer, hang_up, name, options};

fn tag() -> Tag {
    "1.0".parse().unwrap()
}

#[tokio::test]
async fn a_redirect_is_followed_and_the_last_answer_is_foreign_or_not() {
    let cdn = Server::start(|_, _| answer(200).body("from the cdn")).await;
    let target = cdn.url("/blob?signature=secret");
    for status in [301, 302, 303, 307, 308] {
        let target = target.clone();
        let server = Server::start(move |seen, _| match seen.target.as_str() {
            "/v2/team/app/manifests/1.0" => answer(status).header("Location", "/moved"),
            _ => answer(status).header("Location", &target),
        })
        .await;
        let reply = server.repository(options()).get_manifest(&tag()).await;
        let reply = reply.unwrap();
        assert_eq!(reply.body(), "from the cdn");
        assert!(reply.is_foreign());
        assert_eq!(reply.requests(), 3);
        assert_eq!(reply.url().query(), Some("signature=secret"));
        assert!(!format!("{reply:?}").contains("secret"));
        assert_eq!(reply.display_url().query(), None);
    }
    let server = Server::start(|seen, _| match seen.target.as_str() {
        "/moved" => answer(200),
        _ => answer(307).header("Location", "/moved"),
    })
    .await;
    let reply = server.repository(options()).head_manifest(&tag()).await;
    assert!(!reply.unwrap().is_foreign());
    assert_eq!(
        server.lines(),
        ["HEAD /v2/team/app/manifests/1.0", "HEAD /moved"]
    );
}

#[tokio::test]
async fn a_redirect_that_is_no_redirect_is_a_value() {
    for status in [300, 304, 302] {
        let server = Server::start(move |_, _| answer(status)).await;
        let reply = server.repository(options()).get_manifest(&tag()).await;
        assert_eq!(reply.unwrap().status().as_u16(), status, "no Location");
    }
}

#[tokio::test]
async fn a_loop_ends_at_the_limit() {
    let server = Server::start(|_, _| answer(302).header("Location", "/again")).await;
    let error = server
        .repository(options())
        .get_manifest(&tag())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Redirect);
    assert_eq!(
        server.lines().len(),
        6,
        "the first request and five redirects"
    );
    assert_eq!(error.response().unwrap().status(), StatusCode::FOUND);
    assert!(
        error.to_string().ends_with("/again: more than 5 redirects"),
        "{error}"
    );
}

#[tokio::test]
async fn a_redirect_to_no_plain_web_address_is_refused() {
    for target in [
        "file:///etc/passwd",
        "data:text/plain,x",
        "http://user:pw@127.0.0.1:1/",
        "http://",
        "ftp://127.0.0.1/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://127.0.0.1:99999/",
    ] {
        let server = Server::start(move |_, _| answer(302).header("Location", target)).await;
        let error = server
            .repository(options())
            .get_manifest(&tag())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Redirect, "{target}");
    }
}

#[tokio::test]
async fn only_a_loopback_registry_may_lead_to_plain_http_elsewhere() {
    // 0.0.0.0 reaches the same socket, but is not the name of this machine.
    let other = Server::start(|_, _| answer(200)).await;
    let target = other.url("/x");
    let server = Server::start(move |_, _| answer(302).header("Location", &target)).await;
    let host = server.host.replace("127.0.0.1", "0.0.0.0");
    let mut options = options();
    options.plain_http.insert(host.clone());
    let client = Client::new(options).unwrap();
    let repository = client.repository(&host.parse().unwrap(), &name("team/app"));
    let error = repository.get_manifest(&tag()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Redirect);
    assert!(
        error
            .to_string()
            .contains("leads to plain HTTP at another host"),
        "{error}"
    );
    assert!(other.lines().is_empty());
}

#[tokio::test]
async fn writes_are_redirected_only_within_the_registry_and_only_with_their_method() {
    let other = Server::start(|_, _| answer(201)).await;
    let elsewhere = other.url("/x");
    let bytes = Bytes::from_static(b"{}");
    let digest = Digest::of(&bytes);
    for (status, target, followed) in [
        (307, "/moved", true),
        (308, "/moved", true),
        (301, "/moved", false),
        (302, "/moved", false),
        (303, "/moved", false),
        (307, elsewhere.as_str(), false),
    ] {
        let target = target.to_owned();
        let server = Server::start(move |seen, _| match seen.target.as_str() {
            "/moved" => answer(201),
            _ => answer(status).header("Location", &target),
        })
        .await;
        let repository = server.repository(options());
        let put = repository
            .put_manifest(&digest, bytes.clone(), "a/b", None)
            .await;
        match followed {
            true => {
                assert_eq!(put.unwrap().status(), StatusCode::CREATED);
                assert!(server.seen().iter().all(|seen| seen.body == bytes));
            }
            false => assert_eq!(put.unwrap_err().kind(), ErrorKind::Redirect, "{status}"),
        }
        let delete = repository.delete_manifest(&digest).await;
        assert_eq!(delete.unwrap_err().kind(), ErrorKind::Redirect);
    }
    assert!(other.lines().is_empty());
}

#[tokio::test]
async fn the_rate_limit_of_another_host_is_waited_out_behind_a_gate_of_its_own() {
    for status in [429, 503] {
        for retry_after in [true, false] {
            let edge = Server::start(move |_, before| match (before, retry_after) {
                (0, true) => answer(status).header("Retry-After", "1"),
                (0 | 1, _) => answer(status),
                _ => answer(200),
            })
            .await;
            let target = edge.url("/busy");
            let server = Server::start(move |_, _| answer(307).header("Location", &target)).await;
            let reply = server.repository(options()).get_manifest(&tag()).await;
            let reply = reply.unwrap();
            assert_eq!(reply.status(), StatusCode::OK, "{status}");
            assert!(reply.is_foreign());
            assert_eq!(
                server.lines().len(),
                3,
                "a retry asks the registry for a fresh redirect"
            );
        }
    }
}

#[tokio::test]
async fn a_closed_gate_of_another_host_holds_back_what_is_led_there_and_nothing_else() {
    let edge = Server::start(|_, before| match before {
        0 => answer(429).header("Retry-After", "2"),
        _ => answer(200),
    })
    .await;
    let target = edge.url("/busy");
    let server = Server::start(move |seen, _| match seen.target.contains("manifests") {
        true => answer(307).header("Location", &target),
        false => answer(200),
    })
    .await;
    let repository = server.repository(options());
    let tag = tag();
    let started = Instant::now();
    let many = futures::future::join_all((0..8).map(|_| repository.get_manifest(&tag)));
    let own = async {
        while edge.lines().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        repository.tags(None).await.unwrap();
        started.elapsed()
    };
    let (many, own) = futures::join!(many, own);
    assert!(
        many.iter()
            .all(|reply| reply.as_ref().unwrap().status() == StatusCode::OK)
    );
    assert!(
        own < Duration::from_secs(2),
        "the registry's own gate is open: {own:?}"
    );
    assert!(started.elapsed() >= Duration::from_secs(2));
    let told_once = edge.lines().len();
    assert!(
        told_once <= 16,
        "{told_once}: those under way, then each once more"
    );
}

#[tokio::test]
async fn a_rate_limit_of_another_host_that_stays_is_the_answer() {
    let edge = Server::start(|_, _| answer(429).header("Retry-After", "300")).await;
    let target = edge.url("/blocked");
    let server = Server::start(move |_, _| answer(303).header("Location", &target)).await;
    let reply = server.repository(options()).get_manifest(&tag()).await;
    let reply = reply.unwrap();
    assert_eq!(reply.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(reply.is_foreign());
    assert_eq!((reply.requests(), edge.lines().len()), (2, 1));
}

/// Addresses that are not public, in every spelling that a `Location` can have.
const INNER: [&str; 22] = [
    "https://10.0.0.1/x",
    "https://172.16.0.1/x",
    "https://192.168.1.1:8443/x",
    "https://100.100.100.200/x",
    "https://169.254.169.254/latest/meta-data",
    "https://[fe80::1]/x",
    "https://[fd00::1]/x",
    "https://[::ffff:10.0.0.1]/x",
    "https://[::10.0.0.1]/x",
    "https://[::ffff:0:10.0.0.1]/x",
    "https://[64:ff9b::10.0.0.1]/x",
    "https://[64:ff9b:1::10.0.0.1]/x",
    "https://[2002:a00:1::1]/x",
    "https://[2001:0:4136:e378:8000:63bf:f5ff:fffe]/x",
    "https://[2606:4700::5efe:10.0.0.1]/x",
    "https://0xa000001/x",
    "https://167772161/x",
    "https://012.0.0.1/x",
    "https://10.1/x",
    "https://10.0.0.1./x",
    "https://192.0.2.1/x",
    "https://198.18.0.1/x",
];

/// Addresses of this machine.
const LOOPBACK: [&str; 10] = [
    "https://127.0.0.1:1/x",
    "https://127.1:1/x",
    "https://0.0.0.0:1/x",
    "https://[::1]:1/x",
    "https://[::]:1/x",
    "https://[::ffff:127.0.0.1]:1/x",
    "https://[::127.0.0.1]:1/x",
    "https://localhost:1/x",
    "https://LocalHost.:1/x",
    "https://a.localhost:1/x",
];

#[tokio::test]
async fn a_redirect_into_a_network_where_the_registry_is_not_is_refused() {
    let blob = Digest::of(b"x");
    for target in INNER {
        let server = Server::start(move |_, _| answer(307).header("Location", target)).await;
        let repository = server.repository(options());
        let mut sink = MemorySink::new(blob.clone(), 1);
        for error in [
            repository.get_manifest(&tag()).await.unwrap_err(),
            repository.head_manifest(&tag()).await.unwrap_err(),
            repository.referrers(&blob, None).await.unwrap_err(),
            repository.tags(None).await.unwrap_err(),
            repository.pull_blob(&blob, 1, &mut sink).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Redirect, "{target}");
            let text = error.to_string();
            assert!(text.contains("the redirect leads to https://"), "{text}");
            assert!(
                text.ends_with(", and the registry is not in that network"),
                "{text}"
            );
        }
        assert_eq!(server.lines().len(), 5, "{target} is not tried again");
    }
}

#[tokio::test]
async fn a_public_registry_leads_to_no_inner_address_behind_a_proxy_either() {
    for target in INNER.into_iter().chain(LOOPBACK) {
        let proxy = Server::start(move |_, _| answer(302).header("Location", target)).await;
        let mut options = options();
        let mut through = ProxyOptions::default();
        through.http = Some(proxy.url(""));
        through.https = Some(proxy.url(""));
        options.proxy = Some(through);
        options.plain_http.insert("8.8.8.8".into());
        let client = Client::new(options).unwrap();
        let repository = client.repository(&"8.8.8.8".parse().unwrap(), &name("a"));
        let error = repository.get_manifest(&tag()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Redirect, "{target}");
        let text = error.to_string();
        assert!(
            text.ends_with(", and the registry is not in that network"),
            "{text}"
        );
        assert_eq!(proxy.lines(), ["GET http://8.8.8.8/v2/a/manifests/1.0"]);
    }
}

#[tokio::test]
async fn a_registry_leads_on_where_it_is_itself() {
    // Nobody listens there: the point is that it is tried.
    for target in LOOPBACK {
        let server = Server::start(move |_, _| answer(307).header("Location", target)).await;
        let mut options = options();
        options.retry.max_attempts = std::num::NonZeroU32::MIN;
        let error = server.repository(options).get_manifest(&tag()).await;
        let kind = error.unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::Connect | ErrorKind::Dns | ErrorKind::Tls),
            "{target}: {kind:?}"
        );
    }
}

#[tokio::test]
async fn a_location_of_any_length_makes_no_long_message() {
    let path = "p".repeat(64 << 10);
    let name = "h".repeat(64 << 10);
    for target in [
        format!("/{path}"),
        format!("https://10.0.0.1/{path}"),
        format!("http://{name}.invalid/"),
        format!("ftp://{name}/"),
        format!("http://127.0.0.1:1/{path}"),
    ] {
        let location = target.clone();
        let server = Server::start(move |seen, _| match seen.target.len() {
            0..100 => answer(302).header("Location", &location),
            _ => hang_up(),
        })
        .await;
        let error = server.repository(options()).get_manifest(&tag()).await;
        let error = error.unwrap_err();
        for text in [error.to_string(), error.with_causes(), format!("{error:?}")] {
            assert!(text.len() < 4096, "{}: {}", &target[..20], text.len());
        }
    }
}
