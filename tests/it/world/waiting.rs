//! Waiting: the one place of the tests that sleeps or reads a clock.
//!
//! Nothing waits for a span of time to pass; everything waits for something to become true, up to a deadline.

use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Looks until there is something to see; the deadline is generous, and its end is a failure that says what was awaited.
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(Duration::from_secs(20), what, look)
}

/// As [`eventually`], with a deadline of its own.
#[track_caller]
pub fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(watch.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep(HOP);
    }
}

/// Looks for two seconds at what must not happen.
#[track_caller]
pub fn never(what: &str, mut look: impl FnMut() -> bool) {
    let watch = Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(2) {
        assert!(!look(), "it happened: {what}");
        std::thread::sleep(HOP);
    }
}

/// Measures how long something takes.
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "tests measure real time, here and nowhere else")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Lets time pass, for what is about nothing but time: a process that was stopped, an outage that lasts.
    pub fn rest(&self, until: Duration) {
        std::thread::sleep(until.saturating_sub(self.elapsed()));
    }

    /// Burns time, for the one kind of test that needs a moment and nothing to wait for: when to kill.
    pub fn spin(&self, until: Duration) {
        while self.elapsed() < until {
            std::thread::yield_now();
        }
    }
}

/// Runs a future to its end on the runtime that all tests share.
pub fn block_on<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

/// The runtime of proxies and clients. The tests themselves are plain threads.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    })
}

const HOP: Duration = Duration::from_millis(20);
