//! HTTP as the tests speak it: over TCP without redirects, over a Unix socket with a connection that stays, and as another user.

use super::process::run;
use super::waiting::{block_on, runtime};
use ::http::{HeaderMap, Method, Request};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::net::UnixStream;

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{} is no JSON: {}", self.status, self.text()))
    }

    /// A header, or an empty text.
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }

    /// The stable code of a refusal (contract §5).
    #[track_caller]
    pub fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends one request over TCP; `None` if nobody answers.
pub fn try_fetch(request: Request<Bytes>) -> Option<Answer> {
    block_on(async move {
        let answer = client().execute(request.try_into().unwrap()).await.ok()?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Some(Answer { status, headers, body: answer.bytes().await.ok()? })
    })
}

/// As [`try_fetch`], for a server that must answer.
#[track_caller]
pub fn fetch(request: Request<Bytes>) -> Answer {
    let uri = request.uri().clone();
    try_fetch(request).unwrap_or_else(|| panic!("no answer from {}", uri.authority().unwrap()))
}

fn client() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(60))
            // A kept connection may be one that a restarted daemon has closed.
            .pool_max_idle_per_host(0)
            .build()
            .unwrap()
    })
}

/// One connection to a Unix socket, kept open from request to request.
pub struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    /// Connects; `None` if nobody listens.
    pub fn try_open(socket: &Path) -> Option<Self> {
        block_on(async {
            let stream = UnixStream::connect(socket).await.ok()?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
            let _task = runtime().spawn(connection);
            Some(Self(sender))
        })
    }

    #[track_caller]
    pub fn open(socket: &Path) -> Self {
        Self::try_open(socket).unwrap_or_else(|| panic!("nobody listens on {}", socket.display()))
    }

    /// Sends a request; `None` if the connection is closed.
    pub fn try_send(&mut self, method: Method, path: &str, body: Option<&Value>) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(path).header("host", "grantd");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        block_on(async {
            self.0.ready().await.ok()?;
            let answer = self.0.send_request(request).await.ok()?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            Some(Answer { status: head.status.as_u16(), headers: head.headers, body })
        })
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.try_send(Method::GET, path, None).unwrap_or_else(|| panic!("no answer to GET {path}"))
    }
}

/// Whether the tests may become another user.
pub fn is_root() -> bool {
    own_uid() == 0
}

/// Says, past what the test runner swallows, that a part of a test could not be done here.
pub fn partly_tested(what: &str) {
    let _unheard = writeln!(std::io::stderr(), "PARTLY TESTED: {what}");
}

pub fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// Asks over a Unix socket as another user and group. Root only.
pub fn as_other_user(uid: u32, gid: u32, socket: &Path, path: &str) -> Answer {
    let output = run(Command::new("setpriv")
        .args(["--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--clear-groups", "curl", "-sS"])
        .args(["--write-out", "\n%{http_code} %{content_type}", "--unix-socket"])
        .arg(socket)
        .arg(format!("http://grantd{path}")));
    assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, last) = text.rsplit_once('\n').unwrap();
    let (status, content_type) = last.split_once(' ').unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("content-type", content_type.parse().unwrap());
    Answer { status: status.parse().unwrap(), headers, body: Bytes::from(body.to_owned()) }
}
