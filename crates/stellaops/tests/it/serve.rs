use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use test_registry::Persona;

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
            "not that of the certificate",
        ),
        ("--auth none".to_owned(), "none"),
        ("--auth /dev/null".to_owned(), "no user"),
        ("--auth /dev/zero".to_owned(), "larger than 16 MiB"),
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
