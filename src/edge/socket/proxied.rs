//! `/v1/proxy/{integration}/{path}`: an app calls a provider's API without ever seeing the token (contract §3).
//!
//! The caller is judged by its bindings, the path in its one form; bodies pass through piece by piece, in both directions,
//! and are never kept. What grantd itself refuses is problem details; everything else is the API's own answer.

use super::answers::{refused, wrong_method};
use super::app::{Body, Passing};
use super::desk::Desk;
use super::peer::Peer;
use super::pulse::Held;
use crate::engine::{BrokenOff, Called};
use crate::lifecycle::{ApiPath, IntegrationId, Refusal};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::sync::Arc;

/// Whether a request is a call of an API.
pub(super) fn is_call(uri: &Uri) -> bool {
    uri.path().starts_with(ROOT)
}

/// Passes one call through.
pub(super) async fn pass(
    desk: Arc<Desk>,
    peer: Arc<Peer>,
    held: Held,
    request: Request<Incoming>,
) -> Response<Body> {
    // TRACE would give the token back (RFC 9110 §9.3.8), and CONNECT names another host.
    if [Method::TRACE, Method::CONNECT].contains(request.method()) {
        return wrong_method(HeaderMap::new(), "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    }
    let what = if request.method().is_safe() { "proxy_read" } else { "proxy_write" };
    let (integration, end) = sent(&desk, &peer, request).await;
    let outcome = match &end {
        Err(refusal) => refusal.code.word(),
        Ok(Called { answer, .. }) => match answer.status().as_u16() {
            ..400 => "ok",
            400..500 => "client_error",
            _ => "server_error",
        },
    };
    desk.tally().count(what, peer.caller(), integration.as_ref(), outcome);
    match end {
        Ok(called) => called.answer.map(|flow| Body::Proxied(Passing::new(flow, held))),
        Err(refusal) => refused(HeaderMap::new(), &refusal),
    }
}

async fn sent(
    desk: &Desk,
    peer: &Peer,
    request: Request<Incoming>,
) -> (Option<IntegrationId>, Result<Called, Refusal>) {
    let (mut head, body) = request.into_parts();
    let below = head.uri.path().strip_prefix(ROOT).unwrap_or_default();
    let (name, path) = below.split_at(below.find('/').unwrap_or(below.len()));
    let grant = match desk.find(peer.caller(), name) {
        Ok((grant, _)) => grant,
        Err(refusal) => return (None, Err(refusal)),
    };
    let integration = Some(grant.integration.clone());
    let path = match ApiPath::parse(if path.is_empty() { "/" } else { path }) {
        Ok(path) => path,
        Err(refusal) => return (integration, Err(refusal)),
    };
    let Some(uri) = path.with_query(head.uri.query()).parse().ok() else {
        return (integration, Err(crate::lifecycle::binding_missing()));
    };
    head.uri = uri;
    let call = Request::from_parts(head, body.map_err(|_broken| BrokenOff).boxed());
    let end = desk.call(peer.caller(), &grant.integration, &path, call).await;
    (integration, end)
}

const ROOT: &str = "/v1/proxy/";

#[cfg(test)]
#[path = "proxied_tests.rs"]
mod tests;
