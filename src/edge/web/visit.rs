//! One visit: the settings that its connection began with, and who is at the other end of it.
//!
//! Forwarded headers are read here, for the client's address in logs, and nowhere else.

use super::WebSettings;
use http::HeaderMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use url::Host;

/// What a connection knows before its request arrives.
#[derive(Clone)]
pub(super) struct Visit {
    /// The settings when it was accepted.
    pub(super) settings: Arc<WebSettings>,
    /// The address of the peer: a browser's, or a proxy's.
    pub(super) peer: IpAddr,
    /// How long the body of a request may take.
    pub(super) patience: Duration,
}

impl Visit {
    /// The host that people know this grantd by.
    pub(super) fn host(&self) -> &str {
        self.settings.public_url.host_str().unwrap_or_default()
    }

    /// Whether browsers may be told to insist on https for this host.
    pub(super) fn insists_on_https(&self) -> bool {
        let url = &self.settings.public_url;
        let loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => true,
        };
        url.scheme() == "https" && !loopback
    }

    /// The client's address for logs: the peer, or the last one that trusted proxies vouch for.
    pub(super) fn client(&self, headers: &HeaderMap) -> IpAddr {
        let mut client = self.peer.to_canonical();
        let lines: Vec<&str> =
            headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            if !self.trusts(client) {
                break;
            }
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
            client = address.to_canonical();
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.settings.trusted_proxies.iter().any(|proxy| proxy.to_canonical() == address)
    }
}

#[cfg(test)]
mod tests {
    use super::Visit;
    use crate::edge::web::testing::{PUBLIC, settings, visit};
    use http::{HeaderMap, HeaderValue};
    use std::sync::Arc;

    fn client(peer: &str, trusted: &[&str], lines: &[&'static str]) -> String {
        let mut settings = settings(PUBLIC);
        settings.trusted_proxies = trusted.iter().map(|proxy| proxy.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_static(line));
        }
        let visit = Visit { settings: Arc::new(settings), peer: peer.parse().unwrap(), ..visit(PUBLIC) };
        visit.client(&headers).to_string()
    }

    #[test]
    fn forwarded_addresses_are_believed_from_trusted_proxies_alone() {
        assert_eq!(client("192.0.2.9", &["10.0.0.5"], &["203.0.113.1"]), "192.0.2.9");
        assert_eq!(client("10.0.0.5", &["10.0.0.5"], &["203.0.113.1"]), "203.0.113.1");
        assert_eq!(client("::ffff:10.0.0.5", &["10.0.0.5"], &["203.0.113.1"]), "203.0.113.1");
        assert_eq!(client("10.0.0.5", &["10.0.0.5"], &[]), "10.0.0.5");
    }

    #[test]
    fn the_nearest_untrusted_hop_counts_and_a_forged_one_before_it_does_not() {
        assert_eq!(
            client("10.0.0.5", &["10.0.0.5", "10.0.0.6"], &["198.51.100.7, 203.0.113.1", "10.0.0.6"]),
            "203.0.113.1"
        );
        assert_eq!(client("10.0.0.5", &["10.0.0.5"], &["203.0.113.1, not an address"]), "10.0.0.5");
    }
}
