//! The model of the disk under the spool: cells in segment files, a page cache over them, and what a crash leaves of it.
//!
//! A write is in the cache until its file is synced; a power cut keeps, loses or tears what was not. After a failed sync the
//! descriptor says nothing that can be believed. `journal.rs` beside this file does on it what `edge/spool` does.

use crate::chance::Chance;
use crate::provider::{At, Rt, tokens_in};
use grantd::lifecycle::{Intent, Mark, Sealed, SpoolFault};
use std::rc::Rc;
use std::sync::Arc;

/// What one cell holds.
#[derive(Clone)]
pub(crate) enum Content {
    Free,
    Torn,
    Holds(Rc<Body>),
}

/// A sealed cell's inside.
pub(crate) struct Body {
    pub(crate) who: usize,
    pub(crate) sequence: u64,
    pub(crate) kind: Kind,
}

/// The three kinds of cells.
pub(crate) enum Kind {
    Intent(Intent),
    Answer(Arc<Sealed>),
    Mark(Mark),
}

impl Body {
    pub(crate) fn tokens(&self) -> (Option<At>, Option<Rt>) {
        match &self.kind {
            Kind::Answer(sealed) => tokens_in(sealed.answer.body.expose_secret()),
            Kind::Intent(_) | Kind::Mark(_) => (None, None),
        }
    }
}

struct Cell {
    durable: Content,
    /// Written and not synced, the oldest first.
    cached: Vec<Content>,
    /// Written, its sync failed, and the kernel took its page for clean: what a reader sees until the page goes.
    phantom: Option<Content>,
}

impl Cell {
    const fn free() -> Self {
        Self { durable: Content::Free, cached: Vec::new(), phantom: None }
    }

    fn seen(&self) -> &Content {
        self.cached.last().or(self.phantom.as_ref()).unwrap_or(&self.durable)
    }
}

struct Segment {
    large: bool,
    first: usize,
    free: Vec<bool>,
    trusted: bool,
}

/// Which pool a cell is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pool {
    Small,
    Large,
}

/// Why a step of the disk did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The process ended here.
    Crash,
    Fault(SpoolFault),
}

/// What is wrong with the disk for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fine,
    Full,
    /// Syncs fail now and then, or always.
    SyncsFail(bool),
    ReadOnly,
}

/// What a sabotaged disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    SkipsTheSync,
    /// Syncs the same descriptor again after a failure, and believes it.
    TrustsTheDescriptor,
    /// Frees the older cells before the newer one is durable.
    ReplacesFirst,
}

/// The disk and its page cache.
pub(crate) struct Disk {
    cells: Vec<Cell>,
    segments: Vec<Segment>,
    pub(crate) weather: Weather,
    /// A file system that needs room even for preallocated cells (copy on write).
    pub(crate) copies_on_write: bool,
    pub(crate) flaw: Flaw,
    /// Copies of answers that cannot be read, and of cells that do not open.
    pub(crate) quarantine: Vec<(usize, Arc<Sealed>)>,
    /// How many more steps are done before the process ends; `None`: all.
    pub(crate) steps_left: Option<u32>,
    pub(crate) steps_done: u32,
}

const CELLS: usize = 24;

impl Disk {
    pub(crate) const fn new(copies_on_write: bool, flaw: Flaw) -> Self {
        Self {
            cells: Vec::new(),
            segments: Vec::new(),
            weather: Weather::Fine,
            copies_on_write,
            flaw,
            quarantine: Vec::new(),
            steps_left: None,
            steps_done: 0,
        }
    }

    /// The mark of a daemon that ran before.
    pub(crate) fn remember(&mut self, who: usize, generation: u64, chance: &mut Chance) {
        let mark = Mark { generation, ..Mark::default() };
        if self.free_cells(Pool::Small) == 0 {
            let _made = self.grow(Pool::Small);
        }
        let _written = self.write(Pool::Small, Body { who, sequence: 1, kind: Kind::Mark(mark) }, chance);
    }

    /// One step of the process on the disk; the last one it may do ends it.
    fn step(&mut self) -> Result<(), Stop> {
        match &mut self.steps_left {
            Some(0) => return Err(Stop::Crash),
            Some(left) => *left -= 1,
            None => {}
        }
        self.steps_done += 1;
        Ok(())
    }

    pub(crate) fn free_cells(&self, pool: Pool) -> usize {
        let trusted = self.segments.iter().filter(|one| one.trusted && one.large == (pool == Pool::Large));
        trusted.map(|segment| segment.free.iter().filter(|free| **free).count()).sum()
    }

    /// A new segment: allocated and synced, so that a full disk cannot bite later.
    pub(crate) fn grow(&mut self, pool: Pool) -> Result<(), Stop> {
        self.step()?;
        match self.weather {
            Weather::Fine | Weather::SyncsFail(false) => {}
            Weather::Full => return Err(Stop::Fault(SpoolFault::Full)),
            Weather::SyncsFail(true) | Weather::ReadOnly => return Err(Stop::Fault(SpoolFault::Broken)),
        }
        let first = self.cells.len();
        self.cells.extend((0..CELLS).map(|_| Cell::free()));
        let large = pool == Pool::Large;
        self.segments.push(Segment { large, first, free: vec![true; CELLS], trusted: true });
        Ok(())
    }

    /// Writes a cell and syncs it. After a failure it tries once more, in a fresh segment.
    pub(crate) fn write(&mut self, pool: Pool, body: Body, chance: &mut Chance) -> Result<usize, Stop> {
        let body = Rc::new(body);
        match self.try_write(pool, &body, chance) {
            Err(Stop::Fault(_)) => {
                self.grow(pool)?;
                self.try_write(pool, &body, chance)
            }
            done => done,
        }
    }

    fn try_write(&mut self, pool: Pool, body: &Rc<Body>, chance: &mut Chance) -> Result<usize, Stop> {
        let large = pool == Pool::Large;
        let found = self
            .segments
            .iter_mut()
            .enumerate()
            .filter(|(_, one)| one.trusted && one.large == large)
            .find_map(|(index, segment)| {
                let cell = segment.free.iter().position(|free| *free)?;
                segment.free[cell] = false;
                Some((index, segment.first + cell))
            });
        let Some((segment, cell)) = found else { return Err(Stop::Fault(SpoolFault::Full)) };
        let written =
            self.put(cell, Content::Holds(Rc::clone(body))).and_then(|()| self.sync(segment, chance));
        if matches!(written, Err(Stop::Fault(_))) && self.flaw != Flaw::TrustsTheDescriptor {
            self.segments[segment].trusted = false;
        }
        written.map(|()| cell)
    }

    fn put(&mut self, cell: usize, content: Content) -> Result<(), Stop> {
        self.step()?;
        match self.weather {
            Weather::ReadOnly => Err(Stop::Fault(SpoolFault::Broken)),
            Weather::Full if self.copies_on_write => Err(Stop::Fault(SpoolFault::Full)),
            Weather::Fine | Weather::Full | Weather::SyncsFail(_) => {
                self.cells[cell].cached.push(content);
                Ok(())
            }
        }
    }

    fn sync(&mut self, segment: usize, chance: &mut Chance) -> Result<(), Stop> {
        self.step()?;
        let fails = match self.weather {
            Weather::SyncsFail(always) => always || chance.hit(0.5),
            Weather::ReadOnly => true,
            Weather::Fine | Weather::Full => false,
        };
        let range = self.segments[segment].first..self.segments[segment].first + CELLS;
        if fails {
            // The kernel marks the pages clean: some were written, the rest will never be.
            for cell in &mut self.cells[range] {
                let Some(last) = cell.cached.pop() else { continue };
                cell.cached.clear();
                if chance.hit(0.5) {
                    (cell.durable, cell.phantom) = (last, None);
                } else {
                    cell.phantom = Some(last);
                }
            }
            let believed = self.flaw == Flaw::TrustsTheDescriptor;
            return if believed { Ok(()) } else { Err(Stop::Fault(SpoolFault::Broken)) };
        }
        if self.flaw == Flaw::SkipsTheSync {
            return Ok(());
        }
        for cell in &mut self.cells[range] {
            if let Some(last) = cell.cached.pop() {
                (cell.durable, cell.phantom) = (last, None);
                cell.cached.clear();
            }
        }
        Ok(())
    }

    /// Overwrites a cell; not synced.
    pub(crate) fn scrub(&mut self, cell: usize) -> Result<(), Stop> {
        self.put(cell, Content::Free)?;
        if let Some(segment) =
            self.segments.iter_mut().find(|one| (one.first..one.first + CELLS).contains(&cell))
        {
            segment.free[cell - segment.first] = true;
        }
        Ok(())
    }

    /// Makes the scrubs of a pool durable, but for the files that are not trusted.
    pub(crate) fn sync_pool(&mut self, pool: Pool, chance: &mut Chance) -> Result<(), Stop> {
        for segment in 0..self.segments.len() {
            let one = &self.segments[segment];
            if one.trusted && one.large == (pool == Pool::Large) {
                self.sync(segment, chance)?;
            }
        }
        Ok(())
    }

    /// The process ends; with the power, what was not synced is kept, lost or torn, each cell by itself.
    pub(crate) fn crash(&mut self, power: bool, chance: &mut Chance) {
        self.steps_left = None;
        for cell in self.cells.iter_mut().filter(|_| power) {
            cell.phantom = None;
            if cell.cached.is_empty() {
                continue;
            }
            let written: Vec<Content> = std::mem::take(&mut cell.cached);
            match chance.below(4) {
                0 => {}
                1 => cell.durable = Content::Torn,
                _ => cell.durable = written[chance.index(written.len())].clone(),
            }
        }
    }

    /// What a start finds in each cell, after which every file is opened anew.
    pub(crate) fn scan(&mut self) -> Vec<(usize, Pool, Content)> {
        let mut found = Vec::new();
        for segment in &mut self.segments {
            segment.trusted = true;
            let pool = if segment.large { Pool::Large } else { Pool::Small };
            for (index, free) in segment.free.iter_mut().enumerate() {
                let cell = &mut self.cells[segment.first + index];
                // Whoever reads after a failed sync may still see a page that never reached the disk: here it is gone.
                cell.phantom = None;
                let content = cell.seen();
                *free = matches!(content, Content::Free);
                if !*free {
                    found.push((segment.first + index, pool, content.clone()));
                }
            }
        }
        found
    }

    /// The cells of one integration that a crash at this moment could not take: synced, and nothing written over them since.
    pub(crate) fn sure(&self, who: usize) -> impl Iterator<Item = &Body> {
        let settled = self.cells.iter().filter(|cell| cell.cached.is_empty() && cell.phantom.is_none());
        settled.filter_map(move |cell| match &cell.durable {
            Content::Holds(body) if body.who == who => Some(&**body),
            Content::Holds(_) | Content::Free | Content::Torn => None,
        })
    }

    /// Every cell of one integration that a start could find, whatever a crash does.
    pub(crate) fn possible(&self, who: usize) -> impl Iterator<Item = &Body> {
        self.cells
            .iter()
            .flat_map(|cell| cell.cached.iter().chain(&cell.phantom).chain(std::iter::once(&cell.durable)))
            .filter_map(move |content| match content {
                Content::Holds(body) if body.who == who => Some(&**body),
                Content::Holds(_) | Content::Free | Content::Torn => None,
            })
    }
}
