//! A small strict fake of Secrets Manager and STS, for faults that both emulators let pass: it holds one secret, keeps the rules
//! of `PutSecretValue`'s tokens, and answers with the error types that AWS documents.

use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The fake, listening on loopback until the tests end.
pub struct Vault {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Version ids with their values; the last one is current.
    versions: Vec<(String, String)>,
    /// By action: the error type and message that it is answered with.
    faults: Vec<(&'static str, &'static str, &'static str)>,
    calls: Vec<String>,
}

impl Vault {
    /// The key that the secret is under.
    pub const KEY: &str = "arn:aws:kms:eu-west-1:111111111111:key/0d15ab1e-0000-4000-8000-000000000000";

    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let _server = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                let _connection = std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { port, state }
    }

    /// From now on an action is answered with an error.
    pub fn fail(&self, action: &'static str, kind: &'static str, message: &'static str) {
        self.state.lock().unwrap().faults.push((action, kind, message));
    }

    /// From now on no action is answered with an error.
    pub fn heal(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// Somebody else's value.
    pub fn plant(&self, value: &str) {
        let version = uuid::Uuid::new_v4().to_string();
        self.state.lock().unwrap().versions.push((version, value.into()));
    }

    /// How many versions there are.
    pub fn versions(&self) -> usize {
        self.state.lock().unwrap().versions.len()
    }

    /// How often an action was asked for.
    pub fn calls(&self, action: &str) -> usize {
        self.state.lock().unwrap().calls.iter().filter(|call| *call == action).count()
    }
}

impl State {
    fn answer(&mut self, action: &str, body: &Value) -> Result<Value, (String, String)> {
        self.calls.push(action.into());
        if let Some((_, kind, message)) = self.faults.iter().find(|(failing, ..)| *failing == action) {
            return Err(((*kind).into(), (*message).into()));
        }
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let name = text("SecretId");
        let arn = format!("arn:aws:secretsmanager:eu-west-1:111111111111:secret:{name}-AbCdEf");
        match action {
            "DescribeSecret" => {
                let stages =
                    self.versions.last().map(|(version, _)| (version.clone(), json!(["AWSCURRENT"])));
                let stages: serde_json::Map<_, _> = stages.into_iter().collect();
                Ok(json!({ "ARN": arn, "Name": name, "KmsKeyId": Vault::KEY, "VersionIdsToStages": stages }))
            }
            "GetSecretValue" => {
                let wanted = text("VersionId");
                let found = self.versions.iter().find(|(version, _)| *version == wanted);
                let (version, value) = found.ok_or(missing())?;
                Ok(json!({ "ARN": arn, "Name": name, "VersionId": version, "SecretString": value }))
            }
            "PutSecretValue" => {
                let (token, value) = (text("ClientRequestToken"), text("SecretString"));
                assert!(token.len() >= 32, "a token has 32 characters at least");
                match self.versions.iter().find(|(version, _)| *version == token) {
                    Some((_, old)) if *old != value => {
                        return Err(("ResourceExistsException".into(), "another value".into()));
                    }
                    Some(_) => {}
                    None => self.versions.push((token.clone(), value)),
                }
                Ok(json!({ "ARN": arn, "Name": name, "VersionId": token, "VersionStages": ["AWSCURRENT"] }))
            }
            other => panic!("grantd asked for {other}"),
        }
    }
}

fn missing() -> (String, String) {
    ("ResourceNotFoundException".into(), "Secrets Manager can't find the specified secret value".into())
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let Some((head, body)) = read(&mut stream) else { return };
    let target = head
        .lines()
        .find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("x-amz-target")));
    let (status, kind, answer) = match target {
        None => (200, "text/xml", IDENTITY.to_owned()),
        Some((_, target)) => {
            let action = target.trim().rsplit('.').next().unwrap();
            match state.lock().unwrap().answer(action, &serde_json::from_slice(&body).unwrap()) {
                Ok(answer) => (200, JSON, answer.to_string()),
                Err((kind, message)) => {
                    (400, JSON, json!({ "__type": kind, "message": message }).to_string())
                }
            }
        }
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    let _gone = stream.write_all((head + &answer).as_bytes());
}

/// The head of a request, and its body.
fn read(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        if bytes.len() >= end + 4 + length.unwrap_or(0) {
            return Some((head, bytes.split_off(end + 4)));
        }
    }
}

const JSON: &str = "application/x-amz-json-1.1";
const IDENTITY: &str = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
    <Arn>arn:aws:sts::111111111111:assumed-role/grantd-host/i-0123</Arn><UserId>AROA:i-0123</UserId><Account>111111111111</Account>\
    </GetCallerIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>";
