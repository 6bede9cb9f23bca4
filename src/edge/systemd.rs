//! systemd: sockets passed by name, readiness, stopping, the watchdog. Without systemd all of it is a no-op.

use listenfd::ListenFd;
use sd_notify::NotifyState;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

/// The sockets that systemd passed, by the names of the contract: `app`, `control`, `public`.
#[derive(Debug, Default)]
pub struct Passed {
    /// The app socket.
    pub app: Option<UnixListener>,
    /// The control socket.
    pub control: Option<UnixListener>,
    /// The public listener.
    pub public: Option<TcpListener>,
}

/// Takes the sockets that were passed. What has another name is closed.
#[must_use]
pub fn take_sockets() -> Passed {
    #[expect(clippy::disallowed_methods, reason = "systemd's interface is made of variables")]
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut sockets = ListenFd::from_env();
    let mut passed = Passed::default();
    for (index, name) in names.split(':').enumerate().take(sockets.len()) {
        match name {
            "app" => passed.app = sockets.take_unix_listener(index).ok().flatten(),
            "control" => passed.control = sockets.take_unix_listener(index).ok().flatten(),
            "public" => passed.public = sockets.take_tcp_listener(index).ok().flatten(),
            _ => tracing::warn!(name, "a socket was passed under an unknown name"),
        }
    }
    passed
}

/// Says that the daemon is ready.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that the daemon is stopping.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Pings the watchdog.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often the watchdog wants to hear, if it is on: a third of `WatchdogSec`.
#[must_use]
pub fn watchdog() -> Option<std::time::Duration> {
    sd_notify::watchdog_enabled().map(|span| span / 3)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(error = %error.kind(), "systemd was not told");
    }
}
