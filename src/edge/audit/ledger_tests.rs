//! The trail as its users see it: what is recorded comes back, whatever happens to the disk and the process in between.

use super::head::HeadKey;
use super::ledger::Ledger;
use super::verify::{End, Fault, files_below, verify};
use crate::engine::{Clock, Trail as _};
use crate::lifecycle::testing::identity;
use crate::lifecycle::{Actor, AuditEvent};
use crate::secret::SealKey;
use crate::time::Timestamp;
use serde_json::Value;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const LARGE: u64 = 1024 * 1024;

pub(super) struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }
}

/// A state directory and its trail.
pub(super) struct Home(TempDir);

impl Home {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn open(&self, largest: u64) -> Ledger {
        self.open_with(100, largest)
    }

    fn open_with(&self, most: usize, largest: u64) -> Ledger {
        Ledger::within(most, largest, self.0.path(), &key(), Arc::new(Still)).unwrap()
    }

    pub(super) fn directory(&self) -> PathBuf {
        super::directory(self.0.path())
    }

    pub(super) fn file(&self, number: u32) -> PathBuf {
        self.directory().join(super::files::name(number))
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        files_below(&self.directory()).unwrap()
    }

    pub(super) fn end(&self) -> Result<End, Fault> {
        let key = HeadKey::derive(&key()).unwrap();
        verify(&self.files(), Some((&self.directory(), &key))).map(|verified| verified.end)
    }

    /// `(seq, what, outcome, count)` of each event, as `Trail::after` gives them.
    async fn events(&self, ledger: &Ledger) -> Vec<(u64, String, String, u64)> {
        ledger.flush();
        ledger.after(0, 1000).await.iter().map(shape).collect()
    }
}

pub(super) fn key() -> SealKey {
    SealKey::new([7; 32])
}

pub(super) fn event(what: &'static str) -> AuditEvent {
    AuditEvent::done(what, Actor::Host { uid: 0 }).about(&identity("github"))
}

fn shape(event: &Value) -> (u64, String, String, u64) {
    let text = |name: &str| event[name].as_str().unwrap().to_owned();
    (event["seq"].as_u64().unwrap(), text("what"), text("outcome"), event["count"].as_u64().unwrap())
}

fn shaped(seq: u64, what: &str, outcome: &str, count: u64) -> (u64, String, String, u64) {
    (seq, what.to_owned(), outcome.to_owned(), count)
}

/// Three events, written, and the daemon gone.
fn left(largest: u64) -> Home {
    let home = Home::new();
    let ledger = home.open(largest);
    for what in ["one", "two", "three"] {
        ledger.record(event(what));
        ledger.flush();
    }
    home
}

fn edit(file: &Path, change: impl FnOnce(&str) -> String) {
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, change(&text)).unwrap();
}

#[tokio::test]
async fn what_is_recorded_comes_back_in_order_and_in_pages() {
    let home = Home::new();
    let ledger = home.open(LARGE);
    for what in ["one", "two", "three"] {
        ledger.record(event(what));
    }
    ledger.flush();
    let page: Vec<_> = ledger.after(0, 2).await.iter().map(shape).collect();
    assert_eq!(page, [shaped(1, "one", "ok", 1), shaped(2, "two", "ok", 1)]);
    let rest = ledger.after(2, 2).await;
    assert_eq!(rest.iter().map(shape).collect::<Vec<_>>(), [shaped(3, "three", "ok", 1)]);
    assert_eq!(rest[0]["who"], serde_json::json!({"kind": "host", "uid": 0}));
    assert_eq!(rest[0]["integration"], "github");
    assert!(ledger.after(3, 2).await.is_empty());
}

#[tokio::test]
async fn a_page_in_the_middle_of_a_long_trail_is_found() {
    let home = Home::new();
    let ledger = home.open_with(5000, 4 * LARGE);
    for _ in 0..5000 {
        ledger.record(event("many"));
    }
    ledger.flush();
    assert!(std::fs::metadata(home.file(1)).unwrap().len() > LARGE, "several halves");
    for after in [0, 1, 2344, 2999, 4998] {
        let seqs: Vec<_> = ledger.after(after, 3).await.iter().map(|event| shape(event).0).collect();
        let expected: Vec<_> = (after + 1..=5000).take(3).collect();
        assert_eq!(seqs, expected);
    }
}

#[tokio::test]
async fn a_closed_trail_has_everything_and_the_next_one_goes_on_from_it() {
    let home = Home::new();
    let ledger = home.open(LARGE);
    for _ in 0..50 {
        ledger.record(event("one"));
    }
    drop(ledger);
    let ledger = home.open(LARGE);
    ledger.record(event("two"));
    assert_eq!(home.events(&ledger).await.last(), Some(&shaped(51, "two", "ok", 1)));
    assert_eq!(home.end(), Ok(End::Sealed));
}

#[test]
fn nobody_else_can_read_it() {
    let home = left(LARGE);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&home.directory()), 0o700);
    assert_eq!((mode(&home.file(1)), mode(&home.directory().join("head"))), (0o600, 0o600));
}

#[tokio::test]
async fn a_full_file_is_followed_by_the_next_and_the_chain_goes_on() {
    let home = left(500);
    assert_eq!(home.files(), [home.file(1), home.file(2), home.file(3)]);
    let ledger = home.open(500);
    ledger.record(event("four"));
    let words: Vec<_> = home.events(&ledger).await.into_iter().map(|(seq, what, ..)| (seq, what)).collect();
    assert_eq!(words, [(1, "one".into()), (2, "two".into()), (3, "three".into()), (4, "four".into())]);
    assert_eq!(home.files().len(), 4);
    assert_eq!(home.end(), Ok(End::Sealed));
}

#[tokio::test]
async fn a_torn_line_is_moved_aside_and_told() {
    let home = left(LARGE);
    edit(&home.file(1), |text| format!("{text}{{\"schema\":\"grantd-audit/1\",\"seq\":4,\"at\":"));
    assert!(matches!(home.end(), Err(Fault::Torn { line: 4, .. })));
    let ledger = home.open(LARGE);
    assert_eq!(home.events(&ledger).await[3..], [shaped(4, "trail_repaired", "torn", 1)]);
    assert_eq!(home.end(), Ok(End::Sealed));
    let aside = std::fs::read_dir(home.directory())
        .unwrap()
        .map(|entry| entry.unwrap())
        .find(|entry| entry.file_name().to_string_lossy().starts_with("torn-"))
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(aside.path()).unwrap(),
        "{\"schema\":\"grantd-audit/1\",\"seq\":4,\"at\":"
    );
}

#[tokio::test]
async fn lines_that_follow_the_head_are_kept_and_told() {
    let home = left(LARGE);
    let head = std::fs::read(home.directory().join("head")).unwrap();
    let ledger = home.open(LARGE);
    ledger.record(event("four"));
    ledger.record(event("five"));
    drop(ledger);
    std::fs::write(home.directory().join("head"), head).unwrap();
    assert!(matches!(home.end(), Err(Fault::Appended { line: 4, .. })));
    let ledger = home.open(LARGE);
    assert_eq!(
        home.events(&ledger).await[4..],
        [shaped(5, "five", "ok", 1), shaped(6, "trail_unsealed", "unsealed", 2)]
    );
    assert_eq!(home.end(), Ok(End::Sealed));
}

#[tokio::test]
async fn what_was_changed_while_nobody_watched_is_told_and_stays_findable() {
    type Change = fn(&str) -> String;
    let cut: Change = |text| text.lines().take(2).map(|line| format!("{line}\n")).collect();
    let torn: Change = |text| text.trim_end().to_owned();
    let changed: Change = |text| text.replace("three", "eerht");
    for (change, outcome) in [(cut, "cut"), (torn, "cut"), (changed, "changed")] {
        let home = left(LARGE);
        edit(&home.file(1), change);
        let ledger = home.open(LARGE);
        let events = home.events(&ledger).await;
        assert_eq!(events.last(), Some(&shaped(4, "trail_broken", outcome, 1)));
        assert!(home.end().is_err(), "{outcome}: {:?}", home.end());
        assert_eq!(home.files().len(), 2, "what was found is left as it is");
    }
    let home = left(LARGE);
    std::fs::remove_file(home.file(1)).unwrap();
    let ledger = home.open(LARGE);
    assert_eq!(home.events(&ledger).await, [shaped(4, "trail_broken", "removed", 1)]);
}

#[tokio::test]
async fn a_missing_or_forged_head_is_told_and_the_chain_goes_on() {
    for (forged, outcome) in [(None, "head_missing"), (Some("{}"), "head_forged")] {
        let home = left(LARGE);
        let head = home.directory().join("head");
        match forged {
            None => std::fs::remove_file(head).unwrap(),
            Some(text) => std::fs::write(head, text).unwrap(),
        }
        assert!(matches!(home.end(), Err(Fault::NoHead { .. } | Fault::ForgedHead { .. })));
        let ledger = home.open(LARGE);
        assert_eq!(home.events(&ledger).await[3..], [shaped(4, "trail_broken", outcome, 1)]);
        assert_eq!(home.end(), Ok(End::Sealed));
    }
}

#[tokio::test]
async fn while_the_disk_is_full_events_wait_and_what_finds_no_place_is_counted() {
    let home = Home::new();
    let ledger = home.open_with(4, LARGE);
    // Writing to this device says that there is no space left.
    symlink("/dev/full", home.file(1)).unwrap();
    for what in ["one", "two", "three", "four", "five", "six"] {
        ledger.record(event(what));
    }
    assert!(ledger.after(0, 10).await.is_empty(), "reads go on");
    std::fs::remove_file(home.file(1)).unwrap();
    assert_eq!(
        home.events(&ledger).await,
        [
            shaped(1, "one", "ok", 1),
            shaped(2, "two", "ok", 1),
            shaped(3, "three", "ok", 1),
            shaped(4, "four", "ok", 1),
            shaped(5, "trail_overflowed", "dropped", 2),
        ]
    );
    assert_eq!(home.end(), Ok(End::Sealed));
}

#[test]
fn a_disk_that_takes_nothing_does_not_hold_up_the_end() {
    let home = Home::new();
    let ledger = home.open(LARGE);
    symlink("/dev/full", home.file(1)).unwrap();
    ledger.record(event("one"));
    ledger.close();
}
