//! The right to spend a generation. One host owns an integration, or a fleet takes turns.
//!
//! Here: the single host. Its right is the lock on the state directory, which the spool holds for as long as the daemon
//! lives, so a claim always succeeds. A fleet's claim is a conditional write, and may be refused.

use crate::lifecycle::Identity;

/// The right to spend, on a host that shares its integrations with nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleHost;

impl SingleHost {
    /// Claims the right to spend `generation`. Always granted: nobody else can hold this state directory.
    #[must_use]
    pub const fn claim(self, _identity: &Identity, _generation: u64) -> bool {
        true
    }

    /// Gives the right back.
    pub const fn release(self, _identity: &Identity, _generation: u64) {}
}
