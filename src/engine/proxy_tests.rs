//! Tests of one call: what is repeated, what is waited for, what is passed on. The API and the core are played.

use super::{Proxy, buffered, nothing};
use crate::engine::testing::{Actor, Stage};
use crate::engine::{Called, Clock, Flow, Pending, Served, Upstream};
use crate::lifecycle::testing::{identity, pending_view};
use crate::lifecycle::{ApiAnswer, Code, IntegrationId, Lease, Refusal, Status, View};
use crate::secret::AccessToken;
use crate::time::Timestamp;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1000)
    }
}

/// Passes on what the core is told.
struct Told(mpsc::UnboundedSender<(u16, u64)>);

impl Actor for Told {
    fn answered(&mut self, _integration: IntegrationId, answer: ApiAnswer, issue: u64) {
        self.0.send((answer.status, issue)).unwrap();
    }
}

/// An API that takes one token only, and notes what comes.
#[derive(Default)]
struct Api {
    good: &'static str,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Upstream for Api {
    fn call(
        &self,
        _integration: &IntegrationId,
        lease: Arc<Served>,
        call: Request<Flow>,
    ) -> Pending<Result<Called, Refusal>> {
        let token = lease.token.expose_secret().to_owned();
        let status = if token == self.good { 200 } else { 401 };
        let calls = Arc::clone(&self.calls);
        Box::pin(async move {
            let (head, body) = call.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            calls.lock().unwrap().push(format!("{} {token} {}", head.method, body.len()));
            let answer = Response::builder().status(status).body(nothing()).unwrap();
            Ok(Called { answer, said: ApiAnswer::of(status) })
        })
    }
}

struct Rig {
    stage: Stage,
    told: mpsc::UnboundedReceiver<(u16, u64)>,
    proxy: Proxy,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Rig {
    /// Lease 1 is served; the API takes `good`.
    fn new(good: &'static str) -> Self {
        let (told, hears) = mpsc::unbounded_channel();
        let stage = Stage::new(Vec::new(), vec![pending_view("github")], Told(told));
        stage.post(view(Status::Connected), Some(&lease(1)));
        let api = Api { good, ..Api::default() };
        let calls = Arc::clone(&api.calls);
        let proxy = Proxy::new(stage.handle.clone(), Arc::new(Still), Arc::new(api));
        Self { stage, told: hears, proxy, calls }
    }

    async fn call(&self, method: Method, body: Flow) -> Result<u16, Code> {
        let call = Request::builder().method(method).uri("/user").body(body).unwrap();
        let called = self.proxy.call(&identity("github").integration, call).await;
        called.map(|called| called.answer.status().as_u16()).map_err(|refusal| refusal.code)
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

fn view(status: Status) -> View {
    View { status, connected: true, ..pending_view("github") }
}

fn lease(issue: u64) -> Lease {
    Lease {
        integration: identity("github").integration,
        token: AccessToken::new(format!("token-{issue}")),
        token_type: "Bearer".into(),
        expires_at: None,
        scope: None,
        generation: issue,
        issue,
    }
}

#[tokio::test]
async fn a_good_answer_passes() {
    let rig = Rig::new("token-1");
    assert_eq!(rig.call(Method::POST, buffered(Bytes::from(vec![0; 100_000]))).await, Ok(200));
    assert_eq!(rig.calls(), ["POST token-1 100000"]);
}

#[tokio::test]
async fn a_401_is_told_and_the_call_repeated_once_with_the_next_token() {
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let mut rig = Rig::new("token-2");
        let mut told = std::mem::replace(&mut rig.told, mpsc::unbounded_channel().1);
        let refreshed = async {
            assert_eq!(told.recv().await, Some((401, 1)));
            rig.stage.post(view(Status::Connected), Some(&lease(2)));
        };
        let (end, ()) = tokio::join!(rig.call(method.clone(), buffered("twice".into())), refreshed);
        assert_eq!(end, Ok(200));
        assert_eq!(rig.calls(), [format!("{method} token-1 5"), format!("{method} token-2 5")]);
    }
}

#[tokio::test]
async fn a_second_401_is_the_apis_own_answer() {
    let mut rig = Rig::new("token-3");
    let mut told = std::mem::replace(&mut rig.told, mpsc::unbounded_channel().1);
    let refreshed = async {
        let _first = told.recv().await;
        rig.stage.post(view(Status::Connected), Some(&lease(2)));
    };
    let (end, ()) = tokio::join!(rig.call(Method::GET, nothing()), refreshed);
    assert_eq!((end, rig.calls().len()), (Ok(401), 2));
    assert_eq!(told.recv().await, Some((401, 2)), "and the core hears of it");
}

#[tokio::test]
async fn what_may_not_be_sent_twice_is_sent_once() {
    for (method, body) in [(Method::POST, 1), (Method::PATCH, 1), (Method::PUT, 70_000)] {
        let rig = Rig::new("another");
        let body = buffered(Bytes::from(vec![0; body]));
        assert_eq!((rig.call(method, body).await, rig.calls().len()), (Ok(401), 1));
    }
}

#[tokio::test]
async fn a_refused_refresh_is_needs_reauth_and_a_revocation_is_one() {
    for (status, code) in
        [(Status::NeedsReauth, Code::NeedsReauth), (Status::Revoked, Code::IntegrationRevoked)]
    {
        let mut rig = Rig::new("another");
        let mut told = std::mem::replace(&mut rig.told, mpsc::unbounded_channel().1);
        let refused = async {
            let _first = told.recv().await;
            rig.stage.post(view(status), None);
        };
        let (end, ()) = tokio::join!(rig.call(Method::GET, nothing()), refused);
        assert_eq!((end, rig.calls().len()), (Err(code), 1));
        assert_eq!(rig.call(Method::GET, nothing()).await, Err(code), "and so is the next call");
        assert_eq!(rig.calls().len(), 1);
    }
}
