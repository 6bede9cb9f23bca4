//! Deletion: apps are cut off, the provider is told, and nothing of the grant is left, whatever is down or dies.

use crate::world::{Config, Daemon, World, eventually};
use crate::world::{Fault, Trouble};
use http::Method;
use serde_json::Value;

fn delete(daemon: &Daemon<'_>) -> Value {
    let answer = daemon.operate(Method::DELETE, &format!("/v1/integrations/{}", World::INTEGRATION), None);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn pending(daemon: &Daemon<'_>) {
    eventually("the integration is pending again", || (daemon.status()["status"] == "pending").then_some(()));
    let read = daemon.token();
    assert_eq!((read.status, read.code().as_str()), (409, "integration_pending"));
}

#[test]
fn a_deleted_integration_is_emptied_and_can_be_connected_anew() {
    let world = World::new("delete");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    let newest = world.client.newest();
    let ran = daemon.cli(&["delete", World::INTEGRATION]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("the provider confirmed"), "{}", ran.stderr);
    pending(&daemon);
    let told = world.client.requests("revocation");
    assert!(told.iter().any(|told| told.presented == newest), "with the newest token");
    let record = world.aws.record(&world.secret()).unwrap();
    assert!(record.get("refresh_token").is_none() && record.get("access_token").is_none(), "{record}");
    let again = daemon.cli(&["delete", World::INTEGRATION]);
    assert_eq!(again.code, 1, "{}", again.stderr);

    daemon.kill9();
    daemon.restart();
    pending(&daemon);
    assert!(daemon.status()["lastError"].is_null());
    let _page = daemon.connect();
    assert_eq!(daemon.token().status, 200);
    let trail = daemon.operate(Method::GET, "/v1/audit", None).text();
    for word in ["delete_asked", "deleting", "deleted"] {
        assert!(trail.contains(&format!("\"what\":\"{word}\"")), "{word}");
    }
}

#[test]
fn a_secret_is_deleted_only_where_the_operator_allows_it() {
    let world = World::new("delete-secret");
    let config = world.config();
    let config = Config { store: format!("{}delete = \"delete-secret\"\n", config.store), ..config };
    let mut daemon = world.start(&config);
    let _page = daemon.connect();
    assert_eq!((&delete(&daemon)["status"], &delete_refused(&daemon)), (&"pending".into(), &409));
    assert!(world.aws.value(&world.secret(), "AWSCURRENT").is_none(), "marked for deletion");
    daemon.kill9();
    daemon.restart();
    pending(&daemon);
    assert!(daemon.status()["lastError"].is_null(), "the store is not asked for what was deleted");
}

fn delete_refused(daemon: &Daemon<'_>) -> u16 {
    daemon.operate(Method::DELETE, &format!("/v1/integrations/{}", World::INTEGRATION), None).status
}

#[test]
fn a_deletion_is_finished_after_kill_9_and_says_that_the_provider_was_silent() {
    let world = World::new("delete-down");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.store.set(Trouble::Refuse);
    world.client.plan("revocation", Fault::Status(503), 4);
    let told = delete(&daemon);
    assert_eq!(
        (told["status"].as_str(), told["upstream"].as_str()),
        (Some("revoked"), Some("silent")),
        "{told}"
    );
    let read = daemon.token();
    assert_eq!((read.status, read.code().as_str()), (403, "integration_revoked"), "the very next read");
    daemon.kill9();
    daemon.restart();
    assert_eq!(daemon.token().status, 403);
    world.store.set(Trouble::None);
    pending(&daemon);
    let record = world.aws.record(&world.secret()).unwrap();
    assert!(record.get("refresh_token").is_none(), "{record}");
}

#[test]
fn a_sealed_file_is_removed() {
    let world = World::new("delete-file");
    let daemon = world.start(&world.sealed_config());
    let _page = daemon.connect();
    let file = world.state().join("store").join(format!("{}.sealed", World::INTEGRATION));
    assert!(file.exists());
    assert_eq!(delete(&daemon)["status"], "pending");
    assert!(!file.exists());
    let _page = daemon.connect();
    assert_eq!(daemon.token().status, 200);
}
