//! Tests of the device flow (RFC 8628): asked at the provider's pace, beside everything else, and ended truthfully.

use super::world::{World, answer};
use super::{
    AccountChange, Completion, Event, Exchange, Found, Frozen, Pace, Rotation, Spent, Status, WireFault,
};
use crate::secret::AuthCode;
use std::time::Duration;

const PENDING: &str = r#"{"error":"authorization_pending"}"#;

fn begin(world: &mut World) {
    let frozen = Frozen {
        token_endpoint: "https://idp.example/token".into(),
        issuer: None,
        issuer_promised: false,
        redirect_uri: "https://grantd.example/cb".into(),
        verifier: None,
        nonce: None,
    };
    let until = world.now.plus(Duration::from_secs(600));
    world.happens(Event::CodeReceived(Box::new(Exchange {
        code: AuthCode::new("device"),
        frozen,
        account: AccountChange::Refused,
        pace: Some(Pace { interval: Duration::from_secs(5), until }),
    })));
    world.audit.clear();
}

fn asked() -> World {
    let mut world = World::new(Rotation::Strict);
    world.restart(Found::default());
    begin(&mut world);
    world.line();
    world
}

/// How long the machine waits before it asks again after this answer.
fn wait_after(world: &mut World, end: Completion) -> u64 {
    world.will("exchange", end);
    world.deadline();
    let before = world.now;
    world.machine.deadline().unwrap().since(before).as_secs()
}

#[test]
fn a_device_code_is_asked_for_until_it_is_entered_and_ends_as_a_consent_does() {
    let mut world = asked();
    let now = world.now;
    assert_eq!(wait_after(&mut world, answer(400, PENDING, now)), 5);
    assert_eq!(world.line(), "claim intend exchange release", "nothing is sealed");
    assert_eq!((world.audit.len(), world.status()), (0, Status::Pending), "a look is no transition");
    assert!(world.machine.view(world.now).message.contains("device code"));
    world.deadline();
    assert_eq!(world.line(), "claim intend exchange seal try seal publish store scrub release");
    assert_eq!((world.status(), world.told.len()), (Status::Connected, 0));
    assert_eq!(world.stored[0].generation, 1);
}

#[test]
fn the_providers_pace_is_kept() {
    let mut world = asked();
    let now = world.now;
    // GitHub says so with 200.
    assert_eq!(wait_after(&mut world, answer(200, PENDING, now)), 5);
    assert_eq!(wait_after(&mut world, answer(400, r#"{"error":"slow_down"}"#, now)), 10);
    assert_eq!(wait_after(&mut world, answer(400, PENDING, now)), 10, "from now on");
    assert_eq!(wait_after(&mut world, Completion::Answered(Spent::Lost(WireFault::Timeout))), 20);
    assert_eq!(wait_after(&mut world, answer(503, "", now)), 40);
}

#[test]
fn a_code_that_is_declined_or_not_entered_is_told_in_the_status() {
    let mut world = asked();
    world.will("exchange", answer(400, r#"{"error":"access_denied"}"#, world.now));
    world.deadline();
    assert_eq!(world.line(), "claim intend exchange seal scrub release");
    assert!(world.machine.view(world.now).message.contains("access_denied"));
    assert_eq!((world.machine.deadline(), world.told.len()), (None, 0));
    let mut world = asked();
    world.now = world.now.plus(Duration::from_secs(600));
    world.happens(Event::DeadlineReached);
    assert!(world.machine.view(world.now).message.contains("expired_token"));
    assert_eq!((world.line().as_str(), world.machine.deadline()), ("", None));
}

#[test]
fn an_answer_that_holds_tokens_is_never_taken_for_a_not_yet() {
    let mut world = asked();
    let odd = r#"{"access_token":"a","refresh_token":"r","note":"authorization_pending"}"#;
    world.will("exchange", answer(200, odd, world.now));
    world.deadline();
    assert_eq!(world.status(), Status::Connected);
}

#[test]
fn the_old_grant_lives_on_beside_a_device_code_and_a_revocation_ends_both() {
    let mut world = World::connected(Rotation::Strict);
    begin(&mut world);
    world.line();
    for _look in 0..3 {
        world.will("exchange", answer(400, PENDING, world.now));
        world.deadline();
    }
    assert_eq!(world.status(), Status::Connected);
    world.happens(Event::RotationAsked { by: super::Asker::Operator });
    assert_eq!(world.presented, ["r3"]);
    world.happens(Event::RevocationAsked { by: super::Asker::Operator });
    assert_eq!((world.status(), world.machine.deadline()), (Status::Revoked, None));
}
