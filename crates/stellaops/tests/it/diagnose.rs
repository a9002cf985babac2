//! Bad days: each has a sentence of its own, an exit code, and a remedy.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use test_registry::{Fault, Persona, Referrer, Route, TestRegistry};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::run::{Ran, Site, registry_with_image};

const HEALTHY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// Diagnoses an image and returns the checks, with the run.
async fn diagnose(site: &Site, words: &str) -> (Ran, Value) {
    let ran = site
        .stellaops(&format!("registry diagnose {words} --format json"))
        .await;
    let document = ran.json();
    assert_eq!(document["schemaVersion"], 1);
    assert_eq!(document["ok"], ran.code == 0, "{document:#}");
    (ran, document)
}

fn check<'a>(document: &'a Value, name: &str) -> &'a Value {
    let checks = document["checks"].as_array().unwrap();
    checks
        .iter()
        .find(|check| check["check"] == name)
        .unwrap_or_else(|| panic!("no check {name} in {document:#}"))
}

/// Asserts that one check failed, with these words in what was seen and these in the cause or the remedy.
#[track_caller]
fn fails(run: &(Ran, Value), code: i32, name: &str, seen: &[&str], advice: &[&str]) {
    let (ran, document) = run;
    let check = check(document, name);
    assert_eq!(ran.code, code, "{document:#}");
    assert_eq!(check["outcome"], "failed", "{check:#}");
    notes(check, seen, advice);
    let failed = document["checks"].as_array().unwrap().iter();
    let failed = failed.filter(|check| check["outcome"] == "failed");
    assert_eq!(failed.count(), 1, "{document:#}");
}

#[track_caller]
fn notes(check: &Value, seen: &[&str], advice: &[&str]) {
    for part in seen {
        assert!(
            check["seen"].as_str().unwrap().contains(part),
            "{part:?} is not what was seen: {check:#}"
        );
    }
    let said = format!("{} {}", check["cause"], check["remedy"]);
    for part in advice {
        assert!(said.contains(part), "{part:?} is not advised: {check:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_registry_of_either_kind_passes_every_check() {
    for (persona, api, seen) in [
        (Persona::SpecFull, "ok", "it has it"),
        (Persona::Dist2, "note", "it has none"),
        (Persona::Ecr, "ok", "it has it"),
        (Persona::HubNow, "ok", "it has it"),
    ] {
        let registry = registry_with_image(persona).await;
        let site = Site::new();
        let (ran, document) = diagnose(&site, &format!("{}/app:1.0", registry.host())).await;
        assert_eq!(ran.code, 0, "{persona}: {document:#}");
        assert_eq!(document["notReached"].as_array().unwrap().len(), 0);
        let found = check(&document, "referrers API");
        assert_eq!(found["outcome"], api, "{persona}: {found:#}");
        notes(found, &[seen], &[]);
        notes(
            check(&document, "referrers"),
            &["5 refer to it, 2 more"],
            &[],
        );
        assert_eq!(check(&document, "legacy tags")["seen"], ".sig, .vex");
        let text = site
            .stellaops(&format!("registry diagnose {}/app:1.0", registry.host()))
            .await
            .done()
            .stdout;
        assert!(text.contains("  ok     referrers: 5 refer to it"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_there_refuses_or_hangs() {
    let site = Site::new();
    let run = diagnose(&site, "no-such-host.invalid/app:1.0").await;
    assert_eq!(run.0.code, 9);
    let found = check(&run.1, "name resolution");
    assert_eq!(found["outcome"], "failed", "{found:#}");
    // Where there is no name server at all, that is what is said.
    notes(found, &["no-such-host.invalid"], &["spelling"]);
    assert_eq!(run.1["notReached"][0], "connection");

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let run = diagnose(&site, &format!("127.0.0.1:{port}/app:1.0")).await;
    fails(
        &run,
        9,
        "connection",
        &["refuses connections"],
        &["not running", "port"],
    );

    // Nobody ever accepts; the kernel takes the connection all the same.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let run = diagnose(&site, &format!("{host}/app:1.0 --timeout 1")).await;
    fails(
        &run,
        9,
        "ping",
        &["sent no answer within 1 s"],
        &["hangs", "--timeout"],
    );
    let config = over_tls(&site, &host);
    let run = diagnose(&site, &format!("{host}/app:1.0 --timeout 1 {config}")).await;
    fails(&run, 9, "TLS", &["sent nothing for 1 s"], &["--timeout"]);
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Makes a certificate for a host, valid from the first to the second year.
    fn acceptor(&self, host: &str, years: (i32, i32)) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Answers every request with the same bytes, over TLS if there is an acceptor. Ends with the test's runtime.
async fn serve(acceptor: Option<TlsAcceptor>, answer: &'static str) -> String {
    async fn reply<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: &str) {
        let mut request = [0; 4096];
        while stream.read(&mut request).await.is_ok_and(|count| count > 0) {
            if stream.write_all(answer.as_bytes()).await.is_err() {
                break;
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _): (TcpStream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor {
                    None => reply(stream, answer).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            reply(stream, answer).await;
                        }
                    }
                }
            });
        }
    });
    host
}

/// Configures TLS for a loopback registry, which is plain by default, and returns the option.
fn over_tls(site: &Site, host: &str) -> String {
    let config = format!("registries:\n  \"{host}\": {{plain_http: false}}\n");
    std::fs::write(site.path("tls.yaml"), config).unwrap();
    "--config tls.yaml".to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_certificate_has_its_own_sentence() {
    let authority = Authority::new("Example Root");
    let site = Site::new();
    std::fs::write(site.path("ca.pem"), &authority.pem).unwrap();
    let now = (2000, 2090);
    for (name, years, trusted, seen, advice) in [
        (
            "127.0.0.1",
            (2000, 2001),
            true,
            &["the certificate ended on 2001-01-01", "clock says"][..],
            &["renewed", "date -u"][..],
        ),
        (
            "127.0.0.1",
            (2089, 2090),
            true,
            &["the certificate begins on 2089-01-01", "clock says"],
            &["clock is behind", "timedatectl"],
        ),
        (
            "registry.test",
            now,
            true,
            &["is for registry.test, not for 127.0.0.1"],
            &["another server"],
        ),
        (
            "127.0.0.1",
            now,
            false,
            &["from CN=Example Root", "does not trust"],
            &["--ca-file"],
        ),
    ] {
        let host = serve(Some(authority.acceptor(name, years)), HEALTHY).await;
        let config = over_tls(&site, &host);
        let ca = if trusted { "--ca-file ca.pem" } else { "" };
        let run = diagnose(&site, &format!("{host}/app:1.0 {config} {ca}")).await;
        fails(&run, 9, "TLS", seen, advice);
        let shown = check(&run.1, "TLS")["details"][0].as_str().unwrap();
        assert!(shown.contains(&format!("CN={name}")), "{shown}");
        assert!(shown.contains("from CN=Example Root"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_certificate_is_shown_with_its_chain_and_dates() {
    let authority = Authority::new("Example Root");
    let site = Site::new();
    std::fs::write(site.path("ca.pem"), &authority.pem).unwrap();
    let host = serve(Some(authority.acceptor("127.0.0.1", (2000, 2090))), HEALTHY).await;
    let config = over_tls(&site, &host);
    let (_, document) = diagnose(&site, &format!("{host}/app:1.0 {config} --ca-file ca.pem")).await;
    let tls = check(&document, "TLS");
    assert_eq!(tls["outcome"], "ok", "{tls:#}");
    notes(tls, &["TLS 1.3", "trusted"], &[]);
    assert_eq!(
        tls["details"][0],
        "CN=127.0.0.1, from CN=Example Root, valid 2000-01-01 to 2090-01-01"
    );
    assert_eq!(check(&document, "ping")["outcome"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_plain_http_that_are_taken_for_each_other_are_told() {
    let site = Site::new();
    let plain = TestRegistry::start(Persona::Dist2).await;
    let host = plain.host();
    let config = over_tls(&site, &host);
    let run = diagnose(&site, &format!("{host}/app:1.0 {config}")).await;
    fails(
        &run,
        9,
        "TLS",
        &["speaks plain HTTP, without TLS"],
        &[&format!("--plain-http {host}"), "in the clear"],
    );

    let authority = Authority::new("Example Root");
    let host = serve(Some(authority.acceptor("127.0.0.1", (2000, 2090))), HEALTHY).await;
    let run = diagnose(&site, &format!("{host}/app:1.0")).await;
    fails(
        &run,
        9,
        "ping",
        &["speaks TLS and was contacted in plain HTTP"],
        &["plain_http: false"],
    );
    // As Go's server and nginx say it.
    let host = serve(
        None,
        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
    )
    .await;
    let run = diagnose(&site, &format!("{host}/app:1.0 --timeout 1")).await;
    fails(&run, 9, "ping", &["speaks TLS"], &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_registry_or_a_broken_one_is_told() {
    let site = Site::new();
    for (answer, code, check, seen, advice) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n<!doctype html><p>hi",
            9,
            "ping",
            "an HTML page",
            "API host",
        ),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            9,
            "ping",
            "/v2/ is 404",
            "API host",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
            10,
            "ping",
            "403",
            "firewall",
        ),
        (
            "HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n",
            9,
            "ping",
            "answers 503",
            "wait",
        ),
        (
            "HTTP/1.1 429 Too Many\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n",
            9,
            "rate limit",
            "it says to wait 30 s",
            "log in",
        ),
        (
            "SSH-2.0-OpenSSH_9\r\n",
            9,
            "ping",
            "not HTTP",
            "another service",
        ),
    ] {
        let host = serve(None, answer).await;
        let run = diagnose(&site, &format!("{host}/app:1.0 --timeout 2")).await;
        fails(&run, code, check, &[seen], &[advice]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_missing_or_refused_is_told_from_one_that_works() {
    for persona in [Persona::SpecFull, Persona::Ecr, Persona::HubNow] {
        let registry = TestRegistry::builder(persona)
            .credentials("alice", "correct horse")
            .start()
            .await;
        registry.image("app", "1.0");
        let site = Site::new();
        let reference = format!("{}/app:1.0", registry.host());
        let run = diagnose(&site, &reference).await;
        assert_eq!(run.0.code, 10, "{persona}: {:#}", run.1);
        let login = check(&run.1, "login");
        assert_eq!(login["outcome"], "failed", "{login:#}");
        notes(login, &[], &["docker login"]);
        assert!(
            login["details"][0].as_str().unwrap().contains("asks for"),
            "{login:#}"
        );
        assert_eq!(login["details"][1], "here: no credentials for it");
        for (password, code) in [("wrong", 10), ("correct horse", 0)] {
            let auth = base64(&format!("alice:{password}"));
            let file = format!(
                r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#,
                registry.host()
            );
            std::fs::write(site.path("auth.json"), file).unwrap();
            let (ran, document) =
                diagnose(&site, &format!("{reference} --registry-config auth.json")).await;
            assert_eq!(ran.code, code, "{persona}: {document:#}");
            let login = check(&document, "login");
            assert_eq!(login["details"][1], "here: credentials of user alice");
            assert!(
                !document.to_string().contains("horse"),
                "no password is shown"
            );
        }
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_seen_before_and_when_it_strikes() {
    let registry = TestRegistry::builder(Persona::HubNow)
        .pull_limit(100)
        .start()
        .await;
    registry.image("app", "1.0");
    let site = Site::new();
    let reference = format!("{}/app:1.0", registry.host());
    let (_, document) = diagnose(&site, &reference).await;
    notes(
        check(&document, "rate limit"),
        &["of 100 requests are left"],
        &[],
    );

    registry.fault(Route::manifests(), Fault::rate_limited().forever());
    let run = diagnose(&site, &reference).await;
    fails(
        &run,
        9,
        "rate limit",
        &["429, too many requests"],
        &["log in"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_hides_its_upstream_is_noticed() {
    let registry = TestRegistry::start(Persona::EdgeProxy).await;
    let image = registry.image("app", "1.0");
    registry.put_referrer(
        "app",
        Referrer::new(&image, "application/spdx+json", "hidden").without_tag_index(),
    );
    let site = Site::new();
    let (_, document) = diagnose(&site, &format!("{}/app:1.0", registry.host())).await;
    let proxy = check(&document, "proxy");
    assert_eq!(proxy["outcome"], "note", "{proxy:#}");
    notes(
        proxy,
        &["there is something in front of it"],
        &["hides", "upstream"],
    );
    notes(
        check(&document, "referrers"),
        &["nothing refers to it"],
        &[],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_noticed() {
    let registry = registry_with_image(Persona::Dist2).await;
    registry.fault(
        Route::ping(),
        Fault::pass()
            .header("Date", "Sat, 01 Jan 2000 00:00:00 GMT")
            .forever(),
    );
    let site = Site::new();
    let (ran, document) = diagnose(&site, &format!("{}/app:1.0", registry.host())).await;
    let clock = check(&document, "clock");
    assert_eq!((ran.code, &clock["outcome"]), (0, &Value::from("note")));
    notes(clock, &["ahead of the registry's"], &["date -u"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_is_told_from_a_repository_that_is_not() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let host = registry.host();
    let run = diagnose(&site, &format!("{host}/app:2.0")).await;
    fails(&run, 10, "image", &["the tag 2.0 does not"], &["misspelt"]);
    assert_eq!(check(&run.1, "image")["details"][0], "it has the tags 1.0");
    let run = diagnose(&site, &format!("{host}/other:1.0")).await;
    fails(
        &run,
        10,
        "image",
        &["there is no repository other"],
        &["misspelt"],
    );
    let digest = format!("sha256:{}", "0".repeat(64));
    let run = diagnose(&site, &format!("{host}/app@{digest}")).await;
    fails(
        &run,
        10,
        "image",
        &["the digest does not"],
        &["retention policy"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_that_are_elsewhere_are_found_there() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let site = Site::new();
    let host = registry.host();
    let below = registry.index("below", "1.0", &["linux/amd64", "linux/arm64"]);
    registry.referrer("below", &below.children[0], "application/spdx+json", "a");
    let (ran, document) = diagnose(&site, &format!("{host}/below:1.0")).await;
    let found = check(&document, "referrers");
    assert_eq!((ran.code, &found["outcome"]), (0, &Value::from("note")));
    notes(
        found,
        &["nothing refers to the index itself, 1 "],
        &["--platforms"],
    );
    assert_eq!(found["details"][0], "linux/amd64: 1");

    let above = registry.index("above", "1.0", &["linux/amd64", "linux/arm64"]);
    registry.referrer("above", &above.descriptor, "application/spdx+json", "b");
    let child = &above.children[1].digest;
    let (_, document) = diagnose(&site, &format!("{host}/above@{child}")).await;
    let found = check(&document, "referrers");
    notes(
        found,
        &["1 refers to the index 1.0 that it is linux/arm64 of"],
        &[&format!("{host}/above:1.0")],
    );

    registry.image("bare", "1.0");
    let (ran, document) = diagnose(&site, &format!("{host}/bare:1.0")).await;
    let found = check(&document, "referrers");
    assert_eq!((ran.code, &found["outcome"]), (0, &Value::from("note")));
    notes(found, &["nothing refers to it"], &["another digest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_that_are_gone_and_tags_that_moved_are_named() {
    let registry = TestRegistry::start(Persona::Dist2).await;
    let site = Site::new();
    let host = registry.host();
    let image = registry.image("app", "1.0");
    let kept = registry.referrer("app", &image, "application/spdx+json", "kept");
    let lost = registry.referrer("app", &image, "application/spdx+json", "lost");
    registry.lose("app", &lost.digest);
    let (ran, document) = diagnose(&site, &format!("{host}/app:1.0")).await;
    let gone = check(&document, "gone");
    assert_eq!((ran.code, &gone["outcome"]), (0, &Value::from("note")));
    notes(gone, &["1 referrer is listed but missing"], &["retention"]);
    assert_eq!(gone["details"][0], lost.digest.to_string());

    registry.tag("app", "1.0", &kept.digest);
    let (_, document) = diagnose(&site, &format!("{host}/app:1.0@{}", image.digest)).await;
    let tag = check(&document, "tag");
    notes(
        tag,
        &[&format!("1.0 is at {} now", kept.digest)],
        &["rebuilt"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_breaks_half_way_is_incomplete_and_not_none() {
    let registry = TestRegistry::builder(Persona::Ecr)
        .page_size(2)
        .start()
        .await;
    let image = registry.image("app", "1.0");
    for place in 0..5 {
        registry.referrer("app", &image, "application/spdx+json", format!("{place}"));
    }
    registry.fault(
        Route::referrers().containing("nextToken="),
        Fault::statuses([404]).forever(),
    );
    let site = Site::new();
    let (ran, document) = diagnose(&site, &format!("{}/app:1.0", registry.host())).await;
    assert_eq!(ran.code, 11, "{document:#}");
    let api = check(&document, "referrers API");
    assert_eq!(api["outcome"], "failed", "{api:#}");
    notes(api, &["page-failed"], &["half-way"]);
    notes(
        check(&document, "referrers"),
        &["2 referrers found, but not everything could be read"],
        &[],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_persona_is_diagnosed_with_all_that_refers_to_the_image() {
    const LIST: &str = "it has it: 200 OK, 3 entries";
    for persona in Persona::ALL {
        let registry = registry_with_image(persona).await;
        let site = Site::new();
        let (ran, document) = diagnose(&site, &format!("{}/app:1.0", registry.host())).await;
        let api = match persona {
            Persona::HubLiar
            | Persona::Ghcr
            | Persona::Dist2
            | Persona::Dist3
            | Persona::GitLab
            | Persona::EdgeProxy => "it has none (404)",
            Persona::ArtifactoryOld => "it has none (406)",
            Persona::Ghcr303 => "it gave no answer (404 from another host)",
            Persona::Html200 => {
                "it gave no answer (200 with an HTML page instead of a referrers list)"
            }
            Persona::Harbor27 => "it gave no answer (401 Unauthorized)",
            _ => LIST,
        };
        assert_eq!(check(&document, "referrers API")["seen"], api, "{persona}");
        let proxy = matches!(persona, Persona::Html200 | Persona::EdgeProxy);
        let outcome = if proxy { "note" } else { "ok" };
        assert_eq!(check(&document, "proxy")["outcome"], outcome, "{persona}");
        let referrers = check(&document, "referrers");
        assert_eq!(ran.code, 0, "{persona}: {document:#}");
        notes(referrers, &["5 refer to it, 2 more to its platforms"], &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_api_without_a_tag_in_its_place_names_the_way_out() {
    let registry = TestRegistry::start(Persona::Harbor27).await;
    registry.image("app", "1.0");
    let site = Site::new();
    let (ran, document) = diagnose(&site, &format!("{}/app:1.0", registry.host())).await;
    assert_eq!(ran.code, 10, "{document:#}");
    notes(
        check(&document, "referrers"),
        &["0 referrers found, but not everything"],
        &["referrers_api: unsupported"],
    );
}
