//! The model of Secrets Manager, and of what `edge/store/aws.rs` does with it.
//!
//! One secret for each integration: versions by their ids, and the labels on them. A label may be answered from a replica that
//! has not seen it move; a version by its id may not be there yet, but is never another one.

use crate::chance::Chance;
use crate::provider::Rt;
use grantd::lifecycle::{Completion, Identity, Loaded, NotARecord, Record, StoreFault};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A version's id: made by grantd from a generation, or by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Id {
    Ours(u64),
    Foreign(u32),
}

/// A value, and when it was written.
pub(crate) struct Version {
    pub(crate) value: Rc<[u8]>,
    pub(crate) refresh: Option<Rt>,
    pub(crate) at: i64,
}

/// Which version has which label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    pub(crate) current: Option<Id>,
    pub(crate) previous: Option<Id>,
    pub(crate) next: Option<Id>,
}

/// What is wrong with the store for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fine,
    Refuses(StoreFault),
    /// Commits, and the acknowledgement does not come.
    LosesAcknowledgements,
    Flaky,
    Stale,
}

/// One secret.
pub(crate) struct Secret {
    pub(crate) versions: BTreeMap<Id, Version>,
    pub(crate) labels: Labels,
    log: Vec<(i64, Labels)>,
    pub(crate) weather: Weather,
    /// Whether it has AWS's limit of versions.
    pub(crate) limited: bool,
    /// What was ever committed under grantd's own ids.
    pub(crate) written: BTreeMap<u64, Rc<[u8]>>,
    pub(crate) strangers: u32,
    /// When somebody else last moved a label.
    pub(crate) touched_at: i64,
    /// A value that a stranger wrote, whom grantd must leave alone.
    pub(crate) strangers_own: Option<Id>,
    /// Sabotage: whatever is current is overwritten.
    pub(crate) overwrites: bool,
}

/// Where a write goes, as `judge` in `aws.rs` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ours,
    OursAndLabel,
    Foreign,
    Newer,
    /// The value may be neither read nor overwritten.
    Stop,
}

const WINDOW: u64 = 100;
const DAY: i64 = 86_400_000;

impl Secret {
    pub(crate) const fn new(limited: bool) -> Self {
        Self {
            versions: BTreeMap::new(),
            labels: Labels { current: None, previous: None, next: None },
            log: Vec::new(),
            weather: Weather::Fine,
            limited,
            written: BTreeMap::new(),
            strangers: 0,
            touched_at: i64::MIN,
            strangers_own: None,
            overwrites: false,
        }
    }

    /// What one call meets before it reaches the secret.
    pub(crate) fn refusal(&self, chance: &mut Chance, everyday: f64) -> Option<StoreFault> {
        match self.weather {
            Weather::Refuses(fault) => Some(fault),
            Weather::Flaky if chance.hit(0.5) => Some(any_fault(chance)),
            Weather::Fine | Weather::Stale | Weather::LosesAcknowledgements | Weather::Flaky => {
                chance.hit(everyday).then(|| any_fault(chance))
            }
        }
    }

    /// Whether the acknowledgement of a write that was committed is lost.
    pub(crate) fn loses_it(&self, chance: &mut Chance, everyday: f64) -> bool {
        match self.weather {
            Weather::LosesAcknowledgements => true,
            Weather::Flaky => chance.hit(0.3),
            Weather::Fine | Weather::Stale | Weather::Refuses(_) => chance.hit(everyday),
        }
    }

    /// `DescribeSecret`: the labels, of now or of a while ago.
    pub(crate) fn describe(&self, now: i64, chance: &mut Chance) -> Labels {
        let behind = match self.weather {
            Weather::Stale => chance.between(0, 30_000),
            Weather::Fine | Weather::Flaky | Weather::LosesAcknowledgements | Weather::Refuses(_) => {
                if chance.hit(0.02) { chance.between(0, 5000) } else { 0 }
            }
        };
        let then = now - behind;
        match self.log.iter().rev().find(|(at, _)| *at <= then) {
            _ if behind == 0 => self.labels,
            Some((_, labels)) => *labels,
            None => self.log.first().map_or(self.labels, |(_, labels)| *labels),
        }
    }

    pub(crate) fn judge(&self, labels: Labels, record: &Record) -> Verdict {
        if self.overwrites {
            return Verdict::Ours;
        }
        let ours = |id: Id| match id {
            Id::Ours(generation) if generation.abs_diff(record.generation) <= WINDOW => Some(generation),
            Id::Ours(_) | Id::Foreign(_) => None,
        };
        match labels.current.map(|id| (id, ours(id))) {
            None => Verdict::Ours,
            Some((_, Some(generation))) if generation > record.generation => Verdict::Newer,
            Some((_, Some(_))) if labels.next.is_some() => Verdict::OursAndLabel,
            Some((_, Some(_))) => Verdict::Ours,
            Some((id, None)) => {
                let labelled = [labels.current, labels.previous, labels.next];
                let before_ours = !labelled.into_iter().flatten().any(|id| ours(id).is_some())
                    && !self.versions.contains_key(&Id::Ours(1));
                let Some(version) = self.versions.get(&id) else { return Verdict::Stop };
                match Record::from_json(&version.value, &record.identity) {
                    Ok(found) if found.generation > record.generation => Verdict::Newer,
                    Ok(_) => Verdict::Ours,
                    Err(NotARecord::Placeholder) if record.generation <= 2 && before_ours => Verdict::Ours,
                    Err(NotARecord::Placeholder) => Verdict::Foreign,
                    Err(_) => Verdict::Stop,
                }
            }
        }
    }

    /// `PutSecretValue` under an id of ours. `None`: the id holds other bytes; or a refusal.
    pub(crate) fn put(
        &mut self,
        record: &Record,
        verdict: Verdict,
        now: i64,
    ) -> Result<Completion, StoreFault> {
        let value: Rc<[u8]> = record.to_json().expose_secret().into();
        let id = Id::Ours(record.generation);
        let end = if verdict == Verdict::Foreign { Completion::StoredBeside } else { Completion::Stored };
        if let Some(there) = self.versions.get(&id) {
            return Ok(if there.value == value { end } else { Completion::IdTaken });
        }
        if self.limited && self.is_full(now) {
            return Err(StoreFault::Quota);
        }
        let refresh = record.refresh_token.as_ref().map(|token| Rt::of(token.expose_secret()));
        self.versions.insert(id, Version { value, refresh, at: now });
        match verdict {
            Verdict::Foreign => self.labels.next = Some(id),
            Verdict::OursAndLabel => {
                self.make_current(id);
                self.labels.next = Some(id);
            }
            Verdict::Ours | Verdict::Newer | Verdict::Stop => self.make_current(id),
        }
        self.noted(now);
        Ok(end)
    }

    /// AWS keeps about a hundred versions, and removes none younger than a day.
    fn is_full(&mut self, now: i64) -> bool {
        let labelled = [self.labels.current, self.labels.previous, self.labels.next];
        while self.versions.len() >= 100 {
            let old = self.versions.iter().filter(|(id, _)| !labelled.contains(&Some(**id)));
            let Some((id, _)) = old.filter(|(_, one)| now - one.at > DAY).min_by_key(|(_, one)| one.at)
            else {
                return true;
            };
            let id = *id;
            self.versions.remove(&id);
        }
        false
    }

    fn make_current(&mut self, id: Id) {
        if self.labels.current != Some(id) {
            self.labels.previous = self.labels.current.replace(id);
        }
    }

    fn noted(&mut self, now: i64) {
        self.log.push((now, self.labels));
        if self.log.len() > 8 {
            self.log.remove(0);
        }
    }

    /// Reads the newest record among what is labelled.
    pub(crate) fn load(
        &self,
        identity: &Identity,
        labels: Labels,
        now: i64,
        chance: &mut Chance,
    ) -> Completion {
        let (mut newest, mut unusable): (Option<Record>, Option<String>) = (None, None);
        for id in [labels.current, labels.next].into_iter().flatten() {
            let Some(version) = self.versions.get(&id) else { continue };
            if now - version.at < 2000 && chance.hit(0.05) {
                continue;
            }
            match Record::from_json(&version.value, identity) {
                Ok(record) if newest.as_ref().is_none_or(|best| best.generation < record.generation) => {
                    newest = Some(record);
                }
                Ok(_) | Err(NotARecord::Placeholder) => {}
                Err(why) => unusable = Some(why.to_string()),
            }
        }
        Completion::Loaded(match (newest, unusable) {
            (Some(record), _) => Loaded::Record(Box::new(record)),
            (None, Some(why)) => Loaded::Unusable(why),
            (None, None) => Loaded::Empty,
        })
    }

    /// Somebody else writes: a value of their own, or a record under an id that grantd did not make.
    pub(crate) fn intrude(&mut self, value: &[u8], refresh: Option<Rt>, now: i64) -> Id {
        self.strangers += 1;
        let id = Id::Foreign(self.strangers);
        self.versions.insert(id, Version { value: value.into(), refresh, at: now });
        self.make_current(id);
        self.touched_at = now;
        self.noted(now);
        id
    }

    /// Somebody else moves the label.
    pub(crate) fn relabel(&mut self, id: Id, now: i64) {
        self.make_current(id);
        self.touched_at = now;
        self.noted(now);
    }

    /// The secret is deleted and made anew.
    pub(crate) fn empty(&mut self, now: i64) {
        self.versions.clear();
        // The new secret has an ARN of its own, and so have its ids.
        self.written.clear();
        self.labels = Labels::default();
        self.strangers_own = None;
        self.touched_at = now;
        self.noted(now);
    }

    pub(crate) fn holds(&self, rt: Rt) -> bool {
        self.versions.values().any(|version| version.refresh == Some(rt))
    }

    /// Whether a reader of the labels that count finds this token.
    pub(crate) fn shows(&self, rt: Rt) -> bool {
        let labels = [self.labels.current, self.labels.next];
        labels
            .into_iter()
            .flatten()
            .any(|id| self.versions.get(&id).is_some_and(|one| one.refresh == Some(rt)))
    }

    pub(crate) fn labelled(&self) -> impl Iterator<Item = &Version> {
        let labels = [self.labels.current, self.labels.previous, self.labels.next];
        labels.into_iter().flatten().filter_map(|id| self.versions.get(&id))
    }
}

fn any_fault(chance: &mut Chance) -> StoreFault {
    chance.pick(&[
        StoreFault::Denied,
        StoreFault::Throttled,
        StoreFault::Unreachable,
        StoreFault::Unreachable,
        StoreFault::Key,
        StoreFault::Other,
    ])
}

/// What the store refuses with for a while.
pub(crate) const REFUSALS: [StoreFault; 6] = [
    StoreFault::Denied,
    StoreFault::Throttled,
    StoreFault::Unreachable,
    StoreFault::Key,
    StoreFault::Deleted,
    StoreFault::Quota,
];
