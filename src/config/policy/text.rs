//! Texts of a policy: plain, or with places that only the account says, such as its own number.

use super::super::stores::AssumeRole;

/// A text of a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(Vec<Piece>);

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// As it stands.
    Plain(String),
    /// The partition of the account, such as `aws`.
    Partition,
    /// The region that the SDK's usual chain finds.
    Region,
    /// The account that grantd runs in.
    Account,
    /// The name of the role that grantd runs as.
    Role,
}

/// What stands for each place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The partition.
    pub partition: String,
    /// The region.
    pub region: String,
    /// The account.
    pub account: String,
    /// The role that grantd runs as.
    pub role: String,
}

impl Names {
    /// Stand-ins for what is not known, in a region's partition.
    #[must_use]
    pub fn stand_ins(region: Option<&str>, account: Option<&str>) -> Self {
        Self {
            partition: partition_of(region.unwrap_or("")).into(),
            region: region.unwrap_or("REGION").into(),
            account: account.unwrap_or("ACCOUNT_ID").into(),
            role: "GRANTD_ROLE".into(),
        }
    }

    /// The longest that each place can become; sizes are taken with them.
    pub(super) fn longest() -> Self {
        let long = |length| "x".repeat(length);
        Self { partition: long(10), region: long(14), account: long(12), role: long(64) }
    }
}

impl Text {
    /// A text as it stands.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Self {
        Self(vec![Piece::Plain(text.into())])
    }

    pub(super) const fn of(pieces: Vec<Piece>) -> Self {
        Self(pieces)
    }

    /// Its parts in order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The text if it has no places.
    #[must_use]
    pub fn as_plain(&self) -> Option<String> {
        let texts = self.0.iter().map(|piece| match piece {
            Piece::Plain(text) => Some(text.as_str()),
            Piece::Partition | Piece::Region | Piece::Account | Piece::Role => None,
        });
        texts.collect()
    }

    /// The text with each place written by `write`.
    pub fn write(&self, write: impl Fn(&Piece) -> String) -> String {
        self.0.iter().map(write).collect()
    }

    /// The text with its places filled.
    #[must_use]
    pub fn fill(&self, names: &Names) -> String {
        self.write(|piece| match piece {
            Piece::Plain(text) => text.clone(),
            Piece::Partition => names.partition.clone(),
            Piece::Region => names.region.clone(),
            Piece::Account => names.account.clone(),
            Piece::Role => names.role.clone(),
        })
    }
}

/// Where resources are: a partition, a region, an account.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) partition: Piece,
    pub(super) region: Piece,
    pub(super) account: Piece,
}

impl Place {
    /// Where one identity keeps things: an assumed role's account is in its ARN, grantd's own is not known here.
    pub(super) fn of(region: Option<&str>, role: Option<&AssumeRole>) -> Self {
        let region = region.map_or(Piece::Region, |region| Piece::Plain(region.into()));
        let part = |at: usize| {
            let part = role.and_then(|role| role.arn.split(':').nth(at));
            part.filter(|part| !part.is_empty()).map(|part| Piece::Plain(part.into()))
        };
        Self {
            partition: part(1).unwrap_or(Piece::Partition),
            region,
            account: part(4).unwrap_or(Piece::Account),
        }
    }

    /// The ARN of something here.
    pub(super) fn arn(&self, service: &str, what: &str) -> Text {
        let plain = |text: String| Piece::Plain(text);
        Text::of(vec![
            plain("arn:".into()),
            self.partition.clone(),
            plain(format!(":{service}:")),
            self.region.clone(),
            plain(":".into()),
            self.account.clone(),
            plain(format!(":{what}")),
        ])
    }

    /// The endpoint by whose use of a key Secrets Manager is known (`kms:ViaService`).
    pub(super) fn via_secrets_manager(&self) -> Text {
        let domain = match &self.region {
            Piece::Plain(region) if region.starts_with("cn-") => ".amazonaws.com.cn",
            Piece::Plain(_) | Piece::Partition | Piece::Region | Piece::Account | Piece::Role => {
                ".amazonaws.com"
            }
        };
        Text::of(vec![
            Piece::Plain("secretsmanager.".into()),
            self.region.clone(),
            Piece::Plain(domain.into()),
        ])
    }
}

/// The partition that a region belongs to (AWS: "Partitions").
fn partition_of(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}
