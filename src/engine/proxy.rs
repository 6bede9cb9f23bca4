//! One call to a provider's API: the token in use goes along, what the API says to it goes to the core, and a call that is
//! answered 401 is repeated once with the token that a refresh brings, if it can be.
//!
//! Who may call what is judged before. It never refreshes by itself: the core decides what a 401 leads to, and here it is
//! waited for. Nothing is kept of a body but what a repetition needs.

use super::board::{Cell, Served};
use super::handle::Handle;
use super::ports::{Called, Clock, Flow, Upstream};
use crate::lifecycle::{Action, Code, IntegrationId, Refusal, Status, binding_missing};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::Body as _;
use std::sync::Arc;
use std::time::Duration;

/// Calls APIs for apps and operators. Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    handle: Handle,
    clock: Arc<dyn Clock>,
    upstream: Arc<dyn Upstream>,
}

impl Proxy {
    /// Calls by way of `upstream`.
    #[must_use]
    pub fn new(handle: Handle, clock: Arc<dyn Clock>, upstream: Arc<dyn Upstream>) -> Self {
        Self { handle, clock, upstream }
    }

    /// Calls an integration's API. The URI is a path below its base, in its one form ([`crate::lifecycle::ApiPath`]), and a query.
    /// Dropped, the call is given up; a refresh that came of it is not.
    ///
    /// # Errors
    /// As a token read, and as [`Upstream::call`].
    pub async fn call(&self, integration: &IntegrationId, call: Request<Flow>) -> Result<Called, Refusal> {
        let cell = self.handle.board().cell(integration.as_str()).ok_or_else(binding_missing)?;
        let lease = self.lease(&cell, integration)?;
        let (call, again) = repeatable(call).await?;
        let first = self.send(&cell, integration, &lease, call).await?;
        let Some(again) = again.filter(|_| first.answer.status() == StatusCode::UNAUTHORIZED) else {
            return Ok(first);
        };
        match tokio::time::timeout(PATIENCE, self.next_lease(&cell, &lease)).await {
            Ok(Some(Ok(fresh))) => self.send(&cell, integration, &fresh, again).await,
            Ok(Some(Err(refusal))) => Err(refusal),
            Ok(None) | Err(_) => Ok(first),
        }
    }

    fn lease(&self, cell: &Cell, integration: &IntegrationId) -> Result<Arc<Served>, Refusal> {
        let lease = cell.lease(self.clock.now());
        if lease.as_ref().is_err_and(|refusal| refusal.code == Code::TokenUnavailable) {
            self.handle.nudge(integration);
        }
        lease
    }

    async fn send(
        &self,
        cell: &Cell,
        integration: &IntegrationId,
        lease: &Arc<Served>,
        call: Request<Flow>,
    ) -> Result<Called, Refusal> {
        let called = self.upstream.call(integration, Arc::clone(lease), call).await?;
        // A revocation cuts what is on its way: nothing that came of the token is handed out after it.
        if let Err(refusal) = cell.lease(self.clock.now())
            && refusal.code == Code::IntegrationRevoked
        {
            return Err(refusal);
        }
        self.handle.answered(integration, called.said, lease.issue);
        Ok(called)
    }

    /// The lease after the one that was answered 401; the refusal, if there will be none; `None` where none is to be expected.
    async fn next_lease(&self, cell: &Cell, old: &Served) -> Option<Result<Arc<Served>, Refusal>> {
        let mut changes = cell.changes();
        loop {
            let posting = cell.posting();
            match cell.lease(self.clock.now()) {
                Ok(fresh) if fresh.issue != old.issue => return Some(Ok(fresh)),
                Err(refusal) if matches!(refusal.code, Code::NeedsReauth | Code::IntegrationRevoked) => {
                    return Some(Err(refusal));
                }
                Ok(_) | Err(_) if posting.view.status == Status::NeedsReauth => {
                    let refusal = Refusal::new(Code::NeedsReauth, posting.view.message.clone());
                    return Some(Err(refusal.with_actions(&[Action::Reconnect])));
                }
                Ok(_) | Err(_) if posting.heard.is_hopeless(old.issue) => return None,
                Ok(_) | Err(_) => changes.changed().await.ok()?,
            }
        }
    }
}

/// A call, and the same once more if it may be sent twice: its method is idempotent (RFC 9110 §9.2.2) and its body is small.
async fn repeatable(call: Request<Flow>) -> Result<(Request<Flow>, Option<Request<Flow>>), Refusal> {
    let (head, body) = call.into_parts();
    let idempotent =
        [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(&head.method);
    let small = body.size_hint().exact().is_some_and(|length| length <= SMALL);
    if !idempotent || !small {
        return Ok((Request::from_parts(head, body), None));
    }
    let limit = usize::try_from(SMALL).unwrap_or(usize::MAX);
    let whole = tokio::time::timeout(SLOW, Limited::new(body, limit).collect()).await;
    let Some(bytes) = whole.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes) else {
        return Err(Refusal::new(Code::InvalidRequest, "the request's body broke off"));
    };
    let again = Request::from_parts(head.clone(), buffered(bytes.clone()));
    Ok((Request::from_parts(head, buffered(bytes)), Some(again)))
}

/// A body that is there already.
#[must_use]
pub fn buffered(bytes: Bytes) -> Flow {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// No body.
#[must_use]
pub fn nothing() -> Flow {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// How long a call waits for the refresh that its 401 led to.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the body of a call that may be repeated may take to arrive.
const SLOW: Duration = Duration::from_secs(30);
const SMALL: u64 = 64 * 1024;

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
