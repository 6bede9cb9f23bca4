//! A small token endpoint of our own, for what `oidc-provider` cannot do: a grace window, answers in another shape.
//!
//! It consents at once, rotates at each refresh, and ends a family when a token comes back that it must not. Every presentation is
//! written down with its time.

use super::setup::{Config, World};
use super::waiting::{Stopwatch, block_on, runtime};
use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

/// A stand-in for a provider.
pub struct Standin {
    pub address: SocketAddr,
    book: Arc<Mutex<Book>>,
}

struct Book {
    grace: Duration,
    access_ttl: u64,
    nested: bool,
    watch: Stopwatch,
    current: Option<String>,
    previous: Option<(String, Duration)>,
    ended: bool,
    presented: Vec<Duration>,
    issued: Vec<(Duration, Value)>,
}

type Fields = BTreeMap<String, String>;

impl Standin {
    /// Access tokens live `access_ttl` seconds; the previous refresh token works for `grace` more.
    pub fn start(access_ttl: u64, grace: Duration) -> Self {
        let book = Arc::new(Mutex::new(Book {
            grace,
            access_ttl,
            nested: false,
            watch: Stopwatch::start(),
            current: None,
            previous: None,
            ended: false,
            presented: Vec::new(),
            issued: Vec::new(),
        }));
        let app = Router::new()
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .with_state(Arc::clone(&book));
        Self { address: serve(app), book }
    }

    /// A configuration in which the world's provider is this one, reached by way of the proxy.
    pub fn config(&self, world: &World, rotation: &str) -> Config {
        world.idp.upstream(self.address);
        let port = world.idp.port();
        let secret = world.home.path().join("client-secret");
        let providers = format!(
            "[[provider]]\nid = \"{}\"\nname = \"Stand-in\"\nclient_id = \"c\"\nclient_secret = {{ file = \"{}\" }}\n\
             authorize_url = \"http://{}/authorize\"\ntoken_url = \"http://127.0.0.1:{port}/token\"\nrotation = \"{rotation}\"\n",
            World::PROVIDER,
            secret.display(),
            self.address,
        );
        let plain = world.config();
        let integrations = plain.integrations.replace("\"openid\", \"profile\", \"email\"", "\"read\"");
        Config { providers, integrations, ..plain }
    }

    /// From now on the tokens stand below `/data`.
    pub fn answer_otherwise(&self) {
        self.book.lock().unwrap().nested = true;
    }

    /// When refresh tokens were presented, in order.
    pub fn presented(&self) -> Vec<Duration> {
        self.book.lock().unwrap().presented.clone()
    }

    /// The refresh token that works.
    pub fn current(&self) -> Option<String> {
        self.book.lock().unwrap().current.clone()
    }

    /// Whether the family was ended, because a token was presented that must not be.
    pub fn ended(&self) -> bool {
        self.book.lock().unwrap().ended
    }

    /// When tokens were issued first.
    pub fn began(&self) -> Duration {
        self.book.lock().unwrap().issued[0].0
    }

    /// Notes every token, so that it is looked for where it must not be.
    pub fn note_all(&self, world: &World) {
        for (_, issued) in &self.book.lock().unwrap().issued {
            for key in ["access_token", "refresh_token"] {
                world.note(key, issued[key].as_str().unwrap());
            }
        }
    }
}

/// Serves a small vendor on loopback for as long as the tests run.
pub fn serve(app: Router) -> SocketAddr {
    let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let _task = runtime().spawn(async move { axum::serve(listener, app).await });
    address
}

impl Book {
    fn issue(&mut self) -> Response {
        let token = |what: &str| format!("{what}-{}", uuid::Uuid::new_v4().simple());
        let (access, refresh) = (token("standin-access"), token("standin-refresh"));
        let now = self.watch.elapsed();
        self.previous = self.current.replace(refresh.clone()).map(|old| (old, now));
        let tokens = json!({ "access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": self.access_ttl });
        self.issued.push((now, tokens.clone()));
        Json(if self.nested { json!({ "data": tokens }) } else { tokens }).into_response()
    }

    fn refresh(&mut self, token: &str) -> Response {
        let now = self.watch.elapsed();
        let is_current = self.current.as_deref() == Some(token);
        let in_grace = |(old, since): &(String, Duration)| *old == token && now < *since + self.grace;
        let good = !self.ended && (is_current || self.previous.as_ref().is_some_and(in_grace));
        self.presented.push(now);
        if good {
            return self.issue();
        }
        self.ended = true;
        (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response()
    }
}

async fn authorize(Query(asked): Query<Fields>) -> Response {
    let mut back = url::Url::parse(&asked["redirect_uri"]).unwrap();
    back.query_pairs_mut().append_pair("code", "a-code-of-the-standin").append_pair("state", &asked["state"]);
    (StatusCode::FOUND, [("location", back.to_string())]).into_response()
}

async fn token(State(book): State<Arc<Mutex<Book>>>, Form(form): Form<Fields>) -> Response {
    let mut book = book.lock().unwrap();
    match form.get("refresh_token") {
        Some(token) => book.refresh(token),
        None => {
            (book.ended, book.current) = (false, None);
            book.issue()
        }
    }
}
