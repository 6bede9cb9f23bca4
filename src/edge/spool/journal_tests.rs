//! The spool through restarts: what is kept is found again, torn and foreign cells are not used, nothing is lost or leaked.

use super::journal::{Leftover, Spool, SpoolError};
use crate::lifecycle::testing::identity;
use crate::lifecycle::{Account, Answer, Intent, Mark, Purpose, Sealed, SlotFate};
use crate::secret::{RefreshToken, SealKey, SecretBytes};
use crate::time::Timestamp;
use std::path::Path;
use std::sync::Arc;

fn spool(directory: &Path) -> Spool {
    Spool::open(directory, Arc::new(SealKey::new([7; 32]))).unwrap().0
}

fn intent(generation: u64) -> Intent {
    Intent { purpose: Purpose::Refresh, generation, attempt: 1, at: Timestamp::EPOCH, doubt: None }
}

fn answer(generation: u64, body: usize) -> Arc<Sealed> {
    Arc::new(Sealed {
        purpose: Purpose::Refresh,
        generation,
        account: Account::default(),
        accepted: false,
        scope: None,
        presented: Some(RefreshToken::new("canary-presented")),
        presented_expires_at: None,
        nonce: None,
        answer: Arc::new(Answer {
            status: 200,
            form_encoded: false,
            retry_after: None,
            whole: true,
            body: SecretBytes::new(vec![b'c'; body]),
            received_at: Timestamp::EPOCH,
        }),
    })
}

fn marked(generation: u64) -> Mark {
    Mark { generation, ..Mark::default() }
}

#[test]
fn what_is_kept_is_found_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let (one, two) = (identity("one"), identity("two"));
    {
        let spool = spool(home.path());
        spool.intend(&one, &intent(3)).unwrap();
        spool.intend(&two, &intent(8)).unwrap();
        spool.seal(&two, &answer(9, Answer::MAX_BODY)).unwrap();
        spool.mark(&two, marked(8), &SlotFate::Kept).unwrap();
    }
    let spool = spool(home.path());
    let found = spool.find(&one);
    assert_eq!((found.answers.len(), found.intent.map(|intent| intent.generation)), (0, Some(3)));
    let found = spool.find(&two);
    assert_eq!(found.mark, marked(8));
    assert_eq!((found.answers.len(), found.intent), (1, None));
    assert_eq!(found.answers[0].answer.body.len(), Answer::MAX_BODY);
    let none = spool.find(&identity("three"));
    assert!(none.answers.is_empty() && none.intent.is_none());
}

#[test]
fn a_mark_scrubs_the_slot_and_outlives_it() {
    let home = tempfile::tempdir().unwrap();
    let who = identity("one");
    for generation in 1..=2000 {
        let spool = spool(home.path());
        for generation in generation * 5..generation * 5 + 5 {
            spool.intend(&who, &intent(generation)).unwrap();
            spool.seal(&who, &answer(generation + 1, 10)).unwrap();
            spool.mark(&who, marked(generation + 1), &SlotFate::Scrubbed).unwrap();
        }
        if generation > 12 {
            break;
        }
    }
    let spool = spool(home.path());
    let found = spool.find(&who);
    assert!(found.answers.is_empty() && found.intent.is_none());
    assert_eq!(found.mark.generation, 70);
    let files = std::fs::read_dir(home.path().join("spool")).unwrap().count();
    assert_eq!(files, 2, "cells are used again");
}

#[test]
fn an_answer_at_or_below_the_high_water_mark_is_done() {
    let home = tempfile::tempdir().unwrap();
    let who = identity("one");
    let spool = spool(home.path());
    spool.seal(&who, &answer(4, 10)).unwrap();
    spool.mark(&who, marked(4), &SlotFate::Kept).unwrap();
    assert!(spool.find(&who).answers.is_empty());
}

#[test]
fn an_answer_outlives_a_later_spend_until_the_store_has_it() {
    let home = tempfile::tempdir().unwrap();
    let who = identity("one");
    {
        let spool = spool(home.path());
        spool.seal(&who, &answer(4, 10)).unwrap();
        spool.intend(&who, &intent(4)).unwrap();
    }
    {
        let spool = spool(home.path());
        let found = spool.find(&who);
        assert_eq!((found.answers.len(), found.intent), (1, Some(intent(4))));
        spool.seal(&who, &answer(5, 10)).unwrap();
    }
    let spool = spool(home.path());
    let found = spool.find(&who);
    let generations: Vec<_> = found.answers.iter().map(|sealed| sealed.generation).collect();
    assert_eq!((generations, found.intent), (vec![4, 5], None));
    spool.mark(&who, marked(3), &SlotFate::Spared(vec![4])).unwrap();
    assert_eq!(spool.find(&who).answers.len(), 1);
    spool.mark(&who, marked(4), &SlotFate::Scrubbed).unwrap();
    assert!(spool.find(&who).answers.is_empty());
}

#[test]
fn an_answer_in_quarantine_is_found_again_by_its_owner_alone() {
    let home = tempfile::tempdir().unwrap();
    let spool = spool(home.path());
    spool.quarantine(&identity("one"), &answer(4, 10)).unwrap();
    spool.quarantine(&identity("one"), &answer(4, 10)).unwrap();
    let found = spool.quarantined(&identity("one"));
    assert_eq!(found.iter().map(|sealed| sealed.generation).collect::<Vec<_>>(), [4]);
    assert!(spool.quarantined(&identity("two")).is_empty());
}

#[test]
fn a_copied_state_directory_is_refused_with_a_remedy() {
    let home = tempfile::tempdir().unwrap();
    let (first, second) = (home.path().join("first"), home.path().join("second"));
    spool(&first).intend(&identity("one"), &intent(3)).unwrap();
    std::fs::create_dir_all(second.join("spool")).unwrap();
    for file in ["host", "spool/small-0000", "spool/large-0000"] {
        std::fs::copy(first.join(file), second.join(file)).unwrap();
    }
    let refused = Spool::open(&second, Arc::new(SealKey::new([7; 32])));
    assert!(matches!(refused, Err(SpoolError::Elsewhere(_))));
    std::fs::remove_file(second.join("host")).unwrap();
    assert_eq!(spool(&second).find(&identity("one")).intent, Some(intent(3)));
}

#[test]
fn a_torn_newer_cell_leaves_the_older_one() {
    let home = tempfile::tempdir().unwrap();
    let who = identity("one");
    {
        let spool = spool(home.path());
        spool.mark(&who, marked(1), &SlotFate::Kept).unwrap();
        spool.mark(&who, marked(2), &SlotFate::Kept).unwrap();
    }
    // As if the second mark's write had been torn, and the first one's scrub never reached the disk.
    let file = home.path().join("spool/small-0000");
    let mut bytes = std::fs::read(&file).unwrap();
    let second = bytes[1024..2048].to_vec();
    {
        let fresh = tempfile::tempdir().unwrap();
        let spool = spool(fresh.path());
        spool.mark(&who, marked(1), &SlotFate::Kept).unwrap();
        drop(spool);
        let older = std::fs::read(fresh.path().join("spool/small-0000")).unwrap();
        bytes[..1024].copy_from_slice(&older[..1024]);
    }
    bytes[1024..2048].copy_from_slice(&second);
    bytes[1100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let (spool, leftovers) = Spool::open(home.path(), Arc::new(SealKey::new([7; 32]))).unwrap();
    assert_eq!(spool.find(&who).mark, marked(1));
    let [Leftover::Unreadable { copy }] = leftovers.as_slice() else { panic!("{leftovers:?}") };
    assert!(copy.exists());
}

#[test]
fn another_key_and_another_daemon_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let first = spool(home.path());
    first.intend(&identity("one"), &intent(1)).unwrap();
    let again = Spool::open(home.path(), Arc::new(SealKey::new([7; 32])));
    assert!(matches!(again, Err(SpoolError::Locked(_))));
    drop(first);
    let other = Spool::open(home.path(), Arc::new(SealKey::new([8; 32])));
    assert!(matches!(other, Err(SpoolError::WrongKey(_))));
}

#[test]
fn a_torn_only_cell_is_no_wrong_key() {
    let home = tempfile::tempdir().unwrap();
    spool(home.path()).intend(&identity("one"), &intent(1)).unwrap();
    let file = home.path().join("spool/small-0000");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let (spool, leftovers) = Spool::open(home.path(), Arc::new(SealKey::new([7; 32]))).unwrap();
    assert!(matches!(leftovers.as_slice(), [Leftover::Unreadable { .. }]));
    assert_eq!(spool.find(&identity("one")).intent, None);
}

#[test]
fn no_secret_reaches_the_disk_in_clear() {
    let home = tempfile::tempdir().unwrap();
    let spool = spool(home.path());
    spool.seal(&identity("one"), &answer(2, 64)).unwrap();
    let bytes = std::fs::read(home.path().join("spool/large-0000")).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"canary" || window == b"cccccc"));
}

#[test]
fn cells_of_an_integration_that_is_gone_are_reported_and_stay() {
    let home = tempfile::tempdir().unwrap();
    let (one, two) = (identity("one"), identity("two"));
    let spool = spool(home.path());
    spool.seal(&one, &answer(2, 64)).unwrap();
    assert_eq!(spool.unconfigured([&two].into_iter()), [Leftover::Unconfigured(one.clone())]);
    assert!(spool.unconfigured([&one].into_iter()).is_empty());
}
