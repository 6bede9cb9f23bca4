//! What the daemon's process asks of the kernel before it starts: no core dumps, no ptrace, files for its own user alone.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Protects the process as far as the kernel lets it; says what it does not.
pub(super) fn harden() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    if set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() {
        tracing::warn!("the kernel lets other processes of this user read grantd's memory");
    }
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if setrlimit(Resource::Core, none).is_err() {
        tracing::warn!("the kernel may write grantd's memory to a core file");
    }
}
