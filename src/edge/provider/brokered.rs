//! Brokers (Composio's connected accounts): a third party keeps the refresh token and hands access tokens out.
//!
//! Initiate, fetch, delete, below the token endpoint, with the client secret as the API key. A fetch is repeatable, so its answer is
//! read here, and only what may be kept goes on: a refresh token in it ends in this file.

use super::client::{Provider, ProviderError};
use super::device::DeviceCode;
use super::machine::Errand;
use super::requests::Client;
use crate::lifecycle::{Answer, Pace, Revocation, Spent};
use crate::secret::{AuthCode, SecretBytes};
use crate::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

impl Provider {
    /// Begins a connected account: the page at which its person authorizes, and the account's name.
    pub(super) async fn initiate(&self, errand: &Errand) -> Result<DeviceCode, ProviderError> {
        let accounts = self.accounts()?;
        let link = below(&accounts, &["link"]);
        let body = json!({ "auth_config_id": self.registration().client_id, "user_id": errand.subject });
        let spent = self.spend(|client| asked(client, http::Method::POST, &link, Some(&body))).await;
        let answer = match spent {
            Spent::Answered(answer) => answer,
            Spent::NotSent(_) | Spent::Lost(_) => return Err(ProviderError::Unreachable),
        };
        match answer.status {
            200..=299 => {}
            429 | 500.. => return Err(ProviderError::Unreachable),
            _ => {
                return Err(ProviderError::Misconfigured(
                    "the broker refuses the auth config or the API key",
                ));
            }
        }
        let wire: Initiated = serde_json::from_slice(answer.body.expose_secret()).map_err(|_shape| {
            ProviderError::Misconfigured("the broker's answer names no connected account")
        })?;
        Ok(DeviceCode {
            code: AuthCode::new(wire.connected_account_id),
            page: wire.redirect_url,
            page_with_code: None,
            user_code: String::new(),
            pace: Pace { interval: INTERVAL, until: self.now().plus(PATIENCE) },
            token_endpoint: accounts,
        })
    }

    /// Whether a person has authorized a connected account that was begun.
    pub(super) async fn look_at(&self, account: &str) -> Spent {
        self.fetched(account, "access_denied").await
    }

    /// The access token of a connected account.
    pub(super) async fn fetch(&self, account: &str) -> Spent {
        self.fetched(account, "invalid_grant").await
    }

    /// Deletes a connected account, and with it the grant that the broker keeps.
    pub(super) async fn delete_account(&self, account: &str) -> Revocation {
        let Ok(accounts) = self.accounts() else { return Revocation::Unsupported };
        let place = below(&accounts, &[account]);
        match self.spend(|client| asked(client, http::Method::DELETE, &place, None)).await {
            Spent::Answered(answer) => match answer.status {
                // What is not there is gone.
                200..=299 | 404 => Revocation::Confirmed,
                429 | 500.. => Revocation::Silent,
                _ => Revocation::Refused,
            },
            Spent::NotSent(_) | Spent::Lost(_) => Revocation::Silent,
        }
    }

    async fn fetched(&self, account: &str, dead: &'static str) -> Spent {
        let accounts = match self.token_endpoint().await {
            Ok(accounts) => accounts,
            Err(fault) => return Spent::NotSent(fault),
        };
        let place = below(&accounts, &[account]);
        match self.spend(|client| asked(client, http::Method::GET, &place, None)).await {
            Spent::Answered(answer) => Spent::Answered(Arc::new(plain(&answer, account, dead))),
            other @ (Spent::NotSent(_) | Spent::Lost(_)) => other,
        }
    }

    fn accounts(&self) -> Result<Url, ProviderError> {
        let place = self.registration().endpoints.token.clone();
        place.ok_or(ProviderError::Misconfigured(
            "it has no token_url, where the broker keeps connected accounts",
        ))
    }
}

/// What a fetch says, in RFC 6749's words and without a refresh token.
fn plain(answer: &Answer, account: &str, dead: &'static str) -> Answer {
    let (status, body) = match answer.status {
        404 => (400, json!({ "error": dead })),
        401 | 403 => (401, json!({ "error": "invalid_client" })),
        200..=299 => said(answer, account, dead),
        other => (other, Value::Null),
    };
    let body = zeroize::Zeroizing::new(serde_json::to_vec(&body).unwrap_or_default());
    Answer { status, form_encoded: false, body: SecretBytes::new(body.to_vec()), ..answer.beside() }
}

fn said(answer: &Answer, account: &str, dead: &'static str) -> (u16, Value) {
    let Ok(wire) = serde_json::from_slice::<Account>(answer.body.expose_secret()) else {
        return (502, Value::Null);
    };
    match wire.status.as_str() {
        "ACTIVE" => {}
        "INITIALIZING" | "INITIATED" => return (400, json!({ "error": "authorization_pending" })),
        _ => return (400, json!({ "error": dead })),
    }
    let Some(Tokens { access_token: Some(token), token_type, scope, expires_in, expires_at }) =
        wire.state.and_then(|state| state.val)
    else {
        return (502, Value::Null);
    };
    let ends = expires_at.as_ref().and_then(instant).or_else(|| {
        // Counted from when the broker got the token, which is when the account changed last.
        let since = wire.updated_at.as_deref().and_then(Timestamp::parse).unwrap_or(answer.received_at);
        Some(since.plus(Duration::from_secs(number(expires_in.as_ref()?)?)))
    });
    // A token whose end has passed by that count is served for no longer than it takes to fetch the next.
    let life = ends.map(|ends| ends.since(answer.received_at).as_secs().max(1));
    let tokens = json!({
        "access_token": token, "token_type": token_type.unwrap_or_else(|| "Bearer".into()), "expires_in": life,
        "scope": scope.as_ref().and_then(Value::as_str), "connected_account": account,
    });
    (200, tokens)
}

fn instant(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => Timestamp::parse(text),
        Value::Number(number) => number.as_i64().map(Timestamp::from_seconds),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

/// A place below the collection. Whatever an account is called, it leads nowhere else.
fn below(accounts: &Url, parts: &[&str]) -> Url {
    let mut place = accounts.clone();
    if let Ok(mut path) = place.path_segments_mut() {
        path.pop_if_empty().extend(parts);
    }
    place
}

fn asked(
    client: Client<'_>,
    method: http::Method,
    place: &Url,
    body: Option<&Value>,
) -> Option<http::Request<Vec<u8>>> {
    let mut key = http::HeaderValue::from_str(client.secret?.expose_secret()).ok()?;
    key.set_sensitive(true);
    let request = http::Request::builder()
        .method(method)
        .uri(place.as_str())
        .header(http::header::ACCEPT, "application/json")
        .header("x-api-key", key);
    match body {
        Some(body) => request
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(body).ok()?)
            .ok(),
        None => request.body(Vec::new()).ok(),
    }
}

#[derive(Deserialize)]
struct Initiated {
    connected_account_id: String,
    redirect_url: String,
}

#[derive(Deserialize)]
struct Account {
    status: String,
    #[serde(alias = "updatedAt")]
    updated_at: Option<String>,
    state: Option<State>,
}

#[derive(Deserialize)]
struct State {
    val: Option<Tokens>,
}

/// What is read of a connected account. Its refresh token is not.
#[derive(Deserialize)]
struct Tokens {
    access_token: Option<String>,
    token_type: Option<String>,
    scope: Option<Value>,
    expires_in: Option<Value>,
    expires_at: Option<Value>,
}

/// How often the broker is asked whether a person has authorized, and for how long.
const INTERVAL: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::{below, plain};
    use crate::lifecycle::Answer;
    use crate::secret::SecretBytes;
    use crate::time::Timestamp;
    use serde_json::{Value, json};
    use url::Url;

    fn read(status: u16, body: &str) -> (u16, Value) {
        let answer = Answer {
            status,
            form_encoded: false,
            retry_after: None,
            whole: true,
            body: SecretBytes::new(body.as_bytes().to_vec()),
            received_at: Timestamp::parse("2026-11-25T06:00:00Z").unwrap(),
        };
        let plain = plain(&answer, "ca_1", "invalid_grant");
        (plain.status, serde_json::from_slice(plain.body.expose_secret()).unwrap())
    }

    #[test]
    fn an_access_token_goes_on_and_a_refresh_token_does_not() {
        let body = |more: &str| {
            format!(
                r#"{{"id":"ca_1","status":"ACTIVE","updated_at":"2026-11-25T05:30:00Z","state":{{"authScheme":"OAUTH2","val":{{
                "access_token":"a","refresh_token":"canary","token_type":"bearer","scope":"x y"{more}}}}}}}"#
            )
        };
        let tokens = |life: Value| json!({ "access_token": "a", "token_type": "bearer", "expires_in": life, "scope": "x y", "connected_account": "ca_1" });
        for (more, life) in [
            (r#","expires_in":3600"#, json!(1800)),
            (r#","expires_in":"3600""#, json!(1800)),
            (r#","expires_in":60"#, json!(1)),
            (r#","expires_in":60,"expires_at":"2026-11-25T06:10:00Z""#, json!(600)),
            ("", Value::Null),
        ] {
            assert_eq!(read(200, &body(more)), (200, tokens(life)), "{more}");
        }
    }

    #[test]
    fn what_is_no_token_is_said_in_plain_words() {
        for (status, body, said) in [
            (200, r#"{"status":"INITIATED"}"#, (400, json!({ "error": "authorization_pending" }))),
            (200, r#"{"status":"EXPIRED"}"#, (400, json!({ "error": "invalid_grant" }))),
            (404, "", (400, json!({ "error": "invalid_grant" }))),
            (401, "", (401, json!({ "error": "invalid_client" }))),
            (200, r#"{"status":"ACTIVE"}"#, (502, Value::Null)),
            (200, "<html>", (502, Value::Null)),
            (429, "", (429, Value::Null)),
        ] {
            assert_eq!(read(status, body), said, "{status} {body}");
        }
    }

    #[test]
    fn an_account_leads_nowhere_else() {
        let accounts = Url::parse("https://b.example/api/v3/connected_accounts").unwrap();
        assert_eq!(
            below(&accounts, &["../x?y"]).as_str(),
            "https://b.example/api/v3/connected_accounts/..%2Fx%3Fy"
        );
    }
}
