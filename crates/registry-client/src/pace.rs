use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep_until};

/// A token bucket with a queue: over any time T, at most `T / cost` units and one burst pass.
///
/// Callers pass in the order of their arrival. One that is dropped while it waits takes nothing.
#[derive(Debug)]
pub(crate) struct Pace {
    /// The time that one unit takes, in nanoseconds.
    cost: f64,
    /// How far a burst may run ahead.
    burst: Duration,
    /// When everything that has passed is paid for.
    paid: Mutex<Instant>,
    queue: AsyncMutex<()>,
    waiting: AtomicU32,
}

impl Pace {
    /// Creates a pace of one unit per `cost` nanoseconds. If nothing has passed for a while,
    /// `burst` units pass at once.
    pub(crate) fn new(cost: f64, burst: u64) -> Self {
        Self {
            cost,
            burst: time(cost, burst.saturating_sub(1)),
            paid: Mutex::new(Instant::now()),
            queue: AsyncMutex::default(),
            waiting: AtomicU32::new(0),
        }
    }

    /// Waits for the turn of the caller; nothing has passed yet when it returns.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        let turn = self.queue.lock().await;
        loop {
            let at = self.next();
            if at <= Instant::now() {
                drop(waiting);
                return Turn {
                    pace: self,
                    _queue: turn,
                };
            }
            sleep_until(at).await;
        }
    }

    /// Lets units pass that cannot wait; what comes after them waits longer.
    pub(crate) fn charge(&self, units: u64) {
        let mut paid = self.lock();
        let from = (*paid).max(Instant::now());
        // A time that the clock cannot represent is never reached: nothing more is added to it.
        *paid = from.checked_add(time(self.cost, units)).unwrap_or(from);
    }

    /// Estimates how long a caller that comes now would wait.
    pub(crate) fn estimate(&self) -> Duration {
        let before = time(self.cost, self.waiting.load(Ordering::Relaxed).into());
        self.next().saturating_duration_since(Instant::now()) + before
    }

    /// Returns when the next unit may pass.
    fn next(&self) -> Instant {
        let paid = *self.lock();
        paid.checked_sub(self.burst).unwrap_or(paid)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.paid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of one caller; nobody else passes while it is held.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pace: &'a Pace,
    _queue: tokio::sync::MutexGuard<'a, ()>,
}

impl Turn<'_> {
    pub(crate) fn pass(self, units: u64) {
        self.pace.charge(units);
    }
}

struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns the time that a number of units takes, rounded up, and at most a year.
fn time(cost: f64, units: u64) -> Duration {
    const YEAR: f64 = 366.0 * 86_400.0 * 1e9;
    #[expect(
        clippy::cast_precision_loss,
        reason = "the error is far below a nanosecond per unit"
    )]
    let nanos = (cost * units as f64).ceil().clamp(0.0, YEAR);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is from 0 to a year"
    )]
    Duration::from_nanos(nanos as u64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// Lets callers come at the given times, each for a number of units; returns who passed when.
    fn passed(pace: Pace, callers: Vec<(Duration, u64)>) -> Vec<(usize, Duration, u64)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let started = Instant::now();
            *pace.lock() = started;
            let (pace, all) = (Arc::new(pace), Arc::new(Mutex::new(Vec::new())));
            let mut at = started;
            let mut tasks = Vec::new();
            for (number, (after, units)) in callers.into_iter().enumerate() {
                at += after;
                let (pace, all) = (Arc::clone(&pace), Arc::clone(&all));
                tasks.push(tokio::spawn(async move {
                    sleep_until(at).await;
                    let turn = pace.turn().await;
                    let mut all = all.lock().unwrap();
                    all.push((number, started.elapsed(), units));
                    turn.pass(units);
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
            let all = all.lock().unwrap();
            all.clone()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn over_any_time_at_most_the_rate_and_one_burst_pass(
            fifths in 1u32..10_000,
            burst in 1u64..20,
            gaps in proptest::collection::vec(0u64..3000, 1..80),
        ) {
            let rate = f64::from(fifths) / 5.0;
            let arrivals = gaps.into_iter().map(|gap| {
                // Half of them come together with the one before.
                let gap = if gap < 1500 { 0 } else { gap };
                (Duration::from_micros(gap * 500_000 / u64::from(fifths)), 1)
            });
            let passed = passed(Pace::new(1e9 / rate, burst), arrivals.collect());
            for (first, (_, from, _)) in passed.iter().enumerate() {
                for (last, (_, until, _)) in passed.iter().enumerate().skip(first) {
                    let count = (last - first + 1) as f64;
                    let allowed = rate * (*until - *from).as_secs_f64() + burst as f64;
                    prop_assert!(count <= allowed + 1e-6, "{count} > {allowed}");
                }
            }
        }

        #[test]
        fn bytes_exceed_the_rate_by_a_burst_and_one_piece_at_most(
            pieces in proptest::collection::vec(1u64..300_000, 1..80),
        ) {
            let (rate, burst) = (1_000_000.0, 100_000);
            let largest = *pieces.iter().max().unwrap();
            let arrivals = pieces.into_iter().map(|bytes| (Duration::ZERO, bytes));
            let passed = passed(Pace::new(1e9 / rate, burst), arrivals.collect());
            for (first, (_, from, _)) in passed.iter().enumerate() {
                let mut bytes = 0;
                for (_, until, more) in &passed[first..] {
                    bytes += more;
                    let allowed = rate * (*until - *from).as_secs_f64() + (burst + largest) as f64;
                    prop_assert!(bytes as f64 <= allowed + 1.0, "{bytes} > {allowed}");
                }
            }
        }
    }

    #[test]
    fn who_comes_first_passes_first_and_the_rate_is_used_up() {
        let callers = (0..50).map(|_| (Duration::ZERO, 1)).collect();
        let passed = passed(Pace::new(1e9 / 10.0, 5), callers);
        let order: Vec<_> = passed.iter().map(|(number, ..)| *number).collect();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
        // 5 at once, then 45 at 10 per second; timers count in milliseconds.
        let (_, last, _) = passed[49];
        assert!(last >= Duration::from_millis(4500) && last < Duration::from_millis(4600));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_dropped_in_line_takes_nothing_and_a_charge_delays_the_others() {
        let pace = Arc::new(Pace::new(1e9, 1));
        pace.turn().await.pass(1);
        let started = Instant::now();
        let lines: Vec<_> = (0..5)
            .map(|_| {
                let pace = Arc::clone(&pace);
                tokio::spawn(async move { pace.turn().await.pass(1) })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(pace.estimate().as_secs(), 5);
        for line in lines {
            line.abort();
        }
        tokio::task::yield_now().await;
        let turn = pace.turn().await;
        assert_eq!(started.elapsed().as_secs(), 1, "as if they had never come");
        drop(turn);
        pace.turn().await.pass(1);
        assert_eq!(started.elapsed().as_secs(), 1, "a turn that was not used");
        pace.charge(3);
        pace.turn().await.pass(1);
        assert_eq!(started.elapsed().as_secs(), 5);
    }
}
