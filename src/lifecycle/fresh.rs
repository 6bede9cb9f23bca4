//! What a consent brought, until it is known whether it is accepted: its `id_token` is checked, its access token tried.
//!
//! What is not accepted is given back at the provider, and the life before it stays as it was. On a revoked integration the new
//! standing is durable before anything is served.

use super::debt::Tokens;
use super::life::{Accepted, Flight, Fresh, Kind, Life, Step};
use super::machine::Integration;
use super::outcome::{Issued, Outcome};
use super::spend::{REVOKED_MEANWHILE, SELDOM, record_of};
use super::{
    Account, Code, Completion, ConsentEnd, Effect, Mark, Purpose, Sealed, Standing, Trial, id_token, policy,
};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

impl Integration {
    pub(super) fn check_fresh(&mut self, fresh: Fresh, now: Timestamp) {
        if self.is_ending() {
            return self.reject(&fresh, Code::IntegrationRevoked, REVOKED_MEANWHILE);
        }
        if fresh.sealed.accepted {
            let account = fresh.sealed.account.clone();
            return self.accept(fresh, account, now);
        }
        let rules = self.terms.dialect.id_token.as_ref();
        let checked = match (rules, &fresh.issued.id_token, &fresh.sealed.nonce) {
            (Some(rules), Some(token), nonce) => id_token::check(token, rules, nonce.as_ref(), now),
            (Some(_), None, Some(_)) => Err("id_token_missing"),
            (None, _, _) | (Some(_), None, None) => Ok(()),
        };
        match checked {
            Ok(()) if self.terms.can_try => self.verify(fresh),
            Ok(()) => self.tried(fresh, Trial::Silent, now),
            Err(cause) => {
                self.note("consent_refused", cause);
                self.reject(
                    &fresh,
                    Code::TokenValidationFailed,
                    "the provider's id_token does not fit this authorization; nothing was stored",
                );
            }
        }
    }

    pub(super) fn verify(&mut self, fresh: Fresh) {
        let op = self.op();
        self.out.push(Effect::Try { op, token: fresh.issued.access_token.duplicate() });
        self.flight = Some(Flight::Verifying(Step::Busy(op), fresh));
    }

    pub(super) fn tried(&mut self, mut fresh: Fresh, trial: Trial, now: Timestamp) {
        if self.is_ending() {
            return self.reject(&fresh, Code::IntegrationRevoked, REVOKED_MEANWHILE);
        }
        match trial {
            Trial::Valid(account) if account.replaces(&fresh.sealed.account) => {
                self.note("consent_refused", "account_changed");
                self.reject(
                    &fresh,
                    Code::WrongAccount,
                    &format!(
                        "{} authorized this, and it was {} before; nothing was stored: to replace the account, begin again and say so",
                        account.called(),
                        fresh.sealed.account.called()
                    ),
                );
            }
            Trial::Valid(account) if self.terms.expected_account.accepts(&account) => {
                self.validated = Some(now);
                self.validation.untried = false;
                self.accept(fresh, account, now);
            }
            Trial::Valid(account) => {
                let who = account.called();
                self.note("consent_refused", "wrong_account");
                self.reject(
                    &fresh,
                    Code::WrongAccount,
                    &format!("{who} authorized this, and the configuration expects another account; nothing was stored"),
                );
            }
            // A token that has ended says nothing about the grant.
            Trial::Invalid if self.may_be_anybody(&fresh) && self.has_ended(&fresh, now) => {
                self.accept(fresh, Account::default(), now);
            }
            Trial::Invalid => {
                self.note("consent_refused", "token_validation_failed");
                self.reject(
                    &fresh,
                    Code::TokenValidationFailed,
                    "the provider rejects the token it just gave; nothing was stored",
                );
            }
            Trial::Silent if self.may_be_anybody(&fresh) => {
                self.validation.untried = self.terms.can_try;
                self.accept(fresh, Account::default(), now);
            }
            Trial::Silent => {
                self.note("unverified", "provider_silent");
                if fresh.attempts == 0 {
                    self.out.push(Effect::Tell(ConsentEnd::Unverified));
                }
                fresh.attempts = fresh.attempts.saturating_add(1);
                let wait = policy::backoff(fresh.attempts, Duration::from_secs(2), SELDOM, self.seed);
                self.flight = Some(Flight::Verifying(Step::Until(now.plus(wait)), fresh));
            }
        }
    }

    /// Whether nobody is expected in particular, or the provider cannot say who it was.
    fn may_be_anybody(&self, fresh: &Fresh) -> bool {
        let known_before = self.terms.can_try && fresh.sealed.account.id.is_some();
        self.terms.expected_account.is_any() && !known_before
    }

    /// Sealed once more with what is known now: a crash must not bring the consent before the judge again.
    fn accept(&mut self, fresh: Fresh, account: Account, now: Timestamp) {
        let Fresh { sealed, issued, durable, attempts } = fresh;
        if sealed.accepted {
            let accepted = self.accepted(sealed, *issued, durable, attempts);
            return self.revive(accepted, now);
        }
        let sealed = Arc::new(Sealed { accepted: true, account, ..sealed.duplicate() });
        let accepted = self.accepted(Arc::clone(&sealed), *issued, durable, attempts);
        let op = self.op();
        self.flight = Some(Flight::Accepting(op, Box::new(accepted)));
        self.push_seal(op, sealed);
    }

    fn accepted(&self, sealed: Arc<Sealed>, issued: Issued, durable: bool, attempts: u32) -> Accepted {
        let record = record_of(&self.identity, &self.terms, &sealed, issued);
        // Somebody waits for the end of it, unless the page was told "unverified" or the daemon restarted.
        Accepted { record: Arc::new(record), sealed, durable, tell: attempts == 0 }
    }

    pub(super) fn sealed_as_accepted(&mut self, mut accepted: Accepted, end: &Completion, now: Timestamp) {
        if let Completion::SealFailed(fault) = end {
            self.fail(Kind::Sealing, fault.word(), now);
        } else {
            accepted.durable = true;
        }
        self.revive(accepted, now);
    }

    /// A restart must not find the old standing once the new grant is served, nor an answer of the old grant.
    fn revive(&mut self, accepted: Accepted, now: Timestamp) {
        if self.is_ending() {
            return self.not_revived(&accepted, Code::IntegrationRevoked, REVOKED_MEANWHILE);
        }
        if self.mark.standing == Standing::Normal {
            return self.connected(accepted, now);
        }
        if matches!(self.life, Life::Revoked(_)) && !accepted.durable {
            return self.not_revived(&accepted, Code::TokenUnavailable, NOT_REVIVED);
        }
        let generation = accepted.record.generation;
        let mark = Mark {
            standing: Standing::Normal,
            generation: self.mark.generation.max(generation.saturating_sub(1)),
            ..self.marked()
        };
        let op = self.op();
        self.flight = Some(Flight::Reviving(op, Box::new(accepted)));
        self.push_mark(op, mark, self.scrubbed_but(Some(generation)));
    }

    pub(super) fn revived(&mut self, accepted: Accepted, end: &Completion, now: Timestamp) {
        self.mark_done(end, now);
        if self.is_ending() {
            return self.not_revived(&accepted, Code::IntegrationRevoked, REVOKED_MEANWHILE);
        }
        if matches!((&self.life, end), (Life::Revoked(_), Completion::MarkFailed(_))) {
            return self.not_revived(&accepted, Code::TokenUnavailable, NOT_REVIVED);
        }
        let generation = self.mark.generation.max(accepted.record.generation.saturating_sub(1));
        self.mark = Mark { standing: Standing::Normal, generation, ..self.mark };
        self.connected(accepted, now);
    }

    fn not_revived(&mut self, accepted: &Accepted, code: Code, detail: &str) {
        if accepted.tell {
            self.tell_refused(code, detail);
        }
        self.note("consent_refused", "not_revived");
        self.give_back(Tokens::of_record(Some(&accepted.record)));
    }

    fn has_ended(&self, fresh: &Fresh, now: Timestamp) -> bool {
        let life = fresh.issued.expires_in.or(self.terms.default_life);
        life.is_some_and(|life| fresh.sealed.answer.received_at.plus(life) <= now)
    }

    /// Whether a revocation goes on at this moment: a consent that was begun before it is not accepted.
    fn is_ending(&self) -> bool {
        matches!(&self.life, Life::Revoked(ending) if !ending.stage.is_resting())
    }

    fn connected(&mut self, accepted: Accepted, now: Timestamp) {
        self.life = Life::Connected;
        // To tell the provider now could end the new grant with the old one.
        self.debt = None;
        (self.doubt, self.retry, self.unread, self.nudged) = (None, None, false, None);
        self.declined = None;
        self.health.forget();
        self.validate_anew(now);
        self.refreshes = self.refreshes.saturating_add(1);
        self.mended(&[Kind::Spending, Kind::Client, Kind::Foreign]);
        self.note("connected", "");
        self.keep(accepted, now);
    }

    pub(super) fn exchange_refused(&mut self, outcome: &Outcome) {
        let (code, cause, detail) = match outcome {
            Outcome::ClientRejected(cause) => (
                Code::ProviderNotConfigured,
                *cause,
                "the provider rejects grantd's client: check client_id, client_secret and the redirect URI",
            ),
            Outcome::Refused { cause, .. } => (
                Code::TokenUnavailable,
                *cause,
                "the provider asks to try later: begin again with a new link",
            ),
            Outcome::Ambiguous(cause) => (
                Code::TokenUnavailable,
                *cause,
                "the provider's answer cannot be read: begin again with a new link",
            ),
            Outcome::InvalidGrant | Outcome::Issued(_) => (
                Code::InvalidOauthState,
                "invalid_grant",
                "the provider does not take the code (used already, or too old): begin again with a new link",
            ),
        };
        if self.unheard == 0 {
            self.note("consent_failed", cause);
            self.tell_refused(code, detail);
        } else {
            self.device_declined(cause);
        }
        self.tidy();
    }

    /// Gives back at the provider what was not accepted; the life before it stays as it was.
    pub(super) fn reject(&mut self, fresh: &Fresh, code: Code, detail: &str) {
        if fresh.attempts == 0 {
            self.tell_refused(code, detail);
        } else if self.unheard > 0 {
            self.declined = Some(code.word());
        }
        if !is_a_copy(fresh) {
            return self.give_back(Tokens::of_issued(&fresh.issued));
        }
        self.tidy();
    }

    fn give_back(&mut self, tokens: Tokens) {
        if let Life::Revoked(ending) = &mut self.life
            && !ending.stage.is_resting()
        {
            // The ending that goes on tells the provider, and remembers it if there is no answer.
            ending.late.push(tokens);
            return self.tidy();
        }
        let op = self.op();
        self.flight = Some(Flight::Rejecting(op));
        self.out.push(tokens.effect(op));
    }
}

/// An imported refresh token that still is what it was, or a key: somebody else may live by it.
fn is_a_copy(fresh: &Fresh) -> bool {
    match (&fresh.sealed.presented, &fresh.issued.refresh_token) {
        (Some(presented), Some(now)) => presented.ct_eq(now),
        (Some(_), None) => true,
        (None, _) => fresh.sealed.purpose == Purpose::Import,
    }
}

const NOT_REVIVED: &str = "this host's disk does not take writes, so that a restart would end the grant again: mend the disk and begin again with a new link";
