//! A newtype for each kind of secret that passes through the house.
//!
//! No secret has `Display`, `Serialize`, `PartialEq` or `Clone`; `Debug` shows the kind and nothing
//! else; memory is zeroed on drop. Equality takes constant time. The text is reached only through
//! `expose_secret`, and `tests/architecture.rs` counts the files that may call it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use secrecy::{ExposeSecret as _, SecretBox, SecretSlice, SecretString};
use std::fmt;

macro_rules! secret_text {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        pub struct $name(SecretString);

        impl $name {
            /// Takes the text over; the caller's copy is moved, not duplicated.
            #[must_use]
            pub fn new(text: impl Into<String>) -> Self {
                Self(SecretString::from(text.into()))
            }

            /// The text itself, for the few places that put it on the wire or seal it.
            #[must_use]
            pub fn expose_secret(&self) -> &str {
                self.0.expose_secret()
            }

            /// A second copy. Spelled out because every copy is one more thing to lose.
            #[must_use]
            pub fn duplicate(&self) -> Self {
                Self::new(self.expose_secret())
            }

            /// Compares in constant time.
            #[must_use]
            pub fn ct_eq(&self, other: &Self) -> bool {
                same_secret(self.expose_secret().as_bytes(), other.expose_secret().as_bytes())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )+};
}

secret_text! {
    /// A refresh token (RFC 6749 §1.5): months of access, often valid once.
    RefreshToken
    /// An access token (RFC 6749 §1.4): minutes to hours of access.
    AccessToken
    /// The company's own OAuth client secret at a provider (RFC 6749 §2.3.1).
    ClientSecret
    /// An authorization code (RFC 6749 §4.1.2): valid once, for minutes.
    AuthCode
    /// A PKCE code verifier (RFC 7636 §4.1).
    PkceVerifier
    /// The `state` of one authorization request (RFC 6749 §10.12).
    StateToken
    /// The one-time part of a link that `grantd connect` mints.
    Ticket
    /// An OIDC `id_token` as it came (OpenID Connect Core §2).
    IdToken
    /// What an operator imports: a refresh token, or a key.
    Imported
    /// An OIDC `nonce` (OpenID Connect Core §3.1.2.1).
    Nonce
}

/// Bytes that hold secrets: a provider's raw answer, a record's JSON. Zeroed on drop.
pub struct SecretBytes(SecretSlice<u8>);

impl SecretBytes {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(SecretSlice::from(bytes))
    }

    /// The bytes themselves.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.expose_secret().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.len())
    }
}

/// The 32 bytes from which every sealing and signing key is derived.
pub struct SealKey(SecretBox<[u8; 32]>);

impl SealKey {
    /// Takes 32 raw bytes over.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(SecretBox::new(Box::new(bytes)))
    }

    /// The key's bytes, for key derivation only.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// Compares two byte strings in time that depends only on their lengths.
#[must_use]
pub fn same_secret(left: &[u8], right: &[u8]) -> bool {
    verify_slices_are_equal(left, right).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{AccessToken, RefreshToken, SealKey, SecretBytes};

    #[test]
    fn debug_never_shows_the_text() {
        let shown = format!(
            "{:?} {:?} {:?} {:?}",
            RefreshToken::new("canary-r"),
            AccessToken::new("canary-a"),
            SecretBytes::new(b"canary-b".to_vec()),
            SealKey::new([7; 32]),
        );
        assert_eq!(shown, "RefreshToken(..) AccessToken(..) SecretBytes(8 bytes) SealKey(..)");
    }

    #[test]
    fn equality_is_by_value() {
        assert!(RefreshToken::new("a").ct_eq(&RefreshToken::new("a")));
        assert!(!RefreshToken::new("a").ct_eq(&RefreshToken::new("b")));
        assert!(!RefreshToken::new("a").ct_eq(&RefreshToken::new("aa")));
    }
}
