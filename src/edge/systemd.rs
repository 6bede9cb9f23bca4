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
    /// The names of those that were passed and cannot be used; they are closed.
    pub strangers: Vec<String>,
}

/// Takes the sockets that were passed. What has another name, or is no such socket, is closed.
#[must_use]
pub fn take_sockets() -> Passed {
    #[expect(clippy::disallowed_methods, reason = "systemd's interface is made of variables")]
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut sockets = ListenFd::from_env();
    let mut passed = Passed::default();
    let mut names = names.split(':');
    for index in 0..sockets.len() {
        let name = names.next().unwrap_or_default();
        let unix = |sockets: &mut ListenFd| sockets.take_unix_listener(index).ok().flatten();
        let used = match name {
            "app" if passed.app.is_none() => take(&mut passed.app, unix(&mut sockets)),
            "control" if passed.control.is_none() => take(&mut passed.control, unix(&mut sockets)),
            "public" if passed.public.is_none() => {
                take(&mut passed.public, sockets.take_tcp_listener(index).ok().flatten())
            }
            _ => false,
        };
        if !used {
            close(&mut sockets, index);
            passed.strangers.push(name.to_owned());
        }
    }
    passed
}

fn take<T>(place: &mut Option<T>, found: Option<T>) -> bool {
    *place = found;
    place.is_some()
}

/// What is taken and dropped is closed; taking it as something that it is not leaves it where it is.
fn close(sockets: &mut ListenFd, index: usize) {
    let _tcp = sockets.take_tcp_listener(index);
    let _unix = sockets.take_unix_listener(index);
    let _udp = sockets.take_udp_socket(index);
    let _datagrams = sockets.take_unix_datagram(index);
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
