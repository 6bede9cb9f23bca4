//! The checks on an `id_token` that came straight from the token endpoint (OpenID Connect Core §3.1.3.7).
//!
//! Its signature is not checked: it came over the connection to the issuer itself, which §3.1.3.7 item 6 takes
//! in its place. Tokens that came any other way must never be handed in here.

use super::IdTokenRules;
use crate::secret::{IdToken, Nonce};
use crate::time::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use std::time::Duration;

/// Checks issuer, audience, authorized party, expiry, time of issue and nonce.
///
/// # Errors
/// A stable word for the first check that does not hold.
pub fn check(
    token: &IdToken,
    rules: &IdTokenRules,
    nonce: Option<&Nonce>,
    now: Timestamp,
) -> Result<(), &'static str> {
    let claims = claims(token).ok_or("id_token_unreadable")?;
    let audience = match &claims.aud {
        Audience::One(one) => std::slice::from_ref(one),
        Audience::Many(many) => many.as_slice(),
    };
    let for_us = audience.contains(&rules.client_id);
    let authorized = match &claims.azp {
        Some(party) => *party == rules.client_id,
        None => audience.len() == 1,
    };
    if claims.iss != rules.issuer {
        Err("id_token_issuer")
    } else if !for_us || !authorized {
        Err("id_token_audience")
    } else if now >= Timestamp::from_seconds(claims.exp).plus(SKEW) {
        Err("id_token_expired")
    } else if claims.iat.is_some_and(|at| Timestamp::from_seconds(at) > now.plus(SKEW)) {
        Err("id_token_future")
    } else if nonce.is_some_and(|nonce| !claims.nonce.is_some_and(|seen| nonce.ct_eq(&Nonce::new(seen)))) {
        Err("id_token_nonce")
    } else {
        Ok(())
    }
}

/// How far the issuer's clock may be off.
const SKEW: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: Option<i64>,
    nonce: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

fn claims(token: &IdToken) -> Option<Claims> {
    let mut parts = token.expose_secret().split('.');
    let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::lifecycle::IdTokenRules;
    use crate::secret::{IdToken, Nonce};
    use crate::time::Timestamp;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    fn checked(claims: &str) -> Result<(), &'static str> {
        let token = IdToken::new(format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims)));
        let rules = IdTokenRules { issuer: "https://idp.example".into(), client_id: "me".into() };
        check(&token, &rules, Some(&Nonce::new("n")), Timestamp::from_seconds(1000))
    }

    #[test]
    fn a_good_token_passes() {
        for aud in [r#""me""#, r#"["me"]"#] {
            let claims = format!(r#"{{"iss":"https://idp.example","aud":{aud},"exp":1001,"nonce":"n"}}"#);
            assert_eq!(checked(&claims), Ok(()));
        }
        assert_eq!(
            checked(r#"{"iss":"https://idp.example","aud":["me","you"],"azp":"me","exp":1001,"nonce":"n"}"#),
            Ok(())
        );
    }

    #[test]
    fn each_wrong_claim_is_named() {
        for (claims, word) in [
            (r#"{"iss":"https://evil.example","aud":"me","exp":1001,"nonce":"n"}"#, "id_token_issuer"),
            (r#"{"iss":"https://idp.example","aud":"you","exp":1001,"nonce":"n"}"#, "id_token_audience"),
            (
                r#"{"iss":"https://idp.example","aud":["me","you"],"exp":1001,"nonce":"n"}"#,
                "id_token_audience",
            ),
            (
                r#"{"iss":"https://idp.example","aud":"me","azp":"you","exp":1001,"nonce":"n"}"#,
                "id_token_audience",
            ),
            (r#"{"iss":"https://idp.example","aud":"me","exp":940,"nonce":"n"}"#, "id_token_expired"),
            (
                r#"{"iss":"https://idp.example","aud":"me","exp":2000,"iat":1061,"nonce":"n"}"#,
                "id_token_future",
            ),
            (r#"{"iss":"https://idp.example","aud":"me","exp":1001,"nonce":"m"}"#, "id_token_nonce"),
            (r#"{"iss":"https://idp.example","aud":"me","exp":1001}"#, "id_token_nonce"),
            ("not json", "id_token_unreadable"),
        ] {
            assert_eq!(checked(claims), Err(word), "{claims}");
        }
    }
}
