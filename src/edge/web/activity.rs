//! The activity page, and the history of one integration: what the audit trail says about the operator's organizations.
//!
//! The newest events are kept here, so that a page that looks every few seconds reads what is new and no more.

use super::operator::Desk;
use super::panes::{self, Line};
use crate::engine::Trail;
use crate::lifecycle::OrganizationId;
use axum::response::Response;
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};
use tokio::sync::Mutex;

/// `GET /activity`.
pub(super) async fn show(desk: Desk) -> Response {
    let events = desk.site.recent.of(desk.site.trail.as_ref(), &desk.organizations, |_| true).await;
    panes::activity(&desk, &events)
}

/// The newest events of one integration.
pub(super) async fn history(desk: &Desk, integration: &str) -> Vec<Line> {
    let about = |event: &Value| event.get("integration").and_then(Value::as_str) == Some(integration);
    desk.site.recent.of(desk.site.trail.as_ref(), &desk.organizations, about).await
}

/// Whether an event is about one of these organizations. What is about none, such as a sign-in, is nobody's to read here.
pub(super) fn is_theirs(event: &Value, organizations: &BTreeSet<OrganizationId>) -> bool {
    let about = event.get("organization").and_then(Value::as_str);
    about.is_some_and(|organization| organizations.contains(organization))
}

/// The number of an event.
pub(super) fn number(event: &Value) -> u64 {
    event.get("seq").and_then(Value::as_u64).unwrap_or(0)
}

/// The newest events of the trail.
#[derive(Default)]
pub(super) struct Recent {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    last: u64,
    events: VecDeque<Value>,
}

impl Recent {
    /// The newest events that are theirs and wanted, the newest first.
    async fn of(
        &self,
        trail: &dyn Trail,
        organizations: &BTreeSet<OrganizationId>,
        wanted: impl Fn(&Value) -> bool,
    ) -> Vec<Line> {
        let mut kept = self.kept.lock().await;
        kept.catch_up(trail).await;
        let fitting =
            kept.events.iter().rev().filter(|event| is_theirs(event, organizations) && wanted(event));
        fitting.take(SHOWN).map(Line::of).collect()
    }
}

impl Kept {
    async fn catch_up(&mut self, trail: &dyn Trail) {
        if self.events.is_empty() {
            self.last = last(trail).await.saturating_sub(KEPT);
        }
        loop {
            let fresh = trail.after(self.last, PORTION).await;
            let Some(newest) = fresh.iter().map(number).max().filter(|newest| *newest > self.last) else {
                return;
            };
            self.last = newest;
            self.events.extend(fresh);
            while self.events.len() as u64 > KEPT {
                self.events.pop_front();
            }
        }
    }
}

/// The number of the last event, found by halves: a trail may be years long.
async fn last(trail: &dyn Trail) -> u64 {
    let (mut low, mut high) = (0, 1024);
    while !trail.after(high, 1).await.is_empty() && high < u64::MAX / 2 {
        (low, high) = (high, high * 2);
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        if trail.after(middle, 1).await.is_empty() {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

const KEPT: u64 = 5_000;
const PORTION: usize = 1_000;
/// As many as a page shows.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::{Recent, last};
    use crate::edge::web::staff::Ledger;
    use crate::lifecycle::OrganizationId;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn the_end_of_a_long_trail_is_found_and_followed() {
        let trail = Ledger::default();
        for number in 1..=7_000_u64 {
            trail.push(number, ["acme", "globex"][usize::from(number % 2 == 1)]);
        }
        assert_eq!(last(&trail).await, 7_000);
        let (recent, acme) = (Recent::default(), BTreeSet::from([OrganizationId::parse("acme").unwrap()]));
        let lines = recent.of(&trail, &acme, |_| true).await;
        assert_eq!((lines.len(), lines[0].number), (100, 7_000));
        trail.push(7_001, "globex");
        trail.push(7_002, "acme");
        assert_eq!(recent.of(&trail, &acme, |_| true).await[0].number, 7_002);
    }

    #[tokio::test]
    async fn an_empty_trail_has_no_lines() {
        let (trail, all) = (Ledger::default(), BTreeSet::new());
        assert!(Recent::default().of(&trail, &all, |_| true).await.is_empty());
    }
}
