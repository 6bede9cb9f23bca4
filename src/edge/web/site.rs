//! The map of the public listener: which path leads where.

use super::activity::Recent;
use super::sessions::Sessions;
use super::trouble::{Trouble, Voice};
use super::visit::Visit;
use super::{Web, activity, api, callback, connect, guard, install, manage, sign_in};
use crate::engine::{Clock, Handle, Trail};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Router, middleware};
use http::{HeaderValue, Request, StatusCode, header};
use std::future::ready;
use std::sync::Arc;

/// What every handler may use.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) handle: Handle,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) trail: Arc<dyn Trail>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) recent: Arc<Recent>,
}

/// All routes, guarded. Each request must carry its [`Visit`] as an extension.
pub(super) fn routes(web: &Web) -> Router {
    let site = Site {
        handle: web.handle.clone(),
        clock: Arc::clone(&web.clock),
        trail: Arc::clone(&web.trail),
        sessions: Arc::new(Sessions::new(Arc::clone(&web.clock), Arc::clone(&web.entropy))),
        recent: Arc::default(),
    };
    let returned = || get(callback::returned).head(only_get);
    Router::new()
        .route("/", get(manage::home))
        .merge(operators())
        .route("/connect/{ticket}", get(connect::show).post(connect::follow))
        .route("/v1/integrations/oauth/callback", post(callback::posted))
        .route("/v1/integrations/oauth/callback/{provider}", returned())
        .route("/v1/integrations/oauth/callback/{provider}/{integration}", returned())
        .route("/healthz", get(health))
        .route("/readyz", get(health))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn(guard::attend))
        .with_state(site)
}

/// What needs somebody who is signed in, and the way to sign in.
fn operators() -> Router<Site> {
    Router::new()
        .route("/sign-in", get(sign_in::show).post(sign_in::begin))
        .route("/sign-in/callback", get(sign_in::returned).head(only_get))
        .route("/sign-out", post(sign_in::out))
        .route("/activity", get(activity::show))
        .route("/integrations/{integration}", get(manage::show))
        .route("/integrations/{integration}/connect", get(manage::before).post(manage::connect))
        .route("/integrations/{integration}/refresh", post(manage::refresh))
        .route("/integrations/{integration}/validate", post(manage::validate))
        .route("/integrations/{integration}/revoke", get(manage::before_the_end).post(manage::revoke))
        .route("/integrations/{integration}/delete", get(manage::before_it_is_gone).post(manage::delete))
        .route(
            "/install/{provider}",
            get(install::show).layer(middleware::from_fn(install::keep)).post(install::confirm),
        )
        .route("/v1/integrations/oauth/start", post(api::start))
        .route("/v1/integrations", get(api::list))
        .route("/v1/integrations/{integration}", delete(api::delete))
        .route("/v1/integrations/{integration}/status", get(api::status))
        .route("/v1/integrations/{integration}/refresh", post(api::refresh))
        .route("/v1/integrations/{integration}/validate", post(api::validate))
        .route("/v1/integrations/{integration}/revoke", post(api::revoke))
        .route("/v1/audit", get(api::audit))
}

async fn health(State(site): State<Site>) -> Response {
    let (status, body) = if site.handle.turns().await {
        (StatusCode::OK, r#"{"ready":true}"#)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, r#"{"ready":false}"#)
    };
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn not_found(Extension(visit): Extension<Visit>, request: Request<Body>) -> impl Future<Output = Response> {
    ready(Trouble::not_found().answer(Voice::of(&request), &visit))
}

fn not_allowed(Extension(visit): Extension<Visit>, request: Request<Body>) -> impl Future<Output = Response> {
    ready(Trouble::method_not_allowed().answer(Voice::of(&request), &visit))
}

/// A callback spends its state: the HEAD of a link checker must not, though axum would take it for a GET.
async fn only_get(visit: Extension<Visit>, request: Request<Body>) -> Response {
    let mut response = not_allowed(visit, request).await;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

#[cfg(test)]
mod tests {
    use crate::edge::web::testing::{PUBLIC, Room, Script, settings};

    #[tokio::test]
    async fn the_front_page_says_whose_grantd_this_is() {
        let page = Room::open(settings(PUBLIC), Script::default()).get("/").await;
        assert_eq!(page.status, 200);
        assert!(page.body.contains("This is grantd of grantd.acme.example"));
        assert!(page.body.contains("<code>grantd connect</code>"));
    }

    #[tokio::test]
    async fn health_is_a_turn_of_the_engine() {
        let script = Script { invitation: Box::new(|| panic!("the engine dies here")), ..Script::default() };
        let room = Room::open(settings(PUBLIC), script);
        for path in ["/healthz", "/readyz"] {
            let health = room.get(path).await;
            assert_eq!((health.status, health.body.as_str()), (200, r#"{"ready":true}"#));
            assert_eq!(health.header("content-type"), "application/json");
        }
        let page = room.get("/connect/t").await;
        assert_eq!((page.status, page.code()), (503, "token_unavailable"));
        for path in ["/healthz", "/readyz"] {
            let health = room.get(path).await;
            assert_eq!((health.status, health.body.as_str()), (503, r#"{"ready":false}"#));
        }
    }
}
