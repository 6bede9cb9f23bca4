//! The keys that an issuer signs with (RFC 7517): fetched, kept, and fetched again for a key id that is not among them.
//!
//! Only signatures of the allowed algorithms count, each under a key of its own kind: no `none`, no HMAC under a public key. Whoever
//! sends tokens with made-up key ids causes one fetch a minute and no more.

use super::client::Provider;
use crate::time::Timestamp;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::sync::Mutex;
use url::Url;

/// The keys of one issuer.
#[derive(Default)]
pub(super) struct Keys {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    tried: Option<Timestamp>,
    keys: Vec<Jwk>,
}

impl Keys {
    /// Checks the signature of a token and gives its claims, which nobody has judged yet.
    ///
    /// # Errors
    /// A stable word for the first thing that does not hold.
    pub(super) async fn verified(
        &self,
        provider: &Provider,
        place: &Url,
        token: &str,
        now: Timestamp,
    ) -> Result<Map<String, Value>, &'static str> {
        // RFC 8725 §3.1: the algorithm is ours to allow, not the token's to choose. `none` is not even a word here.
        let header = decode_header(token).map_err(|_shape| "id_token_unreadable")?;
        if !ALLOWED.contains(&header.alg) {
            return Err("id_token_algorithm");
        }
        let mut kept = self.kept.lock().await;
        let known = kept.find(&header);
        let rested = |least| kept.tried.is_none_or(|at| now.since(at) >= least);
        if rested(FRESH) || (known.is_empty() && rested(PAUSE)) {
            kept.tried = Some(now);
            if let Some(keys) = provider.document(place, None).await {
                kept.keys = read(&keys);
            }
        }
        let fitting = kept.find(&header);
        drop(kept);
        if fitting.is_empty() {
            return Err("id_token_key");
        }
        fitting.iter().find_map(|key| signed(token, header.alg, key)).ok_or("id_token_signature")
    }
}

impl Kept {
    fn find(&self, header: &Header) -> Vec<Jwk> {
        let fits = |key: &&Jwk| match (&header.kid, &key.common.key_id) {
            (Some(wanted), Some(id)) => wanted == id,
            (Some(_), None) => false,
            // RFC 7515 §4.1.4 leaves the id out where there is one key.
            (None, _) => true,
        };
        self.keys.iter().filter(fits).cloned().collect()
    }
}

/// Keys that cannot be read, or are not for signatures, are no keys of ours: other uses stand in the same document.
fn read(document: &Value) -> Vec<Jwk> {
    let all = document.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    all.iter()
        .filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok())
        .filter(|key| matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature)))
        .filter(|key| DecodingKey::from_jwk(key).is_ok())
        .take(MOST)
        .collect()
}

fn signed(token: &str, algorithm: Algorithm, key: &Jwk) -> Option<Map<String, Value>> {
    let key = DecodingKey::from_jwk(key).ok()?;
    let mut rules = Validation::new(algorithm);
    // The claims are `lifecycle`'s to judge, by our clock.
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules.required_spec_claims.clear();
    decode(token, &key, &rules).ok().map(|token| token.claims)
}

const ALLOWED: [Algorithm; 4] = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];
/// For how long keys are kept unasked.
const FRESH: Duration = Duration::from_secs(3600);
/// The least between two fetches.
const PAUSE: Duration = Duration::from_secs(60);
/// An issuer rolls two or three keys.
const MOST: usize = 32;

#[cfg(test)]
mod tests {
    use super::{ALLOWED, Kept, read, signed};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, decode_header, encode};
    use serde_json::json;

    fn key() -> EncodingKey {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        EncodingKey::from_ec_der(document.as_ref())
    }

    fn public(key: &EncodingKey) -> Jwk {
        Jwk::from_encoding_key(key, Algorithm::ES256).unwrap()
    }

    #[test]
    fn only_the_issuers_own_signature_counts() {
        let (own, other) = (key(), key());
        let token = encode(&Header::new(Algorithm::ES256), &json!({ "sub": "ann" }), &own).unwrap();
        assert_eq!(signed(&token, Algorithm::ES256, &public(&own)).unwrap()["sub"], "ann");
        assert!(signed(&token, Algorithm::ES256, &public(&other)).is_none());
        assert!(signed(&token, Algorithm::RS256, &public(&own)).is_none());
        let claims = token.split('.').nth(1).unwrap();
        let changed = token.replace(claims, "eyJzdWIiOiJib2IifQ");
        assert!(signed(&changed, Algorithm::ES256, &public(&own)).is_none());
    }

    #[test]
    fn no_signature_and_a_shared_secret_are_not_even_tried() {
        assert!(decode_header("eyJhbGciOiJub25lIn0.e30.").is_err());
        let shared = EncodingKey::from_secret(b"the public key, as text");
        let token = encode(&Header::new(Algorithm::HS256), &json!({}), &shared).unwrap();
        assert!(!ALLOWED.contains(&decode_header(token).unwrap().alg));
    }

    #[test]
    fn keys_for_other_uses_and_unreadable_ones_are_left_out() {
        let mut sealing = serde_json::to_value(public(&key())).unwrap();
        sealing["use"] = "enc".into();
        let mut named = serde_json::to_value(public(&key())).unwrap();
        named["kid"] = "one".into();
        let keys = read(&json!({ "keys": [sealing, named, { "kty": "new" }, 7] }));
        assert_eq!(keys.len(), 1);
        let kept = Kept { tried: None, keys };
        let header = |kid: Option<&str>| Header { kid: kid.map(Into::into), ..Header::new(Algorithm::ES256) };
        assert_eq!(kept.find(&header(Some("one"))).len(), 1);
        assert_eq!(kept.find(&header(Some("two"))).len(), 0);
        assert_eq!(kept.find(&header(None)).len(), 1);
    }
}
