//! Validation: from time to time the token in use is tried at the provider, which also says whose it is.
//!
//! It runs beside everything else and holds nothing up. A plain "invalid" counts as a 401 of an API; silence is no verdict, and
//! another account than the one that authorized is told and never adopted.

use super::life::Life;
use super::machine::Integration;
use super::{Account, Effect, Op, Record, Trial, policy};
use crate::secret::AccessToken;
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// What is remembered between two validations.
#[derive(Debug, Default)]
pub(super) struct Validation {
    /// The lease that is being tried.
    trying: Option<(Op, u64)>,
    due: Option<Timestamp>,
    /// Whether someone waits for the next one.
    asked: bool,
    /// Tries in a row that the provider did not answer.
    silent: u32,
    /// How many there were: spreads those of one integration as well.
    count: u32,
    doubt: Option<(Misgiving, Timestamp)>,
    /// Whether the consent under way was accepted without the provider's word.
    pub(super) untried: bool,
}

/// Why the token in use, or its owner, is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misgiving {
    /// The provider was silent when a consent was accepted, and since.
    NotValidated,
    /// The provider has been silent for several tries.
    Silent,
    /// The provider names another account than the one that authorized.
    AccountChanged,
    /// The provider names another account than the one that was pinned.
    WrongAccount,
}

impl Misgiving {
    const fn cause(self) -> &'static str {
        match self {
            Self::NotValidated => "not_validated",
            Self::Silent => "validation_silent",
            Self::AccountChanged => "account_changed",
            Self::WrongAccount => "wrong_account",
        }
    }
}

impl Integration {
    /// Whether there is a token that could be tried now.
    #[must_use]
    pub const fn can_validate(&self) -> bool {
        matches!(self.life, Life::Connected) && self.served.is_some() && self.terms.can_try
    }

    /// Whether a validation that somebody asked for has not ended.
    #[must_use]
    pub const fn is_validating(&self) -> bool {
        self.validation.asked && (self.validation.trying.is_some() || self.validates())
    }

    /// Whether the provider did not answer when the token was tried last.
    #[must_use]
    pub const fn was_silent(&self) -> bool {
        self.validation.silent > 0
    }

    pub(super) const fn validation_asked(&mut self, now: Timestamp) {
        if self.can_validate() {
            self.validation.asked = true;
            self.validation.due = Some(now);
        }
    }

    const fn validates(&self) -> bool {
        let wanted = self.validation.asked || self.terms.validate_every.is_some();
        wanted && self.can_validate() && !self.draining
    }

    pub(super) fn validation_due(&self) -> Option<Timestamp> {
        let free = self.flight.is_none() && self.validation.trying.is_none();
        self.validation.due.filter(|_| free && self.validates())
    }

    /// Begins what is due, beside whatever else goes on.
    pub(super) fn validate_if_due(&mut self, now: Timestamp) {
        if self.validation_due().is_none_or(|due| now < due) {
            return;
        }
        let token = self.grant.as_ref().and_then(|grant| grant.access_token.as_ref());
        let Some(token) = token.map(AccessToken::duplicate) else { return };
        let op = self.op();
        self.validation.trying = Some((op, self.health.issue));
        self.out.push(Effect::Try { op, token });
    }

    pub(super) fn validated(&mut self, trial: Trial, now: Timestamp) {
        let Some((_, issue)) = self.validation.trying.take() else { return };
        if issue != self.health.issue || !self.can_validate() {
            // What was tried is not in use any more; its successor's turn comes by itself.
            return;
        }
        self.validation.asked = false;
        match trial {
            Trial::Valid(account) => self.found_valid(account, now),
            Trial::Invalid => self.found_invalid(now),
            Trial::Silent => self.found_silent(now),
        }
    }

    fn found_valid(&mut self, account: Account, now: Timestamp) {
        self.validation.silent = 0;
        self.validate_later(now);
        self.believed(now);
        let before = self.grant.as_ref().map(|grant| grant.account.clone()).unwrap_or_default();
        if account.id.is_some() && account.replaces(&before) {
            return self.misgive(Misgiving::AccountChanged, now);
        }
        if !self.terms.expected_account.accepts(&account) {
            return self.misgive(Misgiving::WrongAccount, now);
        }
        self.validated = Some(now);
        if self.validation.doubt.take().is_some() {
            self.note("validated", "");
        }
        // What the provider does not name any more is kept; the store learns of it with the next record.
        let known = account.or(before);
        if let Some(grant) = self.grant.as_ref().filter(|grant| grant.account != known) {
            self.grant = Some(Arc::new(Record { account: known, ..grant.duplicate() }));
        }
    }

    /// As a 401 of an API; what cannot be refreshed is over by it.
    fn found_invalid(&mut self, now: Timestamp) {
        self.validation.silent = 0;
        self.validate_later(now);
        self.note("validation_failed", "token_invalid");
        self.unauthorized(now);
        if !self.can_refresh() {
            self.withdraw();
        }
    }

    fn found_silent(&mut self, now: Timestamp) {
        self.validation.silent = self.validation.silent.saturating_add(1);
        self.try_again(now);
        if self.validation.silent >= SILENT_FOR_LONG && self.validation.doubt.is_none() {
            self.misgive(Misgiving::Silent, now);
        }
    }

    fn misgive(&mut self, word: Misgiving, now: Timestamp) {
        if self.validation.doubt.is_none_or(|(known, _)| known != word) {
            self.note("validation_failed", word.cause());
            self.validation.doubt = Some((word, now));
        }
    }

    fn validate_later(&mut self, now: Timestamp) {
        self.validation.count = self.validation.count.wrapping_add(1);
        let every = self.terms.validate_every;
        self.validation.due =
            every.map(|every| now.plus(policy::nearly(every, self.seed, self.validation.count)));
    }

    fn try_again(&mut self, now: Timestamp) {
        let every = self.terms.validate_every;
        self.validation.due = every.map(|every| {
            let (first, most) = (every.min(HALF_A_MINUTE), every.min(A_QUARTER));
            now.plus(policy::backoff(self.validation.silent.max(1), first, most, self.seed))
        });
    }

    /// Another lease is served. Where it comes from a refresh it is tried soon; what a restart finds takes its turn.
    pub(super) fn validate_renewed(&mut self, now: Timestamp) {
        if let Some(every) = self.terms.validate_every
            && self.validation.due.is_none()
        {
            self.validation.due = Some(now.plus(policy::somewhen(every, self.seed)));
        }
    }

    pub(super) const fn validate_now(&mut self, now: Timestamp) {
        if self.validation.trying.is_none() && self.terms.validate_every.is_some() {
            self.validation.due = Some(now);
        }
    }

    pub(super) fn validate_soon(&mut self, now: Timestamp) {
        let soon = now.plus(Duration::from_secs(1)).plus(Duration::from_millis(self.seed % 4000));
        self.validation.due = Some(self.validation.due.map_or(soon, |due| due.min(soon)));
    }

    /// A consent was accepted, with the provider's word or without it.
    pub(super) fn validate_anew(&mut self, now: Timestamp) {
        let untried = std::mem::take(&mut self.validation.untried);
        self.validation = Validation { asked: self.validation.asked, ..Validation::default() };
        if untried {
            self.validation.doubt = Some((Misgiving::NotValidated, now));
            self.try_again(now);
        } else {
            self.validate_later(now);
        }
    }

    /// What is wrong with the token or its owner, since when.
    pub(super) fn misgiving(&self) -> Option<(&'static str, Timestamp)> {
        self.validation.doubt.map(|(word, since)| (word.cause(), since))
    }
}

impl Validation {
    pub(super) fn op(&self) -> Option<Op> {
        self.trying.map(|(op, _)| op)
    }

    pub(super) fn set_back(&mut self, by: Duration) {
        self.due.iter_mut().for_each(|due| *due = due.minus(by));
    }
}

/// So many unanswered tries are more than a hiccup.
const SILENT_FOR_LONG: u32 = 3;
const HALF_A_MINUTE: Duration = Duration::from_secs(30);
const A_QUARTER: Duration = Duration::from_secs(900);
