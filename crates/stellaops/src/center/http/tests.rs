use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use clap::Parser as _;
use jiff::Timestamp;
use oci_content::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::center::arguments::CenterCli;
use crate::center::model::{Run, RunKind, RunMessage, RunOutput, RunStatus, Trigger};
use crate::center::state::NewRun;
use crate::config::Config;
use crate::log::{Log, LogFormat, LogLevel};

const SOON: Duration = Duration::from_secs(20);
const BUNDLE: &[u8] = b"the bytes of a bundle";

/// A service over a temporary state folder, with the jobs `nightly` and `weekly`, which has been served.
struct Site {
    folder: TempDir,
    center: Center,
    http: Http,
}

impl Site {
    async fn new(center: &str) -> Self {
        Self::with_files(center, |_| {}).await
    }

    async fn with_files(center: &str, files: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        files(folder.path());
        let center = open(&folder, center);
        let http = Http::start(center.clone(), &[]).await.unwrap();
        Self {
            folder,
            center,
            http,
        }
    }

    /// Records a run that ended in this way.
    fn ended(&self, job: &str, status: RunStatus) -> Run {
        let new = NewRun {
            job: job.parse().unwrap(),
            kind: RunKind::Bundle,
            trigger: Trigger::Schedule,
            at: Timestamp::now(),
        };
        let state = &self.center.inner.state;
        let Ok(crate::center::state::Asked::New(mut run)) = state.add_run(&new, None) else {
            panic!("{job} is not added");
        };
        run.status = status;
        run.started = Some(run.created);
        run.finished = Some(run.created);
        state.save_run(&run, &[]).unwrap();
        run
    }

    /// Sends a request, and returns the answer.
    async fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        ask(self.http.address(), method, target, headers, body).await
    }

    async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], "").await
    }

    async fn post(&self, target: &str, body: &str) -> Answer {
        self.ask(
            "POST",
            target,
            &[("content-type", "application/json")],
            body,
        )
        .await
    }
}

fn open(folder: &TempDir, center: &str) -> Center {
    let path = folder.path().join("config.yaml");
    let folder = folder.path().display();
    // Nothing answers on port 1, so that a run stays under way until it gives up.
    let text = format!(
        "jobs:\n  nightly:\n    images: [{{reference: \"127.0.0.1:1/app:1\"}}]\n    to: {{bundle: \"{folder}/nightly-{{sequence}}.tgz\"}}\n  \
         weekly:\n    images: [{{reference: \"127.0.0.1:1/app:1\"}}]\n    to: {{oci: \"{folder}/weekly\"}}\n\
         center: {{listen: \"127.0.0.1:0\", state: \"{folder}/state\"{center}}}\n"
    );
    fs::write(&path, text.replace("FOLDER", &folder.to_string())).unwrap();
    let config = Config::read(&path).unwrap();
    let log = Arc::new(Log::new(LogLevel::Error, LogFormat::Text, None).unwrap());
    let runtime = tokio::runtime::Handle::current();
    Center::open(config, path, connections(), log, runtime).unwrap()
}

fn connections() -> crate::cli::Connections {
    CenterCli::try_parse_from(["export-center"])
        .unwrap()
        .connections
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut pairs = lines.filter_map(|line| line.split_once(": "));
        pairs
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the form of an error, and returns its message.
    #[track_caller]
    fn error(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let body = self.json();
        let members: Vec<_> = body
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            members,
            ["code", "details", "message", "timestamp", "traceId"]
        );
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["traceId"].as_str().unwrap().len(), 32);
        assert!(
            body["timestamp"]
                .as_str()
                .unwrap()
                .parse::<Timestamp>()
                .is_ok()
        );
        body["message"].as_str().unwrap().to_owned()
    }
}

async fn ask(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    timeout(SOON, connection.read_to_end(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut body = bytes[end + 4..].to_vec();
    if head.to_lowercase().contains("transfer-encoding: chunked") {
        body = unchunked(&body);
    }
    Answer {
        status: head[9..12].parse().unwrap(),
        head,
        body,
    }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let length =
            usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        out.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 2 + length + 2..];
        if length == 0 {
            break;
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn health_metrics_and_the_document_are_answered() {
    let site = Site::new("").await;
    assert_eq!(site.get("/healthz").await.text(), "ok\n");
    assert_eq!(site.get("/readyz").await.json()["status"], "ready");
    let metrics = site.get("/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    assert!(
        metrics
            .text()
            .contains("export_registry_capabilities_probed_total")
    );
    let document = site.get("/.well-known/openapi").await;
    assert_eq!(document.header("content-type"), Some("application/yaml"));
    assert_eq!(document.header("x-export-oas-version"), Some("v1"));
    assert_eq!(
        document.header("cache-control"),
        Some("private, must-revalidate")
    );
    let tag = format!("\"{}\"", Digest::of(&document.body));
    assert_eq!(document.header("etag"), Some(tag.as_str()));
    let again = [("if-none-match", tag.as_str())];
    assert_eq!(
        site.ask("GET", "/.well-known/openapi", &again, "")
            .await
            .status,
        304
    );
    let accept = [("accept", "application/json")];
    let in_json = site.ask("GET", "/.well-known/openapi", &accept, "").await;
    assert_eq!(in_json.json()["openapi"], "3.1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_once_for_a_key_and_cancelled() {
    let site = Site::new("").await;
    let json = ("content-type", "application/json");
    let start = |key: &'static str, job: &str| {
        let body = format!("{{\"profileId\": \"{job}\"}}");
        let site = &site;
        async move {
            site.ask(
                "POST",
                "/v1/exports/runs",
                &[json, ("idempotency-key", key)],
                &body,
            )
            .await
        }
    };
    let first = start("k1", "nightly").await;
    assert_eq!(first.status, 202, "{first:?}");
    let accepted = first.json();
    let id = accepted["runId"].as_str().unwrap();
    assert_eq!(
        accepted["links"],
        json!({
            "status": format!("/v1/exports/runs/{id}"), "events": format!("/v1/exports/runs/{id}/events"),
        })
    );
    assert_eq!(
        first.header("location"),
        Some(format!("/v1/exports/runs/{id}").as_str())
    );
    let again = start("k1", "nightly").await;
    assert_eq!(
        (again.status, &again.json()["runId"]),
        (202, &accepted["runId"])
    );
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    start("k1", "weekly")
        .await
        .error(409, "ERR_EXPORT_KEY_REUSED");
    let busy = start("k2", "nightly").await;
    busy.error(409, "ERR_EXPORT_RUN_ACTIVE");
    assert_eq!(busy.json()["details"], json!([{"runId": id}]));
    start("k3", "absent").await.error(404, "ERR_EXPORT_002");
    start("a b", "nightly")
        .await
        .error(400, "ERR_EXPORT_INVALID");
    let run = site.get(&format!("/v1/exports/runs/{id}")).await.json();
    assert_eq!(
        (&run["profileId"], &run["trigger"]),
        (&json!("nightly"), &json!("local"))
    );
    let cancel = format!("/v1/exports/runs/{id}:cancel");
    let cancelled = site.post(&cancel, "").await;
    assert_eq!(cancelled.status, 202, "{}", cancelled.text());
    let percent = format!("/v1/exports/runs/{id}%3Acancel");
    assert!([202, 409].contains(&site.post(&percent, "").await.status));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_answered_in_one_form() {
    let site = Site::new("").await;
    let run = "/v1/exports/runs";
    site.get("/v1/exports/else")
        .await
        .error(404, "ERR_EXPORT_NOT_FOUND");
    let delete = site.ask("DELETE", run, &[], "").await;
    delete.error(405, "ERR_EXPORT_METHOD");
    assert_eq!(delete.header("allow"), Some("GET,HEAD,POST"));
    for (method, target, allow) in [
        ("POST", "/v1/exports/runs/20261130-000001", "GET,HEAD"),
        ("OPTIONS", "/v1/exports/runs/20261130-000001", "GET,HEAD"),
        ("GET", "/v1/exports/runs/20261130-000001:cancel", "POST"),
        ("PUT", "/v1/exports/runs/20261130-000001%3Acancel", "POST"),
        (
            "POST",
            "/v1/exports/runs/20261130-000001/events",
            "GET,HEAD",
        ),
    ] {
        let answer = site.ask(method, target, &[], "").await;
        answer.error(405, "ERR_EXPORT_METHOD");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {target}");
    }
    let form = [("content-type", "text/plain")];
    let cancel = "/v1/exports/runs/20261130-000001:cancel";
    site.ask("POST", cancel, &form, "a=b")
        .await
        .error(415, "ERR_EXPORT_INVALID");
    site.get("/v1/exports/runs/x")
        .await
        .error(404, "ERR_EXPORT_NOT_FOUND");
    site.get("/v1/exports/runs/20261130-999999/events")
        .await
        .error(404, "ERR_EXPORT_NOT_FOUND");
    for query in [
        "limit=201",
        "limit=x",
        "status=x",
        "cursor=x",
        "profileId=X",
        "else=1",
    ] {
        let message = site
            .get(&format!("{run}?{query}"))
            .await
            .error(400, "ERR_EXPORT_INVALID");
        assert!(
            message.starts_with(query.split('=').next().unwrap()),
            "{message}"
        );
    }
    for body in [
        "",
        "{",
        "[]",
        "[\"nightly\"]",
        "{}",
        "{\"profileId\": 1}",
        "{\"profileId\": \"nightly\", \"targets\": []}",
    ] {
        let message = site.post(run, body).await.error(400, "ERR_EXPORT_INVALID");
        assert!(message.starts_with("body: "), "{message}");
    }
    let form = [("content-type", "text/plain")];
    site.ask("POST", run, &form, "{\"profileId\": \"nightly\"}")
        .await
        .error(415, "ERR_EXPORT_INVALID");
    let large = format!("{{\"profileId\": \"{}\"}}", "x".repeat(100_000));
    site.post(run, &large)
        .await
        .error(413, "ERR_EXPORT_INVALID");
    let other = [("x-stella-tenant", "other")];
    site.ask("GET", run, &other, "")
        .await
        .error(403, "ERR_EXPORT_TENANT");
    let evil = [("origin", "http://evil.example")];
    site.ask("GET", run, &evil, "")
        .await
        .error(403, "ERR_EXPORT_ORIGIN");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let traced = site
        .ask("GET", "/v1/exports/runs/x", &[("traceparent", &parent)], "")
        .await;
    assert_eq!(traced.json()["traceId"], trace);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_listed_by_page_newest_first() {
    let site = Site::new("").await;
    let mut ids: Vec<_> = (0..5)
        .map(|_| site.ended("nightly", RunStatus::Succeeded).id.to_string())
        .collect();
    let other = site.ended("weekly", RunStatus::Failed).id.to_string();
    ids.push(other.clone());
    ids.reverse();
    let mut listed = Vec::new();
    let mut target = "/v1/exports/runs?limit=4".to_owned();
    loop {
        let page = site.get(&target).await.json();
        let runs = page["runs"].as_array().unwrap();
        listed.extend(
            runs.iter()
                .map(|run| run["runId"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["nextCursor"].as_str() else {
            break;
        };
        target = format!("/v1/exports/runs?limit=4&cursor={cursor}");
    }
    assert_eq!(listed, ids);
    let failed = site.get("/v1/exports/runs?status=failed").await.json();
    assert_eq!(failed["runs"][0]["runId"], other.as_str());
    assert_eq!(failed["runs"].as_array().unwrap().len(), 1);
    let nightly = site.get("/v1/exports/runs?profileId=nightly").await.json();
    assert_eq!(nightly["runs"].as_array().unwrap().len(), 5);
    let first = site
        .get("/v1/exports/profiles?limit=1&kind=mirror")
        .await
        .json();
    assert_eq!(
        (&first["profiles"][0]["profileId"], &first["nextCursor"]),
        (&json!("nightly"), &json!("nightly"))
    );
    let second = site.get("/v1/exports/profiles?cursor=nightly").await.json();
    assert_eq!(
        (&second["profiles"][0]["profileId"], &second["nextCursor"]),
        (&json!("weekly"), &Value::Null)
    );
    assert_eq!(second["profiles"][0]["lastRunStatus"], "failed");
    let none = site.get("/v1/exports/profiles?kind=bootstrap").await.json();
    assert_eq!(none["profiles"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_downloaded_in_ranges_as_long_as_they_are_there() {
    let site = Site::new("").await;
    let mut run = site.ended("nightly", RunStatus::Succeeded);
    let path = site.folder.path().join("nightly-1.tgz.001");
    fs::write(&path, BUNDLE).unwrap();
    let digest = Digest::of(BUNDLE).to_string();
    for kind in ["bundle", "report", "bundle"] {
        run.outputs.push(RunOutput {
            kind: kind.to_owned(),
            path: path.clone(),
            sha256: digest.clone(),
            size: BUNDLE.len() as u64,
        });
    }
    site.center.inner.state.save_run(&run, &[]).unwrap();
    let base = format!("/v1/exports/runs/{}", run.id);
    let listed = site.get(&base).await.json();
    let urls: Vec<_> = listed["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|output| output["url"].clone())
        .collect();
    let expected = ["download?output=1", "report", "download?output=2"];
    assert_eq!(urls, expected.map(|end| json!(format!("{base}/{end}"))));
    let target = format!("{base}/download");
    let whole = site.get(&target).await;
    assert_eq!((whole.status, whole.body.as_slice()), (200, BUNDLE));
    let tag = format!("\"{digest}\"");
    assert_eq!(whole.header("etag"), Some(tag.as_str()));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(
        whole.header("content-disposition"),
        Some("attachment; filename=\"nightly-1.tgz.001\"")
    );
    let head = site.ask("HEAD", &target, &[], "").await;
    assert_eq!(
        (head.header("content-length"), head.body.len()),
        (Some("21"), 0)
    );
    let part = site
        .ask(
            "GET",
            &target,
            &[("range", "bytes=4-8"), ("if-range", &tag)],
            "",
        )
        .await;
    assert_eq!((part.status, part.body.as_slice()), (206, &BUNDLE[4..9]));
    assert_eq!(part.header("content-range"), Some("bytes 4-8/21"));
    let other = site
        .ask(
            "GET",
            &target,
            &[("range", "bytes=4-8"), ("if-range", "\"x\"")],
            "",
        )
        .await;
    assert_eq!((other.status, other.body.as_slice()), (200, BUNDLE));
    let beyond = site
        .ask("GET", &target, &[("range", "bytes=21-")], "")
        .await;
    beyond.error(416, "ERR_EXPORT_RANGE");
    assert_eq!(beyond.header("content-range"), Some("bytes */21"));
    assert_eq!(
        site.ask("GET", &target, &[("if-none-match", &tag)], "")
            .await
            .status,
        304
    );
    assert_eq!(site.get(&format!("{target}?output=2")).await.status, 200);
    assert_eq!(
        site.get(&format!("{base}/report"))
            .await
            .header("content-type"),
        Some("application/json")
    );
    for absent in ["download?output=3", "manifest"] {
        site.get(&format!("{base}/{absent}"))
            .await
            .error(404, "ERR_EXPORT_NOT_FOUND");
    }
    site.get(&format!("{target}?output=0"))
        .await
        .error(400, "ERR_EXPORT_INVALID");
    fs::write(&path, b"other").unwrap();
    site.get(&target).await.error(404, "ERR_EXPORT_NOT_FOUND");
    fs::remove_file(&path).unwrap();
    let message = site.get(&target).await.error(404, "ERR_EXPORT_NOT_FOUND");
    assert!(message.contains("`keep`"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_those_after_the_last_one_and_end_with_the_run() {
    let site = Site::new("").await;
    let started = site
        .post("/v1/exports/runs", "{\"profileId\": \"nightly\"}")
        .await
        .json();
    let target = started["links"]["events"].as_str().unwrap().to_owned();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        site.post(
            &format!("{}:cancel", started["links"]["status"].as_str().unwrap()),
            "",
        )
        .await
    };
    let (events, _) = tokio::join!(site.get(&target), cancel);
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    let text = events.text();
    assert!(text.starts_with("retry: 3000\n\n"), "{text}");
    assert!(
        text.contains("event: started\n") && text.contains("event: finished\n"),
        "{text}"
    );
    let ids: Vec<u64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("id: ")?.parse().ok())
        .collect();
    assert!(ids.is_sorted() && ids.len() >= 2, "{ids:?}");
    let last = ids.last().unwrap().to_string();
    let nothing = site
        .ask("GET", &target, &[("last-event-id", &last)], "")
        .await;
    assert_eq!(nothing.status, 204);
    let first = ids[0].to_string();
    let rest = site
        .ask("GET", &target, &[("last-event-id", &first)], "")
        .await
        .text();
    assert!(
        !rest.contains("event: started\n") && rest.contains("event: finished\n"),
        "{rest}"
    );
    site.ask("GET", &target, &[("last-event-id", "x")], "")
        .await
        .error(400, "ERR_EXPORT_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_have_a_strict_policy_and_say_what_failed() {
    let site = Site::new("").await;
    let mut run = site.ended("nightly", RunStatus::Failed);
    run.errors = vec![RunMessage {
        message: "<b>refused</b>".to_owned(),
        code: 9,
    }];
    site.center.inner.state.save_run(&run, &[]).unwrap();
    for target in [
        "/".to_owned(),
        format!("/runs/{}", run.id),
        "/?before=20261130-000001&x=y".to_owned(),
    ] {
        let page = site.get(&target).await;
        assert_eq!(page.status, 200, "{target}");
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(page.header("x-frame-options"), Some("DENY"));
        assert!(page.text().contains("&lt;b&gt;refused"), "{target}");
    }
    let absent = site.get("/runs/x").await;
    assert_eq!(absent.status, 404);
    assert!(absent.text().contains("<h1>This page cannot be shown</h1>"));
    for asset in ["/style.css", "/live.js", "/icon.svg"] {
        let answer = site.get(asset).await;
        assert_eq!(
            (answer.status, answer.header("x-content-type-options")),
            (200, Some("nosniff"))
        );
    }
}

fn tokens(folder: &Path, lines: &[(&str, &str, &str)]) {
    let lines = lines.iter().map(|(name, scopes, secret)| {
        format!(
            "{name} {scopes} {}\n",
            Digest::of(secret.as_bytes()).encoded()
        )
    });
    fs::write(folder.join("tokens"), lines.collect::<String>()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_asked_for_and_replaced_while_it_runs() {
    let write = |folder: &Path| tokens(folder, &[("ops", "export:read", "old")]);
    let site = Site::with_files(", tokens: FOLDER/tokens", write).await;
    let denied = site.get("/v1/exports/runs").await;
    denied.error(401, "ERR_EXPORT_UNAUTHORIZED");
    assert!(
        denied.head.contains("Bearer realm") && denied.head.contains("Basic realm"),
        "{denied:?}"
    );
    assert_eq!(site.get("/").await.status, 401);
    assert_eq!(site.get("/healthz").await.status, 200);
    let with = async |secret: &str| {
        let bearer = format!("Bearer {secret}");
        site.ask("GET", "/v1/exports/runs", &[("authorization", &bearer)], "")
            .await
            .status
    };
    assert_eq!((with("old").await, with("new").await), (200, 401));
    tokens(site.folder.path(), &[("ops", "export:read", "new")]);
    site.http.reload();
    assert_eq!((with("old").await, with("new").await), (401, 200));
    fs::write(site.folder.path().join("tokens"), "rubbish\n").unwrap();
    site.http.reload();
    assert_eq!(with("new").await, 200);
    let unready = site.get("/readyz").await;
    assert_eq!(unready.status, 503);
    assert!(
        unready.json()["reasons"][0]
            .as_str()
            .unwrap()
            .contains("line 1"),
        "{unready:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_it_starts_and_reloads_only_with_tls_and_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let center = open(&folder, ", tokens: FOLDER/tokens");
    tokens(folder.path(), &[]);
    let path = folder.path().join("config.yaml");
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("127.0.0.1:0", "0.0.0.0:0");
    fs::write(&path, text).unwrap();
    center.reload();
    let faults = center.ready().unwrap_err();
    assert!(faults[0].contains("center.tls"), "{faults:?}");
    assert!(center.config().center.listen.ip().is_loopback());
    drop(center);
    let config = Config::read(&path).unwrap();
    let log = Arc::new(Log::new(LogLevel::Error, LogFormat::Text, None).unwrap());
    let runtime = tokio::runtime::Handle::current();
    let failure = Center::open(config, path, connections(), log, runtime).unwrap_err();
    assert!(
        failure.is(Exit::Usage) && failure.to_string().contains("center.tls"),
        "{failure}"
    );
}
