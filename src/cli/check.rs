//! `grantd check`: every problem of a configuration at once, then what it will do, then what it needs and does not find.
//!
//! The preflight asks AWS and the providers, and changes nothing anywhere; `--offline` leaves it out.

use super::args::CheckArgs;
use super::client::listed;
use super::end::End;
use super::{run, terminal};
use crate::config::{self, Checked, Config};
use crate::daemon::{self, Report};
use crate::edge::clock::WallClock;
use crate::edge::surroundings::Host;
use crate::edge::telemetry;
use crate::engine::Clock as _;
use crate::time::Timestamp;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Checks a configuration.
///
/// # Errors
/// 78, with all problems; 69, with all that is missing.
pub(super) async fn check(args: &CheckArgs) -> Result<(), End> {
    let checked = config::load(&args.config, &Host).map_err(|problems| {
        if args.json {
            terminal::say(json!({ "ok": false, "problems": problems }).to_string());
            return End::configuration(format!("{} problems", problems.0.len()));
        }
        run::wrong(&problems)
    })?;
    telemetry::check_filter(&checked.config.log).map_err(|error| End::configuration(error.to_string()))?;
    let report = if args.offline {
        None
    } else {
        let looked = Box::pin(daemon::preflight(&checked.config, Arc::new(Host))).await;
        Some(looked.map_err(|error| run::unstarted(&error))?)
    };
    let now = WallClock.now();
    if args.json {
        terminal::say(as_json(&checked, report.as_ref(), now).to_string());
    } else {
        as_text(&checked, report.as_ref(), now);
    }
    match report.map_or(0, |report| report.missing.len()) {
        0 => Ok(()),
        1 => Err(End::unreachable("1 thing is missing")),
        more => Err(End::unreachable(format!("{more} things are missing"))),
    }
}

fn as_text(checked: &Checked, report: Option<&Report>, now: Timestamp) {
    for warning in &checked.warnings {
        terminal::note(format!("warning: {warning}\n"));
    }
    terminal::say(summary(&checked.config, now));
    let Some(Report { missing, notes }) = report else { return };
    for note in notes {
        terminal::say(note);
    }
    if missing.is_empty() {
        terminal::say("preflight: all that a consent needs is there");
    }
    for one in missing {
        terminal::note(format!("missing: {}\n", listed(&one.what, &one.place, &one.fix)));
    }
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
        if let Some(most) = integration.store.write_budget() {
            said.push_str(&format!("; at most {most} writes a day"));
        }
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

fn as_json(checked: &Checked, report: Option<&Report>, now: Timestamp) -> serde_json::Value {
    let config = &checked.config;
    let integrations: Vec<_> = config
        .integrations
        .iter()
        .map(|(id, integration)| {
            json!({
                "integration": id,
                "keptIn": integration.kept_in(),
                "writesPerDay": integration.store.write_budget(),
                "nextFirings": integration.schedule.as_ref().map(|schedule| schedule.next(now, 3)),
            })
        })
        .collect();
    let ok = report.is_none_or(|report| report.missing.is_empty());
    let (findings, notes) = report.map(|report| (&report.missing, &report.notes)).unzip();
    json!({
        "ok": ok,
        "warnings": checked.warnings,
        "integrations": integrations,
        "findings": findings,
        "notes": notes,
    })
}
