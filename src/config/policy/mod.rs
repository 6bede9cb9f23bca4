//! The least privilege that one configuration needs on AWS, as plain data.
//!
//! `needs.rs` reads the configuration, `pack.rs` keeps documents under IAM's limit, `statement.rs` and `text.rs` are what they are
//! made of. Nothing here knows an account or asks for one: what is unknown stays a named place, which each format fills its own way.

mod keys;
mod needs;
mod pack;
mod statement;
mod text;

#[cfg(test)]
mod tests;

pub use needs::{Grants, Policies, Target, assuming, client, policies, records};
pub use pack::Document;
pub use statement::{Condition, Effect, Node, Statement};
pub use text::{Names, Piece, Text};
