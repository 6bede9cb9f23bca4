//! What the audit trail says: who did what with which integration, from where, and how it ended. Plain data, never a secret.
//!
//! The trail adds time, sequence and chain. `what` and `outcome` are stable words.

use super::{Code, Entry, Identity};

/// One event of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// What was done, as a stable word such as `revoke`, `sign_in`, `token_read`, or the transition's own.
    pub what: &'static str,
    /// Who did it.
    pub actor: Actor,
    /// Which integration it was about.
    pub identity: Option<Identity>,
    /// From where: an address, for what came over the network.
    pub address: Option<String>,
    /// How it ended: `ok`, or a code of contract §5.
    pub outcome: &'static str,
    /// How many of them this event stands for; reads by apps are counted by the minute.
    pub count: u64,
    /// The transition, where this event is one.
    pub transition: Option<Entry>,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// The daemon itself: a deadline, a schedule.
    Grantd,
    /// A local app, by the kernel's word.
    App {
        /// Its user.
        uid: u32,
        /// Its systemd unit, where the kernel tells it.
        unit: Option<String>,
    },
    /// Whoever operates on the host, over the control socket.
    Host {
        /// Its user.
        uid: u32,
    },
    /// A signed-in person.
    Operator {
        /// `sub` at the company's identity provider.
        subject: String,
        /// A name to show: e-mail or user name.
        name: String,
    },
    /// A browser in which nobody is signed in.
    Browser,
}

impl AuditEvent {
    /// Something that was done by `actor` and went well.
    #[must_use]
    pub const fn done(what: &'static str, actor: Actor) -> Self {
        Self { what, actor, identity: None, address: None, outcome: "ok", count: 1, transition: None }
    }

    /// Something that was asked by `actor` and refused.
    #[must_use]
    pub fn refused(what: &'static str, actor: Actor, code: Code) -> Self {
        Self { outcome: code.word(), ..Self::done(what, actor) }
    }

    /// The transition of an integration's life.
    #[must_use]
    pub fn transition(identity: &Identity, entry: Entry) -> Self {
        let event = Self::done(entry.what, Actor::Grantd).about(identity);
        Self { transition: Some(entry), ..event }
    }

    /// The same, about an integration.
    #[must_use]
    pub fn about(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// The same, from an address.
    #[must_use]
    pub fn from(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }
}
