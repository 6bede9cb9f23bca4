//! `grantd status`: how one integration is, or all of them; or, with `--explain`, who a process is.

use super::args::StatusArgs;
use super::client::ask;
use super::end::End;
use super::{explain, list, terminal};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// The status object (contract §4), as far as it is shown.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    pub(super) integration: String,
    pub(super) organization: String,
    pub(super) provider: String,
    pub(super) status: String,
    pub(super) message: String,
    pub(super) actions: Vec<String>,
    pub(super) expires_at: Option<String>,
    pub(super) last_refreshed: Option<String>,
    pub(super) last_error: Option<String>,
    pub(super) detected_at: Option<String>,
    pub(super) account: Account,
    pub(super) scopes: Vec<String>,
    pub(super) generation: u64,
    pub(super) stored: bool,
}

#[derive(Deserialize, Serialize)]
pub(super) struct Account {
    id: Option<String>,
    name: Option<String>,
    username: Option<String>,
    email: Option<String>,
}

/// Shows a status.
///
/// # Errors
/// As the daemon refuses.
pub(super) async fn status(args: StatusArgs) -> Result<(), End> {
    if let Some(pid) = args.explain {
        return explain::explain(pid, &args).await;
    }
    let mut shown = fetch(&args).await?;
    terminal::say(&shown);
    if !args.watch {
        return Ok(());
    }
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    loop {
        let _at = beat.tick().await;
        let next = fetch(&args).await?;
        if next != shown {
            shown = next;
            terminal::say(format!("\n{shown}"));
        }
    }
}

async fn fetch(args: &StatusArgs) -> Result<String, End> {
    let socket = &args.control.socket;
    match &args.integration {
        None => list::fetch(socket, args.json).await,
        Some(id) => one(socket, id, args.json).await,
    }
}

async fn one(socket: &Path, id: &str, json: bool) -> Result<String, End> {
    let value: Value = ask(socket, Method::GET, &format!("/v1/integrations/{id}/status"), None).await?;
    shown(value, json)
}

/// A status object as text for a person, or as it came.
pub(super) fn shown(value: Value, json: bool) -> Result<String, End> {
    if json {
        return Ok(value.to_string());
    }
    let status: Status = serde_json::from_value(value)
        .map_err(|_shape| End::unreachable("the daemon's status cannot be read"))?;
    Ok(status.portrait())
}

impl Status {
    /// Some lines for a person.
    fn portrait(&self) -> String {
        let mut rows = vec![
            ("integration", self.integration.clone()),
            ("organization", self.organization.clone()),
            ("provider", self.provider.clone()),
            ("status", format!("{}: {}", self.status, self.message)),
        ];
        let mut more = |name, value: Option<String>| rows.extend(value.map(|value| (name, value)));
        more("account", self.account.shown());
        more("scopes", (!self.scopes.is_empty()).then(|| self.scopes.join(" ")));
        more("expires", self.expires_at.clone());
        more("refreshed", self.last_refreshed.clone());
        more("error", self.last_error.as_ref().map(|error| self.since(error)));
        if self.generation > 0 {
            more(
                "generation",
                Some(format!("{}{}", self.generation, if self.stored { ", stored" } else { "" })),
            );
        }
        more("actions", (!self.actions.is_empty()).then(|| self.actions.join(", ")));
        let rows: Vec<_> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        terminal::table(&rows)
    }

    fn since(&self, error: &str) -> String {
        self.detected_at.as_ref().map_or_else(|| error.to_owned(), |at| format!("{error}, since {at}"))
    }
}

impl Account {
    fn shown(&self) -> Option<String> {
        let best =
            self.username.as_ref().or(self.name.as_ref()).or(self.email.as_ref()).or(self.id.as_ref())?;
        match &self.email {
            Some(email) if email != best => Some(format!("{best} <{email}>")),
            Some(_) | None => Some(best.clone()),
        }
    }
}
