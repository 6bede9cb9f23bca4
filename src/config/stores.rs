//! `[store]`, and an organization's own: where records are kept.

use super::reader::{Reader, Section};
use super::source::{At, Spot};
use super::values;

/// A store, as far as one organization's integrations use it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreConfig {
    /// Which kind.
    pub kind: StoreKind,
    /// The AWS region; `None` means the SDK's usual chain.
    pub region: Option<String>,
    /// Whether secrets may be created.
    pub mode: StoreMode,
    /// The path of secrets that no integration names; has `{organization}` and `{integration}`.
    pub path: String,
    /// The KMS key of created secrets.
    pub kms_key_id: Option<String>,
    /// A role to assume.
    pub assume_role: Option<AssumeRole>,
    /// Another endpoint than AWS's own.
    pub endpoint_url: Option<String>,
    /// Whether refreshes are held while the store is down.
    pub hold: bool,
    /// Whether the secret of a deleted integration is deleted as well.
    pub deletes: bool,
}

/// Which kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreKind {
    /// AWS Secrets Manager.
    Aws,
    /// Sealed files below the state directory.
    SealedFile,
    /// Nothing is kept: a grant without a person is asked for again whenever a token is needed.
    Nowhere,
}

/// Whether secrets may be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreMode {
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

impl StoreConfig {
    /// How many times a day one record may be written. Secrets Manager keeps about a hundred versions and removes none that is
    /// younger than a day (AWS: "Secrets Manager quotas"); ninety leave room for an operator. A stand-in on loopback has no limit.
    #[must_use]
    pub fn write_budget(&self) -> Option<u32> {
        let stand_in = self.endpoint_url.as_deref().is_some_and(|url| url.starts_with("http://"));
        (self.kind == StoreKind::Aws && !stand_in).then_some(90)
    }

    /// Whether a record kept under the same name is in the same place: the same store, seen with the same rights.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        let place = |store: &Self| {
            (store.kind, store.region.clone(), store.assume_role.clone(), store.endpoint_url.clone())
        };
        place(self) == place(other)
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            kind: StoreKind::SealedFile,
            region: None,
            mode: StoreMode::UpdateOnly,
            path: "/grantd/{organization}/{integration}".into(),
            kms_key_id: None,
            assume_role: None,
            endpoint_url: None,
            hold: true,
            deletes: false,
        }
    }
}

/// Reads a store's keys over those of `base`.
pub(super) fn store(reader: &mut Reader<'_>, mut section: Section, base: &StoreConfig) -> StoreConfig {
    let kinds = [("aws-secrets-manager", StoreKind::Aws), ("sealed-file", StoreKind::SealedFile)];
    let modes = [("update-only", StoreMode::UpdateOnly), ("create", StoreMode::Create)];
    let kind = reader.choice(&mut section, "kind", &kinds).unwrap_or(base.kind);
    let region = reader.text(&mut section, "region");
    let mode = reader.choice(&mut section, "mode", &modes).unwrap_or(base.mode);
    let path = reader
        .text(&mut section, "path")
        .map_or_else(|| base.path.clone(), |path| checked_path(reader, path));
    let kms_key_id =
        reader.text(&mut section, "kms_key_id").map(|key| key.value).or_else(|| base.kms_key_id.clone());
    let assume_role =
        reader.table(&mut section, "assume_role").and_then(|section| assume_role(reader, section));
    let endpoint_url = reader.url(&mut section, "endpoint_url");
    if let Some(Spot { value, at }) = &endpoint_url
        && !values::is_loopback(value)
    {
        reader.warn(
            *at,
            "secrets go to an endpoint that is not AWS's own",
            "remove store.endpoint_url unless it is a VPC endpoint of yours",
        );
    }
    let outages = [("hold", true), ("spool", false)];
    let hold = reader.choice(&mut section, "outage", &outages).unwrap_or(base.hold);
    let deletions = [("empty", false), ("delete-secret", true)];
    let deletes = reader.choice(&mut section, "delete", &deletions).unwrap_or(base.deletes);
    reader.finish(section);
    StoreConfig {
        kind,
        region: region.map(|region| region.value).or_else(|| base.region.clone()),
        mode,
        path,
        kms_key_id,
        assume_role: assume_role.or_else(|| base.assume_role.clone()),
        endpoint_url: endpoint_url
            .map(|url| url.value.as_str().trim_end_matches('/').to_owned())
            .or_else(|| base.endpoint_url.clone()),
        hold,
        deletes,
    }
}

fn checked_path(reader: &mut Reader<'_>, path: Spot<String>) -> String {
    if !path.value.contains("{integration}") {
        reader.wrong(
            path.at,
            "store.path does not name the integration: all would share one secret",
            "write {integration} into it, such as \"/sym/{organization}/{integration}\"",
        );
    }
    path.value
}

fn assume_role(reader: &mut Reader<'_>, mut section: Section) -> Option<AssumeRole> {
    let arn = reader.required(&mut section, "arn", "write the role's ARN");
    if let Some(Spot { value, at }) = &arn
        && !(value.starts_with("arn:") && value.contains(":iam::") && value.contains(":role/"))
    {
        reader.wrong(
            *at,
            format!("{value:?} is not a role's ARN"),
            "write arn:aws:iam::123456789012:role/name",
        );
    }
    let external_id = reader.text(&mut section, "external_id").map(|id| id.value);
    reader.finish(section);
    Some(AssumeRole { arn: arn?.value, external_id })
}

/// Checks a secret's name (AWS: letters, digits and `/_+=.@-`, at most 512; not ending like an ARN's suffix).
pub(super) fn check_secret_name(reader: &mut Reader<'_>, name: &str, at: At) {
    let fits = !name.is_empty()
        && name.len() <= 512
        && name.chars().all(|char| char.is_ascii_alphanumeric() || "/_+=.@-:".contains(char));
    if !fits {
        reader.wrong(at, format!("{name:?} is not a secret's name"), "use letters, digits and / _ + = . @ -");
    }
    let suffix = name.rsplit_once('-').map(|(_, suffix)| suffix);
    let confusing = suffix
        .is_some_and(|suffix| suffix.len() == 6 && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if confusing && !name.starts_with("arn:") {
        reader.wrong(
            at,
            format!("{name:?} ends in a hyphen and six characters, which AWS takes for the end of an ARN"),
            "give the secret another name",
        );
    }
}
