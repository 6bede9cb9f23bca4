//! The window in which a crash loses an answer: from its last byte in memory to its seal durable on disk.
//!
//! Seals answers of a usual size as the daemon does, on a blocking thread of a runtime, intent and scrub included between two of
//! them. `cargo bench --bench window -- [DIRECTORY]` measures the disk under DIRECTORY (default: the target folder's).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot go on has failed, and it prints its figures"
)]

use grantd::edge::spool::Spool;
use grantd::lifecycle::{
    Account, Answer, Identity, IntegrationId, Intent, Mark, OrganizationId, ProviderId, Purpose, Sealed,
    SlotFate,
};
use grantd::secret::{RefreshToken, SealKey, SecretBytes};
use grantd::time::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() {
    let named = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let under = named.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let home = tempfile::tempdir_in(&under).unwrap();
    let (spool, _) = Spool::open(home.path(), Arc::new(SealKey::new([7; 32]))).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut windows: Vec<Duration> = (1..=ROUNDS)
        .map(|generation| {
            let (spool, who) = (spool.clone(), who());
            let intent = Intent {
                purpose: Purpose::Refresh,
                generation: generation - 1,
                attempt: 1,
                at: Timestamp::EPOCH,
                doubt: None,
            };
            spool.intend(&who, &intent).unwrap();
            let (kept, sealed) = (spool.clone(), answer(generation));
            let received = now();
            let same = who.clone();
            runtime.block_on(runtime.spawn_blocking(move || kept.seal(&same, &sealed))).unwrap().unwrap();
            let window = received.elapsed();
            let mark = Mark { generation, ..Mark::default() };
            spool.mark(&who, mark, &SlotFate::Scrubbed).unwrap();
            window
        })
        .collect();
    windows.sort();
    let at = |permille: usize| windows.get(windows.len() * permille / 1000).copied().unwrap_or_default();
    println!(
        "last byte to durable, {ROUNDS} answers on {}: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        under.display(),
        millis(at(500)),
        millis(at(900)),
        millis(at(990)),
        millis(windows.last().copied().unwrap_or_default()),
    );
}

const ROUNDS: u64 = 2_000;

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn who() -> Identity {
    Identity {
        integration: IntegrationId::parse("github").unwrap(),
        organization: OrganizationId::parse("acme").unwrap(),
        provider: ProviderId::parse("github").unwrap(),
    }
}

/// An answer of two KiB, as of a provider whose tokens are signed documents.
fn answer(generation: u64) -> Arc<Sealed> {
    Arc::new(Sealed {
        purpose: Purpose::Refresh,
        generation,
        account: Account::default(),
        scope: None,
        presented: Some(RefreshToken::new("r".repeat(64))),
        presented_expires_at: None,
        nonce: None,
        accepted: false,
        answer: Arc::new(Answer {
            status: 200,
            form_encoded: false,
            retry_after: None,
            whole: true,
            body: SecretBytes::new(vec![b'x'; 2048]),
            received_at: Timestamp::EPOCH,
        }),
    })
}
