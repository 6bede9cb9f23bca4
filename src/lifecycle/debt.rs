//! A debt: tokens of a revoked grant that the provider was not told of, because it did not answer.
//!
//! The revocation is final on this host and in the store all the same. The tokens stay sealed in the slot until the provider has
//! answered, a new consent makes the grant good again, or they have ended. One of the few files that see the text of tokens.

use super::life::{Ending, Kind, Life, Retry, Stage, Step};
use super::machine::Integration;
use super::outcome::Issued;
use super::{Account, Answer, Completion, Effect, Op, Purpose, Record, Revocation, Sealed, SlotFate, policy};
use crate::secret::{AccessToken, RefreshToken, SecretBytes};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroize as _;

/// What a provider is told of in one request (RFC 7009 §2.1).
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) refresh: Option<RefreshToken>,
    pub(super) access: Option<AccessToken>,
    pub(super) connected_account: Option<String>,
}

/// What the provider must still be told of.
#[derive(Debug)]
pub(super) struct Debt {
    /// As it stands in the slot.
    sealed: Arc<Sealed>,
    tokens: Vec<Tokens>,
    durable: bool,
    pub(super) step: Step,
    attempts: u32,
}

impl Tokens {
    fn of(
        refresh: Option<&RefreshToken>,
        access: Option<&AccessToken>,
        connected_account: Option<&String>,
    ) -> Self {
        Self {
            refresh: refresh.map(RefreshToken::duplicate),
            access: access.map(AccessToken::duplicate),
            connected_account: connected_account.cloned(),
        }
    }

    pub(super) fn of_record(record: Option<&Record>) -> Self {
        Self::of(
            record.and_then(|record| record.refresh_token.as_ref()),
            record.and_then(|record| record.access_token.as_ref()),
            record.and_then(|record| record.connected_account.as_ref()),
        )
    }

    pub(super) fn of_issued(issued: &Issued) -> Self {
        let Issued { refresh_token, access_token, connected_account, .. } = issued;
        Self::of(refresh_token.as_ref(), Some(access_token), connected_account.as_ref())
    }

    pub(super) fn effect(&self, op: Op) -> Effect {
        let Self { refresh, access, connected_account } =
            Self::of(self.refresh.as_ref(), self.access.as_ref(), self.connected_account.as_ref());
        Effect::RevokeUpstream { op, refresh_token: refresh, access_token: access, connected_account }
    }
}

impl Debt {
    pub(super) fn since(&self) -> Timestamp {
        self.sealed.answer.received_at
    }

    pub(super) fn generation(&self) -> u64 {
        self.sealed.generation
    }

    pub(super) const fn is_durable(&self) -> bool {
        self.durable
    }
}

impl Integration {
    /// Tells the provider, and remembers of what until it has answered.
    pub(super) fn tell_upstream(&mut self, tokens: Tokens) {
        let op = self.op();
        let Life::Revoked(ending) = &mut self.life else { return };
        ending.stage = Stage::Telling(op);
        self.out.push(tokens.effect(op));
        ending.asked = Some(tokens);
    }

    /// The provider has answered, or not.
    pub(super) fn told_upstream(&mut self, said: Revocation) {
        let Life::Revoked(ending) = &mut self.life else { return };
        let asked = ending.asked.take();
        if said == Revocation::Silent {
            ending.silent.extend(asked);
        }
        ending.upstream = Some(said);
        self.note("revoked_upstream", said.word());
    }

    /// Whether something is owed that a crash would make forgotten.
    pub(super) fn owes_unsealed(&self, ending: &Ending) -> bool {
        !ending.silent.is_empty() || self.debt.as_ref().is_some_and(|debt| !debt.durable)
    }

    /// Sealed before the record is cleared: until then the store holds what is owed, or the slot.
    pub(super) fn seal_debt(&mut self, now: Timestamp) {
        let (op, generation) = (self.op(), self.newest_generation().max(self.sealed_up_to).saturating_add(1));
        let ends = self.grant.as_ref().and_then(|grant| grant.refresh_token_expires_at);
        let Life::Revoked(ending) = &mut self.life else { return };
        ending.stage = Stage::Owing(op);
        let mut tokens = std::mem::take(&mut ending.silent);
        let (mut since, mut until) = (now, ends.unwrap_or_else(|| now.plus(LONGEST_DEBT)));
        if let Some(old) = self.debt.take() {
            tokens.extend(old.tokens);
            since = since.min(old.sealed.answer.received_at);
            until = until.max(old.sealed.presented_expires_at.unwrap_or(until));
        }
        let sealed = Arc::new(sealed(&tokens, generation, (since, until)));
        self.sealed_up_to = generation;
        self.out.push(Effect::Seal { op, sealed: Arc::clone(&sealed) });
        let step = Step::Until(now.plus(self.patience(1)));
        self.debt = Some(Debt { sealed, tokens, durable: false, step, attempts: 1 });
    }

    pub(super) fn debt_sealed(&mut self, end: &Completion, now: Timestamp) {
        if let Completion::SealFailed(fault) = end {
            self.fail(Kind::Sealing, fault.word(), now);
        } else if let Some(debt) = &mut self.debt {
            debt.durable = true;
        }
    }

    /// What a start finds in the slot. A grant that turns out to be good owes nothing; one whose mark the disk did not take may be
    /// revoked in the store alone.
    pub(super) fn restore_debt(&mut self, found: &[Arc<Sealed>], now: Timestamp) {
        let tokens: Vec<Tokens> = found.iter().flat_map(|sealed| tokens_in(sealed)).collect();
        let Some(sealed) = found.last().filter(|_| !tokens.is_empty()).cloned() else { return };
        let step = Step::Until(now.plus(Duration::from_millis(self.seed % 1500)));
        self.debt = Some(Debt { sealed, tokens, durable: true, step, attempts: 1 });
    }

    /// When the provider is told again.
    pub(super) fn debt_due(&self) -> Option<Timestamp> {
        self.debt.as_ref().filter(|_| self.mark.standing.has_ended()).and_then(|debt| debt.step.until())
    }

    pub(super) fn wake_debt(&mut self, now: Timestamp) {
        if self.debt_due().is_none_or(|at| at > now) {
            return;
        }
        let op = self.op();
        let Some(debt) = &mut self.debt else { return };
        if debt.sealed.presented_expires_at.is_some_and(|until| until <= now) {
            self.note("revoked_upstream", "given_up");
            return self.owe_nothing(now);
        }
        if let Some(tokens) = debt.tokens.last() {
            self.out.push(tokens.effect(op));
            debt.step = Step::Busy(op);
        }
    }

    pub(super) fn debt_done(&mut self, end: &Completion, now: Timestamp) {
        let Completion::UpstreamRevoked(said) = end else { return };
        let Some(debt) = &mut self.debt else { return };
        if *said == Revocation::Silent {
            debt.attempts = debt.attempts.saturating_add(1);
            let attempts = debt.attempts;
            let at = now.plus(self.patience(attempts));
            self.debt.iter_mut().for_each(|debt| debt.step = Step::Until(at));
            return;
        }
        let _told = debt.tokens.pop();
        debt.step = Step::Until(now);
        let over = debt.tokens.is_empty();
        if let Life::Revoked(ending) = &mut self.life {
            ending.upstream = Some(*said);
        }
        self.note("revoked_upstream", said.word());
        if over {
            self.owe_nothing(now);
        }
    }

    /// The slot is scrubbed as soon as nothing else needs it.
    fn owe_nothing(&mut self, now: Timestamp) {
        self.debt = None;
        self.unmarked = Some(self.unmarked.unwrap_or(Retry { at: now, attempts: 0 }));
    }

    /// All of the slot but what the provider must still be told of.
    pub(super) fn all_but_the_debt(&self) -> SlotFate {
        let owed = self.debt.as_ref().map(Debt::generation);
        owed.map_or(SlotFate::Scrubbed, |generation| SlotFate::Spared(vec![generation]))
    }

    fn patience(&self, attempts: u32) -> Duration {
        policy::backoff(attempts, Duration::from_secs(10), policy::HOUR, self.seed)
    }
}

fn sealed(tokens: &[Tokens], generation: u64, (since, until): (Timestamp, Timestamp)) -> Sealed {
    let plain: Vec<Plain> = tokens
        .iter()
        .map(|one| Plain {
            refresh_token: one.refresh.as_ref().map(|token| token.expose_secret().into()),
            access_token: one.access.as_ref().map(|token| token.expose_secret().into()),
            connected_account: one.connected_account.clone(),
        })
        .collect();
    Sealed {
        purpose: Purpose::Revocation,
        generation,
        account: Account::default(),
        accepted: false,
        scope: None,
        presented: None,
        presented_expires_at: Some(until),
        nonce: None,
        answer: Arc::new(Answer {
            status: 0,
            form_encoded: false,
            retry_after: None,
            whole: true,
            body: SecretBytes::new(serde_json::to_vec(&plain).unwrap_or_default()),
            received_at: since,
        }),
    }
}

fn tokens_in(sealed: &Sealed) -> Vec<Tokens> {
    let plain: Vec<Plain> = serde_json::from_slice(sealed.answer.body.expose_secret()).unwrap_or_default();
    let tokens = |mut one: Plain| Tokens {
        refresh: one.refresh_token.take().map(RefreshToken::new),
        access: one.access_token.take().map(AccessToken::new),
        connected_account: one.connected_account.take(),
    };
    plain.into_iter().map(tokens).collect()
}

#[derive(Serialize, Deserialize)]
struct Plain {
    refresh_token: Option<String>,
    access_token: Option<String>,
    #[serde(default)]
    connected_account: Option<String>,
}

/// The copies that serde makes of secrets end here.
impl Drop for Plain {
    fn drop(&mut self) {
        self.refresh_token.zeroize();
        self.access_token.zeroize();
    }
}

/// Where nobody says when a refresh token ends.
const LONGEST_DEBT: Duration = Duration::from_secs(30 * 86_400);
