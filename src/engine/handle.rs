//! How the edges talk to the engine: one method for each thing that may be asked.
//!
//! A handle is cheap to clone and holds no state of its own. Reads go to the board and never come here.

use super::board::Board;
use crate::lifecycle::{
    Account, ApiAnswer, Callback, Code, Confirmation, Found, Identity, IntegrationId, Invitation, Refusal,
    Revocation, View,
};
use crate::secret::{Imported, StateToken, Ticket};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Talks to the engine.
#[derive(Clone)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
    reloads: mpsc::Sender<Reload>,
    board: Arc<Board>,
}

/// Which integration a consent is for, as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The integration's id, if it was named.
    pub integration: Option<String>,
    /// The provider's id, if it was named.
    pub provider: Option<String>,
    /// The organization's id, if it was named.
    pub organization: Option<String>,
    /// A subset of the configured scopes; empty means all of them.
    pub scopes: Vec<String>,
    /// Where to go after the landing page (`redirectUri`).
    pub then: Option<String>,
}

/// What a grant needs that an operator wants connected.
#[derive(Clone, Debug, PartialEq)]
pub enum Enabling {
    /// Nothing: it works.
    Works(Box<View>),
    /// A person, who follows a link of ours ([`Handle::start`]).
    Link,
    /// A person, at the broker's own page ([`Handle::device`]).
    Broker,
}

/// A device flow that has begun: what its person needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceStarted {
    /// Whose grant it is for.
    pub identity: Identity,
    /// The page at which a person enters the code.
    pub page: String,
    /// The same page with the code filled in, where the provider has one.
    pub page_with_code: Option<String>,
    /// What a person enters.
    pub user_code: String,
    /// When the code ends.
    pub expires_at: Option<Timestamp>,
}

/// A consent that may begin: a one-time link.
#[derive(Debug)]
pub struct Started {
    /// The one-time part of the link `{public_url}/connect/{ticket}`.
    pub ticket: Ticket,
    /// The state that the authorization request will carry.
    pub state: StateToken,
    /// When the link ends.
    pub expires_at: Timestamp,
}

/// A consent that has begun: where to send the browser, and the cookie that binds it.
#[derive(Debug)]
pub struct Going {
    /// The provider's URL. Carries the state: not for logs.
    pub url: String,
    /// The state; names the flow cookie (`lifecycle::cookie_suffix`).
    pub state: StateToken,
    /// The value of the flow cookie.
    pub cookie: String,
    /// When the flow ends.
    pub expires_at: Timestamp,
}

/// How a consent ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landing {
    /// Whose consent it was.
    pub identity: Identity,
    /// The provider's display name.
    pub provider_name: String,
    /// Where the record is kept, or will be, in words: a secret's path or a file.
    pub kept_in: String,
    /// How far it got.
    pub landed: Landed,
    /// Where to go next, if that was asked and is allowed.
    pub then: Option<String>,
}

/// How far a good consent got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landed {
    /// The record is in the store.
    Stored {
        /// Who authorized it.
        account: Account,
    },
    /// The record is sealed on disk; the store has not taken it yet.
    Sealed {
        /// Who authorized it.
        account: Account,
        /// Why the store has not, as a stable word.
        why: &'static str,
    },
    /// Sealed on disk and not served: the provider has not said yet whose it is.
    Unverified,
}

/// What a revocation or a deletion came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The status after it.
    pub view: View,
    /// What the provider said.
    pub upstream: Revocation,
}

/// What a look into quarantine came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    /// A stable word: `nothing`, `busy`, `unreadable`, `overtaken`, `readable`.
    pub word: &'static str,
    /// One sentence for a person.
    pub message: String,
    /// The status; a recovered answer is being stored.
    pub view: View,
}

/// A request to read the configuration again; `daemon` answers it.
pub struct Reload {
    /// Where the answer goes: a sentence for a person, or every problem as text.
    pub reply: oneshot::Sender<Result<String, String>>,
}

/// What reaches the engine from its handles.
pub(super) enum Ask {
    Start(Start, Reply<Started>),
    Peek(Ticket, Reply<Invitation>),
    Confirm(Ticket, Confirmation, Reply<Going>),
    Callback(Box<Callback>, Reply<Landing>),
    Refresh(IntegrationId, Reply<View>),
    Validate(IntegrationId, Reply<View>),
    Revoke(IntegrationId, Reply<Ended>),
    Delete(IntegrationId, Reply<Ended>),
    Import(IntegrationId, Imported, Reply<Landing>),
    Device(IntegrationId, Reply<DeviceStarted>),
    Enable(IntegrationId, Reply<Enabling>),
    Recover(IntegrationId, Reply<Recovered>),
    Nudge(IntegrationId),
    Answered(IntegrationId, ApiAnswer, u64),
    Due(IntegrationId),
    Replan(Box<super::Plan>, BTreeMap<IntegrationId, Found>, oneshot::Sender<()>),
    Turn(oneshot::Sender<()>),
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

impl Handle {
    pub(super) const fn new(
        asks: mpsc::Sender<Ask>,
        reloads: mpsc::Sender<Reload>,
        board: Arc<Board>,
    ) -> Self {
        Self { asks, reloads, board }
    }

    /// The board, for reads.
    #[must_use]
    pub const fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Mints a one-time link for exactly one integration.
    ///
    /// # Errors
    /// `invalid_request` when it does not fit exactly one, or the scopes are no subset;
    /// `integration_not_found`; `redirect_not_allowed`.
    pub async fn start(&self, start: Start) -> Result<Started, Refusal> {
        self.ask(|reply| Ask::Start(start, reply)).await
    }

    /// What a link leads to. Spends nothing.
    ///
    /// # Errors
    /// `invalid_oauth_state` for a link that is unknown, used or over.
    pub async fn invitation(&self, ticket: Ticket) -> Result<Invitation, Refusal> {
        self.ask(|reply| Ask::Peek(ticket, reply)).await
    }

    /// Follows a link: spends it, unless the provider cannot be reached to begin.
    ///
    /// # Errors
    /// `invalid_oauth_state`; `provider_not_configured`; `token_unavailable`; `rate_limited`.
    pub async fn confirm(&self, ticket: Ticket, confirmation: Confirmation) -> Result<Going, Refusal> {
        self.ask(|reply| Ask::Confirm(ticket, confirmation, reply)).await
    }

    /// Judges a callback, and if it is good waits until its record is stored, or it is known why it is not.
    ///
    /// # Errors
    /// The codes of contract §5 for callbacks.
    pub async fn callback(&self, callback: Callback) -> Result<Landing, Refusal> {
        self.ask(|reply| Ask::Callback(Box::new(callback), reply)).await
    }

    /// Refreshes out of turn, joining one that is under way, and waits for its end.
    ///
    /// # Errors
    /// `integration_not_found`, `integration_pending`, `integration_revoked`, `needs_reauth`, `token_unavailable`.
    pub async fn refresh(&self, integration: &IntegrationId) -> Result<View, Refusal> {
        self.ask(|reply| Ask::Refresh(integration.clone(), reply)).await
    }

    /// Tries the token in use at the provider, and waits for what comes of it: a refresh, where it is invalid.
    ///
    /// # Errors
    /// `integration_not_found`, `integration_pending`, `integration_revoked`, `needs_reauth`; `invalid_request` where the
    /// provider has nothing to try a token at; `token_unavailable` without a live token, and when the provider does not answer.
    pub async fn validate(&self, integration: &IntegrationId) -> Result<View, Refusal> {
        self.ask(|reply| Ask::Validate(integration.clone(), reply)).await
    }

    /// Revokes: nothing is served any more before this returns; waits (at most about 10 s) for what the provider says.
    ///
    /// # Errors
    /// `integration_not_found`, `integration_pending`.
    pub async fn revoke(&self, integration: &IntegrationId) -> Result<Ended, Refusal> {
        self.ask(|reply| Ask::Revoke(integration.clone(), reply)).await
    }

    /// Revokes, and deletes what is kept: afterwards the integration is pending again. Waits as [`Handle::revoke`] does; where the
    /// store does not answer, the rest goes on by itself and the status says so.
    ///
    /// # Errors
    /// `integration_not_found`, `integration_pending`.
    pub async fn delete(&self, integration: &IntegrationId) -> Result<Ended, Refusal> {
        self.ask(|reply| Ask::Delete(integration.clone(), reply)).await
    }

    /// Takes over a refresh token or a key, and waits until its record is stored, or it is known why it is not.
    ///
    /// # Errors
    /// `integration_not_found`; `invalid_request`; the codes of a consent's end.
    pub async fn import(&self, integration: &IntegrationId, imported: Imported) -> Result<Landing, Refusal> {
        self.ask(|reply| Ask::Import(integration.clone(), imported, reply)).await
    }

    /// Begins a device flow; its end is seen in the status. It is forgotten by a restart.
    ///
    /// # Errors
    /// `integration_not_found`, `invalid_request`, `preflight_failed`, `provider_not_configured`, `token_unavailable`.
    pub async fn device(&self, integration: &IntegrationId) -> Result<DeviceStarted, Refusal> {
        self.ask(|reply| Ask::Device(integration.clone(), reply)).await
    }

    /// Has a grant that needs no person work, also after a revocation; waits for its token. Says what else is needed.
    ///
    /// # Errors
    /// `integration_not_found`, `token_unavailable`; `invalid_request` where a key has to be imported.
    pub async fn enable(&self, integration: &IntegrationId) -> Result<Enabling, Refusal> {
        self.ask(|reply| Ask::Enable(integration.clone(), reply)).await
    }

    /// Looks again at sealed answers in quarantine, and goes on with one that can be read now.
    ///
    /// # Errors
    /// `integration_not_found`.
    pub async fn recover(&self, integration: &IntegrationId) -> Result<Recovered, Refusal> {
        self.ask(|reply| Ask::Recover(integration.clone(), reply)).await
    }

    /// Says that an app found the lease too short. At most one refresh in 30 s comes of it. Never waits.
    pub fn nudge(&self, integration: &IntegrationId) {
        // A full inbox means that the engine has enough to do; the next read nudges again.
        let _full = self.asks.try_send(Ask::Nudge(integration.clone()));
    }

    /// Says what a provider's API answered to lease `issue` (`Served::issue`). Never waits, and costs a look at the board where
    /// nothing would change by it.
    pub fn answered(&self, integration: &IntegrationId, answer: ApiAnswer, issue: u64) {
        let Some(cell) = self.board.cell(integration.as_str()) else { return };
        if !cell.passes_on(&answer, issue) {
            return;
        }
        // A full inbox means that the engine has enough to do; the next answer says it again.
        if self.asks.try_send(Ask::Answered(integration.clone(), answer, issue)).is_err() {
            cell.hears_again(true);
        }
    }

    /// Says that a cron schedule fired for an integration.
    pub async fn due(&self, integration: &IntegrationId) {
        let _stopping = self.asks.send(Ask::Due(integration.clone())).await;
    }

    /// Asks for the configuration to be read again.
    ///
    /// # Errors
    /// Every problem, as text for a person; the old configuration stays in force.
    pub async fn reload(&self) -> Result<String, String> {
        let (reply, answer) = oneshot::channel();
        if self.reloads.send(Reload { reply }).await.is_err() {
            return Err(STOPPING.into());
        }
        answer.await.unwrap_or_else(|_gone| Err(STOPPING.into()))
    }

    /// Puts a new plan in force: integrations that stay keep their lives; `found` is what the spool holds for new ones.
    pub async fn replan(&self, plan: super::Plan, found: BTreeMap<IntegrationId, Found>) {
        let (reply, done) = oneshot::channel();
        if self.asks.send(Ask::Replan(Box::new(plan), found, reply)).await.is_ok() {
            let _stopping = done.await;
        }
    }

    /// Comes back after a turn of the loop: false if there is no loop any more, or it is stuck.
    pub async fn turns(&self) -> bool {
        let (reply, done) = oneshot::channel();
        let turn = async { self.asks.send(Ask::Turn(reply)).await.is_ok() && done.await.is_ok() };
        tokio::time::timeout(STUCK, turn).await.unwrap_or(false)
    }

    async fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(ask(reply)).await.map_err(|_closed| stopping())?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(end)) => end,
            Ok(Err(_dropped)) => Err(stopping()),
            Err(_elapsed) => Err(Refusal::new(
                Code::TokenUnavailable,
                "it is still going on: look at the status in a while",
            )
            .with_retry_after(Duration::from_secs(10))),
        }
    }
}

fn stopping() -> Refusal {
    Refusal::new(Code::TokenUnavailable, STOPPING).with_retry_after(Duration::from_secs(5))
}

const STOPPING: &str = "the daemon is stopping";
/// Longer than all the bounded steps of one flow together.
const PATIENCE: Duration = Duration::from_secs(55);
const STUCK: Duration = Duration::from_secs(10);
