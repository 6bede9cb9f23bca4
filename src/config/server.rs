//! `[server]`, `[sockets]`, `[state]`: where grantd listens and where it keeps its own files.

use super::reader::{Reader, Section};
use super::secrets::{self, SecretSource};
use super::source::Spot;
use super::values;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use url::Url;

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// What providers redirect to.
    pub public_url: Url,
    /// Where the public listener listens.
    pub listen: SocketAddr,
    /// TLS, if grantd speaks it itself.
    pub tls: Option<Tls>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: SecretSource,
}

/// `[sockets]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// The app socket.
    pub app: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// The group that may connect to the app socket, if grantd makes it.
    pub app_group: Option<u32>,
    /// The group that may operate.
    pub control_group: Option<u32>,
}

/// `[state]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// grantd's own directory.
    pub directory: PathBuf,
    /// Where the seal key is; `None`: a file in the directory.
    pub seal_key: Option<SecretSource>,
}

impl State {
    /// The key file that is made when no key is configured.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.directory.join("seal.key")
    }
}

pub(super) fn server(reader: &mut Reader<'_>, mut section: Section) -> Option<Server> {
    if !section.has("public_url") {
        let at = section.at;
        reader.wrong(
            at,
            "[server] lacks `public_url`",
            "write the URL that browsers reach grantd at: public_url = \"https://grantd.example\"",
        );
    }
    let public_url = reader.url(&mut section, "public_url");
    if let Some(Spot { value, at }) = &public_url
        && (value.path() != "/" || value.query().is_some() || value.fragment().is_some())
    {
        reader.wrong(*at, "`public_url` has a path or a query", "write scheme, host and port only");
    }
    let listen = reader.text(&mut section, "listen");
    let listen = match listen {
        None => Some(SocketAddr::from(([127, 0, 0, 1], 8443))),
        Some(Spot { value, at }) => value.parse().ok().or_else(|| {
            reader.wrong(
                at,
                format!("{value:?} is not an address"),
                "write address and port: \"127.0.0.1:8443\"",
            );
            None
        }),
    };
    let tls = reader.table(&mut section, "tls").and_then(|section| tls(reader, section));
    let mut trusted_proxies = Vec::new();
    for Spot { value, at } in reader.texts(&mut section, "trusted_proxies").unwrap_or_default() {
        match value.parse() {
            Ok(address) => trusted_proxies.push(address),
            Err(_not_an_address) => {
                reader.wrong(
                    at,
                    format!("{value:?} is not an IP address"),
                    "write the proxy's address, such as \"10.0.0.5\"",
                );
            }
        }
    }
    if let (Some(url), Some(listen)) = (&public_url, listen)
        && tls.is_none()
        && !listen.ip().is_loopback()
        && !values::is_loopback(&url.value)
        && trusted_proxies.is_empty()
    {
        reader.warn(
            url.at,
            "the public listener speaks plain http on an address that others reach",
            "set server.tls, or name the TLS proxy in server.trusted_proxies",
        );
    }
    reader.finish(section);
    Some(Server { public_url: public_url?.value, listen: listen?, tls, trusted_proxies })
}

fn tls(reader: &mut Reader<'_>, mut section: Section) -> Option<Tls> {
    let certificate =
        reader.required(&mut section, "certificate", "name the PEM file of the certificate chain");
    if let Some(Spot { value, at }) = &certificate
        && let Err(error) = reader.around.read(value.as_ref())
    {
        let message = format!("{value} cannot be read ({})", error.kind());
        reader.wrong(*at, message, "let grantd's user read the certificate");
    }
    let key = secrets::readable(reader, &mut section, "key");
    if let Some(SecretSource::Secret { .. }) = key {
        let at = section.at;
        reader.wrong(
            at,
            "the TLS key must be on this host",
            "use { credential = \"name\" } or { file = \"/path\" }",
        );
    }
    if key.is_none() {
        let at = section.at;
        reader.wrong(at, "`tls` has no usable `key`", "add key = { file = \"/etc/grantd/tls.key\" }");
    }
    reader.finish(section);
    Some(Tls { certificate: certificate?.value.into(), key: key? })
}

pub(super) fn sockets(reader: &mut Reader<'_>, mut section: Section) -> Sockets {
    let app = reader.text(&mut section, "app").map_or_else(|| "/run/grantd/app.sock".into(), |app| app.value);
    let control = reader
        .text(&mut section, "control")
        .map_or_else(|| "/run/grantd/control.sock".into(), |path| path.value);
    let app_group =
        group(reader, &mut section, "app_group").or_else(|| reader.around.group_id("grantd-clients"));
    let control_group = group(reader, &mut section, "control_group");
    reader.finish(section);
    Sockets { app: app.into(), control: control.into(), app_group, control_group }
}

fn group(reader: &mut Reader<'_>, section: &mut Section, key: &'static str) -> Option<u32> {
    let is_empty = section.peek_text(key).is_some_and(str::is_empty);
    if is_empty {
        let _empty = section.take(key);
        return None;
    }
    let Spot { value, at } = reader.text(section, key)?;
    let id = reader.around.group_id(&value);
    if id.is_none() {
        reader.wrong(
            at,
            format!("there is no group {value:?} on this host"),
            format!("groupadd --system {value}"),
        );
    }
    id
}

pub(super) fn state(reader: &mut Reader<'_>, mut section: Section) -> State {
    let directory =
        reader.text(&mut section, "directory").map_or_else(|| "/var/lib/grantd".into(), |path| path.value);
    let seal_key = secrets::reference(reader, &mut section, "seal_key");
    if let Some(Spot { value, at }) = &seal_key {
        match value.read(reader.around) {
            Ok(bytes) if bytes.len() == 32 => {}
            Ok(bytes) => reader.wrong(
                *at,
                format!("the seal key has {} bytes, and must have 32", bytes.len()),
                "make one: head -c 32 /dev/urandom",
            ),
            Err(why) => secrets::unreadable(reader, *at, &why),
        }
    }
    reader.finish(section);
    State { directory: directory.into(), seal_key: seal_key.map(|key| key.value) }
}
