//! The accept loop of both sockets: a place for each connection, a task for each that found one, an end within bounds.
//!
//! An accept that fails, as when descriptors run out, is tried again after a moment: the loop never spins, and those who are
//! connected are served on.

use super::answers::refused;
use super::peer::{Credentials, Peer};
use super::pulse::{Pulse, Watched};
use super::seats::{Limits, Seat, Seats, Welcome};
use crate::lifecycle::{Code, Refusal};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, Write};
use hyper::server::conn::http1::{self, Connection};
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// The bounds of one socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How many connections there may be.
    pub(super) limits: Limits,
    /// How long a request head may take to arrive once it has begun; twice as long at most. Idle connections may stay.
    pub(super) head: Duration,
    /// How long the connections have to end after `stop`.
    pub(super) drain: Duration,
}

/// A connection that found a place.
pub(super) struct Guest {
    stream: UnixStream,
    noted: Credentials,
    seat: Seat,
    pulse: Arc<Pulse>,
    ending: Arc<Ending>,
}

/// Accepts until `stop`, then waits for the connections to end; what has not ended by then is dropped.
pub(super) async fn accept<F, S>(listener: UnixListener, bounds: Bounds, stop: &CancellationToken, serve: F)
where
    F: Fn(Guest) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let mut room = Room::new(bounds.limits);
    let mut looks = interval(bounds.head);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = room.connections.join_next_with_id() => { room.left(ended); continue }
            _at = looks.tick() => { room.show_out(); continue }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                failing = false;
                room.admit(stream, &serve);
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(error = %error.kind(), "no connection can be accepted: raise LimitNOFILE if descriptors ran out");
                }
                failing = true;
                let _stopping = tokio::time::timeout(BACK_OFF, stop.cancelled()).await;
            }
        }
    }
    drop(listener);
    room.close(bounds.drain).await;
}

/// Serves a guest with what `service` makes for the peer; one who is turned away is only told so.
pub(super) async fn receive<S, B>(guest: Guest, service: impl FnOnce(Peer, &Arc<Pulse>) -> S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // The seat is held until the connection has ended.
    let Guest { stream, noted, seat, pulse, ending } = guest;
    let mut http = http1::Builder::new();
    // hyper's own limit of 100 headers stands: naming another would cost memory for each request.
    http.header_read_timeout(None).max_header_size(LARGEST_HEAD);
    match seat.welcome {
        Welcome::Served => {
            let service = service(Peer::look_up(&stream, noted).await, &pulse);
            let asked = Arc::clone(&pulse);
            let service = service_fn(move |request| {
                asked.asked();
                service.call(request)
            });
            converse(http.serve_connection(TokioIo::new(Watched::new(stream, pulse)), service), &ending)
                .await;
        }
        Welcome::TurnedAway => {
            let tell = service_fn(async |_request| Ok::<_, Infallible>(too_many()));
            let told = http.keep_alive(false).serve_connection(TokioIo::new(stream), tell);
            let _told_or_not = tokio::time::timeout(BRIEF, converse(told, &ending)).await;
        }
    }
}

/// All connections of one socket.
struct Room {
    seats: Arc<Seats>,
    ending: Arc<Ending>,
    connections: JoinSet<()>,
    watched: BTreeMap<task::Id, (Arc<Pulse>, AbortHandle)>,
}

impl Room {
    fn new(limits: Limits) -> Self {
        Self {
            seats: Seats::new(limits),
            ending: Arc::default(),
            connections: JoinSet::new(),
            watched: BTreeMap::new(),
        }
    }

    fn admit<S>(&mut self, stream: UnixStream, serve: impl Fn(Guest) -> S)
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let Ok(noted) = Credentials::of(&stream) else { return };
        let Some(seat) = self.seats.take(noted.uid) else {
            return tracing::debug!(peer_uid = noted.uid, "a connection too many is closed");
        };
        let pulse = Arc::<Pulse>::default();
        let guest =
            Guest { stream, noted, seat, pulse: Arc::clone(&pulse), ending: Arc::clone(&self.ending) };
        let task = self.connections.spawn(serve(guest));
        self.watched.insert(task.id(), (pulse, task));
    }

    /// Ends the connections whose request heads are too slow.
    fn show_out(&self) {
        for (_, task) in self.watched.values().filter(|(pulse, _)| pulse.is_stuck()) {
            task.abort();
        }
    }

    fn left(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                if error.is_panic() {
                    tracing::error!("the task of a connection broke off");
                }
                error.id()
            }
        };
        self.watched.remove(&id);
    }

    async fn close(mut self, drain: Duration) {
        self.ending.begin();
        let ended = async {
            while let Some(ended) = self.connections.join_next_with_id().await {
                self.left(ended);
            }
        };
        if tokio::time::timeout(drain, ended).await.is_err() {
            tracing::debug!("connections that did not end in time are dropped");
        }
    }
}

/// Tells the connections of one socket to end. The flag is there because a token cannot be asked without a lock, and every
/// request would ask.
#[derive(Debug, Default)]
struct Ending {
    begun: AtomicBool,
    told: CancellationToken,
}

impl Ending {
    /// The flag first: whoever is woken by the token sees it.
    fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.told.cancel();
    }
}

/// Sees one connection to its end. Once it is told to end, the request in flight is finished.
async fn converse<S, B, I>(connection: Connection<I, S>, ending: &Ending)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    I: Read + Write + Unpin,
{
    let (mut connection, mut told) = (pin!(connection), pin!(ending.told.cancelled()));
    let mut listens = false;
    let ended = poll_fn(|context| {
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(ended);
        }
        // One poll is enough to be woken: this task's waker is always the same.
        if listens && !ending.begun.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        listens = true;
        ready!(told.as_mut().poll(context));
        connection.as_mut().graceful_shutdown();
        connection.as_mut().poll(context)
    });
    if let Err(error) = ended.await {
        // A peer that goes away or talks nonsense is its own business.
        tracing::trace!(error = %error, "a connection broke off");
    }
}

fn too_many() -> Response<Full<Bytes>> {
    let refusal = Refusal::new(Code::RateLimited, "this user has too many connections open: close some")
        .with_retry_after(Duration::from_secs(1));
    refused(HeaderMap::new(), &refusal)
}

const BACK_OFF: Duration = Duration::from_millis(100);
/// How long one who is turned away may take to ask and to listen.
const BRIEF: Duration = Duration::from_secs(5);
const LARGEST_HEAD: usize = 16 * 1024;
