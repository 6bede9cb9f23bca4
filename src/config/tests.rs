//! The configuration as people write it: good ones load, wrong ones report everything at once, each with its place and remedy.

use super::{Checked, Problems, Surroundings, catalogue, from_texts, load};
use crate::lifecycle::{Rotation, Who};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A host with a few files, variables and users.
#[derive(Default)]
struct Fake {
    files: BTreeMap<PathBuf, (u32, String)>,
    variables: BTreeMap<String, String>,
}

impl Surroundings for Fake {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.files.get(path) {
            Some((_, text)) => Ok(text.clone().into_bytes()),
            None => std::fs::read(path),
        }
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        self.files.get(path).map(|(mode, _)| *mode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &Path) -> Vec<PathBuf> {
        self.files.keys().filter(|path| path.parent() == Some(directory)).cloned().collect()
    }

    fn variables(&self) -> BTreeMap<String, String> {
        self.variables.clone()
    }

    fn user_id(&self, name: &str) -> Option<u32> {
        (name == "billing").then_some(1001)
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        (name == "apps").then_some(2001)
    }
}

fn host() -> Fake {
    let mut fake = Fake::default();
    for name in
        ["GITHUB_CLIENT_SECRET", "GOOGLE_CLIENT_SECRET", "ACME_SSO_CLIENT_SECRET", "SLACK_CLIENT_SECRET"]
    {
        fake.variables.insert(name.into(), "canary".into());
    }
    fake
}

const GOOD: &str = r#"
[server]
public_url = "https://grantd.acme.example"
[store]
kind = "aws-secrets-manager"
region = "eu-west-1"
path = "/sym/{organization}/{integration}"
[[organization]]
id = "acme"
[[provider]]
id = "github"
client_id = "client"
client_secret = { env = "GITHUB_CLIENT_SECRET" }
[[integration]]
id = "github"
provider = "github"
scopes = ["repo"]
[[binding]]
integration = "github"
user = "billing"
"#;

pub(super) fn check(text: &str) -> Result<Checked, Problems> {
    from_texts(&[("grantd.toml", text)], &host())
}

/// The messages of everything that is wrong with `GOOD` after a replacement.
fn wrong(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    let problems = check(&GOOD.replacen(from, to, 1)).expect_err(to);
    problems.0.into_iter().map(|problem| problem.message).collect()
}

#[test]
fn a_good_configuration_loads() {
    let Checked { config, warnings } = check(GOOD).unwrap();
    assert!(warnings.is_empty());
    let github = &config.integrations.values().next().unwrap();
    assert_eq!(github.secret, "/sym/acme/github");
    assert_eq!(github.identity.organization.as_str(), "acme");
    let provider = config.providers.values().next().unwrap();
    assert_eq!((provider.name.as_str(), provider.rotation), ("GitHub", Rotation::Strict));
    assert_eq!(config.bindings[0].who, Who::Uid(1001));
    assert_eq!(config.state_expiry, Duration::from_secs(300));
}

#[test]
fn every_problem_is_reported_at_once_with_its_place_and_remedy() {
    let text = r#"[server]
public_url = "https://grantd.acme.example"
lisen = "127.0.0.1:8443"
[store]
kind = "aws-secrets-manager"
[oauth]
state_expiry = "5 minutes"
[[organization]]
id = "acme"
[[provider]]
id = "example"
client_id = "x"
client_secret = { credential = "example-secret" }
authorize_url = "http://id.example.com/authorize"
token_url = "https://id.example.com/token"
[[integration]]
id = "one"
provider = "example"
secret = "/sym/acme/shared"
[[integration]]
id = "two"
provider = "example"
secret = "/sym/acme/shared"
"#;
    let problems = check(text).unwrap_err();
    let seen: Vec<_> =
        problems.0.iter().map(|problem| (problem.line, problem.column, problem.message.as_str())).collect();
    assert_eq!(
        seen,
        [
            (3, 1, "unknown key `lisen` in [server]"),
            (7, 16, "\"5 minutes\" is not a duration"),
            (13, 17, "the credential `example-secret` is not there: systemd passed none"),
            (14, 17, "`authorize_url`: http is allowed on loopback only"),
            (23, 10, "integrations `one` (grantd.toml:19) and `two` share the secret /sym/acme/shared"),
        ]
    );
    assert!(problems.0.iter().all(|problem| !problem.remedy.is_empty()));
    let shown = problems.to_string();
    assert!(shown.contains("grantd.toml:3:1: unknown key `lisen` in [server]\n  |\n3 | lisen = \"127.0.0.1:8443\"\n  | ^^^^^\n  = did you mean `listen`?"), "{shown}");
    assert!(shown.ends_with("5 problems"), "{shown}");
}

#[test]
fn each_check_names_its_problem() {
    for (from, to, message) in [
        ("https://grantd", "http://grantd", "`public_url`: http is allowed on loopback only"),
        ("id = \"acme\"", "id = \"Acme\"\n[[organization]]\nid = \"acme\"", "\"Acme\" is not an id"),
        ("\"repo\"", "\"repo user\"", "\"repo user\" is not one scope"),
        ("provider = \"github\"", "provider = \"gitlab\"", "there is no [[provider]] `gitlab`"),
        ("integration = \"github\"", "integration = \"gitlab\"", "there is no [[integration]] `gitlab`"),
        ("user = \"billing\"", "user = \"nemo\"", "there is no user \"nemo\" on this host"),
        ("user = \"billing\"", "uid = 65534", "`nobody` stands for users whom the kernel cannot name"),
        ("user = \"billing\"", "", "the binding names nobody"),
        ("user = \"billing\"", "user = \"billing\"\nuid = 7", "the binding names several callers"),
        (
            "{organization}/{integration}",
            "tokens",
            "store.path does not name the integration: all would share one secret",
        ),
        ("client_id = \"client\"\n", "", "[provider github] lacks `client_id`"),
        ("{ env = \"GITHUB_CLIENT_SECRET\" }", "\"s3cret\"", "`client_secret` must not stand in the file"),
        ("GITHUB_CLIENT_SECRET", "NOT_SET", "the variable NOT_SET is not set"),
        ("[store]", "[rotation]\nat = 1.5\n[store]", "`at` is out of range"),
        ("[store]", "[rotation]\nschedule = \"0 3 * * *\"\n[store]", "\"0 3 * * *\" is not a schedule"),
        ("[store]", "[oauth]\nstate_expiry = \"1h\"\n[store]", "`state_expiry` is out of range"),
        (
            "[store]",
            "[fleet]\nkind = \"dynamodb\"\n[store]",
            "fleets are not in this version: two hosts would spend the same refresh token",
        ),
        ("region = \"eu-west-1\"", "kind2 = 1", "unknown key `kind2` in [store]"),
        ("region = \"eu-west-1\"", "region = 7", "`region` has the wrong type"),
        ("kind = \"aws-secrets-manager\"", "kind = \"vault\"", "`kind` cannot be \"vault\""),
        (
            "[[provider]]\nid = \"github\"",
            "[[provider]]\nid = \"unheard-of\"",
            "grantd does not know where provider `unheard-of` is",
        ),
    ] {
        let messages = wrong(from, to);
        assert!(messages.contains(&message.to_owned()), "{to}: {messages:#?}");
    }
}

#[test]
fn text_that_is_no_toml_is_one_problem_beside_the_others() {
    let messages = wrong("[store]", "[oauth]\nstate_expiry = \"x\"\n[store]\nregion == 1");
    assert!(messages.iter().any(|message| message.starts_with("not TOML")), "{messages:?}");
    assert!(messages.iter().any(|message| message.contains("is not a duration")), "{messages:?}");
}

#[test]
fn no_secret_is_shown_in_a_problem() {
    let mut fake = host();
    fake.variables.insert("GRANTD_PROVIDER__GITHUB__CLIENT_SECRET".into(), "canary-secret".into());
    let problems = from_texts(&[("grantd.toml", GOOD)], &fake).unwrap_err();
    assert!(problems.to_string().contains("must not stand in the file"));
    assert!(!problems.to_string().contains("canary"), "{problems}");
}

#[test]
fn variables_go_before_files_and_are_named_in_problems() {
    let mut fake = host();
    for (name, value) in [
        ("OAUTH_STATE_EXPIRY", "120"),
        ("GRANTD_SERVER__LISTEN", "127.0.0.1:0"),
        ("GRANTD_PROVIDER__GITHUB__CLIENT_ID", "4711"),
        ("GRANTD_ROTATION__AT", "0.5"),
        ("GRANTD_SOCKET", "/elsewhere"),
    ] {
        fake.variables.insert(name.into(), value.into());
    }
    let config = from_texts(&[("grantd.toml", GOOD)], &fake).unwrap().config;
    assert_eq!(config.state_expiry, Duration::from_secs(120));
    assert_eq!(config.server.listen.port(), 0);
    assert_eq!(config.providers.values().next().unwrap().client_id, "4711");
    assert_eq!(config.integrations.values().next().unwrap().refresh_at_permille, 500);
    fake.variables.insert("GRANTD_SERVER__LISTN".into(), "x".into());
    let problems = from_texts(&[("grantd.toml", GOOD)], &fake).unwrap_err();
    assert_eq!((problems.0[0].file.as_str(), problems.0.len()), ("$GRANTD_SERVER__LISTN", 1));
}

#[test]
fn conf_d_adds_tables_and_replaces_values() {
    let mut fake = host();
    fake.files.insert("/etc/grantd/grantd.toml".into(), (0o644, GOOD.into()));
    fake.files.insert(
        "/etc/grantd/conf.d/10.toml".into(),
        (
            0o644,
            "[store]\nregion = \"us-east-1\"\n[[binding]]\nintegration = \"github\"\ngroup = \"apps\"\n"
                .into(),
        ),
    );
    let config = load(Path::new("/etc/grantd/grantd.toml"), &fake).unwrap().config;
    assert_eq!(config.integrations.values().next().unwrap().store.region.as_deref(), Some("us-east-1"));
    assert_eq!(config.bindings.len(), 2);
    fake.files
        .insert("/etc/grantd/conf.d/20.toml".into(), (0o644, "[[organization]]\nid = \"acme\"\n".into()));
    let problems = load(Path::new("/etc/grantd/grantd.toml"), &fake).unwrap_err();
    assert_eq!(problems.0[0].message, "`acme` is there already (/etc/grantd/grantd.toml:9)");
}

#[test]
fn a_missing_file_is_a_problem_and_no_panic() {
    let problems = load(Path::new("/nowhere/grantd.toml"), &host()).unwrap_err();
    assert!(problems.to_string().contains("/nowhere/grantd.toml:1:1: cannot be read"));
}

#[test]
fn a_secret_file_that_others_can_read_is_refused() {
    let mut fake = host();
    fake.files.insert("/k".into(), (0o100_644, "secret".into()));
    let text = GOOD.replace("{ env = \"GITHUB_CLIENT_SECRET\" }", "{ file = \"/k\" }");
    let problems = from_texts(&[("grantd.toml", &text)], &fake).unwrap_err();
    assert_eq!(problems.0[0].remedy, "chmod 600 /k");
    fake.files.insert("/k".into(), (0o100_600, "secret\n".into()));
    assert!(from_texts(&[("grantd.toml", &text)], &fake).is_ok());
}

#[test]
fn more_writes_than_aws_keeps_are_refused() {
    let short = GOOD.replace("client_id", "expires_in = \"10m\"\nclient_id");
    let problems = check(&short).unwrap_err();
    assert!(problems.0[0].message.contains("more than four versions an hour"), "{problems}");
    assert!(check(&short.replace("aws-secrets-manager", "sealed-file")).is_ok());
}

#[test]
fn a_second_client_secret_must_be_another_one() {
    let mut fake = host();
    fake.variables.insert("NEXT".into(), "another".into());
    let with = |next: &str| {
        let one = "client_secret = { env = \"GITHUB_CLIENT_SECRET\" }\n";
        assert!(GOOD.contains(one));
        GOOD.replacen(one, &format!("{one}client_secret_next = {{ env = \"{next}\" }}\n"), 1)
    };
    let Checked { config, warnings } = from_texts(&[("grantd.toml", &with("NEXT"))], &fake).unwrap();
    assert!(warnings.is_empty());
    assert_eq!(config.providers.values().next().unwrap().client_secrets().count(), 2);
    for same in ["GITHUB_CLIENT_SECRET", "GOOGLE_CLIENT_SECRET"] {
        let warnings = from_texts(&[("grantd.toml", &with(same))], &fake).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].message.contains("the same as client_secret"), "{same}");
    }
    let alone = GOOD.replace("client_secret = ", "client_secret_next = ");
    assert!(
        from_texts(&[("grantd.toml", &alone)], &fake).unwrap_err().to_string().contains("stands without")
    );
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let admins = "id = \"acme\"\nadmins = { claim = \"groups\", contains = \"secops\" }\n";
    let text = GOOD.replacen("id = \"acme\"\n", admins, 1);
    let warnings = check(&text).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].message.contains("without [operators]"), "{warnings:?}");
    let text = format!(
        "{GOOD}\n[notify]\nwebhook = \"https://hooks\"\n[[binding]]\nintegration = \"github\"\nuid = 61500\n"
    );
    let warnings = check(&text).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn a_binding_names_a_unit_or_every_instance_of_a_template() {
    let bound =
        |unit: &str| check(&format!("{GOOD}\n[[binding]]\nintegration = \"github\"\nunit = \"{unit}\"\n"));
    for unit in ["billing.service", "worker@*.service"] {
        let Checked { config, warnings } = bound(unit).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(config.bindings.last().unwrap().who.to_string(), format!("unit = \"{unit}\""));
    }
    for unit in ["billing", "worker@.service", "*.service", "user@1000.service"] {
        let problems = bound(unit).unwrap_err().0;
        assert!(problems.len() == 1 && problems[0].message.contains(unit), "{problems:?}");
    }
}

#[test]
fn operators_sign_in_where_the_configuration_says() {
    let text = format!(
        "{GOOD}\n[operators]\nissuer = \"https://idp.acme.example/\"\nclient_id = \"grantd\"\nclient_secret = {{ env = \"ACME_SSO_CLIENT_SECRET\" }}\n"
    );
    let people = "id = \"acme\"\nadmins = { claim = \"groups\", contains = \"secops\" }\nexternal_ids = { github = \"7\" }\n";
    let Checked { config, warnings } = check(&text.replacen("id = \"acme\"\n", people, 1)).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let operators = config.operators.unwrap();
    // To its last slash: it is compared as text.
    assert_eq!(operators.issuer, "https://idp.acme.example/");
    let acme = config.organizations.values().next().unwrap();
    assert_eq!(acme.admins.as_ref().unwrap().contains, "secops");
    assert_eq!(acme.external_ids.values().collect::<Vec<_>>(), ["7"]);
}

#[test]
fn everything_wrong_about_people_is_said_at_once() {
    let text = format!(
        "{GOOD}\n[operators]\nissuer = \"http://idp.acme.example\"\n[[organization]]\nid = \"globex\"\nadmins = {{ claim = \"groups\" }}\nexternal_ids = {{ github = \"7\", nowhere = \"8\" }}\n"
    );
    let text = text.replacen("id = \"acme\"\n", "id = \"acme\"\nexternal_ids = { github = \"7\" }\n", 1);
    let text =
        text.replacen("id = \"github\"\nprovider", "id = \"github\"\norganization = \"acme\"\nprovider", 1);
    let problems = check(&text).unwrap_err().to_string();
    for part in [
        "http is allowed on loopback only",
        "client_id",
        "contains",
        "share an external id",
        "no such [[provider]]",
    ] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
}

#[test]
fn an_account_can_be_pinned_only_where_the_provider_can_name_it() {
    let vanta = format!(
        "{GOOD}\n[[provider]]\nid = \"vanta\"\nclient_id = \"c\"\n[[integration]]\nid = \"vanta\"\nprovider = \"vanta\"\nexpect_account = {{ id = \"7\" }}\n"
    );
    let Problems(problems) = check(&vanta).unwrap_err();
    assert!(problems.len() == 1 && problems[0].message.contains("names the account"), "{problems:?}");
}

#[test]
fn shipped_files_pass() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for file in
        ["grantd.toml", "examples/minimal.toml", "examples/aws.toml", "examples/two-organizations.toml"]
    {
        let loaded = load(&root.join(file), &host());
        assert!(loaded.as_ref().is_ok_and(|checked| checked.warnings.is_empty()), "{file}: {loaded:?}");
    }
}

#[test]
fn every_catalogue_entry_is_a_provider() {
    for entry in catalogue() {
        let text = format!("{GOOD}\n[[provider]]\nid = \"{}\"\nclient_id = \"c\"\n", entry.id);
        let loaded = check(&text);
        assert!(loaded.is_ok() || entry.id == "github", "{}: {loaded:?}", entry.id);
    }
}

#[test]
fn every_key_stands_in_the_shipped_configuration() {
    let shipped =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/grantd.toml")).unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    let mut seen = 0;
    for file in
        ["server.rs", "stores.rs", "providers.rs", "grants.rs", "integrations.rs", "bindings.rs", "load.rs"]
    {
        let text = std::fs::read_to_string(sources.join(file)).unwrap();
        for part in text.split("section, \"").skip(1) {
            let key = part.split('"').next().unwrap();
            assert!(
                shipped.contains(&format!("{key} = "))
                    || shipped.contains(&format!("[{key}]"))
                    || shipped.contains(&format!(".{key}]")),
                "{file}: {key}"
            );
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} keys were found");
}
