//! Reports: an app that calls the provider's API by itself says what it was answered (contract §3).
//!
//! A report counts as an answer that grantd saw. It is about the token in use, unless it says which one it is about; how many
//! of them a user may make is bounded, and what comes of them the core decides.

use super::answers::{answer, refused};
use super::desk::Desk;
use super::peer::Peer;
use crate::lifecycle::{ApiAnswer, Code, Grant, IntegrationId, Refusal, binding_missing};
use crate::time::Timestamp;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Takes one report.
pub(super) async fn take<B: From<Bytes>>(
    desk: Arc<Desk>,
    peer: Arc<Peer>,
    name: String,
    body: Incoming,
) -> Response<B> {
    let taken = match desk.find(peer.caller(), &name) {
        Ok((grant, _)) if grant.allow.token || grant.allow.proxy => read(body).await,
        Ok(_) => Err(binding_missing()),
        Err(refusal) => Err(refusal),
    };
    let end = taken.and_then(|report| reported(&desk, &peer, &name, &report));
    let (integration, outcome) = match &end {
        Ok(integration) => (Some(integration), "ok"),
        Err(refusal) => (None, refusal.code.word()),
    };
    desk.tally().count("api_report", peer.caller(), integration, outcome);
    match end {
        Ok(_) => answer(HeaderMap::new(), StatusCode::ACCEPTED, "application/json", Bytes::from("{}").into()),
        Err(refusal) => refused(HeaderMap::new(), &refusal),
    }
}

/// Judged anew: the body may have taken its time.
fn reported(desk: &Desk, peer: &Peer, name: &str, report: &Report) -> Result<IntegrationId, Refusal> {
    let caller = peer.caller();
    let (Grant { integration, .. }, cell) = desk.find(caller, name)?;
    desk.reports().allow(caller.uid, desk.now())?;
    if let Some(served) = &cell.posting().served
        && report.generation.is_none_or(|told| told == served.generation)
        && report.expires_at.is_none_or(|told| Some(told) == served.expires_at)
    {
        desk.answered(&integration, report.answer(), served.issue);
    }
    Ok(integration)
}

async fn read(body: Incoming) -> Result<Report, Refusal> {
    let whole = tokio::time::timeout(PATIENCE, Limited::new(body, LARGEST).collect()).await;
    let bytes = whole.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes);
    let report: Option<Report> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    report.filter(|report| (100..600).contains(&report.status)).ok_or_else(|| {
        Refusal::new(
            Code::InvalidRequest,
            "the body is an object of at most 4 KiB with the HTTP status that the API answered: {\"status\": 401}",
        )
    })
}

/// What an app says. `generation` and `expires_at` are those of the token answer it used.
#[derive(Debug, Deserialize)]
struct Report {
    status: u16,
    #[serde(default)]
    rate_limited: bool,
    retry_after: Option<u64>,
    generation: Option<u64>,
    expires_at: Option<Timestamp>,
}

impl Report {
    fn answer(&self) -> ApiAnswer {
        ApiAnswer {
            status: self.status,
            rate_limited: self.rate_limited,
            retry_after: self.retry_after.map(Duration::from_secs),
        }
    }
}

/// How many reports each user has made in its present minute.
#[derive(Default)]
pub(super) struct Reports(Mutex<BTreeMap<u32, (Timestamp, u32)>>);

impl Reports {
    /// Counts one more.
    ///
    /// # Errors
    /// `rate_limited` beyond 60 a minute.
    fn allow(&self, uid: u32, now: Timestamp) -> Result<(), Refusal> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back begins another minute.
        let lately = |since: Timestamp| since <= now && now.since(since) < MINUTE;
        if made.len() >= MANY {
            made.retain(|_, (since, _)| lately(*since));
        }
        let (since, count) = made.entry(uid).or_insert((now, 0));
        if !lately(*since) {
            (*since, *count) = (now, 0);
        }
        if *count >= MOST {
            let wait = MINUTE.saturating_sub(now.since(*since));
            return Err(Refusal::new(
                Code::RateLimited,
                "this user has reported 60 times in a minute: what is wrong is known",
            )
            .with_retry_after(wait));
        }
        *count = count.saturating_add(1);
        Ok(())
    }
}

const LARGEST: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);
const MOST: u32 = 60;
const MANY: usize = 1024;

#[cfg(test)]
mod tests {
    use super::{MOST, Reports};
    use crate::time::Timestamp;

    #[test]
    fn each_user_may_report_60_times_a_minute() {
        let (reports, at) = (Reports::default(), Timestamp::from_seconds);
        for _report in 0..MOST {
            assert!(reports.allow(1000, at(100)).is_ok());
        }
        let refusal = reports.allow(1000, at(130)).unwrap_err();
        assert_eq!(refusal.retry_after_header(), Some(30));
        assert!(reports.allow(1001, at(130)).is_ok(), "another user");
        assert!(reports.allow(1000, at(160)).is_ok(), "another minute");
        assert!(reports.allow(1000, at(10)).is_ok(), "the clock was set back");
    }
}
