//! The model of providers: what they issue, what they take for spent, and how their answers go wrong.
//!
//! The ledger is the truth that grantd cannot see: which refresh token was consumed when, and which grant still lives.

use crate::chance::Chance;

/// A refresh token, by its number in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rt(pub(crate) usize);

/// An access token, by its number in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At(pub(crate) usize);

impl Rt {
    pub(crate) fn text(self) -> String {
        format!("r{}", self.0)
    }

    pub(crate) fn of(text: &str) -> Self {
        Self(text[1..].parse().unwrap())
    }
}

impl At {
    pub(crate) fn text(self) -> String {
        format!("a{}", self.0)
    }

    pub(crate) fn of(text: &str) -> Self {
        Self(text[1..].parse().unwrap())
    }
}

/// The tokens that stand in a body, however it is spelled.
pub(crate) fn tokens_in(body: &[u8]) -> (Option<At>, Option<Rt>) {
    let (mut access, mut refresh) = (None, None);
    for word in body.split(|byte| !byte.is_ascii_alphanumeric()) {
        let Some((first, digits)) = word.split_first() else { continue };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            continue;
        }
        let number = digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
        match first {
            b'a' => access = Some(At(number)),
            b'r' => refresh = Some(Rt(number)),
            _ => {}
        }
    }
    (access, refresh)
}

/// What a provider really does with a refresh token; the terms may declare less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// It does not rotate.
    Never,
    /// It rotates, and the old one stays good.
    ReuseOk,
    /// It rotates, and the old one stays good for a while; it brings the same successor again, or another.
    Grace { window: i64, same: bool, kills: bool },
    /// It rotates; an old one is refused, and perhaps ends the grant.
    Strict { kills: bool },
}

/// One grant that a person gave.
pub(crate) struct Family {
    pub(crate) who: usize,
    pub(crate) alive: bool,
    /// When it was given, in counts of what happened.
    pub(crate) given_at: u64,
}

/// The truth about a refresh token.
pub(crate) struct RtFacts {
    pub(crate) family: usize,
    pub(crate) consumed_at: Option<i64>,
    pub(crate) child: Option<Rt>,
    /// What grantd may know of it: see `oracle.rs`.
    pub(crate) known: Known,
}

/// What a presenter could know of a refresh token.
#[derive(Default)]
pub(crate) struct Known {
    /// The first presentation that may have consumed it: by true time and by grantd's wall clock.
    pub(crate) doubt: Option<(i64, i64)>,
    /// How many such presentations there were.
    pub(crate) doubts: u32,
    /// Its successor was received and is durable, or was.
    pub(crate) succeeded: bool,
    /// The provider said "invalid grant" to it, and the answer arrived, in this run of the daemon.
    pub(crate) refused_in: Option<u32>,
    /// It reached the store at some time.
    pub(crate) stored: bool,
}

/// The truth about an access token.
pub(crate) struct AtFacts {
    pub(crate) family: usize,
    /// By true time.
    pub(crate) ends_at: Option<i64>,
    /// By grantd's wall clock, once its answer arrived.
    pub(crate) lease: Option<(i64, Option<i64>)>,
    /// It was on the disk, synced, or in the store, at some time.
    pub(crate) durable: bool,
}

/// Everything that was ever issued.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) families: Vec<Family>,
    pub(crate) rts: Vec<RtFacts>,
    pub(crate) ats: Vec<AtFacts>,
    pub(crate) codes: Vec<Code>,
}

/// An authorization code that a person brought.
pub(crate) struct Code {
    pub(crate) who: usize,
    pub(crate) used: bool,
    pub(crate) account: Who,
    /// The family that came of it.
    pub(crate) family: Option<usize>,
    /// When it was brought, in counts of what happened.
    pub(crate) brought_at: u64,
}

/// Who authorized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Expected,
    Other,
}

/// What was issued in one answer.
#[derive(Clone, Copy)]
pub(crate) struct Issue {
    pub(crate) access: At,
    pub(crate) refresh: Option<Rt>,
}

impl Ledger {
    pub(crate) fn owner(&self, rt: Rt) -> usize {
        self.families[self.rts[rt.0].family].who
    }

    pub(crate) fn access_owner(&self, at: At) -> usize {
        self.families[self.ats[at.0].family].who
    }

    /// Whether a presentation of this token would bring tokens now.
    pub(crate) fn is_good(&self, rt: Rt, habit: Habit, now: i64) -> bool {
        let facts = &self.rts[rt.0];
        let usable = match (habit, facts.consumed_at) {
            (Habit::Never | Habit::ReuseOk, _) | (_, None) => true,
            (Habit::Grace { window, .. }, Some(at)) => now - at < window,
            (Habit::Strict { .. }, Some(_)) => false,
        };
        usable && self.families[facts.family].alive
    }

    pub(crate) fn access_lives(&self, at: At, now: i64) -> bool {
        let facts = &self.ats[at.0];
        self.families[facts.family].alive && facts.ends_at.is_none_or(|end| now < end)
    }

    /// A new grant, with its first tokens.
    pub(crate) fn begin(&mut self, given: (usize, u64), renewable: bool, ends_at: Option<i64>) -> Issue {
        let (who, given_at) = given;
        self.families.push(Family { who, alive: true, given_at });
        let family = self.families.len() - 1;
        let refresh = renewable.then(|| self.mint(family));
        Issue { access: self.mint_access(family, ends_at), refresh }
    }

    /// Takes a refresh token, as the provider does. `None`: "invalid grant".
    pub(crate) fn present(&mut self, rt: Rt, habit: Habit, now: i64, ends_at: Option<i64>) -> Option<Issue> {
        let family = self.rts[rt.0].family;
        if !self.is_good(rt, habit, now) {
            let kills = matches!(habit, Habit::Grace { kills: true, .. } | Habit::Strict { kills: true });
            if kills && self.rts[rt.0].consumed_at.is_some() {
                self.families[family].alive = false;
            }
            return None;
        }
        let refresh = match (habit, self.rts[rt.0].child) {
            (Habit::Never, _) => None,
            (Habit::Grace { same: true, .. }, Some(child)) if self.rts[child.0].consumed_at.is_none() => {
                Some(child)
            }
            (Habit::ReuseOk | Habit::Grace { .. } | Habit::Strict { .. }, _) => Some(self.mint(family)),
        };
        if refresh.is_some() {
            let facts = &mut self.rts[rt.0];
            facts.consumed_at.get_or_insert(now);
            facts.child = refresh;
        }
        Some(Issue { access: self.mint_access(family, ends_at), refresh })
    }

    /// Ends the grant that a token belongs to (RFC 7009 §2.1).
    pub(crate) fn revoke(&mut self, refresh: Option<Rt>, access: Option<At>) {
        let families = [refresh.map(|rt| self.rts[rt.0].family), access.map(|at| self.ats[at.0].family)];
        // RFC 7009 leaves open whether an access token takes the grant along; here it does not, the harder case.
        if let Some(family) = families[0] {
            self.families[family].alive = false;
        }
        if let Some(at) = access {
            self.ats[at.0].ends_at = Some(i64::MIN);
        }
    }

    fn mint(&mut self, family: usize) -> Rt {
        self.rts.push(RtFacts { family, consumed_at: None, child: None, known: Known::default() });
        Rt(self.rts.len() - 1)
    }

    fn mint_access(&mut self, family: usize, ends_at: Option<i64>) -> At {
        self.ats.push(AtFacts { family, ends_at, lease: None, durable: false });
        At(self.ats.len() - 1)
    }
}

/// One provider and its weather.
pub(crate) struct Provider {
    pub(crate) habit: Habit,
    pub(crate) renewable: bool,
    /// How long its access tokens live, in milliseconds.
    pub(crate) life: Option<i64>,
    pub(crate) says_life: bool,
    /// The answer repeats the refresh token where it does not rotate.
    pub(crate) repeats: bool,
    pub(crate) form_encoded: bool,
    pub(crate) revokes: bool,
    pub(crate) trouble: Trouble,
    pub(crate) userinfo_silent: bool,
}

/// What is wrong with a provider for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Fine,
    /// Everything fails now and then.
    Mixed,
    /// Not reachable: harmless.
    Down,
    /// Takes requests and does not answer.
    Mute,
    Errors,
    Throttles,
    RejectsClient,
}

impl Trouble {
    pub(crate) const BAD: [Self; 6] =
        [Self::Mixed, Self::Down, Self::Mute, Self::Errors, Self::Throttles, Self::RejectsClient];
}

/// What goes wrong with one request to a token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    NotSent,
    LostBefore,
    LostAfter,
    ErrorBefore(u16),
    ErrorAfter(u16),
    Throttled(Option<u64>),
    ClientRejected,
    /// Tokens were issued, and a page came instead of them.
    Garbage,
    /// Tokens were issued, and stand in a body that cannot be parsed.
    Wrapped,
    Cut,
    Late,
    /// A page of a firewall before the provider.
    Page(u16),
    Unavailable,
}

impl Provider {
    pub(crate) fn fault(&self, chance: &mut Chance, everyday: f64) -> Fault {
        match self.trouble {
            Trouble::Fine if chance.hit(everyday) => any_fault(chance),
            Trouble::Mixed if chance.hit(0.6) => any_fault(chance),
            Trouble::Fine | Trouble::Mixed => Fault::Nothing,
            Trouble::Down => Fault::NotSent,
            Trouble::Mute => chance.pick(&[Fault::LostBefore, Fault::LostAfter, Fault::Late]),
            Trouble::Errors => {
                let status = chance.pick(&[500, 502, 503, 504]);
                if chance.hit(0.3) { Fault::ErrorAfter(status) } else { Fault::ErrorBefore(status) }
            }
            Trouble::Throttles => throttled(chance),
            Trouble::RejectsClient => Fault::ClientRejected,
        }
    }
}

fn any_fault(chance: &mut Chance) -> Fault {
    match chance.below(14) {
        0 => Fault::NotSent,
        1 => Fault::LostBefore,
        2 | 3 => Fault::LostAfter,
        4 => Fault::ErrorBefore(chance.pick(&[408, 500, 502, 503])),
        5 => Fault::ErrorAfter(chance.pick(&[500, 502, 503])),
        6 => throttled(chance),
        7 => Fault::ClientRejected,
        8 => Fault::Garbage,
        9 => Fault::Wrapped,
        10 => Fault::Cut,
        11 => Fault::Late,
        12 => Fault::Page(chance.pick(&[403, 404, 401])),
        _ => Fault::Unavailable,
    }
}

fn throttled(chance: &mut Chance) -> Fault {
    Fault::Throttled(if chance.hit(0.5) { Some(chance.below(5000)) } else { None })
}
