//! Logs: JSON under systemd or a pipe, text on a terminal; always on stderr.
//!
//! Crates that would write bytes of requests at TRACE are kept at WARN whatever the filter says: no secret reaches a log
//! (invariant 10).

use std::io::IsTerminal as _;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The filter is not one that `tracing` understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a log filter: write a level such as \"info\", or directives such as \"info,grantd=debug\""
)]
pub struct NotAFilter(pub String);

/// Whether logs are text for a person, or JSON.
#[must_use]
pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Checks a filter.
///
/// # Errors
/// [`NotAFilter`].
pub fn check_filter(filter: &str) -> Result<(), NotAFilter> {
    EnvFilter::try_new(filter).map(drop).map_err(|_parse| NotAFilter(filter.into()))
}

/// Begins to log. `RUST_LOG`, if set, goes before the configured filter.
///
/// # Errors
/// [`NotAFilter`]. A second call changes nothing.
pub fn begin(filter: &str) -> Result<(), NotAFilter> {
    #[expect(clippy::disallowed_methods, reason = "the logging edge owns this variable")]
    let chosen = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let chosen = chosen.as_deref().unwrap_or(filter);
    let filter = EnvFilter::try_new(chosen).map_err(|_parse| NotAFilter(chosen.into()))?;
    // A second filter that no directive reaches: the first one's most specific directive wins, whatever it lets through.
    let quiet = filter_fn(|what| is_quiet(what.target(), *what.level()));
    let registry = tracing_subscriber::registry().with(filter).with(quiet);
    let _already_begun = if is_terminal() {
        registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr)).try_init()
    } else {
        registry
            .with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr))
            .try_init()
    };
    Ok(())
}

/// Whether a target may say something at a level: those that would write bytes of requests at WARN and above only.
fn is_quiet(target: &str, level: Level) -> bool {
    let name = target.split("::").next().unwrap_or(target);
    level <= Level::WARN || !CHATTY.contains(&name)
}

/// Crates whose lower levels show requests, answers or credentials.
const CHATTY: &[&str] = &[
    "aws_config",
    "aws_runtime",
    "aws_sdk_secretsmanager",
    "aws_sdk_sts",
    "aws_sigv4",
    "aws_smithy_http",
    "aws_smithy_http_client",
    "aws_smithy_runtime",
    "aws_smithy_runtime_api",
    "h2",
    "hyper",
    "hyper_util",
    "oauth2",
    "reqwest",
    "rustls",
    "tower",
];

#[cfg(test)]
mod tests {
    use super::is_quiet;
    use tracing::Level;

    #[test]
    fn crates_that_would_write_requests_are_kept_quiet_whatever_was_asked_for() {
        for target in ["aws_smithy_runtime::client::orchestrator", "hyper::proto::h1", "rustls"] {
            assert!(!is_quiet(target, Level::TRACE) && !is_quiet(target, Level::INFO), "{target}");
            assert!(is_quiet(target, Level::WARN) && is_quiet(target, Level::ERROR), "{target}");
        }
        assert!(is_quiet("grantd::engine::run", Level::TRACE));
    }
}
