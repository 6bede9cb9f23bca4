//! Discovery of endpoints: OpenID Connect Discovery 1.0 §4 first, then RFC 8414 §3.
//!
//! The document's `issuer` must be ours, exactly. A document is kept for an hour; a failed fetch keeps the old one.

use super::registration::Endpoints;
use super::transport::Transport;
use crate::lifecycle::Spent;
use crate::time::Timestamp;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use url::Url;

/// One issuer, and what was discovered about it.
pub(super) struct Discovery {
    issuer: String,
    /// The last outcome, and until when it counts.
    kept: Mutex<Option<(Timestamp, Last)>>,
}

/// What an issuer's document says.
#[derive(Debug)]
pub(super) struct Discovered {
    /// Its endpoints.
    pub(super) endpoints: Endpoints,
    /// Where its keys are (`jwks_uri`).
    pub(super) keys: Option<Url>,
    /// The scopes that it names.
    pub(super) scopes: Option<Vec<String>>,
}

type Last = Result<Arc<Discovered>, Undiscovered>;

/// Why discovery failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undiscovered {
    /// No answer.
    Unreachable,
    /// An answer that does not fit.
    Unfit,
}

impl Discovery {
    pub(super) fn new(issuer: &str) -> Self {
        Self { issuer: issuer.into(), kept: Mutex::new(None) }
    }

    pub(super) async fn discovered(
        &self,
        transport: &Transport,
        now: Timestamp,
    ) -> Result<Arc<Discovered>, Undiscovered> {
        let mut kept = self.kept.lock().await;
        if let Some((until, last)) = kept.as_ref()
            && now < *until
            && until.since(now) <= FRESH
        {
            return last.clone();
        }
        let old = kept.take().and_then(|(_, last)| last.ok());
        // A failure is remembered too: who waits for the same document must not each wait for the same silence.
        let (wait, last) = match (self.fetch(transport).await, old) {
            (Ok(found), _) => (FRESH, Ok(Arc::new(found))),
            (Err(_), Some(old)) => (WITH_AN_OLD_ONE, Ok(old)),
            (Err(why), None) => (WITHOUT, Err(why)),
        };
        *kept = Some((now.plus(wait), last.clone()));
        last
    }

    async fn fetch(&self, transport: &Transport) -> Result<Discovered, Undiscovered> {
        let mut worst = Undiscovered::Unreachable;
        for url in self.documents() {
            let Ok(request) =
                http::Request::get(url.as_str()).header("accept", "application/json").body(Vec::new())
            else {
                continue;
            };
            let Spent::Answered(answer) = transport.send(request).await else { continue };
            if answer.status >= 500 {
                continue;
            }
            worst = Undiscovered::Unfit;
            if answer.status != 200 || !answer.whole {
                continue;
            }
            let Ok(document) = serde_json::from_slice::<Document>(answer.body.expose_secret()) else {
                continue;
            };
            if document.issuer == self.issuer {
                return Ok(document.read());
            }
            tracing::warn!(issuer = %self.issuer, "the discovery document names another issuer");
        }
        Err(worst)
    }

    fn documents(&self) -> Vec<Url> {
        let appended = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let inserted = Url::parse(&self.issuer).map(|mut url| {
            let path = format!("/.well-known/oauth-authorization-server{}", url.path().trim_end_matches('/'));
            url.set_path(&path);
            url
        });
        [Url::parse(&appended), inserted].into_iter().flatten().collect()
    }
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<Url>,
    token_endpoint: Option<Url>,
    revocation_endpoint: Option<Url>,
    userinfo_endpoint: Option<Url>,
    device_authorization_endpoint: Option<Url>,
    jwks_uri: Option<Url>,
    scopes_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Document {
    fn read(self) -> Discovered {
        let endpoints = Endpoints {
            authorize: self.authorization_endpoint,
            token: self.token_endpoint,
            revoke: self.revocation_endpoint,
            userinfo: self.userinfo_endpoint,
            device: self.device_authorization_endpoint,
            issuer_promised: self.authorization_response_iss_parameter_supported,
        };
        Discovered { endpoints, keys: self.jwks_uri, scopes: self.scopes_supported }
    }
}

const FRESH: Duration = Duration::from_secs(3600);
/// How long a failure counts while an older document is there.
const WITH_AN_OLD_ONE: Duration = Duration::from_secs(60);
/// How long it counts while there is none.
const WITHOUT: Duration = Duration::from_secs(2);
