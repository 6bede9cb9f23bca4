//! What a token endpoint's answer means. Pure: from the raw bytes and the provider's dialect to one of five outcomes.
//!
//! Called only with answers that were sealed. When in doubt it says `Ambiguous`: nothing follows from a
//! body that cannot be read, and "invalid grant" is said only where the provider said so.

use super::{Answer, Dialect};
use crate::secret::{AccessToken, IdToken, RefreshToken};
use serde_json::{Map, Value};
use std::time::Duration;

/// What an answer means (design §3, "Outcomes of step 8").
#[derive(Debug)]
pub(super) enum Outcome {
    /// Tokens were issued.
    Issued(Box<Issued>),
    /// The code or the refresh token is dead, says the provider (RFC 6749 §5.2 `invalid_grant`).
    InvalidGrant,
    /// The provider rejects the client, not the grant: a matter of configuration.
    ClientRejected(&'static str),
    /// Refused without being consumed: try again later.
    Refused {
        /// The provider's wish.
        retry_after: Option<Duration>,
        /// A stable word.
        cause: &'static str,
    },
    /// Nobody can say whether the token was consumed.
    Ambiguous(&'static str),
}

/// The members of a token response (RFC 6749 §5.1) that matter here.
#[derive(Debug)]
pub(super) struct Issued {
    /// `access_token`.
    pub(super) access_token: AccessToken,
    /// `token_type`; `Bearer` if the answer has none.
    pub(super) token_type: String,
    /// `expires_in`, if it is a positive number of seconds, as a number or as text.
    pub(super) expires_in: Option<Duration>,
    /// `refresh_token`.
    pub(super) refresh_token: Option<RefreshToken>,
    /// `refresh_token_expires_in` (GitHub) or `refresh_expires_in` (Keycloak).
    pub(super) refresh_token_expires_in: Option<Duration>,
    /// `scope`.
    pub(super) scope: Option<String>,
    /// `id_token`.
    pub(super) id_token: Option<IdToken>,
    /// `connected_account`: how `edge/provider` writes a broker's name for it.
    pub(super) connected_account: Option<String>,
}

impl Issued {
    /// A key that an operator brought: it does not expire, unless the configuration says so.
    pub(super) fn of_key(key: &str) -> Self {
        Self {
            access_token: AccessToken::new(key),
            token_type: "Bearer".into(),
            expires_in: None,
            refresh_token: None,
            refresh_token_expires_in: None,
            scope: None,
            id_token: None,
            connected_account: None,
        }
    }
}

/// Says what an answer means.
#[must_use]
pub(super) fn classify(answer: &Answer, dialect: &Dialect) -> Outcome {
    match answer.status {
        429 => return Outcome::Refused { retry_after: answer.retry_after, cause: "rate_limited" },
        200..=299 | 400..=407 | 409..=499 => {}
        500..=599 => return Outcome::Ambiguous("server_error"),
        _ => return Outcome::Ambiguous("unexpected_status"),
    }
    if !answer.whole {
        return Outcome::Ambiguous("cut");
    }
    let Some(mut body) = read(answer) else { return unreadable(answer) };
    if let Some(error) = error_of(&body, dialect) {
        return refused(&error, answer, dialect);
    }
    let tokens = match &dialect.tokens_at {
        Some(pointer) => body.pointer_mut(pointer),
        None => Some(&mut body),
    };
    match tokens.and_then(Value::as_object_mut).and_then(issued) {
        Some(issued) if answer.status < 300 => Outcome::Issued(Box::new(issued)),
        Some(_) | None => unreadable(answer),
    }
}

fn read(answer: &Answer) -> Option<Value> {
    let bytes = answer.body.expose_secret();
    if answer.form_encoded {
        let pairs = url::form_urlencoded::parse(bytes);
        return Some(Value::Object(pairs.map(|(key, value)| (key.into(), Value::from(value))).collect()));
    }
    serde_json::from_slice(bytes).ok().filter(Value::is_object)
}

/// A 2xx that cannot be read may have consumed the token; a refusal that cannot be read has not.
fn unreadable(answer: &Answer) -> Outcome {
    match answer.status {
        200..=299 => Outcome::Ambiguous("unreadable"),
        401 => Outcome::ClientRejected("unauthorized"),
        _ => Outcome::Refused { retry_after: answer.retry_after, cause: "unreadable_refusal" },
    }
}

/// The error code, also in answers with status 200 (GitHub, Slack).
fn error_of(body: &Value, dialect: &Dialect) -> Option<String> {
    let denied =
        dialect.success_at.as_deref().is_some_and(|pointer| body.pointer(pointer) != Some(&true.into()));
    let code =
        dialect.error_at.as_deref().and_then(|pointer| body.pointer(pointer)).or_else(|| body.get("error"));
    match code {
        Some(Value::String(code)) if !code.is_empty() => Some(code.clone()),
        Some(Value::Object(inner)) => {
            Some(inner.get("code").and_then(Value::as_str).unwrap_or("unknown").to_owned())
        }
        Some(_) | None => denied.then(|| "unknown".to_owned()),
    }
}

fn refused(error: &str, answer: &Answer, dialect: &Dialect) -> Outcome {
    if error == "invalid_grant" || dialect.dead_grant_errors.iter().any(|dead| dead == error) {
        return Outcome::InvalidGrant;
    }
    match error {
        "temporarily_unavailable" | "server_error" | "slow_down" | "ratelimited" | "internal_error" => {
            Outcome::Refused { retry_after: answer.retry_after, cause: "temporarily_unavailable" }
        }
        "invalid_client" | "incorrect_client_credentials" | "bad_client_secret" | "invalid_client_id" => {
            Outcome::ClientRejected("invalid_client")
        }
        "unauthorized_client" => Outcome::ClientRejected("unauthorized_client"),
        "invalid_scope" => Outcome::ClientRejected("invalid_scope"),
        // RFC 8628 §3.5.
        "access_denied" => Outcome::ClientRejected("access_denied"),
        "expired_token" => Outcome::ClientRejected("expired_token"),
        "unsupported_grant_type" => Outcome::ClientRejected("unsupported_grant_type"),
        "invalid_request" => Outcome::ClientRejected("invalid_request"),
        "redirect_uri_mismatch" | "bad_redirect_uri" => Outcome::ClientRejected("redirect_uri_mismatch"),
        _ => Outcome::ClientRejected("unknown_error"),
    }
}

/// Moves the tokens out of the parsed body, so that no second copy of them stays behind.
fn issued(body: &mut Map<String, Value>) -> Option<Issued> {
    let access_token = text(body, "access_token").filter(|token| !token.is_empty())?;
    Some(Issued {
        access_token: AccessToken::new(access_token),
        token_type: text(body, "token_type").unwrap_or_else(|| "Bearer".into()),
        expires_in: seconds(body, &["expires_in"]),
        refresh_token: text(body, "refresh_token").filter(|token| !token.is_empty()).map(RefreshToken::new),
        refresh_token_expires_in: seconds(body, &["refresh_token_expires_in", "refresh_expires_in"]),
        scope: text(body, "scope").filter(|scope| !scope.is_empty()),
        id_token: text(body, "id_token").map(IdToken::new),
        connected_account: text(body, "connected_account").filter(|name| !name.is_empty()),
    })
}

fn text(body: &mut Map<String, Value>, key: &str) -> Option<String> {
    match body.get_mut(key).map(Value::take) {
        Some(Value::String(text)) => Some(text),
        Some(_) | None => None,
    }
}

/// RFC 6749 §5.1 says a number; form bodies and some providers send text.
fn seconds(body: &Map<String, Value>, keys: &[&str]) -> Option<Duration> {
    let value = keys.iter().find_map(|key| body.get(*key))?;
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    // Ten years is more than any token lives; it also keeps the arithmetic small.
    (seconds >= 1.0).then(|| Duration::from_secs_f64(seconds.min(315_360_000.0)))
}

#[cfg(test)]
mod tests {
    use super::{Outcome, classify};
    use crate::lifecycle::{Answer, Dialect};
    use crate::secret::SecretBytes;
    use crate::time::Timestamp;
    use std::time::Duration;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            form_encoded: false,
            retry_after: None,
            whole: true,
            body: SecretBytes::new(body.as_bytes().to_vec()),
            received_at: Timestamp::EPOCH,
        }
    }

    fn slack() -> Dialect {
        Dialect {
            tokens_at: Some("/authed_user".into()),
            success_at: Some("/ok".into()),
            dead_grant_errors: vec!["token_revoked".into()],
            ..Dialect::default()
        }
    }

    fn word(outcome: Outcome) -> &'static str {
        match outcome {
            Outcome::Issued(_) => "issued",
            Outcome::InvalidGrant => "invalid_grant",
            Outcome::ClientRejected(cause) | Outcome::Refused { cause, .. } | Outcome::Ambiguous(cause) => {
                cause
            }
        }
    }

    #[test]
    fn json_and_form_answers_are_read_alike() {
        let json = answer(
            200,
            r#"{"access_token":"a","refresh_token":"r","expires_in":"3600","refresh_token_expires_in":15,"scope":"x y"}"#,
        );
        let form = Answer {
            form_encoded: true,
            ..answer(
                200,
                "access_token=a&refresh_token=r&expires_in=3600&refresh_token_expires_in=15&scope=x+y",
            )
        };
        for answer in [json, form] {
            let Outcome::Issued(issued) = classify(&answer, &Dialect::default()) else {
                panic!("not issued")
            };
            assert_eq!(issued.access_token.expose_secret(), "a");
            assert_eq!(issued.refresh_token.unwrap().expose_secret(), "r");
            assert_eq!(issued.expires_in, Some(Duration::from_secs(3600)));
            assert_eq!(issued.refresh_token_expires_in, Some(Duration::from_secs(15)));
            assert_eq!(issued.scope.as_deref(), Some("x y"));
            assert_eq!(issued.token_type, "Bearer");
        }
    }

    #[test]
    fn each_refusal_means_what_it_says() {
        for (status, body, meaning) in [
            (400, r#"{"error":"invalid_grant"}"#, "invalid_grant"),
            (200, r#"{"error":"invalid_grant"}"#, "invalid_grant"),
            (401, r#"{"error":"invalid_client"}"#, "invalid_client"),
            (400, r#"{"error":"invalid_scope"}"#, "invalid_scope"),
            (400, r#"{"error":"flux_capacitor"}"#, "unknown_error"),
            (400, r#"{"error":{"code":"invalid_grant"}}"#, "invalid_grant"),
            (400, r#"{"error":"temporarily_unavailable"}"#, "temporarily_unavailable"),
            (429, "", "rate_limited"),
            (403, "<html>", "unreadable_refusal"),
            (401, "", "unauthorized"),
            (400, r#"{"access_token":"a"}"#, "unreadable_refusal"),
        ] {
            assert_eq!(
                word(classify(&answer(status, body), &Dialect::default())),
                meaning,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_in_doubt() {
        for (status, body, meaning) in [
            (200, "", "unreadable"),
            (200, "<html>", "unreadable"),
            (200, r#"{"access_token":""}"#, "unreadable"),
            (200, r#"{"access_token":7}"#, "unreadable"),
            (200, "[]", "unreadable"),
            (500, r#"{"error":"invalid_grant"}"#, "server_error"),
            (503, "", "server_error"),
            (408, "", "unexpected_status"),
            (302, "", "unexpected_status"),
        ] {
            assert_eq!(
                word(classify(&answer(status, body), &Dialect::default())),
                meaning,
                "{status} {body}"
            );
        }
        let cut = Answer { whole: false, ..answer(200, r#"{"access_token":"a"}"#) };
        assert_eq!(word(classify(&cut, &Dialect::default())), "cut");
    }

    #[test]
    fn a_dialect_moves_the_tokens_and_the_errors() {
        let good = answer(200, r#"{"ok":true,"authed_user":{"access_token":"xoxp"}}"#);
        assert_eq!(word(classify(&good, &slack())), "issued");
        let dead = answer(200, r#"{"ok":false,"error":"token_revoked"}"#);
        assert_eq!(word(classify(&dead, &slack())), "invalid_grant");
        let odd = answer(200, r#"{"authed_user":{"access_token":"xoxp"}}"#);
        assert_eq!(word(classify(&odd, &slack())), "unknown_error");
    }

    #[test]
    fn no_answer_makes_the_reader_panic() {
        let whole =
            br#"{"ok":true,"access_token":"\u00e9","expires_in":3e9,"authed_user":{"refresh_token":"r"}}"#;
        let bytes = [0, b'"', b'{', b'\\', b'9', 0x80, 0xff];
        for (at, byte) in (0..whole.len()).flat_map(|at| bytes.map(|byte| (at, byte))) {
            let mut spoilt = whole.to_vec();
            spoilt[at] = byte;
            for (status, cut, form_encoded) in [(200, at, false), (400, whole.len(), true), (299, at, true)] {
                let body = SecretBytes::new(spoilt[..cut].to_vec());
                let answer = Answer { body, form_encoded, ..answer(status, "") };
                let _read = (classify(&answer, &Dialect::default()), classify(&answer, &slack()));
            }
        }
    }

    #[test]
    fn expires_in_that_makes_no_sense_is_absent() {
        for body in ["0", "-5", "null", "\"soon\"", "{}", "true"] {
            let answer = answer(200, &format!(r#"{{"access_token":"a","expires_in":{body}}}"#));
            let Outcome::Issued(issued) = classify(&answer, &Dialect::default()) else {
                panic!("not issued")
            };
            assert_eq!(issued.expires_in, None, "{body}");
        }
    }
}
