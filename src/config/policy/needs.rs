//! What a configuration needs on AWS: one identity's documents for each role, secret by secret.
//!
//! The actions are those that `edge/store` calls, no more. Organizations with `assume_role` need a policy in that account, a trust
//! policy, and the right to assume the role.

use super::super::integrations::IntegrationConfig;
use super::super::load::Config;
use super::super::secrets::SecretSource;
use super::super::stores::{AssumeRole, StoreConfig, StoreKind, StoreMode};
use super::keys;
use super::pack::{Document, pack};
use super::statement::Statement;
use super::text::{Piece, Place, Text};
use crate::lifecycle::IntegrationId;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that a configuration needs on AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policies {
    /// For grantd's own role.
    pub own: Vec<Document>,
    /// For each role that it assumes.
    pub targets: Vec<Target>,
    /// Integrations that need nothing of AWS.
    pub local: Vec<IntegrationId>,
    /// Keys that are named by an alias: no policy can pin those.
    pub aliases: BTreeSet<String>,
}

/// A role that grantd assumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its ARN.
    pub arn: String,
    /// Whether an external id is asked for.
    pub has_external_id: bool,
    /// What it needs.
    pub documents: Vec<Document>,
    /// Who may assume it.
    pub trust: Document,
}

impl Target {
    /// The account that it is in.
    #[must_use]
    pub fn account(&self) -> &str {
        self.arn.split(':').nth(4).unwrap_or("")
    }

    /// Its name without its path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or("")
    }

    /// Its path: `/`, or what stands between slashes before its name.
    #[must_use]
    pub fn path(&self) -> String {
        let whole = self.arn.split_once(":role").map_or("/", |(_, rest)| rest);
        whole.strip_suffix(self.name()).unwrap_or("/").to_owned()
    }
}

/// The policies for exactly this configuration.
#[must_use]
pub fn policies(config: &Config) -> Policies {
    let mut identities: BTreeMap<Option<&str>, Identity<'_>> = BTreeMap::new();
    let mut local = Vec::new();
    for (id, integration) in &config.integrations {
        let store = &integration.store;
        match store.kind {
            StoreKind::SealedFile | StoreKind::Nowhere => local.push(id.clone()),
            StoreKind::Aws => {
                let identity = identity(&mut identities, store.assume_role.as_ref());
                identity.needs.insert(Need::Record(group(integration), &integration.secret));
            }
        }
    }
    for secret in client_secrets(config) {
        let identity = identity(&mut identities, config.store.assume_role.as_ref());
        identity.needs.insert(Need::Client(clients_of(&config.store), secret));
    }
    let roles: Vec<&str> = identities.keys().copied().flatten().collect();
    if !roles.is_empty() {
        let own = identities.entry(None).or_default();
        own.needs.extend(roles.into_iter().map(Need::Assume));
    }
    finished(&identities, local)
}

/// What one integration's record needs, for whoever may not do it yet: with its secret, and with its key.
#[must_use]
pub fn records(integration: &IntegrationConfig) -> Grants {
    let role = integration.store.assume_role.as_ref();
    let group = Group { create: false, delete: false, ..group(integration) };
    grants(of_records(group, &[&integration.secret], role, ""))
}

/// What a client secret needs.
#[must_use]
pub fn client(store: &StoreConfig, secret: &str) -> Grants {
    grants(of_clients(clients_of(store), &[secret], store.assume_role.as_ref(), ""))
}

/// The right to assume a role, and the trust policy's statement that lets `principal` do it.
#[must_use]
pub fn assuming(role: &AssumeRole, principal: &str) -> (Statement, Statement) {
    let may = Statement::allow("AssumeRoles", &["sts:AssumeRole"], vec![Text::plain(&role.arn)]);
    let ids = role.external_id.as_deref().into_iter().collect();
    (may, trusting(Text::plain(principal), &ids))
}

/// What lets somebody use a secret, and the key that encrypts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    /// For the secret.
    pub secret: Option<Statement>,
    /// For the key, if one is named.
    pub key: Option<Statement>,
}

fn grants(statements: Vec<Statement>) -> Grants {
    let mut statements = statements.into_iter();
    Grants { secret: statements.next(), key: statements.next() }
}

fn finished(identities: &BTreeMap<Option<&str>, Identity<'_>>, local: Vec<IntegrationId>) -> Policies {
    let (mut own, mut targets, mut aliases) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (arn, identity) in identities {
        let needs: Vec<Need<'_>> = identity.needs.iter().copied().collect();
        let named = needs.iter().filter_map(|need| need.group()?.key).filter_map(keys::alias);
        aliases.extend(named.filter(|alias| *alias != "alias/aws/secretsmanager").map(str::to_owned));
        let deletes = needs.iter().any(|need| need.group().is_some_and(|group| group.delete));
        let documents = pack(&needs, deletes, |needs| statements(identity.role, needs));
        match arn {
            None => own = documents,
            Some(arn) => targets.push(Target {
                arn: (*arn).to_owned(),
                has_external_id: !identity.external_ids.is_empty(),
                documents,
                trust: trust(arn, &identity.external_ids),
            }),
        }
    }
    Policies { own, targets, local, aliases }
}

/// What one identity needs.
#[derive(Default)]
struct Identity<'a> {
    role: Option<&'a AssumeRole>,
    external_ids: BTreeSet<&'a str>,
    needs: BTreeSet<Need<'a>>,
}

/// Secrets that share statements.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Group<'a> {
    region: Option<&'a str>,
    key: Option<&'a str>,
    create: bool,
    delete: bool,
}

/// One thing that an identity needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need<'a> {
    /// A record's secret is read and written.
    Record(Group<'a>, &'a str),
    /// A client secret is read.
    Client(Group<'a>, &'a str),
    /// A role is assumed.
    Assume(&'a str),
}

impl<'a> Need<'a> {
    const fn group(&self) -> Option<Group<'a>> {
        match self {
            Self::Record(group, _) | Self::Client(group, _) => Some(*group),
            Self::Assume(_) => None,
        }
    }
}

fn identity<'i, 'a>(
    identities: &'i mut BTreeMap<Option<&'a str>, Identity<'a>>,
    role: Option<&'a AssumeRole>,
) -> &'i mut Identity<'a> {
    let identity = identities.entry(role.map(|role| role.arn.as_str())).or_default();
    identity.role = role;
    identity.external_ids.extend(role.and_then(|role| role.external_id.as_deref()));
    identity
}

fn group(integration: &IntegrationConfig) -> Group<'_> {
    let store = &integration.store;
    Group {
        region: store.region.as_deref(),
        key: store.kms_key_id.as_deref(),
        create: store.mode == StoreMode::Create && !integration.secret.starts_with("arn:"),
        delete: store.deletes,
    }
}

/// Client secrets are read with the settings of `[store]`.
fn clients_of(store: &StoreConfig) -> Group<'_> {
    Group { region: store.region.as_deref(), key: store.kms_key_id.as_deref(), create: false, delete: false }
}

/// Client secrets of the providers that are used.
fn client_secrets(config: &Config) -> impl Iterator<Item = &str> {
    let used: BTreeSet<_> =
        config.integrations.values().map(|integration| &integration.identity.provider).collect();
    let providers = config.providers.iter().filter(move |(id, _)| used.contains(id));
    let secrets =
        providers.flat_map(|(_, provider)| provider.client_secrets().chain(&provider.grant.private_key));
    secrets.filter_map(|secret| match secret {
        SecretSource::Secret { name, .. } => Some(name.as_str()),
        SecretSource::Credential(_) | SecretSource::File(_) | SecretSource::Variable(_) => None,
    })
}

fn statements(role: Option<&AssumeRole>, needs: &[Need<'_>]) -> Vec<Statement> {
    let mut records: BTreeMap<Group<'_>, Vec<&str>> = BTreeMap::new();
    let mut clients: BTreeMap<Group<'_>, Vec<&str>> = BTreeMap::new();
    let mut roles = Vec::new();
    for need in needs {
        match need {
            Need::Record(group, secret) => records.entry(*group).or_default().push(secret),
            Need::Client(group, secret) => clients.entry(*group).or_default().push(secret),
            Need::Assume(arn) => roles.push(Text::plain(*arn)),
        }
    }
    let mut all = Vec::new();
    for (index, (group, secrets)) in records.iter().enumerate() {
        all.extend(of_records(*group, secrets, role, &numbered(index)));
    }
    for (index, (group, secrets)) in clients.iter().enumerate() {
        all.extend(of_clients(*group, secrets, role, &numbered(index)));
    }
    if !roles.is_empty() {
        all.push(Statement::allow("AssumeRoles", &["sts:AssumeRole"], roles));
    }
    all
}

fn of_records(group: Group<'_>, secrets: &[&str], role: Option<&AssumeRole>, number: &str) -> Vec<Statement> {
    let place = Place::of(group.region, role);
    let arns: Vec<Text> = secrets.iter().map(|secret| arn(secret, &place)).collect();
    let mut all = vec![Statement::allow(format!("Records{number}"), RECORDS, arns.clone())];
    if group.create {
        // Before a secret is made its ARN has no suffix yet.
        let unmade = secrets.iter().map(|secret| place.arn("secretsmanager", &format!("secret:{secret}")));
        let either: Vec<Text> = unmade.chain(arns.iter().cloned()).collect();
        let names = secrets.iter().map(|secret| Text::plain(*secret)).collect();
        all.push(
            Statement::allow(format!("Create{number}"), &["secretsmanager:CreateSecret"], either.clone())
                // CreateSecret always has a name, so this is as strict as without IfExists; stand-ins that lack the key go on.
                .when("StringEqualsIfExists", "secretsmanager:Name", names)
                .when("StringEquals", "aws:RequestTag/managed-by", vec![Text::plain("grantd")]),
        );
        all.push(Statement::allow(format!("TagOnCreate{number}"), &["secretsmanager:TagResource"], either));
    }
    if group.delete {
        all.push(Statement::allow(format!("Delete{number}"), &["secretsmanager:DeleteSecret"], arns.clone()));
    }
    let key = group.key.and_then(|key| {
        keys::statement(format!("RecordsKey{number}"), keys::READ_AND_WRITE, key, &place, arns)
    });
    all.extend(key);
    all
}

fn of_clients(group: Group<'_>, secrets: &[&str], role: Option<&AssumeRole>, number: &str) -> Vec<Statement> {
    let place = Place::of(group.region, role);
    let arns: Vec<Text> = secrets.iter().map(|secret| arn(secret, &place)).collect();
    let read = Statement::allow(format!("ClientSecrets{number}"), CLIENTS, arns.clone());
    let key = group
        .key
        .and_then(|key| keys::statement(format!("ClientSecretsKey{number}"), keys::READ, key, &place, arns));
    std::iter::once(read).chain(key).collect()
}

/// grantd's own role, and only with the external id, which no other customer of a shared role can name.
fn trust(arn: &str, external_ids: &BTreeSet<&str>) -> Document {
    let role = AssumeRole { arn: arn.to_owned(), external_id: None };
    let partition = Place::of(None, Some(&role)).partition;
    let principal = Text::of(vec![
        Piece::Plain("arn:".into()),
        partition,
        Piece::Plain(":iam::".into()),
        Piece::Account,
        Piece::Plain(":role/".into()),
        Piece::Role,
    ]);
    Document { statements: vec![trusting(principal, external_ids)] }
}

fn trusting(principal: Text, external_ids: &BTreeSet<&str>) -> Statement {
    let mut statement = Statement::allow("GrantdAssumes", &["sts:AssumeRole"], Vec::new());
    statement.principal = Some(principal);
    if external_ids.is_empty() {
        return statement;
    }
    statement.when("StringEquals", "sts:ExternalId", external_ids.iter().map(|id| Text::plain(*id)).collect())
}

/// The tight form: AWS puts a hyphen and six characters after a secret's name (`name-*` would match other names as well).
fn arn(secret: &str, place: &Place) -> Text {
    if !secret.starts_with("arn:") {
        return place.arn("secretsmanager", &format!("secret:{secret}-??????"));
    }
    let suffix = secret.rsplit_once('-').map(|(_, suffix)| suffix);
    let whole = suffix
        .is_some_and(|suffix| suffix.len() == 6 && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    Text::plain(if whole { secret.to_owned() } else { format!("{secret}-??????") })
}

fn numbered(index: usize) -> String {
    if index == 0 { String::new() } else { (index + 1).to_string() }
}

/// What `edge/store/aws.rs` calls for a record.
const RECORDS: &[&str] =
    &["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"];
/// What it calls for a client secret.
const CLIENTS: &[&str] = &["secretsmanager:GetSecretValue"];
