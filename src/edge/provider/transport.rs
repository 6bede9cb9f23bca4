//! HTTP, bounded: https only (loopback excepted), no redirects, no proxies, one deadline from connect to last byte,
//! bodies of at most 256 KiB, one fresh connection a request, and no address that a cloud keeps for itself.
//!
//! Says exactly whether any byte of a request can have been written. Never retries, never logs a body or a query.

use crate::engine::Clock;
use crate::lifecycle::{Answer, Spent, WireFault};
use crate::secret::SecretBytes;
use crate::time::Timestamp;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::error::Error;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// Sends requests to providers.
#[derive(Clone)]
pub struct Transport {
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    deadline: Duration,
}

/// The HTTP client cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the TLS client cannot be set up; are the system's root certificates installed?")]
pub struct TransportError;

impl Transport {
    /// The hard deadline of a request, from connect to last byte.
    pub const DEADLINE: Duration = Duration::from_secs(10);

    /// Makes the client. `deadline` bounds each request as a whole.
    ///
    /// # Errors
    /// [`TransportError`] if the TLS backend cannot be set up.
    pub fn new(clock: Arc<dyn Clock>, deadline: Duration) -> Result<Self, TransportError> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("grantd/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .pool_max_idle_per_host(0)
            .retry(reqwest::retry::never())
            .connect_timeout(deadline / 2)
            .dns_resolver(Arc::new(Guarded))
            .build()
            .map_err(|_build| TransportError)?;
        Ok(Self { client, clock, deadline })
    }

    /// Sends one request and reads the answer as far as it comes.
    pub(super) async fn send(&self, request: http::Request<Vec<u8>>) -> Spent {
        if !may_go_to(request.uri()) {
            return Spent::NotSent(WireFault::Forbidden);
        }
        let Ok(request) = reqwest::Request::try_from(request) else {
            return Spent::NotSent(WireFault::Misconfigured);
        };
        let mut exchange = std::pin::pin!(self.exchange(request));
        if let Ok(spent) = tokio::time::timeout(self.deadline, exchange.as_mut()).await {
            return spent;
        }
        // A host that slept wakes with the deadline behind it, and perhaps with the answer in the socket.
        match tokio::time::timeout(LAST_LOOK, exchange).await {
            Ok(spent) => spent,
            Err(_elapsed) => Spent::Lost(WireFault::Timeout),
        }
    }

    /// Asks the root of a URL's host for nothing, with no credentials: whether it can be reached, and its clock if it tells it.
    pub(super) async fn probe(&self, url: &Url) -> Result<Option<Timestamp>, WireFault> {
        let mut root = url.clone();
        root.set_path("/");
        root.set_query(None);
        let uri = root.as_str().parse().map_err(|_not_a_uri| WireFault::Misconfigured)?;
        if !may_go_to(&uri) {
            return Err(WireFault::Forbidden);
        }
        match tokio::time::timeout(self.deadline / 2, self.client.head(root).send()).await {
            Ok(Ok(response)) => {
                let date = response.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
                Ok(date.and_then(Timestamp::parse_http))
            }
            Ok(Err(error)) => Err(match failed(&error) {
                Spent::NotSent(fault) | Spent::Lost(fault) => fault,
                Spent::Answered(_) => WireFault::Reset,
            }),
            Err(_elapsed) => Err(WireFault::Timeout),
        }
    }

    async fn exchange(&self, request: reqwest::Request) -> Spent {
        // The status line is here well before: what comes of the body by then is kept, whole or cut.
        let mut until = tokio::time::Instant::now() + self.deadline - Duration::from_millis(50);
        let mut response = match self.client.execute(request).await {
            Ok(response) => response,
            Err(error) => return failed(&error),
        };
        let (mut body, mut whole, mut looked) = (Vec::new(), true, false);
        loop {
            match tokio::time::timeout_at(until, response.chunk()).await {
                Err(_elapsed) if !looked => {
                    looked = true;
                    until = tokio::time::Instant::now() + LAST_LOOK / 2;
                }
                Ok(Ok(Some(chunk))) if body.len() + chunk.len() <= Answer::MAX_BODY => {
                    body.extend_from_slice(&chunk);
                }
                Ok(Ok(None)) => break,
                Ok(Ok(Some(_)) | Err(_)) | Err(_) => {
                    whole = false;
                    break;
                }
            }
        }
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        Spent::Answered(Arc::new(Answer {
            status: response.status().as_u16(),
            form_encoded: header(http::header::CONTENT_TYPE)
                .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")),
            retry_after: header(http::header::RETRY_AFTER)
                .and_then(|wait| wait.trim().parse().ok())
                .map(Duration::from_secs),
            whole,
            body: SecretBytes::new(body),
            received_at: self.clock.now(),
        }))
    }
}

/// How long, once the deadline has passed, an answer that has arrived already may take to be read.
const LAST_LOOK: Duration = Duration::from_millis(200);

/// Whether a connection was ever made decides between harmless and in doubt.
pub(super) fn failed(error: &reqwest::Error) -> Spent {
    if error.is_builder() {
        return Spent::NotSent(WireFault::Misconfigured);
    }
    if !error.is_connect() {
        return Spent::Lost(if error.is_timeout() { WireFault::Timeout } else { WireFault::Reset });
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(now) = cause {
        if let Some(unresolved) = now.downcast_ref::<Unresolved>() {
            return Spent::NotSent(match unresolved {
                Unresolved::Forbidden => WireFault::Forbidden,
                Unresolved::Unknown => WireFault::Dns,
            });
        }
        let inner = now.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls =
            now.is::<rustls::Error>() || inner.is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>);
        if tls {
            return Spent::NotSent(WireFault::Tls);
        }
        cause = now.source();
    }
    Spent::NotSent(WireFault::Connect)
}

/// https anywhere that is allowed; http on loopback only.
pub(super) fn may_go_to(uri: &http::Uri) -> bool {
    let Ok(url) = Url::parse(&uri.to_string()) else { return false };
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(Host::Domain(_)) => None,
        None => return false,
    };
    let loopback =
        address.is_some_and(|address| address.is_loopback()) || url.host_str() == Some("localhost");
    let scheme = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    scheme && address.is_none_or(is_allowed)
}

/// Refuses what never is a provider: link-local and metadata addresses, multicast, "this host": a name that leads there is somebody else's.
fn is_allowed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_allowed(IpAddr::V4(v4)),
            None => {
                !(v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast() || v6 == METADATA)
            }
        },
    }
}

/// The EC2 instance metadata service over IPv6.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Resolves names, and refuses those that lead where no provider is.
pub(super) struct Guarded;

#[derive(Debug, thiserror::Error)]
enum Unresolved {
    #[error("the name leads to an address that is not allowed")]
    Forbidden,
    #[error("the name does not resolve")]
    Unknown,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found =
                tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_lookup| Unresolved::Unknown)?;
            let (good, bad): (Vec<SocketAddr>, Vec<SocketAddr>) =
                found.partition(|address| is_allowed(address.ip()));
            let addresses: Addrs = match (good.is_empty(), bad.is_empty()) {
                (false, _) => Box::new(good.into_iter()),
                (true, true) => return Err(Unresolved::Unknown.into()),
                (true, false) => return Err(Unresolved::Forbidden.into()),
            };
            Ok(addresses)
        })
    }
}
