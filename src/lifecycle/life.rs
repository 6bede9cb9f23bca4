//! What the machine remembers about one integration: its life, the spend in flight, the write under way.
//!
//! Plain data. Which of it leads where is in `machine.rs` and its neighbours.

use super::debt::Tokens;
use super::outcome::Issued;
use super::{Doubted, Exchange, Op, Record, Revocation, Sealed};
use crate::time::Timestamp;
use std::sync::Arc;

/// How a grant stands.
#[derive(Debug)]
pub(super) enum Life {
    /// The store was not read yet.
    Restoring(Restoring),
    /// There is no grant; the text says what is in the way, if something is.
    Unconnected(Option<String>),
    /// There is a grant.
    Connected,
    /// The provider refused the refresh token.
    NeedsReauth,
    /// An operator ended it.
    Revoked(Ending),
}

/// A step that is either under way or waits for its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Under way.
    Busy(Op),
    /// Waits.
    Until(Timestamp),
}

/// Reading the store at start.
#[derive(Debug)]
pub(super) struct Restoring {
    /// `None` before the first event.
    pub(super) step: Option<Step>,
    /// Failed reads so far.
    pub(super) attempts: u32,
    /// The generation whose refresh token the provider has refused already.
    pub(super) refused: Option<u64>,
}

/// What is being spent.
#[derive(Clone, Debug)]
pub(super) enum Spend {
    /// The newest refresh token: what is in doubt if the answer is lost.
    Refresh(Doubted),
    /// An authorization code.
    Exchange(Arc<Exchange>),
    /// What an operator brought.
    Import(Import),
}

/// What an operator brought, as it is sealed.
#[derive(Clone, Debug)]
pub(super) struct Import {
    pub(super) sealed: Arc<Sealed>,
    /// Tries so far; nobody waits for any but the first.
    pub(super) attempts: u32,
}

/// The one spend that is in flight, from the claim to the scrubbed slot (invariant 1).
#[derive(Debug)]
pub(super) enum Flight {
    /// Asking for the right to spend.
    Claiming(Op, Spend),
    /// Making the intent durable.
    Intending(Op, Spend),
    /// Making durable what an operator brought, before it is spent.
    Importing(Op, Import),
    /// What an operator brought before a crash could not be sent: again then.
    Holding(Timestamp, Import),
    /// At the provider.
    Spending(Op, Spend),
    /// Making the answer durable. If it answers a refresh token: what is in doubt if it cannot be read.
    Sealing(Op, Arc<Sealed>, Option<Doubted>),
    /// The provider says "invalid grant": reading the store for a newer generation.
    Rereading(Step, u32),
    /// Trying a fresh token of a consent.
    Verifying(Step, Fresh),
    /// Making it durable that a consent is accepted.
    Accepting(Op, Box<Accepted>),
    /// Making it durable that the grant is good again, before it is served.
    Reviving(Op, Box<Accepted>),
    /// Giving back at the provider what was not accepted.
    Rejecting(Op),
    /// Scrubbing the slot; the last step.
    Tidying(Op),
}

/// What a consent brought, until it is known whether it is accepted.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) sealed: Arc<Sealed>,
    pub(super) issued: Box<Issued>,
    pub(super) durable: bool,
    pub(super) attempts: u32,
}

/// A record that is good and not published yet.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) record: Arc<Record>,
    pub(super) sealed: Arc<Sealed>,
    pub(super) durable: bool,
    pub(super) tell: bool,
}

/// A record that the store does not hold yet.
#[derive(Debug)]
pub(super) struct Unstored {
    pub(super) record: Arc<Record>,
    pub(super) sealed: Arc<Sealed>,
    pub(super) since: Timestamp,
    pub(super) attempts: u32,
    pub(super) phase: Phase,
    /// Whether someone waits to hear of it.
    pub(super) tell: bool,
    /// Whether the slot holds it. If not, it is published only once it is stored (invariant 3).
    pub(super) durable: bool,
}

impl Unstored {
    /// Whether the store has acknowledged it, and only the mark is behind.
    pub(super) const fn is_stored(&self) -> bool {
        matches!(self.phase, Phase::Marking(_) | Phase::Ended(Written::Current | Written::Beside))
    }
}

/// Where a write stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The write is under way.
    Writing,
    /// The write of the generation before it is still under way, and this one follows.
    Behind,
    /// The write has ended, and what follows waits for the spend that was begun meanwhile.
    Ended(Written),
    /// The write is repeated at this time, with the same bytes.
    Waiting(Timestamp),
    /// The write id holds other bytes: reading the store for the generation to take.
    Reading(Op),
    /// Sealing again under another generation, or because a later spend took the slot.
    Resealing(Op),
    /// Stored; the mark is being moved and the slot scrubbed.
    Marking(Op),
}

/// A write to the store that is under way, whatever became of its record meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Writing {
    pub(super) op: Op,
    pub(super) generation: u64,
    pub(super) since: Timestamp,
    /// A write of the daemon that ran before: no end of it comes, and it cannot be on its way after this time.
    pub(super) until: Option<Timestamp>,
}

/// How a write ended that needs no repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is the current value.
    Current,
    /// It stands beside somebody else's value.
    Beside,
    /// Its id holds other bytes.
    Taken,
}

/// A spend in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) facts: Doubted,
    /// When it is presented again; `None`: not while the lease lives, which has no end.
    pub(super) at: Option<Timestamp>,
}

/// A failed try and the time of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) at: Timestamp,
    pub(super) attempts: u32,
}

/// What is wrong, since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) cause: &'static str,
    pub(super) since: Timestamp,
    pub(super) kind: Kind,
}

/// Which part of the work has the trouble; it goes when that part works again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The provider.
    Spending,
    /// The provider rejects our client.
    Client,
    /// The store.
    Storing,
    /// The store's current value is somebody else's.
    Foreign,
    /// The disk.
    Sealing,
    /// The store keeps few more versions today.
    Budget,
}

/// The lease that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) from: Timestamp,
    pub(super) until: Option<Timestamp>,
}

/// How far a revocation got.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) stage: Stage,
    pub(super) upstream: Option<Revocation>,
    pub(super) attempts: u32,
    pub(super) tombstone: Tombstone,
    /// Tokens of consents that nobody had decided on: the provider is told of them as well.
    pub(super) late: Vec<Tokens>,
    /// What the provider is being told of, and what it did not answer to.
    pub(super) asked: Option<Tokens>,
    pub(super) silent: Vec<Tokens>,
    /// Whether the provider was told of the grant itself.
    pub(super) told: bool,
    /// The cleared record, once it was sent: repeated with the same bytes.
    pub(super) cleared: Option<Arc<Record>>,
    /// Whether nothing is to be left of it, and whether the cleared record is stored already.
    pub(super) deletes: bool,
    pub(super) emptied: bool,
}

/// Whether a revocation would survive a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tombstone {
    /// It is durable.
    Durable,
    /// The disk did not take it.
    Missing,
    /// An older mark was being written when it was: it is written once more after that.
    Racing,
}

/// The steps of a revocation, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Making the tombstone durable.
    Marking(Op),
    /// Waits for the spend or the write that is in flight.
    Waiting,
    /// Reading the store for the tokens to revoke.
    Loading(Op),
    /// Telling the provider.
    Telling(Op),
    /// It did not answer: sealing what it must still be told of.
    Owing(Op),
    /// Clearing the record.
    Clearing(Op),
    /// The record's write id was taken: reading for the generation to take.
    Reading(Op),
    /// Deleting what holds it.
    Deleting(Op),
    /// Trying again then.
    Until(Timestamp),
    /// Making it durable that the ending is done.
    Finishing(Op),
    /// Done.
    Over,
}

impl Step {
    pub(super) const fn until(self) -> Option<Timestamp> {
        match self {
            Self::Until(at) => Some(at),
            Self::Busy(_) => None,
        }
    }

    pub(super) const fn op(self) -> Option<Op> {
        match self {
            Self::Busy(op) => Some(op),
            Self::Until(_) => None,
        }
    }
}

impl Spend {
    /// Whether somebody waits for its end.
    pub(super) fn is_awaited(&self) -> bool {
        match self {
            Self::Refresh(_) => false,
            Self::Exchange(exchange) => exchange.pace.is_none(),
            Self::Import(import) => import.attempts == 0,
        }
    }
}

impl Flight {
    pub(super) const fn op(&self) -> Option<Op> {
        match self {
            Self::Claiming(op, _)
            | Self::Intending(op, _)
            | Self::Spending(op, _)
            | Self::Importing(op, _)
            | Self::Sealing(op, ..)
            | Self::Accepting(op, _)
            | Self::Reviving(op, _)
            | Self::Rejecting(op)
            | Self::Tidying(op) => Some(*op),
            Self::Rereading(step, _) | Self::Verifying(step, _) => step.op(),
            Self::Holding(..) => None,
        }
    }

    pub(super) const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Rereading(step, _) | Self::Verifying(step, _) => step.until(),
            Self::Holding(at, _) => Some(*at),
            Self::Claiming(..)
            | Self::Importing(..)
            | Self::Intending(..)
            | Self::Spending(..)
            | Self::Sealing(..)
            | Self::Accepting(..)
            | Self::Reviving(..)
            | Self::Rejecting(_)
            | Self::Tidying(_) => None,
        }
    }
}

impl Phase {
    pub(super) const fn op(self) -> Option<Op> {
        match self {
            Self::Reading(op) | Self::Resealing(op) | Self::Marking(op) => Some(op),
            Self::Writing | Self::Behind | Self::Ended(_) | Self::Waiting(_) => None,
        }
    }

    pub(super) const fn until(self) -> Option<Timestamp> {
        match self {
            Self::Waiting(at) => Some(at),
            Self::Writing
            | Self::Behind
            | Self::Ended(_)
            | Self::Reading(_)
            | Self::Resealing(_)
            | Self::Marking(_) => None,
        }
    }
}

impl Stage {
    pub(super) const fn op(self) -> Option<Op> {
        match self {
            Self::Marking(op)
            | Self::Loading(op)
            | Self::Telling(op)
            | Self::Owing(op)
            | Self::Clearing(op)
            | Self::Reading(op)
            | Self::Deleting(op)
            | Self::Finishing(op) => Some(op),
            Self::Waiting | Self::Until(_) | Self::Over => None,
        }
    }

    pub(super) const fn until(self) -> Option<Timestamp> {
        match self {
            Self::Until(at) => Some(at),
            Self::Marking(_)
            | Self::Waiting
            | Self::Loading(_)
            | Self::Telling(_)
            | Self::Owing(_)
            | Self::Clearing(_)
            | Self::Reading(_)
            | Self::Deleting(_)
            | Self::Finishing(_)
            | Self::Over => None,
        }
    }

    pub(super) fn is_due(self, now: Timestamp) -> bool {
        self.until().is_some_and(|at| at <= now)
    }

    pub(super) const fn is_resting(self) -> bool {
        matches!(self, Self::Until(_) | Self::Over)
    }
}
