//! A private repository on a smart-HTTP server: `git http-backend` behind a password that changes.

use super::process::run;
use super::waiting::{block_on, runtime};
use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// A running server with one bare repository, `private.git`, that holds one commit with one file, `README`.
pub struct Repository {
    home: TempDir,
    port: u16,
    gate: Arc<Gate>,
}

struct Gate {
    root: PathBuf,
    password: String,
    /// The user names that came with the right password.
    users: Mutex<Vec<String>>,
}

impl Repository {
    pub fn start(password: String) -> Self {
        let home = tempfile::Builder::new().prefix("grantd-it-git-").tempdir().unwrap();
        let (work, bare) = (home.path().join("work"), home.path().join("srv/private.git"));
        std::fs::create_dir_all(&work).unwrap();
        std::fs::write(work.join("README"), "private\n").unwrap();
        git(&work, &["init", "--quiet"]);
        git(&work, &["add", "README"]);
        git(
            &work,
            &["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "-m", "one"],
        );
        git(&work, &["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
        let gate = Arc::new(Gate { root: home.path().join("srv"), password, users: Mutex::default() });
        let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = Router::new().fallback(serve).with_state(Arc::clone(&gate));
        let _task = runtime().spawn(async move { axum::serve(listener, app).await });
        Self { home, port, gate }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/private.git", self.port)
    }

    /// A folder that does not exist yet.
    pub fn fresh_folder(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn users(&self) -> Vec<String> {
        self.gate.users.lock().unwrap().clone()
    }
}

fn git(folder: &Path, arguments: &[&str]) {
    let done = run(Command::new("git").current_dir(folder).args(arguments));
    assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

async fn serve(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let Some(user) = user(request.headers(), &gate.password) else {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")])
            .into_response();
    };
    gate.users.lock().unwrap().push(user);
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let text = |name: &str| head.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let mut backend = Command::new("git");
    backend
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &gate.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROTOCOL", text("git-protocol"))
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or(""))
        .env("CONTENT_TYPE", text("content-type"))
        .env("HTTP_CONTENT_ENCODING", text("content-encoding"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    tokio::task::spawn_blocking(move || answer(backend, &body)).await.unwrap()
}

/// The user name that came with the right password.
fn user(headers: &HeaderMap, password: &str) -> Option<String> {
    let basic = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
    let (user, given) = pair.split_once(':')?;
    (given == password).then(|| user.to_owned())
}

/// Runs the CGI program: header lines, an empty one, the body (RFC 3875).
fn answer(mut backend: Command, body: &Bytes) -> Response {
    let mut child = backend.spawn().unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    let said = child.wait_with_output().unwrap().stdout;
    let end = said.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let mut response = Response::new(said[end + 4..].to_vec().into());
    for line in String::from_utf8_lossy(&said[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        if name == "Status" {
            *response.status_mut() = value[..3].parse().unwrap();
        } else {
            let name: HeaderName = name.parse().unwrap();
            let _before = response.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
    }
    response
}
