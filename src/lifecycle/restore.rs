//! The start of an integration: what the spool holds first, then what the store holds.
//!
//! A sealed answer is enough to go on without the store. Without one, nothing is spent before the store was
//! read, and never a generation below the high-water mark.

use super::debt::{Debt, Tokens};
use super::doubt::presentation_of;
use super::import::outcome_of;
use super::life::{Ending, Flight, Fresh, Import, Kind, Life, Restoring, Retry, Step};
use super::machine::Integration;
use super::outcome::{Issued, Outcome};
use super::spend::{record_of, rotates};
use super::{
    Completion, Doubted, Effect, Found, Loaded, Mark, Op, Origin, Purpose, Record, RecordStatus, Sealed,
    SlotFate, Standing, Terms, policy,
};
use crate::time::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What the sealed answers of a crash come to.
#[derive(Default)]
struct Left {
    /// The newest generation.
    base: Option<(Arc<Sealed>, Box<Issued>)>,
    /// A later access token of it: the provider did not rotate.
    lease: Option<(Arc<Sealed>, Box<Issued>)>,
    /// Consents that nobody knows to be accepted or refused.
    consents: VecDeque<Arc<Sealed>>,
    /// An older generation that was not stored either.
    overtaken: Option<u64>,
    /// A presentation of the newest refresh token that is in doubt.
    doubt: Option<Doubted>,
    /// The generation whose refresh token the provider refused.
    refused: Option<u64>,
    /// Answers that hold tokens perhaps, and cannot be read.
    unreadable: Vec<Arc<Sealed>>,
}

impl Left {
    /// What one more answer adds.
    fn and(mut self, sealed: Arc<Sealed>, outcome: Outcome) -> Self {
        match (sealed.purpose, outcome) {
            (Purpose::Import, _) if !sealed.accepted => self.consents.push_back(sealed),
            (Purpose::Exchange, Outcome::Issued(_)) if !sealed.accepted => self.consents.push_back(sealed),
            // Whatever was sealed before it led to it, or is over by it; but for a refresh token that is still the newest.
            (Purpose::Refresh | Purpose::Exchange | Purpose::Import, Outcome::Issued(issued)) => {
                let rotated = rotates(&sealed, &issued);
                let older = self.base.as_ref().filter(|_| rotated).map(|(older, _)| older.generation);
                let overtaken = older.or(self.overtaken);
                let kept = self.base.filter(|_| !rotated);
                let newest = Some((sealed, issued));
                return match kept {
                    Some(base) => Self { base: Some(base), lease: newest, overtaken, ..Self::default() },
                    None => Self { base: newest, overtaken, ..Self::default() },
                };
            }
            (purpose, Outcome::Ambiguous(_)) => {
                let presented = (purpose == Purpose::Refresh).then(|| presentation_of(&sealed));
                self.doubt = presented.or(self.doubt);
                self.unreadable.extend(is_worth_keeping(&sealed).then_some(sealed));
            }
            (Purpose::Refresh, Outcome::InvalidGrant) => {
                self.refused = Some(sealed.generation.saturating_sub(1));
            }
            (Purpose::Revocation, _) => {}
            (_, Outcome::InvalidGrant | Outcome::ClientRejected(_) | Outcome::Refused { .. }) => {}
        }
        self
    }

    /// Whether an answer that was sealed later settled a doubt.
    fn is_over(&self, doubt: &Doubted) -> bool {
        self.base.iter().chain(&self.lease).any(|(sealed, _)| {
            doubt.generation < sealed.generation && doubt.since < sealed.answer.received_at
        })
    }
}

impl Integration {
    pub(super) fn restore(&mut self, found: Found, now: Timestamp) {
        self.mark = found.mark;
        let owed = |sealed: &Arc<Sealed>| sealed.purpose == Purpose::Revocation;
        let (owed, answers): (Vec<_>, Vec<_>) = found.answers.into_iter().partition(owed);
        let found = Found { answers, ..found };
        self.restore_debt(&owed, now);
        self.holds = !found.answers.is_empty();
        self.sealed_up_to =
            found.answers.iter().chain(&owed).map(|sealed| sealed.generation).max().unwrap_or(0);
        let needs_reauth = found.mark.standing == Standing::NeedsReauth;
        let mut left = self.left(found);
        self.forget_mints(&mut left.doubt, &mut left.refused);
        self.doubted = left.doubt;
        self.unreadable = left.unreadable.last().map(|sealed| sealed.generation);
        self.out.extend(left.unreadable.drain(..).map(Effect::Quarantine));
        match self.mark.standing {
            Standing::Revoking | Standing::Deleting => self.restore_ending(left, now),
            Standing::Revoked | Standing::Deleted => {
                let revoked = self.mark.standing == Standing::Revoked;
                self.life = if revoked { Life::Revoked(Ending::over()) } else { Life::Unconnected(None) };
                let accepted = left.base.map(|(sealed, _)| sealed).filter(|sealed| sealed.accepted);
                self.unverified = accepted.into_iter().chain(left.consents).collect();
            }
            Standing::NeedsReauth | Standing::Normal
                if left.base.is_none() && !self.terms.origin.keeps_record() =>
            {
                self.await_mint(now);
            }
            Standing::NeedsReauth | Standing::Normal if left.base.is_none() && left.consents.is_empty() => {
                self.load(left.refused.or(needs_reauth.then_some(self.mark.generation)));
            }
            Standing::NeedsReauth | Standing::Normal => self.resume(left, needs_reauth, now),
        }
    }

    /// A sealed answer is enough to go on without the store.
    fn resume(&mut self, left: Left, needs_reauth: bool, now: Timestamp) {
        self.note("resumed", "sealed_answer");
        self.debt = None;
        self.refused = left.refused.is_some();
        self.unread = true;
        self.unverified = left.consents;
        let Some((sealed, issued)) = left.base else {
            // The life before the consent is read from the store if the consent comes to nothing.
            self.life = Life::Unconnected(None);
            return;
        };
        if sealed.accepted {
            self.mark.standing = Standing::Normal;
        }
        self.life = if needs_reauth && !sealed.accepted { Life::NeedsReauth } else { Life::Connected };
        if let Some(generation) = left.overtaken {
            self.expect_a_late_write(generation, now);
        }
        self.refreshed(sealed, *issued, true, now);
        if let Some((sealed, issued)) = left.lease {
            let generation = sealed.generation.saturating_sub(1);
            let record = record_of(&self.identity, &self.terms, &sealed, *issued);
            self.grant = Some(Arc::new(Record { generation, ..record }));
            self.publish(now);
        }
    }

    fn left(&self, found: Found) -> Left {
        let mut left = Left::default();
        for sealed in found.answers {
            let outcome = outcome_of(&sealed, &self.terms);
            left = left.and(sealed, outcome);
        }
        let marked = found.mark.doubt.filter(|doubt| !left.is_over(doubt));
        let intended = found.intent.and_then(|intent| match intent.purpose {
            Purpose::Refresh => {
                Some(Doubted { generation: intent.generation, since: intent.at, attempts: intent.attempt })
            }
            Purpose::Exchange | Purpose::Import | Purpose::Revocation => intent.doubt,
        });
        left.doubt = intended.or(marked).or(left.doubt);
        left
    }

    /// A consent whose answer was sealed before a crash: goes on as if it had just been sealed. Nobody waits for its end any more:
    /// the first attempt counts as told.
    pub(super) fn take_up(&mut self, sealed: Arc<Sealed>, now: Timestamp) {
        if sealed.purpose == Purpose::Import && self.terms.origin != Origin::Key {
            return self.take_up_import(Import { sealed, attempts: 1 });
        }
        if let Outcome::Issued(issued) = outcome_of(&sealed, &self.terms) {
            self.check_fresh(Fresh { sealed, issued, durable: true, attempts: 1 }, now);
        }
    }

    fn restore_ending(&mut self, left: Left, now: Timestamp) {
        let terms = &self.terms;
        let late = left.consents.iter().filter_map(|sealed| tokens_of(sealed, terms)).collect();
        let deletes = self.mark.standing == Standing::Deleting;
        self.life = Life::Revoked(Ending { deletes, ..Ending::of(late) });
        self.note("resumed", if deletes { "deletion" } else { "revocation" });
        if let Some((sealed, issued)) = left.base {
            self.refreshed(sealed, *issued, true, now);
        }
    }

    pub(super) fn load(&mut self, refused: Option<u64>) {
        let op = self.op();
        self.life = Life::Restoring(Restoring { step: Some(Step::Busy(op)), attempts: 0, refused });
        self.out.push(Effect::Load { op });
    }

    /// Reads the store for a life that it may hold.
    pub(super) fn load_anew(&mut self) {
        let refused = std::mem::take(&mut self.refused) || self.mark.standing == Standing::NeedsReauth;
        self.load(refused.then_some(self.mark.generation));
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
        let refused = restoring.refused.is_some_and(|refused| record.generation <= refused);
        if record.generation < self.mark.generation {
            // The store is behind what this host has seen. Serving is open, spending is closed (invariant 12).
            self.grant = Some(record).filter(|record| record.status == RecordStatus::Connected);
            if self.served.is_none() {
                self.publish(now);
            }
            return self.load_later("store_is_behind", now);
        }
        if record.status == RecordStatus::Revoked {
            return self.found_revoked(record, now);
        }
        self.debt = None;
        self.mended(&[Kind::Storing]);
        self.note("restored", "");
        let standing = if refused { Standing::NeedsReauth } else { Standing::Normal };
        let mark = Mark { generation: record.generation, standing, ..self.mark };
        self.life = if refused { Life::NeedsReauth } else { Life::Connected };
        self.grant = Some(record);
        self.publish(now);
        let doubtful = !refused && self.take_up_doubt(now);
        if self.mark != mark {
            self.mark = mark;
            self.tidy();
        }
        if !doubtful && self.served.is_none() && !refused {
            // Many leases may have ended while the daemon was down: spread what is due at once.
            let spread = Duration::from_millis(self.seed % 1500);
            self.retry = Some(Retry { at: now.plus(spread), attempts: 0 });
        }
    }

    fn found_revoked(&mut self, record: Arc<Record>, now: Timestamp) {
        self.mark = Mark { standing: Standing::Revoking, ..self.mark };
        self.life = Life::Revoked(Ending::of(Vec::new()));
        self.mended(&[Kind::Storing]);
        self.note("restored", "revoked");
        self.clear_again(record, now);
    }

    /// Makes the mark durable as it stands now and scrubs the slot, but for what the store does not hold yet: the last step of
    /// every flight.
    pub(super) fn tidy(&mut self) {
        let op = self.op();
        self.flight = Some(Flight::Tidying(op));
        // Until the provider was told of the newest token, a crash must leave it where it can be found; and what memory alone
        // holds may have to be fetched again with what stands in the slot.
        let fleeting = self.unstored.as_ref().is_some_and(|unstored| !unstored.durable);
        let slot = if fleeting || matches!(self.mark.standing, Standing::Revoking | Standing::Deleting) {
            SlotFate::Kept
        } else {
            self.scrubbed_but(self.unstored.as_ref().map(|unstored| unstored.record.generation))
        };
        self.push_mark(op, self.marked(), slot);
    }

    pub(super) fn push_mark(&mut self, op: Op, mark: Mark, slot: SlotFate) {
        self.scrubs = slot == SlotFate::Scrubbed || slot == self.all_but_the_debt();
        self.out.push(Effect::Mark { op, mark, slot });
    }

    pub(super) fn push_seal(&mut self, op: Op, sealed: Arc<Sealed>) {
        self.holds = true;
        self.out.push(Effect::Seal { op, sealed });
    }

    /// All of the slot goes, but for what is spared and for the consents that nobody has decided on yet.
    pub(super) fn scrubbed_but(&self, spared: Option<u64>) -> SlotFate {
        let undecided = self.unverified.iter().map(|sealed| sealed.generation);
        // With what is on its way: a restart must know that more than one generation was not stored.
        let writing = self.writing.map(|writing| writing.generation);
        let owed = self.debt.as_ref().map(Debt::generation);
        let spared: Vec<u64> =
            spared.into_iter().chain(writing).chain(undecided).chain(self.unreadable).chain(owed).collect();
        if spared.is_empty() { SlotFate::Scrubbed } else { SlotFate::Spared(spared) }
    }
}

/// Whether an answer that cannot be read holds tokens perhaps: it says that it succeeded.
pub(super) fn is_worth_keeping(sealed: &Sealed) -> bool {
    (200..300).contains(&sealed.answer.status) && !sealed.answer.body.is_empty()
}

pub(super) fn tokens_of(sealed: &Sealed, terms: &Terms) -> Option<Tokens> {
    match outcome_of(sealed, terms) {
        Outcome::Issued(issued) => Some(Tokens::of_issued(&issued)),
        Outcome::InvalidGrant
        | Outcome::ClientRejected(_)
        | Outcome::Refused { .. }
        | Outcome::Ambiguous(_) => None,
    }
}

/// The longest between two reads of a store that does not answer.
const LOAD_AT_LEAST: Duration = Duration::from_secs(60);
