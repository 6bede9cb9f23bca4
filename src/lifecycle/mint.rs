//! Minting: access tokens without a refresh token of ours, for machines and from brokers.
//!
//! A mint travels as a refresh does: claim, intent, request, seal, and only then the meaning of its answer. But it is repeatable:
//! a lost answer costs nothing and is never in doubt. What is minted is never written to the store, and no refresh token that
//! comes along is kept.

use super::life::{Kind, Life, Retry, Spend};
use super::machine::Integration;
use super::outcome::Issued;
use super::{Asker, Doubted, Effect, Op, Origin, Standing, policy};
use crate::time::Timestamp;
use std::time::Duration;

impl Integration {
    /// Whether there is something to ask the provider for new tokens with.
    #[must_use]
    pub fn can_refresh(&self) -> bool {
        let grant = self.grant.as_ref();
        match self.terms.origin {
            Origin::Machine => true,
            Origin::Broker => grant.is_some_and(|grant| grant.connected_account.is_some()),
            Origin::Consent | Origin::Key => grant.is_some_and(|grant| grant.refresh_token.is_some()),
        }
    }

    /// Whether a lease is missing that new tokens would bring.
    pub(super) fn wants_a_lease(&self) -> bool {
        self.grant.as_ref().is_none_or(|grant| grant.expires_at.is_some())
    }

    /// When a lease that lives from `from` to `until` is followed by the next.
    pub(super) fn planned(&self, from: Timestamp, until: Timestamp) -> Timestamp {
        if self.terms.origin == Origin::Broker {
            // The broker has refreshed by then; a short life is used for half of it.
            return until.minus(BEFORE_END.min(until.since(from) / 2));
        }
        policy::refresh_at(from, until, self.terms.refresh_at_permille, self.seed)
    }

    /// An operator wants a grant that needs no person to work: the one way out of its revocation.
    pub(super) fn enable(&mut self, now: Timestamp) {
        if self.terms.origin != Origin::Machine || self.flight.is_some() {
            return;
        }
        let rests = match &self.life {
            Life::Revoked(ending) => ending.stage.is_resting(),
            Life::Unconnected(_) => true,
            Life::Restoring(_) | Life::Connected | Life::NeedsReauth => false,
        };
        if !rests {
            return self.rotation_asked(Asker::Operator, now);
        }
        self.mark.standing = Standing::Normal;
        self.await_mint(now);
        (self.retry, self.debt) = (None, None);
        self.note("enabled", "");
        // Durable before anything is minted.
        self.tidy();
    }

    /// Without a person, without the store: a first token is fetched by itself.
    pub(super) fn await_mint(&mut self, now: Timestamp) {
        (self.life, self.unread) = (Life::Connected, false);
        // Many may start at once.
        let spread = Duration::from_millis(self.seed % 1500);
        self.retry = Some(Retry { at: now.plus(spread), attempts: 0 });
    }

    /// What a crash left of a mint says nothing about the next one.
    pub(super) fn forget_mints(&self, doubt: &mut Option<Doubted>, refused: &mut Option<u64>) {
        if self.terms.origin.is_repeatable() {
            *doubt = None;
        }
        if !self.terms.origin.keeps_record() {
            *refused = None;
        }
    }

    pub(super) fn push_mint(&mut self, op: Op) {
        let connected_account = self.grant.as_ref().and_then(|grant| grant.connected_account.clone());
        self.out.push(Effect::Mint { op, connected_account });
    }

    /// Nobody can say what became of it: in doubt, unless it can be asked again.
    pub(super) fn unanswered(&mut self, asked: Doubted, cause: &'static str, now: Timestamp) {
        if self.terms.origin.is_repeatable() {
            self.back_off(Kind::Spending, cause, None, now);
        } else {
            self.fail(Kind::Spending, cause, now);
            self.doubtful(asked, now);
        }
        self.tidy();
    }

    /// A token that was handed out before, and is due again at once, must not be asked for in a spin.
    pub(super) fn space_mints(&mut self, now: Timestamp) {
        let due = self.served.and_then(|served| Some(self.planned(served.from, served.until?)));
        if self.terms.origin.is_repeatable() && due.is_some_and(|due| due <= now) {
            self.retry = Some(Retry { at: now.plus(AGAIN), attempts: 0 });
        }
    }

    pub(super) const fn kind_of(&self, spend: &Spend) -> &'static str {
        match spend {
            Spend::Refresh(_) if self.terms.origin.is_repeatable() => "mint",
            Spend::Refresh(_) => "refresh",
            Spend::Exchange(_) => "exchange",
            Spend::Import(_) => "import",
        }
    }
}

/// A machine has no use for a refresh token, and a broker's stays with the broker.
pub(super) fn without_refresh_token(origin: Origin, issued: Issued) -> Issued {
    if origin.is_repeatable() { Issued { refresh_token: None, ..issued } } else { issued }
}

/// How long before its end a broker's token is fetched again.
const BEFORE_END: Duration = Duration::from_secs(60);
/// The least between two mints that bring nothing new.
const AGAIN: Duration = Duration::from_secs(10);
