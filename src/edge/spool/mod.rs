//! The spool: sealed write-ahead cells on local disk. What is in it survives `kill -9` and power loss.
//!
//! Blocking on purpose: callers move it off the event loop. It keeps and finds; what follows from what it finds is decided by
//! `lifecycle`.

mod cell;
mod home;
mod host;
mod journal;
mod key;
mod pool;

#[cfg(test)]
mod journal_tests;

pub use home::{NotOurs, check_home};
pub use host::Elsewhere;
pub use journal::{Leftover, Spool, SpoolError, writable};
pub use key::{KeyError, make_key_file};
