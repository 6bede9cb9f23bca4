//! The core as the simulation runs it: honest, or with one rule broken between it and the world.
//!
//! Events are bent on their way in, effects on their way out. An honest core goes through untouched.

use crate::mood::Role;
use crate::oracle::issued;
use crate::variants::Variant;
use grantd::lifecycle::{
    Answer, Completion, ConsentEnd, Effect, Effects, Event, Found, Integration, Lease, Loaded, Mark, Op,
    Purpose, Record, Revocation, Sealed, SlotFate, Spent, Standing, WireFault,
};
use grantd::secret::{RefreshToken, SecretBytes};
use grantd::time::Timestamp;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

/// An integration in the daemon's hands.
pub(crate) struct Machine {
    core: Integration,
    variant: Option<Variant>,
    /// What a saboteur remembers of the dialogue.
    mark: Mark,
    presented: Option<(Op, RefreshToken)>,
    spending: bool,
    /// The answer as it came, where the core was told another.
    misread: Option<Arc<Answer>>,
    /// An operation that the world ends as a claim, and the core as something else.
    bent: Option<Op>,
    written: Option<(u64, u64)>,
    fakes: u64,
}

impl Machine {
    pub(crate) fn new(role: &Role, variant: Option<Variant>) -> Self {
        Self {
            core: Integration::new(role.identity.clone(), role.terms.clone()),
            variant,
            mark: Mark::default(),
            presented: None,
            spending: false,
            misread: None,
            bent: None,
            written: None,
            fakes: 0,
        }
    }

    pub(crate) fn handle(&mut self, event: Event, now: Timestamp) -> Effects {
        let Some(variant) = self.variant else { return self.core.handle(event, now) };
        if let Event::Done { op, end: Completion::Answered(spent) } = &event {
            let lost = matches!(spent, Spent::Lost(_));
            if variant == Variant::RetriesAtOnce
                && lost
                && let Some((presented, token)) = &self.presented
                && presented == op
            {
                return vec![Effect::Refresh { op: *op, token: token.duplicate() }];
            }
            self.spending = false;
        }
        let asked = matches!(event, Event::RotationAsked { .. });
        let revoked = matches!(event, Event::RevocationAsked { .. });
        let event = self.bend(variant, event);
        let effects = self.core.handle(event, now);
        let mut bent = Vec::new();
        for effect in effects {
            self.notice(&effect);
            if !(variant == Variant::ServesRevoked && revoked && matches!(effect, Effect::Withdraw)) {
                self.bend_effect(variant, effect, now, &mut bent);
            }
        }
        if variant == Variant::SpendsTwiceAtOnce
            && asked
            && self.spending
            && let Some((_, token)) = &self.presented
        {
            let token = token.duplicate();
            bent.push(Effect::Refresh { op: self.fake(), token });
        }
        bent
    }

    fn notice(&mut self, effect: &Effect) {
        match effect {
            Effect::Mark { mark, .. } => self.mark = *mark,
            Effect::Refresh { op, token } => {
                self.presented = Some((*op, token.duplicate()));
                self.spending = true;
            }
            _ => {}
        }
    }

    /// What the core hears instead.
    fn bend(&mut self, variant: Variant, event: Event) -> Event {
        match event {
            Event::Restored(mut found) => {
                let forgets = variant == Variant::ForgetsDebts;
                found.answers.retain(|sealed| !forgets || sealed.purpose != Purpose::Revocation);
                self.mark = found.mark;
                let generation = if variant == Variant::ForgetsTheMark { 0 } else { found.mark.generation };
                Event::Restored(Found { mark: Mark { generation, ..found.mark }, ..found })
            }
            Event::Done { op, end } => Event::Done { op, end: self.bend_end(variant, op, end) },
            other => other,
        }
    }

    fn bend_end(&mut self, variant: Variant, op: Op, end: Completion) -> Completion {
        match (variant, end) {
            (Variant::IntendsNothing, Completion::Claimed)
                if self.bent.take_if(|bent| *bent == op).is_some() =>
            {
                Completion::Intended
            }
            (Variant::PublishesBeforeSealing, Completion::Claimed)
                if self.bent.take_if(|bent| *bent == op).is_some() =>
            {
                Completion::Sealed
            }
            (Variant::ParsesBeforeSealing, Completion::Answered(Spent::Answered(answer)))
                if (200..300).contains(&answer.status) && issued(&answer).is_none() =>
            {
                Completion::Answered(Spent::Lost(WireFault::Reset))
            }
            (Variant::TakesErrorsForRefusals, Completion::Answered(Spent::Answered(answer)))
                if answer.status >= 500 =>
            {
                let body = br#"{"error":"invalid_grant"}"#.to_vec();
                let told = Answer { status: 400, body: SecretBytes::new(body), ..copy(&answer) };
                self.misread = Some(answer);
                Completion::Answered(Spent::Answered(Arc::new(told)))
            }
            (Variant::IgnoresRetryAfter, Completion::Answered(Spent::Answered(answer))) => {
                let told = Answer { retry_after: None, ..copy(&answer) };
                self.misread = Some(answer);
                Completion::Answered(Spent::Answered(Arc::new(told)))
            }
            (Variant::TellsOnce, Completion::UpstreamRevoked(Revocation::Silent)) => {
                Completion::UpstreamRevoked(Revocation::Unsupported)
            }
            (Variant::TrustsCurrent, Completion::Loaded(Loaded::Record(record))) => {
                let generation = record.generation.max(self.mark.generation);
                Completion::Loaded(Loaded::Record(Box::new(Record { generation, ..*record })))
            }
            (_, end) => end,
        }
    }

    fn bend_effect(&mut self, variant: Variant, effect: Effect, now: Timestamp, out: &mut Effects) {
        match (variant, effect) {
            (Variant::IntendsNothing, Effect::Intend { op, intent }) => {
                self.bent = Some(op);
                out.push(Effect::Claim { op, generation: intent.generation });
            }
            (Variant::PublishesBeforeSealing, Effect::Seal { op, sealed }) => {
                self.bent = Some(op);
                let generation = sealed.generation;
                out.extend([Effect::Seal { op: self.fake(), sealed }, Effect::Claim { op, generation }]);
            }
            (Variant::TakesErrorsForRefusals | Variant::IgnoresRetryAfter, Effect::Seal { op, sealed }) => {
                let answer = self.misread.take().unwrap_or_else(|| Arc::clone(&sealed.answer));
                out.push(Effect::Seal { op, sealed: Arc::new(Sealed { answer, ..sealed.duplicate() }) });
            }
            (Variant::ScrubsBeforeStored, Effect::Store { op, record }) => {
                let mark = Mark { generation: record.generation, ..self.mark };
                out.push(Effect::Mark { op: self.fake(), mark, slot: SlotFate::Scrubbed });
                out.push(Effect::Store { op, record });
            }
            (Variant::RenamesRetries, Effect::Store { op, record }) => {
                let tries = match self.written {
                    Some((generation, tries)) if generation == record.generation => tries + 1,
                    Some(_) | None => 0,
                };
                self.written = Some((record.generation, tries));
                let generation = record.generation + tries;
                out.push(Effect::Store { op, record: Arc::new(Record { generation, ..record.duplicate() }) });
            }
            (Variant::DropsOnInvalidGrant, Effect::Audit(entry)) => {
                if entry.what == "needs_reauth" && entry.cause == "invalid_grant" {
                    let op = self.fake();
                    let identity = self.core.view(now).identity;
                    let cleared = Record::cleared(
                        identity,
                        entry.generation + 1,
                        grantd::lifecycle::Account::default(),
                        now,
                    );
                    out.push(Effect::Clear { op, record: Arc::new(cleared) });
                }
                out.push(Effect::Audit(entry));
            }
            (Variant::ServesPastTheEnd, Effect::Publish(lease)) => {
                let later = |at: Timestamp| at.plus(Duration::from_secs(60));
                out.push(Effect::Publish(Lease { expires_at: lease.expires_at.map(later), ..lease }));
            }
            (
                Variant::RevokesTheOldToken,
                Effect::RevokeUpstream { op, refresh_token, access_token, connected_account },
            ) => {
                let old = self.presented.take().map(|(_, token)| token);
                out.push(Effect::RevokeUpstream {
                    op,
                    refresh_token: old.or(refresh_token),
                    access_token,
                    connected_account,
                });
            }
            (Variant::ForgetsRevocations, Effect::Mark { op, mark, slot }) => {
                out.push(Effect::Mark { op, mark: Mark { standing: Standing::Normal, ..mark }, slot });
            }
            (Variant::SaysStoredTooSoon, Effect::Tell(ConsentEnd::Sealed { account, .. })) => {
                out.push(Effect::Tell(ConsentEnd::Stored { account }));
            }
            (_, effect) => out.push(effect),
        }
    }

    /// An operation that the core has never heard of.
    const fn fake(&mut self) -> Op {
        self.fakes += 1;
        Op(u64::MAX - self.fakes)
    }
}

impl Deref for Machine {
    type Target = Integration;

    fn deref(&self) -> &Integration {
        &self.core
    }
}

impl DerefMut for Machine {
    fn deref_mut(&mut self) -> &mut Integration {
        &mut self.core
    }
}

fn copy(answer: &Answer) -> Answer {
    Answer {
        status: answer.status,
        form_encoded: answer.form_encoded,
        retry_after: answer.retry_after,
        whole: answer.whole,
        body: SecretBytes::new(answer.body.expose_secret().to_vec()),
        received_at: answer.received_at,
    }
}
