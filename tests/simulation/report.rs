//! What a run has to tell: the tally of how hostile it was, and, for one seed, its dialogue line by line.

use crate::disk::Stop;
use crate::journal::Work;
use grantd::lifecycle::{Completion, Effect, Event, Loaded, Spent};
use std::fmt;

/// How much happened.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) millis: i64,
    pub(crate) steps: u64,
    pub(crate) events: u64,
    pub(crate) spends: u64,
    pub(crate) issued: u64,
    pub(crate) stored: u64,
    pub(crate) crashes: u64,
    pub(crate) drains: u64,
    pub(crate) suspends: u64,
    pub(crate) jumps: u64,
    pub(crate) outages: u64,
    pub(crate) faults: u64,
    pub(crate) intrusions: u64,
    pub(crate) consents: u64,
    pub(crate) revocations: u64,
    pub(crate) in_doubt: u64,
    pub(crate) healed: u64,
    pub(crate) dead: u64,
}

impl Tally {
    pub(crate) const fn add(&mut self, other: &Self) {
        self.millis += other.millis;
        self.steps += other.steps;
        self.events += other.events;
        self.spends += other.spends;
        self.issued += other.issued;
        self.stored += other.stored;
        self.crashes += other.crashes;
        self.drains += other.drains;
        self.suspends += other.suspends;
        self.jumps += other.jumps;
        self.outages += other.outages;
        self.faults += other.faults;
        self.intrusions += other.intrusions;
        self.consents += other.consents;
        self.revocations += other.revocations;
        self.in_doubt += other.in_doubt;
        self.healed += other.healed;
        self.dead += other.dead;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let years = self.millis as f64 / 31_557_600_000.0;
        writeln!(f, "{years:.1} integration-years, {} events", self.events)?;
        writeln!(
            f,
            "{} spends, {} answers with tokens, {} records stored, {} faults of providers",
            self.spends, self.issued, self.stored, self.faults
        )?;
        writeln!(
            f,
            "{} crashes, {} shutdowns, {} suspends, {} clock jumps, {} outages, {} intrusions at the store",
            self.crashes, self.drains, self.suspends, self.jumps, self.outages, self.intrusions
        )?;
        write!(
            f,
            "{} consents, {} revocations; {} spends fell in doubt; at the end {} grants were well and {} had died at the provider",
            self.consents, self.revocations, self.in_doubt, self.healed, self.dead
        )
    }
}

/// The dialogue of a run, kept only where it will be read.
pub(crate) struct Trace {
    pub(crate) loud: bool,
    pub(crate) lines: Vec<String>,
}

impl Trace {
    pub(crate) const fn new(loud: bool) -> Self {
        Self { loud, lines: Vec::new() }
    }

    pub(crate) fn say(&mut self, now: i64, line: impl FnOnce() -> String) {
        if self.loud {
            let (seconds, millis) = (now / 1000, now % 1000);
            let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
            let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
            self.lines
                .push(format!("{days:>3}d {hours:02}:{minutes:02}:{seconds:02}.{millis:03}  {}", line()));
        }
    }
}

pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::Restored(found) => {
            let answers: Vec<_> = found
                .answers
                .iter()
                .map(|sealed| {
                    let body = String::from_utf8_lossy(sealed.answer.body.expose_secret()).into_owned();
                    format!("{:?} {} {body}", sealed.purpose, sealed.generation)
                })
                .collect();
            format!(
                "Restored {:?} {:?}, answers {answers:?}, intent {:?}",
                found.mark.standing,
                found.mark.generation,
                found.intent.as_ref().map(|intent| (intent.purpose, intent.generation, intent.attempt))
            )
        }
        Event::Done { op, end } => format!("{} {}", op.0, completion(end)),
        Event::DeadlineReached => "DeadlineReached".into(),
        Event::RotationAsked { by } => format!("RotationAsked by {by:?}"),
        Event::RevocationAsked { .. } => "RevocationAsked".into(),
        Event::DeletionAsked => "DeletionAsked".into(),
        Event::EnablingAsked => "EnablingAsked".into(),
        Event::Imported(_) => "Imported".into(),
        Event::CodeReceived(_) => "CodeReceived".into(),
        Event::Recovered(_) => "Recovered".into(),
        Event::ClockSetBack(by) => format!("ClockSetBack by {by:?}"),
        Event::ApiAnswered { answer, .. } => format!("ApiAnswered {answer:?}"),
        Event::ValidationAsked => "ValidationAsked".into(),
    }
}

fn completion(end: &Completion) -> String {
    match end {
        Completion::Answered(Spent::Answered(answer)) => format!(
            "Answered {} {}{}",
            answer.status,
            String::from_utf8_lossy(answer.body.expose_secret()),
            if answer.whole { "" } else { " (cut)" }
        ),
        Completion::Loaded(Loaded::Record(record)) => format!(
            "Loaded {:?} generation {} {:?}",
            record.status,
            record.generation,
            record.refresh_token.as_ref().map(|token| token.expose_secret().to_owned())
        ),
        other => format!("{other:?}"),
    }
}

pub(crate) fn effect(effect: &Effect) -> String {
    let secret = |token: &grantd::secret::RefreshToken| token.expose_secret().to_owned();
    match effect {
        Effect::Refresh { op, token } => format!("{} Refresh {}", op.0, token.expose_secret()),
        Effect::RevokeUpstream { op, refresh_token, .. } => {
            format!("{} RevokeUpstream {:?}", op.0, refresh_token.as_ref().map(secret))
        }
        Effect::Publish(lease) => {
            format!(
                "Publish {} until {:?}, generation {}",
                lease.token.expose_secret(),
                lease.expires_at.map(|at| at.to_string()),
                lease.generation
            )
        }
        Effect::Store { op, record } | Effect::Clear { op, record } => format!(
            "{} Store {:?} generation {} {:?}",
            op.0,
            record.status,
            record.generation,
            record.refresh_token.as_ref().map(secret)
        ),
        Effect::Seal { op, sealed } => {
            format!("{} Seal {:?} generation {}", op.0, sealed.purpose, sealed.generation)
        }
        Effect::Exchange { op, .. } => format!("{} Exchange", op.0),
        Effect::Mark { op, mark, slot } => {
            format!("{} Mark {} {:?} {slot:?}", op.0, mark.generation, mark.standing)
        }
        Effect::Audit(entry) => {
            format!(
                "Audit {} {}: {} to {}, generation {}",
                entry.what, entry.cause, entry.from, entry.to, entry.generation
            )
        }
        Effect::Intend { op, intent } => {
            format!("{} Intend {:?} {} attempt {}", op.0, intent.purpose, intent.generation, intent.attempt)
        }
        other => format!("{other:?}"),
    }
}

/// Says something that is to be read even where the tests pass.
pub(crate) fn say(what: &impl fmt::Display) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "simulation: {what}").unwrap();
}

/// How a piece of work for the disk ends, for whoever waits for it.
pub(crate) fn completion_of(work: &Work, done: Result<(), Stop>) -> Completion {
    let fault = match done {
        Ok(()) => None,
        Err(Stop::Fault(fault)) => Some(fault),
        Err(Stop::Crash) => Some(grantd::lifecycle::SpoolFault::Broken),
    };
    match (work, fault) {
        (Work::Intend(_), None) => Completion::Intended,
        (Work::Intend(_), Some(fault)) => Completion::IntentFailed(fault),
        (Work::Seal(_), None) => Completion::Sealed,
        (Work::Seal(_), Some(fault)) => Completion::SealFailed(fault),
        (Work::Mark(..) | Work::Quarantine(_), None) => Completion::Marked,
        (Work::Mark(..) | Work::Quarantine(_), Some(fault)) => Completion::MarkFailed(fault),
    }
}
