//! Where the app socket's questions are judged: the caller against the bindings, the read against the board.
//!
//! Every verdict is taken anew. A read touches no lock that a writer holds; the engine hears of it only when it falls short,
//! and then at most once a second for an integration, so that impatient readers cannot keep it busy.

use super::report::Reports;
use super::tally::Tally;
use super::wish::Wish;
use crate::engine::{Called, Cell, Clock, Flow, Handle, Proxy, Trail, Upstream};
use crate::lifecycle::{ApiAnswer, ApiPath, Caller, Code, Grant, IntegrationId, Refusal, binding_missing};
use crate::time::Timestamp;
use bytes::Bytes;
use http::Request;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What all connections of the app socket share.
pub(super) struct Desk {
    handle: Handle,
    clock: Arc<dyn Clock>,
    proxy: Proxy,
    stop: CancellationToken,
    nudged: Mutex<BTreeMap<IntegrationId, Timestamp>>,
    tally: Arc<Tally>,
    reports: Reports,
    pub(super) pace: Pace,
}

/// How a read ended, and of what.
pub(super) struct Read {
    /// The integration, if the name means one to the caller.
    pub(super) integration: Option<IntegrationId>,
    /// The answer's bytes, or the refusal.
    pub(super) end: Result<Bytes, Refusal>,
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
    pub(super) fn new(
        handle: Handle,
        clock: Arc<dyn Clock>,
        trail: Arc<dyn Trail>,
        upstream: Arc<dyn Upstream>,
        stop: CancellationToken,
    ) -> Self {
        let proxy = Proxy::new(handle.clone(), Arc::clone(&clock), upstream);
        let tally = Arc::new(Tally::new(trail, Arc::clone(handle.board()), MINUTE));
        let (nudged, reports) = (Mutex::default(), Reports::default());
        Self { handle, clock, proxy, stop, nudged, tally, reports, pace: PACE }
    }

    /// What was read, for the audit trail.
    pub(super) const fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// What was reported, and by whom.
    pub(super) const fn reports(&self) -> &Reports {
        &self.reports
    }

    /// The wall clock, now.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Passes on what an API answered to lease `issue`. Never waits.
    pub(super) fn answered(&self, integration: &IntegrationId, answer: ApiAnswer, issue: u64) {
        self.handle.answered(integration, answer, issue);
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
    pub(super) fn read(&self, caller: &Caller, name: &str, min_ttl: Duration) -> Read {
        match self.find(caller, name) {
            Ok((grant, cell)) => self.read_cell(grant, &cell, min_ttl),
            Err(refusal) => Read { integration: None, end: Err(refusal) },
        }
    }

    /// Reads again and again until it succeeds, no waiting helps, the time is over or the daemon stops; the end is what a read
    /// would get now.
    pub(super) async fn hold(&self, caller: &Caller, name: &str, wish: Wish) -> Read {
        let read = tokio::select! {
            read = tokio::time::timeout(wish.wait, self.await_token(caller, name, wish.min_ttl)) => read.ok(),
            () = self.stop.cancelled() => None,
        };
        read.unwrap_or_else(|| self.read(caller, name, wish.min_ttl))
    }

    /// Calls the API of an integration that the caller may call so.
    ///
    /// # Errors
    /// `binding_missing`, and as [`Proxy::call`].
    pub(super) async fn call(
        &self,
        caller: &Caller,
        integration: &IntegrationId,
        path: &ApiPath,
        call: Request<Flow>,
    ) -> Result<Called, Refusal> {
        self.handle.board().bindings().may_call(caller, integration, call.method().as_str(), path)?;
        self.proxy.call(integration, call).await
    }

    /// Counts a read that is answered, and gives its end.
    ///
    /// # Errors
    /// As the table of contract §3 says.
    pub(super) fn counted(&self, caller: &Caller, read: Read) -> Result<Bytes, Refusal> {
        let outcome = read.end.as_ref().err().map_or("ok", |refusal| refusal.code.word());
        self.tally.count("token_read", caller, read.integration.as_ref(), outcome);
        read.end
    }

    async fn await_token(&self, caller: &Caller, name: &str, min_ttl: Duration) -> Read {
        loop {
            let (grant, cell) = match self.find(caller, name) {
                Ok(found) => found,
                Err(refusal) => return Read { integration: None, end: Err(refusal) },
            };
            // Before the read: a change after it is then always heard of.
            let mut changes = cell.changes();
            let read = self.read_cell(grant, &cell, min_ttl);
            if !read.end.as_ref().is_err_and(may_pass) {
                return read;
            }
            // Time passes without a change: a lease ends, the clock is set, a binding goes.
            let _changed_or_not = tokio::time::timeout(self.pace.hop, changes.changed()).await;
        }
    }

    fn read_cell(&self, grant: Grant, cell: &Cell, min_ttl: Duration) -> Read {
        let now = self.clock.now();
        let end = grant.may_read_token().and_then(|()| cell.read(min_ttl, now));
        if end.as_ref().is_err_and(|refusal| refusal.code == Code::TokenUnavailable) {
            self.nudge(&grant.integration, now);
        }
        Read { integration: Some(grant.integration), end }
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
/// How often the reads are told.
const MINUTE: Duration = Duration::from_secs(60);
const BETWEEN_NUDGES: Duration = Duration::from_secs(1);
