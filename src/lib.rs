//! grantd: keeps OAuth refresh tokens in your own AWS Secrets Manager and hands fresh access tokens to local apps.
//!
//! The map of the house, in floor order. Arrows point down only: a room may use the floors below it,
//! and `tests/architecture.rs` fails when one points up.

// Floor 0: words.
pub mod seal;
pub mod secret;
pub mod time;
// Floor 1, pure: what happens next to one integration.
pub mod lifecycle;
// Floor 2: what is configured, and the loop that drives it.
pub mod config;
pub mod engine;
// Floor 3: the outside world.
pub mod edge;
// Floor 4: the composition root, and the command line.
pub mod cli;
pub mod daemon;
