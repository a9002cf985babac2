use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counts pulls and pushes.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    pulls: Mutex<u64>,
    puts: Mutex<Option<(Instant, u32)>>,
}

impl Limiter {
    fn pulls(&self) -> MutexGuard<'_, u64> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a pull. Returns `false` if the limit is reached.
    pub(crate) fn pull(&self, limit: u64) -> bool {
        let mut pulls = self.pulls();
        let allowed = *pulls < limit;
        *pulls += u64::from(allowed);
        allowed
    }

    pub(crate) fn left(&self, limit: u64) -> u64 {
        limit.saturating_sub(*self.pulls())
    }

    pub(crate) fn put(&self, per_second: u32) -> bool {
        let mut puts = self.puts.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = match *puts {
            Some((since, count)) if since.elapsed() < Duration::from_secs(1) => (since, count + 1),
            _ => (Instant::now(), 1),
        };
        *puts = Some((since, count));
        count <= per_second
    }

    pub(crate) fn reset(&self) {
        *self.pulls() = 0;
    }
}
