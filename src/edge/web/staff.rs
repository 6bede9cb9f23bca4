//! What the tests about signed-in people share: persons, an identity provider that is played, a trail in memory, and ways to sign in.

use super::testing::{NOW, PUBLIC, Reply, Room, settings};
use super::{Organization, WebSettings};
use crate::engine::{Clock, Entropy, Pending, Planned, SignIn, Trail};
use crate::lifecycle::testing::{identity, pending_view};
use crate::lifecycle::{
    Account, Action, Actor, Admins, AuditEvent, Dialect, Exchange, ExpectedAccount, Frozen, Identity,
    OrganizationId, Outage, Person, ProviderId, Random, Refusal, Rotation, Status, Terms, View,
};
use crate::secret::{Nonce, StateToken};
use crate::time::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(super) fn person(name: &str, groups: &[&str]) -> Person {
    let claims = json!({ "sub": format!("sub-{name}"), "preferred_username": name, "groups": groups });
    Person::of(claims.as_object().unwrap()).unwrap()
}

pub(super) fn frozen() -> Frozen {
    Frozen {
        token_endpoint: "https://idp.acme.example/token".into(),
        issuer: Some("https://idp.acme.example".into()),
        issuer_promised: false,
        redirect_uri: format!("{PUBLIC}/sign-in/callback"),
        verifier: None,
        nonce: None,
    }
}

/// Settings with two organizations and an identity provider that vouches for this person.
pub(super) fn with_operators(person: Person) -> WebSettings {
    with_sign_in(Ok(person))
}

pub(super) fn with_sign_in(end: Result<Person, Refusal>) -> WebSettings {
    let organization = |group: &str, external: &str| Organization {
        admins: Some(Admins { claim: "groups".into(), contains: group.into() }),
        external_ids: BTreeMap::from([(ProviderId::parse("github").unwrap(), external.into())]),
    };
    WebSettings {
        sign_in: Some(std::sync::Arc::new(Played(end))),
        organizations: BTreeMap::from([
            (OrganizationId::parse("acme").unwrap(), organization("secops", "acme-7")),
            (OrganizationId::parse("globex").unwrap(), organization("globex-admins", "globex-8")),
        ]),
        integrations: views()
            .into_iter()
            .map(|view| (view.identity.integration.clone(), planned(&view)))
            .collect(),
        ..settings(PUBLIC)
    }
}

/// `github` of acme, connected; `github-2` of acme, pending; `globex-github` of globex.
pub(super) fn views() -> Vec<View> {
    let named = |name: &str, organization: &str| Identity {
        organization: OrganizationId::parse(organization).unwrap(),
        provider: ProviderId::parse("github").unwrap(),
        ..identity(name)
    };
    let account = Account { id: Some("7".into()), username: Some("acme-bot".into()), ..Account::default() };
    let connected = View {
        connected: true,
        status: Status::Connected,
        message: "it works".into(),
        actions: vec![Action::Reconnect, Action::Refresh],
        account,
        generation: 3,
        stored: true,
        ..pending_view("github")
    };
    vec![
        View { identity: named("github", "acme"), ..connected },
        View { identity: named("github-2", "acme"), ..pending_view("github-2") },
        View { identity: named("globex-github", "globex"), ..pending_view("globex-github") },
    ]
}

fn planned(view: &View) -> Planned {
    Planned {
        identity: view.identity.clone(),
        provider_name: "GitHub".into(),
        kept_in: format!("/sym/{}", view.identity.integration),
        terms: Terms {
            origin: crate::lifecycle::Origin::Consent,
            refresh_at_permille: 700,
            rotation: Rotation::Strict,
            default_life: None,
            expected_account: ExpectedAccount::default(),
            outage: Outage::Hold,
            write_budget: None,
            scopes: vec!["repo".into()],
            dialect: Dialect::default(),
            can_try: true,
            validate_every: None,
        },
    }
}

/// An identity provider that always gives the same answer.
struct Played(Result<Person, Refusal>);

impl SignIn for Played {
    fn begin(&self, state: StateToken, _nonce: Nonce) -> Pending<Result<(String, Frozen), Refusal>> {
        let url = format!("https://idp.acme.example/authorize?state={}", state.expose_secret());
        Box::pin(std::future::ready(Ok((url, frozen()))))
    }

    fn finish(&self, _exchange: Exchange) -> Pending<Result<Person, Refusal>> {
        Box::pin(std::future::ready(self.0.clone()))
    }
}

/// A clock that moves when it is told to.
#[derive(Default)]
pub(super) struct Moving(AtomicU64);

impl Moving {
    pub(super) fn pass(&self, span: Duration) {
        self.0.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Moving {
    fn now(&self) -> Timestamp {
        NOW.plus(Duration::from_millis(self.0.load(Ordering::SeqCst)))
    }
}

/// Randomness that can be told apart.
#[derive(Default)]
pub(super) struct Counting(AtomicU64);

impl Entropy for Counting {
    fn random(&self) -> Random {
        let mut random = [7; 24];
        random[..8].copy_from_slice(&self.0.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        random
    }
}

/// A trail in memory.
#[derive(Default)]
pub(super) struct Ledger(Mutex<(Vec<String>, Vec<Value>)>);

impl Ledger {
    /// Puts an event about an organization there.
    pub(super) fn push(&self, number: u64, organization: &str) {
        let event = json!({ "seq": number, "what": "refreshed", "organization": organization, "outcome": "ok", "integration": format!("{organization}-github") });
        self.0.lock().unwrap().1.push(event);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().0.clone()
    }
}

impl Trail for Ledger {
    fn record(&self, event: AuditEvent) {
        let who = match &event.actor {
            Actor::Operator { name, .. } => name.as_str(),
            Actor::Browser => "browser",
            Actor::Grantd | Actor::App { .. } | Actor::Host { .. } => "?",
        };
        let about = event.identity.map_or_else(String::new, |identity| format!(" {}", identity.integration));
        self.0.lock().unwrap().0.push(format!("{} {} {who}{about}", event.what, event.outcome));
    }

    fn after(&self, sequence: u64, most: usize) -> Pending<Vec<Value>> {
        let kept = self.0.lock().unwrap();
        let begin = kept.1.partition_point(|event| event["seq"].as_u64().unwrap() <= sequence);
        let found = kept.1[begin..].iter().take(most).cloned().collect();
        Box::pin(std::future::ready(found))
    }
}

/// What a signed-in browser has.
pub(super) struct SignedIn {
    /// The line of a head with the session cookie.
    pub(super) cookie: String,
    /// The token of its forms.
    pub(super) token: String,
}

impl SignedIn {
    /// The lines of a head of a program in this browser.
    pub(super) fn acting(&self) -> String {
        format!("{}X-CSRF-Token: {}\r\n", self.cookie, self.token)
    }

    /// A form of this browser's pages.
    pub(super) fn form(&self, rest: &str) -> String {
        format!("csrf={}{rest}", self.token)
    }
}

impl Room {
    /// Presses "Sign in"; gives the page and the line of a head with the cookie it set.
    pub(super) async fn set_out(&self, next: &str) -> (Reply, String) {
        let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let page = self.send("POST", "/sign-in", "", &format!("next={next}")).await;
        let cookie = cookie_line(&page);
        (page, cookie)
    }

    /// Signs in and comes back.
    pub(super) async fn sign_in(&self) -> SignedIn {
        let (page, cookie) = self.set_out("/").await;
        let path = format!("/sign-in/callback?code=c&state={}", state_of(&page));
        let back = self.send("GET", &path, &cookie, "").await;
        assert_eq!(back.status, 303, "{}", back.body);
        let cookie = cookie_line(&back);
        let home = self.send("GET", "/", &cookie, "").await;
        let (_, rest) = home.body.split_once("name=\"csrf\" value=\"").unwrap_or_default();
        let token = rest.split_once('"').map_or("", |(token, _)| token).to_owned();
        SignedIn { cookie, token }
    }

    /// What was recorded so far.
    pub(super) fn trail(&self) -> Vec<String> {
        self.ledger.lines()
    }
}

/// The cookie that an answer set, as a browser sends it back.
pub(super) fn cookie_line(reply: &Reply) -> String {
    let (pair, _) = reply.header("set-cookie").split_once(';').unwrap_or_default();
    format!("Cookie: {pair}\r\n")
}

/// The state in the URL that a page leads to.
pub(super) fn state_of(page: &Reply) -> String {
    let (_, rest) = page.body.split_once("state=").unwrap();
    rest.split(['"', '&']).next().unwrap().to_owned()
}
