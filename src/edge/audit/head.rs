//! The head of the chain: which line is the last, kept beside the trail under a key that only grantd has.
//!
//! The chain alone shows a change in its middle; that its end is missing, or that all of it was written anew, only the head
//! shows. Written aside, synced and renamed: there is always a whole one.

use super::line::{Link, hex};
use crate::seal::TagKey;
use crate::secret::SealKey;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The key of the head, derived from the seal key.
pub struct HeadKey(TagKey);

impl HeadKey {
    /// Derives it. `None` only if HKDF refuses one block, which it cannot.
    #[must_use]
    pub fn derive(key: &SealKey) -> Option<Self> {
        TagKey::derive(key, b"grantd audit head v1").map(Self)
    }
}

/// Where the trail ends: its last line, the file that holds it, and the file's length after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) link: Link,
    pub(super) file: String,
    pub(super) length: u64,
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Headless {
    /// There is none.
    Missing,
    /// This key did not write it.
    Forged,
    /// It cannot be read.
    Unreadable(io::ErrorKind),
}

impl Head {
    /// Reads the head of the trail in `directory`.
    ///
    /// # Errors
    /// [`Headless`].
    pub(super) fn read(directory: &Path, key: &HeadKey) -> Result<Self, Headless> {
        let bytes = std::fs::read(directory.join(NAME)).map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            if missing { Headless::Missing } else { Headless::Unreadable(error.kind()) }
        })?;
        let form: Form = serde_json::from_slice(&bytes).map_err(|_shape| Headless::Forged)?;
        let head =
            Self { link: Link { seq: form.seq, hash: form.hash }, file: form.file, length: form.length };
        let tag = bytes_of(&form.tag).ok_or(Headless::Forged)?;
        if form.schema == SCHEMA && key.0.holds(&head.message(), &tag) {
            Ok(head)
        } else {
            Err(Headless::Forged)
        }
    }

    /// Puts it in the place of the one before.
    pub(super) fn write(&self, directory: &Path, key: &HeadKey) -> io::Result<()> {
        let form = Form {
            schema: SCHEMA.into(),
            seq: self.link.seq,
            hash: self.link.hash.clone(),
            file: self.file.clone(),
            length: self.length,
            tag: hex(&key.0.tag(&self.message())),
        };
        let (aside, place) = (directory.join(ASIDE), directory.join(NAME));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(&serde_json::to_vec(&form)?)?;
        file.sync_data()?;
        std::fs::rename(&aside, &place)?;
        File::open(directory)?.sync_all()
    }

    /// What is tagged: no two heads have the same, since none of the parts holds a zero byte.
    fn message(&self) -> Vec<u8> {
        format!("{}\0{}\0{}\0{}", self.link.seq, self.link.hash, self.file, self.length).into_bytes()
    }
}

#[derive(Deserialize, Serialize)]
struct Form {
    schema: String,
    seq: u64,
    hash: String,
    file: String,
    length: u64,
    tag: String,
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

const SCHEMA: &str = "grantd-audit-head/1";
const NAME: &str = "head";
const ASIDE: &str = "head.new";

#[cfg(test)]
mod tests {
    use super::{Head, HeadKey, Headless, NAME};
    use crate::edge::audit::line::Link;
    use crate::secret::SealKey;

    fn key(byte: u8) -> HeadKey {
        HeadKey::derive(&SealKey::new([byte; 32])).unwrap()
    }

    #[test]
    fn only_the_key_that_wrote_a_head_reads_it_and_no_byte_of_it_can_change() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(Head::read(home.path(), &key(7)), Err(Headless::Missing));
        let head = Head { link: Link::start(), file: "trail-000001.jsonl".into(), length: 12 };
        head.write(home.path(), &key(7)).unwrap();
        assert_eq!(Head::read(home.path(), &key(7)), Ok(head));
        assert_eq!(Head::read(home.path(), &key(8)), Err(Headless::Forged));
        let good = std::fs::read(home.path().join(NAME)).unwrap();
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            std::fs::write(home.path().join(NAME), &changed).unwrap();
            assert_eq!(Head::read(home.path(), &key(7)), Err(Headless::Forged), "byte {at}");
        }
    }
}
