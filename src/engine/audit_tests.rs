//! What the engine leaves in the audit trail: its real loop; the edges do nothing.

use super::handle::Start;
use super::testing::Notes;
use super::{
    AuthorizationRequest, Authorized, Authorizer, Clock, Engine, Entropy, Handle, Pending, Performer, Plan,
    Planned, Ports, Preflight,
};
use crate::lifecycle::testing::identity;
use crate::lifecycle::{
    Actor, AuditEvent, Bearer, Beginning, Callback, Code, Completion, Confirmation, Consents, Dialect,
    Effect, ExpectedAccount, FlowKeys, Frozen, Identity, Loaded, Missing, Outage, Random, Refusal, Rotation,
    Sealed, Terms,
};
use crate::secret::{AuthCode, SealKey, StateToken, Ticket};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Carries nothing out, and lets no exchange begin.
#[derive(Default)]
struct Idle(AtomicU8);

impl Performer for Idle {
    fn perform(&self, _identity: &Identity, effect: Effect) -> Pending<Completion> {
        let load = matches!(effect, Effect::Load { .. });
        let end = if load { Completion::Loaded(Loaded::Empty) } else { Completion::ClaimRefused };
        Box::pin(std::future::ready(end))
    }

    fn quarantined(&self, _identity: &Identity) -> Pending<Vec<Arc<Sealed>>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

impl Preflight for Idle {
    fn look(&self, _identity: &Identity) -> Pending<Vec<Missing>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

impl Authorizer for Idle {
    fn device(
        &self,
        _identity: &Identity,
        _scopes: Vec<String>,
    ) -> Pending<Result<crate::engine::DeviceFlow, Refusal>> {
        Box::pin(std::future::pending())
    }

    fn authorize(&self, request: AuthorizationRequest) -> Pending<Result<Authorized, Refusal>> {
        let beginning =
            Beginning { frozen: frozen(), per_integration: false, expires_at: request.expires_at };
        Box::pin(std::future::ready(Ok(Authorized { url: "https://provider.example".into(), beginning })))
    }
}

impl Clock for Idle {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }
}

impl Entropy for Idle {
    fn random(&self) -> Random {
        [self.0.fetch_add(1, Ordering::SeqCst); 24]
    }
}

fn running() -> (Handle, Arc<Notes>, CancellationToken, JoinSet<()>) {
    let (idle, trail, stop) =
        (Arc::new(Idle::default()), Arc::new(Notes::default()), CancellationToken::new());
    let planned = Planned {
        identity: identity("github"),
        provider_name: "GitHub".into(),
        kept_in: "here".into(),
        terms: terms(),
    };
    let plan = Plan {
        integrations: [(identity("github").integration, planned)].into(),
        state_expiry: std::time::Duration::from_secs(300),
        ..Plan::default()
    };
    let ports = Ports {
        performer: idle.clone(),
        authorizer: idle.clone(),
        preflight: idle.clone(),
        clock: idle.clone(),
        entropy: idle,
        trail: trail.clone(),
    };
    let consents = Consents::new(FlowKeys::derive(&SealKey::new([7; 32])));
    let (mut engine, handle, _reloads) = Engine::new(plan.clone(), ports, consents);
    engine.restore(plan, BTreeMap::new());
    let mut tasks = JoinSet::new();
    let _engine = tasks.spawn(engine.run(stop.clone()));
    (handle, trail, stop, tasks)
}

fn terms() -> Terms {
    Terms {
        origin: crate::lifecycle::Origin::Consent,
        refresh_at_permille: 700,
        rotation: Rotation::Strict,
        default_life: None,
        expected_account: ExpectedAccount::default(),
        outage: Outage::Hold,
        write_budget: None,
        scopes: vec!["repo".into()],
        dialect: Dialect::default(),
        can_try: true,
        validate_every: None,
    }
}

fn frozen() -> Frozen {
    Frozen {
        token_endpoint: "https://provider.example/token".into(),
        issuer: None,
        issuer_promised: false,
        redirect_uri: "https://grantd.example/v1/integrations/oauth/callback/github".into(),
        verifier: None,
        nonce: None,
    }
}

fn start(integration: &str) -> Start {
    Start {
        integration: Some(integration.into()),
        provider: None,
        organization: None,
        scopes: Vec::new(),
        then: None,
    }
}

fn callback(state: &StateToken, cookie: &str) -> Callback {
    Callback {
        provider: "github".into(),
        integration: None,
        state: Some(state.duplicate()),
        code: Some(AuthCode::new("canary-code")),
        issuer: None,
        error: None,
        bearer: Bearer::Browser(Some(cookie.into())),
    }
}

#[tokio::test]
async fn links_and_callbacks_leave_an_event_each_and_a_transition_exactly_one() {
    let (handle, trail, stop, mut tasks) = running();
    let github = identity("github");
    let done = |what| AuditEvent::done(what, Actor::Grantd);
    let _not_found = handle.start(start("gone")).await.unwrap_err();
    let started = handle.start(start("github")).await.unwrap();
    let _unknown = handle.confirm(Ticket::new("canary-ticket"), Confirmation::default()).await.unwrap_err();
    let going = handle.confirm(started.ticket, Confirmation::default()).await.unwrap();
    assert_eq!(
        trail.take(),
        [
            AuditEvent::refused("link_minted", Actor::Grantd, Code::IntegrationNotFound),
            done("link_minted").about(&github),
            AuditEvent::refused("link_confirmed", Actor::Grantd, Code::InvalidOauthState),
            done("link_confirmed").about(&github),
        ]
    );
    let browser = || AuditEvent::done("callback_judged", Actor::Browser);
    let refused = || AuditEvent::refused("callback_judged", Actor::Browser, Code::InvalidOauthState);
    let _other_browser = handle.callback(callback(&going.state, "canary-cookie")).await.unwrap_err();
    let _strange_state =
        handle.callback(callback(&StateToken::new("canary"), &going.cookie)).await.unwrap_err();
    assert_eq!(trail.take(), [refused().about(&github), refused()]);
    let _not_claimed = handle.callback(callback(&going.state, &going.cookie)).await.unwrap_err();
    let _replayed = handle.callback(callback(&going.state, &going.cookie)).await.unwrap_err();
    let events = trail.take();
    let words: Vec<_> =
        events.iter().map(|event| (event.what, event.transition.as_ref().map(|entry| entry.cause))).collect();
    assert_eq!(
        words,
        [
            ("callback_judged", None),
            ("spending", Some("exchange")),
            ("consent_failed", Some("claim_refused")),
            ("callback_judged", None),
        ]
    );
    assert_eq!((&events[0], &events[3]), (&browser().about(&github), &refused()));
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    assert!(!format!("{events:?}").contains("canary"));
}
