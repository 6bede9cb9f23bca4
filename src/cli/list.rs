//! `grantd list`: the integrations, a line each.

use super::args::ListArgs;
use super::client::ask;
use super::end::End;
use super::status::Status;
use super::terminal;
use http::Method;
use serde_json::Value;
use std::path::Path;

/// Lists the integrations.
///
/// # Errors
/// As the daemon refuses.
pub(super) async fn list(args: ListArgs) -> Result<(), End> {
    terminal::say(fetch(&args.control.socket, args.json).await?);
    Ok(())
}

/// The list as text for a person, or as JSON.
pub(super) async fn fetch(socket: &Path, json: bool) -> Result<String, End> {
    let all: Value = ask(socket, Method::GET, "/v1/integrations", None).await?;
    if json {
        return Ok(all.to_string());
    }
    let unreadable = || End::unreachable("the daemon's list cannot be read");
    let all = all.get("integrations").cloned().ok_or_else(unreadable)?;
    let all: Vec<Status> = serde_json::from_value(all).map_err(|_shape| unreadable())?;
    if all.is_empty() {
        return Ok("no integrations are configured".into());
    }
    let head = ["INTEGRATION", "ORGANIZATION", "PROVIDER", "STATUS", "EXPIRES", "MESSAGE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(all.into_iter().map(|one| {
        let expires = one.expires_at.unwrap_or_else(|| "-".into());
        vec![one.integration, one.organization, one.provider, one.status, expires, one.message]
    }));
    Ok(terminal::table(&rows))
}
