//! Floor 2, the only loop: owns every integration, hands their effects to the ports, wakes at their deadlines.
//!
//! Effects run as tracked tasks and are never cancelled. Time and randomness come from ports. Nothing here
//! knows what a provider or a store is; raw answers pass through unread.

mod board;
mod consents;
mod grants;
mod handle;
mod live;
mod orders;
mod plan;
mod ports;
mod proxy;
mod run;

pub use board::{Board, Cell, Posting, Served};
pub use handle::{
    DeviceStarted, Enabling, Ended, Going, Handle, Landed, Landing, Recovered, Reload, Start, Started,
};
pub use plan::{Plan, Planned};
pub use ports::{
    AuthorizationRequest, Authorized, Authorizer, BrokenOff, Called, Clock, DeviceFlow, Entropy, Flow,
    Pending, Performer, Preflight, SignIn, Trail, Upstream,
};
pub use proxy::{Proxy, buffered, nothing};
pub use run::{Engine, Ports};

#[cfg(test)]
mod audit_tests;
#[cfg(test)]
pub(crate) mod testing;
