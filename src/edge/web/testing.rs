//! What the tests of this room share: a listener on loopback whose engine is played, and a client that speaks plain bytes.

use super::listener::{Bounds, serve_within};
use super::staff::{Counting, Ledger, views};
use super::visit::Visit;
use super::{Web, WebSettings};
use crate::engine::testing::{Actor, Stage};
use crate::engine::{Clock, Ended, Going, Landed, Landing, Start, Started};
use crate::lifecycle::testing::identity;
use crate::lifecycle::{
    Account, AccountChange, Bearer, Callback, Confirmation, IntegrationId, Invitation, Refusal, Revocation,
    View,
};
use crate::secret::{StateToken, Ticket};
use crate::time::Timestamp;
use arc_swap::ArcSwap;
use http::HeaderMap;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

// Self-signed for localhost and the public host below, good for a hundred years, and for nothing but these tests.
pub(super) const CERTIFICATE: &[u8] = include_bytes!("certificates/test.crt");
pub(super) const KEY: &[u8] = include_bytes!("certificates/test.key");
pub(super) const OTHER_CERTIFICATE: &[u8] = include_bytes!("certificates/other.crt");
pub(super) const OTHER_KEY: &[u8] = include_bytes!("certificates/other.key");
pub(super) const PUBLIC: &str = "https://grantd.acme.example";
pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_000);
pub(super) const CALLBACK: &str = "/v1/integrations/oauth/callback";

pub(super) fn settings(public_url: &str) -> WebSettings {
    WebSettings {
        public_url: public_url.parse().unwrap(),
        tls: None,
        trusted_proxies: Vec::new(),
        sign_in: None,
        organizations: BTreeMap::new(),
        integrations: BTreeMap::new(),
    }
}

pub(super) fn visit(public_url: &str) -> Visit {
    Visit { settings: Arc::new(settings(public_url)), peer: [127, 0, 0, 1].into(), patience: QUICK.beginning }
}

pub(super) const QUICK: Bounds = Bounds {
    connections: 16,
    beginning: Duration::from_secs(10),
    life: Duration::from_secs(60),
    drain: Duration::from_secs(60),
};

/// How long a test waits for what must come soon.
pub(super) const SOON: Duration = Duration::from_secs(5);

/// What the played engine answers; what it was asked is written down.
pub(super) struct Script {
    pub(super) invitation: Box<dyn Fn() -> Result<Invitation, Refusal> + Send>,
    pub(super) going: Box<dyn Fn() -> Result<Going, Refusal> + Send>,
    pub(super) landing: Box<dyn Fn() -> Result<Landing, Refusal> + Send>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            invitation: Box::new(|| Ok(invitation())),
            going: Box::new(|| Ok(going())),
            landing: Box::new(|| Ok(landing(stored()))),
        }
    }
}

pub(super) fn invitation() -> Invitation {
    Invitation {
        identity: identity("github"),
        provider_name: "GitHub".into(),
        scopes: vec!["repo".into(), "read:user".into()],
        kept_in: "/sym/acme/github".into(),
        then: None,
        expires_at: NOW.plus(Duration::from_secs(540)),
    }
}

pub(super) fn going() -> Going {
    Going {
        url: "https://github.example/authorize?client_id=c&state=state-1".into(),
        state: StateToken::new("state-1"),
        cookie: "cookie-value".into(),
        expires_at: NOW.plus(Duration::from_secs(300)),
    }
}

pub(super) fn landing(landed: Landed) -> Landing {
    Landing {
        identity: identity("github"),
        provider_name: "GitHub".into(),
        kept_in: "/sym/acme/github".into(),
        landed,
        then: None,
    }
}

pub(super) fn stored() -> Landed {
    Landed::Stored { account: account() }
}

pub(super) fn account() -> Account {
    Account { name: Some("Acme Bot".into()), username: Some("acme-bot".into()), ..Account::default() }
}

/// A listener that runs, and what its engine was asked.
pub(super) struct Room {
    pub(super) address: SocketAddr,
    pub(super) settings: Arc<ArcSwap<WebSettings>>,
    pub(super) stop: CancellationToken,
    serving: JoinSet<std::io::Result<()>>,
    asked: Arc<Mutex<Vec<String>>>,
    pub(super) ledger: Arc<Ledger>,
}

impl Room {
    pub(super) fn open(settings: WebSettings, script: Script) -> Self {
        Self::open_within(QUICK, settings, script)
    }

    pub(super) fn open_within(bounds: Bounds, settings: WebSettings, script: Script) -> Self {
        let asked = Arc::default();
        let stage = Stage::new(vec![], views(), Player { script, asked: Arc::clone(&asked) });
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let clock: Arc<dyn Clock> = Arc::new(Stopped);
        let ledger = Arc::new(Ledger::default());
        let web = Web {
            handle: stage.handle.clone(),
            clock,
            entropy: Arc::new(Counting::default()),
            trail: ledger.clone(),
            settings: Arc::clone(&settings),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let mut serving = JoinSet::new();
        serving.spawn(serve_within(bounds, listener, web, stop.clone()));
        Self { address, settings, stop, serving, asked, ledger }
    }

    /// What the engine was asked so far.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until the listener has stopped.
    pub(super) async fn stopped(&mut self) {
        let ended = timeout(SOON, self.serving.join_next()).await.expect("it does not stop");
        ended.unwrap().unwrap().unwrap();
    }

    pub(super) async fn connection(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `GET path` as a browser would.
    pub(super) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "Accept: text/html\r\n", "").await
    }

    /// Sends a request for the public host; `more` is further lines of the head.
    pub(super) async fn send(&self, method: &str, path: &str, more: &str, body: &str) -> Reply {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: grantd.acme.example\r\nContent-Length: {length}\r\n{more}\r\n"
        );
        self.raw(&(head + body)).await
    }

    pub(super) async fn raw(&self, bytes: &str) -> Reply {
        converse(self.connection().await, bytes).await
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The stable code: of a page, or of problem details.
    pub(super) fn code(&self) -> &str {
        let rest = self.body.split_once("data-code=\"").or_else(|| self.body.split_once("\"code\":\""));
        rest.and_then(|(_, rest)| rest.split_once('"')).map_or("", |(code, _)| code)
    }
}

/// Sends bytes and reads until the other side is done.
pub(super) async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &str) -> Reply {
    stream.write_all(bytes.as_bytes()).await.unwrap();
    read_reply(stream).await
}

pub(super) async fn read_reply(mut stream: impl AsyncRead + Unpin) -> Reply {
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.expect("no end of the answer").unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|text| text.parse().ok());
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    Reply { status: status.unwrap_or(0), headers, body: body.to_owned() }
}

struct Player {
    script: Script,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Player {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
}

impl Actor for Player {
    fn invitation(&mut self, ticket: Ticket) -> Result<Invitation, Refusal> {
        self.note(format!("invitation {}", ticket.expose_secret()));
        (self.script.invitation)()
    }

    fn start(&mut self, start: Start) -> Result<Started, Refusal> {
        let Start { integration, scopes, then, .. } = start;
        let (integration, scopes) = (integration.unwrap_or_default(), scopes.join(" "));
        self.note(format!("start {integration} [{scopes}] {}", then.unwrap_or_default()));
        let expires_at = NOW.plus(Duration::from_secs(600));
        Ok(Started { ticket: Ticket::new("minted"), state: StateToken::new("state-1"), expires_at })
    }

    fn confirm(&mut self, ticket: Ticket, how: Confirmation) -> Result<Going, Refusal> {
        let owner = how.owner.map_or_else(String::new, |owner| format!(" for {owner}"));
        let change = if how.account == AccountChange::Allowed { " replacing" } else { "" };
        self.note(format!("confirm {}{owner}{change}", ticket.expose_secret()));
        (self.script.going)()
    }

    fn refresh(&mut self, integration: IntegrationId) -> Result<View, Refusal> {
        self.note(format!("refresh {integration}"));
        Ok(views().remove(0))
    }

    fn validate(&mut self, integration: IntegrationId) -> Result<View, Refusal> {
        self.note(format!("validate {integration}"));
        Ok(views().remove(0))
    }

    fn revoke(&mut self, integration: IntegrationId) -> Result<Ended, Refusal> {
        self.note(format!("revoke {integration}"));
        Ok(Ended { view: views().remove(0), upstream: Revocation::Confirmed })
    }

    fn delete(&mut self, integration: IntegrationId) -> Result<Ended, Refusal> {
        self.note(format!("delete {integration}"));
        Ok(Ended { view: views().remove(0), upstream: Revocation::Confirmed })
    }

    fn callback(&mut self, callback: Callback) -> Result<Landing, Refusal> {
        let Callback { provider, integration, code, bearer, .. } = &callback;
        let code = code.as_ref().map_or("-", |code| code.expose_secret());
        let cookie = match bearer {
            Bearer::Browser(cookie) => cookie.clone().unwrap_or_else(|| "-".into()),
            Bearer::Person { cookie, subject } => {
                format!("{} of {subject}", cookie.as_deref().unwrap_or("-"))
            }
            Bearer::Operator => "operator".into(),
        };
        let integration = integration.as_deref().unwrap_or("-");
        self.note(format!("callback {provider} {integration} code={code} cookie={cookie}"));
        (self.script.landing)()
    }
}

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        NOW
    }
}
