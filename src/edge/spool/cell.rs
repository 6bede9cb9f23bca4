//! One sealed cell: whose it is and its sequence number, then an intent, a mark, or a raw answer.
//!
//! Everything stands inside the seal; a cell that does not authenticate says nothing.

use crate::lifecycle::{Identity, IntegrationId, Intent, Mark, OrganizationId, ProviderId, Sealed};
use crate::seal::{Purpose, SALT, open, seal};
use crate::secret::{SealKey, SecretBytes};
use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// What is to be sealed.
pub(super) enum Body<'a> {
    Intent(&'a Intent),
    Answer(&'a Sealed),
    Mark(Mark),
}

/// A cell that was opened.
pub(super) struct Cell {
    pub(super) identity: Identity,
    pub(super) sequence: u64,
    pub(super) content: Content,
}

/// What an opened cell holds.
pub(super) enum Content {
    Intent(Intent),
    Answer(Sealed),
    Mark(Mark),
}

#[derive(Serialize, Deserialize)]
struct Label {
    integration: String,
    organization: String,
    provider: String,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<Intent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<Mark>,
}

/// Seals a cell. `None` where the kernel gives no random bytes.
pub(super) fn write(key: &SealKey, identity: &Identity, sequence: u64, body: &Body<'_>) -> Option<Vec<u8>> {
    let (intent, mark) = match body {
        Body::Intent(intent) => (Some((*intent).clone()), None),
        Body::Mark(mark) => (None, Some(*mark)),
        Body::Answer(_) => (None, None),
    };
    let label = Label {
        integration: identity.integration.as_str().into(),
        organization: identity.organization.as_str().into(),
        provider: identity.provider.as_str().into(),
        sequence,
        intent,
        mark,
    };
    let label = serde_json::to_vec(&label).ok()?;
    let mut plain = u32::try_from(label.len()).ok()?.to_be_bytes().to_vec();
    plain.extend_from_slice(&label);
    if let Body::Answer(sealed) = body {
        plain.extend_from_slice(sealed.to_bytes().expose_secret());
    }
    let mut salt = [0; SALT];
    rand::fill(&mut salt).ok()?;
    seal(key, Purpose::Spool, CONTEXT, salt, &SecretBytes::new(plain))
}

/// Opens a cell. `None` for anything that this key did not seal.
pub(super) fn read(key: &SealKey, bytes: &[u8]) -> Option<Cell> {
    let plain = open(key, Purpose::Spool, CONTEXT, bytes)?;
    let (length, rest) = plain.expose_secret().split_first_chunk::<4>()?;
    let (label, body) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let label: Label = serde_json::from_slice(label).ok()?;
    let identity = Identity {
        integration: IntegrationId::parse(&label.integration).ok()?,
        organization: OrganizationId::parse(&label.organization).ok()?,
        provider: ProviderId::parse(&label.provider).ok()?,
    };
    let content = match (label.intent, label.mark) {
        (Some(intent), _) => Content::Intent(intent),
        (None, Some(mark)) => Content::Mark(mark),
        (None, None) => Content::Answer(Sealed::from_bytes(body)?),
    };
    Some(Cell { identity, sequence: label.sequence, content })
}

/// Whether a key is the one that a spool was sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyCheck {
    Same,
    Another,
    /// The spool says nothing about its key.
    Unknown,
}

/// Compares a key with the note of the one that sealed the spool, so that a torn cell is not taken for a wrong key.
pub(super) fn check(directory: &Path, key: &SealKey) -> KeyCheck {
    match std::fs::read(directory.join(NOTE)) {
        Ok(note) if open(key, Purpose::Spool, NOTE_CONTEXT, &note).is_some() => KeyCheck::Same,
        // A note that was torn when it was written is shorter than any seal.
        Ok(note) if note.len() > SALT => KeyCheck::Another,
        Ok(_) | Err(_) => KeyCheck::Unknown,
    }
}

/// Notes which key seals the spool: something sealed with it.
pub(super) fn note_key(directory: &Path, key: &SealKey) -> io::Result<()> {
    let mut salt = [0; SALT];
    rand::fill(&mut salt).map_err(|_unspecified| io::ErrorKind::Other)?;
    let note = seal(key, Purpose::Spool, NOTE_CONTEXT, salt, &SecretBytes::new(Vec::new()))
        .ok_or(io::ErrorKind::Other)?;
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(directory.join(NOTE))?;
    file.write_all(&note)?;
    file.sync_all()?;
    File::open(directory)?.sync_all()
}

const NOTE: &str = "key.check";
const NOTE_CONTEXT: &[u8] = b"grantd seal key";
const CONTEXT: &[u8] = b"grantd spool cell";
