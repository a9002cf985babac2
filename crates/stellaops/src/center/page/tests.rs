use std::path::PathBuf;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use oci_content::Capability;

use super::*;
use crate::center::model::{
    Run, RunKind, RunMessage, RunOutput, RunProgress, RunReferrers, RunStatus, Trigger,
};
use crate::center::view::{AuditView, JobView, RegistryView};

const NOW: &str = "2026-11-30T05:12:00Z";
const HOSTILE: &str = "<script>alert(1)</script>\"'&";

fn clock() -> Clock {
    Clock {
        now: NOW.parse().unwrap(),
        zone: TimeZone::get("Europe/Berlin").unwrap(),
    }
}

fn at(minutes_ago: i64) -> Timestamp {
    clock().now - SignedDuration::from_mins(minutes_ago)
}

fn a_run(number: u32, job: &str, kind: RunKind, status: RunStatus) -> Run {
    Run {
        id: format!("20261130-{number:06}").parse().unwrap(),
        job: job.parse().unwrap(),
        kind,
        trigger: Trigger::Schedule,
        status,
        created: at(200),
        started: Some(at(192)),
        finished: status.is_final().then(|| at(150)),
        progress: RunProgress::default(),
        outputs: Vec::new(),
        referrers: RunReferrers::default(),
        warnings: Vec::new(),
        errors: Vec::new(),
        sequence: None,
    }
}

fn message(code: u8, text: &str) -> RunMessage {
    RunMessage {
        message: text.to_owned(),
        code,
    }
}

fn job(name: &str, kind: RunKind, last: Option<&Run>, last_success: i64, target: &str) -> JobView {
    JobView {
        name: name.parse().unwrap(),
        kind,
        schedule: Some("0 2 * * *".to_owned()),
        time_zone: Some("Europe/Berlin".to_owned()),
        next: Some(at(-1188)),
        last: last.cloned(),
        last_success: Some(at(last_success)),
        target: target.to_owned(),
        images: 12,
    }
}

/// A night in which a run failed, one is incomplete, one succeeded and one goes on.
fn night() -> StatusView {
    let mut failed = a_run(41, "nightly", RunKind::Bundle, RunStatus::Failed);
    failed.errors = vec![
        message(
            9,
            "registry.example.com: connection refused after 5 tries; `stellaops registry diagnose` looks for the cause",
        ),
        message(9, "registry.example.com/team/db:1.4: not exported"),
    ];
    let mut incomplete = a_run(42, "to-inside", RunKind::Mirror, RunStatus::Incomplete);
    incomplete.errors = vec![message(
        11,
        "ghcr.io/team/app:2.1: discovery is incomplete: 2 lookups failed (rate-limited)",
    )];
    incomplete.referrers.missing =
        vec!["sha256:5ab0 (signature of ghcr.io/team/app:2.1)".to_owned()];
    incomplete.referrers.total = 7;
    incomplete.referrers.by_category = [("sbom".to_owned(), 4), ("signature".to_owned(), 3)].into();
    let succeeded = succeeded_run();
    let mut running = a_run(44, "to-inside", RunKind::Mirror, RunStatus::Running);
    running.started = Some(at(4));
    running.progress = RunProgress {
        phase: "download".to_owned(),
        items_completed: 7,
        items_total: 12,
        bytes_completed: 734_003_200,
        bytes_total: 1_288_490_189,
        waits_for: Some("ghcr.io asked to wait 20 s".to_owned()),
    };
    let jobs = vec![
        job(
            "nightly",
            RunKind::Bundle,
            Some(&failed),
            1620,
            "/srv/mirror/nightly-{sequence}.tgz",
        ),
        job(
            "platform-images",
            RunKind::Bundle,
            Some(&succeeded),
            150,
            "/srv/mirror/platform-images-{sequence}.tgz",
        ),
        job(
            "to-inside",
            RunKind::Mirror,
            Some(&running),
            1600,
            "registry.inside.example/mirror",
        ),
    ];
    let registry =
        |name: &str, capability, version: &str, failure: Option<&str>, waits: Option<&str>| {
            RegistryView {
                registry: name.parse().unwrap(),
                capability,
                version: Some(version.to_owned()),
                probed: Some(at(192)),
                failure: failure.map(str::to_owned),
                waits: waits.map(str::to_owned),
            }
        };
    StatusView {
        clock: clock(),
        problems: Vec::new(),
        ended: vec![failed.clone(), succeeded.clone(), incomplete.clone()],
        running: vec![running.clone()],
        jobs,
        registries: vec![
            registry(
                "gcr.io",
                Some(Capability::Supported),
                "OCI-Distribution/2.1",
                None,
                None,
            ),
            registry(
                "ghcr.io",
                Some(Capability::Unsupported),
                "registry/2.0",
                None,
                Some("asked to wait 20 s"),
            ),
            registry(
                "registry.example.com",
                Some(Capability::Unknown),
                "unknown",
                Some("connection refused"),
                None,
            ),
        ],
        audits: vec![AuditView {
            job: "to-inside".parse().unwrap(),
            at: at(900),
            missing: 2,
            changed: 0,
            extra: 1,
            findings: vec![
                "missing: registry.inside.example/mirror/team/app@sha256:5ab0… (signature)"
                    .to_owned(),
                "missing: registry.inside.example/mirror/team/db@sha256:77f1… (sbom)".to_owned(),
                "extra: registry.inside.example/mirror/team/app:test".to_owned(),
            ],
            repaired: false,
        }],
        older: Some("20261129-000019".parse().unwrap()),
        runs: vec![running, succeeded, incomplete, failed],
        is_first: true,
    }
}

fn succeeded_run() -> Run {
    let mut run = a_run(43, "platform-images", RunKind::Bundle, RunStatus::Succeeded);
    run.sequence = Some(43);
    run.referrers = RunReferrers {
        total: 31,
        by_category: [
            ("attestation".to_owned(), 9),
            ("sbom".to_owned(), 12),
            ("signature".to_owned(), 10),
        ]
        .into(),
        missing: Vec::new(),
    };
    run.outputs = ["bundle", "manifest", "report"]
        .map(|kind| RunOutput {
            kind: kind.to_owned(),
            path: PathBuf::from(format!(
                "/srv/mirror/platform-images-43.tgz{}",
                if kind == "bundle" { "" } else { kind }
            )),
            sha256: format!("sha256:{}", "0a1b2c3d".repeat(8)),
            size: 4_831_838_208,
        })
        .to_vec();
    run.warnings = vec![message(
        0,
        "No referrers found for image registry.example.com/team/tool:0.9; if there should be some, check that they refer to this digest",
    )];
    run
}

fn run_view(run: Run) -> RunView {
    let line = "2026-11-30T02:00:01.123Z run=20261130-000041 job=nightly [INFO] Probing 2 registries for OCI referrer capabilities before export\n";
    RunView {
        clock: clock(),
        run,
        next: Some(at(-1188)),
        log: Ok(line.repeat(40)),
    }
}

/// Returns where each of these texts begins, in the order of the texts.
fn places(page: &str, texts: &[&str]) -> Vec<usize> {
    let place = |text: &&str| {
        page.find(text)
            .unwrap_or_else(|| panic!("{text} is not in {page}"))
    };
    texts.iter().map(place).collect()
}

#[test]
fn what_failed_stands_first_with_what_to_do() {
    let page = status(&night()).into_string();
    assert!(page.contains("<title>1 failed – export-center</title>"));
    let places = places(
        &page,
        &[
            "1 failed, 3 more to look at",
            "connection refused after 5 tries",
            "What to do: ",
            "stellaops registry diagnose REFERENCE",
            "last success",
            "2 lookups failed",
            "Drift",
            "Running now",
            "<h2 id=\"jobs\">",
        ],
    );
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn a_run_under_way_does_not_hide_that_the_one_before_was_incomplete() {
    let page = status(&night()).into_string();
    assert!(page.contains("it runs again now"));
}

#[test]
fn a_quiet_night_says_so() {
    let mut view = night();
    view.ended.retain(|run| run.status == RunStatus::Succeeded);
    view.registries.truncate(1);
    view.audits[0].repaired = true;
    view.running.clear();
    let page = status(&view).into_string();
    assert!(page.contains("<title>All is well – export-center</title>"));
    assert!(page.contains("Nothing failed") && page.contains("Nothing runs."));
    view.problems = vec!["configuration c.yaml: line 3: unknown key".to_owned()];
    let page = status(&view).into_string();
    assert!(page.contains("Not ready") && page.contains("unknown key"));
}

#[test]
fn an_audit_that_failed_needs_attention_and_its_drift_is_told_once() {
    let mut view = night();
    view.registries.truncate(1);
    view.running.clear();
    view.ended = vec![a_run(45, "to-inside", RunKind::Audit, RunStatus::Failed)];
    view.audits.clear();
    let page = status(&view).into_string();
    assert!(page.contains("<h1 id=\"attention\">1 failed</h1>") && page.contains("Audit of "));
    assert!(!page.contains("The newest run of every job succeeded"));
    view.ended[0].status = RunStatus::Incomplete;
    view.audits = night().audits;
    let page = status(&view).into_string();
    assert!(page.contains("1 thing to look at") && !page.contains("Audit of "));
    view.audits[0].missing = 0;
    let page = status(&view).into_string();
    assert!(page.contains("1 thing to look at") && page.contains("Audit of "));
}

#[test]
fn only_if_every_job_succeeded_the_page_says_so() {
    let said = "The newest run of every job succeeded";
    let mut view = night();
    view.registries.truncate(1);
    view.audits.clear();
    view.ended = [(46, "nightly"), (47, "to-inside")]
        .map(|(number, job)| a_run(number, job, RunKind::Mirror, RunStatus::Succeeded))
        .to_vec();
    let page = status(&view).into_string();
    assert!(page.contains("All is well") && !page.contains(said));
    view.ended.push(succeeded_run());
    assert!(status(&view).into_string().contains(said));
    view.ended[0].status = RunStatus::Cancelled;
    assert!(!status(&view).into_string().contains(said));
}

#[test]
fn foreign_text_is_escaped_everywhere() {
    let mut view = night();
    view.problems = vec![HOSTILE.to_owned()];
    for run in view
        .ended
        .iter_mut()
        .chain(&mut view.runs)
        .chain(&mut view.running)
    {
        run.errors.push(message(2, HOSTILE));
        run.errors.rotate_right(1);
        run.progress.waits_for = Some(HOSTILE.to_owned());
        run.progress.phase = HOSTILE.to_owned();
        run.referrers.by_category.insert(HOSTILE.to_owned(), 1);
        run.referrers.missing.push(HOSTILE.to_owned());
        run.trigger = Trigger::Caller(HOSTILE.to_owned());
    }
    for job in &mut view.jobs {
        job.target = HOSTILE.to_owned();
    }
    for registry in &mut view.registries {
        registry.failure = Some(HOSTILE.to_owned());
        registry.version = Some(HOSTILE.to_owned());
        registry.waits = Some(HOSTILE.to_owned());
    }
    view.audits[0].findings = vec![HOSTILE.to_owned()];
    let mut of_run = run_view(view.ended[0].clone());
    of_run.log = Ok(HOSTILE.to_owned());
    of_run.run.outputs = vec![RunOutput {
        kind: HOSTILE.to_owned(),
        path: HOSTILE.into(),
        sha256: HOSTILE.to_owned(),
        size: 1,
    }];
    for page in [status(&view), run(&of_run), failed(404, HOSTILE)] {
        let page = page.into_string();
        assert!(
            !page.contains("<script>alert") && page.contains("&lt;script&gt;alert"),
            "{page}"
        );
        assert!(!page.contains("\"'&\""), "{page}");
    }
}

#[test]
fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
    for page in [
        status(&night()),
        run(&run_view(succeeded_run())),
        failed(404, "x"),
    ] {
        let page = page.into_string();
        for bad in [
            " style=",
            "<style",
            " onclick",
            "javascript:",
            "http://",
            "https://",
            "src=\"//",
        ] {
            assert!(!page.contains(bad), "{bad}: {page}");
        }
        assert_eq!(page.matches("<script").count(), 1);
        assert!(page.contains("<script src=\"/live.js\" defer></script>"));
        for landmark in ["<header", "<nav", "<main", "<footer", "<h1"] {
            assert_eq!(page.matches(landmark).count(), 1, "{landmark}");
        }
    }
    assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
}

#[test]
fn every_cell_has_a_header() {
    let page = status(&night()).into_string();
    let rows = page.matches("<tr role=\"row\">").count();
    let heads = page.matches("scope=\"row\"").count();
    let tables = page.matches("<table").count();
    assert_eq!((rows, tables), (heads + tables, 4));
    assert_eq!(
        page.matches("<td").count(),
        page.matches("<td role=\"cell\" data-label=\"").count()
    );
    assert!(!page.contains("data-label=\"\""));
}

#[test]
fn the_page_of_a_run_has_its_faults_files_and_log() {
    let mut incomplete = night().ended[2].clone();
    incomplete.outputs = succeeded_run().outputs;
    let page = run(&run_view(incomplete)).into_string();
    let places = places(
        &page,
        &[
            "What went wrong",
            "What to do: ",
            "1 missing",
            "/v1/exports/runs/20261130-000042/download?output=1",
            "/v1/exports/runs/20261130-000042/manifest",
            "Probing 2 registries",
        ],
    );
    assert!(places.is_sorted(), "{places:?}");
    assert!(!page.contains("data-events"), "it has ended");
    let unread = RunView {
        log: Err("permission denied".to_owned()),
        ..run_view(night().running[0].clone())
    };
    let page = run(&unread).into_string();
    assert!(page.contains("data-events=\"/v1/exports/runs/20261130-000044/events\""));
    assert!(page.contains("permission denied"));
}
