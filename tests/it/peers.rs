//! The peers by themselves. What the other tests rely on is shown here to hold, and what must be able to fail is seen to fail.

use crate::world::{
    Aws, Browser, Client, Fault, Proxy, Trouble, assert_none, fingerprint, ministack, moto, oidc, try_fetch,
};
use ::http::Request;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use bytes::Bytes;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use url::Url;

#[test]
fn an_empty_secret_takes_values_and_moves_its_stages() {
    for aws in [moto(), ministack()] {
        let name = format!("/peers/{}", unique());
        aws.make_secret(&name);
        assert_eq!(aws.value(&name, "AWSCURRENT"), None);
        aws.put(&name, "one");
        aws.put(&name, "two");
        assert_eq!(aws.value(&name, "AWSCURRENT").as_deref(), Some("two"));
        assert_eq!(aws.value(&name, "AWSPREVIOUS").as_deref(), Some("one"));
        assert_ne!(aws.stages(&name)["AWSCURRENT"], aws.stages(&name)["AWSPREVIOUS"]);
        assert!(!aws.exists(&format!("{name}-other")));
    }
}

#[test]
fn least_privilege_writes_its_own_secret_and_no_other() {
    let root = ministack();
    let (mine, theirs) = (format!("/peers/{}", unique()), format!("/others/{}", unique()));
    root.make_secret(&mine);
    root.make_secret(&theirs);
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": ["secretsmanager:PutSecretValue", "secretsmanager:GetSecretValue"],
        "Resource": Aws::arn("/peers/*-??????"),
    }] });
    let user = root.with_keys(root.make_user(&unique(), &policy));
    assert!(user.try_put(&mine, "mine").is_ok());
    assert!(user.try_put(&theirs, "mine").unwrap_err().contains("AccessDenied"));
    assert!(user.try_make(&format!("/peers/{}", unique())).unwrap_err().contains("AccessDenied"));
    assert_eq!(root.value(&mine, "AWSCURRENT").as_deref(), Some("mine"));
    assert_eq!(root.value(&theirs, "AWSCURRENT"), None);
}

#[test]
fn refresh_tokens_rotate_and_a_replay_ends_the_family() {
    let client = client();
    let first = connected(&client);
    let second = refreshed(&client, &first);
    let third = refreshed(&client, &second);
    assert_eq!(client.newest(), Some(fingerprint(&third)));
    client.assert_no_reuse();
    let replay = client.spend(&[("grant_type", "refresh_token"), ("refresh_token", &first)]);
    assert_eq!((replay.status, replay.json()["error"].as_str()), (400, Some("invalid_grant")));
    let newest = client.spend(&[("grant_type", "refresh_token"), ("refresh_token", &third)]);
    assert_eq!(newest.status, 400, "the whole family ended");
    let judged = catch_unwind(AssertUnwindSafe(|| client.assert_no_reuse()));
    assert!(judged.is_err(), "the ledger does not notice a replay");
}

#[test]
fn redirects_carry_the_issuer_and_a_refusal_its_error() {
    let client = client();
    let back = Browser::new().consent(&authorize(&client));
    assert_eq!(parameter(&back, "iss").as_deref(), Some(client.server.issuer.as_str()));
    assert_eq!(parameter(&back, "state").as_deref(), Some("a-state-of-the-peers"));
    let denied = Browser::declining("access_denied").consent(&authorize(&client));
    assert_eq!(parameter(&denied, "error").as_deref(), Some("access_denied"));
    assert_eq!(parameter(&denied, "code"), None);
    let mut plain = authorize(&client);
    plain.set_query(Some(&plain.query().unwrap().replace("code_challenge", "no_challenge")));
    let refused = Browser::new().visit(&plain, None).answer.header("location");
    assert!(refused.contains("error=invalid_request"), "PKCE is not required: {refused}");
}

#[test]
fn faults_say_whether_the_token_was_spent() {
    for (fault, spent) in
        [(Fault::Status(503), false), (Fault::Close, false), (Fault::Lose, true), (Fault::Cut, true)]
    {
        let client = client();
        let token = connected(&client);
        client.plan("token", fault, 1);
        let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
        let answer = client.try_spend(&form);
        assert!(answer.is_none_or(|answer| answer.status == 503), "{fault:?}");
        let issued = client.refreshes()[0].issued.is_some();
        assert_eq!(issued, spent, "{fault:?}");
        assert_eq!(client.spend(&form).status, if spent { 400 } else { 200 }, "{fault:?}");
    }
}

#[test]
fn a_proxy_passes_refuses_hangs_and_cuts_while_it_runs() {
    let name = format!("/peers/{}", unique());
    moto().make_secret(&name);
    let proxy = Proxy::to(moto().address);
    let ask = || {
        let request = Request::get(format!("http://127.0.0.1:{}/moto-api/data.json", proxy.port()));
        try_fetch(request.body(Bytes::new()).unwrap())
    };
    assert!(ask().is_some_and(|answer| answer.status == 200));
    for trouble in [Trouble::Refuse, Trouble::CutAnswer(20), Trouble::CutRequest(5)] {
        proxy.set(trouble);
        assert!(ask().is_none(), "{trouble:?}");
        proxy.set(Trouble::None);
        assert!(ask().is_some(), "after {trouble:?}");
    }
    proxy.set(Trouble::Hang);
    let before = proxy.taken();
    std::thread::scope(|scope| {
        let hanging = scope.spawn(ask);
        crate::world::eventually("the proxy takes the connection", || (proxy.taken() > before).then_some(()));
        assert!(!hanging.is_finished());
        proxy.set(Trouble::None);
        assert!(hanging.join().unwrap().is_none(), "a connection that hung is cut in the end");
    });
    assert!(ask().is_some());
}

#[test]
fn a_proxy_loses_the_answer_to_what_it_is_told() {
    let name = format!("/peers/{}", unique());
    moto().make_secret(&name);
    let proxy = Proxy::to(moto().address);
    let through = moto().by_way_of(&proxy);
    proxy.set(Trouble::LoseAnswerTo("PutSecretValue"));
    assert!(through.exists(&name));
    let put = catch_unwind(AssertUnwindSafe(|| through.put(&name, "carried")));
    assert!(put.is_err(), "the answer came through");
    assert_eq!(moto().value(&name, "AWSCURRENT").as_deref(), Some("carried"));
}

#[test]
fn the_browser_keeps_cookies_as_browsers_do() {
    let server = Echo::start();
    let mut browser = Browser::new();
    let url = |path: &str| Url::parse(&format!("http://127.0.0.1:{}{path}", server.port)).unwrap();
    for cookie in [
        "lax=1; Path=/deep; SameSite=Lax; HttpOnly",
        "strict=1; Path=/; SameSite=Strict",
        "secure=1; Path=/; Secure",
        "__Host-promise=1; Path=/",
        "gone=1; Path=/; Max-Age=0",
    ] {
        server.set_cookie(cookie);
        let _page = browser.visit(&url("/"), None);
    }
    assert_eq!(browser.cookie_names(&url("/deep/er")), ["lax"], "sent along from another site");
    assert!(browser.cookie_names(&url("/deeper")).is_empty());
    let seen = browser.visit(&url("/deep"), None).answer.text();
    assert!(seen.contains("cookie: lax=1; strict=1"), "{seen}");
    assert!(seen.contains("sec-fetch-site: none"), "{seen}");
    let seen = browser.visit(&url("/deep"), Some("http://localhost:1")).answer.text();
    assert!(seen.contains("cookie: lax=1\r\n") && seen.contains("sec-fetch-site: cross-site"), "{seen}");
}

#[test]
fn a_planted_secret_is_found_in_whatever_form() {
    let home = tempfile::tempdir().unwrap();
    let secrets = [("refresh_token".to_owned(), "canary+refresh/token".to_owned())];
    assert_none(&secrets, "nothing to see", home.path());
    for said in
        ["x canary+refresh/token", "x canary%2Brefresh%2Ftoken y", "Basic Y2FuYXJ5K3JlZnJlc2gvdG9rZW4="]
    {
        let judged = catch_unwind(AssertUnwindSafe(|| assert_none(&secrets, said, home.path())));
        assert!(judged.is_err(), "not found: {said}");
    }
    std::fs::create_dir(home.path().join("spool")).unwrap();
    std::fs::write(home.path().join("spool/cell"), b"\0\0canary+refresh/token\0").unwrap();
    let judged = catch_unwind(AssertUnwindSafe(|| assert_none(&secrets, "", home.path())));
    assert!(judged.is_err(), "not found in a file");
}

fn unique() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn client() -> Client {
    oidc().register(&format!("peers-{}", unique()), &[REDIRECT.into()], 3600)
}

fn authorize(client: &Client) -> Url {
    let challenge =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest(&SHA256, VERIFIER.as_bytes()));
    let parameters = [
        ("client_id", client.id.as_str()),
        ("response_type", "code"),
        ("redirect_uri", REDIRECT),
        ("scope", "openid profile email"),
        ("state", "a-state-of-the-peers"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    Url::parse_with_params(&format!("{}/auth", client.server.issuer), parameters).unwrap()
}

/// Consents and exchanges the code; returns the first refresh token.
fn connected(client: &Client) -> String {
    let back = Browser::new().consent(&authorize(client));
    let code = parameter(&back, "code").unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    refresh_token(&client.spend(&form).json())
}

fn refreshed(client: &Client, token: &str) -> String {
    refresh_token(&client.spend(&[("grant_type", "refresh_token"), ("refresh_token", token)]).json())
}

fn refresh_token(answer: &Value) -> String {
    answer["refresh_token"].as_str().unwrap_or_else(|| panic!("no refresh token: {answer}")).to_owned()
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// A server that shows the head of each request, and sets the cookie it was last told.
struct Echo {
    port: u16,
    cookie: Arc<Mutex<String>>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cookie = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&cookie);
        let _server = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let cookie = shared.lock().unwrap().clone();
                echo(stream.unwrap(), &cookie);
            }
        });
        Self { port, cookie }
    }

    fn set_cookie(&self, cookie: &str) {
        *self.cookie.lock().unwrap() = cookie.into();
    }
}

fn echo(mut stream: TcpStream, cookie: &str) {
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).unwrap();
        head.extend_from_slice(&buffer[..count]);
    }
    let set = if cookie.is_empty() { String::new() } else { format!("set-cookie: {cookie}\r\n") };
    let length = head.len();
    let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n{set}\r\n");
    stream.write_all(answer.as_bytes()).unwrap();
    stream.write_all(&head).unwrap();
}

const REDIRECT: &str = "http://127.0.0.1:9/v1/integrations/oauth/callback/peers";
const VERIFIER: &str = "a-verifier-that-is-long-enough-for-rfc-7636-section-4";
