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
        let _task = runtime().spawn(carry(client, upstream, shared.trouble.subscribe()));
    }
}

/// Carries one connection until either side, or a trouble, ends it.
async fn carry(mut client: TcpStream, upstream: SocketAddr, mut trouble: watch::Receiver<Trouble>) {
    if *trouble.borrow_and_update() == Trouble::Hang {
        let _changed = trouble.changed().await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    let _nodelay = (client.set_nodelay(true), server.set_nodelay(true));
    loop {
        let now = *trouble.borrow_and_update();
        match now {
            Trouble::Refuse => return,
            Trouble::Hang => {
                let _changed = trouble.changed().await;
                return;
            }
            Trouble::None | Trouble::CutRequest(_) | Trouble::CutAnswer(_) | Trouble::LoseAnswerTo(_) => {}
        }
        tokio::select! {
            changed = trouble.changed() => if changed.is_err() { return },
            () = exchange(&mut client, &mut server, now) => return,
        }
    }
}

/// Carries bytes both ways until the connection is over or has had what it may have.
async fn exchange(client: &mut TcpStream, server: &mut TcpStream, trouble: Trouble) {
    let (mut up, mut down) = ([0; 16 * 1024], [0; 16 * 1024]);
    let mut request = if let Trouble::CutRequest(most) = trouble { most } else { usize::MAX };
    let mut answer = if let Trouble::CutAnswer(most) = trouble { most } else { usize::MAX };
    loop {
        let goes_on = tokio::select! {
            read = client.read(&mut up) => {
                if is_lost(trouble, &up, &read) {
                    answer = 0;
                }
                pass(server, &up, read, &mut request).await
            }
            read = server.read(&mut down) => pass(client, &down, read, &mut answer).await,
        };
        if !goes_on {
            return;
        }
    }
}

/// Whether a request was read whose answer is to be lost. A head comes in one piece over loopback.
fn is_lost(trouble: Trouble, buffer: &[u8], read: &std::io::Result<usize>) -> bool {
    match (trouble, read) {
        (Trouble::LoseAnswerTo(text), Ok(count)) => String::from_utf8_lossy(&buffer[..*count]).contains(text),
        _ => false,
    }
}

/// Passes on what was read, as far as it may; false when the connection is over.
async fn pass(to: &mut TcpStream, buffer: &[u8], read: std::io::Result<usize>, left: &mut usize) -> bool {
    let Ok(count @ 1..) = read else { return false };
    let may = count.min(*left);
    *left -= may;
    to.write_all(&buffer[..may]).await.is_ok() && *left > 0
}
