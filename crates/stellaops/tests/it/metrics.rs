//! Metrics as Prometheus reads them from a command that is soon over.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use test_registry::Persona;

use crate::run::{Site, registry_with_image};

/// Returns an address where nobody listens.
fn address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Reads the metrics; nothing, where nobody listens.
fn scrape(address: &str) -> Option<String> {
    answer(address, "GET /metrics")
}

/// Returns what is answered to a request; nothing, where nobody listens.
fn answer(address: &str, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "{request} HTTP/1.1\r\nHost: {address}\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counters_of_every_registry_that_is_named_are_there_as_0() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let config = "registries:\n  other.test: {max_in_flight: 4}\nexport:\n  images:\n  - repository: third.test/app\n";
    std::fs::write(site.path("c.yaml"), config).unwrap();
    let line = format!(
        "referrers discover {}/app:1.0 --config c.yaml --metrics-file m.prom",
        registry.host()
    );
    site.stellaops(&line).await.done();
    let text = std::fs::read_to_string(site.path("m.prom")).unwrap();
    for host in [&registry.host(), "other.test", "third.test"] {
        for pair in [
            format!("capabilities_probed_total{{registry=\"{host}\",api_supported=\"unknown\"}} 0"),
            format!("discovery_failures_total{{registry=\"{host}\",error=\"timeout\"}} 0"),
            format!("discovery_method_total{{registry=\"{host}\",method=\"legacy-tag\"}} 0"),
        ] {
            assert!(text.contains(&pair), "{pair} is not in\n{text}");
        }
    }
    let counted = format!(
        "method_total{{registry=\"{}\",method=\"native\"}} 1",
        registry.host()
    );
    assert!(text.contains(&counted), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_over_waits_for_one_scrape_of_its_last_numbers() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let address = address();
    let line = format!(
        "referrers discover {}/app:1.0 --metrics-listen {address} --metrics-linger 60",
        registry.host()
    );
    let started = Instant::now();
    let mut command = site.command();
    command.args(line.split_whitespace()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let last = format!(
        "method_total{{registry=\"{}\",method=\"native\"}} 1",
        registry.host()
    );
    let scraped = tokio::task::spawn_blocking(move || {
        let is_last = |text: String| text.contains(&last);
        while started.elapsed() < Duration::from_secs(30) && !scrape(&address).is_some_and(&is_last)
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        child.wait().unwrap().code()
    });
    assert_eq!(scraped.await.unwrap(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_scrape_ends_the_wait_and_a_silent_client_does_not_hold_it_up() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let address = address();
    let line = format!(
        "referrers discover {}/app:1.0 --metrics-listen {address} --metrics-linger 60",
        registry.host()
    );
    let mut command = site.command();
    command.args(line.split_whitespace()).stderr(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let asked = tokio::task::spawn_blocking(move || {
        // Its result is the last thing before the wait.
        let mut result = child.stdout.take().unwrap();
        let mut first = [0];
        result.read_exact(&mut first).unwrap();
        let silent = TcpStream::connect(&address).unwrap();
        let elsewhere = answer(&address, "GET /").unwrap();
        assert!(elsewhere.starts_with("HTTP/1.1 404 "), "{elsewhere}");
        assert!(
            elsewhere.ends_with("metrics are at /metrics\n"),
            "{elsewhere}"
        );
        let pushed = answer(&address, "POST /metrics").unwrap();
        assert!(pushed.starts_with("HTTP/1.1 405 "), "{pushed}");
        for _ in 0..5 {
            let head = answer(&address, "HEAD /metrics").unwrap();
            assert!(head.ends_with("\r\n\r\n"), "{head}");
            std::thread::sleep(Duration::from_millis(50));
        }
        let text = scrape(&address).unwrap();
        assert!(
            text.contains("content-type: text/plain; version=0.0.4\r\n"),
            "{text}"
        );
        while child.try_wait().unwrap().is_none() {
            scrape(&address);
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(silent);
        child.wait().unwrap().code()
    });
    assert_eq!(asked.await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_scrapes_ends_when_the_time_is_over_with_its_own_code() {
    let site = Site::new();
    let line = format!(
        "registry probe {} --metrics-listen {} --metrics-linger 1",
        address(),
        address()
    );
    let started = Instant::now();
    site.stellaops(&line).await.failed(9, &[]);
    assert!(started.elapsed() >= Duration::from_secs(1));
    let alone = site.stellaops("demo --metrics-linger 1").await;
    alone.failed(2, &["--metrics-listen"]);
}
