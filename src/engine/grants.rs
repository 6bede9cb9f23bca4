//! Grants that begin without a link: what an operator imports, and what needs no person at all.
//!
//! Nothing is judged here but whether the integration's grant is of that kind.

use super::consents::MOST_WAITERS;
use super::handle::{Landing, Reply};
use super::live::Waiter;
use super::plan::Planned;
use super::run::{Engine, answer, not_found};
use crate::lifecycle::{Action, Code, Event, IntegrationId, Origin, Refusal, View};
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

    /// Waits as a refresh on demand does.
    pub(super) fn enable(&mut self, id: &IntegrationId, reply: Reply<Option<View>>) {
        let Some(live) = self.lives.get_mut(id).filter(|live| !live.leaving) else {
            return answer(reply, Err(not_found()));
        };
        let Some(planned) = self.plan.integrations.get(id) else { return answer(reply, Err(not_found())) };
        match planned.terms.origin {
            Origin::Consent | Origin::Broker => return answer(reply, Ok(None)),
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
        Origin::Consent | Origin::Broker => Ok(()),
        Origin::Machine => {
            Err(refused("this grant needs no person: `grantd connect` on the host has it work"))
        }
        Origin::Key => {
            Err(refused("this grant is a key: `grantd import` on the host reads it from standard input"))
        }
    }
}

fn refused(why: &str) -> Refusal {
    Refusal::new(Code::InvalidRequest, why).with_actions(&[Action::Configure])
}
