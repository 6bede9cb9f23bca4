//! Floor 1, pure: what happens next to one integration.
//!
//! Read `event.rs` and `effect.rs` first (the vocabulary), then `machine.rs` (the behaviour). Nothing in
//! this room reads a clock, makes a random number or touches the world: time and seeds are arguments.

mod answer;
mod identity;
mod record;
mod terms;

#[cfg(test)]
pub(crate) mod testing;

pub use answer::{Answer, Spent, WireFault};
pub use identity::{Identity, IntegrationId, NotAnIdentifier, OrganizationId, ProviderId};
pub use record::{Account, NotARecord, Record, RecordStatus};
pub use terms::{Dialect, ExpectedAccount, IdTokenRules, Outage, Rotation, Terms};
