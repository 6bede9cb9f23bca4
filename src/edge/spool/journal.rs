//! What is kept for each integration: at most one intent, one mark, and the sealed answers that the store does not hold yet, each
//! in a cell of its own.
//!
//! Every cell is sealed; whose it is stands inside. The highest sequence number wins. Cells that do not authenticate are
//! copied to quarantine and never used.

use super::cell::{self, Body, Cell, Content, KeyCheck, read, write};
use super::host::{self, Elsewhere};
use super::pool::{self, Place, Pool, fault_of};
use crate::lifecycle::{Found, Identity, Intent, Mark, Purpose, Sealed, SlotFate, SpoolFault};
use crate::secret::SealKey;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The sealed write-ahead spool. Cheap to clone.
#[derive(Clone)]
pub struct Spool(Arc<Mutex<State>>);

struct State {
    directory: PathBuf,
    key: Arc<SealKey>,
    small: Pool,
    large: Pool,
    sequence: u64,
    held: BTreeMap<Identity, Held>,
    /// Held for its lock alone: one daemon for one state directory.
    _lock: File,
}

/// The cells of one integration, each with its sequence number.
#[derive(Default)]
struct Held {
    intent: Option<(u64, Place, Intent)>,
    /// By generation: what the store does not hold yet, and consents that nobody has decided on.
    answers: BTreeMap<u64, (u64, Place, Arc<Sealed>)>,
    mark: Option<(u64, Place, Mark)>,
    /// A later mark was refused by the disk, and may stand on it all the same.
    mark_in_doubt: bool,
}

/// Something in the spool that no configured integration will pick up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// A cell did not authenticate; a copy is in quarantine.
    Unreadable {
        /// Where the copy is.
        copy: PathBuf,
    },
    /// Cells of an integration that is not configured; they stay where they are.
    Unconfigured(Identity),
}

/// Why the spool cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// Another daemon runs on this state directory.
    #[error("another grantd runs on {0}: stop it first, or give this one another state.directory")]
    Locked(String),
    /// The directory cannot be used.
    #[error("{path} cannot be used ({kind}): let grantd's user own state.directory")]
    Unusable {
        /// The state directory.
        path: String,
        /// The kind of error.
        kind: io::ErrorKind,
    },
    /// The state directory was copied, restored or moved from somewhere else.
    #[error(transparent)]
    Elsewhere(#[from] Elsewhere),
    /// Nothing in the spool opens with this key.
    #[error("the seal key does not open what is sealed in {0}: configure the key that sealed it")]
    WrongKey(String),
}

impl Spool {
    /// Takes the lock of a state directory and reads its spool.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn open(directory: &Path, key: Arc<SealKey>) -> Result<(Self, Vec<Leftover>), SpoolError> {
        let unusable = |error: io::Error| SpoolError::Unusable {
            path: directory.display().to_string(),
            kind: error.kind(),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable)?;
        let lock = lock(directory)?;
        let folder = directory.join("spool");
        host::check(directory, &folder)?;
        let checked = cell::check(directory, &key);
        if checked == KeyCheck::Another {
            return Err(SpoolError::WrongKey(directory.display().to_string()));
        }
        let (small, few) = Pool::open(&folder, "small", SMALL, 1024).map_err(unusable)?;
        let (large, many) = Pool::open(&folder, "large", LARGE, 32).map_err(unusable)?;
        let mut state = State {
            directory: directory.into(),
            key,
            small,
            large,
            sequence: 0,
            held: BTreeMap::new(),
            _lock: lock,
        };
        let mut unreadable = Vec::new();
        let total = few.len() + many.len();
        let cells =
            few.into_iter().map(|cell| (false, cell)).chain(many.into_iter().map(|cell| (true, cell)));
        for (is_large, cell) in cells {
            match state.adopt(cell.place, &cell.bytes) {
                Adopted::Newest => {}
                Adopted::Over(place) => state.scrub_in(is_large, place),
                Adopted::Not => unreadable.push((is_large, cell.place, cell.bytes)),
            }
        }
        // Without a note of the key, a spool in which nothing opens belongs to another one.
        if checked == KeyCheck::Unknown && !unreadable.is_empty() && unreadable.len() == total {
            return Err(SpoolError::WrongKey(directory.display().to_string()));
        }
        host::claim(directory, &folder).map_err(unusable)?;
        if checked == KeyCheck::Unknown {
            cell::note_key(directory, &state.key).map_err(unusable)?;
        }
        let mut leftovers = Vec::new();
        for (is_large, place, bytes) in unreadable {
            let name = uuid::Uuid::new_v4().to_string();
            let copy = quarantine(directory, &name, &bytes).map_err(unusable)?;
            state.scrub_in(is_large, place);
            leftovers.push(Leftover::Unreadable { copy });
        }
        Ok((Self(Arc::new(Mutex::new(state))), leftovers))
    }

    /// Whether anything was ever sealed in a state directory.
    #[must_use]
    pub fn has_sealed_data(directory: &Path) -> bool {
        ["spool", "store"].iter().any(|folder| {
            std::fs::read_dir(directory.join(folder)).is_ok_and(|mut entries| entries.next().is_some())
        })
    }

    /// What is kept for one integration. Done answers and intents, below the high-water mark, are scrubbed.
    #[must_use]
    pub fn find(&self, identity: &Identity) -> Found {
        let mut state = self.state();
        let Some(held) = state.held.get_mut(identity) else { return Found::default() };
        let mark = held.mark.map(|(_, _, mark)| mark).unwrap_or_default();
        // What a provider must still be told of has no place in the order of generations.
        let done: Vec<Place> = held
            .answers
            .extract_if(..=mark.generation, |_, (_, _, sealed)| sealed.purpose != Purpose::Revocation)
            .map(|(_, (_, place, _))| place)
            .collect();
        // An answer that is newer than the intent is what came of it.
        let last = held.answers.values().map(|(sequence, _, _)| *sequence).max().unwrap_or(0);
        let over = held
            .intent
            .as_ref()
            .is_some_and(|(sequence, _, intent)| *sequence < last || intent.generation < mark.generation);
        let old = if over { held.intent.take().map(|(_, place, _)| place) } else { None };
        let answers = held.answers.values().map(|(_, _, sealed)| Arc::clone(sealed)).collect();
        let intent = held.intent.as_ref().map(|(_, _, intent)| intent.clone());
        for place in done {
            let _later = state.large.scrub(place);
        }
        let _later = state.scrub_small(old);
        Found { mark, answers, intent }
    }

    /// Those of whom something is kept, but for the given ones.
    #[must_use]
    pub fn unconfigured<'a>(&self, configured: impl Iterator<Item = &'a Identity>) -> Vec<Leftover> {
        let configured: std::collections::BTreeSet<&Identity> = configured.collect();
        let state = self.state();
        state
            .held
            .iter()
            .filter(|(identity, held)| {
                !configured.contains(identity) && (!held.answers.is_empty() || held.intent.is_some())
            })
            .map(|(identity, _)| Leftover::Unconfigured(identity.clone()))
            .collect()
    }

    /// The state directory.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.state().directory.clone()
    }

    /// Whether there is room for a token, on a disk that takes writes.
    ///
    /// # Errors
    /// [`SpoolFault`].
    pub fn ready(&self) -> Result<(), SpoolFault> {
        let mut state = self.state();
        state
            .small
            .ensure_room()
            .and_then(|()| state.large.ensure_room())
            .map_err(|error| fault_of(&error))?;
        writable(&state.directory)
    }

    /// Makes an intent durable, and a place for its answer sure.
    ///
    /// # Errors
    /// [`SpoolFault`]: nothing must be spent.
    pub fn intend(&self, identity: &Identity, intent: &Intent) -> Result<(), SpoolFault> {
        let mut state = self.state();
        state.large.ensure_room().map_err(|error| fault_of(&error))?;
        let (sequence, place) = state.write(identity, Body::Intent(intent))?;
        let old =
            state.held.entry(identity.clone()).or_default().intent.replace((sequence, place, intent.clone()));
        state.scrub_small(old.map(|(_, place, _)| place))
    }

    /// Makes a raw answer durable. It takes the place of the intent, and of an answer of the same generation.
    ///
    /// # Errors
    /// [`SpoolFault`]: the answer is in memory alone.
    pub fn seal(&self, identity: &Identity, sealed: &Arc<Sealed>) -> Result<(), SpoolFault> {
        let mut state = self.state();
        let (sequence, place) = state.write(identity, Body::Answer(sealed))?;
        let held = state.held.entry(identity.clone()).or_default();
        let old = held.answers.insert(sealed.generation, (sequence, place, Arc::clone(sealed)));
        let intent = held.intent.take().map(|(_, place, _)| place);
        if let Some((_, place, _)) = old {
            state.large.scrub(place)?;
        }
        state.scrub_small(intent)
    }

    /// Makes a mark durable, then does with the slot as told.
    ///
    /// # Errors
    /// [`SpoolFault`].
    pub fn mark(&self, identity: &Identity, mark: Mark, slot: &SlotFate) -> Result<(), SpoolFault> {
        let mut state = self.state();
        let held = state.held.entry(identity.clone()).or_default();
        let same = held.mark.is_some_and(|(_, _, old)| old == mark) && !held.mark_in_doubt;
        if !same {
            held.mark_in_doubt = true;
            let (sequence, place) = state.write(identity, Body::Mark(mark))?;
            let held = state.held.entry(identity.clone()).or_default();
            held.mark_in_doubt = false;
            let old = held.mark.replace((sequence, place, mark));
            state.scrub_small(old.map(|(_, place, _)| place))?;
        }
        let spared: &[u64] = match slot {
            SlotFate::Kept => return Ok(()),
            SlotFate::Spared(generations) => generations,
            SlotFate::Scrubbed => &[],
        };
        let Some(held) = state.held.get_mut(identity) else { return Ok(()) };
        let gone: Vec<Place> = held
            .answers
            .extract_if(.., |generation, _| !spared.contains(generation))
            .map(|(_, (_, place, _))| place)
            .collect();
        let intent = held.intent.take().map(|(_, place, _)| place);
        if !gone.is_empty() {
            for place in gone {
                state.large.scrub(place)?;
            }
            state.large.sync()?;
        }
        if intent.is_some() {
            state.scrub_small(intent)?;
            state.small.sync()?;
        }
        Ok(())
    }

    /// Keeps a sealed copy of an answer that cannot be read, until somebody removes it.
    ///
    /// # Errors
    /// [`SpoolFault`].
    pub fn quarantine(&self, identity: &Identity, sealed: &Arc<Sealed>) -> Result<(), SpoolFault> {
        let mut state = self.state();
        let bytes = state.sealed_cell(identity, &Body::Answer(sealed))?;
        let name =
            format!("{}-{}-{}", identity.integration, sealed.generation, sealed.answer.received_at.millis());
        quarantine(&state.directory, &name, &bytes).map(drop).map_err(|error| fault_of(&error))
    }

    /// The answers of an integration that are in quarantine, the oldest first.
    #[must_use]
    pub fn quarantined(&self, identity: &Identity) -> Vec<Arc<Sealed>> {
        let state = self.state();
        let Ok(entries) = std::fs::read_dir(state.directory.join(QUARANTINE)) else { return Vec::new() };
        let mut found: Vec<Arc<Sealed>> = entries
            .flatten()
            .filter_map(|entry| std::fs::read(entry.path()).ok())
            .filter_map(|bytes| read(&state.key, &bytes))
            .filter(|cell| cell.identity == *identity)
            .filter_map(|cell| match cell.content {
                Content::Answer(sealed) => Some(Arc::new(sealed)),
                Content::Intent(_) | Content::Mark(_) => None,
            })
            .collect();
        found.sort_by_key(|sealed| (sealed.generation, sealed.answer.received_at));
        found
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is valid between any two statements; a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, identity: &Identity, body: Body<'_>) -> Result<(u64, Place), SpoolFault> {
        let sealed = self.sealed_cell(identity, &body)?;
        let pool = if matches!(body, Body::Answer(_)) { &mut self.large } else { &mut self.small };
        let place = pool.write(&sealed)?;
        if let Err(error) = pool.ensure_free() {
            tracing::warn!(error = %error.kind(), "the spool cannot make room ahead");
        }
        Ok((self.sequence, place))
    }

    /// A cell's bytes, under the next sequence number.
    fn sealed_cell(&mut self, identity: &Identity, body: &Body<'_>) -> Result<Vec<u8>, SpoolFault> {
        self.sequence += 1;
        write(&self.key, identity, self.sequence, body).ok_or(SpoolFault::Broken)
    }

    fn scrub_in(&mut self, is_large: bool, place: Place) {
        let pool = if is_large { &mut self.large } else { &mut self.small };
        // If it cannot be scrubbed it is found again at the next start.
        let _scrubbed = pool.scrub(place);
    }

    fn scrub_small(&mut self, place: Option<Place>) -> Result<(), SpoolFault> {
        // Not synced: until then both cells are there, and the higher sequence number wins.
        place.map_or(Ok(()), |place| self.small.scrub(place))
    }

    /// Takes a cell found at start.
    fn adopt(&mut self, place: Place, bytes: &[u8]) -> Adopted {
        let Some(Cell { identity, sequence, content }) = read(&self.key, bytes) else { return Adopted::Not };
        self.sequence = self.sequence.max(sequence);
        let held = self.held.entry(identity).or_default();
        let older = match content {
            Content::Intent(intent) => replace(&mut held.intent, (sequence, place, intent)),
            Content::Mark(mark) => replace(&mut held.mark, (sequence, place, mark)),
            Content::Answer(sealed) => {
                let mut at = held.answers.remove(&sealed.generation);
                let generation = sealed.generation;
                let older = replace(&mut at, (sequence, place, Arc::new(sealed)));
                held.answers.extend(at.map(|newest| (generation, newest)));
                older
            }
        };
        older.map_or(Adopted::Newest, Adopted::Over)
    }
}

/// What became of a cell that was found at start.
enum Adopted {
    /// It is the newest of its kind so far.
    Newest,
    /// It opens, and this place (its own, or the one that was the newest before it) is over.
    Over(Place),
    /// It does not open.
    Not,
}

/// Keeps the one with the higher sequence number; gives the place of the other.
fn replace<T>(held: &mut Option<(u64, Place, T)>, found: (u64, Place, T)) -> Option<Place> {
    match held {
        Some((sequence, _, _)) if *sequence > found.0 => Some(found.1),
        Some(_) | None => held.replace(found).map(|(_, place, _)| place),
    }
}

fn lock(directory: &Path) -> Result<File, SpoolError> {
    let path = directory.display().to_string();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join("lock"))
        .map_err(|error| SpoolError::Unusable { path: path.clone(), kind: error.kind() })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(SpoolError::Locked(path)),
        Err(std::fs::TryLockError::Error(error)) => Err(SpoolError::Unusable { path, kind: error.kind() }),
    }
}

/// Whether a state directory that is there can be written by this user, and has room. Writes nothing.
///
/// # Errors
/// [`SpoolFault`].
pub fn writable(directory: &Path) -> Result<(), SpoolFault> {
    let may = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(directory, may).map_err(|_denied| SpoolFault::Broken)?;
    let disk = rustix::fs::statvfs(directory).map_err(|_gone| SpoolFault::Broken)?;
    if disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Err(SpoolFault::Broken);
    }
    if disk.f_bavail.saturating_mul(disk.f_frsize) < pool::ROOM { Err(SpoolFault::Full) } else { Ok(()) }
}

fn quarantine(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let folder = directory.join(QUARANTINE);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let copy = folder.join(format!("{name}.cell"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&copy)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    File::open(&folder)?.sync_all()?;
    Ok(copy)
}

const QUARANTINE: &str = "quarantine";
const SMALL: usize = 1024;
/// An answer of 256 KiB, its context (a refresh token of some KiB among it), the seal and the head.
const LARGE: usize = 288 * 1024;
