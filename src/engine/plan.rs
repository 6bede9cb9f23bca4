//! What the engine is told about the integrations: plain data that `daemon` makes from the checked config.

use crate::lifecycle::{Binding, Code, Identity, IntegrationId, Refusal, Terms};
use std::collections::BTreeMap;
use std::time::Duration;

use super::handle::Start;

/// All integrations and all bindings, as one configuration says.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The integrations by id.
    pub integrations: BTreeMap<IntegrationId, Planned>,
    /// Who may use which.
    pub bindings: Vec<Binding>,
    /// How long a flow may take once it has begun (`oauth.state_expiry`).
    pub state_expiry: Duration,
    /// Hosts to which a person may be sent afterwards (`oauth.allowed_redirects`), with their subdomains.
    pub allowed_redirects: Vec<String>,
}

/// One integration, as the configuration says.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The three names.
    pub identity: Identity,
    /// The provider's display name.
    pub provider_name: String,
    /// Where the record is kept, in words for a person.
    pub kept_in: String,
    /// The terms it lives under.
    pub terms: Terms,
}

impl Plan {
    /// Finds the one integration that a request means.
    ///
    /// # Errors
    /// `integration_not_found`, or `invalid_request` when none or several fit, or scopes are asked for that are not configured.
    pub fn find(&self, start: &Start) -> Result<&Planned, Refusal> {
        if start.integration.is_none() && start.provider.is_none() {
            return Err(invalid("name an integration or a provider"));
        }
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        let mut found = self.integrations.values().filter(|planned| {
            fits(&start.integration, planned.identity.integration.as_str())
                && fits(&start.provider, planned.identity.provider.as_str())
                && fits(&start.organization, planned.identity.organization.as_str())
        });
        let planned = match (found.next(), found.next()) {
            (Some(planned), None) => planned,
            (Some(_), Some(_)) => return Err(invalid("several integrations fit: name one by its id")),
            (None, _) if start.integration.is_some() => {
                return Err(Refusal::new(Code::IntegrationNotFound, "no integration fits that request"));
            }
            (None, _) => return Err(invalid("no integration fits that request")),
        };
        match start.scopes.iter().find(|scope| !planned.terms.scopes.contains(scope)) {
            None => Ok(planned),
            Some(_) => {
                Err(invalid("a scope is asked for that the integration's configuration does not name"))
            }
        }
    }

    /// Checks where a person may be sent afterwards: https, on an allowed host or below it.
    ///
    /// # Errors
    /// `redirect_not_allowed`.
    pub fn check_redirect(&self, then: &str) -> Result<(), Refusal> {
        let allowed = url::Url::parse(then).is_ok_and(|to| {
            let plain = to.scheme() == "https" && to.username().is_empty() && to.password().is_none();
            plain && to.host_str().is_some_and(|host| self.is_allowed(host))
        });
        if allowed {
            Ok(())
        } else {
            Err(Refusal::new(
                Code::RedirectNotAllowed,
                "redirectUri must be https and on a host of oauth.allowed_redirects",
            ))
        }
    }

    fn is_allowed(&self, host: &str) -> bool {
        self.allowed_redirects.iter().any(|allowed| {
            host == allowed || host.strip_suffix(allowed.as_str()).is_some_and(|sub| sub.ends_with('.'))
        })
    }
}

fn invalid(why: &str) -> Refusal {
    Refusal::new(Code::InvalidRequest, why)
}

#[cfg(test)]
mod tests {
    use super::Plan;

    #[test]
    fn only_allowed_hosts_and_their_subdomains_may_be_gone_to() {
        let plan = Plan { allowed_redirects: vec!["acme.example".into()], ..Plan::default() };
        for good in ["https://acme.example/done", "https://app.acme.example/"] {
            assert!(plan.check_redirect(good).is_ok(), "{good}");
        }
        for bad in [
            "http://acme.example/",
            "https://evilacme.example/",
            "https://acme.example.evil.example/",
            "https://acme.example@evil.example/",
            "https://u:p@acme.example/",
            "//acme.example",
            "javascript:alert(1)",
            "",
        ] {
            assert!(plan.check_redirect(bad).is_err(), "{bad}");
        }
    }
}
