//! Answers of a token endpoint that are lost, cut, corrupted or in another shape: what a grace window heals, what a strict provider
//! makes of them, and what quarantine gives back.

use crate::world::{Config, Daemon, Standin, Trouble, World, eventually};
use std::time::Duration;

#[test]
fn within_a_grace_window_every_broken_answer_heals_by_itself() {
    each(&BROKEN, |trouble| {
        let world = World::new("grace");
        let provider = Standin::start(3600, Duration::from_secs(60));
        let daemon = world.start(&provider.config(&world, "grace 60s"));
        let _page = daemon.connect();
        break_one_refresh(&world, &provider, &daemon, trouble);
        eventually("it heals by itself", || {
            let status = daemon.status();
            (status["status"] == "connected" && status["stored"] == true).then_some(())
        });
        assert!(provider.presented().len() >= 2, "{trouble:?}: nothing was broken");
        assert!(!provider.ended(), "{trouble:?}");
        let record = world.aws.record(&world.secret()).unwrap();
        assert_eq!(record["refresh_token"].as_str(), provider.current().as_deref(), "{trouble:?}");
        assert_eq!(daemon.refresh().status, 200, "{trouble:?}");
        provider.note_all(&world);
    });
}

#[test]
fn a_strict_provider_s_broken_answer_is_warned_of_at_once_and_presented_again_only_as_the_lease_ends() {
    each(&BROKEN, |trouble| {
        let world = World::new("strict");
        let provider = Standin::start(6, Duration::ZERO);
        let daemon = world.start(&provider.config(&world, "strict"));
        let _page = daemon.connect();
        break_one_refresh(&world, &provider, &daemon, trouble);
        let doubted = eventually("the doubt is told", || {
            Some(daemon.status()).filter(|status| status["message"].to_string().contains("in doubt"))
        });
        assert_eq!(doubted["status"], "warning", "{trouble:?}");
        assert!(world.said.text().lines().any(|line| line.contains("WARN") && line.contains("in_doubt")));
        while provider.presented().len() < 2 {
            let read = daemon.token();
            assert_eq!(read.status, 200, "{trouble:?}: the lease was not served to its end");
            let _asked = daemon.refresh();
        }
        let waited = provider.presented()[1].saturating_sub(provider.began());
        assert!(waited >= Duration::from_millis(5300), "{trouble:?}: presented again after {waited:?}");
        assert!(provider.ended());
        eventually("a person is asked for", || (daemon.status()["status"] == "needs_reauth").then_some(()));
        eventually("the lease ends", || (daemon.token().status == 401).then_some(()));
        let _page = daemon.connect();
        assert_eq!(daemon.token().status, 200);
        provider.note_all(&world);
    });
}

#[test]
fn a_corrupted_request_costs_nothing() {
    let world = World::new("bad-request");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    for at in [0, 5, 12] {
        world.idp.set(Trouble::CorruptRequest(at));
        let _refused = daemon.refresh();
        assert_eq!(daemon.token().status, 200);
    }
    world.idp.set(Trouble::None);
    assert_eq!(world.client.refreshes().len(), 0);
    eventually("it goes on", || (daemon.refresh().status == 200).then_some(()));
    world.client.assert_no_reuse();
}

#[test]
fn an_answer_in_another_shape_is_recovered_from_quarantine_without_a_second_presentation() {
    let world = World::new("shape");
    let provider = Standin::start(3600, Duration::ZERO);
    let config = provider.config(&world, "strict");
    let mut daemon = world.start(&config);
    let _page = daemon.connect();
    let none = daemon.cli(&["recover", World::INTEGRATION]);
    assert_eq!((none.code, none.stderr.contains("nothing in quarantine")), (0, true), "{}", none.stderr);
    provider.answer_otherwise();
    let _unread = daemon.refresh();
    let quarantine = world.state().join("quarantine");
    eventually("a sealed copy is in quarantine", || {
        (std::fs::read_dir(&quarantine).ok()?.count() == 1).then_some(())
    });
    daemon.kill9();
    daemon.restart();
    eventually("the lease is served", || (daemon.token().status == 200).then_some(()));
    let unread = daemon.cli(&["recover", World::INTEGRATION]);
    assert_eq!((unread.code, unread.stderr.contains("tokens_at")), (1, true), "{}", unread.stderr);

    let mended = config.providers.replace("rotation =", "tokens_at = \"/data\"\nrotation =");
    assert_eq!(daemon.reload(&Config { providers: mended, ..config }).code, 0);
    let found = daemon.cli(&["recover", World::INTEGRATION]);
    assert_eq!((found.code, found.stderr.contains("can be read now")), (0, true), "{}", found.stderr);
    eventually("the recovered token is stored", || {
        let record = world.aws.record(&world.secret())?;
        (record["refresh_token"].as_str() == provider.current().as_deref()).then_some(())
    });
    assert_eq!(provider.presented().len(), 1, "it was not presented again");
    assert_eq!(daemon.refresh().status, 200);
    assert!(!provider.ended());
    provider.note_all(&world);
}

/// Each kind of trouble in a world of its own, all at once.
fn each(troubles: &[Trouble], play: impl Fn(Trouble) + Sync) {
    std::thread::scope(|scope| {
        for trouble in troubles {
            let play = &play;
            scope.spawn(move || play(*trouble));
        }
    });
}

#[track_caller]
fn break_one_refresh(world: &World, provider: &Standin, daemon: &Daemon<'_>, trouble: Trouble) {
    world.idp.set(trouble);
    std::thread::scope(|scope| {
        let _asked = scope.spawn(|| daemon.refresh());
        eventually("the token is presented", || (!provider.presented().is_empty()).then_some(()));
        eventually("its answer is broken", || (daemon.status()["status"] == "warning").then_some(()));
        world.idp.set(Trouble::None);
    });
}

/// Lost; cut in its head and in its body; corrupted so that the head, or the body, cannot be read.
const BROKEN: [Trouble; 5] = [
    Trouble::LoseAnswerTo("/token"),
    Trouble::CutAnswer(20),
    Trouble::CutAnswer(180),
    Trouble::CorruptAnswer(0),
    Trouble::CorruptBody(0),
];
