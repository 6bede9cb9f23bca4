//! SIGKILL, SIGTERM and SIGSTOP at each step of one rotation, the step held open by a proxy: what the crash table says comes true.

use crate::world::{Daemon, Signal, Stopwatch, Trouble, World, eventually, fingerprint, within};
use std::time::Duration;

/// A step of the protocol at which something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The intent is durable, the request is on its way, the provider has not seen it.
    Asked,
    /// The provider has consumed the token, its answer is on its way.
    Committed,
    /// The answer is sealed and served, the store has not seen it.
    Sealed,
    /// The store has it, its acknowledgement is on its way.
    Stored,
}

const STEPS: [Step; 4] = [Step::Asked, Step::Committed, Step::Sealed, Step::Stored];
const PUT: &str = "secretsmanager.PutSecretValue";

#[test]
fn kill_9_before_the_provider_has_the_request_is_in_doubt_and_costs_nothing() {
    let world = World::with_ttl("kill-asked", 6);
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    let since = issued(&world);
    in_step(&world, &daemon, Step::Asked, || {});
    daemon.kill9();
    world.idp.set(Trouble::Refuse);
    daemon.restart();
    world.idp.set(Trouble::None);
    assert_eq!(world.client.refreshes().len(), 0);
    held_in_doubt_to_the_end_of_the_lease(&world, &daemon, since);
    eventually("the token was good", || (daemon.status()["status"] == "connected").then_some(()));
    world.client.assert_no_reuse();
    kept(&world, &daemon);
}

#[test]
fn kill_9_after_the_provider_committed_is_warned_of_and_presented_again_only_as_the_lease_ends() {
    let world = World::with_ttl("kill-committed", 6);
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    let since = issued(&world);
    in_step(&world, &daemon, Step::Committed, || {});
    daemon.kill9();
    world.idp.set(Trouble::Refuse);
    daemon.restart();
    world.idp.set(Trouble::None);
    assert_eq!(world.client.refreshes().len(), 1);
    held_in_doubt_to_the_end_of_the_lease(&world, &daemon, since);
    // Physics: the only copy of the newest token died with the daemon.
    eventually("a person is asked for", || (daemon.status()["status"] == "needs_reauth").then_some(()));
    assert_eq!(world.client.refreshes().len(), 2, "presented once more and never again");
    let _page = daemon.connect();
    assert_eq!(daemon.token().status, 200);
}

#[test]
fn kill_9_after_the_seal_loses_nothing() {
    for step in [Step::Sealed, Step::Stored] {
        let world = World::new("kill-sealed");
        let mut daemon = world.start(&world.config());
        let _page = daemon.connect();
        let versions = world.aws.versions(&world.secret());
        in_step(&world, &daemon, step, || {});
        daemon.kill9();
        world.store.set(Trouble::None);
        daemon.restart();
        kept(&world, &daemon);
        assert_eq!(world.aws.versions(&world.secret()), versions + 1, "{step:?}: one write, one version");
        goes_on(&world, &daemon);
    }
}

#[test]
fn kill_9_before_the_scrub_repeats_the_write_and_makes_no_second_version() {
    let mut world = World::new("kill-unscrubbed");
    world.launcher = World::DEAF_TO_SIZE.map(Into::into).to_vec();
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    let versions = world.aws.versions(&world.secret());
    in_step(&world, &daemon, Step::Stored, || {});
    // The disk takes no mark and no scrub any more.
    daemon.refuse_writes(true);
    world.store.set(Trouble::None);
    eventually("the store has it, and the mark is refused", || {
        let status = daemon.status();
        (status["stored"] == true && status["lastError"].is_string()).then_some(())
    });
    daemon.kill9();
    daemon.restart();
    kept(&world, &daemon);
    assert_eq!(world.aws.versions(&world.secret()), versions + 1);
    goes_on(&world, &daemon);
}

#[test]
fn sigterm_at_each_step_drains_and_loses_nothing() {
    each(|step| {
        let world = World::new("term");
        let mut daemon = world.start(&world.config());
        let _page = daemon.connect();
        let watch = Stopwatch::start();
        in_step(&world, &daemon, step, || {
            daemon.ask_to_end();
            eventually("it has begun to end", || world.said.text().contains("stopping").then_some(()));
        });
        release(&world);
        daemon.await_end();
        assert!(watch.elapsed() < Duration::from_secs(30), "{step:?}: {:?}", watch.elapsed());
        daemon.restart();
        assert_eq!(world.client.refreshes().len(), 1, "{step:?}");
        kept(&world, &daemon);
        goes_on(&world, &daemon);
    });
}

#[test]
fn sigterm_with_a_store_that_never_answers_ends_in_time_and_loses_nothing() {
    let world = World::new("term-down");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    in_step(&world, &daemon, Step::Sealed, || {});
    let took = daemon.terminate();
    assert!(took < Duration::from_secs(30), "{took:?}");
    daemon.restart();
    eventually("the sealed token is served", || (daemon.token().status == 200).then_some(()));
    world.store.set(Trouble::None);
    kept(&world, &daemon);
    goes_on(&world, &daemon);
}

#[test]
fn a_long_stop_at_each_step_loses_nothing() {
    each(|step| {
        // Longer than the token's life, the provider's deadline and the store's.
        let world = World::with_ttl("stop", 8);
        let daemon = world.start(&world.config());
        let _page = daemon.connect();
        in_step(&world, &daemon, step, || {
            daemon.signal(Signal::STOP);
            release(&world);
            let watch = Stopwatch::start();
            watch.rest(Duration::from_millis(11_500));
            daemon.signal(Signal::CONT);
        });
        within(Duration::from_secs(30), "it goes on", || {
            let status = daemon.status();
            (status["status"] == "connected" && status["stored"] == true).then_some(())
        });
        world.client.assert_no_reuse();
        goes_on(&world, &daemon);
    });
}

/// Each step in a world of its own, all at once.
fn each(play: impl Fn(Step) + Sync) {
    std::thread::scope(|scope| {
        for step in STEPS {
            let play = &play;
            scope.spawn(move || play(step));
        }
    });
}

/// Asks for a refresh, holds it open at a step, and does something meanwhile.
#[track_caller]
fn in_step(world: &World, daemon: &Daemon<'_>, step: Step, meanwhile: impl FnOnce()) {
    let (carried, before) = (world.idp.taken(), world.client.newest());
    match step {
        Step::Asked => world.idp.set(Trouble::Hold),
        Step::Committed => world.idp.set(Trouble::HoldAnswerTo("/token")),
        Step::Sealed => world.store.set(Trouble::Hold),
        Step::Stored => world.store.set(Trouble::HoldAnswerTo(PUT)),
    }
    let path = format!("/v1/integrations/{}/refresh", World::INTEGRATION);
    let mut control = daemon.control();
    let _asking = std::thread::spawn(move || control.try_send(::http::Method::POST, &path, None));
    eventually("the step is reached", || {
        let reached = match step {
            Step::Asked => world.idp.taken() > carried,
            Step::Committed => world.client.newest() != before,
            Step::Sealed => daemon.status()["stored"] == false,
            Step::Stored => record_token(world) != before,
        };
        reached.then_some(())
    });
    meanwhile();
}

fn release(world: &World) {
    world.idp.set(Trouble::None);
    world.store.set(Trouble::None);
}

/// When the newest tokens were issued, in milliseconds of the wall clock.
fn issued(world: &World) -> u64 {
    world.client.requests("token").last().unwrap().at
}

/// The daemon says at once that it does not know, serves the lease, and presents the token in the last tenth of it.
#[track_caller]
fn held_in_doubt_to_the_end_of_the_lease(world: &World, daemon: &Daemon<'_>, since: u64) {
    let before = world.client.refreshes().len();
    let status = eventually("the doubt is told", || {
        Some(daemon.status()).filter(|status| status["message"].to_string().contains("in doubt"))
    });
    assert_eq!(status["status"], "warning", "{status}");
    while world.client.refreshes().len() == before {
        assert_eq!(daemon.token().status, 200, "the lease was not served to its end");
        let _asked = daemon.refresh();
    }
    let again = world.client.refreshes().last().unwrap().at;
    assert!(again - since >= 5300, "presented again {} ms into a lease of 6 s", again - since);
}

/// Waits until the store holds the newest refresh token.
#[track_caller]
fn kept(world: &World, daemon: &Daemon<'_>) {
    eventually("the newest token is in the store", || {
        (record_token(world) == world.client.newest() && daemon.status()["stored"] == true).then_some(())
    });
}

#[track_caller]
fn goes_on(world: &World, daemon: &Daemon<'_>) {
    let before = world.client.refreshes().len();
    eventually("it refreshes again", || {
        let _asked = daemon.refresh();
        (world.client.refreshes().len() > before).then_some(())
    });
    world.client.assert_no_reuse();
    kept(world, daemon);
}

fn record_token(world: &World) -> Option<String> {
    world.aws.record(&world.secret())?["refresh_token"].as_str().map(fingerprint)
}
