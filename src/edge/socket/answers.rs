//! The answers of both sockets: JSON, and RFC 9457 problem details. Nothing may be cached.
//!
//! Each takes a spare header map and fills it: the app socket passes the request's own, emptied, so that an answer takes no
//! memory for its headers.

use crate::lifecycle::{Code, Refusal};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;

/// 200 with JSON that was made already.
pub(super) fn json<B: From<Bytes>>(spare: HeaderMap, body: Bytes) -> Response<B> {
    answer(spare, StatusCode::OK, "application/json", body.into())
}

/// 200 with `value` as JSON.
pub(super) fn json_of<B: From<Bytes>>(value: &impl Serialize) -> Response<B> {
    json(HeaderMap::new(), bytes_of(value))
}

/// A refusal as problem details, with `Retry-After` where it has one.
pub(super) fn refused<B: From<Bytes>>(spare: HeaderMap, refusal: &Refusal) -> Response<B> {
    let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = answer(spare, status, PROBLEM, Bytes::from(refusal.problem()).into());
    if let Some(seconds) = refusal.retry_after_header() {
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    answer
}

/// Problem details for what HTTP itself has a status for: code `invalid_request`, whatever the status.
pub(super) fn misfit<B: From<Bytes>>(spare: HeaderMap, status: StatusCode, detail: &str) -> Response<B> {
    let problem = Misfit {
        r#type: "about:blank",
        title: Code::InvalidRequest.title(),
        status: status.as_u16(),
        detail,
        code: Code::InvalidRequest.word(),
        actions: [],
    };
    answer(spare, status, PROBLEM, bytes_of(&problem).into())
}

/// 404 for a path that leads nowhere.
pub(super) fn nowhere<B: From<Bytes>>(spare: HeaderMap) -> Response<B> {
    misfit(spare, StatusCode::NOT_FOUND, "there is nothing at this path")
}

/// 405 with what is allowed instead.
pub(super) fn wrong_method<B: From<Bytes>>(spare: HeaderMap, allowed: &'static str) -> Response<B> {
    let mut answer = misfit(spare, StatusCode::METHOD_NOT_ALLOWED, "this path does not answer that method");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// Any answer at all: its status, its kind, its body; never to be stored on the way.
pub(super) fn answer<B>(spare: HeaderMap, status: StatusCode, kind: &'static str, body: B) -> Response<B> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = spare;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// `value` as JSON.
pub(super) fn bytes_of(value: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).unwrap_or_default())
}

#[derive(Serialize)]
struct Misfit<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    actions: [&'static str; 0],
}

const PROBLEM: &str = "application/problem+json";
