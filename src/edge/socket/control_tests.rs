//! The control socket as an operator sees it: a real socket; the engine is played.

use super::control::{ControlDesk, Operators, serve_control};
use super::testing::{Hands, Line, Reply, START, ask, get, view};
use crate::engine::testing::{Actor, Notes, Stage};
use crate::engine::{Ended, Going, Landed, Landing, Start, Started};
use crate::lifecycle::testing::identity;
use crate::lifecycle::{
    Account, Allow, Binding, Callback, Code, Confirmation, IntegrationId, Refusal, Revocation, Status, View,
    Who,
};
use crate::secret::{StateToken, Ticket};
use arc_swap::ArcSwap;
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Plays an engine that does as it is told, and notes what that was.
#[derive(Clone, Default)]
struct Obedient {
    heard: Arc<Mutex<Vec<String>>>,
    landed: Arc<Mutex<Option<Landed>>>,
}

impl Obedient {
    fn note(&self, what: String) {
        self.heard.lock().unwrap().push(what);
    }
}

impl Actor for Obedient {
    fn start(&mut self, start: Start) -> Result<Started, Refusal> {
        self.note(format!("{start:?}"));
        Ok(Started {
            ticket: Ticket::new("canary-ticket"),
            state: StateToken::new("canary-state"),
            expires_at: START,
        })
    }

    fn confirm(&mut self, ticket: Ticket, _how: Confirmation) -> Result<Going, Refusal> {
        self.note(ticket.expose_secret().to_owned());
        Ok(Going {
            url: "https://provider.example/authorize?state=s".into(),
            state: StateToken::new("canary-state"),
            cookie: "canary-cookie".into(),
            expires_at: START,
        })
    }

    fn callback(&mut self, callback: Callback) -> Result<Landing, Refusal> {
        self.note(format!("{:?}", callback.bearer));
        let landed = self.landed.lock().unwrap().take();
        let landed = landed.ok_or_else(|| Refusal::new(Code::InvalidOauthState, "used"))?;
        Ok(Landing {
            identity: identity("github"),
            provider_name: "GitHub".into(),
            landed,
            kept_in: "here".into(),
            then: None,
        })
    }

    fn refresh(&mut self, integration: IntegrationId) -> Result<View, Refusal> {
        self.note(format!("refresh {integration}"));
        Ok(view(integration.as_str(), Status::Connected))
    }

    fn validate(&mut self, integration: IntegrationId) -> Result<View, Refusal> {
        self.note(format!("validate {integration}"));
        Ok(view(integration.as_str(), Status::Connected))
    }

    fn revoke(&mut self, integration: IntegrationId) -> Result<Ended, Refusal> {
        self.note(format!("revoke {integration}"));
        Ok(Ended { view: view(integration.as_str(), Status::Revoked), upstream: Revocation::Silent })
    }

    fn delete(&mut self, integration: IntegrationId) -> Result<Ended, Refusal> {
        self.note(format!("delete {integration}"));
        Ok(Ended { view: view(integration.as_str(), Status::Pending), upstream: Revocation::Silent })
    }

    fn nudge(&mut self, _integration: IntegrationId) {
        panic!("the engine breaks off, as this test wants");
    }
}

struct Rig {
    directory: TempDir,
    stage: Stage,
    engine: Obedient,
    operators: Arc<ArcSwap<Operators>>,
    stop: CancellationToken,
    server: JoinSet<std::io::Result<()>>,
}

impl Rig {
    fn new() -> Self {
        Self::with(Vec::new())
    }

    fn with(bindings: Vec<Binding>) -> Self {
        let engine = Obedient::default();
        let views = vec![view("github", Status::Connected), view("slack", Status::Pending)];
        let stage = Stage::new(bindings, views, engine.clone());
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("control.sock")).unwrap();
        let own_uid = nix::unistd::geteuid().as_raw();
        let operators = Arc::new(ArcSwap::from_pointee(Operators { own_uid, group: None }));
        let desk = ControlDesk {
            handle: stage.handle.clone(),
            clock: Arc::new(Hands::new()),
            operators: Arc::clone(&operators),
            public_url: Arc::new(ArcSwap::from_pointee("https://grantd.example/below/".parse().unwrap())),
            trail: Arc::new(Notes::default()),
        };
        let stop = CancellationToken::new();
        let mut server = JoinSet::new();
        let _task = server.spawn(serve_control(listener, desk, stop.clone()));
        Self { directory, stage, engine, operators, stop, server }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("control.sock")
    }

    async fn get(&self, target: &str) -> Reply {
        checked(get(&self.socket(), target).await)
    }

    async fn post(&self, target: &str, body: &str) -> Reply {
        checked(ask(&self.socket(), "POST", target, body).await)
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.engine.heard.lock().unwrap())
    }

    async fn land(&self, landed: Landed) -> serde_json::Value {
        *self.engine.landed.lock().unwrap() = Some(landed);
        let body = r#"{"provider":"github","code":"c","state":"s"}"#;
        let answer = self.post("/v1/integrations/oauth/callback", body).await.json();
        assert_eq!(answer["integration"], json!({"id": "github", "name": "GitHub", "provider": "github"}));
        assert_eq!(answer["success"], true);
        answer["message"].clone()
    }
}

fn checked(reply: Reply) -> Reply {
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
    reply
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_start_answers_with_a_link_below_the_public_url() {
    let rig = Rig::new();
    let body = r#"{"provider":"github","organization":"acme","scopes":["repo"],"redirectUri":"https://acme.example/"}"#;
    let answer = rig.post("/v1/integrations/oauth/start", body).await;
    assert_eq!(
        answer.json(),
        json!({
            "success": true,
            "authUrl": "https://grantd.example/below/connect/canary-ticket",
            "state": "canary-state",
            "expiresAt": "2027-01-15T08:00:00Z",
        })
    );
    let wanted = Start {
        integration: None,
        provider: Some("github".into()),
        organization: Some("acme".into()),
        scopes: vec!["repo".into()],
        then: Some("https://acme.example/".into()),
    };
    assert_eq!(rig.heard(), [format!("{wanted:?}")]);
}

#[tokio::test]
async fn a_start_with_unknown_repeated_or_misshapen_members_is_refused() {
    let rig = Rig::new();
    for body in [
        "",
        "[]",
        r#"{"integration":"github","scope":"repo"}"#,
        r#"{"integration":"github","redirect_uri":"https://acme.example"}"#,
        r#"{"integration":"github","integration":"slack"}"#,
        r#"{"integration":"github","scopes":"repo"}"#,
        r#"{"integration":7}"#,
    ] {
        let reply = rig.post("/v1/integrations/oauth/start", body).await;
        assert_eq!(reply.refusal(), refused(400, "invalid_request"), "{body}");
    }
    assert!(rig.heard().is_empty());
}

#[tokio::test]
async fn a_confirmed_link_answers_with_the_providers_url_and_not_with_the_cookie() {
    let rig = Rig::new();
    let reply = rig.post("/connect/a-ticket", "").await;
    let answer = reply.json();
    assert_eq!(answer["authUrl"], "https://provider.example/authorize?state=s");
    assert_eq!((&answer["success"], &answer["state"]), (&json!(true), &json!("canary-state")));
    assert!(!reply.body.contains("canary-cookie"));
    assert_eq!(rig.heard(), ["a-ticket"]);
}

#[tokio::test]
async fn a_callbacks_message_tells_how_far_it_got() {
    let rig = Rig::new();
    let account = Account { username: Some("acme-bot".into()), ..Account::default() };
    let stored = rig.land(Landed::Stored { account }).await;
    assert_eq!(stored, "connected as acme-bot; the record is in the store");
    let sealed = rig.land(Landed::Sealed { account: Account::default(), why: "throttled" }).await;
    assert_eq!(
        sealed,
        "connected; the record is sealed on this host and not stored yet (throttled), which is being retried"
    );
    let unverified = rig.land(Landed::Unverified).await;
    assert!(unverified.as_str().unwrap().contains("nothing is served before"), "{unverified}");
    assert_eq!(rig.heard(), ["Operator", "Operator", "Operator"]);
}

#[tokio::test]
async fn a_callback_that_is_refused_or_misshapen_is_a_problem() {
    let rig = Rig::new();
    let path = "/v1/integrations/oauth/callback";
    let good = r#"{"provider":"github","code":"c","state":"s"}"#;
    assert_eq!(rig.post(path, good).await.refusal(), refused(400, "invalid_oauth_state"));
    assert_eq!(rig.post(path, "{}").await.refusal(), refused(400, "invalid_request"));
}

#[tokio::test]
async fn integrations_are_listed_and_looked_at() {
    let rig = Rig::new();
    let listed = rig.get("/v1/integrations").await.json();
    let names: Vec<_> =
        listed["integrations"].as_array().unwrap().iter().map(|one| &one["integration"]).collect();
    assert_eq!(names, ["github", "slack"]);
    assert_eq!(rig.get("/v1/integrations/slack/status").await.json()["status"], "pending");
    for nothing in ["gone", "A", "%ff%20"] {
        let (status, _) = rig.get(&format!("/v1/integrations/{nothing}/status")).await.refusal();
        assert_eq!(status, 404, "{nothing}");
    }
    assert_eq!(
        rig.get("/v1/integrations/gone/status").await.refusal(),
        refused(404, "integration_not_found")
    );
}

#[tokio::test]
async fn refreshing_validating_and_revoking_answer_with_the_status_after_it() {
    let rig = Rig::new();
    let refreshed = rig.post("/v1/integrations/github/refresh", "").await.json();
    assert_eq!(refreshed["status"], "connected");
    let validated = rig.post("/v1/integrations/github/validate", "").await.json();
    assert_eq!(validated["status"], "connected");
    let revoked = rig.post("/v1/integrations/github/revoke", "").await.json();
    assert_eq!((&revoked["status"], &revoked["upstream"]), (&json!("revoked"), &json!("silent")));
    let deleted = ask(&rig.socket(), "DELETE", "/v1/integrations/github", "").await.json();
    assert_eq!((&deleted["status"], &deleted["upstream"]), (&json!("pending"), &json!("silent")));
    assert_eq!(rig.heard(), ["refresh github", "validate github", "revoke github", "delete github"]);
    let reply = rig.post("/v1/integrations/NO/refresh", "").await;
    assert_eq!(reply.refusal(), refused(404, "integration_not_found"));
}

#[tokio::test]
async fn a_reload_says_what_came_of_it() {
    let mut rig = Rig::new();
    for (end, status) in [(Ok("2 integrations".to_owned()), 200), (Err("a.toml:1:1: no".to_owned()), 422)] {
        let socket = rig.socket();
        let (reply, ()) = tokio::join!(ask(&socket, "POST", "/v1/reload", ""), async {
            rig.stage.reloads.recv().await.unwrap().reply.send(end).unwrap();
        });
        assert_eq!(reply.status, status);
        if status == 200 {
            assert_eq!(reply.json(), json!({"success": true, "message": "2 integrations"}));
        } else {
            assert_eq!(reply.refusal(), refused(422, "invalid_request"));
            assert_eq!(reply.json()["detail"], "a.toml:1:1: no");
        }
    }
}

#[tokio::test]
async fn health_is_whether_the_engine_turns() {
    let rig = Rig::new();
    for path in ["/healthz", "/readyz"] {
        let reply = rig.get(path).await;
        assert_eq!((reply.status, &*reply.body), (200, r#"{"ready":true}"#));
    }
    rig.stage.handle.nudge(&identity("github").integration);
    let reply = rig.get("/healthz").await;
    assert_eq!((reply.status, &*reply.body), (503, r#"{"ready":false}"#));
}

#[tokio::test]
async fn a_process_is_explained_with_every_binding_and_its_reason() {
    let bound = |name, who| {
        let identity = identity(name);
        let allow = Allow { token: true, proxy: false };
        Binding {
            who,
            integration: identity.integration,
            provider: identity.provider,
            allow,
            paths: Vec::new(),
        }
    };
    let own = nix::unistd::geteuid().as_raw();
    let bindings = vec![bound("github", Who::Uid(own)), bound("slack", Who::Uid(own + 1))];
    let rig = Rig::with(bindings);
    let pid = std::process::id();
    let said = rig.get(&format!("/v1/explain?pid={pid}")).await.json();
    assert_eq!((&said["pid"], &said["uid"]), (&json!(pid), &json!(own)));
    assert_ne!(said["unit"].is_null(), said["why"].is_null(), "a unit, or why there is none: {said}");
    assert_eq!(
        said["bindings"],
        json!([
            { "integration": "github", "rule": format!("uid = {own}"), "fits": true, "why": "it is this user", "allow": ["token"] },
            { "integration": "slack", "rule": format!("uid = {}", own + 1), "fits": false, "why": "it is another user", "allow": ["token"] },
        ])
    );
    for query in ["", "?pid=", "?pid=-1", "?pid=4194305", "?pid=1&pid=2", "?pid=1&more=1"] {
        assert_eq!(rig.get(&format!("/v1/explain{query}")).await.refusal(), refused(400, "invalid_request"));
    }
}

#[tokio::test]
async fn other_paths_methods_and_sizes_are_refused() {
    let rig = Rig::new();
    assert_eq!(rig.get("/v1/nothing").await.refusal(), refused(404, "invalid_request"));
    let reply = rig.get("/v1/reload").await;
    assert_eq!(reply.refusal(), refused(405, "invalid_request"));
    assert_eq!(reply.header("allow"), Some("POST"));
    let large = "x".repeat(64 * 1024 + 1);
    let reply = rig.post("/v1/integrations/oauth/start", &large).await;
    assert_eq!(reply.refusal(), refused(413, "invalid_request"));
    assert_eq!(rig.get("/v1/integrations/github/token").await.status, 404, "no token is read here");
}

#[tokio::test]
async fn a_stop_ends_the_server_and_its_idle_connections() {
    let mut rig = Rig::new();
    let mut idle = Line::to(&rig.socket()).await;
    idle.get("/healthz").await;
    assert!(idle.hear("true}").await.contains("200"));
    rig.stop.cancel();
    assert!(rig.server.join_next().await.unwrap().unwrap().is_ok());
    assert_eq!(idle.hear("nothing").await, "");
}

/// Needs root, since only root may become somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn only_operators_are_heard_and_each_request_is_judged() {
    let tools = ["/usr/bin/setpriv", "/usr/bin/curl"].iter().all(|tool| std::path::Path::new(tool).exists());
    if !nix::unistd::geteuid().is_root() || !tools {
        return;
    }
    let rig = Rig::new();
    for path in [rig.directory.path().to_path_buf(), rig.socket()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let look = |uid: &str, group: &str| {
        let curl = Command::new("/usr/bin/setpriv")
            .args(["--reuid", uid, "--regid", uid, "--groups", group, "/usr/bin/curl", "--silent"])
            .args(["--max-time", "20", "http://grantd/healthz", "--unix-socket"])
            .arg(rig.socket())
            .output()
            .unwrap();
        String::from_utf8(curl.stdout).unwrap()
    };
    let operators = |own_uid, group| rig.operators.store(Arc::new(Operators { own_uid, group }));
    operators(41_001, Some(41_100));
    assert!(look("41001", "41001").contains("true"), "the daemon's own user");
    assert!(look("41002", "41100").contains("true"), "a member of the group");
    assert!(look("41002", "41101").contains("not_an_admin"), "a member of another group");
    operators(41_001, None);
    assert!(look("41002", "41100").contains("not_an_admin"), "no group is named any more");
    assert_eq!(rig.get("/healthz").await.status, 200, "root");
}
