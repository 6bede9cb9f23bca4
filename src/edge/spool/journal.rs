//! What is kept for each integration: at most one intent, one sealed answer and one mark, each in a cell of its own.
//!
//! Every cell is sealed; whose it is stands inside. The highest sequence number wins. Cells that do not authenticate are
//! copied to quarantine and never used.

use super::cells::{Place, Pool, fault_of};
use crate::lifecycle::{
    Found, Identity, IntegrationId, Intent, Mark, OrganizationId, ProviderId, Sealed, Slot, SlotFate,
    SpoolFault,
};
use crate::seal::{Purpose, SALT, open, seal};
use crate::secret::{SealKey, SecretBytes};
use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};
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
    answer: Option<(u64, Place, Arc<Sealed>)>,
    mark: Option<(u64, Place, Mark)>,
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
        let (small, few) = Pool::open(&folder, "small", SMALL, 1024).map_err(unusable)?;
        let (large, many) = Pool::open(&folder, "large", LARGE, 32).map_err(unusable)?;
        let mut state = State { key, small, large, sequence: 0, held: BTreeMap::new(), _lock: lock };
        let mut unreadable = Vec::new();
        let total = few.len() + many.len();
        let cells =
            few.into_iter().map(|cell| (false, cell)).chain(many.into_iter().map(|cell| (true, cell)));
        for (is_large, cell) in cells {
            if !state.adopt(cell.place, &cell.bytes) {
                unreadable.push((is_large, cell.place, cell.bytes));
            }
        }
        if !unreadable.is_empty() && unreadable.len() == total {
            return Err(SpoolError::WrongKey(directory.display().to_string()));
        }
        let mut leftovers = Vec::new();
        for (is_large, place, bytes) in unreadable {
            let copy = quarantine(directory, &bytes).map_err(unusable)?;
            let pool = if is_large { &mut state.large } else { &mut state.small };
            // If it cannot be scrubbed it is found again at the next start.
            let _scrubbed = pool.scrub(place);
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
        let (mut done_large, mut done_small) = (Vec::new(), Vec::new());
        if held.answer.as_ref().is_some_and(|(_, _, sealed)| sealed.generation <= mark.generation) {
            done_large.extend(held.answer.take().map(|(_, place, _)| place));
        }
        if held.intent.as_ref().is_some_and(|(_, _, intent)| intent.generation < mark.generation) {
            done_small.extend(held.intent.take().map(|(_, place, _)| place));
        }
        let slot = match (&held.answer, &held.intent) {
            (Some((_, _, sealed)), _) => Slot::Answered(Arc::clone(sealed)),
            (None, Some((_, _, intent))) => Slot::Intended(intent.clone()),
            (None, None) => Slot::Free,
        };
        for place in done_large {
            let _later = state.large.scrub(place);
        }
        for place in done_small {
            let _later = state.small.scrub(place);
        }
        Found { mark, slot }
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
                !configured.contains(identity) && (held.answer.is_some() || held.intent.is_some())
            })
            .map(|(identity, _)| Leftover::Unconfigured(identity.clone()))
            .collect()
    }

    /// Makes an intent durable, and a place for its answer sure.
    ///
    /// # Errors
    /// [`SpoolFault`]: nothing must be spent.
    pub fn intend(&self, identity: &Identity, intent: &Intent) -> Result<(), SpoolFault> {
        let mut state = self.state();
        state.large.ensure_free().map_err(|error| fault_of(&error))?;
        let (sequence, place) = state.write(identity, Body::Intent(intent))?;
        let old =
            state.held.entry(identity.clone()).or_default().intent.replace((sequence, place, intent.clone()));
        state.scrub_small(old.map(|(_, place, _)| place))
    }

    /// Makes a raw answer durable. It takes the place of the intent and of an older answer.
    ///
    /// # Errors
    /// [`SpoolFault`]: the answer is in memory alone.
    pub fn seal(&self, identity: &Identity, sealed: &Arc<Sealed>) -> Result<(), SpoolFault> {
        let mut state = self.state();
        let (sequence, place) = state.write(identity, Body::Answer(sealed))?;
        let held = state.held.entry(identity.clone()).or_default();
        let old = held.answer.replace((sequence, place, Arc::clone(sealed))).map(|(_, place, _)| place);
        let intent = held.intent.take().map(|(_, place, _)| place);
        if let Some(place) = old {
            state.large.scrub(place)?;
        }
        state.scrub_small(intent)
    }

    /// Makes a mark durable, then does with the slot as told.
    ///
    /// # Errors
    /// [`SpoolFault`].
    pub fn mark(&self, identity: &Identity, mark: Mark, slot: SlotFate) -> Result<(), SpoolFault> {
        let mut state = self.state();
        let same = state.held.get(identity).and_then(|held| held.mark).is_some_and(|(_, _, old)| old == mark);
        if !same {
            let (sequence, place) = state.write(identity, Body::Mark(mark))?;
            let old = state.held.entry(identity.clone()).or_default().mark.replace((sequence, place, mark));
            state.scrub_small(old.map(|(_, place, _)| place))?;
        }
        if slot == SlotFate::Kept {
            return Ok(());
        }
        let Some(held) = state.held.get_mut(identity) else { return Ok(()) };
        let (answer, intent) = (held.answer.take(), held.intent.take());
        if let Some((_, place, _)) = answer {
            state.large.scrub(place)?;
            state.large.sync()?;
        }
        if let Some((_, place, _)) = intent {
            state.small.scrub(place)?;
            state.small.sync()?;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is valid between any two statements; a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Body<'a> {
    Intent(&'a Intent),
    Answer(&'a Sealed),
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

impl State {
    fn write(&mut self, identity: &Identity, body: Body<'_>) -> Result<(u64, Place), SpoolFault> {
        self.sequence += 1;
        let (intent, mark) = match &body {
            Body::Intent(intent) => (Some((*intent).clone()), None),
            Body::Mark(mark) => (None, Some(*mark)),
            Body::Answer(_) => (None, None),
        };
        let label = Label {
            integration: identity.integration.as_str().into(),
            organization: identity.organization.as_str().into(),
            provider: identity.provider.as_str().into(),
            sequence: self.sequence,
            intent,
            mark,
        };
        let label = serde_json::to_vec(&label).map_err(|_unserializable| SpoolFault::Broken)?;
        let mut plain = u32::try_from(label.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        plain.extend_from_slice(&label);
        if let Body::Answer(sealed) = &body {
            plain.extend_from_slice(sealed.to_bytes().expose_secret());
        }
        let mut salt = [0; SALT];
        rand::fill(&mut salt).map_err(|_unspecified| SpoolFault::Broken)?;
        let sealed = seal(&self.key, Purpose::Spool, CONTEXT, salt, &SecretBytes::new(plain))
            .ok_or(SpoolFault::Broken)?;
        let pool = if matches!(body, Body::Answer(_)) { &mut self.large } else { &mut self.small };
        let place = pool.write(&sealed)?;
        if let Err(error) = pool.ensure_free() {
            tracing::warn!(error = %error.kind(), "the spool cannot make room ahead");
        }
        Ok((self.sequence, place))
    }

    fn scrub_small(&mut self, place: Option<Place>) -> Result<(), SpoolFault> {
        // Not synced: until then both cells are there, and the higher sequence number wins.
        place.map_or(Ok(()), |place| self.small.scrub(place))
    }

    /// Takes a cell found at start. False if it does not open.
    fn adopt(&mut self, place: Place, bytes: &[u8]) -> bool {
        let Some((identity, label, sealed)) = read(&self.key, bytes) else { return false };
        self.sequence = self.sequence.max(label.sequence);
        let held = self.held.entry(identity).or_default();
        let sequence = label.sequence;
        if let Some(intent) = label.intent {
            if held.intent.as_ref().is_none_or(|(old, _, _)| *old < sequence) {
                held.intent = Some((sequence, place, intent));
            }
        } else if let Some(mark) = label.mark {
            if held.mark.is_none_or(|(old, _, _)| old < sequence) {
                held.mark = Some((sequence, place, mark));
            }
        } else if let Some(sealed) = sealed
            && held.answer.as_ref().is_none_or(|(old, _, _)| *old < sequence)
        {
            held.answer = Some((sequence, place, Arc::new(sealed)));
        }
        true
    }
}

fn read(key: &SealKey, bytes: &[u8]) -> Option<(Identity, Label, Option<Sealed>)> {
    let plain = open(key, Purpose::Spool, CONTEXT, bytes)?;
    let (length, rest) = plain.expose_secret().split_first_chunk::<4>()?;
    let (label, body) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let label: Label = serde_json::from_slice(label).ok()?;
    let identity = Identity {
        integration: IntegrationId::parse(&label.integration).ok()?,
        organization: OrganizationId::parse(&label.organization).ok()?,
        provider: ProviderId::parse(&label.provider).ok()?,
    };
    let sealed =
        if label.intent.is_none() && label.mark.is_none() { Some(Sealed::from_bytes(body)?) } else { None };
    Some((identity, label, sealed))
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

fn quarantine(directory: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let folder = directory.join("quarantine");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let copy = folder.join(format!("{}.cell", uuid::Uuid::new_v4()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    File::open(&folder)?.sync_all()?;
    Ok(copy)
}

const CONTEXT: &[u8] = b"grantd spool cell";
const SMALL: usize = 1024;
/// An answer of 256 KiB, its context (a refresh token of some KiB among it), the seal and the head.
const LARGE: usize = 288 * 1024;

#[cfg(test)]
mod tests {
    use super::{Leftover, Spool, SpoolError};
    use crate::lifecycle::testing::identity;
    use crate::lifecycle::{Account, Answer, Intent, Mark, Purpose, Sealed, Slot, SlotFate, Standing};
    use crate::secret::{RefreshToken, SealKey, SecretBytes};
    use crate::time::Timestamp;
    use std::path::Path;
    use std::sync::Arc;

    fn spool(directory: &Path) -> Spool {
        Spool::open(directory, Arc::new(SealKey::new([7; 32]))).unwrap().0
    }

    fn intent(generation: u64) -> Intent {
        Intent { purpose: Purpose::Refresh, generation, attempt: 1, at: Timestamp::EPOCH }
    }

    fn answer(generation: u64, body: usize) -> Arc<Sealed> {
        Arc::new(Sealed {
            purpose: Purpose::Refresh,
            generation,
            account: Account::default(),
            scope: None,
            presented: Some(RefreshToken::new("canary-presented")),
            presented_expires_at: None,
            nonce: None,
            answer: Arc::new(Answer {
                status: 200,
                form_encoded: false,
                retry_after: None,
                whole: true,
                body: SecretBytes::new(vec![b'c'; body]),
                received_at: Timestamp::EPOCH,
            }),
        })
    }

    fn marked(generation: u64) -> Mark {
        Mark { generation, standing: Standing::Normal }
    }

    #[test]
    fn what_is_kept_is_found_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let (one, two) = (identity("one"), identity("two"));
        {
            let spool = spool(home.path());
            spool.intend(&one, &intent(3)).unwrap();
            spool.intend(&two, &intent(8)).unwrap();
            spool.seal(&two, &answer(9, Answer::MAX_BODY)).unwrap();
            spool.mark(&two, marked(8), SlotFate::Kept).unwrap();
        }
        let spool = spool(home.path());
        assert!(matches!(spool.find(&one).slot, Slot::Intended(intent) if intent.generation == 3));
        let found = spool.find(&two);
        assert_eq!(found.mark, marked(8));
        assert!(matches!(found.slot, Slot::Answered(sealed) if sealed.answer.body.len() == Answer::MAX_BODY));
        assert!(matches!(spool.find(&identity("three")).slot, Slot::Free));
    }

    #[test]
    fn a_mark_scrubs_the_slot_and_outlives_it() {
        let home = tempfile::tempdir().unwrap();
        let who = identity("one");
        for generation in 1..=2000 {
            let spool = spool(home.path());
            for generation in generation * 5..generation * 5 + 5 {
                spool.intend(&who, &intent(generation)).unwrap();
                spool.seal(&who, &answer(generation + 1, 10)).unwrap();
                spool.mark(&who, marked(generation + 1), SlotFate::Scrubbed).unwrap();
            }
            if generation > 12 {
                break;
            }
        }
        let spool = spool(home.path());
        let found = spool.find(&who);
        assert!(matches!(found.slot, Slot::Free));
        assert_eq!(found.mark.generation, 70);
        let files = std::fs::read_dir(home.path().join("spool")).unwrap().count();
        assert_eq!(files, 2, "cells are used again");
    }

    #[test]
    fn an_answer_at_or_below_the_high_water_mark_is_done() {
        let home = tempfile::tempdir().unwrap();
        let who = identity("one");
        let spool = spool(home.path());
        spool.seal(&who, &answer(4, 10)).unwrap();
        spool.mark(&who, marked(4), SlotFate::Kept).unwrap();
        assert!(matches!(spool.find(&who).slot, Slot::Free));
    }

    #[test]
    fn a_torn_newer_cell_leaves_the_older_one() {
        let home = tempfile::tempdir().unwrap();
        let who = identity("one");
        {
            let spool = spool(home.path());
            spool.mark(&who, marked(1), SlotFate::Kept).unwrap();
            spool.mark(&who, marked(2), SlotFate::Kept).unwrap();
        }
        // As if the second mark's write had been torn, and the first one's scrub never reached the disk.
        let file = home.path().join("spool/small-0000");
        let mut bytes = std::fs::read(&file).unwrap();
        let second = bytes[1024..2048].to_vec();
        {
            let fresh = tempfile::tempdir().unwrap();
            let spool = spool(fresh.path());
            spool.mark(&who, marked(1), SlotFate::Kept).unwrap();
            drop(spool);
            let older = std::fs::read(fresh.path().join("spool/small-0000")).unwrap();
            bytes[..1024].copy_from_slice(&older[..1024]);
        }
        bytes[1024..2048].copy_from_slice(&second);
        bytes[1100] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let (spool, leftovers) = Spool::open(home.path(), Arc::new(SealKey::new([7; 32]))).unwrap();
        assert_eq!(spool.find(&who).mark, marked(1));
        let [Leftover::Unreadable { copy }] = leftovers.as_slice() else { panic!("{leftovers:?}") };
        assert!(copy.exists());
    }

    #[test]
    fn another_key_and_another_daemon_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let first = spool(home.path());
        first.intend(&identity("one"), &intent(1)).unwrap();
        let again = Spool::open(home.path(), Arc::new(SealKey::new([7; 32])));
        assert!(matches!(again, Err(SpoolError::Locked(_))));
        drop(first);
        let other = Spool::open(home.path(), Arc::new(SealKey::new([8; 32])));
        assert!(matches!(other, Err(SpoolError::WrongKey(_))));
    }

    #[test]
    fn no_secret_reaches_the_disk_in_clear() {
        let home = tempfile::tempdir().unwrap();
        let spool = spool(home.path());
        spool.seal(&identity("one"), &answer(2, 64)).unwrap();
        let bytes = std::fs::read(home.path().join("spool/large-0000")).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary" || window == b"cccccc"));
    }

    #[test]
    fn cells_of_an_integration_that_is_gone_are_reported_and_stay() {
        let home = tempfile::tempdir().unwrap();
        let (one, two) = (identity("one"), identity("two"));
        let spool = spool(home.path());
        spool.seal(&one, &answer(2, 64)).unwrap();
        assert_eq!(spool.unconfigured([&two].into_iter()), [Leftover::Unconfigured(one.clone())]);
        assert!(spool.unconfigured([&one].into_iter()).is_empty());
    }
}
