//! The accept loop of both sockets: a place for each connection, a task for each that found one, an end within bounds.
//!
//! An accept that fails, as when descriptors run out, is tried again after a moment: the loop never spins, and those who are
//! connected are served on.

use super::answers::refused;
use super::peer::{Credentials, Peer};
use super::seats::{Limits, Seat, Seats, Welcome};
use crate::lifecycle::{Code, Refusal};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// A connection that found a place.
pub(super) struct Guest {
    stream: UnixStream,
    noted: Credentials,
    seat: Seat,
}

/// The bounds of one socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How many connections there may be.
    pub(super) limits: Limits,
    /// How long a request head may take to arrive, from the end of the answer before it.
    pub(super) head: Duration,
    /// How long the connections have to end after `stop`.
    pub(super) drain: Duration,
}

/// Accepts until `stop`, then waits for the connections to end; what has not ended by then is dropped.
pub(super) async fn accept<F, S>(listener: UnixListener, bounds: Bounds, stop: &CancellationToken, serve: F)
where
    F: Fn(Guest) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let seats = Seats::new(bounds.limits);
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => { note(ended); continue }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                failing = false;
                if let Some(guest) = admit(&seats, stream) {
                    let _task = connections.spawn(serve(guest));
                }
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
    let ended = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    if tokio::time::timeout(bounds.drain, ended).await.is_err() {
        tracing::debug!("connections that did not end in time are dropped");
    }
}

/// HTTP/1.1 with the bounds that both sockets have.
pub(super) fn http(bounds: Bounds) -> http1::Builder {
    let mut http = http1::Builder::new();
    // hyper's own limit of 100 headers stands: naming another would cost memory for each request.
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_header_size(LARGEST_HEAD);
    http
}

/// Serves a guest with what `service` makes for the peer; one who is turned away is only told so.
pub(super) async fn receive<S, B>(
    http: &http1::Builder,
    guest: Guest,
    stop: &CancellationToken,
    service: impl FnOnce(Peer) -> S,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // The seat is held until the connection has ended.
    let Guest { stream, noted, seat } = guest;
    match seat.welcome {
        Welcome::Served => {
            let peer = Peer::look_up(&stream, noted).await;
            converse(http, stream, service(peer), stop).await;
        }
        Welcome::TurnedAway => {
            let mut brief = http.clone();
            brief.keep_alive(false).header_read_timeout(BRIEF);
            converse(&brief, stream, service_fn(async |_request| Ok(too_many())), stop).await;
        }
    }
}

/// Serves one connection. After `stop` the request in flight is finished, and the connection ends.
async fn converse<S, B>(http: &http1::Builder, stream: UnixStream, service: S, stop: &CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A peer that goes away or talks nonsense is its own business.
        tracing::trace!(error = %error, "a connection broke off");
    }
}

fn admit(seats: &Arc<Seats>, stream: UnixStream) -> Option<Guest> {
    let noted = Credentials::of(&stream).ok()?;
    let seat = seats.take(noted.uid);
    if seat.is_none() {
        tracing::debug!(peer_uid = noted.uid, "a connection too many is closed");
    }
    seat.map(|seat| Guest { stream, noted, seat })
}

fn too_many() -> Response<Full<Bytes>> {
    let refusal = Refusal::new(Code::RateLimited, "this user has too many connections open: close some")
        .with_retry_after(Duration::from_secs(1));
    refused(HeaderMap::new(), &refusal)
}

fn note(ended: Result<(), JoinError>) {
    if ended.is_err() {
        tracing::error!("the task of a connection broke off");
    }
}

const BACK_OFF: Duration = Duration::from_millis(100);
/// How long one who is turned away may take to ask.
const BRIEF: Duration = Duration::from_secs(5);
const LARGEST_HEAD: usize = 16 * 1024;
