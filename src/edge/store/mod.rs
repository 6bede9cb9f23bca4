//! Stores: where records live. AWS Secrets Manager, or sealed files on local disk.
//!
//! One write for each generation, repeatable: the same generation with the same bytes is a no-op, with other bytes it is
//! refused. Nothing is retried here beyond what the SDK does within one bounded call; repeating is `lifecycle`'s.

mod aws;
mod aws_faults;
mod preflight;
mod sealed;

pub use aws::{AssumeRole, AwsSettings, Delete, Mode, SecretsManager};
pub use preflight::{Caller, Inspection, Proof, Snag};
pub use sealed::SealedFiles;

use crate::lifecycle::{Completion, Identity, Record};
use std::sync::Arc;

/// A store, ready to be used. Cheap to clone.
#[derive(Clone)]
pub enum Store {
    /// AWS Secrets Manager.
    Aws(Arc<SecretsManager>),
    /// Sealed files on local disk.
    Sealed(Arc<SealedFiles>),
}

impl Store {
    /// Writes a record. Ends: `Stored`, `StoredBeside`, `IdTaken`, `StoreFailed`.
    pub async fn store(&self, place: &str, record: &Record) -> Completion {
        match self {
            Self::Aws(aws) => Box::pin(aws.store(place, record)).await,
            Self::Sealed(files) => files.store(record).await,
        }
    }

    /// Writes a cleared record under two generations, so that the previous version is clear as well. Ends as [`Store::store`].
    pub async fn clear(&self, place: &str, record: &Record) -> Completion {
        let first = Box::pin(self.store(place, record)).await;
        if !matches!(first, Completion::Stored | Completion::StoredBeside) {
            return first;
        }
        let again = Record::cleared(
            record.identity.clone(),
            record.generation.saturating_add(1),
            record.account.clone(),
            record.written_at,
        );
        Box::pin(self.store(place, &again)).await
    }

    /// Deletes what holds a cleared record, as far as the operator allows: a sealed file always, a secret if the store says so.
    /// Repeatable. Ends: `Deleted`, `StoreFailed`.
    pub async fn delete(&self, place: &str, identity: &Identity) -> Completion {
        match self {
            Self::Aws(aws) => Box::pin(aws.delete(place)).await,
            Self::Sealed(files) => files.delete(identity).await,
        }
    }

    /// Reads the newest record. Ends: `Loaded`, `LoadFailed`.
    pub async fn load(&self, place: &str, identity: &Identity) -> Completion {
        match self {
            Self::Aws(aws) => Box::pin(aws.load(place, identity)).await,
            Self::Sealed(files) => files.load(identity).await,
        }
    }
}
