//! Finds the seal key: the configured one, or the key file in the state directory, made once while nothing is sealed yet.

use crate::config::{State, Surroundings, Unreadable};
use crate::edge::spool::{KeyError, Spool, make_key_file};
use crate::secret::SealKey;
use std::io;
use std::path::PathBuf;

/// Why there is no seal key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTrouble {
    /// The configured key cannot be read.
    #[error("state.seal_key: {0} ({remedy})", remedy = .0.remedy)]
    Unreadable(#[from] Unreadable),
    /// The key has another length.
    #[error("the seal key has {0} bytes and must have 32: make one with `head -c 32 /dev/urandom`")]
    Length(usize),
    /// Something is sealed, and the key that sealed it is not there.
    #[error(
        "{directory} holds sealed data and no key opens it: configure state.seal_key, or put the key file back at {file}"
    )]
    Lost {
        /// The state directory.
        directory: PathBuf,
        /// Where the key file was expected.
        file: PathBuf,
    },
    /// The key file is there and cannot be read.
    #[error("{file} cannot be read ({kind}): let grantd's user own it, mode 0600")]
    File {
        /// The key file.
        file: PathBuf,
        /// The kind of error.
        kind: io::ErrorKind,
    },
    /// Others can read the key file.
    #[error("{0} can be read by others: chmod 600 {0}")]
    Exposed(PathBuf),
    /// No key file could be made.
    #[error(transparent)]
    NotMade(#[from] KeyError),
}

/// Finds the seal key, or makes one where nothing is sealed yet.
pub(super) fn seal_key(state: &State, around: &dyn Surroundings) -> Result<SealKey, KeyTrouble> {
    match existing_key(state, around)? {
        Some(key) => Ok(key),
        None => made(state, state.key_file()),
    }
}

/// Finds the seal key. `None` where none is configured and there is no key file.
///
/// # Errors
/// [`KeyTrouble`].
pub fn existing_key(state: &State, around: &dyn Surroundings) -> Result<Option<SealKey>, KeyTrouble> {
    if let Some(source) = &state.seal_key {
        return sized(&source.read(around)?).map(Some);
    }
    let file = state.key_file();
    match around.read(&file) {
        Ok(_) if around.mode(&file).is_ok_and(|mode| mode & 0o077 != 0) => Err(KeyTrouble::Exposed(file)),
        Ok(bytes) => sized(&zeroize::Zeroizing::new(bytes)).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(KeyTrouble::File { file, kind: error.kind() }),
    }
}

fn made(state: &State, file: PathBuf) -> Result<SealKey, KeyTrouble> {
    if Spool::has_sealed_data(&state.directory) {
        return Err(KeyTrouble::Lost { directory: state.directory.clone(), file });
    }
    let key = make_key_file(&file)?;
    tracing::warn!(
        file = %file.display(),
        "a seal key was made: back it up, or configure state.seal_key; without it nothing here can be read again"
    );
    Ok(key)
}

fn sized(bytes: &[u8]) -> Result<SealKey, KeyTrouble> {
    <[u8; 32]>::try_from(bytes).map(SealKey::new).map_err(|_length| KeyTrouble::Length(bytes.len()))
}
