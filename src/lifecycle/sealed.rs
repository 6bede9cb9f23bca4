//! What the spool keeps for one integration: intents, raw answers with their context, and marks.
//!
//! A sealed answer carries all that is needed to rebuild the record it leads to, byte for byte, without
//! the store. The encodings here are what gets encrypted; encryption itself is the spool's.

use super::writes::Writes;
use super::{Account, Answer};
use crate::secret::{Nonce, RefreshToken, SecretBytes};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// What a spend is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// An authorization code becomes the first tokens of a grant (RFC 6749 §4.1.3).
    Exchange,
    /// A refresh token becomes the next tokens (RFC 6749 §6).
    Refresh,
    /// An operator brought a refresh token or a key: the body is the text itself.
    Import,
    /// No answer, but what a provider that did not answer must still be told of (RFC 7009); nothing is spent for it.
    Revocation,
}

/// "A spend is about to be sent": synced before the first byte of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// What will be spent.
    pub purpose: Purpose,
    /// The generation that is being spent; 0 before the first.
    pub generation: u64,
    /// Counts the presentations of the same refresh token, from 1.
    pub attempt: u32,
    /// When the first of these presentations was begun.
    pub at: Timestamp,
    /// A presentation in doubt that an intent to exchange a code must not make forgotten: it takes the cell of the intent before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubted>,
}

/// A refresh token that was presented, and nobody knows whether it was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubted {
    /// The generation that was presented.
    pub generation: u64,
    /// When it was first presented, as far as it may have been consumed by it.
    pub since: Timestamp,
    /// How often it was presented.
    pub attempts: u32,
}

/// A token endpoint's raw answer, with what is needed to make a record of it.
#[derive(Debug)]
pub struct Sealed {
    /// What was spent.
    pub purpose: Purpose,
    /// The generation that a record made of this answer has.
    pub generation: u64,
    /// The account known so far; an exchange learns it later, from the trial.
    pub account: Account,
    /// Whether a consent was accepted: after a crash it is not judged again, since its access token may have ended meanwhile.
    pub accepted: bool,
    /// The scope known so far, kept when the answer names none (RFC 6749 §5.1).
    pub scope: Option<String>,
    /// The refresh token that was presented, kept when the answer brings none.
    pub presented: Option<RefreshToken>,
    /// When the presented refresh token ends, where the provider said so.
    pub presented_expires_at: Option<Timestamp>,
    /// The `nonce` that an `id_token` in the answer must carry.
    pub nonce: Option<Nonce>,
    /// The answer as it came.
    pub answer: Arc<Answer>,
}

/// The small durable note beside the slots: the newest generation ever seen, how the grant stands, what is in doubt, and how
/// often its secret was written of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mark {
    /// The high-water mark: no lower generation is ever spent.
    pub generation: u64,
    /// How the grant stands.
    pub standing: Standing,
    /// The presentation that is in doubt: it outlives its intent, whose cell others need.
    #[serde(default)]
    pub doubt: Option<Doubted>,
    /// The writes of the last day.
    #[serde(default)]
    pub writes: Writes,
}

/// What must survive a restart even while the store is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nothing special.
    #[default]
    Normal,
    /// The refresh token of the marked generation was refused; it is not presented again.
    NeedsReauth,
    /// Revoked, and the revocation is not finished: upstream or the store may not know yet.
    Revoking,
    /// Revoked, and the cleared record is stored.
    Revoked,
    /// As `Revoking`, and what is kept in the store is deleted afterwards.
    Deleting,
    /// Deleted: as if it had never been connected, but for the generations.
    Deleted,
}

impl Standing {
    /// Whether an operator ended the grant.
    pub(super) const fn has_ended(self) -> bool {
        match self {
            Self::Normal | Self::NeedsReauth => false,
            Self::Revoking | Self::Revoked | Self::Deleting | Self::Deleted => true,
        }
    }
}

/// What a restart finds in the spool for one integration.
#[derive(Debug, Default)]
pub struct Found {
    /// The mark; the default if there is none.
    pub mark: Mark,
    /// Answers that were received and sealed, and perhaps not stored yet: those above the mark, the oldest first.
    pub answers: Vec<Arc<Sealed>>,
    /// An intent that is newer than every answer: the spend is in doubt.
    pub intent: Option<Intent>,
}

impl Sealed {
    /// A second copy of the context, around the same answer.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            purpose: self.purpose,
            generation: self.generation,
            account: self.account.clone(),
            accepted: self.accepted,
            scope: self.scope.clone(),
            presented: self.presented.as_ref().map(RefreshToken::duplicate),
            presented_expires_at: self.presented_expires_at,
            nonce: self.nonce.as_ref().map(Nonce::duplicate),
            answer: Arc::clone(&self.answer),
        }
    }

    /// The plain bytes that the spool encrypts: a JSON head, its length before it, the raw body behind it.
    #[must_use]
    pub fn to_bytes(&self) -> SecretBytes {
        let head = Head {
            purpose: self.purpose,
            generation: self.generation,
            account: self.account.clone(),
            accepted: self.accepted,
            scope: self.scope.clone(),
            presented: self.presented.as_ref().map(|token| token.expose_secret().into()),
            presented_expires_at: self.presented_expires_at,
            nonce: self.nonce.as_ref().map(|nonce| nonce.expose_secret().into()),
            status: self.answer.status,
            form_encoded: self.answer.form_encoded,
            retry_after_seconds: self.answer.retry_after.map(|wait| wait.as_secs()),
            whole: self.answer.whole,
            received_at: self.answer.received_at,
        };
        let head = zeroize::Zeroizing::new(serde_json::to_vec(&head).unwrap_or_default());
        let body = self.answer.body.expose_secret();
        let mut bytes = Vec::with_capacity(4 + head.len() + body.len());
        bytes.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(body);
        SecretBytes::new(bytes)
    }

    /// Reads what [`Sealed::to_bytes`] made. `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (head, body) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let mut head: Head = serde_json::from_slice(head).ok()?;
        Some(Self {
            purpose: head.purpose,
            generation: head.generation,
            account: std::mem::take(&mut head.account),
            accepted: head.accepted,
            scope: head.scope.take(),
            presented: head.presented.take().map(RefreshToken::new),
            presented_expires_at: head.presented_expires_at,
            nonce: head.nonce.take().map(Nonce::new),
            answer: Arc::new(Answer {
                status: head.status,
                form_encoded: head.form_encoded,
                retry_after: head.retry_after_seconds.map(Duration::from_secs),
                whole: head.whole,
                body: SecretBytes::new(body.to_vec()),
                received_at: head.received_at,
            }),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    purpose: Purpose,
    generation: u64,
    account: Account,
    #[serde(default)]
    accepted: bool,
    scope: Option<String>,
    presented: Option<String>,
    presented_expires_at: Option<Timestamp>,
    nonce: Option<String>,
    status: u16,
    form_encoded: bool,
    retry_after_seconds: Option<u64>,
    whole: bool,
    received_at: Timestamp,
}

/// The copies that serde makes of secrets end here.
impl Drop for Head {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        self.presented.zeroize();
        self.nonce.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::{Purpose, Sealed};
    use crate::lifecycle::{Account, Answer};
    use crate::secret::{RefreshToken, SecretBytes};
    use crate::time::Timestamp;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn sealed_answer_round_trips() {
        let sealed = Sealed {
            purpose: Purpose::Refresh,
            generation: 4,
            account: Account { id: Some("7".into()), ..Account::default() },
            accepted: true,
            scope: Some("repo".into()),
            presented: Some(RefreshToken::new("r3")),
            presented_expires_at: Some(Timestamp::from_seconds(9)),
            nonce: None,
            answer: Arc::new(Answer {
                status: 200,
                form_encoded: true,
                retry_after: Some(Duration::from_secs(3)),
                whole: false,
                body: SecretBytes::new(b"access_token=a4&".to_vec()),
                received_at: Timestamp::from_millis(12_345),
            }),
        };
        let read = Sealed::from_bytes(sealed.to_bytes().expose_secret()).unwrap();
        assert_eq!(read.to_bytes().expose_secret(), sealed.to_bytes().expose_secret());
        assert!(read.accepted);
        assert_eq!(read.presented.unwrap().expose_secret(), "r3");
        assert_eq!(read.answer.body.expose_secret(), b"access_token=a4&");
    }

    #[test]
    fn anything_else_is_none() {
        for bytes in [&b""[..], b"\0\0", b"\xff\xff\xff\xff{}", b"\0\0\0\x02{}"] {
            assert!(Sealed::from_bytes(bytes).is_none());
        }
    }
}
