//! `grantd check`: every problem of a configuration at once, then what it will do.

use super::args::CheckArgs;
use super::end::End;
use super::{run, terminal};
use crate::config::{self, Checked, Config};
use crate::edge::clock::WallClock;
use crate::edge::surroundings::Host;
use crate::edge::telemetry;
use crate::engine::Clock as _;
use crate::time::Timestamp;
use serde_json::json;
use std::collections::BTreeSet;

/// Checks a configuration.
///
/// # Errors
/// 78, with all problems.
pub(super) fn check(args: &CheckArgs) -> Result<(), End> {
    let checked = config::load(&args.config, &Host).map_err(|problems| {
        if args.json {
            terminal::say(json!({ "ok": false, "problems": problems }).to_string());
            return End::configuration(format!("{} problems", problems.0.len()));
        }
        run::wrong(&problems)
    })?;
    telemetry::check_filter(&checked.config.log).map_err(|error| End::configuration(error.to_string()))?;
    let now = WallClock.now();
    if args.json {
        terminal::say(as_json(&checked, now).to_string());
        return Ok(());
    }
    for warning in &checked.warnings {
        terminal::note(format!("warning: {warning}\n"));
    }
    terminal::say(summary(&checked.config, now));
    if !args.offline {
        terminal::note("the configuration alone was looked at: the preflight is not in this version");
    }
    Ok(())
}

fn summary(config: &Config, now: Timestamp) -> String {
    let mut said = format!(
        "ok: {} providers, {} integrations, {} bindings",
        config.providers.len(),
        config.integrations.len(),
        config.bindings.len()
    );
    for (id, integration) in &config.integrations {
        said.push_str(&format!("\n{id}: kept in {}", integration.kept_in()));
        if let Some(schedule) = &integration.schedule {
            let next: Vec<_> = schedule.next(now, 3).iter().map(ToString::to_string).collect();
            said.push_str(&format!("; on schedule at {}", next.join(", ")));
        }
    }
    let bound: BTreeSet<_> = config.bindings.iter().map(|binding| &binding.integration).collect();
    for id in config.integrations.keys().filter(|id| !bound.contains(id)) {
        said.push_str(&format!("\n{id}: no binding, so no app may use it"));
    }
    said
}

fn as_json(checked: &Checked, now: Timestamp) -> serde_json::Value {
    let config = &checked.config;
    let integrations: Vec<_> = config
        .integrations
        .iter()
        .map(|(id, integration)| {
            json!({
                "integration": id,
                "keptIn": integration.kept_in(),
                "nextFirings": integration.schedule.as_ref().map(|schedule| schedule.next(now, 3)),
            })
        })
        .collect();
    json!({ "ok": true, "warnings": checked.warnings, "integrations": integrations })
}
