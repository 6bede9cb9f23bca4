//! Grants that begin without a link: imported refresh tokens and keys, client credentials, signed assertions.

use crate::world::{Browser, Config, Daemon, Ran, World, binding, eventually, own_uid, token_path};
use ::http::Method;
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicEncryptingKey};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, post};
use axum::{Form, Json, Router};
use base64::Engine as _;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// Imports by the documented command: the token comes on standard input.
fn import(world: &World, integration: &str, token: &str) -> Ran {
    if !token.is_empty() {
        world.note("imported", token);
    }
    let socket = world.home.path().join("control.sock");
    let mut child = Command::new(env!("CARGO_BIN_EXE_grantd"))
        .args(["import", integration, "--socket"])
        .arg(socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{token}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    world.said.add(stdout.as_bytes());
    world.said.add(stderr.as_bytes());
    Ran { code: output.status.code().unwrap_or(-1), stdout, stderr }
}

fn status_of(daemon: &Daemon<'_>, integration: &str) -> Value {
    daemon.operate(Method::GET, &format!("/v1/integrations/{integration}/status"), None).json()
}

fn connected(daemon: &Daemon<'_>) -> Value {
    eventually("the grant connects by itself", || {
        Some(daemon.status()).filter(|status| status["status"] == "connected")
    })
}

#[test]
fn an_imported_refresh_token_is_spent_once_stored_and_lives_on() {
    let world = World::new("import");
    let mut config = world.config();
    config.integrations.push_str(&world.integration("acme-moved", World::PROVIDER));
    config.bindings.push_str(&binding("acme-moved", own_uid()));
    world.aws.make_secret(&world.secret_of("acme-moved"));
    let mut daemon = world.start(&config);
    let _page = daemon.connect();
    let old = world.aws.record(&world.secret()).unwrap()["refresh_token"].as_str().unwrap().to_owned();
    let ran = import(&world, "acme-moved", &old);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("acme-bot"), "{}", ran.stdout);
    let stored = world.aws.record(&world.secret_of("acme-moved")).unwrap();
    assert_eq!((&stored["generation"], &stored["account"]["username"]), (&json!(1), &json!("acme-bot")));
    assert_ne!(stored["refresh_token"], old);
    world.client.assert_no_reuse();
    assert_eq!(daemon.app().get(&token_path("acme-moved")).status, 200);
    daemon.kill9();
    daemon.restart();
    eventually("the record is read", || {
        (status_of(&daemon, "acme-moved")["status"] == "connected").then_some(())
    });
    let refresh = daemon.operate(Method::POST, "/v1/integrations/acme-moved/refresh", None);
    assert_eq!(refresh.status, 200, "{}", refresh.text());
    world.client.assert_no_reuse();
}

#[test]
fn a_refresh_token_that_the_provider_does_not_take_leaves_the_grant_before_it() {
    let world = World::new("import-refused");
    let daemon = world.start(&world.config());
    let _page = daemon.connect();
    let before = world.aws.record(&world.secret()).unwrap();
    let ran = import(&world, World::INTEGRATION, "a-token-of-nobody");
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("does not take that refresh token"), "{}", ran.stderr);
    assert_eq!(world.aws.record(&world.secret()).unwrap(), before);
    assert_eq!(daemon.status()["status"], "connected");
    assert_eq!(daemon.refresh().status, 200);
    let nothing = import(&world, World::INTEGRATION, "");
    assert_eq!(nothing.code, 64, "{}", nothing.stderr);
}

/// Begins a device flow by the documented command: the page and the code, a line each.
fn device_code(daemon: &Daemon<'_>) -> (String, String) {
    let ran = daemon.cli(&["connect", World::INTEGRATION, "--device"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let mut lines = ran.stdout.lines().map(str::to_owned);
    let (page, code) = (lines.next().unwrap(), lines.next().unwrap());
    assert_eq!(lines.next(), None, "nothing else stands on standard output");
    (page, code)
}

#[test]
fn a_device_code_that_a_person_enters_elsewhere_connects_and_is_refreshed() {
    let world = World::new("device");
    let mut daemon = world.start(&world.config());
    let (page, code) = device_code(&daemon);
    let status = daemon.status();
    assert_eq!(status["status"], "pending");
    assert!(status["message"].as_str().unwrap().contains("device code"), "{status}");
    let done = Browser::new().enter_code(&page, &code);
    assert_eq!(done.status(), 200, "{}", done.text());
    let status = eventually("the record is stored", || {
        Some(connected(&daemon)).filter(|status| status["stored"] == true)
    });
    assert_eq!(status["account"]["username"], "acme-bot");
    assert_eq!(world.aws.record(&world.secret()).unwrap()["generation"], 1);
    assert_eq!(daemon.token().status, 200);
    assert_eq!(daemon.refresh().status, 200);
    world.client.assert_no_reuse();
    let ran = daemon.cli(&["revoke", World::INTEGRATION]);
    assert_eq!((ran.code, daemon.token().status), (0, 403), "{}", ran.stderr);
    // A restart ends what waits, and says nothing else.
    let _code = device_code(&daemon);
    daemon.kill9();
    daemon.restart();
    assert_eq!(daemon.status()["status"], "revoked");
}

/// A configuration whose provider has these keys.
fn config_of(world: &World, provider: &str, integration: &str) -> Config {
    let plain = world.config();
    Config {
        providers: format!("[[provider]]\nid = \"{}\"\nname = \"Acme ID\"\n{provider}\n", World::PROVIDER),
        integrations: format!(
            "[[integration]]\nid = \"{}\"\norganization = \"acme\"\nprovider = \"{}\"\n{integration}\n",
            World::INTEGRATION,
            World::PROVIDER
        ),
        ..plain
    }
}

#[test]
fn client_credentials_connect_by_themselves_and_stay_revoked_until_they_are_connected() {
    let world = World::new("machine");
    let keys = format!(
        "grant = \"client_credentials\"\nclient_id = \"{}\"\nclient_secret = {{ file = \"{}\" }}\nissuer = \"{}\"\n",
        world.client.id,
        world.home.path().join("client-secret").display(),
        world.client.server.issuer
    );
    let mut daemon = world.start(&config_of(&world, &keys, "scopes = [\"read\"]\n"));
    let status = connected(&daemon);
    assert_eq!((&status["stored"], &status["connected"]), (&json!(false), &json!(true)));
    let first = daemon.token().json();
    assert_eq!(first["scope"], "read");
    assert_eq!(daemon.refresh().status, 200);
    assert_ne!(daemon.token().json()["access_token"], first["access_token"]);
    assert_eq!(world.aws.value(&world.secret(), "AWSCURRENT"), None, "nothing is written");

    let start = json!({ "integration": World::INTEGRATION });
    let link = daemon.operate(Method::POST, "/v1/integrations/oauth/start", Some(&start));
    assert_eq!((link.status, link.code().as_str()), (400, "invalid_request"));
    let ran = daemon.cli(&["revoke", World::INTEGRATION]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!((daemon.token().status, daemon.token().code().as_str()), (403, "integration_revoked"));
    daemon.kill9();
    daemon.restart();
    assert_eq!((daemon.token().status, &daemon.status()["status"]), (403, &json!("revoked")));
    let ran = daemon.cli(&["connect", World::INTEGRATION]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(daemon.token().status, 200);
}

/// What a stand-in saw.
#[derive(Default)]
struct Seen {
    public: String,
    audience: String,
    asked: Vec<Value>,
    paths: Vec<String>,
}

type Book = Arc<Mutex<Seen>>;

fn serve(app: Router) -> SocketAddr {
    crate::world::serve(app)
}

/// A key pair as PEM: private, public.
fn key_pair() -> (String, String) {
    let pem = |kind: &str, der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
    };
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let key = aws_lc_rs::rsa::PrivateDecryptingKey::from_pkcs8(private.as_ref()).unwrap();
    let public: PublicEncryptingKey = key.public_key();
    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = public.as_der().unwrap();
    (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", public.as_ref()))
}

/// Judges an assertion as a vendor does: its signature, its audience where it has one, its time.
fn judged(book: &Book, jwt: &str) -> Option<Value> {
    let seen = book.lock().unwrap();
    let key = DecodingKey::from_rsa_pem(seen.public.as_bytes()).unwrap();
    let mut rules = Validation::new(Algorithm::RS256);
    if seen.audience.is_empty() {
        rules.validate_aud = false;
    } else {
        rules.set_audience(&[&seen.audience]);
    }
    decode::<Value>(jwt, &key, &rules).ok().map(|token| token.claims)
}

async fn google(State(book): State<Book>, Form(form): Form<BTreeMap<String, String>>) -> Response {
    let grant = form.get("grant_type").map(String::as_str);
    let claims = form.get("assertion").and_then(|jwt| judged(&book, jwt));
    match (grant, claims) {
        (Some("urn:ietf:params:oauth:grant-type:jwt-bearer"), Some(claims)) => {
            let token = format!("google-access-{}", uuid::Uuid::new_v4().simple());
            let answer = json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" });
            book.lock().unwrap().asked.push(json!({ "claims": claims, "token": token, "form": form.len() }));
            Json(answer).into_response()
        }
        _ => (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response(),
    }
}

#[test]
fn a_google_service_account_signs_with_its_key_file() {
    let world = World::new("google-sa");
    let (private, public) = key_pair();
    let book = Book::default();
    let address = serve(Router::new().route("/token", post(google)).with_state(Arc::clone(&book)));
    let endpoint = format!("http://{address}/token");
    *book.lock().unwrap() = Seen { public, audience: endpoint.clone(), ..Seen::default() };
    let file = json!({ "type": "service_account", "client_email": "bot@p.iam.example", "private_key": private,
        "private_key_id": "k1", "token_uri": endpoint });
    let path = world.write_secret("key.json", &file.to_string());
    let keys = format!(
        "grant = \"jwt_bearer\"\ntoken_url = \"{endpoint}\"\nprivate_key = {{ file = \"{}\" }}\nrevoke = \"unsupported\"\n",
        path.display()
    );
    let integration = "scopes = [\"https://p.example/auth/a\", \"https://p.example/auth/b\"]\nsubject = \"ann@acme.example\"\n";
    let daemon = world.start(&config_of(&world, &keys, integration));
    let _status = connected(&daemon);
    let token = daemon.token().json();
    let asked = book.lock().unwrap().asked.last().unwrap().clone();
    world.note("access_token", asked["token"].as_str().unwrap());
    assert_eq!((&token["access_token"], &asked["form"]), (&asked["token"], &json!(2)));
    let claims = &asked["claims"];
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!("bot@p.iam.example"), &json!("ann@acme.example")));
    assert_eq!(claims["scope"], "https://p.example/auth/a https://p.example/auth/b");
    let ran = daemon.cli(&["revoke", World::INTEGRATION, "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap()["upstream"], "unsupported");
    // Another key than the one that Google knows: nothing is destroyed, and the operator is told.
    book.lock().unwrap().public = key_pair().1;
    let ran = daemon.cli(&["connect", World::INTEGRATION]);
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert!(ran.stderr.contains("invalid_grant"), "{}", ran.stderr);
}

async fn github(
    State(book): State<Book>,
    Path(rest): Path<String>,
    method: Method,
    head: HeaderMap,
) -> Response {
    let bearer = head["authorization"].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
    book.lock().unwrap().paths.push(format!("{method} /{rest}"));
    if method == Method::DELETE {
        let known = book.lock().unwrap().asked.iter().any(|asked| asked["token"] == bearer.as_str());
        return if known { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED }.into_response();
    }
    let Some(claims) = judged(&book, &bearer) else { return StatusCode::UNAUTHORIZED.into_response() };
    let token = format!("ghs_{}", uuid::Uuid::new_v4().simple());
    book.lock().unwrap().asked.push(json!({ "claims": claims, "token": token }));
    let answer = json!({ "token": token, "expires_at": "2030-01-01T00:00:00Z", "permissions": {} });
    (StatusCode::CREATED, Json(answer)).into_response()
}

#[test]
fn a_github_app_mints_tokens_of_one_installation() {
    let world = World::new("github-app");
    let (private, public) = key_pair();
    let book = Book::default();
    book.lock().unwrap().public = public;
    let address = serve(Router::new().route("/{*rest}", any(github)).with_state(Arc::clone(&book)));
    let path = world.write_secret("app.pem", &private);
    let keys = format!(
        "grant = \"jwt_bearer\"\nassertion = \"bearer\"\nclient_id = \"12345\"\nprivate_key = {{ file = \"{}\" }}\n\
         token_url = \"http://{address}/app/installations/{{installation_id}}/access_tokens\"\n\
         revoke = \"delete-bearer\"\nrevoke_url = \"http://{address}/installation/token\"\n",
        path.display()
    );
    let daemon = world.start(&config_of(&world, &keys, "installation_id = \"42\"\n"));
    let _status = connected(&daemon);
    let token = daemon.token().json();
    let asked = book.lock().unwrap().asked.last().unwrap().clone();
    world.note("access_token", asked["token"].as_str().unwrap());
    assert_eq!((&token["access_token"], &token["token_type"]), (&asked["token"], &json!("Bearer")));
    let ends = token["expires_at"].as_str().unwrap();
    assert!(ends.starts_with("2029-12-31T23:59:59") || ends.starts_with("2030-01-01T00:00:0"), "{ends}");
    assert_eq!(asked["claims"]["iss"], "12345");
    let ran = daemon.cli(&["revoke", World::INTEGRATION, "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&ran.stdout).unwrap()["upstream"],
        "confirmed",
        "{}",
        ran.stderr
    );
    let paths = book.lock().unwrap().paths.clone();
    assert_eq!(paths, ["POST /app/installations/42/access_tokens", "DELETE /installation/token"]);
}

/// A broker: initiate, look, fetch, delete. It answers with a refresh token too, which must be found nowhere.
async fn composio(
    State(book): State<Book>,
    Path(rest): Path<String>,
    method: Method,
    head: HeaderMap,
) -> Response {
    let mut seen = book.lock().unwrap();
    seen.paths.push(format!("{method} /{rest}"));
    if head.get("x-api-key").is_none_or(|key| key != "canary-broker-api-key") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match (method, rest.as_str(), seen.public.as_str()) {
        (Method::POST, "accounts/link", _) => {
            let link = json!({ "connected_account_id": "ca_1", "redirect_url": "https://broker.example/link/1", "link_token": "l" });
            (StatusCode::CREATED, Json(link)).into_response()
        }
        (Method::GET, "accounts/ca_1", "active") => {
            let token = format!("broker-access-{}", seen.asked.len());
            seen.asked.push(json!(token));
            Json(json!({ "id": "ca_1", "status": "ACTIVE", "state": { "authScheme": "OAUTH2", "val": {
                "access_token": token, "refresh_token": "canary-broker-refresh-token", "token_type": "bearer", "expires_in": 3600 } } }))
            .into_response()
        }
        (Method::GET, "accounts/ca_1", "gone") => StatusCode::NOT_FOUND.into_response(),
        (Method::GET, "accounts/ca_1", _) => {
            Json(json!({ "id": "ca_1", "status": "INITIATED" })).into_response()
        }
        (Method::DELETE, "accounts/ca_1", _) => Json(json!({ "success": true })).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

#[test]
fn a_connected_account_is_begun_fetched_and_deleted_at_its_broker() {
    let world = World::new("broker");
    let book = Book::default();
    let address = serve(Router::new().route("/{*rest}", any(composio)).with_state(Arc::clone(&book)));
    let path = world.write_secret("api-key", "canary-broker-api-key");
    for canary in ["canary-broker-api-key", "canary-broker-refresh-token"] {
        world.note("broker", canary);
    }
    let keys = format!(
        "grant = \"brokered\"\nclient_id = \"ac_1\"\nclient_secret = {{ file = \"{}\" }}\ntoken_url = \"http://{address}/accounts\"\n",
        path.display()
    );
    let mut daemon = world.start(&config_of(&world, &keys, &format!("secret = \"{}\"\n", world.secret())));
    let ran = daemon.cli(&["connect", World::INTEGRATION]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "https://broker.example/link/1\n"), "{}", ran.stderr);
    eventually("the broker is asked", || {
        book.lock().unwrap().paths.iter().any(|path| path == "GET /accounts/ca_1").then_some(())
    });
    assert_eq!(daemon.status()["status"], "pending");
    "active".clone_into(&mut book.lock().unwrap().public);
    let _status = connected(&daemon);
    assert_eq!(daemon.token().json()["access_token"], "broker-access-0");
    let record = eventually("the record is stored", || world.aws.record(&world.secret()));
    assert_eq!((&record["connected_account"], &record["refresh_token"]), (&json!("ca_1"), &Value::Null));
    daemon.kill9();
    daemon.restart();
    let _status = connected(&daemon);
    assert_eq!(daemon.refresh().status, 200);
    assert_eq!(daemon.token().json()["access_token"], "broker-access-1");
    assert_eq!(world.aws.record(&world.secret()), Some(record), "a fetch is no write");
    "gone".clone_into(&mut book.lock().unwrap().public);
    assert_ne!(daemon.refresh().status, 200);
    assert_eq!(daemon.status()["status"], "needs_reauth");
    let ran = daemon.cli(&["revoke", World::INTEGRATION, "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&ran.stdout).unwrap()["upstream"],
        "confirmed",
        "{}",
        ran.stderr
    );
    assert_eq!(book.lock().unwrap().paths.last().map(String::as_str), Some("DELETE /accounts/ca_1"));
    assert_eq!(daemon.token().status, 403);
}

async fn telegram(State(book): State<Book>, Path(rest): Path<String>, head: HeaderMap) -> Response {
    let mut seen = book.lock().unwrap();
    assert!(!head.contains_key("authorization"), "the token goes in the path alone");
    let method = rest.rsplit('/').next().unwrap().to_owned();
    seen.paths.push(method);
    if !rest.starts_with(&format!("bot{BOT}/")) {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "ok": false, "error_code": 401 }))).into_response();
    }
    Json(json!({ "ok": true, "result": { "id": 7, "is_bot": true, "username": "acme_bot" } })).into_response()
}

const BOT: &str = "7:AAcanary-telegram_key";

#[test]
fn a_telegram_key_is_imported_tried_stored_and_clears_its_webhook_when_revoked() {
    let world = World::new("telegram");
    let book = Book::default();
    let address = serve(Router::new().route("/{*rest}", any(telegram)).with_state(Arc::clone(&book)));
    let keys = format!(
        "grant = \"static\"\nrevoke = \"token-in-path\"\nrevoke_url = \"http://{address}/bot{{token}}/deleteWebhook\"\n\
         account = {{ url = \"http://{address}/bot{{token}}/getMe\", success_at = \"/ok\", id = \"/result/id\", username = \"/result/username\" }}\n",
    );
    let integration =
        format!("secret = \"{}\"\nexpect_account = {{ username = \"acme_bot\" }}\n", world.secret());
    let mut daemon = world.start(&config_of(&world, &keys, &integration));
    let never = eventually("the store is read", || Some(daemon.token()).filter(|read| read.status == 409));
    assert_eq!(never.code(), "integration_pending");
    let wrong = import(&world, World::INTEGRATION, "7:AAnobodys-telegram_key");
    assert_eq!(wrong.code, 1, "{}", wrong.stdout);
    assert!(wrong.stderr.contains("token_validation_failed"), "{}", wrong.stderr);
    assert_eq!(daemon.status()["status"], "pending");
    let ran = import(&world, World::INTEGRATION, BOT);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let token = daemon.token().json();
    assert_eq!((&token["access_token"], &token["expires_at"]), (&json!(BOT), &Value::Null));
    let record = world.aws.record(&world.secret()).unwrap();
    assert_eq!((&record["access_token"], &record["refresh_token"]), (&json!(BOT), &Value::Null));
    assert_eq!(daemon.refresh().status, 400, "there is nothing to refresh");
    daemon.kill9();
    daemon.restart();
    eventually("the key is served again", || (daemon.token().status == 200).then_some(()));
    let ran = daemon.cli(&["revoke", World::INTEGRATION, "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&ran.stdout).unwrap()["upstream"],
        "confirmed",
        "{}",
        ran.stderr
    );
    assert_eq!(book.lock().unwrap().paths.last().map(String::as_str), Some("deleteWebhook"));
    assert_eq!(daemon.token().status, 403);
    assert_eq!(status_of(&daemon, World::INTEGRATION)["status"], "revoked");
}
