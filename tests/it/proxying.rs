//! The proxy from outside: an app that is bound to it alone calls an API through the real daemon, streams a great deal both ways,
//! and never sees the token.

use crate::world::{Config, Stopwatch, World, block_on, own_uid, run, runtime};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{any, get, post};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

const MUCH: usize = 100 * 1024 * 1024;

/// An API: what it was sent last, and the tokens that it does not take.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    headers: HeaderMap,
    refused: Vec<String>,
}

impl Api {
    fn start(&self) -> SocketAddr {
        let app = Router::new()
            .route("/user", any(user))
            .route("/up", post(up))
            .route("/down", get(down))
            .with_state(self.clone());
        let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let _task = runtime().spawn(async move { axum::serve(listener, app).await });
        address
    }

    fn header(&self, name: &str) -> String {
        let seen = self.0.lock().unwrap();
        seen.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }
}

async fn user(
    State(api): State<Api>,
    headers: HeaderMap,
) -> (StatusCode, [(&'static str, String); 2], &'static str) {
    let token = headers["authorization"].to_str().unwrap().to_owned();
    let mut seen = api.0.lock().unwrap();
    seen.headers = headers;
    let status = if seen.refused.contains(&token) { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    (status, [("x-token", token), ("set-cookie", "a=b".into())], "octocat")
}

async fn up(request: Request) -> String {
    let mut pieces = request.into_body();
    let mut sum = 0;
    while let Some(Ok(frame)) = pieces.frame().await {
        sum += frame.data_ref().map_or(0, Bytes::len);
    }
    sum.to_string()
}

async fn down() -> Body {
    Body::new(Zeros(MUCH))
}

struct Zeros(usize);

impl hyper::body::Body for Zeros {
    type Data = Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];
        if self.0 == 0 {
            return std::task::Poll::Ready(None);
        }
        self.0 -= PIECE.len();
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }
}

fn config(world: &World, api: SocketAddr) -> Config {
    let plain = world.config();
    let providers =
        plain.providers.replace("client_id =", &format!("api_base = \"http://{api}\"\nclient_id ="));
    let bindings = format!(
        "[[binding]]\nintegration = \"{}\"\nuid = {}\nallow = [\"proxy\"]\n\n",
        World::INTEGRATION,
        own_uid()
    );
    Config { providers, bindings, ..plain }
}

fn path(below: &str) -> String {
    format!("/v1/proxy/{}{below}", World::INTEGRATION)
}

#[test]
fn an_app_of_the_proxy_alone_calls_the_api_and_never_sees_the_token() {
    let (world, api) = (World::new("proxied"), Api::default());
    let daemon = world.start(&config(&world, api.start()));
    let _page = daemon.connect();
    let answer = daemon.app().get(&path("/user"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "octocat"));
    assert_eq!((answer.header("x-token").as_str(), answer.header("set-cookie").as_str()), ("Bearer ***", ""));
    let token = api.header("authorization");
    assert!(token.starts_with("Bearer ") && token.len() > 20);
    assert_eq!(daemon.token().code(), "binding_missing");

    // The API takes this token no more: refreshed, and called once more.
    api.0.lock().unwrap().refused.push(token.clone());
    let answer = daemon.app().get(&path("/user"));
    assert_eq!((answer.status, world.client.refreshes().len()), (200, 1));
    assert_ne!(api.header("authorization"), token);
}

#[test]
fn a_hundred_mebibytes_each_way_take_no_memory_and_no_readers_time() {
    let (world, api) = (World::new("streamed"), Api::default());
    let daemon = world.start(&config(&world, api.start()));
    let _page = daemon.connect();
    let _warm = daemon.app().get(&path("/user"));
    let status = format!("/proc/{}/status", daemon.id());
    let memory = |key: &str| {
        let text = std::fs::read_to_string(&status).unwrap();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    std::fs::write(format!("/proc/{}/clear_refs", daemon.id()), "5").unwrap();
    let before = memory("VmRSS");
    let socket = world.home.path().join("app.sock").display().to_string();
    let down = format!("http://grantd{}", path("/down"));
    let up = format!("http://grantd{}", path("/up"));
    let curl = format!("curl -sS --unix-socket {socket}");
    let streaming = std::thread::spawn(move || {
        let counted = run(Command::new("sh").args(["-c", &format!("{curl} {down} | wc -c")]));
        let send = format!("head -c {MUCH} /dev/zero | {curl} -X POST -T - {up}");
        (counted.stdout, run(Command::new("sh").args(["-c", &send])).stdout)
    });
    let (mut app, mut took) = (daemon.app(), Vec::new());
    while !streaming.is_finished() {
        let watch = Stopwatch::start();
        let read = app.get(&format!("/v1/integrations/{}/status", World::INTEGRATION));
        assert_eq!(read.status, 200);
        took.push(watch.elapsed());
    }
    let (came, went) = streaming.join().unwrap();
    let number = |text: Vec<u8>| String::from_utf8(text).unwrap().trim().parse::<usize>().unwrap();
    assert_eq!((number(came), number(went)), (MUCH, MUCH));
    let grown = memory("VmHWM").saturating_sub(before);
    took.sort_unstable();
    let (median, last) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    eprintln!("grown by {grown} KiB; {} reads, median {median:?}, 99 of 100 within {last:?}", took.len());
    assert!(grown <= 16 * 1024, "grown by {grown} KiB");
    assert!(last < Duration::from_millis(200), "99 of 100 reads within {last:?}");
}
