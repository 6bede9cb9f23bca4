//! Bodies that pass through: counted as they go, and given up when nothing comes for too long.
//!
//! Nothing is buffered: a piece is taken when whoever reads asks for it. Trailers stay behind in both directions, since some
//! servers take them for headers.

use crate::engine::{BrokenOff, Flow};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Interval, interval};

/// The body of a request, and how many pieces of it have gone.
pub(super) struct Outward {
    inner: Flow,
    gone: Arc<AtomicU64>,
}

/// The body of an answer. It breaks off when its reader waits and nothing has come for so long.
pub(super) struct Inward {
    inner: reqwest::Body,
    quiet: Interval,
}

impl Outward {
    pub(super) const fn new(inner: Flow, gone: Arc<AtomicU64>) -> Self {
        Self { inner, gone }
    }
}

impl Inward {
    /// Call within a runtime.
    pub(super) fn new(inner: reqwest::Body, patience: Duration) -> Self {
        let mut quiet = interval(patience);
        quiet.reset();
        Self { inner, quiet }
    }
}

impl Body for Outward {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) if !frame.is_data() => {}
                other => {
                    self.gone.fetch_add(1, Ordering::Relaxed);
                    return Poll::Ready(other);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Body for Inward {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            match Pin::new(&mut self.inner).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) if !frame.is_data() => {}
                Poll::Ready(Some(Ok(frame))) => {
                    self.quiet.reset();
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(_broken))) => return Poll::Ready(Some(Err(BrokenOff))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    let _at = ready!(self.quiet.poll_tick(context));
                    return Poll::Ready(Some(Err(BrokenOff)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::{Inward, Outward};
    use crate::engine::{BrokenOff, buffered};
    use bytes::Bytes;
    use http::HeaderMap;
    use http_body_util::BodyExt as _;
    use hyper::body::{Body as _, Frame};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::{Context, Poll};
    use std::time::Duration;

    #[tokio::test]
    async fn pieces_are_counted_and_trailers_stay_behind() {
        let last_first = vec![Frame::trailers(HeaderMap::new()), Frame::data(Bytes::from_static(b"a"))];
        let body = Frames(last_first).boxed();
        let gone = Arc::new(AtomicU64::new(0));
        let collected = Outward::new(body, Arc::clone(&gone)).collect().await.unwrap();
        assert!(collected.trailers().is_none());
        assert_eq!((collected.to_bytes().as_ref(), gone.load(Ordering::Relaxed)), (&b"a"[..], 2));
        let sized = Outward::new(buffered(Bytes::from_static(b"abc")), gone);
        assert_eq!(sized.size_hint().exact(), Some(3), "its length is known to the end");
    }

    #[tokio::test]
    async fn an_answer_that_falls_silent_breaks_off_and_one_whose_reader_is_slow_does_not() {
        let body = reqwest::Body::wrap(Silent(Some("late reader")));
        let mut inward = Inward::new(body, Duration::from_millis(1));
        let time_passes = tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>());
        assert!(time_passes.await.is_err());
        assert!(inward.frame().await.unwrap().is_ok(), "it was there all the time");
        assert_eq!(inward.frame().await.unwrap().unwrap_err(), BrokenOff);
    }

    struct Frames(Vec<Frame<Bytes>>);

    impl hyper::body::Body for Frames {
        type Data = Bytes;
        type Error = BrokenOff;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
            Poll::Ready(self.0.pop().map(Ok))
        }
    }

    struct Silent(Option<&'static str>);

    impl hyper::body::Body for Silent {
        type Data = Bytes;
        type Error = BrokenOff;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
            match self.0.take() {
                Some(text) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))),
                None => Poll::Pending,
            }
        }
    }
}
