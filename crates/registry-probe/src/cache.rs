use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt as _;
use futures::future::{BoxFuture, WeakShared};
use oci_content::{Capability, FileSystemGaps};

use crate::entry::{Entries, Entry, Key};
use crate::fact::Fact;
use crate::report::{CacheHit, ProbeReport};
use crate::stored::{self, FileError};

/// What probes found out, kept for a time: per registry, repository and user, in memory and in one file.
///
/// - An answer is believed for [`DEFAULT_TTL`](Self::DEFAULT_TTL) unless [`ttl`](Self::ttl) says otherwise. One that
///   lies in the future, because a clock was set back, is not believed.
/// - Only `Supported` and `Unsupported` are kept, which come from an answer of the referrers API. A 401, 403, 429, 5xx
///   or timeout never is, and a fact that rests on one keeps all facts of that probe out.
/// - Probes of the same thing at the same time are one probe.
/// - The file is replaced as a whole, so a reader sees an old one or a new one. Of two processes that write at once
///   the later one wins; the other's newest answers are asked for again.
/// - A file that cannot be read is as if it were not there, with a [note](Self::notes); one that a newer version
///   wrote is also left as it is. An entry that cannot be read, or whose texts are longer than a probe's, is as if
///   it were not there.
///
/// What a cache says is about the registry, never about an image: nobody may skip asking for an image's referrers
/// because of it.
pub struct ProbeCache {
    file: Option<PathBuf>,
    ttl: Duration,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
    state: Mutex<State>,
    gaps: FileSystemGaps,
    flights: Mutex<HashMap<Key, WeakShared<BoxFuture<'static, ProbeReport>>>>,
}

#[derive(Debug, Default)]
struct State {
    entries: Entries,
    notes: Vec<String>,
    /// The file is of a newer version: not ours to replace.
    keep_file: bool,
}

impl ProbeCache {
    /// How long an answer is believed by default: 6 hours.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(6 * 60 * 60);
    /// The name of the file in its folder.
    pub const FILE_NAME: &str = "registry-probes.json";
    /// The largest file that is read: 8 MiB.
    pub const MAX_FILE_BYTES: u64 = stored::MAX_FILE_BYTES;
    /// The most answers that are kept: the oldest go first.
    pub const MAX_ENTRIES: usize = 2_000;

    /// Creates a cache that ends with the process.
    pub fn in_memory() -> Self {
        Self {
            file: None,
            ttl: Self::DEFAULT_TTL,
            clock: Box::new(SystemTime::now),
            state: Mutex::default(),
            gaps: FileSystemGaps::default(),
            flights: Mutex::default(),
        }
    }

    /// Opens the cache in `folder`, which is created with the first answer that is kept. Never fails; see
    /// [`notes`](Self::notes).
    pub fn open(folder: &Path) -> Self {
        let file = folder.join(Self::FILE_NAME);
        let mut state = State::default();
        state.load(&file);
        Self {
            file: Some(file),
            state: Mutex::new(state),
            ..Self::in_memory()
        }
    }

    /// Replaces the time for which an answer is believed.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Records in `gaps` what the file system of the cache cannot do.
    #[must_use]
    pub fn with_gaps(mut self, gaps: FileSystemGaps) -> Self {
        self.gaps = gaps;
        self
    }

    /// Replaces the clock, which is the system's by default.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Takes what there is to say about the file: sentence fragments that name it. None of it is an error; the
    /// registry is asked instead.
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.state().notes)
    }

    /// Returns a kept answer, or the one that `ask` brings. Callers of the same key share one `ask`.
    pub(crate) async fn get_or_ask(
        &self,
        key: Key,
        ask: BoxFuture<'static, ProbeReport>,
    ) -> ProbeReport {
        if let Some(report) = self.get(&key) {
            return report;
        }
        let flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            // A flight lives as long as somebody waits for it: whoever gives up last ends it.
            flights.retain(|_, flight| flight.upgrade().is_some());
            match flights.get(&key).and_then(WeakShared::upgrade) {
                Some(flight) => flight,
                None => {
                    let flight = ask.shared();
                    if let Some(weak) = flight.downgrade() {
                        flights.insert(key.clone(), weak);
                    }
                    flight
                }
            }
        };
        let report = flight.await;
        self.keep(key, &report);
        report
    }

    fn get(&self, key: &Key) -> Option<ProbeReport> {
        let now = self.now();
        let state = self.state();
        let (age, entry) = key.answered_by().into_iter().find_map(|key| {
            let entry = state.entries.get(&key)?;
            Some((self.age(entry, now)?, entry))
        })?;
        let mut report = entry.report.clone();
        if !key.facts {
            report.facts = Vec::new();
        }
        report.cached = Some(CacheHit::new(age, self.ttl));
        Some(report)
    }

    /// Returns how old an answer is; `None` when it is too old, or not from the past.
    fn age(&self, entry: &Entry, now: u64) -> Option<Duration> {
        let age = Duration::from_secs(now.checked_sub(entry.at)?);
        (age < self.ttl).then_some(age)
    }

    fn keep(&self, mut key: Key, report: &ProbeReport) {
        if report.failure.is_some() || report.capability == Capability::Unknown {
            return;
        }
        let mut report = report.clone();
        if report.facts.iter().any(Fact::is_passing) {
            report.facts = Vec::new();
            key.facts = false;
        }
        let at = self.now();
        let mut state = self.state();
        if state
            .entries
            .get(&key)
            .is_some_and(|kept| kept.at == at && kept.report == report)
        {
            // The same flight, seen by another of its callers.
            return;
        }
        state.entries.insert(key, Entry { at, report });
        self.write(&mut state, at);
    }

    fn write(&self, state: &mut State, now: u64) {
        let Some(file) = &self.file else { return };
        // What other processes have kept meanwhile is kept as well.
        let own = std::mem::take(&mut state.entries);
        state.load(file);
        for (key, entry) in own {
            match state.entries.get(&key) {
                Some(other) if other.at > entry.at && other.at <= now => {}
                _ => {
                    state.entries.insert(key, entry);
                }
            }
        }
        state
            .entries
            .retain(|_, entry| self.age(entry, now).is_some());
        while state.entries.len() > Self::MAX_ENTRIES {
            let oldest = state.entries.iter().min_by_key(|(_, entry)| entry.at);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            state.entries.remove(&oldest);
        }
        if state.keep_file {
            return;
        }
        if let Err(error) = stored::write(file, &state.entries, &self.gaps) {
            let note = format!("{}: {error}; nothing is kept", file.display());
            state.note(note);
        }
    }

    fn now(&self) -> u64 {
        // Before 1970 every answer lies in the future, so none is believed.
        (self.clock)()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn load(&mut self, file: &Path) {
        match stored::read(file) {
            Ok(entries) => self.entries = entries,
            Err(error) => {
                self.keep_file = matches!(error, FileError::Newer(_));
                self.note(format!("{}: {error}; it is not used", file.display()));
            }
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

impl fmt::Debug for ProbeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeCache")
            .field("file", &self.file)
            .field("ttl", &self.ttl)
            .field("entries", &self.state().entries.len())
            .finish_non_exhaustive()
    }
}
