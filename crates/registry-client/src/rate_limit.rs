use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::DATE;

/// What a registry says of its rate limit, in `RateLimit-*` headers or their `X-` forms.
///
/// Docker Hub sends `ratelimit-limit: 100;w=21600`; Cloudsmith and others send the `X-` forms with a reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimit {
    /// Requests that are allowed in a window.
    pub limit: Option<u64>,
    /// Requests that are left.
    pub remaining: Option<u64>,
    /// The length of a window.
    pub window: Option<Duration>,
    /// The time until more requests are allowed, counted from the answer.
    pub reset: Option<Duration>,
}

impl RateLimit {
    /// Reads the headers; `None` where there are none that can be read.
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
                .map(|reset| until(reset, headers)),
        };
        (found != Self::default()).then_some(found)
    }
}

/// Reads a reset, which some give in seconds from now and others as a Unix time. A Unix time is compared with the
/// answer's own `Date`, so that the local clock does not matter.
fn until(reset: u64, headers: &HeaderMap) -> Duration {
    /// In seconds; no window is that long, and no Unix time since 2001 is shorter.
    const FIRST_UNIX_TIME: u64 = 1_000_000_000;
    if reset < FIRST_UNIX_TIME {
        return Duration::from_secs(reset);
    }
    let date = headers
        .get(DATE)
        .and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let now = date.unwrap_or_else(SystemTime::now);
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(reset).saturating_sub(now)
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
        let past = read(&[
            ("ratelimit-reset", "1795552000"),
            ("date", "Tue, 24 Nov 2026 20:28:12 GMT"),
        ]);
        assert_eq!(past.unwrap().reset, seconds(0));
        for junk in ["", "soon", "-1", "1.5"] {
            assert_eq!(read(&[("ratelimit-remaining", junk)]), None, "{junk}");
        }
    }
}
