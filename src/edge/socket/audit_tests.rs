//! What both sockets leave in the audit trail: real sockets; the engine is played, and the trail keeps what it is told.

use super::accept::Bounds;
use super::app::serve_within;
use super::control::{ControlDesk, Operators, serve_control};
use super::desk::Desk;
use super::seats::Limits;
use super::testing::{Hands, Line, START, ask, get, lease, view};
use crate::engine::testing::{Actor as Engine, Notes, Nowhere, Stage};
use crate::engine::{Ended, Going, Landed, Landing, Start, Started};
use crate::lifecycle::testing::identity;
use crate::lifecycle::{
    Account, Actor, Allow, AuditEvent, Binding, Callback, Code, Confirmation, IntegrationId, Refusal,
    Revocation, Status, View, Who,
};
use crate::secret::{StateToken, Ticket};
use arc_swap::ArcSwap;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Does as it is told; a revocation of `slack` is answered only when the test is over.
struct Obedient(mpsc::UnboundedSender<()>, std::sync::mpsc::Receiver<()>);

impl Engine for Obedient {
    fn start(&mut self, _start: Start) -> Result<Started, Refusal> {
        Ok(Started {
            ticket: Ticket::new("canary-ticket"),
            state: StateToken::new("canary-state"),
            expires_at: START,
        })
    }

    fn confirm(&mut self, _ticket: Ticket, _how: Confirmation) -> Result<Going, Refusal> {
        Ok(Going {
            url: "https://provider.example/?state=canary-state".into(),
            state: StateToken::new("canary-state"),
            cookie: "canary-cookie".into(),
            expires_at: START,
        })
    }

    fn callback(&mut self, _callback: Callback) -> Result<Landing, Refusal> {
        Ok(Landing {
            identity: identity("github"),
            provider_name: "GitHub".into(),
            landed: Landed::Stored { account: Account::default() },
            kept_in: "here".into(),
            then: None,
        })
    }

    fn refresh(&mut self, _integration: IntegrationId) -> Result<View, Refusal> {
        Err(Refusal::new(Code::NeedsReauth, "reconnect"))
    }

    fn revoke(&mut self, integration: IntegrationId) -> Result<Ended, Refusal> {
        self.0.send(()).unwrap();
        if integration.as_str() == "slack" {
            assert!(self.1.recv().is_err(), "nothing is ever sent");
        }
        Ok(Ended { view: view("github", Status::Revoked), upstream: Revocation::Silent })
    }
}

/// Both sockets, and one trail.
struct Rig {
    directory: TempDir,
    stage: Stage,
    trail: Arc<Notes>,
    stop: CancellationToken,
    app: Option<std::thread::JoinHandle<()>>,
    server: JoinSet<std::io::Result<()>>,
    revoking: mpsc::UnboundedReceiver<()>,
    _until_over: std::sync::mpsc::Sender<()>,
}

impl Rig {
    fn new(own_uid: u32) -> Self {
        let views = vec![view("github", Status::Connected), view("slack", Status::Connected)];
        let bound = identity("github");
        let binding = Binding {
            who: Who::Uid(own()),
            integration: bound.integration,
            provider: bound.provider,
            allow: Allow { token: true, proxy: false },
            paths: Vec::new(),
        };
        let (revoked, revoking) = mpsc::unbounded_channel();
        let (until_over, over) = std::sync::mpsc::channel();
        let stage = Stage::new(vec![binding], views, Obedient(revoked, over));
        let directory = tempfile::tempdir().unwrap();
        let (trail, stop) = (Arc::new(Notes::default()), CancellationToken::new());
        let listen = |name: &str| UnixListener::bind(directory.path().join(name)).unwrap();
        let desk = ControlDesk {
            handle: stage.handle.clone(),
            clock: Arc::new(Hands::new()),
            operators: Arc::new(ArcSwap::from_pointee(Operators { own_uid, group: None })),
            public_url: Arc::new(ArcSwap::from_pointee("https://grantd.example/".parse().unwrap())),
            trail: trail.clone(),
        };
        let mut server = JoinSet::new();
        let _task = server.spawn(serve_control(listen("control.sock"), desk, stop.clone()));
        let desk = Desk::new(
            stage.handle.clone(),
            Arc::new(Hands::new()),
            trail.clone(),
            Arc::new(Nowhere),
            stop.clone(),
        );
        let hour = Duration::from_secs(3600);
        let bounds = Bounds { limits: Limits { all: 8, each: 8 }, head: hour, drain: Duration::from_secs(5) };
        let app = Some(serve_within(bounds, listen("app.sock"), desk).unwrap());
        Self { directory, stage, trail, stop, app, server, revoking, _until_over: until_over }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn order(&self, method: &str, target: &str, body: &str) -> Vec<AuditEvent> {
        let _answer = ask(&self.socket("control.sock"), method, target, body).await;
        self.trail.take()
    }

    async fn read(&self, target: &str) -> u16 {
        get(&self.socket("app.sock"), target).await.status
    }

    /// Stops, and gives what was told last.
    async fn last_words(&mut self) -> Vec<AuditEvent> {
        self.stop.cancel();
        let app = self.app.take().unwrap();
        tokio::task::spawn_blocking(|| app.join().unwrap()).await.unwrap();
        while self.server.join_next().await.is_some() {}
        self.trail.take()
    }
}

fn own() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn host(what: &'static str) -> AuditEvent {
    AuditEvent::done(what, Actor::Host { uid: own() })
}

fn refused(what: &'static str, code: Code) -> AuditEvent {
    AuditEvent::refused(what, Actor::Host { uid: own() }, code)
}

fn reads(outcome: &'static str, count: u64) -> AuditEvent {
    AuditEvent { outcome, count, ..AuditEvent::done("token_read", Actor::App { uid: own(), unit: None }) }
}

#[tokio::test]
async fn each_order_leaves_one_event_with_its_end() {
    let rig = Rig::new(own());
    let github = identity("github");
    let callback = r#"{"provider":"github","code":"canary-code","state":"canary-state"}"#;
    for (target, body, expected) in [
        ("/v1/integrations/oauth/start", r#"{"integration":"github"}"#, host("start_asked").about(&github)),
        ("/v1/integrations/oauth/start", r#"{"provider":"github"}"#, host("start_asked")),
        ("/v1/integrations/oauth/start", "{", refused("start_asked", Code::InvalidRequest)),
        ("/connect/canary-ticket", "", host("confirm_asked")),
        ("/v1/integrations/oauth/callback", callback, host("callback_asked").about(&github)),
        ("/v1/integrations/oauth/callback", "{}", refused("callback_asked", Code::InvalidRequest)),
        ("/v1/integrations/github/revoke", "", host("revoke_asked").about(&github)),
        ("/v1/integrations/github/refresh", "", refused("refresh_asked", Code::NeedsReauth).about(&github)),
        ("/v1/integrations/gone/recover", "", refused("recover_asked", Code::IntegrationNotFound)),
        ("/v1/integrations/%ff/revoke", "", refused("revoke_asked", Code::InvalidRequest)),
    ] {
        assert_eq!(rig.order("POST", target, body).await, [expected], "{target} {body}");
    }
}

#[tokio::test]
async fn looking_leaves_nothing() {
    let rig = Rig::new(own());
    for target in ["/v1/integrations", "/v1/integrations/github/status", "/healthz", "/v1/audit", "/nothing"]
    {
        assert_eq!(rig.order("GET", target, "").await, [], "{target}");
    }
}

#[tokio::test]
async fn a_stranger_is_refused_and_noted_whatever_it_asks() {
    // Root operates whoever the daemon is, so this needs another user.
    if own() == 0 {
        return strangers_as_root().await;
    }
    let rig = Rig::new(own() + 1);
    assert_eq!(
        rig.order("POST", "/v1/integrations/github/revoke", "").await,
        [refused("revoke_asked", Code::NotAnAdmin)]
    );
    assert_eq!(rig.order("GET", "/v1/audit", "").await, [refused("look_asked", Code::NotAnAdmin)]);
}

/// Asks as somebody else, as only root can.
async fn strangers_as_root() {
    let tools = ["/usr/bin/setpriv", "/usr/bin/curl"];
    if !tools.iter().all(|tool| std::path::Path::new(tool).exists()) {
        return;
    }
    let rig = Rig::new(own());
    for path in [rig.directory.path().to_path_buf(), rig.socket("control.sock")] {
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(path, everybody).unwrap();
    }
    for (method, target, what) in [
        ("POST", "/v1/integrations/github/revoke", "revoke_asked"),
        ("POST", "/connect/canary-ticket", "confirm_asked"),
        ("GET", "/v1/audit", "look_asked"),
        ("GET", "/nothing", "look_asked"),
    ] {
        let socket = rig.socket("control.sock");
        let asked = tokio::task::spawn_blocking(move || {
            std::process::Command::new("/usr/bin/setpriv")
                .args(["--reuid", "41002", "--regid", "41002", "--clear-groups", "/usr/bin/curl", "--silent"])
                .args(["--max-time", "20", "--request", method, "--unix-socket"])
                .arg(socket)
                .arg(format!("http://grantd{target}"))
                .output()
                .unwrap()
        });
        assert!(String::from_utf8(asked.await.unwrap().stdout).unwrap().contains("not_an_admin"));
        let stranger = AuditEvent::refused(what, Actor::Host { uid: 41_002 }, Code::NotAnAdmin);
        assert_eq!(rig.trail.take(), [stranger], "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_caller_hangs_up_is_abandoned_and_not_forgotten() {
    let mut rig = Rig::new(own());
    let mut line = Line::to(&rig.socket("control.sock")).await;
    line.say("POST /v1/integrations/slack/revoke HTTP/1.1\r\nHost: grantd\r\nContent-Length: 0\r\n\r\n")
        .await;
    rig.revoking.recv().await.unwrap();
    drop(line);
    let expected = AuditEvent { outcome: "abandoned", ..host("revoke_asked").about(&identity("slack")) };
    assert_eq!(rig.last_words().await, [expected]);
}

#[tokio::test]
async fn the_trail_is_given_in_pages() {
    let rig = Rig::new(own());
    for _ in 0..501 {
        crate::engine::Trail::record(&*rig.trail, host("revoke_asked"));
    }
    let page = |reply: super::testing::Reply| {
        let page = reply.json();
        (page["events"].as_array().unwrap().len(), page["next"].as_u64().unwrap())
    };
    let look = async |target: &str| page(get(&rig.socket("control.sock"), target).await);
    assert_eq!(look("/v1/audit").await, (500, 500));
    assert_eq!(look("/v1/audit?after=500").await, (1, 501));
    assert_eq!(look("/v1/audit?after=501").await, (0, 501));
    for wrong in ["after=x", "after=-1", "after=1&after=2", "before=1"] {
        let reply = get(&rig.socket("control.sock"), &format!("/v1/audit?{wrong}")).await;
        assert_eq!(reply.refusal(), (400, "invalid_request".into()), "{wrong}");
    }
}

#[tokio::test]
async fn reads_are_counted_by_integration_user_and_outcome() {
    let mut rig = Rig::new(own());
    let token = "/v1/integrations/github/token";
    rig.stage.post(view("github", Status::Connected), Some(&lease("github", 1, None)));
    for _ in 0..3 {
        assert_eq!(rig.read(token).await, 200);
    }
    // A read that waited is one read.
    assert_eq!(rig.read(&format!("{token}?wait=5")).await, 200);
    rig.stage.post(view("github", Status::Revoked), None);
    assert_eq!(rig.read(token).await, 403);
    assert_eq!(rig.read("/v1/integrations/canary-name/token").await, 403);
    assert_eq!(rig.read("/v1/integrations/slack/token").await, 403);
    assert_eq!(rig.read(&format!("{token}?wait=canary")).await, 400);
    assert_eq!(rig.read("/v1/integrations/github/status").await, 200);
    assert_eq!(rig.trail.take(), [], "a minute is not over");
    assert_eq!(
        rig.last_words().await,
        [
            reads("binding_missing", 2),
            reads("integration_revoked", 1).about(&identity("github")),
            reads("invalid_request", 1),
            reads("ok", 4).about(&identity("github")),
        ]
    );
}

#[tokio::test]
async fn nothing_that_a_caller_says_gets_into_the_trail() {
    let mut rig = Rig::new(own());
    let callback = r#"{"provider":"canary-provider","code":"canary-code","state":"canary-state"}"#;
    let mut events = Vec::new();
    for (target, body) in [
        ("/v1/integrations/oauth/start", r#"{"integration":"canary","scopes":["canary-scope"]}"#),
        ("/connect/canary-ticket", ""),
        ("/v1/integrations/oauth/callback", callback),
        ("/v1/integrations/canary-name/revoke", ""),
        ("/v1/integrations/github/canary-path", ""),
    ] {
        events.extend(rig.order("POST", target, body).await);
    }
    assert_eq!(rig.read("/v1/integrations/canary-name/token?min_ttl=canary").await, 400);
    assert_eq!(rig.read("/v1/integrations/canary-name/token").await, 403);
    events.extend(rig.last_words().await);
    assert_eq!(events.len(), 6);
    assert!(!format!("{events:?}").contains("canary"), "{events:?}");
}
