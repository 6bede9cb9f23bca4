//! Makes edges of the grants that need no authorization code. Connects to nothing.

use crate::config::{self, GrantConfig, GrantKind, IntegrationConfig};
use crate::edge::provider::{AssertionStyle, Credential, Errand, Minting, Signer};

/// How a registration gets tokens without a person; `key` signs its assertions.
pub(super) fn minting(grant: &GrantConfig, key: Credential) -> Minting {
    match grant.kind {
        GrantKind::AuthorizationCode => Minting::None,
        GrantKind::Brokered => Minting::Broker,
        GrantKind::Static => Minting::Key,
        GrantKind::ClientCredentials => Minting::ClientCredentials { audience: grant.audience.clone() },
        GrantKind::JwtBearer => Minting::Assertion(Signer {
            key,
            key_id: grant.key_id.clone(),
            audience: grant.audience.clone(),
            style: match grant.assertion {
                config::AssertionStyle::Form => AssertionStyle::Form,
                config::AssertionStyle::Bearer => AssertionStyle::Bearer,
            },
        }),
    }
}

/// Whom one integration's tokens are for.
pub(super) fn errand(integration: &IntegrationConfig) -> Errand {
    Errand {
        scopes: integration.scopes.clone(),
        subject: integration.errand.subject.clone(),
        installation_id: integration.errand.installation_id.clone(),
    }
}
