use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

/// The present time and the time zone of a page.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    pub(crate) now: Timestamp,
    pub(crate) zone: TimeZone,
}

impl Clock {
    /// Writes a moment: how far it is from now, then its date and time.
    pub(super) fn moment(&self, at: Timestamp) -> Markup {
        let seconds = self.now.as_second() - at.as_second();
        let distance = match (seconds.unsigned_abs(), seconds >= 0) {
            (0..60, true) => "just now".to_owned(),
            (0..60, false) => "in a moment".to_owned(),
            (apart, true) => format!("{} ago", span(apart)),
            (apart, false) => format!("in {}", span(apart)),
        };
        html! {
            time datetime=(at) { (distance) " " span.exact { (self.exact(at)) } }
        }
    }

    fn exact(&self, at: Timestamp) -> String {
        let at = at.to_zoned_datetime(self.zone.clone());
        let today = self.now.to_zoned_datetime(self.zone.clone()).date() == at.date();
        let format = if today {
            "%H:%M %Z"
        } else {
            "%Y-%m-%d %H:%M %Z"
        };
        at.strftime(format).to_string()
    }

    /// Writes a date and a time to the second.
    pub(super) fn precise(&self, at: Timestamp) -> Markup {
        let text = at
            .to_zoned_datetime(self.zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S %Z");
        html! { time datetime=(at) { (text.to_string()) } }
    }
}

/// Writes a time span in the largest unit that fits.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => {
            let (hours, minutes) = (seconds / 3600, seconds % 3600 / 60);
            if hours < 6 && minutes > 0 {
                format!("{hours} h {minutes} min")
            } else {
                format!("{hours} h")
            }
        }
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_as_people_tell_them() {
        let clock = Clock {
            now: "2026-11-30T06:00:00Z".parse().unwrap(),
            zone: TimeZone::get("Europe/Berlin").unwrap(),
        };
        for (at, text) in [
            ("2026-11-30T05:59:30Z", "just now 06:59 CET"),
            ("2026-11-30T06:00:30Z", "in a moment 07:00 CET"),
            ("2026-11-30T05:17:00Z", "43 min ago 06:17 CET"),
            ("2026-11-30T02:00:00Z", "4 h ago 03:00 CET"),
            ("2026-11-30T01:30:00Z", "4 h 30 min ago 02:30 CET"),
            ("2026-11-29T01:00:00Z", "29 h ago 2026-11-29 02:00 CET"),
            ("2026-07-01T00:00:00Z", "152 days ago 2026-07-01 02:00 CEST"),
            ("2026-12-01T01:00:00Z", "in 19 h 2026-12-01 02:00 CET"),
        ] {
            let written = clock.moment(at.parse().unwrap()).into_string();
            let plain = written
                .replace(&format!("<time datetime=\"{at}\">"), "")
                .replace("<span class=\"exact\">", "")
                .replace("</span></time>", "");
            assert_eq!(plain, text, "{at}");
        }
    }
}
