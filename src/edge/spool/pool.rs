//! Pools of cells of one size in preallocated segment files.
//!
//! A cell is written at once and synced before it counts. Replacing means: write another cell, sync, and only then free
//! the old one; so a torn write never takes an older cell with it. A descriptor whose sync failed is never trusted again.

use crate::lifecycle::SpoolFault;
use rustix::fs::{FallocateFlags, fallocate};
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Cells of one size.
pub(super) struct Pool {
    directory: PathBuf,
    prefix: &'static str,
    size: usize,
    count: u32,
    segments: Vec<Segment>,
}

struct Segment {
    file: File,
    free: BTreeSet<u32>,
    trusted: bool,
}

/// Where a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    segment: usize,
    cell: u32,
}

/// What a cell was found to hold.
pub(super) struct Cell {
    pub(super) place: Place,
    pub(super) bytes: Vec<u8>,
}

/// Magic and length stand before what a cell holds.
const HEAD: usize = 12;
const MAGIC: &[u8; 8] = b"grantd\x001";
/// Fewer free cells than this and another segment is made, before it is needed.
const FEW: usize = 8;
/// The least that must be free on the disk before something is spent, in bytes.
pub(super) const ROOM: u64 = 256 * 1024;

impl Pool {
    /// Opens the segments of a pool and gives what their cells hold.
    pub(super) fn open(
        directory: &Path,
        prefix: &'static str,
        size: usize,
        count: u32,
    ) -> io::Result<(Self, Vec<Cell>)> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut pool = Self { directory: directory.into(), prefix, size, count, segments: Vec::new() };
        let mut held = Vec::new();
        while let Some(file) = pool.existing(pool.segments.len())? {
            held.extend(pool.scan(file)?);
        }
        pool.ensure_free()?;
        Ok((pool, held))
    }

    /// Makes sure that there are free cells, so that a full disk cannot bite later.
    pub(super) fn ensure_free(&mut self) -> io::Result<()> {
        if self.free() < FEW { self.grow() } else { Ok(()) }
    }

    /// As [`Pool::ensure_free`], and that the disk is not full: what is sealed here must go on to a store that may need room on it.
    pub(super) fn ensure_room(&mut self) -> io::Result<()> {
        let disk = rustix::fs::statvfs(&self.directory)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.ensure_free()
    }

    fn free(&self) -> usize {
        self.segments.iter().filter(|segment| segment.trusted).map(|segment| segment.free.len()).sum()
    }

    /// Writes one cell and syncs it. After a failed sync it tries once more, in a fresh segment.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<Place, SpoolFault> {
        match self.try_write(bytes) {
            Ok(place) => Ok(place),
            Err(_first) => {
                tracing::error!("the disk refused a write of the spool; trying a fresh file");
                self.grow().map_err(|error| fault_of(&error))?;
                self.try_write(bytes).map_err(|error| fault_of(&error))
            }
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<Place> {
        if bytes.len() + HEAD > self.size {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let found = self
            .segments
            .iter_mut()
            .enumerate()
            .filter(|(_, segment)| segment.trusted)
            .find_map(|(index, segment)| segment.free.pop_first().map(|cell| (index, segment, cell)));
        let Some((index, segment, cell)) = found else {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        };
        let mut whole = Vec::with_capacity(HEAD + bytes.len());
        whole.extend_from_slice(MAGIC);
        whole.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        whole.extend_from_slice(bytes);
        let written = segment
            .file
            .write_all_at(&whole, offset(cell, self.size))
            .and_then(|()| segment.file.sync_data());
        if written.is_err() {
            // A failed sync may be reported once only; what this descriptor says later cannot be believed.
            segment.trusted = false;
        }
        written.map(|()| Place { segment: index, cell })
    }

    /// Frees a cell: its head is overwritten, then all of it.
    pub(super) fn scrub(&mut self, place: Place) -> Result<(), SpoolFault> {
        let size = self.size;
        let Some(segment) = self.segments.get_mut(place.segment) else { return Ok(()) };
        let mut head = [0_u8; HEAD];
        let at = offset(place.cell, size);
        segment.file.read_exact_at(&mut head, at).map_err(|error| fault_of(&error))?;
        let length = length_of(&head).unwrap_or(0).min(size - HEAD);
        segment.file.write_all_at(&vec![0; HEAD + length], at).map_err(|error| fault_of(&error))?;
        segment.free.insert(place.cell);
        Ok(())
    }

    /// Makes scrubs durable.
    pub(super) fn sync(&self) -> Result<(), SpoolFault> {
        for segment in self.segments.iter().filter(|segment| segment.trusted) {
            segment.file.sync_data().map_err(|error| fault_of(&error))?;
        }
        Ok(())
    }

    fn existing(&self, index: usize) -> io::Result<Option<File>> {
        match OpenOptions::new().read(true).write(true).open(self.path(index)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn scan(&mut self, file: File) -> io::Result<Vec<Cell>> {
        let index = self.segments.len();
        // What a killed daemon wrote and did not sync is seen in the cache, and is relied on from here on.
        file.sync_data()?;
        file.set_len(u64::from(self.count) * self.size as u64)?;
        let (mut held, mut free) = (Vec::new(), BTreeSet::new());
        let mut head = [0_u8; HEAD];
        for cell in 0..self.count {
            let at = offset(cell, self.size);
            file.read_exact_at(&mut head, at)?;
            match length_of(&head).filter(|length| length + HEAD <= self.size) {
                Some(length) => {
                    let mut bytes = vec![0; length];
                    file.read_exact_at(&mut bytes, at + HEAD as u64)?;
                    held.push(Cell { place: Place { segment: index, cell }, bytes });
                }
                None => {
                    free.insert(cell);
                }
            }
        }
        self.segments.push(Segment { file, free, trusted: true });
        Ok(held)
    }

    fn grow(&mut self) -> io::Result<()> {
        let path = self.path(self.segments.len());
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let length = u64::from(self.count) * self.size as u64;
        let made = fallocate(&file, FallocateFlags::empty(), 0, length)
            .map_err(io::Error::from)
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(&self.directory)?.sync_all());
        if let Err(error) = made {
            // A half-made segment would be found, and found short, at the next start.
            return std::fs::remove_file(&path).and(Err(error));
        }
        self.segments.push(Segment { file, free: (0..self.count).collect(), trusted: true });
        Ok(())
    }

    fn path(&self, index: usize) -> PathBuf {
        self.directory.join(format!("{}-{index:04}", self.prefix))
    }
}

fn offset(cell: u32, size: usize) -> u64 {
    u64::from(cell) * size as u64
}

fn length_of(head: &[u8; HEAD]) -> Option<usize> {
    let length = head.strip_prefix(MAGIC)?;
    Some(u32::from_be_bytes(length.try_into().ok()?) as usize)
}

pub(super) fn fault_of(error: &io::Error) -> SpoolFault {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    if full { SpoolFault::Full } else { SpoolFault::Broken }
}
