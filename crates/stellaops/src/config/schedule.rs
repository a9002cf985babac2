//! When jobs run and where their ends are reported, as the configuration writes it. The service does both.

use std::fmt;
use std::net::IpAddr;

use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, de};
use url::{Host, Url};

use super::cron::Cron;
use super::secret::Secret;
use crate::window::{DailyWindow, Hours, Zone};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleConfig {
    pub(crate) cron: Cron,
    /// The zone of `cron` and `window`; by default the machine's.
    pub(crate) time_zone: Option<Zone>,
    /// The most seconds by which a run begins later, chosen anew for each run.
    #[serde(default, deserialize_with = "jitter")]
    pub(crate) jitter_seconds: u32,
    pub(crate) window: Option<Hours>,
}

impl ScheduleConfig {
    /// Returns the zone of the schedule.
    pub(crate) fn zone(&self) -> TimeZone {
        let zone = self.time_zone.as_ref();
        zone.map_or_else(TimeZone::system, |zone| zone.time_zone().clone())
    }

    /// Returns the time of day in which runs may speak to registries.
    pub(crate) fn window(&self) -> Option<DailyWindow> {
        Some(DailyWindow::new(self.window?, self.time_zone.clone()))
    }
}

/// When the target of a job is audited.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "AuditKeys")]
pub(crate) struct AuditConfig {
    pub(crate) schedule: ScheduleConfig,
    /// Whether what is missing or changed is sent again.
    pub(crate) repair: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditKeys {
    cron: Cron,
    time_zone: Option<Zone>,
    #[serde(default, deserialize_with = "jitter")]
    jitter_seconds: u32,
    window: Option<Hours>,
    #[serde(default)]
    repair: bool,
}

impl From<AuditKeys> for AuditConfig {
    fn from(keys: AuditKeys) -> Self {
        Self {
            schedule: ScheduleConfig {
                cron: keys.cron,
                time_zone: keys.time_zone,
                jitter_seconds: keys.jitter_seconds,
                window: keys.window,
            },
            repair: keys.repair,
        }
    }
}

/// Reads `jitter_seconds`, at most a day.
fn jitter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    const DAY: u32 = 24 * 60 * 60;
    let seconds = u32::deserialize(deserializer)?;
    if seconds > DAY {
        return Err(de::Error::custom(format!(
            "a jitter of {seconds} seconds is longer than a day"
        )));
    }
    Ok(seconds)
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NotifyConfig {
    pub(crate) url: Hook,
    /// The ends of runs that are reported.
    #[serde(deserialize_with = "some_ends")]
    pub(crate) on: Vec<RunEnd>,
    /// What deliveries are signed with.
    pub(crate) secret: Option<Secret>,
}

/// How a run can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RunEnd {
    Succeeded,
    Incomplete,
    Failed,
    Cancelled,
    Expired,
}

/// Reads the ends that are reported, of which there is at least one.
fn some_ends<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RunEnd>, D::Error> {
    let ends = Vec::deserialize(deserializer)?;
    if ends.is_empty() {
        return Err(de::Error::custom(
            "`on` has at least one end of a run, such as failed",
        ));
    }
    Ok(ends)
}

/// Where a run is reported to: a URL, or a secret that is one.
#[derive(Clone)]
pub(crate) enum Hook {
    Url(Url),
    Secret(Secret),
}

impl Hook {
    /// Returns the URL to send to. The error does not quote it, since it may hold a secret.
    pub(crate) fn resolved(&self) -> Result<Url, String> {
        match self {
            Self::Url(url) => Ok(url.clone()),
            Self::Secret(secret) => {
                let value = secret.read()?;
                let text = value.as_text().ok_or("`url` is not UTF-8 text")?;
                Ok(hook_url(text)?)
            }
        }
    }
}

/// The host only: paths and queries of hooks hold secrets.
impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(f, "Hook({}, ***)", url.host_str().unwrap_or_default()),
            Self::Secret(_) => f.write_str("Hook(***)"),
        }
    }
}

impl<'de> Deserialize<'de> for Hook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)
            .map_err(|_| de::Error::custom("`url` is not text"))?;
        if text.starts_with("env:") || text.starts_with("file:") {
            return Secret::parse(&text)
                .map(Self::Secret)
                .map_err(de::Error::custom);
        }
        hook_url(&text).map(Self::Url).map_err(de::Error::custom)
    }
}

fn hook_url(text: &str) -> Result<Url, &'static str> {
    // It may hold a secret, so it is not quoted.
    let url = Url::parse(text).map_err(|_| "`url` is not a URL")?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err("`url` must be https, or http on loopback"),
    }
}

/// Returns whether the host of a URL is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).to_canonical().is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_checked() {
        for (url, fits) in [
            ("https://a.test/x", true),
            ("http://127.0.0.1:1/x", true),
            ("http://[::1]/", true),
            ("http://localhost/", true),
            ("http://a.test/x", false),
            ("ftp://a.test", false),
            ("x", false),
        ] {
            assert_eq!(hook_url(url).is_ok(), fits, "{url}");
        }
    }
}
