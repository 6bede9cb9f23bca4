//! `grantd status --explain PID`: who the kernel says a process is, which bindings it has, and why not the others.

use super::args::StatusArgs;
use super::client::ask;
use super::end::End;
use super::terminal;
use http::Method;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Explained {
    pid: u32,
    uid: u32,
    gids: Vec<u32>,
    unit: Option<String>,
    why: Option<String>,
    bindings: Vec<Held>,
}

#[derive(Deserialize)]
struct Held {
    integration: String,
    rule: String,
    fits: bool,
    why: String,
    allow: Vec<String>,
}

/// Explains a process.
///
/// # Errors
/// 1 where there is no such process.
pub(super) async fn explain(pid: u32, args: &StatusArgs) -> Result<(), End> {
    let path = format!("/v1/explain?pid={pid}");
    let value: Value = ask(&args.control.socket, Method::GET, &path, None).await?;
    if args.json {
        terminal::say(value.to_string());
        return Ok(());
    }
    let explained: Explained = serde_json::from_value(value)
        .map_err(|_shape| End::unreachable("the daemon's explanation cannot be read"))?;
    terminal::say(explained.portrait());
    Ok(())
}

impl Explained {
    fn portrait(&self) -> String {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let gids: Vec<_> = self.gids.iter().map(ToString::to_string).collect();
        let mut rows = vec![
            row("process", self.pid.to_string()),
            row("user", self.uid.to_string()),
            row("groups", gids.join(" ")),
        ];
        let none = || format!("none: {}", self.why.as_deref().unwrap_or("it is not known"));
        rows.push(row("unit", self.unit.clone().unwrap_or_else(none)));
        rows.extend(self.bindings.iter().map(|held| row(&held.integration, held.verdict())));
        let mut said = terminal::table(&rows);
        if !self.bindings.iter().any(|held| held.fits) {
            said.push_str("\nno binding is for it: every request is answered with binding_missing");
        }
        said
    }
}

impl Held {
    fn verdict(&self) -> String {
        let Self { rule, why, .. } = self;
        if self.fits {
            format!("may use {}: {rule}, and {why}", self.allow.join(" and "))
        } else {
            format!("not by {rule}: {why}")
        }
    }
}
