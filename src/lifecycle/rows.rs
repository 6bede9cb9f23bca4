//! One test for each row of the transition table (ARCHITECTURE.md), named after it.

use super::testing::record;
use super::world::{World, answer, terms};
use super::{
    Account, AccountChange, Asker, Code, Completion, ConsentEnd, Event, ExpectedAccount, Found, Intent,
    Loaded, Mark, Purpose, Record, Revocation, Rotation, Spent, SpoolFault, Standing, Status, StoreFault,
    Terms, Trial, WireFault,
};
use std::time::Duration;

const GRACE: Rotation = Rotation::Grace(Duration::from_secs(30));

fn lost() -> Completion {
    Completion::Answered(Spent::Lost(WireFault::Reset))
}

fn refused(world: &World, body: &str) -> Completion {
    answer(400, body, world.now)
}

#[test]
fn an_answer_is_sealed_before_anything_is_published_or_stored() {
    let mut world = World::connected(Rotation::Strict);
    world.deadline();
    assert_eq!(world.line(), "claim intend refresh seal publish store scrub release");
}

#[test]
fn a_consent_is_exchanged_sealed_tried_published_and_stored() {
    let mut world = World::new(Rotation::Strict);
    world.restart(Found::default());
    assert_eq!((world.line().as_str(), world.status()), ("load", Status::Pending));
    world.consent();
    assert_eq!(world.line(), "claim intend exchange seal try seal publish store tell scrub release");
    assert_eq!(world.status(), Status::Connected);
    assert_eq!(world.stored[0].generation, 1);
    assert!(
        matches!(&world.told[..], [ConsentEnd::Stored { account }] if account.username.as_deref() == Some("acme-bot"))
    );
}

#[test]
fn a_silent_provider_and_no_pinned_account_is_accepted() {
    let mut world = World::new(Rotation::Strict);
    world.restart(Found::default());
    world.will("try", Completion::Tried(Trial::Silent));
    world.consent();
    let view = world.machine.view(world.now);
    assert!(view.token_valid && view.stored);
    assert_eq!((view.status, view.last_error.as_deref()), (Status::Warning, Some("not_validated")));
}

#[test]
fn a_silent_provider_and_a_pinned_account_is_kept_sealed_and_retried() {
    let expected_account =
        ExpectedAccount { username: Some("acme-bot".into()), ..ExpectedAccount::default() };
    let mut world = World::with(Terms { expected_account, ..terms(Rotation::Strict) });
    world.restart(Found::default());
    world.will("try", Completion::Tried(Trial::Silent));
    world.consent();
    assert_eq!(world.line(), "load claim intend exchange seal try tell");
    assert_eq!(world.told, [ConsentEnd::Unverified]);
    assert!(!world.served());
    world.deadline();
    assert_eq!(world.line(), "try seal publish store scrub release");
    assert!(world.served());
}

#[test]
fn a_wrong_account_is_given_back_and_the_life_before_it_stays() {
    let expected_account =
        ExpectedAccount { username: Some("acme-bot".into()), ..ExpectedAccount::default() };
    let mut world = World::with(Terms { expected_account, ..terms(Rotation::Strict) });
    world.restore_record(3);
    world.line();
    let other = Account { username: Some("mallory".into()), ..Account::default() };
    world.will("try", Completion::Tried(Trial::Valid(other)));
    world.consent();
    assert_eq!(world.line(), "claim intend exchange seal try tell revoke_upstream scrub release");
    assert!(matches!(&world.told[..], [ConsentEnd::Refused { code: Code::WrongAccount, .. }]));
    assert_eq!(world.revoked_upstream, [Some("fresh-1".to_owned())]);
    assert_eq!(world.machine.view(world.now).generation, 3);
    assert!(world.served() && world.stored.is_empty());
}

/// A world whose record names an account, in which another one authorizes next.
fn about_to_change_hands() -> World {
    let mut world = World::new(Rotation::Strict);
    world.restart(Found::default());
    let named = |id: &str| Trial::Valid(Account { id: Some(id.into()), ..Account::default() });
    world.will("try", Completion::Tried(named("acme")));
    world.consent();
    world.line();
    world.told.clear();
    world.will("try", Completion::Tried(named("mallory")));
    world
}

#[test]
fn another_account_than_before_is_given_back_unless_a_person_said_yes() {
    let mut world = about_to_change_hands();
    world.consent();
    assert_eq!(world.line(), "claim intend exchange seal try tell revoke_upstream scrub release");
    assert!(matches!(&world.told[..], [ConsentEnd::Refused { code: Code::WrongAccount, .. }]));
    assert_eq!(world.machine.view(world.now).account.id.as_deref(), Some("acme"));
    let mut world = about_to_change_hands();
    world.consent_by(AccountChange::Allowed);
    assert_eq!(world.line(), "claim intend exchange seal try seal publish store tell scrub release");
    assert_eq!(world.machine.view(world.now).account.id.as_deref(), Some("mallory"));
}

#[test]
fn a_known_account_waits_for_the_provider_to_name_the_new_one() {
    let mut world = about_to_change_hands();
    world.script.clear();
    world.will("try", Completion::Tried(Trial::Silent));
    world.consent();
    assert_eq!(world.told, [ConsentEnd::Unverified]);
}

#[test]
fn a_plainly_invalid_fresh_token_is_given_back() {
    let mut world = World::new(Rotation::Strict);
    world.restart(Found::default());
    world.will("try", Completion::Tried(Trial::Invalid));
    world.consent();
    assert!(matches!(&world.told[..], [ConsentEnd::Refused { code: Code::TokenValidationFailed, .. }]));
    assert_eq!((world.status(), world.served()), (Status::Pending, false));
}

#[test]
fn a_deadline_or_an_ask_begins_one_refresh() {
    let mut world = World::connected(Rotation::Strict);
    world.held.insert("refresh");
    world.happens(Event::RotationAsked { by: Asker::Operator });
    for by in [Asker::Operator, Asker::App, Asker::Schedule] {
        world.happens(Event::RotationAsked { by });
    }
    world.let_go("refresh");
    assert_eq!(world.presented, ["r3"]);
}

#[test]
fn apps_begin_at_most_one_refresh_in_30_seconds() {
    let mut world = World::connected(Rotation::Strict);
    for _ask in 0..5 {
        world.happens(Event::RotationAsked { by: Asker::App });
    }
    assert_eq!(world.presented.len(), 1);
    world.now = world.now.plus(Duration::from_secs(31));
    world.happens(Event::RotationAsked { by: Asker::App });
    assert_eq!(world.presented.len(), 2);
}

#[test]
fn a_refresh_without_a_new_refresh_token_is_published_and_scrubbed() {
    let mut world = World::connected(Rotation::None);
    world.rotates = false;
    world.deadline();
    assert_eq!(world.line(), "claim intend refresh seal publish scrub release");
    assert_eq!(world.machine.view(world.now).generation, 3);
}

#[test]
fn a_rotated_refresh_token_is_published_and_stored_as_the_next_generation() {
    let mut world = World::connected(Rotation::Strict);
    world.held.insert("store");
    world.deadline();
    let view = world.machine.view(world.now);
    assert_eq!((view.generation, view.stored, view.token_valid), (4, false, true));
    world.let_go("store");
    let view = world.machine.view(world.now);
    assert_eq!((view.generation, view.stored, world.mark.generation), (4, true, 4));
    assert_eq!(world.stored[0].refresh_token.as_ref().unwrap().expose_secret(), "fresh-1");
}

#[test]
fn a_failed_write_is_repeated_with_the_same_bytes() {
    let mut world = World::connected(Rotation::Strict);
    for fault in [StoreFault::Unreachable, StoreFault::Throttled, StoreFault::Denied] {
        world.will("store", Completion::StoreFailed(fault));
    }
    world.deadline();
    assert_eq!(world.status(), Status::Warning);
    assert_eq!(world.machine.view(world.now).last_error.as_deref(), Some("unreachable"));
    for _again in 0..3 {
        world.deadline();
    }
    let bytes: Vec<_> = world.stored.iter().map(|record| record.to_json().expose_secret().to_vec()).collect();
    assert_eq!(bytes.len(), 4);
    assert!(bytes.iter().all(|one| *one == bytes[0]));
    assert_eq!(world.status(), Status::Connected);
}

#[test]
fn a_taken_write_id_leads_to_a_generation_above_everything_seen() {
    let mut world = World::connected(Rotation::Strict);
    world.will("store", Completion::IdTaken);
    world.will("load", Completion::Loaded(Loaded::Record(Box::new(record("github", 7, "theirs")))));
    world.deadline();
    assert_eq!(world.line(), "claim intend refresh seal publish store load publish seal store scrub release");
    assert_eq!(world.stored.last().unwrap().generation, 8);
    assert_eq!(world.sealed.as_ref().unwrap().generation, 8, "a restart must rebuild the same record");
    assert_eq!(world.mark.generation, 8);
}

#[test]
fn a_foreign_current_value_is_kept_and_warned_of() {
    let mut world = World::connected(Rotation::Strict);
    world.will("store", Completion::StoredBeside);
    world.deadline();
    let view = world.machine.view(world.now);
    assert_eq!(
        (view.status, view.last_error.as_deref(), view.stored),
        (Status::Warning, Some("foreign_writer"), true)
    );
}

#[test]
fn what_was_not_sent_or_was_refused_backs_off_and_is_not_in_doubt() {
    for end in [
        Completion::Answered(Spent::NotSent(WireFault::Connect)),
        answer(429, "", World::new(Rotation::Strict).now),
    ] {
        let mut world = World::connected(Rotation::Strict);
        world.will("refresh", end);
        world.deadline();
        assert_eq!(world.status(), Status::Warning);
        world.deadline();
        assert_eq!(world.presented, ["r3", "r3"]);
        assert_eq!(world.status(), Status::Connected);
    }
}

#[test]
fn a_lost_answer_of_a_strict_provider_is_held_until_the_lease_is_about_to_end() {
    let mut world = World::connected(Rotation::Strict);
    let end = world.now.plus(Duration::from_secs(3600));
    world.will("refresh", lost());
    world.deadline();
    assert_eq!(
        (world.line().as_str(), world.status()),
        ("claim intend refresh scrub release", Status::Warning)
    );
    world.happens(Event::RotationAsked { by: Asker::Operator });
    world.happens(Event::RotationAsked { by: Asker::App });
    assert_eq!(world.presented.len(), 1, "held");
    world.deadline();
    assert_eq!(end.since(world.now), Duration::from_secs(60), "the last chance");
    assert_eq!((world.presented.len(), world.status()), (2, Status::Connected));
}

#[test]
fn a_lost_answer_within_the_grace_is_presented_again_at_once() {
    let mut world = World::connected(GRACE);
    for _loss in 0..3 {
        world.will("refresh", lost());
    }
    world.deadline();
    let first = world.now;
    for _again in 0..3 {
        world.deadline();
    }
    assert_eq!(world.now.since(first), Duration::from_millis(3500));
    assert_eq!((world.presented.len(), world.status()), (4, Status::Connected));
}

#[test]
fn an_unreadable_answer_is_in_doubt() {
    let mut world = World::connected(Rotation::Strict);
    let unreadable = answer(200, "<html>", world.now);
    world.will("refresh", unreadable);
    world.deadline();
    assert_eq!(world.line(), "claim intend refresh seal quarantine scrub release");
    assert!(world.machine.view(world.now).message.contains("in doubt"));
}

#[test]
fn invalid_grant_adopts_a_newer_generation_from_the_store() {
    let mut world = World::connected(Rotation::Strict);
    let dead = refused(&world, r#"{"error":"invalid_grant"}"#);
    world.will("refresh", dead);
    let newer = Record {
        written_at: world.now,
        expires_at: Some(world.now.plus(Duration::from_secs(9000))),
        ..record("github", 5, "r5")
    };
    world.will("load", Completion::Loaded(Loaded::Record(Box::new(newer))));
    world.deadline();
    assert_eq!(world.line(), "claim intend refresh seal load publish scrub release");
    assert_eq!((world.status(), world.mark.generation), (Status::Connected, 5));
}

#[test]
fn invalid_grant_without_a_newer_generation_needs_a_person_and_destroys_nothing() {
    let mut world = World::connected(Rotation::Strict);
    let dead = refused(&world, r#"{"error":"invalid_grant"}"#);
    world.will("refresh", dead);
    world.will("load", Completion::Loaded(Loaded::Record(Box::new(record("github", 3, "r3")))));
    world.deadline();
    assert_eq!(world.status(), Status::NeedsReauth);
    assert!(world.served(), "the live lease is served to its end");
    assert!(world.stored.is_empty() && world.revoked_upstream.is_empty());
    assert_eq!(world.mark.standing, Standing::NeedsReauth);
    world.deadline();
    assert_eq!((world.served(), world.presented.len()), (false, 1), "not presented again");
    assert_eq!(world.machine.deadline(), None);
}

#[test]
fn invalid_grant_while_the_store_is_down_gives_nothing_up() {
    let mut world = World::connected(Rotation::Strict);
    let dead = refused(&world, r#"{"error":"invalid_grant"}"#);
    world.will("refresh", dead);
    world.will("load", Completion::LoadFailed(StoreFault::Unreachable));
    world.deadline();
    assert_eq!(world.status(), Status::Warning);
    world.will("load", Completion::Loaded(Loaded::Record(Box::new(record("github", 3, "r3")))));
    world.deadline();
    assert_eq!((world.status(), world.presented.len()), (Status::NeedsReauth, 1));
}

#[test]
fn a_rejected_client_destroys_nothing_and_tells_the_operator() {
    let mut world = World::connected(Rotation::Strict);
    let rejected = refused(&world, r#"{"error":"invalid_client"}"#);
    world.will("refresh", rejected);
    world.deadline();
    let view = world.machine.view(world.now);
    assert_eq!((view.status, view.last_error.as_deref()), (Status::Warning, Some("invalid_client")));
    assert!(world.served());
}

#[test]
fn a_lease_is_withdrawn_at_its_end() {
    let mut world = World::connected(Rotation::Strict);
    for _try in 0..200 {
        world.will("refresh", Completion::Answered(Spent::NotSent(WireFault::Dns)));
    }
    while world.served() {
        world.deadline();
    }
    assert!(world.seen.contains(&"withdraw"));
    assert_eq!(world.status(), Status::Expired);
}

#[test]
fn an_exchange_that_comes_to_nothing_leaves_the_life_before_it() {
    let mut world = World::connected(Rotation::Strict);
    let unsent = Completion::Answered(Spent::NotSent(WireFault::Connect));
    let ends = [unsent, lost(), refused(&world, r#"{"error":"invalid_grant"}"#), refused(&world, "<")];
    for end in ends {
        world.will("exchange", end);
        world.consent();
        assert!(world.line().ends_with("tell scrub release"));
        assert_eq!((world.status(), world.served()), (Status::Connected, true));
    }
    assert_eq!((world.told.len(), world.stored.len()), (4, 0));
}

#[test]
fn a_restored_record_is_served_or_refreshed() {
    let mut world = World::new(Rotation::Strict);
    world.restore_record(3);
    assert_eq!(world.line(), "load publish");
    let mut late = World::new(Rotation::Strict);
    let dead = Record { expires_at: Some(late.now), ..record("github", 3, "r3") };
    late.will("load", Completion::Loaded(Loaded::Record(Box::new(dead))));
    late.restart(Found {
        mark: Mark { generation: 3, standing: Standing::Normal, ..Mark::default() },
        ..Found::default()
    });
    assert_eq!((late.line().as_str(), late.served()), ("load", false));
    late.deadline();
    assert_eq!(late.line(), "claim intend refresh seal publish store scrub release");
}

#[test]
fn a_store_that_is_behind_the_high_water_mark_is_not_spent_from() {
    let mut world = World::new(Rotation::Strict);
    let old =
        Record { expires_at: Some(world.now.plus(Duration::from_secs(60))), ..record("github", 3, "r3") };
    world.will("load", Completion::Loaded(Loaded::Record(Box::new(old))));
    world.restart(Found {
        mark: Mark { generation: 4, standing: Standing::Normal, ..Mark::default() },
        ..Found::default()
    });
    assert!(world.served(), "serving is open");
    for _hop in 0..20 {
        world.deadline();
    }
    assert!(world.presented.is_empty(), "spending is closed");
}

#[test]
fn a_sealed_answer_is_resumed_without_the_store() {
    let mut first = World::connected(Rotation::Strict);
    first.held.insert("store");
    first.deadline();
    let sealed = first.sealed.clone().unwrap();
    let mut world = World::new(Rotation::Strict);
    world.now = first.now.plus(Duration::from_secs(5));
    world.will("store", Completion::StoreFailed(StoreFault::Unreachable));
    world.restart(Found {
        mark: Mark { generation: 3, standing: Standing::Normal, ..Mark::default() },
        answers: vec![sealed],
        intent: None,
    });
    assert_eq!((world.line().as_str(), world.served()), ("publish store", true));
    let bytes = |world: &World| world.stored[0].to_json().expose_secret().to_vec();
    assert_eq!(bytes(&world), bytes(&first), "the same write, byte for byte");
    world.deadline();
    assert_eq!((world.line().as_str(), world.mark.generation), ("store scrub release", 4));
}

#[test]
fn an_intent_without_an_outcome_is_in_doubt_after_a_restart() {
    let mut world = World::new(Rotation::Strict);
    let intent = Intent { purpose: Purpose::Refresh, generation: 3, attempt: 1, at: world.now, doubt: None };
    let found = Record {
        written_at: world.now,
        expires_at: Some(world.now.plus(Duration::from_secs(3600))),
        ..record("github", 3, "r3")
    };
    world.will("load", Completion::Loaded(Loaded::Record(Box::new(found))));
    world.restart(Found {
        mark: Mark { generation: 3, standing: Standing::Normal, ..Mark::default() },
        answers: Vec::new(),
        intent: Some(intent),
    });
    assert!(world.served() && world.presented.is_empty());
    assert!(world.machine.view(world.now).message.contains("in doubt"));
    world.deadline();
    assert_eq!(world.presented, ["r3"], "the last chance");
}

#[test]
fn a_revocation_bites_at_once_and_ends_upstream_and_in_the_store() {
    let mut world = World::connected(Rotation::Strict);
    world.happens(Event::RevocationAsked { by: Asker::Operator });
    assert_eq!(world.line(), "withdraw mark revoke_upstream clear scrub");
    assert_eq!(world.status(), Status::Revoked);
    assert_eq!(world.revoked_upstream, [Some("r3".to_owned())]);
    assert_eq!((world.mark.generation, world.mark.standing), (5, Standing::Revoked));
    assert!(world.stored[0].refresh_token.is_none() && world.stored[0].access_token.is_none());
    assert_eq!(world.machine.upstream(), Some(Revocation::Confirmed));
}

#[test]
fn a_revocation_waits_for_a_spend_in_flight_and_revokes_the_newest_token() {
    let mut world = World::connected(Rotation::Strict);
    world.held.insert("refresh");
    world.deadline();
    world.happens(Event::RevocationAsked { by: Asker::Operator });
    assert!(!world.served() && world.revoked_upstream.is_empty());
    world.let_go("refresh");
    assert_eq!(world.revoked_upstream, [Some("fresh-1".to_owned())]);
    assert!(!world.served(), "the late answer is not published");
    assert_eq!(world.mark.standing, Standing::Revoked);
}

#[test]
fn a_revocation_is_finished_after_a_restart_even_if_the_store_was_down() {
    let mut world = World::new(Rotation::Strict);
    world.will("load", Completion::LoadFailed(StoreFault::Unreachable));
    world.restart(Found {
        mark: Mark { generation: 3, standing: Standing::Revoking, ..Mark::default() },
        ..Found::default()
    });
    assert_eq!((world.status(), world.served()), (Status::Revoked, false));
    world.will("load", Completion::Loaded(Loaded::Record(Box::new(record("github", 3, "r3")))));
    world.deadline();
    assert_eq!(world.revoked_upstream, [Some("r3".to_owned())]);
    assert_eq!(world.mark.standing, Standing::Revoked);
}

#[test]
fn a_cleared_record_is_retried_until_the_store_has_it() {
    let mut world = World::connected(Rotation::Strict);
    world.will("clear", Completion::StoreFailed(StoreFault::Unreachable));
    world.happens(Event::RevocationAsked { by: Asker::Operator });
    assert_eq!(world.mark.standing, Standing::Revoking);
    world.deadline();
    assert_eq!(world.mark.standing, Standing::Revoked);
    assert_eq!(world.revoked_upstream.len(), 1, "the provider is told once");
}

#[test]
fn a_restored_tombstone_or_a_revoked_record_stays_revoked() {
    let mut world = World::new(Rotation::Strict);
    world.restart(Found {
        mark: Mark { generation: 5, standing: Standing::Revoked, ..Mark::default() },
        ..Found::default()
    });
    assert_eq!((world.status(), world.line().as_str()), (Status::Revoked, ""));
    let mut other = World::new(Rotation::Strict);
    let cleared = Record::cleared(super::testing::identity("github"), 5, Account::default(), other.now);
    other.will("load", Completion::Loaded(Loaded::Record(Box::new(cleared))));
    other.restart(Found::default());
    assert_eq!((other.status(), other.mark.standing), (Status::Revoked, Standing::Revoked));
}

#[test]
fn revoked_ignores_everything_but_a_new_consent() {
    let mut world = World::connected(Rotation::Strict);
    world.happens(Event::RevocationAsked { by: Asker::Operator });
    world.line();
    for by in [Asker::Operator, Asker::App, Asker::Schedule] {
        world.happens(Event::RotationAsked { by });
    }
    world.happens(Event::RevocationAsked { by: Asker::Operator });
    assert_eq!((world.line().as_str(), world.machine.deadline()), ("", None));
    world.consent();
    assert_eq!(world.line(), "claim intend exchange seal try seal scrub publish store tell scrub release");
    assert_eq!((world.status(), world.mark.standing), (Status::Connected, Standing::Normal));
    assert_eq!(world.stored.last().unwrap().generation, 6);
}

#[test]
fn a_consent_waits_for_a_refresh_in_flight_and_the_other_way_round() {
    let mut world = World::connected(Rotation::Strict);
    world.held.insert("refresh");
    world.deadline();
    world.consent();
    assert_eq!(world.line(), "claim intend refresh");
    world.let_go("refresh");
    assert_eq!(
        world.line(),
        "seal publish store scrub release claim intend exchange seal try seal publish store tell scrub release"
    );
    assert_eq!(world.stored.iter().map(|record| record.generation).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn an_answer_that_cannot_be_sealed_is_stored_first_and_published_after() {
    let mut world = World::connected(Rotation::Strict);
    world.will("seal", Completion::SealFailed(SpoolFault::Full));
    world.deadline();
    assert_eq!(world.line(), "claim intend refresh seal store publish scrub release");
}

#[test]
fn without_an_intent_on_disk_nothing_is_spent() {
    let mut world = World::connected(Rotation::Strict);
    world.will("intend", Completion::IntentFailed(SpoolFault::Full));
    world.deadline();
    assert!(world.presented.is_empty());
    assert_eq!(world.machine.view(world.now).last_error.as_deref(), Some("disk_full"));
}

#[test]
fn a_stale_completion_is_ignored() {
    let mut world = World::connected(Rotation::Strict);
    let before = world.machine.view(world.now);
    for op in 0..50 {
        world.happens(Event::Done { op: super::Op(op), end: Completion::IdTaken });
        world.happens(Event::Done { op: super::Op(op), end: lost() });
    }
    assert_eq!((world.line().as_str(), world.machine.view(world.now)), ("", before));
    assert!(world.audit.is_empty());
}

#[test]
fn a_token_that_does_not_expire_is_never_refreshed() {
    let mut world = World::new(Rotation::None);
    let forever = Record { expires_at: None, refresh_token: None, ..record("github", 3, "none") };
    world.will("load", Completion::Loaded(Loaded::Record(Box::new(forever))));
    world.restart(Found {
        mark: Mark { generation: 3, standing: Standing::Normal, ..Mark::default() },
        ..Found::default()
    });
    assert!(world.served());
    for by in [Asker::Operator, Asker::App, Asker::Schedule] {
        world.happens(Event::RotationAsked { by });
    }
    assert_eq!((world.machine.deadline(), world.presented.len()), (None, 0));
}

#[test]
fn every_transition_leaves_exactly_one_audit_entry() {
    let mut world = World::connected(Rotation::Strict);
    world.held.extend(["refresh", "store"]);
    world.deadline();
    world.let_go("refresh");
    world.let_go("store");
    let words: Vec<_> = world.audit.iter().map(|entry| (entry.what, entry.from, entry.to)).collect();
    assert_eq!(
        words,
        [
            ("spending", "active", "refreshing"),
            ("refreshed", "refreshing", "active_unstored"),
            ("stored", "active_unstored", "active_unstored"),
            ("settled", "active_unstored", "active"),
        ]
    );
}
