//! What an operator sets around the commands: certificates, proxies, logins, times.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use registry_server::{MemoryStore, RegistryServer, StoredManifest, tls_config};
use serde_json::Value;
use test_registry::{Fault, Persona, Route, TestRegistry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::run::{Ran, Site, registry_with_image};

/// A registry over TLS, with one image and the certificate that `openssl req -x509` makes.
struct Secure {
    host: String,
    pem: String,
    _server: registry_server::RunningServer,
}

impl Secure {
    async fn start(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let config = tls_config(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let store = MemoryStore::new();
        let repository = "app".parse().unwrap();
        let image = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        let digest = oci_content::Digest::of(image.as_bytes());
        let manifest = StoredManifest::new("application/vnd.oci.image.index.v1+json", image);
        store.insert_manifest(&repository, digest.clone(), manifest);
        store.insert_tag(&repository, "1.0".parse().unwrap(), digest);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = RegistryServer::builder(Arc::new(store))
            .build()
            .serve_tls(listener, Arc::new(config))
            .unwrap();
        Self {
            host: server.addr().to_string(),
            pem,
            _server: server,
        }
    }
}

fn tls_outcome(ran: &Ran) -> (String, String) {
    let document = ran.json();
    let checks = document["checks"].as_array().unwrap();
    let tls = checks.iter().find(|check| check["check"] == "TLS").unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&tls["outcome"]),
        format!("{} {}", text(&tls["seen"]), text(&tls["remedy"])),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_that_openssl_makes_works_wherever_it_is_named() {
    let registry = Secure::start("127.0.0.1").await;
    let host = &registry.host;
    let site = Site::new();
    std::fs::write(site.path("ca.pem"), &registry.pem).unwrap();
    let plain = format!("registries:\n  {host}: {{plain_http: false}}\n");
    std::fs::write(site.path("tls.yaml"), plain).unwrap();
    let line = format!("referrers discover {host}/app:1.0");

    let untrusted = site.stellaops(&format!("{line} --config tls.yaml")).await;
    untrusted.failed(
        9,
        &["the issuer of the server's certificate is not trusted"],
    );
    let check = format!("registry diagnose {host}/app:1.0 --format json --config tls.yaml");
    let (outcome, said) = tls_outcome(&site.stellaops(&check).await);
    assert_eq!(outcome, "failed");
    assert!(
        said.contains("does not trust") && said.contains("--ca-file"),
        "{said}"
    );
    let (outcome, said) = tls_outcome(&site.stellaops(&format!("{check} --ca-file ca.pem")).await);
    assert_eq!(outcome, "ok", "{said}");
    site.stellaops(&format!("{line} --config tls.yaml --ca-file ca.pem"))
        .await
        .done();

    // In the configuration TLS needs no further word, loopback or not.
    let named = format!("registries:\n  {host}: {{ca_file: ca.pem}}\n");
    std::fs::write(site.path("named.yaml"), named).unwrap();
    site.stellaops(&format!("{line} --config named.yaml"))
        .await
        .done();

    for tool in ["containers", "docker"] {
        let folder = site.path(&format!("home/.config/{tool}/certs.d/{host}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ca.crt"), &registry.pem).unwrap();
        site.stellaops(&format!("{line} --config tls.yaml"))
            .await
            .done();
        std::fs::write(folder.join("ca.crt"), "junk").unwrap();
        let broken = site.stellaops(&format!("{line} --config tls.yaml")).await;
        broken.failed(9, &["ca.crt", "no certificate in PEM"]);
        let (_, said) = tls_outcome(&site.stellaops(&check).await);
        assert!(said.contains("ca.crt"), "{said}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insecure_registry_is_reached_with_a_warning_and_another_is_not() {
    let (registry, other) = (
        Secure::start("wrong.test").await,
        Secure::start("wrong.test").await,
    );
    let site = Site::new();
    let host = &registry.host;
    let warned = |ran: &Ran| {
        let lines = ran.stderr.lines();
        lines
            .filter(|line| line.starts_with("[WARN] TLS is not verified"))
            .count()
    };
    let line = format!("referrers discover {host}/app:1.0");
    let ran = site
        .stellaops(&format!("{line} --insecure {host}"))
        .await
        .done();
    assert_eq!(warned(&ran), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains(host.as_str()));
    let config = format!("registries:\n  {host}: {{insecure_skip_verify: true}}\n");
    std::fs::write(site.path("lab.yaml"), config).unwrap();
    let ran = site
        .stellaops(&format!("{line} --config lab.yaml"))
        .await
        .done();
    assert_eq!(warned(&ran), 1, "{}", ran.stderr);
    let ran = site
        .stellaops(&format!(
            "registry diagnose {host}/app:1.0 --format json --insecure {host}"
        ))
        .await;
    let (outcome, said) = tls_outcome(&ran);
    assert_eq!(outcome, "note");
    assert!(said.contains("not verified"), "{said}");

    let config = format!("registries:\n  {}: {{plain_http: false}}\n", other.host);
    std::fs::write(site.path("other.yaml"), config).unwrap();
    let line = format!(
        "referrers discover {}/app:1.0 --config other.yaml",
        other.host
    );
    let ran = site.stellaops(&format!("{line} --insecure {host}")).await;
    ran.failed(9, &["certificate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_of_a_registry_that_cannot_be_used_is_named_at_once() {
    let site = Site::new();
    std::fs::write(site.path("junk.pem"), "junk").unwrap();
    for (setting, parts) in [
        ("ca_file: none.pem", ["ca_file", "none.pem"]),
        ("ca_file: junk.pem", ["junk.pem", "no certificate in PEM"]),
        ("client_cert: junk.pem", ["client_key", "one is missing"]),
        (
            "client_cert: junk.pem, client_key: junk.pem",
            ["client_cert junk.pem", "no client certificate"],
        ),
        ("insecure: true", ["insecure", "2"]),
    ] {
        let config = format!("registries:\n  r.test: {{{setting}}}\n");
        std::fs::write(site.path("c.yaml"), config).unwrap();
        let ran = site
            .stellaops("registry probe r.test --config c.yaml")
            .await;
        ran.failed(2, &parts);
    }
    let ran = site
        .stellaops("registry probe r.test --ca-file junk.pem")
        .await;
    ran.failed(2, &["--ca-file junk.pem", "no certificate in PEM"]);
}

/// A proxy that knows one user and connects everybody to one address; returns its own and what it was asked.
async fn proxy(to: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (log, to) = (Arc::clone(&log), to.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else {
                        return;
                    };
                    head.push(byte);
                }
                let head = String::from_utf8(head).unwrap();
                log.lock()
                    .unwrap()
                    .push(head.lines().next().unwrap().to_owned());
                let known = head
                    .to_lowercase()
                    .contains("proxy-authorization: basic dtpw");
                let status = match (known, head.contains("closed.test")) {
                    (false, _) => "407 Proxy Authentication Required",
                    (true, true) => "403 Forbidden",
                    (true, false) => "200 Connection established",
                };
                let answer = format!("HTTP/1.1 {status}\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                if status.starts_with("200") {
                    let mut there = TcpStream::connect(to).await.unwrap();
                    drop(copy_bidirectional(&mut stream, &mut there).await);
                }
            });
        }
    });
    (host, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diagnosis_goes_through_the_proxy_as_the_client_does() {
    let registry = Secure::start("registry.test").await;
    let (proxy, asked) = proxy(registry.host.clone()).await;
    let site = Site::new();
    std::fs::write(site.path("ca.pem"), &registry.pem).unwrap();
    let run = async |user: &str, more: &str, words: &str| {
        site.shell(&format!(
            "HTTPS_PROXY={user}{proxy} {more} stellaops {words} --ca-file ca.pem"
        ))
        .await
    };
    let connection = |ran: &Ran| {
        let document = ran.json();
        let mut checks = document["checks"].as_array().unwrap().iter();
        let last = checks.rfind(|check| check["check"] == "connection");
        let last = last.unwrap_or_else(|| panic!("{document:#}"));
        assert!(
            !ran.stdout.contains("dTpw") && !ran.stdout.contains("u:p@"),
            "{}",
            ran.stdout
        );
        format!("{}: {} {}", last["outcome"], last["seen"], last["remedy"])
    };
    let diagnose = "registry diagnose registry.test/app:1.0 --format json";
    let ran = run("http://u:p@", "", diagnose).await.done();
    let seen = connection(&ran);
    assert!(
        seen.contains(&format!("through the proxy {proxy}")),
        "{seen}"
    );
    assert_eq!(tls_outcome(&ran).0, "ok");
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    assert!(
        asked
            .iter()
            .all(|line| line == "CONNECT registry.test:443 HTTP/1.1"),
        "{asked:?}"
    );
    // The client itself, with a proxy that has no scheme.
    run("u:p@", "", "referrers discover registry.test/app:1.0")
        .await
        .done();

    let seen = connection(&run("", "", diagnose).await);
    assert!(
        seen.contains("requires a login (407)") && seen.contains("USER:PASSWORD"),
        "{seen}"
    );
    let closed = "registry diagnose closed.test/app:1.0 --format json";
    let seen = connection(&run("u:p@", "", closed).await);
    assert!(seen.contains("403") && seen.contains("NO_PROXY"), "{seen}");
    // Directly there is nobody of that name.
    for spared in ["*.test", "registry.test:443", ".test,other"] {
        let ran = run("u:p@", &format!("NO_PROXY='{spared}'"), diagnose).await;
        assert!(ran.stdout.contains("\"name resolution\""), "{}", ran.stdout);
        assert!(
            !ran.stdout.contains("\"connection\",\n      \"details\""),
            "{}",
            ran.stdout
        );
    }
    let ran = run("socks5://u:secret@", "", "registry probe registry.test").await;
    let ran = ran.failed(2, &["SOCKS is not supported"]);
    assert!(!ran.stderr.contains("secret"));
    // What needs no registry needs no proxy.
    run("socks5://u:secret@", "", "demo").await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_read_where_podman_keeps_them_and_a_denial_lists_the_files() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .credentials("u", "p")
        .start()
        .await;
    registry.image("app", "1.0");
    let host = registry.host();
    let site = Site::new();
    let line = format!("stellaops referrers discover {host}/app:1.0");
    let folder = site.path("home/.config/containers");
    let ran = site.shell(&line).await;
    let file = folder.join("auth.json").display().to_string();
    let dockercfg = site.path("home/.dockercfg").display().to_string();
    ran.failed(
        10,
        &[
            "logins were looked for in",
            &format!("{file} (not there)"),
            &dockercfg,
            "/run/containers/",
        ],
    );
    let auths = format!(r#"{{"auths":{{"{host}":{{"auth":"dTpw"}}}}}}"#);
    for (name, more) in [
        ("home/.config/containers/auth.json", ""),
        ("cfg/containers/auth.json", "XDG_CONFIG_HOME=$PWD/cfg"),
        ("run/containers/auth.json", "XDG_RUNTIME_DIR=$PWD/run"),
        ("named.json", "REGISTRY_AUTH_FILE=$PWD/named.json"),
        ("docker/config.json", "DOCKER_CONFIG=$PWD/docker"),
        ("home/.docker/config.json", ""),
    ] {
        let path = site.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &auths).unwrap();
        site.shell(&format!("{more} {line}")).await.done();
        // What cannot be parsed is not absent.
        std::fs::write(&path, "{\"auths\":").unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        site.shell(&format!("{more} {line}"))
            .await
            .failed(10, &[name]);
        std::fs::remove_file(&path).unwrap();
    }
    let auths = format!(r#"{{"{host}":{{"auth":"dTpw"}}}}"#);
    std::fs::write(site.path("home/.dockercfg"), auths).unwrap();
    site.shell(&line).await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_says_nothing_costs_its_time_and_is_named_meanwhile() {
    let registry = registry_with_image(Persona::SpecFull).await;
    registry.fault(Route::any(), Fault::stall().forever());
    let host = registry.host();
    let site = Site::new();
    let config = "export:\n  referrer_discovery: {timeout_seconds: 7}\n";
    std::fs::write(site.path("c.yaml"), config).unwrap();
    let timed = async |words: String| {
        let started = Instant::now();
        let ran = site.stellaops(&words).await;
        let seconds = started.elapsed().as_secs();
        assert!((6..12).contains(&seconds), "{seconds} s: {ran:?}");
        ran
    };
    let waits = format!("[INFO] Still waiting for registry {host}");
    let (probe, export, discover) = tokio::join!(
        timed(format!("registry probe {host}/app --timeout 7")),
        timed(format!(
            "bundle export {host}/app:1.0 --output b.tgz --config c.yaml"
        )),
        timed(format!("referrers discover {host}/app:1.0 --timeout 7")),
    );
    let probe = probe.failed(9, &["no answer within 7 s", &waits]);
    assert_eq!(probe.stderr.matches(&waits).count(), 1, "{}", probe.stderr);
    export.failed(9, &["could not be read within 7 s"]);
    discover.failed(9, &["could not be read within 7 s", &waits]);
    assert!(!site.path("b.tgz").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_says_which_commit_it_is_in_one_line_and_in_full() {
    let site = Site::new();
    let line = site.stellaops("--version").await.done().stdout;
    let version = env!("CARGO_PKG_VERSION");
    assert!(line.starts_with(&format!("stellaops {version}")), "{line}");
    assert_eq!(line.lines().count(), 1);
    let document = site.stellaops("version --format json").await.done().json();
    assert_eq!(document["schemaVersion"], 1);
    assert_eq!(document["version"], version);
    assert!(
        document["features"]
            .as_array()
            .unwrap()
            .contains(&"signature".into())
    );
    let text = site.stellaops("version").await.done().stdout;
    match document["commit"].as_str() {
        Some(commit) => assert!(line.contains(commit) && text.contains(commit), "{text}"),
        None => assert!(text.contains("commit: not known"), "{text}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_short_help_is_short_and_the_long_one_has_examples_and_what_is_for_all() {
    let site = Site::new();
    for command in [
        "",
        "registry",
        "registry probe",
        "bundle export",
        "bundle import",
        "store serve",
        "demo",
    ] {
        let short = site.stellaops(&format!("{command} -h")).await.done().stdout;
        let long = site
            .stellaops(&format!("{command} --help"))
            .await
            .done()
            .stdout;
        for only_long in ["Examples:\n  ", "--metrics-listen", "--registry-config"] {
            assert!(long.contains(only_long), "{only_long} is not in {long}");
            assert!(!short.contains(only_long), "{only_long} is in {short}");
        }
        let (examples, options) = (long.find("Examples:"), long.find("Options:"));
        assert!(examples < options, "{long}");
        assert!(short.lines().count() < long.lines().count(), "{short}");
    }
}
