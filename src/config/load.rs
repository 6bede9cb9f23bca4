//! The whole configuration: files, `conf.d`, variables; then each section; then what only shows across them.

use super::bindings::bindings;
use super::catalogue;
use super::integrations::{Defaults, IntegrationConfig, integrations, once, organizations, refresh_at};
use super::operators::{OperatorsConfig, People, operators, settled};
use super::providers::{ProviderConfig, provider};
use super::reader::{Reader, Section};
use super::server::{Server, Sockets, State, server, sockets, state};
use super::source::{At, Problem, Problems, Source, Spot};
use super::stores::{StoreConfig, store};
use super::surroundings::Surroundings;
use super::tree::{self, Entry, Item, Node, Table};
use super::values::Schedule;
use crate::lifecycle::{Binding, IntegrationId, OrganizationId, ProviderId};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[sockets]`.
    pub sockets: Sockets,
    /// `[state]`.
    pub state: State,
    /// `[store]`, over which an organization may lay keys of its own.
    pub store: StoreConfig,
    /// `oauth.state_expiry`.
    pub state_expiry: Duration,
    /// `oauth.validation_interval`.
    pub validation_interval: Duration,
    /// `oauth.allowed_redirects`.
    pub allowed_redirects: Vec<String>,
    /// `[operators]`; without it nobody signs in.
    pub operators: Option<OperatorsConfig>,
    /// What each organization says about people.
    pub organizations: BTreeMap<OrganizationId, People>,
    /// Providers by id.
    pub providers: BTreeMap<ProviderId, ProviderConfig>,
    /// Integrations by id.
    pub integrations: BTreeMap<IntegrationId, IntegrationConfig>,
    /// Who may use which.
    pub bindings: Vec<Binding>,
    /// `telemetry.log`.
    pub log: String,
}

/// A configuration that may be run, and what is odd about it.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// What has no effect, or is unusual.
    pub warnings: Vec<Problem>,
}

/// Reads a file, `conf.d/*.toml` beside it, and the variables.
///
/// # Errors
/// [`Problems`]: all of them at once.
pub fn load(main: &Path, around: &dyn Surroundings) -> Result<Checked, Problems> {
    let mut files = vec![main.to_path_buf()];
    files.extend(around.list(&main.parent().unwrap_or_else(|| Path::new(".")).join("conf.d")));
    let (mut texts, mut unreadable) = (Vec::new(), Vec::new());
    for path in files {
        let name = path.display().to_string();
        match around.read(&path).map(String::from_utf8) {
            Ok(Ok(text)) => texts.push((name, text)),
            Ok(Err(_not_text)) => unreadable.push(no_file(&name, "is not UTF-8 text", "save it as UTF-8")),
            Err(error) => unreadable.push(no_file(
                &name,
                &format!("cannot be read ({})", error.kind()),
                "name a file that grantd's user can read: --config FILE",
            )),
        }
    }
    check(texts, unreadable, around)
}

/// Reads texts, each with the name it is shown under.
///
/// # Errors
/// [`Problems`]: all of them at once.
pub fn from_texts(texts: &[(&str, &str)], around: &dyn Surroundings) -> Result<Checked, Problems> {
    let texts = texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    check(texts, Vec::new(), around)
}

fn no_file(name: &str, what: &str, remedy: &str) -> Problem {
    let source = Source { name: name.into(), text: String::new() };
    Problem::new(&source, At { source: 0, start: 0, end: 0 }, what.into(), remedy.into())
}

fn check(
    texts: Vec<(String, String)>,
    unreadable: Vec<Problem>,
    around: &dyn Surroundings,
) -> Result<Checked, Problems> {
    let mut reader = Reader { sources: Vec::new(), problems: unreadable, warnings: Vec::new(), around };
    if texts.is_empty() {
        return Err(Problems(reader.problems));
    }
    let mut whole = Table::new();
    for (name, text) in texts {
        let source = Source { name, text };
        let table = tree::parse(reader.sources.len(), &source, &mut reader.problems);
        reader.sources.push(source);
        tree::merge(&mut whole, table);
    }
    overrides(&mut reader, &mut whole);
    let start = At { source: 0, start: 0, end: 0 };
    let config = sections(&mut reader, Section::new("configuration", whole, start));
    let Reader { mut problems, warnings, sources, .. } = reader;
    let order = |problem: &Problem| {
        let file = sources.iter().position(|source| source.name == problem.file).unwrap_or(usize::MAX);
        (file, problem.line, problem.column)
    };
    problems.sort_by_key(order);
    match config {
        Some(config) if problems.is_empty() => Ok(Checked { config, warnings }),
        Some(_) | None => Err(Problems(problems)),
    }
}

/// `GRANTD_SECTION__KEY`; tables with an id are addressed by it.
fn overrides(reader: &mut Reader<'_>, whole: &mut Table) {
    for (name, value) in reader.around.variables() {
        let plain = match name.as_str() {
            "OAUTH_STATE_EXPIRY" => Some(["oauth", "state_expiry"]),
            "OAUTH_TOKEN_VALIDATION_INTERVAL" => Some(["oauth", "validation_interval"]),
            _ => None,
        };
        let index = reader.sources.len();
        let text = format!("{name}={value}");
        let at = At { source: index, start: name.len() + 1, end: text.len() };
        if let Some(path) = plain {
            reader.sources.push(Source { name: format!("${name}"), text });
            // These two count seconds.
            tree::set(whole, &path.map(str::to_owned), &format!("{}s", value.trim()), at);
            continue;
        }
        let Some(path) = name.strip_prefix("GRANTD_").filter(|path| path.contains("__")) else { continue };
        let parts: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        reader.sources.push(Source { name: format!("${name}"), text: shown(&name, &value) });
        let at = At { end: shown(&name, &value).len(), ..at };
        if !by_id(whole, &parts, &value, at) {
            tree::set(whole, &parts, &value, at);
        }
    }
}

/// A variable may hold what should be a reference and is a secret: its text is not shown.
fn shown(name: &str, value: &str) -> String {
    if name.contains("SECRET") || name.contains("KEY") {
        format!("{name}=…")
    } else {
        format!("{name}={value}")
    }
}

/// `GRANTD_PROVIDER__GITHUB__CLIENT_ID`: finds the table whose id reads so.
fn by_id(whole: &mut Table, parts: &[String], value: &str, at: At) -> bool {
    let [section, id, keys @ ..] = parts else { return false };
    if !["provider", "integration", "organization"].contains(&section.as_str()) || keys.is_empty() {
        return false;
    }
    let Some(Entry { item: Item { node: Node::List(tables), .. }, .. }) = whole.get_mut(section) else {
        return false;
    };
    for item in tables {
        let Node::Table(table) = &mut item.node else { continue };
        let named = table.get("id").is_some_and(|entry| match &entry.item.node {
            Node::Text(text) => text.replace(['-', '.'], "_") == *id,
            Node::Integer(_)
            | Node::Float(_)
            | Node::Boolean(_)
            | Node::List(_)
            | Node::Table(_)
            | Node::Other => false,
        });
        if named {
            tree::set(table, keys, value, at);
            return true;
        }
    }
    false
}

fn sections(reader: &mut Reader<'_>, mut whole: Section) -> Option<Config> {
    let start = whole.at;
    let mut section = |reader: &mut Reader<'_>, name: &'static str| {
        reader.table(&mut whole, name).unwrap_or_else(|| Section::new(name, Table::new(), start))
    };
    let server_section = section(reader, "server");
    let server = server(reader, server_section);
    let sockets_section = section(reader, "sockets");
    let sockets = sockets(reader, sockets_section);
    let state_section = section(reader, "state");
    let state = state(reader, state_section);
    let store_section = section(reader, "store");
    let base = store(reader, store_section, &StoreConfig::default());
    let oauth_section = section(reader, "oauth");
    let oauth = oauth(reader, oauth_section);
    let rotation_section = section(reader, "rotation");
    let (at, schedule) = rotation(reader, rotation_section);
    let telemetry_section = section(reader, "telemetry");
    let log = telemetry(reader, telemetry_section);
    let can_sign_in = whole.has("operators");
    let operators = reader.table(&mut whole, "operators").and_then(|section| operators(reader, section));
    later(reader, &mut whole);
    let organization_tables = reader.tables(&mut whole, "organization");
    let (stores, people) = organizations(reader, organization_tables, &base);
    let provider_tables = reader.tables(&mut whole, "provider");
    let named_providers = ids(&provider_tables);
    let providers = providers(reader, provider_tables);
    let organizations = settled(reader, people, &named_providers, can_sign_in);
    let integration_tables = reader.tables(&mut whole, "integration");
    let named = ids(&integration_tables);
    let defaults = Defaults {
        stores: &stores,
        providers: &providers,
        named_providers: &named_providers,
        refresh_at_permille: at,
        validate_every: oauth.1,
        schedule: schedule.as_ref(),
    };
    let integrations = integrations(reader, integration_tables, &defaults);
    let binding_tables = reader.tables(&mut whole, "binding");
    let bindings = bindings(reader, binding_tables, &integrations, &named);
    reader.finish(whole);
    let (state_expiry, validation_interval, allowed_redirects) = oauth;
    Some(Config {
        server: server?,
        sockets,
        state,
        store: base,
        state_expiry,
        validation_interval,
        allowed_redirects,
        operators,
        organizations,
        providers,
        integrations,
        bindings,
        log,
    })
}

fn ids(sections: &[Section]) -> Vec<String> {
    sections.iter().filter_map(|section| section.peek_text("id").map(str::to_owned)).collect()
}

fn oauth(reader: &mut Reader<'_>, mut section: Section) -> (Duration, Duration, Vec<String>) {
    let minutes = |count: u64| Duration::from_secs(count * 60);
    let expiry = reader.duration(&mut section, "state_expiry", Duration::from_secs(1), minutes(10));
    let validation =
        reader.duration(&mut section, "validation_interval", Duration::from_secs(1), minutes(60 * 24 * 30));
    let mut hosts = Vec::new();
    for Spot { value, at } in reader.texts(&mut section, "allowed_redirects").unwrap_or_default() {
        let host = value.to_lowercase();
        if host.contains(['/', ':', '*', ' ']) || !host.contains('.') {
            reader.wrong(
                at,
                format!("{value:?} is not a host name"),
                "write host names, such as \"acme.example\"",
            );
        } else {
            hosts.push(host);
        }
    }
    reader.finish(section);
    (expiry.unwrap_or(minutes(5)), validation.unwrap_or(minutes(240)), hosts)
}

fn rotation(reader: &mut Reader<'_>, mut section: Section) -> (u16, Option<Schedule>) {
    let at = refresh_at(reader, &mut section, "at").unwrap_or(700);
    let schedule = reader.schedule(&mut section, "schedule");
    reader.finish(section);
    (at, schedule)
}

fn telemetry(reader: &mut Reader<'_>, mut section: Section) -> String {
    let log = reader.text(&mut section, "log").map_or_else(|| "info".into(), |log| log.value);
    if let Some(metrics) = reader.text(&mut section, "metrics") {
        reader.warn(
            metrics.at,
            "metrics are not in this version: `metrics` has no effect",
            "leave it for later",
        );
    }
    reader.finish(section);
    log
}

/// Sections of the contract that this version does not act on. What would be unsafe to ignore is a problem.
fn later(reader: &mut Reader<'_>, whole: &mut Section) {
    if let Some(entry) = whole.take("fleet") {
        reader.wrong(
            entry.key_at,
            "fleets are not in this version: two hosts would spend the same refresh token",
            "remove [fleet] and let one host own these integrations",
        );
    }
    if let Some(entry) = whole.take("notify") {
        reader.warn(
            entry.key_at,
            "[notify] is not in this version and has no effect",
            "watch `grantd status` and the log until then",
        );
    }
}

fn providers(reader: &mut Reader<'_>, sections: Vec<Section>) -> BTreeMap<ProviderId, ProviderConfig> {
    let mut found = BTreeMap::new();
    let mut places = BTreeMap::new();
    for mut section in sections {
        let at = section.at;
        let named = super::integrations::identifier(reader, &mut section, ProviderId::parse);
        let Some(named) = named else { continue };
        once(reader, &mut places, named.value.as_str(), named.at);
        if let Some(base) = catalogue::built_in(named.value.as_str(), &mut reader.sources) {
            section.lay_over(base);
        }
        section.at = at;
        section.name = format!("provider {}", named.value);
        if let Some(config) = provider(reader, section, named.value.clone(), true) {
            found.insert(named.value, config);
        }
    }
    found
}
