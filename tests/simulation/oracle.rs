//! The oracle: the invariants of the design (section 2), judged by the truth that the core cannot see. This half judges what the
//! core does; `owed.rs` judges what becomes of tokens and records.
//!
//! A rule is never loosened to let a seed pass. Numbers are the design's; `B7` is the promise that no received token is lost.

use crate::process::{Board, Flying};
use crate::provider::{At, Known, Ledger, Rt};
use crate::world::World;
use grantd::lifecycle::{
    Answer, Completion, ConsentEnd, Effect, Found, Lease, Loaded, Outage, Revocation, Rotation, Spent,
    Standing, Status,
};
use grantd::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A broken invariant.
pub(crate) struct Failure {
    pub(crate) rule: &'static str,
    pub(crate) what: String,
    pub(crate) at: i64,
}

/// What the oracle remembers.
pub(crate) struct Oracle {
    pub(crate) failure: Option<Failure>,
    pub(crate) cases: Vec<Case>,
    /// The disk or the store changed since the tokens were last looked for.
    pub(crate) stale: bool,
    pub(crate) all_well: bool,
}

/// What the oracle remembers of one integration.
#[derive(Default)]
pub(crate) struct Case {
    /// Tokens that were received and sealed, the newest last: they must not be lost.
    pub(crate) owed: Vec<Rt>,
    /// The grant that grantd goes by.
    pub(crate) accepted: Option<usize>,
    /// Grants that the provider was told of: nothing of them is owed any more.
    pub(crate) released: BTreeSet<usize>,
    /// Revoked grants of which the provider was told, and did not answer.
    pub(crate) untold: BTreeSet<usize>,
    /// Refresh tokens of consents that were accepted before they were durable.
    pub(crate) accepted_early: BTreeSet<usize>,
    word: Option<&'static str>,
    published: Option<u64>,
    pub(crate) last_presented: Option<Rt>,
    /// The store was read since the provider last said "invalid grant".
    reread: bool,
    /// Not before this time by the wall clock, set at this true time, for this grant.
    wait: Option<(Timestamp, i64, usize)>,
    pub(crate) id_taken: bool,
    /// The generation and the bytes under which an answer was last sent to the store in this run.
    pub(crate) writes: BTreeMap<At, (u64, Rc<[u8]>)>,
    pub(crate) clear: Option<(u64, Rc<[u8]>)>,
    pub(crate) seen: BTreeSet<u64>,
    /// The refresh token of the record that was last read.
    pub(crate) loaded: Option<Rt>,
    waiters: u32,
    /// The revocation in force: when it was asked for, in counts of events, and whether it must survive anything.
    pub(crate) ended: Option<Ending>,
    needs_reauth: bool,
}

/// A revocation.
#[derive(Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) asked_at: u64,
    /// By true time.
    pub(crate) since: i64,
    pub(crate) acknowledged: bool,
    /// A crash came before it was durable and before anybody was told: grantd may have forgotten it, or find it in the store.
    pub(crate) forgotten: bool,
}

/// What an answer of a token endpoint means to an impartial reader.
enum Meaning {
    Issued(At, Option<Rt>),
    InvalidGrant,
    NotConsumed(Option<Duration>),
    Ambiguous,
}

impl Oracle {
    pub(crate) fn new(many: usize) -> Self {
        let cases = (0..many).map(|_| Case::default()).collect();
        Self { failure: None, cases, stale: true, all_well: false }
    }

    /// From now on this token must not be lost.
    pub(crate) fn owe(&mut self, who: usize, rt: Rt, ledger: &Ledger) {
        let family = ledger.rts[rt.0].family;
        let case = &mut self.cases[who];
        case.owed.retain(|old| *old != rt && ledger.rts[old.0].family != family);
        case.owed.push(rt);
        case.accepted.get_or_insert(family);
    }
}

impl World {
    pub(crate) fn broken(&mut self, rule: &'static str, what: fmt::Arguments<'_>) {
        self.trace.say(self.now, || format!("BROKEN {rule}: {what}"));
        let at = self.now;
        self.oracle.failure.get_or_insert_with(|| Failure { rule, what: what.to_string(), at });
    }

    /// Who takes part, for the dialogue.
    pub(crate) fn introduce(&mut self) {
        for (who, role) in self.roles.iter().enumerate() {
            let (provider, terms) = (&self.providers[role.provider], &role.terms);
            self.trace.say(0, || {
                format!(
                    "app{who}: {:?}, declared {:?}, tokens live {:?} ms (said: {}), outage {:?}, history {}, remembered {}, pinned {}, can try {}",
                    provider.habit,
                    terms.rotation,
                    provider.life,
                    provider.says_life,
                    terms.outage,
                    role.history,
                    role.remembered,
                    !terms.expected_account.is_any(),
                    terms.can_try,
                )
            });
        }
    }

    /// A run of the daemon begins with what a crash or a shutdown left.
    pub(crate) fn oracle_starts(&mut self, found: &[Found]) {
        for (who, found) in found.iter().enumerate() {
            for sealed in &found.answers {
                self.sealed(who, sealed);
                if let Some(presented) = &sealed.presented {
                    let rt = Rt::of(presented.expose_secret());
                    if matches!(meaning_of(&sealed.answer), Meaning::InvalidGrant) {
                        self.ledger.rts[rt.0].known.refused_in = Some(self.run);
                    }
                }
            }
            let case = &mut self.oracle.cases[who];
            case.word = Some("pending");
            case.needs_reauth = found.mark.standing == Standing::NeedsReauth;
            let kept = matches!(found.mark.standing, Standing::Revoking | Standing::Revoked);
            if let Some(ended) = &mut case.ended {
                // Only the store knew, and an operator has put an older record back since.
                let undone = !kept && self.secrets[who].touched_at > ended.since;
                ended.acknowledged = (ended.acknowledged && !undone) || kept;
                ended.forgotten = !ended.acknowledged;
            }
        }
    }

    /// The daemon is gone: what was only said in it is forgotten.
    pub(crate) fn gone(&mut self) {
        for case in &mut self.oracle.cases {
            (case.word, case.published, case.wait, case.waiters) = (None, None, None, 0);
            (case.reread, case.id_taken) = (false, false);
            case.writes.clear();
            case.clear = None;
        }
    }

    /// Invariant 9: one line for each transition, at most one for an event, and no transition without.
    pub(crate) fn audited(&mut self, who: usize, lines: &[(&'static str, &'static str, &'static str)]) {
        if lines.len() > 1 {
            self.broken("9", format_args!("app{who}: one event left {} audit entries", lines.len()));
        }
        for (what, from, to) in lines {
            let case = &mut self.oracle.cases[who];
            let before = case.word.replace(*to);
            if before.is_some_and(|before| before != *from) {
                self.broken(
                    "9",
                    format_args!("app{who}: {what} begins at {from}, and the last entry ended at {before:?}"),
                );
            }
            self.tally.in_doubt += u64::from(*what == "in_doubt");
            if *what == "adopted" {
                self.adopted(who);
            }
        }
    }

    /// Invariant 3: what was received is sealed as it came, before anything else is done.
    pub(crate) fn answer_came(&mut self, who: usize, answer: &Arc<Answer>, effects: &[Effect]) {
        let first = effects.iter().find(|effect| !matches!(effect, Effect::Audit(_)));
        let sealed =
            matches!(first, Some(Effect::Seal { sealed, .. }) if Arc::ptr_eq(&sealed.answer, answer));
        if !sealed {
            self.broken(
                "3",
                format_args!("app{who}: an answer was received, and is not sealed first of all"),
            );
        }
    }

    /// Invariants 3, 5 and 11, at the moment something is put on the board.
    pub(crate) fn publish(&mut self, who: usize, lease: &Lease) {
        let at = At::of(lease.token.expose_secret());
        let (now, name) = (self.wall(), at.text());
        if self.ledger.access_owner(at) != who {
            self.broken(
                "11",
                format_args!("app{who} is served {name}, which belongs to another integration"),
            );
        }
        if lease.expires_at.is_some_and(|until| until <= now) {
            self.broken("5", format_args!("app{who}: {name} is published after its end"));
        }
        if !self.is_durable(who, at) {
            self.broken("3", format_args!("app{who}: {name} is published before it is durable"));
        }
        self.check_lease(who, at, lease);
        let family = self.ledger.ats[at.0].family;
        self.check_revived(who, family);
        if self.is_ended(who) {
            self.broken("5", format_args!("app{who}: {name} is served after the revocation"));
        }
        let case = &mut self.oracle.cases[who];
        let before = case.published.replace(lease.generation);
        if before.is_some_and(|before| before > lease.generation) {
            self.broken(
                "11",
                format_args!("app{who}: generation {} is served after {before:?}", lease.generation),
            );
        }
        self.goes_by(who, at);
        let (from, until) = self.ledger.ats[at.0].lease.unwrap_or((now.millis(), None));
        let back = until.zip(lease.expires_at).map_or(0, |(until, shown)| until - shown.millis());
        let from = Timestamp::from_millis(from - back);
        let board = Board { access: at, from, until: lease.expires_at, generation: lease.generation };
        if let Some(process) = &mut self.process {
            process.lives[who].board = Some(board);
        }
    }

    fn check_lease(&mut self, who: usize, at: At, lease: &Lease) {
        let truth = self.ledger.ats[at.0].lease.map(|(_, until)| until);
        let shown = lease.expires_at.map(Timestamp::millis);
        // Where the clock was set back meanwhile, the lease is shown to end that much earlier.
        let later = match (truth, shown) {
            (Some(Some(truth)), Some(shown)) => shown > truth,
            (Some(truth), shown) => truth.is_some() != shown.is_some(),
            (None, _) => false,
        };
        if later {
            self.broken(
                "5",
                format_args!("app{who}: {} ends at {truth:?} and is shown to end at {shown:?}", at.text()),
            );
        }
    }

    /// Invariant 5: after a revocation only a later consent is served, or stored.
    pub(crate) fn check_revived(&mut self, who: usize, family: usize) {
        let Some(ended) = self.oracle.cases[who].ended else { return };
        if self.ledger.families[family].given_at >= ended.asked_at {
            (self.oracle.cases[who].ended, self.oracle.cases[who].clear) = (None, None);
        } else if ended.acknowledged {
            self.broken(
                "5",
                format_args!("app{who}: grant {family} goes on after its revocation was acknowledged"),
            );
        }
    }

    fn is_ended(&self, who: usize) -> bool {
        self.oracle.cases[who].ended.is_some_and(|ended| !ended.forgotten)
    }

    /// Invariant 4: a lease that lives is taken away by its end or by a revocation alone.
    pub(crate) fn withdraw(&mut self, who: usize) {
        let now = self.wall();
        let Some(process) = &mut self.process else { return };
        let board = process.lives[who].board.take();
        let lives = board.is_some_and(|board| board.until.is_none_or(|until| now < until));
        if lives && self.oracle.cases[who].ended.is_none() {
            self.broken("4", format_args!("app{who}: a lease is withdrawn while it lives"));
        }
        self.oracle.cases[who].published = None;
    }

    /// Invariant 1: one spend in flight.
    pub(crate) fn one_spend(&mut self, who: usize) {
        let flying =
            self.process.iter().flat_map(|process| &process.flying).any(|((whose, _), what)| {
                *whose == who && matches!(what, Flying::Refresh(_) | Flying::Exchange)
            });
        if flying {
            self.broken("1", format_args!("app{who}: two spends are in flight"));
        }
    }

    /// A refresh token is about to be presented.
    pub(crate) fn presented(&mut self, who: usize, rt: Rt) {
        self.one_spend(who);
        if self.ledger.owner(rt) != who {
            self.broken(
                "11",
                format_args!("app{who} presents {}, which belongs to another integration", rt.text()),
            );
        }
        self.check_spend(who, rt);
        let now = (self.now, self.wall().millis());
        let known = &mut self.ledger.rts[rt.0].known;
        known.doubt.get_or_insert(now);
        known.doubts += 1;
        let case = &mut self.oracle.cases[who];
        case.last_presented = Some(rt);
        (case.wait, case.reread) = (None, false);
    }

    fn check_spend(&mut self, who: usize, rt: Rt) {
        let (name, terms) = (rt.text(), &self.roles[who].terms);
        let (rotation, outage) = (terms.rotation, terms.outage);
        let single = matches!(rotation, Rotation::Grace(_) | Rotation::Strict);
        let Known { doubt, succeeded, refused_in, stored, .. } = self.ledger.rts[rt.0].known;
        let family = self.ledger.rts[rt.0].family;
        self.check_revived(who, family);
        if self.is_ended(who) {
            self.broken("5", format_args!("app{who}: {name} is spent after the revocation"));
        }
        if succeeded && single {
            self.broken(
                "2",
                format_args!("app{who}: {name} is presented again, and its successor had been sealed"),
            );
        }
        if refused_in == Some(self.run) {
            self.broken("6", format_args!("app{who}: {name} is presented again after \"invalid grant\""));
        }
        let late = self.is_last_chance(who);
        if let Some((since, shown)) = doubt {
            let graced = self.is_graced(rotation, since, shown);
            if single && !graced && !late {
                self.broken(
                    "2",
                    format_args!("app{who}: {name} is in doubt and is presented again while the lease lives"),
                );
            }
        } else if single && outage == Outage::Hold && !stored && !late {
            self.broken(
                "2",
                format_args!("app{who}: {name} is spent although the store does not hold it yet"),
            );
        }
        let (now, wait) = (self.wall(), self.oracle.cases[who].wait);
        if wait.is_some_and(|(until, since, of)| now < until && self.jumped_at < since && of == family) {
            self.broken(
                "6",
                format_args!("app{who}: {name} is presented again before the time the provider asked for"),
            );
        }
    }

    /// Whether a token in doubt is still within its declared grace. A clock that was set back meanwhile cannot be seen through.
    fn is_graced(&self, rotation: Rotation, since: i64, shown: i64) -> bool {
        let Rotation::Grace(window) = rotation else { return false };
        let window = window.as_millis() as i64;
        let passed = self.wall().millis() - shown;
        self.now - since < window || (self.set_back_at >= since && (0..window).contains(&passed))
    }

    /// The documented last chance: no lease, or one that is about to end.
    fn is_last_chance(&self, who: usize) -> bool {
        let Some(Board { from, until, .. }) =
            self.process.as_ref().and_then(|process| process.lives[who].board)
        else {
            return true;
        };
        let Some(until) = until else { return false };
        let early = (until.since(from) / 10).min(Duration::from_secs(60));
        self.wall() >= until.minus(early)
    }

    /// The daemon hears how an effect ended.
    pub(crate) fn heard(&mut self, who: usize, what: Flying, end: &Completion) {
        match (what, end) {
            (Flying::Refresh(rt), Completion::Answered(spent)) => self.heard_answer(who, rt, spent),
            (Flying::Load, Completion::Loaded(loaded)) => {
                let case = &mut self.oracle.cases[who];
                case.reread = true;
                if let Loaded::Record(record) = loaded {
                    case.seen.insert(record.generation);
                    case.loaded = record.refresh_token.as_ref().map(|token| Rt::of(token.expose_secret()));
                }
            }
            (Flying::Tell(refresh), Completion::UpstreamRevoked(said)) => {
                self.was_told(who, refresh, *said != Revocation::Silent);
            }
            (Flying::Clear, Completion::Stored | Completion::StoredBeside) => {
                self.oracle.cases[who].clear = None;
            }
            (Flying::Store | Flying::Clear, Completion::IdTaken) => self.oracle.cases[who].id_taken = true,
            _ => {}
        }
    }

    fn heard_answer(&mut self, who: usize, rt: Rt, spent: &Spent) {
        let meaning = match spent {
            Spent::NotSent(_) => Meaning::NotConsumed(None),
            Spent::Lost(_) => Meaning::Ambiguous,
            Spent::Answered(answer) => meaning_of(answer),
        };
        let (wall, now, run) = (self.wall(), self.now, self.run);
        let family = self.ledger.rts[rt.0].family;
        let known = &mut self.ledger.rts[rt.0].known;
        match meaning {
            Meaning::Ambiguous => {}
            Meaning::Issued(_, refresh) if refresh.is_some_and(|fresh| fresh != rt) => {}
            Meaning::Issued(..) => (known.doubt, known.doubts) = (None, 0),
            Meaning::InvalidGrant => known.refused_in = Some(run),
            Meaning::NotConsumed(wait) => {
                known.doubts -= 1;
                if known.doubts == 0 {
                    known.doubt = None;
                }
                let wait = wait.map(|wait| (wall.plus(wait.min(Duration::from_secs(3600))), now, family));
                self.oracle.cases[who].wait = wait;
            }
        }
    }

    pub(crate) fn operator_asks(&mut self, who: usize) {
        self.oracle.cases[who].wait = None;
    }

    pub(crate) fn consent_begins(&mut self, who: usize) {
        self.oracle.cases[who].waiters += 1;
        self.oracle.cases[who].wait = None;
    }

    pub(crate) fn too_many_consents(&self, who: usize) -> bool {
        self.oracle.cases[who].waiters >= 4
    }

    /// Each person who waits hears once; and hears "stored" or "sealed" only where it is true.
    pub(crate) fn told(&mut self, who: usize, end: &ConsentEnd) {
        let case = &mut self.oracle.cases[who];
        match case.waiters.checked_sub(1) {
            Some(left) => case.waiters = left,
            None => self.broken("8", format_args!("app{who}: nobody waits to hear {end:?}")),
        }
        let newest = self.oracle.cases[who].owed.last().copied();
        let stored = newest.is_none_or(|rt| self.secrets[who].holds(rt));
        if matches!(end, ConsentEnd::Stored { .. }) && !stored {
            self.broken("3", format_args!("app{who}: a person is told \"stored\", and it is not"));
        }
    }

    pub(crate) fn revocation_asked(&mut self, who: usize) -> Option<Ending> {
        let before = self.oracle.cases[who].ended;
        let since = before.map_or(self.now, |ended| ended.since);
        let acknowledged = before.is_some_and(|ended| ended.acknowledged);
        let (asked_at, forgotten) = (self.tally.events, false);
        self.oracle.cases[who].ended.replace(Ending { asked_at, since, acknowledged, forgotten })
    }

    /// The operator's request is answered: from here on it must hold whatever happens.
    pub(crate) fn acknowledged(&mut self, who: usize) {
        if let Some(ended) = &mut self.oracle.cases[who].ended {
            ended.acknowledged = true;
        }
    }

    /// Looks at an integration after a turn: its view against the truth, and invariants 6 and 7.
    pub(crate) fn look_at(&mut self, who: usize) {
        let now = self.wall();
        let Some(process) = &self.process else { return };
        let live = &process.lives[who];
        let (view, board) = (live.machine.view(now), live.board);
        if board.is_some() && self.is_ended(who) {
            self.broken("5", format_args!("app{who} is served after the revocation"));
        }
        let lives = board.filter(|board| board.until.is_none_or(|until| now < until));
        if view.token_valid != lives.is_some() || view.expires_at != lives.and_then(|board| board.until) {
            self.broken("11", format_args!("app{who}: the status and the board disagree on the lease"));
        }
        let known = self.secrets[who].written.contains_key(&view.generation)
            || self.oracle.cases[who].seen.contains(&view.generation);
        if view.stored && !known {
            self.broken(
                "11",
                format_args!("app{who}: generation {} is shown as stored, and never was", view.generation),
            );
        }
        if view.connected && !view.stored && view.unstored_since.is_none() {
            self.broken("11", format_args!("app{who}: not stored, and nobody is told since when"));
        }
        self.check_needs_reauth(who, view.status);
        self.check_waiting(who, &view);
    }

    /// Invariant 6: only a refusal of the very token, and a look into the store after it, lead to a person.
    fn check_needs_reauth(&mut self, who: usize, status: Status) {
        let is = status == Status::NeedsReauth;
        let was = std::mem::replace(&mut self.oracle.cases[who].needs_reauth, is);
        let renewable = self.process.as_ref().is_some_and(|one| one.lives[who].machine.can_refresh());
        if was || !is || !renewable {
            return;
        }
        let case = &self.oracle.cases[who];
        let refused = case.last_presented.is_some_and(|rt| self.ledger.rts[rt.0].known.refused_in.is_some());
        let reread = case.reread;
        if !refused {
            self.broken("6", format_args!("app{who} needs a person, and the provider did not say so"));
        }
        if !reread {
            self.broken("4", format_args!("app{who} gives its grant up without a look into the store"));
        }
    }

    /// Invariant 7: whoever waits has a deadline, or waits for a completion or a person.
    fn check_waiting(&mut self, who: usize, view: &grantd::lifecycle::View) {
        let Some(process) = &self.process else { return };
        let machine = &process.lives[who].machine;
        let flying = process.flying.range((who, 0)..=(who, u64::MAX)).next().is_some();
        if process.draining || flying || machine.deadline().is_some() {
            return;
        }
        let endless = view.token_valid && view.expires_at.is_none();
        let at_rest = match view.status {
            Status::Revoked => view.last_error.is_none(),
            Status::NeedsReauth => view.unstored_since.is_none(),
            Status::Pending => !view.actions.is_empty(),
            Status::Connected | Status::Warning => endless && view.unstored_since.is_none(),
            Status::Expired => false,
        };
        if !at_rest {
            self.broken("7", format_args!("app{who} waits as {:?} and has no deadline", view.status));
        }
    }

    /// After each step: leases past their end, and tokens that must not be lost.
    pub(crate) fn inspect(&mut self) {
        let quiet = self.now - HOP > self.jumped_at && self.now - HOP > self.asleep_until;
        let limit = self.wall().minus(Duration::from_millis(HOP.unsigned_abs()));
        let overdue =
            self.process.iter().filter(|one| quiet && !one.draining).flat_map(|one| &one.lives).position(
                |live| live.board.is_some_and(|board| board.until.is_some_and(|until| until < limit)),
            );
        if let Some(who) = overdue {
            self.broken("5", format_args!("app{who} is served past the end of its lease"));
        }
        if std::mem::take(&mut self.oracle.stale) {
            for who in 0..self.roles.len() {
                self.check_owed(who);
            }
        }
    }
}

fn meaning_of(answer: &Answer) -> Meaning {
    let body = answer.body.expose_secret();
    let text = String::from_utf8_lossy(body);
    let (access, refresh) = crate::provider::tokens_in(body);
    let hour = Duration::from_secs(3600);
    match (answer.status, access) {
        (429, _) => Meaning::NotConsumed(answer.retry_after.or(Some(Duration::ZERO))),
        (500.. | 408, _) => Meaning::Ambiguous,
        _ if !answer.whole => Meaning::Ambiguous,
        _ if text.contains("invalid_grant") => Meaning::InvalidGrant,
        (200..=299, Some(at)) if text.starts_with('{') || answer.form_encoded => Meaning::Issued(at, refresh),
        (200..=299, _) => Meaning::Ambiguous,
        (401, _) => Meaning::NotConsumed(Some(hour)),
        _ => Meaning::NotConsumed(None),
    }
}

/// The tokens of an answer that says in earnest that it succeeded.
pub(crate) fn issued(answer: &Answer) -> Option<(At, Option<Rt>)> {
    match meaning_of(answer) {
        Meaning::Issued(at, refresh) => Some((at, refresh)),
        Meaning::InvalidGrant | Meaning::NotConsumed(_) | Meaning::Ambiguous => None,
    }
}

/// What an audit entry says.
pub(crate) const fn word_of(effect: &Effect) -> Option<(&'static str, &'static str, &'static str)> {
    match effect {
        Effect::Audit(entry) => Some((entry.what, entry.from, entry.to)),
        _ => None,
    }
}

/// The engine's longest sleep, and a little.
const HOP: i64 = 11_000;
