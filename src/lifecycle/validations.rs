//! Tests of validation, a row of the transition table (ARCHITECTURE.md) each.

use super::testing::record;
use super::world::{World, answer, terms};
use super::{
    Account, Asker, Completion, Event, ExpectedAccount, Found, Loaded, Mark, Record, Rotation, Status, Terms,
    Trial,
};
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(600);

fn watched() -> Terms {
    Terms { validate_every: Some(EVERY), ..terms(Rotation::Strict) }
}

fn named(id: &str, username: &str) -> Trial {
    Trial::Valid(Account { id: Some(id.into()), username: Some(username.into()), ..Account::default() })
}

/// Connected by account 42, just now.
fn connected() -> World {
    connected_under(watched())
}

fn connected_under(terms: Terms) -> World {
    let mut world = World::with(terms);
    world.restart(Found::default());
    world.will("try", Completion::Tried(named("42", "acme-bot")));
    world.consent();
    world.line();
    world.audit.clear();
    world
}

/// A token that neither expires nor can be refreshed.
fn everlasting() -> World {
    let mut world = World::with(Terms { rotation: Rotation::None, ..watched() });
    let found = Record { refresh_token: None, expires_at: None, ..record("github", 3, "r3") };
    world.will("load", Completion::Loaded(Loaded::Record(Box::new(found))));
    world.restart(Found { mark: Mark { generation: 3, ..Mark::default() }, ..Found::default() });
    world.line();
    world
}

fn cause(world: &World) -> Option<String> {
    world.machine.view(world.now).last_error
}

#[test]
fn the_token_in_use_is_tried_from_time_to_time() {
    let mut world = connected();
    for _time in 0..3 {
        let before = world.now;
        world.will("try", Completion::Tried(named("42", "renamed")));
        world.deadline();
        assert_eq!(world.line(), "try");
        let gap = world.now.since(before);
        assert!(gap <= EVERY && gap >= EVERY * 9 / 10, "{gap:?}");
        let view = world.machine.view(world.now);
        assert_eq!((view.last_validated, view.status), (Some(world.now), Status::Connected));
        assert_eq!(view.account.username.as_deref(), Some("renamed"), "the account is refreshed");
    }
    assert!(world.audit.is_empty() && world.stored.len() == 1);
}

#[test]
fn what_a_start_finds_is_tried_within_the_interval() {
    let mut world = everlasting();
    let before = world.now;
    world.deadline();
    assert_eq!(world.line(), "try");
    assert!(world.now.since(before) <= EVERY);
}

#[test]
fn a_fresh_token_is_tried_soon_and_nothing_waits_for_it() {
    let mut world = connected();
    world.held.insert("try");
    world.happens(Event::RotationAsked { by: Asker::Operator });
    assert_eq!(world.line(), "claim intend refresh seal publish store scrub release");
    let before = world.now;
    world.deadline();
    assert_eq!(world.line(), "try");
    assert!(world.now.since(before) <= Duration::from_secs(5));
    world.happens(Event::RotationAsked { by: Asker::Operator });
    assert_eq!(world.line(), "claim intend refresh seal publish store scrub release");
}

#[test]
fn another_account_is_told_and_never_adopted() {
    let mut world = connected();
    world.will("try", Completion::Tried(named("43", "mallory")));
    world.deadline();
    let view = world.machine.view(world.now);
    assert_eq!((view.status, view.last_error.as_deref()), (Status::Warning, Some("account_changed")));
    assert_eq!(view.account.id.as_deref(), Some("42"));
    assert!(view.token_valid);
    let first = view.detected_at;
    world.will("try", Completion::Tried(named("43", "mallory")));
    world.deadline();
    assert_eq!((world.audit.len(), world.machine.view(world.now).detected_at), (1, first));
    world.will("try", Completion::Tried(named("42", "acme-bot")));
    world.deadline();
    assert_eq!((world.status(), cause(&world)), (Status::Connected, None));
}

#[test]
fn an_account_that_is_not_the_pinned_one_any_more_is_told() {
    let expected_account =
        ExpectedAccount { username: Some("acme-bot".into()), ..ExpectedAccount::default() };
    let mut world = connected_under(Terms { expected_account, ..watched() });
    world.will("try", Completion::Tried(named("42", "renamed")));
    world.deadline();
    assert_eq!((world.status(), cause(&world).as_deref()), (Status::Warning, Some("wrong_account")));
}

#[test]
fn an_invalid_token_is_refreshed_once_and_then_a_warning() {
    let mut world = connected();
    world.will("try", Completion::Tried(Trial::Invalid));
    world.will("try", Completion::Tried(Trial::Invalid));
    world.deadline();
    assert_eq!(world.line(), "try claim intend refresh seal publish store scrub release");
    assert_eq!(world.status(), Status::Connected);
    world.deadline();
    assert_eq!(world.line(), "try");
    assert_eq!((world.status(), world.served()), (Status::Warning, true));
    assert_eq!(cause(&world).as_deref(), Some("api_still_unauthorized"));
    world.will("try", Completion::Tried(named("42", "acme-bot")));
    world.deadline();
    assert_eq!((world.status(), cause(&world)), (Status::Connected, None));
}

#[test]
fn an_invalid_token_whose_refresh_is_refused_needs_a_person() {
    let mut world = connected();
    world.will("try", Completion::Tried(Trial::Invalid));
    world.will("refresh", answer(400, r#"{"error":"invalid_grant"}"#, world.now));
    world.deadline();
    assert_eq!((world.status(), world.served()), (Status::NeedsReauth, false));
    world.will("try", Completion::Tried(named("42", "acme-bot")));
    world.consent();
    assert_eq!((world.status(), world.served()), (Status::Connected, true));
}

#[test]
fn an_invalid_token_that_cannot_be_refreshed_needs_a_person() {
    let mut world = everlasting();
    world.will("try", Completion::Tried(Trial::Invalid));
    world.deadline();
    assert_eq!(world.line(), "try withdraw scrub release");
    assert_eq!((world.status(), world.served()), (Status::NeedsReauth, false));
    assert!(world.presented.is_empty() && world.stored.is_empty(), "the record is kept");
}

#[test]
fn a_401_to_a_token_that_cannot_be_refreshed_is_checked_at_the_provider() {
    let mut world = everlasting();
    world.will("try", Completion::Tried(Trial::Invalid));
    let issue = world.machine.heard().issue;
    world.happens(Event::ApiAnswered { answer: super::ApiAnswer::of(401), issue });
    assert_eq!(world.status(), Status::NeedsReauth);
    let mut world = everlasting();
    let issue = world.machine.heard().issue;
    world.happens(Event::ApiAnswered { answer: super::ApiAnswer::of(401), issue });
    assert_eq!(world.line(), "try");
    assert_eq!((world.status(), world.served()), (Status::Connected, true), "the provider knows better");
}

#[test]
fn silence_is_a_warning_only_when_it_lasts_and_nothing_is_lost_by_it() {
    let mut world = connected();
    for tries in 1..=4 {
        world.will("try", Completion::Tried(Trial::Silent));
        world.deadline();
        assert_eq!(world.status() == Status::Warning, tries >= 3, "{tries}");
        assert!(world.served());
    }
    assert_eq!(cause(&world).as_deref(), Some("validation_silent"));
    assert_eq!(world.audit.len(), 1);
    world.deadline();
    assert_eq!((world.status(), cause(&world)), (Status::Connected, None));
}

#[test]
fn a_consent_during_an_outage_is_stored_with_a_warning_and_validated_later() {
    let mut world = World::with(watched());
    world.restart(Found::default());
    world.will("try", Completion::Tried(Trial::Silent));
    world.consent();
    let view = world.machine.view(world.now);
    assert!(view.stored && view.token_valid && view.last_validated.is_none());
    assert_eq!((view.status, view.last_error.as_deref()), (Status::Warning, Some("not_validated")));
    world.will("try", Completion::Tried(named("42", "acme-bot")));
    world.deadline();
    let view = world.machine.view(world.now);
    assert_eq!((view.status, view.account.id.as_deref()), (Status::Connected, Some("42")));
}

#[test]
fn a_token_is_tried_when_somebody_asks() {
    let mut world = World::connected(Rotation::Strict);
    world.held.insert("try");
    world.happens(Event::ValidationAsked);
    assert_eq!(world.line(), "try");
    assert!(world.machine.is_validating());
    world.let_go("try");
    assert!(!world.machine.is_validating() && !world.machine.was_silent());
    assert_eq!(world.machine.view(world.now).last_validated, Some(world.now));
    world.will("try", Completion::Tried(Trial::Silent));
    world.happens(Event::ValidationAsked);
    assert!(!world.machine.is_validating() && world.machine.was_silent());
}

#[test]
fn a_validation_of_a_token_that_is_not_in_use_any_more_says_nothing() {
    let mut world = connected();
    world.held.insert("try");
    world.deadline();
    world.happens(Event::RotationAsked { by: Asker::Operator });
    world.line();
    world.will("try", Completion::Tried(Trial::Invalid));
    world.let_go("try");
    assert_eq!((world.presented.len(), world.status()), (1, Status::Connected));
    assert_eq!(world.line(), "try", "its successor is tried");
}
