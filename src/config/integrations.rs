//! `[[organization]]` and `[[integration]]`: whose grants, at which providers, kept where.

use super::grants::{self, Errand};
use super::operators::{self, Unread};
use super::providers::ProviderConfig;
use super::reader::{Reader, Section};
use super::source::{At, Spot};
use super::stores::{self, StoreConfig, StoreKind};
use super::values::Schedule;
use crate::lifecycle::{
    ExpectedAccount, Identity, IntegrationId, OrganizationId, Outage, ProviderId, Rotation, Terms,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// One integration, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct IntegrationConfig {
    /// The three names.
    pub identity: Identity,
    /// The scopes to ask for.
    pub scopes: Vec<String>,
    /// The secret's name or ARN.
    pub secret: String,
    /// The account that must authorize.
    pub expect_account: ExpectedAccount,
    /// Its store.
    pub store: StoreConfig,
    /// Its own schedule, or the general one.
    pub schedule: Option<Schedule>,
    /// When to refresh, in thousandths of an access token's life.
    pub refresh_at_permille: u16,
    /// How often its token is tried.
    pub validate_every: Duration,
    /// Whom a grant without a person is for.
    pub errand: Errand,
}

/// What integrations fall back to.
pub(super) struct Defaults<'a> {
    pub(super) stores: &'a BTreeMap<OrganizationId, StoreConfig>,
    pub(super) providers: &'a BTreeMap<ProviderId, ProviderConfig>,
    /// Ids of all `[[provider]]` tables, also of those with problems.
    pub(super) named_providers: &'a [String],
    pub(super) refresh_at_permille: u16,
    pub(super) validate_every: Duration,
    pub(super) schedule: Option<&'a Schedule>,
}

impl IntegrationConfig {
    /// The terms of its life.
    #[must_use]
    pub fn terms(&self, provider: &ProviderConfig) -> Terms {
        Terms {
            origin: provider.grant.kind.origin(),
            refresh_at_permille: self.refresh_at_permille,
            rotation: provider.rotation,
            default_life: provider.expires_in,
            expected_account: self.expect_account.clone(),
            outage: if self.store.hold { Outage::Hold } else { Outage::Spool },
            write_budget: self.store.write_budget(),
            scopes: self.scopes.clone(),
            dialect: provider.dialect.clone(),
            can_try: provider.can_try(),
            validate_every: Some(self.validate_every),
        }
    }

    /// Where the record is kept, in words.
    #[must_use]
    pub fn kept_in(&self) -> String {
        match self.store.kind {
            StoreKind::Aws => match &self.store.region {
                Some(region) => format!("AWS Secrets Manager, {region}: {}", self.secret),
                None => format!("AWS Secrets Manager: {}", self.secret),
            },
            StoreKind::Nowhere => "nowhere: a token is fetched whenever one is needed".into(),
            StoreKind::SealedFile => {
                format!("a sealed file on this host: {}.sealed", self.identity.integration)
            }
        }
    }
}

pub(super) fn organizations(
    reader: &mut Reader<'_>,
    sections: Vec<Section>,
    base: &StoreConfig,
) -> (BTreeMap<OrganizationId, StoreConfig>, BTreeMap<OrganizationId, Unread>) {
    let (mut found, mut people) = (BTreeMap::new(), BTreeMap::new());
    let mut places: BTreeMap<String, At> = BTreeMap::new();
    for mut section in sections {
        let id = identifier(reader, &mut section, OrganizationId::parse);
        if let Some(id) = &id {
            once(reader, &mut places, id.value.as_str(), id.at);
        }
        let store = match reader.table(&mut section, "store") {
            Some(section) => stores::store(reader, section, base),
            None => base.clone(),
        };
        let unread = operators::people(reader, &mut section);
        reader.finish(section);
        if let Some(id) = id {
            people.insert(id.value.clone(), unread);
            found.insert(id.value, store);
        }
    }
    (found, people)
}

pub(super) fn integrations(
    reader: &mut Reader<'_>,
    sections: Vec<Section>,
    defaults: &Defaults<'_>,
) -> BTreeMap<IntegrationId, IntegrationConfig> {
    let mut found = BTreeMap::new();
    let mut places: BTreeMap<String, At> = BTreeMap::new();
    let mut secrets: BTreeMap<Kept, (String, At)> = BTreeMap::new();
    for section in sections {
        let Some((config, id_at, secret_at)) = integration(reader, section, defaults) else { continue };
        let id = config.identity.integration.clone();
        once(reader, &mut places, id.as_str(), id_at);
        if config.store.kind == StoreKind::Aws {
            let role = config.store.assume_role.as_ref().map(|role| role.arn.clone());
            let place = Kept { region: config.store.region.clone(), role, secret: config.secret.clone() };
            if let Some((other, other_at)) = secrets.get(&place) {
                let where_else = reader.place(*other_at);
                reader.wrong(
                    secret_at,
                    format!(
                        "integrations `{other}` ({where_else}) and `{id}` share the secret {}",
                        config.secret
                    ),
                    "give each integration a secret of its own: they would overwrite each other's tokens",
                );
            } else {
                secrets.insert(place, (id.to_string(), secret_at));
            }
        }
        found.insert(id, config);
    }
    found
}

/// What makes a secret one and the same.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    region: Option<String>,
    role: Option<String>,
    secret: String,
}

fn integration(
    reader: &mut Reader<'_>,
    mut section: Section,
    defaults: &Defaults<'_>,
) -> Option<(IntegrationConfig, At, At)> {
    let heading = section.at;
    let id = identifier(reader, &mut section, IntegrationId::parse);
    let organization = organization_of(reader, &mut section, defaults);
    let provider = provider_of(reader, &mut section, defaults);
    let scopes = scopes_of(reader, &mut section);
    let secret = reader.text(&mut section, "secret");
    let expect_account = reader.table(&mut section, "expect_account");
    let expected_at = expect_account.as_ref().map(|section| section.at);
    let expect_account = expect_account.map(|section| expected(reader, section));
    let schedule = reader.schedule(&mut section, "schedule");
    let given = provider.as_ref().and_then(|id| defaults.providers.get(id));
    let errand = grants::errand(reader, &mut section, given, organization.as_ref());
    let at = refresh_at(reader, &mut section, "at");
    reader.finish(section);
    let (id, organization, provider) = (id?, organization?, provider?);
    let mut store = defaults.stores.get(&organization)?.clone();
    if given.is_some_and(|provider| !provider.grant.kind.origin().keeps_record()) {
        store.kind = StoreKind::Nowhere;
        if let Some(secret) = &secret {
            reader.warn(secret.at, "nothing is kept of this grant: `secret` has no effect", "remove it");
        }
    }
    let secret_at = secret.as_ref().map_or(heading, |secret| secret.at);
    let secret = secret.map_or_else(
        || {
            let path = store.path.replace("{organization}", organization.as_str());
            path.replace("{integration}", id.value.as_str())
        },
        |secret| secret.value,
    );
    if store.kind == StoreKind::Aws {
        stores::check_secret_name(reader, &secret, secret_at);
    }
    let identity = Identity { integration: id.value, organization, provider: provider.clone() };
    let config = IntegrationConfig {
        identity,
        scopes,
        secret,
        expect_account: expect_account.unwrap_or_default(),
        store,
        schedule: schedule.or_else(|| defaults.schedule.cloned()),
        refresh_at_permille: at.unwrap_or(defaults.refresh_at_permille),
        validate_every: defaults.validate_every,
        errand,
    };
    if let Some(provider) = defaults.providers.get(&provider) {
        check_write_budget(reader, &config, provider, id.at);
        check_expected(reader, &config, provider, expected_at.unwrap_or(heading));
    }
    Some((config, id.at, secret_at))
}

fn organization_of(
    reader: &mut Reader<'_>,
    section: &mut Section,
    defaults: &Defaults<'_>,
) -> Option<OrganizationId> {
    if !section.has("organization")
        && let [only] = defaults.stores.keys().collect::<Vec<_>>().as_slice()
    {
        return Some((*only).clone());
    }
    let named = reader.required(section, "organization", "name the [[organization]] whose grant this is")?;
    let found = defaults.stores.keys().find(|id| id.as_str() == named.value).cloned();
    if found.is_none() {
        reader.wrong(
            named.at,
            format!("there is no [[organization]] `{}`", named.value),
            format!("add [[organization]] id = {:?}", named.value),
        );
    }
    found
}

fn provider_of(
    reader: &mut Reader<'_>,
    section: &mut Section,
    defaults: &Defaults<'_>,
) -> Option<ProviderId> {
    let named = reader.required(section, "provider", "name the [[provider]] that the grant is at")?;
    let found = defaults.providers.keys().find(|id| id.as_str() == named.value).cloned();
    if found.is_none() && !defaults.named_providers.contains(&named.value) {
        reader.wrong(
            named.at,
            format!("there is no [[provider]] `{}`", named.value),
            format!("add [[provider]] id = {:?} with its client_id", named.value),
        );
    }
    found
}

fn scopes_of(reader: &mut Reader<'_>, section: &mut Section) -> Vec<String> {
    let mut scopes = Vec::new();
    for Spot { value, at } in reader.texts(section, "scopes").unwrap_or_default() {
        if value.is_empty() || value.contains(char::is_whitespace) {
            reader.wrong(
                at,
                format!("{value:?} is not one scope"),
                "write one scope in each text: [\"repo\", \"read:user\"]",
            );
        } else {
            scopes.push(value);
        }
    }
    scopes
}

fn expected(reader: &mut Reader<'_>, mut section: Section) -> ExpectedAccount {
    let mut fact = |key| reader.text(&mut section, key).map(|fact| fact.value);
    let expected = ExpectedAccount { id: fact("id"), username: fact("username"), email: fact("email") };
    if expected.is_any() {
        let at = section.at;
        reader.wrong(at, "`expect_account` names nothing", "name id, username or email");
    }
    reader.finish(section);
    expected
}

/// A share of an access token's life, in thousandths.
pub(super) fn refresh_at(reader: &mut Reader<'_>, section: &mut Section, key: &'static str) -> Option<u16> {
    let Spot { value, at } = reader.number(section, key)?;
    if (0.1..=0.95).contains(&value) {
        // Between 100 and 950: no sign, no fraction worth keeping.
        return format!("{:.0}", value * 1000.0).parse().ok();
    }
    reader.wrong(at, "`at` is out of range", "write a share of the token's life from 0.1 to 0.95");
    None
}

/// A pinned account must be one that the provider can name: else every consent would wait for ever.
fn check_expected(reader: &mut Reader<'_>, config: &IntegrationConfig, provider: &ProviderConfig, at: At) {
    if !config.expect_account.is_any() && !config.terms(provider).can_try {
        reader.wrong(
            at,
            format!("provider `{}` has no endpoint that names the account", provider.id),
            "remove expect_account, or give the provider an [provider.account] table or a userinfo_url",
        );
    }
}

/// AWS keeps about a hundred versions, none younger than a day is removed: about four writes an hour last.
fn check_write_budget(
    reader: &mut Reader<'_>,
    config: &IntegrationConfig,
    provider: &ProviderConfig,
    at: At,
) {
    let Some(life) = provider.expires_in.filter(|_| config.store.write_budget().is_some()) else {
        return;
    };
    let between = life * u32::from(config.refresh_at_permille) / 1000;
    if provider.rotation != Rotation::None && between < Duration::from_secs(900) {
        reader.wrong(
            at,
            format!(
                "a refresh every {} s writes more than four versions an hour, which Secrets Manager does not keep up with",
                between.as_secs()
            ),
            "ask the provider for longer-lived access tokens, or use store.kind = \"sealed-file\"",
        );
    }
}

pub(super) fn identifier<T>(
    reader: &mut Reader<'_>,
    section: &mut Section,
    parse: impl Fn(&str) -> Result<T, crate::lifecycle::NotAnIdentifier>,
) -> Option<Spot<T>> {
    let named = reader.required(section, "id", "give it an id")?;
    match parse(&named.value) {
        Ok(value) => Some(Spot { value, at: named.at }),
        Err(why) => {
            reader.wrong(named.at, format!("{:?} is not an id", named.value), why.to_string());
            None
        }
    }
}

pub(super) fn once(reader: &mut Reader<'_>, places: &mut BTreeMap<String, At>, id: &str, at: At) {
    if let Some(first) = places.get(id) {
        let first = reader.place(*first);
        reader.wrong(
            at,
            format!("`{id}` is there already ({first})"),
            "ids are used once: rename or remove one",
        );
    } else {
        places.insert(id.to_owned(), at);
    }
}
