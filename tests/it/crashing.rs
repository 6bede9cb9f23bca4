//! SIGKILL at any moment: whatever it hits, no refresh token is presented twice and no token that was received is lost.

use crate::world::{
    Browser, Config, Daemon, OidcEntry, Stopwatch, Trouble, World, binding, eventually, fingerprint, own_uid,
    token_path, within,
};
use ::http::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// `GRANTD_KILLS` says how many (25), `GRANTD_SEED` when. Whoever was hit between the provider's commit and the seal has lost a token by
/// physics: it must be in doubt, and is connected again by a person. Nothing else may happen to anybody.
#[test]
fn two_hundred_kills_at_random_instants_reuse_nothing_and_lose_nothing() {
    let kills = setting("GRANTD_KILLS").unwrap_or(25);
    let mut chance = Chance(setting("GRANTD_SEED").unwrap_or_else(now));
    println!("GRANTD_KILLS={kills} GRANTD_SEED={}", chance.0);
    let world = World::with_ttl("kills", 3);
    let ids: Vec<String> = (1..=5).map(|number| format!("one-of-{number}")).collect();
    for id in &ids {
        world.aws.make_secret(&world.secret_of(id));
    }
    let config = Config {
        integrations: ids.iter().map(|id| world.integration(id, World::PROVIDER)).collect(),
        bindings: ids.iter().map(|id| binding(id, own_uid())).collect(),
        ..world.config()
    };
    world.write_config(&config);
    let mut daemon = Daemon::start(&world);
    ids.iter().for_each(|id| connect(&daemon, id));
    let (mut killed, mut by_physics) = (Vec::new(), 0);
    for _kill in 0..kills {
        let watch = Stopwatch::start();
        watch.rest(Duration::from_millis(chance.below(900)));
        killed.push(now());
        daemon.kill9();
        daemon.restart();
        for id in &ids {
            by_physics += u64::from(mended(&daemon, id));
        }
    }
    let before = world.client.refreshes().len();
    within(Duration::from_secs(12), "every integration refreshes again", || {
        ids.iter().all(|id| refreshes_on(&daemon, id)).then_some(())
    });
    let lost = judged(&world.client.ledger(), &killed);
    println!(
        "{kills} kills, {before} refreshes: {by_physics} in doubt and connected again, {lost} of them presented twice before that"
    );
    assert!(lost <= by_physics);
}

/// Connects anew whoever is in doubt, or was refused because of it; says whether it was needed.
fn mended(daemon: &Daemon<'_>, id: &str) -> bool {
    let status = eventually("it is read from the disk or from the store", || {
        Some(status(daemon, id)).filter(|status| status["status"] != "pending")
    });
    let doubted = status["message"].to_string().contains("in doubt") || status["status"] == "needs_reauth";
    if doubted {
        connect(daemon, id);
    }
    doubted
}

/// Whether it has refreshed since, by its own deadline: the lease is of its newest generation, alive, and in the store.
fn refreshes_on(daemon: &Daemon<'_>, id: &str) -> bool {
    mended(daemon, id);
    let before = status(daemon, id)["generation"].clone();
    within(Duration::from_secs(8), "it refreshes again", || {
        (status(daemon, id)["generation"] != before && daemon.app().get(&token_path(id)).status == 200)
            .then_some(())
    });
    within(Duration::from_secs(8), "it is stored", || (status(daemon, id)["stored"] == true).then_some(()));
    true
}

/// Judges the provider's ledger: a token may come twice only if the daemon was killed while the answer to the first presentation
/// was on its way, and then only as the lease ends. Says how many did.
fn judged(ledger: &[OidcEntry], killed: &[u64]) -> u64 {
    let mut first: BTreeMap<&str, u64> = BTreeMap::new();
    let mut issued: BTreeMap<&str, u64> = BTreeMap::new();
    let mut twice = 0;
    for entry in ledger.iter().filter(|entry| entry.endpoint.as_deref() == Some("token")) {
        if let (Some("refresh_token"), Some(presented)) = (entry.grant.as_deref(), entry.presented.as_deref())
        {
            if let Some(at) = first.get(presented) {
                twice += 1;
                assert!(
                    killed.iter().any(|kill| (at.saturating_sub(20)..at + EXPOSED).contains(kill)),
                    "presented twice, and no kill fell into the first: {entry:?} {ledger:#?}"
                );
                let into = entry.at - issued[presented];
                assert!(into >= 2600, "presented again {into} ms into a lease of 3 s: {entry:?}");
            }
            first.insert(presented, entry.at);
        }
        if let Some(token) = entry.issued.as_deref() {
            issued.insert(token, entry.at);
        }
    }
    let ended = ledger.iter().filter(|entry| entry.event.as_deref() == Some("reuse_detected")).count();
    assert_eq!(ended as u64, twice, "a family was ended for another reason: {ledger:#?}");
    twice
}

fn connect(daemon: &Daemon<'_>, id: &str) {
    let page = Browser::new().connect(&daemon.link_for(id));
    assert_eq!(page.status(), 200, "{id}: {}", page.text());
}

fn status(daemon: &Daemon<'_>, id: &str) -> Value {
    daemon.operate(Method::GET, &format!("/v1/integrations/{id}/status"), None).json()
}

#[expect(clippy::disallowed_methods, reason = "the settings of one test run")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The wall clock, as the ledger counts it.
#[expect(clippy::disallowed_methods, reason = "kills are compared with the ledger's times")]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Chance that repeats (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % most
    }
}

/// How long after the provider's commit an answer may still be unsealed on a busy machine, in milliseconds.
const EXPOSED: u64 = 150;

#[test]
fn kill_9_at_any_moment_of_a_refresh_replays_nothing() {
    let world = World::new("any-moment");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    for round in 0_u64..16 {
        let watch = Stopwatch::start();
        std::thread::scope(|scope| {
            let path = format!("/v1/integrations/{}/refresh", World::INTEGRATION);
            let mut control = daemon.control();
            let asking = scope.spawn(move || control.try_send(::http::Method::POST, &path, None).is_some());
            watch.spin(Duration::from_millis(round * 4));
            daemon.kill9();
            let _answered = asking.join().unwrap();
        });
        daemon.restart();
        let read = eventually("the token is served again", || {
            Some(daemon.token()).filter(|token| token.status == 200)
        });
        world.client.assert_no_reuse();
        if daemon.status()["message"].as_str().is_some_and(|why| why.contains("in doubt")) {
            // The answer was on its way when the daemon died: said so, served on, and mended by a person.
            assert_ne!(read.json()["expires_at"], Value::Null);
            let _page = daemon.connect();
        }
    }
    eventually("the newest token is in the store", || {
        let record = world.aws.record(&world.secret())?;
        (record["refresh_token"].as_str().map(fingerprint) == world.client.newest()).then_some(())
    });
    assert_eq!(daemon.refresh().status, 200);
    world.client.assert_no_reuse();
}

#[test]
fn kill_9_at_any_moment_of_a_revocation_never_serves_again() {
    for moment in [0, 4, 8, 16, 32] {
        let world = World::new("any-moment-revoke");
        let mut daemon = world.start(&world.config());
        let _page = daemon.connect();
        world.store.set(Trouble::Hang);
        let watch = Stopwatch::start();
        let cut_off = std::thread::scope(|scope| {
            let path = format!("/v1/integrations/{}/revoke", World::INTEGRATION);
            let (mut control, mut app) = (daemon.control(), daemon.app());
            let asking = scope.spawn(move || control.try_send(::http::Method::POST, &path, None).is_some());
            watch.spin(Duration::from_millis(moment));
            let seen = app.get(&token_path(World::INTEGRATION)).status == 403;
            daemon.kill9();
            let _answered = asking.join().unwrap();
            seen
        });
        world.store.set(Trouble::None);
        daemon.restart();
        if cut_off && !world.client.requests("revocation").is_empty() {
            eventually("the restart is read", || (daemon.token().status == 403).then_some(()));
        } else {
            // It died before the revocation was durable, and nobody was told that it was done.
            let settled = eventually("the restart is read", || {
                Some(daemon.token().status).filter(|status| [200, 403].contains(status))
            });
            assert!(settled == 403 || daemon.cli(&["revoke", World::INTEGRATION]).code == 0);
            assert_eq!(daemon.token().status, 403);
        }
    }
}
