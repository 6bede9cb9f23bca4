//! Where a spool lives: on which host, in which folder. One that came from elsewhere is refused: two daemons with the same refresh
//! tokens would end each other's grants.
//!
//! A note beside the spool holds a hash of the machine id and the folder's inode number. A copy, a restored backup, a disk on
//! another host: each differs in one of them. A snapshot of a whole machine does not, and cannot be told here.

use aws_lc_rs::digest;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A state directory that came from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{directory} comes from another host or is a copy: if the original is still in use, both would spend the same refresh tokens; make sure that it never runs again, then remove {note} and start grantd"
)]
pub struct Elsewhere {
    /// The state directory.
    pub directory: PathBuf,
    /// The note to be removed.
    pub note: PathBuf,
}

/// Compares the note with where the spool is now. Without a note there is nothing to compare.
pub(super) fn check(directory: &Path, spool: &Path) -> Result<(), Elsewhere> {
    let note = directory.join(NOTE);
    match (std::fs::read_to_string(&note), here(spool)) {
        (Ok(noted), Some(here)) if noted.trim() != here => {
            Err(Elsewhere { directory: directory.into(), note })
        }
        (_, _) => Ok(()),
    }
}

/// Writes the note, if it is not there or belongs to a spool that was removed.
pub(super) fn claim(directory: &Path, spool: &Path) -> io::Result<()> {
    let note = directory.join(NOTE);
    let Some(here) = here(spool) else { return Ok(()) };
    if std::fs::read_to_string(&note).is_ok_and(|noted| noted.trim() == here) {
        return Ok(());
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&note)?;
    writeln!(file, "{here}")?;
    file.sync_all()?;
    File::open(directory)?.sync_all()
}

/// The machine and the folder. The machine id itself is confidential (machine-id(5)), so its hash stands in for it.
fn here(spool: &Path) -> Option<String> {
    let inode = std::fs::metadata(spool).ok()?.ino();
    let machine = std::fs::read(MACHINE_ID).unwrap_or_default();
    let mut hashed = b"grantd host\0".to_vec();
    hashed.extend_from_slice(machine.trim_ascii());
    let hash = digest::digest(&digest::SHA256, &hashed);
    let hex: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{hex} {inode}"))
}

const NOTE: &str = "host";
const MACHINE_ID: &str = "/etc/machine-id";

#[cfg(test)]
mod tests {
    use super::{check, claim};

    #[test]
    fn a_copy_is_recognised_and_the_original_is_not_disturbed() {
        let home = tempfile::tempdir().unwrap();
        let (first, second) = (home.path().join("first"), home.path().join("second"));
        for directory in [&first, &second] {
            std::fs::create_dir_all(directory.join("spool")).unwrap();
        }
        claim(&first, &first.join("spool")).unwrap();
        assert!(check(&first, &first.join("spool")).is_ok());
        std::fs::copy(first.join("host"), second.join("host")).unwrap();
        let refused = check(&second, &second.join("spool")).unwrap_err();
        assert_eq!(refused.note, second.join("host"));
        std::fs::remove_file(&refused.note).unwrap();
        assert!(check(&second, &second.join("spool")).is_ok());
    }

    #[test]
    fn a_spool_of_another_machine_is_recognised() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("spool")).unwrap();
        claim(home.path(), &home.path().join("spool")).unwrap();
        let noted = std::fs::read_to_string(home.path().join("host")).unwrap();
        let (_, inode) = noted.split_once(' ').unwrap();
        std::fs::write(home.path().join("host"), format!("{} {inode}", "0".repeat(32))).unwrap();
        assert!(check(home.path(), &home.path().join("spool")).is_err());
    }
}
