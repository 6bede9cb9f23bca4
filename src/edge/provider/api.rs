//! The upstream half of the proxy: one streaming client for all APIs, kept to each provider's own base.
//!
//! https only (loopback excepted), HTTP/2 where it is offered, no redirects, no retries, no total deadline; a call that falls
//! silent ends. The token is put where the provider wants it and nowhere else; no URL is ever logged, since it may hold it.
//! Everything runs on the daemon's runtime, so that the thread of the app socket only hands pieces on.

use super::api_headers::{inward, outward};
use super::flow::{Inward, Outward};
use super::transport::{Guarded, TransportError, failed, may_go_to};
use crate::engine::{Called, Flow, Pending, Served, Upstream};
use crate::lifecycle::{ApiAnswer, Code, IntegrationId, Refusal, Spent, WireFault};
use crate::secret::AccessToken;
use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle as Runtime;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use url::Url;

/// Where an API is, and how it wants the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Its root (`api_base`); a path of a call is put behind it.
    pub base: Option<Url>,
    /// Where the token goes.
    pub token_in: TokenIn,
    /// Headers that a call gets if it does not bring them.
    pub headers: Vec<(String, String)>,
    /// The header that says how many calls are left: 403 with a zero there is a limited rate.
    pub left_header: Option<String>,
}

/// Where an API wants the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenIn {
    /// In a header, behind a prefix.
    Header {
        /// The header's name.
        name: String,
        /// What stands before the token, with its space.
        prefix: String,
    },
    /// In a parameter of the query.
    Query {
        /// The parameter's name.
        param: String,
    },
    /// In a segment of the path, before all others.
    Path {
        /// What stands before the token in its segment.
        prefix: String,
    },
}

/// The APIs of all integrations.
pub struct Apis {
    client: reqwest::Client,
    known: ArcSwap<BTreeMap<IntegrationId, Arc<Api>>>,
    runtime: Runtime,
    tasks: TaskTracker,
    patience: Duration,
}

impl Apis {
    /// Makes the client. Call within the runtime that calls are to run on.
    ///
    /// # Errors
    /// [`TransportError`] if the TLS backend cannot be set up.
    pub fn new(known: BTreeMap<IntegrationId, Arc<Api>>) -> Result<Self, TransportError> {
        Self::with(reqwest::Client::builder(), known, IDLE)
    }

    fn with(
        builder: reqwest::ClientBuilder,
        known: BTreeMap<IntegrationId, Arc<Api>>,
        patience: Duration,
    ) -> Result<Self, TransportError> {
        let client = builder
            .user_agent(concat!("grantd/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT)
            .pool_idle_timeout(KEPT)
            .pool_max_idle_per_host(8)
            .dns_resolver(Arc::new(Guarded))
            .build()
            .map_err(|_build| TransportError)?;
        let known = ArcSwap::from_pointee(known);
        Ok(Self { client, known, runtime: Runtime::current(), tasks: TaskTracker::new(), patience })
    }

    /// Puts other APIs in force. Calls under way stay with what they began with.
    pub fn replace(&self, known: BTreeMap<IntegrationId, Arc<Api>>) {
        self.known.store(Arc::new(known));
    }
}

impl Upstream for Apis {
    fn call(
        &self,
        integration: &IntegrationId,
        lease: Arc<Served>,
        call: Request<Flow>,
    ) -> Pending<Result<Called, Refusal>> {
        let api = self.known.load().get(integration).cloned();
        let (client, patience) = (self.client.clone(), self.patience);
        let calling = async move {
            let api = api.ok_or_else(unknown)?;
            api.call(&client, &lease.token, call, patience).await
        };
        let task = AbortOnDropHandle::new(self.tasks.spawn_on(calling, &self.runtime));
        Box::pin(async move { task.await.unwrap_or_else(|_ended| Err(refusal(WireFault::Reset))) })
    }
}

impl Api {
    async fn call(
        &self,
        client: &reqwest::Client,
        token: &AccessToken,
        call: Request<Flow>,
        patience: Duration,
    ) -> Result<Called, Refusal> {
        let gone = Arc::new(AtomicU64::new(0));
        let request = self.request(token, call, &gone)?;
        let sent = unless_quiet(client.execute(request), &gone, patience).await?;
        let answer = sent.map_err(|error| match failed(&error) {
            Spent::NotSent(fault) | Spent::Lost(fault) => refusal(fault),
            Spent::Answered(_) => refusal(WireFault::Reset),
        })?;
        let (head, body) = Response::<reqwest::Body>::from(answer).into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(WireFault::Reset));
        }
        let said = self.said(head.status, &head.headers);
        let mut answer = Response::new(Inward::new(body, patience).boxed());
        *answer.status_mut() = head.status;
        *answer.headers_mut() = inward(head.headers, token.expose_secret().as_bytes());
        Ok(Called { answer, said })
    }

    /// The request as it goes out.
    fn request(
        &self,
        token: &AccessToken,
        call: Request<Flow>,
        gone: &Arc<AtomicU64>,
    ) -> Result<reqwest::Request, Refusal> {
        let (head, body) = call.into_parts();
        let url = self.url(token, &head.uri)?;
        let mut headers = outward(head.headers);
        for (name, value) in &self.headers {
            let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) else {
                return Err(misconfigured("a header of the provider's [proxy] is not one"));
            };
            headers.entry(name).or_insert(value);
        }
        if let TokenIn::Header { name, prefix } = &self.token_in {
            let name = name.parse::<HeaderName>();
            let value = HeaderValue::from_str(&format!("{prefix}{}", token.expose_secret()));
            let (Ok(name), Ok(mut value)) = (name, value) else {
                return Err(misconfigured("the token does not fit into the provider's header"));
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let mut request = reqwest::Request::new(head.method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = Some(reqwest::Body::wrap(Outward::new(body, Arc::clone(gone))));
        Ok(request)
    }

    fn url(&self, token: &AccessToken, uri: &Uri) -> Result<Url, Refusal> {
        let base = self.base.as_ref().ok_or_else(unknown)?;
        let mut path = base.path().trim_end_matches('/').to_owned();
        if let TokenIn::Path { prefix } = &self.token_in {
            path.push_str(&format!("/{prefix}{}", in_a_segment(token.expose_secret())));
        }
        path.push_str(uri.path());
        let mut url = base.clone();
        url.set_path(&path);
        // Whatever was judged, another path must not be sent.
        if url.path() != path {
            return Err(Refusal::new(Code::InvalidRequest, "the path is not in its plain form"));
        }
        url.set_query(self.query(token, uri.query()).as_deref());
        url.set_fragment(None);
        let allowed = url.as_str().parse().is_ok_and(|uri| may_go_to(&uri));
        if allowed { Ok(url) } else { Err(refusal(WireFault::Forbidden)) }
    }

    /// The caller's query, with the token where it goes there: instead of the caller's own, if it brought one.
    fn query(&self, token: &AccessToken, query: Option<&str>) -> Option<String> {
        let TokenIn::Query { param } = &self.token_in else { return query.map(str::to_owned) };
        let own = |pair: &&str| {
            url::form_urlencoded::parse(pair.as_bytes()).all(|(name, _)| name.as_ref() != param.as_str())
        };
        let mut kept: Vec<_> = query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()).collect();
        kept.retain(own);
        let mut given = url::form_urlencoded::Serializer::new(String::new());
        given.append_pair(param, token.expose_secret());
        let given = given.finish();
        kept.push(&given);
        Some(kept.join("&"))
    }

    fn said(&self, status: StatusCode, headers: &HeaderMap) -> ApiAnswer {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let none_left = self.left_header.as_deref().and_then(text) == Some("0");
        let retry_after = text(header::RETRY_AFTER.as_str());
        ApiAnswer {
            status: status.as_u16(),
            rate_limited: status == StatusCode::FORBIDDEN && (none_left || retry_after.is_some()),
            retry_after: retry_after.and_then(|wait| wait.parse().ok()).map(Duration::from_secs),
        }
    }
}

/// There is no deadline while something goes out: an upload takes as long as it takes.
async fn unless_quiet<T>(
    sending: impl Future<Output = T>,
    gone: &AtomicU64,
    patience: Duration,
) -> Result<T, Refusal> {
    let mut sending = std::pin::pin!(sending);
    let mut before = u64::MAX;
    while before != gone.load(Ordering::Relaxed) {
        before = gone.load(Ordering::Relaxed);
        if let Ok(sent) = tokio::time::timeout(patience, sending.as_mut()).await {
            return Ok(sent);
        }
    }
    Err(refusal(WireFault::Timeout))
}

/// A token as a segment of a path: what would end the segment, or be read otherwise, is encoded.
fn in_a_segment(token: &str) -> String {
    let mut segment = String::with_capacity(token.len());
    for byte in token.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    segment
}

fn unknown() -> Refusal {
    misconfigured("it is not known where this provider's API is: an operator sets api_base")
}

fn misconfigured(why: &str) -> Refusal {
    Refusal::new(Code::ProviderNotConfigured, why)
}

/// A fault as the caller hears of it. Whether a call arrived is not always known: an app that repeats one decides that itself.
fn refusal(fault: WireFault) -> Refusal {
    let unreachable = |why: &str| Refusal::new(Code::UpstreamUnreachable, why);
    match fault {
        WireFault::Timeout => {
            Refusal::new(Code::UpstreamTimeout, "the provider's API said nothing for too long")
        }
        WireFault::Dns => unreachable("the name of the provider's API does not resolve"),
        WireFault::Tls => unreachable("the provider's API does not prove who it is (TLS)"),
        WireFault::Connect => unreachable("the provider's API takes no connection"),
        WireFault::Reset => unreachable("the provider's API broke off before it answered"),
        WireFault::Forbidden => unreachable("the provider's API is at an address that grantd never goes to"),
        WireFault::Misconfigured => misconfigured("the provider's api_base is not usable"),
    }
}

const CONNECT: Duration = Duration::from_secs(10);
/// How long neither side may say anything. Long polls, such as Telegram's, stay well below it.
const IDLE: Duration = Duration::from_secs(300);
/// How long a connection is kept for the next call.
const KEPT: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
