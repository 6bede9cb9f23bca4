//! What may happen to an integration. Events are past tense; time comes beside them, never inside.

use super::{Account, ApiAnswer, Found, Op, Record, Sealed, Spent};
use crate::secret::{AuthCode, Imported, Nonce, PkceVerifier};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened to one integration.
#[derive(Debug)]
pub enum Event {
    /// The daemon started: this is what the spool holds. Always the first event.
    Restored(Found),
    /// The time that `Integration::deadline` named has come.
    DeadlineReached,
    /// The wall clock was set back by this much since the last event.
    ClockSetBack(Duration),
    /// Someone wants fresh tokens before they are due.
    RotationAsked {
        /// Who asks.
        by: Asker,
    },
    /// Someone wants to know whether the provider takes the token in use.
    ValidationAsked,
    /// An operator wants a grant that needs no person to work, also after a revocation.
    EnablingAsked,
    /// Someone wants the grant to end.
    RevocationAsked {
        /// Who asks.
        by: Asker,
    },
    /// Someone wants the grant to end and nothing of it to be left: afterwards it is as if it had never been connected.
    DeletionAsked,
    /// A person came back from the provider, and the callback was judged good.
    CodeReceived(Box<Exchange>),
    /// A provider's API answered an app that used our token. Ignored if the token was another one, or nothing changes by it.
    ApiAnswered {
        /// What it said.
        answer: ApiAnswer,
        /// The lease that was used (`Lease::issue`).
        issue: u64,
    },
    /// An operator brought a refresh token, or a key.
    Imported(Imported),
    /// A sealed answer from quarantine can be read now (`Integration::recovery`). Ignored if it was overtaken meanwhile.
    Recovered(Arc<Sealed>),
    /// An effect ended. Ignored if `op` is stale.
    Done {
        /// The operation that the effect carried.
        op: Op,
        /// How it ended.
        end: Completion,
    },
}

/// Who asks for something out of turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// An app whose `min_ttl` the lease does not meet. At most one refresh in 30 s comes of it.
    App,
    /// An operator.
    Operator,
    /// A cron schedule.
    Schedule,
}

/// An authorization code with what was frozen when its flow began.
#[derive(Debug)]
pub struct Exchange {
    /// The code.
    pub code: AuthCode,
    /// What the flow froze.
    pub frozen: Frozen,
    /// Whether another account than the present one may authorize.
    pub account: AccountChange,
    /// For a device code: how it is asked for. `None`: the code is exchanged once.
    pub pace: Option<Pace>,
}

/// How a token endpoint is asked whether a person has entered a device code (RFC 8628 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The least between two asks.
    pub interval: Duration,
    /// When the code ends.
    pub until: Timestamp,
}

/// Whether a consent may replace the account that authorized before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccountChange {
    /// It must be the same account.
    #[default]
    Refused,
    /// The person said that it may be another one.
    Allowed,
}

/// What a flow freezes when it begins, so that nothing that arrives later can redirect it.
#[derive(Debug)]
pub struct Frozen {
    /// Where the code will be exchanged.
    pub token_endpoint: String,
    /// The issuer, if known: compared with `iss` (RFC 9207 §2.4).
    pub issuer: Option<String>,
    /// Whether the server promised to send `iss` (RFC 9207 §3).
    pub issuer_promised: bool,
    /// The redirect URI of the request, repeated in the exchange.
    pub redirect_uri: String,
    /// The PKCE verifier, unless the provider breaks on it.
    pub verifier: Option<PkceVerifier>,
    /// The OIDC nonce, if `openid` was asked for.
    pub nonce: Option<Nonce>,
}

/// How an effect ended.
#[derive(Debug)]
pub enum Completion {
    /// The right to spend is ours.
    Claimed,
    /// Someone else has it, or nobody can say.
    ClaimRefused,
    /// The intent is durable.
    Intended,
    /// The intent could not be made durable: nothing was spent.
    IntentFailed(SpoolFault),
    /// The token endpoint answered, or did not.
    Answered(Spent),
    /// The raw answer is durable.
    Sealed,
    /// The raw answer could not be made durable.
    SealFailed(SpoolFault),
    /// The fresh token was tried at the provider.
    Tried(Trial),
    /// The write is acknowledged.
    Stored,
    /// The current value was written by someone else; ours is stored under the private label `GRANTD_NEXT`.
    StoredBeside,
    /// The write id holds other bytes.
    IdTaken,
    /// What was kept in the store is gone, as far as the operator allows.
    Deleted,
    /// The write, or the deletion, is not acknowledged; it may have been committed.
    StoreFailed(StoreFault),
    /// The store was read.
    Loaded(Loaded),
    /// The store could not be read.
    LoadFailed(StoreFault),
    /// The mark is durable, and the slot is scrubbed if that was asked.
    Marked,
    /// The mark could not be made durable.
    MarkFailed(SpoolFault),
    /// The provider was told that the grant ends.
    UpstreamRevoked(Revocation),
}

/// What a trial of a fresh token showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The provider takes the token; this is whom it says it belongs to.
    Valid(Account),
    /// The provider rejects the token it just gave.
    Invalid,
    /// The provider did not answer, or has nothing to try a token at.
    Silent,
}

/// What the store holds.
#[derive(Debug)]
pub enum Loaded {
    /// The integration's own record, newest generation.
    Record(Box<Record>),
    /// Nothing yet, or a placeholder that may be overwritten.
    Empty,
    /// Something that must not be used or overwritten; the text says what.
    Unusable(String),
}

/// Why the store refused, by what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// The role may not.
    Denied,
    /// Too many requests; later.
    Throttled,
    /// No answer.
    Unreachable,
    /// The secret has too many versions (`LimitExceededException`); it is no throttling.
    Quota,
    /// There is no such secret, and this mode may not make one.
    Missing,
    /// The key cannot be used.
    Key,
    /// The secret is marked for deletion.
    Deleted,
    /// Anything else.
    Other,
}

/// Why the spool could not keep something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolFault {
    /// The disk is full.
    Full,
    /// The disk refuses writes or syncs.
    Broken,
}

/// What the provider said to a revocation (RFC 7009).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// It answered yes.
    Confirmed,
    /// It answered no.
    Refused,
    /// It did not answer in time.
    Silent,
    /// It has no revocation endpoint.
    Unsupported,
    /// There was no token to revoke.
    Nothing,
}

impl StoreFault {
    /// A stable word for logs and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Throttled => "throttled",
            Self::Unreachable => "unreachable",
            Self::Quota => "quota",
            Self::Missing => "missing",
            Self::Key => "key",
            Self::Deleted => "deleted",
            Self::Other => "other",
        }
    }
}

impl SpoolFault {
    /// A stable word for logs and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Full => "disk_full",
            Self::Broken => "disk_broken",
        }
    }
}

impl Revocation {
    /// A stable word for answers, logs and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Unsupported => "unsupported",
            Self::Nothing => "nothing",
        }
    }
}
