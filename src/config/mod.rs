//! Floor 2, configuration: text in, checked values out, every problem at once.
//!
//! `source.rs` knows files and places, `tree.rs` merges them, `reader.rs` reads typed values and remembers what is wrong, the others
//! read one kind of table each. Nothing here touches the world but through [`Surroundings`].

mod bindings;
mod catalogue;
mod grants;
mod integrations;
mod load;
mod operators;
pub mod policy;
mod providers;
mod proxying;
mod reader;
mod secrets;
mod server;
mod source;
mod stores;
mod surroundings;
mod tree;
mod values;

#[cfg(test)]
mod tests;

pub use catalogue::{CatalogueEntry, catalogue};
pub use grants::{AssertionStyle, Errand, GrantConfig, GrantKind};
pub use integrations::IntegrationConfig;
pub use load::{Checked, Config, from_texts, load};
pub use operators::{OperatorsConfig, People};
pub use providers::{AccountConfig, ClientAuth, ProviderConfig, RevokeStyle};
pub use proxying::{ProxyConfig, TokenIn};
pub use secrets::{SecretSource, Unreadable};
pub use server::{Server, Sockets, State, Tls};
pub use source::{Problem, Problems};
pub use stores::{AssumeRole, StoreConfig, StoreKind, StoreMode};
pub use surroundings::Surroundings;
pub use values::{Schedule, duration};
