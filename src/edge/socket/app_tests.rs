//! The app socket as an app sees it: real sockets, the real thread; the engine is played.

use super::accept::Bounds;
use super::app::serve_within;
use super::desk::{Desk, Pace};
use super::seats::Limits;
use super::testing::{Hands, Line, Reply, START, get, lease, reply, view};
use crate::engine::testing::{Actor, Notes, Nowhere, Stage};
use crate::lifecycle::testing::identity;
use crate::lifecycle::{Allow, Binding, IntegrationId, NOBODY, Status, Who};
use crate::time::Timestamp;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);
const TOKEN: &str = "/v1/integrations/github/token";

/// Never looks up by itself: what wakes a reader here is a change.
const DEAF: Pace = Pace { hop: HOUR, beat: HOUR };
const BRISK: Pace = Pace { hop: Duration::from_millis(5), beat: Duration::from_millis(5) };
const WIDE: Bounds = Bounds { limits: Limits { all: 64, each: 64 }, head: HOUR, drain: HOUR };

struct Nudged(mpsc::UnboundedSender<IntegrationId>);

impl Actor for Nudged {
    fn nudge(&mut self, integration: IntegrationId) {
        self.0.send(integration).unwrap();
    }
}

struct Rig {
    directory: TempDir,
    stage: Stage,
    clock: Arc<Hands>,
    stop: CancellationToken,
    thread: JoinHandle<()>,
    nudges: mpsc::UnboundedReceiver<IntegrationId>,
}

impl Rig {
    /// Integrations `github` and `slack`, both never connected.
    fn new(bindings: Vec<Binding>) -> Self {
        Self::within(WIDE, DEAF, bindings)
    }

    fn within(bounds: Bounds, pace: Pace, bindings: Vec<Binding>) -> Self {
        let (nudged, nudges) = mpsc::unbounded_channel();
        let views = vec![view("github", Status::Pending), view("slack", Status::Pending)];
        let stage = Stage::new(bindings, views, Nudged(nudged));
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("app.sock")).unwrap();
        let (clock, stop) = (Arc::new(Hands::new()), CancellationToken::new());
        let trail = Arc::new(Notes::default());
        let mut desk = Desk::new(stage.handle.clone(), clock.clone(), trail, Arc::new(Nowhere), stop.clone());
        desk.pace = pace;
        let thread = serve_within(bounds, listener, desk).unwrap();
        Self { directory, stage, clock, stop, thread, nudges }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("app.sock")
    }

    async fn get(&self, target: &str) -> Reply {
        get(&self.socket(), target).await
    }

    async fn refusal(&self, target: &str) -> (u16, String) {
        self.get(target).await.refusal()
    }

    fn post(&self, status: Status, generation: u64, ends: Option<Timestamp>) {
        self.stage.post(view("github", status), Some(&lease("github", generation, ends)));
    }

    fn post_none(&self, status: Status) {
        self.stage.post(view("github", status), None);
    }

    /// Comes back when a read has fallen short.
    async fn nudged(&mut self) {
        let nudge = tokio::time::timeout(Duration::from_secs(30), self.nudges.recv()).await;
        assert_eq!(nudge.expect("a nudge in time").unwrap().as_str(), "github");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn bound(who: Who, name: &str, allow: Allow) -> Binding {
    let identity = identity(name);
    Binding { who, integration: identity.integration, provider: identity.provider, allow, paths: Vec::new() }
}

fn for_token(who: Who) -> Vec<Binding> {
    vec![bound(who, "github", Allow { token: true, proxy: false })]
}

fn mine() -> Vec<Binding> {
    for_token(Who::Uid(own_uid()))
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn in_an_hour() -> Option<Timestamp> {
    Some(START.plus(HOUR))
}

#[tokio::test]
async fn a_live_lease_is_read_whatever_the_status_but_revoked() {
    let rig = Rig::new(mine());
    for status in [Status::Connected, Status::Warning, Status::NeedsReauth, Status::Pending, Status::Expired]
    {
        rig.post(status, 3, in_an_hour());
        let reply = rig.get(TOKEN).await;
        assert_eq!(reply.status, 200, "{status:?}");
        assert_eq!(
            reply.body,
            r#"{"access_token":"canary-3","token_type":"Bearer","expires_at":"2027-01-15T09:00:00Z","scope":"repo","integration":"github","generation":3}"#
        );
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn a_revoked_integration_is_forbidden_even_with_a_lease() {
    let rig = Rig::new(mine());
    rig.post(Status::Revoked, 1, in_an_hour());
    assert_eq!(rig.refusal(TOKEN).await, refused(403, "integration_revoked"));
    rig.post_none(Status::Revoked);
    let never_held = format!("{TOKEN}?wait=60");
    assert_eq!(rig.refusal(&never_held).await, refused(403, "integration_revoked"));
}

#[tokio::test]
async fn a_dead_grant_without_a_lease_is_unauthorized() {
    let rig = Rig::new(mine());
    rig.post_none(Status::NeedsReauth);
    assert_eq!(rig.refusal(TOKEN).await, refused(401, "needs_reauth"));
    rig.post(Status::NeedsReauth, 1, Some(START));
    assert_eq!(rig.refusal(TOKEN).await, refused(401, "needs_reauth"));
}

#[tokio::test]
async fn an_integration_that_was_never_connected_is_a_conflict() {
    let rig = Rig::new(mine());
    assert_eq!(rig.refusal(TOKEN).await, refused(409, "integration_pending"));
}

#[tokio::test]
async fn anything_else_is_unavailable_for_a_while_and_begins_a_refresh() {
    let mut rig = Rig::new(mine());
    rig.post(Status::Expired, 1, Some(START));
    let reply = rig.get(TOKEN).await;
    assert_eq!(reply.refusal(), refused(503, "token_unavailable"));
    assert_eq!(reply.header("retry-after"), Some("5"));
    rig.nudged().await;
    rig.post_none(Status::Warning);
    rig.clock.set(START.plus(HOUR));
    assert_eq!(rig.refusal(TOKEN).await, refused(503, "token_unavailable"));
    rig.nudged().await;
}

#[tokio::test]
async fn a_lease_that_is_too_short_is_unavailable_and_begins_a_refresh() {
    let mut rig = Rig::new(mine());
    rig.post(Status::Connected, 1, in_an_hour());
    assert_eq!(rig.get(&format!("{TOKEN}?min_ttl=3600")).await.status, 200);
    let reply = rig.get(&format!("{TOKEN}?min_ttl=3601")).await;
    assert_eq!(reply.refusal(), refused(503, "token_unavailable"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    rig.nudged().await;
    rig.post(Status::NeedsReauth, 1, in_an_hour());
    assert_eq!(rig.refusal(&format!("{TOKEN}?min_ttl=3601")).await, refused(503, "token_unavailable"));
    rig.post(Status::Connected, 2, None);
    assert_eq!(rig.get(&format!("{TOKEN}?min_ttl=4294967295")).await.status, 200);
}

#[tokio::test]
async fn impatient_readers_begin_one_refresh_a_second() {
    let mut rig = Rig::new(mine());
    rig.post_none(Status::Expired);
    for _ in 0..20 {
        assert_eq!(rig.get(TOKEN).await.status, 503);
    }
    rig.nudged().await;
    assert!(rig.nudges.try_recv().is_err());
    rig.clock.set(START.plus(Duration::from_secs(1)));
    assert_eq!(rig.get(TOKEN).await.status, 503);
    rig.nudged().await;
    // A clock that was set back does not silence them.
    rig.clock.set(START.minus(HOUR));
    assert_eq!(rig.get(TOKEN).await.status, 503);
    rig.nudged().await;
}

#[tokio::test]
async fn unknown_and_forbidden_integrations_are_answered_alike() {
    let rig = Rig::new(for_token(Who::Uid(own_uid() + 1)));
    rig.post(Status::Connected, 1, in_an_hour());
    let forbidden = rig.get(TOKEN).await;
    assert_eq!(forbidden.refusal(), refused(403, "binding_missing"));
    for name in ["nothing", "slack", "git%68ub", "GITHUB", "..", ""] {
        for what in ["token", "token?wait=60", "status", "events"] {
            let reply = rig.get(&format!("/v1/integrations/{name}/{what}")).await;
            assert_eq!((reply.status, &reply.body), (403, &forbidden.body), "{name} {what}");
        }
    }
    assert_eq!(rig.get("/v1/integrations").await.body, r#"{"integrations":[]}"#);
}

#[tokio::test]
async fn a_binding_of_the_callers_group_counts() {
    let rig = Rig::new(for_token(Who::Gid(nix::unistd::getegid().as_raw())));
    rig.post(Status::Connected, 1, in_an_hour());
    assert_eq!(rig.get(TOKEN).await.status, 200);
}

#[tokio::test]
async fn a_binding_for_status_alone_reads_no_token() {
    let rig = Rig::new(vec![bound(Who::Uid(own_uid()), "github", Allow::default())]);
    rig.post(Status::Connected, 1, in_an_hour());
    assert_eq!(rig.refusal(TOKEN).await, refused(403, "binding_missing"));
    assert_eq!(rig.get("/v1/integrations/github/status").await.json()["status"], "connected");
}

#[tokio::test]
async fn the_list_holds_the_callers_bindings_only() {
    let both = Allow { token: true, proxy: true };
    let rig = Rig::new(vec![
        bound(Who::Uid(own_uid()), "github", both),
        bound(Who::Uid(own_uid()), "slack", Allow::default()),
        bound(Who::Uid(own_uid()), "gone", both),
        bound(Who::Uid(own_uid() + 1), "other", both),
    ]);
    let listed = rig.get("/v1/integrations").await.json();
    let listed: Vec<_> = listed["integrations"].as_array().unwrap().iter().collect();
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[0]["integration"], &listed[0]["status"]), (&"github".into(), &"pending".into()));
    assert_eq!(listed[0]["allow"], serde_json::json!(["token", "proxy"]));
    assert_eq!(listed[1]["allow"], serde_json::json!(["status"]));
}

#[tokio::test]
async fn a_reload_that_unbinds_bites_on_the_next_request_of_a_connection() {
    let rig = Rig::new(mine());
    let mut line = Line::to(&rig.socket()).await;
    rig.post(Status::Connected, 1, in_an_hour());
    line.get(TOKEN).await;
    assert!(line.hear("canary-1").await.starts_with("HTTP/1.1 200"));
    rig.stage.bind(Vec::new());
    line.get(TOKEN).await;
    assert!(line.hear("binding_missing").await.contains("HTTP/1.1 403"));
}

#[tokio::test]
async fn malformed_parameters_are_refused() {
    let rig = Rig::new(mine());
    rig.post(Status::Connected, 1, in_an_hour());
    for query in ["wait=61", "wait=1&wait=1", "min_ttl=-1", "min_ttl="] {
        assert_eq!(rig.refusal(&format!("{TOKEN}?{query}")).await, refused(400, "invalid_request"));
    }
    assert_eq!(rig.get(&format!("{TOKEN}?fresh=yes&fresh=no")).await.status, 200);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let rig = Rig::new(mine());
    let post = async |target: &str| super::testing::ask(&rig.socket(), "POST", target, "{}").await;
    for nowhere in [
        "/",
        "/v1",
        "/github/token",
        "/v1/integrations/",
        "/v1/integrations/github",
        "/v1/integrations/github/token/",
        "/v2",
    ] {
        assert_eq!(rig.refusal(nowhere).await, refused(404, "invalid_request"), "{nowhere}");
    }
    for order in ["oauth/start", "oauth/callback", "github/refresh", "github/revoke", "../reload"] {
        let reply = post(&format!("/v1/integrations/{order}")).await;
        assert_eq!(reply.refusal(), refused(404, "invalid_request"), "{order}");
    }
    let reply = post(TOKEN).await;
    assert_eq!(reply.refusal(), refused(405, "invalid_request"));
    assert_eq!(reply.header("allow"), Some("GET"));
}

#[tokio::test]
async fn a_waiting_reader_is_woken_by_a_new_lease() {
    let mut rig = Rig::new(mine());
    rig.post_none(Status::Expired);
    let socket = rig.socket();
    let (reply, ()) = tokio::join!(get(&socket, "/v1/integrations/github/token?wait=60"), async {
        rig.nudged().await;
        rig.post_none(Status::Warning);
        rig.post(Status::Connected, 2, in_an_hour());
    });
    assert!(reply.body.contains("canary-2"), "{reply:?}");
}

#[tokio::test]
async fn a_reader_waits_through_a_conflict_and_a_dead_grant_too() {
    let rig = Rig::within(WIDE, BRISK, mine());
    let socket = rig.socket();
    let (reply, ()) = tokio::join!(get(&socket, "/v1/integrations/github/token?wait=60"), async {
        // Two answers to others show that the first has long been waiting.
        assert_eq!(rig.refusal(TOKEN).await, refused(409, "integration_pending"));
        rig.post_none(Status::NeedsReauth);
        assert_eq!(rig.refusal(TOKEN).await, refused(401, "needs_reauth"));
        rig.post(Status::Connected, 1, in_an_hour());
    });
    assert!(reply.body.contains("canary-1"), "{reply:?}");
}

#[tokio::test]
async fn a_waiting_reader_is_woken_by_a_revocation() {
    let mut rig = Rig::new(mine());
    rig.post_none(Status::Expired);
    let socket = rig.socket();
    let (reply, ()) = tokio::join!(get(&socket, "/v1/integrations/github/token?wait=60"), async {
        rig.nudged().await;
        rig.post_none(Status::Revoked);
    });
    assert_eq!(reply.refusal(), refused(403, "integration_revoked"));
}

#[tokio::test]
async fn a_waiting_reader_is_refused_when_its_binding_goes() {
    let mut rig = Rig::within(WIDE, BRISK, mine());
    rig.post_none(Status::Expired);
    let socket = rig.socket();
    let (reply, ()) = tokio::join!(get(&socket, "/v1/integrations/github/token?wait=60"), async {
        rig.nudged().await;
        rig.stage.bind(Vec::new());
    });
    assert_eq!(reply.refusal(), refused(403, "binding_missing"));
}

#[tokio::test]
async fn a_waiting_reader_is_woken_by_time() {
    let mut rig = Rig::within(WIDE, BRISK, mine());
    rig.post(Status::Connected, 1, Some(START));
    let socket = rig.socket();
    let (reply, ()) = tokio::join!(get(&socket, "/v1/integrations/github/token?wait=60"), async {
        rig.nudged().await;
        // The host's clock is set back: the lease that had ended lives again.
        rig.clock.set(START.minus(HOUR));
    });
    assert!(reply.body.contains("canary-1"), "{reply:?}");
}

#[tokio::test]
async fn a_wait_ends_with_the_answer_of_the_moment() {
    // Far longer than a head may take to arrive: that clock does not run while an answer is awaited.
    let rig = Rig::within(Bounds { head: Duration::from_millis(20), ..WIDE }, DEAF, mine());
    let socket = rig.socket();
    let (reply, ()) = tokio::join!(get(&socket, "/v1/integrations/github/token?wait=1"), async {
        assert_eq!(rig.refusal(TOKEN).await, refused(409, "integration_pending"));
    });
    assert_eq!(reply.refusal(), refused(409, "integration_pending"));
}

#[tokio::test]
async fn a_stop_ends_waits_streams_idle_connections_and_the_thread() {
    let mut rig = Rig::new(mine());
    let mut idle = Line::to(&rig.socket()).await;
    idle.get("/v1/integrations").await;
    assert!(idle.hear("]}]}").await.contains("HTTP/1.1 200"));
    let mut stream = Line::to(&rig.socket()).await;
    stream.get("/v1/integrations/github/events").await;
    assert!(stream.hear(STATUS_ENDS).await.contains("event: lease"));
    rig.post_none(Status::Expired);
    let socket = rig.socket();
    let (reply, ()) = tokio::join!(get(&socket, "/v1/integrations/github/token?wait=60"), async {
        rig.nudged().await;
        rig.stop.cancel();
    });
    assert_eq!(reply.refusal(), refused(503, "token_unavailable"));
    assert_eq!(idle.hear("nothing").await, "");
    assert!(stream.hear("nothing").await.ends_with("0\r\n\r\n"));
    let thread = std::mem::replace(&mut rig.thread, std::thread::spawn(|| {}));
    tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap();
    assert!(tokio::net::UnixStream::connect(rig.socket()).await.is_err());
}

#[tokio::test]
async fn events_tell_of_each_lease_and_status_once_and_hold_no_token() {
    let rig = Rig::new(mine());
    let mut line = Line::to(&rig.socket()).await;
    line.get("/v1/integrations/github/events").await;
    let first = line.hear(STATUS_ENDS).await;
    assert!(first.contains("content-type: text/event-stream\r\n"), "{first}");
    assert!(first.contains(&lease_event(0, "null")) && first.contains(STATUS_BEGINS), "{first}");
    rig.post(Status::Connected, 7, in_an_hour());
    let second = line.hear(STATUS_ENDS).await;
    assert!(second.contains(&lease_event(7, r#""2027-01-15T09:00:00Z""#)), "{second}");
    assert!(second.contains(STATUS_BEGINS) && second.contains(r#""status":"connected""#), "{second}");
    // The same status again is no news; another lease is.
    rig.post(Status::Connected, 8, None);
    let third = line.hear("}\n\n").await;
    assert!(third.contains(&lease_event(8, "null")), "{third}");
    rig.post_none(Status::Connected);
    let fourth = line.hear("}\n\n").await;
    assert!(fourth.contains(&lease_event(0, "null")), "{fourth}");
    let all = [first, second, third, fourth].concat();
    assert_eq!((all.matches("event: lease").count(), all.matches("event: status").count()), (4, 2));
    assert!(!all.contains("canary"));
}

const STATUS_BEGINS: &str = "event: status\ndata: {\"integration\":\"github\"";
const STATUS_ENDS: &str = "\"unstoredSince\":null}\n\n";

fn lease_event(generation: u64, ends: &str) -> String {
    format!(
        "event: lease\ndata: {{\"integration\":\"github\",\"generation\":{generation},\"expires_at\":{ends}}}\n\n"
    )
}

#[tokio::test]
async fn an_event_stream_is_kept_alive_and_ends_when_the_binding_goes() {
    let rig = Rig::within(WIDE, BRISK, mine());
    let mut line = Line::to(&rig.socket()).await;
    line.get("/v1/integrations/github/events").await;
    let _first = line.hear(STATUS_ENDS).await;
    assert!(line.hear(":\n\n").await.contains(":\n\n"));
    rig.stage.bind(Vec::new());
    rig.post(Status::Connected, 1, None);
    let rest = line.hear("0\r\n\r\n").await;
    assert!(rest.ends_with("0\r\n\r\n") && !rest.contains("event"), "{rest}");
}

#[tokio::test]
async fn a_user_with_too_many_connections_is_told_so() {
    let bounds = Bounds { limits: Limits { all: 64, each: 2 }, ..WIDE };
    let rig = Rig::within(bounds, DEAF, mine());
    let mut lines = Vec::new();
    for _ in 0..2 {
        let mut line = Line::to(&rig.socket()).await;
        line.get("/v1/integrations").await;
        assert!(line.hear("pending").await.contains("HTTP/1.1 200"));
        lines.push(line);
    }
    let mut third = Line::to(&rig.socket()).await;
    third.get(TOKEN).await;
    // It is closed although the request did not ask for that.
    let reply = reply(&third.hear("nothing").await);
    assert_eq!(reply.refusal(), refused(429, "rate_limited"));
    assert_eq!((reply.header("retry-after"), reply.header("connection")), (Some("1"), Some("close")));
    lines.clear();
    // The server notices the ends of the two by and by.
    for attempt in 0.. {
        if rig.get("/v1/integrations").await.status == 200 {
            break;
        }
        assert!(attempt < 10_000, "the seats are not given back");
    }
}

#[tokio::test]
async fn a_connection_beyond_the_limit_of_all_is_closed() {
    let bounds = Bounds { limits: Limits { all: 1, each: 1 }, ..WIDE };
    let rig = Rig::within(bounds, DEAF, mine());
    let mut first = Line::to(&rig.socket()).await;
    first.get("/v1/integrations").await;
    assert!(first.hear("pending").await.contains("HTTP/1.1 200"));
    assert_eq!(Line::to(&rig.socket()).await.hear("nothing").await, "");
}

#[tokio::test]
async fn slow_and_excessive_heads_are_given_up_and_idle_connections_are_not() {
    let bounds = Bounds { head: Duration::from_millis(20), ..WIDE };
    let rig = Rig::within(bounds, DEAF, mine());
    let mut idle = Line::to(&rig.socket()).await;
    let mut slow = Line::to(&rig.socket()).await;
    slow.say("GET /v1/integrations HTTP/1.1\r\nHost: ").await;
    assert_eq!(slow.hear("nothing").await, "");
    // By now an idle connection has waited just as long, and is welcome.
    idle.get("/v1/integrations").await;
    assert!(idle.hear("]}]}").await.starts_with("HTTP/1.1 200"));
    idle.say("GET ").await;
    assert_eq!(idle.hear("nothing").await, "", "its second request is no better");
    let rig = Rig::new(mine());
    for excess in [format!("X: {}\r\n", "x".repeat(20_000)), "X: y\r\n".repeat(101)] {
        let mut line = Line::to(&rig.socket()).await;
        line.say(&format!("GET /v1/integrations HTTP/1.1\r\n{excess}\r\n")).await;
        assert!(line.hear("nothing").await.starts_with("HTTP/1.1 431"));
    }
}

#[tokio::test]
async fn a_head_may_come_in_pieces_and_requests_in_a_row() {
    let rig = Rig::new(mine());
    let mut line = Line::to(&rig.socket()).await;
    line.say("GET /v1/integ").await;
    assert_eq!(rig.get(TOKEN).await.status, 409, "the first piece has been read by now");
    line.say("rations HTTP/1.1\r\n\r\nGET /v1/integrations/slack/status HTTP/1.1\r\n\r\n").await;
    let heard = line.hear("binding_missing").await;
    assert!(heard.contains("HTTP/1.1 200") && heard.contains("HTTP/1.1 403"), "{heard}");
}

/// Needs root, since only root may become somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn other_users_are_judged_by_their_own_uid_and_groups() {
    let tools = ["/usr/bin/setpriv", "/usr/bin/curl"].iter().all(|tool| std::path::Path::new(tool).exists());
    if own_uid() != 0 || !tools {
        return;
    }
    let mut bindings = for_token(Who::Uid(41_001));
    bindings.extend(for_token(Who::Gid(41_100)));
    bindings.extend(for_token(Who::Uid(NOBODY)));
    let rig = Rig::new(bindings);
    rig.post(Status::Connected, 1, in_an_hour());
    for path in [rig.directory.path().to_path_buf(), rig.socket()] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    let read = |uid: &str, groups: &[&str]| {
        let curl = Command::new("/usr/bin/setpriv")
            .args(["--reuid", uid, "--regid", uid])
            .args(groups)
            .args(["/usr/bin/curl", "--silent", "--max-time", "20", "--unix-socket"])
            .arg(rig.socket())
            .arg(format!("http://grantd{TOKEN}"))
            .output()
            .unwrap();
        String::from_utf8(curl.stdout).unwrap()
    };
    assert!(read("41001", &["--clear-groups"]).contains("canary-1"));
    assert!(read("41002", &["--clear-groups"]).contains("binding_missing"));
    assert!(read("41002", &["--groups", "41100"]).contains("canary-1"));
    assert!(read("41002", &["--groups", "41101"]).contains("binding_missing"));
    assert!(read("65534", &["--groups", "41100"]).contains("binding_missing"), "nobody is never bound");
    assert_eq!(rig.get(TOKEN).await.refusal(), refused(403, "binding_missing"), "root is not implicit");
}
