//! What is asked of the engine about an integration that lives: refresh, validate, revoke, delete, recover, and what APIs say.
//!
//! An order is refused at once, or becomes an event; who waits for its end is answered when the machine has come to rest.

use super::handle::{Ended, Recovered, Reply};
use super::run::{End, Engine, answer, not_found};
use crate::lifecycle::{
    Action, ApiAnswer, Asker, Code, Event, IntegrationId, Recovery, Refusal, Sealed, Status, View,
};
use std::sync::Arc;

impl Engine {
    pub(super) fn refresh(&mut self, id: &IntegrationId, reply: Reply<View>) {
        let now = self.ports.clock.now();
        let Some(live) = self.lives.get_mut(id).filter(|live| !live.leaving) else {
            return answer(reply, Err(not_found()));
        };
        let view = live.machine.view(now);
        if let Some(refusal) = unfit(&view) {
            return answer(reply, Err(refusal));
        }
        if view.status != Status::Pending && !live.machine.can_refresh() {
            return answer(
                reply,
                Err(invalid("the provider issued no refresh token: there is nothing to refresh", &view)),
            );
        }
        live.refreshes.push((live.machine.refreshes(), reply));
        self.feed(id, Event::RotationAsked { by: Asker::Operator });
    }

    pub(super) fn validate(&mut self, id: &IntegrationId, reply: Reply<View>) {
        let now = self.ports.clock.now();
        let Some(live) = self.lives.get_mut(id).filter(|live| !live.leaving) else {
            return answer(reply, Err(not_found()));
        };
        let view = live.machine.view(now);
        if let Some(refusal) = unfit(&view) {
            return answer(reply, Err(refusal));
        }
        if !live.machine.can_validate() {
            let refusal = if view.token_valid {
                invalid("the provider's entry names nothing at which a token could be tried", &view)
            } else {
                Refusal::new(Code::TokenUnavailable, view.message).with_actions(&view.actions)
            };
            return answer(reply, Err(refusal));
        }
        live.validations.push(reply);
        self.feed(id, Event::ValidationAsked);
    }

    pub(super) fn revoke(&mut self, id: &IntegrationId, reply: Reply<Ended>) {
        self.end(id, Event::RevocationAsked { by: Asker::Operator }, reply);
    }

    pub(super) fn delete(&mut self, id: &IntegrationId, reply: Reply<Ended>) {
        self.end(id, Event::DeletionAsked, reply);
    }

    fn end(&mut self, id: &IntegrationId, event: Event, reply: Reply<Ended>) {
        let now = self.ports.clock.now();
        let Some(live) = self.lives.get_mut(id).filter(|live| !live.leaving) else {
            return answer(reply, Err(not_found()));
        };
        let view = live.machine.view(now);
        if view.status == Status::Pending
            && view.actions.contains(&Action::Connect)
            && !live.machine.is_busy()
        {
            return answer(reply, Err(Refusal::new(Code::IntegrationPending, view.message)));
        }
        live.endings.push(reply);
        self.feed(id, event);
    }

    /// What changes nothing is not worth a turn of the integration.
    pub(super) fn api_answered(&mut self, id: &IntegrationId, answer: ApiAnswer, issue: u64) {
        let now = self.ports.clock.now();
        let Some(live) = self.lives.get(id) else { return };
        let cell = Arc::clone(&live.cell);
        if live.machine.heeds(&answer, issue, now) {
            self.feed(id, Event::ApiAnswered { answer, issue });
        }
        cell.hears_again(false);
    }

    pub(super) fn recover(&mut self, id: &IntegrationId, reply: Reply<Recovered>) {
        let Some(live) = self.lives.get(id).filter(|live| !live.leaving) else {
            return answer(reply, Err(not_found()));
        };
        let (pending, id) = (self.ports.performer.quarantined(&live.identity), id.clone());
        let _task = self.tasks.spawn(async move { End::Quarantined(id, pending.await, reply) });
    }

    pub(super) fn quarantined(&mut self, id: &IntegrationId, kept: &[Arc<Sealed>], reply: Reply<Recovered>) {
        let Some(live) = self.lives.get(id) else { return answer(reply, Err(not_found())) };
        let recovery = live.machine.recovery(kept);
        let (word, message) = (recovery.word(), recovery.sentence());
        if let Recovery::Readable(sealed) = recovery {
            self.feed(id, Event::Recovered(sealed));
        }
        let Some(live) = self.lives.get(id) else { return answer(reply, Err(not_found())) };
        let view = live.machine.view(self.ports.clock.now());
        answer(reply, Ok(Recovered { word, message, view }));
    }
}

/// What a grant that is not there, or no longer good, is answered with.
fn unfit(view: &View) -> Option<Refusal> {
    let code = match view.status {
        Status::Revoked => Code::IntegrationRevoked,
        Status::NeedsReauth => Code::NeedsReauth,
        Status::Pending if view.actions.contains(&Action::Connect) => Code::IntegrationPending,
        Status::Pending | Status::Expired | Status::Warning | Status::Connected => return None,
    };
    Some(Refusal::new(code, view.message.clone()).with_actions(&view.actions))
}

fn invalid(why: &str, view: &View) -> Refusal {
    Refusal::new(Code::InvalidRequest, why).with_actions(&view.actions)
}
