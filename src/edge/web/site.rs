//! The map of the public listener: which path leads where.

use super::trouble::{Trouble, Voice};
use super::visit::Visit;
use super::{Web, callback, connect, guard, pages};
use crate::engine::{Clock, Handle};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use http::{HeaderValue, Request, StatusCode, header};
use std::future::ready;
use std::sync::Arc;

/// What every handler may use.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) handle: Handle,
    pub(super) clock: Arc<dyn Clock>,
}

/// All routes, guarded. Each request must carry its [`Visit`] as an extension.
pub(super) fn routes(web: &Web) -> Router {
    let site = Site { handle: web.handle.clone(), clock: Arc::clone(&web.clock) };
    let returned = || get(callback::returned).head(only_get);
    Router::new()
        .route("/", get(|Extension(visit): Extension<Visit>| ready(pages::home(&visit))))
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
