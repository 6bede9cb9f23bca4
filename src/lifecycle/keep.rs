//! Keeping: one write for each generation, repeated with the same bytes until the store acknowledges it.
//!
//! The generation names the write, so that a repeat is a no-op and a stranger's bytes are noticed. After the
//! acknowledgement the high-water mark moves, and only then the slot is scrubbed.

use super::life::{Kind, Phase, Unstored, Writing, Written};
use super::machine::Integration;
use super::{
    Code, Completion, ConsentEnd, Effect, Loaded, Op, Purpose, Record, RecordStatus, Sealed, StoreFault,
    policy,
};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

impl Integration {
    pub(super) fn wake_keep(&mut self, now: Timestamp) {
        if self.writing.and_then(|writing| writing.until).is_some_and(|at| at <= now) {
            self.writing = None;
            self.follow();
        }
        if self.unstored.as_ref().and_then(|unstored| unstored.phase.until()).is_some_and(|at| at <= now) {
            self.write_or_reseal();
        }
    }

    /// What memory alone holds is sealed as soon as the disk takes it, and in any case sent to the store.
    pub(super) fn write_or_reseal(&mut self) {
        let op = self.op();
        match &mut self.unstored {
            Some(unstored) if !unstored.durable => {
                unstored.phase = Phase::Resealing(op);
                let sealed = Arc::clone(&unstored.sealed);
                self.push_seal(op, sealed);
            }
            Some(_) | None => self.write(),
        }
    }

    pub(super) fn keep_done(&mut self, end: Completion, now: Timestamp) {
        let Some(unstored) = &self.unstored else { return };
        match (unstored.phase, end) {
            (Phase::Reading(_), Completion::Loaded(Loaded::Record(theirs))) => self.collided(&theirs, now),
            (Phase::Reading(_), Completion::Loaded(_)) => self.renumber(0, now),
            (Phase::Reading(_), Completion::LoadFailed(fault)) => self.write_later(fault, now),
            (Phase::Resealing(_), end) => self.resealed(&end, now),
            (Phase::Marking(_), end) => {
                // If it failed: the store has it, and the slot would be found again at the next start, which is harmless.
                self.mark_done(&end, now);
                self.unstored = None;
                self.note("settled", "");
                self.release();
            }
            (Phase::Writing | Phase::Behind | Phase::Ended(_) | Phase::Reading(_) | Phase::Waiting(_), _) => {
            }
        }
    }

    fn resealed(&mut self, end: &Completion, now: Timestamp) {
        let Some(unstored) = &mut self.unstored else { return };
        if matches!(end, Completion::Sealed) && !std::mem::replace(&mut unstored.durable, true) {
            self.grant = Some(Arc::clone(&unstored.record));
            self.mended(&[Kind::Sealing]);
            self.publish(now);
        }
        self.write();
    }

    /// One write at a time: the store must not take two generations in another order than they came.
    pub(super) fn write(&mut self) {
        if self.writing.is_some() {
            return self.set_phase(Phase::Behind);
        }
        let (op, since) = (self.op(), self.clock);
        if let Some(unstored) = &mut self.unstored {
            unstored.phase = Phase::Writing;
            let generation = unstored.record.generation;
            self.writing = Some(Writing { op, generation, since, until: None });
            self.out.push(Effect::Store { op, record: Arc::clone(&unstored.record) });
        }
    }

    fn follow(&mut self) {
        if self.unstored.as_ref().is_some_and(|unstored| unstored.phase == Phase::Behind) {
            self.write();
        }
    }

    /// The daemon that ran before may have left a write of an older generation on its way: nothing newer goes before it.
    pub(super) fn expect_a_late_write(&mut self, generation: u64, now: Timestamp) {
        let until = Some(now.plus(LONGEST_WRITE));
        self.writing = Some(Writing { op: Op(0), generation, since: now, until });
    }

    /// The write that was under way has ended; the record may have been overtaken meanwhile.
    pub(super) fn write_done(&mut self, end: &Completion, now: Timestamp) {
        self.writing = None;
        let written = match end {
            Completion::Stored => Written::Current,
            Completion::StoredBeside => Written::Beside,
            Completion::IdTaken => Written::Taken,
            Completion::StoreFailed(fault) => return self.write_failed(*fault, now),
            // No write ends like that.
            Completion::Claimed
            | Completion::ClaimRefused
            | Completion::Intended
            | Completion::IntentFailed(_)
            | Completion::Answered(_)
            | Completion::Sealed
            | Completion::SealFailed(_)
            | Completion::Tried(_)
            | Completion::Loaded(_)
            | Completion::LoadFailed(_)
            | Completion::Marked
            | Completion::MarkFailed(_)
            | Completion::Deleted
            | Completion::UpstreamRevoked(_) => return self.write_failed(StoreFault::Other, now),
        };
        if written != Written::Taken {
            self.wrote(now);
        }
        match self.unstored.as_ref().map(|unstored| unstored.phase) {
            Some(Phase::Writing) => {
                self.set_phase(Phase::Ended(written));
                self.say_stored(written);
                self.take_up_write(now);
            }
            Some(_) | None => self.follow(),
        }
    }

    fn write_failed(&mut self, fault: StoreFault, now: Timestamp) {
        let phase = self.unstored.as_ref().map(|unstored| unstored.phase);
        if matches!(phase, Some(Phase::Writing | Phase::Behind)) {
            self.write_later(fault, now);
        }
    }

    fn say_stored(&mut self, written: Written) {
        match written {
            Written::Current => self.note("stored", ""),
            Written::Beside => self.note("stored", "beside_a_foreign_value"),
            Written::Taken => return,
        }
        if let Some(unstored) = &mut self.unstored
            && std::mem::take(&mut unstored.tell)
        {
            let account = unstored.record.account.clone();
            self.out.push(Effect::Tell(ConsentEnd::Stored { account }));
        }
    }

    /// What follows a write waits for the flight that was begun meanwhile: both need the slot.
    pub(super) fn take_up_write(&mut self, now: Timestamp) {
        let Some(Phase::Ended(written)) = self.unstored.as_ref().map(|unstored| unstored.phase) else {
            return;
        };
        if self.flight.is_some() {
            return;
        }
        if written != Written::Taken {
            return self.stored(now, written == Written::Beside);
        }
        let op = self.op();
        self.set_phase(Phase::Reading(op));
        self.out.push(Effect::Load { op });
    }

    /// Whether a record is on its way to the store, so that nothing else is begun.
    pub(super) fn is_keeping(&self) -> bool {
        self.writing.is_some()
            || self.unstored.as_ref().is_some_and(|unstored| unstored.phase.until().is_none())
    }

    /// When a refresh is due although a write is under way: a store that hangs must not cost a lease.
    pub(super) fn due_beside_a_write(&self, now: Timestamp) -> Option<Timestamp> {
        let phase = self.unstored.as_ref().map(|unstored| unstored.phase);
        if !matches!(phase, Some(Phase::Writing | Phase::Behind) | None) {
            return None;
        }
        let hangs = self.writing?.since.plus(HANGS);
        let due = self.refresh_due(now)?.max(hangs);
        if self.doubt.is_some() { Some(due) } else { Some(due.max(self.last_chance()?)) }
    }

    fn stored(&mut self, now: Timestamp, beside: bool) {
        let Some(unstored) = &self.unstored else { return };
        let (record, durable) = (Arc::clone(&unstored.record), unstored.durable);
        if !durable {
            self.grant = Some(Arc::clone(&record));
            self.publish(now);
        }
        self.mended(&[Kind::Storing, Kind::Foreign]);
        if beside {
            self.fail(Kind::Foreign, "foreign_writer", now);
        }
        self.mark.generation = self.mark.generation.max(record.generation);
        let (op, slot) = (self.op(), self.scrubbed_but(None));
        self.set_phase(Phase::Marking(op));
        self.push_mark(op, self.marked(), slot);
    }

    /// Counts a write, and says when the secret takes few more today.
    pub(super) fn wrote(&mut self, now: Timestamp) {
        self.mark.writes = self.mark.writes.and_one(now);
        let Some(budget) = self.terms.write_budget else { return };
        let written = self.mark.writes.of_the_day(now);
        if written >= budget * 2 / 3 {
            self.fail(Kind::Budget, "write_budget", now);
        } else {
            self.mended(&[Kind::Budget]);
        }
    }

    fn write_later(&mut self, fault: StoreFault, now: Timestamp) {
        let cause = fault.word();
        self.fail(Kind::Storing, cause, now);
        self.note("store_failed", cause);
        let seed = self.seed;
        let Some(unstored) = &mut self.unstored else { return };
        unstored.attempts = unstored.attempts.saturating_add(1);
        let (first, most) = match fault {
            // Versions younger than a day are never removed: asking again soon cannot help.
            StoreFault::Quota => (Duration::from_secs(60), Duration::from_secs(900)),
            StoreFault::Denied
            | StoreFault::Throttled
            | StoreFault::Unreachable
            | StoreFault::Missing
            | StoreFault::Key
            | StoreFault::Deleted
            | StoreFault::Other => (Duration::from_secs(1), Duration::from_secs(8)),
        };
        let wait = policy::backoff(unstored.attempts, first, most, seed);
        unstored.phase = Phase::Waiting(now.plus(wait));
        if std::mem::take(&mut unstored.tell) {
            let end = if unstored.durable {
                ConsentEnd::Sealed { account: unstored.record.account.clone(), why: cause }
            } else {
                ConsentEnd::Refused { code: Code::TokenUnavailable, detail: NOT_DURABLE.into() }
            };
            self.out.push(Effect::Tell(end));
        }
    }

    /// The write id is taken. By a revocation that a crash made forgotten, perhaps: only a later consent outlasts that.
    fn collided(&mut self, theirs: &Record, now: Timestamp) {
        let Some(Unstored { sealed, .. }) = &self.unstored else { return };
        let outlasts = sealed.purpose != Purpose::Refresh && sealed.answer.received_at > theirs.written_at;
        if theirs.status == RecordStatus::Revoked && !outlasts {
            self.drop_unstored();
            return self.revoke();
        }
        self.renumber(theirs.generation, now);
    }

    /// The write id holds other bytes: take a generation above everything seen, seal it, and write again.
    fn renumber(&mut self, theirs: u64, now: Timestamp) {
        self.fail(Kind::Foreign, "write_id_taken", now);
        self.note("renumbered", "write_id_taken");
        let op = self.op();
        let Some(unstored) = &mut self.unstored else { return };
        let generation = theirs.max(unstored.record.generation).saturating_add(1);
        unstored.record = Arc::new(Record { generation, ..unstored.record.duplicate() });
        unstored.sealed = Arc::new(Sealed { generation, ..unstored.sealed.duplicate() });
        self.sealed_up_to = self.sealed_up_to.max(generation);
        unstored.phase = Phase::Resealing(op);
        let sealed = Arc::clone(&unstored.sealed);
        if unstored.durable {
            self.grant = Some(Arc::clone(&unstored.record));
            self.publish_again(now);
        }
        self.push_seal(op, sealed);
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(unstored) = &mut self.unstored {
            unstored.phase = phase;
        }
    }

    /// Drops what waits to be stored, because a revocation clears the record anyway. The mark stays below it: a restart must find
    /// the answer again for as long as the provider was not told.
    pub(super) fn drop_unstored(&mut self) {
        if let Some(Unstored { record, .. }) = self.unstored.take() {
            self.grant = Some(record);
        }
    }
}

/// A write that takes longer hangs.
const HANGS: Duration = Duration::from_secs(1);
/// The longest that a call to the store takes.
const LONGEST_WRITE: Duration = Duration::from_secs(5);
const NOT_DURABLE: &str = "neither the disk nor the store takes the new record; it is kept in memory and tried again: mend the disk or the store, and do not restart grantd";
