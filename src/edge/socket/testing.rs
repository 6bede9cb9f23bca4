//! What the tests of both sockets share: a client that speaks HTTP/1.1, a clock with hands, and short ways to say how an
//! integration is.

use crate::engine::Clock;
use crate::lifecycle::testing::pending_view;
use crate::lifecycle::{Action, IntegrationId, Lease, Status, View};
use crate::secret::AccessToken;
use crate::time::Timestamp;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// The time at which every test begins.
pub(super) const START: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// A clock that stands still until it is set.
pub(super) struct Hands(AtomicI64);

impl Hands {
    pub(super) const fn new() -> Self {
        Self(AtomicI64::new(START.millis()))
    }

    pub(super) fn set(&self, now: Timestamp) {
        self.0.store(now.millis(), Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        self.head.lines().find(named).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// Its status and the code of its problem details.
    pub(super) fn refusal(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        (self.status, problem["code"].as_str().unwrap().to_owned())
    }
}

/// A connection that is kept open.
pub(super) struct Line(pub(super) UnixStream);

impl Line {
    pub(super) async fn to(socket: &Path) -> Self {
        Self(UnixStream::connect(socket).await.unwrap())
    }

    pub(super) async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    pub(super) async fn get(&mut self, target: &str) {
        self.say(&format!("GET {target} HTTP/1.1\r\nHost: grantd\r\n\r\n")).await;
    }

    /// Reads until `end` has come, or the connection ends. Neither may take as long as the longest wait.
    pub(super) async fn hear(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        let hearing = async {
            let told = |heard: &[u8]| String::from_utf8_lossy(heard).contains(end);
            while !told(&heard) && self.0.read_buf(&mut heard).await.is_ok_and(|more| more > 0) {}
        };
        let in_time = tokio::time::timeout(Duration::from_secs(30), hearing).await;
        let heard = String::from_utf8(heard).unwrap();
        assert!(in_time.is_ok(), "no {end:?} in {heard:?}");
        heard
    }
}

/// One request on a connection of its own.
pub(super) async fn ask(socket: &Path, method: &str, target: &str, body: &str) -> Reply {
    let mut line = Line::to(socket).await;
    let length = body.len();
    line.say(&format!(
        "{method} {target} HTTP/1.1\r\nHost: grantd\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
    .await;
    reply(&line.hear("nothing ends it but the end").await)
}

pub(super) async fn get(socket: &Path, target: &str) -> Reply {
    ask(socket, "GET", target, "").await
}

/// Takes an answer apart.
pub(super) fn reply(text: &str) -> Reply {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

/// How integration `name` is when it is `status`.
pub(super) fn view(name: &str, status: Status) -> View {
    let never = status == Status::Pending;
    View {
        status,
        connected: !never,
        message: "as it is".into(),
        actions: if never { vec![Action::Connect] } else { Vec::new() },
        ..pending_view(name)
    }
}

/// Lease number `generation` of integration `name`.
pub(super) fn lease(name: &str, generation: u64, expires_at: Option<Timestamp>) -> Lease {
    Lease {
        integration: IntegrationId::parse(name).unwrap(),
        token: AccessToken::new(format!("canary-{generation}")),
        token_type: "Bearer".into(),
        expires_at,
        scope: Some("repo".into()),
        generation,
        issue: generation,
    }
}
