//! A callback as it arrives: the query of a redirect (RFC 6749 §4.1.2), or the same members as JSON.
//!
//! Pure parsing, no judgement: that is `consent.rs`'s. Repeated parameters are refused, unknown ones ignored.

use super::{Bearer, Callback, Code, Refusal};
use crate::secret::{AuthCode, StateToken};
use serde::Deserialize;

impl Callback {
    /// Reads the query of a redirect. A parameter without a value counts as left out (RFC 6749 §3.1).
    ///
    /// # Errors
    /// `invalid_request` where a parameter of the protocol is repeated or too long.
    pub fn from_query(
        provider: &str,
        integration: Option<&str>,
        query: &str,
        bearer: Bearer,
    ) -> Result<Self, Refusal> {
        let mut found = Members::default();
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let Some(place) = found.place(&key) else { continue };
            if place.is_some() {
                return Err(invalid("a parameter of the callback is repeated"));
            }
            *place = Some(value.into_owned());
        }
        found.callback(provider, integration, bearer)
    }

    /// Reads `{"provider", "code", "state"}`, with `iss`, `error` and `integration` where they came (contract §4).
    ///
    /// # Errors
    /// `invalid_request` for anything that is not such an object, members that are repeated or too long.
    pub fn from_json(body: &[u8], bearer: Bearer) -> Result<Self, Refusal> {
        let body: Body = serde_json::from_slice(body).map_err(|_shape| {
            invalid("the body is not an object with provider, code and state, each once")
        })?;
        let Body { provider, integration, members } = body;
        members.callback(&provider, integration.as_deref(), bearer)
    }
}

/// The members that carry meaning.
#[derive(Default, Deserialize)]
struct Members {
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    provider: String,
    #[serde(default)]
    integration: Option<String>,
    #[serde(flatten)]
    members: Members,
}

impl Members {
    fn place(&mut self, key: &str) -> Option<&mut Option<String>> {
        match key {
            "state" => Some(&mut self.state),
            "code" => Some(&mut self.code),
            "iss" => Some(&mut self.iss),
            "error" => Some(&mut self.error),
            _ => None,
        }
    }

    fn callback(
        self,
        provider: &str,
        integration: Option<&str>,
        bearer: Bearer,
    ) -> Result<Callback, Refusal> {
        let all = [&self.state, &self.code, &self.iss, &self.error];
        if all.into_iter().flatten().any(|value| value.len() > LONGEST) {
            return Err(invalid("a parameter of the callback is too long"));
        }
        let given = |value: Option<String>| value.filter(|text| !text.is_empty());
        Ok(Callback {
            provider: provider.into(),
            integration: integration.map(Into::into),
            state: given(self.state).map(StateToken::new),
            code: given(self.code).map(AuthCode::new),
            issuer: given(self.iss),
            error: given(self.error),
            bearer,
        })
    }
}

/// Some providers' codes are signed documents of their own.
const LONGEST: usize = 8 * 1024;

fn invalid(why: &str) -> Refusal {
    Refusal::new(Code::InvalidRequest, why)
}

#[cfg(test)]
mod tests {
    use crate::lifecycle::{Bearer, Callback, Code};

    fn query(text: &str) -> Result<Callback, Code> {
        Callback::from_query("github", None, text, Bearer::Operator).map_err(|refusal| refusal.code)
    }

    #[test]
    fn members_are_read_and_unknown_ones_ignored() {
        let callback = query("code=c%2B1&state=s&iss=https%3A%2F%2Fidp&session_state=x&error=").unwrap();
        assert_eq!(callback.code.unwrap().expose_secret(), "c+1");
        assert_eq!(callback.state.unwrap().expose_secret(), "s");
        assert_eq!((callback.issuer.as_deref(), callback.error), (Some("https://idp"), None));
    }

    #[test]
    fn repeated_and_overlong_members_are_refused() {
        for bad in ["code=a&code=b", "state=a&state=a", "error=a&error=b", "iss=a&iss=a", "code=a&code="] {
            assert_eq!(query(bad).unwrap_err(), Code::InvalidRequest, "{bad}");
        }
        assert_eq!(query(&format!("state={}", "x".repeat(9000))).unwrap_err(), Code::InvalidRequest);
    }

    #[test]
    fn json_is_read_alike() {
        let read =
            |text: &str| Callback::from_json(text.as_bytes(), Bearer::Operator).map_err(|why| why.code);
        let callback = read(r#"{"provider":"github","code":"c","state":"s","extra":1}"#).unwrap();
        assert_eq!(callback.provider, "github");
        assert_eq!(callback.code.unwrap().expose_secret(), "c");
        for bad in ["", "[]", "{}", r#"{"provider":1}"#, r#"{"provider":"a","code":"b","code":"c"}"#] {
            assert_eq!(read(bad).unwrap_err(), Code::InvalidRequest, "{bad}");
        }
    }
}
