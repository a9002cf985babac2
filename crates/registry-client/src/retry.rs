use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{DATE, HeaderMap, RETRY_AFTER};

/// How often and for how long one call is retried.
///
/// - Requests that can be repeated safely (GET, HEAD, PUT by digest) are retried after 408, 425,
///   429, 499, every 5xx but 501 and 505, and broken connections. All requests are retried after
///   429, 503 and failures to connect. See [RFC 9110,
///   15](https://www.rfc-editor.org/rfc/rfc9110#section-15).
/// - A 200 whose body cannot be read ([`ErrorKind::Unreadable`](crate::ErrorKind::Unreadable), or
///   [`Integrity`](crate::ErrorKind::Integrity) of a manifest) is requested at most twice more.
/// - `Retry-After` is obeyed in full. If it exceeds what is left of `deadline`, the call ends with
///   the answer that carries it. More than a day is taken for a mistake, such as a Unix time, and
///   ignored.
/// - Without `Retry-After` the wait before the n-th retry is chosen uniformly between zero and
///   `base_delay * 2^(n-1)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The number of tries, including the first. Default: 6.
    pub max_attempts: NonZeroU32,
    /// The longest wait before the first retry. Default: 200 ms.
    pub base_delay: Duration,
    /// The limit for the sum of all waits of one call. Default: 120 s.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        const SIX: NonZeroU32 = NonZeroU32::new(6).unwrap();
        Self {
            max_attempts: SIX,
            base_delay: Duration::from_millis(200),
            deadline: Duration::from_secs(120),
        }
    }
}

/// How often a body that cannot be read is requested, including the first time. It is usually just
/// as bad the next time, so the number in the policy would only cost time.
pub(crate) const MAX_UNREADABLE: u32 = 3;

/// What is left of a [`RetryPolicy`] during one call.
#[derive(Debug)]
pub(crate) struct Budget {
    policy: RetryPolicy,
    tries: u32,
    waited: Duration,
}

impl Budget {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            tries: 1,
            waited: Duration::ZERO,
        }
    }

    /// Returns the number of the current try, from 1.
    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }

    /// Starts counting again, after progress.
    pub(crate) fn reset(&mut self) {
        self.tries = 1;
        self.waited = Duration::ZERO;
    }

    /// Accounts for a wait that is not followed by a new try, if it is within the budget.
    pub(crate) fn take_wait(&mut self, wait: Duration) -> bool {
        match self.waited.checked_add(wait) {
            Some(sum) if sum <= self.policy.deadline => {
                self.waited = sum;
                true
            }
            _ => false,
        }
    }

    /// Accounts for one more try and returns how long to wait before it; `None` if the budget is
    /// used up.
    pub(crate) fn take_try(&mut self, retry_after: Option<Duration>) -> Option<Duration> {
        if self.tries >= self.policy.max_attempts.get() {
            return None;
        }
        let wait = match retry_after {
            Some(wait) if !wait.is_zero() => wait,
            _ => full_jitter(self.policy.base_delay, self.tries - 1),
        };
        if !self.take_wait(wait) {
            return None;
        }
        self.tries += 1;
        Some(wait)
    }
}

fn full_jitter(base: Duration, exponent: u32) -> Duration {
    const MAX_EXPONENT: u32 = 16;
    let longest = base.saturating_mul(1 << exponent.min(MAX_EXPONENT));
    // Each `RandomState` has new keys, which is random enough to spread clients out.
    let random = RandomState::new().hash_one(exponent);
    let nanos = longest.as_nanos() * u128::from(random >> 32) / (1 << 32);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Returns whether the answer may be different later.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    match status.as_u16() {
        // A feature that the server lacks will not appear within seconds.
        501 | 505 => false,
        // 499: nginx, when the client of a proxy went away. 425: too early for a replay-safe
        // request.
        408 | 425 | 429 | 499 | 500..=599 => true,
        _ => false,
    }
}

/// Returns whether the status means that the request was not processed.
pub(crate) fn is_refusal(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 503)
}

/// Parses `Retry-After`: seconds, or a date, which is compared with the `Date` of the answer so
/// that the local clock does not matter. Anything else is ignored.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // A number too large for 64 bits still means a wait beyond every deadline.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    let now = headers
        .get(DATE)
        .and_then(|date| date.to_str().ok())
        .and_then(|date| httpdate::parse_http_date(date).ok())
        .unwrap_or_else(SystemTime::now);
    Some(at.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(retry_after: &str, date: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        headers
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_junk_is_absent() {
        let date = Some("Tue, 24 Nov 2026 20:28:12 GMT");
        for (text, expected) in [
            ("0", Some(0)),
            ("2", Some(2)),
            (" 120 ", Some(120)),
            ("86400", Some(86_400)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Tue, 24 Nov 2026 20:28:42 GMT", Some(30)),
            ("Tue, 24 Nov 2026 20:28:02 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
            ("1.16676ms", None),
        ] {
            assert_eq!(
                retry_after(&headers(text, date)),
                expected.map(Duration::from_secs),
                "{text:?}"
            );
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn a_budget_ends_with_its_tries_or_its_deadline() {
        let policy = RetryPolicy {
            max_attempts: NonZeroU32::new(3).unwrap(),
            base_delay: Duration::from_millis(10),
            deadline: Duration::from_secs(5),
        };
        let mut budget = Budget::new(policy);
        assert!(budget.take_try(None).unwrap() <= Duration::from_millis(10));
        assert!(budget.take_try(None).unwrap() <= Duration::from_millis(20));
        assert_eq!(budget.take_try(None), None);

        let mut budget = Budget::new(policy);
        let three = Duration::from_secs(3);
        assert_eq!(budget.take_try(Some(three)), Some(three));
        assert_eq!(budget.take_try(Some(three)), None, "6 s are over 5 s");
        assert_eq!(budget.take_try(Some(Duration::MAX)), None);
        assert_eq!(budget.tries(), 2);
    }

    #[test]
    fn jitter_is_spread_from_zero_to_the_longest_wait() {
        let base = Duration::from_millis(100);
        let waits: Vec<_> = (0..200).map(|_| full_jitter(base, 1)).collect();
        assert!(waits.iter().all(|wait| *wait <= base * 2));
        assert!(waits.iter().any(|wait| *wait < base));
        assert!(waits.iter().any(|wait| *wait > base));
    }

    #[test]
    fn server_errors_are_transient_as_a_class_but_for_501_and_505() {
        for code in 100..=999 {
            let expected = match code {
                501 | 505 => false,
                408 | 425 | 429 | 499 => true,
                _ => (500..600).contains(&code),
            };
            let status = StatusCode::from_u16(code).unwrap();
            assert_eq!(is_transient(status), expected, "{code}");
        }
    }
}
