//! `export-center`, run as an operator runs it: its runs, its schedule, and its bad days.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oci_content::Digest;
use serde_json::{Value, json};
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::run::{Ran, Site};

const SBOM: &str = "application/vnd.cyclonedx+json";

/// A service, until this is dropped.
struct Service {
    child: Child,
    /// Where it listens.
    host: String,
}

/// An answer of the API.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Service {
    /// Starts a service on `c.yaml`, and waits until it listens.
    fn start(site: &Site) -> Self {
        Self::start_with(site, &[])
    }

    /// Starts a service that has more variables in its environment.
    fn start_with(site: &Site, variables: &[(&str, &str)]) -> Self {
        let mut child = center(site, "--config c.yaml")
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        let host = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, url) = line.split_once("its page at http://").unzip();
            seen.push(line.clone());
            url.map(|url| url.trim_end_matches('/').to_owned())
        });
        // Somebody has to read, or the service would wait.
        std::thread::spawn(move || lines.for_each(drop));
        let host = host.unwrap_or_else(|| panic!("it did not start: {seen:?}"));
        Self { child, host }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let body = body.map(Value::to_string).unwrap_or_default();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        )
        .unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
            unchunked(body)
        } else {
            body.to_owned()
        };
        Answer { status, body }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None)
    }

    /// Starts a run of a job, and returns its id.
    #[track_caller]
    fn submit(&self, job: &str) -> String {
        let body = json!({"profileId": job});
        let answer = self.ask("POST", "/v1/exports/runs", Some(&body));
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["runId"].as_str().unwrap().to_owned()
    }

    fn run(&self, id: &str) -> Value {
        self.get(&format!("/v1/exports/runs/{id}")).json()
    }

    fn runs(&self) -> Vec<Value> {
        let list = self.get("/v1/exports/runs").json();
        let runs = ["items", "runs"]
            .iter()
            .find_map(|key| list[key].as_array());
        runs.unwrap_or_else(|| panic!("{list}")).clone()
    }

    /// Waits until there are this many runs, and returns the newest.
    #[track_caller]
    fn newest_of(&self, count: usize) -> Value {
        let started = Instant::now();
        loop {
            let runs = self.runs();
            if runs.len() == count {
                return runs[0].clone();
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{runs:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a run has ended, and returns it.
    #[track_caller]
    fn ended(&self, id: &str) -> Value {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) {
            let run = self.run(id);
            if !["queued", "running"].contains(&run["status"].as_str().unwrap()) {
                return run;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("it does not end: {}", self.run(id));
    }

    #[track_caller]
    fn succeeded(&self, job: &str) -> Value {
        let run = self.ended(&self.submit(job));
        assert_eq!(run["status"], "succeeded", "{run:#}");
        run
    }

    fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Ends the service at once, as a power cut does.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends the service as a service manager does, and returns its exit code.
    fn terminate(mut self) -> i32 {
        self.signal("TERM");
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().unwrap();
    }
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        text.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    text
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

fn center(site: &Site, words: &str) -> Command {
    let mut command = site.command_of(env!("CARGO_BIN_EXE_export-center"));
    command.args(words.split_whitespace());
    command
}

fn once(site: &Site, words: &str) -> Ran {
    let output = center(site, words).output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A folder, a source with two images that have an SBOM each, and a target.
struct Scene {
    site: Site,
    source: TestRegistry,
    target: TestRegistry,
    sboms: Vec<Digest>,
}

impl Scene {
    async fn new() -> Self {
        let open = || {
            let persona = TestRegistry::builder(Persona::SpecFull);
            persona.without_auth()
        };
        let mut scene = Self {
            site: Site::new(),
            source: open().latency(Duration::from_millis(2)).start().await,
            target: open().start().await,
            sboms: Vec::new(),
        };
        scene.sboms = ["1.0", "1.1"].map(|tag| scene.image(tag)).into();
        std::fs::create_dir(scene.site.path("out")).unwrap();
        scene
    }

    /// Makes an image with an SBOM, and returns the digest of that.
    fn image(&self, tag: &str) -> Digest {
        let layers = [1, 2, 3].map(|n| {
            let text = format!("layer {n} of {tag} ");
            text.repeat(2000).into_bytes()
        });
        let image = self
            .source
            .image_with_layers("team/app", tag, layers.to_vec());
        let sbom = format!("sbom of {tag}");
        self.source.referrer("team/app", &image, SBOM, sbom).digest
    }

    /// Writes a configuration with jobs, in YAML below `jobs:`.
    fn configure(&self, jobs: &str) {
        let jobs = jobs
            .replace("SOURCE", &self.source.host())
            .replace("TARGET", &self.target.host());
        let text = format!(
            "center:\n  listen: 127.0.0.1:0\n  state: state\n  log_file: center.log\njobs:\n{jobs}"
        );
        std::fs::write(self.site.path("c.yaml"), text).unwrap();
    }

    fn configure_bundles(&self, more: &str) {
        self.configure(&format!(
            "  nightly:\n    images: [{{repository: SOURCE/team/app}}]\n    to: {{bundle: \"out/nightly-{{sequence}}.tgz\"{more}}}\n"
        ));
    }

    fn configure_mirror(&self, more: &str) {
        self.configure(&format!(
            "  inside:\n    images: [{{repository: SOURCE/team/app}}]\n    to: {{registry: TARGET/mirror}}\n{more}"
        ));
    }

    fn out(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.site.path("out")).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.site.path("center.log")).unwrap()
    }

    fn database(&self) -> PathBuf {
        self.site.path("state/center.db")
    }

    /// Starts a service and a run of `nightly` that reads blobs slowly. Returns both once the run has asked for this many.
    async fn downloading(&self, bytes_per_second: u64, blobs: usize) -> (Service, String) {
        self.source
            .fault(Route::blobs(), Fault::slow(bytes_per_second).forever());
        self.configure_bundles("");
        let service = Service::start(&self.site);
        let id = service.submit("nightly");
        while self.blobs_requested() < blobs {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (service, id)
    }

    /// Returns the number of requests for blobs that the source has seen.
    fn blobs_requested(&self) -> usize {
        let requests = self.source.requests();
        requests
            .iter()
            .filter(|request| request.path.contains("/blobs/"))
            .count()
    }

    /// Moves the marks of all schedules back, as if the service had not run since.
    fn sleep_since(&self, hours: i64) {
        let connection = rusqlite::Connection::open(self.database()).unwrap();
        let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
        let sql = "UPDATE schedules SET mark = ?1";
        assert!(connection.execute(sql, [then.to_string()]).unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_writes_the_next_bundle_of_its_series_and_says_so_everywhere() {
    let scene = Scene::new().await;
    scene.configure_bundles("");
    let service = Service::start(&scene.site);
    let run = service.succeeded("nightly");
    assert_eq!(
        scene.out(),
        [
            "nightly-1.tgz",
            "nightly-1.tgz.report.json",
            "nightly-1.tgz.sha256"
        ]
    );
    assert_eq!(run["referrers"]["total"], 2, "{run:#}");
    let id = run["runId"].as_str().unwrap();
    let log = scene.log();
    for line in [
        format!(
            " run={id} job=nightly [INFO] Probing 1 registries for OCI referrer capabilities before export\n"
        ),
        format!(
            " run={id} job=nightly [INFO] Registry {}: OCI 1.1 (referrers API supported, version=",
            scene.source.host()
        ),
        format!(" run={id} job=nightly [INFO] The run ends: succeeded, after "),
    ] {
        assert!(log.contains(&line), "{line} is not in\n{log}");
    }
    service.succeeded("nightly");
    assert!(scene.out().contains(&"nightly-2.tgz".to_owned()));
    let metrics = service.get("/metrics").body;
    for line in [
        "export_runs_total{profile=\"nightly\",status=\"succeeded\"} 2",
        "export_runs_total{profile=\"nightly\",status=\"expired\"} 0",
        "export_runs_failed_total{profile=\"nightly\"} 0",
        "export_run_duration_seconds_count{profile=\"nightly\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert_eq!(service.terminate(), 0);
    let validated = "bundle validate --file out/nightly-2.tgz --check-referrers";
    let manifest = "bundle manifest --file out/nightly-2.tgz";
    scene.site.stellaops(validated).await.done();
    let manifest = scene.site.stellaops(manifest).await.done().stdout;
    assert!(
        manifest.contains("\nstream: nightly\nsequence: 2\n"),
        "{manifest}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_goes_on_above_what_it_finds_even_if_the_state_is_lost() {
    let scene = Scene::new().await;
    scene.configure_bundles("");
    let service = Service::start(&scene.site);
    service.succeeded("nightly");
    service.succeeded("nightly");
    assert_eq!(service.terminate(), 0);
    std::fs::remove_dir_all(scene.site.path("state")).unwrap();
    std::fs::write(scene.site.path("out/nightly-7.tgz.001"), "").unwrap();
    let service = Service::start(&scene.site);
    let run = service.succeeded("nightly");
    assert!(scene.out().contains(&"nightly-8.tgz".to_owned()), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deltas_rest_on_the_last_full_bundle_and_old_ones_go_without_breaking_a_chain() {
    let scene = Scene::new().await;
    scene.configure_bundles(", full_every: 3, keep: 2");
    let service = Service::start(&scene.site);
    let bundles = || -> Vec<String> {
        let names = scene.out().into_iter();
        names.filter(|name| name.ends_with(".tgz")).collect()
    };
    let name = |number: u32| format!("nightly-{number}.tgz");
    service.succeeded("nightly");
    scene.image("1.2");
    service.succeeded("nightly");
    scene.image("1.3");
    service.succeeded("nightly");
    // The third rests on the first.
    assert_eq!(bundles(), [1, 2, 3].map(name));
    for (number, has_base) in [(1, false), (2, true), (3, true)] {
        let words = format!("bundle manifest --file out/{}", name(number));
        let manifest = scene.site.stellaops(&words).await.done().stdout;
        assert_eq!(manifest.contains("\nbase: sha256:"), has_base, "{manifest}");
    }
    service.succeeded("nightly");
    service.succeeded("nightly");
    assert_eq!(bundles(), [name(4), name(5)]);
    assert_eq!(scene.out().len(), 6, "{:?}", scene.out());
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_the_outputs_of_a_run_and_carry_a_chain() {
    let scene = Scene::new().await;
    scene.configure_bundles(", volume_size: 64KiB, full_every: 2, keep: 2");
    let service = Service::start(&scene.site);
    let run = service.succeeded("nightly");
    let outputs = run["outputs"].as_array().unwrap();
    let volumes: Vec<_> = outputs
        .iter()
        .filter(|output| output["type"] == "bundle")
        .collect();
    assert!(volumes.len() > 1, "{run:#}");
    let second = service.ask("HEAD", volumes[1]["url"].as_str().unwrap(), None);
    assert_eq!(second.status, 200);
    scene.image("1.2");
    service.succeeded("nightly");
    for (number, has_base) in [(1, false), (2, true)] {
        let words = format!("bundle manifest --file out/nightly-{number}.tgz.001");
        let manifest = scene.site.stellaops(&words).await.done().stdout;
        assert_eq!(manifest.contains("\nbase: sha256:"), has_base, "{manifest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_job_keeps_its_receipts_in_the_state_and_moves_its_own_tags() {
    let scene = Scene::new().await;
    scene.configure_mirror("");
    let service = Service::start(&scene.site);
    service.succeeded("inside");
    // A tag that moves at the source.
    let other = scene.source.image("team/app", "other");
    scene.source.untag("team/app", "other");
    scene.source.tag("team/app", "1.0", &other.digest);
    let run = service.succeeded("inside");
    let warnings = run["warnings"].to_string();
    assert!(warnings.contains("No referrers found for image"), "{run:#}");
    let metrics = service.get("/metrics").body;
    assert!(metrics.contains("mirror_last_success_timestamp_seconds{job=\"inside\"}"));
    assert_eq!(service.terminate(), 0);
    assert!(!scene.site.path("state/stellaops").exists());
    let service = Service::start(&scene.site);
    let metrics = service.get("/metrics").body;
    assert!(
        metrics.contains("mirror_last_success_timestamp_seconds{job=\"inside\"} 1"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_goes_on_under_its_id_and_is_done_once() {
    let scene = Scene::new().await;
    let (service, id) = scene.downloading(60_000, 3).await;
    service.kill();
    scene.source.clear_faults();
    let service = Service::start(&scene.site);
    let run = service.ended(&id);
    assert_eq!(run["status"], "succeeded", "{run:#}");
    assert_eq!(service.runs().len(), 1);
    assert!(scene.out().contains(&"nightly-1.tgz".to_owned()));
    assert_eq!(scene.out().len(), 3, "{:?}", scene.out());
    let line = format!("Run {id} of job nightly was running when the service ended, and goes on");
    assert!(scene.log().contains(&line));
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_moment_lose_no_run_and_make_none_twice() {
    let scene = Scene::new().await;
    scene.configure(
        "  a:\n    images: [{repository: SOURCE/team/app}]\n    to: {bundle: \"out/a-{sequence}.tgz\"}\n  \
           b:\n    images: [{repository: SOURCE/team/app}]\n    to: {registry: TARGET/mirror}\n",
    );
    let rounds: u32 = std::env::var("KILL_ROUNDS").map_or(6, |text| text.parse().unwrap());
    for round in 0..rounds {
        let service = Service::start(&scene.site);
        let ids = ["a", "b"].map(|job| service.submit(job));
        let wait = Duration::from_millis(7 + u64::from(round) * 97 % 600);
        tokio::time::sleep(wait).await;
        service.kill();
        let service = Service::start(&scene.site);
        for id in &ids {
            let run = service.ended(id);
            assert_eq!(run["status"], "succeeded", "round {round}: {run:#}");
        }
        assert_eq!(service.terminate(), 0);
        let bundle = format!("out/a-{}.tgz", round + 1);
        assert!(scene.site.path(&bundle).exists(), "{:?}", scene.out());
        let validated = format!("bundle validate --file {bundle} --check-referrers");
        scene.site.stellaops(&validated).await.done();
    }
    let service = Service::start(&scene.site);
    // A file that was being replaced when the service was killed is left under a hidden name.
    let names = scene.out().into_iter();
    let whole = names.filter(|name| !name.starts_with(".partial-"));
    assert_eq!(whole.count(), 3 * rounds as usize, "{:?}", scene.out());
    let runs = service.get("/v1/exports/runs?limit=200").json();
    assert!(!runs.to_string().contains("\"running\""), "{runs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_told_to_end_leaves_its_run_to_the_next_start() {
    let scene = Scene::new().await;
    let (service, id) = scene.downloading(30_000, 2).await;
    let started = Instant::now();
    assert_eq!(service.terminate(), 0);
    assert!(started.elapsed() < Duration::from_secs(10));
    scene.source.clear_faults();
    let service = Service::start(&scene.site);
    assert_eq!(service.ended(&id)["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_ends_and_the_next_goes_on_from_what_it_downloaded() {
    let scene = Scene::new().await;
    let (service, id) = scene.downloading(30_000, 2).await;
    let busy = json!({"profileId": "nightly"});
    let busy = service.ask("POST", "/v1/exports/runs", Some(&busy));
    assert_eq!(busy.status, 409, "{busy:?}");
    let path = format!("/v1/exports/runs/{id}:cancel");
    let answer = service.ask("POST", &path, Some(&json!({})));
    assert!(answer.status < 300, "{answer:?}");
    assert_eq!(service.ended(&id)["status"], "cancelled");
    assert!(scene.out().iter().any(|name| name.contains("partial")));
    scene.source.clear_faults();
    service.succeeded("nightly");
    assert_eq!(scene.out().len(), 3, "{:?}", scene.out());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missed_night_is_made_up_for_once() {
    let scene = Scene::new().await;
    let cron = cron_of_two_hours_ago();
    scene.configure_mirror(&format!(
        "    schedule: {{cron: \"{cron}\", time_zone: UTC}}\n"
    ));
    let service = Service::start(&scene.site);
    assert!(service.runs().is_empty());
    assert_eq!(service.terminate(), 0);
    scene.sleep_since(72);
    let service = Service::start(&scene.site);
    let run = service.newest_of(1);
    let id = run["runId"].as_str().unwrap();
    assert_eq!(service.ended(id)["status"], "succeeded");
    assert_eq!(service.terminate(), 0);
    let service = Service::start(&scene.site);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(service.runs().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_makes_no_run_and_stops_no_schedule() {
    let scene = Scene::new().await;
    let cron = cron_of_two_hours_ago();
    scene.configure_mirror(&format!(
        "    schedule: {{cron: \"{cron}\", time_zone: UTC}}\n"
    ));
    let service = Service::start(&scene.site);
    assert_eq!(service.terminate(), 0);
    // As if all until the day after tomorrow had been done.
    scene.sleep_since(-48);
    let service = Service::start(&scene.site);
    std::thread::sleep(Duration::from_millis(300));
    assert!(service.runs().is_empty());
    let jobs = service.get("/v1/exports/profiles").json().to_string();
    let now = jiff::Timestamp::now();
    let day = |time: jiff::Timestamp| time.to_string()[..10].to_owned();
    let days = [0, 1].map(|days| day(now + jiff::SignedDuration::from_hours(24 * days)));
    assert!(days.iter().any(|day| jobs.contains(day)), "{jobs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missed_night_whose_window_has_passed_is_told_and_not_run() {
    let scene = Scene::new().await;
    let hour = hour();
    let [at, end] = [22, 23].map(|more| (hour + more) % 24);
    scene.configure_mirror(&format!(
        "    schedule: {{cron: \"0 {at} * * *\", time_zone: UTC, window: \"{at}:00-{end}:00\"}}\n"
    ));
    let service = Service::start(&scene.site);
    assert_eq!(service.terminate(), 0);
    scene.sleep_since(30);
    let service = Service::start(&scene.site);
    let run = service.newest_of(1);
    assert_eq!(run["status"], "expired", "{run:#}");
    let reason = run["errors"].to_string();
    assert!(reason.contains("was over when it did"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_on_a_schedule_finds_what_is_gone_and_can_put_it_back() {
    let scene = Scene::new().await;
    let cron = cron_of_two_hours_ago();
    let audit = |repair: bool| {
        format!("    audit: {{cron: \"{cron}\", time_zone: UTC, repair: {repair}}}\n")
    };
    scene.configure_mirror(&audit(false));
    let service = Service::start(&scene.site);
    service.succeeded("inside");
    assert_eq!(service.terminate(), 0);
    scene.target.delete("mirror/team/app", &scene.sboms[0]);
    for (count, repair, status, metric) in [
        (
            2,
            false,
            "incomplete",
            "mirror_drift{job=\"inside\",kind=\"missing\"} ",
        ),
        (
            3,
            true,
            "succeeded",
            "mirror_drift{job=\"inside\",kind=\"missing\"} 0",
        ),
    ] {
        scene.configure_mirror(&audit(repair));
        scene.sleep_since(72);
        // Each of these nights counts only once.
        forget_fired(&scene);
        let service = Service::start(&scene.site);
        let run = service.newest_of(count);
        let run = service.ended(run["runId"].as_str().unwrap());
        assert_eq!(run["status"], status, "{run:#}");
        let metrics = service.get("/metrics").body;
        assert!(metrics.contains(metric), "{metrics}");
        assert_eq!(service.terminate(), 0);
        let service = Service::start(&scene.site);
        let metrics = service.get("/metrics").body;
        assert!(metrics.contains(metric), "{metrics}");
    }
}

/// Returns the hour of now, in UTC.
fn hour() -> i8 {
    let now = jiff::Timestamp::now();
    now.to_zoned_datetime(jiff::tz::TimeZone::UTC).hour()
}

/// A schedule whose next time is not within the next hours.
fn cron_of_two_hours_ago() -> String {
    format!("0 {} * * *", (hour() + 22) % 24)
}

fn forget_fired(scene: &Scene) {
    let connection = rusqlite::Connection::open(scene.database()).unwrap();
    connection.execute("DELETE FROM fired", ()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_at_a_reload_changes_nothing_and_is_shown() {
    let scene = Scene::new().await;
    scene.configure_bundles("");
    let service = Service::start(&scene.site);
    assert_eq!(service.get("/readyz").status, 200);
    let good = std::fs::read(scene.site.path("c.yaml")).unwrap();
    std::fs::write(scene.site.path("c.yaml"), "jobs: {nightly: {imgaes: []}}\n").unwrap();
    std::fs::rename(
        scene.site.path("center.log"),
        scene.site.path("center.log.1"),
    )
    .unwrap();
    service.signal("HUP");
    let started = Instant::now();
    while service.get("/readyz").status == 200 {
        assert!(started.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
    // The log was opened anew.
    assert!(scene.log().contains("imgaes"), "{}", scene.log());
    service.succeeded("nightly");
    std::fs::write(scene.site.path("c.yaml"), good).unwrap();
    service.signal("HUP");
    while service.get("/readyz").status != 200 {
        assert!(started.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(scene.log().contains("is read again and in force"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_succeed_says_why() {
    let scene = Scene::new().await;
    once(&scene.site, "").failed(2, &["--config"]);
    scene.configure_bundles("");
    let first = Service::start(&scene.site);
    once(&scene.site, "--config c.yaml").failed(2, &["in use by another service", "state"]);
    assert_eq!(first.terminate(), 0);
    std::fs::write(scene.database(), "").unwrap();
    once(&scene.site, "--config c.yaml").failed(8, &["center.db is damaged", "put back a backup"]);
    once(&scene.site, "--config c.yaml --log-file no/such.log").failed(8, &["no/such.log"]);
    scene.configure(
        "  weekly:\n    images: [{repository: SOURCE/team/app}]\n    to: {bundle: \"out/a-{sequence}.zip\"}\n",
    );
    once(&scene.site, "--config c.yaml").failed(2, &["weekly", ".zip"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_taken_while_the_service_runs_and_can_be_put_back() {
    let scene = Scene::new().await;
    scene.configure_bundles("");
    let service = Service::start(&scene.site);
    let run = service.succeeded("nightly");
    let ran = once(&scene.site, "backup --config c.yaml --output copy.db");
    ran.done();
    service.kill();
    std::fs::remove_dir_all(scene.site.path("state")).unwrap();
    std::fs::create_dir(scene.site.path("state")).unwrap();
    std::fs::rename(scene.site.path("copy.db"), scene.database()).unwrap();
    let service = Service::start(&scene.site);
    let known = service.run(run["runId"].as_str().unwrap());
    assert_eq!(known["status"], "succeeded", "{known:#}");
    service.succeeded("nightly");
    assert!(scene.out().contains(&"nightly-2.tgz".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_when_it_is_ready_reloads_and_ends() {
    let scene = Scene::new().await;
    scene.configure_bundles("");
    let path = scene.site.path("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut child = center(&scene.site, "--config c.yaml")
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = |wanted: &str| {
        let mut text = [0; 256];
        loop {
            let length = socket.recv(&mut text).unwrap();
            let text = std::str::from_utf8(&text[..length]).unwrap();
            if text.starts_with(wanted) {
                return text.to_owned();
            }
        }
    };
    told("READY=1");
    told("WATCHDOG=1");
    signal(&child, "HUP");
    assert!(told("RELOADING=1").contains("\nMONOTONIC_USEC="));
    told("READY=1");
    signal(&child, "TERM");
    told("STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Takes one delivery, and returns what was sent.
fn delivered(listener: &std::net::TcpListener) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let length = stream.read(&mut part).unwrap();
        bytes.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let (_, size) = head.split_once("content-length: ").unwrap();
            let size: usize = size.lines().next().unwrap().trim().parse().unwrap();
            if body.len() >= size {
                break;
            }
        }
    }
    write!(
        stream,
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"
    )
    .unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_says_why_and_is_told_even_after_a_kill() {
    let scene = Scene::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = format!("http://{}/hook", listener.local_addr().unwrap());
    scene.configure(&format!(
        "  nightly:\n    images: [{{reference: \"SOURCE/team/none:1.0\"}}]\n    to: {{bundle: \"out/nightly-{{sequence}}.tgz\"}}\n    \
         notify: [{{url: \"{hook}\", on: [failed], secret: env:HOOK_SECRET}}]\n"
    ));
    let service = Service::start(&scene.site);
    let id = service.submit("nightly");
    let run = service.ended(&id);
    assert_eq!(run["status"], "failed", "{run:#}");
    assert!(run["errors"].to_string().contains("team/none"), "{run:#}");
    assert!(scene.out().is_empty(), "{:?}", scene.out());
    let metrics = service.get("/metrics").body;
    let failed = "export_runs_failed_total{profile=\"nightly\"} 1";
    assert!(metrics.contains(failed), "{metrics}");
    let page = service.get("/").body;
    assert!(page.contains("nightly"), "{page}");
    // The secret is not there, so nothing could be sent so far.
    service.kill();
    let service = Service::start_with(&scene.site, &[("HOOK_SECRET", "hunter2")]);
    let sent = delivered(&listener);
    assert!(
        sent.contains(&id) && sent.to_lowercase().contains("x-stellaops-signature: t="),
        "{sent}"
    );
    assert!(!scene.log().contains("hunter2"));
    drop(service);
}
