//! Child processes: started, listened to, and gone when the test is gone, however it ends.
//!
//! A peer runs under a shell that kills it when its standard input closes, which happens when this process dies, even by SIGKILL.
//! The daemon is a direct child, so that its exit code is its own; `setpriv` asks the kernel to kill it with the test's thread.

use super::waiting::{eventually, within};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A running child with everything it said.
pub struct Process {
    child: Child,
    said: Said,
}

/// What a process wrote to standard output and standard error, so far.
#[derive(Clone, Default)]
pub struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    pub fn add(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }

    fn follow(&self, mut pipe: impl Read + Send + 'static) {
        let said = self.clone();
        let _reader = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                said.add(&buffer[..count]);
            }
        });
    }
}

impl Process {
    /// A peer that lives as long as this process at most.
    pub fn peer(command: &Command) -> Self {
        let mut guarded = Command::new("sh");
        guarded.args(["-c", GUARD, "peer"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(key, value),
                None => guarded.env_remove(key),
            };
        }
        Self::start(guarded.stdin(Stdio::piped()), Said::default())
    }

    /// The daemon, as a direct child. What it says is added to `said`.
    pub fn daemon(command: &Command, said: Said) -> Self {
        let mut guarded = if Path::new(SETPRIV).exists() {
            let mut setpriv = Command::new(SETPRIV);
            setpriv.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
            setpriv
        } else {
            let mut plain = Command::new(command.get_program());
            plain.args(command.get_args());
            plain
        };
        guarded.env_clear();
        for (key, value) in command.get_envs() {
            guarded.env(key, value.unwrap_or_default());
        }
        Self::start(guarded.stdin(Stdio::null()), said)
    }

    fn start(command: &mut Command, said: Said) -> Self {
        let mut child = command
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        said.follow(child.stdout.take().unwrap());
        said.follow(child.stderr.take().unwrap());
        Self { child, said }
    }

    /// Waits for a line that `find` recognises; fails with all that was said if the process ends first.
    pub fn await_line<T>(&mut self, what: &str, from: usize, find: impl Fn(&str) -> Option<T>) -> T {
        eventually(what, || {
            let text = self.said.text();
            if let Some(found) = text.get(from..).unwrap_or("").lines().find_map(&find) {
                return Some(found);
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended ({status}) before {what}:\n{text}");
            }
            None
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn handle(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal to this process alone.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn await_end(&mut self, patience: Duration) -> ExitStatus {
        within(patience, "the process ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        match self.child.stdin.take() {
            // The guard kills its peer, then ends by itself.
            Some(stdin) => drop(stdin),
            None => {
                let _gone = self.child.kill();
            }
        }
        let _reaped = self.child.wait();
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> std::process::Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"))
}

/// Runs its arguments, and kills them when standard input ends.
const GUARD: &str = r#""$@" </dev/null & peer=$!; cat >/dev/null; kill -KILL $peer"#;
const SETPRIV: &str = "/usr/bin/setpriv";
