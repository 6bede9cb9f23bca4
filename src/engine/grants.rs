//! Grants that begin without a link: what an operator imports, and what needs no person at all.
//!
//! Nothing is judged here but whether the integration's grant is of that kind.

use super::consents::{LONGEST_LOOK, MOST_WAITERS, looks_too_long, wanting};
use super::handle::{DeviceStarted, Enabling, Landing, Reply};
use super::live::Waiter;
use super::plan::Planned;
use super::ports::DeviceFlow;
use super::run::{End, Engine, answer, not_found};
use crate::lifecycle::{Action, Actor, Code, Event, IntegrationId, Origin, Refusal};
use crate::secret::Imported;
use std::time::Duration;

impl Engine {
    pub(super) fn import(&mut self, id: &IntegrationId, imported: Imported, reply: Reply<Landing>) {
        let Some(planned) = self.plan.integrations.get(id) else { return answer(reply, Err(not_found())) };
        if planned.terms.origin.is_repeatable() {
            return answer(
                reply,
                Err(refused("this grant needs no token from elsewhere: `grantd connect` has it work")),
            );
        }
        let Planned { identity, provider_name, kept_in, .. } = planned.clone();
        let Some(live) = self.lives.get_mut(id).filter(|live| !live.leaving) else {
            return answer(reply, Err(not_found()));
        };
        if live.consents.len() >= MOST_WAITERS {
            let busy = Refusal::new(
                Code::RateLimited,
                "several authorizations of this integration are being finished",
            );
            return answer(reply, Err(busy.with_retry_after(Duration::from_secs(10))));
        }
        live.consents.push_back(Waiter { identity, provider_name, kept_in, then: None, reply });
        self.feed(id, Event::Imported(imported));
    }

    /// Looked at as every consent is, before a code is asked for.
    pub(super) fn device(&mut self, id: &IntegrationId, reply: Reply<DeviceStarted>) {
        let planned = self.plan.integrations.get(id).ok_or_else(not_found);
        let (identity, scopes) = match planned.and_then(|planned| {
            of_a_person(planned.terms.origin)?;
            Ok((planned.identity.clone(), planned.terms.scopes.clone()))
        }) {
            Ok(found) => found,
            Err(refusal) => return answer(reply, Err(refusal)),
        };
        let looking = tokio::time::timeout(LONGEST_LOOK, self.ports.preflight.look(&identity));
        let asking = self.ports.authorizer.device(&identity, scopes);
        let whose = id.clone();
        let _task = self.tasks.spawn(async move {
            let missing = looking.await.unwrap_or_else(|_late| vec![looks_too_long(&identity)]);
            let flow = if missing.is_empty() { asking.await } else { Err(wanting(missing)) };
            End::Device(whose, Box::new(flow), reply)
        });
    }

    pub(super) fn device_asked(
        &mut self,
        id: &IntegrationId,
        flow: Result<DeviceFlow, Refusal>,
        reply: Reply<DeviceStarted>,
    ) {
        let live = self.lives.get(id).filter(|live| !live.leaving).ok_or_else(not_found);
        let begun = live.and_then(|live| Ok((live.identity.clone(), flow?)));
        let whose = begun.as_ref().ok().map(|(identity, _)| identity.clone());
        self.note("device_code_issued", Actor::Grantd, whose.as_ref(), begun.as_ref().err());
        match begun {
            Ok((identity, DeviceFlow { page, page_with_code, user_code, exchange })) => {
                let expires_at = exchange.pace.map(|pace| pace.until);
                self.feed(id, Event::CodeReceived(Box::new(exchange)));
                answer(reply, Ok(DeviceStarted { identity, page, page_with_code, user_code, expires_at }));
            }
            Err(refusal) => answer(reply, Err(refusal)),
        }
    }

    /// Waits as a refresh on demand does.
    pub(super) fn enable(&mut self, id: &IntegrationId, reply: Reply<Enabling>) {
        let Some(live) = self.lives.get_mut(id).filter(|live| !live.leaving) else {
            return answer(reply, Err(not_found()));
        };
        let Some(planned) = self.plan.integrations.get(id) else { return answer(reply, Err(not_found())) };
        match planned.terms.origin {
            Origin::Consent => return answer(reply, Ok(Enabling::Link)),
            Origin::Broker => return answer(reply, Ok(Enabling::Broker)),
            Origin::Key => {
                return answer(
                    reply,
                    Err(refused("this grant is a key: `grantd import` reads it from standard input")),
                );
            }
            Origin::Machine => {}
        }
        live.enablings.push((live.machine.refreshes(), reply));
        self.feed(id, Event::EnablingAsked);
    }
}

/// Why no link is made for a grant that no person gives.
pub(super) fn without_a_person(origin: Origin) -> Result<(), Refusal> {
    match origin {
        Origin::Consent => Ok(()),
        Origin::Broker => {
            Err(refused("`grantd connect` on the host prints the broker's page for this grant"))
        }
        Origin::Machine => {
            Err(refused("this grant needs no person: `grantd connect` on the host has it work"))
        }
        Origin::Key => {
            Err(refused("this grant is a key: `grantd import` on the host reads it from standard input"))
        }
    }
}

/// A machine or a key has no page, at which a person would do something.
fn of_a_person(origin: Origin) -> Result<(), Refusal> {
    match origin {
        Origin::Consent | Origin::Broker => Ok(()),
        Origin::Machine | Origin::Key => without_a_person(origin),
    }
}

fn refused(why: &str) -> Refusal {
    Refusal::new(Code::InvalidRequest, why).with_actions(&[Action::Configure])
}
