//! What systemd sees: READY and STOPPING, and sockets that it made and passed by name.

use crate::world::{World, eventually, second};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

#[test]
fn readiness_and_the_end_are_told() {
    let mut world = World::new("notify");
    let path = world.home.path().join("notify.sock");
    let inbox = UnixDatagram::bind(&path).unwrap();
    inbox.set_nonblocking(true).unwrap();
    world.env.push(("NOTIFY_SOCKET".into(), path.display().to_string()));
    let mut daemon = world.start(&world.sealed_config());
    told(&inbox, "READY=1");
    daemon.terminate();
    told(&inbox, "STOPPING=1");
}

#[test]
fn sockets_that_were_passed_are_used_by_their_names_and_left_in_place() {
    let mut world = World::new("passed");
    let script = "import fcntl, os, socket, sys\n\
        def unix(path):\n    s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen(16); return s\n\
        home = sys.argv[1]\n\
        tcp = socket.socket(); tcp.bind(('127.0.0.1', 0)); tcp.listen(16)\n\
        made = [tcp, unix(home + '/passed-control'), unix(home + '/passed-app')]\n\
        high = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 50) for s in made]\n\
        for number, fd in enumerate(high): os.dup2(fd, 3 + number)\n\
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='3', LISTEN_FDNAMES='public:control:app')\n\
        os.execv(sys.argv[2], sys.argv[2:])\n";
    world.launcher = ["python3", "-c", script].map(Into::into).to_vec();
    world.launcher.push(world.home.path().display().to_string());
    let mut config = world.sealed_config();
    config.head = config.head.replace("/app.sock", "/passed-app").replace("/control.sock", "/passed-control");
    let mut daemon = world.start(&config);
    for (link, made) in [("app.sock", "passed-app"), ("control.sock", "passed-control")] {
        std::os::unix::fs::symlink(world.home.path().join(made), world.home.path().join(link)).unwrap();
    }
    let _page = daemon.connect();
    assert_eq!(daemon.token().status, 200);
    daemon.terminate();
    for made in ["passed-app", "passed-control"] {
        assert!(Path::exists(&world.home.path().join(made)), "{made} belongs to whoever made it");
    }
}

#[test]
fn what_protects_the_daemon_is_told_at_a_start() {
    let world = World::new("protections");
    let mut config = world.sealed_config();
    config.bindings.push_str("[[binding]]\nintegration = \"acme-idp\"\nunit = \"billing.service\"\n");
    let mut daemon = world.start(&config);
    let text = world.said.text();
    let told = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let told: Vec<_> = told.filter(|line| line["message"] == "protections in force").collect();
    let [told] = told.as_slice() else { panic!("one line: {text}") };
    for on in ["private_memory", "no_core_files", "state_directory"] {
        assert_eq!(told[on], "on", "{told}");
    }
    for off in ["seal_key", "kept_sockets", "watchdog", "filtered_calls"] {
        let why = told[off].as_str().unwrap();
        assert!(why.starts_with("off: "), "nothing here gives it {off}: {told}");
    }
    let units = told["unit_bindings"] == "on";
    assert_ne!(units, text.contains("bindings by unit fit nobody on this kernel"), "{told}");
    // What the kernel says, beside what the daemon says.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(cores.split_whitespace().filter(|word| *word == "0").count() == 2, "{cores}");
    daemon.terminate();
}

#[test]
fn a_state_directory_that_others_may_write_is_refused() {
    let world = World::new("open-state");
    std::fs::create_dir(world.state()).unwrap();
    std::fs::set_permissions(world.state(), std::fs::Permissions::from_mode(0o777)).unwrap();
    world.write_config(&world.sealed_config());
    let (ran, _took) = second(&world);
    assert!(ran.code == 77 && ran.stderr.contains("can be written by others"), "{ran:?}");
    assert!(std::fs::read_dir(world.state()).unwrap().next().is_none(), "nothing was put there");
}

#[track_caller]
fn told(inbox: &UnixDatagram, what: &str) {
    eventually(what, || {
        let mut buffer = [0; 1024];
        let count = inbox.recv(&mut buffer).ok()?;
        String::from_utf8_lossy(&buffer[..count]).lines().any(|line| line == what).then_some(())
    });
}
