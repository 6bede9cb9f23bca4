//! Who may do what with which integration, and what a token read answers. Pure: judged anew for each request.

use super::{Action, ApiPath, Code, IntegrationId, PathRule, ProviderId, Refusal, Status, UnitRule, View};
use crate::time::Timestamp;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Who the kernel says a caller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The peer's user id.
    pub uid: u32,
    /// The peer's group ids: the primary one and the supplementary ones.
    pub groups: Vec<u32>,
    /// The unit of the system that it runs in, where the kernel tells it beyond doubt.
    pub unit: Option<Arc<str>>,
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
    /// What the proxy lets through by this binding; empty: every path.
    pub paths: Vec<PathRule>,
}

/// Whom a binding is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A user.
    Uid(u32),
    /// A member of a group.
    Gid(u32),
    /// A systemd unit.
    Unit(UnitRule),
}

/// What a binding allows. Status is always implied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Allow {
    /// Reading the access token.
    pub token: bool,
    /// Calling through the proxy.
    pub proxy: bool,
}

/// All bindings, as one snapshot, in the order of their integrations: a read looks at those of one integration alone.
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

/// One binding held against one caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// The binding.
    pub binding: &'a Binding,
    /// Whether it is for the caller.
    pub fits: bool,
    /// Why, or why not.
    pub why: &'static str,
}

/// The uid that stands for "nobody" and for users outside a user namespace. It is never bound.
pub const NOBODY: u32 = 65_534;

impl Bindings {
    /// Takes the bindings over.
    #[must_use]
    pub fn new(mut bindings: Vec<Binding>) -> Self {
        bindings.sort_by(|left, right| left.integration.cmp(&right.integration));
        Self(bindings)
    }

    /// What `caller` may do, one entry for each integration, by id.
    #[must_use]
    pub fn of(&self, caller: &Caller) -> Vec<Grant> {
        let of_one = self.0.chunk_by(|left, right| left.integration == right.integration);
        of_one.filter_map(|bindings| sum(bindings, caller)).collect()
    }

    /// Every binding with what it says to `caller`, for a person who wonders.
    #[must_use]
    pub fn explain(&self, caller: &Caller) -> Vec<Verdict<'_>> {
        let verdict = |binding| {
            let (fits, why) = Binding::judge(binding, caller);
            Verdict { binding, fits, why }
        };
        self.0.iter().map(verdict).collect()
    }

    /// Finds what `name` means for `caller`: an id first, then a provider's name that fits exactly one.
    /// Takes no memory where the name is the id of a bound integration, which is the usual case.
    ///
    /// # Errors
    /// `binding_missing`, alike for what is forbidden and what does not exist; `ambiguous_integration`.
    pub fn resolve(&self, caller: &Caller, name: &str) -> Result<Grant, Refusal> {
        if let Some(grant) = sum(self.of_integration(name), caller) {
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

    /// Whether `caller` may send `method` to `path` of an integration's API through the proxy. Each binding stands for itself:
    /// what one lets through is not widened by the paths of another that does not allow the proxy.
    ///
    /// # Errors
    /// `binding_missing`.
    pub fn may_call(
        &self,
        caller: &Caller,
        integration: &IntegrationId,
        method: &str,
        path: &ApiPath,
    ) -> Result<(), Refusal> {
        let lets_through = |binding: &&Binding| {
            binding.allow.proxy
                && binding.matches(caller)
                && (binding.paths.is_empty() || binding.paths.iter().any(|rule| rule.fits(method, path)))
        };
        let bindings = self.of_integration(integration.as_str());
        bindings.iter().find(lets_through).map(|_| ()).ok_or_else(binding_missing)
    }

    fn of_integration(&self, name: &str) -> &[Binding] {
        let from = self.0.partition_point(|binding| binding.integration.as_str() < name);
        let rest = self.0.get(from..).unwrap_or_default();
        let count = rest.partition_point(|binding| binding.integration.as_str() == name);
        rest.get(..count).unwrap_or_default()
    }
}

/// What the bindings of one integration allow a caller together; `None` where none of them is for it.
fn sum(bindings: &[Binding], caller: &Caller) -> Option<Grant> {
    let mut mine = bindings.iter().filter(|binding| binding.matches(caller));
    let first = mine.next()?;
    Some(Grant {
        integration: first.integration.clone(),
        provider: first.provider.clone(),
        allow: mine.fold(first.allow, |allow, binding| allow.and(binding.allow)),
    })
}

impl Binding {
    fn matches(&self, caller: &Caller) -> bool {
        self.judge(caller).0
    }

    fn judge(&self, caller: &Caller) -> (bool, &'static str) {
        if caller.uid == NOBODY {
            return (false, "uid 65534 stands for users whom the kernel cannot name, and is never bound");
        }
        let choose = |fits: bool, yes, no| (fits, if fits { yes } else { no });
        match &self.who {
            Who::Uid(uid) => choose(*uid == caller.uid, "it is this user", "it is another user"),
            Who::Gid(gid) => {
                choose(caller.groups.contains(gid), "it is in this group", "it is not in this group")
            }
            Who::Unit(rule) => match &caller.unit {
                Some(unit) => choose(rule.fits(unit), "it runs in this unit", "it runs in another unit"),
                None => (false, "no unit is known of it"),
            },
        }
    }
}

/// As the configuration writes it.
impl fmt::Display for Who {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(out, "uid = {uid}"),
            Self::Gid(gid) => write!(out, "gid = {gid}"),
            Self::Unit(rule) => write!(out, "unit = \"{rule}\""),
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
        "no binding lets this caller use that integration: ask the operator for a [[binding]] in grantd's configuration",
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

#[cfg(test)]
mod tests {
    use super::{Allow, Binding, Bindings, Caller, NOBODY, Standing as ReadStanding, Who, judge_read};
    use crate::lifecycle::testing::{identity, pending_view};
    use crate::lifecycle::{Action, ApiPath, Code, PathRule, Status, UnitRule, View};
    use crate::time::Timestamp;
    use std::time::Duration;

    const TOKEN: Allow = Allow { token: true, proxy: false };

    fn binding(who: Who, name: &str, provider: &str) -> Binding {
        let identity = identity(name);
        Binding {
            who,
            integration: identity.integration,
            provider: super::ProviderId::parse(provider).unwrap(),
            allow: TOKEN,
            paths: Vec::new(),
        }
    }

    fn caller(uid: u32, groups: &[u32]) -> Caller {
        Caller { uid, groups: groups.to_vec(), unit: None }
    }

    fn in_unit(uid: u32, unit: &str) -> Caller {
        Caller { unit: Some(unit.into()), ..caller(uid, &[]) }
    }

    #[test]
    fn a_caller_has_its_own_bindings_and_the_sum_of_them() {
        let proxy = Binding { allow: Allow { token: false, proxy: true }, ..binding(Who::Gid(7), "b", "p") };
        let bindings = Bindings::new(vec![
            binding(Who::Uid(1), "c", "q"),
            proxy,
            binding(Who::Uid(1), "b", "p"),
            binding(Who::Uid(2), "a", "p"),
        ]);
        let names: Vec<_> =
            bindings.of(&caller(1, &[7])).iter().map(|grant| grant.integration.to_string()).collect();
        assert_eq!(names, ["b", "c"]);
        let sum = bindings.resolve(&caller(1, &[7]), "b").unwrap();
        assert_eq!(sum.allow, Allow { token: true, proxy: true });
        assert!(!bindings.resolve(&caller(3, &[7]), "b").unwrap().allow.token);
        for (who, name) in
            [(caller(2, &[]), "b"), (caller(1, &[]), "a"), (caller(1, &[]), "none"), (caller(0, &[0]), "b")]
        {
            assert_eq!(
                bindings.resolve(&who, name).unwrap_err().code,
                Code::BindingMissing,
                "{who:?} {name}"
            );
        }
    }

    #[test]
    fn a_providers_name_fits_exactly_one_and_ids_go_first() {
        let bindings = Bindings::new(vec![
            binding(Who::Uid(1), "one", "slack"),
            binding(Who::Uid(1), "github", "slack"),
            binding(Who::Uid(1), "two", "github"),
            binding(Who::Uid(2), "three", "slack"),
        ]);
        let found =
            |uid, name| bindings.resolve(&caller(uid, &[]), name).map(|grant| grant.integration.to_string());
        assert_eq!(found(1, "github").as_deref(), Ok("github"));
        assert_eq!(found(2, "slack").as_deref(), Ok("three"));
        assert_eq!(found(1, "slack").unwrap_err().code, Code::AmbiguousIntegration);
    }

    #[test]
    fn the_proxy_lets_through_what_one_binding_of_the_caller_allows() {
        let rule = |text| PathRule::parse(text).unwrap();
        let proxy = Allow { token: false, proxy: true };
        let of = |who, paths| Binding { allow: proxy, paths, ..binding(who, "a", "p") };
        let bindings = Bindings::new(vec![
            of(Who::Uid(1), vec![rule("GET /user"), rule("/repos/acme/**")]),
            Binding { paths: vec![rule("/**")], ..binding(Who::Uid(1), "a", "p") },
            of(Who::Uid(2), Vec::new()),
            binding(Who::Uid(3), "a", "p"),
        ]);
        let may = |uid, method, path| {
            let path = ApiPath::parse(path).unwrap();
            bindings.may_call(&caller(uid, &[]), &identity("a").integration, method, &path).is_ok()
        };
        assert!(may(1, "GET", "/user") && may(1, "DELETE", "/repos/acme/web"));
        assert!(!may(1, "POST", "/user") && !may(1, "GET", "/orgs"), "the token's binding has other paths");
        assert!(may(2, "POST", "/orgs"), "no paths, no limit");
        assert!(!may(3, "GET", "/user") && !may(4, "GET", "/user") && !may(NOBODY, "GET", "/user"));
    }

    #[test]
    fn nobody_is_never_bound() {
        let bindings =
            Bindings::new(vec![binding(Who::Uid(NOBODY), "a", "p"), binding(Who::Gid(NOBODY), "a", "p")]);
        assert!(bindings.resolve(&caller(NOBODY, &[NOBODY]), "a").is_err());
    }

    #[test]
    fn a_unit_rule_is_for_its_unit_whoever_runs_in_it() {
        let rule = |text| Who::Unit(UnitRule::parse(text).unwrap());
        let bindings = Bindings::new(vec![
            binding(rule("billing.service"), "a", "p"),
            binding(rule("worker@*.service"), "b", "q"),
        ]);
        let names = |caller: &Caller| {
            bindings.of(caller).iter().map(|grant| grant.integration.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&in_unit(61_500, "billing.service")), ["a"]);
        assert_eq!(names(&in_unit(0, "worker@3.service")), ["b"]);
        let strangers =
            [in_unit(61_500, "other.service"), caller(61_500, &[]), in_unit(NOBODY, "billing.service")];
        for stranger in strangers {
            assert!(names(&stranger).is_empty(), "{stranger:?}");
        }
    }

    #[test]
    fn every_binding_says_why_or_why_not() {
        let rule = Who::Unit(UnitRule::parse("billing.service").unwrap());
        let bindings = Bindings::new(vec![
            binding(Who::Uid(1), "a", "p"),
            binding(Who::Gid(7), "b", "p"),
            binding(rule, "c", "p"),
        ]);
        let said = |caller: &Caller| {
            let verdicts = bindings.explain(caller).into_iter();
            verdicts.map(|one| format!("{} {} {}", one.binding.who, one.fits, one.why)).collect::<Vec<_>>()
        };
        assert_eq!(
            said(&Caller { groups: vec![7], ..in_unit(2, "billing.service") }),
            [
                "uid = 1 false it is another user",
                "gid = 7 true it is in this group",
                "unit = \"billing.service\" true it runs in this unit",
            ]
        );
        assert!(said(&caller(1, &[]))[2].ends_with("false no unit is known of it"));
        assert!(said(&in_unit(NOBODY, "billing.service")).iter().all(|one| one.contains("never bound")));
    }

    #[test]
    fn a_read_answers_as_the_table_says() {
        let at = Timestamp::from_seconds;
        let view =
            |status, actions: &[Action]| View { status, actions: actions.to_vec(), ..pending_view("a") };
        let read = |lease, min_ttl, view: &View| {
            judge_read(ReadStanding { lease, view }, Duration::from_secs(min_ttl), at(100))
                .map_err(|refusal| (refusal.code, refusal.retry_after.is_some()))
        };
        let (live, endless, dead) = (Some(Some(at(110))), Some(None), Some(Some(at(100))));
        let good = view(Status::Connected, &[Action::Refresh]);
        assert_eq!(read(live, 10, &good), Ok(()));
        assert_eq!(read(endless, 4_000_000_000, &good), Ok(()));
        assert_eq!(read(live, 11, &good), Err((Code::TokenUnavailable, true)));
        assert_eq!(read(dead, 0, &good), Err((Code::TokenUnavailable, true)));
        let refused = view(Status::NeedsReauth, &[Action::Reconnect]);
        assert_eq!(read(live, 0, &refused), Ok(()), "a lease is served to its end");
        assert_eq!(read(None, 0, &refused), Err((Code::NeedsReauth, false)));
        assert_eq!(read(live, 11, &refused), Err((Code::TokenUnavailable, true)));
        assert_eq!(read(endless, 0, &view(Status::Revoked, &[])), Err((Code::IntegrationRevoked, false)));
        let never = view(Status::Pending, &[Action::Connect]);
        assert_eq!(read(None, 0, &never), Err((Code::IntegrationPending, false)));
        assert_eq!(
            read(None, 0, &view(Status::Pending, &[])),
            Err((Code::TokenUnavailable, true)),
            "the store is being read"
        );
        assert_eq!(read(None, 0, &view(Status::Expired, &[])), Err((Code::TokenUnavailable, true)));
    }
}
