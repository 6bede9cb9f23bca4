//! Ending: a revocation bites at once and survives anything.
//!
//! Tombstone and withdrawal first; then what is in flight is waited for; then the provider is told with the newest token;
//! then the record is cleared, retried until the store has it; the tombstone stays until a new consent. Nothing is scrubbed
//! before the provider was told: after a crash the newest token must be found again.

use super::debt::Tokens;
use super::life::{Ending, Flight, Kind, Life, Phase, Stage, Tombstone};
use super::machine::Integration;
use super::restore::tokens_of;
use super::spend::REVOKED_MEANWHILE;
use super::validation::Validation;
use super::{
    Code, Completion, Effect, Loaded, Mark, Record, RecordStatus, Revocation, SlotFate, Standing, StoreFault,
    policy,
};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

impl Integration {
    pub(super) fn revoke(&mut self) {
        self.end(false);
    }

    /// Ends it as a revocation does, and leaves nothing. What ends already, or has ended, goes on from where it is.
    pub(super) fn delete(&mut self) {
        self.farewell = None;
        match &mut self.life {
            Life::Revoked(ending) if ending.stage == Stage::Over => {
                (ending.told, ending.emptied, ending.stage) = (true, true, Stage::Waiting);
            }
            Life::Revoked(_) => {}
            Life::Restoring(_) | Life::Unconnected(_) | Life::Connected | Life::NeedsReauth => {
                return self.end(true);
            }
        }
        self.mark.standing = Standing::Deleting;
        if let Life::Revoked(ending) = &mut self.life {
            ending.deletes = true;
            // The mark says "revoked" so far; it is written once more.
            ending.tombstone = Tombstone::Racing;
        }
        self.note("deleting", "");
        self.refuse_waiting();
    }

    fn end(&mut self, deletes: bool) {
        let under_way = self.flight.is_some() || !self.waiting.is_empty() || !self.unverified.is_empty();
        let known = match &self.life {
            Life::Revoked(ending) if !ending.stage.is_resting() => return self.refuse_waiting(),
            Life::Revoked(_) | Life::Unconnected(None) => false,
            Life::Restoring(_) | Life::Unconnected(Some(_)) | Life::Connected | Life::NeedsReauth => true,
        };
        if !known && !under_way {
            return;
        }
        let op = self.op();
        let deletes = deletes || matches!(&self.life, Life::Revoked(ending) if ending.deletes);
        self.mark.standing = if deletes { Standing::Deleting } else { Standing::Revoking };
        self.withdraw();
        let terms = &self.terms;
        let late = self.unverified.drain(..).filter_map(|sealed| tokens_of(&sealed, terms)).collect();
        let cleared = match &mut self.life {
            Life::Revoked(ending) => ending.cleared.take(),
            Life::Restoring(_) | Life::Unconnected(_) | Life::Connected | Life::NeedsReauth => None,
        };
        let tombstone = if self.is_marking() { Tombstone::Racing } else { Tombstone::Missing };
        self.life = Life::Revoked(Ending {
            stage: Stage::Marking(op),
            tombstone,
            cleared,
            deletes,
            ..Ending::of(late)
        });
        (self.doubt, self.doubted, self.retry, self.nudged) = (None, None, None, None);
        (self.trouble, self.device, self.declined) = (None, None, None);
        self.health.forget();
        self.validation = Validation::default();
        self.note(if deletes { "deleting" } else { "revoked" }, "");
        self.give_way();
        self.refuse_waiting();
        self.push_mark(op, self.marked(), SlotFate::Kept);
    }

    fn refuse_waiting(&mut self) {
        while self.waiting.pop_front().is_some() {
            self.tell_refused(Code::IntegrationRevoked, REVOKED_MEANWHILE);
        }
    }

    /// Whether a mark is being written: nobody can say which of two becomes the later one.
    fn is_marking(&self) -> bool {
        let of_a_flight = matches!(self.flight, Some(Flight::Tidying(_) | Flight::Reviving(..)));
        of_a_flight
            || self.unstored.as_ref().is_some_and(|unstored| matches!(unstored.phase, Phase::Marking(_)))
    }

    /// The next step, once nothing is in flight.
    pub(super) fn end_on(&mut self, now: Timestamp) {
        self.drop_unstored();
        let Life::Revoked(ending) = &self.life else { return };
        // What the disk does not take is tried again whenever the rest is.
        let again = ending.tombstone == Tombstone::Missing && ending.stage.is_due(now);
        if ending.tombstone == Tombstone::Racing || again {
            self.seal_tombstone();
        } else if !ending.late.is_empty() {
            self.tell_of_consent();
        } else if ending.told {
            self.settle_up(now);
        } else if self.grant.is_some() {
            self.tell_of_grant();
        } else if !self.terms.origin.keeps_record() {
            self.nothing_to_tell(now);
        } else {
            let op = self.op();
            self.set_stage(Stage::Loading(op));
            self.out.push(Effect::Load { op });
        }
    }

    fn seal_tombstone(&mut self) {
        let op = self.op();
        if let Life::Revoked(ending) = &mut self.life {
            ending.tombstone = Tombstone::Missing;
            ending.stage = Stage::Marking(op);
        }
        self.push_mark(op, self.marked(), SlotFate::Kept);
    }

    pub(super) fn ending_done(&mut self, end: Completion, now: Timestamp) {
        let Life::Revoked(ending) = &self.life else { return };
        match (ending.stage, end) {
            (Stage::Marking(_), end) => self.tombstone_done(&end, now),
            (Stage::Loading(_), Completion::Loaded(loaded)) => self.found_at_end(loaded, now),
            (Stage::Telling(_), Completion::UpstreamRevoked(said)) => {
                self.told_upstream(said);
                self.end_on(now);
            }
            (Stage::Owing(_), end) => {
                self.debt_sealed(&end, now);
                self.clear_or_erase(now);
            }
            (Stage::Clearing(_), Completion::Stored | Completion::StoredBeside) => self.cleared(now),
            (Stage::Clearing(_), Completion::IdTaken) => {
                let op = self.op();
                if let Life::Revoked(ending) = &mut self.life {
                    (ending.cleared, ending.stage) = (None, Stage::Reading(op));
                }
                self.out.push(Effect::Load { op });
            }
            (Stage::Reading(_), Completion::Loaded(loaded)) => {
                let seen = match loaded {
                    Loaded::Record(record) => record.generation,
                    Loaded::Empty | Loaded::Unusable(_) => self.newest_generation().saturating_add(1),
                };
                self.mark.generation = self.mark.generation.max(seen);
                self.clear(now);
            }
            (
                Stage::Loading(_) | Stage::Reading(_) | Stage::Clearing(_),
                Completion::LoadFailed(StoreFault::Deleted | StoreFault::Missing)
                | Completion::StoreFailed(StoreFault::Deleted | StoreFault::Missing),
            ) if ending.deletes => self.erase(),
            (Stage::Deleting(_), Completion::Deleted) => self.finish(self.mark.generation),
            (
                Stage::Loading(_) | Stage::Reading(_) | Stage::Clearing(_) | Stage::Deleting(_),
                Completion::LoadFailed(fault) | Completion::StoreFailed(fault),
            ) => self.end_later(Kind::Storing, fault.word(), now),
            (Stage::Finishing(_), end) => {
                self.set_stage(Stage::Over);
                self.mark_done(&end, now);
                self.gone();
            }
            (_, _) => {}
        }
    }

    fn tombstone_done(&mut self, end: &Completion, now: Timestamp) {
        match (end, &mut self.life) {
            (Completion::MarkFailed(fault), _) => self.fail(Kind::Sealing, fault.word(), now),
            (_, Life::Revoked(ending)) if ending.tombstone == Tombstone::Missing => {
                ending.tombstone = Tombstone::Durable;
                self.unmarked = None;
            }
            (_, _) => {}
        }
        self.set_stage(Stage::Waiting);
    }

    fn found_at_end(&mut self, loaded: Loaded, now: Timestamp) {
        let attempts = match &self.life {
            Life::Revoked(ending) => ending.attempts,
            Life::Restoring(_) | Life::Unconnected(_) | Life::Connected | Life::NeedsReauth => 0,
        };
        match loaded {
            // A replica that lags, or an older record that somebody put back: the newest token is asked for a while.
            Loaded::Record(record) if record.generation < self.mark.generation && attempts < 5 => {
                self.end_later(Kind::Storing, "store_is_behind", now);
            }
            Loaded::Record(record) => {
                self.mark.generation = self.mark.generation.max(record.generation);
                if record.status == RecordStatus::Revoked {
                    return self.clear_again(Arc::from(record), now);
                }
                self.grant = Some(Arc::from(record));
                self.tell_of_grant();
            }
            // What grantd wrote is not there: a replica that lags, perhaps, or somebody's mistake.
            Loaded::Empty if self.mark.generation > 0 && attempts < 5 => {
                self.end_later(Kind::Storing, "store_lost_the_record", now);
            }
            // Not to be found: what is written now is found by whoever puts the old record back.
            Loaded::Empty if self.mark.generation > 0 => {
                self.set_told();
                if let Life::Revoked(ending) = &mut self.life {
                    // There is nothing that could be emptied first.
                    ending.emptied = ending.deletes;
                }
                self.settle_up(now);
            }
            Loaded::Empty => self.nothing_to_tell(now),
            // Whose it is must be settled by a person; the tombstone holds meanwhile.
            Loaded::Unusable(_) => self.end_later(Kind::Storing, "foreign_record", now),
        }
    }

    /// A cleared record is there, and nobody knows whether its second write was made as well.
    pub(super) fn clear_again(&mut self, record: Arc<Record>, now: Timestamp) {
        self.set_told();
        if let Life::Revoked(ending) = &mut self.life {
            ending.cleared = Some(record);
        }
        self.settle_up(now);
    }

    /// What the provider did not answer to is sealed before the record is cleared.
    fn settle_up(&mut self, now: Timestamp) {
        let owes = matches!(&self.life, Life::Revoked(ending) if self.owes_unsealed(ending));
        if owes { self.seal_debt(now) } else { self.clear_or_erase(now) }
    }

    fn clear_or_erase(&mut self, now: Timestamp) {
        if matches!(&self.life, Life::Revoked(ending) if ending.emptied) {
            self.erase();
        } else {
            self.clear(now);
        }
    }

    /// Deletes what holds the cleared record.
    fn erase(&mut self) {
        self.set_told();
        if !self.terms.origin.keeps_record() {
            return self.finish(self.mark.generation);
        }
        let op = self.op();
        if let Life::Revoked(ending) = &mut self.life {
            (ending.emptied, ending.stage) = (true, Stage::Deleting(op));
        }
        self.out.push(Effect::Delete { op });
    }

    /// The last step of a deletion: it was never connected.
    fn gone(&mut self) {
        if let Life::Revoked(ending) = &self.life
            && ending.deletes
        {
            self.farewell = ending.upstream;
            self.life = Life::Unconnected(None);
            self.validated = None;
            self.note("deleted", "");
        }
    }

    fn set_told(&mut self) {
        if let Life::Revoked(ending) = &mut self.life {
            ending.upstream.get_or_insert(Revocation::Nothing);
            ending.told = true;
        }
    }

    /// There is no grant that the provider could be told of.
    fn nothing_to_tell(&mut self, now: Timestamp) {
        self.set_told();
        if matches!(&self.life, Life::Revoked(ending) if self.owes_unsealed(ending)) {
            return self.seal_debt(now);
        }
        self.finish(self.mark.generation);
    }

    fn tell_of_consent(&mut self) {
        let Life::Revoked(ending) = &mut self.life else { return };
        if let Some(tokens) = ending.late.pop() {
            self.tell_upstream(tokens);
        }
    }

    fn tell_of_grant(&mut self) {
        if let Life::Revoked(ending) = &mut self.life {
            ending.told = true;
        }
        self.tell_upstream(Tokens::of_record(self.grant.as_deref()));
    }

    fn clear(&mut self, now: Timestamp) {
        if !self.terms.origin.keeps_record() {
            return self.cleared_all(self.newest_generation(), now);
        }
        let op = self.op();
        let account = self.grant.as_ref().map(|grant| grant.account.clone()).unwrap_or_default();
        let generation = self.newest_generation().saturating_add(1);
        let Life::Revoked(ending) = &mut self.life else { return };
        let fresh = || Arc::new(Record::cleared(self.identity.clone(), generation, account, now));
        let record = Arc::clone(ending.cleared.get_or_insert_with(fresh));
        ending.stage = Stage::Clearing(op);
        self.out.push(Effect::Clear { op, record });
    }

    fn cleared(&mut self, now: Timestamp) {
        let Life::Revoked(Ending { cleared: Some(record), .. }) = &self.life else { return };
        // Two generations: the second write leaves AWSPREVIOUS clear as well.
        let generation = record.generation.saturating_add(1);
        if let Life::Revoked(ending) = &mut self.life
            && !self.holds
        {
            // The store tells a restart as well as a tombstone would, unless a sealed answer is found before it is asked.
            ending.tombstone = Tombstone::Durable;
        }
        self.note("cleared", "");
        self.wrote(now);
        self.wrote(now);
        self.cleared_all(generation, now);
    }

    fn cleared_all(&mut self, generation: u64, now: Timestamp) {
        if self.debt.as_ref().is_some_and(|debt| !debt.is_durable()) {
            // Neither the store nor the slot would bring it back: the mark stays, and the disk is asked again.
            return self.end_later(Kind::Sealing, "not_sealed", now);
        }
        self.mark.generation = self.mark.generation.max(generation);
        if matches!(&self.life, Life::Revoked(ending) if ending.deletes) {
            return self.erase();
        }
        self.finish(generation);
    }

    fn end_later(&mut self, kind: Kind, cause: &'static str, now: Timestamp) {
        self.fail(kind, cause, now);
        self.note("clear_failed", cause);
        let seed = self.seed;
        if let Life::Revoked(ending) = &mut self.life {
            ending.attempts = ending.attempts.saturating_add(1);
            let wait =
                policy::backoff(ending.attempts, Duration::from_secs(1), Duration::from_secs(60), seed);
            ending.stage = Stage::Until(now.plus(wait));
        }
    }

    /// Nothing that was sealed before is taken for a consent after it.
    fn finish(&mut self, generation: u64) {
        self.grant = None;
        self.trouble = self.trouble.filter(|trouble| trouble.kind == Kind::Sealing);
        let generation = generation.max(self.sealed_up_to);
        let deletes = matches!(&self.life, Life::Revoked(ending) if ending.deletes);
        let standing = if deletes { Standing::Deleted } else { Standing::Revoked };
        self.mark = Mark { generation, standing, ..self.mark };
        let op = self.op();
        self.set_stage(Stage::Finishing(op));
        self.push_mark(op, self.marked(), self.all_but_the_debt());
    }

    const fn set_stage(&mut self, stage: Stage) {
        if let Life::Revoked(ending) = &mut self.life {
            ending.stage = stage;
        }
    }
}

impl Ending {
    /// One that goes on as soon as nothing is in flight.
    pub(super) const fn of(late: Vec<Tokens>) -> Self {
        Self {
            stage: Stage::Waiting,
            upstream: None,
            attempts: 0,
            tombstone: Tombstone::Durable,
            late,
            asked: None,
            silent: Vec::new(),
            told: false,
            cleared: None,
            deletes: false,
            emptied: false,
        }
    }

    pub(super) fn over() -> Self {
        Self { stage: Stage::Over, ..Self::of(Vec::new()) }
    }
}
