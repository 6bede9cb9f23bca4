//! Importing: an operator brings a refresh token that lives elsewhere so far, or a key.
//!
//! What is brought is sealed before it is spent. A refresh token is presented once, and what comes of it is judged as a consent
//! is; a key is judged as it is. What the provider refuses leaves the life before it as it was.

use super::life::{Flight, Import, Kind, Spend};
use super::machine::Integration;
use super::outcome::{Issued, Outcome, classify};
use super::spend::SELDOM;
use super::{
    Account, Answer, Code, Completion, Effect, Origin, Purpose, Sealed, SpoolFault, Terms, WireFault, policy,
};
use crate::secret::{Imported, RefreshToken, SecretBytes};
use crate::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

impl Integration {
    /// What was brought waits for its turn, as a code does.
    pub(super) fn imported(&mut self, imported: &Imported, now: Timestamp) {
        let answer = Answer {
            status: 0,
            form_encoded: false,
            retry_after: None,
            whole: true,
            body: SecretBytes::new(imported.expose_secret().as_bytes().to_vec()),
            received_at: now,
        };
        let sealed = Sealed {
            purpose: Purpose::Import,
            generation: 0,
            account: Account::default(),
            accepted: false,
            scope: None,
            presented: None,
            presented_expires_at: None,
            nonce: None,
            answer: Arc::new(answer),
        };
        self.waiting.push_back(Spend::Import(Import { sealed: Arc::new(sealed), attempts: 0 }));
    }

    /// Durable before it is spent: whoever brought it may not have it any more.
    pub(super) fn seal_import(&mut self, import: &Import) {
        // The account that must not change, as for a consent.
        let account = self.grant.as_ref().map(|grant| grant.account.clone()).unwrap_or_default();
        let generation = self.next_generation();
        let sealed = Arc::new(Sealed { generation, account, ..import.sealed.duplicate() });
        self.sealed_up_to = self.sealed_up_to.max(generation);
        let op = self.op();
        self.flight =
            Some(Flight::Importing(op, Import { sealed: Arc::clone(&sealed), attempts: import.attempts }));
        self.push_seal(op, sealed);
    }

    pub(super) fn import_sealed(&mut self, import: Import, end: &Completion, now: Timestamp) {
        if let Completion::SealFailed(fault) = end {
            return self.import_unsealed(&import, *fault, now);
        }
        match self.terms.origin {
            Origin::Key => self.open(import.sealed, None, true, now),
            Origin::Consent | Origin::Machine | Origin::Broker => self.intend(Spend::Import(import)),
        }
    }

    fn import_unsealed(&mut self, import: &Import, fault: SpoolFault, now: Timestamp) {
        self.fail(Kind::Sealing, fault.word(), now);
        self.refuse_import(import, Code::TokenUnavailable, fault.word(), NOT_SEALED);
        self.tidy();
    }

    pub(super) fn push_import(&mut self, import: &Import) {
        let op = self.op();
        self.flight = Some(Flight::Spending(op, Spend::Import(import.clone())));
        match refresh_token_in(&import.sealed) {
            Some(token) => self.out.push(Effect::Refresh { op, token }),
            None => {
                self.refuse_import(
                    import,
                    Code::InvalidRequest,
                    "unreadable",
                    "what was imported is not text",
                );
                self.tidy();
            }
        }
    }

    /// The answer to it takes its place in the slot.
    pub(super) fn answer_to_import(&self, import: &Import, base: Sealed) -> Sealed {
        Sealed {
            generation: import.sealed.generation,
            account: import.sealed.account.clone(),
            presented: refresh_token_in(&import.sealed),
            ..base
        }
    }

    /// Nothing came back. Where nobody waits who could bring it again, it is kept and sent again.
    pub(super) fn import_unanswered(
        &mut self,
        import: &Import,
        fault: WireFault,
        sent: bool,
        now: Timestamp,
    ) {
        if import.attempts > 0 && !sent {
            self.release();
            return self.hold_import(import, fault.word(), now);
        }
        let detail = if sent { NO_ANSWER } else { NOT_REACHED };
        self.refuse_import(import, Code::TokenUnavailable, fault.word(), detail);
        self.tidy();
    }

    pub(super) fn hold_import(&mut self, import: &Import, cause: &'static str, now: Timestamp) {
        let attempts = import.attempts.saturating_add(1);
        let wait = policy::backoff(attempts, Duration::from_secs(1), SELDOM, self.seed);
        self.note("import_waits", cause);
        let import = Import { sealed: Arc::clone(&import.sealed), attempts };
        self.flight = Some(Flight::Holding(now.plus(wait), import));
    }

    /// An import that a crash left sealed: spent now, since nobody knows whether it was. Nothing else of it can be lost.
    pub(super) fn take_up_import(&mut self, import: Import) {
        self.claim(Spend::Import(import));
    }

    pub(super) fn import_refused(&mut self, outcome: &Outcome, import: &Import) {
        let (code, cause, detail) = match outcome {
            Outcome::ClientRejected(cause) => (Code::ProviderNotConfigured, *cause, CLIENT_REJECTED),
            Outcome::Refused { cause, .. } => (Code::TokenUnavailable, *cause, LATER),
            Outcome::Ambiguous(cause) => (Code::TokenUnavailable, *cause, UNREADABLE),
            Outcome::InvalidGrant | Outcome::Issued(_) => (Code::InvalidRequest, "invalid_grant", REFUSED),
        };
        self.refuse_import(import, code, cause, detail);
        self.tidy();
    }

    pub(super) fn refuse_import(&mut self, import: &Import, code: Code, cause: &'static str, detail: &str) {
        self.note("import_failed", cause);
        if import.attempts == 0 {
            self.tell_refused(code, detail);
        }
    }
}

/// What a sealed answer means. A key that was brought is its own answer.
pub(super) fn outcome_of(sealed: &Sealed, terms: &Terms) -> Outcome {
    match (sealed.purpose, terms.origin) {
        (Purpose::Import, Origin::Key) => text_of(sealed)
            .map_or(Outcome::Ambiguous("unreadable"), |key| Outcome::Issued(Box::new(Issued::of_key(key)))),
        // It was not spent yet.
        (Purpose::Import, Origin::Consent | Origin::Machine | Origin::Broker) => {
            Outcome::Refused { retry_after: None, cause: "import" }
        }
        (Purpose::Exchange | Purpose::Refresh | Purpose::Revocation, _) => {
            classify(&sealed.answer, &terms.dialect)
        }
    }
}

fn refresh_token_in(sealed: &Sealed) -> Option<RefreshToken> {
    text_of(sealed).map(RefreshToken::new)
}

fn text_of(sealed: &Sealed) -> Option<&str> {
    std::str::from_utf8(sealed.answer.body.expose_secret()).ok().filter(|text| !text.is_empty())
}

const NOT_SEALED: &str =
    "this host's disk does not take what was imported: nothing was spent; mend the disk and import it again";
const NOT_REACHED: &str = "the provider cannot be reached: nothing was spent; import it again later";
const NO_ANSWER: &str = "the provider did not answer, and may have taken the refresh token: import it again, and if it is refused then, connect";
const CLIENT_REJECTED: &str = "the provider rejects grantd's client: a refresh token works only with the client that it was issued to; check client_id and client_secret";
const LATER: &str = "the provider asks to try later: nothing was changed; import it again";
const UNREADABLE: &str =
    "the provider's answer cannot be read; it is kept in quarantine: `grantd recover` tries again";
const REFUSED: &str = "the provider does not take that refresh token: nothing was changed";
