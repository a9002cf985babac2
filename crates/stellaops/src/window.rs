//! Times of day in which requests may go to registries, as the configuration gives them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use registry_client::Window;
use serde::{Deserialize, Deserializer, de};

/// The hours of a day, such as `22:00-06:00`. An end before the start is on the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hours {
    from: Time,
    /// Midnight is the end of the day.
    until: Time,
}

/// A time zone by its name in the IANA database, such as `Europe/Berlin`.
#[derive(Clone, Debug)]
pub(crate) struct Zone(TimeZone);

impl Zone {
    pub(crate) fn time_zone(&self) -> &TimeZone {
        &self.0
    }
}

/// A window that opens every day.
#[derive(Clone, Debug)]
pub(crate) struct DailyWindow {
    hours: Hours,
    zone: Zone,
}

impl FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a window; write two times of day, such as 22:00-06:00");
        let (from, until) = text.split_once('-').ok_or_else(wrong)?;
        let hours = Self {
            from: time(from.trim()).ok_or_else(wrong)?,
            until: match until.trim() {
                "24:00" => Time::midnight(),
                until => time(until).ok_or_else(wrong)?,
            },
        };
        if hours.from == hours.until {
            return Err(format!(
                "{text:?} begins when it ends; leave the window out if every time is right"
            ));
        }
        Ok(hours)
    }
}

/// Parses `HH:MM`.
fn time(text: &str) -> Option<Time> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str, lengths: std::ops::RangeInclusive<usize>| {
        let is_number =
            lengths.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten()
    };
    Time::new(number(hours, 1..=2)?, number(minutes, 2..=2)?, 0, 0).ok()
}

impl Hours {
    pub(crate) fn contains(self, time: Time) -> bool {
        if self.from < self.until {
            (self.from..self.until).contains(&time)
        } else {
            time >= self.from || time < self.until
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, until] = [self.from, self.until].map(|time| (time.hour(), time.minute()));
        let until = if until == (0, 0) { (24, 0) } else { until };
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from.0, from.1, until.0, until.1
        )
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        TimeZone::get(&name).map(Self).map_err(|_| {
            de::Error::custom(format!(
                "{name:?} is not a time zone; write a name such as Europe/Berlin or UTC"
            ))
        })
    }
}

impl DailyWindow {
    /// Creates a window; without a zone it is in local time.
    pub(crate) fn new(hours: Hours, zone: Option<Zone>) -> Self {
        let local = || Zone(TimeZone::system());
        Self {
            hours,
            zone: zone.unwrap_or_else(local),
        }
    }

    /// Returns whether the window was open at some time since `since`, and is closed now.
    pub(crate) fn is_over(&self, since: Timestamp, now: Timestamp) -> bool {
        let zoned = |time: Timestamp| time.to_zoned_datetime(self.zone.0.clone());
        let left = self.opens_after(&zoned(since));
        let opened = since.checked_add(left).is_ok_and(|opened| opened <= now);
        opened && !self.opens_after(&zoned(now)).is_zero()
    }

    fn opens_after(&self, now: &ZonedDateTime) -> Duration {
        let from = self.hours.from;
        let time = now.time();
        if self.hours.contains(time) {
            return Duration::ZERO;
        }
        let today = now.date();
        let day = match time < from {
            true => Ok(today),
            false => today.tomorrow(),
        };
        let opening = day.and_then(|day| {
            let opening = day.to_datetime(from);
            opening.to_zoned_datetime(now.time_zone().clone())
        });
        // Only the last day that the calendar knows has no next one.
        let left = opening.map(|opening| now.duration_until(&opening));
        let left = left.ok().and_then(|left| Duration::try_from(left).ok());
        // Where the clock is set back, the opening may seem to have passed: it is looked at again.
        left.unwrap_or_default().max(Duration::from_secs(1))
    }
}

impl fmt::Display for DailyWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.hours)?;
        match self.zone.0.iana_name() {
            Some(name) => write!(f, " {name}"),
            None => Ok(()),
        }
    }
}

impl Window for DailyWindow {
    fn until_open(&self) -> Duration {
        self.opens_after(&Timestamp::now().to_zoned_datetime(self.zone.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_two_different_times_of_day() {
        for (text, shown) in [
            ("22:00-06:00", "22:00-06:00"),
            ("1:30 - 5:00", "01:30-05:00"),
            ("00:00-24:00", ""),
            ("18:00-24:00", "18:00-24:00"),
            ("18:00-0:00", "18:00-24:00"),
        ] {
            let hours = text.parse::<Hours>();
            assert_eq!(
                hours.map(|hours| hours.to_string()).unwrap_or_default(),
                shown
            );
        }
        for text in [
            "",
            "22:00",
            "22-06",
            "22:00-25:00",
            "24:00-06:00",
            "22:60-06:00",
            "-1:00-06:00",
            "22:0-06:00",
            "10pm-6am",
            "22:00-06:00-07:00",
            "22:00-22:00",
            "22:00–06:00",
            "+2:00-06:00",
        ] {
            let error = text.parse::<Hours>().unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn a_window_opens_at_its_hour_in_its_zone() {
        for (hours, now, seconds) in [
            (
                "22:00-06:00",
                "2026-11-30T21:59:48+01:00[Europe/Berlin]",
                12,
            ),
            ("22:00-06:00", "2026-11-30T22:00:00+01:00[Europe/Berlin]", 0),
            ("22:00-06:00", "2026-11-30T05:59:59+01:00[Europe/Berlin]", 0),
            (
                "22:00-06:00",
                "2026-11-30T06:00:00+01:00[Europe/Berlin]",
                16 * 3600,
            ),
            (
                "01:00-05:00",
                "2026-11-30T05:00:00+01:00[Europe/Berlin]",
                20 * 3600,
            ),
            ("01:00-05:00", "2026-11-30T00:00:00+00:00[UTC]", 3600),
            ("18:00-24:00", "2026-11-30T23:59:59+00:00[UTC]", 0),
            ("18:00-24:00", "2026-11-30T00:00:00+00:00[UTC]", 18 * 3600),
            // The night has an hour less, or one more.
            (
                "04:00-05:00",
                "2026-03-28T05:00:00+01:00[Europe/Berlin]",
                22 * 3600,
            ),
            (
                "04:00-05:00",
                "2026-10-24T05:00:00+02:00[Europe/Berlin]",
                24 * 3600,
            ),
            // Half past two does not exist that night: it opens when the clock jumps over it.
            (
                "02:30-05:00",
                "2026-03-29T01:59:00+01:00[Europe/Berlin]",
                31 * 60,
            ),
            ("02:30-05:00", "2026-03-29T03:00:00+02:00[Europe/Berlin]", 0),
            // It exists twice: the window is open, closes for half an hour, and opens again.
            ("02:30-05:00", "2026-10-25T02:45:00+02:00[Europe/Berlin]", 0),
            ("02:30-05:00", "2026-10-25T02:00:00+01:00[Europe/Berlin]", 1),
            ("02:30-05:00", "2026-10-25T02:30:00+01:00[Europe/Berlin]", 0),
        ] {
            let now: ZonedDateTime = now.parse().unwrap();
            let zone = Zone(now.time_zone().clone());
            let window = DailyWindow::new(hours.parse().unwrap(), Some(zone));
            assert_eq!(window.opens_after(&now).as_secs(), seconds, "{hours} {now}");
        }
    }

    #[test]
    fn a_window_is_over_once_it_has_been_open_and_is_closed() {
        let zone = TimeZone::get("UTC").map(Zone).unwrap();
        let window = DailyWindow::new("01:00-05:00".parse().unwrap(), Some(zone));
        for (since, now, is_over) in [
            ("2026-11-30T02:00:00Z", "2026-11-30T04:59:59Z", false),
            ("2026-11-30T02:00:00Z", "2026-11-30T05:00:00Z", true),
            ("2026-11-30T02:00:00Z", "2026-12-01T03:00:00Z", false),
            ("2026-11-30T00:59:00Z", "2026-11-30T00:59:30Z", false),
            ("2026-11-30T09:00:00Z", "2026-11-30T23:00:00Z", false),
            ("2026-11-30T09:00:00Z", "2026-12-01T09:00:00Z", true),
        ] {
            let [since, now] = [since, now].map(|time| time.parse().unwrap());
            assert_eq!(window.is_over(since, now), is_over, "{since} {now}");
        }
    }

    #[test]
    fn a_window_is_shown_with_its_zone() {
        let zone = TimeZone::get("Europe/Berlin").map(Zone).unwrap();
        let window = DailyWindow::new("22:00-06:00".parse().unwrap(), Some(zone));
        assert_eq!(window.to_string(), "22:00-06:00 Europe/Berlin");
        let local = DailyWindow::new("22:00-06:00".parse().unwrap(), None);
        assert!(local.until_open() <= Duration::from_secs(17 * 3600));
    }
}
