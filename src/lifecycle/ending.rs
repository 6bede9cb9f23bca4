//! Ending: a revocation bites at once and survives anything.
//!
//! Tombstone and withdrawal first; then what is in flight is waited for; then the provider is told with the newest token;
//! then the record is cleared, retried until the store has it; the tombstone stays until a new consent.

use super::life::{Ending, Kind, Life, Stage};
use super::machine::Integration;
use super::{
    Code, Completion, Effect, Loaded, Mark, Record, RecordStatus, Revocation, SlotFate, Standing, policy,
};
use crate::secret::{AccessToken, RefreshToken};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

impl Integration {
    pub(super) fn revoke(&mut self) {
        if matches!(self.life, Life::Revoked(_)) {
            return;
        }
        let op = self.op();
        let known = self.grant.is_some() || matches!(self.life, Life::Restoring(_));
        if !known && self.flight.is_none() && self.waiting.is_empty() {
            return;
        }
        self.mark.standing = Standing::Revoking;
        self.withdraw();
        self.life =
            Life::Revoked(Ending { stage: Stage::Marking(op), upstream: None, attempts: 0, late: None });
        (self.doubt, self.retry, self.nudged) = (None, None, None);
        self.trouble = None;
        self.note("revoked", "");
        self.give_way();
        while self.waiting.pop_front().is_some() {
            self.tell_refused(Code::IntegrationRevoked, "the integration was revoked meanwhile");
        }
        self.out.push(Effect::Mark { op, mark: self.marked(), slot: SlotFate::Kept });
    }

    /// The next step, once nothing is in flight.
    pub(super) fn end_upstream(&mut self, now: Timestamp) {
        self.drop_unstored();
        let late = matches!(self.life, Life::Revoked(ref ending) if ending.late.is_some());
        let told = matches!(self.life, Life::Revoked(ref ending) if ending.upstream.is_some());
        if self.mark.standing == Standing::Revoked {
            self.set_stage(Stage::Over);
        } else if told {
            self.clear(now);
        } else if late || self.grant.is_some() {
            self.tell_provider();
        } else {
            let op = self.op();
            self.set_stage(Stage::Loading(op));
            self.out.push(Effect::Load { op });
        }
    }

    pub(super) fn ending_done(&mut self, end: Completion, now: Timestamp) {
        let Life::Revoked(ending) = &self.life else { return };
        match (ending.stage, end) {
            (Stage::Marking(_), end) => {
                if let Completion::MarkFailed(fault) = end {
                    self.fail(Kind::Sealing, fault.word(), now);
                }
                self.set_stage(Stage::Waiting);
            }
            (Stage::Loading(_), Completion::Loaded(Loaded::Record(record))) => self.found_at_end(record, now),
            (Stage::Loading(_), Completion::Loaded(_)) => {
                self.set_upstream(Revocation::Nothing);
                self.finish(self.mark.generation);
            }
            (Stage::Telling(_), Completion::UpstreamRevoked(said)) => {
                self.set_upstream(said);
                self.note("revoked_upstream", said.word());
                self.clear(now);
            }
            (Stage::Clearing(_), Completion::Stored | Completion::StoredBeside) => {
                self.mended(&[Kind::Storing]);
                self.note("cleared", "");
                self.wrote(now);
                self.wrote(now);
                // Two generations: the second write leaves AWSPREVIOUS clear as well.
                self.finish(self.newest_generation().saturating_add(2));
            }
            (Stage::Clearing(_), Completion::IdTaken) => {
                let op = self.op();
                self.set_stage(Stage::Reading(op));
                self.out.push(Effect::Load { op });
            }
            (Stage::Reading(_), Completion::Loaded(Loaded::Record(record))) => {
                self.mark.generation = self.mark.generation.max(record.generation);
                self.clear(now);
            }
            (Stage::Reading(_), Completion::Loaded(_)) => {
                self.mark.generation = self.mark.generation.saturating_add(1);
                self.clear(now);
            }
            (
                Stage::Loading(_) | Stage::Reading(_) | Stage::Clearing(_),
                Completion::LoadFailed(fault) | Completion::StoreFailed(fault),
            ) => self.end_later(fault.word(), now),
            (Stage::Finishing(_), end) => {
                if let Completion::MarkFailed(fault) = end {
                    self.fail(Kind::Sealing, fault.word(), now);
                }
                self.set_stage(Stage::Over);
            }
            (_, _) => {}
        }
    }

    fn found_at_end(&mut self, record: Box<Record>, now: Timestamp) {
        self.mark.generation = self.mark.generation.max(record.generation);
        if record.status == RecordStatus::Revoked {
            self.set_upstream(Revocation::Nothing);
            return self.finish(self.mark.generation);
        }
        let told = matches!(self.life, Life::Revoked(ref ending) if ending.upstream.is_some());
        self.grant = Some(Arc::from(record));
        if told { self.clear(now) } else { self.tell_provider() }
    }

    fn tell_provider(&mut self) {
        let op = self.op();
        let late = match &mut self.life {
            Life::Revoked(ending) => ending.late.take(),
            Life::Restoring(_) | Life::Unconnected(_) | Life::Connected | Life::NeedsReauth => None,
        };
        let grant = self.grant.as_ref();
        let known = grant.and_then(|grant| grant.refresh_token.as_ref()).map(RefreshToken::duplicate);
        self.out.push(Effect::RevokeUpstream {
            op,
            refresh_token: late.or(known),
            access_token: grant.and_then(|grant| grant.access_token.as_ref()).map(AccessToken::duplicate),
        });
        self.set_stage(Stage::Telling(op));
    }

    fn clear(&mut self, now: Timestamp) {
        let op = self.op();
        let account = self.grant.as_ref().map(|grant| grant.account.clone()).unwrap_or_default();
        let generation = self.newest_generation().saturating_add(1);
        let record = Record::cleared(self.identity.clone(), generation, account, now);
        self.set_stage(Stage::Clearing(op));
        self.out.push(Effect::Clear { op, record: Arc::new(record) });
    }

    fn end_later(&mut self, cause: &'static str, now: Timestamp) {
        self.fail(Kind::Storing, cause, now);
        self.note("clear_failed", cause);
        let seed = self.seed;
        if let Life::Revoked(ending) = &mut self.life {
            ending.attempts = ending.attempts.saturating_add(1);
            let wait =
                policy::backoff(ending.attempts, Duration::from_secs(1), Duration::from_secs(60), seed);
            ending.stage = Stage::Until(now.plus(wait));
        }
    }

    fn finish(&mut self, generation: u64) {
        self.grant = None;
        self.mark = Mark { generation, standing: Standing::Revoked, ..self.mark };
        let op = self.op();
        self.set_stage(Stage::Finishing(op));
        self.out.push(Effect::Mark { op, mark: self.marked(), slot: SlotFate::Scrubbed });
    }

    const fn set_upstream(&mut self, said: Revocation) {
        if let Life::Revoked(ending) = &mut self.life {
            ending.upstream = Some(said);
        }
    }

    const fn set_stage(&mut self, stage: Stage) {
        if let Life::Revoked(ending) = &mut self.life {
            ending.stage = stage;
        }
    }
}
