//! The seal key's own file, made when nothing is sealed yet and no key was configured.

use crate::secret::SealKey;
use aws_lc_rs::rand;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Why the key file cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The directory or the file cannot be written.
    #[error("{path} cannot be written ({kind}): let grantd's user write state.directory")]
    Unwritable {
        /// The key file.
        path: String,
        /// The kind of error.
        kind: io::ErrorKind,
    },
    /// The kernel gives no random bytes.
    #[error("the kernel gives no random bytes")]
    NoEntropy,
}

/// Makes a key file of 32 random bytes, mode 0600, durable before this returns. Never overwrites one.
///
/// # Errors
/// [`KeyError`].
pub fn make_key_file(path: &Path) -> Result<SealKey, KeyError> {
    let mut bytes = [0_u8; 32];
    rand::fill(&mut bytes).map_err(|_unspecified| KeyError::NoEntropy)?;
    write(path, &bytes)
        .map_err(|error| KeyError::Unwritable { path: path.display().to_string(), kind: error.kind() })?;
    Ok(SealKey::new(bytes))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    File::open(parent)?.sync_all()
}
