//! What the process asks of the kernel for itself: no core files, no other process in its memory, memory that is not swapped
//! out, files for its own user alone. What the kernel refuses is told, never passed over.
//!
//! It asks before any secret is read, and changes nothing outside of the process.

use rustix::fs::Mode;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, geteuid, getrlimit, set_dumpable_behavior, setrlimit, umask,
};
use std::fmt;

/// One protection: in force, or not and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// It is in force.
    On,
    /// It is not.
    Off(String),
}

/// What protects the process.
#[derive(Clone, Debug)]
pub struct Guards {
    /// No process of the same user reads its memory or its environment.
    pub private_memory: Guard,
    /// No core file is ever written.
    pub no_core_files: Guard,
    /// No page is swapped out.
    pub locked_memory: Guard,
    /// It is not root.
    pub own_user: Guard,
    /// It has no capability.
    pub no_capabilities: Guard,
    /// It cannot gain privileges.
    pub no_new_privileges: Guard,
    /// The kernel refuses it the system calls that it does not need.
    pub filtered_calls: Guard,
}

/// Protects the process as far as the kernel lets it. Files that it makes from now on are its user's alone.
#[must_use]
pub fn protect() -> Guards {
    umask(Mode::RWXG | Mode::RWXO);
    let private = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let coreless = setrlimit(Resource::Core, none);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = field(&status, "CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let says = |name, wanted| field(&status, name) == Some(wanted);
    Guards {
        private_memory: Guard::unless(private.is_err(), "the kernel refuses PR_SET_DUMPABLE"),
        no_core_files: Guard::unless(coreless.is_err(), "the kernel refuses RLIMIT_CORE"),
        locked_memory: lock(capabilities.unwrap_or(0)),
        own_user: Guard::unless(geteuid().is_root(), "it runs as root: run it under its unit"),
        no_capabilities: Guard::unless(capabilities != Some(0), "set CapabilityBoundingSet= in the unit"),
        no_new_privileges: Guard::unless(!says("NoNewPrivs:", "1"), "set NoNewPrivileges=yes in the unit"),
        filtered_calls: Guard::unless(!says("Seccomp:", "2"), "set SystemCallFilter= in the unit"),
    }
}

/// Locks what is mapped and what will be, page by page as it is touched. Only without a limit: at one, an allocation would fail.
fn lock(capabilities: u64) -> Guard {
    let unlimited = getrlimit(Resource::Memlock).current.is_none() || capabilities & CAP_IPC_LOCK != 0;
    if !unlimited {
        return Guard::Off("RLIMIT_MEMLOCK has a limit: set LimitMEMLOCK=infinity in the unit".into());
    }
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    match mlockall(flags) {
        Ok(()) => Guard::On,
        Err(error) => Guard::Off(format!("the kernel refuses mlockall ({})", error.kind())),
    }
}

/// A field of proc_pid_status(5).
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

impl Guard {
    /// In force unless something is amiss.
    #[must_use]
    pub fn unless(amiss: bool, why: &str) -> Self {
        if amiss { Self::Off(why.to_owned()) } else { Self::On }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On => out.write_str("on"),
            Self::Off(why) => write!(out, "off: {why}"),
        }
    }
}

const CAP_IPC_LOCK: u64 = 1 << 14;

#[cfg(test)]
mod tests {
    use super::{Guard, field};

    #[test]
    fn a_guard_that_is_off_says_what_to_do() {
        assert_eq!(Guard::unless(false, "x").to_string(), "on");
        assert_eq!(Guard::unless(true, "set it").to_string(), "off: set it");
    }

    #[test]
    fn fields_of_the_status_are_found_by_their_whole_names() {
        let status = "NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t21\n";
        assert_eq!((field(status, "Seccomp:"), field(status, "CapEff:")), (Some("2"), None));
    }
}
