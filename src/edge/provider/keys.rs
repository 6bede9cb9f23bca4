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
