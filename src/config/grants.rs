//! Which grant a provider's tokens come by, and the keys of those that need no authorization code.
//!
//! Read beside `providers.rs`, which has the rest of a `[[provider]]`. A key that its grant has no use for is an error: it would
//! be believed to have an effect.

use super::providers::ProviderConfig;
use super::reader::{Reader, Section};
use super::secrets::{self, SecretSource};
use crate::lifecycle::{OrganizationId, Origin, Rotation};
use url::Url;

/// How a provider's tokens are got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GrantConfig {
    /// The grant.
    pub kind: GrantKind,
    /// The device authorization endpoint (RFC 8628 §3.1), where it is not discovered.
    pub device_url: Option<Url>,
    /// `audience` of a client credentials request; `aud` of an assertion. `None`: the token endpoint.
    pub audience: Option<String>,
    /// `sub` of an assertion, for integrations that name none.
    pub subject: Option<String>,
    /// The key that signs assertions: PEM, or the key file of a Google service account.
    pub private_key: Option<SecretSource>,
    /// `kid` of an assertion.
    pub key_id: Option<String>,
    /// What an assertion is used for.
    pub assertion: AssertionStyle,
}

/// The grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GrantKind {
    /// A person authorizes (RFC 6749 §4.1, RFC 8628).
    #[default]
    AuthorizationCode,
    /// The client asks in its own name (RFC 6749 §4.4).
    ClientCredentials,
    /// A signed assertion is the grant (RFC 7523 §2.1).
    JwtBearer,
    /// An operator imports a key.
    Static,
    /// A broker keeps the refresh token.
    Brokered,
}

/// How a signed assertion reaches the token endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AssertionStyle {
    /// As the grant, in a form (RFC 7523 §2.1).
    #[default]
    Form,
    /// As the bearer token of the request (GitHub Apps).
    Bearer,
}

impl GrantKind {
    /// What the core makes of it.
    #[must_use]
    pub const fn origin(self) -> Origin {
        match self {
            Self::AuthorizationCode => Origin::Consent,
            Self::ClientCredentials | Self::JwtBearer => Origin::Machine,
            Self::Static => Origin::Key,
            Self::Brokered => Origin::Broker,
        }
    }

    /// Whether the client needs an id to be told by.
    const fn needs_client(self) -> bool {
        matches!(self, Self::AuthorizationCode | Self::ClientCredentials | Self::Brokered)
    }
}

impl GrantConfig {
    /// Refresh tokens that are not there do not rotate.
    pub(super) const fn rotation(&self, configured: Rotation) -> Rotation {
        match self.kind {
            GrantKind::AuthorizationCode => configured,
            GrantKind::ClientCredentials | GrantKind::JwtBearer | GrantKind::Static | GrantKind::Brokered => {
                Rotation::None
            }
        }
    }
}

/// Reads the grant's keys of a provider.
pub(super) fn grant(reader: &mut Reader<'_>, section: &mut Section, complete: bool) -> GrantConfig {
    let kind = reader.choice(section, "grant", KINDS).unwrap_or_default();
    let asserted = kind == GrantKind::JwtBearer;
    if complete && asserted && !section.has("private_key") {
        reader.wrong(
            section.at,
            "grant \"jwt_bearer\" needs a key that signs",
            "set private_key = { file = \"/path/of/key.pem\" }, or the key file of a Google service account",
        );
    }
    if complete && kind == GrantKind::Brokered && !section.has("client_secret") {
        reader.wrong(
            section.at,
            "grant \"brokered\" needs the broker's API key",
            "set client_secret = { file = \"/path/of/the/key\" }",
        );
    }
    let uses = [
        ("device_url", kind == GrantKind::AuthorizationCode),
        ("audience", asserted || kind == GrantKind::ClientCredentials),
        ("subject", asserted || kind == GrantKind::Brokered),
        ("private_key", asserted),
        ("key_id", asserted),
        ("assertion", asserted),
    ];
    for (key, used) in uses {
        if !used && section.has(key) {
            let at = section.take(key).map_or(section.at, |entry| entry.key_at);
            reader.wrong(
                at,
                format!("`{key}` has no effect with this grant"),
                "remove it, or set another grant",
            );
        }
    }
    let styles = [("form", AssertionStyle::Form), ("bearer", AssertionStyle::Bearer)];
    GrantConfig {
        kind,
        device_url: reader.url(section, "device_url").map(|url| url.value),
        audience: reader.text(section, "audience").map(|text| text.value),
        subject: reader.text(section, "subject").map(|text| text.value),
        private_key: secrets::readable(reader, section, "private_key"),
        key_id: reader.text(section, "key_id").map(|text| text.value),
        assertion: reader.choice(section, "assertion", &styles).unwrap_or_default(),
    }
}

/// Whom an integration's tokens are for, where no person says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errand {
    /// `sub` of an assertion; at a broker, the user that connected accounts belong to.
    pub subject: Option<String>,
    /// What stands for `{installation_id}` in the token endpoint (GitHub Apps).
    pub installation_id: Option<String>,
}

/// Reads the grant's keys of an integration.
pub(super) fn errand(
    reader: &mut Reader<'_>,
    section: &mut Section,
    provider: Option<&ProviderConfig>,
    organization: Option<&OrganizationId>,
) -> Errand {
    let (heading, named) = (section.at, section.has("installation_id"));
    let mut fact = |key| reader.text(section, key);
    let (subject, installation_id) = (fact("subject"), fact("installation_id"));
    let Some(provider) = provider else { return Errand::default() };
    let wants_one = provider.token_url.as_ref().is_some_and(|url| url.path().contains("installation_id%7D"));
    if wants_one && !named {
        reader.wrong(
            heading,
            format!(
                "provider `{}` gives tokens to one installation, and [integration] names none",
                provider.id
            ),
            "set installation_id: it is the number at the end of the installation's page",
        );
    }
    if let Some(at) = installation_id.as_ref().map(|id| id.at).filter(|_| !wants_one) {
        reader.wrong(at, "`installation_id` has no effect with this provider", "remove it");
    }
    let broker = provider.grant.kind == GrantKind::Brokered;
    let asserted = provider.grant.kind == GrantKind::JwtBearer;
    if let Some(at) = subject.as_ref().map(|subject| subject.at).filter(|_| !broker && !asserted) {
        reader.wrong(at, "`subject` has no effect with this grant", "remove it");
    }
    let own = organization.filter(|_| broker).map(ToString::to_string);
    Errand {
        subject: subject.map(|subject| subject.value).or_else(|| provider.grant.subject.clone()).or(own),
        installation_id: installation_id.map(|id| id.value),
    }
}

/// The client id, where the grant has a client; nothing where it has none.
pub(super) fn client_id(
    reader: &mut Reader<'_>,
    section: &mut Section,
    kind: GrantKind,
    complete: bool,
) -> Option<String> {
    if complete && kind.needs_client() {
        let remedy = "write the client id that the provider gave you";
        return reader.required(section, "client_id", remedy).map(|id| id.value);
    }
    Some(reader.text(section, "client_id").map(|id| id.value).unwrap_or_default())
}

/// Whether the endpoints that a grant needs are named.
pub(super) fn is_located(section: &Section, kind: GrantKind) -> bool {
    let (issuer, token) = (section.has("issuer"), section.has("token_url"));
    match kind {
        GrantKind::AuthorizationCode => {
            issuer || (token && (section.has("authorize_url") || section.has("device_url")))
        }
        GrantKind::ClientCredentials | GrantKind::JwtBearer => issuer || token,
        GrantKind::Brokered => token,
        GrantKind::Static => true,
    }
}

/// The grant, without taking it; what is no grant is told when it is read.
pub(super) fn peek(section: &Section) -> GrantKind {
    let named = section.peek_text("grant");
    KINDS.iter().find(|(name, _)| Some(*name) == named).map_or_else(GrantKind::default, |(_, kind)| *kind)
}

const KINDS: &[(&str, GrantKind)] = &[
    ("authorization_code", GrantKind::AuthorizationCode),
    ("client_credentials", GrantKind::ClientCredentials),
    ("jwt_bearer", GrantKind::JwtBearer),
    ("static", GrantKind::Static),
    ("brokered", GrantKind::Brokered),
];

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use crate::config::{GrantKind, StoreKind};
    use crate::lifecycle::Rotation;

    const HEAD: &str = "[server]\npublic_url = \"https://g.example\"\n[store]\nkind = \"aws-secrets-manager\"\nregion = \"eu-west-1\"\n\
        [[organization]]\nid = \"acme\"\n[[provider]]\nid = \"p\"\n";

    fn messages(keys: &str, integration: &str) -> Vec<String> {
        let text = format!("{HEAD}{keys}[[integration]]\nid = \"i\"\nprovider = \"p\"\n{integration}");
        match check(&text) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.into_iter().map(|problem| problem.message).collect(),
        }
    }

    const KEY: &str = "private_key = { env = \"GITHUB_CLIENT_SECRET\" }\n";

    #[test]
    fn each_grant_needs_its_own_keys_and_no_others() {
        let machine =
            "grant = \"client_credentials\"\nclient_id = \"c\"\ntoken_url = \"https://p.example/t\"\n";
        assert_eq!(messages(machine, ""), [""; 0]);
        assert_eq!(
            messages(&machine.replace("client_id = \"c\"\n", ""), ""),
            ["[provider p] lacks `client_id`"]
        );
        assert_eq!(
            messages(&format!("{machine}key_id = \"k\"\n"), "subject = \"s\"\n"),
            ["`key_id` has no effect with this grant", "`subject` has no effect with this grant"]
        );
        assert_eq!(
            messages(machine, "expect_account = { id = \"1\" }\n"),
            ["provider `p` has no endpoint that names the account"]
        );
        let signed = "grant = \"jwt_bearer\"\ntoken_url = \"https://p.example/t\"\n";
        assert_eq!(messages(signed, ""), ["grant \"jwt_bearer\" needs a key that signs"]);
        assert_eq!(messages(&format!("{signed}{KEY}"), "subject = \"s\"\n"), [""; 0]);
        assert_eq!(messages("grant = \"static\"\n", ""), [""; 0]);
        assert_eq!(
            messages("grant = \"brokered\"\nclient_id = \"c\"\n", ""),
            ["grant \"brokered\" needs the broker's API key", "grantd does not know where provider `p` is"]
        );
        assert_eq!(messages("grant = \"password\"\n", "").len(), 3, "and it is read as the usual grant");
    }

    #[test]
    fn an_installation_is_named_where_the_endpoint_has_a_place_for_it() {
        let app = format!(
            "grant = \"jwt_bearer\"\nassertion = \"bearer\"\nclient_id = \"1\"\n{KEY}token_url = \"https://p.example/{{installation_id}}/t\"\n"
        );
        assert_eq!(messages(&app, "installation_id = \"42\"\n"), [""; 0]);
        assert_eq!(
            messages(&app, ""),
            ["provider `p` gives tokens to one installation, and [integration] names none"]
        );
    }

    #[test]
    fn a_machine_keeps_nothing_and_a_broker_is_asked_for_the_organization() {
        let text = |keys: &str| {
            format!("{HEAD}{keys}[[integration]]\nid = \"i\"\nprovider = \"p\"\nsecret = \"/s\"\n")
        };
        let machine = "grant = \"client_credentials\"\nclient_id = \"c\"\nissuer = \"https://p.example\"\nrotation = \"strict\"\n";
        let checked = check(&text(machine)).unwrap();
        let of =
            |checked: &crate::config::Checked| checked.config.integrations.values().next().unwrap().clone();
        assert_eq!((of(&checked).store.kind, checked.warnings.len()), (StoreKind::Nowhere, 1));
        assert_eq!(checked.config.providers.values().next().unwrap().rotation, Rotation::None);
        let broker = "grant = \"brokered\"\nclient_id = \"c\"\nclient_secret = { env = \"GITHUB_CLIENT_SECRET\" }\ntoken_url = \"https://p.example/a\"\n";
        let checked = check(&text(broker)).unwrap();
        assert_eq!(of(&checked).errand.subject.as_deref(), Some("acme"));
        assert_eq!(checked.config.providers.values().next().unwrap().grant.kind, GrantKind::Brokered);
    }
}
