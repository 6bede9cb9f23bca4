//! The `sealed-file` store: one sealed file for each integration, replaced whole.
//!
//! Written aside, synced, renamed, and the directory synced: a crash leaves the old record or the new one, never half of one.
//! A generation never goes backwards.

use crate::lifecycle::{Completion, Identity, Loaded, NotARecord, Record, StoreFault};
use crate::seal::{Purpose, SALT, open, seal};
use crate::secret::SealKey;
use aws_lc_rs::rand;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Records as sealed files in one directory.
pub struct SealedFiles {
    directory: PathBuf,
    key: Arc<SealKey>,
}

impl SealedFiles {
    /// Files below `directory`, sealed with `key`. Touches nothing yet.
    #[must_use]
    pub const fn new(directory: PathBuf, key: Arc<SealKey>) -> Self {
        Self { directory, key }
    }

    /// Where an integration's record is.
    #[must_use]
    pub fn path(&self, identity: &Identity) -> PathBuf {
        self.directory.join(format!("{}.sealed", identity.integration))
    }

    pub(super) async fn store(&self, record: &Record) -> Completion {
        let identity = record.identity.clone();
        let (path, key, generation) = (self.path(&identity), Arc::clone(&self.key), record.generation);
        let json = record.to_json();
        if json.len() > Record::MAX_BYTES {
            return Completion::StoreFailed(StoreFault::Quota);
        }
        let write = move || match read(&path, &key, &identity) {
            Read::Record(old) if old.generation == generation => {
                if old.to_json().expose_secret() == json.expose_secret() {
                    Completion::Stored
                } else {
                    Completion::IdTaken
                }
            }
            Read::Record(old) if old.generation > generation => Completion::IdTaken,
            Read::Unusable(_) => Completion::StoreFailed(StoreFault::Other),
            Read::Failed => Completion::StoreFailed(StoreFault::Unreachable),
            Read::Record(_) | Read::Nothing => {
                let mut salt = [0; SALT];
                let sealed = rand::fill(&mut salt)
                    .ok()
                    .and_then(|()| seal(&key, Purpose::SealedFile, &context(&identity), salt, &json));
                match sealed.map(|bytes| replace(&path, &bytes)) {
                    Some(Ok(())) => Completion::Stored,
                    Some(Err(error)) => {
                        tracing::warn!(integration = %identity.integration, cause = %error.kind(), "sealed file not written");
                        Completion::StoreFailed(fault_of(&error))
                    }
                    None => Completion::StoreFailed(StoreFault::Key),
                }
            }
        };
        tokio::task::spawn_blocking(write).await.unwrap_or(Completion::StoreFailed(StoreFault::Other))
    }

    pub(super) async fn delete(&self, identity: &Identity) -> Completion {
        let path = self.path(identity);
        let remove = move || {
            let gone = match std::fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                end => {
                    end.and_then(|()| File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all())
                }
            };
            gone.map_or_else(|error| Completion::StoreFailed(fault_of(&error)), |()| Completion::Deleted)
        };
        tokio::task::spawn_blocking(remove).await.unwrap_or(Completion::StoreFailed(StoreFault::Other))
    }

    pub(super) async fn load(&self, identity: &Identity) -> Completion {
        let (path, key, identity) = (self.path(identity), Arc::clone(&self.key), identity.clone());
        let read = move || match read(&path, &key, &identity) {
            Read::Record(record) => Completion::Loaded(Loaded::Record(record)),
            Read::Nothing => Completion::Loaded(Loaded::Empty),
            Read::Unusable(why) => Completion::Loaded(Loaded::Unusable(why)),
            Read::Failed => Completion::LoadFailed(StoreFault::Unreachable),
        };
        tokio::task::spawn_blocking(read).await.unwrap_or(Completion::LoadFailed(StoreFault::Other))
    }
}

enum Read {
    Record(Box<Record>),
    Nothing,
    Unusable(String),
    Failed,
}

fn read(path: &Path, key: &SealKey, identity: &Identity) -> Read {
    let sealed = match std::fs::read(path) {
        Ok(sealed) => sealed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Read::Nothing,
        Err(_unreadable) => return Read::Failed,
    };
    let Some(json) = open(key, Purpose::SealedFile, &context(identity), &sealed) else {
        return Read::Unusable(format!(
            "{} does not open with this seal key for this integration",
            path.display()
        ));
    };
    match Record::from_json(json.expose_secret(), identity) {
        Ok(record) => Read::Record(Box::new(record)),
        Err(NotARecord::Placeholder) => Read::Nothing,
        Err(why @ (NotARecord::Foreign { .. } | NotARecord::Schema { .. } | NotARecord::Damaged)) => {
            Read::Unusable(why.to_string())
        }
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    let aside = path.with_extension("aside");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)?;
    File::open(parent)?.sync_all()
}

fn context(identity: &Identity) -> Vec<u8> {
    format!("{}\0{}\0{}", identity.organization, identity.integration, identity.provider).into_bytes()
}

fn fault_of(error: &io::Error) -> StoreFault {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        StoreFault::Quota
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        StoreFault::Denied
    } else {
        StoreFault::Other
    }
}

#[cfg(test)]
mod tests {
    use super::SealedFiles;
    use crate::lifecycle::testing::{identity, record};
    use crate::lifecycle::{Completion, Loaded};
    use crate::secret::SealKey;
    use std::sync::Arc;

    fn files(home: &tempfile::TempDir, key: u8) -> SealedFiles {
        SealedFiles::new(home.path().join("store"), Arc::new(SealKey::new([key; 32])))
    }

    #[tokio::test]
    async fn a_record_is_found_again_and_a_repeat_is_a_no_op() {
        let home = tempfile::tempdir().unwrap();
        let files = files(&home, 7);
        assert!(matches!(files.load(&identity("github")).await, Completion::Loaded(Loaded::Empty)));
        for _repeat in 0..2 {
            assert!(matches!(files.store(&record("github", 3, "r3")).await, Completion::Stored));
        }
        let Completion::Loaded(Loaded::Record(read)) = files.load(&identity("github")).await else {
            panic!("no record")
        };
        assert_eq!(read.refresh_token.unwrap().expose_secret(), "r3");
    }

    #[tokio::test]
    async fn a_generation_with_other_bytes_or_an_older_one_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let files = files(&home, 7);
        let _stored = files.store(&record("github", 3, "r3")).await;
        assert!(matches!(files.store(&record("github", 3, "other")).await, Completion::IdTaken));
        assert!(matches!(files.store(&record("github", 2, "r2")).await, Completion::IdTaken));
        assert!(matches!(files.store(&record("github", 4, "r4")).await, Completion::Stored));
    }

    #[tokio::test]
    async fn another_key_another_integration_and_a_changed_byte_are_never_used() {
        let home = tempfile::tempdir().unwrap();
        let good = files(&home, 7);
        let _stored = good.store(&record("github", 3, "r3")).await;
        let unusable = |end| matches!(end, Completion::Loaded(Loaded::Unusable(_)));
        assert!(unusable(files(&home, 8).load(&identity("github")).await));
        std::fs::copy(good.path(&identity("github")), good.path(&identity("slack"))).unwrap();
        assert!(unusable(good.load(&identity("slack")).await));
        let mut bytes = std::fs::read(good.path(&identity("github"))).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(good.path(&identity("github")), bytes).unwrap();
        assert!(unusable(good.load(&identity("github")).await));
        assert!(matches!(good.store(&record("github", 4, "r4")).await, Completion::StoreFailed(_)));
    }

    #[tokio::test]
    async fn no_token_reaches_the_disk_in_clear() {
        let home = tempfile::tempdir().unwrap();
        let files = files(&home, 7);
        let _stored = files.store(&record("github", 3, "canary-refresh")).await;
        let bytes = std::fs::read(files.path(&identity("github"))).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary" || window == b"schema"));
    }
}
