//! The start of an integration: what the spool holds first, then what the store holds.
//!
//! A sealed answer is enough to go on without the store. Without one, nothing is spent before the store was
//! read, and never a generation below the high-water mark.

use super::life::{Ending, Flight, Fresh, Kind, Life, Restoring, Retry, Stage, Step};
use super::machine::Integration;
use super::outcome::{Outcome, classify};
use super::{
    Completion, Effect, Found, Intent, Loaded, Mark, Purpose, Record, RecordStatus, Sealed, Slot, SlotFate,
    Standing, policy,
};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

impl Integration {
    pub(super) fn restore(&mut self, found: Found, now: Timestamp) {
        self.mark = found.mark;
        let refused = found.mark.standing == Standing::NeedsReauth;
        match (found.mark.standing, found.slot) {
            (Standing::Revoking, Slot::Answered(sealed)) => self.restore_ending(Some(&sealed)),
            (Standing::Revoking, Slot::Free | Slot::Intended(_)) => self.restore_ending(None),
            (Standing::Revoked, Slot::Answered(sealed)) if sealed.purpose == Purpose::Exchange => {
                self.life = Life::Revoked(Ending::over());
                self.resume(sealed, now);
            }
            (Standing::Revoked, _) => self.life = Life::Revoked(Ending::over()),
            (Standing::NeedsReauth | Standing::Normal, Slot::Answered(sealed)) => {
                let fresh = sealed.generation > self.mark.generation;
                if !refused || (fresh && sealed.purpose == Purpose::Exchange) {
                    self.resume(sealed, now);
                } else {
                    self.load(None, refused);
                }
            }
            (Standing::NeedsReauth | Standing::Normal, Slot::Intended(intent)) => {
                self.load(Some(intent), refused);
            }
            (Standing::NeedsReauth | Standing::Normal, Slot::Free) => self.load(None, refused),
        }
    }

    /// A sealed answer that was not scrubbed: goes on as if it had just been sealed.
    fn resume(&mut self, sealed: Arc<Sealed>, now: Timestamp) {
        match (sealed.purpose, classify(&sealed.answer, &self.terms.dialect)) {
            (_, Outcome::Issued(issued)) => {
                if matches!(self.life, Life::Restoring(_)) {
                    self.life = match sealed.purpose {
                        Purpose::Refresh => Life::Connected,
                        // The life before the consent is read from the store if the consent comes to nothing.
                        Purpose::Exchange => Life::Unconnected(None),
                    };
                    self.unread = true;
                }
                self.note("resumed", "sealed_answer");
                match sealed.purpose {
                    Purpose::Refresh => self.refreshed(sealed, *issued, true, now),
                    // Nobody waits for its end any more: the first attempt counts as told.
                    Purpose::Exchange => {
                        self.check_fresh(Fresh { sealed, issued, durable: true, attempts: 1 }, now);
                    }
                }
            }
            (Purpose::Refresh, Outcome::Ambiguous(_)) => {
                let intent = Intent {
                    purpose: Purpose::Refresh,
                    generation: sealed.generation.saturating_sub(1),
                    attempt: 1,
                    at: sealed.answer.received_at,
                };
                self.load(Some(intent), false);
            }
            // Nothing was issued: the store holds the newest, and the provider will say no again if it must.
            (_, _) if !matches!(self.life, Life::Revoked(_)) => {
                self.load(None, self.mark.standing == Standing::NeedsReauth);
            }
            (_, _) => {}
        }
    }

    fn restore_ending(&mut self, sealed: Option<&Arc<Sealed>>) {
        let late = sealed.and_then(|sealed| match classify(&sealed.answer, &self.terms.dialect) {
            Outcome::Issued(issued) => issued
                .refresh_token
                .or_else(|| sealed.presented.as_ref().map(crate::secret::RefreshToken::duplicate)),
            Outcome::InvalidGrant
            | Outcome::ClientRejected(_)
            | Outcome::Refused { .. }
            | Outcome::Ambiguous(_) => None,
        });
        self.life = Life::Revoked(Ending { stage: Stage::Waiting, upstream: None, attempts: 0, late });
        self.note("resumed", "revocation");
    }

    pub(super) fn load(&mut self, intent: Option<Intent>, refused: bool) {
        let op = self.op();
        self.life = Life::Restoring(Restoring { step: Some(Step::Busy(op)), attempts: 0, intent, refused });
        self.out.push(Effect::Load { op });
    }

    pub(super) fn load_again(&mut self) {
        let op = self.op();
        if let Life::Restoring(restoring) = &mut self.life {
            restoring.step = Some(Step::Busy(op));
            self.out.push(Effect::Load { op });
        }
    }

    pub(super) fn wake_restore(&mut self, now: Timestamp) {
        if let Life::Restoring(restoring) = &self.life
            && restoring.step.and_then(Step::until).is_some_and(|at| at <= now)
        {
            self.load_again();
        }
    }

    pub(super) fn restore_done(&mut self, end: Completion, now: Timestamp) {
        self.unread = false;
        if let Completion::LoadFailed(fault) = end {
            return self.load_later(fault.word(), now);
        }
        let Completion::Loaded(loaded) = end else { return self.load_later("unexpected", now) };
        match loaded {
            Loaded::Record(record) => self.found_record(Arc::from(record), now),
            Loaded::Empty if self.mark.generation > 0 => self.load_later("store_lost_the_record", now),
            Loaded::Empty => {
                self.life = Life::Unconnected(None);
                self.mended(&[Kind::Storing]);
            }
            Loaded::Unusable(why) => {
                self.life = Life::Unconnected(Some(why));
                self.note("unusable", "foreign_record");
            }
        }
    }

    fn load_later(&mut self, cause: &'static str, now: Timestamp) {
        self.fail(Kind::Storing, cause, now);
        let seed = self.seed;
        if let Life::Restoring(restoring) = &mut self.life {
            restoring.attempts = restoring.attempts.saturating_add(1);
            let wait = policy::backoff(restoring.attempts, Duration::from_secs(1), LOAD_AT_LEAST, seed);
            restoring.step = Some(Step::Until(now.plus(wait)));
        }
    }

    fn found_record(&mut self, record: Arc<Record>, now: Timestamp) {
        let Life::Restoring(restoring) = &self.life else { return };
        let (intent, refused) = (restoring.intent.clone(), restoring.refused);
        if record.status == RecordStatus::Revoked {
            return self.found_revoked(&record);
        }
        if record.generation < self.mark.generation {
            // The store is behind what this host has seen. Serving is open, spending is closed (invariant 12).
            self.grant = Some(record);
            if self.served.is_none() {
                self.publish(now);
            }
            return self.load_later("store_is_behind", now);
        }
        let newer = record.generation > self.mark.generation;
        self.mended(&[Kind::Storing]);
        self.note("restored", "");
        self.grant = Some(record);
        self.life = if refused && !newer { Life::NeedsReauth } else { Life::Connected };
        self.publish(now);
        if newer {
            self.mark = Mark { generation: self.newest_generation(), standing: Standing::Normal };
        }
        match intent
            .filter(|intent| intent.purpose == Purpose::Refresh && intent.generation == self.mark.generation)
        {
            Some(intent) => self.doubtful(intent.at, intent.attempt, now),
            None if newer => self.tidy(),
            None => {}
        }
        let spendable = self.grant.as_ref().is_some_and(|grant| grant.refresh_token.is_some());
        if self.served.is_none() && !spendable && matches!(self.life, Life::Connected) {
            return self.needs_reauth("no_refresh_token");
        }
        if self.doubt.is_none() && self.served.is_none() && matches!(self.life, Life::Connected) {
            // Many leases may have ended while the daemon was down: spread what is due at once.
            let spread = Duration::from_millis(self.seed % 1500);
            self.retry = Some(Retry { at: now.plus(spread), attempts: 0 });
        }
    }

    fn found_revoked(&mut self, record: &Record) {
        self.mark =
            Mark { generation: record.generation.max(self.mark.generation), standing: Standing::Revoked };
        self.life = Life::Revoked(Ending::over());
        self.note("restored", "revoked");
        self.tidy();
    }

    /// Makes the mark durable as it stands now and scrubs the slot: the last step of every flight.
    pub(super) fn tidy(&mut self) {
        let op = self.op();
        self.flight = Some(Flight::Tidying(op));
        self.out.push(Effect::Mark { op, mark: self.mark, slot: SlotFate::Scrubbed });
    }
}

impl Ending {
    pub(super) const fn over() -> Self {
        Self { stage: Stage::Over, upstream: None, attempts: 0, late: None }
    }
}

/// The longest between two reads of a store that does not answer.
const LOAD_AT_LEAST: Duration = Duration::from_secs(60);
