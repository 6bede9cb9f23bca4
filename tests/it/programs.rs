//! Programs that cannot call a socket: `exec`, `file` and `git-credential`.

use crate::world::{Daemon, Process, Repository, Said, Signal, Stopwatch, World, eventually, run, within};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn exec_gives_a_command_the_token_in_its_environment_and_becomes_it() {
    let world = World::new("exec");
    let daemon = world.start(&world.config());
    eventually("it was never connected", || {
        let mut early = daemon.program(&["exec", World::INTEGRATION, "--", "touch", "ran"]);
        (run(early.current_dir(world.home.path())).status.code() == Some(1)).then_some(())
    });
    assert!(!world.home.path().join("ran").exists(), "nothing runs without a token");
    let _page = daemon.connect();
    let token = daemon.token().json()["access_token"].as_str().unwrap().to_owned();

    let script = r#"printf '%s %s' "$TOKEN" "${GRANTD_ACCESS_TOKEN-none}"; exit 7"#;
    let ran =
        run(&mut daemon.program(&["exec", World::INTEGRATION, "--env", "TOKEN", "--", "sh", "-c", script]));
    assert_eq!(ran.status.code(), Some(7), "the exit code is the command's own");
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), format!("{token} none"));

    let usual =
        run(&mut daemon.program(&["exec", World::INTEGRATION, "--", "printenv", "GRANTD_ACCESS_TOKEN"]));
    assert_eq!(String::from_utf8(usual.stdout).unwrap(), format!("{token}\n"));

    for (command, code) in [("/no/such/command", 127), ("/", 126)] {
        let ran = run(&mut daemon.program(&["exec", World::INTEGRATION, "--", command]));
        assert_eq!(ran.status.code(), Some(code), "{command}");
        assert!(!String::from_utf8(ran.stderr).unwrap().contains(&token));
    }
    let usage = run(&mut daemon.program(&["exec", World::INTEGRATION, "--env", "A=B", "--", "true"]));
    assert_eq!(usage.status.code(), Some(64));
}

#[test]
fn a_token_file_is_never_torn_and_goes_with_its_token() {
    let world = World::with_ttl("file", 4);
    let mut daemon = world.start(&world.config());
    let path = world.home.path().join("token.json");
    std::fs::write(&path, "left by somebody").unwrap();
    let template = r#"{"token":"{access_token}","generation":{generation}}"#;
    let command = daemon.program(&[
        "file",
        World::INTEGRATION,
        path.to_str().unwrap(),
        "--mode",
        "0440",
        "--template",
        template,
    ]);
    let said = Said::default();
    let mut keeper = Process::daemon(&command, said.clone());
    eventually("what is not known to be alive is removed", || (!path.exists()).then_some(()));
    let _page = daemon.connect();
    eventually("the file is written", || path.exists().then_some(()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o440);

    let mut generations = Vec::new();
    within(Duration::from_secs(40), "four generations pass", || {
        for _ in 0..200 {
            read_whole(&path, &mut generations);
        }
        (generations.len() >= 4).then_some(())
    });

    daemon.kill9();
    eventually("the file goes with its token, though the daemon is away", || (!path.exists()).then_some(()));
    daemon.restart();
    eventually("it is written again", || path.exists().then_some(()));

    let revoked = daemon.cli(&["revoke", World::INTEGRATION]);
    assert_eq!(revoked.code, 0, "{}", revoked.stderr);
    eventually("the file goes with the grant", || (!path.exists()).then_some(()));
    let _page = daemon.connect();
    eventually("a new consent brings it back", || path.exists().then_some(()));

    keeper.signal(Signal::TERM);
    assert_eq!(keeper.await_end(Duration::from_secs(5)).code(), Some(0));
    assert!(!said.text().contains("\"token\""), "{}", said.text());
}

/// Reads the file if it is there: whole, in the shape of the template.
fn read_whole(path: &Path, generations: &mut Vec<u64>) {
    // Between the end of one token and the next there may be none.
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("torn: {text:?}"));
    assert!(value["token"].as_str().is_some_and(|token| token.len() > 10), "torn: {text:?}");
    let generation = value["generation"].as_u64().unwrap();
    if generations.last() != Some(&generation) {
        generations.push(generation);
    }
}

#[test]
fn a_token_file_that_may_not_be_is_refused_at_once() {
    let world = World::new("no-file");
    let daemon = world.start(&world.config());
    let path = world.home.path().join("token").display().to_string();
    for (arguments, code) in [
        (vec!["file", "another", &path], 1),
        (vec!["file", World::INTEGRATION, "/no/such/folder/token"], 64),
        (vec!["file", World::INTEGRATION, &path, "--mode", "0777"], 64),
        (vec!["file", World::INTEGRATION, &path, "--mode", "0040"], 64),
    ] {
        let watch = Stopwatch::start();
        let ran = run(&mut daemon.program(&arguments));
        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(watch.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn git_clones_a_private_repository_with_the_token() {
    let world = World::new("git");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    let token = daemon.token().json()["access_token"].as_str().unwrap().to_owned();
    let repository = Repository::start(token);

    let refused = clone(&daemon, &repository, "refused", None);
    assert!(!refused.status.success(), "the repository is open to everybody");
    let cloned = clone(&daemon, &repository, "cloned", Some("--integration acme-idp"));
    assert!(cloned.status.success(), "{}", String::from_utf8_lossy(&cloned.stderr));
    let readme = repository.fresh_folder("cloned").join("README");
    assert_eq!(std::fs::read_to_string(readme).unwrap(), "private\n");
    assert!(repository.users().iter().all(|user| user == "oauth2"), "{:?}", repository.users());

    let elsewhere =
        clone(&daemon, &repository, "elsewhere", Some("--integration acme-idp --host github.com"));
    assert!(!elsewhere.status.success(), "a helper for one host answered for another");
}

fn clone(
    daemon: &Daemon<'_>,
    repository: &Repository,
    name: &str,
    helper: Option<&str>,
) -> std::process::Output {
    let grantd = daemon.program(&["git-credential"]);
    let mut git = Command::new("git");
    for (key, value) in grantd.get_envs() {
        git.env(key, value.unwrap());
    }
    git.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1");
    if let Some(arguments) = helper {
        let program = grantd.get_program().to_str().unwrap();
        git.args(["-c", &format!("credential.helper=!{program} git-credential {arguments}")]);
    }
    run(git.arg("clone").arg("--quiet").arg(repository.url()).arg(repository.fresh_folder(name)))
}

#[test]
fn git_is_answered_for_get_alone_and_never_over_plain_http() {
    let world = World::new("git-get");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    let token = daemon.token().json()["access_token"].as_str().unwrap().to_owned();
    let ask = |operation: &str, request: &str| {
        let mut command = daemon.program(&["git-credential", "--integration", World::INTEGRATION, operation]);
        let input = world.home.path().join("request");
        std::fs::write(&input, request).unwrap();
        let ran = run(command.stdin(std::fs::File::open(&input).unwrap()));
        (ran.status.code(), String::from_utf8(ran.stdout).unwrap())
    };
    let https = "protocol=https\nhost=git.example\nusername=ann\n\n";
    let (code, said) = ask("get", https);
    assert_eq!(code, Some(0));
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[..2], ["username=ann", &format!("password={token}")]);
    assert!(lines[2].starts_with("password_expiry_utc="), "{}", lines[2]);
    for silent in ["store", "erase", "capability"] {
        assert_eq!(ask(silent, https), (Some(0), String::new()), "{silent}");
    }
    assert_eq!(ask("get", "protocol=http\nhost=git.example\n\n"), (Some(1), String::new()));
}
