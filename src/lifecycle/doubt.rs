//! In doubt: a refresh token was presented, and nobody knows whether the provider consumed it (design §3, invariant 2).
//!
//! A doubt is settled by an answer that says so and by nothing else: neither by a refusal, nor by a restart, nor by another spend.
//! When the token may be presented again is the arithmetic of `policy.rs`.

use super::life::{Doubt, Kind, Retry, Spend};
use super::machine::Integration;
use super::spend::SELDOM;
use super::{Doubted, Mark, Sealed, policy};
use crate::time::Timestamp;
use std::time::Duration;

impl Integration {
    pub(super) fn back_off(
        &mut self,
        kind: Kind,
        cause: &'static str,
        wish: Option<Duration>,
        now: Timestamp,
    ) {
        self.fail(kind, cause, now);
        self.note("refresh_failed", cause);
        let attempts = self.retry.map_or(0, |retry| retry.attempts).saturating_add(1);
        let wait = policy::backoff(attempts, Duration::from_secs(1), SELDOM, self.seed);
        let wait = wish.map_or(wait, |wish| wish.clamp(wait, policy::HOUR));
        let at = now.plus(wait);
        self.retry = Some(Retry { at, attempts });
        // What was refused this time may have been consumed before.
        if let Some(doubt) = self.doubt {
            self.doubtful(doubt.facts, now);
        }
    }

    fn doubtful_now(&self, facts: Doubted) -> policy::Doubtful {
        policy::Doubtful {
            since: facts.since,
            attempts: facts.attempts,
            lease: self.served.map(|served| (served.from, served.until)),
            not_before: self.retry.map_or(Timestamp::EPOCH, |retry| retry.at),
        }
    }

    /// In doubt: the presented token may have been consumed (invariant 2).
    pub(super) fn doubtful(&mut self, facts: Doubted, now: Timestamp) {
        let at = policy::present_again(self.terms.rotation, &self.doubtful_now(facts), now, self.seed);
        self.doubt = Some(Doubt { facts, at });
        self.note("in_doubt", "");
        if self.trouble.is_none() {
            self.fail(Kind::Spending, "in_doubt", now);
        }
    }

    /// A slow disk may have outlasted the grace in which a token in doubt could be presented again.
    pub(super) fn may_spend(&self, spend: &Spend, now: Timestamp) -> bool {
        let in_time = match (spend, self.doubt) {
            (Spend::Refresh(_), Some(doubt)) => {
                policy::may_present(self.terms.rotation, &self.doubtful_now(doubt.facts), now)
            }
            (_, _) => true,
        };
        in_time && self.may_begin(spend)
    }

    pub(super) fn too_late(&mut self, now: Timestamp) {
        if let Some(doubt) = self.doubt {
            self.doubtful(doubt.facts, now);
        }
        self.tidy();
    }

    /// What is in doubt, whether or not the store has been read.
    pub(super) fn in_doubt(&self) -> Option<Doubted> {
        self.doubt.map(|doubt| doubt.facts).or(self.doubted)
    }

    /// The mark as it must stand on disk now.
    pub(super) fn marked(&self) -> Mark {
        Mark { doubt: self.in_doubt(), ..self.mark }
    }

    /// A presentation that a crash left in doubt, once the generation that was presented is the newest again.
    pub(super) fn take_up_doubt(&mut self, now: Timestamp) -> bool {
        let newest = self.newest_generation();
        let Some(facts) = self.doubted.take().filter(|doubted| doubted.generation == newest) else {
            return false;
        };
        self.doubtful(facts, now);
        true
    }
}

/// The presentation that an answer answers: it was begun one deadline before at the earliest.
pub(super) fn presentation_of(sealed: &Sealed) -> Doubted {
    Doubted {
        generation: sealed.generation.saturating_sub(1),
        since: sealed.answer.received_at.minus(REQUEST_DEADLINE),
        attempts: 1,
    }
}

/// The deadline of one request to a provider (design §3, step 8).
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
