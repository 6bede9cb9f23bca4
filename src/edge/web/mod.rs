//! The public listener: the pages of a consent, the callback, health. The only room that strangers reach.
//!
//! It asks the engine and shows what it says. It must never connect anywhere (no request names a place that grantd goes to),
//! never show a word that a provider sent as an error, and never log a path under `/connect/`, a query or a cookie.

mod advice;
mod callback;
mod connect;
mod cookie;
mod guard;
mod landing;
mod listener;
mod pages;
mod site;
mod tls;
mod trouble;
mod visit;

#[cfg(test)]
mod testing;

pub use listener::serve;
pub use tls::{TlsError, tls_config};

use crate::engine::{Clock, Handle};
use arc_swap::ArcSwap;
use std::net::IpAddr;
use std::sync::Arc;
use url::Url;

/// What the public listener works with.
pub struct Web {
    /// The engine.
    pub handle: Handle,
    /// Tells how long a link or a flow has left.
    pub clock: Arc<dyn Clock>,
    /// The settings in force; read anew for each connection.
    pub settings: Arc<ArcSwap<WebSettings>>,
}

/// What the configuration says about the public listener.
#[derive(Clone)]
pub struct WebSettings {
    /// What browsers reach it at: scheme, host and port.
    pub public_url: Url,
    /// TLS, if grantd speaks it itself.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Peers whose `X-Forwarded-For` is believed, for logs alone.
    pub trusted_proxies: Vec<IpAddr>,
}
