//! What the transport knows after a spend: whether anything was sent, and the raw answer.
//!
//! An answer is opaque between the wire and `outcome.rs`: it is sealed as it came, before anything parses it.

use crate::secret::SecretBytes;
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// How a request to a token endpoint ended, as far as the transport can tell.
#[derive(Clone, Debug)]
pub enum Spent {
    /// No byte of the request was written: DNS, connect or TLS failed. Harmless.
    NotSent(WireFault),
    /// Bytes of the request went out and no answer came back, not even a status line.
    Lost(WireFault),
    /// A status line came back; the body is whole or cut.
    Answered(Arc<Answer>),
}

/// Why the transport failed. Names a class, never a peer's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFault {
    /// The name did not resolve.
    Dns,
    /// The connection was refused or timed out.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The deadline passed.
    Timeout,
    /// The connection broke.
    Reset,
    /// The address is not allowed (link-local, metadata).
    Forbidden,
    /// The request could not be made at all (configuration).
    Misconfigured,
}

impl WireFault {
    /// A stable word for logs and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Forbidden => "address_not_allowed",
            Self::Misconfigured => "misconfigured",
        }
    }
}

/// A token endpoint's answer as it came.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Whether the `Content-Type` says form encoding (GitHub without `Accept`).
    pub form_encoded: bool,
    /// `Retry-After`, if it came.
    pub retry_after: Option<Duration>,
    /// Whether the whole body arrived; a body over 256 KiB is cut.
    pub whole: bool,
    /// The body, at most 256 KiB.
    pub body: SecretBytes,
    /// When the last byte arrived.
    pub received_at: Timestamp,
}

impl Answer {
    /// The most of a body that is read, in bytes.
    pub const MAX_BODY: usize = 256 * 1024;

    /// The facts around the body, without the body.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { body: SecretBytes::new(Vec::new()), ..*self }
    }
}
