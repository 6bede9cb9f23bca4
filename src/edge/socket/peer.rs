//! Who the kernel says is at the other end of a Unix socket.
//!
//! The identity is looked up once for a connection and never taken from anything that the peer says. `/proc` is believed only
//! as long as a pidfd shows that the process still lives and still is the user that connected: a pid alone may be reused.

use super::cgroup::{NoUnit, unit_in};
use crate::lifecycle::Caller;
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Gid, Uid, User, getgrouplist};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// The peer of one connection.
#[derive(Debug)]
pub struct Peer {
    caller: Caller,
    no_unit: Option<NoUnit>,
    /// Held as long as the connection lives, so that the process stays the one that was looked at.
    _pidfd: Option<OwnedFd>,
}

/// What the kernel noted when the peer connected (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pid: i32,
}

impl Credentials {
    pub(super) fn of(socket: &impl AsFd) -> io::Result<Self> {
        let noted = getsockopt(socket, sockopt::PeerCredentials)?;
        Ok(Self { uid: noted.uid(), gid: noted.gid(), pid: noted.pid() })
    }

    /// What the kernel would note if the process connected now: its effective ids.
    fn of_process(pid: i32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let effective = |name| numbers(&status, name)?.get(1).copied();
        Some(Self { uid: effective("Uid:")?, gid: effective("Gid:")?, pid })
    }
}

impl Peer {
    /// Finds the peer's groups and unit. Quick where the kernel hands out a pidfd; else the host's user database is asked
    /// for the groups, on another thread and for a bounded time, and no unit is known.
    pub(super) async fn look_up(socket: &impl AsFd, noted: Credentials) -> Self {
        match getsockopt(socket, sockopt::PeerPidfd) {
            Ok(pidfd) => Self::seen(pidfd, noted).await,
            Err(Errno::ENOPROTOOPT) => Self::made(None, noted, Err(NoUnit::Kernel), None).await,
            Err(_gone) => Self::made(None, noted, Err(NoUnit::Gone), None).await,
        }
    }

    /// Looks at a process as at one that had just connected.
    ///
    /// # Errors
    /// [`NoUnit::Gone`], [`NoUnit::Hidden`].
    pub(super) async fn of_process(pid: u32) -> Result<Self, NoUnit> {
        let pid = i32::try_from(pid).map_err(|_too_large| NoUnit::Gone)?;
        let named = Pid::from_raw(pid).ok_or(NoUnit::Gone)?;
        let pidfd = pidfd_open(named, PidfdFlags::empty()).map_err(|_ended| NoUnit::Gone)?;
        let noted = Credentials::of_process(pid).ok_or(NoUnit::Hidden)?;
        Ok(Self::seen(pidfd, noted).await)
    }

    async fn seen(pidfd: OwnedFd, noted: Credentials) -> Self {
        let read = |file| std::fs::read_to_string(format!("/proc/{}/{file}", noted.pid)).ok();
        let (status, cgroup) = (read("status"), read("cgroup"));
        // Only now: what was read is this process's if it still lives.
        if !is_alive(&pidfd) {
            return Self::made(None, noted, Err(NoUnit::Gone), Some(pidfd)).await;
        }
        let groups = status.and_then(|status| parse_status(&status, noted.uid));
        let unit = cgroup.ok_or(NoUnit::Hidden).and_then(|cgroup| unit_in(&cgroup));
        Self::made(groups, noted, unit, Some(pidfd)).await
    }

    async fn made(
        groups: Option<Vec<u32>>,
        noted: Credentials,
        unit: Result<String, NoUnit>,
        pidfd: Option<OwnedFd>,
    ) -> Self {
        let supplementary = match groups {
            Some(groups) => groups,
            None => groups_in_database(noted).await,
        };
        let mut groups = vec![noted.gid];
        groups.extend(supplementary.into_iter().filter(|gid| *gid != noted.gid));
        let (unit, no_unit) = match unit {
            Ok(unit) => (Some(Arc::from(unit)), None),
            Err(why) => (None, Some(why)),
        };
        Self { caller: Caller { uid: noted.uid, groups, unit }, no_unit, _pidfd: pidfd }
    }

    /// The user, the groups and the unit.
    #[must_use]
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Why no unit is known of it.
    #[must_use]
    pub const fn no_unit(&self) -> Option<&NoUnit> {
        self.no_unit.as_ref()
    }
}

/// Whether this kernel names the process behind a socket (`SO_PEERPIDFD`, Linux 6.5), without which unit bindings fit nobody.
#[must_use]
pub fn knows_units() -> bool {
    UnixStream::pair().is_ok_and(|(near, _far)| getsockopt(&near, sockopt::PeerPidfd).is_ok())
}

/// Reads `Groups:` of proc_pid_status(5). `None` unless all four user ids are still `uid`: a process may have connected and
/// then become somebody else, whose groups are not the peer's.
fn parse_status(status: &str, uid: u32) -> Option<Vec<u32>> {
    let uids = numbers(status, "Uid:")?;
    let unchanged = uids.len() == 4 && uids.iter().all(|each| *each == uid);
    if unchanged { numbers(status, "Groups:") } else { None }
}

fn numbers(status: &str, name: &str) -> Option<Vec<u32>> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().map(|word| word.parse().ok()).collect()
}

/// A pidfd becomes readable when its process ends (pidfd_open(2)).
fn is_alive(pidfd: &OwnedFd) -> bool {
    let mut watched = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut watched, Some(&Timespec::default())).is_ok_and(|ready| ready == 0)
}

async fn groups_in_database(noted: Credentials) -> Vec<u32> {
    // A user database may be a network away, and this runtime has readers to serve.
    let asked = tokio::task::spawn_blocking(move || configured_groups(noted));
    match tokio::time::timeout(DATABASE_PATIENCE, asked).await {
        Ok(Ok(Some(groups))) => groups,
        Ok(Ok(None) | Err(_)) | Err(_) => {
            tracing::debug!(
                peer_uid = noted.uid,
                "the peer's groups are not known: its primary group alone counts"
            );
            Vec::new()
        }
    }
}

fn configured_groups(noted: Credentials) -> Option<Vec<u32>> {
    let user = User::from_uid(Uid::from_raw(noted.uid)).ok()??;
    let name = CString::new(user.name).ok()?;
    let groups = getgrouplist(&name, Gid::from_raw(noted.gid)).ok()?;
    Some(groups.into_iter().map(Gid::as_raw).collect())
}

const DATABASE_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::super::cgroup::{NoUnit, unit_in};
    use super::{Credentials, Peer, configured_groups, is_alive, parse_status};
    use std::os::unix::net::UnixStream;

    const STATUS: &str = "Name:\tpython3\nUmask:\t0022\nUid:\t1001\t1001\t1001\t1001\nGid:\t1001\t1001\t1001\t1001\nFDSize:\t64\nGroups:\t27 1001 4321 \nNStgid:\t7\n";

    #[test]
    fn the_groups_of_a_process_are_read_from_its_status() {
        assert_eq!(parse_status(STATUS, 1001), Some(vec![27, 1001, 4321]));
        assert_eq!(parse_status(&STATUS.replace("27 1001 4321", ""), 1001), Some(Vec::new()));
    }

    #[test]
    fn a_process_that_has_become_another_user_is_not_believed() {
        assert_eq!(parse_status(STATUS, 1002), None);
        let half = STATUS.replace("Uid:\t1001\t1001", "Uid:\t1001\t0");
        assert_eq!(parse_status(&half, 1001), None);
        for damaged in ["", "Uid:\t1\t1\t1\t1\n", "Groups:\t1\n", "Uid:\tx\nGroups:\t1\n"] {
            assert_eq!(parse_status(damaged, 1), None, "{damaged}");
        }
    }

    #[tokio::test]
    async fn the_peer_is_this_very_process() {
        let (near, _far) = UnixStream::pair().unwrap();
        let noted = Credentials::of(&near).unwrap();
        let peer = Peer::look_up(&near, noted).await;
        assert_eq!(peer.caller().uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.caller().groups.first(), Some(&nix::unistd::getegid().as_raw()));
        for gid in nix::unistd::getgroups().unwrap() {
            assert!(peer.caller().groups.contains(&gid.as_raw()));
        }
    }

    #[tokio::test]
    async fn a_reused_pid_is_not_believed() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        assert!(is_alive(&pidfd));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_alive(&pidfd));
        // This process stands in for the one that would have got the pid of the one that is gone.
        let (near, _far) = UnixStream::pair().unwrap();
        let reused = Credentials::of(&near).unwrap();
        let peer = Peer::seen(pidfd, reused).await;
        assert_eq!((&peer.caller().unit, peer.no_unit()), (&None, Some(&NoUnit::Gone)));
    }

    #[tokio::test]
    async fn a_process_is_explained_as_the_peer_that_it_would_be() {
        let explained = Peer::of_process(std::process::id()).await.unwrap();
        let (near, _far) = UnixStream::pair().unwrap();
        let peer = Peer::look_up(&near, Credentials::of(&near).unwrap()).await;
        let groups = |peer: &Peer| {
            let mut groups = peer.caller().groups.clone();
            groups.sort_unstable();
            groups
        };
        assert_eq!((explained.caller().uid, groups(&explained)), (peer.caller().uid, groups(&peer)));
        let here = unit_in(&std::fs::read_to_string("/proc/self/cgroup").unwrap());
        assert_eq!(explained.caller().unit.as_deref(), here.as_deref().ok());
        assert_eq!(explained.no_unit(), here.as_ref().err());
        for nobody in [0, u32::MAX, 4_194_305] {
            assert_eq!(Peer::of_process(nobody).await.unwrap_err(), NoUnit::Gone, "{nobody}");
        }
    }

    #[test]
    fn the_user_database_knows_root_and_not_a_stranger() {
        let of = |uid| configured_groups(Credentials { uid, gid: 0, pid: 0 });
        assert!(of(0).is_some_and(|groups| groups.contains(&0)));
        assert_eq!(of(3_999_999_999), None);
    }
}
