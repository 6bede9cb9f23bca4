//! Those who act on grantd's world: apps, cron, operators, strangers at the store, admins at the provider, and the weather.
//!
//! What they do is planned when a run begins, or done out of mischief while an effect is under way.

use crate::disk::Weather as DiskWeather;
use crate::provider::{Code, Trouble, Who};
use crate::store::{Id, REFUSALS, Weather as StoreWeather};
use crate::world::{Happening, World};
use grantd::lifecycle::{
    AccountChange, Action, Asker, Event, Exchange, Frozen, Record, RecordStatus, Status,
};
use grantd::secret::{AccessToken, AuthCode, RefreshToken};
use std::time::Duration;

/// Something that somebody does, or that the weather does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Crash,
    Terminate,
    KillIfDraining(u32),
    Suspend(i64),
    Jump(i64),
    Provider(usize, Trouble),
    Userinfo(usize, bool),
    Store(usize, StoreWeather),
    Disk(DiskWeather),
    /// Cron asks, and asks again after this time.
    Cron(usize, i64),
    AppAsks(usize),
    Refresh(usize),
    Consent(usize),
    Revoke(usize),
    AdminRevokes(usize),
    Intrude(usize),
    Reload(usize),
    /// An operator puts right what somebody did to the store.
    Mend(usize),
    /// A person looks at the status, and asks for a refresh where it says that something was in the way.
    PersonLooks(usize),
}

impl World {
    /// Plans what will happen while the world is hostile.
    pub(crate) fn plan(&mut self) {
        let mood = &self.mood;
        let counts = [
            (mood.crashes, 0),
            (mood.terminations, 1),
            (mood.suspends, 2),
            (mood.jumps, 3),
            (mood.provider_spells, 4),
            (mood.userinfo_spells, 5),
            (mood.store_spells, 6),
            (mood.disk_spells, 7),
            (mood.app_asks, 8),
            (mood.refreshes, 9),
            (mood.consents, 10),
            (mood.revocations, 11),
            (mood.admin_revokes, 12),
            (mood.intrusions, 13),
            (mood.reloads, 14),
        ];
        for (count, kind) in counts {
            for _one in 0..count {
                let when = self.chance.between(1000, self.mood.hostile_until - 1);
                self.plan_one(when, kind);
            }
        }
        for who in 0..self.roles.len() {
            if self.roles[who].history == 0 {
                let when = self.chance.between(1000, self.mood.hostile_until / 4);
                self.at(when, Happening::Act(Act::Consent(who)));
            }
            if let Some(period) = self.mood.cron {
                let when = self.chance.between(0, period);
                self.at(when, Happening::Act(Act::Cron(who, period)));
            }
        }
    }

    fn plan_one(&mut self, when: i64, kind: u32) {
        let who = self.chance.index(self.roles.len());
        let at = self.chance.index(self.providers.len());
        let span = if self.chance.hit(0.6) {
            self.chance.magnitude(2000, self.mood.life)
        } else {
            self.mood.life * self.chance.between(1, 5)
        };
        // Whatever waits for the store asks every few seconds: a longer outage tells nothing more.
        let outage = span.min(10_800_000);
        let (act, over) = match kind {
            0 => (Act::Crash, None),
            1 => (Act::Terminate, None),
            2 => (Act::Suspend(span), None),
            3 => {
                let by = self.chance.magnitude(1000, 30 * DAY);
                let by = if self.chance.hit(0.5) { by } else { -by };
                (Act::Jump(by), self.chance.hit(0.5).then_some(Act::Jump(-by)))
            }
            4 => {
                let bad = self.chance.pick(&Trouble::BAD);
                (Act::Provider(at, bad), Some(Act::Provider(at, Trouble::Fine)))
            }
            5 => (Act::Userinfo(at, true), Some(Act::Userinfo(at, false))),
            6 => {
                let bad = match self.chance.below(5) {
                    0 => StoreWeather::LosesAcknowledgements,
                    1 => StoreWeather::Flaky,
                    2 => StoreWeather::Stale,
                    _ => StoreWeather::Refuses(self.chance.pick(&REFUSALS)),
                };
                (Act::Store(who, bad), Some(Act::Store(who, StoreWeather::Fine)))
            }
            7 => {
                let bad = self.chance.pick(&[
                    DiskWeather::Full,
                    DiskWeather::SyncsFail(false),
                    DiskWeather::SyncsFail(true),
                    DiskWeather::ReadOnly,
                ]);
                (Act::Disk(bad), Some(Act::Disk(DiskWeather::Fine)))
            }
            8 => (Act::AppAsks(who), None),
            9 => (Act::Refresh(who), None),
            10 => (Act::Consent(who), None),
            11 => (Act::Revoke(who), None),
            12 => (Act::AdminRevokes(who), None),
            13 => (Act::Intrude(who), None),
            _ => (Act::Reload(who), None),
        };
        self.at(when, Happening::Act(act));
        if let Some(over) = over {
            let span = if kind == 6 { outage } else { span };
            self.at(when + span, Happening::Act(over));
        }
    }

    /// Something is done while an effect of this integration is under way.
    pub(crate) fn mischief(&mut self, who: usize) {
        if self.calm || !self.chance.hit(self.mood.mischief) {
            return;
        }
        let act = match self.chance.below(10) {
            0 | 1 => Act::Crash,
            2 => Act::Terminate,
            3 | 4 => Act::Revoke(who),
            5 | 6 => Act::Consent(who),
            7 => Act::Refresh(who),
            8 => Act::AppAsks(who),
            _ => Act::Jump(self.chance.pick(&[-3_600_000, -5000, 5000, 3_600_000])),
        };
        let wait = self.chance.magnitude(1, 400);
        self.after(wait, Happening::Act(act));
    }

    pub(crate) fn act(&mut self, act: Act) {
        let allowed = match act {
            Act::Provider(_, Trouble::Fine)
            | Act::Userinfo(_, false)
            | Act::Store(_, StoreWeather::Fine)
            | Act::Disk(DiskWeather::Fine)
            | Act::Cron(..)
            | Act::PersonLooks(_)
            | Act::Mend(_)
            | Act::KillIfDraining(_) => true,
            _ => !self.calm,
        };
        if !allowed {
            return;
        }
        if self.is_up() {
            self.look_at_the_clock();
        }
        match act {
            Act::AppAsks(_) | Act::Cron(..) | Act::PersonLooks(_) => {}
            other => self.trace.say(self.now, || format!("{other:?}")),
        }
        match act {
            Act::Crash => self.crash("out of the blue"),
            Act::Terminate => self.terminate(),
            Act::KillIfDraining(run) => {
                if self.process.as_ref().is_some_and(|process| process.run == run) {
                    self.crash("while draining");
                }
            }
            Act::Suspend(span) => {
                self.tally.suspends += 1;
                self.asleep_until = (self.now + span).min(self.mood.hostile_until).max(self.asleep_until);
            }
            Act::Jump(by) => {
                self.tally.jumps += 1;
                self.clock_was_set(by);
            }
            Act::Provider(at, trouble) => {
                self.tally.outages += u64::from(trouble != Trouble::Fine);
                self.providers[at].trouble = trouble;
            }
            Act::Userinfo(at, silent) => self.providers[at].userinfo_silent = silent,
            Act::Store(who, weather) => {
                self.tally.outages += u64::from(weather != StoreWeather::Fine);
                self.secrets[who].weather = weather;
            }
            Act::Disk(weather) => {
                self.tally.outages += u64::from(weather != DiskWeather::Fine);
                self.disk.weather = weather;
            }
            Act::Cron(who, period) => self.cron(who, period),
            Act::AppAsks(who) => self.app_asks(who),
            Act::Refresh(who) => self.refresh(who),
            Act::Consent(who) => self.consent(who),
            Act::Revoke(who) => self.revoke(who),
            Act::AdminRevokes(who) => self.admin_revokes(who),
            Act::Intrude(who) => self.intrude(who),
            Act::Reload(who) => self.reload(who),
            Act::PersonLooks(who) => self.person_looks(who),
            Act::Mend(who) => self.mend(who),
        }
    }

    fn person_looks(&mut self, who: usize) {
        let now = self.wall();
        let view = self.process.as_ref().map(|process| process.lives[who].machine.view(now));
        if view
            .is_some_and(|view| view.status == Status::Pending && view.actions.contains(&Action::Configure))
        {
            self.refresh(who);
        }
    }

    /// Cron may be late, silent, or say everything twice.
    fn cron(&mut self, who: usize, period: i64) {
        if self.is_up() {
            for _twice in 0..=u32::from(self.chance.hit(0.2)) {
                self.feed(who, Event::RotationAsked { by: Asker::Schedule });
            }
        }
        let late = if self.chance.hit(0.2) { self.chance.between(0, period) } else { 0 };
        self.after(period + late, Happening::Act(Act::Cron(who, period)));
    }

    fn app_asks(&mut self, who: usize) {
        let min_ttl = Duration::from_secs(self.chance.below(3600));
        let (now, up) = (self.wall(), self.is_up());
        let Some(process) = &self.process else { return };
        let board = process.lives[who].board;
        let short = board.is_none_or(|board| board.until.is_some_and(|until| until.since(now) <= min_ttl));
        if up && short {
            self.feed(who, Event::RotationAsked { by: Asker::App });
        }
    }

    pub(crate) fn refresh(&mut self, who: usize) {
        if self.is_up() {
            self.operator_asks(who);
            self.feed(who, Event::RotationAsked { by: Asker::Operator });
        }
    }

    /// A person consents, and comes back with a code.
    pub(crate) fn consent(&mut self, who: usize) {
        if !self.is_up() || self.too_many_consents(who) {
            return;
        }
        self.tally.consents += 1;
        let account = if !self.calm && self.chance.hit(0.15) { Who::Other } else { Who::Expected };
        let brought_at = self.tally.events;
        self.ledger.codes.push(Code { who, used: false, account, family: None, brought_at });
        let code = AuthCode::new(format!("c{}", self.ledger.codes.len() - 1));
        let frozen = Frozen {
            token_endpoint: "https://idp.example/token".into(),
            issuer: None,
            issuer_promised: false,
            redirect_uri: "https://grantd.example/callback".into(),
            verifier: None,
            nonce: None,
        };
        self.consent_begins(who);
        self.feed(
            who,
            Event::CodeReceived(Box::new(Exchange {
                code,
                frozen,
                account: AccountChange::Allowed,
                pace: None,
            })),
        );
    }

    fn revoke(&mut self, who: usize) {
        if !self.is_up() {
            return;
        }
        self.tally.revocations += 1;
        let Some(process) = &mut self.process else { return };
        process.lives[who].revokers += 1;
        let before = self.revocation_asked(who);
        self.feed(who, Event::RevocationAsked { by: Asker::Operator });
        let now = self.wall();
        let taken = self
            .process
            .as_ref()
            .is_none_or(|one| one.lives[who].machine.view(now).status == Status::Revoked);
        if !taken {
            // There was nothing to revoke.
            self.oracle.cases[who].ended = before;
        }
    }

    fn admin_revokes(&mut self, who: usize) {
        for family in self.ledger.families.iter_mut().filter(|family| family.who == who) {
            family.alive = false;
        }
    }

    fn reload(&mut self, who: usize) {
        let terms = self.roles[who].terms.clone();
        if self.is_up() {
            self.operator_asks(who);
            if let Some(process) = &mut self.process {
                process.lives[who].machine.set_terms(terms);
            }
            self.rearm(who);
        }
    }

    /// Somebody else puts their hand into the store.
    fn intrude(&mut self, who: usize) {
        self.tally.intrusions += 1;
        let now = self.now;
        let kind = self.chance.below(7);
        self.trace.say(now, || {
            let kinds = [
                "a placeholder",
                "a placeholder",
                "a neighbour's record",
                "a later schema",
                "a backup",
                "nothing",
                "a newer record",
            ];
            format!("somebody puts {} into the store of app{who}", kinds[usize::try_from(kind).unwrap()])
        });
        match kind {
            0 | 1 => {
                let id = self.secrets[who].intrude(b"changeme", None, now);
                self.secrets[who].strangers_own = Some(id);
            }
            2 => {
                self.copy_a_neighbour(who);
                self.mend_soon(who);
            }
            3 => {
                self.mend_soon(who);
                let id = self.secrets[who].intrude(br#"{"schema":"grantd/9"}"#, None, now);
                self.secrets[who].strangers_own = Some(id);
            }
            4 => self.restore_backup(who),
            5 => {
                let written: Vec<u64> = self.secrets[who].written.keys().copied().collect();
                self.oracle.cases[who].seen.extend(written);
                self.secrets[who].empty(now);
                self.destroyed(who);
            }
            _ => self.write_newer(who),
        }
        self.oracle.stale = true;
    }

    /// Nobody lets a secret that grantd must not touch stand for ever; grantd asks every few seconds meanwhile.
    fn mend_soon(&mut self, who: usize) {
        let wait = self.chance.magnitude(10_000, 7_200_000);
        self.after(wait, Happening::Act(Act::Mend(who)));
    }

    fn copy_a_neighbour(&mut self, who: usize) {
        let other = self.chance.index(self.roles.len());
        let version = self.secrets[other].labels.current.and_then(|id| self.secrets[other].versions.get(&id));
        let Some(value) = version.map(|version| std::rc::Rc::clone(&version.value)) else { return };
        if other != who {
            let id = self.secrets[who].intrude(&value, None, self.now);
            self.secrets[who].strangers_own = Some(id);
        }
    }

    /// An older generation becomes current again: by its label, or by a copy under another id.
    fn restore_backup(&mut self, who: usize) {
        let secret = &mut self.secrets[who];
        let olds: Vec<Id> = secret.versions.keys().copied().filter(|id| matches!(id, Id::Ours(_))).collect();
        if olds.len() < 2 {
            return;
        }
        let id = olds[self.chance.index(olds.len() - 1)];
        if self.chance.hit(0.5) {
            secret.relabel(id, self.now);
        } else {
            let (value, refresh) =
                (std::rc::Rc::clone(&secret.versions[&id].value), secret.versions[&id].refresh);
            secret.intrude(&value, refresh, self.now);
        }
    }

    /// An operator consents elsewhere and puts the newer record into the store by hand; the old grant ends.
    fn write_newer(&mut self, who: usize) {
        let highest = self.newest_in_store(who).map_or(0, |(generation, _)| generation);
        let (life, renewable) = (self.provider_of(who).life, self.provider_of(who).renewable);
        if highest == 0 || !renewable {
            return;
        }
        self.admin_revokes(who);
        let issue = self.ledger.begin((who, self.tally.events), true, life.map(|life| self.now + life));
        let (wall, generation) = (self.wall(), highest + 5 + self.chance.below(3));
        let until = life.map(|life| wall.plus(Duration::from_millis(life.unsigned_abs())));
        let record = Record {
            identity: self.roles[who].identity.clone(),
            generation,
            refresh_token: issue.refresh.map(|rt| RefreshToken::new(rt.text())),
            access_token: Some(AccessToken::new(issue.access.text())),
            token_type: "Bearer".into(),
            expires_at: until,
            refresh_token_expires_at: None,
            scope: None,
            account: grantd::lifecycle::Account::default(),
            connected_account: None,
            status: RecordStatus::Connected,
            written_at: wall,
        };
        let facts = &mut self.ledger.ats[issue.access.0];
        (facts.durable, facts.lease) = (true, Some((wall.millis(), until.map(|until| until.millis()))));
        if let Some(rt) = issue.refresh {
            self.ledger.rts[rt.0].known.stored = true;
        }
        let now = self.now;
        self.secrets[who].intrude(record.to_json().expose_secret(), issue.refresh, now);
    }

    /// From now on nothing goes wrong. Operators mend what strangers did.
    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.trace.say(self.now, || "all is calm from here on".into());
        self.disk.weather = DiskWeather::Fine;
        self.mood.crash_at_effect = 0.0;
        self.mood.mischief = 0.0;
        self.mood.everyday = 0.0;
        self.mood.slow = 0.0;
        for provider in &mut self.providers {
            (provider.trouble, provider.userinfo_silent) = (Trouble::Fine, false);
        }
        for who in 0..self.roles.len() {
            self.secrets[who].weather = StoreWeather::Fine;
            self.mend(who);
        }
        self.oracle.stale = true;
        if self.process.is_none() {
            self.after(1000, Happening::Start);
        }
        for who in 0..self.roles.len() {
            let wait = 5000 + self.chance.between(0, 1000);
            if self.mood.cron.is_none() {
                self.after(wait, Happening::Act(Act::Cron(who, 600_000 + self.mood.life)));
            }
            self.after(wait + 5000, Happening::Act(Act::PersonLooks(who)));
        }
        self.look_again();
    }

    /// What a stranger wrote goes, and the newest generation is current again.
    fn mend(&mut self, who: usize) {
        let newest = self.newest_in_store(who);
        let secret = &mut self.secrets[who];
        match newest {
            Some((_, id)) if secret.labels.current != Some(id) => secret.relabel(id, self.now),
            Some(_) => {}
            None => secret.empty(self.now),
        }
        secret.strangers_own = None;
        self.oracle.stale = true;
    }

    /// The highest generation of this integration's own records, and where it is.
    fn newest_in_store(&self, who: usize) -> Option<(u64, Id)> {
        let records = self.secrets[who].versions.iter().filter_map(|(id, version)| {
            let record = Record::from_json(&version.value, &self.roles[who].identity).ok()?;
            Some((record.generation, *id))
        });
        records.max()
    }

    pub(crate) fn look_again(&mut self) {
        let wait = (self.mood.life / 16).clamp(1000, 600_000);
        self.after(wait, Happening::Inspect);
    }
}

const DAY: i64 = 86_400_000;
