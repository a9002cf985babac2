use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use oci_content::Registry;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout_at};

use crate::observer::{RequestObserver, WaitEvent, WaitReason};
use crate::options::HostOptions;
use crate::pace::{Pace, Turn};
use crate::request_rate::RequestRate;
use crate::stopwatch::Held;
use crate::window::Window;

/// How long a request may be in line with a token that it already has; tokens can expire within a
/// minute.
const LINE_SECONDS: f64 = 10.0;

/// How long nothing is reported about a wait that was reported.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// How often a window is asked again: the clock may have been set.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// The budget of one host, as far as it has one.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    requests: Option<Requests>,
    bytes: Option<Arc<Bytes>>,
    window: Option<Arc<dyn Window>>,
    pub(crate) held: Arc<Held>,
}

#[derive(Debug)]
struct Requests {
    rate: RequestRate,
    pace: Pace,
    /// Bounds how many requests are in line with a token.
    line: Semaphore,
}

#[derive(Debug)]
pub(crate) struct Bytes {
    pub(crate) rate: NonZeroU64,
    pub(crate) pace: Pace,
}

/// A request that may have to wait, for the observer.
#[derive(Clone, Copy)]
pub(crate) struct Waiter<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) observer: Option<&'a Arc<dyn RequestObserver>>,
    /// The time in which the registry of the request has been held.
    pub(crate) held: &'a Held,
}

impl Allowance {
    pub(crate) fn new(options: &HostOptions) -> Self {
        let requests = options.requests_per_second.map(|rate| Requests {
            rate,
            pace: Pace::new(rate.cost(), rate.in_seconds(0.1).into()),
            line: Semaphore::new(rate.in_seconds(LINE_SECONDS).min(1024) as usize),
        });
        let bytes = options.bytes_per_second.map(|rate| {
            #[expect(
                clippy::cast_precision_loss,
                reason = "the error is far below one per mille"
            )]
            let cost = 1e9 / rate.get() as f64;
            let pace = Pace::new(cost, rate.get() / 10);
            Arc::new(Bytes { rate, pace })
        });
        Self {
            requests,
            bytes,
            window: options.window.clone(),
            held: Arc::default(),
        }
    }

    /// Waits for a place in line. It is taken before a token is requested for the request, so that
    /// the token does not expire in line.
    pub(crate) async fn line(&self, waiter: Waiter<'_>) -> Option<SemaphorePermit<'_>> {
        let requests = self.requests.as_ref()?;
        if let Ok(place) = requests.line.try_acquire() {
            return Some(place);
        }
        let estimate = || requests.pace.estimate();
        let place = waiter.wait(requests.reason(), estimate, requests.line.acquire());
        place.await.ok()
    }

    /// Waits until one more request may be sent. It counts as sent when its turn
    /// [passes](Turn::pass).
    pub(crate) async fn turn(&self, waiter: Waiter<'_>) -> Option<Turn<'_>> {
        let requests = self.requests.as_ref()?;
        let estimate = || requests.pace.estimate();
        if estimate().is_zero() {
            return Some(requests.pace.turn().await);
        }
        let turn = requests.pace.turn();
        Some(waiter.wait(requests.reason(), estimate, turn).await)
    }

    /// Counts a request that is sent without a turn.
    pub(crate) fn charge(&self, requests: u64) {
        if let Some(own) = &self.requests {
            own.pace.charge(requests);
        }
    }

    /// Returns the limit of the bytes of blobs.
    pub(crate) fn bytes(&self) -> Option<Arc<Bytes>> {
        self.bytes.clone()
    }

    pub(crate) fn window(&self) -> Option<&dyn Window> {
        self.window.as_deref()
    }
}

impl Requests {
    fn reason(&self) -> WaitReason<'_> {
        WaitReason::Requests(self.rate)
    }
}

impl Waiter<'_> {
    /// Waits until both windows are open, if there are any.
    pub(crate) async fn windows(&self, windows: [Option<&dyn Window>; 2]) {
        // One may close while the other is waited for.
        while let Some(window) = closed(windows) {
            let opened = async {
                loop {
                    let left = window.until_open();
                    if left.is_zero() {
                        return;
                    }
                    sleep(left.min(ASK_AGAIN)).await;
                }
            };
            let reason = WaitReason::Window(window);
            self.wait(reason, || window.until_open(), opened).await;
        }
    }

    /// Waits for `turn`, and reports that to the observer: at once, and again every ten minutes.
    async fn wait<T>(
        &self,
        reason: WaitReason<'_>,
        left: impl Fn() -> Duration,
        turn: impl Future<Output = T>,
    ) -> T {
        let _hold = self.held.hold();
        let mut turn = std::pin::pin!(turn);
        let mut next = Instant::now();
        let mut waited = Duration::ZERO;
        loop {
            let event = WaitEvent {
                registry: self.registry,
                wait: left(),
                waited,
                status: None,
                reason,
            };
            event.report(self.observer);
            next += TELL_AGAIN;
            waited += TELL_AGAIN;
            if let Ok(turn) = timeout_at(next, &mut turn).await {
                return turn;
            }
        }
    }
}

/// Returns a window that is closed, if one is.
pub(crate) fn closed(windows: [Option<&dyn Window>; 2]) -> Option<&dyn Window> {
    let mut windows = windows.into_iter().flatten();
    windows.find(|window| !window.until_open().is_zero())
}
