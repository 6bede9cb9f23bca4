//! The real binary: started, asked, killed, started again.
//!
//! It runs with `RUST_LOG=trace` and an environment of its own. At its end everything it said, and every file of its state, is
//! searched for what this world knows to be secret.

use super::browser::{Browser, Page};
use super::http::{Answer, Connection};
use super::process::{Process, run};
use super::setup::{Config, World};
use super::waiting::{Stopwatch, within};
use ::http::Method;
use rustix::process::{Resource, Rlimit, Signal, prlimit};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// A running daemon, or one between two lives.
pub struct Daemon<'w> {
    world: &'w World,
    process: Option<Process>,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl<'w> Daemon<'w> {
    #[track_caller]
    pub fn start(world: &'w World) -> Self {
        let mut daemon = Self { world, process: None };
        daemon.restart();
        daemon
    }

    /// Starts it again, on the same files; it must not run.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "the daemon still runs");
        let from = self.world.said.text().len();
        let mut process = Process::daemon(&command(self.world), self.world.said.clone());
        let ready = process.await_line("grantd is ready", from, |line| {
            serde_json::from_str::<Value>(line).ok().filter(|line| line["event"] == "ready")
        });
        self.world.front.upstream(ready["public"].as_str().unwrap().parse().unwrap());
        self.process = Some(process);
    }

    /// SIGKILL: nothing is said, nothing is flushed.
    pub fn kill9(&mut self) {
        drop(self.process.take());
    }

    /// SIGTERM; it must end with 0, within the half minute that it is given. Returns how long it took.
    #[track_caller]
    pub fn terminate(&mut self) -> Duration {
        let watch = Stopwatch::start();
        let mut process = self.process.take().unwrap();
        process.signal(Signal::TERM);
        let status = process.await_end(Duration::from_secs(30));
        assert_eq!(status.code(), Some(0), "after SIGTERM: {status}");
        watch.elapsed()
    }

    /// Sends any other signal.
    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().unwrap().signal(signal);
    }

    /// From now on every write to any file fails, or all succeed again: as on a disk that refuses, and that was mended. The
    /// daemon must have been started with [`World::DEAF_TO_SIZE`].
    pub fn refuse_writes(&self, refuse: bool) {
        let process = self.process.as_ref().unwrap().handle();
        let limit = Rlimit { current: refuse.then_some(0), maximum: None };
        let _before = prlimit(Some(process), Resource::Fsize, limit).unwrap();
    }

    /// Sends SIGTERM and returns at once.
    pub fn ask_to_end(&self) {
        self.process.as_ref().unwrap().signal(Signal::TERM);
    }

    /// Waits for the end that [`Daemon::ask_to_end`] asked for.
    #[track_caller]
    pub fn await_end(&mut self) {
        let status = self.process.take().unwrap().await_end(Duration::from_secs(30));
        assert_eq!(status.code(), Some(0), "after SIGTERM: {status}");
    }

    pub fn id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Writes another configuration and asks for it to be read.
    pub fn reload(&self, config: &Config) -> Ran {
        self.world.write_config(config);
        self.cli(&["reload"])
    }

    /// A connection of an app's.
    #[track_caller]
    pub fn app(&self) -> Connection {
        Connection::open(&self.world.home.path().join("app.sock"))
    }

    /// A connection of an operator's.
    #[track_caller]
    pub fn control(&self) -> Connection {
        Connection::open(&self.world.home.path().join("control.sock"))
    }

    /// One request of an operator's.
    #[track_caller]
    pub fn operate(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let sent = self.control().try_send(method, path, body);
        sent.unwrap_or_else(|| panic!("no answer to {path}"))
    }

    /// Reads the token of the world's integration.
    #[track_caller]
    pub fn token(&self) -> Answer {
        self.app().get(&token_path(World::INTEGRATION))
    }

    /// The status object, as an operator sees it.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.operate(Method::GET, &format!("/v1/integrations/{}/status", World::INTEGRATION), None).json()
    }

    /// A refresh on demand, as an operator asks for it.
    #[track_caller]
    pub fn refresh(&self) -> Answer {
        self.operate(Method::POST, &format!("/v1/integrations/{}/refresh", World::INTEGRATION), None)
    }

    /// Runs `grantd` with the socket that the verb needs. What it says on standard error must hold no secret.
    pub fn cli(&self, arguments: &[&str]) -> Ran {
        let socket = if arguments[0] == "token" { "app.sock" } else { "control.sock" };
        let socket = self.world.home.path().join(socket);
        let mut with_socket: Vec<_> = arguments.to_vec();
        let socket = socket.display().to_string();
        with_socket.extend(["--socket", &socket]);
        grantd(self.world, &with_socket)
    }

    /// `grantd` as a program of an app's calls it: it finds the app socket by its environment.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = binary(self.world);
        command.args(arguments).env("GRANTD_SOCKET", self.world.home.path().join("app.sock"));
        command
    }

    /// A one-time link for the world's integration.
    #[track_caller]
    pub fn link(&self) -> String {
        self.link_for(World::INTEGRATION)
    }

    /// A one-time link for any integration.
    #[track_caller]
    pub fn link_for(&self, integration: &str) -> String {
        let ran = self.cli(&["connect", integration]);
        assert_eq!(ran.code, 0, "connect: {}", ran.stderr);
        let link = ran.stdout.trim().to_owned();
        assert_eq!(ran.stdout, format!("{link}\n"), "the link stands alone on standard output");
        self.world.note("ticket", link.rsplit('/').next().unwrap());
        link
    }

    /// Connects with a browser of its own, which must end well.
    #[track_caller]
    pub fn connect(&self) -> Page {
        let mut browser = Browser::new();
        let callback = browser.until_callback(&self.link());
        for value in browser.cookie_values() {
            self.world.note("cookie", &value);
        }
        let page = browser.arrive(&callback);
        assert_eq!((page.status(), page.code().as_deref()), (200, Some("stored")), "{}", page.text());
        page
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("what grantd said:\n{}", tail(&self.world.said.text()));
        } else {
            self.world.assert_no_leaks();
        }
    }
}

/// Where an app reads a token.
pub fn token_path(integration: &str) -> String {
    format!("/v1/integrations/{integration}/token")
}

/// Runs `grantd` as it is.
pub fn grantd(world: &World, arguments: &[&str]) -> Ran {
    let output = run(binary(world).args(arguments));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    world.said.add(stderr.as_bytes());
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), stdout, stderr }
}

/// Starts a second daemon on the same files, which must give up: returns how it ended, and how long it took.
pub fn second(world: &World) -> (Ran, Duration) {
    let watch = Stopwatch::start();
    let mut child = command(world)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    within(Duration::from_secs(10), "the second daemon gives up", || child.try_wait().unwrap());
    let took = watch.elapsed();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (Ran { code: output.status.code().unwrap_or(-1), stdout: String::new(), stderr }, took)
}

fn command(world: &World) -> Command {
    let mut command = match world.launcher.as_slice() {
        [] => binary(world),
        [program, arguments @ ..] => {
            let mut launcher = surroundings(world, program);
            launcher.args(arguments).arg(BINARY);
            launcher
        }
    };
    command.arg("run").arg("--config").arg(world.config_path());
    command
}

fn binary(world: &World) -> Command {
    surroundings(world, BINARY)
}

/// A command in an environment that is the test's own.
fn surroundings(world: &World, program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", world.home.path())
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", &world.keys.id)
        .env("AWS_SECRET_ACCESS_KEY", &world.keys.secret)
        .envs(world.env.iter().cloned());
    command
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(80)..].join("\n")
}

const BINARY: &str = env!("CARGO_BIN_EXE_grantd");
