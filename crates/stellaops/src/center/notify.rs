//! Webhooks, which report how runs ended.
//!
//! A delivery is kept with the run that it is about, in one transaction, and forgotten when the receiver has taken it: it
//! arrives at least once, whatever happens to the service in between. [`Notifier::run`] sends what is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use mirror_plan::JobName;
use oci_content::with_causes;
use reqwest::header::{CONTENT_TYPE, USER_AGENT};
use reqwest::redirect::Policy;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::http::RunResource;
use super::model::{Run, RunStatus};
use super::state::StateError;
use crate::config::{Config, Hook, NotifyConfig, RunEnd, is_loopback};
use crate::log::Log;

/// The time for one attempt, from the connection to the end of the answer's headers.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The waits after failed attempts; the last one is repeated.
const WAITS: [Duration; 6] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
];
/// After this time, a delivery that was never taken is given up.
const GIVEN_UP_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The most attempts that are under way at the same time. Each receiver has one.
const MAX_CONCURRENT: usize = 32;
/// How long a state that cannot be read is left alone.
const STATE_WAIT: Duration = Duration::from_secs(30);

/// Something that a receiver has to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// The same at every attempt, and different from that of every other delivery.
    pub(crate) id: String,
    pub(crate) job: JobName,
    /// Which webhook of the job it is for. Its URL may be a secret, so it is not kept.
    pub(crate) hook: HookId,
    /// The run, in JSON.
    pub(crate) body: String,
    pub(crate) created: Timestamp,
    /// When the next attempt is due.
    pub(crate) due: Timestamp,
    /// How many attempts have failed.
    pub(crate) attempts: u32,
}

/// The digest of how the configuration names a webhook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct HookId(String);

impl HookId {
    fn of(hook: &Hook) -> Self {
        let name = match hook {
            Hook::Url(url) => url.to_string(),
            Hook::Secret(secret) => format!("secret {secret}"),
        };
        let digest = Sha256::digest(name.as_bytes());
        Self(hex::encode(&digest[..8]))
    }
}

impl fmt::Display for HookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where deliveries are kept until they have arrived.
///
/// # Contract
/// - What a method has written is on the disk when it returns.
/// - A delivery whose id is known already is not kept a second time.
pub(crate) trait DeliveryStore: fmt::Debug + Send + Sync {
    /// Returns what has not arrived, those that are due first before others; at most `limit`.
    fn pending(&self, limit: usize) -> Result<Vec<Delivery>, StateError>;

    /// Notes a failed attempt: `attempts` and `due` have changed.
    fn retry(&self, delivery: &Delivery) -> Result<(), StateError>;

    /// Forgets a delivery.
    fn done(&self, id: &str) -> Result<(), StateError>;
}

/// The most deliveries that are looked at at a time.
const MAX_PENDING: usize = 1000;

/// Returns what is to be delivered about a run that has ended, for the transaction that ends it.
pub(crate) fn deliveries(run: &Run, notify: &[NotifyConfig], now: Timestamp) -> Vec<Delivery> {
    let mut told = BTreeSet::new();
    let wanted = notify
        .iter()
        .filter(|notify| is_wanted(&notify.on, run.status));
    let hooks = wanted
        .map(|notify| HookId::of(&notify.url))
        .filter(|hook| told.insert(hook.clone()));
    let delivery = |hook: HookId| Delivery {
        id: format!("{}-{hook}", run.id),
        job: run.job.clone(),
        hook,
        // Its parts are texts, numbers and maps with texts as keys, which JSON has.
        body: serde_json::to_string(&RunResource::from(run)).unwrap_or_default(),
        created: now,
        due: now,
        attempts: 0,
    };
    hooks.map(delivery).collect()
}

fn is_wanted(on: &[RunEnd], status: RunStatus) -> bool {
    let end = match status {
        RunStatus::Succeeded => RunEnd::Succeeded,
        RunStatus::Incomplete => RunEnd::Incomplete,
        RunStatus::Failed => RunEnd::Failed,
        RunStatus::Cancelled => RunEnd::Cancelled,
        RunStatus::Expired => RunEnd::Expired,
        RunStatus::Queued | RunStatus::Running => return false,
    };
    on.contains(&end)
}

/// Sends deliveries until they have arrived.
///
/// - A receiver has taken a delivery if it answers 2xx. Redirects are not followed.
/// - A receiver that hangs costs its own attempts [`TIMEOUT`] each, and holds up no other receiver and no run.
#[derive(Debug)]
pub(crate) struct Notifier {
    store: Arc<dyn DeliveryStore>,
    log: Arc<Log>,
    client: reqwest::Client,
    /// For loopback, which no proxy is asked about.
    direct: reqwest::Client,
    waits: [Duration; 6],
    woken: Notify,
}

impl Notifier {
    pub(crate) fn new(
        store: Arc<dyn DeliveryStore>,
        log: Arc<Log>,
    ) -> Result<Self, reqwest::Error> {
        let client = || {
            reqwest::Client::builder()
                .redirect(Policy::none())
                .timeout(TIMEOUT)
                // The next delivery may be a day away.
                .pool_max_idle_per_host(0)
        };
        Ok(Self {
            store,
            log,
            client: client().build()?,
            direct: client().no_proxy().build()?,
            waits: WAITS,
            woken: Notify::new(),
        })
    }

    /// Looks at once whether there is something to send: a run has ended.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Sends what is kept, and what will be, with the configuration that `config` returns at that time.
    ///
    /// # Cancellation
    /// Dropping the future ends the attempts that are under way; they are made again by the next notifier of the store.
    pub(crate) async fn run(&self, config: impl Fn() -> Arc<Config> + Send + Sync) {
        let mut sending = FuturesUnordered::new();
        let mut busy: BTreeSet<(JobName, HookId)> = BTreeSet::new();
        loop {
            let mut wait = None;
            match self.store.pending(MAX_PENDING) {
                Ok(pending) => {
                    let now = Timestamp::now();
                    // By receiver, the one that is due first: a receiver is told one thing at a time.
                    let mut first: BTreeMap<_, Delivery> = BTreeMap::new();
                    for delivery in pending {
                        let receiver = (delivery.job.clone(), delivery.hook.clone());
                        first.entry(receiver).or_insert(delivery);
                    }
                    for (receiver, delivery) in first {
                        if busy.contains(&receiver) {
                            continue;
                        }
                        let left = self.time_left(&delivery, now);
                        if !left.is_zero() {
                            wait = Some(wait.unwrap_or(left).min(left));
                        } else if sending.len() < MAX_CONCURRENT {
                            busy.insert(receiver.clone());
                            let config = config();
                            sending.push(async move {
                                self.attempt(&config, delivery).await;
                                receiver
                            });
                        }
                    }
                }
                Err(error) => {
                    self.log.error(&format!(
                        "Webhooks wait: {}; tried again in {} s",
                        with_causes(&error),
                        STATE_WAIT.as_secs()
                    ));
                    wait = Some(STATE_WAIT);
                }
            }
            // A day is looked at again in case the clock is set.
            let wait = wait.unwrap_or(Duration::from_secs(24 * 60 * 60));
            tokio::select! {
                Some(receiver) = sending.next() => {
                    busy.remove(&receiver);
                }
                () = self.woken.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Returns how long a delivery has to wait. A clock that was set back makes no wait longer than the longest one.
    fn time_left(&self, delivery: &Delivery, now: Timestamp) -> Duration {
        let left = delivery.due.duration_since(now);
        let left = Duration::try_from(left).unwrap_or_default();
        let longest = self.wait_after(u32::MAX);
        if left > longest { Duration::ZERO } else { left }
    }

    /// Returns the wait after `attempts` failed attempts.
    fn wait_after(&self, attempts: u32) -> Duration {
        let last = self.waits.len() - 1;
        let at = usize::try_from(attempts.saturating_sub(1)).unwrap_or(last);
        self.waits[at.min(last)]
    }

    async fn attempt(&self, config: &Config, mut delivery: Delivery) {
        let notify = config.jobs.get(&delivery.job).and_then(|job| {
            let mut notify = job.notify.iter();
            notify.find(|notify| HookId::of(&notify.url) == delivery.hook)
        });
        let about = format!("Webhook of job {}: delivery {}", delivery.job, delivery.id);
        let written = match notify {
            None => {
                let message = "is dropped: the configuration does not have this webhook any more";
                self.log.warn(&format!("{about} {message}"));
                self.store.done(&delivery.id)
            }
            Some(notify) => match self.send(notify, &delivery).await {
                Ok(status) => {
                    self.log.info(&format!("{about} was taken ({status})"));
                    self.store.done(&delivery.id)
                }
                Err(reason) => {
                    let now = Timestamp::now();
                    delivery.attempts = delivery.attempts.saturating_add(1);
                    if now.duration_since(delivery.created) > GIVEN_UP_AFTER {
                        let attempts = delivery.attempts;
                        let message = format!("is given up after {attempts} attempts: {reason}");
                        self.log.error(&format!("{about} {message}"));
                        self.store.done(&delivery.id)
                    } else {
                        let wait = self.wait_after(delivery.attempts);
                        delivery.due = now.checked_add(wait).unwrap_or(now);
                        let seconds = wait.as_secs();
                        let message = format!("was not taken: {reason}; again in {seconds} s");
                        self.log.warn(&format!("{about} {message}"));
                        self.store.retry(&delivery)
                    }
                }
            },
        };
        if let Err(error) = written {
            self.log.error(&format!("{about}: {}", with_causes(&error)));
            // Otherwise the same attempt would be made again at once.
            tokio::time::sleep(STATE_WAIT.min(self.wait_after(u32::MAX))).await;
        }
    }

    /// Sends a delivery once; the error names neither the URL nor the secret.
    async fn send(&self, notify: &NotifyConfig, delivery: &Delivery) -> Result<u16, String> {
        let url = notify.url.resolved()?;
        let client = if is_loopback(&url) {
            &self.direct
        } else {
            &self.client
        };
        let mut request = client
            .post(url)
            .header(USER_AGENT, concat!("stellaops/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header("X-Stellaops-Delivery", &delivery.id);
        if let Some(secret) = &notify.secret {
            let secret = secret.read()?;
            let time = Timestamp::now().as_second();
            let signature = signature(secret.as_bytes(), time, delivery.body.as_bytes());
            request = request.header("X-Stellaops-Signature", signature);
        }
        let answer = request.body(delivery.body.clone()).send().await;
        let status = answer.map_err(failure)?.status();
        match status {
            taken if taken.is_success() => Ok(taken.as_u16()),
            moved if moved.is_redirection() => Err(format!(
                "it answered {}, and redirects are not followed",
                moved.as_u16()
            )),
            other => Err(format!("it answered {}", other.as_u16())),
        }
    }
}

/// Describes why there was no answer, without the URL.
fn failure(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", TIMEOUT.as_secs());
    }
    with_causes(&error.without_url())
}

/// Returns the value of `X-Stellaops-Signature`: `t=UNIX,v1=HEX`, HMAC-SHA256 over the time, a dot and the body.
fn signature(secret: &[u8], time: i64, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret);
    let mut mac = mac.expect("HMAC takes keys of any length");
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    format!("t={time},v1={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests;
