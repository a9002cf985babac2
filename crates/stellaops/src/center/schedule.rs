//! When jobs are due: once for each local time that a schedule names.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::config::{Cron, ScheduleConfig};

/// A schedule in its time zone.
///
/// A local time that does not exist, because the clocks go forward, stands for the time that they show that much later. One
/// that exists twice stands for the first.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    cron: Cron,
    zone: TimeZone,
    max_jitter: Duration,
    /// What the jitter depends on: the job and what is to be done.
    seed: u64,
}

/// One time of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occurrence {
    pub(crate) local: DateTime,
    pub(crate) at: Timestamp,
    /// When the run begins: `at`, and the jitter.
    pub(crate) due: Timestamp,
}

/// The times of a schedule that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// The newest of them. A run for it makes up for the others.
    pub(crate) newest: Occurrence,
    pub(crate) count: u64,
}

/// How far before an instant the local times begin that may stand for a later one: no zone skips more than a day.
const SKIPPED: SignedDuration = SignedDuration::from_hours(25);

impl Schedule {
    pub(crate) fn new(config: &ScheduleConfig, job: &str, purpose: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (job, purpose, std::process::id()).hash(&mut hasher);
        Self {
            cron: config.cron.clone(),
            zone: config.zone(),
            max_jitter: Duration::from_secs(config.jitter_seconds.into()),
            seed: hasher.finish(),
        }
    }

    /// Returns what decides when the schedule fires, as text: another text is another schedule.
    pub(crate) fn rule(&self) -> String {
        format!("{} {}", self.cron.as_str(), self.zone_name())
    }

    /// Returns the name of the zone; `local` if it has none.
    pub(crate) fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("local")
    }

    /// Returns the first time after `mark` for which `is_used` does not say that it is used; `None` if there is none.
    pub(crate) fn next<E>(
        &self,
        mark: Timestamp,
        mut is_used: impl FnMut(DateTime) -> Result<bool, E>,
    ) -> Result<Option<Occurrence>, E> {
        for next in self.after(mark) {
            if !is_used(next.local)? {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }

    /// Returns the times after `mark` whose runs should have begun by `now`, without those that are used.
    pub(crate) fn due<E>(
        &self,
        mark: Timestamp,
        now: Timestamp,
        mut is_used: impl FnMut(DateTime) -> Result<bool, E>,
    ) -> Result<Option<Due>, E> {
        let mut found: Option<Due> = None;
        for next in self.after(mark).take_while(|next| next.due <= now) {
            if !is_used(next.local)? {
                let count = found.map_or(0, |due| due.count) + 1;
                found = Some(Due {
                    newest: next,
                    count,
                });
            }
        }
        Ok(found)
    }

    /// Returns the times after an instant, each instant once.
    fn after(&self, mark: Timestamp) -> impl Iterator<Item = Occurrence> + '_ {
        let local = |time: Timestamp| time.to_zoned_datetime(self.zone.clone()).datetime();
        let from = mark.checked_sub(SKIPPED).map_or(local(mark), local);
        let mut last = mark;
        let times = std::iter::successors(self.cron.next_after(from), |time| {
            self.cron.next_after(*time)
        });
        times.filter_map(move |time| {
            let at = self.zone.to_ambiguous_timestamp(time).compatible().ok()?;
            if at <= last {
                return None;
            }
            last = at;
            let due = at.checked_add(self.jitter(time)).unwrap_or(at);
            Some(Occurrence {
                local: time,
                at,
                due,
            })
        })
    }

    /// Returns by how much the run of a time begins later.
    fn jitter(&self, time: DateTime) -> Duration {
        let mut hasher = DefaultHasher::new();
        (self.seed, time.to_string()).hash(&mut hasher);
        let seconds = hasher.finish() % (self.max_jitter.as_secs() + 1);
        Duration::from_secs(seconds)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn schedule(cron: &str, zone: &str, jitter: u64) -> Schedule {
        Schedule {
            cron: cron.to_owned().try_into().unwrap(),
            zone: TimeZone::get(zone).unwrap(),
            max_jitter: Duration::from_secs(jitter),
            seed: 7,
        }
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn unused(_: DateTime) -> Result<bool, Infallible> {
        Ok(false)
    }

    /// Lets the minutes from one instant to another pass, and returns when runs began.
    fn pass(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
        let (mut now, to) = (time(from), time(to));
        let mut mark = now;
        let mut fired = Vec::new();
        while now < to {
            now += SignedDuration::from_mins(1);
            if let Some(due) = schedule.due(mark, now, unused).unwrap() {
                mark = due.newest.at;
                fired.push(now.strftime("%m-%dT%H:%M").to_string());
            }
        }
        fired
    }

    #[test]
    fn a_night_without_half_past_two_has_its_run_an_hour_later() {
        let nightly = schedule("30 2 * * *", "Europe/Berlin", 0);
        assert_eq!(
            pass(&nightly, "2026-03-27T12:00:00Z", "2026-03-30T12:00:00Z"),
            ["03-28T01:30", "03-29T01:30", "03-30T00:30"]
        );
        let quarter = schedule("*/30 * * * *", "Europe/Berlin", 0);
        assert_eq!(
            pass(&quarter, "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"),
            ["03-29T00:30", "03-29T01:00", "03-29T01:30", "03-29T02:00"]
        );
    }

    #[test]
    fn a_night_that_has_half_past_two_twice_has_one_run() {
        let nightly = schedule("30 2 * * *", "Europe/Berlin", 0);
        assert_eq!(
            pass(&nightly, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"),
            ["10-25T00:30", "10-26T01:30"]
        );
        // Midnight exists twice, on two days.
        let midnight = schedule("0 0 * * *", "America/Havana", 0);
        let fired = pass(&midnight, "2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z");
        assert_eq!(fired, ["11-01T04:00", "11-02T05:00"]);
    }

    #[test]
    fn a_day_that_a_zone_skips_is_no_reason_to_run_twice() {
        let nightly = schedule("30 2 * * *", "Pacific/Apia", 0);
        assert_eq!(
            pass(&nightly, "2011-12-29T00:00:00Z", "2012-01-01T00:00:00Z"),
            ["12-29T12:30", "12-30T12:30", "12-31T12:30"]
        );
    }

    #[test]
    fn missed_times_are_made_up_for_once() {
        let hourly = schedule("0 * * * *", "UTC", 0);
        let (mark, now) = (time("2026-11-27T10:00:00Z"), time("2026-11-30T09:30:00Z"));
        let due = hourly.due(mark, now, unused).unwrap().unwrap();
        assert_eq!(due.count, 71);
        assert_eq!(due.newest.at, time("2026-11-30T09:00:00Z"));
        assert_eq!(hourly.due(due.newest.at, now, unused).unwrap(), None);
    }

    #[test]
    fn a_used_time_is_passed_over_when_the_clock_is_set_back() {
        let nightly = schedule("0 2 * * *", "UTC", 0);
        let used = |local: DateTime| Ok::<_, Infallible>(local.date().day() == 30);
        let mark = time("2026-11-29T12:00:00Z");
        let next = nightly.next(mark, used).unwrap().unwrap();
        assert_eq!(next.at, time("2026-12-01T02:00:00Z"));
        assert_eq!(
            nightly
                .due(mark, time("2026-11-30T03:00:00Z"), used)
                .unwrap(),
            None
        );
    }

    #[test]
    fn jitter_delays_a_run_and_stays_the_same_for_a_time() {
        let nightly = schedule("0 2 * * *", "UTC", 300);
        let mark = time("2026-11-29T12:00:00Z");
        let first = nightly.next(mark, unused).unwrap().unwrap();
        let late = first.due.duration_since(first.at).as_secs();
        assert!((0..=300).contains(&late), "{late}");
        assert_eq!(nightly.next(mark, unused).unwrap(), Some(first));
        let second = nightly.next(first.at, unused).unwrap().unwrap();
        let late_again = second.due.duration_since(second.at).as_secs();
        assert_ne!(late, late_again);
        assert_eq!(
            nightly.due(mark, first.at, unused).unwrap().is_some(),
            late == 0
        );
    }

    #[test]
    fn a_schedule_that_never_comes_has_no_next_time() {
        let never = schedule("0 0 30 2 *", "UTC", 0);
        assert_eq!(
            never.next(time("2026-11-29T12:00:00Z"), unused).unwrap(),
            None
        );
    }
}
