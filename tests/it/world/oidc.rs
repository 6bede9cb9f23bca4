//! npm `oidc-provider`, with its ledger: what was presented, what was issued, and what went wrong, by fingerprints.

use super::http::{Answer, fetch, try_fetch};
use super::process::Process;
use super::setup::peers_home;
use ::http::{Method, Request};
use base64::Engine as _;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// A running authorization server.
pub struct Oidc {
    pub issuer: String,
    control: String,
    _process: Process,
}

/// One client of it, with its part of the ledger.
pub struct Client {
    pub server: &'static Oidc,
    pub id: String,
    pub secret: String,
}

/// One line of the ledger.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// When, in milliseconds of the wall clock.
    pub at: u64,
    pub event: Option<String>,
    pub endpoint: Option<String>,
    pub grant: Option<String>,
    /// The SHA-256 of the code, refresh token or token that was presented.
    pub presented: Option<String>,
    /// The SHA-256 of the refresh token that was issued.
    pub issued: Option<String>,
    pub status: Option<u16>,
    pub hint: Option<String>,
}

/// What goes wrong with the next requests of a client.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Answers with this status, without looking at the request.
    Status(u16),
    /// Never answers; nothing is processed.
    Hang,
    /// Closes the connection; nothing is processed.
    Close,
    /// Processes after so many milliseconds.
    Delay(u64),
    /// Processes, and closes the connection without an answer.
    Lose,
    /// Processes, and closes the connection in the middle of the answer.
    Cut,
}

/// The one that all tests share, each with a client of its own.
pub fn oidc() -> &'static Oidc {
    static OIDC: OnceLock<Oidc> = OnceLock::new();
    OIDC.get_or_init(Oidc::start)
}

impl Oidc {
    pub fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/oidc.mjs");
        let mut node = Command::new("node");
        node.arg(script).arg(peers_home().join("oidc/node_modules"));
        let mut process = Process::peer(&node);
        let ready = process.await_line("oidc-provider is ready", 0, |line| {
            serde_json::from_str::<Value>(line).ok().filter(|line| line["event"] == "ready")
        });
        let text = |key: &str| ready[key].as_str().unwrap().to_owned();
        Self { issuer: text("issuer"), control: text("control"), _process: process }
    }

    /// Where it listens; browsers know it by another name.
    pub fn address(&self) -> SocketAddr {
        let (_, port) = self.issuer.rsplit_once(':').unwrap();
        SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()))
    }

    /// Registers a client. `access_ttl` is the life of its access tokens in seconds.
    pub fn register(&'static self, id: &str, redirect_uris: &[String], access_ttl: u64) -> Client {
        let secret = format!("client-secret-{}", uuid::Uuid::new_v4().simple());
        let body =
            json!({ "id": id, "secret": secret, "redirectUris": redirect_uris, "accessTtl": access_ttl });
        self.tell(Method::POST, "/clients", &body);
        Client { server: self, id: id.into(), secret }
    }

    fn tell(&self, method: Method, path: &str, body: &Value) -> Value {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.control));
        let answer = fetch(request.body(Bytes::from(body.to_string())).unwrap());
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
}

impl Client {
    /// Plans a fault for the next `count` requests to `endpoint`: `token`, `revocation` or `userinfo`.
    pub fn plan(&self, endpoint: &str, fault: Fault, count: u32) {
        let mut body = json!({ "client": self.id, "endpoint": endpoint, "count": count });
        let (mode, more) = match fault {
            Fault::Status(status) => ("status", Some(("status", json!(status)))),
            Fault::Delay(ms) => ("delay", Some(("ms", json!(ms)))),
            Fault::Hang => ("hang", None),
            Fault::Close => ("close", None),
            Fault::Lose => ("lose", None),
            Fault::Cut => ("cut", None),
        };
        body["mode"] = json!(mode);
        if let Some((key, value)) = more {
            body[key] = value;
        }
        self.server.tell(Method::POST, "/faults", &body);
    }

    pub fn ledger(&self) -> Vec<Entry> {
        let path = format!("/ledger?client={}", self.id);
        serde_json::from_value(self.server.tell(Method::GET, &path, &Value::Null)).unwrap()
    }

    /// The requests to one endpoint.
    pub fn requests(&self, endpoint: &str) -> Vec<Entry> {
        self.ledger().into_iter().filter(|entry| entry.endpoint.as_deref() == Some(endpoint)).collect()
    }

    /// The refreshes among the token requests.
    pub fn refreshes(&self) -> Vec<Entry> {
        self.requests("token")
            .into_iter()
            .filter(|entry| entry.grant.as_deref() == Some("refresh_token"))
            .collect()
    }

    /// Fails if a refresh token was presented twice, or the server noticed a replay.
    #[track_caller]
    pub fn assert_no_reuse(&self) {
        let ledger = self.ledger();
        assert!(
            !ledger.iter().any(|entry| entry.event.as_deref() == Some("reuse_detected")),
            "the server detected a replayed refresh token: {ledger:#?}"
        );
        let mut presented: Vec<_> =
            self.refreshes().into_iter().filter_map(|entry| entry.presented).collect();
        let count = presented.len();
        presented.sort();
        presented.dedup();
        assert_eq!(presented.len(), count, "a refresh token was presented twice: {ledger:#?}");
    }

    /// The fingerprint of the newest refresh token.
    pub fn newest(&self) -> Option<String> {
        self.requests("token").into_iter().filter_map(|entry| entry.issued).next_back()
    }

    /// Everything secret that the server saw of this client or gave it, with what it is.
    pub fn secrets(&self) -> Vec<(String, String)> {
        let path = format!("/secrets?client={}", self.id);
        let found = self.server.tell(Method::GET, &path, &Value::Null);
        let pair = |entry: &Value| {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            (text("what"), text("value"))
        };
        found.as_array().unwrap().iter().map(pair).collect()
    }

    /// Presents a code or refresh token by hand; for tests of the server itself.
    #[track_caller]
    pub fn spend(&self, form: &[(&str, &str)]) -> Answer {
        self.try_spend(form).expect("the token endpoint answers")
    }

    pub fn try_spend(&self, form: &[(&str, &str)]) -> Option<Answer> {
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", self.id, self.secret));
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = Request::post(format!("{}/token", self.server.issuer))
            .header("authorization", format!("Basic {basic}"))
            .header("content-type", "application/x-www-form-urlencoded");
        try_fetch(request.body(Bytes::from(body)).unwrap())
    }
}

/// SHA-256 in hexadecimal, as the ledger writes it.
pub fn fingerprint(value: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, value.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
