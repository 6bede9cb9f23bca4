//! Tests of the machine while the store takes no writes, and after a crash in the middle of it.

use super::testing::record;
use super::world::{World, terms};
use super::{
    Answer, Asker, Completion, Dialect, Event, Found, Intent, Loaded, Mark, Outage, Purpose, Recovery,
    Rotation, Sealed, SlotFate, Spent, StoreFault, Terms, WireFault,
};
use crate::secret::{RefreshToken, SecretBytes};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// A world whose store refuses everything from now on, with generation 4 sealed and not stored.
fn store_is_down(world: &mut World) {
    for _write in 0..10_000 {
        world.will("store", Completion::StoreFailed(StoreFault::Unreachable));
    }
    world.deadline();
    assert_eq!(world.presented, ["r3"]);
}

/// Lets deadlines pass until a refresh token is presented again, and says when that was.
fn next_presentation(world: &mut World) -> Timestamp {
    let before = world.presented.len();
    for _deadline in 0..5_000 {
        world.deadline();
        if world.presented.len() > before {
            return world.now;
        }
    }
    panic!("nothing was presented");
}

fn answered(purpose: Purpose, generation: u64, n: &str, at: Timestamp) -> Arc<Sealed> {
    Arc::new(Sealed {
        purpose,
        generation,
        account: super::Account::default(),
        accepted: false,
        scope: None,
        presented: Some(RefreshToken::new(format!("presented-{n}"))),
        presented_expires_at: None,
        nonce: None,
        answer: Arc::new(Answer {
            status: 200,
            form_encoded: false,
            retry_after: None,
            whole: true,
            body: SecretBytes::new(
                format!(r#"{{"access_token":"a-{n}","refresh_token":"r-{n}","expires_in":3600}}"#)
                    .into_bytes(),
            ),
            received_at: at,
        }),
    })
}

#[test]
fn while_the_store_is_down_a_strict_refresh_is_held_until_the_lease_is_about_to_end() {
    let mut world = World::connected(Rotation::Strict);
    store_is_down(&mut world);
    let end = world.machine.view(world.now).expires_at.unwrap();
    let at = next_presentation(&mut world);
    assert_eq!(world.presented, ["r3", "fresh-1"]);
    let left = end.since(at);
    assert!(left <= Duration::from_secs(60) && left > Duration::ZERO, "{left:?} before the end");
    let view = world.machine.view(world.now);
    assert!(view.token_valid && !view.stored);
    assert_eq!(view.generation, 5);
}

#[test]
fn several_lives_pass_with_the_store_down_and_its_age_is_told() {
    let mut world = World::connected(Rotation::Strict);
    store_is_down(&mut world);
    let since = world.machine.view(world.now).unstored_since.unwrap();
    for _life in 0..4 {
        next_presentation(&mut world);
        assert!(world.served());
    }
    assert_eq!(world.machine.view(world.now).unstored_since, Some(since));
    world.script.clear();
    world.deadline();
    let view = world.machine.view(world.now);
    assert!(view.stored && world.mark.generation == 8, "{view:?}");
}

#[test]
fn with_outage_spool_or_without_rotation_nothing_is_held() {
    for (rotation, outage) in
        [(Rotation::Strict, Outage::Spool), (Rotation::None, Outage::Hold), (Rotation::ReuseOk, Outage::Hold)]
    {
        let mut world = World::with(Terms { outage, ..terms(rotation) });
        world.restore_record(3);
        store_is_down(&mut world);
        let end = world.machine.view(world.now).expires_at.unwrap();
        let at = next_presentation(&mut world);
        assert!(end.since(at) > Duration::from_secs(600), "{rotation:?}");
    }
}

#[test]
fn a_secret_out_of_its_daily_budget_is_refreshed_late() {
    let mut world = World::with(Terms { write_budget: Some(2), ..terms(Rotation::Strict) });
    world.restore_record(3);
    let early = next_presentation(&mut world);
    let end = world.machine.view(early).expires_at.unwrap();
    assert!(end.since(next_presentation(&mut world)) > Duration::from_secs(600));
    let end = world.machine.view(world.now).expires_at.unwrap();
    let late = next_presentation(&mut world);
    assert!(end.since(late) <= Duration::from_secs(60));
    assert_eq!(world.machine.view(world.now).last_error.as_deref(), Some("write_budget"));
}

#[test]
fn an_unstored_answer_is_spared_when_a_later_spend_comes_to_nothing() {
    let mut world = World::connected(Rotation::Strict);
    store_is_down(&mut world);
    world.will("refresh", super::world::answer(429, "{}", world.now));
    next_presentation(&mut world);
    assert_eq!(world.fates.last(), Some(&SlotFate::Spared(vec![4])));
}

#[test]
fn after_a_crash_the_newest_refresh_is_resumed_and_a_later_intent_is_in_doubt() {
    let mut world = World::new(Rotation::Strict);
    let at = world.now;
    world.restart(Found {
        mark: Mark { generation: 3, ..Mark::default() },
        answers: vec![answered(Purpose::Refresh, 4, "4", at), answered(Purpose::Refresh, 5, "5", at)],
        intent: Some(Intent { purpose: Purpose::Refresh, generation: 5, attempt: 1, at, doubt: None }),
    });
    assert!(world.served());
    assert!(world.presented.is_empty(), "a token in doubt was presented at once");
    assert!(world.machine.view(world.now).message.contains("in doubt"));
    assert!(generations(&world).is_empty(), "a write of the run before may still be on its way");
    world.deadline();
    assert_eq!((world.now.since(at), generations(&world)), (Duration::from_secs(5), vec![5]));
}

fn generations(world: &World) -> Vec<u64> {
    world.stored.iter().map(|record| record.generation).collect()
}

#[test]
fn a_store_that_hangs_costs_no_lease_and_gets_one_write_at_a_time() {
    let mut world = World::connected(Rotation::Strict);
    world.held.insert("store");
    world.deadline();
    for life in 1..4 {
        let end = world.machine.view(world.now).expires_at.unwrap();
        let at = next_presentation(&mut world);
        let left = end.since(at);
        assert!(left <= Duration::from_secs(60) && left > Duration::ZERO, "life {life}: {left:?}");
        assert!(world.served());
    }
    assert_eq!(generations(&world), [4], "the first write has not ended");
    world.let_go("store");
    assert_eq!(generations(&world), [4, 7], "what was overtaken is not written");
    assert!(world.machine.view(world.now).stored);
    assert_eq!((world.mark.generation, world.fates.last()), (7, Some(&SlotFate::Scrubbed)));
}

#[test]
fn a_write_that_ends_during_a_spend_scrubs_nothing_before_the_spend_has_ended() {
    for end in [Completion::Stored, Completion::IdTaken] {
        let mut world = World::connected(Rotation::Strict);
        world.held.insert("store");
        world.deadline();
        world.held.insert("refresh");
        next_presentation(&mut world);
        world.line();
        let stored = matches!(end, Completion::Stored);
        world.will("store", end);
        world.let_go("store");
        assert_eq!(world.line(), "", "the slot is the spend's");
        assert_eq!(world.machine.view(world.now).stored, stored);
        world.let_go("refresh");
        assert_eq!(world.line(), "seal publish store scrub release");
        assert_eq!((generations(&world), world.mark.generation), (vec![4, 5], 5));
    }
}

#[test]
fn a_person_who_waits_for_a_hanging_store_hears_once_the_newest_is_stored() {
    let mut world = World::new(Rotation::Strict);
    world.restart(Found::default());
    world.held.insert("store");
    world.consent();
    next_presentation(&mut world);
    assert!(world.told.is_empty());
    world.let_go("store");
    assert!(matches!(&world.told[..], [super::ConsentEnd::Stored { .. }]), "{:?}", world.told);
}

#[test]
fn a_revocation_clears_nothing_before_a_hanging_write_has_ended() {
    let mut world = World::connected(Rotation::Strict);
    world.held.insert("store");
    world.deadline();
    world.held.insert("refresh");
    next_presentation(&mut world);
    world.happens(Event::RevocationAsked { by: Asker::Operator });
    world.let_go("refresh");
    assert!(!world.line().contains("clear"), "the write would come after it");
    world.let_go("store");
    assert_eq!(world.revoked_upstream, [Some("fresh-2".to_owned())]);
    assert_eq!(generations(&world), [4, 6]);
}

#[test]
fn after_a_crash_an_undecided_consent_is_tried_after_the_refresh_before_it() {
    let mut world = World::new(Rotation::Strict);
    let at = world.now;
    world.restart(Found {
        mark: Mark { generation: 3, ..Mark::default() },
        answers: vec![answered(Purpose::Refresh, 4, "4", at), answered(Purpose::Exchange, 5, "5", at)],
        intent: None,
    });
    let stored: Vec<_> = world.stored.iter().map(|record| record.generation).collect();
    assert_eq!(stored, [4, 5]);
    assert_eq!(world.fates[0], SlotFate::Spared(vec![5]), "the undecided answer was scrubbed");
    let newest = world.stored.last().unwrap();
    assert_eq!(newest.refresh_token.as_ref().unwrap().expose_secret(), "r-5");
}

#[test]
fn after_a_crash_a_consent_that_comes_to_nothing_leaves_the_stored_grant() {
    let mut world = World::new(Rotation::Strict);
    let at = world.now;
    world.will("try", Completion::Tried(super::Trial::Invalid));
    let old = super::Record {
        written_at: at,
        expires_at: Some(at.plus(Duration::from_secs(3600))),
        ..record("github", 3, "r3")
    };
    world.will("load", Completion::Loaded(Loaded::Record(Box::new(old))));
    world.restart(Found {
        mark: Mark { generation: 3, ..Mark::default() },
        answers: vec![answered(Purpose::Exchange, 4, "4", at)],
        intent: Some(Intent { purpose: Purpose::Refresh, generation: 3, attempt: 1, at, doubt: None }),
    });
    assert_eq!(world.revoked_upstream, [Some("r-4".to_owned())]);
    assert!(world.served() && world.presented.is_empty());
    assert!(world.machine.view(world.now).message.contains("in doubt"));
    world.happens(Event::DeadlineReached);
}

#[test]
fn an_unreadable_answer_is_recovered_once_its_dialect_is_known() {
    let mut world = World::connected(Rotation::Strict);
    let odd = r#"{"data":{"access_token":"a-odd","refresh_token":"r-odd","expires_in":3600}}"#;
    world.now = world.machine.deadline().unwrap();
    world.will("refresh", super::world::answer(200, odd, world.now));
    world.deadline();
    let kept = vec![world.sealed.clone().unwrap()];
    assert!(matches!(world.machine.recovery(&[]), Recovery::Nothing));
    assert!(matches!(world.machine.recovery(&kept), Recovery::Unreadable(1)));
    let dialect = Dialect { tokens_at: Some("/data".into()), ..Dialect::default() };
    world.machine.set_terms(Terms { dialect, ..terms(Rotation::Strict) });
    let Recovery::Readable(sealed) = world.machine.recovery(&kept) else { panic!("not readable") };
    world.line();
    world.happens(Event::Recovered(sealed));
    assert_eq!(world.line(), "seal publish store scrub release");
    assert_eq!(world.presented, ["r3"], "the token in doubt was presented again");
    assert_eq!(world.stored[0].refresh_token.as_ref().unwrap().expose_secret(), "r-odd");
    assert!(matches!(world.machine.recovery(&kept), Recovery::Overtaken));
}

#[test]
fn a_grace_counts_from_the_presentation_and_not_from_the_moment_its_loss_was_noticed() {
    let mut world = World::connected(Rotation::Grace(Duration::from_secs(10)));
    world.held.insert("refresh");
    world.deadline();
    world.now = world.now.plus(Duration::from_secs(10));
    world.will("refresh", Completion::Answered(Spent::Lost(WireFault::Timeout)));
    world.let_go("refresh");
    let lease_ends = world.machine.view(world.now).expires_at.unwrap();
    assert_eq!(lease_ends.since(next_presentation(&mut world)), Duration::from_secs(60));
}

#[test]
fn a_refusal_settles_no_doubt() {
    let mut world = World::connected(Rotation::Grace(Duration::from_secs(30)));
    world.will("refresh", Completion::Answered(Spent::Lost(WireFault::Reset)));
    let at = world.machine.deadline().unwrap();
    world.will("refresh", super::world::throttled(Duration::from_secs(120), at));
    world.deadline();
    world.deadline();
    assert_eq!(world.presented, ["r3", "r3"]);
    let lease_ends = world.machine.view(world.now).expires_at.unwrap();
    assert_eq!(lease_ends.since(next_presentation(&mut world)), Duration::from_secs(60));
}

#[test]
fn a_doubt_outlives_a_consent_that_came_to_nothing_and_a_restart() {
    let mut world = World::connected(Rotation::Strict);
    world.will("refresh", Completion::Answered(Spent::Lost(WireFault::Reset)));
    world.deadline();
    world.will("exchange", super::world::answer(400, r#"{"error":"invalid_grant"}"#, world.now));
    world.consent();
    let mark = world.mark;
    let intents = world.intents.clone();
    for found in [
        Found { mark, ..Found::default() },
        // The crash came right after the intent to exchange had taken the other one's cell.
        Found { mark: Mark { doubt: None, ..mark }, intent: intents.last().cloned(), ..Found::default() },
    ] {
        let mut again = World::new(Rotation::Strict);
        again.now = world.now;
        let stored = super::Record {
            expires_at: Some(world.now.plus(Duration::from_secs(600))),
            written_at: world.now,
            ..record("github", 3, "r3")
        };
        again.will("load", Completion::Loaded(Loaded::Record(Box::new(stored))));
        again.restart(found);
        assert!(again.machine.view(again.now).message.contains("in doubt"));
        assert_eq!(
            next_presentation(&mut again),
            world.now.plus(Duration::from_secs(540)),
            "the last chance"
        );
    }
}

#[test]
fn beside_a_lease_without_an_end_a_token_in_doubt_or_not_stored_is_not_spent() {
    let mut world = World::new(Rotation::Strict);
    let endless = super::Record { expires_at: None, ..record("github", 3, "r3") };
    world.will("load", Completion::Loaded(Loaded::Record(Box::new(endless))));
    world.restart(Found { mark: Mark { generation: 3, ..Mark::default() }, ..Found::default() });
    world.will("refresh", Completion::Answered(Spent::Lost(WireFault::Reset)));
    world.happens(Event::RotationAsked { by: Asker::Operator });
    assert_eq!((world.presented.len(), world.machine.deadline()), (1, None));
    assert!(world.machine.view(world.now).message.contains("not presented again while it lives"));
}
