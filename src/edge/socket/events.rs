//! Server-sent events about one integration: `lease` and `status`, one of each at once and then on each change.
//!
//! An event says that there is a new lease, never what it is: whoever listens reads the token as everybody else does. Nothing
//! is sent to a caller whose binding is gone.

use super::answers::bytes_of;
use super::desk::Desk;
use super::peer::Peer;
use crate::engine::{Posting, Served};
use crate::lifecycle::IntegrationId;
use crate::time::Timestamp;
use bytes::Bytes;
use hyper::body::Frame;
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The body of an event stream.
pub(super) struct Events(Option<Turn>);

type Turn = Pin<Box<dyn Future<Output = Option<(Feed, Bytes)>> + Send>>;

impl Events {
    /// A stream about what `name` means for the peer. Ends when it means nothing any more, and when the daemon stops.
    pub(super) fn new(desk: Arc<Desk>, peer: Arc<Peer>, name: String) -> Self {
        let mut beat = interval(desk.pace.beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.reset();
        Self(Some(Box::pin(Feed { desk, peer, name, beat, sent: None }.next())))
    }
}

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let turn = &mut self.get_mut().0;
        let Some(running) = turn else { return Poll::Ready(None) };
        let Some((feed, bytes)) = ready!(running.as_mut().poll(context)) else {
            *turn = None;
            return Poll::Ready(None);
        };
        *turn = Some(Box::pin(feed.next()));
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

struct Feed {
    desk: Arc<Desk>,
    peer: Arc<Peer>,
    name: String,
    beat: Interval,
    sent: Option<Sent>,
}

/// What the listener knows already.
struct Sent {
    /// Weak, so that a lease which was withdrawn does not stay in memory for a listener's sake.
    lease: Weak<Served>,
    status: Bytes,
}

impl Feed {
    /// Waits for something to say.
    async fn next(mut self) -> Option<(Self, Bytes)> {
        let mut silent_for_long = false;
        loop {
            let (grant, cell) = self.desk.find(self.peer.caller(), &self.name).ok()?;
            // Before the posting is read: a change after it is then always heard of.
            let mut changes = cell.changes();
            if let Some(news) = self.news(&grant.integration, &cell.posting()) {
                return Some((self, news));
            }
            if silent_for_long {
                return Some((self, Bytes::from_static(b":\n\n")));
            }
            tokio::select! {
                _changed = changes.changed() => {}
                _at = self.beat.tick() => silent_for_long = true,
                () = self.desk.stop().cancelled() => return None,
            }
        }
    }

    /// The events that tell the listener what it does not know yet.
    fn news(&mut self, integration: &IntegrationId, posting: &Posting) -> Option<Bytes> {
        let lease = posting.served.as_ref().map_or_else(Weak::new, Arc::downgrade);
        let mut news = Vec::new();
        if self.sent.as_ref().is_none_or(|sent| !sent.lease.ptr_eq(&lease)) {
            push(&mut news, "lease", &lease_of(integration, posting.served.as_deref()));
        }
        if self.sent.as_ref().is_none_or(|sent| sent.status != posting.status) {
            push(&mut news, "status", &posting.status);
        }
        self.sent = Some(Sent { lease, status: posting.status.clone() });
        if news.is_empty() { None } else { Some(news.into()) }
    }
}

fn push(news: &mut Vec<u8>, event: &str, data: &[u8]) {
    for part in [b"event: ", event.as_bytes(), b"\ndata: ", data, b"\n\n"] {
        news.extend_from_slice(part);
    }
}

fn lease_of(integration: &IntegrationId, served: Option<&Served>) -> Bytes {
    bytes_of(&LeaseEvent {
        integration,
        generation: served.map_or(0, |served| served.generation),
        expires_at: served.and_then(|served| served.expires_at),
    })
}

/// Generation 0 means that there is no lease.
#[derive(Serialize)]
struct LeaseEvent<'a> {
    integration: &'a IntegrationId,
    generation: u64,
    expires_at: Option<Timestamp>,
}
