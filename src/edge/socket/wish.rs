//! What a token read asks for beside the token: the query `min_ttl=300&wait=30` (contract §3).

use crate::lifecycle::{Code, Refusal};
use std::time::Duration;

/// The parameters of a token read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// How long the token must live yet.
    pub(super) min_ttl: Duration,
    /// How long to wait for one that does.
    pub(super) wait: Duration,
}

impl Wish {
    /// Reads the query. Takes no memory for well-formed ones; unknown parameters are ignored.
    ///
    /// # Errors
    /// `invalid_request` for parameters that are repeated, malformed or out of range.
    pub(super) fn parse(query: &str) -> Result<Self, Refusal> {
        let (mut min_ttl, mut wait) = (None, None);
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let (place, longest) = match &*key {
                "min_ttl" => (&mut min_ttl, LONGEST_MIN_TTL),
                "wait" => (&mut wait, LONGEST_WAIT),
                _ => continue,
            };
            let seconds = seconds(&value, longest)?;
            if place.replace(seconds).is_some() {
                return Err(Refusal::new(Code::InvalidRequest, "a parameter is repeated"));
            }
        }
        Ok(Self { min_ttl: min_ttl.unwrap_or_default(), wait: wait.unwrap_or_default() })
    }
}

/// Digits only: `u64::from_str` would take a sign.
fn seconds(value: &str, longest: Duration) -> Result<Duration, Refusal> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = if digits { value.parse().ok().map(Duration::from_secs) } else { None };
    seconds.filter(|seconds| *seconds <= longest).ok_or_else(|| {
        Refusal::new(Code::InvalidRequest, "min_ttl and wait are whole seconds, and wait is at most 60")
    })
}

const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// No token lives longer: 136 years.
const LONGEST_MIN_TTL: Duration = Duration::from_secs(u32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::Wish;
    use crate::lifecycle::Code;
    use std::time::Duration;

    #[test]
    fn both_parameters_are_optional_and_unknown_ones_ignored() {
        let wish =
            |min_ttl, wait| Wish { min_ttl: Duration::from_secs(min_ttl), wait: Duration::from_secs(wait) };
        for (query, expected) in [
            ("", wish(0, 0)),
            ("min_ttl=300", wish(300, 0)),
            ("wait=60&min_ttl=0", wish(0, 60)),
            ("x=1&x=2&wait=007&y", wish(0, 7)),
            ("min_ttl=4294967295", wish(4_294_967_295, 0)),
        ] {
            assert_eq!(Wish::parse(query).unwrap(), expected, "{query}");
        }
    }

    #[test]
    fn repeated_malformed_and_excessive_parameters_are_refused() {
        for query in [
            "wait=1&wait=1",
            "min_ttl=1&x=2&min_ttl=3",
            "wait=61",
            "min_ttl=4294967296",
            "min_ttl=99999999999999999999999",
            "wait=",
            "wait",
            "wait=-1",
            "wait=+1",
            "wait=%2B1",
            "wait=1.5",
            "wait=30s",
            "min_ttl=0x10",
            "min_ttl= 1",
            "w%61it=61",
        ] {
            assert_eq!(Wish::parse(query).unwrap_err().code, Code::InvalidRequest, "{query}");
        }
    }
}
