//! A small world for the tests of the machine: carries out every effect as its script says and remembers their order.

use super::testing::{identity, record};
use super::{
    Account, AccountChange, Answer, Completion, Dialect, Effect, Entry, Event, Exchange, ExpectedAccount,
    Found, Frozen, Integration, Intent, Loaded, Mark, Op, Origin, Outage, Record, Revocation, Rotation,
    Sealed, SlotFate, Spent, Terms, Trial,
};
use crate::secret::{AuthCode, SecretBytes};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(super) struct World {
    pub(super) machine: Integration,
    pub(super) now: Timestamp,
    /// What ends the next effect of a kind; without a script it ends well.
    pub(super) script: BTreeMap<&'static str, VecDeque<Completion>>,
    /// Kinds of effects that stay under way until they are let go.
    pub(super) held: BTreeSet<&'static str>,
    under_way: Vec<(&'static str, Op)>,
    /// The effects in their order, one word each, audit left out.
    pub(super) seen: Vec<&'static str>,
    pub(super) audit: Vec<Entry>,
    pub(super) told: Vec<super::ConsentEnd>,
    pub(super) stored: Vec<Arc<Record>>,
    pub(super) sealed: Option<Arc<Sealed>>,
    pub(super) intents: Vec<Intent>,
    pub(super) mark: Mark,
    /// What became of the slot at each scrub.
    pub(super) fates: Vec<SlotFate>,
    pub(super) presented: Vec<String>,
    /// The connected accounts of the mints.
    pub(super) minted: Vec<Option<String>>,
    /// The connected accounts of the revocations.
    pub(super) given_back: Vec<Option<String>>,
    pub(super) revoked_upstream: Vec<Option<String>>,
    issued: u64,
    /// What a token answer looks like: whether it rotates, and how long the token lives.
    pub(super) rotates: bool,
    pub(super) life: u64,
}

pub(super) fn terms(rotation: Rotation) -> Terms {
    Terms {
        origin: Origin::Consent,
        refresh_at_permille: 700,
        rotation,
        default_life: None,
        expected_account: ExpectedAccount::default(),
        outage: Outage::Hold,
        write_budget: None,
        scopes: vec!["repo".into()],
        dialect: Dialect::default(),
        can_try: true,
        validate_every: None,
    }
}

pub(super) fn answer(status: u16, body: &str, now: Timestamp) -> Completion {
    answered(status, body, None, now)
}

pub(super) fn throttled(wait: Duration, now: Timestamp) -> Completion {
    answered(429, "", Some(wait), now)
}

fn answered(status: u16, body: &str, retry_after: Option<Duration>, now: Timestamp) -> Completion {
    Completion::Answered(Spent::Answered(Arc::new(Answer {
        status,
        form_encoded: false,
        retry_after,
        whole: true,
        body: SecretBytes::new(body.as_bytes().to_vec()),
        received_at: now,
    })))
}

impl World {
    pub(super) fn new(rotation: Rotation) -> Self {
        Self::with(terms(rotation))
    }

    pub(super) fn with(terms: Terms) -> Self {
        Self {
            machine: Integration::new(identity("github"), terms),
            now: Timestamp::from_seconds(1_000_000),
            script: BTreeMap::new(),
            held: BTreeSet::new(),
            under_way: Vec::new(),
            seen: Vec::new(),
            audit: Vec::new(),
            told: Vec::new(),
            stored: Vec::new(),
            sealed: None,
            intents: Vec::new(),
            mark: Mark::default(),
            fates: Vec::new(),
            presented: Vec::new(),
            minted: Vec::new(),
            given_back: Vec::new(),
            revoked_upstream: Vec::new(),
            issued: 0,
            rotates: true,
            life: 3600,
        }
    }

    /// A world in which generation 3 was restored from the store, with a lease of an hour.
    pub(super) fn connected(rotation: Rotation) -> Self {
        let mut world = Self::new(rotation);
        world.restore_record(3);
        world.seen.clear();
        world.audit.clear();
        world
    }

    pub(super) fn restore_record(&mut self, generation: u64) {
        let found = Record {
            written_at: self.now,
            expires_at: Some(self.now.plus(Duration::from_secs(3600))),
            ..record("github", generation, &format!("r{generation}"))
        };
        self.mark = Mark { generation, ..self.mark };
        self.will("load", Completion::Loaded(Loaded::Record(Box::new(found))));
        self.restart(Found { mark: self.mark, ..Found::default() });
    }

    pub(super) fn restart(&mut self, found: Found) {
        self.happens(Event::Restored(found));
    }

    pub(super) fn will(&mut self, kind: &'static str, end: Completion) {
        self.script.entry(kind).or_default().push_back(end);
    }

    pub(super) fn happens(&mut self, event: Event) {
        let effects = self.machine.handle(event, self.now);
        self.carry_out(effects);
    }

    /// The daemon is told to stop.
    pub(super) fn drain(&mut self) {
        let effects = self.machine.drain();
        self.carry_out(effects);
    }

    /// Time passes until the next deadline, which is then reached.
    pub(super) fn deadline(&mut self) {
        self.now = self.machine.deadline().expect("a deadline").max(self.now);
        self.happens(Event::DeadlineReached);
    }

    pub(super) fn consent(&mut self) {
        self.consent_by(AccountChange::Refused);
    }

    pub(super) fn consent_by(&mut self, account: AccountChange) {
        self.happens(Event::CodeReceived(Box::new(Exchange {
            code: AuthCode::new("code"),
            frozen: Frozen {
                token_endpoint: "https://idp.example/token".into(),
                issuer: None,
                issuer_promised: false,
                redirect_uri: "https://grantd.example/cb".into(),
                verifier: None,
                nonce: None,
            },
            account,
            pace: None,
        })));
    }

    /// Ends the effects of a kind that were held.
    pub(super) fn let_go(&mut self, kind: &'static str) {
        self.held.remove(kind);
        let (ready, rest): (Vec<_>, Vec<_>) = self.under_way.drain(..).partition(|(held, _)| *held == kind);
        self.under_way = rest;
        for (kind, op) in ready {
            let end = self.end_of(kind);
            self.happens(Event::Done { op, end });
        }
    }

    pub(super) fn status(&self) -> super::Status {
        self.machine.view(self.now).status
    }

    pub(super) fn served(&self) -> bool {
        self.machine.view(self.now).token_valid
    }

    /// The effects since the last look, as one line.
    pub(super) fn line(&mut self) -> String {
        std::mem::take(&mut self.seen).join(" ")
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut ends = Vec::new();
        for effect in effects {
            let (kind, op) = self.note(effect);
            let Some(op) = op else { continue };
            if self.held.contains(kind) {
                self.under_way.push((kind, op));
            } else {
                ends.push((kind, op));
            }
        }
        for (kind, op) in ends {
            let end = self.end_of(kind);
            self.happens(Event::Done { op, end });
        }
    }

    fn note(&mut self, effect: Effect) -> (&'static str, Option<Op>) {
        let (kind, op) = match effect {
            Effect::Claim { op, .. } => ("claim", Some(op)),
            Effect::Release { .. } => ("release", None),
            Effect::Intend { op, intent } => {
                self.intents.push(intent);
                ("intend", Some(op))
            }
            Effect::Exchange { op, .. } => ("exchange", Some(op)),
            Effect::Refresh { op, token } => {
                self.presented.push(token.expose_secret().into());
                ("refresh", Some(op))
            }
            Effect::Mint { op, connected_account } => {
                self.minted.push(connected_account);
                ("mint", Some(op))
            }
            Effect::Seal { op, sealed } => {
                self.sealed = Some(sealed);
                ("seal", Some(op))
            }
            Effect::Try { op, .. } => ("try", Some(op)),
            Effect::Publish(lease) => {
                // Invariants 3 and 5: nothing is published before it is durable, or after its end.
                assert!(lease.expires_at.is_none_or(|end| self.now < end), "a dead lease was published");
                ("publish", None)
            }
            Effect::Withdraw => ("withdraw", None),
            Effect::Store { op, record } => {
                self.stored.push(record);
                ("store", Some(op))
            }
            Effect::Clear { op, record } => {
                self.stored.push(record);
                ("clear", Some(op))
            }
            Effect::Delete { op } => ("delete", Some(op)),
            Effect::Load { op } => ("load", Some(op)),
            Effect::Mark { op, mark, slot } => {
                self.mark = mark;
                let kind = if slot == SlotFate::Kept { "mark" } else { "scrub" };
                self.fates.push(slot);
                (kind, Some(op))
            }
            Effect::RevokeUpstream { op, refresh_token, connected_account, .. } => {
                self.given_back.push(connected_account);
                self.revoked_upstream.push(refresh_token.map(|token| token.expose_secret().into()));
                ("revoke_upstream", Some(op))
            }
            Effect::Quarantine(_) => ("quarantine", None),
            Effect::Audit(entry) => {
                self.audit.push(entry);
                return ("audit", None);
            }
            Effect::Tell(end) => {
                self.told.push(end);
                ("tell", None)
            }
        };
        self.seen.push(kind);
        (kind, op)
    }

    fn end_of(&mut self, kind: &'static str) -> Completion {
        if let Some(end) = self.script.get_mut(kind).and_then(VecDeque::pop_front) {
            return end;
        }
        match kind {
            "claim" => Completion::Claimed,
            "intend" => Completion::Intended,
            "exchange" | "refresh" | "mint" => {
                self.issued += 1;
                let (n, life) = (self.issued, self.life);
                let rotated =
                    if self.rotates { format!(r#","refresh_token":"fresh-{n}""#) } else { String::new() };
                answer(200, &format!(r#"{{"access_token":"a-{n}","expires_in":{life}{rotated}}}"#), self.now)
            }
            "seal" => Completion::Sealed,
            "try" => Completion::Tried(Trial::Valid(Account {
                username: Some("acme-bot".into()),
                ..Account::default()
            })),
            "store" | "clear" => Completion::Stored,
            "delete" => Completion::Deleted,
            "load" => Completion::Loaded(Loaded::Empty),
            "revoke_upstream" => Completion::UpstreamRevoked(Revocation::Confirmed),
            _ => Completion::Marked,
        }
    }
}
