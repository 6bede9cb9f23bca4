//! Tests of a revocation that meets something else: a spend in flight, a consent, a broken disk, a second revocation.

use super::testing::record;
use super::world::{World, answer};
use super::{
    Account, Asker, Code, Completion, ConsentEnd, Event, Found, Loaded, Mark, Record, Revocation, Rotation,
    SlotFate, SpoolFault, Standing, Status, StoreFault, Trial,
};
use std::sync::Arc;
use std::time::Duration;

fn revoke(world: &mut World) {
    world.happens(Event::RevocationAsked { by: Asker::Operator });
}

fn revoked() -> World {
    let mut world = World::connected(Rotation::Strict);
    revoke(&mut world);
    assert_eq!(world.mark.standing, Standing::Revoked);
    world.line();
    world
}

#[test]
fn what_a_spend_in_flight_brought_home_is_found_again_until_the_provider_was_told() {
    let mut world = World::connected(Rotation::Strict);
    world.held.extend(["refresh", "revoke_upstream"]);
    world.deadline();
    revoke(&mut world);
    world.let_go("refresh");
    assert_eq!(world.fates.last(), Some(&SlotFate::Kept), "the newest token was scrubbed");
    let mut again = World::new(Rotation::Strict);
    again.restart(Found {
        mark: world.mark,
        answers: world.sealed.clone().into_iter().collect(),
        intent: None,
    });
    assert_eq!(again.revoked_upstream, [Some("fresh-1".to_owned())]);
    assert_eq!((again.mark.generation, again.mark.standing), (6, Standing::Revoked));
}

#[test]
fn a_spend_that_was_not_sent_yet_is_called_off() {
    for held in ["claim", "intend"] {
        let mut world = World::connected(Rotation::Strict);
        world.held.insert(held);
        world.deadline();
        revoke(&mut world);
        world.let_go(held);
        assert!(world.presented.is_empty(), "{held}");
        assert_eq!(world.revoked_upstream, [Some("r3".to_owned())]);
    }
}

#[test]
fn a_stopping_daemon_sends_nothing_that_was_not_sent_yet() {
    for held in ["claim", "intend"] {
        let mut world = World::connected(Rotation::Strict);
        world.held.insert(held);
        world.deadline();
        world.drain();
        world.let_go(held);
        assert!(world.presented.is_empty(), "{held}");
    }
    let mut world = World::connected(Rotation::Strict);
    world.held.insert("intend");
    world.consent();
    world.drain();
    world.let_go("intend");
    assert!(matches!(&world.told[..], [ConsentEnd::Refused { code: Code::TokenUnavailable, .. }]));
}

#[test]
fn a_cleared_record_is_repeated_with_the_same_bytes() {
    let mut world = World::connected(Rotation::Strict);
    for _try in 0..3 {
        world.will("clear", Completion::StoreFailed(StoreFault::Unreachable));
    }
    revoke(&mut world);
    for _try in 0..3 {
        world.deadline();
    }
    let bytes: Vec<_> = world.stored.iter().map(|record| record.to_json().expose_secret().to_vec()).collect();
    assert_eq!(bytes.len(), 4);
    assert!(bytes.iter().all(|one| *one == bytes[0]));
}

#[test]
fn a_revocation_is_not_over_before_it_would_survive_a_crash() {
    let mut world = World::connected(Rotation::Strict);
    world.will("mark", Completion::MarkFailed(SpoolFault::Broken));
    world.will("clear", Completion::StoreFailed(StoreFault::Unreachable));
    revoke(&mut world);
    assert!(world.machine.is_busy(), "neither the disk nor the store knows of it");
    world.will("clear", Completion::StoreFailed(StoreFault::Unreachable));
    world.deadline();
    assert_eq!(
        world.line(),
        "withdraw mark revoke_upstream clear mark clear",
        "the tombstone is tried again"
    );
    assert!(!world.machine.is_busy());
}

#[test]
fn a_tombstone_that_races_with_an_older_mark_is_written_once_more() {
    let mut world = World::connected(Rotation::Strict);
    world.held.extend(["scrub", "mark"]);
    world.deadline();
    revoke(&mut world);
    world.line();
    world.let_go("mark");
    assert_eq!(world.line(), "", "the older mark is still being written");
    world.let_go("scrub");
    assert_eq!(world.line(), "release mark revoke_upstream clear scrub");
}

#[test]
fn a_mark_that_the_disk_did_not_take_is_written_again() {
    let mut world = World::connected(Rotation::Strict);
    world.will("scrub", Completion::MarkFailed(SpoolFault::Broken));
    revoke(&mut world);
    assert_eq!(world.machine.view(world.now).last_error.as_deref(), Some("disk_broken"));
    world.line();
    world.deadline();
    assert_eq!(world.line(), "scrub release");
    assert_eq!((world.machine.view(world.now).last_error, world.machine.deadline()), (None, None));
}

#[test]
fn a_second_revocation_ends_a_consent_that_was_under_way() {
    for held in ["exchange", "seal", "try", "scrub"] {
        let mut world = revoked();
        let cleared = Record::cleared(super::testing::identity("github"), 5, Account::default(), world.now);
        world.will("load", Completion::Loaded(Loaded::Record(Box::new(cleared))));
        world.held.insert(held);
        world.consent();
        revoke(&mut world);
        world.let_go(held);
        assert_eq!((world.status(), world.served()), (Status::Revoked, false), "{held}");
        assert_eq!(world.revoked_upstream.last(), Some(&Some("fresh-1".to_owned())), "{held}");
        assert!(matches!(
            world.told.last(),
            Some(ConsentEnd::Refused { code: Code::IntegrationRevoked, .. })
        ));
        assert_eq!(world.mark.standing, Standing::Revoked, "{held}");
    }
}

#[test]
fn a_consent_whose_revival_the_disk_does_not_take_is_given_back() {
    let mut world = revoked();
    world.will("scrub", Completion::MarkFailed(SpoolFault::Full));
    world.consent();
    assert_eq!(world.line(), "claim intend exchange seal try seal scrub tell revoke_upstream scrub release");
    assert_eq!((world.status(), world.mark.standing), (Status::Revoked, Standing::Revoked));
    assert_eq!(world.revoked_upstream.last(), Some(&Some("fresh-1".to_owned())));
}

#[test]
fn a_revocation_waits_for_a_record_that_the_store_does_not_show() {
    let mut world = World::new(Rotation::Strict);
    let mark = Mark { generation: 3, standing: Standing::Revoking, ..Mark::default() };
    world.will("load", Completion::Loaded(Loaded::Empty));
    world.will("load", Completion::Loaded(Loaded::Unusable("somebody's".into())));
    world.restart(Found { mark, ..Found::default() });
    world.deadline();
    assert!(world.revoked_upstream.is_empty());
    world.will("load", Completion::Loaded(Loaded::Record(Box::new(record("github", 3, "r3")))));
    world.deadline();
    assert_eq!(world.revoked_upstream, [Some("r3".to_owned())]);
}

#[test]
fn an_exchange_that_the_provider_refuses_after_a_revocation_leaves_it_revoked() {
    let mut world = World::connected(Rotation::Strict);
    world.held.insert("exchange");
    world.consent();
    revoke(&mut world);
    world.will("exchange", answer(400, r#"{"error":"invalid_grant"}"#, world.now));
    world.let_go("exchange");
    assert_eq!(world.revoked_upstream, [Some("r3".to_owned())]);
    assert_eq!(world.mark.standing, Standing::Revoked);
}

#[test]
fn a_consent_after_a_revocation_leaves_no_answer_of_the_old_grant_behind() {
    let mut world = World::connected(Rotation::Strict);
    for _write in 0..100 {
        world.will("store", Completion::StoreFailed(StoreFault::Unreachable));
        world.will("clear", Completion::StoreFailed(StoreFault::Unreachable));
    }
    world.deadline();
    revoke(&mut world);
    world.held.insert("store");
    world.consent();
    assert_eq!((world.mark.generation, world.mark.standing), (4, Standing::Normal));
    assert_eq!(world.fates.last(), Some(&SlotFate::Spared(vec![5])), "generation 4 is the revoked one");
}

#[test]
fn an_accepted_consent_is_not_judged_again_after_a_crash() {
    let mut first = World::new(Rotation::Strict);
    first.restart(Found::default());
    first.will("store", Completion::StoreFailed(StoreFault::Unreachable));
    first.consent();
    let sealed = first.sealed.clone().unwrap();
    for standing in [Standing::Normal, Standing::Revoked] {
        let mut world = World::new(Rotation::Strict);
        world.now = first.now.plus(Duration::from_secs(7200));
        world.will("try", Completion::Tried(Trial::Invalid));
        let mark = Mark { standing, ..Mark::default() };
        world.restart(Found { mark, answers: vec![Arc::clone(&sealed)], intent: None });
        let bytes = |world: &World| world.stored[0].to_json().expose_secret().to_vec();
        assert_eq!(bytes(&world), bytes(&first), "the same write, byte for byte");
        assert!(world.machine.view(world.now).connected && world.revoked_upstream.is_empty());
    }
}

#[test]
fn a_token_that_ended_before_it_was_tried_says_nothing_about_its_grant() {
    let mut world = World::new(Rotation::Strict);
    world.restart(Found::default());
    world.held.insert("try");
    world.consent();
    world.now = world.now.plus(Duration::from_secs(7200));
    world.will("try", Completion::Tried(Trial::Invalid));
    world.let_go("try");
    assert!(world.machine.view(world.now).connected && world.revoked_upstream.is_empty());
}

/// A revocation whose provider did not answer.
fn untold() -> World {
    let mut world = World::connected(Rotation::Strict);
    world.will("revoke_upstream", Completion::UpstreamRevoked(Revocation::Silent));
    revoke(&mut world);
    assert_eq!(
        world.line(),
        "withdraw mark revoke_upstream seal clear scrub",
        "sealed before the record is cleared"
    );
    assert_eq!(
        (world.mark.standing, world.fates.last()),
        (Standing::Revoked, Some(&SlotFate::Spared(vec![4])))
    );
    assert!(!world.machine.is_busy(), "nobody waits for it");
    assert!(world.machine.view(world.now).message.contains("told again"));
    world
}

#[test]
fn a_provider_that_does_not_answer_is_told_again_until_it_does() {
    let mut world = untold();
    world.will("revoke_upstream", Completion::UpstreamRevoked(Revocation::Silent));
    world.deadline();
    assert_eq!(world.line(), "revoke_upstream");
    world.deadline();
    assert_eq!(world.line(), "revoke_upstream scrub release");
    assert_eq!(world.revoked_upstream, vec![Some("r3".to_owned()); 3]);
    assert_eq!(world.fates.last(), Some(&SlotFate::Scrubbed));
    assert_eq!(world.machine.upstream(), Some(Revocation::Confirmed));
    assert!(world.machine.deadline().is_none());
}

#[test]
fn what_a_provider_must_still_be_told_of_survives_a_restart_and_ends_in_a_month() {
    let world = untold();
    let found =
        || Found { mark: world.mark, answers: world.sealed.clone().into_iter().collect(), intent: None };
    let mut again = World::new(Rotation::Strict);
    again.restart(found());
    assert_eq!((again.status(), again.line().as_str()), (Status::Revoked, ""));
    again.deadline();
    assert_eq!(again.revoked_upstream, [Some("r3".to_owned())]);
    let mut late = World::new(Rotation::Strict);
    late.now = late.now.plus(Duration::from_secs(31 * 86_400));
    late.restart(found());
    late.deadline();
    assert_eq!((late.line().as_str(), late.machine.deadline()), ("scrub release", None));
}

#[test]
fn a_new_consent_ends_what_the_provider_must_still_be_told_of() {
    let mut world = untold();
    world.consent();
    assert_eq!(world.status(), Status::Connected);
    assert_eq!(world.fates.last(), Some(&SlotFate::Scrubbed));
    assert_eq!(world.revoked_upstream.len(), 1, "to tell it now could end the new grant as well");
}

#[test]
fn a_revocation_that_the_disk_cannot_remember_is_not_over_before_it_can() {
    let mut world = World::connected(Rotation::Strict);
    world.will("revoke_upstream", Completion::UpstreamRevoked(Revocation::Silent));
    world.will("seal", Completion::SealFailed(SpoolFault::Full));
    revoke(&mut world);
    assert_eq!(world.line(), "withdraw mark revoke_upstream seal clear");
    assert_eq!(world.mark.standing, Standing::Revoking);
    world.deadline();
    assert_eq!((world.line().as_str(), world.mark.standing), ("seal clear scrub", Standing::Revoked));
}

#[test]
fn an_undecided_consent_of_a_revoked_grant_is_owed_even_where_the_store_is_empty() {
    let mut world = World::new(Rotation::Strict);
    world.restart(Found::default());
    world.held.insert("try");
    world.consent();
    world.will("revoke_upstream", Completion::UpstreamRevoked(Revocation::Silent));
    revoke(&mut world);
    world.let_go("try");
    assert!(world.line().ends_with("revoke_upstream load seal clear scrub"), "sealed, and not scrubbed");
    assert!(matches!(world.fates.last(), Some(SlotFate::Spared(_))));
}

#[test]
fn what_is_owed_outlives_a_mark_that_the_disk_did_not_take() {
    let world = untold();
    let found = Found {
        mark: Mark { generation: 3, ..Mark::default() },
        answers: world.sealed.clone().into_iter().collect(),
        intent: None,
    };
    let mut again = World::new(Rotation::Strict);
    let cleared = Record { generation: 5, ..world.stored.last().unwrap().duplicate() };
    again.will("load", Completion::Loaded(Loaded::Record(Box::new(cleared))));
    again.restart(found);
    assert_eq!(again.line(), "load clear scrub");
    again.deadline();
    assert_eq!(again.revoked_upstream, [Some("r3".to_owned())]);
}
