//! Recovery: another look at sealed answers that could not be read when they came.
//!
//! A later version, or a mended dialect of the provider, may read what an earlier one could not. Nothing is used that a newer
//! generation has overtaken.

use super::life::{Flight, Life};
use super::machine::Integration;
use super::outcome::{Outcome, classify};
use super::{Sealed, Standing};
use std::sync::Arc;

/// What a look into quarantine came to.
#[derive(Debug)]
pub enum Recovery {
    /// There is nothing in quarantine.
    Nothing,
    /// Something is in flight: ask again when it has ended.
    Busy,
    /// None of so many answers can be read.
    Unreadable(usize),
    /// One can be read, and a newer generation has overtaken it.
    Overtaken,
    /// This one can be read and is the next generation. `Event::Recovered` goes on with it.
    Readable(Arc<Sealed>),
}

impl Recovery {
    /// A stable word for answers and logs.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Busy => "busy",
            Self::Unreadable(_) => "unreadable",
            Self::Overtaken => "overtaken",
            Self::Readable(_) => "readable",
        }
    }

    /// One sentence for a person.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Nothing => "there is nothing in quarantine for this integration".into(),
            Self::Busy => "something is in flight for this integration: try again in a while".into(),
            Self::Unreadable(count) => format!(
                "{count} sealed answers are in quarantine, and none can be read: compare the provider's entry (tokens_at, success_at) with its documentation, reload, and try again"
            ),
            Self::Overtaken => {
                "a sealed answer can be read now, but a newer generation has overtaken it: nothing was changed".into()
            }
            Self::Readable(sealed) => {
                format!("a sealed answer can be read now: it becomes generation {}", sealed.generation)
            }
        }
    }
}

impl Integration {
    /// Says what the answers in quarantine come to. Changes nothing.
    #[must_use]
    pub fn recovery(&self, kept: &[Arc<Sealed>]) -> Recovery {
        if kept.is_empty() {
            return Recovery::Nothing;
        }
        if self.is_busy() {
            return Recovery::Busy;
        }
        let readable = |sealed: &&Arc<Sealed>| {
            matches!(classify(&sealed.answer, &self.terms.dialect), Outcome::Issued(_))
        };
        match kept.iter().rev().find(readable) {
            None => Recovery::Unreadable(kept.len()),
            Some(sealed) if sealed.generation == self.next_generation() && self.may_recover() => {
                Recovery::Readable(Arc::clone(sealed))
            }
            Some(_) => Recovery::Overtaken,
        }
    }

    /// Seals a recovered answer anew and goes on as if it had just come.
    pub(super) fn recovered(&mut self, sealed: Arc<Sealed>) {
        if !matches!(self.recovery(&[Arc::clone(&sealed)]), Recovery::Readable(_)) {
            return;
        }
        self.note("recovered", "quarantine");
        if matches!(self.life, Life::NeedsReauth) {
            self.life = Life::Connected;
            self.mark.standing = Standing::Normal;
        }
        let op = self.op();
        self.flight = Some(Flight::Sealing(op, Arc::clone(&sealed), None));
        self.push_seal(op, sealed);
    }

    const fn may_recover(&self) -> bool {
        matches!(self.life, Life::Connected | Life::NeedsReauth | Life::Unconnected(_))
    }
}
