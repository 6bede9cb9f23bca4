//! Leaves an event of each order on the control socket: who asked, for what, and how it ended; of strangers too.
//!
//! Looking is no order. An order whose caller hangs up is carried out all the same, and is `abandoned` here: what came of it
//! are the transitions that follow. A path's own texts never get in, since a ticket is one.

use super::control::ControlDesk;
use super::peer::Peer;
use crate::engine::Trail;
use crate::lifecycle::{Actor, AuditEvent, Code, Identity};
use axum::body::Body;
use axum::extract::{Extension, MatchedPath, Request, State};
use axum::middleware::Next;
use http::{Method, Response};
use std::sync::Arc;

/// How an answer tells the witness about its order.
#[derive(Clone, Debug)]
pub(super) struct About(pub(super) Identity);

/// The code with which an answer refuses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused(pub(super) &'static str);

/// An order under way. Its event is recorded when it is dropped, however that comes.
struct Order {
    trail: Arc<dyn Trail>,
    event: AuditEvent,
}

/// Watches what operators order.
pub(super) async fn watch(
    State(desk): State<ControlDesk>,
    Extension(peer): Extension<Arc<Peer>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let Some(what) = order(&request) else { return next.run(request).await };
    let mut event = AuditEvent::done(what, host(&peer));
    event.outcome = "abandoned";
    event.identity = named(&desk, &request);
    let mut order = Order { trail: Arc::clone(&desk.trail), event };
    let answer = next.run(request).await;
    let refused = answer.extensions().get::<Refused>().map(|refused| refused.0);
    order.event.outcome = match refused {
        Some(code) => code,
        None if answer.status().is_success() => "ok",
        None => Code::InvalidRequest.word(),
    };
    if let Some(About(identity)) = answer.extensions().get() {
        order.event.identity = Some(identity.clone());
    }
    answer
}

/// Records that a stranger was refused, whatever was asked.
pub(super) fn turn_away(desk: &ControlDesk, peer: &Peer, request: &Request) {
    let what = order(request).unwrap_or("look_asked");
    desk.trail.record(AuditEvent::refused(what, host(peer), Code::NotAnAdmin));
}

impl Drop for Order {
    fn drop(&mut self) {
        self.trail.record(self.event.clone());
    }
}

fn host(peer: &Peer) -> Actor {
    Actor::Host { uid: peer.caller().uid }
}

/// The word for what is ordered. `None` for a look.
fn order(request: &Request) -> Option<&'static str> {
    if request.method() == Method::GET {
        return None;
    }
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let (_, last) = path.rsplit_once('/')?;
    match last {
        "start" => Some("start_asked"),
        "{ticket}" => Some("confirm_asked"),
        "callback" => Some("callback_asked"),
        "refresh" => Some("refresh_asked"),
        "validate" => Some("validate_asked"),
        "{integration}" => Some("delete_asked"),
        "revoke" => Some("revoke_asked"),
        "connect" => Some("connect_asked"),
        "device" => Some("device_asked"),
        "import" => Some("import_asked"),
        "recover" => Some("recover_asked"),
        "reload" => Some("reload_asked"),
        _ => None,
    }
}

/// The integration in the path, if there is one of that name.
fn named(desk: &ControlDesk, request: &Request) -> Option<Identity> {
    let name = request.uri().path().strip_prefix("/v1/integrations/")?.split('/').next()?;
    let cell = desk.handle.board().cell(name)?;
    Some(cell.posting().view.identity.clone())
}
