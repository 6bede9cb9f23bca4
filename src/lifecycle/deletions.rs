//! Tests of deletion, a row of the transition table (ARCHITECTURE.md) each.

use super::testing::{identity, record};
use super::world::World;
use super::{
    Account, Asker, Completion, Event, Found, Loaded, Mark, Record, Revocation, Rotation, Standing, Status,
    StoreFault,
};
use crate::time::Timestamp;

fn delete(world: &mut World) {
    world.happens(Event::DeletionAsked);
}

fn restarted(mark: Mark) -> World {
    let mut world = World::new(Rotation::Strict);
    world.mark = mark;
    world.restart(Found { mark, ..Found::default() });
    world
}

#[test]
fn a_deletion_ends_upstream_and_in_the_store_and_leaves_nothing() {
    let mut world = World::connected(Rotation::Strict);
    delete(&mut world);
    assert_eq!(world.line(), "withdraw mark revoke_upstream clear delete scrub");
    assert_eq!((world.status(), world.mark.standing), (Status::Pending, Standing::Deleted));
    assert_eq!(world.machine.upstream(), Some(Revocation::Confirmed));
    assert_eq!(world.revoked_upstream, [Some("r3".to_owned())]);
    assert!(!world.machine.is_busy() && !world.machine.view(world.now).connected);
    let mut again = restarted(world.mark);
    assert_eq!((again.line().as_str(), again.status()), ("", Status::Pending), "the store is not asked");
    again.consent();
    assert_eq!((again.status(), again.mark.standing), (Status::Connected, Standing::Normal));
    assert_eq!(again.stored[0].generation, 6, "above all that was ever written");
}

#[test]
fn a_deletion_is_finished_after_a_crash_at_each_step() {
    let cleared = || Record::cleared(identity("github"), 5, Account::default(), Timestamp::EPOCH);
    let mark = Mark { generation: 3, standing: Standing::Deleting, ..Mark::default() };
    for (found, line) in [
        (
            Completion::Loaded(Loaded::Record(Box::new(record("github", 3, "r3")))),
            "load revoke_upstream clear delete scrub",
        ),
        (Completion::Loaded(Loaded::Record(Box::new(cleared()))), "load clear delete scrub"),
        (Completion::LoadFailed(StoreFault::Deleted), "load delete scrub"),
        (Completion::LoadFailed(StoreFault::Missing), "load delete scrub"),
    ] {
        let mut world = World::new(Rotation::Strict);
        world.will("load", found);
        world.restart(Found { mark, ..Found::default() });
        assert_eq!(world.line(), line);
        assert_eq!((world.status(), world.mark.standing), (Status::Pending, Standing::Deleted), "{line}");
    }
}

#[test]
fn a_deletion_that_the_store_does_not_take_is_retried() {
    let mut world = World::connected(Rotation::Strict);
    world.will("clear", Completion::StoreFailed(StoreFault::Unreachable));
    world.will("delete", Completion::StoreFailed(StoreFault::Denied));
    delete(&mut world);
    assert_eq!(world.line(), "withdraw mark revoke_upstream clear");
    assert_eq!((world.status(), world.served(), world.machine.is_busy()), (Status::Revoked, false, false));
    world.deadline();
    let view = world.machine.view(world.now);
    assert_eq!((view.status, view.last_error.as_deref()), (Status::Revoked, Some("denied")));
    assert!(view.message.contains("not deleted yet"), "{}", view.message);
    world.deadline();
    assert_eq!(
        world.line(),
        "clear delete delete scrub",
        "the provider is told once, the record emptied once"
    );
    assert_eq!(world.status(), Status::Pending);
}

#[test]
fn what_was_revoked_can_be_deleted() {
    let mut world = World::connected(Rotation::Strict);
    world.happens(Event::RevocationAsked { by: Asker::Operator });
    world.line();
    delete(&mut world);
    assert_eq!(world.line(), "mark delete scrub");
    assert_eq!((world.status(), world.mark.standing), (Status::Pending, Standing::Deleted));
    assert_eq!(world.machine.upstream(), Some(Revocation::Confirmed));
}

#[test]
fn a_revocation_under_way_becomes_a_deletion_and_not_the_other_way_round() {
    for held in ["mark", "revoke_upstream", "clear"] {
        let mut world = World::connected(Rotation::Strict);
        world.held.insert(held);
        world.happens(Event::RevocationAsked { by: Asker::Operator });
        delete(&mut world);
        world.let_go(held);
        assert_eq!((world.status(), world.mark.standing), (Status::Pending, Standing::Deleted), "{held}");
        assert_eq!(world.revoked_upstream.len(), 1, "{held}");
        let mut world = World::connected(Rotation::Strict);
        world.held.insert(held);
        delete(&mut world);
        world.happens(Event::RevocationAsked { by: Asker::Operator });
        world.let_go(held);
        assert_eq!((world.status(), world.mark.standing), (Status::Pending, Standing::Deleted), "{held}");
    }
}

#[test]
fn what_was_never_connected_has_nothing_to_delete() {
    let mut world = World::new(Rotation::Strict);
    world.restart(Found::default());
    world.line();
    delete(&mut world);
    assert_eq!((world.line().as_str(), world.status()), ("", Status::Pending));
}

#[test]
fn a_silent_provider_is_told_again_after_a_deletion_as_well() {
    let mut world = World::connected(Rotation::Strict);
    world.will("revoke_upstream", Completion::UpstreamRevoked(Revocation::Silent));
    delete(&mut world);
    let view = world.machine.view(world.now);
    assert_eq!((view.status, view.last_error.as_deref()), (Status::Pending, Some("provider_not_told")));
    assert!(view.message.starts_with("deleted; "), "{}", view.message);
    assert_eq!(world.machine.upstream(), Some(Revocation::Silent));
    world.line();
    world.deadline();
    assert_eq!(world.revoked_upstream, [Some("r3".to_owned()), Some("r3".to_owned())]);
    while world.machine.deadline().is_some() {
        world.deadline();
    }
    assert_eq!((world.status(), world.machine.view(world.now).last_error), (Status::Pending, None));
    assert_eq!(world.mark.standing, Standing::Deleted);
}
