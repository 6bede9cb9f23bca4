//! Units as callers, on real sockets: curl runs in control groups named as systemd names them.
//!
//! Needs root, a kernel with SO_PEERPIDFD, and control groups that may be made; elsewhere nothing is tried.

use super::testing::{Hands, START, lease, view};
use super::{AppDesk, knows_units, serve_app};
use crate::engine::testing::{Actor, Notes, Nowhere, Stage};
use crate::lifecycle::testing::identity;
use crate::lifecycle::{Allow, Binding, NOBODY, Status, UnitRule, Who};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Plays an engine that is asked nothing.
struct Silent;

impl Actor for Silent {}

const TOKEN: &str = "http://grantd/v1/integrations/github/token";

/// A control group in each hierarchy that systemd would use; gone when dropped.
struct Group(Vec<PathBuf>);

impl Group {
    /// `None` where none can be made.
    fn make(name: &str) -> Option<Self> {
        let top = Path::new("/sys/fs/cgroup");
        let places = [top.join("unified"), top.join("systemd"), top.to_path_buf()];
        let places = places.iter().filter(|place| place.join("cgroup.procs").exists());
        let group = Self(places.map(|place| place.join(name)).collect());
        let possible = group.0.iter().all(|folder| std::fs::create_dir_all(folder).is_ok());
        (possible && !group.0.is_empty()).then_some(group)
    }

    /// What curl is told, as a process of this group and a user of its own.
    fn ask(&self, socket: &Path, uid: u32) -> String {
        let joins: Vec<_> =
            self.0.iter().map(|folder| format!("echo $$ >{}/cgroup.procs", folder.display())).collect();
        let curl = Command::new("sh")
            .args(["-c", &format!("{}; exec \"$@\"", joins.join(" && ")), "sh", "/usr/bin/setpriv"])
            .args(["--clear-groups", &format!("--reuid={uid}"), &format!("--regid={uid}")])
            .args(["/usr/bin/curl", "--silent", "--max-time", "20", TOKEN, "--unix-socket"])
            .arg(socket)
            .output()
            .unwrap();
        String::from_utf8(curl.stdout).unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.0 {
            let _gone = std::fs::remove_dir(folder);
        }
    }
}

fn open() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("app.sock");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    (directory, socket)
}

fn rule(text: &str) -> Binding {
    let identity = identity("github");
    Binding {
        who: Who::Unit(UnitRule::parse(text).unwrap()),
        integration: identity.integration,
        provider: identity.provider,
        allow: Allow { token: true, proxy: false },
        paths: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_binding_is_for_the_processes_of_that_unit_alone() {
    let tools = ["/usr/bin/setpriv", "/usr/bin/curl"].iter().all(|tool| Path::new(tool).exists());
    if !nix::unistd::geteuid().is_root() || !tools || !knows_units() {
        return;
    }
    let own = std::process::id();
    let unit = |name: &str| format!("grantd-test-{own}-{name}");
    let names = [unit("billing.service"), unit("worker@3.service"), unit("other.service")];
    let groups: Option<Vec<_>> = names.iter().map(|name| Group::make(name)).collect();
    let Some(groups) = groups else { return };
    let [billing, worker, other] = groups.as_slice() else { panic!("three groups") };

    let bindings = vec![rule(&unit("billing.service")), rule(&unit("worker@*.service"))];
    let stage = Stage::new(bindings, vec![view("github", Status::Connected)], Silent);
    stage.post(view("github", Status::Connected), Some(&lease("github", 1, None)));
    let (_directory, socket) = open();
    let listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let stop = CancellationToken::new();
    let clock = Arc::new(Hands::new());
    clock.set(START);
    let notes = Arc::new(Notes::default());
    let upstream = Arc::new(Nowhere);
    let desk = AppDesk { handle: stage.handle.clone(), clock, trail: notes, upstream };
    let _thread = serve_app(listener, desk, stop.clone()).unwrap();

    // A dynamic user's uid: it says nothing, the unit says all.
    for (group, uid, heard) in [
        (billing, 61_500, "canary-1"),
        (worker, 61_500, "canary-1"),
        (worker, 0, "canary-1"),
        (other, 61_500, "binding_missing"),
        (other, 0, "binding_missing"),
        (billing, NOBODY, "binding_missing"),
    ] {
        let answer = group.ask(&socket, uid);
        assert!(answer.contains(heard), "{uid} in {:?}: {answer}", group.0);
    }
    stop.cancel();
}
