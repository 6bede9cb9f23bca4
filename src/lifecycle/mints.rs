//! Tests of grants that need no person: minted when they are needed, kept nowhere, never in doubt, ended for good.

use super::testing::record;
use super::world::{World, answer, terms, throttled};
use super::{
    Asker, Completion, Event, Found, Intent, Loaded, Mark, Origin, Purpose, Record, Revocation, Rotation,
    Spent, Standing, Status, Terms, WireFault,
};
use std::time::Duration;

fn machine() -> World {
    World::with(Terms { origin: Origin::Machine, can_try: false, ..terms(Rotation::None) })
}

/// A machine that has its first token.
fn minted() -> World {
    let mut world = machine();
    world.rotates = false;
    world.restart(Found::default());
    world.deadline();
    assert_eq!(world.line(), "claim intend mint seal publish scrub release");
    world
}

fn lost() -> Completion {
    Completion::Answered(Spent::Lost(WireFault::Reset))
}

#[test]
fn a_machine_grant_connects_by_itself_and_asks_the_store_nothing() {
    let mut world = machine();
    world.restart(Found::default());
    assert_eq!((world.line().as_str(), world.status()), ("", Status::Pending));
    assert!(world.machine.deadline().unwrap().since(world.now) <= Duration::from_millis(1500));
    let world = minted();
    let view = world.machine.view(world.now);
    assert_eq!((view.status, view.connected, view.stored), (Status::Connected, true, false));
    assert!(world.stored.is_empty() && view.unstored_since.is_none());
}

#[test]
fn a_mint_is_repeated_as_its_token_ends_and_never_written() {
    let mut world = minted();
    for _life in 0..3 {
        world.deadline();
        assert_eq!(world.line(), "claim intend mint seal publish scrub release");
    }
    assert!(world.stored.is_empty() && world.presented.is_empty());
    world.happens(Event::RotationAsked { by: Asker::Operator });
    assert_eq!(world.minted.len(), 5);
}

#[test]
fn a_refresh_token_that_comes_along_is_dropped() {
    let mut world = minted();
    world.rotates = true;
    world.deadline();
    assert_eq!(world.line(), "claim intend mint seal publish scrub release");
    world.deadline();
    assert!(world.presented.is_empty() && world.stored.is_empty());
}

#[test]
fn a_lost_mint_is_asked_for_again_and_never_in_doubt() {
    let now = minted().now;
    let unsealed = "claim intend mint scrub release";
    let sealed = "claim intend mint seal scrub release";
    for (end, line) in
        [(lost(), unsealed), (answer(503, "", now), sealed), (answer(200, "<html>", now), sealed)]
    {
        let mut world = minted();
        world.will("mint", end);
        world.deadline();
        assert_eq!(world.line(), line);
        assert_eq!((world.status(), world.mark.doubt), (Status::Warning, None));
        world.deadline();
        assert_eq!(world.status(), Status::Connected);
    }
}

#[test]
fn a_crash_in_a_mint_leaves_no_doubt() {
    let mut world = machine();
    world.rotates = false;
    let intent = Intent { purpose: Purpose::Refresh, generation: 0, attempt: 1, at: world.now, doubt: None };
    world.restart(Found { intent: Some(intent), ..Found::default() });
    world.deadline();
    assert_eq!(
        (world.line().as_str(), world.status()),
        ("claim intend mint seal publish scrub release", Status::Connected)
    );
    let sealed = world.sealed.clone();
    let mut again = machine();
    again.restart(Found { answers: sealed.into_iter().collect(), ..Found::default() });
    assert_eq!((again.line().as_str(), again.served()), ("publish scrub release", true));
}

#[test]
fn a_machine_that_is_refused_waits_for_its_operator() {
    for body in [r#"{"error":"invalid_client"}"#, r#"{"error":"invalid_grant"}"#] {
        let mut world = minted();
        world.will("mint", answer(400, body, world.now));
        world.deadline();
        assert_eq!(world.status(), Status::Warning, "{body}");
        assert!(world.served() && world.machine.view(world.now).message.contains("rejects"));
        world.happens(Event::RotationAsked { by: Asker::Operator });
        assert_eq!(world.status(), Status::Connected, "{body}");
    }
    let mut world = minted();
    world.will("mint", throttled(Duration::from_secs(90), world.now));
    world.deadline();
    assert!(world.machine.deadline().unwrap().since(world.now) >= Duration::from_secs(90));
}

#[test]
fn a_revoked_machine_stays_revoked_until_an_operator_connects_it() {
    let mut world = minted();
    world.happens(Event::RevocationAsked { by: Asker::Operator });
    assert_eq!(world.line(), "withdraw mark revoke_upstream scrub");
    assert_eq!((world.status(), world.mark.standing), (Status::Revoked, Standing::Revoked));
    assert_eq!(world.machine.upstream(), Some(Revocation::Confirmed));
    for by in [Asker::Operator, Asker::App, Asker::Schedule] {
        world.happens(Event::RotationAsked { by });
    }
    assert_eq!((world.line().as_str(), world.machine.deadline()), ("", None));
    let mut again = machine();
    again.rotates = false;
    again.restart(Found { mark: world.mark, ..Found::default() });
    assert_eq!((again.line().as_str(), again.status()), ("", Status::Revoked));
    again.happens(Event::EnablingAsked);
    assert_eq!(again.line(), "scrub release claim intend mint seal publish scrub release");
    assert_eq!((again.status(), again.mark.standing), (Status::Connected, Standing::Normal));
}

#[test]
fn a_deleted_machine_is_pending_until_an_operator_connects_it() {
    let mut world = minted();
    world.happens(Event::DeletionAsked);
    assert_eq!(world.line(), "withdraw mark revoke_upstream scrub");
    assert_eq!((world.status(), world.mark.standing), (Status::Pending, Standing::Deleted));
    let mut again = machine();
    again.rotates = false;
    again.restart(Found { mark: world.mark, ..Found::default() });
    assert_eq!((again.line().as_str(), again.machine.deadline()), ("", None));
    again.happens(Event::EnablingAsked);
    assert_eq!((again.status(), again.mark.standing), (Status::Connected, Standing::Normal));
}

#[test]
fn a_revocation_before_the_first_mint_and_one_that_a_crash_cut_come_to_their_end() {
    let mut world = machine();
    world.restart(Found::default());
    world.happens(Event::RevocationAsked { by: Asker::Operator });
    assert_eq!((world.line().as_str(), world.status()), ("mark scrub", Status::Revoked));
    let mut again = machine();
    again.restart(Found {
        mark: Mark { standing: Standing::Revoking, ..Mark::default() },
        ..Found::default()
    });
    assert_eq!((again.line().as_str(), again.mark.standing), ("scrub", Standing::Revoked));
}

#[test]
fn a_revocation_waits_for_a_mint_in_flight_and_tells_of_what_it_brought() {
    let mut world = minted();
    world.held.insert("mint");
    world.deadline();
    world.happens(Event::RevocationAsked { by: Asker::Operator });
    assert!(!world.served());
    world.let_go("mint");
    assert_eq!(world.line(), "claim intend mint withdraw mark seal mark release revoke_upstream scrub");
    assert_eq!(world.status(), Status::Revoked);
}

fn brokered(life: u64) -> World {
    let mut world = World::with(Terms { origin: Origin::Broker, can_try: false, ..terms(Rotation::None) });
    (world.rotates, world.life) = (false, life);
    let found = Record {
        refresh_token: None,
        connected_account: Some("ca_1".into()),
        written_at: world.now,
        expires_at: Some(world.now.plus(Duration::from_secs(3600))),
        ..record("github", 3, "")
    };
    world.will("load", Completion::Loaded(Loaded::Record(Box::new(found))));
    world.restart(Found { mark: Mark { generation: 3, ..Mark::default() }, ..Found::default() });
    assert_eq!(world.line(), "load publish");
    world
}

#[test]
fn a_connected_account_is_stored_without_a_refresh_token_and_given_back_by_its_name() {
    let mut world = World::with(Terms { origin: Origin::Broker, can_try: false, ..terms(Rotation::None) });
    world.restart(Found::default());
    let body = r#"{"access_token":"a","expires_in":3600,"refresh_token":"never","connected_account":"ca_1"}"#;
    world.will("exchange", answer(200, body, world.now));
    world.consent();
    let stored = world.stored.last().unwrap();
    assert_eq!(stored.connected_account.as_deref(), Some("ca_1"));
    assert!(stored.refresh_token.is_none());
    world.happens(Event::RevocationAsked { by: Asker::Operator });
    assert_eq!(world.status(), Status::Revoked);
    assert_eq!(world.given_back, [Some("ca_1".to_owned())]);
}

#[test]
fn a_brokers_token_is_fetched_a_minute_before_it_ends_and_never_written() {
    let mut world = brokered(3600);
    let began = world.now;
    world.deadline();
    assert_eq!(world.now.since(began), Duration::from_secs(3540));
    assert_eq!(world.line(), "claim intend mint seal publish scrub release");
    assert_eq!(world.minted, [Some("ca_1".to_owned())]);
    assert!(world.stored.is_empty());
}

#[test]
fn a_broker_that_hands_out_the_same_token_is_not_asked_in_a_spin() {
    let mut world = brokered(3600);
    world.life = 1;
    world.deadline();
    world.line();
    let before = world.now;
    world.now = world.now.plus(Duration::from_millis(700));
    world.happens(Event::DeadlineReached);
    assert_eq!(world.line(), "");
    world.deadline();
    assert!(world.now.since(before) >= Duration::from_secs(1));
}

#[test]
fn a_connected_account_that_is_gone_needs_a_person() {
    let mut world = brokered(3600);
    world.will("mint", answer(400, r#"{"error":"invalid_grant"}"#, world.now));
    world.deadline();
    assert_eq!(world.status(), Status::NeedsReauth);
    assert_eq!(world.line(), "claim intend mint seal load scrub release");
}
