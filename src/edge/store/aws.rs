//! AWS Secrets Manager: one secret for each integration.
//!
//! A write is one `PutSecretValue` whose `ClientRequestToken` names the generation, so that repeating it is a no-op. The secret
//! is looked at first: a current value that grantd did not write stays, and ours goes beside it under a private label. Never
//! `AWSPENDING`: it belongs to AWS's own rotation. Endpoints come from the configuration alone, never from the environment.

use super::aws_faults::fault_of;
use crate::lifecycle::{Completion, Identity, Loaded, NotARecord, Record, StoreFault};
use crate::secret::ClientSecret;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::SharedCredentialsProvider;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::error::SdkError;
use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use aws_sdk_secretsmanager::operation::put_secret_value::PutSecretValueError;
use aws_sdk_secretsmanager::types::Tag;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore};
use uuid::Uuid;

/// How a Secrets Manager is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AwsSettings {
    /// The region; `None` means the SDK's usual chain.
    pub region: Option<String>,
    /// Whether secrets may be created.
    pub mode: Mode,
    /// The KMS key of created secrets.
    pub kms_key_id: Option<String>,
    /// A role to assume first.
    pub assume_role: Option<AssumeRole>,
    /// Another endpoint than AWS's own.
    pub endpoint_url: Option<String>,
    /// What becomes of a secret whose integration is deleted.
    pub delete: Delete,
}

/// What becomes of a secret whose integration is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delete {
    /// It stays, with a cleared record in it.
    Empty,
    /// `DeleteSecret`, with AWS's recovery window of 30 days.
    DeleteSecret,
}

/// Whether secrets may be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Only values of secrets that exist are written.
    UpdateOnly,
    /// A missing secret is created.
    Create,
}

/// A role to assume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AssumeRole {
    /// Its ARN.
    pub arn: String,
    /// The external id that its trust policy asks for.
    pub external_id: Option<String>,
}

/// One Secrets Manager: one account, one region, one identity.
pub struct SecretsManager {
    settings: AwsSettings,
    client: OnceCell<Client>,
    /// Bounds how many calls are in flight, so that a restart with many integrations does not throttle itself.
    places: Semaphore,
}

impl SecretsManager {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(settings: AwsSettings) -> Self {
        Self { settings, client: OnceCell::new(), places: Semaphore::new(16) }
    }

    /// Reads a secret that is not grantd's own, such as an OAuth client secret: its text, or one member of its JSON object.
    ///
    /// # Errors
    /// [`StoreFault`]; `Missing` also where the value has no such member or is not text.
    pub async fn fetch_text(&self, secret: &str, member: Option<&str>) -> Result<ClientSecret, StoreFault> {
        let _place = self.places.acquire().await.map_err(|_closed| StoreFault::Other)?;
        let value = self
            .client()
            .await
            .get_secret_value()
            .secret_id(secret)
            .send()
            .await
            .map_err(|error| fault_of(&error))?;
        let text = value.secret_string.map(zeroize::Zeroizing::new).ok_or(StoreFault::Missing)?;
        let Some(member) = member else { return Ok(ClientSecret::new(text.trim_end_matches(['\r', '\n']))) };
        let mut object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&text).map_err(|_not_an_object| StoreFault::Missing)?;
        match object.remove(member) {
            Some(serde_json::Value::String(text)) => Ok(ClientSecret::new(text)),
            Some(_) | None => Err(StoreFault::Missing),
        }
    }

    pub(super) async fn store(&self, secret: &str, record: &Record) -> Completion {
        let Ok(_place) = self.places.acquire().await else {
            return Completion::StoreFailed(StoreFault::Other);
        };
        match self.try_store(secret, record).await {
            Ok(end) => end,
            Err(fault) => {
                tracing::debug!(integration = %record.identity.integration, cause = fault.word(), "write not acknowledged");
                Completion::StoreFailed(fault)
            }
        }
    }

    pub(super) async fn load(&self, secret: &str, identity: &Identity) -> Completion {
        let Ok(_place) = self.places.acquire().await else {
            return Completion::LoadFailed(StoreFault::Other);
        };
        match self.try_load(secret, identity).await {
            Ok(loaded) => Completion::Loaded(loaded),
            Err(StoreFault::Missing) if self.settings.mode == Mode::Create => {
                Completion::Loaded(Loaded::Empty)
            }
            Err(fault) => Completion::LoadFailed(fault),
        }
    }

    pub(super) async fn delete(&self, secret: &str) -> Completion {
        if self.settings.delete == Delete::Empty {
            return Completion::Deleted;
        }
        let Ok(_place) = self.places.acquire().await else {
            return Completion::StoreFailed(StoreFault::Other);
        };
        let deleted = self.client().await.delete_secret().secret_id(secret).send().await;
        match deleted.map_err(|error| fault_of(&error)) {
            // Gone, or marked for deletion before: a repeat.
            Ok(_) | Err(StoreFault::Missing | StoreFault::Deleted) => Completion::Deleted,
            Err(fault) => Completion::StoreFailed(fault),
        }
    }

    async fn try_store(&self, secret: &str, record: &Record) -> Result<Completion, StoreFault> {
        let json = record.to_json();
        if json.len() > Record::MAX_BYTES {
            return Err(StoreFault::Quota);
        }
        let client = self.client().await;
        let described = match self.describe(client, secret).await {
            // A policy that names secrets by their ARN does not match the name of one that is missing: AWS says "denied" then.
            Err(StoreFault::Missing | StoreFault::Denied) if self.settings.mode == Mode::Create => {
                self.create(client, secret, &record.identity).await?;
                self.describe(client, secret).await?
            }
            other => other?,
        };
        let arn = described.arn().ok_or(StoreFault::Other)?;
        let stages = match self.judge(client, &described, arn, record).await? {
            Verdict::Ours => None,
            Verdict::OursAndLabel => Some(vec![CURRENT.to_owned(), NEXT.to_owned()]),
            Verdict::Foreign => Some(vec![NEXT.to_owned()]),
            Verdict::Newer => return Ok(Completion::IdTaken),
        };
        let beside = stages.as_ref().is_some_and(|stages| stages.len() == 1);
        // A value that is no UTF-8 cannot come of `to_json`.
        let text = std::str::from_utf8(json.expose_secret()).map_err(|_not_text| StoreFault::Other)?;
        let put = client
            .put_secret_value()
            .secret_id(secret)
            .client_request_token(version_id(arn, record.generation).to_string())
            .secret_string(text)
            .set_version_stages(stages)
            .send()
            .await;
        match put {
            Ok(_acknowledged) => Ok(if beside { Completion::StoredBeside } else { Completion::Stored }),
            Err(error) if is_taken(&error) => Ok(Completion::IdTaken),
            Err(error) => Err(fault_of(&error)),
        }
    }

    /// Says whose the current value is.
    async fn judge(
        &self,
        client: &Client,
        described: &DescribeSecretOutput,
        arn: &str,
        record: &Record,
    ) -> Result<Verdict, StoreFault> {
        let current = labelled(described, CURRENT);
        let labels_left = labelled(described, NEXT).is_some();
        let ours = |version: &str| generation_of(arn, version, record.generation);
        match current.map(|version| (version, ours(version))) {
            None => Ok(Verdict::Ours),
            Some((_, Some(generation))) if generation > record.generation => Ok(Verdict::Newer),
            Some((_, Some(_))) if labels_left => Ok(Verdict::OursAndLabel),
            Some((_, Some(_))) => Ok(Verdict::Ours),
            Some((version, None)) => {
                let value = self.value(client, arn, version).await?;
                let labelled = versions(described).any(|version| ours(version).is_some());
                // Whoever wrote twice took both labels from our first generation.
                let before_ours =
                    !(labelled || record.generation == 2 && self.has_first(client, arn).await?);
                judge_unknown(value.expose_secret(), record, before_ours)
            }
        }
    }

    /// Whether our first generation was ever written, whatever labels it has left.
    async fn has_first(&self, client: &Client, arn: &str) -> Result<bool, StoreFault> {
        match self.value(client, arn, &version_id(arn, 1).to_string()).await {
            Ok(_) => Ok(true),
            Err(StoreFault::Missing) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    async fn try_load(&self, secret: &str, identity: &Identity) -> Result<Loaded, StoreFault> {
        let client = self.client().await;
        let described = self.describe(client, secret).await?;
        let (mut newest, mut unusable): (Option<Record>, Option<String>) = (None, None);
        for version in [CURRENT, NEXT].into_iter().filter_map(|label| labelled(&described, label)) {
            let value = match self.value(client, secret, version).await {
                Ok(value) => value,
                // Labelled and without a value: the secret was made empty.
                Err(StoreFault::Missing) => continue,
                Err(fault) => return Err(fault),
            };
            match Record::from_json(value.expose_secret(), identity) {
                Ok(record) if newest.as_ref().is_none_or(|best| best.generation < record.generation) => {
                    newest = Some(record);
                }
                Ok(_) | Err(NotARecord::Placeholder) => {}
                Err(why) => unusable = Some(why.to_string()),
            }
        }
        Ok(match (newest, unusable) {
            (Some(record), _) => Loaded::Record(Box::new(record)),
            (None, Some(why)) => Loaded::Unusable(why),
            (None, None) => Loaded::Empty,
        })
    }

    async fn describe(&self, client: &Client, secret: &str) -> Result<DescribeSecretOutput, StoreFault> {
        let described =
            client.describe_secret().secret_id(secret).send().await.map_err(|error| fault_of(&error))?;
        if described.deleted_date().is_some() { Err(StoreFault::Deleted) } else { Ok(described) }
    }

    /// Reads one version by its id: a label may be answered from a replica that has not seen it move.
    async fn value(
        &self,
        client: &Client,
        secret: &str,
        version: &str,
    ) -> Result<crate::secret::SecretBytes, StoreFault> {
        let value = client
            .get_secret_value()
            .secret_id(secret)
            .version_id(version)
            .send()
            .await
            .map_err(|error| fault_of(&error))?;
        let bytes = match (value.secret_string, value.secret_binary) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(blob)) => blob.into_inner(),
            (None, None) => Vec::new(),
        };
        Ok(crate::secret::SecretBytes::new(bytes))
    }

    /// Makes an empty secret; its first value comes by the same write as every other.
    async fn create(&self, client: &Client, secret: &str, identity: &Identity) -> Result<(), StoreFault> {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let made = client
            .create_secret()
            .name(secret)
            .description("an OAuth grant kept by grantd")
            .client_request_token(version_id(secret, 0).to_string())
            .set_kms_key_id(self.settings.kms_key_id.clone())
            .tags(tag("managed-by", "grantd"))
            .tags(tag("grantd:organization", identity.organization.as_str()))
            .tags(tag("grantd:integration", identity.integration.as_str()))
            .send()
            .await;
        match made {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(service)) if service.err().is_resource_exists_exception() => Ok(()),
            Err(error) => Err(fault_of(&error)),
        }
    }

    pub(super) const fn settings(&self) -> &AwsSettings {
        &self.settings
    }

    pub(super) async fn place(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.places.acquire().await.ok()
    }

    pub(super) async fn client(&self) -> &Client {
        self.client.get_or_init(|| connect(&self.settings)).await
    }
}

/// Whose the current value is, and so where ours goes.
enum Verdict {
    /// Ours or nobody's: the new value becomes current.
    Ours,
    /// Ours, and a label of an earlier conflict is moved along.
    OursAndLabel,
    /// Somebody else's: ours goes beside it.
    Foreign,
    /// Ours, of a later generation.
    Newer,
}

/// The current value has no version id of ours: a placeholder, a record that was restored or copied, or a stranger's.
fn judge_unknown(value: &[u8], record: &Record, before_ours: bool) -> Result<Verdict, StoreFault> {
    match Record::from_json(value, &record.identity) {
        Ok(found) if found.generation > record.generation => Ok(Verdict::Newer),
        Ok(_) => Ok(Verdict::Ours),
        // Consoles and Terraform demand a placeholder; before grantd's first generation there is no foreign writer.
        Err(NotARecord::Placeholder) if record.generation <= 2 && before_ours => Ok(Verdict::Ours),
        Err(NotARecord::Placeholder) => Ok(Verdict::Foreign),
        Err(NotARecord::Foreign { .. } | NotARecord::Schema { .. } | NotARecord::Damaged) => {
            tracing::error!(integration = %record.identity.integration, "the secret holds a record that is not this integration's: nothing is written");
            Err(StoreFault::Other)
        }
    }
}

/// The label that AWS reads by default.
pub(super) const CURRENT: &str = "AWSCURRENT";
/// The private label for records that stand beside somebody else's value.
const NEXT: &str = "GRANTD_NEXT";
/// The namespace of version ids. Never changed: it is how grantd recognises its own writes.
const NAMESPACE: Uuid = Uuid::from_u128(0x5c1d_7f0e_6b1a_5e52_9f0c_67ac_03d1_6a42);
/// How far generations are looked for on both sides of the one at hand; AWS keeps about a hundred versions.
const WINDOW: u64 = 100;

/// The version id of a generation (`ClientRequestToken`): UUIDv5 of the secret's ARN and the generation.
pub(super) fn version_id(arn: &str, generation: u64) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{arn}#{generation}").as_bytes())
}

fn generation_of(arn: &str, version: &str, near: u64) -> Option<u64> {
    let version = Uuid::parse_str(version).ok()?;
    (near.saturating_sub(WINDOW)..=near.saturating_add(WINDOW))
        .rev()
        .find(|generation| version_id(arn, *generation) == version)
}

pub(super) fn labelled<'a>(described: &'a DescribeSecretOutput, label: &str) -> Option<&'a str> {
    described
        .version_ids_to_stages()?
        .iter()
        .find(|(_, stages)| stages.iter().any(|stage| stage == label))
        .map(|(version, _)| version.as_str())
}

fn versions(described: &DescribeSecretOutput) -> impl Iterator<Item = &str> {
    described.version_ids_to_stages().into_iter().flatten().map(|(version, _)| version.as_str())
}

fn is_taken(
    error: &SdkError<PutSecretValueError, aws_smithy_runtime_api::client::orchestrator::HttpResponse>,
) -> bool {
    matches!(error, SdkError::ServiceError(service) if service.err().is_resource_exists_exception())
}

/// What the environment or a profile says about endpoints: nothing.
#[derive(Debug)]
struct NoEnvironment;

impl LoadServiceConfig for NoEnvironment {
    fn load_config(&self, _key: ServiceConfigKey<'_>) -> Option<String> {
        None
    }
}

/// Builds a client.
async fn connect(settings: &AwsSettings) -> Client {
    let base = foundation(settings).await;
    let mut config = aws_sdk_secretsmanager::config::Builder::from(&base);
    config.set_endpoint_url(settings.endpoint_url.clone());
    if let Some(role) = &settings.assume_role {
        let mut assume = AssumeRoleProvider::builder(&role.arn).session_name("grantd").configure(&base);
        if let Some(id) = &role.external_id {
            assume = assume.external_id(id);
        }
        config = config.credentials_provider(SharedCredentialsProvider::new(assume.build().await));
    }
    Client::from_conf(config.build())
}

/// grantd's own identity, its region and its ways to AWS. The SDK would take an endpoint from the environment or a profile; that is
/// cut out here. A stand-in on loopback plays STS as well; the endpoint of a real Secrets Manager does not.
pub(super) async fn foundation(settings: &AwsSettings) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(5))
        .operation_timeout(Duration::from_secs(10))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled());
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    let stand_in = settings.endpoint_url.clone().filter(|url| url.starts_with("http://"));
    if let Some(endpoint) = &stand_in {
        loader = loader.endpoint_url(endpoint);
    }
    let mut base = loader.load().await.into_builder();
    base.set_service_config(Some(NoEnvironment));
    base.set_endpoint_url(stand_in);
    base.build()
}
