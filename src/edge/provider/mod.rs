//! Providers: OAuth over HTTP, bounded in time and size; and their APIs, as a stream, for the proxy.
//!
//! This room sends and receives; it never judges an answer of the token endpoint (that is `lifecycle`'s, after sealing) and
//! never retries. No type of `oauth2` or `reqwest` leaves it, since theirs may show bodies in `Debug`.

mod account;
mod api;
mod api_headers;
mod assertion;
mod brokered;
mod client;
mod credential;
mod device;
mod discovery;
mod flow;
mod keys;
mod machine;
mod registration;
mod requests;
mod sign_in;
mod static_key;
mod transport;

pub use account::AccountLookup;
pub use api::{Api, Apis, TokenIn};
pub use assertion::{AssertionStyle, Signer};
pub use client::{AuthorizeRequest, Provider, ProviderError, Unreached};
pub use credential::{Credential, Either, Fetched};
pub use device::DeviceCode;
pub use machine::{Errand, Minting};
pub use registration::{ClientAuth, Endpoints, Pkce, Registration, Revoke};
pub use sign_in::{Employer, IdentityProvider};
pub use transport::{Transport, TransportError};
