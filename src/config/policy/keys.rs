//! The statement for a KMS key: used by Secrets Manager alone, for these secrets alone.

use super::statement::Statement;
use super::text::{Place, Text};

/// The actions for secrets that are read and written (AWS KMS: "How AWS Secrets Manager uses AWS KMS").
pub(super) const READ_AND_WRITE: &[&str] = &["kms:Decrypt", "kms:GenerateDataKey"];
/// The action for secrets that are read.
pub(super) const READ: &[&str] = &["kms:Decrypt"];

/// Allows `actions` with a key; nothing for AWS's own key, which everyone in the account may use through Secrets Manager.
///
/// `kms:EncryptionContext:SecretVersionId` is never a condition: when Secrets Manager tries a key it puts a text of its own there.
pub(super) fn statement(
    sid: String,
    actions: &[&'static str],
    key: &str,
    place: &Place,
    secrets: Vec<Text>,
) -> Option<Statement> {
    if key.ends_with("alias/aws/secretsmanager") {
        return None;
    }
    let statement = Statement::allow(sid, actions, vec![resource(key, place)])
        .when("StringEquals", "kms:ViaService", vec![place.via_secrets_manager()])
        .when("StringLike", "kms:EncryptionContext:SecretARN", secrets);
    Some(match alias(key) {
        Some(alias) => {
            statement.when("ForAnyValue:StringEquals", "kms:ResourceAliases", vec![Text::plain(alias)])
        }
        None => statement,
    })
}

/// The alias by which a key is named, if it is. IAM knows keys by their ARN, and by aliases in a condition only.
pub(super) fn alias(key: &str) -> Option<&str> {
    let at = key.find("alias/")?;
    key.get(at..)
}

fn resource(key: &str, place: &Place) -> Text {
    match (key.starts_with("arn:"), alias(key)) {
        (true, Some(alias)) => Text::plain(format!("{}key/*", key.trim_end_matches(alias))),
        (true, None) => Text::plain(key),
        (false, Some(_)) => place.arn("kms", "key/*"),
        (false, None) => place.arn("kms", &format!("key/{key}")),
    }
}
