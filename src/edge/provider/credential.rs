//! The client secret of a registration: known from the start, or fetched from where the company keeps it.
//!
//! A fetched secret is kept for five minutes, so that its rotation is noticed; where it cannot be fetched again the old one
//! stays in use. It is fetched before anything is sent: a failure here has spent nothing.

use crate::engine::Pending;
use crate::lifecycle::{StoreFault, WireFault};
use crate::secret::ClientSecret;
use crate::time::Timestamp;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// How a client proves that it is itself.
#[derive(Debug)]
pub enum Credential {
    /// It does not: a public client (RFC 6749 §2.1).
    None,
    /// With a secret that is known.
    Known(ClientSecret),
    /// With a secret that is fetched when it is needed.
    Fetched(Fetched),
    /// With either of two, while one takes the place of the other.
    Either(Box<Either>),
}

/// Two secrets: the one that was taken last comes first.
#[derive(Debug)]
pub struct Either {
    one: Credential,
    next: Credential,
    turned: AtomicBool,
}

/// A secret that is fetched when it is needed.
pub struct Fetched {
    fetch: Box<Fetch>,
    kept: Mutex<Option<(Timestamp, Arc<ClientSecret>)>>,
}

type Fetch = dyn Fn() -> Pending<Result<ClientSecret, StoreFault>> + Send + Sync;

impl Credential {
    /// A secret that `fetch` brings.
    pub fn fetched(
        fetch: impl Fn() -> Pending<Result<ClientSecret, StoreFault>> + Send + Sync + 'static,
    ) -> Self {
        Self::Fetched(Fetched { fetch: Box::new(fetch), kept: Mutex::new(None) })
    }

    /// Either of two secrets: `next` is used when the provider does not take `one`.
    #[must_use]
    pub fn either(one: Self, next: Self) -> Self {
        Self::Either(Box::new(Either { one, next, turned: AtomicBool::new(false) }))
    }

    /// The other secret, where there is one and it can be had.
    pub(super) async fn other(&self, now: Timestamp) -> Option<Arc<ClientSecret>> {
        let Self::Either(either) = self else { return None };
        let (_, second) = either.in_order();
        Box::pin(second.now(now)).await.ok().flatten()
    }

    /// The other secret was taken where the first was not: from now on it comes first.
    pub(super) fn turn(&self) {
        if let Self::Either(either) = self {
            either.turned.fetch_xor(true, Ordering::Relaxed);
        }
    }

    /// The secret now; `None` for a public client.
    pub(super) async fn now(&self, now: Timestamp) -> Result<Option<Arc<ClientSecret>>, WireFault> {
        match self {
            Self::None => Ok(None),
            Self::Known(secret) => Ok(Some(Arc::new(secret.duplicate()))),
            Self::Fetched(fetched) => fetched.now(now).await.map(Some),
            Self::Either(either) => {
                let (first, second) = either.in_order();
                match Box::pin(first.now(now)).await {
                    Err(fault) => Box::pin(second.now(now)).await.map_err(|_as_well| fault),
                    had => had,
                }
            }
        }
    }
}

impl Either {
    fn in_order(&self) -> (&Credential, &Credential) {
        if self.turned.load(Ordering::Relaxed) { (&self.next, &self.one) } else { (&self.one, &self.next) }
    }
}

impl Fetched {
    async fn now(&self, now: Timestamp) -> Result<Arc<ClientSecret>, WireFault> {
        let mut kept = self.kept.lock().await;
        if let Some((at, secret)) = kept.as_ref()
            && now.since(*at) < FRESH
        {
            return Ok(Arc::clone(secret));
        }
        match (self.fetch)().await {
            Ok(secret) => {
                let secret = Arc::new(secret);
                *kept = Some((now, Arc::clone(&secret)));
                Ok(secret)
            }
            Err(fault) => {
                tracing::warn!(cause = fault.word(), "the client secret cannot be fetched");
                let old = kept.as_ref().map(|(_, secret)| Arc::clone(secret));
                old.ok_or(match fault {
                    StoreFault::Unreachable | StoreFault::Throttled => WireFault::Connect,
                    StoreFault::Denied
                    | StoreFault::Quota
                    | StoreFault::Missing
                    | StoreFault::Key
                    | StoreFault::Deleted
                    | StoreFault::Other => WireFault::Misconfigured,
                })
            }
        }
    }
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fetched(..)")
    }
}

const FRESH: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::Credential;
    use crate::lifecycle::{StoreFault, WireFault};
    use crate::secret::ClientSecret;
    use crate::time::Timestamp;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn counting(from: Arc<AtomicU32>) -> Credential {
        Credential::fetched(move || {
            let count = from.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                match count {
                    0 | 2 => Err(StoreFault::Denied),
                    _ => Ok(ClientSecret::new(format!("s{count}"))),
                }
            })
        })
    }

    #[tokio::test]
    async fn of_two_secrets_the_one_that_was_taken_last_comes_first() {
        let known = |text: &str| Credential::Known(ClientSecret::new(text));
        let either = Credential::either(known("old"), known("new"));
        let at = Timestamp::EPOCH;
        for (first, second) in [("old", "new"), ("new", "old"), ("old", "new")] {
            assert_eq!(either.now(at).await.unwrap().unwrap().expose_secret(), first);
            assert_eq!(either.other(at).await.unwrap().expose_secret(), second);
            either.turn();
        }
        assert!(known("only").other(at).await.is_none());
        let failing = Credential::fetched(|| Box::pin(std::future::ready(Err(StoreFault::Missing))));
        let either = Credential::either(failing, known("new"));
        assert_eq!(either.now(at).await.unwrap().unwrap().expose_secret(), "new", "one of them is enough");
    }

    #[tokio::test]
    async fn a_fetched_secret_is_kept_and_outlives_a_failing_store() {
        let fetches = Arc::new(AtomicU32::new(0));
        let credential = counting(Arc::clone(&fetches));
        let at = Timestamp::from_seconds;
        assert_eq!(credential.now(at(0)).await.unwrap_err(), WireFault::Misconfigured);
        for (second, text, fetched) in [(1, "s1", 2), (200, "s1", 2), (400, "s1", 3), (401, "s3", 4)] {
            let secret = credential.now(at(second)).await.unwrap().unwrap();
            assert_eq!(secret.expose_secret(), text, "at {second}");
            assert_eq!(fetches.load(Ordering::SeqCst), fetched, "at {second}");
        }
    }
}
