//! A state directory in another place, or on another host: it holds refresh tokens that somebody else may be spending.

use crate::world::{World, eventually, is_root, run, second};
use std::process::Command;

#[test]
fn a_copied_state_directory_is_refused_with_what_to_do() {
    let world = World::new("copied");
    let mut daemon = world.start(&world.sealed_config());
    let _page = daemon.connect();
    let copy = world.home.path().join("copy");
    let copied = run(Command::new("cp").arg("-a").arg(world.state()).arg(&copy));
    assert!(copied.status.success());
    daemon.terminate();
    let mut config = world.sealed_config();
    config.head = config.head.replace(&world.state().display().to_string(), &copy.display().to_string());
    world.write_config(&config);
    let (ran, _took) = second(&world);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    for word in [copy.display().to_string().as_str(), "never runs again", "remove"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    world.write_config(&world.sealed_config());
    daemon.restart();
    eventually("the original is undisturbed", || (daemon.token().status == 200).then_some(()));
    // The remedy is what the refusal says.
    daemon.terminate();
    std::fs::remove_file(copy.join("host")).unwrap();
    world.write_config(&config);
    daemon.restart();
    eventually("the copy runs in the original's place", || (daemon.token().status == 200).then_some(()));
    assert_eq!(daemon.refresh().status, 200);
    world.client.assert_no_reuse();
}

#[test]
fn a_state_directory_of_another_machine_is_refused() {
    let mut world = World::new("moved");
    let mut daemon = world.start(&world.sealed_config());
    let _page = daemon.connect();
    daemon.terminate();
    drop(daemon);
    if is_root() {
        // This machine under another machine id, in a mount namespace of its own.
        let id = world.home.path().join("machine-id");
        std::fs::write(&id, "0123456789abcdef0123456789abcdef\n").unwrap();
        let script = format!("mount --bind {} /etc/machine-id && exec \"$@\"", id.display());
        world.launcher = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(Into::into).to_vec();
    } else {
        eprintln!("not root: the note of the machine is changed instead of the machine");
        let note = world.state().join("host");
        let noted = std::fs::read_to_string(&note).unwrap();
        let (_, inode) = noted.split_once(' ').unwrap();
        std::fs::write(&note, format!("{} {inode}", "0".repeat(32))).unwrap();
    }
    let (ran, _took) = second(&world);
    assert_eq!((ran.code, ran.stderr.contains("another host")), (78, true), "{}", ran.stderr);
}

#[test]
fn a_host_put_back_from_a_snapshot_adopts_the_newer_record_and_spends_nothing_old() {
    let world = World::new("snapshot");
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    assert_eq!(daemon.refresh().status, 200);
    daemon.terminate();
    let snapshot = world.home.path().join("snapshot");
    copy(&world.state().join("spool"), &snapshot);
    daemon.restart();
    eventually("the token is served", || (daemon.token().status == 200).then_some(()));
    assert_eq!((daemon.refresh().status, daemon.refresh().status), (200, 200));
    let newest = daemon.status()["generation"].clone();
    daemon.terminate();
    // The same folder, so that the host seems to be the one it was.
    copy(&snapshot.join("."), &world.state().join("spool"));
    daemon.restart();
    eventually("the token is served again", || (daemon.token().status == 200).then_some(()));
    assert_eq!(daemon.status()["generation"], newest);
    eventually("it refreshes on", || (daemon.refresh().status == 200).then_some(()));
    world.client.assert_no_reuse();
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    assert!(run(Command::new("cp").arg("-a").arg(from).arg(to)).status.success());
}
