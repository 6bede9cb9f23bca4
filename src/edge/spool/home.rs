//! Whether the state directory is grantd's own: its owner, its mode, and whoever could put another one in its place.
//!
//! Checked before anything in it is believed. A directory that others may write is refused, since what they left there cannot be
//! told from what grantd wrote; one that others may only read is closed.

use rustix::process::geteuid;
use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Why a state directory cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// It is something else.
    #[error("{} is not a directory: name another state.directory", .0.display())]
    NotADirectory(PathBuf),
    /// It is another user's.
    #[error("{} belongs to uid {owner}: let grantd's user own it, or run grantd as that user", path.display())]
    Owner {
        /// The directory, or the symbolic link in its place.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Others may write it.
    #[error("{} can be written by others: look at what is in it, then chmod 700 {}", .0.display(), .0.display())]
    Open(PathBuf),
    /// The system refuses.
    #[error("{} cannot be used ({kind}): let grantd's user own state.directory", path.display())]
    Refused {
        /// The directory.
        path: PathBuf,
        /// The kind of error.
        kind: io::ErrorKind,
    },
}

/// Makes the state directory if it is missing, and looks whether it is grantd's own. Returns a directory above it that somebody
/// else could change, if there is one.
///
/// # Errors
/// [`NotOurs`].
pub fn check_home(directory: &Path) -> Result<Option<PathBuf>, NotOurs> {
    let refused = |error: io::Error| NotOurs::Refused { path: directory.into(), kind: error.kind() };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        let taken = error.kind() == io::ErrorKind::AlreadyExists;
        if taken { NotOurs::NotADirectory(directory.into()) } else { refused(error) }
    })?;
    let us = geteuid().as_raw();
    let named = std::fs::symlink_metadata(directory).map_err(refused)?;
    // A link of somebody else's could lead elsewhere the next time.
    if named.is_symlink() && !is_trusted(named.uid(), us) {
        return Err(NotOurs::Owner { path: directory.into(), owner: named.uid() });
    }
    let opened = File::open(directory).map_err(refused)?;
    let found = opened.metadata().map_err(refused)?;
    if found.uid() != us {
        return Err(NotOurs::Owner { path: directory.into(), owner: found.uid() });
    }
    if found.mode() & OTHERS_WRITE != 0 {
        return Err(NotOurs::Open(directory.into()));
    }
    if found.mode() & OTHERS != 0 {
        opened.set_permissions(Permissions::from_mode(0o700)).map_err(refused)?;
    }
    let resolved = std::fs::canonicalize(directory).map_err(refused)?;
    let above = directory.ancestors().skip(1).chain(resolved.ancestors().skip(1));
    let mut above = above.filter(|path| !path.as_os_str().is_empty());
    Ok(above.find(|path| std::fs::metadata(path).is_ok_and(|found| changeable(&found, us))).map(Into::into))
}

/// Whether others than root and this user may rename what is in a directory.
fn changeable(found: &Metadata, us: u32) -> bool {
    let open = found.mode() & OTHERS_WRITE != 0 && found.mode() & STICKY == 0;
    open || !is_trusted(found.uid(), us)
}

const fn is_trusted(owner: u32, us: u32) -> bool {
    owner == 0 || owner == us
}

const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

#[cfg(test)]
mod tests {
    use super::{NotOurs, check_home};
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    use std::path::Path;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_missing_directory_is_made_and_one_that_others_read_is_closed() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        assert_eq!(check_home(&state), Ok(None));
        assert_eq!(mode(&state), 0o700);
        set(&state, 0o755);
        assert_eq!(check_home(&state), Ok(None));
        assert_eq!(mode(&state), 0o700);
    }

    #[test]
    fn a_directory_that_others_write_is_refused_and_left_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        std::fs::create_dir(&state).unwrap();
        for open in [0o770, 0o702, 0o1777] {
            set(&state, open);
            assert_eq!(check_home(&state), Err(NotOurs::Open(state.clone())));
            assert_eq!(mode(&state), open);
        }
        let file = home.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(check_home(&file), Err(NotOurs::NotADirectory(file)));
    }

    #[test]
    fn a_parent_that_others_may_change_is_told() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        set(home.path(), 0o777);
        assert_eq!(check_home(&state), Ok(Some(home.path().into())));
        set(home.path(), 0o1777);
        assert_eq!(check_home(&state), Ok(None));
    }

    #[test]
    fn a_link_is_followed_if_nobody_else_can_turn_it() {
        let home = tempfile::tempdir().unwrap();
        let (real, link) = (home.path().join("real"), home.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        assert_eq!(check_home(&link), Ok(None));
        assert_eq!(mode(&real), 0o700);
    }

    /// Needs root, since only root may give files away.
    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let (state, link) = (home.path().join("state"), home.path().join("link"));
        std::fs::create_dir(&state).unwrap();
        symlink(&state, &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(41_001), None).unwrap();
        assert_eq!(check_home(&link), Err(NotOurs::Owner { path: link, owner: 41_001 }));
        chown(&state, Some(41_001), None).unwrap();
        assert_eq!(check_home(&state), Err(NotOurs::Owner { path: state.clone(), owner: 41_001 }));
        chown(&state, Some(0), None).unwrap();
        chown(home.path(), Some(41_001), None).unwrap();
        assert_eq!(check_home(&state), Ok(Some(home.path().into())));
    }
}
