//! The control socket: operators begin and finish consents, refresh, revoke, reload and look.
//!
//! The caller is root, the daemon's own user or a member of the operators' group, by peer credentials, judged for each
//! request. No answer holds a token; the states and tickets that answers do hold are never logged.

use super::accept::{Bounds, accept, receive};
use super::answers::{misfit, nowhere, refused};
use super::explain;
use super::orders;
use super::peer::Peer;
use super::seats::Limits;
use super::witness;
use crate::engine::{Clock, Handle, Trail};
use crate::lifecycle::{Caller, Code, NOBODY, Refusal};
use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::routing::{delete, get, post};
use http::{HeaderMap, Response, StatusCode};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use url::Url;

/// What the control socket serves from. Operators and the public address change with a reload.
#[derive(Clone)]
pub struct ControlDesk {
    /// Talks to the engine.
    pub handle: Handle,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Who may operate.
    pub operators: Arc<ArcSwap<Operators>>,
    /// Where links lead.
    pub public_url: Arc<ArcSwap<Url>>,
    /// Keeps the audit trail.
    pub trail: Arc<dyn Trail>,
}

/// Who may operate, beside root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operators {
    /// The user that the daemon runs as.
    pub own_uid: u32,
    /// The group of the operators (`sockets.control_group`), if there is one.
    pub group: Option<u32>,
}

/// Serves operators until `stop`; requests in flight then have ten seconds to end.
///
/// # Errors
/// What the system says when the listener cannot be used.
pub async fn serve_control(
    listener: UnixListener,
    desk: ControlDesk,
    stop: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let router = router(desk);
    let serve = |guest| {
        let router = router.clone();
        async move {
            let service =
                |peer, _: &_| TowerToHyperService::new(router.layer(Extension(Arc::<Peer>::new(peer))));
            receive(guest, service).await;
        }
    };
    accept(listener, BOUNDS, &stop, serve).await;
    Ok(())
}

impl Operators {
    /// Whether the caller may operate now.
    fn include(self, caller: &Caller) -> bool {
        let member = || self.group.is_some_and(|group| caller.groups.contains(&group));
        caller.uid != NOBODY && (caller.uid == ROOT || caller.uid == self.own_uid || member())
    }
}

fn router(desk: ControlDesk) -> Router {
    Router::new()
        .route("/v1/integrations/oauth/start", post(orders::start))
        .route("/connect/{ticket}", post(orders::confirm))
        .route("/v1/integrations/oauth/callback", post(orders::callback))
        .route("/v1/integrations", get(orders::list))
        .route("/v1/integrations/{integration}", delete(orders::delete))
        .route("/v1/integrations/{integration}/status", get(orders::status))
        .route("/v1/integrations/{integration}/refresh", post(orders::refresh))
        .route("/v1/integrations/{integration}/validate", post(orders::validate))
        .route("/v1/integrations/{integration}/revoke", post(orders::revoke))
        .route("/v1/integrations/{integration}/connect", post(orders::connect))
        .route("/v1/integrations/{integration}/device", post(orders::device))
        .route("/v1/integrations/{integration}/import", post(orders::import))
        .route("/v1/integrations/{integration}/recover", post(orders::recover))
        .route("/v1/reload", post(orders::reload))
        .route("/v1/audit", get(orders::audit))
        .route("/v1/explain", get(explain::explain))
        .route("/healthz", get(orders::health))
        .route("/readyz", get(orders::health))
        .fallback(async || nowhere::<Body>(HeaderMap::new()))
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(from_fn_with_state(desk.clone(), witness::watch))
        .layer(from_fn_with_state(desk.clone(), judge))
        .with_state(desk)
}

/// Lets operators through. Before the body is read, and for each request: a reload may have changed who they are.
async fn judge(
    State(desk): State<ControlDesk>,
    Extension(peer): Extension<Arc<Peer>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    if desk.operators.load().include(peer.caller()) {
        return next.run(request).await;
    }
    witness::turn_away(&desk, &peer, &request);
    let refusal = Refusal::new(
        Code::NotAnAdmin,
        "only root, grantd's own user and members of sockets.control_group may do that",
    );
    refused(HeaderMap::new(), &refusal)
}

/// The header `Allow` is axum's to add.
async fn wrong_method() -> Response<Body> {
    misfit(HeaderMap::new(), StatusCode::METHOD_NOT_ALLOWED, "this path does not answer that method")
}

const ROOT: u32 = 0;
const LARGEST_BODY: usize = 64 * 1024;
const BOUNDS: Bounds = Bounds {
    limits: Limits { all: 512, each: 128 },
    head: Duration::from_secs(10),
    drain: Duration::from_secs(10),
};

#[cfg(test)]
mod tests {
    use super::Operators;
    use crate::lifecycle::{Caller, NOBODY};

    #[test]
    fn root_the_own_user_and_the_group_operate_and_nobody_else() {
        let operators = Operators { own_uid: 900, group: Some(901) };
        let include =
            |uid, groups: &[u32]| operators.include(&Caller { uid, groups: groups.to_vec(), unit: None });
        assert!(include(0, &[0]) && include(900, &[5]) && include(1000, &[1000, 901]));
        assert!(!include(1000, &[1000]) && !include(1000, &[0, 900]) && !include(NOBODY, &[NOBODY, 901]));
        let alone = Operators { group: None, ..operators };
        assert!(!alone.include(&Caller { uid: 1000, groups: vec![901], unit: None }));
    }
}
