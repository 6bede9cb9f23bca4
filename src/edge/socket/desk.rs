//! Where the app socket's questions are judged: the caller against the bindings, the read against the board.
//!
//! Every verdict is taken anew. A read touches no lock that a writer holds; the engine hears of it only when it falls short,
//! and then at most once a second for an integration, so that impatient readers cannot keep it busy.

use super::wish::Wish;
use crate::engine::{Cell, Clock, Handle};
use crate::lifecycle::{Caller, Code, Grant, IntegrationId, Refusal, binding_missing};
use crate::time::Timestamp;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What all connections of the app socket share.
pub(super) struct Desk {
    handle: Handle,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    nudged: Mutex<BTreeMap<IntegrationId, Timestamp>>,
    pub(super) pace: Pace,
}

/// How patiently those who wait are served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How long a waiting read goes without looking at the bindings, the board and the clock.
    pub(super) hop: Duration,
    /// How often an event stream is kept alive.
    pub(super) beat: Duration,
}

impl Desk {
    pub(super) fn new(handle: Handle, clock: Arc<dyn Clock>, stop: CancellationToken) -> Self {
        Self { handle, clock, stop, nudged: Mutex::default(), pace: PACE }
    }

    /// Ends all that waits.
    pub(super) const fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// What the caller may do, with the cells it may do it to.
    pub(super) fn grants(&self, caller: &Caller) -> Vec<(Grant, Arc<Cell>)> {
        let board = self.handle.board();
        let grants = board.bindings().of(caller).into_iter();
        grants.filter_map(|grant| board.cell(grant.integration.as_str()).map(|cell| (grant, cell))).collect()
    }

    /// What `name` means for the caller now.
    ///
    /// # Errors
    /// `binding_missing`, `ambiguous_integration`.
    pub(super) fn find(&self, caller: &Caller, name: &str) -> Result<(Grant, Arc<Cell>), Refusal> {
        let board = self.handle.board();
        let grant = board.bindings().resolve(caller, name)?;
        let cell = board.cell(grant.integration.as_str()).ok_or_else(binding_missing)?;
        Ok((grant, cell))
    }

    /// Reads the token that `name` means for the caller now.
    ///
    /// # Errors
    /// As the table of contract §3 says.
    pub(super) fn read(&self, caller: &Caller, name: &str, min_ttl: Duration) -> Result<Bytes, Refusal> {
        let (grant, cell) = self.find(caller, name)?;
        self.read_cell(&grant, &cell, min_ttl)
    }

    /// Reads again and again until it succeeds, no waiting helps, the time is over or the daemon stops.
    ///
    /// # Errors
    /// The refusal that a read would get now.
    pub(super) async fn hold(&self, caller: &Caller, name: &str, wish: Wish) -> Result<Bytes, Refusal> {
        let read = tokio::select! {
            read = tokio::time::timeout(wish.wait, self.await_token(caller, name, wish.min_ttl)) => read.ok(),
            () = self.stop.cancelled() => None,
        };
        read.unwrap_or_else(|| self.read(caller, name, wish.min_ttl))
    }

    async fn await_token(&self, caller: &Caller, name: &str, min_ttl: Duration) -> Result<Bytes, Refusal> {
        loop {
            let (grant, cell) = self.find(caller, name)?;
            // Before the read: a change after it is then always heard of.
            let mut changes = cell.changes();
            match self.read_cell(&grant, &cell, min_ttl) {
                Err(refusal) if may_pass(&refusal) => {}
                end => return end,
            }
            // Time passes without a change: a lease ends, the clock is set, a binding goes.
            let _changed_or_not = tokio::time::timeout(self.pace.hop, changes.changed()).await;
        }
    }

    fn read_cell(&self, grant: &Grant, cell: &Cell, min_ttl: Duration) -> Result<Bytes, Refusal> {
        grant.may_read_token()?;
        let now = self.clock.now();
        let read = cell.read(min_ttl, now);
        if read.as_ref().is_err_and(|refusal| refusal.code == Code::TokenUnavailable) {
            self.nudge(&grant.integration, now);
        }
        read
    }

    fn nudge(&self, integration: &IntegrationId, now: Timestamp) {
        let mut nudged = self.nudged.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not silence the nudges.
        let lately =
            nudged.get(integration).is_some_and(|last| *last <= now && now.since(*last) < BETWEEN_NUDGES);
        if !lately {
            nudged.insert(integration.clone(), now);
            self.handle.nudge(integration);
        }
    }
}

/// Whether waiting may turn this refusal into a token.
pub(super) const fn may_pass(refusal: &Refusal) -> bool {
    matches!(refusal.code, Code::NeedsReauth | Code::IntegrationPending | Code::TokenUnavailable)
}

const PACE: Pace = Pace { hop: Duration::from_secs(1), beat: Duration::from_secs(15) };
const BETWEEN_NUDGES: Duration = Duration::from_secs(1);
