use maud::{Markup, html};

use super::clock::{Clock, span};
use super::table::table;
use super::words::{badge, mark, progress, referrers, size};
use super::{advice, whole};
use crate::center::http::RunLinks;
use crate::center::model::{Run, RunId, RunKind, RunStatus};
use crate::center::view::{AuditView, JobView, RegistryView};
use crate::render;

/// What the status page shows.
#[derive(Clone, Debug)]
pub(crate) struct StatusView {
    pub(crate) clock: Clock,
    /// Why the service is not ready.
    pub(crate) problems: Vec<String>,
    pub(crate) jobs: Vec<JobView>,
    /// The newest run of each job that has ended, and its newest audit.
    pub(crate) ended: Vec<Run>,
    /// Those that run or wait.
    pub(crate) running: Vec<Run>,
    pub(crate) registries: Vec<RegistryView>,
    pub(crate) audits: Vec<AuditView>,
    /// Runs of the history, newest first.
    pub(crate) runs: Vec<Run>,
    /// The last run of `runs`, if the history has older ones.
    pub(crate) older: Option<RunId>,
    /// Whether `runs` begins with the newest run.
    pub(crate) is_first: bool,
}

/// Writes the status page.
pub(crate) fn status(view: &StatusView) -> Markup {
    let troubles = troubles(view);
    let failed = troubles.iter().filter(|trouble| trouble.is_bad).count();
    let title = match (failed, troubles.len()) {
        (0, 0) => "All is well".to_owned(),
        (0, others) => format!("{} to look at", render::count(others as u64, "thing")),
        (failed, _) => format!("{failed} failed"),
    };
    let main = html! {
        (needs_attention(&troubles, view))
        (under_way(view))
        (jobs(view))
        (registries(view))
        (audits(view))
        (history(view))
    };
    whole(&title, &main)
}

/// Something that needs the attention of a person.
struct Trouble {
    is_bad: bool,
    badge: Markup,
    what: Markup,
    sentence: String,
    /// Further details.
    more: Option<Markup>,
    next: String,
}

/// Returns what is wrong, failures first.
fn troubles(view: &StatusView) -> Vec<Trouble> {
    let mut troubles: Vec<_> = view
        .problems
        .iter()
        .map(|problem| unready(problem))
        .collect();
    troubles.extend(view.ended.iter().filter_map(|run| of_run(run, view)));
    let registries = view.registries.iter();
    troubles.extend(registries.filter_map(|registry| of_registry(registry, &view.clock)));
    troubles.extend(
        view.audits
            .iter()
            .filter_map(|audit| of_audit(audit, &view.clock)),
    );
    troubles.sort_by_key(|trouble| !trouble.is_bad);
    troubles
}

fn unready(problem: &str) -> Trouble {
    Trouble {
        is_bad: true,
        badge: mark("bad", "✗", "Not ready"),
        what: html! { "The service" },
        sentence: problem.to_owned(),
        more: None,
        next: "Correct what the sentence names. Until then runs can fail, and a changed configuration is not in force."
            .to_owned(),
    }
}

fn of_run(run: &Run, view: &StatusView) -> Option<Trouble> {
    let (is_bad, otherwise) = match run.status {
        RunStatus::Failed => (true, "The run failed."),
        RunStatus::Incomplete => (false, "The run ended, and something is missing."),
        RunStatus::Expired => (
            false,
            "The window of the job was over before the run could end.",
        ),
        _ => return None,
    };
    let job = view.jobs.iter().find(|job| job.name == run.job)?;
    let is_audit = run.kind == RunKind::Audit;
    if is_audit && run.status == RunStatus::Incomplete {
        // What it found missing is a trouble of its own.
        let mut audits = view.audits.iter();
        if audits.any(|audit| audit.job == run.job && has_drift(audit)) {
            return None;
        }
    }
    let first = run.errors.first().or_else(|| {
        // What an incomplete run misses is in its warnings.
        run.warnings
            .first()
            .filter(|_| run.status == RunStatus::Incomplete)
    });
    let others = (run.errors.len() + run.referrers.missing.len()).saturating_sub(1);
    let code = first.map_or(0, |message| message.code);
    let next = match run.status {
        RunStatus::Expired => "Make the window of the job longer, or its schedule earlier.",
        RunStatus::Incomplete if code == 0 => advice::next_step(11),
        _ => advice::next_step(code),
    };
    let clock = &view.clock;
    Some(Trouble {
        is_bad,
        badge: badge(run.status),
        what: html! {
            @if is_audit { "Audit of " }
            a href=(link(&run.id)) { (run.job) }
            @if let Some(at) = run.finished.or(run.started) { " · " (clock.moment(at)) }
        },
        sentence: first.map_or_else(|| otherwise.to_owned(), |message| message.message.clone()),
        more: Some(html! {
            @if others > 0 { a href=(link(&run.id)) { "and " (others) " more" } " · " }
            @if is_audit { "the job itself: " }
            @if let Some(at) = job.last_success { "last success " (clock.moment(at)) }
            @else { "it has never succeeded" }
            @if job.last.as_ref().is_some_and(|last| !last.status.is_final()) { " · it runs again now" }
            @else if let Some(at) = job.next { " · it runs again " (clock.moment(at)) }
        }),
        next: next.to_owned(),
    })
}

fn of_registry(registry: &RegistryView, clock: &Clock) -> Option<Trouble> {
    let failure = registry.failure.as_ref()?;
    Some(Trouble {
        is_bad: false,
        badge: mark("warn", "!", "Probe failed"),
        what: html! {
            (registry.registry)
            @if let Some(at) = registry.probed { " · " (clock.moment(at)) }
        },
        sentence: failure.clone(),
        more: None,
        next: format!(
            "Check that it answers: `stellaops registry probe {}` shows what it says.",
            registry.registry
        ),
    })
}

fn has_drift(audit: &AuditView) -> bool {
    !audit.repaired && audit.missing + audit.changed > 0
}

fn of_audit(audit: &AuditView, clock: &Clock) -> Option<Trouble> {
    if !has_drift(audit) {
        return None;
    }
    Some(Trouble {
        is_bad: false,
        badge: mark("warn", "!", "Drift"),
        what: html! { "Target of " (audit.job) " · " (clock.moment(audit.at)) },
        sentence: format!(
            "{} missing and {} changed at the target since the newest run.",
            audit.missing, audit.changed
        ),
        more: Some(html! { a href="#audits" { "what was found" } }),
        next: "See whether a retention rule or a person removes it there. `stellaops mirror audit --config FILE --repair` puts it back."
            .to_owned(),
    })
}

fn needs_attention(troubles: &[Trouble], view: &StatusView) -> Markup {
    html! {
        section aria-labelledby="attention" {
            @if troubles.is_empty() {
                h1 id="attention" { "All is well" }
                p.calm {
                    (mark("good", "✓", "Nothing failed"))
                    @if view.jobs.is_empty() { " There are no jobs in the configuration." }
                    @else if view.jobs.iter().all(|job| has_succeeded(job, view)) {
                        " The newest run of every job succeeded."
                    }
                }
            } @else {
                h1 id="attention" { (heading(troubles)) }
                ul.troubles role="list" {
                    @for trouble in troubles {
                        li class=(if trouble.is_bad { "trouble bad" } else { "trouble warn" }) {
                            h2 { (trouble.badge) " " span.what { (trouble.what) } }
                            p.sentence { (with_code(&trouble.sentence)) }
                            p.next { strong { "What to do: " } (with_code(&trouble.next)) }
                            @if let Some(more) = &trouble.more { p.detail { (more) } }
                        }
                    }
                }
            }
        }
    }
}

fn has_succeeded(job: &JobView, view: &StatusView) -> bool {
    last_ended(job, view).is_some_and(|run| run.status == RunStatus::Succeeded)
}

fn heading(troubles: &[Trouble]) -> String {
    let failed = troubles.iter().filter(|trouble| trouble.is_bad).count();
    let others = troubles.len() - failed;
    let failed_words = format!("{failed} failed");
    match (failed, others) {
        (0, others) => format!("{} to look at", render::count(others as u64, "thing")),
        (_, 0) => failed_words,
        (_, others) => format!("{failed_words}, {others} more to look at"),
    }
}

/// Writes a sentence in which commands are between backticks.
pub(super) fn with_code(sentence: &str) -> Markup {
    html! {
        @for (at, part) in sentence.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn under_way(view: &StatusView) -> Markup {
    html! {
        section aria-labelledby="running" {
            h2 id="running" { "Running now" }
            @if view.running.is_empty() { p.none { "Nothing runs." } }
            @for run in &view.running {
                article.running data-events=(RunLinks::of(&run.id).events()) {
                    h3 {
                        (badge(run.status)) " " a href=(link(&run.id)) { (run.job) }
                        @if let Some(at) = run.started { span.detail { "since " (view.clock.moment(at)) } }
                    }
                    (progress(run))
                }
            }
        }
    }
}

fn jobs(view: &StatusView) -> Markup {
    let head = [
        "Job",
        "Last run",
        "Next run",
        "Last success",
        "Size",
        "Referrers",
        "Target",
    ];
    let rows: Vec<_> = view.jobs.iter().map(|job| job_row(job, view)).collect();
    html! {
        section aria-labelledby="jobs" {
            h2 id="jobs" { "Jobs" }
            @if rows.is_empty() { p.none { "There are no jobs in the configuration." } }
            @else { (table("Jobs", &head, &rows)) }
        }
    }
}

fn job_row(job: &JobView, view: &StatusView) -> Vec<Markup> {
    let clock = &view.clock;
    let ended = last_ended(job, view);
    vec![
        html! {
            strong { (job.name) }
            span.detail { (job.kind.as_str()) ", " (render::count(job.images as u64, "image rule")) }
        },
        html! {
            @match &job.last {
                Some(run) => {
                    a href=(link(&run.id)) { (badge(run.status)) }
                    @if let Some(at) = run.finished.or(run.started) { span.detail { (clock.moment(at)) } }
                }
                None => { "never" }
            }
        },
        html! {
            @match job.next {
                Some(at) => (clock.moment(at)),
                None => { "on demand" }
            }
            @if let Some(schedule) = &job.schedule {
                span.detail { code { (schedule) } @if let Some(zone) = &job.time_zone { " " (zone) } }
            }
        },
        html! {
            @match job.last_success {
                Some(at) => (clock.moment(at)),
                None => { "never" }
            }
        },
        html! {
            @match ended.and_then(size) {
                Some(bytes) => span.short { (render::bytes(bytes)) },
                None => { "–" }
            }
        },
        html! {
            @match ended {
                Some(run) => (referrers(run)),
                None => { "–" }
            }
        },
        html! { span.path { (job.target) } },
    ]
}

/// Returns the newest run of a job that has ended and is not an audit.
fn last_ended<'a>(job: &JobView, view: &'a StatusView) -> Option<&'a Run> {
    let mut ended = view.ended.iter();
    ended.find(|run| run.job == job.name && run.kind != RunKind::Audit)
}

fn registries(view: &StatusView) -> Markup {
    let head = ["Registry", "Referrers API", "Version", "Probed", "Waits"];
    let row = |registry: &RegistryView| {
        vec![
            html! { (registry.registry) },
            capability(registry),
            html! { (registry.version.as_deref().unwrap_or("unknown")) },
            html! {
                @match registry.probed {
                    Some(at) => (view.clock.moment(at)),
                    None => { "not yet" }
                }
            },
            html! {
                @match &registry.waits {
                    Some(waits) => (mark("warn", "!", waits)),
                    None => { "no" }
                }
            },
        ]
    };
    let rows: Vec<_> = view.registries.iter().map(row).collect();
    html! {
        section aria-labelledby="registries" {
            h2 id="registries" { "Registries" }
            @if rows.is_empty() { p.none { "The configuration names no registry." } }
            @else { (table("Registries", &head, &rows)) }
        }
    }
}

fn capability(registry: &RegistryView) -> Markup {
    use oci_content::Capability;
    html! {
        @match &registry.capability {
            Some(Capability::Supported) => (mark("good", "✓", "supported")),
            Some(Capability::Unsupported) => {
                (mark("quiet", "–", "not supported")) span.detail { "referrers are found by tags" }
            }
            Some(_) => (mark("warn", "!", "unknown")),
            None => { "not probed yet" }
        }
        @if registry.failure.is_some() { span.detail { "its probe failed: see above" } }
    }
}

fn audits(view: &StatusView) -> Markup {
    let head = ["Job", "Audited", "Missing", "Changed", "Extra", "Found"];
    let row = |audit: &AuditView| {
        vec![
            html! { (audit.job) },
            view.clock.moment(audit.at),
            count(audit.missing, true),
            count(audit.changed, true),
            count(audit.extra, false),
            html! {
                @if audit.findings.is_empty() { "nothing" }
                @else {
                    details id={ "found-" (audit.job) } {
                        summary {
                            (render::count(audit.findings.len() as u64, "finding"))
                            @if audit.repaired { ", repaired" }
                        }
                        ul { @for finding in &audit.findings { li { (finding) } } }
                    }
                }
            },
        ]
    };
    let rows: Vec<_> = view.audits.iter().map(row).collect();
    html! {
        section aria-labelledby="audits" {
            h2 id="audits" { "Drift" }
            @if rows.is_empty() { p.none { "No target has been audited yet." } }
            @else { (table("What the newest audit of each job found at its target", &head, &rows)) }
        }
    }
}

fn count(number: u64, is_drift: bool) -> Markup {
    html! {
        @if number > 0 && is_drift { (mark("warn", "!", &number.to_string())) }
        @else { (number) }
    }
}

fn history(view: &StatusView) -> Markup {
    let head = ["Run", "Job", "Status", "Began", "Took", "Said"];
    let rows: Vec<_> = view.runs.iter().map(|run| history_row(run, view)).collect();
    html! {
        section aria-labelledby="history" {
            h2 id="history" { "Runs" }
            @if rows.is_empty() { p.none { "There are no runs yet." } }
            @else { (table("Runs, newest first", &head, &rows)) }
            p.pages {
                @if !view.is_first { a href="/#history" { "Newest runs" } " " }
                @if let Some(older) = &view.older { a href={ "/?before=" (older) "#history" } { "Older runs" } }
            }
        }
    }
}

fn history_row(run: &Run, view: &StatusView) -> Vec<Markup> {
    let said = run.errors.first().or(run.warnings.first());
    vec![
        html! { a.id href=(link(&run.id)) { (run.id) } },
        html! { (run.job) span.detail { (run.kind.as_str()) } },
        badge(run.status),
        html! {
            @match run.started {
                Some(at) => (view.clock.moment(at)),
                None => { "not yet" }
            }
        },
        html! {
            @match (run.started, run.finished) {
                (Some(from), Some(to)) => span.short { (span(seconds(from, to))) },
                _ => { "–" }
            }
        },
        html! {
            @match said {
                Some(message) => span.said { (with_code(&message.message)) },
                None => { "–" }
            }
        },
    ]
}

/// Returns the seconds between two moments; a clock that was set back makes them 0.
pub(super) fn seconds(from: jiff::Timestamp, to: jiff::Timestamp) -> u64 {
    u64::try_from(to.as_second() - from.as_second()).unwrap_or(0)
}

fn link(id: &RunId) -> String {
    format!("/runs/{id}")
}
