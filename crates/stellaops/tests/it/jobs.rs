//! `stellaops mirror plan` and `mirror run`: the jobs of the configuration, and their lock file.

use std::path::PathBuf;

use oci_content::{Descriptor, Digest};
use serde_json::Value;
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::run::{Ran, Site};

const SBOM: &str = "application/vnd.cyclonedx+json";

/// A source with two repositories, a target, and a folder with a configuration.
struct Scene {
    site: Site,
    source: TestRegistry,
    target: TestRegistry,
}

async fn open() -> TestRegistry {
    let persona = TestRegistry::builder(Persona::SpecFull);
    persona.without_auth().start().await
}

impl Scene {
    async fn new() -> Self {
        let scene = Self {
            site: Site::new(),
            source: open().await,
            target: open().await,
        };
        for (repository, tag) in [
            ("team/app", "1.0"),
            ("team/app", "1.1"),
            ("team/app", "latest"),
            ("team/db", "v1"),
        ] {
            let image = scene.source.image(repository, tag);
            scene.sbom(repository, &image, tag);
        }
        scene
    }

    fn sbom(&self, repository: &str, subject: &Descriptor, content: &str) -> Digest {
        let content = format!("sbom of {repository} {content}");
        self.source
            .referrer(repository, subject, SBOM, content)
            .digest
    }

    /// Moves a tag at the source to another image.
    fn move_tag(&self, repository: &str, tag: &str) -> Digest {
        let other = self.source.image(repository, "other");
        self.source.untag(repository, "other");
        self.source.tag(repository, tag, &other.digest);
        other.digest
    }

    /// Writes a configuration with a job `nightly`.
    fn configure(&self, images: &str) {
        self.write(&format!(
            "jobs:\n  nightly:\n    images:\n{}    to: {{registry: {}/mirror}}\n",
            images.replace("SOURCE", &self.source.host()),
            self.target.host()
        ));
    }

    fn configure_all(&self) {
        self.configure(
            "    - repository: SOURCE/team/app\n      tags: {semver: \">=1\"}\n    - reference: SOURCE/team/db:v1\n",
        );
    }

    fn write(&self, config: &str) {
        std::fs::write(self.site.path("c.yaml"), config).unwrap();
    }

    async fn mirror(&self, words: &str) -> Ran {
        let words = format!("--config c.yaml mirror {words}");
        self.site.stellaops(&words).await
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.site.path(name)).unwrap()
    }

    fn receipts(&self, job: &str) -> Vec<PathBuf> {
        let folder = self.site.path("state").join("stellaops/receipts").join(job);
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        let is_receipt = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
        paths.filter(is_receipt).collect()
    }
}

/// The states of the images of the first job of a plan, by tag.
fn states(document: &Value) -> Vec<(String, String)> {
    let images = document["jobs"][0]["images"].as_array().unwrap();
    let text = |image: &Value, key: &str| image[key].as_str().unwrap().to_owned();
    let mut states: Vec<_> = images
        .iter()
        .map(|image| {
            let source = text(image, "source");
            let (_, tag) = source.rsplit_once(':').unwrap();
            (tag.to_owned(), text(image, "state"))
        })
        .collect();
    states.sort();
    states
}

fn pairs(states: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(tag, state): &(&str, &str)| ((*tag).to_owned(), (*state).to_owned());
    states.iter().map(owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_is_selected_and_why_not_the_rest_and_what_is_to_bring() {
    let scene = Scene::new().await;
    scene.configure_all();
    let plan = scene.mirror("plan --format json").await;
    assert_eq!(plan.code, 12, "{}", plan.stderr);
    let document = plan.json();
    assert_eq!(
        states(&document),
        pairs(&[("1.0", "new"), ("1.1", "new"), ("v1", "new")])
    );
    let job = &document["jobs"][0];
    assert_eq!(
        (&job["referrers"], &job["hasWork"]),
        (&3.into(), &true.into())
    );
    let tags = job["rules"][0]["repositories"][0]["tags"]
        .as_array()
        .unwrap();
    let latest = tags.iter().find(|tag| tag["tag"] == "latest").unwrap();
    assert_eq!(latest["verdict"], "not-a-version");
    assert!(scene.target.tags("mirror/team/app").is_empty());

    let run = scene.mirror("run").await.done();
    assert!(
        run.stdout.contains("3 of 3 referrers found"),
        "{}",
        run.stdout
    );
    let plan = scene.mirror("plan").await.done();
    for part in [
        "not selected: latest: not a version",
        "nothing to do",
        "present",
    ] {
        assert!(plan.stdout.contains(part), "{}", plan.stdout);
    }

    // A tag moves, and a referrer is added.
    let moved = scene.move_tag("team/app", "1.1");
    let one = scene.source.image("team/app", "1.0");
    scene.sbom("team/app", &one, "second");
    let plan = scene.mirror("plan --format json").await;
    assert_eq!(plan.code, 12, "{}", plan.stderr);
    let document = plan.json();
    assert_eq!(
        states(&document),
        pairs(&[("1.0", "present"), ("1.1", "changed"), ("v1", "present")])
    );
    let images = document["jobs"][0]["images"].as_array().unwrap();
    let of = |tag: &str| {
        images
            .iter()
            .find(|image| image["source"].as_str().unwrap().ends_with(tag))
            .unwrap()
    };
    assert_eq!(of("1.0")["referrers"], 1);
    assert_ne!(of("1.1")["held"], of("1.1")["digest"]);

    scene.mirror("run").await.done();
    scene.mirror("plan").await.done();
    assert_eq!(scene.target.resolve("mirror/team/app", "1.1"), Some(moved));
    assert_eq!(scene.receipts("nightly").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_finds_what_vanished_at_the_target() {
    let scene = Scene::new().await;
    scene.configure("    - reference: SOURCE/team/app:1.0\n");
    scene.mirror("run").await.done();
    let image = scene.source.image("team/app", "1.0");
    let referrer = scene.sbom("team/app", &image, "1.0");
    scene.target.delete("mirror/team/app", &referrer);
    let plan = scene.mirror("plan").await;
    assert_eq!(plan.code, 12);
    let said = "[INFO] `mirror run` has something to do: nightly";
    assert!(plan.stderr.contains(said), "{}", plan.stderr);
    assert!(plan.stdout.contains("1 to bring"), "{}", plan.stdout);
    scene.mirror("run").await.done();
    scene.mirror("plan").await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_does_not_answer_is_not_an_empty_one() {
    let scene = Scene::new().await;
    scene.configure("    - reference: SOURCE/team/app:1.0\n");
    scene.mirror("run").await.done();
    scene
        .target
        .fault(Route::referrers(), Fault::statuses([403]).forever());
    scene.target.fault(
        Route::manifests().containing("sha256-"),
        Fault::statuses([403]).forever(),
    );
    let ran = scene.mirror("plan").await;
    assert!([9, 10, 11].contains(&ran.code), "{ran:?}");
    scene.target.clear_faults();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_file_pins_what_was_copied_and_is_obeyed() {
    let scene = Scene::new().await;
    scene.configure_all();
    scene.mirror("run --lock l.yaml").await.done();
    let lock = scene.read("l.yaml");
    let one = scene.source.resolve("team/app", "1.1").unwrap();
    let line = format!("    - '{}/team/app:1.1@{one}'\n", scene.source.host());
    assert!(lock.contains(&line), "{lock}");
    scene.mirror("plan --lock l.yaml").await.done();

    // The tag moves, a new version appears, and the lock file decides.
    scene.move_tag("team/app", "1.1");
    scene.source.image("team/app", "2.0");
    scene.mirror("plan --lock l.yaml --locked").await.done();
    let ran = scene.mirror("run --lock l.yaml --locked").await.done();
    assert!(ran.stderr.contains("tag-moved"), "{}", ran.stderr);
    assert_eq!(scene.target.resolve("mirror/team/app", "1.1"), Some(one));
    assert_eq!(scene.target.resolve("mirror/team/app", "2.0"), None);
    assert_eq!(scene.read("l.yaml"), lock);

    assert_eq!(scene.mirror("plan --lock l.yaml").await.code, 12);
    scene.mirror("run --lock l.yaml").await.done();
    let moved = scene.target.resolve("mirror/team/app", "1.1").unwrap();
    assert!(scene.read("l.yaml").contains(&moved.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_file_that_does_not_fit_says_what_differs() {
    let scene = Scene::new().await;
    scene.configure("    - repository: SOURCE/team/app\n      tags: {regex: \"^1\"}\n");
    scene
        .mirror("run --lock l.yaml --locked")
        .await
        .failed(2, &["l.yaml"]);
    scene
        .mirror("run --lock none/l.yaml")
        .await
        .failed(8, &["--lock none/l.yaml"]);
    assert!(scene.target.tags("mirror/team/app").is_empty());
    scene.mirror("run --lock l.yaml").await.done();

    // Another rule that selects the same: the images agree, and the file would be rewritten.
    scene.configure("    - repository: SOURCE/team/app\n      tags: {regex: \"^1[.]\"}\n");
    scene.mirror("plan").await.done();
    assert_eq!(scene.mirror("plan --lock l.yaml").await.code, 12);

    scene.configure("    - repository: SOURCE/team/app\n      tags: {regex: \"^1.0\"}\n");
    let rule = format!("{}/team/app {{regex: \"^1.0\"}}", scene.source.host());
    scene
        .mirror("run --lock l.yaml --locked")
        .await
        .failed(12, &[&rule, "which l.yaml does not have"]);

    scene.configure("    - repository: SOURCE/team/app\n      tags: {regex: \"^1\"}\n");
    let gone = scene.source.resolve("team/app", "1.1").unwrap();
    scene.source.delete("team/app", &gone);
    scene
        .mirror("run --lock l.yaml --locked")
        .await
        .failed(10, &[&format!("app:1.1@{gone}"), "l.yaml pins it"]);

    let lock = scene.read("l.yaml");
    for (text, said) in [
        (lock.replace("/v1", "/v2"), "line 1: the file is of version"),
        (lock.replace("jobs:", "jobs:  "), "line 2: "),
        (format!("{lock}{lock}"), "is expected, not"),
    ] {
        std::fs::write(scene.site.path("l.yaml"), &text).unwrap();
        for words in [
            "run --lock l.yaml",
            "run --lock l.yaml --locked",
            "plan --lock l.yaml",
        ] {
            scene.mirror(words).await.failed(2, &[said]);
        }
        assert_eq!(scene.read("l.yaml"), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_chosen_by_name_and_those_with_bundles_are_the_services() {
    let scene = Scene::new().await;
    let (source, target) = (scene.source.host(), scene.target.host());
    scene.write(&format!(
        "jobs:\n  a: {{images: [{{reference: {source}/team/db:v1}}], to: {{registry: {target}/a}}}}\n  \
         b: {{images: [{{reference: {source}/team/gone:v1}}], to: {{oci: folder}}}}\n  \
         c: {{images: [{{reference: {source}/team/db:v1}}], to: {{bundle: \"b-{{sequence}}.tgz\", keep: 3}}}}\n"
    ));
    scene.mirror("run a").await.done();
    scene
        .mirror("run c")
        .await
        .failed(2, &["job c writes bundles", "`stellaops bundle export`"]);
    scene
        .mirror("run d")
        .await
        .failed(2, &["the configuration has no job d; it has a, b, c"]);
    let all = scene.mirror("run --format json --metrics-file m").await;
    assert_eq!(all.code, 10, "{}", all.stderr);
    assert!(all.stderr.contains("[INFO] Skipping c: "), "{}", all.stderr);
    assert!(
        all.stderr.contains("1 of 2 jobs did not succeed: b"),
        "{}",
        all.stderr
    );
    let document = all.json();
    let outcomes: Vec<_> = document["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["done", "failed"]);
    let metrics = scene.read("m");
    for line in [
        "mirror_images_total{job=\"a\",outcome=\"present\"} 1",
        "mirror_images_total{job=\"a\",outcome=\"copied\"} 0",
        "mirror_images_total{job=\"b\",outcome=\"failed\"} 1",
        "mirror_bytes_total{job=\"c\",direction=\"out\"} 0",
        "mirror_last_success_timestamp_seconds{job=\"a\"} ",
        "mirror_run_duration_seconds_count{job=\"b\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(
        !metrics.contains("timestamp_seconds{job=\"b\"}"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_selected_is_no_error_unless_it_is_required() {
    let scene = Scene::new().await;
    let images = "    - repository: SOURCE/team/app\n      tags: {regex: \"^x\"}\n";
    scene.configure(images);
    let ran = scene.mirror("run --lock l.yaml").await.done();
    assert!(ran.stderr.contains("selects nothing"), "{}", ran.stderr);
    assert!(scene.read("l.yaml").ends_with("    pins: []\n"));
    scene.mirror("plan").await.done();
    scene.configure(&format!("{images}      required: true\n"));
    for command in ["run", "plan"] {
        scene
            .mirror(command)
            .await
            .failed(11, &["selects nothing, and is required"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_and_targets_that_meet_are_refused_before_anything_is_sent() {
    let scene = Scene::new().await;
    let (source, other) = (scene.source.host(), open().await);
    other.image("team/db", "v1");
    let job = |images: &str, to: &str| {
        format!("jobs:\n  j:\n    images:\n{images}    to: {{registry: {to}}}\n")
    };
    let db = format!("    - reference: {source}/team/db:v1\n");
    let also = format!("    - reference: {}/team/db:v1\n", other.host());
    for (config, parts) in [
        (
            job(&db, &source),
            ["would be copied onto itself", "team/db"],
        ),
        (
            job(
                &format!("    - repositories: {source}/**\n"),
                &format!("{source}/team"),
            ),
            ["is below the target", "choose another prefix"],
        ),
        (
            job(&format!("{db}{also}"), &scene.target.host()),
            [
                "would both go into team/db",
                "`keep_host: true` in `to` does that",
            ],
        ),
    ] {
        scene.write(&config);
        scene.mirror("run").await.failed(2, &parts);
        scene.mirror("plan").await.failed(2, &parts);
    }
    assert!(scene.target.tags("team/db").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_run_of_a_job_at_once_says_who_holds_it() {
    let scene = Scene::new().await;
    scene.configure_all();
    scene.mirror("run").await.done();
    let path = scene
        .site
        .path("state")
        .join("stellaops/receipts/nightly/run.lock");
    let file = std::fs::File::open(&path).unwrap();
    file.lock().unwrap();
    scene
        .mirror("run")
        .await
        .failed(2, &["job nightly is being run by process", " since 2"]);
    file.unlock().unwrap();
    scene.mirror("run").await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platforms_and_the_policy_of_a_job_are_obeyed() {
    let scene = Scene::new().await;
    scene
        .source
        .index("team/multi", "1", &["linux/amd64", "linux/arm64"]);
    let (source, target) = (scene.source.host(), scene.target.host());
    let job = |more: &str| {
        format!(
            "jobs:\n  j:\n    images: [{{reference: {source}/team/multi:1}}]\n    to: {{registry: {target}}}\n{more}"
        )
    };
    scene.write(&job("    platforms: [linux/s390x]\n"));
    scene
        .mirror("run")
        .await
        .failed(10, &["has none of the platforms"]);
    let policy =
        "version: 1\nrules:\n- name: sboms\n  images: [\"**\"]\n  require: {category: sbom}\n";
    std::fs::write(scene.site.path("p.yaml"), policy).unwrap();
    scene.write(&job("    policy: p.yaml\n"));
    scene
        .mirror("run")
        .await
        .failed(11, &["the policy forbids it"]);
    scene.write(&job("    policy: none.yaml\n"));
    scene
        .mirror("run")
        .await
        .failed(2, &["configuration: jobs: j: policy none.yaml"]);
    assert!(scene.target.tags("team/multi").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_not_written_right_is_shown_with_its_line() {
    let scene = Scene::new().await;
    let image = "images: [{reference: r.test/a}]";
    for (job, parts) in [
        (format!("{{{image}}}"), ["missing field `to`", "2 | "]),
        (
            "{images: [], to: {oci: f}}".to_owned(),
            ["at least one entry", "2 | "],
        ),
        (
            format!("{{{image}, to: {{}}}}"),
            ["exactly one of `registry`, `oci` and `bundle`", "2 | "],
        ),
        (
            format!("{{{image}, to: {{oci: f, prune: true}}}}"),
            ["go with `to.registry`", "2 | "],
        ),
        (
            format!("{{{image}, to: {{oci: f, keep: 3}}}}"),
            ["go with `to.bundle`", "2 | "],
        ),
        (
            format!("{{{image}, to: {{bundle: b.tgz}}}}"),
            ["no {sequence}", "2 | "],
        ),
        (
            format!("{{{image}, to: {{registry: r.test/A}}}}"),
            ["REGISTRY[/PREFIX]", "2 | "],
        ),
        (
            format!("{{{image}, to: {{oci: f}}, shedule: {{}}}}"),
            ["shedule", "2 | "],
        ),
        (
            format!("{{{image}, to: {{oci: f}}, schedule: {{cron: \"0 25 * * *\"}}}}"),
            ["is not a hour", "2 | "],
        ),
        (
            format!(
                "{{{image}, to: {{oci: f}}, schedule: {{cron: \"0 2 * * *\", time_zone: Mars/Base}}}}"
            ),
            ["is not a time zone", "2 | "],
        ),
        (
            format!(
                "{{{image}, to: {{oci: f}}, notify: [{{url: \"http://a.test\", on: [failed]}}]}}"
            ),
            ["https", "2 | "],
        ),
        (
            format!(
                "{{{image}, to: {{oci: f}}, notify: [{{url: \"https://a.test\", on: [fail]}}]}}"
            ),
            ["fail", "2 | "],
        ),
    ] {
        scene.write(&format!("jobs:\n  j: {job}\n"));
        scene.mirror("run").await.failed(2, &parts);
    }
    for (config, said) in [
        ("jobs: {J: {}}\n", "not the name of a job"),
        (
            "jobs:\n  a: {images: [{reference: r.test/a}], to: {oci: f}}\n  a: {images: [{reference: r.test/a}], to: {oci: f}}\n",
            "duplicate",
        ),
        ("center: {listen: x}\n", "1 | "),
        ("center: {token: x}\n", "token"),
        ("{}\n", "the configuration has no jobs"),
    ] {
        scene.write(config);
        scene.mirror("run").await.failed(2, &[said]);
    }
    // The whole contract, which the command line only checks.
    scene.write(
        "jobs:\n  nightly:\n    images:\n    - reference: r.test/a\n    to: {bundle: \"/srv/nightly-{sequence}.tgz\", sign_key: key.pem, \
         volume_size: fat32, full_every: 7, keep: 14}\n    schedule: {cron: \"0 2 * * *\", time_zone: Europe/Berlin, jitter_seconds: 300, \
         window: \"01:00-05:00\"}\n    notify: [{url: https://hooks.example.com/x, on: [failed, incomplete], secret: env:HOOK_SECRET}]\n\
         center:\n  listen: 127.0.0.1:8443\n  state: /var/lib/stellaops\n  log_file: /var/log/stellaops/export-center.log\n  \
         tls: {cert: cert.pem, key: key.pem, client_ca: ca.pem}\n  tokens: /etc/stellaops/tokens\n  tenant: default\n",
    );
    scene.mirror("run").await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_are_named_at_the_target_as_the_job_says() {
    let scene = Scene::new().await;
    let (source, target) = (scene.source.host(), scene.target.host());
    scene.write(&format!(
        "jobs:\n  j:\n    images:\n    - reference: {source}/team/app:1.0\n    - reference: {source}/team/db:v1\n    to:\n      \
         registry: {target}/m\n      keep_host: true\n      map:\n      - {source}/team/db=data/base\n"
    ));
    scene.mirror("run").await.done();
    let kept = format!("m/{}/team/app", source.replace(':', "-"));
    assert_eq!(scene.target.tags(&kept), ["1.0"]);
    assert_eq!(scene.target.tags("data/base"), ["v1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_converted_from_another_tool_is_run() {
    let scene = Scene::new().await;
    let (source, target) = (scene.source.host(), scene.target.host());
    let regsync = format!(
        "version: 1\nsync:\n- source: {source}/team/app\n  target: {target}/mirror/team/app\n  type: repository\n  \
         tags:\n    allow: [\"1\\\\..*\"]\n- source: {source}/team/db:v1\n  target: {target}/mirror/data/db:v1\n  type: image\n"
    );
    std::fs::write(scene.site.path("regsync.yml"), regsync).unwrap();
    let converted = scene
        .site
        .stellaops("mirror convert --from regsync regsync.yml")
        .await
        .done();
    scene.write(&converted.stdout);
    assert_eq!(scene.mirror("plan").await.code, 12, "{}", converted.stdout);
    scene.mirror("run").await.done();
    assert_eq!(scene.target.tags("mirror/team/app"), ["1.0", "1.1"]);
    assert_eq!(scene.target.tags("mirror/data/db"), ["v1"]);
    scene.mirror("plan").await.done();
}
