use http::StatusCode;
use registry_client::{Client, ErrorKind, ProxyOptions};

use crate::bearer::tag;
use crate::support::{Server, answer, name, options};

#[tokio::test]
async fn a_proxy_is_used_for_all_but_the_hosts_that_are_connected_directly() {
    let proxy = Server::start(|seen, _| match seen.header("proxy-authorization") {
        Some("Basic dXNAZXI6cGE6c3M=") => answer(200).body("through the proxy"),
        _ => answer(407),
    })
    .await;
    let direct = Server::start(|_, _| answer(200).body("directly")).await;
    let mut options = options();
    let mut through = ProxyOptions::default();
    // Without a scheme, and with characters that a URL has to escape.
    through.http = Some(format!("us%40er:pa%3Ass@{}", proxy.host));
    through.no_proxy = "*.wild.test, direct.test:1".into();
    options.proxy = Some(through);
    options.plain_http.insert("registry.test".into());
    options.plain_http.insert("direct.test:1".into());
    options.plain_http.insert("a.wild.test".into());
    options.plain_http.insert("direct.test:2".into());
    assert!(!format!("{options:?}").contains("3Ass"));
    let client = Client::new(options.clone()).unwrap();
    let get = async |host: &str| {
        let repository = client.repository(&host.parse().unwrap(), &name("a"));
        repository.get_manifest(&tag()).await
    };
    assert_eq!(
        get("registry.test").await.unwrap().body(),
        "through the proxy"
    );
    assert_eq!(
        proxy.lines(),
        ["GET http://registry.test/v2/a/manifests/1.0"]
    );
    assert_eq!(get(&direct.host).await.unwrap().body(), "directly");
    for direct in ["direct.test:1", "a.wild.test"] {
        assert_eq!(get(direct).await.unwrap_err().kind(), ErrorKind::Dns);
    }
    assert_eq!(proxy.lines().len(), 1);
    assert!(get("direct.test:2").await.is_ok());
    assert_eq!(proxy.lines().len(), 2);

    options.proxy = None;
    let client = Client::new(options).unwrap();
    let repository = client.repository(&direct.registry(), &name("a"));
    let reply = repository.get_manifest(&tag()).await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_proxy_that_cannot_be_used_is_an_error_without_its_password() {
    let mut options = options();
    let mut through = ProxyOptions::default();
    through.https = Some("http://user:secret@[".into());
    options.proxy = Some(through);
    let error = Client::new(options).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("the proxy for https cannot be used"),
        "{text}"
    );
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn the_proxies_of_the_environment_are_not_used() {
    // Only set for a separate run of this test, because a process cannot change its own environment
    // safely.
    if std::env::var_os("http_proxy").is_none() {
        let test = std::thread::current().name().unwrap().to_owned();
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &test])
            .env("http_proxy", "http://127.0.0.1:1")
            .env("all_proxy", "http://127.0.0.1:1")
            .env_remove("no_proxy")
            .env_remove("NO_PROXY")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let server = Server::start(|_, _| answer(200)).await;
    let reply = server.repository(options()).get_manifest(&tag()).await;
    assert_eq!(reply.unwrap().status(), StatusCode::OK);
}
