//! What the configuration asks of the host: files, variables, users. Implemented by an edge, and by doubles in tests.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The host around the configuration.
pub trait Surroundings {
    /// Reads a file.
    ///
    /// # Errors
    /// As the file system says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The permission bits of a file.
    ///
    /// # Errors
    /// As the file system says.
    fn mode(&self, path: &Path) -> io::Result<u32>;

    /// The `*.toml` files of a directory, in the order of their names. None if there is no directory.
    fn list(&self, directory: &Path) -> Vec<PathBuf>;

    /// All environment variables that are text.
    fn variables(&self) -> BTreeMap<String, String>;

    /// The id of a user.
    fn user_id(&self, name: &str) -> Option<u32>;

    /// The id of a group.
    fn group_id(&self, name: &str) -> Option<u32>;
}
