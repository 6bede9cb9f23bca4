//! Spending: a refresh token becomes the next, an authorization code becomes the first.
//!
//! One flight at a time (invariant 1): claim, intent, spend, seal, and only then the meaning of the answer
//! (invariant 3). Both kinds share the tail. A refresh token in doubt is presented again only when `policy.rs` says so.

use super::doubt::presentation_of;
use super::import::outcome_of;
use super::life::{Accepted, Doubt, Flight, Fresh, Import, Kind, Life, Phase, Spend, Step, Unstored};
use super::machine::Integration;
use super::mint::without_refresh_token;
use super::outcome::{Issued, Outcome};
use super::restore::is_worth_keeping;
use super::{
    Account, AccountChange, Answer, Code, Completion, ConsentEnd, Doubted, Effect, Intent, Loaded, Purpose,
    Record, RecordStatus, Sealed, Spent, Standing, policy,
};
use crate::secret::{Nonce, RefreshToken};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

impl Integration {
    pub(super) fn begin_refresh(&mut self, now: Timestamp) {
        let first = Doubted { generation: self.newest_generation(), since: now, attempts: 1 };
        let again =
            |doubt: Doubt| Doubted { attempts: doubt.facts.attempts.saturating_add(1), ..doubt.facts };
        self.nudged = None;
        self.claim(Spend::Refresh(self.doubt.map_or(first, again)));
    }

    pub(super) fn claim(&mut self, spend: Spend) {
        if !spend.is_poll() {
            self.note("spending", self.kind_of(&spend));
        }
        self.unheard = match &spend {
            Spend::Import(import) => import.attempts,
            Spend::Exchange(_) | Spend::Refresh(_) => u32::from(spend.is_poll()),
        };
        let op = self.op();
        self.flight = Some(Flight::Claiming(op, spend));
        self.out.push(Effect::Claim { op, generation: self.newest_generation() });
    }

    pub(super) fn wake_spend(&mut self, now: Timestamp) {
        match self.flight.take() {
            Some(Flight::Rereading(Step::Until(at), attempts)) if at <= now => self.reread(attempts),
            Some(Flight::Verifying(Step::Until(at), fresh)) if at <= now => self.verify(fresh),
            Some(Flight::Holding(at, import)) if at <= now => self.take_up_import(import),
            other => self.flight = other,
        }
    }

    pub(super) fn flight_done(&mut self, end: Completion, now: Timestamp) {
        let Some(flight) = self.flight.take() else { return };
        match (flight, end) {
            (Flight::Claiming(_, spend), Completion::Claimed) if self.may_begin(&spend) => {
                self.prepare(spend);
            }
            (Flight::Claiming(_, spend), Completion::Claimed) => {
                self.called_off(&spend);
                self.release();
            }
            (Flight::Claiming(_, spend), _) => self.not_begun(&spend, Kind::Spending, "claim_refused", now),
            (Flight::Intending(_, spend), Completion::Intended) if self.may_spend(&spend, now) => {
                self.spend(spend);
            }
            (Flight::Intending(_, spend), Completion::Intended) => {
                self.called_off(&spend);
                self.too_late(now);
            }
            (Flight::Intending(_, spend), Completion::IntentFailed(fault)) => {
                self.not_begun(&spend, Kind::Sealing, fault.word(), now);
            }
            (Flight::Importing(_, import), end) => self.import_sealed(import, &end, now),
            (Flight::Spending(_, spend), Completion::Answered(spent)) => self.answered(&spend, spent, now),
            (Flight::Sealing(_, sealed, asked), Completion::SealFailed(fault)) => {
                self.fail(Kind::Sealing, fault.word(), now);
                self.open(sealed, asked, false, now);
            }
            (Flight::Sealing(_, sealed, asked), _) => {
                self.mended(&[Kind::Sealing]);
                self.open(sealed, asked, true, now);
            }
            (Flight::Rereading(_, attempts), end) => self.reread_done(attempts, end, now),
            (Flight::Verifying(_, fresh), Completion::Tried(trial)) => self.tried(fresh, trial, now),
            (Flight::Accepting(_, accepted), end) => self.sealed_as_accepted(*accepted, &end, now),
            (Flight::Reviving(_, accepted), end) => self.revived(*accepted, &end, now),
            (Flight::Rejecting(_), _) => self.tidy(),
            (Flight::Tidying(_), end) => self.tidied(&end, now),
            // A completion of another kind for this operation: the flight goes on waiting for its own.
            (flight, _) => self.flight = Some(flight),
        }
    }

    fn prepare(&mut self, spend: Spend) {
        match &spend {
            Spend::Import(import) if import.attempts == 0 => self.seal_import(import),
            Spend::Import(_) | Spend::Refresh(_) | Spend::Exchange(_) => self.intend(spend),
        }
    }

    pub(super) fn intend(&mut self, spend: Spend) {
        let op = self.op();
        let intent = match &spend {
            Spend::Refresh(Doubted { generation, since, attempts }) => Intent {
                purpose: Purpose::Refresh,
                generation: *generation,
                attempt: *attempts,
                at: *since,
                doubt: None,
            },
            Spend::Exchange(_) | Spend::Import(_) => Intent {
                purpose: Purpose::Exchange,
                generation: self.newest_generation(),
                attempt: 1,
                at: self.clock,
                doubt: self.in_doubt(),
            },
        };
        self.flight = Some(Flight::Intending(op, spend));
        self.out.push(Effect::Intend { op, intent });
    }

    /// Nothing was sent, and nothing will be: a person who waits for it is told.
    fn called_off(&mut self, spend: &Spend) {
        if !spend.is_poll() {
            self.note("called_off", "");
        }
        if spend.is_awaited() {
            let (code, detail) = match self.life {
                Life::Revoked(_) => (Code::IntegrationRevoked, REVOKED_MEANWHILE),
                Life::Restoring(_) | Life::Unconnected(_) | Life::Connected | Life::NeedsReauth => {
                    (Code::TokenUnavailable, STOPPING)
                }
            };
            self.tell_refused(code, detail);
        }
    }

    fn spend(&mut self, spend: Spend) {
        let op = self.op();
        match &spend {
            Spend::Exchange(exchange) => {
                self.out.push(Effect::Exchange { op, exchange: Arc::clone(exchange) });
            }
            Spend::Import(import) => return self.push_import(import),
            Spend::Refresh(_) if self.terms.origin.is_repeatable() => self.push_mint(op),
            Spend::Refresh(_) => {
                let newest = self.grant.as_ref().and_then(|grant| grant.refresh_token.as_ref());
                let Some(token) = newest.map(RefreshToken::duplicate) else { return self.tidy() };
                self.out.push(Effect::Refresh { op, token });
            }
        }
        self.flight = Some(Flight::Spending(op, spend));
    }

    /// Nothing was sent: harmless.
    fn not_begun(&mut self, spend: &Spend, kind: Kind, cause: &'static str, now: Timestamp) {
        if spend.is_poll() {
            return self.poll_not_begun(kind, cause, now);
        }
        self.release();
        match spend {
            Spend::Refresh(_) => self.back_off(kind, cause, None, now),
            Spend::Import(import) if import.attempts > 0 => self.hold_import(import, cause, now),
            Spend::Exchange(_) | Spend::Import(_) => {
                self.note("consent_failed", cause);
                self.tell_refused(
                    Code::TokenUnavailable,
                    "grantd could not prepare the exchange; nothing was sent",
                );
            }
        }
    }

    fn answered(&mut self, spend: &Spend, spent: Spent, now: Timestamp) {
        if spend.is_poll() {
            return self.polled(spend, spent, now);
        }
        match (spend, spent) {
            (_, Spent::Answered(answer)) => self.seal(spend, answer),
            (Spend::Refresh(_), Spent::NotSent(fault)) => {
                self.back_off(Kind::Spending, fault.word(), None, now);
                self.tidy();
            }
            (Spend::Refresh(asked), Spent::Lost(fault)) => self.unanswered(*asked, fault.word(), now),
            (Spend::Import(import), Spent::NotSent(fault)) => {
                self.import_unanswered(import, fault, false, now);
            }
            (Spend::Import(import), Spent::Lost(fault)) => self.import_unanswered(import, fault, true, now),
            (Spend::Exchange(_), Spent::NotSent(fault) | Spent::Lost(fault)) => {
                self.note("consent_failed", fault.word());
                self.tell_refused(
                    Code::TokenUnavailable,
                    "the provider did not answer when the code was exchanged: begin again with a new link",
                );
                self.tidy();
            }
        }
    }

    /// Sealed as it came, before anything looks into it (invariant 3).
    pub(super) fn seal(&mut self, spend: &Spend, answer: Arc<Answer>) {
        let grant = self.grant.as_ref();
        let base = Sealed {
            purpose: Purpose::Exchange,
            generation: self.next_generation(),
            account: Account::default(),
            accepted: false,
            scope: None,
            presented: None,
            presented_expires_at: None,
            nonce: None,
            answer,
        };
        let sealed = match spend {
            Spend::Exchange(exchange) => Sealed {
                nonce: exchange.frozen.nonce.as_ref().map(Nonce::duplicate),
                // Sealed with the answer, so that the rule outlives a restart: the account that must not change.
                account: match exchange.account {
                    AccountChange::Refused => grant.map(|grant| grant.account.clone()).unwrap_or_default(),
                    AccountChange::Allowed => Account::default(),
                },
                ..base
            },
            Spend::Import(import) => self.answer_to_import(import, base),
            Spend::Refresh(_) => Sealed {
                purpose: Purpose::Refresh,
                account: grant.map(|grant| grant.account.clone()).unwrap_or_default(),
                scope: grant.and_then(|grant| grant.scope.clone()),
                presented: grant.and_then(|grant| grant.refresh_token.as_ref()).map(RefreshToken::duplicate),
                presented_expires_at: grant.and_then(|grant| grant.refresh_token_expires_at),
                ..base
            },
        };
        let asked = match spend {
            Spend::Refresh(asked) => Some(*asked),
            Spend::Exchange(_) | Spend::Import(_) => None,
        };
        let (op, sealed) = (self.op(), Arc::new(sealed));
        self.sealed_up_to = self.sealed_up_to.max(sealed.generation);
        self.flight = Some(Flight::Sealing(op, Arc::clone(&sealed), asked));
        self.push_seal(op, sealed);
    }

    pub(super) fn open(
        &mut self,
        sealed: Arc<Sealed>,
        asked: Option<Doubted>,
        durable: bool,
        now: Timestamp,
    ) {
        self.unreadable = None;
        match (outcome_of(&sealed, &self.terms), sealed.purpose) {
            (Outcome::Issued(issued), _) => self.issued(sealed, issued, durable, now),
            (outcome, Purpose::Exchange) => {
                if matches!(outcome, Outcome::Ambiguous(_)) {
                    self.quarantine(&sealed);
                }
                match sealed.presented {
                    Some(_) => self.import_refused(&outcome, &Import { attempts: self.unheard, sealed }),
                    None => self.exchange_refused(&outcome),
                }
            }
            (_, Purpose::Revocation | Purpose::Import) => self.tidy(),
            (Outcome::InvalidGrant, Purpose::Refresh) if self.terms.origin.keeps_record() => self.reread(0),
            (Outcome::InvalidGrant, Purpose::Refresh) => {
                self.back_off(Kind::Client, "invalid_grant", Some(policy::HOUR), now);
                self.tidy();
            }
            (Outcome::ClientRejected(cause), Purpose::Refresh) => {
                self.back_off(Kind::Client, cause, Some(policy::HOUR), now);
                self.tidy();
            }
            (Outcome::Refused { retry_after, cause }, Purpose::Refresh) => {
                self.back_off(Kind::Spending, cause, retry_after, now);
                self.tidy();
            }
            (Outcome::Ambiguous(cause), Purpose::Refresh) => {
                self.quarantine(&sealed);
                self.unanswered(asked.unwrap_or_else(|| presentation_of(&sealed)), cause, now);
            }
        }
    }

    /// An answer that holds tokens perhaps: it stays sealed in its slot, and a copy of it is kept.
    fn quarantine(&mut self, sealed: &Arc<Sealed>) {
        if is_worth_keeping(sealed) && !self.terms.origin.is_repeatable() {
            self.unreadable = Some(sealed.generation);
            self.out.push(Effect::Quarantine(Arc::clone(sealed)));
        }
    }

    fn issued(&mut self, sealed: Arc<Sealed>, issued: Box<Issued>, durable: bool, now: Timestamp) {
        match sealed.purpose {
            Purpose::Exchange | Purpose::Import => {
                self.check_fresh(Fresh { sealed, issued, durable, attempts: self.unheard }, now);
            }
            Purpose::Refresh => self.refreshed(sealed, *issued, durable, now),
            Purpose::Revocation => self.tidy(),
        }
    }

    pub(super) fn refreshed(&mut self, sealed: Arc<Sealed>, issued: Issued, durable: bool, now: Timestamp) {
        let issued = without_refresh_token(self.terms.origin, issued);
        let rotated = rotates(&sealed, &issued);
        let record = record_of(&self.identity, &self.terms, &sealed, issued);
        if matches!(self.life, Life::Revoked(_)) {
            // It is the newest, and it is what the provider will be told of.
            (self.grant, self.unstored) = (Some(Arc::new(record)), None);
            return self.tidy();
        }
        self.doubt = None;
        if !rotated && !durable {
            // The refresh token is as good as before: it is presented again once the disk takes the answer.
            self.back_off(Kind::Sealing, "not_sealed", None, now);
            return self.tidy();
        }
        self.retry = None;
        self.refreshes = self.refreshes.saturating_add(1);
        self.mended(&[Kind::Spending, Kind::Client]);
        self.note("refreshed", if rotated { "rotated" } else { "" });
        self.validate_soon(now);
        if rotated {
            return self.keep(Accepted { record: Arc::new(record), sealed, durable, tell: false }, now);
        }
        let generation = sealed.generation.saturating_sub(1);
        self.grant = Some(Arc::new(Record { generation, ..record }));
        self.publish(now);
        self.space_mints(now);
        self.take_up_doubt(now);
        self.tidy();
    }

    pub(super) fn tell_refused(&mut self, code: Code, detail: &str) {
        self.out.push(Effect::Tell(ConsentEnd::Refused { code, detail: detail.into() }));
    }

    pub(super) fn reread(&mut self, attempts: u32) {
        let op = self.op();
        self.flight = Some(Flight::Rereading(Step::Busy(op), attempts));
        self.out.push(Effect::Load { op });
    }

    /// "Invalid grant": adopt a newer generation, or an operator's own write; else the grant needs a person.
    fn reread_done(&mut self, attempts: u32, end: Completion, now: Timestamp) {
        self.refused = false;
        if matches!(self.life, Life::Revoked(_)) {
            return self.tidy();
        }
        if let Completion::LoadFailed(fault) = end {
            // Not presented again, and not given up either, before the store was read (invariants 2 and 6).
            self.fail(Kind::Storing, fault.word(), now);
            let attempts = attempts.saturating_add(1);
            let wait = policy::backoff(attempts, Duration::from_secs(1), SELDOM, self.seed);
            self.flight = Some(Flight::Rereading(Step::Until(now.plus(wait)), attempts));
            return;
        }
        let Completion::Loaded(Loaded::Record(record)) = end else {
            return self.needs_reauth("invalid_grant");
        };
        if !self.is_news(&record) {
            return self.needs_reauth("invalid_grant");
        }
        self.note("adopted", "newer_generation");
        (self.doubt, self.retry) = (None, None);
        self.mended(&[Kind::Spending, Kind::Storing]);
        self.mark.generation = self.mark.generation.max(record.generation);
        // What the store had not taken yet is of the refused token, and must not overwrite the newer one.
        (self.grant, self.unstored) = (Some(Arc::from(record)), None);
        self.publish(now);
        self.tidy();
    }

    fn is_news(&self, record: &Record) -> bool {
        let same_token =
            match (&record.refresh_token, self.grant.as_ref().and_then(|grant| grant.refresh_token.as_ref()))
            {
                (Some(theirs), Some(ours)) => theirs.ct_eq(ours),
                (None, _) => true,
                (Some(_), None) => false,
            };
        record.status == RecordStatus::Connected
            && record.generation >= self.newest_generation()
            && !same_token
    }

    /// Nothing is deleted because a provider said no (invariant 4): the record and the live lease stay.
    pub(super) fn needs_reauth(&mut self, cause: &'static str) {
        self.note("needs_reauth", cause);
        (self.doubt, self.retry) = (None, None);
        if matches!(self.life, Life::Connected) {
            self.life = Life::NeedsReauth;
            self.mark.standing = Standing::NeedsReauth;
            if self.health.is_rejected() {
                // Neither the provider's API nor its token endpoint takes it: nothing is left to be served.
                self.withdraw();
            }
        }
        self.tidy();
    }

    /// A flight that only waits for its next try gives way to a revocation.
    pub(super) fn give_way(&mut self) {
        match self.flight.take() {
            Some(Flight::Rereading(Step::Until(_), _)) => self.tidy(),
            Some(Flight::Verifying(Step::Until(_), fresh)) => {
                self.reject(&fresh, Code::IntegrationRevoked, REVOKED_MEANWHILE);
            }
            // It was not spent: whoever brought it has it.
            Some(Flight::Holding(..)) => self.tidy(),
            other => self.flight = other,
        }
    }

    /// Nothing is served, nothing is under way, and there is no refresh token: only a person can help.
    pub(super) fn is_stranded(&self) -> bool {
        matches!(self.life, Life::Connected) && self.served.is_none() && !self.can_refresh()
    }

    fn tidied(&mut self, end: &Completion, now: Timestamp) {
        self.mark_done(end, now);
        self.note("settled", "");
        self.release();
        if self.unread && matches!(self.life, Life::Unconnected(_)) {
            self.load_anew();
        }
        if self.unstored.as_ref().is_some_and(|unstored| !unstored.durable) {
            self.write_or_reseal();
        }
    }

    pub(super) fn release(&mut self) {
        self.out.push(Effect::Release { generation: self.newest_generation() });
    }

    /// Publishes a new generation and has it stored. What is not durable is stored first.
    pub(super) fn keep(&mut self, accepted: Accepted, now: Timestamp) {
        let Accepted { record, sealed, durable, tell } = accepted;
        self.flight = None;
        if durable {
            self.grant = Some(Arc::clone(&record));
            self.publish(now);
        }
        // A store that takes nothing keeps its age from one generation to the next, and whoever waits to hear of it waits on.
        let older = self.unstored.take().filter(|unstored| !unstored.is_stored());
        let since = older.as_ref().map_or(now, |unstored| unstored.since);
        let tell = tell || older.is_some_and(|unstored| unstored.tell);
        let phase = Phase::Behind;
        self.unstored = Some(Unstored { record, sealed, since, attempts: 0, phase, tell, durable });
        self.write();
        self.take_up_doubt(now);
    }
}

/// Whether an answer's refresh token is another than the one presented.
pub(super) fn rotates(sealed: &Sealed, issued: &Issued) -> bool {
    match (&issued.refresh_token, &sealed.presented) {
        // What came of a consent or an import is a grant of its own.
        _ if sealed.purpose != Purpose::Refresh => true,
        (Some(fresh), Some(presented)) => !fresh.ct_eq(presented),
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Makes the record of a sealed answer.
pub(super) fn record_of(
    identity: &super::Identity,
    terms: &super::Terms,
    sealed: &Sealed,
    issued: Issued,
) -> Record {
    let issued = without_refresh_token(terms.origin, issued);
    let received = sealed.answer.received_at;
    let expires_in = issued.expires_in.or(terms.default_life);
    let refresh_ends = issued.refresh_token_expires_in.map(|life| received.plus(life));
    let keeps_presented = issued.refresh_token.is_none();
    Record {
        identity: identity.clone(),
        generation: sealed.generation,
        refresh_token: issued
            .refresh_token
            .or_else(|| sealed.presented.as_ref().map(RefreshToken::duplicate)),
        access_token: Some(issued.access_token),
        token_type: issued.token_type,
        expires_at: expires_in.map(|life| received.plus(life)),
        refresh_token_expires_at: if keeps_presented { sealed.presented_expires_at } else { refresh_ends },
        scope: issued.scope.or_else(|| sealed.scope.clone()),
        account: sealed.account.clone(),
        connected_account: issued.connected_account,
        status: RecordStatus::Connected,
        written_at: received,
    }
}

pub(super) const REVOKED_MEANWHILE: &str = "the integration was revoked meanwhile";
pub(super) const STOPPING: &str = "grantd is stopping: begin again with a new link in a while";
/// The longest between two tries of something transient.
pub(super) const SELDOM: Duration = Duration::from_secs(300);
