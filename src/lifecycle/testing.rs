//! What the tests of several files share: short ways to say who and when.

use super::{Account, Action, Identity, IntegrationId, OrganizationId, ProviderId, Status, View};

/// The identity of integration `name` of organization `acme`, at the provider of the same name.
pub(crate) fn identity(name: &str) -> Identity {
    Identity {
        integration: IntegrationId::parse(name).unwrap(),
        organization: OrganizationId::parse("acme").unwrap(),
        provider: ProviderId::parse(name).unwrap(),
    }
}

/// The view of integration `name` that was never connected.
pub(crate) fn pending_view(name: &str) -> View {
    View {
        identity: identity(name),
        connected: false,
        status: Status::Pending,
        message: "never connected".into(),
        actions: vec![Action::Connect],
        token_valid: false,
        token_expired: false,
        expires_at: None,
        refresh_token_expires_at: None,
        last_refreshed: None,
        last_validated: None,
        last_error: None,
        detected_at: None,
        account: Account::default(),
        scopes: Vec::new(),
        generation: 0,
        stored: false,
        unstored_since: None,
    }
}

/// Generation `generation` of integration `name`, with this refresh token and an access token that ends in an hour.
pub(crate) fn record(name: &str, generation: u64, refresh_token: &str) -> super::Record {
    super::Record {
        identity: identity(name),
        generation,
        refresh_token: Some(crate::secret::RefreshToken::new(refresh_token)),
        access_token: Some(crate::secret::AccessToken::new(format!("access-{generation}"))),
        token_type: "Bearer".into(),
        expires_at: Some(crate::time::Timestamp::from_seconds(3600)),
        refresh_token_expires_at: None,
        scope: Some("repo".into()),
        account: Account::default(),
        connected_account: None,
        status: super::RecordStatus::Connected,
        written_at: crate::time::Timestamp::EPOCH,
    }
}
