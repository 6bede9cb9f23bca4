//! Secrets by reference: a systemd credential, a file, a variable, or a secret of AWS. Never in the file itself.

use super::reader::{Reader, Section};
use super::source::{At, Spot};
use super::surroundings::Surroundings;
use super::tree::Node;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A systemd credential (`LoadCredential=`).
    Credential(String),
    /// A file that only grantd's user can read.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A secret of AWS Secrets Manager, read with the settings of `[store]` when it is needed.
    Secret {
        /// Its name or ARN.
        name: String,
        /// The member of its JSON object, if it holds one: what stands after `#`.
        member: Option<String>,
    },
}

/// Why a secret cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Unreadable {
    what: String,
    /// What to do.
    pub remedy: String,
}

impl SecretSource {
    /// Reads the secret's bytes as they are.
    ///
    /// # Errors
    /// [`Unreadable`], with a remedy.
    pub fn read(&self, around: &dyn Surroundings) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
        match self {
            Self::Credential(name) => {
                let variables = around.variables();
                let Some(directory) = variables.get("CREDENTIALS_DIRECTORY") else {
                    return Err(Unreadable {
                        what: format!("the credential `{name}` is not there: systemd passed none"),
                        remedy: format!(
                            "run grantd under its unit with `LoadCredential={name}:/path`, or use {{ file = … }}"
                        ),
                    });
                };
                read_file(&Path::new(directory).join(name), around).map_err(|_missing| Unreadable {
                    what: format!("the credential `{name}` is not there"),
                    remedy: format!("add `LoadCredential={name}:/path` to the unit"),
                })
            }
            Self::File(path) => {
                if around.mode(path).is_ok_and(|mode| mode & 0o077 != 0) {
                    return Err(Unreadable {
                        what: format!("{} can be read by others", path.display()),
                        remedy: format!("chmod 600 {}", path.display()),
                    });
                }
                read_file(path, around)
            }
            Self::Variable(name) => match around.variables().remove(name) {
                Some(text) if !text.is_empty() => Ok(Zeroizing::new(text.into_bytes())),
                Some(_) | None => Err(Unreadable {
                    what: format!("the variable {name} is not set"),
                    remedy: format!("set {name} in grantd's environment"),
                }),
            },
            Self::Secret { .. } => Err(Unreadable {
                what: "a secret of AWS Secrets Manager cannot be used here".into(),
                remedy: "use { credential = \"name\" }, { file = \"/path\" } or { env = \"NAME\" }".into(),
            }),
        }
    }

    /// Reads a secret that is text, without the newline that editors leave at its end.
    ///
    /// # Errors
    /// [`Unreadable`], with a remedy.
    pub fn read_text(&self, around: &dyn Surroundings) -> Result<Zeroizing<String>, Unreadable> {
        let bytes = self.read(around)?;
        let text = std::str::from_utf8(&bytes).map(|text| text.trim_end_matches(['\r', '\n'])).unwrap_or("");
        if text.is_empty() {
            return Err(Unreadable {
                what: "the secret is empty, or not text".into(),
                remedy: "write the secret as one line of text".into(),
            });
        }
        Ok(Zeroizing::new(text.to_owned()))
    }
}

fn read_file(path: &Path, around: &dyn Surroundings) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    around.read(path).map(Zeroizing::new).map_err(|error| Unreadable {
        what: format!("{} cannot be read ({})", path.display(), error.kind()),
        remedy: format!("write the secret to {} and let only grantd's user read it", path.display()),
    })
}

const HOW: &str = "use { credential = \"name\" }, { file = \"/path\" }, { env = \"NAME\" } or, for a client, { secret = \"/path#member\" }";

/// Reads a reference; does not follow it.
pub(super) fn reference(
    reader: &mut Reader<'_>,
    section: &mut Section,
    key: &'static str,
) -> Option<Spot<SecretSource>> {
    let entry = section.take(key)?;
    let at = entry.item.at;
    let Node::Table(table) = entry.item.node else {
        reader.wrong(at, format!("`{key}` must not stand in the file"), HOW);
        return None;
    };
    let mut inner = Section::new(key, table, at);
    let found = one_of(reader, &mut inner);
    reader.finish(inner);
    match found.as_slice() {
        [source] => Some(Spot { value: source.clone(), at }),
        [] => {
            reader.wrong(at, format!("`{key}` names no secret"), HOW);
            None
        }
        [_, ..] => {
            reader.wrong(at, format!("`{key}` names several secrets"), HOW);
            None
        }
    }
}

fn one_of(reader: &mut Reader<'_>, inner: &mut Section) -> Vec<SecretSource> {
    let mut found = Vec::new();
    if let Some(name) = reader.text(inner, "credential") {
        if name.value.contains('/') || name.value.starts_with('.') {
            reader.wrong(
                name.at,
                "a credential's name has no slash",
                "write the name that the unit gives it",
            );
        }
        found.push(SecretSource::Credential(name.value));
    }
    if let Some(path) = reader.text(inner, "file") {
        found.push(SecretSource::File(path.value.into()));
    }
    if let Some(name) = reader.text(inner, "env") {
        found.push(SecretSource::Variable(name.value));
    }
    if let Some(place) = reader.text(inner, "secret") {
        let (name, member) = match place.value.split_once('#') {
            Some((name, member)) => (name.to_owned(), Some(member.to_owned())),
            None => (place.value, None),
        };
        if name.is_empty() || member.as_deref() == Some("") {
            reader.wrong(
                place.at,
                "the reference names no secret, or no member after `#`",
                "write { secret = \"/path/of/the/secret\" }, or { secret = \"/path#member\" }",
            );
        }
        found.push(SecretSource::Secret { name, member });
    }
    if let Some(place) = reader.text(inner, "kms") {
        reader.wrong(place.at, "`kms` references are not in this version", HOW);
    }
    found
}

/// Reads a reference and makes sure that it leads to a text.
pub(super) fn readable(
    reader: &mut Reader<'_>,
    section: &mut Section,
    key: &'static str,
) -> Option<SecretSource> {
    let Spot { value, at } = reference(reader, section, key)?;
    // Read when it is needed: a start never waits for AWS.
    if !matches!(value, SecretSource::Secret { .. })
        && let Err(why) = value.read_text(reader.around)
    {
        unreadable(reader, at, &why);
    }
    Some(value)
}

pub(super) fn unreadable(reader: &mut Reader<'_>, at: At, why: &Unreadable) {
    reader.wrong(at, why.to_string(), why.remedy.clone());
}
