//! Who is who: the identifiers of integrations, organizations and providers.
//!
//! An identifier is checked once, when it is made, so that it may name a file or stand in a URL path.

use serde::{Serialize, Serializer};
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

macro_rules! identifiers {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes an identifier: `[a-z0-9][a-z0-9._-]{0,62}`.
            ///
            /// # Errors
            /// [`NotAnIdentifier`] for anything else.
            pub fn parse(text: &str) -> Result<Self, NotAnIdentifier> {
                if is_identifier(text) { Ok(Self(Arc::from(text))) } else { Err(NotAnIdentifier) }
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    )+};
}

identifiers! {
    /// One organization's authorization at one provider.
    IntegrationId
    /// The tenant to which a grant belongs.
    OrganizationId
    /// One `[[provider]]`: one client registration at one issuer.
    ProviderId
}

/// The text is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an identifier is a lower-case letter or digit, then up to 62 of a-z 0-9 . _ -")]
pub struct NotAnIdentifier;

/// The three names under which everything about an integration is kept, sealed and looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Identity {
    /// The integration itself.
    pub integration: IntegrationId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// Where the grant was given.
    pub provider: ProviderId,
}

fn is_identifier(text: &str) -> bool {
    let lower = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(lower)
        && bytes.iter().all(|byte| lower(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::IntegrationId;

    #[test]
    fn only_safe_identifiers_parse() {
        for good in ["a", "github", "acme.github_1-x", &"a".repeat(63)] {
            assert!(IntegrationId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "A", "a/b", "..", "a b", "é", &"a".repeat(64)] {
            assert!(IntegrationId::parse(bad).is_err(), "{bad}");
        }
    }
}
