use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::render;

/// A line on the terminal that says how far a transfer is. Shown only where stderr is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    what: &'static str,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    total: u64,
    done: u64,
    bytes: u64,
    last: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(wanted: bool, what: &'static str) -> Self {
        let state = State {
            total: 0,
            done: 0,
            bytes: 0,
            last: None,
        };
        Self {
            shown: wanted && io::stderr().is_terminal(),
            what,
            state: Mutex::new(state),
        }
    }

    pub(crate) fn start(&self, total: u64) {
        if let Ok(mut state) = self.state.lock() {
            state.total = total;
        }
    }

    pub(crate) fn step(&self, bytes: u64) {
        const INTERVAL: Duration = Duration::from_millis(100);
        let Ok(mut state) = self.state.lock() else {
            return;
        };
        state.done += 1;
        state.bytes += bytes;
        if self.shown && state.last.is_none_or(|last| last.elapsed() >= INTERVAL) {
            state.last = Some(Instant::now());
            let line = format!(
                "\r{} of {} {}, {}\x1b[K",
                state.done,
                state.total,
                self.what,
                render::bytes(state.bytes)
            );
            io::stderr().write_all(line.as_bytes()).ok();
        }
    }

    pub(crate) fn end(&self) {
        if self.shown {
            io::stderr().write_all(b"\r\x1b[K").ok();
        }
    }
}
