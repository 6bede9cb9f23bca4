//! The audit trail on disk: JSON lines, each chained to the one before it, and a keyed head that says where the chain ends.
//!
//! Below `{state.directory}/audit/`. `ledger.rs` takes events and gives them back, `files.rs` writes them, `line.rs` is the form of
//! a line, `head.rs` that of the head, `pages.rs` reads, `verify.rs` finds what was changed. No secret can get in: an event holds
//! words, names and numbers, and no type that hides its text.

mod files;
mod head;
mod ledger;
mod line;
mod pages;
mod verify;

#[cfg(test)]
mod ledger_tests;
#[cfg(test)]
mod verify_tests;

pub use head::HeadKey;
pub use ledger::{Ledger, LedgerError};
pub use verify::{End, Fault, Verified, files_below, verify};

use std::path::{Path, PathBuf};

/// Where the trail of a state directory lies.
#[must_use]
pub fn directory(state: &Path) -> PathBuf {
    state.join("audit")
}
