use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// Measures the time that calls take, without the time in which requests to their registry waited
/// for [its own budget](crate::HostOptions): for the limit of requests per second, or for a window.
///
/// So a limit that is measured with it means the same whatever the budget is. Waits for a rate
/// limit of the registry, for another try and for an answer all count.
#[derive(Clone, Debug)]
pub struct Stopwatch {
    held: Arc<Held>,
    started: Instant,
    held_before: Duration,
}

/// Starts a stopwatch for work that makes no requests to a registry.
impl Default for Stopwatch {
    fn default() -> Self {
        Self::start(Arc::default())
    }
}

impl Stopwatch {
    pub(crate) fn start(held: Arc<Held>) -> Self {
        Self {
            started: Instant::now(),
            held_before: held.total(),
            held,
        }
    }

    /// Returns the time since it was started.
    pub fn elapsed(&self) -> Duration {
        let held = self.held.total().saturating_sub(self.held_before);
        self.started.elapsed().saturating_sub(held)
    }

    /// Waits for `future` until [`elapsed`](Self::elapsed) is `limit`; `None` is the end of the
    /// time.
    pub async fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        /// The clock stands still while a request is held.
        const LEAST: Duration = Duration::from_millis(100);
        let mut future = std::pin::pin!(future);
        loop {
            let left = limit.saturating_sub(self.elapsed());
            if let Ok(value) = timeout(left, &mut future).await {
                return Some(value);
            }
            if self.elapsed() >= limit {
                return None;
            }
            if let Ok(value) = timeout(LEAST, &mut future).await {
                return Some(value);
            }
        }
    }
}

/// The time in which at least one request to a registry waited for its budget.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<Waits>);

#[derive(Debug, Default)]
struct Waits {
    waiting: usize,
    since: Option<Instant>,
    before: Duration,
}

impl Held {
    /// Returns the total time so far.
    fn total(&self) -> Duration {
        let waits = self.lock();
        waits.before + waits.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Counts a request as waiting until the result is dropped.
    pub(crate) fn hold(&self) -> Hold<'_> {
        let mut waits = self.lock();
        waits.waiting += 1;
        waits.since.get_or_insert_with(Instant::now);
        Hold(self)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Hold<'a>(&'a Held);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut waits = self.0.lock();
        waits.waiting -= 1;
        if waits.waiting == 0
            && let Some(since) = waits.since.take()
        {
            waits.before += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_in_which_a_request_is_held_does_not_count_and_overlaps_count_once() {
        let held = Arc::new(Held::default());
        let seconds = Duration::from_secs;
        let stopwatch = Stopwatch::start(Arc::clone(&held));
        tokio::time::advance(seconds(2)).await;
        let one = held.hold();
        tokio::time::advance(seconds(3)).await;
        let two = held.hold();
        tokio::time::advance(seconds(4)).await;
        assert_eq!(stopwatch.elapsed(), seconds(2), "while it is held");
        drop(one);
        tokio::time::advance(seconds(5)).await;
        drop(two);
        tokio::time::advance(seconds(6)).await;
        assert_eq!(stopwatch.elapsed(), seconds(8));
        let later = Stopwatch::start(held);
        assert_eq!(later.elapsed(), Duration::ZERO, "from now on");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_extended_by_the_time_that_a_request_is_held() {
        let held = Arc::new(Held::default());
        let seconds = Duration::from_secs;
        let stopwatch = Stopwatch::start(Arc::clone(&held));
        let started = Instant::now();
        let work = async {
            tokio::time::sleep(seconds(1)).await;
            let hold = held.hold();
            tokio::time::sleep(seconds(3600)).await;
            drop(hold);
            tokio::time::sleep(seconds(1)).await;
        };
        assert_eq!(stopwatch.within(seconds(3), work).await, Some(()));
        let never = std::future::pending::<()>();
        assert_eq!(stopwatch.within(seconds(3), never).await, None);
        let real = started.elapsed();
        assert!(real >= seconds(3603) && real < seconds(3604), "{real:?}");
        let ready = std::future::ready(7);
        assert_eq!(stopwatch.within(seconds(1), ready).await, Some(7), "late");
    }
}
