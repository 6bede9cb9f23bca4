//! Sealing: authenticated encryption at rest, with a key of its own for each piece.
//!
//! AES-256-GCM under HKDF-SHA256(seal key, salt, purpose). The salt is random and used once, so that the fixed nonce
//! never meets a key twice. Pure: the salt is an argument. What fails to authenticate is never used. A [`TagKey`] authenticates
//! what is no secret.

use crate::secret::{SealKey, SecretBytes};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;

/// What a seal is for; another purpose is another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A cell of the spool.
    Spool,
    /// A file of the sealed-file store.
    SealedFile,
}

/// How many random bytes a seal starts with.
pub const SALT: usize = 32;

/// Seals `plain` for `purpose`, bound to `context`: salt, ciphertext, tag. `None` only if the cipher refuses, which it cannot for sizes used here.
#[must_use]
pub fn seal(
    key: &SealKey,
    purpose: Purpose,
    context: &[u8],
    salt: [u8; SALT],
    plain: &SecretBytes,
) -> Option<Vec<u8>> {
    let cipher = derive(key, purpose, &salt)?;
    let mut sealed = Vec::with_capacity(SALT + plain.len() + AES_256_GCM.tag_len());
    let mut text = plain.expose_secret().to_vec();
    cipher.seal_in_place_append_tag(once(), Aad::from(context), &mut text).ok()?;
    sealed.extend_from_slice(&salt);
    sealed.append(&mut text);
    Some(sealed)
}

/// Opens what [`seal`] made with the same key, purpose and context. `None` for anything else.
#[must_use]
pub fn open(key: &SealKey, purpose: Purpose, context: &[u8], sealed: &[u8]) -> Option<SecretBytes> {
    let (salt, text) = sealed.split_first_chunk::<SALT>()?;
    let cipher = derive(key, purpose, salt)?;
    let mut text = text.to_vec();
    let length = cipher.open_in_place(once(), Aad::from(context), &mut text).ok()?.len();
    text.truncate(length);
    Some(SecretBytes::new(text))
}

/// Tags what may be read by anybody and changed by nobody: HMAC-SHA256 under a key of its own.
pub struct TagKey(hmac::Key);

impl TagKey {
    /// Derives the key for one purpose (RFC 5869). `None` only if HKDF refuses one block, which it cannot.
    #[must_use]
    pub fn derive(key: &SealKey, purpose: &'static [u8]) -> Option<Self> {
        let info = [purpose];
        let extracted = Salt::new(HKDF_SHA256, b"grantd").extract(key.expose_secret());
        Some(Self(hmac::Key::from(extracted.expand(&info, hmac::HMAC_SHA256).ok()?)))
    }

    /// The tag of a message.
    #[must_use]
    pub fn tag(&self, message: &[u8]) -> Vec<u8> {
        hmac::sign(&self.0, message).as_ref().to_vec()
    }

    /// Whether a tag is the message's. Takes constant time.
    #[must_use]
    pub fn holds(&self, message: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, message, tag).is_ok()
    }
}

fn derive(key: &SealKey, purpose: Purpose, salt: &[u8; SALT]) -> Option<LessSafeKey> {
    let info: &[u8] = match purpose {
        Purpose::Spool => b"grantd spool v1",
        Purpose::SealedFile => b"grantd sealed-file v1",
    };
    let derived = Salt::new(HKDF_SHA256, salt).extract(key.expose_secret());
    let info = [info];
    let key = UnboundKey::from(derived.expand(&info, &AES_256_GCM).ok()?);
    Some(LessSafeKey::new(key))
}

fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::{Purpose, TagKey, open, seal};
    use crate::secret::{SealKey, SecretBytes};

    fn sealed() -> Vec<u8> {
        let plain = SecretBytes::new(b"months of access".to_vec());
        seal(&SealKey::new([7; 32]), Purpose::Spool, b"acme", [3; 32], &plain).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_again() {
        let opened = open(&SealKey::new([7; 32]), Purpose::Spool, b"acme", &sealed()).unwrap();
        assert_eq!(opened.expose_secret(), b"months of access");
    }

    #[test]
    fn another_key_purpose_context_or_byte_opens_nothing() {
        let key = SealKey::new([7; 32]);
        assert!(open(&SealKey::new([8; 32]), Purpose::Spool, b"acme", &sealed()).is_none());
        assert!(open(&key, Purpose::SealedFile, b"acme", &sealed()).is_none());
        assert!(open(&key, Purpose::Spool, b"other", &sealed()).is_none());
        for at in 0..sealed().len() {
            let mut changed = sealed();
            changed[at] ^= 1;
            assert!(open(&key, Purpose::Spool, b"acme", &changed).is_none(), "byte {at}");
        }
        assert!(open(&key, Purpose::Spool, b"acme", &sealed()[..20]).is_none());
    }

    #[test]
    fn nothing_of_the_text_shows() {
        assert!(!sealed().windows(6).any(|window| window == b"months"));
    }

    #[test]
    fn a_tag_is_one_keys_one_purposes_and_one_messages() {
        let key = |byte, purpose| TagKey::derive(&SealKey::new([byte; 32]), purpose).unwrap();
        let tag = key(7, b"one").tag(b"message");
        assert!(key(7, b"one").holds(b"message", &tag));
        assert!(!key(7, b"one").holds(b"massage", &tag));
        assert!(!key(7, b"two").holds(b"message", &tag));
        assert!(!key(8, b"one").holds(b"message", &tag));
        assert!(!key(7, b"one").holds(b"message", b""));
    }
}
