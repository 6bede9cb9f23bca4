//! Makes a listening Unix socket that is never visible with a wrong mode or owner.
//!
//! It is bound in a private directory beside its place, gets its mode and group there, and is then renamed into place. A
//! socket on which somebody listens is never taken over, and what is not a socket is never moved or removed.

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::fs::{DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Why a socket cannot be bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there already.
    #[error("{} is in use: stop the process that listens on it, or name another path", .0.display())]
    InUse(PathBuf),
    /// There is something else at that path.
    #[error("{} exists and is not a socket: move it away, or name another path", .0.display())]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("{} cannot be made ({kind}): check its directory, and that grantd may give it to its group", path.display())]
    Refused {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
}

/// Binds `path`, with exactly this mode, and this group if one is given. The parent directory is made (0755) if it is missing.
/// The listener's own address stays the private one, since a rename does not reach it; clients use `path`.
///
/// # Errors
/// [`BindError`]. A socket file that nobody listens on is replaced.
pub fn bind(path: &Path, mode: u32, group: Option<u32>) -> Result<UnixListener, BindError> {
    let refused = |error: io::Error| BindError::Refused { path: path.into(), kind: error.kind() };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_parent(parent).map_err(refused)?;
    let stale = look(path)?;
    let aside = Aside::beside(parent).map_err(refused)?;
    let private = aside.0.join(FRESH);
    let listener = UnixListener::bind(&private).map_err(refused)?;
    if let Some(group) = group {
        chown(&private, None, Some(group)).map_err(refused)?;
    }
    std::fs::set_permissions(&private, Permissions::from_mode(mode)).map_err(refused)?;
    if let Some(stale) = stale {
        clear(path, &stale, &aside)?;
    }
    match renameat_with(CWD, &private, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(listener),
        // Somebody was quicker: whoever it is, it is not ours to replace.
        Err(Errno::EXIST) => Err(BindError::InUse(path.into())),
        Err(error) => Err(refused(error.into())),
    }
}

/// Only the last directory is made: a missing one above it is a mistyped path.
fn make_parent(parent: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(parent) {
        // The umask of a daemon is narrow, and clients must reach the socket.
        Ok(()) => std::fs::set_permissions(parent, Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// What is at the path now: nothing, or a socket that nobody listens on.
fn look(path: &Path) -> Result<Option<Metadata>, BindError> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BindError::Refused { path: path.into(), kind: error.kind() }),
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket(path.into()));
    }
    match knock(path) {
        Err(Errno::CONNREFUSED) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        // A full backlog (EAGAIN) and another kind of socket (EPROTOTYPE) have listeners too.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(BindError::InUse(path.into())),
        Err(error) => Err(BindError::Refused { path: path.into(), kind: error.kind() }),
    }
}

/// Connects without waiting: a full backlog must not hold the start up.
fn knock(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

/// Takes the stale socket out of the way. Should something else stand there by now, it is put back.
fn clear(path: &Path, stale: &Metadata, aside: &Aside) -> Result<(), BindError> {
    let refused = |error: Errno| BindError::Refused { path: path.into(), kind: error.kind() };
    let taken = aside.0.join(STALE);
    match renameat_with(CWD, path, CWD, &taken, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(refused(error)),
    }
    let same = std::fs::symlink_metadata(&taken)
        .is_ok_and(|found| found.ino() == stale.ino() && found.file_type().is_socket());
    if same {
        return Ok(());
    }
    renameat_with(CWD, &taken, CWD, path, RenameFlags::NOREPLACE).map_err(refused)?;
    Err(BindError::InUse(path.into()))
}

/// A directory that only this user can look into; gone when dropped.
struct Aside(PathBuf);

impl Aside {
    /// On the same file system as the socket's place, so that a rename can reach it.
    fn beside(parent: &Path) -> io::Result<Self> {
        let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
        for attempt in 0..ATTEMPTS {
            let path = parent.join(format!(".{}.{attempt}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
                Err(error) => return Err(error),
            }
        }
        Err(taken)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Only the two names that are made here: whatever else may stand there is not ours to remove.
        for name in [FRESH, STALE] {
            let _moved_or_never_made = std::fs::remove_file(self.0.join(name));
        }
        if let Err(error) = std::fs::remove_dir(&self.0) {
            tracing::warn!(error = %error.kind(), "a private directory beside a socket could not be removed");
        }
    }
}

// Short names: a socket's path may have 107 bytes.
const FRESH: &str = "s";
const STALE: &str = "o";
/// How many directories that a crash left behind under this process id are passed over.
const ATTEMPTS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::{Aside, BindError, bind, clear, look};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::path::Path;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_socket_has_its_mode_and_group_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let own = std::fs::metadata(directory.path()).unwrap().gid();
        let group = if nix::unistd::geteuid().is_root() { 4321 } else { own };
        let listener = bind(&path, 0o660, Some(group)).unwrap();
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!((found.permissions().mode() & 0o7777, found.gid()), (0o660, group));
        assert_eq!(names(directory.path()), ["app.sock"]);
        let _client = UnixStream::connect(&path).unwrap();
        assert!(listener.accept().is_ok());
    }

    #[test]
    fn a_missing_parent_is_made_for_all_to_pass_and_an_old_one_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let parent = directory.path().join("run");
        let mode = || std::fs::metadata(&parent).unwrap().permissions().mode() & 0o7777;
        let _first = bind(&parent.join("a.sock"), 0o600, None).unwrap();
        assert_eq!(mode(), 0o755);
        std::fs::set_permissions(&parent, std::fs::Permissions::from_mode(0o711)).unwrap();
        let _second = bind(&parent.join("b.sock"), 0o600, None).unwrap();
        assert_eq!(mode(), 0o711);
        let above = bind(&directory.path().join("no/such/c.sock"), 0o600, None).unwrap_err();
        assert!(matches!(above, BindError::Refused { kind: std::io::ErrorKind::NotFound, .. }), "{above}");
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err());
        let _listener = bind(&path, 0o600, None).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(names(directory.path()), ["app.sock"]);
    }

    #[test]
    fn a_socket_on_which_somebody_listens_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(bind(&path, 0o600, None).unwrap_err(), BindError::InUse(path.clone()));
        assert!(UnixStream::connect(&path).is_ok());
        drop(listener);
        let other = directory.path().join("datagrams.sock");
        let _datagrams = UnixDatagram::bind(&other).unwrap();
        assert_eq!(bind(&other, 0o600, None).unwrap_err(), BindError::InUse(other));
    }

    #[test]
    fn what_took_the_place_of_a_stale_socket_meanwhile_is_left_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        drop(UnixListener::bind(&path).unwrap());
        let stale = look(&path).unwrap().unwrap();
        let kept = directory.path().join("kept");
        std::fs::rename(&path, &kept).unwrap();
        std::fs::write(&path, "quicker").unwrap();
        let aside = Aside::beside(directory.path()).unwrap();
        assert_eq!(clear(&path, &stale, &aside).unwrap_err(), BindError::InUse(path.clone()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "quicker");
        std::fs::rename(&kept, &path).unwrap();
        assert_eq!(clear(&path, &stale, &aside), Ok(()));
        drop(aside);
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn what_is_not_a_socket_is_never_removed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "keep").unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link, &directory.path().to_path_buf()] {
            assert_eq!(bind(path, 0o600, None).unwrap_err(), BindError::NotASocket(path.clone()));
        }
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "keep");
        assert_eq!(names(directory.path()), ["file", "link"]);
    }
}
