//! What the tests of several files share: short ways to say who and when.

use super::{Identity, IntegrationId, OrganizationId, ProviderId};

/// The identity of integration `name` of organization `acme`, at the provider of the same name.
pub(crate) fn identity(name: &str) -> Identity {
    Identity {
        integration: IntegrationId::parse(name).unwrap(),
        organization: OrganizationId::parse("acme").unwrap(),
        provider: ProviderId::parse(name).unwrap(),
    }
}
