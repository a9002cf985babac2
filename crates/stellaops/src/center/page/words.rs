use maud::{Markup, html};

use crate::center::http::percent;
use crate::center::model::{Run, RunStatus, Trigger};
use crate::render;

/// Writes a status as a sign and a word, so that its colour only repeats them.
pub(super) fn badge(status: RunStatus) -> Markup {
    let (class, sign, word) = match status {
        RunStatus::Queued => ("quiet", "…", "Queued"),
        RunStatus::Running => ("busy", "▶", "Running"),
        RunStatus::Succeeded => ("good", "✓", "Succeeded"),
        RunStatus::Incomplete => ("warn", "!", "Incomplete"),
        RunStatus::Failed => ("bad", "✗", "Failed"),
        RunStatus::Cancelled => ("quiet", "–", "Cancelled"),
        RunStatus::Expired => ("warn", "!", "Expired"),
    };
    mark(class, sign, word)
}

pub(super) fn mark(class: &str, sign: &str, word: &str) -> Markup {
    html! {
        span class={ "badge " (class) } { span aria-hidden="true" { (sign) } " " (word) }
    }
}

pub(super) fn trigger(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Schedule => "its schedule".to_owned(),
        Trigger::Caller(name) => name.clone(),
    }
}

/// Writes the referrers of a run by category, the most first.
pub(super) fn referrers(run: &Run) -> Markup {
    let mut categories: Vec<_> = run.referrers.by_category.iter().collect();
    categories.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
    html! {
        @if run.referrers.total == 0 && run.status == RunStatus::Succeeded { "none" }
        @else if run.referrers.total == 0 { "–" }
        @else {
            (run.referrers.total)
            span.detail {
                @for (at, (name, count)) in categories.iter().enumerate() {
                    @if at > 0 { ", " }
                    (count) " " (name)
                }
            }
        }
        @if !run.referrers.missing.is_empty() {
            " " (mark("warn", "!", &format!("{} missing", run.referrers.missing.len())))
        }
    }
}

/// Returns the size of the bundle of a run, in all its volumes.
pub(super) fn size(run: &Run) -> Option<u64> {
    let bundles = run.outputs.iter().filter(|output| output.kind == "bundle");
    let sizes: Vec<_> = bundles.map(|output| output.size).collect();
    (!sizes.is_empty()).then(|| sizes.iter().sum())
}

/// Writes how far a run is; the script writes the same while it changes.
pub(super) fn progress(run: &Run) -> Markup {
    let progress = &run.progress;
    let percent = percent(run);
    let label = format!("Progress of {}", run.job);
    html! {
        progress max="100" value=(percent) aria-label=(label) { (percent) " %" }
        p.measure data-measure {
            (percent) " %"
            @if !progress.phase.is_empty() { " · " (progress.phase) }
            @if progress.items_total > 0 {
                " · " (progress.items_completed) " of " (progress.items_total) " items"
            }
            @if progress.bytes_total > 0 {
                " · " (render::bytes_of(progress.bytes_completed, progress.bytes_total))
            }
        }
        p.waits data-waits hidden[progress.waits_for.is_none()] {
            @if let Some(waits) = &progress.waits_for { "Waits: " (waits) }
        }
    }
}
