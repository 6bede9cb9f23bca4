//! `state`, and the cookie that binds it to one browser (RFC 6749 §10.12).
//!
//! A state is base64url of: version, 16 random bytes, the three names, HMAC-SHA256 over all before it. What a
//! state means is looked up in a table on this side; the MAC only keeps strangers from reaching that table.

use super::Identity;
use crate::secret::{SealKey, StateToken, same_secret};
use aws_lc_rs::{digest, hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The keys for states and flow cookies, derived from the seal key.
pub struct FlowKeys {
    state: hmac::Key,
    cookie: hmac::Key,
}

/// Sixteen or more random bytes, made outside and handed in.
pub type Random = [u8; 24];

impl FlowKeys {
    /// Derives the keys (RFC 5869), one for each use.
    #[must_use]
    pub fn derive(seal_key: &SealKey) -> Self {
        Self {
            state: derived(seal_key, b"grantd state v1"),
            cookie: derived(seal_key, b"grantd flow cookie v1"),
        }
    }

    /// Mints a state of at most 200 characters.
    #[must_use]
    pub fn mint(&self, identity: &Identity, random: &Random) -> StateToken {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(random);
        bytes.extend_from_slice(&names(identity));
        let mac = hmac::sign(&self.state, &bytes);
        bytes.extend_from_slice(mac.as_ref());
        StateToken::new(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Whether this daemon's key minted `state`. Says nothing about whether it was used.
    #[must_use]
    pub fn minted(&self, state: &StateToken) -> bool {
        let text = state.expose_secret();
        if text.len() > MAX_STATE {
            return false;
        }
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) else { return false };
        let Some((signed, mac)) = bytes.split_last_chunk::<32>() else { return false };
        hmac::verify(&self.state, signed, mac).is_ok()
    }

    /// The value of the cookie that goes with `state`.
    #[must_use]
    pub fn cookie(&self, state: &StateToken) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.cookie, state.expose_secret().as_bytes()).as_ref())
    }

    /// Whether `cookie` is the value that goes with `state`.
    #[must_use]
    pub fn same_browser(&self, state: &StateToken, cookie: &str) -> bool {
        same_secret(self.cookie(state).as_bytes(), cookie.as_bytes())
    }
}

/// The part of the flow cookie's name that depends on the state: 8 hex digits of its SHA-256 (contract §4).
#[must_use]
pub fn cookie_suffix(state: &StateToken) -> String {
    fingerprint(state).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// What a state, a ticket's text or the like is filed under: its SHA-256, so that the table holds no secret.
pub(super) fn fingerprint(state: &StateToken) -> [u8; 32] {
    sha256(state.expose_secret().as_bytes())
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

const VERSION: u8 = 1;
const MAX_STATE: usize = 200;
/// 150 bytes make 200 characters; version, random bytes and MAC take 57 of them.
const MAX_NAMES: usize = 93;

fn names(identity: &Identity) -> Vec<u8> {
    let plain = format!("{}\0{}\0{}", identity.organization, identity.integration, identity.provider);
    if plain.len() <= MAX_NAMES { plain.into_bytes() } else { sha256(plain.as_bytes()).to_vec() }
}

fn derived(seal_key: &SealKey, purpose: &[u8]) -> hmac::Key {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"grantd");
    let mut bytes = zeroize::Zeroizing::new([0_u8; 32]);
    // HKDF can only refuse outputs of more than 255 blocks; this is one.
    let filled = salt
        .extract(seal_key.expose_secret())
        .expand(&[purpose], hmac::HMAC_SHA256)
        .and_then(|okm| okm.fill(bytes.as_mut()));
    debug_assert!(filled.is_ok(), "HKDF refused one block");
    hmac::Key::new(hmac::HMAC_SHA256, bytes.as_ref())
}

#[cfg(test)]
mod tests {
    use super::{FlowKeys, cookie_suffix};
    use crate::lifecycle::testing::identity;
    use crate::lifecycle::{Identity, IntegrationId, OrganizationId, ProviderId};
    use crate::secret::{SealKey, StateToken};

    fn keys() -> FlowKeys {
        FlowKeys::derive(&SealKey::new([7; 32]))
    }

    #[test]
    fn a_minted_state_is_recognised_and_any_change_to_it_is_not() {
        let state = keys().mint(&identity("github"), &[1; 24]);
        assert!(keys().minted(&state));
        let text = state.expose_secret();
        for at in 0..text.len() {
            let mut other = text.as_bytes().to_vec();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            if other != text.as_bytes() {
                let other = StateToken::new(String::from_utf8(other).unwrap());
                // The last character carries two bits that base64url does not use.
                assert!(!keys().minted(&other), "changed at {at}");
            }
        }
        assert!(!keys().minted(&StateToken::new("")));
        assert!(!FlowKeys::derive(&SealKey::new([8; 32])).minted(&state));
    }

    #[test]
    fn a_state_is_at_most_200_characters_whatever_the_names() {
        let long = "x".repeat(63);
        let longest = Identity {
            integration: IntegrationId::parse(&long).unwrap(),
            organization: OrganizationId::parse(&long).unwrap(),
            provider: ProviderId::parse(&long).unwrap(),
        };
        for identity in [longest, identity("github"), identity(&"y".repeat(42))] {
            assert!(keys().mint(&identity, &[1; 24]).expose_secret().len() <= 200);
        }
    }

    #[test]
    fn a_cookie_goes_with_one_state_only() {
        let (one, two) =
            (keys().mint(&identity("github"), &[1; 24]), keys().mint(&identity("github"), &[2; 24]));
        assert!(keys().same_browser(&one, &keys().cookie(&one)));
        assert!(!keys().same_browser(&two, &keys().cookie(&one)));
        assert!(!keys().same_browser(&one, ""));
        assert_eq!(cookie_suffix(&one).len(), 8);
        assert_ne!(cookie_suffix(&one), cookie_suffix(&two));
    }
}
