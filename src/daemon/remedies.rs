//! The words for what a preflight finds, and what to paste against it: a policy statement, a command, a line of the configuration.
//!
//! Pure: what was found comes in, sentences go out. No secret's value and no peer's own words are in them.

use super::preflight::Subject;
use crate::config::policy::{self, Grants, Names, Statement};
use crate::config::{Config, ProviderConfig, StoreConfig};
use crate::edge::provider::{ProviderError, Unreached};
use crate::edge::store::{Caller, Inspection, Snag};
use crate::lifecycle::{Missing, SpoolFault, WireFault};
use std::path::Path;
use std::time::Duration;

/// A secret as a person finds it: what it is, where it is set, who uses it.
pub(super) struct Seat<'a> {
    secret: &'a str,
    place: String,
    store: &'a StoreConfig,
    arn: Option<&'a str>,
    key: Option<String>,
    grants: Grants,
    caller: Result<Caller, Snag>,
}

impl<'a> Seat<'a> {
    /// The secret of an integration's record.
    pub(super) fn of_record(
        subject: &'a Subject,
        seen: &'a Inspection,
        caller: Result<Caller, Snag>,
    ) -> Self {
        let integration = &subject.integration;
        let key = seen.key.clone().or_else(|| integration.store.kms_key_id.clone());
        let mut keyed = integration.clone();
        keyed.store.kms_key_id.clone_from(&key);
        Self {
            secret: &integration.secret,
            place: format!(
                "integration {}: secret, in {}",
                integration.identity.integration,
                integration.kept_in()
            ),
            store: &integration.store,
            arn: seen.arn.as_deref(),
            grants: policy::records(&keyed),
            key,
            caller,
        }
    }

    /// A client secret that AWS keeps.
    pub(super) fn of_client(subject: &'a Subject, secret: &'a str, caller: Result<Caller, Snag>) -> Self {
        let store = &subject.base;
        Self {
            secret,
            place: format!("provider {}: client_secret", subject.provider.id),
            store,
            arn: None,
            key: store.kms_key_id.clone(),
            grants: policy::client(store, secret),
            caller,
        }
    }

    fn missing(&self, what: String, fix: String) -> Missing {
        Missing { what, place: self.place.clone(), fix }
    }

    /// A command of the AWS CLI for this store.
    fn command(&self, command: &str) -> String {
        let mut whole = format!("aws {command}");
        for (flag, value) in [("--region", &self.store.region), ("--endpoint-url", &self.store.endpoint_url)]
        {
            if let Some(value) = value {
                whole.push_str(&format!(" {flag} {}", quoted(value)));
            }
        }
        whole
    }

    /// A statement for whoever uses the secret.
    fn allowing(&self, statement: Option<&Statement>) -> String {
        let caller = self.caller.as_ref().ok();
        let account = self.arn.and_then(|arn| arn.split(':').nth(4));
        let account = account.or_else(|| caller.map(|caller| caller.account.as_str()));
        let names = Names::stand_ins(self.store.region.as_deref(), account);
        let statement = statement.map(|statement| written(statement, &names)).unwrap_or_default();
        format!("add this statement to the policy of {}:\n{statement}", self.whose())
    }

    fn whose(&self) -> String {
        match (&self.store.assume_role, &self.caller) {
            (Some(role), _) => role.arn.clone(),
            (None, Ok(caller)) => principal_of(&caller.arn),
            (None, Err(_)) => "grantd's role".into(),
        }
    }

    /// The key by the name that a person knows it by.
    fn key(&self) -> &str {
        self.key.as_deref().unwrap_or("alias/aws/secretsmanager")
    }
}

/// What is in the way of an integration's record.
pub(super) fn of_record(seat: &Seat<'_>, snag: &Snag) -> Missing {
    let secret = seat.secret;
    match snag {
        Snag::Missing => seat.missing(format!("the secret {secret} does not exist"), create(seat)),
        Snag::Denied { exists: false, .. } => seat.missing(
            format!("the secret {secret} does not exist, or grantd may not describe it"),
            format!("{}\nif it exists, {}", create(seat), seat.allowing(seat.grants.secret.as_ref())),
        ),
        Snag::NotOurs(why) => seat.missing(
            format!("the secret {secret} holds a record that is not this integration's ({why})"),
            "give the integration a secret of its own: secret = \"/path/of/another\"".into(),
        ),
        Snag::Denied { exists: true, .. }
        | Snag::Clock
        | Snag::Credentials
        | Snag::Deleted
        | Snag::KeyDenied
        | Snag::KeyUnusable
        | Snag::NoMember
        | Snag::Other(_)
        | Snag::Region
        | Snag::Throttled
        | Snag::Unreachable => of_secret(seat, snag),
    }
}

/// What is in the way of a client secret.
pub(super) fn of_client(seat: &Seat<'_>, snag: &Snag, member: Option<&str>) -> Missing {
    let secret = seat.secret;
    let put = |command: &str, name: &str| {
        let value = member.map_or_else(
            || "CLIENT_SECRET".to_owned(),
            |member| serde_json::json!({ member: "CLIENT_SECRET" }).to_string(),
        );
        seat.command(&format!("secretsmanager {command} {name} {secret} --secret-string {}", quoted(&value)))
    };
    match snag {
        Snag::Missing => {
            seat.missing(format!("the client secret {secret} does not exist"), put("create-secret", "--name"))
        }
        Snag::Denied { exists: false, .. } => seat.missing(
            format!("the client secret {secret} does not exist, or grantd may not read it"),
            format!(
                "{}\nif it exists, {}",
                put("create-secret", "--name"),
                seat.allowing(seat.grants.secret.as_ref())
            ),
        ),
        Snag::NoMember => {
            let what = match member {
                Some(member) => format!("the client secret {secret} has no text under {member:?}"),
                None => format!("the client secret {secret} holds no text"),
            };
            seat.missing(what, put("put-secret-value", "--secret-id"))
        }
        Snag::Denied { exists: true, .. }
        | Snag::Clock
        | Snag::Credentials
        | Snag::Deleted
        | Snag::KeyDenied
        | Snag::KeyUnusable
        | Snag::NotOurs(_)
        | Snag::Other(_)
        | Snag::Region
        | Snag::Throttled
        | Snag::Unreachable => of_secret(seat, snag),
    }
}

/// What any secret may meet.
fn of_secret(seat: &Seat<'_>, snag: &Snag) -> Missing {
    let secret = seat.secret;
    match snag {
        Snag::Denied { action, .. } => seat.missing(
            format!("grantd may not use {action} on {secret}"),
            seat.allowing(seat.grants.secret.as_ref()),
        ),
        Snag::Deleted => seat.missing(
            format!("the secret {secret} is marked for deletion"),
            seat.command(&format!("secretsmanager restore-secret --secret-id {secret}")),
        ),
        Snag::KeyDenied => seat.missing(
            format!("grantd may not use the key {} of {secret}", seat.key()),
            seat.allowing(seat.grants.key.as_ref()),
        ),
        Snag::KeyUnusable => seat.missing(
            format!("the key {} of {secret} is disabled or cannot be used", seat.key()),
            enable(seat),
        ),
        Snag::Credentials | Snag::Region | Snag::Clock => unknown(seat, snag),
        Snag::Unreachable => seat.missing(
            "AWS Secrets Manager does not answer".into(),
            format!(
                "open port 443 from this host to {}, or name a VPC endpoint as store.endpoint_url",
                host(seat)
            ),
        ),
        Snag::Throttled => seat.missing(
            "AWS Secrets Manager takes no more requests just now".into(),
            "try again in a minute".into(),
        ),
        Snag::Missing | Snag::NoMember => seat.missing(format!("{secret} does not exist"), create(seat)),
        Snag::NotOurs(code) | Snag::Other(code) => seat.missing(
            format!("AWS refuses {secret} ({code})"),
            seat.command(&format!("secretsmanager describe-secret --secret-id {secret}")),
        ),
    }
}

fn create(seat: &Seat<'_>) -> String {
    if seat.secret.starts_with("arn:") {
        return format!("name a secret that exists: secret = {:?}", "/path/of/the/secret");
    }
    let key = seat.store.kms_key_id.as_ref().map(|key| format!(" --kms-key-id {}", quoted(key)));
    seat.command(&format!(
        "secretsmanager create-secret --name {}{} --tags Key=managed-by,Value=grantd",
        seat.secret,
        key.unwrap_or_default()
    ))
}

/// KMS takes the id or the ARN of a key here, and no alias.
fn enable(seat: &Seat<'_>) -> String {
    let Some(alias) = seat.key().find("alias/") else {
        return seat.command(&format!("kms enable-key --key-id {}", quoted(seat.key())));
    };
    let alias = seat.key().get(alias..).unwrap_or_default();
    let described = seat.command(&format!(
        "kms describe-key --key-id {} --query KeyMetadata.KeyId --output text",
        quoted(alias)
    ));
    seat.command(&format!("kms enable-key --key-id \"$({described})\""))
}

/// No identity, or a role that is not given to it.
fn unknown(seat: &Seat<'_>, snag: &Snag) -> Missing {
    if let (Snag::Credentials, Some(role), Ok(caller)) = (snag, &seat.store.assume_role, &seat.caller) {
        let principal = principal_of(&caller.arn);
        let (may, trust) = policy::assuming(role, &principal);
        let names = Names::stand_ins(seat.store.region.as_deref(), Some(&caller.account));
        return seat.missing(
            format!("{} is not given to {principal}", role.arn),
            format!(
                "add this statement to the policy of {principal}:\n{}\nand this one to the trust policy of {}:\n{}",
                written(&may, &names),
                role.arn,
                written(&trust, &names)
            ),
        );
    }
    let found = of_identity(snag).map(|found| Missing { place: seat.place.clone(), ..found });
    found.unwrap_or_else(|| {
        seat.missing("AWS does not know grantd".into(), "aws sts get-caller-identity".into())
    })
}

/// Why nothing can be asked of AWS at all.
pub(super) fn of_identity(snag: &Snag) -> Option<Missing> {
    let missing = |what: &str, place: &str, fix: &str| {
        Some(Missing { what: what.into(), place: place.into(), fix: fix.into() })
    };
    match snag {
        Snag::Credentials => missing(
            "AWS knows no credentials of grantd",
            "AWS identity",
            "attach an IAM role to this host, or give grantd's unit a profile:\nEnvironment=AWS_PROFILE=grantd AWS_CONFIG_FILE=/etc/grantd/aws",
        ),
        Snag::Region => {
            missing("no AWS region is configured or found", "store.region", "[store]\nregion = \"eu-west-1\"")
        }
        Snag::Clock => Some(of_clock(None)),
        Snag::Denied { .. }
        | Snag::Missing
        | Snag::NoMember
        | Snag::NotOurs(_)
        | Snag::Deleted
        | Snag::KeyDenied
        | Snag::KeyUnusable
        | Snag::Unreachable
        | Snag::Throttled
        | Snag::Other(_) => None,
    }
}

/// The clock is wrong: by how much a provider's differs, or by AWS's word.
pub(super) fn of_clock(apart: Option<Duration>) -> Missing {
    let what = apart.map_or_else(
        || "AWS finds this host's clock wrong".to_owned(),
        |apart| format!("this host's clock and the provider's are {} s apart", apart.as_secs()),
    );
    Missing { what, place: "the host's clock".into(), fix: "timedatectl set-ntp true".into() }
}

/// A provider that does not answer, or is not configured.
pub(super) fn of_provider(provider: &ProviderConfig, why: &Unreached) -> Missing {
    let (key, what, fix) = match why {
        Unreached::Endpoints(ProviderError::Misconfigured(what)) => (
            "authorize_url, token_url",
            format!("{} is not configured: {what}", provider.name),
            "authorize_url = \"https://…\"\ntoken_url = \"https://…\"".to_owned(),
        ),
        Unreached::Endpoints(ProviderError::Unreachable) => {
            let issuer = provider.issuer.as_deref().unwrap_or("").trim_end_matches('/');
            (
                "issuer",
                format!("the discovery document of {} cannot be fetched", provider.name),
                format!("curl -sS {}", quoted(&format!("{issuer}/.well-known/openid-configuration"))),
            )
        }
        Unreached::Host { fault: WireFault::Forbidden, host } => (
            "token_url",
            format!("{host} leads to an address that grantd never connects to"),
            "name the provider's own host: token_url = \"https://…\"".to_owned(),
        ),
        Unreached::Host { host, fault } => (
            "token_url",
            format!("{} does not answer at {host} ({})", provider.name, fault.word()),
            format!("curl -sSI {}", quoted(&origin(provider, host))),
        ),
    };
    Missing { what, place: format!("provider {}: {key}", provider.id), fix }
}

/// A state directory that takes no token.
pub(super) fn of_spool(directory: &Path, fault: SpoolFault) -> Missing {
    let directory = directory.display();
    let (what, fix) = match fault {
        SpoolFault::Full => (format!("the disk of {directory} is full"), format!("df -h {directory}")),
        SpoolFault::Broken => (
            format!("{directory} takes no writes"),
            format!("chown -R grantd: {directory} && chmod 700 {directory}"),
        ),
    };
    Missing { what, place: "state.directory".into(), fix }
}

/// TLS files that cannot be used.
pub(super) fn of_tls(config: &Config, why: &str) -> Missing {
    let certificate = config.server.tls.as_ref().map(|tls| tls.certificate.display().to_string());
    Missing {
        what: why.to_owned(),
        place: "server.tls".into(),
        fix: format!("openssl x509 -noout -subject -enddate -in {}", certificate.unwrap_or_default()),
    }
}

fn origin(provider: &ProviderConfig, host: &str) -> String {
    let url = provider.token_url.as_ref().map(|url| url.origin().ascii_serialization());
    url.unwrap_or_else(|| format!("https://{host}"))
}

fn host(seat: &Seat<'_>) -> String {
    let region = seat.store.region.as_deref().unwrap_or("REGION");
    seat.store.endpoint_url.clone().unwrap_or_else(|| format!("secretsmanager.{region}.amazonaws.com"))
}

fn written(statement: &Statement, names: &Names) -> String {
    // A tree of texts cannot fail to become JSON.
    serde_json::to_string(&statement.node().fill(names)).unwrap_or_default()
}

/// A role's session is used by its role: that is what policies name.
fn principal_of(arn: &str) -> String {
    let parts: Vec<_> = arn.split([':', '/']).collect();
    match parts.as_slice() {
        [_, partition, "sts", _, account, "assumed-role", role, ..] => {
            format!("arn:{partition}:iam::{account}:role/{role}")
        }
        _ => arn.to_owned(),
    }
}

/// A word of a shell as it stands, or in quotes.
fn quoted(word: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "/_+=.@:-".contains(char);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::{principal_of, quoted};

    #[test]
    fn a_session_is_named_by_its_role_and_a_user_by_itself() {
        for (arn, principal) in [
            ("arn:aws:sts::111111111111:assumed-role/grantd/i-0123", "arn:aws:iam::111111111111:role/grantd"),
            ("arn:aws-cn:sts::1:assumed-role/a/b", "arn:aws-cn:iam::1:role/a"),
            ("arn:aws:iam::111111111111:user/path/ops", "arn:aws:iam::111111111111:user/path/ops"),
        ] {
            assert_eq!(principal_of(arn), principal);
        }
    }

    #[test]
    fn a_shell_reads_back_what_is_quoted() {
        assert_eq!(quoted("alias/grantd"), "alias/grantd");
        assert_eq!(quoted("{\"a\":\"b\"}"), "'{\"a\":\"b\"}'");
        assert_eq!(quoted("a'b; rm"), "'a'\\''b; rm'");
    }
}
