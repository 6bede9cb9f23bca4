//! The health of the token in use: what APIs say to it.
//!
//! A 401 leads to one refresh, and only the refusal of that refresh to `needs_reauth`. Anything else is a warning that goes
//! with the next good answer. An answer about an older token says nothing, and one that changes nothing leaves no trace.

use super::life::Life;
use super::machine::Integration;
use super::policy;
use crate::time::Timestamp;
use std::time::Duration;

/// What a provider's API answered to a token of ours, as far as it says something about the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Whether it says that the rate of calls is limited, by the provider's own signs. 429 needs no sign.
    pub rate_limited: bool,
    /// `Retry-After`, if it came.
    pub retry_after: Option<Duration>,
}

/// What is known of the token in use, for whoever must tell an answer that is news from one that is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Which lease is served: counts from 1 at each start. 0 if none ever was.
    pub issue: u64,
    /// Whether an API has said 401 to it.
    pub rejected: bool,
    complaint: Option<Word>,
}

/// What is remembered between two answers.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// The number of the lease that was published last.
    pub(super) issue: u64,
    /// The lease that an API has said 401 to.
    rejected: Option<u64>,
    /// The lease that came of such a 401.
    remedy: Option<u64>,
    /// A fresh token did not help: until then a 401 leads to no other.
    hopeless_until: Option<Timestamp>,
    complaint: Option<Complaint>,
    /// Before this, no answer changes the complaint: one app's good calls and another's bad ones must not make a storm.
    settled_until: Option<Timestamp>,
    /// What the trail was last told of, and when.
    told: Option<(Word, Timestamp)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    word: Word,
    pub(super) since: Timestamp,
    until: Option<Timestamp>,
    told: bool,
}

/// What an API said, in one word; the later the graver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    RateLimited,
    Forbidden,
    Unauthorized,
    /// 401 to a token that is fresh.
    StillUnauthorized,
}

/// What an answer says about the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Bad(Word),
    Nothing,
}

impl ApiAnswer {
    /// One that says nothing but its status.
    #[must_use]
    pub const fn of(status: u16) -> Self {
        Self { status, rate_limited: false, retry_after: None }
    }

    const fn verdict(&self) -> Verdict {
        match self.status {
            200..=399 => Verdict::Good,
            401 => Verdict::Bad(Word::Unauthorized),
            429 => Verdict::Bad(Word::RateLimited),
            403 if self.rate_limited => Verdict::Bad(Word::RateLimited),
            403 => Verdict::Bad(Word::Forbidden),
            _ => Verdict::Nothing,
        }
    }
}

impl Heard {
    /// Nothing but which lease is served.
    #[must_use]
    pub const fn of(issue: u64) -> Self {
        Self { issue, rejected: false, complaint: None }
    }

    /// Whether an answer about lease `issue` may change something. Cheap: asked for every call that an app makes.
    #[must_use]
    pub fn is_news(&self, answer: &ApiAnswer, issue: u64) -> bool {
        if issue != self.issue || issue == 0 {
            return false;
        }
        match (answer.verdict(), self.complaint) {
            (Verdict::Nothing, _) | (Verdict::Good, None) => false,
            (Verdict::Good, Some(_)) | (Verdict::Bad(_), None) => true,
            (Verdict::Bad(Word::Unauthorized), _) if !self.rejected => true,
            (Verdict::Bad(word), Some(known)) => word > known && known < Word::Unauthorized,
        }
    }

    /// Whether this is the first 401 to the token in use.
    #[must_use]
    pub const fn is_first_401(&self, answer: &ApiAnswer) -> bool {
        answer.status == 401 && !self.rejected
    }

    /// Whether an API has said 401 to lease `issue` and no refresh comes of it.
    #[must_use]
    pub const fn is_hopeless(&self, issue: u64) -> bool {
        self.issue == issue && matches!(self.complaint, Some(Word::StillUnauthorized))
    }
}

impl Word {
    const fn cause(self) -> &'static str {
        match self {
            Self::RateLimited => "api_rate_limited",
            Self::Forbidden => "api_forbidden",
            Self::Unauthorized => "api_unauthorized",
            Self::StillUnauthorized => "api_still_unauthorized",
        }
    }
}

impl Complaint {
    pub(super) const fn cause(&self) -> &'static str {
        self.word.cause()
    }
}

impl Integration {
    /// What is known of the token in use.
    #[must_use]
    pub fn heard(&self) -> Heard {
        let Health { issue, rejected, complaint, .. } = &self.health;
        let complaint = complaint.map(|complaint| complaint.word);
        Heard { issue: *issue, rejected: *rejected == Some(*issue), complaint }
    }

    /// Whether an answer would change anything at this moment.
    #[must_use]
    pub fn heeds(&self, answer: &ApiAnswer, issue: u64, now: Timestamp) -> bool {
        let heard = self.heard();
        let settled = self.health.settled_until.is_some_and(|until| now < until);
        let in_use = matches!(self.life, Life::Connected) && self.served.is_some();
        in_use && heard.is_news(answer, issue) && (!settled || heard.is_first_401(answer))
    }

    pub(super) fn api_answered(&mut self, answer: &ApiAnswer, issue: u64, now: Timestamp) {
        if !self.heeds(answer, issue, now) {
            return;
        }
        match answer.verdict() {
            Verdict::Nothing => {}
            Verdict::Good => self.praised(now),
            Verdict::Bad(Word::RateLimited) => {
                let wait = answer.retry_after.unwrap_or(A_MINUTE).clamp(SECOND, policy::HOUR);
                self.complain(Word::RateLimited, Some(now.plus(wait)), now);
            }
            Verdict::Bad(Word::Forbidden) => self.complain(Word::Forbidden, None, now),
            Verdict::Bad(Word::Unauthorized | Word::StillUnauthorized) => self.unauthorized(now),
        }
    }

    /// One refresh comes of it, unless the token in use came of that already.
    pub(super) fn unauthorized(&mut self, now: Timestamp) {
        let issue = self.health.issue;
        let first = self.health.rejected.replace(issue) != Some(issue);
        let hopeless = self.health.hopeless_until.is_some_and(|until| now < until);
        if self.health.remedy == Some(issue) {
            self.health.hopeless_until = Some(now.plus(policy::HOUR));
            return self.complain(Word::StillUnauthorized, None, now);
        }
        if first && !self.can_refresh() {
            self.validate_now(now);
        }
        if hopeless || !self.can_refresh() {
            return self.complain(Word::StillUnauthorized, None, now);
        }
        self.complain(Word::Unauthorized, None, now);
        if first && self.flight.is_none() && self.doubt.is_none() {
            self.nudge_seldom(now);
        }
    }

    fn complain(&mut self, word: Word, until: Option<Timestamp>, now: Timestamp) {
        let lately = |(told, at): (Word, Timestamp)| told >= word && at <= now && now.since(at) < TELL_SELDOM;
        let silent = word == Word::RateLimited || self.health.told.is_some_and(lately);
        if !silent {
            self.health.told = Some((word, now));
            self.note("api_refused", word.cause());
        }
        let known = self.health.complaint.filter(|known| known.word == word);
        let (since, told) = known.map_or((now, !silent), |known| (known.since, known.told || !silent));
        self.health.complaint = Some(Complaint { word, since, until, told });
        self.health.settled_until = Some(now.plus(SECOND));
    }

    fn praised(&mut self, now: Timestamp) {
        if self.health.complaint.take().is_some_and(|complaint| complaint.told) {
            self.note("api_accepted", "");
        }
        self.health.settled_until = Some(now.plus(SECOND));
    }

    /// The provider takes the token after all.
    pub(super) fn believed(&mut self, now: Timestamp) {
        if self.health.complaint.is_some_and(|complaint| complaint.word >= Word::Unauthorized) {
            self.praised(now);
        }
    }

    /// What passes by itself: a limited rate of calls.
    pub(super) fn wake_health(&mut self, now: Timestamp) {
        if self.health.until().is_some_and(|until| until <= now) {
            self.health.complaint = None;
        }
    }
}

impl Health {
    /// Another lease is served from now on: what was said to the one before it is over.
    pub(super) fn issued(&mut self) {
        let before = self.issue;
        self.issue = self.issue.saturating_add(1);
        self.remedy = (self.rejected.take() == Some(before)).then_some(self.issue);
        self.complaint = self.complaint.filter(|complaint| complaint.word < Word::Unauthorized);
    }

    /// The grant is over, or another one: nothing that was said is about it.
    pub(super) fn forget(&mut self) {
        *self = Self { issue: self.issue, ..Self::default() };
    }

    /// Whether an API has said 401 to the lease in use.
    pub(super) fn is_rejected(&self) -> bool {
        self.rejected == Some(self.issue)
    }

    pub(super) const fn complaint(&self) -> Option<Complaint> {
        self.complaint
    }

    pub(super) fn until(&self) -> Option<Timestamp> {
        self.complaint.and_then(|complaint| complaint.until)
    }

    pub(super) fn set_back(&mut self, by: Duration) {
        let complaint = self.complaint.iter_mut().filter_map(|complaint| complaint.until.as_mut());
        let told = self.told.iter_mut().map(|(_, at)| at);
        let others = [&mut self.hopeless_until, &mut self.settled_until];
        complaint.chain(told).chain(others.into_iter().flatten()).for_each(|at| *at = at.minus(by));
    }
}

/// How long a limited rate of calls is believed to last if nothing says so.
const A_MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// How often the trail is told of what APIs say: some answer 401 or 403 to one call and take the next.
const TELL_SELDOM: Duration = Duration::from_secs(600);
