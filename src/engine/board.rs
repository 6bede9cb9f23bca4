//! The board: what readers see. One cell for each integration, replaced whole, never edited.
//!
//! A reader takes no lock that a writer holds: it loads a pointer. The bytes of a token answer are made once
//! for each lease, here, and shared by every answer after it. Only the engine writes.

use crate::lifecycle::{
    Binding, Bindings, IntegrationId, Lease, ReadStanding, Refusal, View, binding_missing, judge_read,
};
use crate::secret::SecretBytes;
use crate::time::Timestamp;
use arc_swap::ArcSwap;
use bytes::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
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
}

/// A lease as readers get it.
pub struct Served {
    body: Bytes,
    /// When it ends; `None` if it does not.
    pub expires_at: Option<Timestamp>,
    /// The generation it came with.
    pub generation: u64,
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
        let posting = Posting { status: status_json(&view), view, served: None };
        Self { posting: ArcSwap::from_pointee(posting), changes: watch::Sender::new(0) }
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

    /// Tells of every change from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn post(&self, view: View, served: Option<Arc<Served>>) {
        self.posting.store(Arc::new(Posting { status: status_json(&view), view, served }));
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
            expires_at: lease.expires_at,
            generation: lease.generation,
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
