//! Tests of the proxy on the app socket: a real socket; the API is played, and gives back what it gets.

use crate::edge::socket::accept::Bounds;
use crate::edge::socket::app::serve_within;
use crate::edge::socket::desk::Desk;
use crate::edge::socket::seats::Limits;
use crate::edge::socket::testing::{Hands, Line, Reply, ask, get, lease, reply, view};
use crate::engine::testing::{Actor, Notes, Stage};
use crate::engine::{Called, Flow, Pending, Served, Upstream};
use crate::lifecycle::testing::identity;
use crate::lifecycle::{Allow, ApiAnswer, Binding, IntegrationId, PathRule, Refusal, Status, Who};
use http::{Request, Response};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

struct Deaf;

impl Actor for Deaf {}

/// Gives each body back, piece by piece.
#[derive(Clone, Default)]
struct Echo(Arc<Mutex<Vec<String>>>);

impl Upstream for Echo {
    fn call(
        &self,
        _integration: &IntegrationId,
        _lease: Arc<Served>,
        call: Request<Flow>,
    ) -> Pending<Result<Called, Refusal>> {
        self.0.lock().unwrap().push(format!("{} {}", call.method(), call.uri()));
        let answer = Response::builder().header("x-api", "yes").body(call.into_body()).unwrap();
        Box::pin(std::future::ready(Ok(Called { answer, said: ApiAnswer::of(200) })))
    }
}

struct Rig {
    directory: TempDir,
    echo: Echo,
    notes: Arc<Notes>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Rig {
    fn new(allow: Allow, paths: &[&str]) -> Self {
        let names = identity("github");
        let who = Who::Uid(nix::unistd::geteuid().as_raw());
        let paths = paths.iter().map(|rule| PathRule::parse(rule).unwrap()).collect();
        let (integration, provider) = (names.integration, names.provider);
        let binding = Binding { who, integration, provider, allow, paths };
        let stage = Stage::new(vec![binding], vec![view("github", Status::Pending)], Deaf);
        stage.post(view("github", Status::Connected), Some(&lease("github", 7, None)));
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("app.sock")).unwrap();
        let (echo, notes, stop) = (Echo::default(), Arc::new(Notes::default()), CancellationToken::new());
        let (upstream, clock) = (Arc::new(echo.clone()), Arc::new(Hands::new()));
        let desk = Desk::new(stage.handle.clone(), clock, notes.clone(), upstream, stop.clone());
        let hour = Duration::from_secs(3600);
        let bounds = Bounds { limits: Limits { all: 64, each: 64 }, head: hour, drain: hour };
        let thread = serve_within(bounds, listener, desk).unwrap();
        Self { directory, echo, notes, stop, thread: Some(thread) }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("app.sock")
    }

    async fn say(&self, text: &str) -> Reply {
        let mut line = Line::to(&self.socket()).await;
        line.say(text).await;
        reply(&line.hear("nothing ends it but the end").await)
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.echo.0.lock().unwrap())
    }
}

const PROXY: Allow = Allow { token: false, proxy: true };

#[tokio::test]
async fn a_call_passes_with_its_method_its_plain_path_and_its_query() {
    let rig = Rig::new(PROXY, &[]);
    let put = ask(&rig.socket(), "PUT", "/v1/proxy/github/%72epos/a?q=%2F..%2f&r", "the body").await;
    assert_eq!((put.status, put.body.as_str(), put.header("x-api")), (200, "the body", Some("yes")));
    for (target, sent) in [
        ("/v1/proxy/github", "GET /"),
        ("/v1/proxy/github/", "GET /"),
        ("/v1/proxy/github/a/", "GET /a/"),
        ("http://evil.example/v1/proxy/github/a", "GET /a"),
    ] {
        rig.calls();
        assert_eq!(get(&rig.socket(), target).await.status, 200);
        assert_eq!(rig.calls(), [sent], "{target}");
    }
}

#[tokio::test]
async fn a_binding_of_the_proxy_gives_no_token_and_one_of_the_token_no_proxy() {
    let missing = (403, "binding_missing".to_owned());
    let rig = Rig::new(PROXY, &[]);
    assert_eq!(get(&rig.socket(), "/v1/integrations/github/token").await.refusal(), missing);
    assert_eq!(get(&rig.socket(), "/v1/proxy/slack/user").await.refusal(), missing);
    for allow in [Allow { token: true, proxy: false }, Allow::default()] {
        let rig = Rig::new(allow, &[]);
        assert_eq!(get(&rig.socket(), "/v1/proxy/github/user").await.refusal(), missing);
        assert!(rig.calls().is_empty());
    }
}

#[tokio::test]
async fn what_is_not_on_the_list_is_not_called_however_it_is_spelled() {
    let rig = Rig::new(PROXY, &["/repos/acme/**", "GET /user"]);
    for (method, path) in [("GET", "/user"), ("DELETE", "/repos/acme/web"), ("GET", "/repos/%61cme/web")] {
        assert_eq!(ask(&rig.socket(), method, &format!("/v1/proxy/github{path}"), "").await.status, 200);
    }
    rig.calls();
    for (method, path, status) in [
        ("POST", "/user", 403),
        ("GET", "/repos/other/web", 403),
        ("GET", "/orgs", 403),
        ("GET", "/repos/acme/../other/web", 400),
        ("GET", "/repos/acme/%2e%2e/other/web", 400),
        ("GET", "/repos/acme%2f..%2fother", 400),
        ("GET", "/repos/acme//other", 400),
        ("GET", "/repos/acme/%252e%252e/other", 400),
        ("GET", "/repos/acme/..%5cother", 400),
        ("GET", "/repos/acme/..;/other", 400),
    ] {
        let answer = ask(&rig.socket(), method, &format!("/v1/proxy/github{path}"), "").await;
        let code = if status == 403 { "binding_missing" } else { "invalid_request" };
        assert_eq!(answer.refusal(), (status, code.into()), "{path}");
    }
    assert!(rig.calls().is_empty());
}

#[tokio::test]
async fn what_two_servers_could_read_in_two_ways_never_reaches_an_api() {
    let rig = Rig::new(PROXY, &[]);
    let head = "POST /v1/proxy/github/a HTTP/1.1\r\nHost: grantd\r\nConnection: close\r\n";
    for smuggled in [
        "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Content-Length: +4\r\n\r\nabcd",
        "X: y\r\n Content-Length: 4\r\n\r\nabcd",
        "Content-Length : 4\r\n\r\nabcd",
    ] {
        let answer = rig.say(&format!("{head}{smuggled}")).await;
        assert_eq!((answer.status, rig.calls()), (400, Vec::<String>::new()), "{smuggled:?}");
    }
    // RFC 9112 §6.3: chunked counts, and what follows on the connection is nobody's request.
    for both in [
        "Content-Length: 40\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 40",
    ] {
        let next = "GET /v1/proxy/github/smuggled HTTP/1.1\r\nHost: g\r\n\r\n";
        let text = format!("POST /v1/proxy/github/a HTTP/1.1\r\nHost: g\r\n{both}\r\n\r\n0\r\n\r\n{next}");
        let _answer = rig.say(&text).await;
        assert_eq!(rig.calls(), ["POST /a"], "{both}");
    }
    for method in ["TRACE", "CONNECT"] {
        let target = if method == "CONNECT" { "evil.example:443" } else { "/v1/proxy/github/a" };
        let answer = ask(&rig.socket(), method, target, "").await;
        assert!([404, 405].contains(&answer.status), "{method}: {answer:?}");
        assert!(rig.calls().is_empty());
    }
}

#[tokio::test]
async fn a_body_is_asked_for_only_once_its_call_is_allowed() {
    let rig = Rig::new(PROXY, &["/a"]);
    let expecting = |path: &str| {
        format!(
            "PUT /v1/proxy/github{path} HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        )
    };
    let mut line = Line::to(&rig.socket()).await;
    line.say(&expecting("/b")).await;
    assert!(line.hear("binding_missing").await.starts_with("HTTP/1.1 403"));
    let mut line = Line::to(&rig.socket()).await;
    line.say(&expecting("/a")).await;
    line.hear("100 Continue").await;
    line.say("body").await;
    assert!(line.hear("body").await.contains("x-api: yes"));
}

#[tokio::test]
async fn pieces_pass_as_they_come() {
    let rig = Rig::new(PROXY, &[]);
    let mut line = Line::to(&rig.socket()).await;
    line.say("POST /v1/proxy/github/a HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for piece in ["first", "second", "third"] {
        line.say(&format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        line.hear(piece).await;
    }
    line.say("0\r\n\r\n").await;
    line.hear("0\r\n\r\n").await;
    line.get("/v1/integrations/github/status").await;
    line.hear("connected").await;
}

#[tokio::test]
async fn calls_are_counted_by_kind_and_outcome() {
    let mut rig = Rig::new(PROXY, &["/a"]);
    for (method, path) in [("GET", "/a"), ("HEAD", "/a"), ("POST", "/a"), ("GET", "/b"), ("GET", "/..")] {
        ask(&rig.socket(), method, &format!("/v1/proxy/github{path}"), "").await;
    }
    rig.stop.cancel();
    let thread = rig.thread.take().unwrap();
    tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
    let told = rig.notes.take().into_iter();
    let mut told: Vec<_> = told.map(|event| (event.what, event.outcome, event.count)).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("proxy_read", "binding_missing", 1),
            ("proxy_read", "invalid_request", 1),
            ("proxy_read", "ok", 2),
            ("proxy_write", "ok", 1),
        ]
    );
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
