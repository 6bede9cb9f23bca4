//! The model of the spool: what `edge/spool/journal.rs` does on a disk, step by step, so that a crash may fall between any two.
//!
//! Where that file changes, this one must follow.

use crate::chance::Chance;
use crate::disk::{Body, Content, Disk, Flaw, Kind, Pool, Stop, Weather};
use grantd::lifecycle::{Found, Intent, Mark, Purpose, Sealed, SlotFate, SpoolFault};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The spool of one run of the daemon.
pub(crate) struct Journal {
    sequence: u64,
    held: Vec<Held>,
}

#[derive(Default)]
struct Held {
    intent: Option<(u64, usize, Intent)>,
    answers: BTreeMap<u64, (u64, usize, Arc<Sealed>)>,
    mark: Option<(u64, usize, Mark)>,
    mark_in_doubt: bool,
}

/// One piece of work for the spool.
pub(crate) enum Work {
    Intend(Intent),
    Seal(Arc<Sealed>),
    Mark(Mark, SlotFate),
    Quarantine(Arc<Sealed>),
}

const FEW: usize = 8;

impl Journal {
    /// Reads the cells. An error where the state directory cannot be written.
    pub(crate) fn open(disk: &mut Disk, many: usize, chance: &mut Chance) -> Result<Self, Stop> {
        if disk.weather == Weather::ReadOnly {
            return Err(Stop::Fault(SpoolFault::Broken));
        }
        for pool in [Pool::Small, Pool::Large] {
            disk.sync_pool(pool, chance)?;
        }
        let mut journal = Self { sequence: 0, held: (0..many).map(|_| Held::default()).collect() };
        for (cell, _pool, content) in disk.scan() {
            match content {
                Content::Free => {}
                // A copy goes to quarantine, and the cell is free again.
                Content::Torn => disk.scrub(cell)?,
                Content::Holds(body) => {
                    if let Some(over) = journal.adopt(cell, &body) {
                        disk.scrub(over)?;
                    }
                }
            }
        }
        for pool in [Pool::Small, Pool::Large] {
            if disk.free_cells(pool) < FEW {
                disk.grow(pool)?;
            }
        }
        Ok(journal)
    }

    fn adopt(&mut self, cell: usize, body: &Body) -> Option<usize> {
        self.sequence = self.sequence.max(body.sequence);
        let held = &mut self.held[body.who];
        match &body.kind {
            Kind::Intent(intent) => replace(&mut held.intent, (body.sequence, cell, intent.clone())),
            Kind::Mark(mark) => replace(&mut held.mark, (body.sequence, cell, *mark)),
            Kind::Answer(sealed) => {
                let mut at = held.answers.remove(&sealed.generation);
                let older = replace(&mut at, (body.sequence, cell, Arc::clone(sealed)));
                held.answers.extend(at.map(|newest| (sealed.generation, newest)));
                older
            }
        }
    }

    /// What is kept for one integration.
    pub(crate) fn find(&mut self, disk: &mut Disk, who: usize) -> Found {
        let held = &mut self.held[who];
        let mark = held.mark.map(|(_, _, mark)| mark).unwrap_or_default();
        let done: Vec<usize> = held
            .answers
            .extract_if(..=mark.generation, |_, (_, _, sealed)| sealed.purpose != Purpose::Revocation)
            .map(|(_, (_, cell, _))| cell)
            .collect();
        let last = held.answers.values().map(|(sequence, _, _)| *sequence).max().unwrap_or(0);
        let over = held
            .intent
            .as_ref()
            .is_some_and(|(sequence, _, intent)| *sequence < last || intent.generation < mark.generation);
        let old = if over { held.intent.take().map(|(_, cell, _)| cell) } else { None };
        let answers = held.answers.values().map(|(_, _, sealed)| Arc::clone(sealed)).collect();
        let intent = held.intent.as_ref().map(|(_, _, intent)| intent.clone());
        for cell in done.into_iter().chain(old) {
            let _later = disk.scrub(cell);
        }
        Found { mark, answers, intent }
    }

    /// Does one piece of work; each step of it may be the last before a crash.
    pub(crate) fn perform(
        &mut self,
        disk: &mut Disk,
        who: usize,
        work: &Work,
        chance: &mut Chance,
    ) -> Result<(), Stop> {
        match work {
            Work::Intend(intent) => self.intend(disk, who, intent, chance),
            Work::Seal(sealed) => self.seal(disk, who, sealed, chance),
            Work::Mark(mark, slot) => self.mark(disk, who, (*mark, slot), chance),
            Work::Quarantine(sealed) => quarantine(disk, who, sealed),
        }
    }

    fn intend(
        &mut self,
        disk: &mut Disk,
        who: usize,
        intent: &Intent,
        chance: &mut Chance,
    ) -> Result<(), Stop> {
        if disk.weather == Weather::Full {
            return Err(Stop::Fault(SpoolFault::Full));
        }
        if disk.free_cells(Pool::Large) < FEW {
            disk.grow(Pool::Large)?;
        }
        let (sequence, cell) = self.write(disk, who, Kind::Intent(intent.clone()), chance)?;
        let old = self.held[who].intent.replace((sequence, cell, intent.clone()));
        old.map_or(Ok(()), |(_, cell, _)| disk.scrub(cell))
    }

    fn seal(
        &mut self,
        disk: &mut Disk,
        who: usize,
        sealed: &Arc<Sealed>,
        chance: &mut Chance,
    ) -> Result<(), Stop> {
        if disk.flaw == Flaw::ReplacesFirst {
            for (_, cell, _) in std::mem::take(&mut self.held[who].answers).into_values() {
                disk.scrub(cell)?;
            }
            disk.sync_pool(Pool::Large, chance)?;
        }
        let (sequence, cell) = self.write(disk, who, Kind::Answer(Arc::clone(sealed)), chance)?;
        let held = &mut self.held[who];
        let old = held.answers.insert(sealed.generation, (sequence, cell, Arc::clone(sealed)));
        let intent = held.intent.take();
        if let Some((_, cell, _)) = old {
            disk.scrub(cell)?;
        }
        intent.map_or(Ok(()), |(_, cell, _)| disk.scrub(cell))
    }

    fn mark(
        &mut self,
        disk: &mut Disk,
        who: usize,
        (mark, slot): (Mark, &SlotFate),
        chance: &mut Chance,
    ) -> Result<(), Stop> {
        let held = &mut self.held[who];
        let same = held.mark.is_some_and(|(_, _, old)| old == mark) && !held.mark_in_doubt;
        if !same {
            held.mark_in_doubt = true;
            let (sequence, cell) = self.write(disk, who, Kind::Mark(mark), chance)?;
            self.held[who].mark_in_doubt = false;
            if let Some((_, cell, _)) = self.held[who].mark.replace((sequence, cell, mark)) {
                disk.scrub(cell)?;
            }
        }
        let spared: &[u64] = match slot {
            SlotFate::Kept => return Ok(()),
            SlotFate::Spared(generations) => generations,
            SlotFate::Scrubbed => &[],
        };
        let held = &mut self.held[who];
        let gone: Vec<usize> = held
            .answers
            .extract_if(.., |generation, _| !spared.contains(generation))
            .map(|(_, (_, cell, _))| cell)
            .collect();
        let intent = held.intent.take().map(|(_, cell, _)| cell);
        if !gone.is_empty() {
            for cell in gone {
                disk.scrub(cell)?;
            }
            disk.sync_pool(Pool::Large, chance)?;
        }
        if let Some(cell) = intent {
            disk.scrub(cell)?;
            disk.sync_pool(Pool::Small, chance)?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        disk: &mut Disk,
        who: usize,
        kind: Kind,
        chance: &mut Chance,
    ) -> Result<(u64, usize), Stop> {
        self.sequence += 1;
        let pool = if matches!(kind, Kind::Answer(_)) { Pool::Large } else { Pool::Small };
        let body = Body { who, sequence: self.sequence, kind };
        let sequence = body.sequence;
        let cell = disk.write(pool, body, chance)?;
        if disk.free_cells(pool) < FEW
            && let Err(Stop::Crash) = disk.grow(pool)
        {
            return Err(Stop::Crash);
        }
        Ok((sequence, cell))
    }
}

fn quarantine(disk: &mut Disk, who: usize, sealed: &Arc<Sealed>) -> Result<(), Stop> {
    match disk.weather {
        Weather::Fine | Weather::SyncsFail(false) => {
            disk.quarantine.push((who, Arc::clone(sealed)));
            Ok(())
        }
        Weather::Full => Err(Stop::Fault(SpoolFault::Full)),
        Weather::SyncsFail(true) | Weather::ReadOnly => Err(Stop::Fault(SpoolFault::Broken)),
    }
}

/// Keeps the one with the higher sequence number; gives the cell of the other.
fn replace<T>(held: &mut Option<(u64, usize, T)>, found: (u64, usize, T)) -> Option<usize> {
    match held {
        Some((sequence, _, _)) if *sequence > found.0 => Some(found.1),
        Some(_) | None => held.replace(found).map(|(_, cell, _)| cell),
    }
}
