//! How a consent passes through the engine: a look, a link, a request, a callback. Whoever waits for its end waits here.
//!
//! Nothing is judged here: links, states and callbacks are `lifecycle/consent.rs`'s, what a code leads to is the machine's.

use super::grants::without_a_person;
use super::handle::{Going, Landed, Landing, Reply, Start, Started};
use super::live::{Live, Waiter};
use super::plan::Planned;
use super::ports::{AuthorizationRequest, Authorized};
use super::run::{End, Engine, answer, not_found};
use crate::lifecycle::{
    Action, Actor, Bearer, Callback, Code, Confirmation, ConsentEnd, Consents, Event, Identity, Invitation,
    Missing, Refusal,
};
use crate::secret::{StateToken, Ticket};
use base64::Engine as _;
use std::time::Duration;

/// A link that was followed, until the request it leads to is made.
pub(super) struct Asked {
    ticket: Ticket,
    invitation: Invitation,
    state: StateToken,
    confirmation: Confirmation,
    reply: Reply<Going>,
}

impl Engine {
    /// No link before everything is there: a person must not authorize what cannot be kept.
    pub(super) fn look(&mut self, start: Start, reply: Reply<Started>) {
        let identity = match self.startable(&start) {
            Ok(planned) => planned.identity.clone(),
            Err(refusal) => return self.minted(&start, Err(refusal), reply),
        };
        let looking = tokio::time::timeout(LONGEST_LOOK, self.ports.preflight.look(&identity));
        let _task = self.tasks.spawn(async move {
            let missing = looking.await.unwrap_or_else(|_late| vec![looks_too_long(&identity)]);
            End::Looked(Box::new(start), missing, reply)
        });
    }

    pub(super) fn looked(&mut self, start: &Start, missing: Vec<Missing>, reply: Reply<Started>) {
        if missing.is_empty() {
            let started = self.start(start);
            return self.minted(start, started, reply);
        }
        self.minted(start, Err(wanting(missing)), reply);
    }

    fn minted(&self, start: &Start, started: Result<Started, Refusal>, reply: Reply<Started>) {
        let whose = self.plan.find(start).ok().map(|planned| &planned.identity);
        self.note("link_minted", Actor::Grantd, whose, started.as_ref().err());
        answer(reply, started);
    }

    fn startable(&self, start: &Start) -> Result<&Planned, Refusal> {
        let planned = self.plan.find(start)?;
        without_a_person(planned.terms.origin)?;
        if let Some(then) = &start.then {
            self.plan.check_redirect(then)?;
        }
        if self.consents.len() >= MOST_CONSENTS {
            return Err(Refusal::new(Code::RateLimited, "too many authorizations are under way")
                .with_retry_after(Duration::from_secs(60)));
        }
        Ok(planned)
    }

    fn start(&mut self, start: &Start) -> Result<Started, Refusal> {
        let now = self.ports.clock.now();
        // Asked again: the plan may have changed since the look began.
        let planned = self.startable(start)?;
        let expires_at = now.plus(Consents::LINK_LIFE);
        let scopes = if start.scopes.is_empty() { &planned.terms.scopes } else { &start.scopes };
        let invitation = Invitation {
            identity: planned.identity.clone(),
            provider_name: planned.provider_name.clone(),
            scopes: scopes.clone(),
            kept_in: planned.kept_in.clone(),
            then: start.then.clone(),
            expires_at,
        };
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(self.ports.entropy.random());
        let ticket = Ticket::new(text);
        let state = self.consents.invite(invitation, &ticket, &self.ports.entropy.random());
        Ok(Started { ticket, state, expires_at })
    }

    pub(super) fn confirm(&mut self, ticket: Ticket, confirmation: Confirmation, reply: Reply<Going>) {
        let now = self.ports.clock.now();
        match self.consents.take(&ticket, now) {
            Err(refusal) => {
                self.note("link_confirmed", Actor::Grantd, None, Some(&refusal));
                answer(reply, Err(refusal));
            }
            Ok((invitation, state)) => {
                let request = AuthorizationRequest {
                    identity: invitation.identity.clone(),
                    scopes: invitation.scopes.clone(),
                    state: state.duplicate(),
                    expires_at: now.plus(self.plan.state_expiry),
                };
                let pending = self.ports.authorizer.authorize(request);
                let asked = Box::new(Asked { ticket, invitation, state, confirmation, reply });
                let _task = self.tasks.spawn(async move { End::Authorized(asked, pending.await) });
            }
        }
    }

    pub(super) fn authorized(&mut self, asked: Asked, result: Result<Authorized, Refusal>) {
        let Asked { ticket, invitation, state, confirmation, reply } = asked;
        self.note("link_confirmed", Actor::Grantd, Some(&invitation.identity), result.as_ref().err());
        match result {
            Ok(Authorized { url, beginning }) => {
                let begun = self.consents.begin(invitation, state, beginning, confirmation);
                let (state, cookie, expires_at) = (begun.state, begun.cookie, begun.expires_at);
                answer(reply, Ok(Going { url, state, cookie, expires_at }));
            }
            Err(refusal) => {
                self.consents.put_back(&ticket, invitation, state);
                answer(reply, Err(refusal));
            }
        }
    }

    pub(super) fn callback(&mut self, callback: Callback, reply: Reply<Landing>) {
        let actor = match &callback.bearer {
            Bearer::Browser(_) => Actor::Browser,
            Bearer::Person { subject, .. } => {
                Actor::Operator { subject: subject.clone(), name: subject.clone() }
            }
            // The control socket says which one.
            Bearer::Operator => Actor::Grantd,
        };
        let whose = self.consents.whose(&callback).cloned();
        let judged = self.consents.judge(callback, self.ports.clock.now());
        self.note("callback_judged", actor, whose.as_ref(), judged.as_ref().err());
        let returned = match judged {
            Ok(returned) => returned,
            Err(refusal) => return answer(reply, Err(refusal)),
        };
        let id = returned.identity.integration.clone();
        let same = |live: &&mut Live| !live.leaving && live.identity == returned.identity;
        let Some(live) = self.lives.get_mut(&id).filter(same) else {
            return answer(reply, Err(not_found()));
        };
        if live.consents.len() >= MOST_WAITERS {
            return answer(
                reply,
                Err(Refusal::new(
                    Code::RateLimited,
                    "several authorizations of this integration are being finished",
                )
                .with_retry_after(Duration::from_secs(10))),
            );
        }
        live.consents.push_back(Waiter {
            identity: returned.identity,
            provider_name: returned.provider_name,
            kept_in: returned.kept_in,
            then: returned.then,
            reply,
        });
        self.feed(&id, Event::CodeReceived(Box::new(returned.exchange)));
    }
}

/// What a consent's end means for the page that waits.
pub(super) fn landing(waiter: &Waiter, end: ConsentEnd) -> Result<Landing, Refusal> {
    let landed = match end {
        ConsentEnd::Stored { account } => Landed::Stored { account },
        ConsentEnd::Sealed { account, why } => Landed::Sealed { account, why },
        ConsentEnd::Unverified => Landed::Unverified,
        ConsentEnd::Refused { code, detail } => {
            return Err(Refusal::new(code, detail).with_actions(&[Action::Connect]));
        }
    };
    Ok(Landing {
        identity: waiter.identity.clone(),
        provider_name: waiter.provider_name.clone(),
        kept_in: waiter.kept_in.clone(),
        landed,
        then: waiter.then.clone(),
    })
}

/// Why a consent does not begin.
pub(super) fn wanting(missing: Vec<Missing>) -> Refusal {
    tracing::warn!(missing = missing.len(), "a consent does not begin: something is missing");
    let named: Vec<_> = missing.iter().map(|one| one.what.as_str()).collect();
    let refusal = Refusal::new(Code::PreflightFailed, named.join("; "));
    refusal.with_actions(&[Action::Configure]).with_missing(missing)
}

pub(super) fn looks_too_long(identity: &Identity) -> Missing {
    Missing {
        what: format!("what a consent needs could not be looked at within {} s", LONGEST_LOOK.as_secs()),
        place: format!("integration {}", identity.integration),
        fix: "grantd check --config /etc/grantd/grantd.toml".into(),
    }
}

const MOST_CONSENTS: usize = 10_000;
pub(super) const MOST_WAITERS: usize = 4;
/// A little more than an edge takes for all it asks at once.
pub(super) const LONGEST_LOOK: Duration = Duration::from_secs(12);
