use std::fmt;

/// A limit of requests per second: more than 0 and at most 1,000,000; it may be a fraction.
///
/// After a pause, a tenth of a second's worth may be sent at once, but at least one request.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct RequestRate(f64);

impl RequestRate {
    /// Creates a rate; `None` if it is out of range, or so small that one request would take more
    /// than a day.
    pub fn per_second(requests: f64) -> Option<Self> {
        const ONE_A_DAY: f64 = 1.0 / 86_400.0;
        (ONE_A_DAY..=1e6)
            .contains(&requests)
            .then_some(Self(requests))
    }

    /// Returns the time that one request takes, in nanoseconds.
    pub(crate) fn cost(self) -> f64 {
        1e9 / self.0
    }

    /// Returns the number of requests in a time, at least 1.
    pub(crate) fn in_seconds(self, seconds: f64) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 1 to far below the limit of the type"
        )]
        let requests = (self.0 * seconds).clamp(1.0, 1e9) as u32;
        requests
    }
}

// There is no NaN among the rates.
impl Eq for RequestRate {}

impl fmt::Display for RequestRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_positive_number_that_a_client_can_keep_to() {
        for requests in [1e-4, 0.5, 1.0, 50.0, 1e6] {
            let rate = RequestRate::per_second(requests).unwrap();
            assert_eq!(rate.cost() * requests, 1e9);
        }
        for requests in [0.0, -1.0, 1e-9, 1e7, f64::NAN, f64::INFINITY] {
            assert_eq!(RequestRate::per_second(requests), None, "{requests}");
        }
        let rate = |requests| RequestRate::per_second(requests).unwrap();
        assert_eq!(rate(50.0).in_seconds(0.1), 5);
        assert_eq!(rate(0.1).in_seconds(0.1), 1);
        assert_eq!(rate(0.5).to_string(), "0.5");
    }
}
