//! The real binary against real peers: moto, ministack, npm `oidc-provider`. One binary, a module per theme.
//!
//! `./test` installs the peers first. Nothing here reaches into the crate: whatever an operator, an app, a browser or AWS can see is
//! looked at from outside, by the names of the contract. Each daemon's output and state directory are searched for secrets at its end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    clippy::allow_attributes,
    unreachable_pub,
    reason = "a test that cannot go on says where and stops"
)]

mod answers;
mod callbacks;
mod checking;
mod connecting;
mod copies;
mod crashing;
mod deleting;
mod demo;
mod disks;
mod ending;
mod granting;
mod leaking;
mod outage;
mod outlasting;
mod peers;
mod permissions;
mod policies;
mod preflight;
mod programs;
mod proxying;
mod reloading;
mod revoking;
mod rotating;
mod sealed;
mod steps;
mod strangers;
mod systemd;
mod validating;
mod world;
