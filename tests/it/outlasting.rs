//! Outages of the store that last longer than several tokens live: apps notice nothing, operators are told, nothing is lost.

use crate::world::{Daemon, Stopwatch, Trouble, World, eventually, fingerprint, token_path, within};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn a_store_that_denies_throttles_hangs_or_is_down_for_several_lives_costs_nothing() {
    let kinds = [
        (refused_with(DENIED), "denied"),
        (refused_with(THROTTLED), "throttled"),
        (Trouble::Refuse, "unreachable"),
        // Each call takes its whole deadline, which is longer than a token lives.
        (Trouble::Hang, "unreachable"),
    ];
    std::thread::scope(|scope| {
        for (trouble, cause) in kinds {
            scope.spawn(move || {
                let world = World::with_ttl("outlasted", LIFE);
                let daemon = world.start(&world.config());
                let _page = daemon.connect();
                outlasted(&world, &daemon, trouble, cause);
                world.store.set(Trouble::None);
                within(Duration::from_secs(10), "everything is stored", || is_kept(&world, &daemon));
                assert_eq!(daemon.status()["unstoredSince"], serde_json::Value::Null);
                world.client.assert_no_reuse();
            });
        }
    });
}

#[test]
fn a_secret_with_too_many_versions_is_not_asked_again_and_again() {
    let world = World::with_ttl("quota", LIFE);
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    outlasted(&world, &daemon, refused_with(QUOTA), "quota");
    let (asked, lives) = (world.store.answered(), world.client.refreshes().len());
    assert!(asked <= lives as u64 + 1, "{asked} writes for {lives} generations: it was taken for throttling");
    world.store.set(Trouble::None);
    // An operator who made room says so.
    let _asked = daemon.refresh();
    within(Duration::from_secs(10), "everything is stored", || is_kept(&world, &daemon));
    world.client.assert_no_reuse();
}

/// Lets several lives pass in trouble, while somebody reads all the time.
#[track_caller]
fn outlasted(world: &World, daemon: &Daemon<'_>, trouble: Trouble, cause: &str) {
    eventually("the first record is stored", || is_kept(world, daemon));
    world.store.set(trouble);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let (mut app, watch) = (daemon.app(), Stopwatch::start());
            let mut reads = 0_u32;
            while !over.load(Ordering::Relaxed) {
                let read = app.get(&token_path(World::INTEGRATION));
                assert_eq!(read.status, 200, "{cause}, read {reads}: {}", read.text());
                reads += 1;
                watch.rest(Duration::from_millis(20) * reads);
            }
            reads
        });
        let since = eventually("the store is behind", || {
            Some(daemon.status()["unstoredSince"].clone()).filter(serde_json::Value::is_string)
        });
        let before = world.client.refreshes().len();
        let lives = || (world.client.refreshes().len() >= before + 3).then_some(());
        let lived = reading.is_finished() || {
            within(Duration::from_secs(30), "three more lives", || {
                lives().or(reading.is_finished().then_some(()))
            });
            true
        };
        let status = daemon.status();
        over.store(true, Ordering::Relaxed);
        let reads = reading.join().unwrap();
        assert!(lived && reads > 100, "{reads} reads");
        assert_eq!(status["stored"], false, "{status}");
        assert_eq!(status["unstoredSince"], since, "since the first, not the last: {status}");
        assert_eq!(status["lastError"], cause, "{status}");
    });
}

fn is_kept(world: &World, daemon: &Daemon<'_>) -> Option<()> {
    let record = world.aws.record(&world.secret())?;
    let newest = record["refresh_token"].as_str().map(fingerprint) == world.client.newest();
    (newest && daemon.status()["stored"] == true).then_some(())
}

const fn refused_with(with: &'static str) -> Trouble {
    Trouble::Answer { to: "secretsmanager.", with }
}

/// The life of an access token, in seconds.
const LIFE: u64 = 3;
const DENIED: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.1\r\n\r\n{\"__type\":\"AccessDeniedException\",\"Message\":\"User: arn:aws:sts::123456789012:assumed-role/grantd is not authorized to perform: secretsmanager:PutSecretValue\"}";
const THROTTLED: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.1\r\n\r\n{\"__type\":\"ThrottlingException\",\"message\":\"Rate exceeded\"}";
const QUOTA: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.1\r\n\r\n{\"__type\":\"LimitExceededException\",\"Message\":\"You have exceeded the quota of versions\"}";
