//! What goes between the daemon and its peers: requests that are lost before or after they took effect, late, cut, refused.
//!
//! A request that is on its way reaches its peer whether or not the daemon still lives.

use crate::process::{Flying, long};
use crate::provider::{Code, Fault, Habit, Issue, Rt, Who};
use crate::store::Verdict;
use crate::world::{Happening, World};
use grantd::lifecycle::{
    Account, Answer, Completion, Loaded, Op, Record, Revocation, Spent, StoreFault, Trial, WireFault,
};
use grantd::secret::SecretBytes;
use std::sync::Arc;
use std::time::Duration;

use crate::provider::At;

/// A request to a provider.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    Refresh(Rt),
    Exchange(usize),
    Try(At),
    Revoke(Option<Rt>, Option<At>),
}

/// A write to the store: one generation, or the two of a cleared record.
pub(crate) struct Write {
    record: Arc<Record>,
    clears: bool,
    verdict: Verdict,
    looked_at: i64,
    fresh: bool,
}

impl Write {
    pub(crate) const fn store(record: Arc<Record>) -> Self {
        Self { record, clears: false, verdict: Verdict::Stop, looked_at: 0, fresh: true }
    }

    pub(crate) const fn clear(record: Arc<Record>) -> Self {
        Self { record, clears: true, verdict: Verdict::Stop, looked_at: 0, fresh: true }
    }
}

/// The provider's deadline for one request (design §3, step 8).
const DEADLINE: i64 = 10_000;

impl World {
    fn answer_later(&mut self, key: (u32, usize, Op), wait: i64, end: Completion) {
        let (run, who, op) = key;
        self.after(wait, Happening::Ended { run, who, op, end });
    }

    fn wire(&mut self) -> i64 {
        if self.chance.hit(self.mood.slow) {
            long(&mut self.chance, 2000)
        } else {
            self.chance.between(10, 150)
        }
    }

    /// Sends a request to a provider, unless it cannot even be sent.
    pub(crate) fn send(&mut self, who: usize, op: Op, request: Request) {
        let key = (self.run, who, op);
        let provider = &self.providers[self.roles[who].provider];
        let spends = matches!(request, Request::Refresh(_) | Request::Exchange(_));
        let unsent = spends && provider.fault(&mut self.chance, self.mood.everyday * 0.1) == Fault::NotSent;
        if unsent {
            let fault = self.chance.pick(&[WireFault::Dns, WireFault::Connect, WireFault::Tls]);
            let wait = self.wire();
            return self.answer_later(key, wait, Completion::Answered(Spent::NotSent(fault)));
        }
        let late = match request {
            Request::Refresh(_) | Request::Exchange(_) => {
                Completion::Answered(Spent::Lost(WireFault::Timeout))
            }
            Request::Try(_) => Completion::Tried(Trial::Silent),
            Request::Revoke(..) => Completion::UpstreamRevoked(Revocation::Silent),
        };
        self.answer_later(key, DEADLINE, late);
        let wait = self.wire();
        let run = self.run;
        self.after(wait, Happening::Reached { run, who, op, request });
    }

    /// A request reaches its provider.
    pub(crate) fn reached(&mut self, key: (u32, usize, Op), request: Request) {
        let back = self.wire();
        match request {
            Request::Refresh(rt) => {
                self.tally.spends += 1;
                self.reached_token_endpoint(key, back, Some(rt), None);
            }
            Request::Exchange(code) => self.reached_token_endpoint(key, back, None, Some(code)),
            Request::Try(at) => {
                let trial = self.try_it(key.1, at);
                if let Some(trial) = trial {
                    self.answer_later(key, back, Completion::Tried(trial));
                }
            }
            Request::Revoke(refresh, access) => self.revoke_it(key, back, refresh, access),
        }
    }

    fn reached_token_endpoint(
        &mut self,
        key: (u32, usize, Op),
        back: i64,
        rt: Option<Rt>,
        code: Option<usize>,
    ) {
        let (_, who, _) = key;
        let provider = &self.providers[self.roles[who].provider];
        let mut fault = provider.fault(&mut self.chance, self.mood.everyday);
        if fault == Fault::NotSent {
            fault = Fault::LostBefore;
        }
        if fault != Fault::Nothing {
            self.tally.faults += 1;
        }
        let refusal = match fault {
            Fault::LostBefore => return self.answer_later(key, back, lost()),
            Fault::ErrorBefore(status) => Some((status, "<html>oops</html>", None)),
            Fault::Throttled(wait) => Some((429, "", wait)),
            Fault::ClientRejected => Some((401, r#"{"error":"invalid_client"}"#, None)),
            Fault::Page(status) => Some((status, "<html>blocked</html>", None)),
            Fault::Unavailable => Some((400, r#"{"error":"temporarily_unavailable"}"#, None)),
            Fault::Nothing
            | Fault::NotSent
            | Fault::LostAfter
            | Fault::ErrorAfter(_)
            | Fault::Garbage
            | Fault::Wrapped
            | Fault::Cut
            | Fault::Late => None,
        };
        if let Some((status, body, wait)) = refusal {
            let answer = self.answer(status, body, wait.map(Duration::from_secs), back);
            return self.answer_later(key, back, answer);
        }
        let issue = match (rt, code) {
            (Some(rt), _) => self.take_refresh(who, rt),
            (None, Some(code)) => self.take_code(who, code),
            (None, None) => None,
        };
        let Some(issue) = issue else {
            let answer = self.answer(400, r#"{"error":"invalid_grant"}"#, None, back);
            return self.answer_later(key, back, answer);
        };
        self.tally.issued += 1;
        self.answer_with(key, back, fault, (issue, rt));
    }

    fn take_refresh(&mut self, who: usize, rt: Rt) -> Option<Issue> {
        let (habit, life) = (self.provider_of(who).habit, self.provider_of(who).life);
        let ends_at = life.map(|life| self.now + life);
        let issue = self.ledger.present(rt, habit, self.now, ends_at);
        self.trace.say(self.now, || match issue {
            Some(Issue { access, refresh }) => {
                format!("provider: {} brings {} and {:?}", rt.text(), access.text(), refresh.map(Rt::text))
            }
            None => format!("provider: {} is no good", rt.text()),
        });
        issue
    }

    fn take_code(&mut self, who: usize, code: usize) -> Option<Issue> {
        let provider = self.provider_of(who);
        let (renewable, ends_at) = (provider.renewable, provider.life.map(|life| self.now + life));
        let Code { used: false, brought_at, .. } = self.ledger.codes[code] else { return None };
        let issue = self.ledger.begin((who, brought_at), renewable, ends_at);
        let family = self.ledger.ats[issue.access.0].family;
        let code = &mut self.ledger.codes[code];
        (code.used, code.family) = (true, Some(family));
        self.trace.say(self.now, || {
            format!("provider: a code brings {} and {:?}", issue.access.text(), issue.refresh.map(Rt::text))
        });
        Some(issue)
    }

    fn answer_with(
        &mut self,
        key: (u32, usize, Op),
        back: i64,
        fault: Fault,
        (issue, rt): (Issue, Option<Rt>),
    ) {
        let (_, who, _) = key;
        let body = self.body(who, issue, rt);
        let end = match fault {
            Fault::LostAfter => return self.answer_later(key, back, lost()),
            Fault::Late => return,
            Fault::ErrorAfter(status) => self.answer(status, "<html>oops</html>", None, back),
            Fault::Garbage => self.answer(200, "<html>welcome</html>", None, back),
            Fault::Wrapped => self.answer(200, &format!(")]}}'{body}"), None, back),
            Fault::Cut => {
                let half = &body[..body.len() / 2];
                self.cut(half, back)
            }
            _ => {
                let received = self.wall().millis() + back;
                let life = self.provider_of(who).life;
                self.ledger.ats[issue.access.0].lease = Some((received, life.map(|life| received + life)));
                self.answer(200, &body, None, back)
            }
        };
        self.answer_later(key, back, end);
    }

    fn body(&mut self, who: usize, issue: Issue, presented: Option<Rt>) -> String {
        let provider = self.provider_of(who);
        let repeated = presented.filter(|_| provider.repeats && provider.habit == Habit::Never);
        let refresh = issue.refresh.or(repeated);
        let life = provider.life.filter(|_| provider.says_life).map(|life| life / 1000);
        let access = issue.access.text();
        if provider.form_encoded {
            let refresh = refresh.map(|rt| format!("&refresh_token={}", rt.text())).unwrap_or_default();
            let life = life.map(|life| format!("&expires_in={life}")).unwrap_or_default();
            return format!("access_token={access}&token_type=bearer{life}{refresh}");
        }
        let refresh = refresh.map(|rt| format!(r#","refresh_token":"{}""#, rt.text())).unwrap_or_default();
        let life = life.map(|life| format!(r#","expires_in":{life}"#)).unwrap_or_default();
        format!(r#"{{"access_token":"{access}","token_type":"Bearer"{life}{refresh}}}"#)
    }

    fn answer(&self, status: u16, body: &str, retry_after: Option<Duration>, back: i64) -> Completion {
        self.raw(status, body, retry_after, (back, true))
    }

    fn cut(&self, body: &str, back: i64) -> Completion {
        self.raw(200, body, None, (back, false))
    }

    fn raw(
        &self,
        status: u16,
        body: &str,
        retry_after: Option<Duration>,
        (back, whole): (i64, bool),
    ) -> Completion {
        let received_at = self.wall().plus(Duration::from_millis(back.unsigned_abs()));
        Completion::Answered(Spent::Answered(Arc::new(Answer {
            status,
            form_encoded: body.starts_with("access_token="),
            retry_after,
            whole,
            body: SecretBytes::new(body.as_bytes().to_vec()),
            received_at,
        })))
    }

    fn try_it(&mut self, who: usize, at: At) -> Option<Trial> {
        let provider = self.provider_of(who);
        if provider.userinfo_silent || self.chance.hit(self.mood.everyday) {
            return self.chance.hit(0.5).then_some(Trial::Silent);
        }
        if !self.ledger.access_lives(at, self.now) {
            return Some(Trial::Invalid);
        }
        let family = self.ledger.ats[at.0].family;
        let account =
            self.ledger.codes.iter().find(|code| code.family == Some(family)).map(|code| code.account);
        let name = if account == Some(Who::Other) { "mallory" } else { "bot" };
        Some(Trial::Valid(Account { username: Some(name.into()), ..Account::default() }))
    }

    fn revoke_it(&mut self, key: (u32, usize, Op), back: i64, refresh: Option<Rt>, access: Option<At>) {
        let provider = self.provider_of(key.1);
        if !provider.revokes {
            return self.answer_later(key, back, Completion::UpstreamRevoked(Revocation::Unsupported));
        }
        let bad = provider.trouble != crate::provider::Trouble::Fine;
        let fault = if bad || self.chance.hit(self.mood.everyday) { 1 + self.chance.below(3) } else { 0 };
        if fault != 1 && fault != 3 {
            self.ledger.revoke(refresh, access);
        }
        match fault {
            0 => self.answer_later(key, back, Completion::UpstreamRevoked(Revocation::Confirmed)),
            1 => self.answer_later(key, back, Completion::UpstreamRevoked(Revocation::Refused)),
            _ => {}
        }
    }

    pub(crate) fn store_latency(&mut self) -> i64 {
        if self.chance.hit(self.mood.slow) {
            long(&mut self.chance, 20_000)
        } else {
            self.chance.between(20, 300)
        }
    }

    pub(crate) fn begin_write(&mut self, who: usize, op: Op, write: Write) {
        let wait = self.store_latency();
        let run = self.run;
        self.after(wait, Happening::Look { run, who, op, write });
    }

    /// Looks at the secret before it is written.
    pub(crate) fn look(&mut self, who: usize, op: Op, mut write: Write) {
        if !self.is_flying(who, op) {
            return;
        }
        let everyday = self.mood.everyday;
        if let Some(fault) = self.secrets[who].refusal(&mut self.chance, everyday) {
            return self.ended(who, op, Completion::StoreFailed(fault));
        }
        let labels = self.secrets[who].describe(self.now, &mut self.chance);
        write.fresh = labels == self.secrets[who].labels;
        write.looked_at = self.now;
        write.verdict = self.secrets[who].judge(labels, &write.record);
        match write.verdict {
            Verdict::Newer => self.ended(who, op, Completion::IdTaken),
            Verdict::Stop => self.ended(who, op, Completion::StoreFailed(StoreFault::Other)),
            Verdict::Ours | Verdict::OursAndLabel | Verdict::Foreign => {
                let wait = self.chance.between(5, 150);
                let run = self.run;
                self.after(wait, Happening::Put { run, who, op, write });
            }
        }
    }

    /// A write reaches the store.
    pub(crate) fn put(&mut self, key: (u32, usize, Op), write: Write) {
        let (run, who, op) = key;
        let everyday = self.mood.everyday;
        if let Some(fault) = self.secrets[who].refusal(&mut self.chance, everyday) {
            return self.answer_later(key, 5, Completion::StoreFailed(fault));
        }
        let before = self.secrets[who].labels;
        let done = match self.secrets[who].put(&write.record, write.verdict, self.now) {
            Ok(done) => done,
            Err(fault) => return self.answer_later(key, 5, Completion::StoreFailed(fault)),
        };
        self.oracle.stale = true;
        if !matches!(done, Completion::IdTaken) {
            self.tally.stored += 1;
            let stranger_is_new = self.secrets[who].touched_at >= write.looked_at || !write.fresh;
            self.committed(who, &write.record, before, stranger_is_new);
        }
        if self.secrets[who].loses_it(&mut self.chance, everyday) {
            let wait = self.chance.between(50, 8000);
            return self.answer_later(key, wait, Completion::StoreFailed(StoreFault::Unreachable));
        }
        let good = matches!(done, Completion::Stored | Completion::StoredBeside);
        if write.clears && good {
            let old = &write.record;
            let next = Record::cleared(
                old.identity.clone(),
                old.generation.saturating_add(1),
                old.account.clone(),
                old.written_at,
            );
            let write = Write::store(Arc::new(next));
            return self.after(10, Happening::Look { run, who, op, write });
        }
        let back = self.chance.between(5, 60);
        self.answer_later(key, back, done);
    }

    pub(crate) fn read(&mut self, who: usize, op: Op) {
        if !self.is_flying(who, op) {
            return;
        }
        let everyday = self.mood.everyday;
        let end = match self.secrets[who].refusal(&mut self.chance, everyday) {
            Some(fault) => Completion::LoadFailed(fault),
            None => {
                let labels = self.secrets[who].describe(self.now, &mut self.chance);
                self.secrets[who].load(&self.roles[who].identity, labels, self.now, &mut self.chance)
            }
        };
        self.trace.say(self.now, || match &end {
            Completion::Loaded(Loaded::Record(record)) => {
                format!("store: app{who} reads generation {}", record.generation)
            }
            other => format!("store: app{who} reads {other:?}"),
        });
        self.ended(who, op, end);
    }

    fn is_flying(&self, who: usize, op: Op) -> bool {
        self.process.as_ref().is_some_and(|process| {
            matches!(process.flying.get(&(who, op.0)), Some(Flying::Load | Flying::Store | Flying::Clear))
        })
    }
}

fn lost() -> Completion {
    Completion::Answered(Spent::Lost(WireFault::Reset))
}
