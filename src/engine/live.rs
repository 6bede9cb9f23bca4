//! One integration in the engine's hands: its machine, its cell on the board, and who waits for what.

use super::board::{Cell, Served};
use super::consents::landing;
use super::handle::{Enabling, Ended, Reply};
use super::plan::Planned;
use super::run::{UNKNOWN_UPSTREAM, answer};
use crate::lifecycle::{
    Code, Completion, ConsentEnd, Effect, Identity, Integration, Refusal, Revocation, Spent, SpoolFault,
    StoreFault, Trial, View, WireFault,
};
use crate::time::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// One integration, alive.
pub(super) struct Live {
    pub(super) identity: Identity,
    pub(super) machine: Integration,
    pub(super) cell: Arc<Cell>,
    pub(super) served: Option<Arc<Served>>,
    pub(super) deadline: Option<Timestamp>,
    /// No longer configured: finishes what is in flight and goes.
    pub(super) leaving: bool,
    pub(super) consents: VecDeque<Waiter>,
    pub(super) refreshes: Vec<(u64, Reply<View>)>,
    pub(super) enablings: Vec<(u64, Reply<Enabling>)>,
    pub(super) validations: Vec<Reply<View>>,
    pub(super) endings: Vec<Reply<Ended>>,
}

/// A page that waits for the end of its consent. Consents of one integration end in the order in which they came.
pub(super) struct Waiter {
    pub(super) identity: Identity,
    pub(super) provider_name: String,
    pub(super) kept_in: String,
    pub(super) then: Option<String>,
    pub(super) reply: Reply<super::Landing>,
}

impl Live {
    pub(super) fn new(planned: &Planned, now: Timestamp) -> Self {
        let machine = Integration::new(planned.identity.clone(), planned.terms.clone());
        Self {
            identity: planned.identity.clone(),
            cell: Arc::new(Cell::new(machine.view(now))),
            machine,
            served: None,
            deadline: None,
            leaving: false,
            consents: VecDeque::new(),
            refreshes: Vec::new(),
            enablings: Vec::new(),
            validations: Vec::new(),
            endings: Vec::new(),
        }
    }

    pub(super) fn tell(&mut self, end: ConsentEnd) {
        if let Some(waiter) = self.consents.pop_front() {
            let landed = landing(&waiter, end);
            answer(waiter.reply, landed);
        }
    }

    /// Answers those whose wait is over.
    pub(super) fn settle(&mut self, now: Timestamp) {
        if self.machine.is_busy() {
            return;
        }
        let orders =
            self.refreshes.len() + self.enablings.len() + self.validations.len() + self.endings.len();
        if orders == 0 {
            return;
        }
        let view = self.machine.view(now);
        for (before, reply) in self.refreshes.drain(..) {
            let fresh = self.machine.refreshes() > before;
            answer(reply, if fresh { Ok(view.clone()) } else { Err(not_refreshed(&view)) });
        }
        for (before, reply) in self.enablings.drain(..) {
            let fresh = self.machine.refreshes() > before;
            answer(
                reply,
                if fresh { Ok(Enabling::Works(Box::new(view.clone()))) } else { Err(not_refreshed(&view)) },
            );
        }
        let validated = if self.machine.is_validating() { 0 } else { self.validations.len() };
        for reply in self.validations.drain(..validated) {
            let silent = self.machine.was_silent();
            answer(reply, if silent { Err(not_validated(&view)) } else { Ok(view.clone()) });
        }
        for reply in self.endings.drain(..) {
            let upstream = self.machine.upstream().unwrap_or(UNKNOWN_UPSTREAM);
            answer(reply, Ok(Ended { view: view.clone(), upstream }));
        }
    }
}

fn not_refreshed(view: &View) -> Refusal {
    Refusal::new(Code::TokenUnavailable, view.message.clone()).with_actions(&view.actions)
}

fn not_validated(view: &View) -> Refusal {
    let why = "the provider did not say whether it takes the token: nothing changes, try again in a while";
    Refusal::new(Code::TokenUnavailable, why).with_actions(&view.actions).with_retry_after(A_WHILE)
}

/// What is assumed when an edge breaks off: the least that is safe.
pub(super) fn failure_of(effect: &Effect) -> Completion {
    match effect {
        Effect::Claim { .. } => Completion::ClaimRefused,
        Effect::Intend { .. } => Completion::IntentFailed(SpoolFault::Broken),
        Effect::Exchange { .. } | Effect::Refresh { .. } | Effect::Mint { .. } => {
            Completion::Answered(Spent::Lost(WireFault::Reset))
        }
        Effect::Seal { .. } => Completion::SealFailed(SpoolFault::Broken),
        Effect::Try { .. } => Completion::Tried(Trial::Silent),
        Effect::Store { .. } | Effect::Clear { .. } | Effect::Delete { .. } => {
            Completion::StoreFailed(StoreFault::Other)
        }
        Effect::Load { .. } => Completion::LoadFailed(StoreFault::Other),
        Effect::RevokeUpstream { .. } => Completion::UpstreamRevoked(Revocation::Silent),
        Effect::Mark { .. }
        | Effect::Release { .. }
        | Effect::Quarantine(_)
        | Effect::Publish(_)
        | Effect::Withdraw
        | Effect::Audit(_)
        | Effect::Tell(_) => Completion::MarkFailed(SpoolFault::Broken),
    }
}

const A_WHILE: Duration = Duration::from_secs(30);
