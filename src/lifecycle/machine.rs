//! The behaviour of one integration: an event comes in, effects go out. Pure.
//!
//! This file holds the door: dispatch, deadlines, the audit line of each transition. The steps are next door:
//! `restore.rs` (start), `spend.rs` (refresh and exchange), `keep.rs` (the store), `ending.rs` (revocation),
//! `portrait.rs` (the view). Events with a stale operation id are ignored.

use super::debt::Debt;
use super::device::Device;
use super::health::Health;
use super::life::{Doubt, Retry, Writing};
use super::life::{
    Flight, Kind, Life, Phase, Restoring, Served, Spend, Stage, Step, Tombstone, Trouble, Unstored,
};
use super::spend::STOPPING;
use super::validation::Validation;
use super::{
    Asker, Code, Completion, Doubted, Effect, Effects, Entry, Event, Identity, Lease, Mark, Op, Outage,
    Record, Revocation, Rotation, Sealed, Terms, policy,
};
use crate::time::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// One organization's authorization at one provider, alive.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says one thing that happened; they do not form a state"
)]
pub struct Integration {
    pub(super) identity: Identity,
    pub(super) terms: Terms,
    pub(super) seed: u64,
    pub(super) mark: Mark,
    pub(super) life: Life,
    /// The newest generation that is known, unless it was revoked.
    pub(super) grant: Option<Arc<Record>>,
    pub(super) served: Option<Served>,
    pub(super) flight: Option<Flight>,
    pub(super) waiting: VecDeque<Spend>,
    /// The tries of the import in flight after which nobody waits for it; 0 for everything else.
    pub(super) unheard: u32,
    /// A device code that waits to be entered, and what came of the last one.
    pub(super) device: Option<Device>,
    pub(super) declined: Option<&'static str>,
    /// Whether the provider has refused the newest refresh token, and a crash came before the store was read for a newer one.
    pub(super) refused: bool,
    /// Consents that a crash left sealed and undecided.
    pub(super) unverified: VecDeque<Arc<Sealed>>,
    /// A presentation that a crash left in doubt, until the generation that was presented is known to be the newest.
    pub(super) doubted: Option<Doubted>,
    /// The generation of a sealed answer that cannot be read: it stays in its slot until the next answer.
    pub(super) unreadable: Option<u64>,
    /// The highest generation under which an answer was sealed.
    pub(super) sealed_up_to: u64,
    /// Whether the slot holds an answer that a restart would find, and whether the mark under way scrubs it.
    pub(super) holds: bool,
    pub(super) scrubs: bool,
    /// The disk did not take the last mark: when it is written again.
    pub(super) unmarked: Option<Retry>,
    pub(super) unstored: Option<Unstored>,
    pub(super) writing: Option<Writing>,
    pub(super) debt: Option<Debt>,
    pub(super) doubt: Option<Doubt>,
    pub(super) retry: Option<Retry>,
    pub(super) trouble: Option<Trouble>,
    pub(super) nudged: Option<Timestamp>,
    pub(super) asked: Option<Timestamp>,
    pub(super) validated: Option<Timestamp>,
    pub(super) health: Health,
    pub(super) validation: Validation,
    /// What the provider said to the revocation of what was deleted since.
    pub(super) farewell: Option<Revocation>,
    pub(super) refreshes: u64,
    /// Whether the store was never read, because a sealed answer came first.
    pub(super) unread: bool,
    /// When the last event came.
    pub(super) clock: Timestamp,
    /// Whether the daemon is stopping: what is in flight goes on, nothing is begun.
    pub(super) draining: bool,
    pub(super) out: Effects,
    ops: u64,
    note: Option<(&'static str, &'static str)>,
    /// The life as the last event left it: terms that change meanwhile are part of the next transition.
    said: &'static str,
}

impl Integration {
    /// An integration before its first event, which must be `Event::Restored`.
    #[must_use]
    pub fn new(identity: Identity, terms: Terms) -> Self {
        Self {
            seed: policy::seed_of(identity.integration.as_str()),
            identity,
            terms,
            mark: Mark::default(),
            life: Life::Restoring(Restoring { step: None, attempts: 0, refused: None }),
            grant: None,
            served: None,
            flight: None,
            waiting: VecDeque::new(),
            unheard: 0,
            device: None,
            declined: None,
            refused: false,
            unverified: VecDeque::new(),
            doubted: None,
            unreadable: None,
            sealed_up_to: 0,
            holds: false,
            scrubs: false,
            unmarked: None,
            unstored: None,
            writing: None,
            debt: None,
            doubt: None,
            retry: None,
            trouble: None,
            nudged: None,
            asked: None,
            validated: None,
            health: Health::default(),
            validation: Validation::default(),
            farewell: None,
            refreshes: 0,
            unread: false,
            clock: Timestamp::EPOCH,
            draining: false,
            out: Vec::new(),
            ops: 0,
            note: None,
            said: "pending",
        }
    }

    /// Takes one event and says what is to be done, in order. Leaves exactly one audit entry for each transition (invariant 9).
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Effects {
        self.clock = now;
        let from = self.said;
        self.take(event, now);
        self.go_on(now);
        self.validate_if_due(now);
        let to = self.word();
        self.said = to;
        let note = self.note.take().or_else(|| (from != to).then_some(("changed", "")));
        if let Some((what, cause)) = note {
            let generation = self.newest_generation();
            self.out.push(Effect::Audit(Entry { what, from, to, cause, generation }));
        }
        std::mem::take(&mut self.out)
    }

    /// When to send `Event::DeadlineReached`. Every waiting state has one (invariant 7), but those that end by a completion
    /// or by a person.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let lease = self.served.and_then(|served| served.until);
        // While a spend is in flight it owns the slot: everything else waits for its end.
        let others = if self.flight.is_some() { None } else { self.resting_until() };
        let flight = self.flight.as_ref().and_then(Flight::until);
        let refresh = if self.is_keeping() {
            self.due_beside_a_write(self.clock)
        } else {
            self.refresh_due(self.clock)
        };
        [lease, others, flight, refresh, self.debt_due(), self.health.until(), self.validation_due()]
            .into_iter()
            .flatten()
            .min()
    }

    fn resting_until(&self) -> Option<Timestamp> {
        let write = self.unstored.as_ref().and_then(|unstored| unstored.phase.until());
        let life = match &self.life {
            Life::Restoring(restoring) => restoring.step.and_then(Step::until),
            Life::Revoked(ending) => ending.stage.until(),
            Life::Unconnected(_) | Life::Connected | Life::NeedsReauth => None,
        };
        let mark = self.unmarked.map(|unmarked| unmarked.at);
        let ghost = self.writing.and_then(|writing| writing.until);
        [write, life, mark, ghost, self.poll_due()].into_iter().flatten().min()
    }

    /// Puts new terms in force, after a reload.
    pub fn set_terms(&mut self, terms: Terms) {
        self.terms = terms;
        if self.trouble.is_some_and(|trouble| trouble.kind == Kind::Client) {
            // Whatever the provider rejected may be mended now.
            self.retry = None;
        }
    }

    /// Begins nothing any more; what is in flight is finished. Consents that wait for their turn are refused: their codes were
    /// not sent.
    #[must_use]
    pub fn drain(&mut self) -> Effects {
        self.draining = true;
        self.device = None;
        while self.waiting.pop_front().is_some() {
            self.tell_refused(Code::TokenUnavailable, STOPPING);
        }
        std::mem::take(&mut self.out)
    }

    /// Whether something is under way whose end will change the view.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let flying = self.flight.as_ref().is_some_and(|flight| flight.until().is_none());
        let reading = match &self.life {
            Life::Restoring(restoring) => restoring.step.is_none_or(|step| step.until().is_none()),
            // Not over for whoever waits, before it would survive a crash.
            Life::Revoked(ending) => !ending.stage.is_resting() || ending.tombstone != Tombstone::Durable,
            Life::Unconnected(_) | Life::Connected | Life::NeedsReauth => false,
        };
        flying || self.is_keeping() || reading || !self.waiting.is_empty() || !self.unverified.is_empty()
    }

    /// How many times fresh tokens were received since the start.
    #[must_use]
    pub const fn refreshes(&self) -> u64 {
        self.refreshes
    }

    /// What the provider said to the revocation, once it is known.
    #[must_use]
    pub const fn upstream(&self) -> Option<Revocation> {
        match &self.life {
            Life::Revoked(ending) => ending.upstream,
            Life::Unconnected(_) => self.farewell,
            Life::Restoring(_) | Life::Connected | Life::NeedsReauth => None,
        }
    }

    fn take(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Restored(found) => self.restore(found, now),
            Event::DeadlineReached => self.wake(now),
            Event::ClockSetBack(by) => self.set_back(by, now),
            Event::RotationAsked { by } => self.rotation_asked(by, now),
            Event::ValidationAsked => self.validation_asked(now),
            Event::EnablingAsked => self.enable(now),
            Event::RevocationAsked { by: _ } => self.revoke(),
            Event::DeletionAsked => self.delete(),
            Event::CodeReceived(exchange) if exchange.pace.is_some() => {
                self.device_begun(Arc::from(exchange), now);
            }
            Event::CodeReceived(exchange) => self.waiting.push_back(Spend::Exchange(Arc::from(exchange))),
            Event::Imported(imported) => self.imported(&imported, now),
            Event::ApiAnswered { answer, issue } => self.api_answered(&answer, issue, now),
            Event::Recovered(sealed) => self.recovered(sealed),
            Event::Done { op, end } => self.done(op, end, now),
        }
    }

    /// What became possible by the event: a consent that waited, a spend that is due, the next step of an ending.
    fn go_on(&mut self, now: Timestamp) {
        if self.flight.is_some() {
            return;
        }
        self.take_up_write(now);
        if self.is_keeping() {
            if !self.draining && self.due_beside_a_write(now).is_some_and(|due| due <= now) {
                self.begin_refresh(now);
            }
            return;
        }
        if let Life::Revoked(ending) = &self.life
            && (ending.stage == Stage::Waiting || (self.waiting.is_empty() && ending.stage.is_due(now)))
        {
            return self.end_on(now);
        }
        let resting = match &self.life {
            // A consent may begin while the store cannot be read; its record waits sealed.
            Life::Restoring(restoring) => restoring.step.and_then(Step::until).is_some(),
            Life::Revoked(ending) => ending.stage.is_resting(),
            Life::Unconnected(_) | Life::Connected | Life::NeedsReauth => true,
        };
        if self.draining {
            return;
        }
        if resting && self.unmarked.is_some_and(|unmarked| unmarked.at <= now) {
            return self.tidy();
        }
        if resting && let Some(sealed) = self.unverified.pop_front() {
            return self.take_up(sealed, now);
        }
        if resting && let Some(spend) = self.waiting.pop_front() {
            self.claim(spend);
        } else if self.refused && self.unstored.is_none() && matches!(self.life, Life::Connected) {
            self.reread(0);
        } else if resting && self.unstored.is_none() && self.is_stranded() {
            self.needs_reauth(if self.health.is_rejected() { "token_invalid" } else { "no_refresh_token" });
        } else if self.refresh_due(now).is_some_and(|due| due <= now) {
            self.begin_refresh(now);
        } else if resting {
            self.poll(now);
        }
    }

    fn wake(&mut self, now: Timestamp) {
        if self.served.is_some_and(|served| served.until.is_some_and(|until| until <= now)) {
            self.served = None;
            self.out.push(Effect::Withdraw);
            self.note("lease_ended", "");
        }
        self.wake_health(now);
        if !self.draining {
            self.wake_debt(now);
        }
        if self.flight.is_some() {
            return self.wake_spend(now);
        }
        self.wake_restore(now);
        self.wake_keep(now);
    }

    fn done(&mut self, op: Op, end: Completion, now: Timestamp) {
        if self.flight.as_ref().and_then(Flight::op) == Some(op) {
            self.flight_done(end, now);
        } else if self.debt.as_ref().and_then(|debt| debt.step.op()) == Some(op) {
            self.debt_done(&end, now);
        } else if self.writing.is_some_and(|writing| writing.op == op) {
            self.write_done(&end, now);
        } else if self.unstored.as_ref().and_then(|unstored| unstored.phase.op()) == Some(op) {
            self.keep_done(end, now);
        } else if self.validation.op() == Some(op) {
            if let Completion::Tried(trial) = end {
                self.validated(trial, now);
            }
        } else {
            match &self.life {
                Life::Restoring(restoring) if restoring.step == Some(Step::Busy(op)) => {
                    self.restore_done(end, now);
                }
                Life::Revoked(ending) if ending.stage.op() == Some(op) => self.ending_done(end, now),
                Life::Restoring(_)
                | Life::Unconnected(_)
                | Life::Connected
                | Life::NeedsReauth
                | Life::Revoked(_) => {}
            }
        }
    }

    pub(super) fn rotation_asked(&mut self, by: Asker, now: Timestamp) {
        if let Life::Restoring(restoring) = &self.life {
            let waits = restoring.step.and_then(Step::until).is_some() && self.flight.is_none();
            if by == Asker::Operator && waits {
                self.load_again();
            }
            return;
        }
        if matches!(self.life, Life::Unconnected(Some(_))) && by == Asker::Operator && self.flight.is_none() {
            // Whatever was in the way may be gone.
            return self.load_anew();
        }
        if let Some(unstored) = &mut self.unstored
            && unstored.phase.until().is_some()
            && by == Asker::Operator
            && self.flight.is_none()
        {
            unstored.phase = Phase::Waiting(now);
            return self.wake_keep(now);
        }
        if !matches!(self.life, Life::Connected) || self.doubt.is_some() || self.flight.is_some() {
            return;
        }
        match by {
            Asker::App if self.asked.is_some_and(|asked| now.since(asked) < SELDOM_FOR_APPS) => {}
            Asker::App => self.nudge_seldom(now),
            Asker::Operator => {
                self.retry = None;
                self.nudged = Some(now);
            }
            Asker::Schedule => {
                let spread = Duration::from_millis(self.seed % 1000);
                self.nudged = Some(self.retry.map_or(now, |retry| retry.at.max(now)).plus(spread));
            }
        }
    }

    /// One refresh, not before the last that came of apps is 30 s old (contract §3).
    pub(super) fn nudge_seldom(&mut self, now: Timestamp) {
        let seldom = self.asked.map_or(now, |asked| asked.plus(SELDOM_FOR_APPS).max(now));
        self.asked = Some(seldom);
        self.nudged = Some(self.retry.map_or(seldom, |retry| retry.at.max(seldom)));
    }

    /// When the next presentation of the refresh token is due, if nothing stands in its way.
    pub(super) fn refresh_due(&self, now: Timestamp) -> Option<Timestamp> {
        let free = self.flight.is_none() && self.waiting.is_empty() && self.unverified.is_empty();
        // A newer token that memory alone holds: the one before it is spent, and this one would be lost by a crash.
        let fleeting = self.unstored.as_ref().is_some_and(|unstored| !unstored.durable);
        if !free || fleeting || self.refused || !matches!(self.life, Life::Connected) {
            return None;
        }
        if !self.can_refresh() {
            return None;
        }
        if let Some(doubt) = self.doubt {
            return doubt.at;
        }
        let planned = match self.served {
            Some(Served { from, until }) => until.map(|until| self.planned(from, until)),
            None => self.wants_a_lease().then_some(Timestamp::EPOCH),
        };
        let next = self.retry.map(|retry| retry.at).or(planned);
        let due = [next, self.nudged].into_iter().flatten().min()?;
        if self.is_held(now) { Some(due.max(self.last_chance()?)) } else { Some(due) }
    }

    /// Whether a refresh waits until the lease is about to end, because its rotated token could not be stored (design §3, step 4).
    fn is_held(&self, now: Timestamp) -> bool {
        let repeatable = self.terms.origin.is_repeatable();
        if repeatable || matches!(self.terms.rotation, Rotation::None | Rotation::ReuseOk) {
            return false;
        }
        let store_is_down = self.terms.outage == Outage::Hold && self.unstored.is_some();
        store_is_down || self.is_out_of_budget(now)
    }

    /// Whether the store would not take another version today.
    pub(super) fn is_out_of_budget(&self, now: Timestamp) -> bool {
        self.terms.write_budget.is_some_and(|budget| self.mark.writes.of_the_day(now) >= budget)
    }

    /// When the lease is about to end; long ago if there is none, never if it has no end.
    pub(super) fn last_chance(&self) -> Option<Timestamp> {
        let Some(Served { from, until }) = self.served else { return Some(Timestamp::EPOCH) };
        until.map(|until| policy::last_chance(from, until))
    }

    /// Whether a spend may be sent: it may not once the daemon stops or the grant ends. Only a later consent is still exchanged.
    pub(super) const fn may_begin(&self, spend: &Spend) -> bool {
        let ends = match (&self.life, spend) {
            (Life::Revoked(ending), Spend::Exchange(_) | Spend::Import(_)) => !ending.stage.is_resting(),
            (Life::Revoked(_), Spend::Refresh(_)) => true,
            (Life::Restoring(_) | Life::Unconnected(_) | Life::Connected | Life::NeedsReauth, _) => false,
        };
        !self.draining && !ends
    }

    /// Takes note of how a mark ended. One that the disk did not take is written again.
    pub(super) fn mark_done(&mut self, end: &Completion, now: Timestamp) {
        let Completion::MarkFailed(fault) = end else {
            self.unmarked = None;
            self.holds &= !self.scrubs;
            if let Life::Revoked(ending) = &mut self.life
                && ending.stage.is_resting()
            {
                ending.tombstone = Tombstone::Durable;
            }
            return self.mended(&[Kind::Sealing]);
        };
        self.fail(Kind::Sealing, fault.word(), now);
        let attempts = self.unmarked.map_or(0, |unmarked| unmarked.attempts).saturating_add(1);
        let wait = policy::backoff(attempts, Duration::from_secs(1), Duration::from_secs(60), self.seed);
        self.unmarked = Some(Retry { at: now.plus(wait), attempts });
    }

    /// Serves the grant's access token, if it still lives (invariant 5): another one than before.
    pub(super) fn publish(&mut self, now: Timestamp) {
        let (before, issues) = (self.out.len(), self.health.issue);
        self.serve(issues.saturating_add(1), now);
        if self.out.len() > before {
            self.health.issued();
            self.validate_renewed(now);
        }
    }

    /// Serves the same token with what is known of it now.
    pub(super) fn publish_again(&mut self, now: Timestamp) {
        self.serve(self.health.issue, now);
    }

    fn serve(&mut self, issue: u64, now: Timestamp) {
        let Some(record) = self.grant.clone() else { return };
        let Some(token) = &record.access_token else { return };
        if matches!(self.life, Life::Revoked(_)) || !record.is_live(now) {
            return;
        }
        self.served = Some(Served { from: record.written_at, until: record.expires_at });
        self.out.push(Effect::Publish(Lease {
            integration: self.identity.integration.clone(),
            token: token.duplicate(),
            token_type: record.token_type.clone(),
            expires_at: record.expires_at,
            scope: record.scope.clone(),
            generation: record.generation,
            issue,
        }));
    }

    pub(super) fn withdraw(&mut self) {
        if self.served.take().is_some() {
            self.out.push(Effect::Withdraw);
        }
    }

    pub(super) const fn op(&mut self) -> Op {
        self.ops += 1;
        Op(self.ops)
    }

    /// The transition that this event was; the first one named stays.
    pub(super) const fn note(&mut self, what: &'static str, cause: &'static str) {
        if self.note.is_none() {
            self.note = Some((what, cause));
        }
    }

    pub(super) fn fail(&mut self, kind: Kind, cause: &'static str, now: Timestamp) {
        let since = match self.trouble {
            Some(old) if old.kind == kind && old.cause == cause => old.since,
            Some(_) | None => now,
        };
        self.trouble = Some(Trouble { cause, since, kind });
    }

    pub(super) fn mended(&mut self, kinds: &[Kind]) {
        if self.trouble.is_some_and(|trouble| kinds.contains(&trouble.kind)) {
            self.trouble = None;
        }
    }

    /// The newest generation that was ever seen (the high-water mark, or what is not stored yet).
    pub(super) fn newest_generation(&self) -> u64 {
        let known = self.grant.as_ref().map_or(0, |grant| grant.generation);
        let unstored = self.unstored.as_ref().map_or(0, |unstored| unstored.record.generation);
        self.mark.generation.max(known).max(unstored)
    }

    /// The generation that the next answer gets: above everything that is known or sealed.
    pub(super) fn next_generation(&self) -> u64 {
        let undecided = self.unverified.iter().map(|sealed| sealed.generation).max().unwrap_or(0);
        self.newest_generation().max(undecided).saturating_add(1)
    }

    /// The life in one word, for the audit trail.
    fn word(&self) -> &'static str {
        match (&self.life, self.flight.as_ref().filter(|flight| !flight.is_poll())) {
            (Life::Restoring(_) | Life::Unconnected(_), None) => "pending",
            (Life::Restoring(_) | Life::Unconnected(_), Some(_)) => "exchanging",
            (Life::NeedsReauth, _) => "needs_reauth",
            (Life::Revoked(_), _) => "revoked",
            (Life::Connected, Some(_)) => "refreshing",
            (Life::Connected, None) if self.doubt.is_some() => "in_doubt",
            (Life::Connected, None) if self.served.is_none() => "expired",
            (Life::Connected, None) if self.unstored.is_some() => "active_unstored",
            (Life::Connected, None) if self.retry.is_some() => "expiring",
            (Life::Connected, None) => "active",
        }
    }
}

/// Contract §3: at most one refresh in 30 s comes of what apps ask.
const SELDOM_FOR_APPS: Duration = Duration::from_secs(30);
