//! Looks at a secret before anything depends on it: may it be described, read, written, decrypted? Makes no version and no secret.
//!
//! A write is proved by repeating the one that made the current version: the same `ClientRequestToken` with the same bytes is a
//! no-op (AWS: "PutSecretValue"). Where grantd has written nothing yet, nothing is written, and the answer says so.

use super::aws::{CURRENT, Mode, SecretsManager, foundation, labelled, version_id};
use crate::lifecycle::{Identity, NotARecord, Record};
use crate::secret::SecretBytes;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

/// What a look at one secret came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Its ARN, if it could be described.
    pub arn: Option<String>,
    /// The KMS key that it names, if it names one.
    pub key: Option<String>,
    /// What is proved, or what is in the way.
    pub end: Result<Proof, Snag>,
}

/// How much is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It was described, read and written.
    Written,
    /// It was described and read; grantd has not written it yet.
    Read,
    /// It is there and empty.
    Described,
    /// It is not there, or may not be seen; the first write makes it.
    ToBeMade,
}

/// What is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snag {
    /// There are no credentials, AWS does not know them, or the role is not given.
    Credentials,
    /// No region is configured or found.
    Region,
    /// AWS finds the time of a request wrong.
    Clock,
    /// An action is not allowed.
    Denied {
        /// The action, such as `secretsmanager:GetSecretValue`.
        action: &'static str,
        /// Whether AWS showed that the secret is there.
        exists: bool,
    },
    /// There is no such secret.
    Missing,
    /// The secret has no such member, or no text.
    NoMember,
    /// It holds a record of another integration, or one that cannot be read.
    NotOurs(String),
    /// It is marked for deletion.
    Deleted,
    /// The key may not be used.
    KeyDenied,
    /// The key is disabled, pending deletion, or gone.
    KeyUnusable,
    /// No answer.
    Unreachable,
    /// Too many requests.
    Throttled,
    /// Anything else, by AWS's own code.
    Other(String),
}

/// Who AWS says that grantd is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account.
    pub account: String,
    /// The ARN of the user or of the role's session.
    pub arn: String,
}

impl SecretsManager {
    /// Asks AWS who grantd is, before any role is assumed.
    ///
    /// # Errors
    /// [`Snag`].
    pub async fn caller(&self) -> Result<Caller, Snag> {
        let base = foundation(self.settings()).await;
        if base.region().is_none() {
            return Err(Snag::Region);
        }
        let asked = aws_sdk_sts::Client::new(&base).get_caller_identity().send().await;
        let said = asked.map_err(|error| snag_of(&error, "sts:GetCallerIdentity", ""))?;
        match (said.account, said.arn) {
            (Some(account), Some(arn)) => Ok(Caller { account, arn }),
            (_, _) => Err(Snag::Other("no identity".into())),
        }
    }

    /// Looks at the secret of an integration's record.
    pub async fn inspect(&self, secret: &str, identity: &Identity) -> Inspection {
        let mut seen = Inspection { arn: None, key: None, end: Err(Snag::Unreachable) };
        let Some(_place) = self.place().await else { return seen };
        let end = Box::pin(self.look(secret, identity, &mut seen)).await;
        let may_be_made = self.settings().mode == Mode::Create && !secret.starts_with("arn:");
        seen.end = match end {
            // Once it was described it is there, whatever a later refusal shows.
            Err(Snag::Denied { action, .. }) if seen.arn.is_some() => {
                Err(Snag::Denied { action, exists: true })
            }
            // A policy that names secrets by their ARN does not match one that is missing: AWS says "denied" then.
            Err(Snag::Missing | Snag::Denied { exists: false, .. }) if may_be_made => Ok(Proof::ToBeMade),
            other => other,
        };
        seen
    }

    /// Looks at a secret that is not grantd's own, and at one member of its JSON object.
    ///
    /// # Errors
    /// [`Snag`].
    pub async fn inspect_text(&self, secret: &str, member: Option<&str>) -> Result<(), Snag> {
        let Some(_place) = self.place().await else { return Err(Snag::Unreachable) };
        let client = self.client().await;
        if client.config().region().is_none() {
            return Err(Snag::Region);
        }
        let read = client.get_secret_value().secret_id(secret).send().await;
        let value = read.map_err(|error| snag_of(&error, GET, secret))?;
        let text = value.secret_string.map(zeroize::Zeroizing::new).ok_or(Snag::NoMember)?;
        match member {
            None if text.trim().is_empty() => Err(Snag::NoMember),
            None => Ok(()),
            Some(member) if has_text(&text, member) => Ok(()),
            Some(_) => Err(Snag::NoMember),
        }
    }

    async fn look(&self, secret: &str, identity: &Identity, seen: &mut Inspection) -> Result<Proof, Snag> {
        let client = self.client().await;
        if client.config().region().is_none() {
            return Err(Snag::Region);
        }
        let asked = client.describe_secret().secret_id(secret).send().await;
        let described = asked.map_err(|error| snag_of(&error, DESCRIBE, secret))?;
        seen.arn = described.arn().map(str::to_owned);
        seen.key = described.kms_key_id().map(str::to_owned);
        if described.deleted_date().is_some() {
            return Err(Snag::Deleted);
        }
        let Some(version) = labelled(&described, CURRENT) else { return Ok(Proof::Described) };
        let read = client.get_secret_value().secret_id(secret).version_id(version).send().await;
        let value = match read.map_err(|error| snag_of(&error, GET, secret)) {
            Ok(value) => value.secret_string,
            // Labelled and without a value: the secret was made empty.
            Err(Snag::Missing) => return Ok(Proof::Described),
            Err(snag) => return Err(snag),
        };
        let Some(bytes) = value.map(|text| SecretBytes::new(text.into_bytes())) else {
            return Ok(Proof::Read);
        };
        let generation = match Record::from_json(bytes.expose_secret(), identity) {
            Ok(record) => record.generation,
            Err(NotARecord::Placeholder) => return Ok(Proof::Read),
            Err(why) => return Err(Snag::NotOurs(why.to_string())),
        };
        let token = version_id(seen.arn.as_deref().unwrap_or(""), generation).to_string();
        if token != version {
            return Ok(Proof::Read);
        }
        self.repeat(secret, token, &bytes).await
    }

    /// The write that made the current version, once more: nothing changes.
    async fn repeat(&self, secret: &str, token: String, bytes: &SecretBytes) -> Result<Proof, Snag> {
        let Ok(text) = std::str::from_utf8(bytes.expose_secret()) else { return Ok(Proof::Read) };
        let put = self.client().await.put_secret_value().secret_id(secret).client_request_token(token);
        match put.secret_string(text).send().await {
            Ok(_acknowledged) => Ok(Proof::Written),
            Err(error) => Err(snag_of(&error, PUT, secret)),
        }
    }
}

fn has_text(text: &str, member: &str) -> bool {
    let object: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(text).ok();
    object.is_some_and(|object| object.get(member).is_some_and(serde_json::Value::is_string))
}

fn snag_of<E: ProvideErrorMetadata>(
    error: &SdkError<E, HttpResponse>,
    action: &'static str,
    secret: &str,
) -> Snag {
    match error {
        SdkError::ServiceError(service) => {
            let (code, message) = (service.err().code().unwrap_or(""), service.err().message().unwrap_or(""));
            of_code(code, message, service.raw().status().as_u16(), (action, secret))
        }
        SdkError::ResponseError(response) if response.raw().status().as_u16() == 403 => {
            Snag::Denied { action, exists: false }
        }
        // It never came to a connection: no credentials, or a role that is not given.
        SdkError::DispatchFailure(failure) if failure.is_other() && failure.as_other().is_none() => {
            Snag::Credentials
        }
        SdkError::ConstructionFailure(_) => Snag::Other("the request could not be made".into()),
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            Snag::Unreachable
        }
        // Whatever kind a later SDK adds: nothing was shown.
        _ => Snag::Unreachable,
    }
}

/// The error codes of Secrets Manager, KMS behind it, and AWS's front ends ("Common errors" in the API reference).
fn of_code(code: &str, message: &str, status: u16, asked: (&'static str, &str)) -> Snag {
    let (action, secret) = asked;
    let of_key = message.contains("KMS") || message.contains("kms:");
    match code {
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "OptInRequired" => Snag::Credentials,
        "RequestTimeTooSkewed" | "RequestExpired" => Snag::Clock,
        "InvalidSignatureException" if message.contains("expired") || message.contains("not yet") => {
            Snag::Clock
        }
        "InvalidSignatureException" => Snag::Credentials,
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" if of_key => Snag::KeyDenied,
        "KMSAccessDeniedException" => Snag::KeyDenied,
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" => {
            Snag::Denied { action, exists: shows(message, secret) }
        }
        "EncryptionFailure" | "DecryptionFailure" | "KMSInvalidStateException" | "DisabledException" => {
            Snag::KeyUnusable
        }
        "InvalidRequestException" if message.contains("deletion") || message.contains("deleted") => {
            Snag::Deleted
        }
        "InvalidRequestException" if of_key => Snag::KeyUnusable,
        "ResourceNotFoundException" => Snag::Missing,
        "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" => {
            Snag::Throttled
        }
        _ if status >= 500 => Snag::Unreachable,
        _ if status == 403 => Snag::Denied { action, exists: false },
        code => Snag::Other(code.to_owned()),
    }
}

/// Whether a refusal names the secret by an ARN with the six characters at its end: then AWS has found it.
fn shows(message: &str, secret: &str) -> bool {
    let resource = message.split_once("on resource: ").map_or("", |(_, rest)| rest);
    let resource = resource.split_whitespace().next().unwrap_or("");
    let suffix = resource.rsplit_once('-').map_or("", |(_, suffix)| suffix);
    resource.starts_with("arn:") && !resource.ends_with(&format!(":{secret}")) && suffix.len() == 6
}

const DESCRIBE: &str = "secretsmanager:DescribeSecret";
const GET: &str = "secretsmanager:GetSecretValue";
const PUT: &str = "secretsmanager:PutSecretValue";

#[cfg(test)]
mod tests {
    use super::{DESCRIBE, Snag, has_text, of_code};

    #[test]
    fn each_code_leads_to_its_snag() {
        let of = |code, message| of_code(code, message, 400, (DESCRIBE, "/sym/acme/github"));
        let denied = |exists| Snag::Denied { action: DESCRIBE, exists };
        let arn = "arn:aws:secretsmanager:eu-west-1:111111111111:secret:/sym/acme/github";
        for (code, message, snag) in [
            ("ResourceNotFoundException", "", Snag::Missing),
            ("UnrecognizedClientException", "", Snag::Credentials),
            ("InvalidSignatureException", "Signature expired: now < then", Snag::Clock),
            ("AccessDeniedException", "Access to KMS is not allowed", Snag::KeyDenied),
            ("DecryptionFailure", "", Snag::KeyUnusable),
            ("InvalidRequestException", "because it was marked for deletion", Snag::Deleted),
            ("InvalidRequestException", "the KMS key is disabled", Snag::KeyUnusable),
            ("ThrottlingException", "", Snag::Throttled),
            ("AccessDeniedException", "on resource: /sym/acme/github because no policy", denied(false)),
            ("AccessDeniedException", &format!("on resource: {arn} because"), denied(false)),
            ("AccessDeniedException", &format!("on resource: {arn}-AbCdEf because"), denied(true)),
            ("Strange", "", Snag::Other("Strange".into())),
        ] {
            assert_eq!(of(code, message), snag, "{code} {message}");
        }
    }

    #[test]
    fn a_member_must_be_a_text() {
        assert!(has_text(r#"{"client_secret":"x"}"#, "client_secret"));
        for text in [r#"{"client_secret":1}"#, r#"{"other":"x"}"#, "plain"] {
            assert!(!has_text(text, "client_secret"), "{text}");
        }
    }
}
