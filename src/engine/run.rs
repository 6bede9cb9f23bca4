//! The loop: one task that owns every integration and turns once for each thing that happens.
//!
//! Nothing in a turn waits: effects become tasks, and their ends come back as events. The deadline of each integration
//! stands in one ordered set; sleeps are capped, and the wall clock is looked at again after each.

use super::board::{Board, Cell, Served};
use super::consents::Asked;
use super::handle::{Ask, DeviceStarted, Handle, Recovered, Reload, Reply, Start, Started};
use super::live::{Live, failure_of};
use super::plan::Plan;
use super::ports::{Authorized, Authorizer, Clock, DeviceFlow, Entropy, Performer, Preflight, Trail};
use crate::lifecycle::{
    Actor, Asker, AuditEvent, Code, Completion, Consents, Effect, Event, Found, Identity, IntegrationId,
    Missing, Op, Refusal, Revocation, Sealed,
};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the engine needs from the world.
pub struct Ports {
    /// Carries effects out.
    pub performer: Arc<dyn Performer>,
    /// Makes authorization requests.
    pub authorizer: Arc<dyn Authorizer>,
    /// Looks whether a consent may begin.
    pub preflight: Arc<dyn Preflight>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// Keeps the audit trail.
    pub trail: Arc<dyn Trail>,
}

/// The owner of every integration.
pub struct Engine {
    pub(super) ports: Ports,
    pub(super) plan: Plan,
    pub(super) lives: BTreeMap<IntegrationId, Live>,
    deadlines: BTreeSet<(Timestamp, IntegrationId)>,
    pub(super) consents: Consents,
    board: Arc<Board>,
    inbox: mpsc::Receiver<Ask>,
    pub(super) tasks: JoinSet<End>,
    running: BTreeMap<tokio::task::Id, (IntegrationId, Op, Completion)>,
    /// What the wall clock showed when it was last looked at.
    seen: Timestamp,
}

/// How a task ended.
pub(super) enum End {
    Effect(IntegrationId, Op, Completion),
    Released,
    Looked(Box<Start>, Vec<Missing>, Reply<Started>),
    Device(IntegrationId, Box<Result<DeviceFlow, Refusal>>, Reply<DeviceStarted>),
    Authorized(Box<Asked>, Result<Authorized, Refusal>),
    Quarantined(IntegrationId, Vec<Arc<Sealed>>, Reply<Recovered>),
}

impl Engine {
    /// An engine, a handle to it, and the reloads that handles ask for (for `daemon`). Call within a runtime.
    #[must_use]
    pub fn new(plan: Plan, ports: Ports, consents: Consents) -> (Self, Handle, mpsc::Receiver<Reload>) {
        let (asks, inbox) = mpsc::channel(1024);
        let (reload, reloads) = mpsc::channel(4);
        let board = Arc::new(Board::new(plan.bindings.clone()));
        let handle = Handle::new(asks, reload, Arc::clone(&board));
        let engine = Self {
            ports,
            plan: Plan { integrations: BTreeMap::new(), ..plan },
            lives: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            consents,
            board,
            inbox,
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            seen: Timestamp::EPOCH,
        };
        (engine, handle, reloads)
    }

    /// Brings the integrations of a plan to life from what the spool holds. The first thing an engine does.
    pub fn restore(&mut self, plan: Plan, found: BTreeMap<IntegrationId, Found>) {
        self.replan(plan, found);
    }

    /// Turns until `stop`, then finishes what is in flight and returns. Nothing that was begun is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut stopping = false;
        while !stopping || !self.tasks.is_empty() {
            self.look_at_the_clock();
            let hop = self.next_hop();
            tokio::select! {
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.drain();
                }
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.ended(ended),
                ask = self.inbox.recv(), if !stopping => match ask {
                    Some(ask) => self.asked(ask),
                    None => stopping = true,
                },
                () = pause(hop), if !stopping => self.fire(),
            }
        }
        tracing::debug!("the engine has stopped");
    }

    fn drain(&mut self) {
        self.inbox.close();
        let ids: Vec<IntegrationId> = self.lives.keys().cloned().collect();
        for id in ids {
            let Some(live) = self.lives.get_mut(&id) else { continue };
            let identity = live.identity.clone();
            for effect in live.machine.drain() {
                self.carry_out(&id, &identity, effect);
            }
        }
    }

    /// A wall clock that was set back takes every wait with it, so that this too costs one hop at most.
    fn look_at_the_clock(&mut self) {
        let now = self.ports.clock.now();
        let by = self.seen.since(now);
        self.seen = now;
        if by < A_STEP {
            return;
        }
        tracing::warn!(back = ?by, "the wall clock was set back");
        let ids: Vec<IntegrationId> = self.lives.keys().cloned().collect();
        for id in ids {
            self.feed(&id, Event::ClockSetBack(by));
        }
    }

    fn next_hop(&self) -> Duration {
        let now = self.ports.clock.now();
        let until = self.deadlines.first().map_or(HOP, |(at, _)| at.since(now));
        until.min(HOP)
    }

    fn fire(&mut self) {
        let now = self.ports.clock.now();
        self.consents.sweep(now);
        while let Some((at, id)) = self.deadlines.first().cloned() {
            if at > now {
                break;
            }
            self.feed(&id, Event::DeadlineReached);
            let still_due =
                self.lives.get(&id).and_then(|live| live.deadline).is_some_and(|next| next <= now);
            if still_due {
                // A deadline that nothing came of must not turn the loop into a spin.
                self.set_deadline(&id, Some(now.plus(Duration::from_millis(100))));
            }
        }
    }

    fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Start(start, reply) => self.look(start, reply),
            Ask::Peek(ticket, reply) => {
                answer(reply, self.consents.peek(&ticket, self.ports.clock.now()).cloned());
            }
            Ask::Confirm(ticket, confirmation, reply) => self.confirm(ticket, confirmation, reply),
            Ask::Callback(callback, reply) => self.callback(*callback, reply),
            Ask::Refresh(id, reply) => self.refresh(&id, reply),
            Ask::Validate(id, reply) => self.validate(&id, reply),
            Ask::Revoke(id, reply) => self.revoke(&id, reply),
            Ask::Delete(id, reply) => self.delete(&id, reply),
            Ask::Import(id, imported, reply) => self.import(&id, imported, reply),
            Ask::Device(id, reply) => self.device(&id, reply),
            Ask::Enable(id, reply) => self.enable(&id, reply),
            Ask::Recover(id, reply) => self.recover(&id, reply),
            Ask::Nudge(id) => self.feed(&id, Event::RotationAsked { by: Asker::App }),
            Ask::Answered(id, answer, issue) => self.api_answered(&id, answer, issue),
            Ask::Due(id) => self.feed(&id, Event::RotationAsked { by: Asker::Schedule }),
            Ask::Replan(plan, found, done) => {
                self.replan(*plan, found);
                let _gone = done.send(());
            }
            Ask::Turn(done) => {
                let _gone = done.send(());
            }
        }
    }

    /// One turn for one integration: the event in, the effects out, the board up to date.
    pub(super) fn feed(&mut self, id: &IntegrationId, event: Event) {
        let now = self.ports.clock.now();
        let Some(live) = self.lives.get_mut(id) else { return };
        let identity = live.identity.clone();
        let effects = live.machine.handle(event, now);
        let is_word = |effect: &Effect| matches!(effect, Effect::Tell(_));
        let (words, deeds): (Vec<_>, Vec<_>) = effects.into_iter().partition(is_word);
        for deed in deeds {
            self.carry_out(id, &identity, deed);
        }
        let Some(live) = self.lives.get_mut(id) else { return };
        live.cell.post(live.machine.view(now), live.served.clone(), live.machine.heard());
        // Whoever hears that it is stored must not read another status at that moment.
        for word in words {
            self.carry_out(id, &identity, word);
        }
        let Some(live) = self.lives.get_mut(id) else { return };
        live.settle(now);
        let next = live.machine.deadline();
        let gone = live.leaving && !live.machine.is_busy();
        self.set_deadline(id, next);
        if gone {
            self.set_deadline(id, None);
            self.lives.remove(id);
        }
    }

    fn carry_out(&mut self, id: &IntegrationId, identity: &Identity, effect: Effect) {
        let Some(live) = self.lives.get_mut(id) else { return };
        match effect {
            Effect::Publish(lease) => live.served = Some(Arc::new(Served::of(&lease))),
            Effect::Withdraw => live.served = None,
            Effect::Tell(end) => live.tell(end),
            Effect::Audit(entry) => self.ports.trail.record(AuditEvent::transition(identity, entry)),
            effect @ (Effect::Release { .. } | Effect::Quarantine(_)) => {
                let pending = self.ports.performer.perform(identity, effect);
                let _task = self.tasks.spawn(async move {
                    let _acknowledged = pending.await;
                    End::Released
                });
            }
            effect @ (Effect::Claim { op, .. }
            | Effect::Intend { op, .. }
            | Effect::Exchange { op, .. }
            | Effect::Refresh { op, .. }
            | Effect::Mint { op, .. }
            | Effect::Seal { op, .. }
            | Effect::Try { op, .. }
            | Effect::Store { op, .. }
            | Effect::Clear { op, .. }
            | Effect::Delete { op }
            | Effect::Load { op }
            | Effect::Mark { op, .. }
            | Effect::RevokeUpstream { op, .. }) => {
                let failure = failure_of(&effect);
                let pending = self.ports.performer.perform(identity, effect);
                let whose = id.clone();
                let task = self.tasks.spawn(async move { End::Effect(whose, op, pending.await) });
                self.running.insert(task.id(), (id.clone(), op, failure));
            }
        }
    }

    fn ended(&mut self, ended: Result<(tokio::task::Id, End), tokio::task::JoinError>) {
        match ended {
            Ok((task, End::Effect(id, op, end))) => {
                self.running.remove(&task);
                self.feed(&id, Event::Done { op, end });
            }
            Ok((_, End::Released)) => {}
            Ok((_, End::Looked(start, missing, reply))) => self.looked(&start, missing, reply),
            Ok((_, End::Device(id, flow, reply))) => self.device_asked(&id, *flow, reply),
            Ok((_, End::Authorized(asked, result))) => self.authorized(*asked, result),
            Ok((_, End::Quarantined(id, kept, reply))) => self.quarantined(&id, &kept, reply),
            Err(broken) => {
                // A bug in an edge must not leave an integration waiting for ever.
                if let Some((id, op, failure)) = self.running.remove(&broken.id()) {
                    tracing::error!(integration = %id, "an effect broke off");
                    self.feed(&id, Event::Done { op, end: failure });
                }
            }
        }
    }

    /// Leaves an event of an operation in the trail.
    pub(super) fn note(
        &self,
        what: &'static str,
        actor: Actor,
        whose: Option<&Identity>,
        refusal: Option<&Refusal>,
    ) {
        let event = match refusal {
            None => AuditEvent::done(what, actor),
            Some(refusal) => AuditEvent::refused(what, actor, refusal.code),
        };
        self.ports.trail.record(AuditEvent { identity: whose.cloned(), ..event });
    }

    fn set_deadline(&mut self, id: &IntegrationId, next: Option<Timestamp>) {
        let Some(live) = self.lives.get_mut(id) else { return };
        if live.deadline == next {
            return;
        }
        if let Some(old) = live.deadline {
            self.deadlines.remove(&(old, id.clone()));
        }
        live.deadline = next;
        if let Some(next) = next {
            self.deadlines.insert((next, id.clone()));
        }
    }

    fn replan(&mut self, plan: Plan, mut found: BTreeMap<IntegrationId, Found>) {
        let now = self.ports.clock.now();
        for (id, live) in &mut self.lives {
            live.leaving = !plan.integrations.contains_key(id);
        }
        let (mut fresh, mut mended) = (Vec::new(), Vec::new());
        for (id, planned) in &plan.integrations {
            match self.lives.get_mut(id) {
                Some(live) => {
                    live.machine.set_terms(planned.terms.clone());
                    mended.push((id.clone(), live.machine.deadline()));
                }
                None => {
                    self.lives.insert(id.clone(), Live::new(planned, now));
                    fresh.push(id.clone());
                }
            }
        }
        let cells: BTreeMap<IntegrationId, Arc<Cell>> = self
            .lives
            .iter()
            .filter(|(_, live)| !live.leaving)
            .map(|(id, live)| (id.clone(), Arc::clone(&live.cell)))
            .collect();
        self.board.replace(cells);
        self.board.bind(plan.bindings.clone());
        self.plan = plan;
        for (id, next) in mended {
            self.set_deadline(&id, next);
        }
        for id in fresh {
            self.feed(&id, Event::Restored(found.remove(&id).unwrap_or_default()));
        }
        let idle = |live: &Live| live.leaving && !live.machine.is_busy();
        let gone: Vec<_> =
            self.lives.iter().filter(|(_, live)| idle(live)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.set_deadline(&id, None);
            self.lives.remove(&id);
        }
    }
}

pub(super) fn answer<T>(reply: Reply<T>, end: Result<T, Refusal>) {
    // Whoever asked may have gone; nothing depends on the answer being heard.
    let _gone = reply.send(end);
}

pub(super) const UNKNOWN_UPSTREAM: Revocation = Revocation::Silent;

pub(super) fn not_found() -> Refusal {
    Refusal::new(Code::IntegrationNotFound, "there is no integration of that name: `grantd list` shows all")
}

#[expect(clippy::disallowed_methods, reason = "the one place that waits for deadlines")]
async fn pause(hop: Duration) {
    tokio::time::sleep(hop).await;
}

/// The longest sleep: after it the wall clock is looked at again, so that a suspended host is late by one hop at most.
const HOP: Duration = Duration::from_secs(10);
/// Less than this is a clock being slewed, not set.
const A_STEP: Duration = Duration::from_secs(1);
