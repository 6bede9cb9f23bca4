//! What the engine asks of the world. `daemon` plugs the edges in; tests plug in doubles.

use super::board::Served;
use crate::lifecycle::{
    ApiAnswer, AuditEvent, Beginning, Completion, Effect, Exchange, Frozen, Identity, IntegrationId, Missing,
    Person, Random, Refusal, Sealed,
};
use crate::secret::{Nonce, StateToken};
use crate::time::Timestamp;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use std::pin::Pin;
use std::sync::Arc;

/// A future that a port hands to the engine.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Carries effects out. Each one is run to its end: dropping it half-way could lose a token for good.
pub trait Performer: Send + Sync {
    /// Carries out one effect that ends in a completion. Bounded in time, every one of them.
    fn perform(&self, identity: &Identity, effect: Effect) -> Pending<Completion>;

    /// The answers of an integration that are in quarantine, the oldest first.
    fn quarantined(&self, identity: &Identity) -> Pending<Vec<Arc<Sealed>>>;
}

/// The audit trail: keeps events in order, chained, and gives them back.
pub trait Trail: Send + Sync {
    /// Records one event. Must not block; must not lose it while the disk takes writes.
    fn record(&self, event: AuditEvent);

    /// The events after a sequence number, the oldest first, at most `most`, as the JSON objects that stand in the trail.
    fn after(&self, sequence: u64, most: usize) -> Pending<Vec<serde_json::Value>>;
}

/// Looks whether everything is there that a consent needs.
pub trait Preflight: Send + Sync {
    /// What is missing for an integration. Changes nothing; bounded in time.
    fn look(&self, identity: &Identity) -> Pending<Vec<Missing>>;
}

/// Makes the URL of an authorization request.
pub trait Authorizer: Send + Sync {
    /// Builds the request for `state`; may have to discover the provider's endpoints first.
    fn authorize(&self, request: AuthorizationRequest) -> Pending<Result<Authorized, Refusal>>;

    /// Asks for a device code (RFC 8628 §3.1).
    fn device(&self, identity: &Identity, scopes: Vec<String>) -> Pending<Result<DeviceFlow, Refusal>>;
}

/// A device flow that may be begun.
#[derive(Debug)]
pub struct DeviceFlow {
    /// The page at which a person enters the code.
    pub page: String,
    /// The same page with the code filled in, where the provider has one.
    pub page_with_code: Option<String>,
    /// What a person enters.
    pub user_code: String,
    /// What tokens are asked for with.
    pub exchange: Exchange,
}

/// What an authorization request is made of.
#[derive(Debug)]
pub struct AuthorizationRequest {
    /// Whose consent is asked.
    pub identity: Identity,
    /// The scopes to ask for.
    pub scopes: Vec<String>,
    /// The state of the request.
    pub state: StateToken,
    /// When the flow ends.
    pub expires_at: Timestamp,
}

/// A request that is ready to be followed.
#[derive(Debug)]
pub struct Authorized {
    /// Where to send the browser. Carries the state: not for logs.
    pub url: String,
    /// What the flow freezes.
    pub beginning: Beginning,
}

/// Calls the APIs of providers with a token. It goes to the base that the integration's provider has, and nowhere else: it
/// follows no redirect and tries nothing twice.
pub trait Upstream: Send + Sync {
    /// Sends one call and gives the answer as soon as its head is there. Dropped, the call is given up.
    ///
    /// # Errors
    /// `provider_not_configured`, `invalid_request`, `upstream_unreachable`, `upstream_timeout`.
    fn call(
        &self,
        integration: &IntegrationId,
        lease: Arc<Served>,
        call: Request<Flow>,
    ) -> Pending<Result<Called, Refusal>>;
}

/// What an API answered.
#[derive(Debug)]
pub struct Called {
    /// The answer, without what is not for the caller.
    pub answer: Response<Flow>,
    /// What it says about the token.
    pub said: ApiAnswer,
}

/// A body that comes piece by piece. Its error is for nobody: the connection breaks off.
pub type Flow = BoxBody<Bytes, BrokenOff>;

/// A body broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body broke off")]
pub struct BrokenOff;

/// Signs operators in at the company's own identity provider. It goes where the configuration says, and nowhere else.
pub trait SignIn: Send + Sync {
    /// The URL of an authentication request (OpenID Connect Core §3.1.2.1), and what its flow freezes.
    fn begin(&self, state: StateToken, nonce: Nonce) -> Pending<Result<(String, Frozen), Refusal>>;

    /// Exchanges the code, checks the `id_token` whole, and says who it is.
    fn finish(&self, exchange: Exchange) -> Pending<Result<Person, Refusal>>;
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The wall clock, now.
    fn now(&self) -> Timestamp;
}

/// Makes random bytes.
pub trait Entropy: Send + Sync {
    /// Twenty-four bytes that nobody can guess.
    fn random(&self) -> Random;
}
