//! moto for values, ministack for permissions, one of each for all tests; and AWS as an administrator sees it, by signed HTTP.
//!
//! Values are asked for by stage or by version id: moto's unqualified answer may be stale.

use super::http::{Answer, fetch};
use super::process::Process;
use super::proxy::Proxy;
use super::setup::peers_home;
use ::http::Request;
use aws_sdk_secretsmanager::config::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// A stand-in for AWS, asked with an administrator's keys.
pub struct Aws {
    pub address: SocketAddr,
    keys: Keys,
    _process: Option<Process>,
}

/// An access key, as an SDK finds it in its environment.
#[derive(Clone, Debug)]
pub struct Keys {
    pub id: String,
    pub secret: String,
}

/// Values, stages, idempotency; permissions are not checked.
pub fn moto() -> &'static Aws {
    static MOTO: OnceLock<Aws> = OnceLock::new();
    MOTO.get_or_init(|| Aws::start("moto.server", &["-H", "127.0.0.1", "-p", "0"], &[]))
}

/// IAM with resources and conditions.
pub fn ministack() -> &'static Aws {
    static MINISTACK: OnceLock<Aws> = OnceLock::new();
    let settings = [
        ("AUTH", "true"),
        ("BIND_HOST", "127.0.0.1"),
        ("GATEWAY_PORT", "0"),
        ("SERVICES", "secretsmanager,iam,sts,kms"),
        // Both would listen on every interface.
        ("IOT_MTLS_ENABLED", "0"),
        ("SFTP_ENABLED", "0"),
    ];
    MINISTACK.get_or_init(|| Aws::start("ministack", &[], &settings))
}

impl Aws {
    pub const REGION: &str = "eu-west-1";
    /// ministack's account.
    pub const ACCOUNT: &str = "000000000000";

    fn start(module: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut python = Command::new(peers_home().join("python/bin/python"));
        python.args(["-m", module]).args(arguments).envs(settings.iter().copied());
        let mut process = Process::peer(&python);
        let address = process.await_line(&format!("{module} is ready"), 0, |line| {
            let (_, rest) = line.split_once("Running on http://")?;
            rest.split(' ').next()?.parse().ok()
        });
        let keys = Keys { id: "test".into(), secret: "test".into() };
        Self { address, keys, _process: Some(process) }
    }

    /// The same AWS, as somebody else sees it.
    pub fn with_keys(&self, keys: Keys) -> Self {
        Self { address: self.address, keys, _process: None }
    }

    /// The same AWS, behind a proxy.
    pub fn by_way_of(&self, proxy: &Proxy) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], proxy.port()));
        Self { address, keys: self.keys.clone(), _process: None }
    }

    /// A secret without a value, as an operator makes it beforehand.
    #[track_caller]
    pub fn make_secret(&self, name: &str) {
        self.try_make(name).unwrap();
    }

    pub fn try_make(&self, name: &str) -> Result<Value, String> {
        self.secrets("CreateSecret", &json!({ "Name": name, "ClientRequestToken": token() }))
    }

    /// Writes a value as somebody else would.
    #[track_caller]
    pub fn put(&self, name: &str, value: &str) {
        self.try_put(name, value).unwrap();
    }

    pub fn try_put(&self, name: &str, value: &str) -> Result<Value, String> {
        let body = json!({ "SecretId": name, "SecretString": value, "ClientRequestToken": token() });
        self.secrets("PutSecretValue", &body)
    }

    pub fn try_delete(&self, name: &str) -> Result<Value, String> {
        self.secrets("DeleteSecret", &json!({ "SecretId": name, "RecoveryWindowInDays": 7 }))
    }

    /// Deletes a secret for good.
    #[track_caller]
    pub fn delete(&self, name: &str) {
        let asked = json!({ "SecretId": name, "ForceDeleteWithoutRecovery": true });
        self.secrets("DeleteSecret", &asked).unwrap();
    }

    pub fn exists(&self, name: &str) -> bool {
        self.secrets("DescribeSecret", &json!({ "SecretId": name })).is_ok()
    }

    /// The value under a stage; `None` if there is none.
    pub fn value(&self, name: &str, stage: &str) -> Option<String> {
        let asked = json!({ "SecretId": name, "VersionStage": stage });
        let got = self.secrets("GetSecretValue", &asked).ok()?;
        got["SecretString"].as_str().map(Into::into)
    }

    /// The record under `AWSCURRENT`.
    pub fn record(&self, name: &str) -> Option<Value> {
        serde_json::from_str(&self.value(name, "AWSCURRENT")?).ok()
    }

    /// Which version is under which stage.
    pub fn stages(&self, name: &str) -> BTreeMap<String, String> {
        let described = self.secrets("DescribeSecret", &json!({ "SecretId": name })).unwrap();
        let versions = described["VersionIdsToStages"].as_object().cloned().unwrap_or_default();
        let pairs = versions.into_iter().flat_map(|(version, stages)| {
            let stages: Vec<String> = serde_json::from_value(stages).unwrap();
            stages.into_iter().map(move |stage| (stage, version.clone()))
        });
        pairs.collect()
    }

    /// How many versions there are, under a stage or not.
    pub fn versions(&self, name: &str) -> usize {
        let asked = json!({ "SecretId": name, "IncludeDeprecated": true });
        let listed = self.secrets("ListSecretVersionIds", &asked).unwrap();
        listed["Versions"].as_array().unwrap().len()
    }

    /// A user with one inline policy, and a key of that user's.
    pub fn make_user(&self, user: &str, policy: &Value) -> Keys {
        self.iam("CreateUser", &[("UserName", user)]);
        self.set_policy(user, policy);
        let made = self.iam("CreateAccessKey", &[("UserName", user)]);
        Keys { id: element(&made, "AccessKeyId"), secret: element(&made, "SecretAccessKey") }
    }

    /// Puts another inline policy in the place of a user's.
    pub fn set_policy(&self, user: &str, policy: &Value) {
        let policy = policy.to_string();
        self.iam(
            "PutUserPolicy",
            &[("UserName", user), ("PolicyName", "grantd"), ("PolicyDocument", &policy)],
        );
    }

    /// A role with one inline policy that anybody of the account may assume who knows the external id.
    pub fn make_role(&self, role: &str, external_id: &str, policy: &Value) -> String {
        let trust = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": { "AWS": format!("arn:aws:iam::{}:root", Self::ACCOUNT) }, "Action": "sts:AssumeRole",
            "Condition": { "StringEquals": { "sts:ExternalId": external_id } },
        }] });
        let (trust, policy) = (trust.to_string(), policy.to_string());
        let made = self.iam("CreateRole", &[("RoleName", role), ("AssumeRolePolicyDocument", &trust)]);
        self.iam(
            "PutRolePolicy",
            &[("RoleName", role), ("PolicyName", "grantd"), ("PolicyDocument", &policy)],
        );
        element(&made, "Arn")
    }

    /// The ARN of a secret, or of all whose names match, without the six characters at its end.
    pub fn arn(name: &str) -> String {
        format!("arn:aws:secretsmanager:{}:{}:secret:{name}", Self::REGION, Self::ACCOUNT)
    }

    /// One call of Secrets Manager's API.
    pub fn secrets(&self, action: &str, body: &Value) -> Result<Value, String> {
        let headers = [
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("x-amz-target", format!("secretsmanager.{action}")),
        ];
        let answer = self.signed("secretsmanager", &headers, body.to_string());
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.text()) }
    }

    fn iam(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", action)
            .append_pair("Version", "2010-05-08")
            .extend_pairs(parameters)
            .finish();
        let headers = [("content-type", "application/x-www-form-urlencoded".to_owned())];
        let answer = self.signed("iam", &headers, body);
        assert_eq!(answer.status, 200, "{action}: {}", answer.text());
        answer.text()
    }

    fn signed(&self, service: &str, headers: &[(&str, String)], body: String) -> Answer {
        let uri = format!("http://{}/", self.address);
        let identity = Credentials::new(&self.keys.id, &self.keys.secret, None, None, "tests").into();
        #[expect(clippy::disallowed_methods, reason = "a signature carries the real time")]
        let time = SystemTime::now();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(Self::REGION)
            .name(service)
            .time(time)
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let pairs = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let signable =
            SignableRequest::new("POST", &uri, pairs, SignableBody::Bytes(body.as_bytes())).unwrap();
        let (instructions, _signature) = sign(signable, &parameters).unwrap().into_parts();
        let mut request = Request::post(&uri);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let mut request = request.body(Bytes::from(body)).unwrap();
        instructions.apply_to_request_http1x(&mut request);
        fetch(request)
    }
}

fn token() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn element(xml: &str, name: &str) -> String {
    let (_, rest) = xml.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name}: {xml}"));
    rest.split('<').next().unwrap().into()
}
