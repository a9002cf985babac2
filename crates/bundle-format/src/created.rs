use std::fmt;
use std::str::FromStr;

use crate::path_grammar::clip;

/// When the content of a bundle was put together, to the second, in UTC: `2026-11-30T04:00:00Z`.
///
/// The caller gives it: if it came from the clock, the same input would not give the same bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Created {
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

/// A string that is not the time of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time of the form YYYY-MM-DDTHH:MM:SSZ in the Gregorian calendar")]
pub struct CreatedError {
    text: String,
}

impl Created {
    /// Returns the seconds since the beginning of 1970, negative for earlier times.
    pub fn unix_seconds(&self) -> i64 {
        // Counts years from March, so that the leap day is the last day.
        let (year, month) = (i64::from(self.year), i64::from(self.month));
        let (year, month) = match month {
            1 | 2 => (year - 1, month + 9),
            _ => (year, month - 3),
        };
        let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        let days = 365 * year + leap_days + (153 * month + 2) / 5 + i64::from(self.day) - 1;
        const DAYS_TO_1970: i64 = 719_468;
        let seconds =
            3_600 * i64::from(self.hour) + 60 * i64::from(self.minute) + i64::from(self.second);
        (days - DAYS_TO_1970) * 86_400 + seconds
    }
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            self.year, self.month, self.day, self.hour, self.minute, self.second
        )
    }
}

impl FromStr for Created {
    type Err = CreatedError;

    fn from_str(text: &str) -> Result<Self, CreatedError> {
        parse(text).ok_or_else(|| CreatedError { text: clip(text) })
    }
}

fn parse(text: &str) -> Option<Created> {
    const FORM: &[u8; 20] = b"0000-00-00T00:00:00Z";
    let fits = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => byte == form,
    };
    if text.len() != FORM.len() || !text.as_bytes().iter().zip(FORM).all(fits) {
        return None;
    }
    let two = |at: usize| text.get(at..at + 2)?.parse::<u8>().ok();
    let created = Created {
        year: text.get(..4)?.parse().ok()?,
        month: two(5)?,
        day: two(8)?,
        hour: two(11)?,
        minute: two(14)?,
        second: two(17)?,
    };
    let year = created.year;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match created.month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    let in_calendar = (1..=days).contains(&created.day)
        && created.hour < 24
        && created.minute < 60
        && created.second < 60;
    in_calendar.then_some(created)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_one_of_the_calendar_and_has_one_form() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59Z", -1),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-11-30T04:05:06Z", 1_796_011_506),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
            ("0000-01-01T00:00:00Z", -62_167_219_200),
        ] {
            let created: Created = text.parse().unwrap();
            assert_eq!(created.to_string(), text);
            assert_eq!(created.unix_seconds(), seconds, "{text}");
        }
        for text in [
            "",
            "2026-11-30",
            "2026-11-30T04:05:06",
            "2026-11-30t04:05:06z",
            "2026-11-30 04:05:06Z",
            "2026-11-30T04:05:06+00:00",
            "2026-11-30T04:05:06.0Z",
            "2026-1-30T04:05:06Z",
            "+026-11-30T04:05:06Z",
            "2026-00-30T04:05:06Z",
            "2026-13-30T04:05:06Z",
            "2026-11-31T04:05:06Z",
            "2026-11-00T04:05:06Z",
            "2026-02-29T04:05:06Z",
            "2100-02-29T04:05:06Z",
            "2026-11-30T24:00:00Z",
            "2026-11-30T04:60:06Z",
            "2026-11-30T04:05:60Z",
            "2026-11-30T04:05:\u{661}\u{661}Z",
        ] {
            assert!(text.parse::<Created>().is_err(), "{text}");
        }
    }
}
