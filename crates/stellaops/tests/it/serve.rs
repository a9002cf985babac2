use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use test_registry::Persona;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::run::{Site, registry_with_image};

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_served_with_its_referrers_and_refuses_pushes() {
    let source = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let export = format!("bundle export {}/app:1.0 --output b.tgz", source.host());
    site.stellaops(&export).await.done();
    site.stellaops("bundle import --file b.tgz").await.done();
    let served = site.serve("");
    assert!(
        served.line.contains(" read-only at http://"),
        "{}",
        served.line
    );
    let discover = format!("referrers discover {}/app:1.0 --format json", served.host);
    let found = site.stellaops(&discover).await.done().json();
    assert_eq!(found["capability"], "supported");
    site.stellaops(&format!(
        "bundle import --file b.tgz --to {}/new",
        served.host
    ))
    .await
    .failed(10, &["405"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writable_store_takes_pushes_into_a_new_folder_and_keeps_them() {
    let source = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let export = format!("bundle export {}/app:1.0 --output b.tgz", source.host());
    site.stellaops(&export).await.done();
    site.stellaops("store serve --folder new --listen 127.0.0.1:0")
        .await
        .failed(8, &["new", "bundle import"]);
    let served = site.serve("--folder new --writable");
    assert!(
        served.line.contains(" writable at http://"),
        "{}",
        served.line
    );
    let import = format!("bundle import --file b.tgz --to {}/kept", served.host);
    let ran = site.stellaops(&import).await.done();
    assert!(ran.stdout.contains("8 of 8 referrers found"), "{ran:?}");
    drop(served);
    // At another port: the names of what was pushed do not hang on it.
    let served = site.serve("--folder new");
    let discover = format!(
        "referrers discover {}/kept/app:1.0 --platforms --format json",
        served.host
    );
    let found = site.stellaops(&discover).await.done().json();
    assert_eq!(found["referrers"].as_array().unwrap().len(), 8);
}

/// Users as `htpasswd -nbBC 4 anna secret` prints them.
const USERS: &str = "anna:$2y$04$qeN/XWALXZm7JUUSs2n6AO9q626o3F07ETpTWMon22OtHgAVUXkg.\n";

/// A site with a certificate for loopback, users, a store with an image, and a client's configuration for `host`.
async fn site_with_users() -> Site {
    let source = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    for (name, text) in [
        ("cert.pem", made.cert.pem()),
        ("key.pem", made.signing_key.serialize_pem()),
        ("other.pem", other.signing_key.serialize_pem()),
        ("users", USERS.to_owned()),
    ] {
        std::fs::write(site.path(name), text).unwrap();
    }
    let export = format!("bundle export {}/app:1.0 --output b.tgz", source.host());
    site.stellaops(&export).await.done();
    site.stellaops("bundle import --file b.tgz").await.done();
    site
}

/// Writes what a client needs to know of `host`: that it speaks TLS, and a user's password.
fn introduce(site: &Site, host: &str, user: &str) {
    let config = format!("registries: {{\"{host}\": {{plain_http: false}}}}\n");
    std::fs::write(site.path("config.yaml"), config).unwrap();
    let auth = STANDARD.encode(user);
    let auths = format!("{{\"auths\": {{\"{host}\": {{\"auth\": \"{auth}\"}}}}}}");
    std::fs::write(site.path("auth.json"), auths).unwrap();
}

const CLIENT: &str = "--config config.yaml --ca-file cert.pem --registry-config auth.json";

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_users_with_a_password_pull_and_push_and_nobody_else() {
    let site = site_with_users().await;
    let served = site.serve("--tls-cert cert.pem --tls-key key.pem --auth users --writable");
    assert!(served.line.contains("https://"), "{}", served.line);
    assert!(
        served.line.contains("users with a password"),
        "{}",
        served.line
    );
    let host = &served.host;
    let discover = format!("{CLIENT} referrers discover {host}/app:1.0 --platforms --format json");
    introduce(&site, host, "anna:secret");
    let found = site.stellaops(&discover).await.done().json();
    assert_eq!(found["referrers"].as_array().unwrap().len(), 8);
    let import = format!("{CLIENT} bundle import --file b.tgz --to {host}/again");
    site.stellaops(&import).await.done();
    for user in ["anna:wrong", "nobody:secret"] {
        introduce(&site, host, user);
        site.stellaops(&discover).await.failed(10, &["401"]);
    }
    std::fs::write(site.path("auth.json"), "{}").unwrap();
    site.stellaops(&discover).await.failed(10, &["401"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_served_wrongly_is_not_served() {
    let site = site_with_users().await;
    std::fs::write(site.path("plain"), "anna:secret\n").unwrap();
    let everywhere = "--listen 0.0.0.0:0";
    for (words, part) in [
        (everywhere.to_owned(), "not a loopback address"),
        (format!("{everywhere} --auth users"), "--tls-cert"),
        (
            format!("{everywhere} --tls-cert cert.pem --tls-key key.pem"),
            "--auth",
        ),
        ("--tls-cert cert.pem".to_owned(), "--tls-key"),
        ("--tls-key key.pem".to_owned(), "--tls-cert"),
        (
            "--tls-cert none.pem --tls-key key.pem".to_owned(),
            "none.pem",
        ),
        (
            "--tls-cert key.pem --tls-key key.pem".to_owned(),
            "no certificate",
        ),
        (
            "--tls-cert cert.pem --tls-key cert.pem".to_owned(),
            "no private key",
        ),
        (
            "--tls-cert cert.pem --tls-key other.pem".to_owned(),
            "does not belong to the certificate",
        ),
        ("--auth none".to_owned(), "none"),
        ("--auth /dev/null".to_owned(), "no user"),
        ("--auth /dev/zero".to_owned(), "larger than 16777216 bytes"),
        ("--auth plain".to_owned(), "plain: line 1: "),
    ] {
        let line = format!("store serve {words}");
        site.stellaops(&line).await.failed(2, &[part]);
    }
    // With everything it is let through, to an address that no machine has.
    let line =
        "store serve --listen 192.0.2.1:0 --tls-cert cert.pem --tls-key key.pem --auth users";
    site.stellaops(line).await.failed(8, &["192.0.2.1:0"]);
}

/// Asks on a connection of its own; returns the whole answer.
async fn ask(host: &str, request: &str) -> String {
    let mut connection = TcpStream::connect(host).await.unwrap();
    let request = format!("{request}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_lets_requests_finish_and_the_next_one_does_not() {
    for (first, second, code) in [
        ("TERM", None, 0),
        ("INT", None, 0),
        ("TERM", Some("INT"), 130),
        ("INT", Some("TERM"), 143),
    ] {
        let site = Site::new();
        let mut served = site.serve("--folder new --writable");
        let mut under_way = TcpStream::connect(&served.host).await.unwrap();
        let head = "PUT /v2/app/manifests/x HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
        under_way.write_all(head.as_bytes()).await.unwrap();
        let mut asked = [0; 12];
        under_way.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"HTTP/1.1 100");
        served.signal(first);
        served.line_with("Stopping").await;
        while TcpStream::connect(&served.host).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        if let Some(second) = second {
            served.signal(second);
        } else {
            under_way.write_all(b"{}").await.unwrap();
            let mut answer = String::new();
            under_way.read_to_string(&mut answer).await.unwrap();
            assert!(answer.contains("HTTP/1.1 400 "), "{answer}");
        }
        assert_eq!(served.ended().await, code, "{first} {second:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_a_line_of_the_log_that_nobody_can_forge_and_is_counted() {
    let site = Site::new();
    std::fs::write(site.path("users"), USERS).unwrap();
    let mut served =
        site.serve("--folder new --writable --auth users --metrics-file metrics --log-file log");
    let anna = format!("authorization: Basic {}", STANDARD.encode("anna:secret"));
    let long = "x".repeat(5000);
    for (request, part) in [
        (
            "GET /v2/app/tags/list?token=secret HTTP/1.1\r\nhost: localhost".to_owned(),
            "Request method=GET path=/v2/app/tags/list status=401 bytes=",
        ),
        (
            format!("GET /v2/_catalog HTTP/1.1\r\nhost: localhost\r\n{anna}"),
            "Request method=GET path=/v2/_catalog status=200 bytes=19 ms=",
        ),
        (
            format!("BREW /{long} HTTP/1.1\r\nhost: localhost\r\n{anna}"),
            "Request method=BREW path=/xxx",
        ),
        (
            format!("GET /a%0a[ERROR]%1b[31m HTTP/1.1\r\nhost: localhost\r\n{anna}"),
            "path=/a%0a[ERROR]%1b[31m status=404",
        ),
    ] {
        ask(&served.host, &request).await;
        let line = served.line_with(part).await;
        assert!(line.starts_with("[INFO] ") && line.len() < 1000, "{line}");
        let user = line.rsplit_once(" user=").unwrap().1;
        let known = request.contains(&anna);
        assert_eq!(user, if known { "\"anna\"" } else { "-" }, "{line}");
        assert!(!line.contains("secret"), "{line}");
    }
    served.signal("TERM");
    assert_eq!(served.ended().await, 0);
    let metrics = std::fs::read_to_string(site.path("metrics")).unwrap();
    for line in [
        "store_requests_total{method=\"GET\",status=\"200\"} 1",
        "store_requests_total{method=\"GET\",status=\"401\"} 1",
        "store_requests_total{method=\"GET\",status=\"404\"} 1",
        "store_requests_total{method=\"other\",status=\"404\"} 1",
        "store_request_duration_seconds_count 4",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let log = std::fs::read_to_string(site.path("log")).unwrap();
    assert_eq!(log.matches("Request method=").count(), 4, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_a_store_answers_for_its_own_hosts_and_those_that_it_is_told() {
    let site = Site::new();
    let told = "--folder new --writable --allow-host mirror.example:443";
    for (words, host, status) in [
        ("--folder new --writable", "localhost:1", "200"),
        ("--folder new --writable", "mirror.example", "403"),
        (told, "mirror.example", "200"),
        (told, "evil.example", "403"),
    ] {
        let served = site.serve(words);
        let request = format!("GET /v2/ HTTP/1.1\r\nhost: {host}");
        let answer = ask(&served.host, &request).await;
        assert_eq!(&answer[9..12], status, "{words}: {host}");
        let request = format!(
            "POST /v2/app/blobs/uploads/ HTTP/1.1\r\nhost: {host}\r\norigin: http://evil.example"
        );
        let answer = ask(&served.host, &request).await;
        assert_eq!(&answer[9..12], "403", "{words}: {host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_up_nobody() {
    let site = Site::new();
    let mut child = site
        .command()
        .args("store serve --folder new --writable --listen 127.0.0.1:0".split(' '))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    let (_, host) = line.split_once("://").unwrap();
    let (host, _) = host.split_once("/v2/").unwrap();
    let long = "x".repeat(250);
    let mut connection = TcpStream::connect(host).await.unwrap();
    let request = format!("GET /v2/{long} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut answer = [0; 4096];
    // More than a pipe takes.
    for _ in 0..1000 {
        connection.write_all(request.as_bytes()).await.unwrap();
        assert!(connection.read(&mut answer).await.unwrap() > 0);
    }
    let kill = std::process::Command::new("kill")
        .arg(child.id().to_string())
        .status();
    assert!(kill.unwrap().success());
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
    let ended = tokio::time::timeout(std::time::Duration::from_secs(30), ended).await;
    assert_eq!(ended.expect("it ends").unwrap().code(), Some(0));
    drop(lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_left_is_gone_after_the_next_start() {
    let site = Site::new();
    let served = site.serve("--folder new --writable");
    let begin = "POST /v2/app/blobs/uploads/ HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0";
    let answer = ask(&served.host, begin).await;
    assert_eq!(&answer[9..12], "202");
    let left = || {
        let entries = std::fs::read_dir(site.path("new/blobs")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".partial-")).count()
    };
    assert_eq!(left(), 1);
    // Another one beside it leaves what is being written.
    drop(site.serve("--folder new --writable"));
    assert_eq!(left(), 1);
    drop(served);
    assert_eq!(left(), 1);
    drop(site.serve("--folder new --writable"));
    assert_eq!(left(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_lists_what_is_in_it_and_says_what_is_damaged() {
    let source = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    site.stellaops("store list")
        .await
        .failed(8, &["bundle import"]);
    let export = format!("bundle export {}/app:1.0 --output b.tgz", source.host());
    site.stellaops(&export).await.done();
    site.stellaops("bundle import --file b.tgz").await.done();
    let listed = site
        .stellaops("store list --format json")
        .await
        .done()
        .json();
    assert_eq!(listed["schemaVersion"], 1);
    let manifests = listed["manifests"].as_array().unwrap();
    let reference = format!("{}/app:1.0", source.host());
    let image = manifests
        .iter()
        .find(|entry| entry["reference"] == reference.as_str())
        .unwrap();
    // Two of the eight are legacy tags, which name no subject.
    assert_eq!(
        (&image["state"], &image["referrers"]),
        (&"present".into(), &6.into())
    );
    let text = site.stellaops("store list").await.done().stdout;
    assert!(text.contains(&reference), "{text}");
    let victim = manifests.iter().find(|entry| !entry["subject"].is_null());
    let victim = victim.unwrap()["digest"].as_str().unwrap();
    let file = format!("data/stellaops/store/blobs/{}", victim.replace(':', "/"));
    for (state, code) in [("damaged", 4), ("missing", 4)] {
        match state {
            "damaged" => std::fs::write(site.path(&file), "{}").unwrap(),
            _ => std::fs::remove_file(site.path(&file)).unwrap(),
        }
        let ran = site
            .stellaops("store list")
            .await
            .failed(code, &[victim, state]);
        let row = ran.stdout.lines().find(|line| line.contains(victim));
        assert!(row.unwrap().ends_with(state), "{}", ran.stdout);
        let ran = site.stellaops("store list --format json").await;
        assert!(ran.json()["manifests"].to_string().contains(state));
    }
    site.stellaops("bundle import --file b.tgz").await.done();
    site.stellaops("store list").await.done();
}
