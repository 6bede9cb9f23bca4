//! Tells a request head that is slow to arrive from a connection that is idle: the first is given up, the second may wait.
//!
//! hyper's own timer does not tell them apart, and setting it for each request costs a read a sixth of its time (measured).
//! This watches the stream instead and is looked at once in a while.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// What a connection is doing. Shared by its stream, its service and whoever looks.
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU8);

/// Nothing has arrived since the last answer.
const IDLE: u8 = 0;
/// Something has arrived, and it is no request yet.
const BEGUN: u8 = 1;
/// It was so at the last look already.
const LATE: u8 = 2;
/// A request is whole, and its answer has not begun.
const ASKED: u8 = 3;

/// A call passes through: both sides may take as long as they like, and bytes of a body are no request head.
const HELD: u8 = 4;

/// Holds a pulse while a call passes through.
pub(super) struct Held(Arc<Pulse>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.store(IDLE, Ordering::Relaxed);
    }
}

impl Pulse {
    /// The request that is whole is passed through, until what is returned is dropped.
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        self.0.store(HELD, Ordering::Relaxed);
        Held(Arc::clone(self))
    }

    /// A request head is whole.
    pub(super) fn asked(&self) {
        self.0.store(ASKED, Ordering::Relaxed);
    }

    /// Looks. Whether the same head has been arriving since the last look but one.
    pub(super) fn is_stuck(&self) -> bool {
        let before = self.0.load(Ordering::Relaxed);
        if before == BEGUN {
            self.0.store(LATE, Ordering::Relaxed);
        }
        before == LATE
    }

    fn heard(&self) {
        if self.0.load(Ordering::Relaxed) == IDLE {
            self.0.store(BEGUN, Ordering::Relaxed);
        }
    }

    fn said(&self) {
        if self.0.load(Ordering::Relaxed) == ASKED {
            self.0.store(IDLE, Ordering::Relaxed);
        }
    }
}

/// A stream that keeps the pulse of its connection.
pub(super) struct Watched {
    stream: UnixStream,
    pulse: Arc<Pulse>,
}

impl Watched {
    pub(super) const fn new(stream: UnixStream, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.pulse.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.pulse.said();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pulse.said();
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pulse, Watched};
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn a_head_is_stuck_at_the_second_look_and_an_idle_connection_never() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let pulse = Arc::new(Pulse::default());
        let mut watched = Watched::new(near, Arc::clone(&pulse));
        let looks = || [pulse.is_stuck(), pulse.is_stuck(), pulse.is_stuck()];
        assert_eq!(looks(), [false; 3], "nothing has arrived");
        far.write_all(b"GET").await.unwrap();
        watched.read_exact(&mut [0; 3]).await.unwrap();
        assert_eq!(looks(), [false, true, true]);
        pulse.asked();
        far.write_all(b"the body").await.unwrap();
        watched.read_exact(&mut [0; 8]).await.unwrap();
        assert_eq!(looks(), [false; 3], "an answer may take its time");
        watched.write_all(b"HTTP/1.1 200").await.unwrap();
        assert_eq!(looks(), [false; 3], "idle after the answer");
        far.write_all(b"GET").await.unwrap();
        watched.read_exact(&mut [0; 3]).await.unwrap();
        assert_eq!(looks(), [false, true, true], "the second request");
    }

    #[tokio::test]
    async fn a_call_that_passes_through_is_never_stuck() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let pulse = Arc::new(Pulse::default());
        let mut watched = Watched::new(near, Arc::clone(&pulse));
        pulse.asked();
        let held = pulse.hold();
        watched.write_all(b"HTTP/1.1 100 Continue").await.unwrap();
        far.write_all(b"the body").await.unwrap();
        watched.read_exact(&mut [0; 8]).await.unwrap();
        assert!(!pulse.is_stuck() && !pulse.is_stuck() && !pulse.is_stuck());
        drop(held);
        far.write_all(b"GET").await.unwrap();
        watched.read_exact(&mut [0; 3]).await.unwrap();
        assert!(!pulse.is_stuck() && pulse.is_stuck());
    }
}
