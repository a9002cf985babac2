//! Cron expressions, in wall time.

use jiff::civil::{Date, DateTime, Time};
use serde::Deserialize;

/// Five fields: minute, hour, day of the month, month, day of the week.
///
/// As in cron, a day fits if either day field fits when both are restricted, and if both fit when one begins with `*`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Cron {
    text: String,
    /// Bit n is the value n, in all of these.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// From Sunday, 0, to Saturday, 6.
    weekdays: u64,
    /// Whether a day has to fit both day fields.
    is_both: bool,
}

/// How far ahead the next time is looked for: 29 February may be eight years away.
const MAX_DAYS: u32 = 9 * 366;

impl Cron {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the first time after `after`; `None` if there is none, as for 30 February.
    pub(crate) fn next_after(&self, after: DateTime) -> Option<DateTime> {
        let mut date = after.date();
        // The first minute of the day that counts.
        let mut from = u32::from(after.time().hour().unsigned_abs()) * 60
            + u32::from(after.time().minute().unsigned_abs())
            + 1;
        for _ in 0..MAX_DAYS {
            if self.fits(date) {
                let minute = (from..24 * 60)
                    .find(|at| has(self.hours, at / 60) && has(self.minutes, at % 60));
                let time = minute.and_then(|at| {
                    let [hour, minute] = [at / 60, at % 60].map(i8::try_from);
                    Time::new(hour.ok()?, minute.ok()?, 0, 0).ok()
                });
                if let Some(time) = time {
                    return Some(date.to_datetime(time));
                }
            }
            date = date.tomorrow().ok()?;
            from = 0;
        }
        None
    }

    fn fits(&self, date: Date) -> bool {
        let number = |value: i8| u32::from(value.unsigned_abs());
        let day = has(self.days, number(date.day()));
        let weekday = has(
            self.weekdays,
            number(date.weekday().to_sunday_zero_offset()),
        );
        let is_day = if self.is_both {
            day && weekday
        } else {
            day || weekday
        };
        has(self.months, number(date.month())) && is_day
    }
}

fn has(set: u64, value: u32) -> bool {
    set >> value & 1 == 1
}

/// What a field may hold.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    /// The names of values, from `least`.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        least: 0,
        most: 59,
        names: &[],
    },
    Field {
        name: "hour",
        least: 0,
        most: 23,
        names: &[],
    },
    Field {
        name: "day of the month",
        least: 1,
        most: 31,
        names: &[],
    },
    Field {
        name: "month",
        least: 1,
        most: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Field {
        name: "day of the week",
        least: 0,
        // Sunday is 0 and 7.
        most: 7,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

impl Field {
    /// Parses the values of a field.
    fn parse(&self, field: &str) -> Option<u64> {
        let mut set = 0;
        for part in field.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(step)),
                None => (part, None),
            };
            let (from, to) = match range.split_once('-') {
                _ if range == "*" => (self.least, self.most),
                Some((from, to)) => {
                    let (from, to) = (self.value(from)?, self.value(to)?);
                    // Up to Sunday.
                    let to = if self.most == 7 && to == 0 { 7 } else { to };
                    (from, to)
                }
                None => {
                    let from = self.value(range)?;
                    (from, if step.is_some() { self.most } else { from })
                }
            };
            let step = match step {
                Some(step) => number(step).filter(|step| (1..=self.most).contains(step))?,
                None => 1,
            };
            if from > to {
                return None;
            }
            let mut value = from;
            while value <= to {
                set |= 1 << value;
                value += step;
            }
        }
        Some(set)
    }

    fn value(&self, text: &str) -> Option<u32> {
        let lower = text.to_ascii_lowercase();
        let named = self.names.iter().zip(self.least..);
        let named = named.into_iter().find(|(name, _)| **name == lower);
        let value = named.map(|(_, value)| value).or_else(|| number(text))?;
        (self.least..=self.most).contains(&value).then_some(value)
    }
}

/// Reads digits alone, without the sign that `parse` takes.
fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

impl TryFrom<String> for Cron {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let given: Vec<_> = text.split_whitespace().collect();
        let Ok([minutes, hours, days, months, weekdays]) = <[&str; 5]>::try_from(given) else {
            return Err(format!(
                "{text:?} is not a schedule: it has five fields, minute, hour, day of the month, month and day of the week"
            ));
        };
        let mut sets = [0; 5];
        let given = [minutes, hours, days, months, weekdays];
        for ((set, given), field) in sets.iter_mut().zip(given).zip(&FIELDS) {
            *set = field.parse(given).ok_or_else(|| {
                format!(
                    "{text:?} is not a schedule: {given:?} is not a {}",
                    field.name
                )
            })?;
        }
        let is_both = days.starts_with('*') || weekdays.starts_with('*');
        let [minutes, hours, days, months, weekdays] = sets;
        Ok(Self {
            text,
            minutes,
            hours,
            days,
            months,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            is_both,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(text: &str) -> Result<Cron, String> {
        Cron::try_from(text.to_owned())
    }

    #[test]
    fn five_fields_are_a_schedule() {
        for text in [
            "0 2 * * *",
            "*/15 0-6,22 1 jan,JUL mon-fri",
            "59 23 31 12 7",
            "0 2 * * sat-sun",
            "5/15 2 * * *",
        ] {
            assert!(cron(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "@daily",
            "0 2 * *",
            "60 2 * * *",
            "0 2 0 * *",
            "*/0 2 * * *",
            "0 2 * * x",
            "0- 2 * * *",
            "+5 2 * * *",
            "0 5-2 * * *",
            "0 2 * * *x",
            "0 2 , * *",
        ] {
            assert!(cron(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_next_time_is_after_the_one_given() {
        for (text, after, next) in [
            ("0 2 * * *", "2026-11-30T01:59:59", "2026-11-30T02:00"),
            ("0 2 * * *", "2026-11-30T02:00", "2026-12-01T02:00"),
            ("*/15 * * * *", "2026-11-30T02:45:10", "2026-11-30T03:00"),
            ("*/15 * * * *", "2026-12-31T23:45", "2027-01-01T00:00"),
            ("5/20 3 * * *", "2026-11-30T03:05", "2026-11-30T03:25"),
            // Saturday is 5 December.
            ("0 0 * * 6", "2026-11-30T00:00", "2026-12-05T00:00"),
            ("0 0 * * sat-sun", "2026-12-05T00:00", "2026-12-06T00:00"),
            ("0 0 * * 7", "2026-12-05T00:00", "2026-12-06T00:00"),
            // Either day: the 13th, or a Friday.
            ("0 0 13 * fri", "2026-12-04T00:00", "2026-12-11T00:00"),
            ("0 0 13 * fri", "2026-12-11T00:00", "2026-12-13T00:00"),
            ("0 0 */2 * mon", "2026-11-30T00:00", "2026-12-07T00:00"),
            ("0 0 29 2 *", "2026-11-30T00:00", "2028-02-29T00:00"),
        ] {
            let (after, next): (DateTime, DateTime) =
                (after.parse().unwrap(), next.parse().unwrap());
            assert_eq!(cron(text).unwrap().next_after(after), Some(next), "{text}");
        }
        let never = cron("0 0 30 2 *").unwrap();
        assert_eq!(never.next_after("2026-11-30T00:00".parse().unwrap()), None);
    }
}
