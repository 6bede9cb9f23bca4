//! The model of the daemon around the core: what `engine/run.rs` and `daemon/performer.rs` do, without a runtime.
//!
//! Feeds events, carries effects out, sleeps until deadlines, drains, crashes, and starts again from what the disk holds.
//! Where those files change, this one must follow.

use crate::chance::Chance;
use crate::journal::{Journal, Work};
use crate::oracle::word_of;
use crate::provider::{At, Rt};
use crate::sabotage::Machine;
use crate::traffic::{Request, Write};
use crate::world::{Happening, World};
use grantd::lifecycle::{Answer, Completion, Effect, Event, Op, Spent};
use grantd::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One run of the daemon.
pub(crate) struct Process {
    pub(crate) run: u32,
    pub(crate) lives: Vec<Live>,
    /// What is under way, by integration and operation.
    pub(crate) flying: BTreeMap<(usize, u64), Flying>,
    /// Work that nobody waits for but a drain.
    pub(crate) loose: u32,
    pub(crate) draining: bool,
    armed: Option<i64>,
    turn: u64,
    /// By how much the wall clock was set back since the engine last looked.
    set_back: Option<Duration>,
}

/// One integration in the engine's hands.
pub(crate) struct Live {
    pub(crate) machine: Machine,
    pub(crate) board: Option<Board>,
    deadline: Option<Timestamp>,
    pub(crate) revokers: u32,
    /// Deadlines in a row of which nothing came.
    idle_turns: u32,
}

/// The lease on the board.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Board {
    pub(crate) access: At,
    pub(crate) from: Timestamp,
    pub(crate) until: Option<Timestamp>,
    pub(crate) generation: u64,
}

/// An effect under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flying {
    Refresh(Rt),
    Exchange,
    Load,
    Store,
    Clear,
    Tell(Option<Rt>),
    Other,
}

impl World {
    pub(crate) fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        let many = self.roles.len();
        let opened = Journal::open(&mut self.disk, many, &mut self.chance);
        let Ok(mut journal) = opened else {
            self.trace.say(self.now, || "grantd cannot open its spool and gives up".into());
            return self.after(10_000, Happening::Start);
        };
        self.run += 1;
        let found: Vec<_> = (0..many).map(|who| journal.find(&mut self.disk, who)).collect();
        self.journal = Some(journal);
        let lives = self.roles.iter().map(|role| Live {
            machine: Machine::new(role, self.variant),
            board: None,
            deadline: None,
            revokers: 0,
            idle_turns: 0,
        });
        self.process = Some(Process {
            run: self.run,
            lives: lives.collect(),
            flying: BTreeMap::new(),
            loose: 0,
            draining: false,
            armed: None,
            turn: 0,
            set_back: None,
        });
        self.trace.say(self.now, || format!("grantd starts, run {}", self.run));
        self.oracle_starts(&found);
        for (who, found) in found.into_iter().enumerate() {
            self.feed(who, Event::Restored(found));
        }
    }

    /// The engine's first act in every turn.
    pub(crate) fn look_at_the_clock(&mut self) {
        let Some(by) = self.process.as_mut().and_then(|process| process.set_back.take()) else { return };
        for who in 0..self.roles.len() {
            self.feed(who, Event::ClockSetBack(by));
        }
    }

    /// One turn for one integration: the event in, the effects out, the board up to date.
    pub(crate) fn feed(&mut self, who: usize, event: Event) {
        self.look_at_the_clock();
        let now = self.wall();
        let Some(process) = &mut self.process else { return };
        let line = self.trace.loud.then(|| crate::report::event(&event));
        let is_deadline = matches!(event, Event::DeadlineReached);
        let answer = answer_in(&event);
        let live = &mut process.lives[who];
        let effects = live.machine.handle(event, now);
        live.idle_turns = if is_deadline && effects.is_empty() { live.idle_turns + 1 } else { 0 };
        let run = process.run;
        if let Some(line) = line.filter(|line| !effects.is_empty() || !line.ends_with("Schedule")) {
            self.trace.say(self.now, || format!("app{who} <- {line}"));
        }
        self.tally.events += 1;
        self.audit(who, &effects);
        if let Some(answer) = answer {
            self.answer_came(who, &answer, &effects);
        }
        self.carry_out_all(who, effects);
        if self.process.as_ref().is_none_or(|process| process.run != run) {
            return;
        }
        self.look_at(who);
        self.settle(who);
        self.arm();
    }

    fn carry_out_all(&mut self, who: usize, effects: Vec<Effect>) {
        for effect in effects {
            if self.chance.hit(self.mood.crash_at_effect * 0.5) && !self.calm {
                return self.crash("right before an effect");
            }
            self.trace.say(self.now, || format!("app{who} -> {}", crate::report::effect(&effect)));
            self.carry_out(who, effect);
            if self.process.is_none() {
                return;
            }
            if self.chance.hit(self.mood.crash_at_effect) && !self.calm {
                return self.crash("right after an effect was begun");
            }
        }
    }

    fn carry_out(&mut self, who: usize, effect: Effect) {
        match effect {
            Effect::Publish(lease) => self.publish(who, &lease),
            Effect::Withdraw => self.withdraw(who),
            Effect::Tell(end) => self.told(who, &end),
            Effect::Audit(_) | Effect::Release { .. } => {}
            Effect::Quarantine(sealed) => self.on_disk(who, None, Work::Quarantine(sealed)),
            Effect::Claim { op, .. } => {
                self.fly(who, op, Flying::Other);
                self.after(0, Happening::Ended { run: self.run, who, op, end: Completion::Claimed });
            }
            Effect::Intend { op, intent } => self.on_disk(who, Some(op), Work::Intend(intent)),
            // No case of the model mints yet.
            Effect::Mint { .. } => unreachable!("a consent is never minted"),
            Effect::Seal { op, sealed } => self.on_disk(who, Some(op), Work::Seal(sealed)),
            Effect::Mark { op, mark, slot } => self.on_disk(who, Some(op), Work::Mark(mark, slot)),
            Effect::Refresh { op, token } => {
                let rt = Rt::of(token.expose_secret());
                self.presented(who, rt);
                self.fly(who, op, Flying::Refresh(rt));
                self.send(who, op, Request::Refresh(rt));
            }
            Effect::Exchange { op, exchange } => {
                let code: usize = exchange.code.expose_secret()[1..].parse().unwrap();
                self.one_spend(who);
                self.fly(who, op, Flying::Exchange);
                self.send(who, op, Request::Exchange(code));
            }
            Effect::Try { op, token } => {
                self.fly(who, op, Flying::Other);
                self.send(who, op, Request::Try(At::of(token.expose_secret())));
            }
            Effect::RevokeUpstream { op, refresh_token, access_token, connected_account: _ } => {
                let refresh = refresh_token.map(|token| Rt::of(token.expose_secret()));
                let access = access_token.map(|token| At::of(token.expose_secret()));
                self.tells_provider(who, refresh);
                self.fly(who, op, Flying::Tell(refresh));
                self.send(who, op, Request::Revoke(refresh, access));
            }
            Effect::Store { op, record } => {
                self.stores(who, &record);
                self.fly(who, op, Flying::Store);
                self.begin_write(who, op, Write::store(record));
            }
            Effect::Clear { op, record } => {
                self.clears(who, &record);
                self.fly(who, op, Flying::Clear);
                self.begin_write(who, op, Write::clear(record));
            }
            // The model asks for no deletion.
            Effect::Delete { .. } => {}
            Effect::Load { op } => {
                self.fly(who, op, Flying::Load);
                let wait = self.store_latency();
                self.after(wait, Happening::Read { run: self.run, who, op });
            }
        }
    }

    fn fly(&mut self, who: usize, op: Op, what: Flying) {
        let run = self.run;
        if matches!(what, Flying::Store | Flying::Clear) {
            self.one_write(who);
        }
        if let Some(process) = &mut self.process {
            assert!(process.run == run);
            process.flying.insert((who, op.0), what);
        }
        self.mischief(who);
    }

    fn on_disk(&mut self, who: usize, op: Option<Op>, work: Work) {
        let wait = if self.chance.hit(self.mood.slow) {
            self.chance.between(20, 4000)
        } else {
            self.chance.between(1, 15)
        };
        match op {
            Some(op) => self.fly(who, op, Flying::Other),
            None => self.process.iter_mut().for_each(|process| process.loose += 1),
        }
        self.after(wait, Happening::Disk { run: self.run, who, op, work });
    }

    /// An effect ended, and the daemon is there to hear of it.
    pub(crate) fn ended(&mut self, who: usize, op: Op, end: Completion) {
        self.look_at_the_clock();
        let Some(process) = &mut self.process else { return };
        let Some(what) = process.flying.remove(&(who, op.0)) else { return };
        self.heard(who, what, &end);
        self.feed(who, Event::Done { op, end });
        self.leave_when_drained();
    }

    pub(crate) fn disk_done(&mut self, who: usize, op: Option<Op>, work: &Work) {
        let Some(journal) = &mut self.journal else { return };
        let done = journal.perform(&mut self.disk, who, work, &mut self.chance);
        self.oracle.stale = true;
        if done.is_ok() {
            self.was_done(who, work);
        }
        let end = crate::report::completion_of(work, done);
        let Some(op) = op else {
            if let Some(process) = &mut self.process {
                process.loose -= 1;
            }
            return self.leave_when_drained();
        };
        if self.chance.hit(self.mood.crash_at_effect) && !self.calm {
            return self.crash("after the disk had done its work, before anyone heard of it");
        }
        self.ended(who, op, end);
    }

    pub(crate) fn rearm(&mut self, who: usize) {
        if let Some(process) = &mut self.process {
            process.lives[who].deadline = process.lives[who].machine.deadline();
        }
        self.arm();
    }

    fn settle(&mut self, who: usize) {
        let Some(process) = &mut self.process else { return };
        let live = &mut process.lives[who];
        live.deadline = live.machine.deadline();
        if live.revokers > 0 && !live.machine.is_busy() {
            live.revokers = 0;
            self.acknowledged(who);
        }
    }

    /// Sleeps until the next deadline. The engine's hop is ten seconds at most, which matters only when the clock is set:
    /// see `clock_was_set`.
    fn arm(&mut self) {
        let offset = self.offset;
        let Some(process) = &mut self.process else { return };
        if process.draining {
            return;
        }
        let Some(next) = process.lives.iter().filter_map(|live| live.deadline).min() else { return };
        let at = (next.millis() - offset).max(self.now);
        if process.armed == Some(at) {
            return;
        }
        process.armed = Some(at);
        process.turn += 1;
        let (run, turn) = (process.run, process.turn);
        self.at(at, Happening::Wake { run, turn });
    }

    pub(crate) fn clock_was_set(&mut self, by: i64) {
        self.offset += by;
        self.jumped_at = self.now;
        if by < 0 {
            self.set_back_at = self.now;
        }
        let hop = self.chance.between(0, 10_000);
        let Some(process) = &mut self.process else { return };
        // The engine looks at the clock at every turn and once a hop: it sees the step less what passed since its last look.
        let step = -by - self.chance.between(0, hop);
        process.set_back = (step >= 1000).then(|| Duration::from_millis(step.unsigned_abs()));
        process.armed = Some(self.now + hop);
        process.turn += 1;
        let (run, turn) = (process.run, process.turn);
        self.after(hop, Happening::Wake { run, turn });
    }

    pub(crate) fn wake(&mut self, turn: u64) {
        let now = self.wall();
        let Some(process) = &mut self.process else { return };
        if process.turn != turn || process.draining {
            return;
        }
        process.armed = None;
        self.look_at_the_clock();
        loop {
            let Some(process) = &self.process else { return };
            let due = process
                .lives
                .iter()
                .enumerate()
                .filter_map(|(who, live)| live.deadline.map(|at| (at, who)))
                .min();
            let Some((_, who)) = due.filter(|(at, _)| *at <= now) else { break };
            let run = process.run;
            self.feed(who, Event::DeadlineReached);
            let Some(process) = &mut self.process else { return };
            if process.run != run {
                return;
            }
            let live = &mut process.lives[who];
            if live.deadline.is_some_and(|next| next <= now) {
                live.deadline = Some(now.plus(Duration::from_millis(100)));
                let (turns, busy) = (live.idle_turns, process.flying.keys().any(|(whose, _)| *whose == who));
                if turns > 50 && !busy {
                    self.broken("7", format_args!("app{who}: a deadline of which nothing ever comes"));
                }
            }
        }
        self.arm();
    }

    /// SIGTERM: nothing is begun any more, what is in flight ends, and the daemon leaves.
    pub(crate) fn terminate(&mut self) {
        let Some(process) = &mut self.process else { return };
        if process.draining {
            return;
        }
        self.tally.drains += 1;
        self.trace.say(self.now, || "SIGTERM".into());
        process.draining = true;
        for who in 0..self.roles.len() {
            let Some(process) = &mut self.process else { return };
            let effects = process.lives[who].machine.drain();
            self.carry_out_all(who, effects);
        }
        let patience = self.chance.between(20_000, 90_000);
        self.after(patience, Happening::Act(crate::actors::Act::KillIfDraining(self.run)));
        if self.variant.is_some_and(|variant| variant.cancels_on_shutdown()) {
            return self.leave();
        }
        self.leave_when_drained();
    }

    pub(crate) fn leave_when_drained(&mut self) {
        let drained =
            self.process.as_ref().is_some_and(|one| one.draining && one.flying.is_empty() && one.loose == 0);
        if drained {
            self.leave();
        }
    }

    fn leave(&mut self) {
        let Some(process) = self.process.take() else { return };
        self.journal = None;
        self.trace.say(self.now, || "grantd leaves".into());
        if let Some(((who, _), what)) = process.flying.iter().next() {
            self.broken(
                "1",
                format_args!("a shutdown cut {what:?} of app{who} off: what is in flight is finished"),
            );
        }
        self.gone();
        let pause = self.pause();
        self.after(pause, Happening::Start);
    }

    /// The process ends where it stands.
    pub(crate) fn crash(&mut self, how: &str) {
        let Some(process) = self.process.take() else { return };
        let power = self.chance.hit(self.mood.power);
        self.tally.crashes += 1;
        self.trace.say(self.now, || format!("CRASH {how}{}", if power { ", with the power" } else { "" }));
        self.half_done(process.run);
        self.journal = None;
        self.disk.crash(power, &mut self.chance);
        self.oracle.stale = true;
        self.gone();
        let pause = self.pause();
        self.after(pause, Happening::Start);
    }

    /// The spool's lock lets one piece of work be half done; what waited for it was not begun. A request that was being sent was
    /// sent or not.
    fn half_done(&mut self, run: u32) {
        let lost: Vec<(i64, u64)> = self
            .queue
            .iter()
            .filter(|(_, what)| {
                matches!(what, Happening::Disk { run: of, .. } | Happening::Reached { run: of, .. } | Happening::Put { run: of, .. } if *of == run)
            })
            .map(|(key, _)| *key)
            .collect();
        let mut first = true;
        for key in lost {
            let Some(what) = self.queue.remove(&key) else { continue };
            match what {
                Happening::Disk { who, work, .. } if first => {
                    first = false;
                    self.disk.steps_left = Some(u32::try_from(self.chance.below(7)).unwrap());
                    if let Some(journal) = &mut self.journal {
                        let _cut = journal.perform(&mut self.disk, who, &work, &mut self.chance);
                    }
                    self.disk.steps_left = None;
                }
                Happening::Disk { .. } => {}
                sent if self.chance.hit(0.7) => {
                    let soon = self.chance.between(0, 2000);
                    self.after(soon, sent);
                }
                _never_sent => {}
            }
        }
    }

    fn pause(&mut self) -> i64 {
        if self.calm {
            return 1000;
        }
        match self.chance.below(6) {
            0..=2 => self.chance.magnitude(100, 20_000),
            3 | 4 => self.chance.magnitude(20_000, 3_600_000),
            _ => self.chance.magnitude(1000, self.mood.life * 2),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.draining) && self.now >= self.asleep_until
    }

    pub(crate) fn audit(&mut self, who: usize, effects: &[Effect]) {
        let lines: Vec<_> = effects.iter().filter_map(word_of).collect();
        self.audited(who, &lines);
    }
}

fn answer_in(event: &Event) -> Option<Arc<Answer>> {
    match event {
        Event::Done { end: Completion::Answered(Spent::Answered(answer)), .. } => Some(Arc::clone(answer)),
        _ => None,
    }
}

/// How long a request takes that takes long.
pub(crate) fn long(chance: &mut Chance, most: i64) -> i64 {
    chance.magnitude(100, most)
}
