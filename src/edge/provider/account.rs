//! Whose token it is: one request with the fresh token, and JSON pointers (RFC 6901) into the answer.

use crate::lifecycle::{Account, Answer, Trial};
use serde_json::Value;
use url::Url;

/// Where a token can be tried, and where the facts about its account stand in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLookup {
    /// The endpoint; `None` means the userinfo endpoint (OpenID Connect Core §5.3).
    pub url: Option<Url>,
    /// Whether it is asked with POST (Slack) instead of GET.
    pub post: bool,
    /// More headers, for example `Notion-Version`.
    pub headers: Vec<(String, String)>,
    /// A JSON body to send along (GraphQL), if any.
    pub body: Option<String>,
    /// A member that must be `true` (Slack's `/ok`).
    pub success_at: Option<String>,
    /// Where the account's id stands.
    pub id: Option<String>,
    /// Where its display name stands.
    pub name: Option<String>,
    /// Where its login name stands.
    pub username: Option<String>,
    /// Where its e-mail address stands.
    pub email: Option<String>,
}

impl AccountLookup {
    /// The claims of OpenID Connect Core §5.1.
    #[must_use]
    pub fn openid() -> Self {
        Self {
            url: None,
            post: false,
            headers: Vec::new(),
            body: None,
            success_at: None,
            id: Some("/sub".into()),
            name: Some("/name".into()),
            username: Some("/preferred_username".into()),
            email: Some("/email".into()),
        }
    }

    /// What the answer shows. Only a plain rejection is `Invalid`; everything unclear is `Silent`.
    pub(super) fn read(&self, answer: &Answer) -> Trial {
        match answer.status {
            401 => return Trial::Invalid,
            200..=299 if answer.whole => {}
            _ => return Trial::Silent,
        }
        let Ok(body) = serde_json::from_slice::<Value>(answer.body.expose_secret()) else {
            return Trial::Silent;
        };
        let refused = self
            .success_at
            .as_deref()
            .is_some_and(|pointer| body.pointer(pointer) != Some(&Value::Bool(true)));
        if refused {
            return match body.get("error").and_then(Value::as_str) {
                Some("ratelimited" | "internal_error" | "service_unavailable") => Trial::Silent,
                Some(_) | None => Trial::Invalid,
            };
        }
        let fact = |pointer: &Option<String>| {
            pointer.as_deref().and_then(|pointer| body.pointer(pointer)).and_then(as_text)
        };
        Trial::Valid(Account {
            id: fact(&self.id),
            name: fact(&self.name),
            username: fact(&self.username),
            email: fact(&self.email),
        })
    }
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.chars().filter(|char| !char.is_control()).take(256).collect()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
