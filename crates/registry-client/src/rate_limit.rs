use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::DATE;

/// The rate limit of a registry, from `RateLimit-*` headers or their `X-` forms.
///
/// Docker Hub sends `ratelimit-limit: 100;w=21600`; Cloudsmith and others send the `X-` forms with
/// a reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimit {
    /// The number of requests that are allowed per window.
    pub limit: Option<u64>,
    /// The number of requests that are left.
    pub remaining: Option<u64>,
    /// The length of a window.
    pub window: Option<Duration>,
    /// The time until more requests are allowed, from when the answer was given: at most a day. A
    /// reset in the past or further away counts as absent, such as a Unix time in milliseconds.
    pub reset: Option<Duration>,
}

impl RateLimit {
    /// Parses the headers; `None` if there are none or all are malformed.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let header = |name: &str| {
            let names = [format!("ratelimit-{name}"), format!("x-ratelimit-{name}")];
            names
                .iter()
                .find_map(|name| headers.get(name)?.to_str().ok().map(str::trim))
        };
        let number = |text: &str| text.split([';', ',']).next()?.trim().parse::<u64>().ok();
        let limit = header("limit");
        let window = limit.and_then(|text| {
            let window = text
                .split(';')
                .find_map(|part| part.trim().strip_prefix("w="))?;
            window.parse().ok().map(Duration::from_secs)
        });
        let found = Self {
            limit: limit.and_then(number),
            remaining: header("remaining").and_then(number),
            window,
            reset: header("reset")
                .and_then(number)
                .and_then(|reset| until(reset, headers)),
        };
        (found != Self::default()).then_some(found)
    }
}

/// Parses a reset, which is either in seconds from now or a Unix time. A Unix time is compared with
/// the `Date` of the answer, so that the local clock does not matter.
fn until(reset: u64, headers: &HeaderMap) -> Option<Duration> {
    /// In seconds. No window is that long, and every Unix time since 2001 is larger.
    const FIRST_UNIX_TIME: u64 = 1_000_000_000;
    let reset = Duration::from_secs(reset);
    if reset.as_secs() < FIRST_UNIX_TIME {
        return Some(reset).filter(is_plausible);
    }
    let date = headers
        .get(DATE)
        .and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let now = date.unwrap_or_else(SystemTime::now);
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = reset.saturating_sub(now);
    Some(left).filter(|left| !left.is_zero() && is_plausible(left))
}

/// Returns whether a wait is plausible: the longest windows in use are one day.
pub(crate) fn is_plausible(wait: &Duration) -> bool {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    *wait <= DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Option<RateLimit> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        RateLimit::of(&map)
    }

    #[test]
    fn the_forms_that_registries_send_are_read() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let hub = read(&[
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "0;w=21600"),
        ]);
        let expected = RateLimit {
            limit: Some(100),
            remaining: Some(0),
            window: seconds(21_600),
            reset: None,
        };
        assert_eq!(hub, Some(expected));
        let cloudsmith = read(&[
            ("x-ratelimit-limit", "300"),
            ("x-ratelimit-remaining", "12"),
            ("x-ratelimit-reset", "1795552122"),
            ("date", "Tue, 24 Nov 2026 20:28:12 GMT"),
        ]);
        let expected = RateLimit {
            limit: Some(300),
            remaining: Some(12),
            window: None,
            reset: seconds(30),
        };
        assert_eq!(cloudsmith, Some(expected));
        assert_eq!(read(&[("ratelimit-reset", "7")]).unwrap().reset, seconds(7));
        for junk in ["", "soon", "-1", "1.5"] {
            assert_eq!(read(&[("ratelimit-remaining", junk)]), None, "{junk}");
        }
    }

    #[test]
    fn a_reset_is_seconds_or_a_unix_time_within_a_day_and_everything_else_is_absent() {
        // 1795552092 as a Unix time.
        let date = ("date", "Tue, 24 Nov 2026 20:28:12 GMT");
        for (name, text, expected) in [
            // Delta seconds, as in the drafts of the IETF; GitLab sends Unix seconds under the same
            // name.
            ("ratelimit-reset", "0", Some(0)),
            ("ratelimit-reset", "7", Some(7)),
            ("ratelimit-reset", "50;w=60", Some(50)),
            ("ratelimit-reset", "86400", Some(86_400)),
            ("ratelimit-reset", "1795552122", Some(30)),
            // GitHub and Cloudsmith.
            ("x-ratelimit-reset", "1795552122", Some(30)),
            ("x-ratelimit-reset", " 1795555692 ", Some(3600)),
            // In the past or now.
            ("x-ratelimit-reset", "1795552092", None),
            ("x-ratelimit-reset", "1795552000", None),
            ("x-ratelimit-reset", "1000000000", None),
            // Over a day; milliseconds and finer, from now and since 1970.
            ("ratelimit-reset", "86401", None),
            ("ratelimit-reset", "3600000", None),
            ("ratelimit-reset", "999999999", None),
            ("x-ratelimit-reset", "1795638493", None),
            ("x-ratelimit-reset", "1795552122000", None),
            ("x-ratelimit-reset", "1795552122000000", None),
            ("x-ratelimit-reset", "1795552122000000000", None),
            ("x-ratelimit-reset", "18446744073709551615", None),
            ("x-ratelimit-reset", "99999999999999999999", None),
            ("x-ratelimit-reset", "-1", None),
            ("x-ratelimit-reset", "-1795552122", None),
            ("x-ratelimit-reset", "NaN", None),
            ("x-ratelimit-reset", "inf", None),
            ("x-ratelimit-reset", "1.5", None),
            ("x-ratelimit-reset", "1e9", None),
            ("x-ratelimit-reset", "0x10", None),
            ("x-ratelimit-reset", "2026-11-24T20:28:42Z", None),
            ("x-ratelimit-reset", "Tue, 24 Nov 2026 20:28:42 GMT", None),
            ("x-ratelimit-reset", "", None),
        ] {
            let found = read(&[(name, text), date]).and_then(|found| found.reset);
            assert_eq!(
                found.map(|reset| reset.as_secs()),
                expected,
                "{name}: {text:?}"
            );
        }
    }
}
