//! Tests of what an operator brings: sealed before it is spent, judged as a consent is, and kept through a crash.

use super::world::{World, answer, terms};
use super::{
    Account, Code, Completion, ConsentEnd, Event, Found, Intent, Origin, Purpose, Rotation, Spent,
    SpoolFault, Status, Terms, Trial, WireFault,
};
use crate::secret::Imported;

fn import(world: &mut World) {
    world.happens(Event::Imported(Imported::new("brought")));
}

fn unconnected() -> World {
    let mut world = World::new(Rotation::Strict);
    world.restart(Found::default());
    world.line();
    world
}

fn refused_with(world: &World) -> Option<Code> {
    match &world.told[..] {
        [ConsentEnd::Refused { code, .. }] => Some(*code),
        _ => None,
    }
}

#[test]
fn an_import_is_sealed_spent_once_tried_published_and_stored() {
    let mut world = unconnected();
    import(&mut world);
    assert_eq!(world.line(), "claim seal intend refresh seal try seal publish store tell scrub release");
    assert_eq!(
        (world.presented.as_slice(), world.status()),
        (&["brought".to_owned()][..], Status::Connected)
    );
    assert_eq!(world.stored[0].generation, 1);
    assert_eq!(world.stored[0].refresh_token.as_ref().unwrap().expose_secret(), "fresh-1");
    assert!(matches!(&world.told[..], [ConsentEnd::Stored { .. }]));
}

#[test]
fn an_imported_token_that_does_not_rotate_is_stored_as_it_was_brought() {
    let mut world = unconnected();
    world.rotates = false;
    import(&mut world);
    assert_eq!(world.stored[0].refresh_token.as_ref().unwrap().expose_secret(), "brought");
    let mut again = World::new(Rotation::Strict);
    again.rotates = false;
    again.restart(Found { answers: world.sealed.clone().into_iter().collect(), ..Found::default() });
    assert_eq!((again.status(), again.stored[0].generation), (Status::Connected, 1));
}

#[test]
fn an_import_that_is_refused_leaves_the_life_before_it() {
    for (status, body, code) in [
        (400, r#"{"error":"invalid_grant"}"#, Code::InvalidRequest),
        (401, r#"{"error":"invalid_client"}"#, Code::ProviderNotConfigured),
        (429, "", Code::TokenUnavailable),
    ] {
        let mut world = World::connected(Rotation::Strict);
        world.will("refresh", answer(status, body, world.now));
        import(&mut world);
        assert_eq!(world.line(), "claim seal intend refresh seal tell scrub release", "{body}");
        assert_eq!(refused_with(&world), Some(code));
        let view = world.machine.view(world.now);
        assert_eq!((view.status, view.generation), (Status::Connected, 3));
        world.deadline();
        assert_eq!(world.presented.last().map(String::as_str), Some("r3"));
    }
}

#[test]
fn an_import_that_nobody_answers_is_told_and_costs_the_old_grant_nothing() {
    for spent in [Spent::Lost(WireFault::Reset), Spent::NotSent(WireFault::Connect)] {
        let mut world = World::connected(Rotation::Strict);
        world.will("refresh", Completion::Answered(spent));
        import(&mut world);
        assert_eq!(world.line(), "claim seal intend refresh tell scrub release");
        assert_eq!((refused_with(&world), world.mark.doubt), (Some(Code::TokenUnavailable), None));
        assert_eq!(world.status(), Status::Connected);
    }
}

#[test]
fn an_import_that_the_disk_does_not_take_is_not_spent() {
    let mut world = unconnected();
    world.will("seal", Completion::SealFailed(SpoolFault::Full));
    import(&mut world);
    assert!(world.presented.is_empty());
    assert_eq!(refused_with(&world), Some(Code::TokenUnavailable));
}

#[test]
fn an_import_of_another_account_gives_back_only_what_the_provider_made_anew() {
    for (rotates, given_back) in [(true, vec![Some("fresh-1".to_owned())]), (false, Vec::new())] {
        let mut world = World::connected(Rotation::Strict);
        let named = |id: &str| Trial::Valid(Account { id: Some(id.into()), ..Account::default() });
        world.will("try", Completion::Tried(named("acme")));
        world.consent();
        world.told.clear();
        (world.rotates, world.presented) = (rotates, Vec::new());
        let before = world.machine.view(world.now).generation;
        world.will("try", Completion::Tried(named("mallory")));
        import(&mut world);
        assert_eq!(refused_with(&world), Some(Code::WrongAccount));
        assert_eq!(world.revoked_upstream.len(), given_back.len());
        assert_eq!(world.machine.view(world.now).generation, before);
    }
}

#[test]
fn after_a_crash_an_import_that_was_sealed_is_spent_and_tried_until_it_can_be_sent() {
    let mut world = unconnected();
    world.held.insert("intend");
    import(&mut world);
    assert_eq!(world.line(), "claim seal intend");
    let sealed = world.sealed.clone();
    let mut again = World::new(Rotation::Strict);
    again.will("refresh", Completion::Answered(Spent::NotSent(WireFault::Connect)));
    again.restart(Found { answers: sealed.clone().into_iter().collect(), ..Found::default() });
    assert_eq!(again.line(), "claim intend refresh release");
    assert!(!again.machine.is_busy());
    again.deadline();
    assert_eq!(again.line(), "claim intend refresh seal try seal publish store scrub release");
    assert_eq!((again.presented.len(), again.status(), again.told.len()), (2, Status::Connected, 0));
    // The last chance: nothing else of it can be lost.
    let mut sent = World::new(Rotation::Strict);
    let intent = Intent { purpose: Purpose::Exchange, generation: 0, attempt: 1, at: sent.now, doubt: None };
    sent.restart(Found { answers: sealed.into_iter().collect(), intent: Some(intent), ..Found::default() });
    assert_eq!((sent.presented.len(), sent.status()), (1, Status::Connected));
}

fn keys() -> World {
    let mut world = World::with(Terms { origin: Origin::Key, ..terms(Rotation::None) });
    world.restart(Found::default());
    world.line();
    world
}

#[test]
fn a_key_is_sealed_tried_published_and_stored_and_never_refreshed() {
    let mut world = keys();
    import(&mut world);
    assert_eq!(world.line(), "claim seal try seal publish store tell scrub release");
    let record = &world.stored[0];
    assert_eq!(record.access_token.as_ref().unwrap().expose_secret(), "brought");
    assert!(record.refresh_token.is_none() && record.expires_at.is_none());
    assert_eq!((world.status(), world.served()), (Status::Connected, true));
    assert!(world.presented.is_empty() && world.minted.is_empty());
    let mut again = keys();
    again.restart(Found { answers: world.sealed.clone().into_iter().collect(), ..Found::default() });
    assert_eq!((again.status(), again.served()), (Status::Connected, true));
}

#[test]
fn a_key_that_the_provider_rejects_is_not_kept_and_not_given_back() {
    let mut world = keys();
    world.will("try", Completion::Tried(Trial::Invalid));
    import(&mut world);
    assert_eq!(refused_with(&world), Some(Code::TokenValidationFailed));
    assert_eq!((world.status(), world.revoked_upstream.len(), world.stored.len()), (Status::Pending, 0, 0));
}
