//! Tests of what becomes of an API's word about the token in use, a row of the transition table (ARCHITECTURE.md) each.

use super::testing::record;
use super::world::{World, answer};
use super::{
    ApiAnswer, Asker, Completion, Event, Found, Loaded, Mark, Record, Rotation, Spent, Status, WireFault,
};
use std::time::Duration;

impl World {
    /// An API answers to the token in use.
    fn api(&mut self, answer: ApiAnswer) {
        let issue = self.machine.heard().issue;
        self.api_to(issue, answer);
    }

    fn api_to(&mut self, issue: u64, answer: ApiAnswer) {
        self.happens(Event::ApiAnswered { answer, issue });
    }

    fn says(&mut self, status: u16) {
        self.later(5);
        self.api(ApiAnswer::of(status));
    }

    fn later(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
    }

    fn cause(&self) -> Option<String> {
        self.machine.view(self.now).last_error
    }
}

#[test]
fn a_401_to_the_token_in_use_leads_to_one_refresh() {
    let mut world = World::connected(Rotation::Strict);
    world.says(401);
    assert_eq!(world.line(), "claim intend refresh seal publish store scrub release");
    assert_eq!((world.status(), world.cause()), (Status::Connected, None));
}

#[test]
fn a_401_about_an_older_token_says_nothing() {
    let mut world = World::connected(Rotation::Strict);
    let before = world.machine.heard().issue;
    world.says(401);
    world.line();
    world.audit.clear();
    world.later(60);
    world.api_to(before, ApiAnswer::of(401));
    assert_eq!((world.line().as_str(), world.audit.len()), ("", 0));
    assert_eq!(world.status(), Status::Connected);
}

#[test]
fn a_401_joins_the_refresh_in_flight() {
    let mut world = World::connected(Rotation::Strict);
    world.held.insert("refresh");
    world.deadline();
    world.says(401);
    world.let_go("refresh");
    assert_eq!(world.presented.len(), 1);
    world.says(401);
    assert_eq!(world.presented.len(), 1, "the fresh token came after the first 401 already");
    assert_eq!(world.cause().as_deref(), Some("api_still_unauthorized"));
}

#[test]
fn a_401_to_the_fresh_token_as_well_is_a_warning_and_no_second_refresh() {
    let mut world = World::connected(Rotation::Strict);
    world.says(401);
    world.says(401);
    assert_eq!(world.presented.len(), 1);
    assert_eq!((world.status(), world.served()), (Status::Warning, true));
    assert_eq!(world.cause().as_deref(), Some("api_still_unauthorized"));
    // The next token of its own accord is not believed to be any better.
    world.happens(Event::RotationAsked { by: Asker::Operator });
    world.says(401);
    assert_eq!(world.presented.len(), 2);
    world.says(200);
    assert_eq!((world.status(), world.cause()), (Status::Connected, None));
}

#[test]
fn refreshes_that_come_of_apps_are_30_seconds_apart_whatever_asks_for_them() {
    let mut world = World::connected(Rotation::None);
    world.rotates = false;
    world.happens(Event::RotationAsked { by: Asker::App });
    let first = world.now;
    world.says(401);
    assert_eq!((world.presented.len(), world.status()), (1, Status::Warning));
    assert_eq!(world.cause().as_deref(), Some("api_unauthorized"));
    world.deadline();
    assert_eq!(world.now.since(first), Duration::from_secs(30));
    assert_eq!((world.presented.len(), world.status()), (2, Status::Connected));
}

#[test]
fn a_401_and_a_refused_refresh_need_a_person_and_nothing_is_served_any_more() {
    let mut world = World::connected(Rotation::Strict);
    world.will("refresh", answer(400, r#"{"error":"invalid_grant"}"#, world.now));
    world.says(401);
    assert_eq!((world.status(), world.served()), (Status::NeedsReauth, false));
    assert_eq!(world.line(), "claim intend refresh seal load withdraw scrub release");
    world.says(401);
    assert_eq!(world.line(), "");
    world.consent();
    assert_eq!((world.status(), world.served(), world.cause()), (Status::Connected, true, None));
}

#[test]
fn a_401_and_a_refresh_that_fails_for_now_gives_nothing_up() {
    let mut world = World::connected(Rotation::Strict);
    world.will("refresh", Completion::Answered(Spent::NotSent(WireFault::Connect)));
    world.says(401);
    assert_eq!((world.status(), world.served()), (Status::Warning, true));
    world.deadline();
    assert_eq!((world.status(), world.presented.len()), (Status::Connected, 2));
}

#[test]
fn a_401_to_a_token_that_cannot_be_refreshed_is_a_warning() {
    let mut world = World::new(Rotation::None);
    let found = Record { refresh_token: None, expires_at: None, ..record("github", 3, "r3") };
    world.will("load", Completion::Loaded(Loaded::Record(Box::new(found))));
    world.restart(Found { mark: Mark { generation: 3, ..Mark::default() }, ..Found::default() });
    world.says(401);
    assert_eq!((world.status(), world.served()), (Status::Warning, true));
    assert!(world.presented.is_empty());
}

#[test]
fn a_limited_rate_of_calls_passes_by_itself_or_with_the_next_good_answer() {
    for limited in [
        ApiAnswer { retry_after: Some(Duration::from_secs(90)), ..ApiAnswer::of(429) },
        ApiAnswer { rate_limited: true, retry_after: Some(Duration::from_secs(90)), ..ApiAnswer::of(403) },
    ] {
        let mut world = World::connected(Rotation::Strict);
        world.api(limited);
        assert_eq!((world.status(), world.audit.len()), (Status::Warning, 0));
        assert_eq!(world.cause().as_deref(), Some("api_rate_limited"));
        let since = world.now;
        world.deadline();
        assert_eq!((world.now.since(since), world.status()), (Duration::from_secs(90), Status::Connected));
        world.api(limited);
        world.says(200);
        assert_eq!(world.status(), Status::Connected);
        assert!(world.presented.is_empty() && world.audit.is_empty());
    }
    let mut world = World::connected(Rotation::Strict);
    let for_ever = ApiAnswer { retry_after: Some(Duration::from_secs(1_000_000)), ..ApiAnswer::of(429) };
    world.api(for_ever);
    let since = world.now;
    while world.status() == Status::Warning {
        world.deadline();
    }
    assert_eq!(world.now.since(since), Duration::from_secs(3600));
}

#[test]
fn a_forbidden_call_is_a_warning_until_the_next_good_answer() {
    let mut world = World::connected(Rotation::Strict);
    world.says(403);
    assert_eq!((world.status(), world.cause().as_deref()), (Status::Warning, Some("api_forbidden")));
    assert!(world.presented.is_empty());
    for status in [404, 500, 302] {
        world.says(status);
        let clears = status == 302;
        assert_eq!(world.status() == Status::Connected, clears, "{status}");
    }
}

#[test]
fn answers_that_change_nothing_or_change_too_often_leave_no_trace() {
    let mut world = World::connected(Rotation::Strict);
    for _call in 0..1000 {
        world.api(ApiAnswer::of(200));
        world.api(ApiAnswer::of(403));
    }
    assert_eq!((world.audit.len(), world.line().as_str()), (1, ""));
    for _minute in 0..5 {
        world.later(60);
        world.api(ApiAnswer::of(200));
        world.later(2);
        world.api(ApiAnswer::of(403));
    }
    let words: Vec<_> = world.audit.iter().map(|entry| entry.what).collect();
    assert_eq!(words, ["api_refused", "api_accepted"], "at most one complaint in ten minutes");
    assert_eq!(world.status(), Status::Warning);
}

#[test]
fn a_graver_complaint_is_not_hidden_by_a_lighter_one() {
    let mut world = World::connected(Rotation::Strict);
    for (status, cause) in [(429, "api_rate_limited"), (403, "api_forbidden"), (429, "api_forbidden")] {
        world.says(status);
        assert_eq!(world.cause().as_deref(), Some(cause));
    }
}
