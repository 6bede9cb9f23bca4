//! Hands each effect to the edge that carries it out. One short arm an effect; no decision is made here.

use super::preflight::Subject;
use crate::edge::claim::SingleHost;
use crate::edge::provider::{AuthorizeRequest, Errand, Provider, ProviderError};
use crate::edge::spool::Spool;
use crate::edge::store::Store;
use crate::engine::{AuthorizationRequest, Authorized, Authorizer, DeviceFlow, Entropy, Pending, Performer};
use crate::lifecycle::{
    AccountChange, Action, Beginning, Code, Completion, Effect, Exchange, Frozen, Identity, IntegrationId,
    Refusal, Sealed, Spent, StoreFault, Trial, WireFault,
};
use crate::secret::Nonce;
use arc_swap::ArcSwap;
use base64::Engine as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;

/// Where one integration's effects go.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) provider: Provider,
    pub(super) errand: Errand,
    pub(super) redirect_uri: Url,
    pub(super) per_integration: bool,
    pub(super) store: Store,
    pub(super) place: String,
    pub(super) subject: Arc<Subject>,
}

/// All routes, as one configuration says.
pub(super) type Routes = BTreeMap<IntegrationId, Route>;

/// The edges, behind the engine's ports.
pub(super) struct Edges {
    pub(super) spool: Spool,
    pub(super) routes: Arc<ArcSwap<Routes>>,
    pub(super) entropy: Arc<dyn Entropy>,
}

impl Edges {
    pub(super) fn route(&self, identity: &Identity) -> Option<Route> {
        self.routes.load().get(&identity.integration).cloned()
    }
}

impl Performer for Edges {
    fn perform(&self, identity: &Identity, effect: Effect) -> Pending<Completion> {
        match effect {
            Effect::Claim { generation, .. } => {
                let granted = SingleHost.claim(identity, generation);
                now(if granted { Completion::Claimed } else { Completion::ClaimRefused })
            }
            Effect::Release { generation } => {
                SingleHost.release(identity, generation);
                now(Completion::Claimed)
            }
            Effect::Intend { intent, .. } => self.on_disk(identity, move |spool, identity| {
                spool
                    .intend(identity, &intent)
                    .map_or_else(Completion::IntentFailed, |()| Completion::Intended)
            }),
            Effect::Seal { sealed, .. } => self.on_disk(identity, move |spool, identity| {
                spool.seal(identity, &sealed).map_or_else(Completion::SealFailed, |()| Completion::Sealed)
            }),
            Effect::Mark { mark, slot, .. } => self.on_disk(identity, move |spool, identity| {
                spool.mark(identity, mark, &slot).map_or_else(Completion::MarkFailed, |()| Completion::Marked)
            }),
            Effect::Quarantine(sealed) => self.on_disk(identity, move |spool, identity| {
                if let Err(fault) = spool.quarantine(identity, &sealed) {
                    tracing::error!(
                        integration = %identity.integration,
                        cause = fault.word(),
                        "an answer that cannot be read is not in quarantine; it stays sealed until the next one"
                    );
                }
                Completion::Marked
            }),
            Effect::Publish(_) | Effect::Withdraw | Effect::Audit(_) | Effect::Tell(_) => {
                now(Completion::Marked)
            }
            outward @ (Effect::Exchange { .. }
            | Effect::Refresh { .. }
            | Effect::Mint { .. }
            | Effect::Try { .. }
            | Effect::RevokeUpstream { .. }
            | Effect::Store { .. }
            | Effect::Clear { .. }
            | Effect::Delete { .. }
            | Effect::Load { .. }) => match self.route(identity) {
                Some(route) => Box::pin(go_out(route, identity.clone(), outward)),
                None => now(nowhere(&outward)),
            },
        }
    }

    fn quarantined(&self, identity: &Identity) -> Pending<Vec<Arc<Sealed>>> {
        let (spool, identity) = (self.spool.clone(), identity.clone());
        Box::pin(async move {
            tokio::task::spawn_blocking(move || spool.quarantined(&identity)).await.unwrap_or_default()
        })
    }
}

impl Edges {
    fn on_disk(
        &self,
        identity: &Identity,
        work: impl FnOnce(&Spool, &Identity) -> Completion + Send + 'static,
    ) -> Pending<Completion> {
        let (spool, identity) = (self.spool.clone(), identity.clone());
        Box::pin(async move {
            match tokio::task::spawn_blocking(move || work(&spool, &identity)).await {
                Ok(end) => end,
                // A bug in the spool: the engine knows what each effect has to end in then.
                Err(broken) => match broken.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_cancelled) => std::future::pending().await,
                },
            }
        })
    }
}

impl Authorizer for Edges {
    fn device(&self, identity: &Identity, scopes: Vec<String>) -> Pending<Result<DeviceFlow, Refusal>> {
        let Some(route) = self.route(identity) else { return gone() };
        Box::pin(async move {
            let issued = route
                .provider
                .device(&Errand { scopes, ..route.errand })
                .await
                .map_err(|error| refusal(&error))?;
            let frozen = Frozen {
                token_endpoint: issued.token_endpoint.into(),
                issuer: None,
                issuer_promised: false,
                redirect_uri: route.redirect_uri.into(),
                verifier: None,
                nonce: None,
            };
            let account = AccountChange::Refused;
            Ok(DeviceFlow {
                page: issued.page,
                page_with_code: issued.page_with_code,
                user_code: issued.user_code,
                exchange: Exchange { code: issued.code, frozen, account, pace: Some(issued.pace) },
            })
        })
    }

    fn authorize(&self, request: AuthorizationRequest) -> Pending<Result<Authorized, Refusal>> {
        let Some(route) = self.route(&request.identity) else {
            return gone();
        };
        let openid = request.scopes.iter().any(|scope| scope == "openid");
        let nonce = openid.then(|| {
            Nonce::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(self.entropy.random()))
        });
        Box::pin(async move {
            let asked = AuthorizeRequest { state: request.state, nonce, scopes: request.scopes };
            let (url, frozen) = route
                .provider
                .authorize(asked, &route.redirect_uri)
                .await
                .map_err(|error| refusal(&error))?;
            let (per_integration, expires_at) = (route.per_integration, request.expires_at);
            Ok(Authorized { url, beginning: Beginning { frozen, per_integration, expires_at } })
        })
    }
}

async fn go_out(route: Route, identity: Identity, effect: Effect) -> Completion {
    let Route { provider, store, place, .. } = &route;
    match effect {
        Effect::Exchange { exchange, .. } => Completion::Answered(provider.exchange(&exchange).await),
        Effect::Refresh { token, .. } => Completion::Answered(provider.refresh(&token).await),
        Effect::Mint { connected_account, .. } => {
            Completion::Answered(provider.mint(&route.errand, connected_account.as_deref()).await)
        }
        Effect::Try { token, .. } => Completion::Tried(provider.try_token(&token).await),
        Effect::RevokeUpstream { refresh_token, access_token, connected_account, .. } => {
            let (refresh, access) = (refresh_token.as_ref(), access_token.as_ref());
            Completion::UpstreamRevoked(provider.revoke(refresh, access, connected_account.as_deref()).await)
        }
        Effect::Store { record, .. } => Box::pin(store.store(place, &record)).await,
        Effect::Clear { record, .. } => Box::pin(store.clear(place, &record)).await,
        Effect::Delete { .. } => Box::pin(store.delete(place, &identity)).await,
        Effect::Load { .. } => Box::pin(store.load(place, &identity)).await,
        other @ (Effect::Claim { .. }
        | Effect::Release { .. }
        | Effect::Intend { .. }
        | Effect::Seal { .. }
        | Effect::Quarantine(_)
        | Effect::Publish(_)
        | Effect::Withdraw
        | Effect::Mark { .. }
        | Effect::Audit(_)
        | Effect::Tell(_)) => nowhere(&other),
    }
}

/// What becomes of an effect whose integration is no longer configured: nothing was sent, nothing was written.
const fn nowhere(effect: &Effect) -> Completion {
    match effect {
        Effect::Exchange { .. } | Effect::Refresh { .. } | Effect::Mint { .. } => {
            Completion::Answered(Spent::NotSent(WireFault::Misconfigured))
        }
        Effect::Try { .. } => Completion::Tried(Trial::Silent),
        Effect::RevokeUpstream { .. } => {
            Completion::UpstreamRevoked(crate::lifecycle::Revocation::Unsupported)
        }
        Effect::Store { .. } | Effect::Clear { .. } | Effect::Delete { .. } => {
            Completion::StoreFailed(StoreFault::Other)
        }
        Effect::Load { .. } => Completion::LoadFailed(StoreFault::Other),
        Effect::Claim { .. }
        | Effect::Release { .. }
        | Effect::Intend { .. }
        | Effect::Seal { .. }
        | Effect::Quarantine(_)
        | Effect::Publish(_)
        | Effect::Withdraw
        | Effect::Mark { .. }
        | Effect::Audit(_)
        | Effect::Tell(_) => Completion::Marked,
    }
}

fn gone<T: Send + 'static>() -> Pending<Result<T, Refusal>> {
    let gone = Refusal::new(Code::IntegrationNotFound, "the integration is not configured any more");
    Box::pin(std::future::ready(Err(gone)))
}

fn refusal(error: &ProviderError) -> Refusal {
    match error {
        ProviderError::Unreachable => Refusal::new(Code::TokenUnavailable, error.to_string())
            .with_retry_after(std::time::Duration::from_secs(30)),
        ProviderError::Misconfigured(_) => {
            Refusal::new(Code::ProviderNotConfigured, error.to_string()).with_actions(&[Action::Configure])
        }
    }
}

fn now(end: Completion) -> Pending<Completion> {
    Box::pin(std::future::ready(end))
}
