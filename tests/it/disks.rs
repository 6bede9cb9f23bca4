//! A disk that is full, that refuses writes, or that is read-only: before a refresh nothing is spent, after it nothing is lost.
//!
//! A full disk is a small tmpfs, which only root can mount. A disk that refuses is a limit on file sizes, which anybody can set for
//! a process of his own, and lift again.

use crate::world::{Daemon, Trouble, World, eventually, fingerprint, is_root, run, second};
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn a_full_disk_before_a_refresh_spends_nothing() {
    let world = World::new("full-before");
    let Some(disk) = Disk::below(&world) else { return };
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    disk.fill();
    for _ask in 0..3 {
        let refused = daemon.refresh();
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (503, "token_unavailable"),
            "{}",
            refused.text()
        );
        assert_eq!(daemon.token().status, 200);
    }
    assert_eq!(world.client.refreshes().len(), 0, "nothing is spent that cannot be kept");
    assert!(daemon.status()["message"].to_string().contains("disk"), "{}", daemon.status());
    disk.clear();
    goes_on(&world, &daemon);
}

#[test]
fn a_disk_that_fills_after_the_answer_keeps_the_token_all_the_same() {
    let world = World::new("full-after");
    let Some(disk) = Disk::below(&world) else { return };
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.store.set(Trouble::Refuse);
    answered_meanwhile(&world, &daemon, || disk.fill());
    eventually("it is sealed in room that was made before", || {
        (daemon.status()["stored"] == false).then_some(())
    });
    daemon.kill9();
    daemon.restart();
    world.store.set(Trouble::None);
    kept(&world, &daemon);
    disk.clear();
    goes_on(&world, &daemon);
}

#[test]
fn a_read_only_disk_stops_the_start_and_loses_nothing() {
    let world = World::new("read-only");
    let Some(disk) = Disk::below(&world) else { return };
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    assert!(!disk.remount("ro"), "the kernel lets no file system become read-only under an open file");
    assert_eq!(daemon.refresh().status, 200);
    kept(&world, &daemon);
    daemon.terminate();
    assert!(disk.remount("ro"));
    let (ran, _took) = second(&world);
    assert!(ran.code != 0 && ran.stderr.contains("state"), "{}: {}", ran.code, ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    assert!(disk.remount("rw"));
    daemon.restart();
    eventually("the token is served again", || (daemon.token().status == 200).then_some(()));
    goes_on(&world, &daemon);
}

#[test]
fn a_disk_that_refuses_before_a_refresh_spends_nothing_and_is_forgiven_when_mended() {
    let mut world = World::new("refuses-before");
    world.launcher = World::DEAF_TO_SIZE.map(Into::into).to_vec();
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    daemon.refuse_writes(true);
    for _ask in 0..3 {
        let refused = daemon.refresh();
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (503, "token_unavailable"),
            "{}",
            refused.text()
        );
        assert_eq!(daemon.token().status, 200);
    }
    assert_eq!(world.client.refreshes().len(), 0);
    daemon.refuse_writes(false);
    goes_on(&world, &daemon);
    daemon.kill9();
    daemon.restart();
    eventually("the token is served again", || (daemon.token().status == 200).then_some(()));
    goes_on(&world, &daemon);
}

#[test]
fn a_disk_that_refuses_after_the_answer_sends_the_token_to_the_store_first() {
    let mut world = World::new("refuses-after");
    world.launcher = World::DEAF_TO_SIZE.map(Into::into).to_vec();
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    let before = daemon.token().json();
    world.store.set(Trouble::Hold);
    answered_meanwhile(&world, &daemon, || daemon.refuse_writes(true));
    eventually("the seal is refused", || daemon.status()["lastError"].is_string().then_some(()));
    assert_eq!(
        daemon.token().json()["access_token"],
        before["access_token"],
        "nothing is served that is nowhere"
    );
    world.store.set(Trouble::None);
    kept(&world, &daemon);
    eventually("it is served once the store has it", || {
        (daemon.token().json()["access_token"] != before["access_token"]).then_some(())
    });
    // Dead at this moment, it would come back from the store.
    daemon.kill9();
    daemon.restart();
    eventually("the token is served again", || (daemon.token().status == 200).then_some(()));
    goes_on(&world, &daemon);
}

#[test]
fn what_neither_disk_nor_store_takes_is_sealed_as_soon_as_the_disk_is_mended() {
    let mut world = World::new("refuses-both");
    world.launcher = World::DEAF_TO_SIZE.map(Into::into).to_vec();
    let mut daemon = world.start(&world.config());
    let _page = daemon.connect();
    world.store.set(Trouble::Refuse);
    answered_meanwhile(&world, &daemon, || daemon.refuse_writes(true));
    eventually("the seal is refused", || daemon.status()["lastError"].is_string().then_some(()));
    daemon.refuse_writes(false);
    world.store.set(Trouble::None);
    kept(&world, &daemon);
    daemon.kill9();
    daemon.restart();
    goes_on(&world, &daemon);
}

/// A small file system at the world's state directory.
struct Disk(PathBuf);

impl Disk {
    /// `None`, and a word about it, where the tests may not mount.
    fn below(world: &World) -> Option<Self> {
        if !is_root() {
            eprintln!("not root: no small disk can be mounted, so a full one is not tried");
            return None;
        }
        std::fs::create_dir(world.state()).unwrap();
        let mounted = run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m,mode=700", "grantd-it"])
            .arg(world.state()));
        if !mounted.status.success() {
            eprintln!("mount is refused: a full disk is not tried");
            return None;
        }
        Some(Self(world.state()))
    }

    fn fill(&self) {
        let full = run(Command::new("dd")
            .args(["if=/dev/zero", "bs=4k"])
            .arg(format!("of={}", self.filler().display())));
        assert!(!full.status.success(), "the disk does not fill");
    }

    fn clear(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    fn remount(&self, how: &str) -> bool {
        run(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0)).status.success()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _unmounted = run(Command::new("umount").arg("--lazy").arg(Path::new(&self.0)));
    }
}

/// Does something between the provider's commit and its answer's arrival.
#[track_caller]
fn answered_meanwhile(world: &World, daemon: &Daemon<'_>, meanwhile: impl FnOnce()) {
    world.idp.set(Trouble::HoldAnswerTo("/token"));
    let path = format!("/v1/integrations/{}/refresh", World::INTEGRATION);
    let mut control = daemon.control();
    let _asking = std::thread::spawn(move || control.try_send(::http::Method::POST, &path, None));
    eventually("the provider has committed", || (world.client.refreshes().len() == 1).then_some(()));
    meanwhile();
    world.idp.set(Trouble::None);
}

#[track_caller]
fn kept(world: &World, daemon: &Daemon<'_>) {
    eventually("the newest token is in the store", || {
        let record = world.aws.record(&world.secret())?;
        let newest = record["refresh_token"].as_str().map(fingerprint) == world.client.newest();
        (newest && daemon.status()["stored"] == true).then_some(())
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
