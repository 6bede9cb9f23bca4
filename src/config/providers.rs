//! `[[provider]]`: a catalogue entry with a client, or a provider spelled out.

use super::grants::{self, GrantConfig};
use super::proxying::{self, ProxyConfig};
use super::reader::{Reader, Section};
use super::secrets::{self, SecretSource};
use super::source::Spot;
use super::values;
use crate::lifecycle::{Dialect, IdTokenRules, ProviderId, Rotation};
use crate::secret::same_secret;
use std::time::Duration;
use url::Url;

/// One client registration at one provider.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderConfig {
    /// Its id.
    pub id: ProviderId,
    /// The name shown to people.
    pub name: String,
    /// Where its OAuth documentation is.
    pub docs: Option<String>,
    /// `client_id`.
    pub client_id: String,
    /// The client secret; `None` for a public client.
    pub client_secret: Option<SecretSource>,
    /// The secret that takes its place: both are valid for a while.
    pub client_secret_next: Option<SecretSource>,
    /// How the client proves itself.
    pub client_auth: ClientAuth,
    /// The issuer, for discovery.
    pub issuer: Option<String>,
    /// The authorization endpoint.
    pub authorize_url: Option<Url>,
    /// The token endpoint.
    pub token_url: Option<Url>,
    /// The revocation endpoint.
    pub revoke_url: Option<Url>,
    /// The userinfo endpoint.
    pub userinfo_url: Option<Url>,
    /// The API's root.
    pub api_base: Option<Url>,
    /// What stands between scopes.
    pub scope_separator: String,
    /// Whether PKCE is sent.
    pub pkce: bool,
    /// How refresh tokens behave.
    pub rotation: Rotation,
    /// How long an access token lives when the answer does not say.
    pub expires_in: Option<Duration>,
    /// Whether each integration has a redirect URI of its own.
    pub redirect_per_integration: bool,
    /// More parameters of the authorization request.
    pub authorize_params: Vec<(String, String)>,
    /// More headers for the token endpoint.
    pub token_headers: Vec<(String, String)>,
    /// How a grant is ended.
    pub revoke: RevokeStyle,
    /// Where a token is tried.
    pub account: Option<AccountConfig>,
    /// How token answers are read.
    pub dialect: Dialect,
    /// How tokens are got.
    pub grant: GrantConfig,
    /// How its API is called by the proxy.
    pub proxy: ProxyConfig,
}

impl ProviderConfig {
    /// Whether a token can be tried. A machine's belongs to nobody whom an account would name.
    pub(super) const fn can_try(&self) -> bool {
        self.grant.kind.origin().keeps_record()
            && (self.account.is_some() || self.userinfo_url.is_some() || self.issuer.is_some())
    }
}

/// How the client proves itself at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// HTTP Basic.
    Basic,
    /// In the form body.
    Body,
    /// In a JSON body.
    Json,
    /// HTTP Basic beside a JSON body.
    BasicJson,
}

/// How a grant is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokeStyle {
    /// RFC 7009.
    Rfc7009,
    /// `DELETE` with a JSON body.
    DeleteJson,
    /// `POST` with the access token as Bearer.
    Bearer,
    /// `DELETE` with the access token as Bearer.
    DeleteBearer,
    /// `POST` with the token in the path, where `revoke_url` has `{token}`.
    TokenInPath,
    /// There is no way.
    Unsupported,
}

/// Where a token is tried, with JSON pointers to the account's facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountConfig {
    /// The endpoint; `None`: the userinfo endpoint.
    pub url: Option<Url>,
    /// Whether it takes POST.
    pub post: bool,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// A JSON body.
    pub body: Option<String>,
    /// A member that must be true.
    pub success_at: Option<String>,
    /// The account's id.
    pub id: Option<String>,
    /// Its display name.
    pub name: Option<String>,
    /// Its login name.
    pub username: Option<String>,
    /// Its e-mail address.
    pub email: Option<String>,
}

impl ProviderConfig {
    /// Where its client secrets are: one, or two while they change places.
    pub fn client_secrets(&self) -> impl Iterator<Item = &SecretSource> {
        self.client_secret.iter().chain(&self.client_secret_next)
    }
}

fn both_secrets(
    reader: &mut Reader<'_>,
    section: &mut Section,
) -> (Option<SecretSource>, Option<SecretSource>) {
    let one = secrets::readable(reader, section, "client_secret");
    let next = next_secret(reader, section, one.as_ref());
    (one, next)
}

/// The second of two secrets. To be of use it must be another one.
fn next_secret(
    reader: &mut Reader<'_>,
    section: &mut Section,
    one: Option<&SecretSource>,
) -> Option<SecretSource> {
    let at = section.place_of("client_secret_next")?;
    let next = secrets::readable(reader, section, "client_secret_next")?;
    let Some(one) = one else {
        reader.wrong(at, "client_secret_next stands without client_secret", "name it client_secret");
        return None;
    };
    let text = |source: &SecretSource| source.read_text(reader.around).ok();
    let same_text =
        text(one).zip(text(&next)).is_some_and(|(one, next)| same_secret(one.as_bytes(), next.as_bytes()));
    if *one == next || same_text {
        reader.warn(
            at,
            "client_secret_next is the same as client_secret: a rotation has nothing to go on to",
            "write the new secret there, or remove the key",
        );
    }
    Some(next)
}

/// Reads a provider. `section` has the catalogue's keys underneath already. For a catalogue entry by itself, `complete` is
/// false: it has no client.
pub(super) fn provider(
    reader: &mut Reader<'_>,
    mut section: Section,
    id: ProviderId,
    complete: bool,
) -> Option<ProviderConfig> {
    let name = reader.text(&mut section, "name").map_or_else(|| id.to_string(), |name| name.value);
    let docs = reader.text(&mut section, "docs").map(|docs| docs.value);
    let located = grants::is_located(&section, grants::peek(&section));
    let grant = grants::grant(reader, &mut section, complete);
    let client_id = grants::client_id(reader, &mut section, grant.kind, complete);
    let (client_secret, client_secret_next) = both_secrets(reader, &mut section);
    let client_auth = client_auth(reader, &mut section);
    if !located {
        reader.wrong(
            section.at,
            format!("grantd does not know where provider `{id}` is"),
            "use a catalogue id (`grantd providers` lists them), or set issuer, or authorize_url and token_url",
        );
    }
    let issuer = reader.url(&mut section, "issuer");
    let urls = ["authorize_url", "token_url", "revoke_url", "userinfo_url", "api_base"]
        .map(|key| reader.url(&mut section, key).map(|url| url.value));
    let [authorize_url, token_url, revoke_url, userinfo_url, api_base] = urls;
    let mut dialect = dialect(reader, &mut section);
    // The issuer is compared as text (RFC 8414 §3.3), so it stays as it was written.
    let issuer = issuer.map(|issuer| issuer.value.as_str().trim_end_matches('/').to_owned());
    if let (Some(issuer), Some(client_id)) = (&issuer, &client_id) {
        dialect.id_token = Some(IdTokenRules { issuer: issuer.clone(), client_id: client_id.clone() });
    }
    let config = ProviderConfig {
        id,
        name,
        docs,
        client_id: client_id?,
        client_secret,
        client_secret_next,
        client_auth: client_auth?,
        issuer,
        authorize_url,
        token_url,
        revoke_url,
        userinfo_url,
        api_base,
        scope_separator: separator(reader, &mut section),
        pkce: reader.choice(&mut section, "pkce", PKCE).unwrap_or(true),
        rotation: grant.rotation(rotation(reader, &mut section)),
        expires_in: reader.duration(
            &mut section,
            "expires_in",
            Duration::from_secs(1),
            Duration::from_secs(31_536_000),
        ),
        redirect_per_integration: reader.boolean(&mut section, "redirect_per_integration").unwrap_or(false),
        authorize_params: reader.pairs(&mut section, "authorize_params"),
        token_headers: reader.pairs(&mut section, "token_headers"),
        revoke: revoke(reader, &mut section),
        account: reader.table(&mut section, "account").map(|section| account(reader, section)),
        dialect,
        grant,
        proxy: proxying::proxy(reader, &mut section),
    };
    finish(reader, section);
    Some(config)
}

/// The id was read before.
fn finish(reader: &mut Reader<'_>, mut section: Section) {
    let _id = section.take("id");
    reader.finish(section);
}

const PKCE: &[(&str, bool)] = &[("required", true), ("supported", true), ("broken", false)];

fn client_auth(reader: &mut Reader<'_>, section: &mut Section) -> Option<ClientAuth> {
    if section.peek_text("client_auth") == Some("private_key_jwt") {
        let at = section.take("client_auth").map_or(section.at, |entry| entry.item.at);
        reader.wrong(at, "private_key_jwt is not in this version", "use \"basic\", \"body\" or \"json\"");
        return None;
    }
    if !section.has("client_auth") {
        return Some(ClientAuth::Basic);
    }
    let choices = [
        ("basic", ClientAuth::Basic),
        ("body", ClientAuth::Body),
        ("json", ClientAuth::Json),
        ("basic-json", ClientAuth::BasicJson),
    ];
    reader.choice(section, "client_auth", &choices)
}

fn separator(reader: &mut Reader<'_>, section: &mut Section) -> String {
    match section.take("scope_separator").map(|entry| entry.item) {
        None => " ".into(),
        Some(super::tree::Item { node: super::tree::Node::Text(text), .. })
            if !text.is_empty() && text.len() <= 3 =>
        {
            text
        }
        Some(item) => {
            reader.wrong(item.at, "`scope_separator` is not a separator", "write \" \" or \",\"");
            " ".into()
        }
    }
}

fn rotation(reader: &mut Reader<'_>, section: &mut Section) -> Rotation {
    // Unknown means strict: the most careful.
    let Some(Spot { value, at }) = reader.text(section, "rotation") else { return Rotation::Strict };
    values::rotation(&value).unwrap_or_else(|| {
        reader.wrong(
            at,
            format!("`rotation` cannot be {value:?}"),
            "use \"none\", \"reuse-ok\", \"grace 30s\" or \"strict\"",
        );
        Rotation::Strict
    })
}

fn revoke(reader: &mut Reader<'_>, section: &mut Section) -> RevokeStyle {
    let choices = [
        ("rfc7009", RevokeStyle::Rfc7009),
        ("delete-json", RevokeStyle::DeleteJson),
        ("bearer", RevokeStyle::Bearer),
        ("token-in-path", RevokeStyle::TokenInPath),
        ("delete-bearer", RevokeStyle::DeleteBearer),
        ("unsupported", RevokeStyle::Unsupported),
    ];
    reader.choice(section, "revoke", &choices).unwrap_or(RevokeStyle::Rfc7009)
}

fn dialect(reader: &mut Reader<'_>, section: &mut Section) -> Dialect {
    let dead = reader.texts(section, "dead_grant_errors").unwrap_or_default();
    Dialect {
        tokens_at: pointer(reader, section, "tokens_at"),
        error_at: pointer(reader, section, "error_at"),
        success_at: pointer(reader, section, "success_at"),
        dead_grant_errors: dead.into_iter().map(|code| code.value).collect(),
        id_token: None,
    }
}

fn account(reader: &mut Reader<'_>, mut section: Section) -> AccountConfig {
    let account = AccountConfig {
        url: reader.url(&mut section, "url").map(|url| url.value),
        post: reader.choice(&mut section, "method", &[("GET", false), ("POST", true)]).unwrap_or(false),
        headers: reader.pairs(&mut section, "headers"),
        body: reader.text(&mut section, "body").map(|body| body.value),
        success_at: pointer(reader, &mut section, "success_at"),
        id: pointer(reader, &mut section, "id"),
        name: pointer(reader, &mut section, "name"),
        username: pointer(reader, &mut section, "username"),
        email: pointer(reader, &mut section, "email"),
    };
    reader.finish(section);
    account
}

/// A JSON pointer (RFC 6901).
fn pointer(reader: &mut Reader<'_>, section: &mut Section, key: &'static str) -> Option<String> {
    let Spot { value, at } = reader.text(section, key)?;
    if value.starts_with('/') {
        return Some(value);
    }
    reader.wrong(
        at,
        format!("{value:?} is not a JSON pointer"),
        format!("begin it with a slash: \"/{value}\""),
    );
    None
}
