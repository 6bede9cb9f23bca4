//! The sealed-file store, end to end: no AWS, no plaintext, nothing lost.

use crate::world::{World, eventually};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

#[test]
fn a_grant_lives_on_this_host_alone_through_rotation_restart_and_revocation() {
    let world = World::new("sealed");
    let mut daemon = world.start(&world.sealed_config());
    let _page = daemon.connect();
    for _round in 0..3 {
        assert_eq!(daemon.refresh().status, 200);
    }
    let before = daemon.token().json();
    daemon.kill9();
    daemon.restart();
    eventually("the record is read from its file", || (daemon.token().status == 200).then_some(()));
    assert_eq!(daemon.token().json()["access_token"], before["access_token"]);
    assert_eq!(daemon.refresh().status, 200);
    world.client.assert_no_reuse();
    assert_eq!(world.store.taken(), 0, "AWS was asked");

    assert_eq!(daemon.cli(&["revoke", World::INTEGRATION]).code, 0);
    assert_eq!(daemon.token().status, 403);
    daemon.kill9();
    daemon.restart();
    assert_eq!(daemon.token().status, 403);
}

#[test]
fn its_files_are_its_own_and_show_nothing() {
    let world = World::new("sealed-files");
    let daemon = world.start(&world.sealed_config());
    let _page = daemon.connect();
    let files = files_below(&world.state());
    assert!(!files.is_empty());
    for file in &files {
        let mode = std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} is {mode:o}", file.display());
        let bytes = std::fs::read(file).unwrap();
        for word in ["access_token", "refresh_token", "acme-bot", "Bearer"] {
            let found = bytes.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(!found, "{word} is in {}", file.display());
        }
    }
}

#[test]
fn without_its_key_sealed_data_stops_the_daemon() {
    let world = World::new("sealed-key");
    let mut daemon = world.start(&world.sealed_config());
    let _page = daemon.connect();
    daemon.terminate();
    let key = world.state().join("seal.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let (ran, _) = crate::world::second(&world);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    std::fs::write(&key, kept).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    daemon.restart();
    eventually("with its key it is read again", || (daemon.token().status == 200).then_some(()));
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}
