//! Connections: accepted within bounds, wrapped in TLS where that is configured, one request each.
//!
//! Every task is known, so that stopping waits for callbacks in flight, and for nothing else for long.

use super::visit::Visit;
use super::{Web, WebSettings, site};
use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

/// Serves the public listener until `stop`; then takes no more, and lets what is in flight finish within about 10 s.
///
/// # Errors
/// If the socket cannot be used at all. What goes wrong on one connection ends that one.
pub async fn serve(listener: std::net::TcpListener, web: Web, stop: CancellationToken) -> io::Result<()> {
    serve_within(BOUNDS, listener, web, stop).await
}

/// What one listener and one connection may take.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Connections at one time; more wait in the kernel's queue.
    pub(super) connections: usize,
    /// For a TLS handshake, for a request's head, and for its body.
    pub(super) beginning: Duration,
    /// For a connection from first to last byte.
    pub(super) life: Duration,
    /// For what is in flight when the listener stops.
    pub(super) drain: Duration,
}

pub(super) async fn serve_within(
    bounds: Bounds,
    listener: std::net::TcpListener,
    web: Web,
    stop: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let routes = site::routes(&web);
    let mut connections = JoinSet::new();
    let mut pause = SHORTEST_PAUSE;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => note(&ended),
            accepted = listener.accept(), if connections.len() < bounds.connections => match accepted {
                Ok((stream, peer)) => {
                    pause = SHORTEST_PAUSE;
                    let settings = web.settings.load_full();
                    let talk = Talk { bounds, routes: routes.clone(), stop: stop.clone() };
                    connections.spawn(async move { talk.begin(stream, peer, settings).await });
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    tracing::warn!(error = %error, retry_in = ?pause, "no connection can be accepted");
                    // Waits, unless the listener stops meanwhile.
                    let _stopped = timeout(pause, stop.cancelled()).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            },
        }
    }
    drop(listener);
    let drained = timeout(bounds.drain, async {
        while let Some(ended) = connections.join_next().await {
            note(&ended);
        }
    });
    if drained.await.is_err() {
        tracing::warn!("connections were cut off at the stop");
        connections.shutdown().await;
    }
    Ok(())
}

/// One connection.
struct Talk {
    bounds: Bounds,
    routes: Router,
    stop: CancellationToken,
}

impl Talk {
    async fn begin(self, stream: TcpStream, peer: SocketAddr, settings: Arc<WebSettings>) {
        let _best_effort = stream.set_nodelay(true);
        let visit =
            Visit { peer: peer.ip(), settings: Arc::clone(&settings), patience: self.bounds.beginning };
        let talk = async {
            match &settings.tls {
                None => self.go_on(stream, visit).await,
                Some(tls) => {
                    let shaken =
                        timeout(self.bounds.beginning, TlsAcceptor::from(Arc::clone(tls)).accept(stream));
                    tokio::select! {
                        () = self.stop.cancelled() => {}
                        shaken = shaken => if let Ok(Ok(stream)) = shaken { self.go_on(stream, visit).await },
                    }
                }
            }
        };
        let _cut = timeout(self.bounds.life, Box::pin(talk)).await;
    }

    async fn go_on(&self, stream: impl AsyncRead + AsyncWrite + Unpin, visit: Visit) {
        let service = service_fn(|request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(visit.clone());
            self.routes.clone().call(request)
        });
        // One request a connection: nothing can be smuggled behind it, and every connection ends by itself.
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.bounds.beginning)
            .max_header_size(LARGEST_HEAD)
            .max_buf_size(2 * LARGEST_HEAD)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::trace!(error = %error, "a connection broke off");
        }
    }
}

/// Errors of `accept` that concern the connection alone, which is gone.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn note(ended: &Result<(), JoinError>) {
    if ended.as_ref().is_err_and(JoinError::is_panic) {
        tracing::error!("a request was not answered");
    }
}

const BOUNDS: Bounds = Bounds {
    connections: 1024,
    beginning: Duration::from_secs(10),
    // Longer than a handshake, a head, a body and the engine's patience together.
    life: Duration::from_secs(90),
    drain: Duration::from_secs(10),
};
/// The longest target (16 KiB, guarded with a page of its own) and as much again for the other lines.
const LARGEST_HEAD: usize = 32 * 1024;
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::Bounds;
    use crate::edge::web::WebSettings;
    use crate::edge::web::testing::{
        CALLBACK, CERTIFICATE, KEY, OTHER_CERTIFICATE, OTHER_KEY, PUBLIC, QUICK, Reply, Room, SOON, Script,
        converse, landing, read_reply, settings, stored,
    };
    use crate::edge::web::tls_config;
    use rustls::crypto::aws_lc_rs;
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, ServerName};
    use std::sync::{Arc, mpsc};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;
    use tokio_rustls::TlsConnector;

    const HOME: &str = "GET / HTTP/1.1\r\nHost: grantd.acme.example\r\n\r\n";

    fn with_tls(certificate: &[u8], key: &[u8]) -> WebSettings {
        WebSettings { tls: Some(tls_config(certificate, key).unwrap()), ..settings(PUBLIC) }
    }

    async fn over_tls(
        room: &Room,
        trusted: &[u8],
        version: &'static SupportedProtocolVersion,
    ) -> std::io::Result<Reply> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from("grantd.acme.example").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, room.connection().await).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
        Ok(converse(stream, HOME).await)
    }

    #[tokio::test]
    async fn tls_is_spoken_where_it_is_configured() {
        let room = Room::open(with_tls(CERTIFICATE, KEY), Script::default());
        for version in [&TLS12, &TLS13] {
            assert_eq!(over_tls(&room, CERTIFICATE, version).await.unwrap().status, 200);
        }
        let mut plain = room.connection().await;
        plain.write_all(HOME.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _reset = plain.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"));
    }

    #[tokio::test]
    async fn new_settings_bite_on_the_next_connection() {
        let room = Room::open(with_tls(CERTIFICATE, KEY), Script::default());
        assert!(over_tls(&room, CERTIFICATE, &TLS13).await.is_ok());
        room.settings.store(Arc::new(with_tls(OTHER_CERTIFICATE, OTHER_KEY)));
        assert!(over_tls(&room, CERTIFICATE, &TLS13).await.is_err());
        assert_eq!(over_tls(&room, OTHER_CERTIFICATE, &TLS13).await.unwrap().status, 200);
        room.settings.store(Arc::new(settings("https://other.example")));
        assert_eq!(room.get("/").await.status, 421);
    }

    #[tokio::test]
    async fn peers_that_do_not_begin_are_cut_off() {
        let bounds = Bounds { beginning: Duration::from_millis(50), ..QUICK };
        for settings in [settings(PUBLIC), with_tls(CERTIFICATE, KEY)] {
            let room = Room::open_within(bounds, settings, Script::default());
            assert_eq!(room.raw("").await.status, 0);
            assert_eq!(room.raw("GET / HTTP/1.1\r\nHost: grantd").await.status, 0);
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_is_answered() {
        let bounds = Bounds { beginning: Duration::from_millis(50), ..QUICK };
        let room = Room::open_within(bounds, settings(PUBLIC), Script::default());
        let told =
            room.raw("POST /connect/t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx").await;
        assert_eq!((told.status, told.code()), (408, "invalid_request"));
        assert_eq!(room.asked(), [""; 0]);
    }

    #[tokio::test]
    async fn one_connection_carries_one_request() {
        let room = Room::open(settings(PUBLIC), Script::default());
        let reply = room.raw(&format!("{HOME}{HOME}")).await;
        assert_eq!((reply.header("connection"), reply.body.matches("HTTP/1.1 200").count()), ("close", 0));
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_their_turn() {
        let room = Room::open_within(Bounds { connections: 1, ..QUICK }, settings(PUBLIC), Script::default());
        let mut first = room.connection().await;
        first.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let mut second = room.connection().await;
        second.write_all(HOME.as_bytes()).await.unwrap();
        let early = timeout(Duration::from_millis(100), second.read_u8()).await;
        assert!(early.is_err(), "the second was answered while the first was there");
        first.write_all(b"Host: localhost\r\n\r\n").await.unwrap();
        assert_eq!(read_reply(first).await.status, 200);
        assert_eq!(read_reply(second).await.status, 200);
    }

    /// A room whose engine holds a callback until the sender is used or dropped, and word when it does.
    fn held(bounds: Bounds) -> (Room, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (arrived, arrival) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let script = Script {
            landing: Box::new(move || {
                arrived.send(()).unwrap();
                let _gone = released.recv();
                Ok(landing(stored()))
            }),
            ..Script::default()
        };
        (Room::open_within(bounds, settings(PUBLIC), script), arrival, release)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn stopping_lets_a_callback_in_flight_finish_and_closes_the_rest() {
        let (mut room, arrival, release) = held(QUICK);
        let mut idle = room.connection().await;
        let mut flight = room.connection().await;
        let request = format!("GET {CALLBACK}/github?code=c&state=s HTTP/1.1\r\nHost: localhost\r\n\r\n");
        flight.write_all(request.as_bytes()).await.unwrap();
        arrival.recv().unwrap();
        room.stop.cancel();
        assert_eq!(timeout(SOON, idle.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
        assert!(tokio::net::TcpStream::connect(room.address).await.is_err());
        release.send(()).unwrap();
        assert_eq!(read_reply(flight).await.code(), "stored");
        room.stopped().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn stopping_does_not_wait_for_ever() {
        let (mut room, arrival, release) = held(Bounds { drain: Duration::from_millis(50), ..QUICK });
        let mut flight = room.connection().await;
        let request = format!("GET {CALLBACK}/github?code=c&state=s HTTP/1.1\r\nHost: localhost\r\n\r\n");
        flight.write_all(request.as_bytes()).await.unwrap();
        arrival.recv().unwrap();
        room.stop.cancel();
        room.stopped().await;
        let mut answer = Vec::new();
        let _reset = flight.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
        drop(release);
    }
}
