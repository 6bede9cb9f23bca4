//! Who asks: the person behind a session cookie, and the organizations that they administer by the rules in force now.
//!
//! The one door of every signed-in page and of the operator API. Nothing of another organization passes it (B8). What changes
//! something needs the token of the session besides its cookie; the guard has judged where the request comes from before.

use super::sessions::Sign;
use super::site::Site;
use super::trouble::{Trouble, Voice};
use super::visit::Visit;
use super::{cookie, panes};
use crate::engine::Posting;
use crate::lifecycle::{Actor, AuditEvent, Code, Identity, OrganizationId, Person, Refusal};
use crate::secret::same_secret;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The token of a session (contract §4: `X-CSRF-Token`). Its pages show it; it is worth nothing without the cookie.
#[derive(Clone)]
pub(super) struct Token(Arc<str>);

impl Token {
    pub(super) fn new(text: String) -> Self {
        Self(text.into())
    }

    /// The text, for the session's own forms.
    pub(super) fn shown(&self) -> &str {
        &self.0
    }

    /// Compares in constant time.
    pub(super) fn fits(&self, brought: &str) -> bool {
        same_secret(self.0.as_bytes(), brought.as_bytes())
    }
}

/// A request of a signed-in administrator.
pub(super) struct Desk {
    pub(super) site: Site,
    pub(super) visit: Visit,
    pub(super) person: Arc<Person>,
    pub(super) token: Token,
    pub(super) organizations: BTreeSet<OrganizationId>,
    pub(super) address: String,
}

impl Desk {
    /// One of the integrations of the operator's organizations.
    ///
    /// # Errors
    /// `integration_not_found`; `not_an_admin` for another organization's.
    pub(super) fn integration(&self, name: &str) -> Result<Arc<Posting>, Refusal> {
        let cell = self
            .site
            .handle
            .board()
            .cell(name)
            .ok_or_else(|| Refusal::new(Code::IntegrationNotFound, "no integration has that name"))?;
        let posting = cell.posting();
        self.may(&posting.view.identity)?;
        Ok(posting)
    }

    /// All integrations of the operator's organizations, by organization.
    pub(super) fn integrations(&self) -> Vec<Arc<Posting>> {
        let mut postings = self.site.handle.board().postings();
        postings.retain(|posting| self.organizations.contains(&posting.view.identity.organization));
        postings.sort_by(|one, two| one.view.identity.organization.cmp(&two.view.identity.organization));
        postings
    }

    fn may(&self, identity: &Identity) -> Result<(), Refusal> {
        if self.organizations.contains(&identity.organization) {
            return Ok(());
        }
        let refused = AuditEvent::refused("operate", self.actor(), Code::NotAnAdmin);
        self.record(refused.about(identity));
        Err(not_an_admin())
    }

    /// Judges the token of a form or a header.
    pub(super) fn check(&self, brought: Option<&str>) -> Result<(), Trouble> {
        if brought.is_some_and(|brought| self.token.fits(brought)) {
            Ok(())
        } else {
            Err(Trouble::no_token())
        }
    }

    pub(super) fn actor(&self) -> Actor {
        Actor::Operator { subject: self.person.subject.clone(), name: self.person.name.clone() }
    }

    /// Leaves an event in the trail, with the address it came from.
    pub(super) fn record(&self, event: AuditEvent) {
        self.site.trail.record(event.from(self.address.clone()));
    }

    /// Records how an operation on an integration ended, and hands its end on.
    pub(super) fn recorded<T>(
        &self,
        what: &'static str,
        identity: &Identity,
        end: Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let event = match &end {
            Ok(_) => AuditEvent::done(what, self.actor()),
            Err(refusal) => AuditEvent::refused(what, self.actor(), refusal.code),
        };
        self.record(event.about(identity));
        end
    }
}

impl FromRequestParts<Site> for Desk {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Response> {
        let Some(visit) = parts.extensions.get::<Visit>().cloned() else {
            return Err(StatusCode::INTERNAL_SERVER_ERROR.into_response());
        };
        let voice = if parts.uri.path().starts_with("/v1/") { Voice::Problem } else { Voice::Page };
        let address = visit.client(&parts.headers).to_string();
        let changes = !matches!(parts.method, Method::GET | Method::HEAD);
        let Some((person, token)) = signed_in(site, &visit, &parts.headers) else {
            if changes {
                let refused = AuditEvent::refused("operate", Actor::Browser, Code::NotSignedIn);
                site.trail.record(refused.from(address));
            }
            return Err(match voice {
                Voice::Problem => Trouble::from(not_signed_in()).answer(voice, &visit),
                Voice::Page => panes::sign_in_first(&visit, parts.uri.path()),
            });
        };
        let organizations = visit.settings.administered_by(&person);
        let desk = Self { site: site.clone(), visit, person, token, organizations, address };
        if desk.organizations.is_empty() {
            desk.record(AuditEvent::refused("operate", desk.actor(), Code::NotAnAdmin));
            return Err(match voice {
                Voice::Problem => Trouble::from(not_an_admin()).answer(voice, &desk.visit),
                Voice::Page => panes::no_admin(&desk),
            });
        }
        Ok(desk)
    }
}

/// A request of a program in a signed-in browser that changes something: its `X-CSRF-Token` was judged.
pub(super) struct Acting(pub(super) Desk);

impl FromRequestParts<Site> for Acting {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Response> {
        let desk = Desk::from_request_parts(parts, site).await?;
        let brought = parts.headers.get(TOKEN).and_then(|token| token.to_str().ok());
        match desk.check(brought) {
            Ok(()) => Ok(Self(desk)),
            Err(trouble) => Err(trouble.answer(Voice::Problem, &desk.visit)),
        }
    }
}

/// Whoever is signed in in this browser, administrator or not.
pub(super) fn signed_in(site: &Site, visit: &Visit, headers: &HeaderMap) -> Option<(Arc<Person>, Token)> {
    let sign = if headers.contains_key(LIVE) { Sign::None } else { Sign::Life };
    let cookie = cookie::session(&visit.settings, headers)?;
    site.sessions.find(&cookie, sign)
}

pub(super) fn not_signed_in() -> Refusal {
    Refusal::new(Code::NotSignedIn, "nobody is signed in in this browser, or the session has ended")
}

pub(super) fn not_an_admin() -> Refusal {
    Refusal::new(Code::NotAnAdmin, "the signed-in person does not administer that organization")
}

const TOKEN: &str = "x-csrf-token";
/// The activity page asks for itself again with this header; that keeps nobody signed in.
const LIVE: &str = "x-grantd-live";
