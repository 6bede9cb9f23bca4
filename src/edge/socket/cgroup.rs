//! Reads `/proc/PID/cgroup`: which unit of the system a process runs in.
//!
//! The first part of the path that is no slice is the unit; what lies deeper was made inside it (a container's own systemd, a
//! delegated tree) and is never believed to be a unit of this system. What is doubtful is no unit: a rule then fits nobody.

use crate::lifecycle::{is_of_a_user, is_unit};
use std::fmt;

/// Why no unit of the system is known of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoUnit {
    /// The kernel hands out no pidfd of a peer.
    Kernel,
    /// The process that connected has ended.
    Gone,
    /// `/proc` does not show it.
    Hidden,
    /// The text has another form than cgroups(7) says.
    Unreadable,
    /// It is in no control group but the outermost.
    Outermost,
    /// Its control group lies outside of those that this process can see.
    Outside,
    /// Something else than systemd made its control group: a container engine, a batch system.
    Foreign(String),
    /// A user's manager or session: whatever that user runs.
    User(String),
    /// The two hierarchies of a hybrid host name different units.
    Torn,
}

impl fmt::Display for NoUnit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => out.write_str(
                "this kernel has no SO_PEERPIDFD (Linux 6.5): unit bindings fit nobody, bind users instead",
            ),
            Self::Gone => out.write_str("the process has ended, so that its pid may be another's by now"),
            Self::Hidden => out.write_str("/proc does not show the process: see ProtectProc= and hidepid"),
            Self::Unreadable => out.write_str("/proc/PID/cgroup has an unknown form"),
            Self::Outermost => {
                out.write_str("it is in no control group of its own: systemd did not start it")
            }
            Self::Outside => out.write_str("its control group lies outside of grantd's own container"),
            Self::Foreign(path) => write!(out, "{path} was not made by this system's systemd"),
            Self::User(path) => write!(out, "{path} holds whatever a user runs: bind the user"),
            Self::Torn => out.write_str("its two control group hierarchies name different units"),
        }
    }
}

/// The unit that a cgroup file names.
///
/// # Errors
/// [`NoUnit`].
pub(super) fn unit_in(text: &str) -> Result<String, NoUnit> {
    let path = |wanted: fn(&str, &str) -> bool| {
        text.lines().find_map(|line| {
            let (id, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            wanted(id, controllers).then_some(path)
        })
    };
    let unified = path(|id, controllers| id == "0" && controllers.is_empty());
    let named = path(|_, controllers| controllers == "name=systemd");
    // A hybrid host has both and systemd keeps them alike; one that knows version 1 alone leaves the other at its root.
    match (unified, named) {
        (None, None) => Err(NoUnit::Unreadable),
        (Some(one), None) | (None | Some("/"), Some(one)) | (Some(one), Some("/")) => unit_of(one),
        (Some(one), Some(other)) => match (unit_of(one), unit_of(other)) {
            (Ok(unit), Ok(same)) if unit == same => Ok(unit),
            (Err(why), Err(_)) => Err(why),
            (Ok(_), _) | (Err(_), Ok(_)) => Err(NoUnit::Torn),
        },
    }
}

fn unit_of(path: &str) -> Result<String, NoUnit> {
    let inside = path.strip_prefix('/').ok_or(NoUnit::Unreadable)?;
    if inside.split('/').any(|part| part == "..") {
        return Err(NoUnit::Outside);
    }
    if inside.is_empty() {
        return Err(NoUnit::Outermost);
    }
    if inside == USERS || inside.starts_with("user.slice/") {
        return Err(NoUnit::User(path.to_owned()));
    }
    let foreign = || NoUnit::Foreign(path.to_owned());
    let first = inside.split('/').find(|part| !part.ends_with(".slice")).ok_or_else(foreign)?;
    // systemd puts one underscore before names that the kernel could take for its own files, such as memory.service.
    let name = first.strip_prefix('_').unwrap_or(first);
    match name {
        user if is_of_a_user(user) => Err(NoUnit::User(path.to_owned())),
        unit if is_unit(unit) => Ok(unit.to_owned()),
        _ => Err(foreign()),
    }
}

const USERS: &str = "user.slice";

#[cfg(test)]
mod tests {
    use super::{NoUnit, unit_in};

    /// Paths as they were seen on hosts, in the form of cgroup version 2.
    #[test]
    fn the_first_part_that_is_no_slice_is_the_unit() {
        for (path, unit) in [
            ("/system.slice/billing.service", "billing.service"),
            ("/system.slice/system-worker.slice/worker@3.service", "worker@3.service"),
            ("/acme.slice/acme-pay.slice/acme-pay-card.slice/card.service", "card.service"),
            ("/billing.service", "billing.service"),
            ("/system.slice/_memory.service", "memory.service"),
            ("/system.slice/__odd.service", "_odd.service"),
            ("/init.scope", "init.scope"),
            // A service with Delegate=, a Quadlet of podman, a service with a cgroup for each side of it.
            ("/system.slice/runner.service/job-7", "runner.service"),
            ("/system.slice/web.service/libpod-payload-0f3a", "web.service"),
            ("/system.slice/db.service/payload/child", "db.service"),
            // Containers whose engine asks systemd for a scope.
            ("/system.slice/docker-0f3a9c.scope", "docker-0f3a9c.scope"),
            ("/machine.slice/libpod-0f3a9c.scope/container", "libpod-0f3a9c.scope"),
            (
                "/kubepods.slice/kubepods-burstable.slice/cri-containerd-0f3a.scope",
                "cri-containerd-0f3a.scope",
            ),
            // A systemd inside of a container names units of its own, which are not this system's.
            (
                "/machine.slice/systemd-nspawn@guest.service/payload/system.slice/billing.service",
                "systemd-nspawn@guest.service",
            ),
            (
                "/machine.slice/machine-guest.scope/payload/system.slice/billing.service",
                "machine-guest.scope",
            ),
            ("/system.slice/docker-0f3a9c.scope/system.slice/billing.service", "docker-0f3a9c.scope"),
        ] {
            assert_eq!(unit_in(&format!("0::{path}\n")).as_deref(), Ok(unit), "{path}");
        }
    }

    #[test]
    fn what_a_user_runs_is_no_unit_of_the_system() {
        for path in [
            "/user.slice/user-1000.slice/user@1000.service/app.slice/billing.service",
            "/user.slice/user-1000.slice/user@1000.service/session.slice/billing.service",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-0f3a.scope",
            "/user.slice/user-1000.slice/user@1000.service/init.scope",
            "/user.slice/user-1000.slice/session-3.scope",
            "/user.slice/user-1000.slice/billing.service",
            "/user.slice",
            "/system.slice/user@1000.service/billing.service",
            "/session-3.scope",
        ] {
            let found = unit_in(&format!("0::{path}\n"));
            assert_eq!(found, Err(NoUnit::User(path.to_owned())), "{path}");
        }
    }

    #[test]
    fn what_systemd_did_not_make_is_no_unit() {
        for path in [
            "/docker/0f3a9c/system.slice/billing.service",
            "/docker/0f3a9c",
            "/lxc/guest/system.slice/billing.service",
            "/lxc.payload.guest/billing.service",
            "/kubepods/burstable/pod7/billing.service",
            "/system.slice",
            "/system.slice/acme.slice",
            "/system.slice/billing.service (deleted)",
            "/system.slice/billing.socket",
            "/system.slice//billing.service",
            "/.service",
            "/system.slice/_.service",
        ] {
            let found = unit_in(&format!("0::{path}\n"));
            assert_eq!(found, Err(NoUnit::Foreign(path.to_owned())), "{path}");
        }
        assert_eq!(unit_in("0::/\n"), Err(NoUnit::Outermost));
        for path in
            ["/../billing.service", "/../../system.slice/billing.service", "/system.slice/../billing.service"]
        {
            assert_eq!(unit_in(&format!("0::{path}\n")), Err(NoUnit::Outside), "{path}");
        }
    }

    #[test]
    fn version_1_and_hybrid_hosts_are_understood() {
        let hybrid = |named: &str, unified: &str| {
            format!(
                "13:pids:/system.slice\n12:memory:/other.service\n4:cpu,cpuacct:/\n1:name=systemd:{named}\n0::{unified}\n"
            )
        };
        let billing = Ok("billing.service".to_owned());
        assert_eq!(
            unit_in(&hybrid("/system.slice/billing.service", "/system.slice/billing.service")),
            billing
        );
        assert_eq!(
            unit_in(&hybrid("/system.slice/billing.service/a", "/system.slice/billing.service/b")),
            billing
        );
        assert_eq!(unit_in(&hybrid("/system.slice/billing.service", "/")), billing);
        assert_eq!(unit_in(&hybrid("/", "/system.slice/billing.service")), billing);
        assert_eq!(unit_in(&hybrid("/", "/")), Err(NoUnit::Outermost));
        assert_eq!(unit_in("2:memory:/x\n1:name=systemd:/system.slice/billing.service\n"), billing);
        for torn in [
            hybrid("/system.slice/billing.service", "/system.slice/other.service"),
            hybrid("/system.slice/billing.service", "/docker/0f3a"),
            hybrid("/user.slice/user-1000.slice/session-1.scope", "/system.slice/billing.service"),
        ] {
            assert_eq!(unit_in(&torn), Err(NoUnit::Torn), "{torn}");
        }
        for damaged in ["", "nonsense", "1:memory:/system.slice/billing.service\n", "0::billing.service\n"] {
            assert_eq!(unit_in(damaged), Err(NoUnit::Unreadable), "{damaged}");
        }
    }
}
