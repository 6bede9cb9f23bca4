//! The public listener: the pages of a consent, the callback, health. The only room that strangers reach.
//!
//! It asks the engine and shows what it says. It must never connect anywhere: no request names a place that grantd goes to, and signing in is a port.
//! It must never answer about an organization that the signed-in person does not administer,
//! never show a word that a provider sent as an error, and never log a path under `/connect/`, a query or a cookie.

mod activity;
mod advice;
mod api;
mod callback;
mod connect;
mod cookie;
mod form;
mod guard;
mod install;
mod landing;
mod listener;
mod manage;
mod operator;
mod pages;
mod panes;
mod sessions;
mod sign_in;
mod site;
mod tls;
mod trouble;
mod visit;

#[cfg(test)]
mod staff;
#[cfg(test)]
mod testing;

pub use listener::serve;
pub use tls::{TlsError, tls_config};

use crate::engine::{Clock, Entropy, Handle, Planned, SignIn, Trail};
use crate::lifecycle::{Admins, IntegrationId, OrganizationId, Person, ProviderId};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use url::Url;

/// What the public listener works with.
pub struct Web {
    /// The engine.
    pub handle: Handle,
    /// Tells how long a link or a flow has left.
    pub clock: Arc<dyn Clock>,
    /// Makes the names of sessions.
    pub entropy: Arc<dyn Entropy>,
    /// The audit trail.
    pub trail: Arc<dyn Trail>,
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
    /// Where operators sign in; `None`: nowhere, and there are no operator pages.
    pub sign_in: Option<Arc<dyn SignIn>>,
    /// What each organization says about people.
    pub organizations: BTreeMap<OrganizationId, Organization>,
    /// What there is to connect.
    pub integrations: BTreeMap<IntegrationId, Planned>,
}

/// What an organization says about people.
#[derive(Clone, Debug, Default)]
pub struct Organization {
    /// Who administers it; without a rule nobody does.
    pub admins: Option<Admins>,
    /// Who it is on a provider's side.
    pub external_ids: BTreeMap<ProviderId, String>,
}

impl WebSettings {
    fn administered_by(&self, person: &Person) -> BTreeSet<OrganizationId> {
        let admits = |organization: &Organization| {
            organization.admins.as_ref().is_some_and(|admins| admins.include(person))
        };
        let found = self.organizations.iter().filter(|(_, organization)| admits(organization));
        found.map(|(id, _)| id.clone()).collect()
    }

    /// The name that people know a provider by.
    fn provider_name<'a>(&'a self, integration: &'a IntegrationId) -> &'a str {
        self.integrations
            .get(integration)
            .map_or(integration.as_str(), |planned| planned.provider_name.as_str())
    }
}
