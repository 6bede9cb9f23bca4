//! The trail in use: events are queued, and a thread of its own writes them; whoever records one never waits for the disk.
//!
//! A batch is written a quarter of a second after its first event, at once if that cannot wait. While the disk takes nothing, events
//! stay in the queue; what no longer fits is counted, and the count becomes an event. Each event is a line of the log as well, at
//! once, whatever becomes of the disk.

use super::files::{Files, Finding, Noted};
use super::head::HeadKey;
use super::line::{Whom, plain};
use super::pages;
use crate::engine::{Clock, Pending, Trail};
use crate::lifecycle::{Actor, AuditEvent, Code};
use crate::secret::SealKey;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The audit trail of one state directory. Closing or dropping it writes what is queued.
pub struct Ledger {
    directory: PathBuf,
    clock: Arc<dyn Clock>,
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Why the trail cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit trail in {directory} cannot be used ({kind}): let grantd's user own state.directory")]
pub struct LedgerError {
    /// The directory of the trail.
    pub directory: PathBuf,
    /// The kind of error.
    pub kind: io::ErrorKind,
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    most: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Noted>,
    dropped: u64,
    urgent: bool,
    closing: bool,
    /// How many events the writer is at work on.
    taken: usize,
}

/// What the writer took: events, and how many found no place.
struct Taken {
    batch: Vec<Noted>,
    dropped: u64,
}

impl Ledger {
    /// Opens the trail below a state directory, whose lock the caller holds, and begins to write.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open(state: &Path, key: &SealKey, clock: Arc<dyn Clock>) -> Result<Self, LedgerError> {
        Self::within(MOST_WAITING, LARGEST_FILE, state, key, clock)
    }

    /// As [`Ledger::open`], with other bounds: how many events wait, and how large a file gets.
    pub(super) fn within(
        most: usize,
        largest: u64,
        state: &Path,
        key: &SealKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LedgerError> {
        let directory = super::directory(state);
        let unusable = |error: io::Error| LedgerError { directory: directory.clone(), kind: error.kind() };
        let key = HeadKey::derive(key).ok_or_else(|| unusable(io::ErrorKind::Other.into()))?;
        let (files, findings) = Files::open(&directory, key, largest).map_err(unusable)?;
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new(), most });
        let ledger = Self {
            clock: Arc::clone(&clock),
            queue: Arc::clone(&queue),
            writer: Mutex::default(),
            directory: directory.clone(),
        };
        for finding in findings {
            ledger.record(told(finding));
        }
        let writer = thread::Builder::new()
            .name("grantd-audit".into())
            .spawn(move || keep(&queue, files, clock.as_ref()))
            .map_err(unusable)?;
        *ledger.writer() = Some(writer);
        Ok(ledger)
    }

    /// Writes what is queued and ends. What is recorded afterwards reaches the log alone.
    pub fn close(&self) {
        self.queue.state().closing = true;
        self.queue.changed.notify_all();
        let writer = self.writer().take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the thread of the audit trail broke off");
        }
    }

    /// Waits until what was recorded before is on disk, or the trail is closed.
    #[cfg(test)]
    pub(super) fn flush(&self) {
        self.queue.state().urgent = true;
        self.queue.changed.notify_all();
        let busy = |state: &mut State| (!state.waiting.is_empty() || state.taken > 0) && !state.closing;
        drop(self.queue.changed.wait_while(self.queue.state(), busy));
    }

    fn writer(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}

impl Trail for Ledger {
    fn record(&self, event: AuditEvent) {
        say(&event);
        let noted = Noted { at: self.clock.now(), event };
        let urgent = cannot_wait(&noted.event);
        let mut state = self.queue.state();
        if state.waiting.len().saturating_add(state.taken) >= self.queue.most || state.closing {
            state.dropped = state.dropped.saturating_add(1);
            return;
        }
        state.urgent |= urgent;
        state.waiting.push_back(noted);
        let wake = urgent || matches!(state.waiting.len(), 1 | MANY);
        drop(state);
        if wake {
            self.queue.changed.notify_all();
        }
    }

    fn after(&self, sequence: u64, most: usize) -> Pending<Vec<serde_json::Value>> {
        let directory = self.directory.clone();
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || pages::after(&directory, sequence, most)).await;
            match read {
                Ok(Ok(events)) => events,
                Ok(Err(error)) => {
                    tracing::warn!(error = %error.kind(), "the audit trail cannot be read");
                    Vec::new()
                }
                Err(_broken) => Vec::new(),
            }
        })
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for events, and a moment for more of them unless one is urgent. `None` when the trail is closed and nothing waits.
    fn next(&self) -> Option<Taken> {
        let idle = |state: &mut State| state.waiting.is_empty() && state.dropped == 0 && !state.closing;
        let state = self.changed.wait_while(self.state(), idle).unwrap_or_else(PoisonError::into_inner);
        let calm = |state: &mut State| !state.urgent && !state.closing && state.waiting.len() < MANY;
        let (mut state, _late) =
            self.changed.wait_timeout_while(state, LATEST, calm).unwrap_or_else(PoisonError::into_inner);
        let batch: Vec<Noted> = state.waiting.drain(..).collect();
        let dropped = std::mem::take(&mut state.dropped);
        (state.urgent, state.taken) = (false, batch.len());
        (!batch.is_empty() || dropped > 0).then_some(Taken { batch, dropped })
    }

    /// What was taken is written; or it is put back, and left for a while. Says how many wait.
    fn done(&self, unwritten: Option<Taken>) -> usize {
        let mut state = self.state();
        state.taken = 0;
        let Some(Taken { batch, dropped }) = unwritten else {
            self.changed.notify_all();
            return state.waiting.len();
        };
        state.dropped = state.dropped.saturating_add(dropped);
        for noted in batch.into_iter().rev() {
            state.waiting.push_front(noted);
        }
        let open = |state: &mut State| !state.closing;
        let (state, _over) =
            self.changed.wait_timeout_while(state, PAUSE, open).unwrap_or_else(PoisonError::into_inner);
        state.waiting.len()
    }
}

/// The writer: takes what waits, writes it, and tries again what the disk did not take.
fn keep(queue: &Queue, mut files: Files, clock: &dyn Clock) {
    let mut failing = None;
    while let Some(Taken { batch, dropped }) = queue.next() {
        let mut whole = batch.clone();
        if dropped > 0 {
            whole.push(Noted { event: overflowed(dropped), at: clock.now() });
        }
        let written = files.append(&whole);
        // A head that is behind is owed: no reason to write the lines again.
        let sealed = files.settle();
        let fails = written.as_ref().err().or(sealed.as_ref().err()).map(io::Error::kind);
        tell(failing, fails);
        failing = fails;
        let unwritten = written.is_err().then_some(Taken { batch, dropped });
        let waiting = queue.done(unwritten);
        if written.is_err() && queue.state().closing {
            tracing::error!(
                waiting,
                "events are in the log and not in the audit trail: the disk took nothing"
            );
            return;
        }
    }
}

/// An outage is told once, and so is its end.
fn tell(before: Option<io::ErrorKind>, now: Option<io::ErrorKind>) {
    match (before, now) {
        (None, Some(error)) => tracing::error!(
            %error,
            "the audit trail takes no lines: events wait, and go to the log; make room in state.directory"
        ),
        (Some(_), None) => tracing::info!("the audit trail takes lines again"),
        (None, None) | (Some(_), Some(_)) => {}
    }
}

fn overflowed(dropped: u64) -> AuditEvent {
    AuditEvent { outcome: "dropped", count: dropped, ..AuditEvent::done("trail_overflowed", Actor::Grantd) }
}

fn told(finding: Finding) -> AuditEvent {
    let done = |what| AuditEvent::done(what, Actor::Grantd);
    match finding {
        Finding::Torn => AuditEvent { outcome: "torn", ..done("trail_repaired") },
        Finding::Unsealed(count) => AuditEvent { outcome: "unsealed", count, ..done("trail_unsealed") },
        Finding::Broken(why) => AuditEvent { outcome: why, ..done("trail_broken") },
    }
}

/// Refusals, and the end of a grant, are on disk at once. What apps read is counted, and comes in its own time.
fn cannot_wait(event: &AuditEvent) -> bool {
    match event.what {
        "token_read" => false,
        "needs_reauth" | "unusable" | "revoke_asked" | "revoked" | "revoked_upstream" | "consent_refused" => {
            true
        }
        _ => event.outcome != "ok",
    }
}

/// INFO: a life changed, or somebody did something. WARN: it heals by itself, and somebody should look. ERROR: a person must act.
fn weight(event: &AuditEvent) -> tracing::Level {
    match event.what {
        "needs_reauth" | "unusable" | "trail_broken" | "trail_overflowed" => tracing::Level::ERROR,
        "in_doubt" | "refresh_failed" | "store_failed" | "clear_failed" | "renumbered" | "unverified"
        | "consent_failed" | "consent_refused" | "trail_repaired" | "trail_unsealed" => tracing::Level::WARN,
        _ if event.outcome == Code::NotAnAdmin.word() => tracing::Level::WARN,
        _ => tracing::Level::INFO,
    }
}

macro_rules! say_at {
    ($level:ident, $event:expr, $who:expr, $message:literal) => {{
        let (event, who): (&AuditEvent, &Whom) = ($event, $who);
        let (identity, entry) = (event.identity.as_ref(), event.transition.as_ref());
        tracing::$level!(
            target: "grantd::audit",
            integration = identity.map(|identity| identity.integration.as_str()),
            organization = identity.map(|identity| identity.organization.as_str()),
            provider = identity.map(|identity| identity.provider.as_str()),
            what = event.what,
            who = who.kind,
            peer_uid = who.uid,
            unit = who.unit.as_deref(),
            operator = who.name.as_deref(),
            address = event.address.as_deref().map(plain).as_deref(),
            outcome = event.outcome,
            count = event.count,
            from = entry.map(|entry| entry.from),
            to = entry.map(|entry| entry.to),
            cause = entry.map(|entry| entry.cause),
            generation = entry.map(|entry| entry.generation),
            $message
        )
    }};
}

/// The event as a line of the log, at the level that its weight asks for.
fn say(event: &AuditEvent) {
    use tracing::Level;
    let who = Whom::of(&event.actor);
    match (weight(event), event.transition.is_some()) {
        (Level::ERROR, true) => say_at!(error, event, &who, "transition"),
        (Level::WARN, true) => say_at!(warn, event, &who, "transition"),
        (_, true) => say_at!(info, event, &who, "transition"),
        (Level::ERROR, false) => say_at!(error, event, &who, "operation"),
        (Level::WARN, false) => say_at!(warn, event, &who, "operation"),
        (_, false) => say_at!(info, event, &who, "operation"),
    }
}

/// How late a line may be, behind its event.
const LATEST: Duration = Duration::from_millis(250);
/// How long a disk that takes nothing is left alone.
const PAUSE: Duration = Duration::from_secs(1);
/// So many events are written without waiting for more.
const MANY: usize = 1024;
/// How many events may wait: a few megabytes.
const MOST_WAITING: usize = 16 * 1024;
const LARGEST_FILE: u64 = 64 * 1024 * 1024;
