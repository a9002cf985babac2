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

/// A cache of probe results per registry, repository and user, in memory and in one file.
///
/// - An answer is used for [`DEFAULT_TTL`](Self::DEFAULT_TTL), or for what [`ttl`](Self::ttl) sets.
///   An answer from the future, because a clock was set back, is not used.
/// - Only `Supported` and `Unsupported` are kept, which follow from an answer of the referrers API.
///   A 401, 403, 429, 5xx or timeout is never kept, and if a fact rests on one, none of the facts
///   of that probe are.
/// - Simultaneous probes of the same registry, repository and user are one probe.
/// - The file is replaced as a whole, so readers see the old file or the new one. If two processes
///   write at once, the later one wins, and the newest answers of the other are lost.
/// - A file that cannot be read is ignored, with a [note](Self::notes). A file of a newer version
///   is also never replaced. An entry that cannot be read, or with texts longer than those of a
///   probe, is ignored.
///
/// What is cached is about the registry, never about an image: it is no reason not to ask for the
/// referrers of an image.
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
    /// The file is of a newer version and must not be replaced.
    keep_file: bool,
}

impl ProbeCache {
    /// The time for which an answer is used by default: 6 hours.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(6 * 60 * 60);
    /// The name of the file in the folder of the cache.
    pub const FILE_NAME: &str = "registry-probes.json";
    /// The size of the largest file that is read: 8 MiB.
    pub const MAX_FILE_BYTES: u64 = stored::MAX_FILE_BYTES;
    /// The largest number of answers that are kept. The oldest are dropped first.
    pub const MAX_ENTRIES: usize = 2_000;

    /// Creates a cache without a file, which ends with the process.
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

    /// Opens the cache in `folder`, which is created when the first answer is kept. This never
    /// fails; see [`notes`](Self::notes).
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

    /// Sets the time for which an answer is used.
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

    /// Sets the clock; by default the system clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Takes the notes about problems with the file, as sentence fragments that name it. None of
    /// them is an error: without the file, registries are asked.
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.state().notes)
    }

    /// Returns a kept answer, or the result of `ask`. Simultaneous callers with the same key share
    /// one `ask`.
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
            // A flight lives as long as a caller waits for it.
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

    /// Returns the age of an answer; `None` if it is too old or from the future.
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
            // Another caller has kept the result of the same flight.
            return;
        }
        state.entries.insert(key, Entry { at, report });
        self.write(&mut state, at);
    }

    fn write(&self, state: &mut State, now: u64) {
        let Some(file) = &self.file else { return };
        // Answers that other processes have kept in the meantime stay.
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
        // Before 1970, every answer is from the future, so none is used.
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
