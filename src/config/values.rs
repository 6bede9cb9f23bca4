//! Texts that mean something: durations, schedules, rotation, endpoints.

use crate::lifecycle::Rotation;
use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds};
use std::time::Duration;
use url::{Host, Url};

/// A cron schedule of six fields, seconds first, in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(String);

impl Schedule {
    /// Reads a schedule, just as the scheduler will.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parser().parse(text).ok().map(|_cron| Self(text.to_owned()))
    }

    /// The expression.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The next firings after `now`, at most `count`.
    #[must_use]
    pub fn next(&self, now: crate::time::Timestamp, count: usize) -> Vec<crate::time::Timestamp> {
        let Ok(cron) = parser().parse(&self.0) else { return Vec::new() };
        let Some(now) = DateTime::<Utc>::from_timestamp(now.millis().div_euclid(1000), 0) else {
            return Vec::new();
        };
        let firings = cron.iter_after(now).take(count);
        firings.map(|at| crate::time::Timestamp::from_millis(at.timestamp_millis())).collect()
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build()
}

/// Reads `90s`, `5m`, `4h` or `30d`; `None` for anything else.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let number: u64 = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())??;
    Some(Duration::from_secs(number.checked_mul(factor)?))
}

/// `none`, `reuse-ok`, `grace 30s`, `strict`.
pub(super) fn rotation(text: &str) -> Option<Rotation> {
    match text {
        "none" => Some(Rotation::None),
        "reuse-ok" => Some(Rotation::ReuseOk),
        "strict" => Some(Rotation::Strict),
        other => other.strip_prefix("grace ").and_then(|window| duration(window.trim())).map(Rotation::Grace),
    }
}

/// Whether a URL may be used: https anywhere, http on loopback, no userinfo, no fragment.
pub(super) fn endpoint(url: &Url) -> Result<(), &'static str> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL must not carry a user name or a password");
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        "http" => Err("http is allowed on loopback only"),
        _ => Err("only https is allowed (http on loopback)"),
    }
}

/// Whether a URL's host is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Schedule, duration, rotation};
    use crate::lifecycle::Rotation;
    use crate::time::Timestamp;
    use std::time::Duration;

    #[test]
    fn durations_have_one_unit() {
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("30d"), Some(Duration::from_secs(30 * 86_400)));
        for bad in ["", "s", "5", "5 m", "-5m", "1.5h", "5ms", "99999999999999999999d", "é"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn rotation_is_read() {
        assert_eq!(rotation("grace 30s"), Some(Rotation::Grace(Duration::from_secs(30))));
        assert_eq!(rotation("strict"), Some(Rotation::Strict));
        assert_eq!(rotation("grace"), None);
    }

    #[test]
    fn schedules_have_seconds_and_say_when_they_fire() {
        assert_eq!(Schedule::parse("0 3 * * *"), None);
        let daily = Schedule::parse("0 0 3 * * *").unwrap();
        let now = Timestamp::parse("2026-11-24T12:00:00Z").unwrap();
        let next: Vec<_> = daily.next(now, 2).iter().map(ToString::to_string).collect();
        assert_eq!(next, ["2026-11-25T03:00:00Z", "2026-11-26T03:00:00Z"]);
    }
}
