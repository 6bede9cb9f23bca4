//! The local sockets: apps read tokens on one, operators steer on the other. Both speak HTTP/1.1.
//!
//! Who a caller is, the kernel says; what a caller may, is judged anew for each request. The app socket reads the board and
//! passes calls of APIs through; nothing that is asked there can begin a flow, refresh out of turn, revoke or reload.

mod accept;
mod answers;
mod app;
mod bind;
mod cgroup;
mod control;
mod desk;
mod events;
mod explain;
mod orders;
mod peer;
mod proxied;
mod pulse;
mod report;
mod seats;
mod tally;
mod wish;
mod witness;

#[cfg(test)]
mod app_tests;
#[cfg(test)]
mod audit_tests;
#[cfg(test)]
mod control_tests;
#[cfg(test)]
mod report_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod unit_tests;

pub use app::{AppDesk, serve_app};
pub use bind::{BindError, bind};
pub use cgroup::NoUnit;
pub use control::{ControlDesk, Operators, serve_control};
pub use peer::{Peer, knows_units};
