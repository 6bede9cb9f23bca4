//! The world around the daemon: its peers, its browser, its callers, and the faults between them.

mod aws;
mod browser;
mod daemon;
mod html;
mod http;
mod leaks;
mod oidc;
mod process;
mod proxy;
mod repository;
mod setup;
mod standin;
mod vault;
mod waiting;

pub use aws::{Aws, ministack, moto};
pub use browser::{Browser, Page};
pub use daemon::{Daemon, Ran, grantd, second, token_path};
pub use http::{Answer, Connection, as_other_user, fetch, is_root, own_uid, partly_tested, try_fetch};
pub use leaks::assert_none;
pub use oidc::{Client, Entry as OidcEntry, Fault, fingerprint, oidc};
pub use process::{Process, Said, Signal, run};
pub use proxy::{Proxy, Trouble};
pub use repository::Repository;
pub use setup::{Config, World, binding, peers_home, shared_group};
pub use standin::{Standin, serve};
pub use vault::Vault;
pub use waiting::{Stopwatch, block_on, eventually, never, runtime, within};
