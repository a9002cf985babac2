use super::converted::Schedule;

/// Reads a schedule as regsync has it: five fields or a word such as `@daily`, after a time zone if one is named.
pub(super) fn cron(text: &str) -> Result<Schedule, String> {
    let text = text.trim();
    let (time_zone, text) = match text
        .strip_prefix("CRON_TZ=")
        .or_else(|| text.strip_prefix("TZ="))
    {
        Some(rest) => {
            let (zone, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            (Some(zone.to_owned()), rest.trim())
        }
        None => (None, text),
    };
    if let Some(every) = text.strip_prefix("@every ") {
        return interval(every.trim());
    }
    let cron = match text {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        fields if fields.split_whitespace().count() == 5 => fields,
        _ => {
            return Err(format!(
                "{text:?} is not five fields, and was not converted"
            ));
        }
    };
    Ok(Schedule {
        cron: cron.to_owned(),
        time_zone,
    })
}

/// Turns an interval, written as Go writes durations, into times of the clock: possible if it divides an hour or a day.
pub(super) fn interval(text: &str) -> Result<Schedule, String> {
    let cron = match minutes(text) {
        Some(minutes @ 1..60) if 60 % minutes == 0 => format!("*/{minutes} * * * *"),
        Some(60) => "0 * * * *".to_owned(),
        Some(minutes)
            if minutes > 60 && minutes < 1440 && 1440 % minutes == 0 && minutes % 60 == 0 =>
        {
            format!("0 */{} * * *", minutes / 60)
        }
        Some(1440) => "0 0 * * *".to_owned(),
        _ => {
            return Err(format!(
                "an interval of {text} is not a part of an hour or a day; write the times as cron"
            ));
        }
    };
    Ok(Schedule {
        cron,
        time_zone: None,
    })
}

/// Reads a duration of whole minutes, such as `1h30m`.
fn minutes(text: &str) -> Option<u64> {
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest[digits..].chars().next()? {
            'h' => 3600,
            'm' if !rest[digits..].starts_with("ms") => 60,
            's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (seconds > 0 && seconds.is_multiple_of(60)).then_some(seconds / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_become_five_fields_or_are_refused() {
        for (found, expected) in [
            (cron("15 3 * * *"), Ok(("15 3 * * *", None))),
            (
                cron("TZ=Europe/Berlin 0 2 * * 1-5"),
                Ok(("0 2 * * 1-5", Some("Europe/Berlin"))),
            ),
            (cron("@daily"), Ok(("0 0 * * *", None))),
            (cron("@every 30m"), Ok(("*/30 * * * *", None))),
            (interval("60m"), Ok(("0 * * * *", None))),
            (interval("6h"), Ok(("0 */6 * * *", None))),
            (interval("24h0m0s"), Ok(("0 0 * * *", None))),
            (interval("45m"), Err("45m")),
            (interval("90m"), Err("90m")),
            (interval("36h"), Err("36h")),
            (interval("500ms"), Err("500ms")),
            (interval("99999999999999999999h"), Err("interval")),
            (cron("0 0 2 * * *"), Err("five fields")),
            (cron("TZ=UTC"), Err("five fields")),
        ] {
            match (&found, expected) {
                (Ok(schedule), Ok((cron, zone))) => {
                    assert_eq!(schedule.cron, cron);
                    assert_eq!(schedule.time_zone.as_deref(), zone);
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (found, expected) => panic!("{found:?} is not {expected:?}"),
            }
        }
    }
}
