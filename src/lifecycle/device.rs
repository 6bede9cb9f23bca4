//! The device flow (RFC 8628 §3.4, §3.5): asking the token endpoint again and again whether a person has entered the code.
//!
//! Each ask is a spend of its own, between which everything else goes on. An answer that only says "not yet" is told by its bytes
//! and dropped; any other is sealed before it is read, and goes on as a consent's does. Nobody waits for the end of it.

use super::life::{Flight, Kind, Spend};
use super::machine::Integration;
use super::{Answer, Exchange, Spent};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// A device code that waits to be entered at the provider.
#[derive(Debug)]
pub(super) struct Device {
    exchange: Arc<Exchange>,
    interval: Duration,
    pub(super) at: Timestamp,
    pub(super) until: Timestamp,
}

impl Integration {
    /// A device code was issued. It replaces one that waits.
    pub(super) fn device_begun(&mut self, exchange: Arc<Exchange>, now: Timestamp) {
        let Some(pace) = exchange.pace else { return };
        self.declined = None;
        self.note("device_begun", "");
        let (interval, until) = (pace.interval, pace.until);
        self.device = Some(Device { exchange, interval, at: now.plus(interval), until });
    }

    /// Asks once, if it is time; gives up when the code has ended.
    pub(super) fn poll(&mut self, now: Timestamp) {
        let Some(device) = &self.device else { return };
        if device.until <= now {
            self.device = None;
            return self.device_declined("expired_token");
        }
        if device.at <= now {
            let spend = Spend::Exchange(Arc::clone(&device.exchange));
            self.claim(spend);
        }
    }

    /// When the provider is asked next.
    pub(super) fn poll_due(&self) -> Option<Timestamp> {
        self.device.as_ref().map(|device| device.at.min(device.until))
    }

    pub(super) fn polled(&mut self, spend: &Spend, spent: Spent, now: Timestamp) {
        let slower = match &spent {
            Spent::Answered(answer) if says(answer, b"slow_down") => Some(Slower::ByFive),
            Spent::Answered(answer) if says(answer, b"authorization_pending") => Some(Slower::No),
            Spent::Answered(answer) if answer.status == 429 || answer.status >= 500 => Some(Slower::Twice),
            Spent::NotSent(_) | Spent::Lost(_) => Some(Slower::Twice),
            Spent::Answered(_) => None,
        };
        match (slower, spent) {
            (None, Spent::Answered(answer)) => {
                self.device = None;
                self.seal(spend, answer);
            }
            (slower, _) => self.poll_later(slower.unwrap_or(Slower::Twice), now),
        }
    }

    /// Nothing was sent; or nothing came of it yet.
    pub(super) fn poll_later(&mut self, slower: Slower, now: Timestamp) {
        if let Some(device) = &mut self.device {
            device.interval = match slower {
                Slower::No => device.interval,
                // RFC 8628 §3.5: from now on.
                Slower::ByFive => device.interval + Duration::from_secs(5),
                Slower::Twice => (device.interval * 2).min(SLOWEST.max(device.interval)),
            };
            device.at = now.plus(device.interval);
        }
        self.release();
    }

    pub(super) fn poll_not_begun(&mut self, kind: Kind, cause: &'static str, now: Timestamp) {
        self.fail(kind, cause, now);
        self.poll_later(Slower::Twice, now);
    }

    /// What became of it, for whoever looks.
    pub(super) fn device_declined(&mut self, cause: &'static str) {
        self.note("consent_failed", cause);
        self.declined = Some(cause);
    }

    /// What a person reads while a code waits, and after it came to nothing.
    pub(super) fn words_of_device(&self) -> Option<String> {
        if let Some(device) = &self.device {
            let until = device.until;
            return Some(format!(
                "never connected: a device code waits to be entered at the provider until {until}; a restart ends it"
            ));
        }
        let cause = self.declined?;
        Some(format!(
            "never connected: the last authorization came to nothing ({cause}); `grantd connect` begins again"
        ))
    }

    pub(super) fn set_device_back(&mut self, by: Duration) {
        if let Some(device) = &mut self.device {
            (device.at, device.until) = (device.at.minus(by), device.until.minus(by));
        }
    }
}

/// How much more slowly the provider is asked.
#[derive(Clone, Copy)]
pub(super) enum Slower {
    No,
    ByFive,
    Twice,
}

impl Spend {
    pub(super) fn is_poll(&self) -> bool {
        matches!(self, Self::Exchange(exchange) if exchange.pace.is_some())
    }
}

impl Flight {
    /// Whether this is but a look: the life goes on as before.
    pub(super) fn is_poll(&self) -> bool {
        match self {
            Self::Claiming(_, spend) | Self::Intending(_, spend) | Self::Spending(_, spend) => {
                spend.is_poll()
            }
            Self::Importing(..)
            | Self::Holding(..)
            | Self::Sealing(..)
            | Self::Rereading(..)
            | Self::Verifying(..)
            | Self::Accepting(..)
            | Self::Reviving(..)
            | Self::Rejecting(_)
            | Self::Tidying(_) => false,
        }
    }
}

/// Looked at as bytes, not parsed: an answer that may hold tokens is sealed before any parser sees it.
fn says(answer: &Answer, word: &[u8]) -> bool {
    let body = answer.body.expose_secret();
    let has = |word: &[u8]| body.windows(word.len()).any(|window| window == word);
    has(word) && !has(b"access_token") && body.len() <= SHORT
}

/// No refusal is longer.
const SHORT: usize = 4096;
const SLOWEST: Duration = Duration::from_secs(60);
