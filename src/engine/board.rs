//! The board: what readers see. One cell for each integration, replaced whole, never edited.
//!
//! A reader takes no lock that a writer holds: it loads a pointer. The bytes of a token answer are made once
//! for each lease, here, and shared by every answer after it. Only the engine writes.

use crate::lifecycle::{
    ApiAnswer, Binding, Bindings, Heard, IntegrationId, Lease, ReadStanding, Refusal, View, binding_missing,
    judge_read,
};
use crate::secret::{AccessToken, SecretBytes};
use crate::time::Timestamp;
use arc_swap::ArcSwap;
use bytes::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// What readers see of all integrations, and who may read.
pub struct Board {
    cells: ArcSwap<BTreeMap<IntegrationId, Arc<Cell>>>,
    bindings: ArcSwap<Bindings>,
}

/// One integration's place on the board.
pub struct Cell {
    posting: ArcSwap<Posting>,
    /// The last lease whose first 401 is on its way to the engine, and whether another answer is.
    first_401: AtomicU64,
    answer: AtomicBool,
    changes: watch::Sender<u64>,
}

/// What is posted about one integration at one moment.
pub struct Posting {
    /// How it is.
    pub view: View,
    /// The status object as JSON, made once.
    pub status: Bytes,
    /// The lease that is served, if there is one.
    pub served: Option<Arc<Served>>,
    /// What APIs have said to it.
    pub heard: Heard,
}

/// A lease as readers get it.
pub struct Served {
    body: Bytes,
    /// The token, for calls that grantd makes itself.
    pub token: AccessToken,
    /// When it ends; `None` if it does not.
    pub expires_at: Option<Timestamp>,
    /// The generation it came with.
    pub generation: u64,
    /// Which lease it is (`Lease::issue`): to be named with what an API answers to it.
    pub issue: u64,
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new(bindings: Vec<Binding>) -> Self {
        Self { cells: ArcSwap::default(), bindings: ArcSwap::from_pointee(Bindings::new(bindings)) }
    }

    /// The bindings in force now. Take them anew for each request, so that a reload bites at once.
    #[must_use]
    pub fn bindings(&self) -> Arc<Bindings> {
        self.bindings.load_full()
    }

    /// The cell of one integration.
    #[must_use]
    pub fn cell(&self, integration: &str) -> Option<Arc<Cell>> {
        self.cells.load().get(integration).cloned()
    }

    /// All postings, by id.
    #[must_use]
    pub fn postings(&self) -> Vec<Arc<Posting>> {
        self.cells.load().values().map(|cell| cell.posting()).collect()
    }

    /// How many integrations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.load().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn bind(&self, bindings: Vec<Binding>) {
        self.bindings.store(Arc::new(Bindings::new(bindings)));
    }

    /// Puts a new set of cells up. Those that stay keep their waiters; those that go wake theirs.
    pub(super) fn replace(&self, cells: BTreeMap<IntegrationId, Arc<Cell>>) {
        let old = self.cells.swap(Arc::new(cells));
        for cell in old.values() {
            cell.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

impl Cell {
    pub(super) fn new(view: View) -> Self {
        let posting = Posting { status: status_json(&view), view, served: None, heard: Heard::default() };
        Self {
            posting: ArcSwap::from_pointee(posting),
            first_401: AtomicU64::new(0),
            answer: AtomicBool::new(false),
            changes: watch::Sender::new(0),
        }
    }

    /// What is posted now.
    #[must_use]
    pub fn posting(&self) -> Arc<Posting> {
        self.posting.load_full()
    }

    /// Judges a token read and gives the answer's bytes. Touches nothing but this cell.
    ///
    /// # Errors
    /// The refusal that the table of contract §3 names.
    pub fn read(&self, min_ttl: Duration, now: Timestamp) -> Result<Bytes, Refusal> {
        let posting = self.posting.load();
        let lease = posting.served.as_ref().map(|served| served.expires_at);
        judge_read(ReadStanding { lease, view: &posting.view }, min_ttl, now)?;
        posting.served.as_ref().map(|served| served.body.clone()).ok_or_else(binding_missing)
    }

    /// As [`Cell::read`], for a call that grantd makes itself: the lease in use.
    ///
    /// # Errors
    /// As [`Cell::read`].
    pub fn lease(&self, now: Timestamp) -> Result<Arc<Served>, Refusal> {
        let posting = self.posting.load();
        let lease = posting.served.as_ref().map(|served| served.expires_at);
        judge_read(ReadStanding { lease, view: &posting.view }, Duration::ZERO, now)?;
        posting.served.clone().ok_or_else(binding_missing)
    }

    /// Tells of every change from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether the engine should hear of an API's answer: it is news, and the like of it is not on its way yet.
    pub(super) fn passes_on(&self, answer: &ApiAnswer, issue: u64) -> bool {
        let heard = self.posting.load().heard;
        if !heard.is_news(answer, issue) {
            return false;
        }
        if heard.is_first_401(answer) {
            return self.first_401.swap(issue, Ordering::AcqRel) != issue;
        }
        !self.answer.swap(true, Ordering::AcqRel)
    }

    /// The engine has heard of an answer, or could not be told of it.
    pub(super) fn hears_again(&self, lost: bool) {
        if lost {
            self.first_401.store(0, Ordering::Release);
        }
        self.answer.store(false, Ordering::Release);
    }

    pub(super) fn post(&self, view: View, served: Option<Arc<Served>>, heard: Heard) {
        self.posting.store(Arc::new(Posting { status: status_json(&view), view, served, heard }));
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Served {
    /// Makes the answer's bytes, once.
    pub(super) fn of(lease: &Lease) -> Self {
        let answer = TokenAnswer {
            access_token: lease.token.expose_secret(),
            token_type: &lease.token_type,
            expires_at: lease.expires_at,
            scope: lease.scope.as_deref(),
            integration: &lease.integration,
            generation: lease.generation,
        };
        let body = SecretBytes::new(serde_json::to_vec(&answer).unwrap_or_default());
        Self {
            body: Bytes::from_owner(Body(body)),
            token: lease.token.duplicate(),
            expires_at: lease.expires_at,
            generation: lease.generation,
            issue: lease.issue,
        }
    }
}

/// Zeroes the bytes when the last answer that shares them is gone.
struct Body(SecretBytes);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

#[derive(Serialize)]
struct TokenAnswer<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_at: Option<Timestamp>,
    scope: Option<&'a str>,
    integration: &'a IntegrationId,
    generation: u64,
}

fn status_json(view: &View) -> Bytes {
    Bytes::from(serde_json::to_vec(view).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::Cell;
    use crate::lifecycle::testing::pending_view;
    use crate::lifecycle::{ApiAnswer, Heard};

    #[test]
    fn of_what_apis_say_only_news_and_each_of_it_once_reaches_the_engine() {
        let cell = Cell::new(pending_view("github"));
        let passes = |status, issue| cell.passes_on(&ApiAnswer::of(status), issue);
        assert!(!passes(401, 0) && !passes(401, 1), "nothing is served");
        cell.post(pending_view("github"), None, Heard::of(7));
        assert!(!passes(200, 7) && !passes(404, 7), "nothing changes by it");
        assert!(!passes(401, 6), "it is about the token before");
        assert!(passes(403, 7) && !passes(403, 7) && !passes(429, 7), "one is on its way");
        assert!(passes(401, 7) && !passes(401, 7), "a first 401 overtakes it");
        cell.hears_again(false);
        assert!(passes(403, 7) && !passes(401, 7));
        cell.hears_again(true);
        assert!(passes(401, 7), "the engine was never told");
    }
}
