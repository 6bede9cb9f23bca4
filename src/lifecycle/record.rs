//! The record: what the store keeps for one integration (contract §6), and its JSON.
//!
//! The JSON is stable: the same record gives the same bytes, since a repeated write is a no-op only if
//! its bytes are the same. This is one of the few files that see the text of tokens.

use super::{Identity, IntegrationId};
use crate::secret::{AccessToken, RefreshToken, SecretBytes};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

/// Who the provider says authorized an integration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The provider's own id of the user or workspace.
    pub id: Option<String>,
    /// A display name.
    pub name: Option<String>,
    /// A login name.
    pub username: Option<String>,
    /// An e-mail address.
    pub email: Option<String>,
}

impl Account {
    /// The best name there is for it, for a person.
    #[must_use]
    pub fn called(&self) -> &str {
        let names = [&self.username, &self.email, &self.name, &self.id];
        names.into_iter().flatten().next().map_or("another account", String::as_str)
    }

    /// These facts, and where one is missing the one from before.
    #[must_use]
    pub fn or(self, before: Self) -> Self {
        Self {
            id: self.id.or(before.id),
            name: self.name.or(before.name),
            username: self.username.or(before.username),
            email: self.email.or(before.email),
        }
    }

    /// Whether this is another account than the one before it, as far as that one's id is known.
    #[must_use]
    pub fn replaces(&self, before: &Self) -> bool {
        before.id.is_some() && self.id != before.id
    }
}

/// What the record says about the grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    /// The grant was good when this was written.
    Connected,
    /// The grant was revoked; the token fields are absent.
    Revoked,
}

/// One generation of an integration's grant.
#[derive(Debug)]
pub struct Record {
    /// Whose record this is.
    pub identity: Identity,
    /// Grows by one with every record written; orders and fences writes.
    pub generation: u64,
    /// The newest refresh token, if the provider issued one.
    pub refresh_token: Option<RefreshToken>,
    /// The last access token, absent after a revocation.
    pub access_token: Option<AccessToken>,
    /// As the provider spells it, usually `Bearer`.
    pub token_type: String,
    /// When the access token ends; `None` if it does not.
    pub expires_at: Option<Timestamp>,
    /// When the refresh token ends, where the provider says so.
    pub refresh_token_expires_at: Option<Timestamp>,
    /// The scopes granted, as the provider spells them.
    pub scope: Option<String>,
    /// Who authorized it.
    pub account: Account,
    /// The broker's name for the connected account, where a broker keeps the refresh token.
    pub connected_account: Option<String>,
    /// Whether the grant was good or revoked when this was written.
    pub status: RecordStatus,
    /// When this generation was received.
    pub written_at: Timestamp,
}

/// Why a stored value is not this integration's record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotARecord {
    /// The value is no record at all: a console's or Terraform's placeholder. It may be overwritten.
    #[error("the value is not a grantd record")]
    Placeholder,
    /// The value is a record of another integration, organization or provider. It is never used.
    #[error("the record belongs to integration {integration} of {organization} at {provider}")]
    Foreign {
        /// The integration named inside.
        integration: String,
        /// The organization named inside.
        organization: String,
        /// The provider named inside.
        provider: String,
    },
    /// The value says that it is a record of a schema this version does not know.
    #[error("the record has schema {schema}, which this version of grantd cannot read")]
    Schema {
        /// The schema named inside.
        schema: String,
    },
    /// The value is a record, and a member of it cannot be read.
    #[error("the record is damaged")]
    Damaged,
}

impl Record {
    /// The largest record, in bytes, that is written (contract §6; AWS's limit is 65,536).
    pub const MAX_BYTES: usize = 60 * 1024;

    /// A second copy.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            identity: self.identity.clone(),
            generation: self.generation,
            refresh_token: self.refresh_token.as_ref().map(RefreshToken::duplicate),
            access_token: self.access_token.as_ref().map(AccessToken::duplicate),
            token_type: self.token_type.clone(),
            expires_at: self.expires_at,
            refresh_token_expires_at: self.refresh_token_expires_at,
            scope: self.scope.clone(),
            account: self.account.clone(),
            connected_account: self.connected_account.clone(),
            status: self.status,
            written_at: self.written_at,
        }
    }

    /// Whether its access token may be served: it has not ended, and was not received in a future that a clock has been set back
    /// from since, whose end nobody can tell.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|until| {
            let ahead = self.written_at.since(now);
            now < until && ahead <= until.since(self.written_at) / 10
        })
    }

    /// The record as JSON: the same record gives the same bytes.
    #[must_use]
    pub fn to_json(&self) -> SecretBytes {
        let wire = Wire {
            schema: SCHEMA.into(),
            integration: self.identity.integration.as_str().into(),
            organization: self.identity.organization.as_str().into(),
            provider: self.identity.provider.as_str().into(),
            generation: self.generation,
            refresh_token: self.refresh_token.as_ref().map(|token| token.expose_secret().into()),
            access_token: self.access_token.as_ref().map(|token| token.expose_secret().into()),
            token_type: Some(self.token_type.clone()),
            expires_at: self.expires_at,
            refresh_token_expires_at: self.refresh_token_expires_at,
            scope: self.scope.clone(),
            account: self.account.clone(),
            connected_account: self.connected_account.clone(),
            status: self.status,
            written_at: self.written_at,
        };
        SecretBytes::new(serde_json::to_vec(&wire).unwrap_or_default())
    }

    /// Reads a record and checks that it is this integration's own (invariant 11).
    ///
    /// # Errors
    /// [`NotARecord`], which tells a placeholder from a record that must never be used.
    pub fn from_json(value: &[u8], identity: &Identity) -> Result<Self, NotARecord> {
        let schema = serde_json::from_slice::<Schema>(value).map_err(|_not_json| NotARecord::Placeholder)?;
        match schema.schema.as_deref() {
            Some(SCHEMA) => {}
            Some(other) if other.starts_with(FAMILY) => {
                return Err(NotARecord::Schema { schema: other.into() });
            }
            Some(_) | None => return Err(NotARecord::Placeholder),
        }
        let wire: Wire = serde_json::from_slice(value).map_err(|_shape| NotARecord::Damaged)?;
        if wire.belongs_to(identity) { Ok(wire.into_record(identity.clone())) } else { Err(wire.foreign()) }
    }

    /// The cleared record that follows this one after a revocation: same facts, no tokens.
    #[must_use]
    pub fn cleared(identity: Identity, generation: u64, account: Account, at: Timestamp) -> Self {
        Self {
            identity,
            generation,
            refresh_token: None,
            access_token: None,
            token_type: "Bearer".into(),
            expires_at: None,
            refresh_token_expires_at: None,
            scope: None,
            account,
            connected_account: None,
            status: RecordStatus::Revoked,
            written_at: at,
        }
    }
}

const SCHEMA: &str = "grantd/1";
const FAMILY: &str = "grantd/";

#[derive(Deserialize)]
struct Schema {
    schema: Option<String>,
}

/// The members in the order of contract §6. Unknown members are ignored, so that a later version may add some.
#[derive(Serialize, Deserialize)]
struct Wire {
    schema: String,
    integration: String,
    organization: String,
    provider: String,
    generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_type: Option<String>,
    #[serde(default)]
    expires_at: Option<Timestamp>,
    #[serde(default)]
    refresh_token_expires_at: Option<Timestamp>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    account: Account,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connected_account: Option<String>,
    status: RecordStatus,
    written_at: Timestamp,
}

impl Wire {
    fn belongs_to(&self, identity: &Identity) -> bool {
        self.integration == identity.integration.as_str()
            && self.organization == identity.organization.as_str()
            && self.provider == identity.provider.as_str()
    }

    fn foreign(&self) -> NotARecord {
        let legible =
            |text: &str| if IntegrationId::parse(text).is_ok() { text.into() } else { "(illegible)".into() };
        NotARecord::Foreign {
            integration: legible(&self.integration),
            organization: legible(&self.organization),
            provider: legible(&self.provider),
        }
    }

    fn into_record(mut self, identity: Identity) -> Record {
        Record {
            identity,
            generation: self.generation,
            refresh_token: self.refresh_token.take().map(RefreshToken::new),
            access_token: self.access_token.take().map(AccessToken::new),
            token_type: self.token_type.take().unwrap_or_else(|| "Bearer".into()),
            expires_at: self.expires_at,
            refresh_token_expires_at: self.refresh_token_expires_at,
            scope: self.scope.take(),
            account: std::mem::take(&mut self.account),
            connected_account: self.connected_account.take(),
            status: self.status,
            written_at: self.written_at,
        }
    }
}

/// The copies that serde makes of the tokens do not outlive the reading or writing of a record.
impl Drop for Wire {
    fn drop(&mut self) {
        self.refresh_token.zeroize();
        self.access_token.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, NotARecord, Record, RecordStatus};
    use crate::lifecycle::testing::identity;
    use crate::secret::{AccessToken, RefreshToken};
    use crate::time::Timestamp;

    fn record() -> Record {
        Record {
            identity: identity("github"),
            generation: 3,
            refresh_token: Some(RefreshToken::new("r3")),
            access_token: Some(AccessToken::new("a3")),
            token_type: "Bearer".into(),
            expires_at: Timestamp::parse("2026-11-23T18:00:00Z"),
            refresh_token_expires_at: None,
            scope: Some("repo".into()),
            account: Account { username: Some("acme-bot".into()), ..Account::default() },
            connected_account: None,
            status: RecordStatus::Connected,
            written_at: Timestamp::from_seconds(1_800_000_000),
        }
    }

    #[test]
    fn json_is_the_documented_one_and_round_trips() {
        let json = record().to_json();
        let text = std::str::from_utf8(json.expose_secret()).unwrap();
        assert_eq!(
            text,
            r#"{"schema":"grantd/1","integration":"github","organization":"acme","provider":"github","generation":3,"refresh_token":"r3","access_token":"a3","token_type":"Bearer","expires_at":"2026-11-23T18:00:00Z","refresh_token_expires_at":null,"scope":"repo","account":{"id":null,"name":null,"username":"acme-bot","email":null},"status":"connected","written_at":"2027-01-15T08:00:00Z"}"#
        );
        let read = Record::from_json(json.expose_secret(), &identity("github")).unwrap();
        assert_eq!(read.to_json().expose_secret(), json.expose_secret());
    }

    #[test]
    fn cleared_record_has_no_token_fields() {
        let cleared = Record::cleared(identity("github"), 4, Account::default(), Timestamp::EPOCH).to_json();
        let text = std::str::from_utf8(cleared.expose_secret()).unwrap();
        assert!(!text.contains("\"refresh_token\"") && !text.contains("\"access_token\""), "{text}");
        assert!(text.contains(r#""status":"revoked""#));
    }

    #[test]
    fn record_of_another_integration_is_never_used() {
        let json = record().to_json();
        let read = Record::from_json(json.expose_secret(), &identity("slack"));
        assert!(matches!(read, Err(NotARecord::Foreign { integration, .. }) if integration == "github"));
    }

    #[test]
    fn placeholders_are_told_from_newer_schemas() {
        let read = |value: &str| Record::from_json(value.as_bytes(), &identity("github")).unwrap_err();
        for placeholder in ["", "{}", "changeme", r#"{"username":"x"}"#, "[1]"] {
            assert_eq!(read(placeholder), NotARecord::Placeholder, "{placeholder}");
        }
        assert_eq!(read(r#"{"schema":"grantd/9"}"#), NotARecord::Schema { schema: "grantd/9".into() });
        assert_eq!(read(r#"{"schema":"grantd/1"}"#), NotARecord::Damaged);
    }
}
