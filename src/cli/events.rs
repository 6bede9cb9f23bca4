//! The event stream of the app socket, as a client: the names of the events as they come (`lease`, `status`).
//!
//! Events hold no token; whoever listens reads it as everybody else does.

use super::client::{refused, unconnected};
use super::end::End;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::path::Path;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// An open stream.
pub(super) struct Events {
    body: Incoming,
    /// What came after the last whole line.
    rest: Vec<u8>,
    /// Drives the connection for as long as the stream lives.
    _connection: JoinSet<()>,
}

impl Events {
    /// Opens the stream about one integration.
    pub(super) async fn open(socket: &Path, integration: &str) -> Result<Self, End> {
        let stream = UnixStream::connect(socket).await.map_err(|error| unconnected(socket, &error))?;
        let hung_up = |_broken| End::unreachable(format!("{}: the daemon hung up", socket.display()));
        let request = Request::get(format!("/v1/integrations/{integration}/events"))
            .header(http::header::HOST, "grantd")
            .body(Empty::<Bytes>::new())
            .map_err(|_not_a_path| End::usage("that is not an integration's id"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(hung_up)?;
        let mut tasks = JoinSet::new();
        let _handle = tasks.spawn(async move {
            // The body tells whoever reads it that the connection broke.
            let _ended = connection.await;
        });
        let answer = sender.send_request(request).await.map_err(hung_up)?;
        if !answer.status().is_success() {
            return Err(refused(answer).await);
        }
        Ok(Self { body: answer.into_body(), rest: Vec::new(), _connection: tasks })
    }

    /// The name of the next event; `None` once the stream has ended.
    pub(super) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(name) = take_name(&mut self.rest) {
                return Some(name);
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.rest.extend_from_slice(&data);
            }
            if self.rest.len() > MOST {
                return None;
            }
        }
    }
}

/// Takes whole lines up to one that names an event.
fn take_name(rest: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(name) = take_line(rest)?.strip_prefix("event: ") {
            return Some(name.to_owned());
        }
    }
}

/// Takes the first whole line, without its end.
fn take_line(rest: &mut Vec<u8>) -> Option<String> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let line: Vec<u8> = rest.drain(..=end).take(end).collect();
    Some(String::from_utf8_lossy(&line).into_owned())
}

/// The longest line that is waited for: a status object is far shorter.
const MOST: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::take_line;

    #[test]
    fn lines_are_taken_only_when_they_are_whole() {
        let mut rest = b"event: lease\nda".to_vec();
        assert_eq!(take_line(&mut rest).as_deref(), Some("event: lease"));
        assert_eq!(take_line(&mut rest), None);
        rest.extend_from_slice(b"ta\n");
        assert_eq!(take_line(&mut rest).as_deref(), Some("data"));
        assert!(rest.is_empty());
    }
}
