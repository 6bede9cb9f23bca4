//! Floor 4, the composition root: config → edges → engine → ready → drain.
//!
//! `compose.rs` and `grants.rs` make edges of a checked configuration, `performer.rs` hands them the engine's effects, `key.rs` finds the seal
//! key, `preflight.rs` looks whether a consent may begin, `remedies.rs` has the words for what it finds, `protections.rs` tells what is in force, `run.rs` starts everything and stops it in order, `reload.rs` puts another configuration in force. No decision about an
//! integration is made here.

mod compose;
mod grants;
mod key;
mod performer;
mod preflight;
mod protections;
mod reload;
mod remedies;
mod run;

pub use key::{KeyTrouble, existing_key};
pub use preflight::{Report, preflight};
pub use protections::tell_protections;
pub use reload::Rereads;
pub use run::{Broken, Daemon, Ready, Setup, StartError};
