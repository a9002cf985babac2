//! When jobs run and who is told, as the configuration writes it. The service does both.

use std::net::IpAddr;

use serde::Deserialize;
use url::{Host, Url};

use crate::window::{DailyWindow, Hours, Zone};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleConfig {
    #[expect(dead_code, reason = "checked here, and obeyed by the service")]
    cron: Cron,
    time_zone: Option<Zone>,
    #[expect(dead_code, reason = "checked here, and obeyed by the service")]
    jitter_seconds: Option<u64>,
    window: Option<Hours>,
}

impl ScheduleConfig {
    /// Returns the time of day in which runs may speak to registries.
    pub(crate) fn window(&self) -> Option<DailyWindow> {
        Some(DailyWindow::new(self.window?, self.time_zone.clone()))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "checked here, and obeyed by the service")]
pub(crate) struct NotifyConfig {
    url: Hook,
    on: Vec<RunStatus>,
    /// A file, or `env:VAR`.
    secret: Option<String>,
}

/// How a run can end.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RunStatus {
    Succeeded,
    Incomplete,
    Failed,
    Cancelled,
    Expired,
}

/// Five fields: minute, hour, day of the month, month, day of the week.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
#[expect(dead_code, reason = "checked here, and obeyed by the service")]
struct Cron(String);

impl TryFrom<String> for Cron {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const FIELDS: [(&str, u8, u8, &[&str]); 5] = [
            ("minute", 0, 59, &[]),
            ("hour", 0, 23, &[]),
            ("day of the month", 1, 31, &[]),
            (
                "month",
                1,
                12,
                &[
                    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov",
                    "dec",
                ],
            ),
            (
                "day of the week",
                0,
                7,
                &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
            ),
        ];
        let given: Vec<_> = text.split_whitespace().collect();
        if given.len() != FIELDS.len() {
            return Err(format!(
                "{text:?} is not a schedule: it has five fields, minute, hour, day of the month, month and day of the week"
            ));
        }
        for (field, (name, least, most, names)) in given.iter().zip(FIELDS) {
            let value = |text: &str| {
                let lower = text.to_ascii_lowercase();
                if names.contains(&&*lower) {
                    return true;
                }
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                digits
                    && text
                        .parse::<u8>()
                        .is_ok_and(|number| (least..=most).contains(&number))
            };
            let step = |text: &str| {
                text.parse::<u8>()
                    .is_ok_and(|step| (1..=most).contains(&step))
            };
            let part = |part: &str| {
                let (range, steps) = match part.split_once('/') {
                    Some((range, steps)) => (range, step(steps)),
                    None => (part, true),
                };
                let range = match range.split_once('-') {
                    Some((from, to)) => value(from) && value(to),
                    None => range == "*" || value(range),
                };
                range && steps
            };
            if !field.split(',').all(part) {
                return Err(format!(
                    "{text:?} is not a schedule: {field:?} is not a {name}"
                ));
            }
        }
        Ok(Self(text))
    }
}

/// Where a run is reported to.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
#[expect(dead_code, reason = "checked here, and obeyed by the service")]
struct Hook(Url);

impl TryFrom<String> for Hook {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        // It may hold a secret, so it is not quoted.
        let url = Url::parse(&text).map_err(|_| "`url` is not a URL")?;
        let loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::from(address).to_canonical().is_loopback(),
            None => false,
        };
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if loopback => Ok(Self(url)),
            _ => Err("`url` must be https, or http on loopback"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_and_hooks_are_checked() {
        for cron in [
            "0 2 * * *",
            "*/15 0-6,22 1 jan,JUL mon-fri",
            "59 23 31 12 7",
        ] {
            assert!(Cron::try_from(cron.to_owned()).is_ok(), "{cron}");
        }
        for cron in [
            "",
            "@daily",
            "0 2 * *",
            "60 2 * * *",
            "0 2 0 * *",
            "*/0 2 * * *",
            "0 2 * * x",
            "0- 2 * * *",
        ] {
            assert!(Cron::try_from(cron.to_owned()).is_err(), "{cron}");
        }
        for (url, fits) in [
            ("https://a.test/x", true),
            ("http://127.0.0.1:1/x", true),
            ("http://[::1]/", true),
            ("http://localhost/", true),
            ("http://a.test/x", false),
            ("ftp://a.test", false),
            ("x", false),
        ] {
            assert_eq!(Hook::try_from(url.to_owned()).is_ok(), fits, "{url}");
        }
    }
}
