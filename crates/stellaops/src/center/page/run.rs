use jiff::Timestamp;
use maud::{Markup, html};

use super::clock::{Clock, span};
use super::status::{seconds, with_code};
use super::table::table;
use super::words::{badge, progress, trigger};
use super::{advice, whole};
use crate::center::http::{Output, RunLinks};
use crate::center::model::{Run, RunStatus};
use crate::render;

/// What the page of a run shows.
#[derive(Clone, Debug)]
pub(crate) struct RunView {
    pub(crate) clock: Clock,
    pub(crate) run: Run,
    /// When its job runs next.
    pub(crate) next: Option<Timestamp>,
    /// The end of its log, or why there is none.
    pub(crate) log: Result<String, String>,
}

/// Writes the page of a run.
pub(crate) fn run(view: &RunView) -> Markup {
    let run = &view.run;
    let title = format!("{} {}", run.job, run.status.as_str());
    let main = html! {
        h1 { (run.job) " " (badge(run.status)) }
        p.detail { "Run " (run.id) }
        (said(run))
        @if !run.status.is_final() {
            section.running aria-labelledby="progress" data-events=(RunLinks::of(&run.id).events()) {
                h2 id="progress" { "Progress" }
                (progress(run))
            }
        }
        (facts(view))
        (referrers(run))
        (files(run))
        (log(view))
    };
    whole(&title, &main)
}

/// The most messages of a kind that the page shows; the API has all of them.
const MAX_MESSAGES: usize = 100;

/// Writes what went wrong and what to do, then the warnings.
fn said(run: &Run) -> Markup {
    let is_bad = run.status == RunStatus::Failed;
    // Failures of one kind have one next step.
    let mut by_step: Vec<(&str, Vec<&str>)> = Vec::new();
    for error in run.errors.iter().take(MAX_MESSAGES) {
        let step = advice::next_step(error.code);
        match by_step.iter_mut().find(|(known, _)| *known == step) {
            Some((_, messages)) => messages.push(&error.message),
            None => by_step.push((step, vec![&error.message])),
        }
    }
    html! {
        @if !by_step.is_empty() {
            section aria-labelledby="errors" {
                h2 id="errors" { (if is_bad { "What failed" } else { "What went wrong" }) }
                ul.troubles role="list" {
                    @for (step, messages) in &by_step {
                        li class=(if is_bad { "trouble bad" } else { "trouble warn" }) {
                            @for message in messages { p.sentence { (with_code(message)) } }
                            p.next { strong { "What to do: " } (with_code(step)) }
                        }
                    }
                }
                (beyond(run.errors.len()))
            }
        }
        @if !run.warnings.is_empty() {
            section aria-labelledby="warnings" {
                h2 id="warnings" { "Warnings" }
                (list(run.warnings.iter().map(|warning| warning.message.as_str())))
            }
        }
    }
}

/// Writes messages, as many as the page shows.
fn list<'a>(messages: impl ExactSizeIterator<Item = &'a str>) -> Markup {
    let all = messages.len();
    html! {
        ul.messages { @for message in messages.take(MAX_MESSAGES) { li { (with_code(message)) } } }
        (beyond(all))
    }
}

fn beyond(all: usize) -> Markup {
    html! {
        @if all > MAX_MESSAGES { p.detail { "And " (all - MAX_MESSAGES) " more, which the API has." } }
    }
}

fn facts(view: &RunView) -> Markup {
    let run = &view.run;
    let clock = &view.clock;
    html! {
        section aria-labelledby="facts" {
            h2 id="facts" { "Facts" }
            dl.facts {
                dt { "Does" } dd { (run.kind.as_str()) }
                dt { "Wanted by" } dd { (trigger(&run.trigger)) }
                dt { "Created" } dd { (clock.precise(run.created)) }
                @if let Some(at) = run.started { dt { "Began" } dd { (clock.precise(at)) } }
                @if let Some(at) = run.finished { dt { "Ended" } dd { (clock.precise(at)) } }
                @if let (Some(from), Some(to)) = (run.started, run.finished) {
                    dt { "Took" } dd { (span(seconds(from, to))) }
                }
                @if let Some(sequence) = run.sequence { dt { "Number in its series" } dd { (sequence) } }
                @if run.progress.items_total > 0 {
                    dt { "Items" } dd { (run.progress.items_completed) " of " (run.progress.items_total) }
                }
                @if let Some(at) = view.next { dt { "The job runs next" } dd { (clock.moment(at)) } }
            }
        }
    }
}

fn referrers(run: &Run) -> Markup {
    let missing = &run.referrers.missing;
    html! {
        section aria-labelledby="referrers" {
            h2 id="referrers" { "Referrers" }
            @if run.referrers.total > 0 {
                p { (render::count(run.referrers.total, "referrer")) " in all." }
                dl.facts.counts {
                    @for (name, count) in &run.referrers.by_category { dt { (name) } dd { (count) } }
                }
            } @else if run.status == RunStatus::Succeeded {
                p.none { "None were found." }
            } @else {
                p.none { "The run has counted none so far." }
            }
            @if !missing.is_empty() {
                h3 { (missing.len()) " missing" }
                (list(missing.iter().map(String::as_str)))
            }
        }
    }
}

fn files(run: &Run) -> Markup {
    let urls = Output::all_of(run);
    let rows: Vec<_> = run
        .outputs
        .iter()
        .zip(&urls)
        .map(|(output, own)| {
            let name = output
                .path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            vec![
                html! { a href=(own.url()) download { (name) } },
                html! { (output.kind) },
                html! { (render::bytes(output.size)) },
                html! { code.digest { (output.sha256) } },
            ]
        })
        .collect();
    html! {
        section aria-labelledby="files" {
            h2 id="files" { "Downloads" }
            @if rows.is_empty() { p.none { "The run has made no files." } }
            @else { (table("Files that the run made", &["File", "Is", "Size", "Digest"], &rows)) }
        }
    }
}

fn log(view: &RunView) -> Markup {
    html! {
        section aria-labelledby="log" {
            h2 id="log" { "Log" }
            @match &view.log {
                Ok(text) if text.is_empty() => { p.none { "The run has logged nothing yet." } }
                Ok(text) => { pre.log tabindex="0" role="region" aria-labelledby="log" { (text) } }
                Err(reason) => { p.none { "The log cannot be read: " (reason) } }
            }
        }
    }
}
