//! The budget that an operator gives to a registry.

use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use test_registry::Persona;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::run::{Site, registry_with_image};

/// Returns the hour of the day in UTC, some hours from now.
fn hour(from_now: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now.as_secs() / 3600 + from_now) % 24
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_per_second_are_kept_to_and_are_no_timeout() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let host = registry.host();
    let site = Site::new();
    let config = format!("registries:\n  {host}: {{requests_per_second: 8}}\n");
    std::fs::write(site.path("slow.yaml"), config).unwrap();
    let line = format!(
        "referrers discover {host}/app:1.0 --platforms --format json --timeout 2 --config slow.yaml --metrics-file m"
    );
    let started = std::time::Instant::now();
    let ran = site.stellaops(&line).await.done();
    let took = started.elapsed().as_secs_f64();
    let document = ran.json();
    assert_eq!(document["status"], "complete");
    let requests = registry.requests().len();
    assert!(
        requests as f64 <= 8.0 * took + 1.0,
        "{requests} in {took} s"
    );
    assert!(took > 2.0, "{requests} requests take more than the timeout");
    let told = format!("[INFO] Requests to registry {host} wait for its limit of 8 per second");
    assert_eq!(ran.stderr.matches(&told).count(), 1, "{}", ran.stderr);
    assert!(!ran.stderr.contains("[WARN]"), "{}", ran.stderr);
    let metrics = std::fs::read_to_string(site.path("m")).unwrap();
    let waits = format!("registry_budget_waits_total{{registry=\"{host}\",budget=\"requests\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&waits));
    assert!(line.unwrap().parse::<u64>().unwrap() > 2, "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_left_alone_until_its_window_opens() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let host = registry.host();
    let site = Site::new();
    let window = |from: u64, until: u64| {
        let (from, until) = (hour(from), hour(until));
        // The end of the day is shown as 24:00.
        let until = if until == 0 { 24 } else { until };
        let window = format!("{from:02}:00-{until:02}:00");
        let settings = format!("{{window: \"{window}\", time_zone: UTC}}");
        std::fs::write(
            site.path("c.yaml"),
            format!("registries:\n  {host}: {settings}\n"),
        )
        .unwrap();
        window
    };
    let line = format!("referrers discover {host}/app:1.0 --config c.yaml");
    let closed = window(3, 5);
    let mut command = tokio::process::Command::from(site.command());
    let mut child = command
        .args(line.split(' '))
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = lines.next_line().await.unwrap().unwrap();
    assert!(told.starts_with("[INFO] Waiting "), "{told}");
    let expected = format!(" s for the window of registry {host} ({closed} UTC)");
    assert!(told.ends_with(&expected), "{told}");
    let seconds = told["[INFO] Waiting ".len()..].split(' ').next().unwrap();
    let seconds = seconds.parse::<u64>().unwrap();
    assert!((2 * 3600 - 60..=3 * 3600).contains(&seconds), "{told}");
    assert_eq!(registry.requests().len(), 0);
    child.kill().await.unwrap();

    window(0, 2);
    site.stellaops(&line).await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_cannot_be_meant_is_shown_with_its_place() {
    let site = Site::new();
    for (settings, parts) in [
        ("requests_per_second: 0", ["\"0\"", "above 0, such as 50"]),
        (
            "requests_per_second: fast",
            ["\"fast\"", "above 0, such as 50"],
        ),
        (
            "bytes_per_second: 0",
            ["\"0\"", "write a unit, such as 20MB"],
        ),
        (
            "bytes_per_second: 20MB/s",
            ["\"20MB/s\"", "such as 20MB or 4MiB"],
        ),
        (
            "window: 22:00-22:00",
            ["\"22:00-22:00\"", "leave the window out"],
        ),
        ("window: always", ["\"always\"", "such as 22:00-06:00"]),
        (
            "{window: 22:00-06:00, time_zone: Mars}",
            ["\"Mars\"", "such as Europe/Berlin"],
        ),
        (
            "time_zone: UTC",
            ["r.test: time_zone", "there is no window"],
        ),
        (
            "referrers_api: supported",
            ["\"supported\"", "only `unsupported`"],
        ),
    ] {
        let config = match settings.starts_with('{') {
            true => format!("registries:\n  r.test: {settings}\n"),
            false => format!("registries:\n  r.test:\n    {settings}\n"),
        };
        std::fs::write(site.path("c.yaml"), &config).unwrap();
        let ran = site
            .stellaops("referrers discover r.test/app:1.0 --config c.yaml")
            .await;
        let ran = ran.failed(2, &parts);
        let quoted = settings.trim_matches(['{', '}']);
        let place = ran.stderr.contains(quoted) && ran.stderr.contains('^');
        assert!(place || settings == "time_zone: UTC", "{}", ran.stderr);
    }
}
