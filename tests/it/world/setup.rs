//! One test's world: a home, a client at the provider, proxies on every side of the daemon, and a configuration as text.
//!
//! Whatever is secret in it is remembered, and looked for at the end where it must not be.

use super::aws::{Aws, Keys, moto};
use super::daemon::Daemon;
use super::http::{is_root, own_uid};
use super::leaks;
use super::oidc::{Client, Oidc, oidc};
use super::process::Said;
use super::proxy::Proxy;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tempfile::TempDir;

/// Everything around one daemon.
pub struct World {
    /// Names what this test shares with no other: client, secrets, users.
    pub name: String,
    pub home: TempDir,
    /// Between the browser and the daemon; its port is the one of `public_url`.
    pub front: Proxy,
    /// Between the daemon and the provider's token, revocation and userinfo endpoints.
    pub idp: Proxy,
    /// Between the daemon and AWS.
    pub store: Proxy,
    pub aws: &'static Aws,
    pub client: Client,
    /// What the daemon finds in its environment.
    pub keys: Keys,
    /// More of its environment.
    pub env: Vec<(String, String)>,
    /// A command that ends by becoming the daemon, if it is not started directly.
    pub launcher: Vec<String>,
    pub said: Said,
    noted: Mutex<Vec<(String, String)>>,
}

/// A configuration: fragments of TOML, each of which a test may replace.
#[derive(Clone, Debug)]
pub struct Config {
    pub head: String,
    pub store: String,
    pub oauth: String,
    pub rotation: String,
    pub providers: String,
    pub integrations: String,
    pub bindings: String,
    pub more: String,
}

impl World {
    /// The integration that every world has, unless a test says otherwise.
    pub const INTEGRATION: &str = "acme-idp";
    pub const PROVIDER: &str = "idp";
    /// A launcher whose daemon survives a write that [`Daemon::refuse_writes`] refuses.
    pub const DEAF_TO_SIZE: [&str; 4] = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];

    /// moto, the shared provider, access tokens of an hour.
    pub fn new(name: &str) -> Self {
        Self::with(name, moto(), oidc(), 3600)
    }

    /// As [`World::new`], with access tokens that live so many seconds.
    pub fn with_ttl(name: &str, access_ttl: u64) -> Self {
        Self::with(name, moto(), oidc(), access_ttl)
    }

    pub fn with(name: &str, aws: &'static Aws, oidc: &'static Oidc, access_ttl: u64) -> Self {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{name}-{}", &unique[..8]);
        let home = tempfile::Builder::new().prefix("grantd-it-").tempdir().unwrap();
        // Another user must be able to reach the app socket.
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let front = Proxy::to(SocketAddr::from(([127, 0, 0, 1], 1)));
        let callbacks = [Self::PROVIDER, "other"].map(|provider| {
            format!("http://127.0.0.1:{}/v1/integrations/oauth/callback/{provider}", front.port())
        });
        let client = oidc.register(&name, &callbacks, access_ttl);
        let keys = Keys { id: "AKIATESTS".into(), secret: format!("canary-access-key-{unique}") };
        let world = Self {
            home,
            front,
            idp: Proxy::to(oidc.address()),
            store: Proxy::to(aws.address),
            aws,
            client,
            keys,
            env: Vec::new(),
            launcher: Vec::new(),
            said: Said::default(),
            noted: Mutex::default(),
            name,
        };
        world.write_secret("client-secret", &world.client.secret);
        world
    }

    /// The secret that holds the record of the world's integration.
    pub fn secret(&self) -> String {
        self.secret_of(Self::INTEGRATION)
    }

    /// The secret that holds the record of any integration.
    pub fn secret_of(&self, integration: &str) -> String {
        format!("/sym/{}/{integration}", self.name)
    }

    pub fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    pub fn public_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.front.port())
    }

    /// A file that only the daemon reads; returns its path.
    pub fn write_secret(&self, file: &str, secret: &str) -> PathBuf {
        let path = self.home.path().join(file);
        std::fs::write(&path, secret).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// AWS in update-only mode, one provider, one integration, bound to whoever runs the tests.
    pub fn config(&self) -> Config {
        let home = self.home.path().display();
        let group = shared_group().filter(|_| is_root());
        let group = group.map_or_else(String::new, |(name, _)| format!("app_group = \"{name}\"\n"));
        Config {
            head: format!(
                "[server]\npublic_url = \"{}\"\nlisten = \"127.0.0.1:0\"\n\n[sockets]\napp = \"{home}/app.sock\"\n\
                 control = \"{home}/control.sock\"\n{group}\n[state]\ndirectory = \"{home}/state\"\n",
                self.public_url()
            ),
            store: self.store_keys("update-only"),
            oauth: String::new(),
            rotation: String::new(),
            providers: self.provider(Self::PROVIDER),
            integrations: self.integration(Self::INTEGRATION, Self::PROVIDER),
            bindings: binding(Self::INTEGRATION, own_uid()),
            more: "[[organization]]\nid = \"acme\"\n".into(),
        }
    }

    /// As [`World::config`], with records in sealed files.
    pub fn sealed_config(&self) -> Config {
        Config { store: "kind = \"sealed-file\"\n".into(), ..self.config() }
    }

    /// The keys of `[store]` for this world's AWS.
    pub fn store_keys(&self, mode: &str) -> String {
        format!(
            "kind = \"aws-secrets-manager\"\nregion = \"{}\"\nmode = \"{mode}\"\nendpoint_url = \"http://127.0.0.1:{}\"\n",
            Aws::REGION,
            self.store.port()
        )
    }

    /// A `[[provider]]` with this world's client; its issuer is discovered, what costs a grant goes through the proxy.
    pub fn provider(&self, id: &str) -> String {
        let (issuer, port) = (&self.client.server.issuer, self.idp.port());
        format!(
            "[[provider]]\nid = \"{id}\"\nname = \"Acme ID\"\nclient_id = \"{}\"\nclient_secret = {{ file = \"{}\" }}\n\
             issuer = \"{issuer}\"\ntoken_url = \"http://127.0.0.1:{port}/token\"\n\
             revoke_url = \"http://127.0.0.1:{port}/token/revocation\"\nuserinfo_url = \"http://127.0.0.1:{port}/me\"\n\n",
            self.client.id,
            self.home.path().join("client-secret").display()
        )
    }

    /// An `[[integration]]` of this world.
    pub fn integration(&self, id: &str, provider: &str) -> String {
        format!(
            "[[integration]]\nid = \"{id}\"\norganization = \"acme\"\nprovider = \"{provider}\"\n\
             scopes = [\"openid\", \"profile\", \"email\"]\nsecret = \"/sym/{}/{id}\"\n\n",
            self.name
        )
    }

    /// Makes the empty secret and starts the daemon.
    #[track_caller]
    pub fn start(&self, config: &Config) -> Daemon<'_> {
        if config.store.contains("update-only") && !self.aws.exists(&self.secret()) {
            self.aws.make_secret(&self.secret());
        }
        self.write_config(config);
        Daemon::start(self)
    }

    pub fn write_config(&self, config: &Config) {
        std::fs::write(self.config_path(), config.text()).unwrap();
    }

    pub fn config_path(&self) -> PathBuf {
        self.home.path().join("grantd.toml")
    }

    /// Remembers something that must not be found in any output or file.
    pub fn note(&self, what: &str, value: &str) {
        self.noted.lock().unwrap().push((what.into(), value.into()));
    }

    /// Fails if anything secret is found in what was said, or in the state directory.
    pub fn assert_no_leaks(&self) {
        let mut secrets = self.client.secrets();
        secrets.push(("client_secret".into(), self.client.secret.clone()));
        secrets.push(("aws_secret_access_key".into(), self.keys.secret.clone()));
        secrets.extend(self.noted.lock().unwrap().iter().cloned());
        leaks::assert_none(&secrets, &self.said.text(), &self.state());
    }
}

impl Config {
    pub fn text(&self) -> String {
        format!(
            "{}\n[store]\n{}\n[oauth]\n{}\n[rotation]\n{}\n{}\n{}{}{}",
            self.head,
            self.store,
            self.oauth,
            self.rotation,
            self.more,
            self.providers,
            self.integrations,
            self.bindings
        )
    }
}

/// A `[[binding]]` of one user.
pub fn binding(integration: &str, uid: u32) -> String {
    format!("[[binding]]\nintegration = \"{integration}\"\nuid = {uid}\n\n")
}

/// A group that this host has and that is not the tests' own, with its number.
pub fn shared_group() -> Option<(String, u32)> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let parsed = groups.lines().filter_map(|line| {
        let mut parts = line.split(':');
        Some((parts.next()?.to_owned(), parts.nth(1)?.parse().ok()?))
    });
    parsed.filter(|(_, id)| (1..1000).contains(id)).max_by_key(|(name, _)| name == "users")
}

/// Where `./test` has put the peers.
pub fn peers_home() -> PathBuf {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    for stamp in ["python.stamp", "oidc.stamp"] {
        assert!(home.join(stamp).exists(), "the peers are not installed: run ./test --peers");
    }
    home
}
