use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::allowance::{Allowance, Waiter};
use crate::response::Response;
use crate::retry::Budget;

/// The state that all requests to one origin share: how many may be in flight, and until when none
/// may start.
#[derive(Debug)]
pub(crate) struct Host {
    permits: Arc<Semaphore>,
    /// Slots for uploads whose source makes requests itself, perhaps to this host: if they shared
    /// the other slots, all of them could wait for one.
    fed: Arc<Semaphore>,
    max: usize,
    pace: Mutex<Pace>,
    gate: Mutex<Option<Gate>>,
    pub(crate) allowance: Allowance,
    /// The largest body that is known to be accepted after a larger one was refused; `u64::MAX`
    /// before that.
    max_body_bytes: AtomicU64,
}

/// The current limit of requests in flight. A 429 without a time halves it; after as many good
/// answers as the limit, it is raised by one.
#[derive(Debug)]
struct Pace {
    limit: usize,
    /// Permits that were in use when the limit fell; they are dropped when they are returned.
    debt: usize,
    good: usize,
    lowered: Option<Instant>,
}

#[derive(Debug)]
struct Gate {
    until: Instant,
    answer: Response,
}

/// A slot among the requests in flight, held from before sending until the end of the body.
#[derive(Debug)]
pub(crate) struct Place {
    host: Arc<Host>,
    permit: Option<OwnedSemaphorePermit>,
    is_fed: bool,
}

impl Host {
    pub(crate) fn new(max: NonZeroUsize, allowance: Allowance) -> Self {
        let max = max.get().min(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(max)),
            fed: Arc::new(Semaphore::new(max)),
            max,
            pace: Mutex::new(Pace {
                limit: max,
                debt: 0,
                good: 0,
                lowered: None,
            }),
            gate: Mutex::new(None),
            allowance,
            max_body_bytes: AtomicU64::new(u64::MAX),
        }
    }

    pub(crate) fn max_body_bytes(&self) -> Option<u64> {
        let bytes = self.max_body_bytes.load(Ordering::Relaxed);
        (bytes != u64::MAX).then_some(bytes)
    }

    pub(crate) fn remember_max_body(&self, bytes: u64) {
        self.max_body_bytes.fetch_min(bytes, Ordering::Relaxed);
    }

    /// Waits for the gate to open, for a slot, and for the turn of one more request.
    ///
    /// `is_fed` says that it is an upload whose source makes requests itself. As many such uploads
    /// as other requests can be in flight, beside them.
    ///
    /// # Errors
    /// The answer that closed the gate, when it opens too late for the budget.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        budget: &mut Budget,
        waiter: Waiter<'_>,
        is_fed: bool,
    ) -> Result<Place, Response> {
        let permits = if is_fed { &self.fed } else { &self.permits };
        loop {
            self.pass_gate(budget).await?;
            let permit = Arc::clone(permits).acquire_owned().await.ok();
            let place = Place {
                host: Arc::clone(self),
                permit,
                is_fed,
            };
            let turn = self.allowance.turn(waiter).await;
            // It may have closed while this request was waiting.
            if self.closed().is_none() {
                if let Some(turn) = turn {
                    turn.pass(1);
                }
                return Ok(place);
            }
        }
    }

    async fn pass_gate(&self, budget: &mut Budget) -> Result<(), Response> {
        while let Some((until, wait)) = self.closed() {
            if !budget.take_wait(wait) {
                let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
                match &*gate {
                    Some(gate) => return Err(gate.answer.clone()),
                    None => return Ok(()),
                }
            }
            tokio::time::sleep_until(until).await;
        }
        Ok(())
    }

    fn closed(&self) -> Option<(Instant, Duration)> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let until = gate.as_ref()?.until;
        let wait = until.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            *gate = None;
            return None;
        }
        Some((until, wait))
    }

    /// Closes the gate for `wait`. Returns whether that is new: it was open, or is now closed for
    /// noticeably longer.
    pub(crate) fn close_gate(&self, wait: Duration, answer: &Response) -> bool {
        const NOTICEABLE: Duration = Duration::from_secs(1);
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let Some(until) = now.checked_add(wait) else {
            return false;
        };
        let old = gate
            .as_ref()
            .map(|gate| gate.until)
            .filter(|old| *old > now);
        if old.is_none_or(|old| old < until) {
            *gate = Some(Gate {
                until,
                answer: answer.clone(),
            });
        }
        old.is_none_or(|old| old + NOTICEABLE < until)
    }

    /// Halves the limit, once for all requests that were sent before it last fell.
    pub(crate) fn slow_down(&self, sent: Instant) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if pace.lowered.is_some_and(|lowered| sent <= lowered) {
            return;
        }
        pace.lowered = Some(Instant::now());
        pace.good = 0;
        let less = pace.limit / 2;
        let limit = (pace.limit - less).max(1);
        let drop = pace.limit - limit;
        pace.limit = limit;
        pace.debt += drop - self.permits.forget_permits(drop);
    }

    /// Counts an answer other than a rate limit.
    pub(crate) fn speed_up(&self) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if pace.limit >= self.max {
            return;
        }
        pace.good += 1;
        if pace.good >= pace.limit {
            pace.good = 0;
            pace.limit += 1;
            match pace.debt {
                0 => self.permits.add_permits(1),
                _ => pace.debt -= 1,
            }
        }
    }

    #[cfg(test)]
    fn limit(&self) -> usize {
        self.pace.lock().unwrap().limit
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut pace = self
            .host
            .pace
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if pace.debt > 0
            && !self.is_fed
            && let Some(permit) = self.permit.take()
        {
            pace.debt -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::RetryPolicy;

    async fn enter(host: &Arc<Host>, budget: &mut Budget) -> Result<Place, Response> {
        let waiter = Waiter {
            registry: &"r.test".parse().unwrap(),
            observer: None,
            held: &host.allowance.held,
        };
        host.enter(budget, waiter, false).await
    }

    fn host(max: usize) -> Arc<Host> {
        let max = NonZeroUsize::new(max).unwrap();
        Arc::new(Host::new(max, Allowance::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_without_a_time_halves_the_limit_once_and_good_answers_raise_it() {
        let host = host(8);
        let mut places = Vec::new();
        for _ in 0..8 {
            places.push(
                enter(&host, &mut Budget::new(RetryPolicy::default()))
                    .await
                    .unwrap(),
            );
        }
        let sent = Instant::now();
        host.slow_down(sent);
        host.slow_down(sent);
        assert_eq!(host.limit(), 4, "one burst counts once");
        places.truncate(4);
        assert_eq!(host.permits.available_permits(), 0);
        places.clear();
        assert_eq!(host.permits.available_permits(), 4);
        for _ in 0..4 + 5 {
            host.speed_up();
        }
        assert_eq!(host.limit(), 6);
        assert_eq!(host.permits.available_permits(), 6);
        for _ in 0..100 {
            host.speed_up();
        }
        assert_eq!(host.limit(), 8);
        assert_eq!(host.permits.available_permits(), 8);
        for _ in 0..10 {
            tokio::time::advance(Duration::from_millis(1)).await;
            host.slow_down(Instant::now());
        }
        assert_eq!(host.limit(), 1, "never zero");
        assert_eq!(host.permits.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_that_closes_while_a_request_stands_in_line_holds_it_too() {
        let host = host(1);
        let mut budget = Budget::new(RetryPolicy::default());
        let first = enter(&host, &mut budget).await.unwrap();
        let started = Instant::now();
        let second = async {
            let mut budget = Budget::new(RetryPolicy::default());
            enter(&host, &mut budget).await.map(|_| started.elapsed())
        };
        let close = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(host.close_gate(Duration::from_secs(5), &throttled()));
            assert!(
                !host.close_gate(Duration::from_secs(5), &throttled()),
                "no news"
            );
            assert!(!host.close_gate(Duration::from_secs(2), &throttled()));
            drop(first);
        };
        let (entered, ()) = tokio::join!(second, close);
        assert!(entered.unwrap() >= Duration::from_secs(6));
        assert_eq!(host.permits.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_cannot_wait_for_the_gate_gets_the_answer_that_closed_it() {
        let host = host(1);
        let mut budget = Budget::new(RetryPolicy {
            deadline: Duration::from_secs(10),
            ..RetryPolicy::default()
        });
        assert!(budget.take_wait(Duration::from_secs(6)));
        host.close_gate(Duration::from_secs(5), &throttled());
        let answer = enter(&host, &mut budget).await.unwrap_err();
        assert_eq!(answer.status(), http::StatusCode::TOO_MANY_REQUESTS);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(enter(&host, &mut budget).await.is_ok(), "three seconds fit");
    }

    fn throttled() -> Response {
        Response {
            status: http::StatusCode::TOO_MANY_REQUESTS,
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
            url: url::Url::parse("https://r.test/v2/").unwrap(),
            coding: None,
            foreign: false,
            requests: 1,
            elapsed: Duration::ZERO,
        }
    }
}
