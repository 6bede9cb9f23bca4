//! Reports as an app makes them: a real socket; the engine is played.

use super::accept::Bounds;
use super::app::serve_within;
use super::desk::Desk;
use super::seats::Limits;
use super::testing::{Hands, Reply, START, ask, lease, view};
use crate::engine::testing::{Actor, Notes, Nowhere, Stage};
use crate::lifecycle::testing::identity;
use crate::lifecycle::{Allow, ApiAnswer, Binding, IntegrationId, Status, Who};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

struct Told(mpsc::UnboundedSender<(ApiAnswer, u64)>);

impl Actor for Told {
    fn answered(&mut self, _integration: IntegrationId, answer: ApiAnswer, issue: u64) {
        self.0.send((answer, issue)).unwrap();
    }
}

struct Rig {
    directory: TempDir,
    told: mpsc::UnboundedReceiver<(ApiAnswer, u64)>,
    stop: CancellationToken,
}

impl Rig {
    /// Lease 7 is served, to whoever may have it.
    fn new(allow: Allow) -> Self {
        let (told, hears) = mpsc::unbounded_channel();
        let names = identity("github");
        let who = Who::Uid(nix::unistd::geteuid().as_raw());
        let binding = Binding {
            who,
            integration: names.integration,
            provider: names.provider,
            allow,
            paths: Vec::new(),
        };
        let stage = Stage::new(vec![binding], vec![view("github", Status::Pending)], Told(told));
        stage.post(view("github", Status::Connected), Some(&lease("github", 7, Some(START))));
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("app.sock")).unwrap();
        let (clock, stop) = (Arc::new(Hands::new()), CancellationToken::new());
        let desk = Desk::new(
            stage.handle.clone(),
            clock,
            Arc::new(Notes::default()),
            Arc::new(Nowhere),
            stop.clone(),
        );
        let hour = Duration::from_secs(3600);
        let bounds = Bounds { limits: Limits { all: 64, each: 64 }, head: hour, drain: hour };
        let _thread = serve_within(bounds, listener, desk).unwrap();
        Self { directory, told: hears, stop }
    }

    async fn report(&self, body: &str) -> Reply {
        let socket = self.directory.path().join("app.sock");
        ask(&socket, "POST", "/v1/integrations/github/report", body).await
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_report_is_an_answer_to_the_token_in_use_and_is_passed_on_once() {
    for allow in [Allow { token: true, proxy: false }, Allow { token: false, proxy: true }] {
        let mut rig = Rig::new(allow);
        for _again in 0..3 {
            assert_eq!(rig.report(r#"{"status": 401}"#).await.status, 202);
        }
        assert_eq!(rig.told.recv().await, Some((ApiAnswer::of(401), 7)));
        assert!(rig.told.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_report_about_another_token_is_taken_and_changes_nothing() {
    let mut rig = Rig::new(Allow { token: true, proxy: false });
    for other in [r#""generation": 6"#, r#""expires_at": "2026-11-25T10:00:00Z""#] {
        assert_eq!(rig.report(&format!(r#"{{"status": 401, {other}}}"#)).await.status, 202);
    }
    assert_eq!(rig.report(r#"{"status": 429, "retry_after": 9}"#).await.status, 202);
    let limited = ApiAnswer { retry_after: Some(Duration::from_secs(9)), ..ApiAnswer::of(429) };
    assert_eq!(rig.told.recv().await, Some((limited, 7)));
}

#[tokio::test]
async fn what_is_no_report_or_no_ones_to_make_is_refused() {
    let rig = Rig::new(Allow { token: true, proxy: false });
    for body in ["", "401", r#"{"status": "401"}"#, r#"{"status": 99}"#, &" ".repeat(5000)] {
        assert_eq!(rig.report(body).await.refusal(), (400, "invalid_request".into()), "{body:.20}");
    }
    let bystander = Rig::new(Allow { token: false, proxy: false });
    assert_eq!(bystander.report(r#"{"status": 401}"#).await.refusal(), (403, "binding_missing".into()));
}
