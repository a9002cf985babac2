//! Progress of a command: one line that is redrawn on a terminal, a message every 10 s elsewhere.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::log::Log;
use crate::render;

/// Where the phases of a command show their progress.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    shown: Shown,
    log: Arc<Log>,
    waits: Arc<Mutex<Option<Wait>>>,
    asked: Arc<Mutex<Asked>>,
    watched: Arc<Mutex<Watched>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Nowhere,
    Terminal,
    Messages,
    /// Nowhere by itself; a caller polls [`Progress::now`].
    Watched,
}

/// How far a command is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Now {
    /// The phase, in a word; empty before the first one.
    pub(crate) phase: &'static str,
    pub(crate) done: u64,
    /// 0 if it is not known.
    pub(crate) total: u64,
    pub(crate) bytes: u64,
    /// 0 if it is not known.
    pub(crate) bytes_total: u64,
    /// What the command waits for.
    pub(crate) waits_for: Option<String>,
}

/// The last phase that began.
#[derive(Debug, Default)]
enum Watched {
    #[default]
    Nothing,
    Phase(ProgressBar, View),
    /// It has ended, and this is how far it was.
    Ended(Now),
}

/// Something that a command waits for.
#[derive(Debug)]
struct Wait {
    what: String,
    until: Instant,
    /// Whether the end is known.
    ends: bool,
}

/// The requests that show how far a discovery is.
#[derive(Debug, Default)]
struct Asked {
    /// Hashes of the subjects whose referrers were asked for.
    subjects: HashSet<u64>,
    manifests: u64,
}

/// Time between two messages.
const INTERVAL: Duration = Duration::from_secs(10);
/// Time between two redraws of the line while nothing happens.
const TICK: Duration = Duration::from_millis(200);

impl Progress {
    pub(crate) fn new(wanted: bool, log: Arc<Log>) -> Self {
        let can_draw = io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let shown = match (wanted, can_draw) {
            (false, _) => Shown::Nowhere,
            (true, true) => Shown::Terminal,
            (true, false) => Shown::Messages,
        };
        if shown == Shown::Terminal {
            log.bars()
                .set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        }
        Self::shown(shown, log)
    }

    /// Creates a progress that is watched by [`now`](Self::now).
    pub(crate) fn watched(log: Arc<Log>) -> Self {
        Self::shown(Shown::Watched, log)
    }

    fn shown(shown: Shown, log: Arc<Log>) -> Self {
        Self {
            shown,
            log,
            waits: Arc::default(),
            asked: Arc::default(),
            watched: Arc::default(),
        }
    }

    /// Returns how far a watched command is.
    pub(crate) fn now(&self) -> Now {
        let mut now = match &*locked(&self.watched) {
            Watched::Nothing => Now::default(),
            Watched::Phase(bar, view) => view.now(bar),
            Watched::Ended(now) => now.clone(),
        };
        let wait = locked(&self.waits);
        let wait = wait.as_ref().filter(|wait| wait.until > Instant::now());
        now.waits_for = wait.map(|wait| wait.what.clone());
        now
    }

    /// Returns a copy that shows nothing, for a command that runs as part of another.
    pub(crate) fn silent(&self) -> Self {
        Self {
            shown: Shown::Nowhere,
            ..self.clone()
        }
    }

    /// Begins a phase, which ends when the returned value is dropped. `of` is the singular noun of what it counts, and the total,
    /// or 0 if that is not known.
    pub(crate) fn phase(&self, name: &'static str, of: Option<(&'static str, u64)>) -> Phase {
        let (noun, total) = of.unwrap_or_default();
        let view = View {
            name,
            noun,
            total,
            done: Arc::default(),
            is_discovery: name == DISCOVERY,
            waits: Arc::clone(&self.waits),
            asked: Arc::clone(&self.asked),
        };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let mut ticker = None;
        match self.shown {
            Shown::Nowhere => {}
            Shown::Watched => {
                *locked(&self.watched) = Watched::Phase(bar.clone(), view.clone());
            }
            Shown::Terminal => {
                let view = view.clone();
                let line = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                    // Leave the last column free: some terminals wrap when it is written to.
                    let width = columns().saturating_sub(1);
                    out.write_str(&view.line(&Measure::from(state), width)).ok();
                };
                // The template is constant and valid.
                let style = ProgressStyle::with_template("{line}");
                let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
                let bar = self.log.bars().add(bar.clone());
                bar.set_style(style.with_key("line", line));
                bar.enable_steady_tick(TICK);
            }
            Shown::Messages => {
                let (end, ended) = channel::<()>();
                let (bar, view, log) = (bar.clone(), view.clone(), Arc::clone(&self.log));
                let tell = move || {
                    while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                        bar.tick();
                        log.info(&view.line(&Measure::from(&bar), usize::MAX));
                    }
                };
                // If no thread can be started there are no messages; the work is done all the same.
                let thread = thread::Builder::new().name("progress".into()).spawn(tell);
                ticker = thread.is_ok().then_some(end);
            }
        }
        Phase {
            bar,
            view,
            log: Arc::clone(&self.log),
            watched: Arc::clone(&self.watched),
            _ticker: ticker,
        }
    }

    /// Begins the phase of a discovery, which also shows the subjects and manifests that were requested.
    pub(crate) fn discovery(&self, images: u64) -> Phase {
        *locked(&self.asked) = Asked::default();
        self.phase(DISCOVERY, Some(("image", images)))
    }

    /// Shows what is waited for: for `time` from now, or until it is replaced.
    pub(crate) fn waits(&self, what: String, time: Option<Duration>) {
        // The caller repeats such a wait before this is over.
        const UNTIL_SAID_AGAIN: Duration = Duration::from_secs(10);
        let until = Instant::now().checked_add(time.unwrap_or(UNTIL_SAID_AGAIN));
        let ends = time.is_some();
        *locked(&self.waits) = until.map(|until| Wait { what, until, ends });
    }

    /// Counts a subject whose referrers were requested.
    pub(crate) fn asked_for_referrers(&self, subject: &str) {
        let mut hasher = DefaultHasher::new();
        subject.hash(&mut hasher);
        locked(&self.asked).subjects.insert(hasher.finish());
    }

    /// Counts a manifest that was read.
    pub(crate) fn read_manifest(&self) {
        locked(&self.asked).manifests += 1;
    }
}

const DISCOVERY: &str = "discovery";

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the width of the terminal on stderr, in columns.
fn columns() -> usize {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => 80,
    }
}

/// A phase of the work. It disappears from the screen when this is dropped.
#[derive(Debug)]
pub(crate) struct Phase {
    bar: ProgressBar,
    view: View,
    log: Arc<Log>,
    watched: Arc<Mutex<Watched>>,
    /// Ends the messages when it is dropped.
    _ticker: Option<Sender<()>>,
}

impl Phase {
    /// Sets the total number of bytes, if it is known.
    pub(crate) fn bytes_in_all(&self, bytes: Option<u64>) {
        match bytes {
            Some(bytes) => self.bar.set_length(bytes),
            None => self.bar.unset_length(),
        }
    }

    pub(crate) fn bytes(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Takes back bytes that have to be transferred again.
    pub(crate) fn bytes_again(&self, bytes: u64) {
        self.bar.dec(bytes);
    }

    pub(crate) fn one_done(&self) {
        self.view.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        let mut watched = locked(&self.watched);
        if let Watched::Phase(bar, view) = &*watched
            && Arc::ptr_eq(&view.done, &self.view.done)
        {
            *watched = Watched::Ended(view.now(bar));
        }
        drop(watched);
        self.bar.finish_and_clear();
        self.log.bars().remove(&self.bar);
    }
}

/// The current phase of work whose phases follow one another.
#[derive(Debug, Default)]
pub(crate) struct Current(Mutex<Option<Phase>>);

impl Current {
    pub(crate) fn begin(&self, phase: impl FnOnce() -> Phase) {
        let mut current = locked(&self.0);
        *current = None;
        *current = Some(phase());
    }

    pub(crate) fn with(&self, tell: impl FnOnce(&Phase)) {
        if let Some(phase) = &*locked(&self.0) {
            tell(phase);
        }
    }

    pub(crate) fn end(&self) {
        *locked(&self.0) = None;
    }
}

/// What the progress line shows besides bytes.
#[derive(Clone, Debug)]
struct View {
    name: &'static str,
    /// The singular noun of what is counted; empty if nothing is.
    noun: &'static str,
    total: u64,
    done: Arc<AtomicU64>,
    is_discovery: bool,
    waits: Arc<Mutex<Option<Wait>>>,
    asked: Arc<Mutex<Asked>>,
}

/// Bytes and time.
#[derive(Clone, Copy, Debug)]
struct Measure {
    bytes: u64,
    of: Option<u64>,
    per_second: u64,
    elapsed: Duration,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and a rate is shown to people"
)]
fn whole(rate: f64) -> u64 {
    rate as u64
}

impl From<&ProgressState> for Measure {
    fn from(state: &ProgressState) -> Self {
        Self {
            bytes: state.pos(),
            of: state.len(),
            per_second: whole(state.per_sec()),
            elapsed: state.elapsed(),
        }
    }
}

impl From<&ProgressBar> for Measure {
    fn from(bar: &ProgressBar) -> Self {
        Self {
            bytes: bar.position(),
            of: bar.length(),
            per_second: whole(bar.per_sec()),
            elapsed: bar.elapsed(),
        }
    }
}

impl View {
    fn now(&self, bar: &ProgressBar) -> Now {
        let bytes_total = bar.length().unwrap_or_default();
        Now {
            phase: self.name,
            done: self.done.load(Ordering::Relaxed),
            total: self.total,
            // Bytes that are counted twice, as after a broken transfer, must not exceed the total.
            bytes: match bytes_total {
                0 => bar.position(),
                total => bar.position().min(total),
            },
            bytes_total,
            waits_for: None,
        }
    }

    /// Formats the progress as one line of at most `columns` columns; the least important parts are dropped first.
    fn line(&self, measure: &Measure, columns: usize) -> String {
        let mut parts = Vec::new();
        let now = Instant::now();
        if let Some(wait) = &*locked(&self.waits)
            && let Some(left) = wait.until.checked_duration_since(now)
        {
            parts.push(if wait.ends {
                format!("{}, {}", wait.what, time(left.as_secs() + 1))
            } else {
                wait.what.clone()
            });
        }
        let Measure { bytes, of, .. } = *measure;
        // Bytes that are counted twice, as after a broken transfer, must not exceed the total.
        let bytes = bytes.min(of.unwrap_or(u64::MAX));
        match of {
            Some(of) => parts.push(render::bytes_of(bytes, of)),
            None if bytes > 0 => parts.push(render::bytes(bytes)),
            None => {}
        }
        let moves = bytes > 0 && measure.per_second > 0;
        if let Some(of) = of.filter(|of| moves && *of > bytes) {
            let left = (of - bytes).div_ceil(measure.per_second);
            // An estimate from a rate near zero means nothing.
            if left < 100 * 3600 {
                parts.push(format!("{} left", time(left)));
            }
        }
        if !self.noun.is_empty() {
            let done = self.done.load(Ordering::Relaxed);
            parts.push(match self.total {
                0 => render::count(done, self.noun),
                total => format!("{done} of {}", render::count(total, self.noun)),
            });
        }
        if self.is_discovery {
            let asked = locked(&self.asked);
            parts.push(render::count(asked.subjects.len() as u64, "subject"));
            parts.push(render::count(asked.manifests, "manifest"));
        }
        if moves {
            parts.push(format!("{}/s", render::bytes(measure.per_second)));
        }
        if let Some(of) = of.filter(|of| *of > 0) {
            let percent = u128::from(bytes) * 100 / u128::from(of);
            parts.push(format!("{percent} %"));
        } else {
            parts.push(time(measure.elapsed.as_secs()));
        }
        let mut line = self.name.to_owned();
        let mut used = line.chars().count();
        for (place, part) in parts.iter().enumerate() {
            let separator = if place == 0 { ": " } else { ", " };
            let wide = separator.len() + part.chars().count();
            // A part that does not fit is skipped, and shorter ones after it are still shown.
            if used.saturating_add(wide) <= columns {
                used += wide;
                write!(
                    line,
                    "{}{part}",
                    if line == self.name { ": " } else { ", " }
                )
                .ok();
            }
        }
        line.chars().take(columns).collect()
    }
}

/// Formats a duration for people.
fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &'static str, noun: &'static str, total: u64) -> View {
        View {
            name,
            noun,
            total,
            done: Arc::new(AtomicU64::new(3)),
            is_discovery: name == DISCOVERY,
            waits: Arc::default(),
            asked: Arc::default(),
        }
    }

    const MIB: u64 = 1 << 20;

    fn measure(bytes: u64, of: Option<u64>) -> Measure {
        Measure {
            bytes,
            of,
            per_second: 10 * MIB,
            elapsed: Duration::from_secs(75),
        }
    }

    #[test]
    fn a_line_says_how_far_it_is_how_fast_and_how_long_it_takes() {
        let view = view("download", "blob", 12);
        let measure = measure(512 * MIB, Some(2048 * MIB));
        assert_eq!(
            view.line(&measure, 100),
            "download: 0.5 of 2.0 GiB, 2m34s left, 3 of 12 blobs, 10.0 MiB/s, 25 %"
        );
        assert_eq!(
            view.line(&measure, 39),
            "download: 0.5 of 2.0 GiB, 2m34s left"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let view = view("download", "blob", 4_000_000_000);
        *locked(&view.waits) = Some(Wait {
            what: "rate limit of registry-with-a-long-name.example.com:5000".into(),
            until: Instant::now() + Duration::from_secs(30),
            ends: true,
        });
        let measure = measure(1023 * MIB + 1023, Some(u64::MAX));
        for columns in 0..200 {
            let line = view.line(&measure, columns);
            assert!(line.chars().count() <= columns, "{columns}: {line}");
        }
    }

    #[test]
    fn what_is_waited_for_goes_first() {
        let view = view(DISCOVERY, "image", 5);
        view.asked.lock().unwrap().manifests = 1;
        *locked(&view.waits) = Some(Wait {
            what: "rate limit of ghcr.io".into(),
            until: Instant::now() + Duration::from_millis(29_500),
            ends: true,
        });
        assert_eq!(
            view.line(&measure(0, None), 79),
            "discovery: rate limit of ghcr.io, 30 s, 3 of 5 images, 0 subjects, 1 manifest"
        );
        assert_eq!(
            view.line(&measure(0, None), 39),
            "discovery: rate limit of ghcr.io, 30 s"
        );
    }

    #[test]
    fn a_part_without_bytes_says_how_long_it_has_taken() {
        assert_eq!(
            view("fsync", "", 0).line(&measure(0, None), 40),
            "fsync: 1m15s"
        );
        assert_eq!([59, 3599, 7260].map(time), ["59 s", "59m59s", "2h01m"]);
    }

    #[test]
    fn what_is_watched_stays_at_its_last_state_when_a_phase_ends() {
        let log = Log::new(
            crate::log::LogLevel::Error,
            crate::log::LogFormat::Text,
            None,
        );
        let progress = Progress::watched(Arc::new(log.unwrap()));
        assert_eq!(progress.now(), Now::default());
        let phase = progress.phase("download", Some(("blob", 3)));
        phase.bytes_in_all(Some(30));
        phase.bytes(10);
        phase.one_done();
        progress.waits("rate limit of r.test".into(), None);
        let wanted = Now {
            phase: "download",
            done: 1,
            total: 3,
            bytes: 10,
            bytes_total: 30,
            waits_for: Some("rate limit of r.test".into()),
        };
        assert_eq!(progress.now(), wanted);
        drop(phase);
        assert_eq!(progress.now(), wanted);
    }

    #[test]
    fn a_bar_that_nobody_sees_knows_its_rate() {
        let log = Arc::new(
            Log::new(
                crate::log::LogLevel::Error,
                crate::log::LogFormat::Text,
                None,
            )
            .unwrap(),
        );
        let progress = Progress::shown(Shown::Nowhere, log);
        let phase = progress.phase("import", Some(("object", 2)));
        phase.bytes_in_all(Some(100 * MIB));
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(20));
            phase.bytes(MIB);
            phase.bar.tick();
        }
        let line = phase.view.line(&Measure::from(&phase.bar), usize::MAX);
        assert!(line.contains("MiB/s"), "{line}");
        assert!(line.contains(" left"), "{line}");
        assert!(line.starts_with("import: 5.0 of 100.0 MiB, "), "{line}");
    }
}
