//! The oracle's other half: no received token is lost (B7), generations only grow, and in the end all is well.
//!
//! A token is owed from the moment its sealed answer is durable, until a newer one of its grant is, another consent is accepted,
//! or a revocation has presented it upstream.

use crate::disk::Kind;
use crate::journal::Work;
use crate::oracle::issued;
use crate::process::Flying;
use crate::provider::{At, Rt};
use crate::store::{Id, Labels};
use crate::world::World;
use grantd::lifecycle::{Purpose, Record, RecordStatus, Sealed, Status};
use std::rc::Rc;

impl World {
    /// The disk has done a piece of work to its end.
    pub(crate) fn was_done(&mut self, who: usize, work: &Work) {
        match work {
            Work::Seal(sealed) => self.sealed(who, sealed),
            Work::Intend(_) | Work::Mark(..) | Work::Quarantine(_) => {}
        }
    }

    /// An answer is sealed and synced.
    pub(crate) fn sealed(&mut self, who: usize, sealed: &Sealed) {
        let Some((access, Some(refresh))) = issued(&sealed.answer) else { return };
        let presented = sealed.presented.as_ref().map(|token| Rt::of(token.expose_secret()));
        if presented == Some(refresh) {
            return;
        }
        let family = self.ledger.ats[access.0].family;
        let case = &self.oracle.cases[who];
        // A later consent, or a later token of the same grant, took its place: it is only found again.
        let stale = case.accepted.is_some_and(|accepted| accepted > family);
        let older =
            case.owed.iter().any(|newer| self.ledger.rts[newer.0].family == family && *newer > refresh);
        let over = self.ledger.rts[refresh.0].known.succeeded || case.released.contains(&family);
        if let Some(presented) = presented {
            self.ledger.rts[presented.0].known.succeeded = true;
        }
        if stale || older || over {
            return;
        }
        self.oracle.owe(who, refresh, &self.ledger);
        if sealed.accepted || self.oracle.cases[who].accepted_early.contains(&family) {
            self.accept(who, family);
        }
    }

    pub(crate) fn is_durable(&mut self, who: usize, at: At) -> bool {
        let durable =
            self.ledger.ats[at.0].durable || self.disk.sure(who).any(|body| body.tokens().0 == Some(at));
        self.ledger.ats[at.0].durable = durable;
        durable
    }

    /// B7: whatever crashes now, the token is found again.
    pub(crate) fn check_owed(&mut self, who: usize) {
        let owed = self.oracle.cases[who].owed.clone();
        if owed.is_empty() {
            return;
        }
        for rt in owed {
            if !self.is_kept(who, rt) {
                let good = self.is_good(who, rt);
                self.broken(
                    "B7",
                    format_args!(
                        "app{who}: {} was received and sealed, and is lost (good: {good})",
                        rt.text()
                    ),
                );
            }
        }
    }

    fn is_kept(&self, who: usize, rt: Rt) -> bool {
        self.is_on_disk(who, rt) || self.secrets[who].holds(rt)
    }

    /// Whether a start would find the token on the disk, whatever a crash did to it.
    fn is_on_disk(&self, who: usize, rt: Rt) -> bool {
        let marks = self.disk.possible(who).filter_map(|body| match &body.kind {
            Kind::Mark(mark) => Some(mark.generation),
            Kind::Intent(_) | Kind::Answer(_) => None,
        });
        let mark = marks.max().unwrap_or(0);
        self.disk.sure(who).any(|body| match &body.kind {
            Kind::Answer(sealed) if sealed.purpose == Purpose::Revocation => owes(sealed, rt),
            Kind::Answer(sealed) => sealed.generation > mark && body.tokens().1 == Some(rt),
            Kind::Intent(_) | Kind::Mark(_) => false,
        })
    }

    /// The board shows a token of this grant: grantd goes by it now.
    pub(crate) fn goes_by(&mut self, who: usize, at: At) {
        let family = self.ledger.ats[at.0].family;
        let case = &self.oracle.cases[who];
        // An older record that somebody put back is served for as long as its lease lives, and not gone by.
        if case.accepted.is_some_and(|accepted| accepted >= family) {
            return;
        }
        // A record that an operator wrote is adopted with its refresh token.
        let found = self.secrets[who].versions.values().filter_map(|version| version.refresh);
        let newest = found.filter(|rt| self.ledger.rts[rt.0].family == family).max();
        if let Some(rt) = newest {
            let known = case.owed.iter().any(|owed| self.ledger.rts[owed.0].family == family);
            if !known {
                self.oracle.owe(who, rt, &self.ledger);
            }
            self.accept(who, family);
        }
    }

    /// The provider refused the newest token, and a later grant was found in the store.
    pub(crate) fn adopted(&mut self, who: usize) {
        let case = &self.oracle.cases[who];
        let refused = case.owed.last().is_none_or(|rt| self.ledger.rts[rt.0].known.refused_in.is_some());
        let Some(rt) = case.loaded.filter(|_| refused) else { return };
        let family = self.ledger.rts[rt.0].family;
        if case.accepted.is_none_or(|accepted| accepted < family) {
            self.oracle.owe(who, rt, &self.ledger);
            self.accept(who, family);
        }
    }

    /// A grant is accepted: those before it are no longer owed.
    fn accept(&mut self, who: usize, family: usize) {
        let ledger = &self.ledger;
        let case = &mut self.oracle.cases[who];
        case.accepted = Some(family);
        case.untold.retain(|untold| *untold >= family);
        case.owed.retain(|rt| ledger.rts[rt.0].family >= family);
    }

    /// What two writes at once leave behind is a matter of luck.
    pub(crate) fn one_write(&mut self, who: usize) {
        let flying = self
            .process
            .iter()
            .flat_map(|process| &process.flying)
            .any(|((whose, _), what)| *whose == who && matches!(what, Flying::Store | Flying::Clear));
        if flying {
            self.broken("11", format_args!("app{who}: two writes are on their way to the store"));
        }
    }

    /// A record is about to be stored.
    pub(crate) fn stores(&mut self, who: usize, record: &Record) {
        let Some(token) = &record.refresh_token else { return };
        let rt = Rt::of(token.expose_secret());
        if self.ledger.owner(rt) != who {
            return self.broken(
                "11",
                format_args!("app{who} stores {}, which belongs to another integration", rt.text()),
            );
        }
        let family = self.ledger.rts[rt.0].family;
        if self.oracle.cases[who].owed.contains(&rt) {
            self.accept(who, family);
        } else {
            self.oracle.cases[who].accepted_early.insert(family);
        }
        self.check_revived(who, family);
        let value: Rc<[u8]> = record.to_json().expose_secret().into();
        let case = &mut self.oracle.cases[who];
        let Some(access) = record.access_token.as_ref().map(|token| At::of(token.expose_secret())) else {
            return;
        };
        let before = case.writes.insert(access, (record.generation, Rc::clone(&value)));
        let taken = std::mem::take(&mut case.id_taken);
        if let Some((generation, bytes)) = before
            && !taken
            && (generation != record.generation || bytes != value)
        {
            self.broken(
                "3",
                format_args!(
                    "app{who}: {} is stored as generation {generation}, and again as {} or with other bytes",
                    rt.text(),
                    record.generation
                ),
            );
        }
    }

    /// A cleared record is about to be stored: somebody must have asked for it.
    pub(crate) fn clears(&mut self, who: usize, record: &Record) {
        let value: Rc<[u8]> = record.to_json().expose_secret().into();
        let case = &mut self.oracle.cases[who];
        let asked = case.ended.is_some();
        let before = case.clear.replace((record.generation, Rc::clone(&value)));
        let taken = std::mem::take(&mut case.id_taken);
        if !asked || record.status != RecordStatus::Revoked {
            self.broken("4", format_args!("app{who}: the record is cleared, and nobody asked for it"));
        }
        if let Some((generation, bytes)) = before
            && !taken
            && (generation != record.generation || bytes != value)
        {
            self.broken("3", format_args!("app{who}: the record is cleared as generation {generation}, and again as {} or with other bytes", record.generation));
        }
    }

    /// A write was committed.
    pub(crate) fn committed(&mut self, who: usize, record: &Record, before: Labels, stranger_is_new: bool) {
        let value: Rc<[u8]> = record.to_json().expose_secret().into();
        let secret = &mut self.secrets[who];
        let known = secret.written.insert(record.generation, Rc::clone(&value));
        let after = secret.labels;
        if known.is_some_and(|known| known != value) {
            self.broken("11", format_args!("app{who}: generation {} means two records", record.generation));
        }
        if let (Some(Id::Ours(old)), Some(Id::Ours(new))) = (before.current, after.current)
            && new < old
            && !stranger_is_new
        {
            self.broken("11", format_args!("app{who}: the current generation goes back from {old} to {new}"));
        }
        let secret = &self.secrets[who];
        let strange = before.current.is_some() && before.current == secret.strangers_own;
        let ours = |id: &&Id| matches!(id, Id::Ours(generation) if *generation != record.generation);
        let ours_before = secret.versions.keys().any(|id| ours(&id));
        if strange && after.current != before.current && !stranger_is_new && ours_before {
            self.broken("11", format_args!("app{who}: a stranger's value is no longer current"));
        }
        self.stored_tokens(who, record);
    }

    fn stored_tokens(&mut self, who: usize, record: &Record) {
        if let Some(token) = &record.access_token {
            self.ledger.ats[At::of(token.expose_secret()).0].durable = true;
        }
        let Some(token) = &record.refresh_token else { return };
        let rt = Rt::of(token.expose_secret());
        let family = self.ledger.rts[rt.0].family;
        self.ledger.rts[rt.0].known.stored = true;
        let case = &self.oracle.cases[who];
        let older = case.owed.iter().any(|newer| self.ledger.rts[newer.0].family == family && *newer > rt);
        let superseded = case.accepted.is_some_and(|accepted| accepted > family);
        if !case.owed.contains(&rt) && !older && !superseded && !self.ledger.rts[rt.0].known.succeeded {
            self.oracle.owe(who, rt, &self.ledger);
            self.accept(who, family);
        }
    }

    /// grantd is about to tell the provider that a grant ends: with the newest token it has.
    pub(crate) fn tells_provider(&mut self, who: usize, refresh: Option<Rt>) {
        let case = &self.oracle.cases[who];
        if case.ended.is_none() {
            return;
        }
        let Some(newest) = case.owed.last().copied() else { return };
        // Where an operator has taken its label away, grantd cannot know of it.
        if !self.is_on_disk(who, newest) && !self.secrets[who].shows(newest) {
            return;
        }
        let Some(refresh) = refresh else {
            return self.broken(
                "B7",
                format_args!(
                    "app{who}: the provider is told of no token, and {} is the newest",
                    newest.text()
                ),
            );
        };
        let family = self.ledger.rts[refresh.0].family;
        let newer =
            case.owed.iter().find(|owed| self.ledger.rts[owed.0].family == family && **owed > refresh);
        if let Some(newer) = newer {
            let newer = newer.text();
            self.broken(
                "B7",
                format_args!("app{who}: the provider is told of {}, and {newer} is newer", refresh.text()),
            );
        }
    }

    /// The provider was told. Where a grant is ended, it must have answered; what is only given back is told once.
    pub(crate) fn was_told(&mut self, who: usize, refresh: Option<Rt>, answered: bool) {
        let Some(refresh) = refresh else { return };
        let (ledger, case) = (&self.ledger, &mut self.oracle.cases[who]);
        let family = ledger.rts[refresh.0].family;
        let ends = case.ended.is_some_and(|ended| ledger.families[family].given_at < ended.asked_at);
        if ends && !answered {
            if !case.released.contains(&family) {
                case.untold.insert(family);
            }
            return;
        }
        case.untold.remove(&family);
        case.owed.retain(|rt| ledger.rts[rt.0].family != family);
        case.released.insert(family);
    }

    /// An operator deleted the secret: what only it held is gone by their hand.
    pub(crate) fn destroyed(&mut self, who: usize) {
        let kept: Vec<Rt> = self.oracle.cases[who]
            .owed
            .iter()
            .copied()
            .filter(|rt| self.is_kept(who, *rt) && !self.ledger.rts[rt.0].known.stored)
            .collect();
        self.oracle.cases[who].owed = kept;
    }

    /// Whether the run may end: nothing goes wrong any more, a life has passed since, and all is well.
    pub(crate) fn is_well(&self) -> bool {
        self.oracle.all_well
    }

    pub(crate) fn take_stock(&mut self) {
        let rested = self.calm && self.now > self.mood.hostile_until + self.mood.life.max(60_000);
        self.oracle.all_well = rested && (0..self.roles.len()).all(|who| self.trouble(who).is_none());
    }

    /// What is still wrong with an integration, by the truth.
    fn trouble(&self, who: usize) -> Option<String> {
        let Some(process) = &self.process else { return Some("the daemon does not run".into()) };
        let live = &process.lives[who];
        let (case, view) = (&self.oracle.cases[who], live.machine.view(self.wall()));
        let ended = case.ended.is_some_and(|ended| !ended.forgotten);
        if ended || view.status == Status::Revoked {
            return self.unfinished(who, view.status);
        }
        let Some(rt) = case.owed.last().copied() else {
            return live.machine.is_busy().then(|| "never comes to rest".into());
        };
        if !self.is_good(who, rt) {
            let endless = live.board.is_some_and(|board| board.until.is_none());
            let named = view.status == Status::NeedsReauth || (endless && view.message.contains("in doubt"));
            return (!named).then(|| format!("{} is dead at the provider, and nobody is told", rt.text()));
        }
        let served = live.board.is_some_and(|board| self.ledger.access_lives(board.access, self.now));
        if !served {
            return Some(format!(
                "{} is good, and no good access token is served ({:?}: {})",
                rt.text(),
                view.status,
                view.message
            ));
        }
        let held = self.secrets[who].labelled().any(|version| version.refresh == Some(rt));
        (!view.stored || !held)
            .then(|| format!("{} is good, and is not stored ({})", rt.text(), view.message))
    }

    fn unfinished(&self, who: usize, status: Status) -> Option<String> {
        let process = self.process.as_ref()?;
        let machine = &process.lives[who].machine;
        let nothing = self.oracle.cases[who].owed.is_empty() && process.lives[who].board.is_none();
        if status == Status::Pending && nothing {
            // The disk never took the tombstone, and an operator threw the cleared record away: nothing is left to serve.
            return None;
        }
        if status != Status::Revoked {
            return Some(format!("was revoked, and is {status:?}"));
        }
        if machine.is_busy() || machine.deadline().is_some() {
            return Some("the revocation does not come to its end".into());
        }
        if let Some(family) = self.oracle.cases[who].untold.first() {
            return Some(format!("was revoked, and the provider was never told of grant {family}"));
        }
        let secret = &self.secrets[who];
        let since = self.oracle.cases[who].ended.map_or(i64::MAX, |ended| ended.since);
        // What an operator puts back after a revocation is the operator's.
        let left = secret
            .labelled()
            .filter(|_| secret.touched_at < since)
            .filter_map(|version| version.refresh)
            .next();
        left.map(|rt| format!("was revoked, and the store still shows {}", rt.text()))
    }

    /// Liveness: after all faults ended, everything whose grant lives is served and stored, and what was revoked is cleared.
    pub(crate) fn last_judgement(&mut self) {
        if self.oracle.failure.is_some() {
            return;
        }
        for who in 0..self.roles.len() {
            if let Some(trouble) = self.trouble(who) {
                self.broken("7", format_args!("app{who} never recovers: {trouble}"));
            }
            let owed = self.oracle.cases[who].owed.last().copied();
            match owed.map(|rt| self.is_good(who, rt)) {
                Some(true) => self.tally.healed += 1,
                Some(false) => self.tally.dead += 1,
                None => {}
            }
        }
    }
}

/// Whether a debt names this token.
fn owes(sealed: &Sealed, rt: Rt) -> bool {
    let text = String::from_utf8_lossy(sealed.answer.body.expose_secret()).into_owned();
    text.contains(&format!("\"{}\"", rt.text()))
}
