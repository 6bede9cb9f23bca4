//! Keeping: one write for each generation, repeated with the same bytes until the store acknowledges it.
//!
//! The generation names the write, so that a repeat is a no-op and a stranger's bytes are noticed. After the
//! acknowledgement the high-water mark moves, and only then the slot is scrubbed.

use super::life::{Kind, Phase, Unstored};
use super::machine::Integration;
use super::{
    Code, Completion, ConsentEnd, Effect, Loaded, Purpose, Record, RecordStatus, Sealed, StoreFault, policy,
};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

impl Integration {
    pub(super) fn wake_keep(&mut self, now: Timestamp) {
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
            (Phase::Writing(_), Completion::Stored) => self.stored(now, false),
            (Phase::Writing(_), Completion::StoredBeside) => self.stored(now, true),
            (Phase::Writing(_), Completion::StoreFailed(fault)) => self.write_later(fault, now),
            (Phase::Writing(_), Completion::IdTaken) => {
                let op = self.op();
                self.set_phase(Phase::Reading(op));
                self.out.push(Effect::Load { op });
            }
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
            (Phase::Writing(_) | Phase::Reading(_) | Phase::Waiting(_), _) => {}
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

    fn write(&mut self) {
        let op = self.op();
        if let Some(unstored) = &mut self.unstored {
            unstored.phase = Phase::Writing(op);
            self.out.push(Effect::Store { op, record: Arc::clone(&unstored.record) });
        }
    }

    fn stored(&mut self, now: Timestamp, beside: bool) {
        let Some(unstored) = &mut self.unstored else { return };
        let (record, tell, durable) = (Arc::clone(&unstored.record), unstored.tell, unstored.durable);
        unstored.tell = false;
        if !durable {
            self.grant = Some(Arc::clone(&record));
            self.publish(now);
        }
        if tell {
            self.out.push(Effect::Tell(ConsentEnd::Stored { account: record.account.clone() }));
        }
        self.mended(&[Kind::Storing, Kind::Foreign]);
        if beside {
            self.fail(Kind::Foreign, "foreign_writer", now);
        }
        self.note("stored", if beside { "beside_a_foreign_value" } else { "" });
        self.mark.generation = self.mark.generation.max(record.generation);
        self.wrote(now);
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
        let outlasts = sealed.purpose == Purpose::Exchange && sealed.answer.received_at > theirs.written_at;
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

const NOT_DURABLE: &str = "neither the disk nor the store takes the new record; it is kept in memory and tried again: mend the disk or the store, and do not restart grantd";
