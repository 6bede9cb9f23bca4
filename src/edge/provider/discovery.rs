//! Discovery of endpoints: OpenID Connect Discovery 1.0 §4 first, then RFC 8414 §3.
//!
//! The document's `issuer` must be ours, exactly. A document is kept for an hour; a failed fetch keeps the old one.

use super::registration::Endpoints;
use super::transport::Transport;
use crate::lifecycle::Spent;
use crate::time::Timestamp;
use serde::Deserialize;
use std::time::Duration;
use tokio::sync::Mutex;
use url::Url;

/// What was discovered about one issuer.
pub(super) struct Discovery {
    issuer: String,
    kept: Mutex<Option<(Timestamp, Endpoints)>>,
}

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

    pub(super) async fn endpoints(
        &self,
        transport: &Transport,
        now: Timestamp,
    ) -> Result<Endpoints, Undiscovered> {
        let mut kept = self.kept.lock().await;
        if let Some((at, endpoints)) = kept.as_ref()
            && now.since(*at) < FRESH
        {
            return Ok(endpoints.clone());
        }
        match self.fetch(transport).await {
            Ok(endpoints) => {
                *kept = Some((now, endpoints.clone()));
                Ok(endpoints)
            }
            Err(why) => kept.as_ref().map(|(_, endpoints)| endpoints.clone()).ok_or(why),
        }
    }

    async fn fetch(&self, transport: &Transport) -> Result<Endpoints, Undiscovered> {
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
                return Ok(document.endpoints());
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
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Document {
    fn endpoints(self) -> Endpoints {
        Endpoints {
            authorize: self.authorization_endpoint,
            token: self.token_endpoint,
            revoke: self.revocation_endpoint,
            userinfo: self.userinfo_endpoint,
            issuer_promised: self.authorization_response_iss_parameter_supported,
        }
    }
}

const FRESH: Duration = Duration::from_secs(3600);
