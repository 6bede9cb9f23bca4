//! Asks the daemon: one HTTP/1.1 request over a Unix socket, or, for the demo's own browser, over loopback TCP.

use super::end::End;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// An answer, whole.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Asks the daemon behind a Unix socket; refusals become ends.
pub(super) async fn ask<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<serde_json::Value>,
) -> Result<T, End> {
    let reply = ask_raw(socket, method, path, body).await?;
    serde_json::from_slice(&reply).map_err(|_shape| {
        End::unreachable(format!(
            "{} does not speak as grantd does: is it grantd's socket?",
            socket.display()
        ))
    })
}

/// As [`ask`], with the body as it came.
pub(super) async fn ask_raw(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<serde_json::Value>,
) -> Result<Bytes, End> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unconnected(socket, &error))?;
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, "grantd")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|_not_a_path| End::usage("that is not an integration's id"))?;
    let reply = send(stream, request)
        .await
        .map_err(|_broken| End::unreachable(format!("{}: the daemon hung up", socket.display())))?;
    if reply.status.is_success() { Ok(reply.body) } else { Err(refusal(&reply)) }
}

/// Sends one request over loopback TCP.
pub(super) async fn send_tcp(authority: &str, request: Request<Full<Bytes>>) -> io::Result<Reply> {
    send(TcpStream::connect(authority).await?, request).await
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> io::Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let exchange = async move {
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MOST).collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Reply { status: head.status, headers: head.headers, body })
    };
    let both = async {
        let (answer, _ended) = tokio::join!(exchange, connection);
        answer
    };
    tokio::time::timeout(PATIENCE, both).await.unwrap_or_else(|_late| Err(io::ErrorKind::TimedOut.into()))
}

/// Why a socket could not be reached.
pub(super) fn unconnected(socket: &Path, error: &io::Error) -> End {
    let socket = socket.display();
    let kind = error.kind();
    if kind == io::ErrorKind::PermissionDenied {
        End::permission(format!(
            "{socket} is not open to this user: ask the operator to add it to the socket's group"
        ))
    } else if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
        End::unreachable(format!("no grantd listens on {socket}: start it, or name its socket with --socket"))
    } else {
        End::unreachable(format!("{socket} cannot be reached ({kind})"))
    }
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
    #[serde(default)]
    missing: Vec<Wanting>,
}

/// Something that has to be mended first.
#[derive(Deserialize)]
struct Wanting {
    what: String,
    #[serde(rename = "where")]
    place: String,
    fix: String,
}

/// The end that a refusal becomes whose body has not been read yet.
pub(super) async fn refused(answer: Response<Incoming>) -> End {
    let (head, body) = answer.into_parts();
    match Limited::new(body, MOST).collect().await {
        Ok(body) => refusal(&Reply { status: head.status, headers: head.headers, body: body.to_bytes() }),
        Err(_broken) => End::unreachable("the daemon hung up"),
    }
}

fn refusal(reply: &Reply) -> End {
    match serde_json::from_slice::<Problem>(&reply.body) {
        Ok(Problem { code, detail, missing }) if missing.is_empty() => {
            End::of_refusal(&code, reply.status.as_u16(), &detail)
        }
        Ok(Problem { code, missing, .. }) => {
            let listed: Vec<_> = missing.iter().map(|one| listed(&one.what, &one.place, &one.fix)).collect();
            let said = format!("this cannot begin yet ({code})\n\n{}", listed.join("\n\n"));
            End::refused(said)
        }
        Err(_shape) => End::refused(format!("the daemon answered {}", reply.status)),
    }
}

/// One thing that is missing, with its remedy to paste, as people read it.
pub(super) fn listed(what: &str, place: &str, fix: &str) -> String {
    let fix: Vec<_> = fix.lines().map(|line| format!("    {line}")).collect();
    format!("{what}\n  at {place}\n  mend it:\n{}", fix.join("\n"))
}

const MOST: usize = 64 * 1024 * 1024;
/// Longer than the longest wait that the daemon grants, 60 s.
const PATIENCE: Duration = Duration::from_secs(75);
