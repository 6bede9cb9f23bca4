//! A TCP proxy on loopback that can be told to misbehave while it runs: between the daemon and whoever it talks to.
//!
//! It keeps its port while it refuses, so that nobody else can take it.

use super::waiting::{block_on, runtime};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How a proxy treats connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It carries everything.
    None,
    /// Connections are refused, and open ones are cut.
    Refuse,
    /// Connections are taken, and nothing is ever carried on them.
    Hang,
    /// After so many more bytes of an answer the connection is cut.
    CutAnswer(usize),
    /// After so many more bytes of a request the connection is cut.
    CutRequest(usize),
    /// A request with this text in its head is carried, and its connection is cut instead of an answer.
    LoseAnswerTo(&'static str),
    /// Nothing is carried either way until the trouble changes; then everything that waited is.
    Hold,
    /// As `Hold`, for what is answered to a request with this text; the request itself is carried.
    HoldAnswerTo(&'static str),
    /// This byte of an answer is another one, counted from its first.
    CorruptAnswer(usize),
    /// This byte of an answer's body is another one, counted from its first.
    CorruptBody(usize),
    /// This byte of a request is another one, counted from its first.
    CorruptRequest(usize),
    /// A request with this text is not carried; the proxy answers it by itself, as if it were the peer.
    Answer { to: &'static str, with: &'static str },
}

/// A proxy; its port is its own until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Mutex<Option<AbortHandle>>,
    _reserved: TcpSocket,
}

struct Shared {
    upstream: Mutex<SocketAddr>,
    trouble: watch::Sender<Trouble>,
    taken: AtomicU64,
    answered: AtomicU64,
}

impl Proxy {
    /// A proxy to `upstream`, which may be told later.
    pub fn to(upstream: SocketAddr) -> Self {
        let reserved = reusable();
        reserved.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            trouble: watch::Sender::new(Trouble::None),
            taken: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        });
        let address = reserved.local_addr().unwrap();
        let proxy = Self { address, shared, listening: Mutex::new(None), _reserved: reserved };
        proxy.listen();
        proxy
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn upstream(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap() = upstream;
    }

    /// Takes effect at once, on open connections as well.
    pub fn set(&self, trouble: Trouble) {
        let was = self.shared.trouble.send_replace(trouble);
        match (was, trouble) {
            (Trouble::Refuse, Trouble::Refuse) => {}
            (_, Trouble::Refuse) => self.close(),
            (Trouble::Refuse, _) => self.listen(),
            _ => {}
        }
    }

    /// How many connections were taken so far.
    pub fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::SeqCst)
    }

    /// How many requests it has answered by itself.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::SeqCst)
    }

    fn listen(&self) {
        let (address, shared) = (self.address, Arc::clone(&self.shared));
        let listener = block_on(async move {
            let socket = reusable();
            socket.bind(address).unwrap();
            socket.listen(128).unwrap()
        });
        let task = runtime().spawn(accept(listener, shared));
        *self.listening.lock().unwrap() = Some(task.abort_handle());
    }

    fn close(&self) {
        if let Some(task) = self.listening.lock().unwrap().take() {
            task.abort();
            super::eventually("the proxy stops listening", || task.is_finished().then_some(()));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.trouble.send_replace(Trouble::Refuse);
        if let Some(task) = self.listening.lock().unwrap().take() {
            task.abort();
        }
    }
}

fn reusable() -> TcpSocket {
    let _inside = runtime().enter();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.taken.fetch_add(1, Ordering::SeqCst);
        let upstream = *shared.upstream.lock().unwrap();
        let _task = runtime().spawn(carry(client, upstream, Arc::clone(&shared)));
    }
}

/// Carries one connection until either side, or a trouble, ends it.
async fn carry(mut client: TcpStream, upstream: SocketAddr, shared: Arc<Shared>) {
    let mut trouble = shared.trouble.subscribe();
    if *trouble.borrow_and_update() == Trouble::Hang {
        let _changed = trouble.changed().await;
        return;
    }
    while *trouble.borrow_and_update() == Trouble::Hold {
        if trouble.changed().await.is_err() {
            return;
        }
    }
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    let _nodelay = (client.set_nodelay(true), server.set_nodelay(true));
    loop {
        let now = *trouble.borrow_and_update();
        if now == Trouble::Refuse {
            return;
        }
        if matches!(now, Trouble::Hang | Trouble::Hold) {
            match trouble.changed().await {
                Ok(()) if now == Trouble::Hold => continue,
                Ok(()) | Err(_) => return,
            }
        }
        tokio::select! {
            changed = trouble.changed() => if changed.is_err() { return },
            () = exchange(&mut client, &mut server, now, &shared) => return,
        }
    }
}

/// Carries bytes both ways until the connection is over or has had what it may have.
async fn exchange(client: &mut TcpStream, server: &mut TcpStream, trouble: Trouble, shared: &Shared) {
    let (mut up, mut down) = (Way::to_server(trouble), Way::to_client(trouble));
    let (mut asked, mut told) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        let goes_on = tokio::select! {
            read = client.read(&mut asked) => {
                if let (Trouble::Answer { with, .. }, true) = (trouble, is_meant(trouble, &asked, &read)) {
                    shared.answered.fetch_add(1, Ordering::SeqCst);
                    return answer(client, with).await;
                }
                down.left = if is_lost(trouble, &asked, &read) { 0 } else { down.left };
                let held = matches!(trouble, Trouble::HoldAnswerTo(_)) && is_meant(trouble, &asked, &read);
                let goes_on = up.pass(server, &mut asked, read).await;
                if held {
                    // The exchange is dropped when the trouble changes, and what was answered still waits in the socket.
                    std::future::pending::<()>().await;
                }
                goes_on
            }
            read = server.read(&mut told) => down.pass(client, &mut told, read).await,
        };
        if !goes_on {
            return;
        }
    }
}

/// Answers in the peer's place, and reads on until the client has gone, so that the answer is not lost to a reset.
async fn answer(client: &mut TcpStream, with: &str) {
    let length = with.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len());
    let head_and_body =
        with.replacen("\r\n", &format!("\r\ncontent-length: {length}\r\nconnection: close\r\n"), 1);
    let _written = client.write_all(head_and_body.as_bytes()).await;
    let _closed = client.shutdown().await;
    let mut rest = [0; 1024];
    while let Ok(1..) = client.read(&mut rest).await {}
}

/// Whether a request was read whose answer is to be lost. A head comes in one piece over loopback.
fn is_lost(trouble: Trouble, buffer: &[u8], read: &std::io::Result<usize>) -> bool {
    matches!(trouble, Trouble::LoseAnswerTo(_)) && is_meant(trouble, buffer, read)
}

/// Whether what was read is a request that the trouble is about.
fn is_meant(trouble: Trouble, buffer: &[u8], read: &std::io::Result<usize>) -> bool {
    let (Trouble::LoseAnswerTo(text) | Trouble::HoldAnswerTo(text) | Trouble::Answer { to: text, .. }) =
        trouble
    else {
        return false;
    };
    read.as_ref().is_ok_and(|count| String::from_utf8_lossy(&buffer[..*count]).contains(text))
}

/// One direction of a connection: how much more it may carry, and which byte of it goes wrong.
struct Way {
    left: usize,
    wrong: Option<usize>,
    in_body: bool,
    passed: usize,
}

impl Way {
    fn to_server(trouble: Trouble) -> Self {
        let left = if let Trouble::CutRequest(most) = trouble { most } else { usize::MAX };
        let wrong = if let Trouble::CorruptRequest(at) = trouble { Some(at) } else { None };
        Self { left, wrong, in_body: false, passed: 0 }
    }

    fn to_client(trouble: Trouble) -> Self {
        let left = if let Trouble::CutAnswer(most) = trouble { most } else { usize::MAX };
        let wrong =
            if let Trouble::CorruptAnswer(at) | Trouble::CorruptBody(at) = trouble { Some(at) } else { None };
        Self { left, wrong, in_body: matches!(trouble, Trouble::CorruptBody(_)), passed: 0 }
    }

    /// Passes on what was read, as far as it may; false when the connection is over.
    async fn pass(&mut self, to: &mut TcpStream, buffer: &mut [u8], read: std::io::Result<usize>) -> bool {
        let Ok(count @ 1..) = read else { return false };
        self.spoil(&mut buffer[..count]);
        let may = count.min(self.left);
        self.left -= may;
        to.write_all(&buffer[..may]).await.is_ok() && self.left > 0
    }

    fn spoil(&mut self, bytes: &mut [u8]) {
        let Some(wrong) = self.wrong else { return };
        let mut from = 0;
        if self.in_body && self.passed == 0 {
            // The head comes in one piece, perhaps with the body behind it.
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
            from = end;
            self.in_body = false;
        }
        let here = wrong.checked_sub(self.passed).and_then(|ahead| bytes.get_mut(from + ahead));
        if let Some(byte) = here {
            *byte = b'~';
            self.wrong = None;
        }
        self.passed += bytes.len() - from;
    }
}
