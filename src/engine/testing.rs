//! A stage for the tests of the edges: a handle and a board whose engine is played by an actor.

use super::handle::{Ask, Enabling, Ended, Going, Handle, Landing, Reload, Start, Started};
use super::{Board, Called, Cell, Flow, Pending, Served, Trail, Upstream};
use crate::lifecycle::{
    ApiAnswer, AuditEvent, Binding, Callback, Code, Confirmation, Heard, IntegrationId, Invitation, Lease,
    Refusal, View,
};
use crate::secret::{Imported, Ticket};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

/// Plays the engine. What is not overridden is refused with `integration_not_found`.
pub(crate) trait Actor: Send + 'static {
    fn start(&mut self, _start: Start) -> Result<Started, Refusal> {
        Err(unknown())
    }
    fn invitation(&mut self, _ticket: Ticket) -> Result<Invitation, Refusal> {
        Err(unknown())
    }
    fn confirm(&mut self, _ticket: Ticket, _confirmation: Confirmation) -> Result<Going, Refusal> {
        Err(unknown())
    }
    fn callback(&mut self, _callback: Callback) -> Result<Landing, Refusal> {
        Err(unknown())
    }
    fn refresh(&mut self, _integration: IntegrationId) -> Result<View, Refusal> {
        Err(unknown())
    }
    fn validate(&mut self, _integration: IntegrationId) -> Result<View, Refusal> {
        Err(unknown())
    }
    fn revoke(&mut self, _integration: IntegrationId) -> Result<Ended, Refusal> {
        Err(unknown())
    }
    fn delete(&mut self, _integration: IntegrationId) -> Result<Ended, Refusal> {
        Err(unknown())
    }
    fn import(&mut self, _integration: IntegrationId, _imported: &Imported) -> Result<Landing, Refusal> {
        Err(unknown())
    }
    fn enable(&mut self, _integration: IntegrationId) -> Result<Enabling, Refusal> {
        Err(unknown())
    }
    fn nudge(&mut self, _integration: IntegrationId) {}
    fn answered(&mut self, _integration: IntegrationId, _answer: ApiAnswer, _issue: u64) {}
}

/// A handle whose engine is an actor, and the board it reads from.
pub(crate) struct Stage {
    pub(crate) handle: Handle,
    pub(crate) reloads: mpsc::Receiver<Reload>,
}

impl Stage {
    /// Must be called within a runtime.
    pub(crate) fn new(bindings: Vec<Binding>, views: Vec<View>, mut actor: impl Actor) -> Self {
        let board = Arc::new(Board::new(bindings));
        let cells: BTreeMap<_, _> = views
            .into_iter()
            .map(|view| (view.identity.integration.clone(), Arc::new(Cell::new(view))))
            .collect();
        board.replace(cells);
        let (asks, mut inbox) = mpsc::channel(64);
        let (reload, reloads) = mpsc::channel(1);
        let handle = Handle::new(asks, reload, board);
        #[expect(clippy::disallowed_methods, reason = "a test's actor ends with its runtime")]
        tokio::spawn(async move {
            while let Some(ask) = inbox.recv().await {
                answer(&mut actor, ask);
            }
        });
        Self { handle, reloads }
    }

    /// Posts a new view and lease for one integration.
    pub(crate) fn post(&self, view: View, lease: Option<&Lease>) {
        let cell = self.handle.board().cell(view.identity.integration.as_str()).unwrap();
        let heard = Heard::of(lease.map_or(0, |lease| lease.issue));
        cell.post(view, lease.map(|lease| Arc::new(Served::of(lease))), heard);
    }

    /// Puts other bindings in force.
    pub(crate) fn bind(&self, bindings: Vec<Binding>) {
        self.handle.board().bind(bindings);
    }
}

/// A trail that keeps what is recorded.
#[derive(Default)]
pub(crate) struct Notes(Mutex<Vec<AuditEvent>>);

impl Notes {
    /// What was recorded since the last look.
    pub(crate) fn take(&self) -> Vec<AuditEvent> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Trail for Notes {
    fn record(&self, event: AuditEvent) {
        self.0.lock().unwrap().push(event);
    }

    fn after(&self, sequence: u64, most: usize) -> Pending<Vec<serde_json::Value>> {
        let first = usize::try_from(sequence).unwrap();
        let count = self.0.lock().unwrap().len();
        let numbered = (1..=count).skip(first).take(most);
        Box::pin(std::future::ready(numbered.map(|seq| serde_json::json!({ "seq": seq })).collect()))
    }
}

/// A lease as the board would post it.
pub(crate) fn served(lease: &Lease) -> Arc<Served> {
    Arc::new(Served::of(lease))
}

/// An upstream that leads nowhere.
pub(crate) struct Nowhere;

impl Upstream for Nowhere {
    fn call(
        &self,
        _integration: &IntegrationId,
        _lease: Arc<Served>,
        _call: http::Request<Flow>,
    ) -> Pending<Result<Called, Refusal>> {
        Box::pin(std::future::ready(Err(Refusal::new(Code::UpstreamUnreachable, "there is none"))))
    }
}

fn answer(actor: &mut impl Actor, ask: Ask) {
    let _reader_may_be_gone = match ask {
        Ask::Start(start, reply) => reply.send(actor.start(start)).is_ok(),
        Ask::Peek(ticket, reply) => reply.send(actor.invitation(ticket)).is_ok(),
        Ask::Confirm(ticket, how, reply) => reply.send(actor.confirm(ticket, how)).is_ok(),
        Ask::Callback(callback, reply) => reply.send(actor.callback(*callback)).is_ok(),
        Ask::Refresh(integration, reply) => reply.send(actor.refresh(integration)).is_ok(),
        Ask::Validate(integration, reply) => reply.send(actor.validate(integration)).is_ok(),
        Ask::Revoke(integration, reply) => reply.send(actor.revoke(integration)).is_ok(),
        Ask::Delete(integration, reply) => reply.send(actor.delete(integration)).is_ok(),
        Ask::Import(id, imported, reply) => reply.send(actor.import(id, &imported)).is_ok(),
        Ask::Device(_, reply) => reply.send(Err(unknown())).is_ok(),
        Ask::Enable(id, reply) => reply.send(actor.enable(id)).is_ok(),
        Ask::Recover(_, reply) => reply.send(Err(unknown())).is_ok(),
        Ask::Nudge(integration) | Ask::Due(integration) => {
            actor.nudge(integration);
            true
        }
        Ask::Answered(integration, answer, issue) => {
            actor.answered(integration, answer, issue);
            true
        }
        Ask::Replan(_, _, done) | Ask::Turn(done) => done.send(()).is_ok(),
    };
}

fn unknown() -> Refusal {
    Refusal::new(Code::IntegrationNotFound, "no such integration")
}
