//! The wall clock was set back: whatever waits for a time moves with it, and so does the end of the lease.
//!
//! Without this a clock that is put right by three weeks would hold every retry, and serve every ended lease, for three weeks.
//! Forward leaps need nothing: what waits is due, and a lease seems to end early.

use super::Record;
use super::life::{Flight, Life, Phase, Stage, Step};
use super::machine::Integration;
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

impl Integration {
    /// Moves every time that was taken from the clock before it was set back.
    pub(super) fn set_back(&mut self, by: Duration, now: Timestamp) {
        let earlier = |at: &mut Timestamp| *at = at.minus(by);
        let retries = self.retry.iter_mut().chain(&mut self.unmarked).map(|retry| &mut retry.at);
        retries.chain(&mut self.nudged).chain(&mut self.asked).for_each(earlier);
        self.health.set_back(by);
        self.set_device_back(by);
        self.validation.set_back(by);
        self.doubted.iter_mut().for_each(|doubted| earlier(&mut doubted.since));
        if let Some(doubt) = &mut self.doubt {
            earlier(&mut doubt.facts.since);
            doubt.at.iter_mut().for_each(earlier);
        }
        match &mut self.life {
            Life::Restoring(restoring) => restoring.step.iter_mut().for_each(|step| step.set_back(by)),
            Life::Revoked(ending) => {
                if let Stage::Until(at) = &mut ending.stage {
                    earlier(at);
                }
            }
            Life::Unconnected(_) | Life::Connected | Life::NeedsReauth => {}
        }
        if let Some(Flight::Rereading(step, _) | Flight::Verifying(step, _)) = &mut self.flight {
            step.set_back(by);
        }
        self.debt.iter_mut().for_each(|debt| debt.step.set_back(by));
        if let Some(writing) = &mut self.writing {
            earlier(&mut writing.since);
            writing.until.iter_mut().for_each(earlier);
        }
        if let Some(unstored) = &mut self.unstored {
            earlier(&mut unstored.since);
            if let Phase::Waiting(at) = &mut unstored.phase {
                earlier(at);
            }
        }
        self.set_lease_back(by, now);
    }

    /// The record in the store and the bytes on their way to it stay as they are: only what is served ends earlier.
    fn set_lease_back(&mut self, by: Duration, now: Timestamp) {
        let Some(grant) = &self.grant else { return };
        let moved = Record {
            expires_at: grant.expires_at.map(|until| until.minus(by)),
            written_at: grant.written_at.minus(by),
            ..grant.duplicate()
        };
        self.grant = Some(Arc::new(moved));
        if self.served.is_some_and(|served| served.until.is_some()) {
            self.publish_again(now);
        }
    }
}

impl Step {
    fn set_back(&mut self, by: Duration) {
        if let Self::Until(at) = self {
            *at = at.minus(by);
        }
    }
}
