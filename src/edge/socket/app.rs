//! The app socket: a thread and a single-threaded runtime of its own, so that neither the engine's work nor a dead provider
//! can slow a reader.
//!
//! The way of a token read is short on purpose: judge the peer, read the board, answer with the bytes that were made once for
//! the lease. Nothing here can begin a flow, refresh out of turn, revoke or reload.

use super::accept::{Bounds, accept, receive};
use super::answers::{answer, bytes_of, json, nowhere, refused, wrong_method};
use super::desk::{Desk, Read, may_pass};
use super::events::Events;
use super::peer::Peer;
use super::proxied;
use super::pulse::{Held, Pulse};
use super::report;
use super::seats::Limits;
use super::wish::Wish;
use crate::engine::{BrokenOff, Clock, Flow, Handle, Trail, Upstream};
use crate::lifecycle::{Allow, Refusal, View};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use serde::Serialize;
use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Serves apps until `stop`; the thread ends within about five seconds of it.
///
/// # Errors
/// What the system says when the thread or its runtime cannot be made.
pub fn serve_app(
    listener: UnixListener,
    desk: AppDesk,
    stop: CancellationToken,
) -> io::Result<JoinHandle<()>> {
    let AppDesk { handle, clock, trail, upstream } = desk;
    serve_within(BOUNDS, listener, Desk::new(handle, clock, trail, upstream, stop))
}

/// What the app socket works with.
pub struct AppDesk {
    /// The engine.
    pub handle: Handle,
    /// Tells when leases end.
    pub clock: Arc<dyn Clock>,
    /// The audit trail.
    pub trail: Arc<dyn Trail>,
    /// Where calls of APIs go.
    pub upstream: Arc<dyn Upstream>,
}

pub(super) fn serve_within(bounds: Bounds, listener: UnixListener, desk: Desk) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(DATABASE_THREADS)
        .build()?;
    listener.set_nonblocking(true)?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::UnixListener::from_std(listener)?
    };
    let desk = Arc::new(desk);
    thread::Builder::new().name("grantd-app".into()).spawn(move || {
        let serve = |guest| {
            let desk = Arc::clone(&desk);
            async move {
                let reader = |peer, pulse: &Arc<Pulse>| Reader {
                    desk: Arc::clone(&desk),
                    peer: Arc::new(peer),
                    pulse: Arc::clone(pulse),
                };
                receive(guest, reader).await;
            }
        };
        let over = CancellationToken::new();
        let accepting = async {
            accept(listener, bounds, desk.stop(), serve).await;
            over.cancel();
        };
        let telling = Arc::clone(desk.tally()).tell_until(over.clone());
        runtime.block_on(async { tokio::join!(accepting, telling) });
        // A user database that hangs must not hold the stop up.
        runtime.shutdown_background();
    })
}

/// Answers one peer.
struct Reader {
    desk: Arc<Desk>,
    peer: Arc<Peer>,
    pulse: Arc<Pulse>,
}

impl Service<Request<Incoming>> for Reader {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Turn;

    fn call(&self, request: Request<Incoming>) -> Turn {
        if proxied::is_call(request.uri()) {
            let (desk, peer) = (Arc::clone(&self.desk), Arc::clone(&self.peer));
            return Turn::Later(Box::pin(proxied::pass(desk, peer, self.pulse.hold(), request)));
        }
        let (mut head, body) = request.into_parts();
        // The request's own map, emptied, becomes the answer's: no memory is taken for headers.
        let mut spare = std::mem::take(&mut head.headers);
        spare.clear();
        let Some(route) = Route::of(head.uri.path()) else { return Turn::now(nowhere(spare)) };
        let allowed = route.method();
        if head.method != allowed {
            return Turn::now(wrong_method(spare, if allowed == Method::POST { "POST" } else { "GET" }));
        }
        match route {
            Route::Report(name) => {
                let (desk, peer, name) = (Arc::clone(&self.desk), Arc::clone(&self.peer), name.to_owned());
                Turn::Later(Box::pin(report::take(desk, peer, name, body)))
            }
            Route::Token(name) => self.token(spare, name, head.uri.query()),
            Route::Status(name) => Turn::now(self.status(spare, name)),
            Route::Events(name) => Turn::now(self.events(spare, name)),
            Route::List => Turn::now(json(spare, self.list())),
        }
    }
}

impl Reader {
    fn token(&self, spare: HeaderMap, name: &str, query: Option<&str>) -> Turn {
        let wish = match query.map_or(Ok(Wish::default()), Wish::parse) {
            Ok(wish) => wish,
            Err(refusal) => {
                let read = Read { integration: None, end: Err(refusal) };
                return Turn::now(answered(spare, self.desk.counted(self.peer.caller(), read)));
            }
        };
        let read = self.desk.read(self.peer.caller(), name, wish.min_ttl);
        if wish.wait.is_zero() || !read.end.as_ref().is_err_and(may_pass) {
            return Turn::now(answered(spare, self.desk.counted(self.peer.caller(), read)));
        }
        let (desk, peer, name) = (Arc::clone(&self.desk), Arc::clone(&self.peer), name.to_owned());
        Turn::Later(Box::pin(async move {
            let read = desk.hold(peer.caller(), &name, wish).await;
            answered(spare, desk.counted(peer.caller(), read))
        }))
    }

    fn status(&self, spare: HeaderMap, name: &str) -> Response<Body> {
        match self.desk.find(self.peer.caller(), name) {
            Ok((_, cell)) => json(spare, cell.posting().status.clone()),
            Err(refusal) => refused(spare, &refusal),
        }
    }

    fn events(&self, spare: HeaderMap, name: &str) -> Response<Body> {
        match self.desk.find(self.peer.caller(), name) {
            Ok(_found) => {
                let events = Events::new(Arc::clone(&self.desk), Arc::clone(&self.peer), name.to_owned());
                answer(spare, StatusCode::OK, "text/event-stream", Body::Events(events))
            }
            Err(refusal) => refused(spare, &refusal),
        }
    }

    fn list(&self) -> Bytes {
        let found = self.desk.grants(self.peer.caller());
        let found: Vec<_> = found.iter().map(|(grant, cell)| (grant.allow, cell.posting())).collect();
        let integrations =
            found.iter().map(|(allow, posting)| Listed { view: &posting.view, allow: words(*allow) });
        bytes_of(&List { integrations: integrations.collect() })
    }
}

fn answered(spare: HeaderMap, end: Result<Bytes, Refusal>) -> Response<Body> {
    match end {
        Ok(body) => json(spare, body),
        Err(refusal) => refused(spare, &refusal),
    }
}

/// What a path asks for. Segments are compared byte for byte: nothing is decoded.
enum Route<'a> {
    List,
    Token(&'a str),
    Status(&'a str),
    Events(&'a str),
    Report(&'a str),
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let below = path.strip_prefix("/v1/integrations")?;
        if below.is_empty() {
            return Some(Self::List);
        }
        let (name, what) = below.strip_prefix('/')?.split_once('/')?;
        match what {
            "token" => Some(Self::Token(name)),
            "status" => Some(Self::Status(name)),
            "events" => Some(Self::Events(name)),
            "report" => Some(Self::Report(name)),
            _ => None,
        }
    }

    const fn method(&self) -> Method {
        match self {
            Self::Report(_) => Method::POST,
            Self::List | Self::Token(_) | Self::Status(_) | Self::Events(_) => Method::GET,
        }
    }
}

/// An answer that is there, or one that is waited for. Only the latter takes memory.
enum Turn {
    Now(Option<Response<Body>>),
    Later(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
}

impl Turn {
    const fn now(answer: Response<Body>) -> Self {
        Self::Now(Some(answer))
    }
}

impl Future for Turn {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(answer) => answer.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer))),
            Self::Later(answer) => answer.as_mut().poll(context).map(Ok),
        }
    }
}

/// A body that is whole, a stream of events, or what an API answers.
pub(super) enum Body {
    Whole(Full<Bytes>),
    Events(Events),
    Proxied(Passing),
}

/// The body of an answer that passes through. Its connection is held until it has.
pub(super) struct Passing {
    flow: Flow,
    _held: Held,
}

impl Passing {
    pub(super) const fn new(flow: Flow, held: Held) -> Self {
        Self { flow, _held: held }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(whole) => Pin::new(whole).poll_frame(context).map_err(|never| match never {}),
            Self::Events(events) => Pin::new(events).poll_frame(context).map_err(|never| match never {}),
            Self::Proxied(passing) => Pin::new(&mut passing.flow).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Events(events) => events.is_end_stream(),
            Self::Proxied(passing) => passing.flow.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Events(events) => events.size_hint(),
            Self::Proxied(passing) => passing.flow.size_hint(),
        }
    }
}

#[derive(Serialize)]
struct List<'a> {
    integrations: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    view: &'a View,
    allow: Vec<&'static str>,
}

/// Status is implied by the others, and named where it is all.
pub(super) fn words(allow: Allow) -> Vec<&'static str> {
    match (allow.token, allow.proxy) {
        (true, true) => vec!["token", "proxy"],
        (true, false) => vec!["token"],
        (false, true) => vec!["proxy"],
        (false, false) => vec!["status"],
    }
}

const BOUNDS: Bounds = Bounds {
    limits: Limits { all: 4096, each: 512 },
    head: Duration::from_secs(10),
    drain: Duration::from_secs(5),
};
/// The threads that ask the host's user database for groups.
const DATABASE_THREADS: usize = 4;
