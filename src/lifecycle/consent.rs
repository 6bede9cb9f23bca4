//! The table of consents that are under way: one-time links, and the flows that they became.
//!
//! Pure: judges a callback in a fixed order and says which flow it belongs to. A restart forgets all of it.

use super::state::{FlowKeys, fingerprint, sha256};
use super::{AccountChange, Code, Exchange, Frozen, Identity, Refusal};
use crate::secret::{AuthCode, StateToken, Ticket};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a one-time link leads to, as its page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Whose consent is asked.
    pub identity: Identity,
    /// The provider's display name.
    pub provider_name: String,
    /// The scopes that will be asked for.
    pub scopes: Vec<String>,
    /// Where the record will be kept, in words: a secret's path or a file.
    pub kept_in: String,
    /// Where to go after the landing page, if that was asked and is allowed.
    pub then: Option<String>,
    /// When the link ends.
    pub expires_at: Timestamp,
}

/// A callback as it arrived. Repeated parameters were refused before.
#[derive(Debug)]
pub struct Callback {
    /// The provider's id in the path.
    pub provider: String,
    /// The integration's id in the path, where the provider has a redirect URI for each.
    pub integration: Option<String>,
    /// `state`.
    pub state: Option<StateToken>,
    /// `code`.
    pub code: Option<AuthCode>,
    /// `iss` (RFC 9207).
    pub issuer: Option<String>,
    /// `error` (RFC 6749 §4.1.2.1).
    pub error: Option<String>,
    /// Who brings it.
    pub bearer: Bearer,
}

/// Who brings a callback.
#[derive(Debug)]
pub enum Bearer {
    /// A browser in which nobody is signed in, with the value of the flow cookie that its `state` names, if it has one.
    Browser(Option<String>),
    /// A browser in which somebody is signed in.
    Person {
        /// The value of the flow cookie.
        cookie: Option<String>,
        /// `sub` of whoever is signed in.
        subject: String,
    },
    /// An operator on the control socket, known by the kernel.
    Operator,
}

/// What the person who sets out has confirmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// `sub` of the signed-in operator who began: only they may finish. `None` for a one-time link.
    pub owner: Option<String>,
    /// Whether another account may take the place of the present one.
    pub account: AccountChange,
}

/// A judged callback: the flow that it ends.
#[derive(Debug)]
pub struct Returned {
    /// Whose consent it is.
    pub identity: Identity,
    /// The provider's display name.
    pub provider_name: String,
    /// Where the record will be kept, in words.
    pub kept_in: String,
    /// Where to go after the landing page.
    pub then: Option<String>,
    /// What to exchange.
    pub exchange: Exchange,
}

/// The consents under way.
pub struct Consents {
    keys: FlowKeys,
    links: BTreeMap<[u8; 32], Link>,
    flows: BTreeMap<[u8; 32], Flow>,
}

struct Link {
    invitation: Invitation,
    state: StateToken,
}

struct Flow {
    invitation: Invitation,
    per_integration: bool,
    frozen: Frozen,
    confirmation: Confirmation,
    expires_at: Timestamp,
}

/// What a link became: everything the browser needs to go on.
#[derive(Debug)]
pub struct Begun {
    /// The state of the request.
    pub state: StateToken,
    /// The value of the flow cookie.
    pub cookie: String,
    /// When the flow ends.
    pub expires_at: Timestamp,
}

impl Consents {
    /// An empty table.
    #[must_use]
    pub const fn new(keys: FlowKeys) -> Self {
        Self { keys, links: BTreeMap::new(), flows: BTreeMap::new() }
    }

    /// How long a link lives (contract §1).
    pub const LINK_LIFE: Duration = Duration::from_secs(600);

    /// Files a link under its ticket and mints its state.
    #[must_use]
    pub fn invite(
        &mut self,
        invitation: Invitation,
        ticket: &Ticket,
        random: &super::state::Random,
    ) -> StateToken {
        let state = self.keys.mint(&invitation.identity, random);
        let link = Link { invitation, state: state.duplicate() };
        self.links.insert(sha256(ticket.expose_secret().as_bytes()), link);
        state
    }

    /// What a link leads to. Spends nothing.
    ///
    /// # Errors
    /// `invalid_oauth_state` for a link that is unknown, used or over.
    pub fn peek(&self, ticket: &Ticket, now: Timestamp) -> Result<&Invitation, Refusal> {
        match self.links.get(&sha256(ticket.expose_secret().as_bytes())) {
            Some(link) if now < link.invitation.expires_at => Ok(&link.invitation),
            Some(_) | None => Err(stale_link()),
        }
    }

    /// Takes a link out of the table, so that it works once.
    ///
    /// # Errors
    /// As [`Consents::peek`].
    pub fn take(&mut self, ticket: &Ticket, now: Timestamp) -> Result<(Invitation, StateToken), Refusal> {
        let link = self.links.remove(&sha256(ticket.expose_secret().as_bytes())).ok_or_else(stale_link)?;
        if now < link.invitation.expires_at { Ok((link.invitation, link.state)) } else { Err(stale_link()) }
    }

    /// Puts a link back that could not be followed through no fault of the person's.
    pub fn put_back(&mut self, ticket: &Ticket, invitation: Invitation, state: StateToken) {
        self.links.insert(sha256(ticket.expose_secret().as_bytes()), Link { invitation, state });
    }

    /// Begins the flow that a link became; its time runs from now.
    #[must_use]
    pub fn begin(
        &mut self,
        invitation: Invitation,
        state: StateToken,
        begin: Beginning,
        confirmation: Confirmation,
    ) -> Begun {
        let cookie = self.keys.cookie(&state);
        let Beginning { frozen, per_integration, expires_at } = begin;
        let flow = Flow { invitation, per_integration, frozen, confirmation, expires_at };
        self.flows.insert(fingerprint(&state), flow);
        Begun { state, cookie, expires_at }
    }

    /// Judges a callback. Refusals before the browser is known leave the flow as it was; later ones end it.
    ///
    /// # Errors
    /// `invalid_oauth_state`, `issuer_mismatch`, `access_denied`, `provider_not_configured`,
    /// `token_unavailable`, `invalid_request`.
    pub fn judge(&mut self, callback: Callback, now: Timestamp) -> Result<Returned, Refusal> {
        let state = callback.state.as_ref().ok_or_else(|| wrong_state("the callback carries no state"))?;
        if !self.keys.minted(state) {
            return Err(wrong_state("this daemon did not issue that state"));
        }
        let same_browser = match &callback.bearer {
            Bearer::Browser(cookie) | Bearer::Person { cookie, .. } => {
                cookie.as_deref().is_some_and(|cookie| self.keys.same_browser(state, cookie))
            }
            Bearer::Operator => true,
        };
        if !same_browser {
            return Err(wrong_state("this is not the browser that began"));
        }
        if self.flows.get(&fingerprint(state)).is_some_and(|flow| !flow.is_finished_by(&callback.bearer)) {
            return Err(wrong_state("whoever began must be signed in to finish it"));
        }
        let flow = self
            .flows
            .remove(&fingerprint(state))
            .ok_or_else(|| wrong_state("it was used already, or the daemon was restarted"))?;
        if now >= flow.expires_at {
            return Err(wrong_state("it took too long"));
        }
        flow.finish(callback)
    }

    /// Whose flow a callback says it ends, whether it may or not; for the audit trail.
    #[must_use]
    pub fn whose(&self, callback: &Callback) -> Option<&Identity> {
        let flow = self.flows.get(&fingerprint(callback.state.as_ref()?))?;
        Some(&flow.invitation.identity)
    }

    /// Forgets what is over.
    pub fn sweep(&mut self, now: Timestamp) {
        self.links.retain(|_, link| now < link.invitation.expires_at);
        self.flows.retain(|_, flow| now < flow.expires_at);
    }

    /// How many links and flows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.links.len() + self.flows.len()
    }

    /// Whether nothing is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a flow begins with.
#[derive(Debug)]
pub struct Beginning {
    /// What is frozen with it.
    pub frozen: Frozen,
    /// Whether the redirect path names the integration.
    pub per_integration: bool,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Flow {
    /// Against a flow that one person begins and another one is made to finish (cross-user session fixation).
    fn is_finished_by(&self, bearer: &Bearer) -> bool {
        match (&self.confirmation.owner, bearer) {
            (None, _) => true,
            (Some(owner), Bearer::Person { subject, .. }) => owner == subject,
            (Some(_), Bearer::Browser(_) | Bearer::Operator) => false,
        }
    }

    fn finish(self, callback: Callback) -> Result<Returned, Refusal> {
        let identity = self.invitation.identity;
        let integration = self.per_integration.then(|| identity.integration.as_str());
        if callback.provider != identity.provider.as_str() || callback.integration.as_deref() != integration {
            return Err(wrong_state("it was issued for another redirect path"));
        }
        check_issuer(&self.frozen, callback.issuer.as_deref())?;
        if let Some(error) = callback.error.as_deref() {
            return Err(refused_by_provider(error));
        }
        let code = callback.code.ok_or_else(|| {
            Refusal::new(Code::InvalidRequest, "the callback carries neither a code nor an error")
        })?;
        Ok(Returned {
            identity,
            provider_name: self.invitation.provider_name,
            kept_in: self.invitation.kept_in,
            then: self.invitation.then,
            exchange: Exchange { code, frozen: self.frozen, account: self.confirmation.account, pace: None },
        })
    }
}

/// RFC 9207 §2.4: compare `iss` where it came, and demand it where the server promised it.
///
/// # Errors
/// `issuer_mismatch`.
pub fn check_issuer(frozen: &Frozen, arrived: Option<&str>) -> Result<(), Refusal> {
    let holds = match (frozen.issuer.as_deref(), arrived) {
        (Some(known), Some(arrived)) => known == arrived,
        (Some(_), None) => !frozen.issuer_promised,
        (None, _) => true,
    };
    if holds {
        Ok(())
    } else {
        Err(Refusal::new(
            Code::IssuerMismatch,
            "the callback does not come from the issuer that this flow was begun for",
        ))
    }
}

/// RFC 6749 §4.1.2.1 and OpenID Connect Core §3.1.2.6.
fn refused_by_provider(error: &str) -> Refusal {
    match error {
        "access_denied"
        | "login_required"
        | "consent_required"
        | "interaction_required"
        | "account_selection_required" => Refusal::new(
            Code::AccessDenied,
            "the authorization was declined at the provider; nothing was stored",
        ),
        "server_error" | "temporarily_unavailable" => Refusal::new(
            Code::TokenUnavailable,
            "the provider could not authorize right now: try again later",
        )
        .with_retry_after(Duration::from_secs(60)),
        _ => Refusal::new(
            Code::ProviderNotConfigured,
            "the provider refused the request itself: check the client, its redirect URI and the scopes",
        )
        .with_actions(&[super::Action::Configure]),
    }
}

fn wrong_state(why: &str) -> Refusal {
    Refusal::new(
        Code::InvalidOauthState,
        format!("the authorization cannot go on: {why}; begin again with a new link"),
    )
    .with_actions(&[super::Action::Connect])
}

fn stale_link() -> Refusal {
    Refusal::new(
        Code::InvalidOauthState,
        "the link is unknown, used or over: a link works once, for ten minutes; `grantd connect` makes a new one",
    )
    .with_actions(&[super::Action::Connect])
}

#[cfg(test)]
mod tests {
    use super::{Bearer, Beginning, Callback, Confirmation, Consents, Invitation};
    use crate::lifecycle::state::FlowKeys;
    use crate::lifecycle::testing::identity;
    use crate::lifecycle::{Code, Frozen};
    use crate::secret::{AuthCode, SealKey, StateToken, Ticket};
    use crate::time::Timestamp;

    const START: Timestamp = Timestamp::from_seconds(1_000);
    const END: Timestamp = Timestamp::from_seconds(1_300);

    struct World {
        consents: Consents,
        state: StateToken,
        cookie: String,
    }

    fn invitation() -> Invitation {
        Invitation {
            identity: identity("github"),
            provider_name: "GitHub".into(),
            scopes: vec!["repo".into()],
            kept_in: "/sym/acme/github".into(),
            then: None,
            expires_at: START.plus(Consents::LINK_LIFE),
        }
    }

    fn frozen(issuer: Option<&str>, issuer_promised: bool) -> Frozen {
        Frozen {
            token_endpoint: "https://idp.example/token".into(),
            issuer: issuer.map(Into::into),
            issuer_promised,
            redirect_uri: "https://grantd.example/v1/integrations/oauth/callback/github".into(),
            verifier: None,
            nonce: None,
        }
    }

    fn begun(frozen: Frozen) -> World {
        begun_by(frozen, Confirmation::default())
    }

    fn begun_by(frozen: Frozen, confirmation: Confirmation) -> World {
        let mut consents = Consents::new(FlowKeys::derive(&SealKey::new([7; 32])));
        let ticket = Ticket::new("t");
        let _state = consents.invite(invitation(), &ticket, &[1; 24]);
        let (invitation, state) = consents.take(&ticket, START).unwrap();
        let beginning = Beginning { frozen, per_integration: false, expires_at: END };
        let begun = consents.begin(invitation, state, beginning, confirmation);
        World { consents, state: begun.state, cookie: begun.cookie }
    }

    fn callback(world: &World) -> Callback {
        Callback {
            provider: "github".into(),
            integration: None,
            state: Some(world.state.duplicate()),
            code: Some(AuthCode::new("code")),
            issuer: Some("https://idp.example".into()),
            error: None,
            bearer: Bearer::Browser(Some(world.cookie.clone())),
        }
    }

    fn refused(world: &mut World, callback: Callback, now: Timestamp) -> Code {
        world.consents.judge(callback, now).unwrap_err().code
    }

    #[test]
    fn a_good_callback_is_taken_once() {
        let mut world = begun(frozen(Some("https://idp.example"), true));
        let good = callback(&world);
        assert_eq!(world.consents.judge(good, START).unwrap().identity, identity("github"));
        let again = callback(&world);
        assert_eq!(refused(&mut world, again, START), Code::InvalidOauthState);
    }

    #[test]
    fn a_link_works_once_and_for_ten_minutes() {
        let mut consents = Consents::new(FlowKeys::derive(&SealKey::new([7; 32])));
        let ticket = Ticket::new("t");
        let _state = consents.invite(invitation(), &ticket, &[1; 24]);
        assert!(consents.peek(&ticket, START).is_ok());
        assert!(consents.peek(&ticket, START.plus(Consents::LINK_LIFE)).is_err());
        assert!(consents.take(&ticket, START).is_ok());
        assert!(consents.take(&ticket, START).is_err());
    }

    #[test]
    fn missing_forged_and_expired_states_are_refused() {
        let mut world = begun(frozen(None, false));
        let none = Callback { state: None, ..callback(&world) };
        assert_eq!(refused(&mut world, none, START), Code::InvalidOauthState);
        let forged = Callback { state: Some(StateToken::new("AAAA")), ..callback(&world) };
        assert_eq!(refused(&mut world, forged, START), Code::InvalidOauthState);
        let late = callback(&world);
        assert_eq!(refused(&mut world, late, END), Code::InvalidOauthState);
    }

    #[test]
    fn another_browser_is_refused_and_leaves_the_state_unspent() {
        let mut world = begun(frozen(None, false));
        for cookie in [None, Some("other".to_owned())] {
            let stranger = Callback { bearer: Bearer::Browser(cookie), ..callback(&world) };
            assert_eq!(refused(&mut world, stranger, START), Code::InvalidOauthState);
        }
        let rightful = callback(&world);
        assert!(world.consents.judge(rightful, START).is_ok());
    }

    #[test]
    fn whoever_began_signed_in_must_be_the_one_who_finishes() {
        let owner = Some("ann".to_owned());
        let mut world = begun_by(frozen(None, false), Confirmation { owner, ..Confirmation::default() });
        let by = |world: &World, subject: &str| Callback {
            bearer: Bearer::Person { cookie: Some(world.cookie.clone()), subject: subject.into() },
            ..callback(world)
        };
        let host = Callback { bearer: Bearer::Operator, ..callback(&world) };
        for stranger in [callback(&world), by(&world, "bob"), host] {
            assert_eq!(refused(&mut world, stranger, START), Code::InvalidOauthState);
        }
        let rightful = by(&world, "ann");
        assert!(world.consents.judge(rightful, START).is_ok());
    }

    #[test]
    fn a_link_may_be_finished_by_somebody_who_is_signed_in() {
        let mut world = begun(frozen(None, false));
        let bearer = Bearer::Person { cookie: Some(world.cookie.clone()), subject: "ann".into() };
        let signed_in = Callback { bearer, ..callback(&world) };
        assert!(world.consents.judge(signed_in, START).is_ok());
    }

    #[test]
    fn another_providers_path_is_refused_and_ends_the_flow() {
        let mut world = begun(frozen(None, false));
        let other = Callback { provider: "slack".into(), ..callback(&world) };
        assert_eq!(refused(&mut world, other, START), Code::InvalidOauthState);
        let right = callback(&world);
        assert_eq!(refused(&mut world, right, START), Code::InvalidOauthState);
    }

    #[test]
    fn a_wrong_or_missing_promised_issuer_is_refused() {
        for issuer in [Some("https://evil.example".to_owned()), None] {
            let mut world = begun(frozen(Some("https://idp.example"), true));
            let wrong = Callback { issuer, ..callback(&world) };
            assert_eq!(refused(&mut world, wrong, START), Code::IssuerMismatch);
        }
    }

    #[test]
    fn each_provider_error_has_its_code() {
        for (error, code) in [
            ("access_denied", Code::AccessDenied),
            ("invalid_scope", Code::ProviderNotConfigured),
            ("server_error", Code::TokenUnavailable),
        ] {
            let mut world = begun(frozen(None, false));
            let denied = Callback { error: Some(error.into()), code: None, ..callback(&world) };
            assert_eq!(refused(&mut world, denied, START), code, "{error}");
        }
        let mut world = begun(frozen(None, false));
        let empty = Callback { code: None, ..callback(&world) };
        assert_eq!(refused(&mut world, empty, START), Code::InvalidRequest);
    }
}
