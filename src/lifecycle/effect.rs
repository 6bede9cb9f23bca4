//! What an integration wants done. Effects are imperative; the engine hands them to the edges in order.

use super::{Account, Code, Exchange, IntegrationId, Intent, Mark, Record, Sealed};
use crate::secret::{AccessToken, RefreshToken};
use crate::time::Timestamp;
use std::sync::Arc;

/// Names one operation, so that a late completion can be told from the one that is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Op(pub u64);

/// What one event leads to, in the order in which it must be begun.
pub type Effects = Vec<Effect>;

/// Something to be done for one integration. Those with an `op` end in an `Event::Done`.
#[derive(Debug)]
pub enum Effect {
    /// Ask for the right to spend `generation`. Ends: `Claimed`, `ClaimRefused`.
    Claim {
        /// The operation.
        op: Op,
        /// The generation to be spent.
        generation: u64,
    },
    /// Give the right to spend back; the newest generation is `generation`.
    Release {
        /// The newest generation.
        generation: u64,
    },
    /// Make the intent durable. Ends: `Intended`, `IntentFailed`.
    Intend {
        /// The operation.
        op: Op,
        /// What is about to be spent.
        intent: Intent,
    },
    /// Exchange the code. Ends: `Answered`.
    Exchange {
        /// The operation.
        op: Op,
        /// The code and what its flow froze.
        exchange: Arc<Exchange>,
    },
    /// Present the refresh token. Ends: `Answered`.
    Refresh {
        /// The operation.
        op: Op,
        /// The token to present.
        token: RefreshToken,
    },
    /// Ask for an access token without a refresh token: as a machine, or of a broker. Repeatable. Ends: `Answered`.
    Mint {
        /// The operation.
        op: Op,
        /// The broker's name for the connected account, where there is a broker.
        connected_account: Option<String>,
    },
    /// Make the raw answer durable, before anything looks into it. Ends: `Sealed`, `SealFailed`.
    Seal {
        /// The operation.
        op: Op,
        /// The answer and its context.
        sealed: Arc<Sealed>,
    },
    /// Try the token at the provider and ask whom it belongs to. Ends: `Tried`.
    Try {
        /// The operation.
        op: Op,
        /// The token to try.
        token: AccessToken,
    },
    /// Serve this lease from now on, instead of any before it.
    Publish(Lease),
    /// Serve nothing from now on.
    Withdraw,
    /// Write the record. Ends: `Stored`, `StoredBeside`, `IdTaken`, `StoreFailed`.
    Store {
        /// The operation.
        op: Op,
        /// The record; its generation names the write.
        record: Arc<Record>,
    },
    /// Write the cleared record, twice, so that `AWSPREVIOUS` is clear as well. Ends as `Store`.
    Clear {
        /// The operation.
        op: Op,
        /// The cleared record; the second write takes the next generation.
        record: Arc<Record>,
    },
    /// Delete what holds the cleared record, as far as the operator allows. Repeatable. Ends: `Deleted`, `StoreFailed`.
    Delete {
        /// The operation.
        op: Op,
    },
    /// Read the newest record. Ends: `Loaded`, `LoadFailed`.
    Load {
        /// The operation.
        op: Op,
    },
    /// Make the mark durable, then do with the slot as told. Ends: `Marked`, `MarkFailed`.
    Mark {
        /// The operation.
        op: Op,
        /// The mark.
        mark: Mark,
        /// What becomes of the slot.
        slot: SlotFate,
    },
    /// Keep a copy of an answer that holds tokens perhaps, and cannot be read. Waited for by nobody: the answer stays sealed in
    /// its slot meanwhile.
    Quarantine(Arc<Sealed>),
    /// Tell the provider that the grant ends (RFC 7009), within 10 s. Ends: `UpstreamRevoked`.
    RevokeUpstream {
        /// The operation.
        op: Op,
        /// The newest refresh token, if there is one.
        refresh_token: Option<RefreshToken>,
        /// The newest access token, if there is one.
        access_token: Option<AccessToken>,
        /// The broker's name for the connected account, where there is a broker.
        connected_account: Option<String>,
    },
    /// Leave a line in the audit trail.
    Audit(Entry),
    /// Tell whoever waits for a consent how it ended.
    Tell(ConsentEnd),
}

/// What becomes of a slot when a mark is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotFate {
    /// It stays.
    Kept,
    /// All of it is overwritten, but for the answers of these generations: the store does not hold them yet.
    Spared(Vec<u64>),
    /// It is overwritten and free again.
    Scrubbed,
}

/// An access token that may be served until it ends.
#[derive(Debug)]
pub struct Lease {
    /// Whose it is.
    pub integration: IntegrationId,
    /// The token.
    pub token: AccessToken,
    /// As the provider spells it, usually `Bearer`.
    pub token_type: String,
    /// When it ends; `None` if it does not.
    pub expires_at: Option<Timestamp>,
    /// The scopes granted.
    pub scope: Option<String>,
    /// The generation it came with.
    pub generation: u64,
    /// Counts the leases since the start, from 1: tells an answer about this token from one about another.
    pub issue: u64,
}

/// How a consent ended, for the person who waits on the landing page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsentEnd {
    /// The grant is good and its record is in the store.
    Stored {
        /// Who authorized it.
        account: Account,
    },
    /// The grant is good and sealed on disk; the store has not taken it yet.
    Sealed {
        /// Who authorized it.
        account: Account,
        /// Why the store has not.
        why: &'static str,
    },
    /// The grant is good as far as it is known, sealed on disk, and not served until the provider says whose it is.
    Unverified,
    /// The grant was refused.
    Refused {
        /// The stable code.
        code: Code,
        /// What happened, for a person.
        detail: String,
    },
}

/// One line of the audit trail: one transition, never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What happened, as a stable word such as `refreshed`.
    pub what: &'static str,
    /// The life before.
    pub from: &'static str,
    /// The life after.
    pub to: &'static str,
    /// Why, as a stable word; empty if there is nothing to say.
    pub cause: &'static str,
    /// The generation after it.
    pub generation: u64,
}
