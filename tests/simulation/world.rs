//! The world: true time, the queue of what will happen, and who takes part. One seed, one run, one thread.
//!
//! True time is nobody's but the world's; grantd sees a wall clock that may be set forwards and backwards. Nothing here may
//! look at the machine's own time.

use crate::actors::Act;
use crate::chance::Chance;
use crate::disk::{Disk, Flaw};
use crate::journal::{Journal, Work};
use crate::mood::{self, Mood, Role};
use crate::oracle::Oracle;
use crate::process::Process;
use crate::provider::{Issue, Ledger, Provider, Rt};
use crate::report::{Tally, Trace};
use crate::store::Secret;
use crate::traffic::{Request, Write};
use crate::variants::Variant;
use grantd::lifecycle::{Completion, Op, Record, RecordStatus};
use grantd::secret::{AccessToken, RefreshToken};
use grantd::time::Timestamp;
use std::collections::BTreeMap;

/// Everything there is in one run.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) variant: Option<Variant>,
    pub(crate) now: i64,
    /// What the wall clock shows, less true time.
    pub(crate) offset: i64,
    /// How often the wall clock was set back, and when last.
    pub(crate) set_back_at: i64,
    pub(crate) jumped_at: i64,
    pub(crate) chance: Chance,
    pub(crate) mood: Mood,
    pub(crate) queue: BTreeMap<(i64, u64), Happening>,
    ticket: u64,
    pub(crate) roles: Vec<Role>,
    pub(crate) providers: Vec<Provider>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) ledger: Ledger,
    pub(crate) disk: Disk,
    pub(crate) journal: Option<Journal>,
    pub(crate) process: Option<Process>,
    /// Counts the runs of the daemon.
    pub(crate) run: u32,
    /// Until when the host sleeps.
    pub(crate) asleep_until: i64,
    /// Whether nothing goes wrong any more.
    pub(crate) calm: bool,
    pub(crate) oracle: Oracle,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
}

/// What may happen next.
pub(crate) enum Happening {
    /// The daemon starts.
    Start,
    /// The engine's sleep ends.
    Wake { run: u32, turn: u64 },
    /// An effect ends, and the daemon hears of it.
    Ended { run: u32, who: usize, op: Op, end: Completion },
    /// The disk has done a piece of work.
    Disk { run: u32, who: usize, op: Option<Op>, work: Work },
    /// A request reaches a provider.
    Reached { run: u32, who: usize, op: Op, request: Request },
    /// The store is looked at before a write.
    Look { run: u32, who: usize, op: Op, write: Write },
    /// A write reaches the store.
    Put { run: u32, who: usize, op: Op, write: Write },
    /// The store is read.
    Read { run: u32, who: usize, op: Op },
    /// Somebody does something, or the weather changes.
    Act(Act),
    /// Nothing goes wrong from now on.
    Calm,
    /// A look at whether all is well.
    Inspect,
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) failure: Option<crate::oracle::Failure>,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
}

impl World {
    /// Runs one seed to its end.
    pub(crate) fn run(seed: u64, variant: Option<Variant>, loud: bool) -> Ended {
        let mut world = Self::new(seed, variant, loud);
        world.begin();
        let mut steps = 0_u32;
        while let Some(((at, _), what)) = world.queue.pop_first() {
            if at > world.mood.end || world.oracle.failure.is_some() || world.is_well() {
                break;
            }
            world.now = at;
            world.happen(what);
            world.inspect();
            steps += 1;
            if steps > MOST_STEPS {
                world.broken("7", format_args!("the world does not come to rest"));
            }
        }
        world.last_judgement();
        world.tally.steps += u64::from(steps);
        world.tally.millis += world.now * world.roles.len() as i64;
        Ended { failure: world.oracle.failure, tally: world.tally, trace: world.trace }
    }

    fn new(seed: u64, variant: Option<Variant>, loud: bool) -> Self {
        let mut chance = Chance::new(seed);
        let mood = Mood::draw(&mut chance);
        let (mut providers, mut roles) = (Vec::new(), Vec::new());
        let mut declared = Vec::new();
        for _provider in 0..=chance.below(2) {
            let life = mood.life / chance.pick(&[1, 1, 1, 2, 3]);
            let (provider, rotation) = mood::provider(&mut chance, life / 1000 * 1000);
            providers.push(provider);
            declared.push(rotation);
        }
        for number in 0..=chance.index(3) {
            let at = chance.index(providers.len());
            roles.push(mood::role(&mut chance, number, at, &providers[at], declared[at]));
        }
        let flaw = variant.map_or(Flaw::None, Variant::of_the_disk);
        let disk = Disk::new(mood.copies_on_write, flaw);
        let secrets = roles.iter().map(|role| Secret::new(role.limited)).collect();
        let oracle = Oracle::new(roles.len());
        Self {
            seed,
            variant,
            now: 0,
            offset: WALL,
            set_back_at: i64::MIN,
            jumped_at: i64::MIN,
            chance,
            mood,
            queue: BTreeMap::new(),
            ticket: 0,
            roles,
            providers,
            secrets,
            ledger: Ledger::default(),
            disk,
            journal: None,
            process: None,
            run: 0,
            asleep_until: i64::MIN,
            calm: false,
            oracle,
            tally: Tally::default(),
            trace: Trace::new(loud),
        }
    }

    /// What was before the run: grants that are in the store, and the plan of what will go wrong.
    fn begin(&mut self) {
        self.introduce();
        for who in 0..self.roles.len() {
            if self.roles[who].history > 0 {
                self.settle_history(who);
            }
            if self.variant.is_some_and(Variant::overwrites) {
                self.secrets[who].overwrites = true;
            }
        }
        self.at(0, Happening::Start);
        self.plan();
        self.at(self.mood.hostile_until, Happening::Calm);
    }

    fn settle_history(&mut self, who: usize) {
        let provider = &self.providers[self.roles[who].provider];
        let lived = self.chance.between(0, self.mood.life);
        let ends_at = provider.life.map(|life| life - lived);
        let Issue { access, refresh } = self.ledger.begin((who, 0), provider.renewable, ends_at);
        let role = &self.roles[who];
        let written_at = Timestamp::from_millis(WALL - lived);
        let record = Record {
            identity: role.identity.clone(),
            generation: role.history,
            refresh_token: refresh.map(|rt| RefreshToken::new(rt.text())),
            access_token: Some(AccessToken::new(access.text())),
            token_type: "Bearer".into(),
            expires_at: ends_at.map(|at| Timestamp::from_millis(WALL + at)),
            refresh_token_expires_at: None,
            scope: None,
            account: grantd::lifecycle::Account { username: Some("bot".into()), ..Default::default() },
            connected_account: None,
            status: RecordStatus::Connected,
            written_at,
        };
        let facts = &mut self.ledger.ats[access.0];
        (facts.durable, facts.lease) =
            (true, Some((written_at.millis(), record.expires_at.map(Timestamp::millis))));
        let value = record.to_json().expose_secret().to_vec();
        let secret = &mut self.secrets[who];
        let put = secret.put(&record, crate::store::Verdict::Ours, -1_000_000);
        assert!(put.is_ok());
        secret.written.insert(record.generation, value.into());
        if let Some(rt) = refresh {
            self.ledger.rts[rt.0].known.stored = true;
            self.oracle.owe(who, rt, &self.ledger);
        }
        if role.remembered {
            self.disk.remember(who, role.history, &mut self.chance);
        }
    }

    pub(crate) fn at(&mut self, when: i64, what: Happening) {
        self.ticket += 1;
        self.queue.insert((when.max(self.now), self.ticket), what);
    }

    pub(crate) fn after(&mut self, wait: i64, what: Happening) {
        self.at(self.now + wait, what);
    }

    /// What the wall clock shows.
    pub(crate) const fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.now + self.offset)
    }

    pub(crate) fn provider_of(&self, who: usize) -> &Provider {
        &self.providers[self.roles[who].provider]
    }

    pub(crate) fn is_good(&self, who: usize, rt: Rt) -> bool {
        self.ledger.is_good(rt, self.provider_of(who).habit, self.now)
    }

    fn happen(&mut self, what: Happening) {
        let run = match &what {
            Happening::Wake { run, .. }
            | Happening::Ended { run, .. }
            | Happening::Disk { run, .. }
            | Happening::Look { run, .. }
            | Happening::Read { run, .. } => Some(*run),
            Happening::Start
            | Happening::Reached { .. }
            | Happening::Put { .. }
            | Happening::Act(_)
            | Happening::Calm
            | Happening::Inspect => None,
        };
        if let Some(run) = run {
            if self.process.as_ref().is_none_or(|process| process.run != run) {
                return;
            }
            if self.now < self.asleep_until {
                return self.at(self.asleep_until, what);
            }
        }
        match what {
            Happening::Start => self.start(),
            Happening::Wake { turn, .. } => self.wake(turn),
            Happening::Ended { who, op, end, .. } => self.ended(who, op, end),
            Happening::Disk { who, op, work, .. } => self.disk_done(who, op, &work),
            Happening::Reached { run, who, op, request } => self.reached((run, who, op), request),
            Happening::Look { who, op, write, .. } => self.look(who, op, write),
            Happening::Put { run, who, op, write } => self.put((run, who, op), write),
            Happening::Read { who, op, .. } => self.read(who, op),
            Happening::Act(act) => self.act(act),
            Happening::Calm => self.calm_down(),
            Happening::Inspect => {
                self.take_stock();
                self.look_again();
            }
        }
    }
}

/// What the wall clock shows at the beginning.
pub(crate) const WALL: i64 = 1_800_000_000_000;
const MOST_STEPS: u32 = 200_000;
