//! Start-up time and resident memory of the real binary, at 1, 1,000 and 10,000 integrations.
//!
//! Each integration has its record in a sealed file, a live lease and a binding. Ready is what the daemon says; settled is when
//! every lease is served. `cargo bench --bench footprint` prints a table.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot go on has failed, and it prints its table"
)]

use grantd::edge::store::{SealedFiles, Store};
use grantd::lifecycle::{
    Account, Completion, Identity, IntegrationId, OrganizationId, ProviderId, Record, RecordStatus,
};
use grantd::secret::{AccessToken, RefreshToken, SealKey};
use grantd::time::Timestamp;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() {
    let head = ["integrations", "config KiB", "ready ms", "settled ms", "resident MiB"];
    println!("{:>12} {:>12} {:>10} {:>12} {:>13}", head[0], head[1], head[2], head[3], head[4]);
    for count in [1, 1_000, 10_000] {
        let home = tempfile::tempdir_in(std::env::temp_dir()).unwrap();
        let config = prepare(home.path(), count);
        let seen = measure(home.path(), count);
        println!(
            "{count:>12} {:>12} {:>10.0} {:>12.0} {:>13.1}",
            config / 1024,
            seen.ready.as_secs_f64() * 1e3,
            seen.settled.as_secs_f64() * 1e3,
            f64::from(seen.resident_kib) / 1024.0
        );
    }
}

struct Seen {
    ready: Duration,
    settled: Duration,
    resident_kib: u32,
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}

fn prepare(home: &Path, count: usize) -> usize {
    let key = [7; 32];
    let state = home.join("state");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("seal.key"), key).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(state.join("seal.key"), mode).unwrap();
    let store = Store::Sealed(Arc::new(SealedFiles::new(state.join("store"), Arc::new(SealKey::new(key)))));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let mut text = format!(
        "[server]\npublic_url = \"http://127.0.0.1:1\"\nlisten = \"127.0.0.1:0\"\n[sockets]\napp = {:?}\ncontrol = {:?}\napp_group = \"\"\n[state]\ndirectory = {:?}\n[[organization]]\nid = \"acme\"\n[[provider]]\nid = \"idp\"\nauthorize_url = \"http://127.0.0.1:1/a\"\ntoken_url = \"http://127.0.0.1:1/t\"\nclient_id = \"c\"\n",
        home.join("app.sock"),
        home.join("control.sock"),
        state
    );
    for index in 0..count {
        let identity = identity(index);
        let stored = runtime.block_on(store.store("", &record(identity)));
        assert!(matches!(stored, Completion::Stored), "{stored:?}");
        write!(
            text,
            "[[integration]]\nid = \"i{index}\"\nprovider = \"idp\"\n[[binding]]\nintegration = \"i{index}\"\nuid = {uid}\n"
        )
        .unwrap();
    }
    std::fs::write(home.join("grantd.toml"), &text).unwrap();
    text.len()
}

fn identity(index: usize) -> Identity {
    Identity {
        integration: IntegrationId::parse(&format!("i{index}")).unwrap(),
        organization: OrganizationId::parse("acme").unwrap(),
        provider: ProviderId::parse("idp").unwrap(),
    }
}

/// Tokens of the size that providers hand out, good until 2100.
fn record(identity: Identity) -> Record {
    Record {
        refresh_token: Some(RefreshToken::new("r".repeat(64))),
        access_token: Some(AccessToken::new("a".repeat(900))),
        identity,
        generation: 1,
        token_type: "Bearer".into(),
        expires_at: Some(Timestamp::from_seconds(4_102_444_800)),
        refresh_token_expires_at: None,
        scope: Some("read write".into()),
        account: Account::default(),
        connected_account: None,
        status: RecordStatus::Connected,
        written_at: Timestamp::from_seconds(4_000_000_000),
    }
}

fn measure(home: &Path, count: usize) -> Seen {
    let begun = now();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_grantd"))
        .args(["run", "--config"])
        .arg(home.join("grantd.toml"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(daemon.stderr.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"event\":\"ready\"")));
    assert!(line.is_some(), "the daemon did not start");
    let ready = begun.elapsed();
    let drain = std::thread::spawn(move || lines.map_while(Result::ok).count());
    let last = count - 1;
    for index in [0, count / 2, last] {
        read(&home.join("app.sock"), index);
    }
    let settled = begun.elapsed();
    let resident_kib = resident(&daemon);
    stop(&mut daemon);
    drain.join().unwrap();
    Seen { ready, settled, resident_kib }
}

/// Waits for one token.
fn read(socket: &Path, index: usize) {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "GET /v1/integrations/i{index}/token?wait=60 HTTP/1.1\r\nhost: grantd\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{}", answer.lines().next().unwrap_or(""));
}

fn resident(daemon: &Child) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn stop(daemon: &mut Child) {
    let pid = rustix::process::Pid::from_child(daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(daemon.wait().unwrap().success(), "the daemon did not stop as it should");
}
