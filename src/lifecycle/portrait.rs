//! The portrait of an integration: its status object. Holds no secret and decides nothing.

use super::life::{Kind, Life, Step};
use super::machine::Integration;
use super::{Action, Status, View};
use crate::time::Timestamp;

impl Integration {
    /// How the integration is, at one moment (contract §4).
    #[must_use]
    pub fn view(&self, now: Timestamp) -> View {
        let grant = self.grant.as_ref();
        let live = self.served.filter(|served| served.until.is_none_or(|until| now < until));
        let status = self.status(live.is_some());
        let (message, actions) = self.words(status);
        let revoked = matches!(self.life, Life::Revoked(_));
        // While the mark is being moved the store has acknowledged already.
        let waits_for_store = self.unstored.as_ref().filter(|unstored| !unstored.is_stored());
        View {
            identity: self.identity.clone(),
            connected: grant.is_some() && matches!(self.life, Life::Connected),
            status,
            message,
            actions,
            token_valid: live.is_some(),
            token_expired: live.is_none() && grant.is_some() && !revoked,
            expires_at: live.and_then(|served| served.until),
            refresh_token_expires_at: grant.and_then(|grant| grant.refresh_token_expires_at),
            last_refreshed: grant.map(|grant| grant.written_at),
            last_validated: self.validated,
            last_error: self.wrong().map(|(cause, _)| cause.to_owned()),
            detected_at: self.wrong().map(|(_, since)| since),
            account: grant.map(|grant| grant.account.clone()).unwrap_or_default(),
            scopes: grant.and_then(|grant| grant.scope.as_deref()).map(split).unwrap_or_default(),
            generation: self.newest_generation(),
            stored: grant.is_some()
                && waits_for_store.is_none()
                && !revoked
                && self.terms.origin.keeps_record(),
            unstored_since: waits_for_store.map(|unstored| unstored.since),
        }
    }

    /// What is wrong, since when: grantd's own troubles come first.
    fn wrong(&self) -> Option<(&'static str, Timestamp)> {
        let own = self.trouble.map(|trouble| (trouble.cause, trouble.since));
        let heard = self.health.complaint().map(|complaint| (complaint.cause(), complaint.since));
        let said = self.misgiving().or(heard).filter(|_| matches!(self.life, Life::Connected));
        let owed = self.debt.as_ref().filter(|_| self.mark.standing.has_ended());
        own.or(said).or_else(|| owed.map(|debt| ("provider_not_told", debt.since())))
    }

    /// The words of contract §4 in their order of precedence.
    fn status(&self, live: bool) -> Status {
        match &self.life {
            Life::Revoked(_) => Status::Revoked,
            Life::NeedsReauth => Status::NeedsReauth,
            Life::Unconnected(_) => Status::Pending,
            Life::Restoring(_) if !live => Status::Pending,
            Life::Connected if self.grant.is_none() => Status::Pending,
            Life::Connected if !live => Status::Expired,
            Life::Restoring(_) => Status::Warning,
            Life::Connected if self.wrong().is_some() || self.doubt.is_some() => Status::Warning,
            Life::Connected => Status::Connected,
        }
    }

    fn words(&self, status: Status) -> (String, Vec<Action>) {
        let cause = self.trouble.map_or("", |trouble| trouble.cause);
        match (&self.life, status) {
            (Life::Revoked(ending), _) if ending.deletes => (
                match cause {
                    "" => "being deleted".into(),
                    cause => format!("revoked, and not deleted yet ({cause}), which is being retried"),
                },
                vec![Action::Configure],
            ),
            (Life::Revoked(_), _) if self.trouble.is_some() => (
                format!("revoked; the stored record is not cleared yet ({cause}), which is being retried"),
                vec![Action::Reconnect, Action::Configure],
            ),
            (Life::Revoked(_), _) if self.debt.is_some() => (self.words_of_debt("revoked"), vec![Action::Reconnect]),
            (Life::Revoked(_), _) => ("revoked; connect again to restore it".into(), vec![Action::Reconnect]),
            (Life::NeedsReauth, _) => (
                "the provider no longer takes the refresh token: an operator must reconnect".into(),
                vec![Action::Reconnect],
            ),
            (Life::Unconnected(Some(why)), _) => {
                (format!("the store holds something that grantd must not use: {why}"), vec![Action::Configure])
            }
            (Life::Unconnected(None), _) if self.debt.is_some() => {
                (self.words_of_debt("deleted"), vec![Action::Connect])
            }
            (Life::Unconnected(None), _) if let Some(words) = self.words_of_device() => {
                (words, vec![Action::Connect])
            }
            (Life::Unconnected(None), _) => {
                ("never connected: `grantd connect` makes a link".into(), vec![Action::Connect])
            }
            (Life::Restoring(restoring), _) => match (cause, restoring.step) {
                ("store_lost_the_record", _) => (
                    "the store no longer holds the record that grantd wrote: restore it, or connect again".into(),
                    vec![Action::Connect, Action::Configure],
                ),
                ("store_is_behind", _) => (
                    "the store holds an older record than this host has seen: nothing is refreshed before it holds the newest".into(),
                    vec![Action::Configure],
                ),
                (_, Some(Step::Until(_))) => {
                    (format!("the store cannot be read ({cause}); it is being retried"), vec![Action::Configure])
                }
                (_, _) => ("starting: the store is being read".into(), Vec::new()),
            },
            (Life::Connected, _) => self.connected_words(cause),
        }
    }

    fn words_of_debt(&self, ended: &str) -> String {
        let again = match self.debt_due() {
            Some(at) => format!("it is told again at {at}"),
            None => "it is being told again".into(),
        };
        format!("{ended}; the provider does not answer, and may not know of it yet: {again}")
    }

    fn connected_words(&self, cause: &'static str) -> (String, Vec<Action>) {
        if let Some(doubt) = self.doubt {
            let lost = match cause {
                "unreadable" | "cut" => {
                    "cannot be read and is kept in quarantine: `grantd recover` tries again"
                }
                _ => "was lost",
            };
            let lease = match self.served.map(|served| served.until) {
                Some(Some(until)) => format!("the lease ends at {until}"),
                Some(None) => "the lease has no end".into(),
                None => "no lease is left".into(),
            };
            let again = doubt.at.map_or_else(
                || "the token is not presented again while it lives".into(),
                |at| format!("the token is presented again at {at}"),
            );
            let message =
                format!("a refresh is in doubt: the provider's answer {lost} ({cause}); {lease}; {again}");
            return (message, vec![Action::Reconnect]);
        }
        match self.trouble.map(|trouble| trouble.kind) {
            Some(Kind::Client) => (
                format!("the provider rejects grantd's client ({cause}): mend the provider's configuration"),
                vec![Action::Configure, Action::Refresh],
            ),
            Some(Kind::Spending) => (
                format!("the provider did not refresh the token ({cause}); it is being retried"),
                vec![Action::Refresh],
            ),
            Some(Kind::Storing) => (
                format!(
                    "the newest record is sealed on this host and not in the store yet ({cause}); it is being retried"
                ),
                vec![Action::Configure],
            ),
            Some(Kind::Foreign) => (
                format!(
                    "someone else writes to this secret ({cause}): grantd keeps its own record beside theirs"
                ),
                vec![Action::Configure],
            ),
            Some(Kind::Budget) => (
                "the secret was written so often today that AWS keeps few more versions: refreshes come late until tomorrow".into(),
                vec![Action::Configure],
            ),
            Some(Kind::Sealing) => {
                (format!("this host's disk does not take writes ({cause})"), vec![Action::Configure])
            }
            None if self.grant.is_none() => {
                ("no person is needed: a first token is being fetched".into(), vec![Action::Refresh])
            }
            None if self.served.is_none() => {
                ("the token has ended; a new one is being fetched".into(), vec![Action::Refresh])
            }
            None => self.health_words(),
        }
    }
}

impl Integration {
    fn health_words(&self) -> (String, Vec<Action>) {
        let Some((cause, _)) = self.wrong() else {
            let kept = self.terms.origin.keeps_record();
            let message = if kept { "works" } else { WORKS_WITHOUT_A_STORE };
            return (message.into(), vec![Action::Refresh]);
        };
        match cause {
            "not_validated" => (
                "the provider did not say whose token it is when it was connected; it is asked again".into(),
                vec![Action::Refresh],
            ),
            "validation_silent" => (
                "the provider has not answered for a while when the token was tried; it is tried again".into(),
                vec![Action::Refresh],
            ),
            "account_changed" => (
                "the provider says that the token belongs to another account than the one that authorized: look at the provider, and connect again to replace the account".into(),
                vec![Action::Reconnect],
            ),
            "wrong_account" => (
                "the provider says that the token does not belong to the account that the configuration expects".into(),
                vec![Action::Reconnect, Action::Configure],
            ),
            "api_rate_limited" => (
                "the provider's API limits the rate of calls for now; it passes by itself".into(),
                vec![Action::Refresh],
            ),
            "api_forbidden" => (
                "the provider's API forbids a call (403): a scope or a permission may be missing at the provider".into(),
                vec![Action::Reconnect, Action::Refresh],
            ),
            "api_unauthorized" => (
                "the provider's API does not take the token (401); a fresh one is being fetched".into(),
                vec![Action::Refresh],
            ),
            _ => (
                "the provider's API does not take a fresh token either (401): look at the account's permissions, or connect again".into(),
                vec![Action::Reconnect, Action::Refresh],
            ),
        }
    }
}

/// RFC 6749 §3.3 separates scopes by spaces; some providers by commas.
fn split(scope: &str) -> Vec<String> {
    scope.split([' ', ',']).filter(|part| !part.is_empty()).map(Into::into).collect()
}

const WORKS_WITHOUT_A_STORE: &str =
    "works; nothing is kept in the store, since a token is fetched whenever one is needed";
