//! Counts what apps do for the audit trail, token reads above all: by integration, caller and outcome, told once a minute.
//!
//! The way of a read pays for a look-up and an addition; the lock is the app thread's alone. What is told goes to another thread.
//! Names that a caller made up are not kept: what was not found is counted without a name.

use crate::engine::{Board, Trail};
use crate::lifecycle::{Actor, AuditEvent, Caller, IntegrationId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The reads that were not told yet.
pub(super) struct Tally {
    trail: Arc<dyn Trail>,
    board: Arc<Board>,
    counts: Mutex<Counts>,
    full: Notify,
    every: Duration,
}

#[derive(Default)]
struct Counts {
    of: BTreeMap<Deed, Reads>,
    keys: usize,
}

/// What was done, by whom, and how it ended.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Deed {
    what: &'static str,
    uid: u32,
    unit: Option<Arc<str>>,
    outcome: &'static str,
}

/// The reads, or what else it is, of one caller that ended alike: of each integration, and of what is none.
#[derive(Default)]
struct Reads {
    named: BTreeMap<IntegrationId, u64>,
    nameless: u64,
}

impl Tally {
    pub(super) fn new(trail: Arc<dyn Trail>, board: Arc<Board>, every: Duration) -> Self {
        Self { trail, board, counts: Mutex::default(), full: Notify::new(), every }
    }

    /// Counts one thing that was done, such as `token_read`. Takes memory for the first of its kind only.
    pub(super) fn count(
        &self,
        what: &'static str,
        caller: &Caller,
        integration: Option<&IntegrationId>,
        outcome: &'static str,
    ) {
        let mut counts = self.counts();
        let deed = Deed { what, uid: caller.uid, unit: caller.unit.clone(), outcome };
        let reads = counts.of.entry(deed).or_default();
        let known = match integration {
            None => &mut reads.nameless,
            Some(integration) => match reads.named.get_mut(integration) {
                Some(known) => known,
                None => reads.named.entry(integration.clone()).or_default(),
            },
        };
        *known = known.saturating_add(1);
        if *known == 1 {
            counts.keys = counts.keys.saturating_add(1);
            if counts.keys >= MOST {
                self.full.notify_one();
            }
        }
    }

    /// Tells what was counted, each minute and when there is much of it, until `over`; then once more.
    pub(super) async fn tell_until(self: Arc<Self>, over: CancellationToken) {
        let mut minute = tokio::time::interval(self.every);
        minute.reset();
        loop {
            tokio::select! {
                _at = minute.tick() => {}
                () = self.full.notified() => {}
                () = over.cancelled() => break,
            }
            let this = Arc::clone(&self);
            // Readers are not to wait for a thousand lines of the log.
            let _told = tokio::task::spawn_blocking(move || this.tell()).await;
        }
        self.tell();
    }

    fn tell(&self) {
        let counts = std::mem::take(&mut *self.counts());
        for (Deed { what, uid, unit, outcome }, reads) in counts.of {
            let event = |count| {
                let actor = Actor::App { uid, unit: unit.as_deref().map(str::to_owned) };
                AuditEvent { outcome, count, ..AuditEvent::done(what, actor) }
            };
            if reads.nameless > 0 {
                self.trail.record(event(reads.nameless));
            }
            for (integration, count) in reads.named {
                let cell = self.board.cell(integration.as_str());
                let identity = cell.map(|cell| cell.posting().view.identity.clone());
                self.trail.record(AuditEvent { identity, ..event(count) });
            }
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many kinds of reads are told before the minute is over.
const MOST: usize = 1024;
