//! Runs that have not ended, and the events of all runs.

use std::collections::VecDeque;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use tokio::sync::watch;

use super::center::Center;
use super::model::{Run, RunId, RunProgress};
use super::state::EventRow;
use super::view::{RunEvent, RunEventKind};

/// Why a run is stopped early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// A caller cancelled it.
    Cancelled,
    /// The service ends. The run goes on at its next start.
    Service,
}

/// A run that has not ended.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) view: watch::Sender<LiveRun>,
    pub(super) stop: watch::Sender<Option<Stop>>,
}

/// The progress of a run.
#[derive(Clone, Debug)]
pub(super) struct LiveRun {
    pub(super) run: Run,
    /// The number of its last event that is kept.
    pub(super) events: u64,
}

/// Reads the events of a run: those that are kept, and its progress until it ends.
struct Events {
    center: Center,
    id: RunId,
    /// The number of the last event that was returned.
    last: u64,
    ready: VecDeque<RunEvent>,
    live: Option<watch::Receiver<LiveRun>>,
    told: RunProgress,
    has_ended: bool,
}

/// Returns the events of a run after the one with this number.
pub(super) fn events(
    center: Center,
    run: &Run,
    live: Option<watch::Receiver<LiveRun>>,
    after: u64,
) -> BoxStream<'static, RunEvent> {
    let events = Events {
        center,
        id: run.id.clone(),
        last: after,
        ready: VecDeque::new(),
        live,
        told: RunProgress::default(),
        has_ended: false,
    };
    let events = stream::unfold(events, |mut events| async move {
        let event = events.next().await?;
        Some((event, events))
    });
    events.boxed()
}

impl Events {
    async fn next(&mut self) -> Option<RunEvent> {
        let mut is_behind = self.last == 0 || self.live.is_none();
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.has_ended |= event.kind == RunEventKind::Finished;
                self.last = event.number;
                return Some(event);
            }
            if self.has_ended {
                return None;
            }
            if is_behind {
                is_behind = false;
                // A database that cannot be read is reported by everything else that asks it.
                let kept = self.center.kept_events(&self.id, self.last).ok()?;
                self.ready.extend(kept);
                continue;
            }
            let live = self.live.as_mut()?;
            let now = live.borrow_and_update().clone();
            if now.events > self.last {
                is_behind = true;
            } else if now.run.progress != self.told {
                self.told.clone_from(&now.run.progress);
                return Some(RunEvent {
                    number: now.events,
                    kind: RunEventKind::Progress,
                    run: now.run,
                    at: Timestamp::now(),
                    output: None,
                });
            } else if live.changed().await.is_err() {
                // The run has ended, or the service is about to.
                self.live = None;
                is_behind = true;
            }
        }
    }
}

/// Returns an event that is kept, with what is known of its run now.
pub(super) fn kept(row: EventRow, run: &Run) -> RunEvent {
    RunEvent {
        number: row.number,
        kind: row.event.kind,
        run: run.clone(),
        at: row.event.at,
        output: row.event.output,
    }
}
