//! Who may do what with which integration, and what a token read answers. Pure: judged anew for each request.

use super::{Action, Code, IntegrationId, ProviderId, Refusal, Status, View};
use crate::time::Timestamp;
use std::time::Duration;

/// Who the kernel says a caller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The peer's user id.
    pub uid: u32,
    /// The peer's group ids: the primary one and the supplementary ones.
    pub groups: Vec<u32>,
}

/// A rule that lets one caller use one integration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Whom it is for.
    pub who: Who,
    /// The integration it is about.
    pub integration: IntegrationId,
    /// The provider of that integration; a caller may use its name instead.
    pub provider: ProviderId,
    /// What it allows beside status.
    pub allow: Allow,
}

/// Whom a binding is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A user.
    Uid(u32),
    /// A member of a group.
    Gid(u32),
    /// A systemd unit.
    Unit(String),
}

/// What a binding allows. Status is always implied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Allow {
    /// Reading the access token.
    pub token: bool,
    /// Calling through the proxy.
    pub proxy: bool,
}

/// All bindings, as one snapshot.
#[derive(Clone, Debug, Default)]
pub struct Bindings(Vec<Binding>);

/// What a caller may do with one integration: the sum of all bindings that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The integration.
    pub integration: IntegrationId,
    /// Its provider.
    pub provider: ProviderId,
    /// What is allowed.
    pub allow: Allow,
}

/// The uid that stands for "nobody" and for users outside a user namespace. It is never bound.
pub const NOBODY: u32 = 65_534;

impl Bindings {
    /// Takes the bindings over.
    #[must_use]
    pub const fn new(bindings: Vec<Binding>) -> Self {
        Self(bindings)
    }

    /// What `caller` may do, one entry for each integration, by id.
    #[must_use]
    pub fn of(&self, caller: &Caller) -> Vec<Grant> {
        let mut grants: Vec<Grant> = Vec::new();
        for binding in self.0.iter().filter(|binding| binding.matches(caller)) {
            match grants.iter_mut().find(|grant| grant.integration == binding.integration) {
                Some(grant) => grant.allow = grant.allow.and(binding.allow),
                None => grants.push(Grant {
                    integration: binding.integration.clone(),
                    provider: binding.provider.clone(),
                    allow: binding.allow,
                }),
            }
        }
        grants.sort_by(|left, right| left.integration.cmp(&right.integration));
        grants
    }

    /// Finds what `name` means for `caller`: an id first, then a provider's name that fits exactly one.
    /// Takes no memory where the name is the id of a bound integration, which is the usual case.
    ///
    /// # Errors
    /// `binding_missing`, alike for what is forbidden and what does not exist; `ambiguous_integration`.
    pub fn resolve(&self, caller: &Caller, name: &str) -> Result<Grant, Refusal> {
        let mut found: Option<Grant> = None;
        for binding in
            self.0.iter().filter(|binding| binding.integration.as_str() == name && binding.matches(caller))
        {
            match &mut found {
                Some(grant) => grant.allow = grant.allow.and(binding.allow),
                None => {
                    found = Some(Grant {
                        integration: binding.integration.clone(),
                        provider: binding.provider.clone(),
                        allow: binding.allow,
                    });
                }
            }
        }
        if let Some(grant) = found {
            return Ok(grant);
        }
        let mut by_provider = self.of(caller).into_iter().filter(|grant| grant.provider.as_str() == name);
        match (by_provider.next(), by_provider.next()) {
            (Some(grant), None) => Ok(grant),
            (Some(_), Some(_)) => Err(Refusal::new(
                Code::AmbiguousIntegration,
                "the provider's name fits several of your integrations: ask for one by its id",
            )),
            (None, _) => Err(binding_missing()),
        }
    }
}

impl Binding {
    fn matches(&self, caller: &Caller) -> bool {
        caller.uid != NOBODY
            && match &self.who {
                Who::Uid(uid) => *uid == caller.uid,
                Who::Gid(gid) => caller.groups.contains(gid),
                // Unit rules need SO_PEERPIDFD and cgroups; until then they match nothing, and `run` says so.
                Who::Unit(_) => false,
            }
    }
}

impl Allow {
    const fn and(self, other: Self) -> Self {
        Self { token: self.token || other.token, proxy: self.proxy || other.proxy }
    }
}

impl Grant {
    /// Checks that the token may be read.
    ///
    /// # Errors
    /// `binding_missing`.
    pub fn may_read_token(&self) -> Result<(), Refusal> {
        if self.allow.token { Ok(()) } else { Err(binding_missing()) }
    }
}

/// The one answer for what is forbidden and for what does not exist.
#[must_use]
pub fn binding_missing() -> Refusal {
    Refusal::new(
        Code::BindingMissing,
        "no binding lets this user use that integration: ask the operator for a [[binding]] in grantd's configuration",
    )
}

/// What is known when a token read is judged: when the lease ends, if there is one, and how the integration is.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The lease that is served: `None` if there is none; `Some(None)` if it does not end.
    pub lease: Option<Option<Timestamp>>,
    /// The status object.
    pub view: &'a View,
}

/// Judges one token read (the table of contract §3).
///
/// # Errors
/// The refusal that the table names.
pub fn judge_read(standing: Standing<'_>, min_ttl: Duration, now: Timestamp) -> Result<(), Refusal> {
    if standing.view.status == Status::Revoked {
        return Err(Refusal::new(
            Code::IntegrationRevoked,
            "the integration was revoked: an operator can connect it again",
        )
        .with_actions(&[Action::Reconnect]));
    }
    let alive = standing.lease.is_some_and(|ends| ends.is_none_or(|ends| now < ends));
    let enough = standing.lease.is_some_and(|ends| ends.is_none_or(|ends| now.plus(min_ttl) <= ends));
    if alive && enough {
        return Ok(());
    }
    match standing.view.status {
        Status::NeedsReauth if !alive => {
            Err(Refusal::new(Code::NeedsReauth, standing.view.message.clone())
                .with_actions(&[Action::Reconnect]))
        }
        Status::Pending if !standing.view.connected && standing.view.actions.contains(&Action::Connect) => {
            Err(Refusal::new(
                Code::IntegrationPending,
                "the integration was never connected: an operator runs `grantd connect`",
            )
            .with_actions(&[Action::Connect]))
        }
        Status::Revoked
        | Status::NeedsReauth
        | Status::Pending
        | Status::Expired
        | Status::Warning
        | Status::Connected => Err(unavailable(alive, standing.view)),
    }
}

fn unavailable(alive: bool, view: &View) -> Refusal {
    let detail = if alive {
        "the token that is served ends before the asked min_ttl; a refresh is under way or was just made"
            .into()
    } else {
        view.message.clone()
    };
    Refusal::new(Code::TokenUnavailable, detail).with_actions(&view.actions).with_retry_after(if alive {
        Duration::from_secs(1)
    } else {
        Duration::from_secs(5)
    })
}
