//! Looks whether everything is there that a consent needs: secret, key, spool, client, provider, clock.
//!
//! Nothing is changed and no token is sent. What is missing is told with its remedy (`remedies.rs`); what cannot be proved yet is a
//! note, and stops nobody. Each look is bounded.

use super::compose::Composer;
use super::performer::Edges;
use super::remedies::{self, Seat};
use super::run::{StartError, web_settings};
use crate::config::{Config, IntegrationConfig, ProviderConfig, SecretSource, StoreConfig, Surroundings};
use crate::edge::clock::WallClock;
use crate::edge::provider::{Provider, Transport, Unreached};
use crate::edge::spool;
use crate::edge::store::{Caller, Inspection, Proof, SecretsManager, Snag};
use crate::engine::{Clock, Pending, Preflight};
use crate::lifecycle::{Identity, Missing, ProviderId, WireFault};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// What one integration depends on.
pub(super) struct Subject {
    pub(super) integration: IntegrationConfig,
    pub(super) provider: ProviderConfig,
    /// `[store]`, with whose settings client secrets are read.
    pub(super) base: StoreConfig,
    pub(super) reach: Provider,
    /// Where its record is, if that is AWS.
    pub(super) records: Option<Arc<SecretsManager>>,
    /// Where its client secret is, if that is AWS.
    pub(super) clients: Option<Arc<SecretsManager>>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What a look came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is missing.
    pub missing: Vec<Missing>,
    /// What is worth knowing: who AWS says grantd is, and what is not proved yet.
    pub notes: Vec<String>,
}

impl Report {
    fn of(missing: Missing) -> Self {
        Self { missing: vec![missing], notes: Vec::new() }
    }

    fn noted(note: String) -> Self {
        Self { missing: Vec::new(), notes: vec![note] }
    }

    fn add(&mut self, other: Self) {
        self.missing.extend(other.missing);
        self.notes.extend(other.notes);
    }
}

impl Preflight for Edges {
    fn look(&self, identity: &Identity) -> Pending<Vec<Missing>> {
        let (route, spool) = (self.route(identity), self.spool.clone());
        Box::pin(async move {
            let directory = spool.directory();
            let room = tokio::task::spawn_blocking(move || spool.ready());
            let Some(route) = route else { return Vec::new() };
            let subject = &route.subject;
            let (record, client, provider) = tokio::join!(
                Box::pin(subject.record()),
                Box::pin(subject.client()),
                Box::pin(subject.provider())
            );
            let mut report = record;
            report.add(client);
            report.add(provider);
            // A task that broke off has shown nothing.
            if let Ok(Err(fault)) = room.await {
                report.missing.push(remedies::of_spool(&directory, fault));
            }
            report.missing
        })
    }
}

impl Subject {
    /// The record's secret and its key.
    async fn record(&self) -> Report {
        let Some(manager) = &self.records else { return Report::default() };
        let (secret, identity) = (&self.integration.secret, &self.integration.identity);
        let looked = tokio::time::timeout(PATIENCE, Box::pin(manager.inspect(secret, identity))).await;
        let silent = |_late| Inspection { arn: None, key: None, end: Err(Snag::Unreachable) };
        let seen = looked.unwrap_or_else(silent);
        let id = &identity.integration;
        match &seen.end {
            Ok(Proof::Written) => Report::default(),
            Ok(Proof::Read | Proof::Described) => {
                Report::noted(format!("{id}: writing {secret} is not proved before the first write"))
            }
            Ok(Proof::ToBeMade) => Report::noted(format!(
                "{id}: {secret} is not there (or may not be seen); the first write makes it"
            )),
            Err(snag) => {
                let caller = caller(manager).await;
                Report::of(remedies::of_record(&Seat::of_record(self, &seen, caller), snag))
            }
        }
    }

    /// The client secrets, where AWS keeps them. Others were read when the configuration was.
    async fn client(&self) -> Report {
        let Some(manager) = &self.clients else { return Report::default() };
        let mut report = Report::default();
        for source in self.provider.client_secrets() {
            let SecretSource::Secret { name, member } = source else { continue };
            let asked = Box::pin(manager.inspect_text(name, member.as_deref()));
            if let Err(snag) = tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Err(Snag::Unreachable)) {
                let seat = Seat::of_client(self, name, caller(manager).await);
                report.add(Report::of(remedies::of_client(&seat, &snag, member.as_deref())));
            }
        }
        report
    }

    /// The provider's endpoints, and this host's clock against its.
    async fn provider(&self) -> Report {
        let reached = tokio::time::timeout(PATIENCE, Box::pin(self.reach.reach())).await;
        let late = |_late| Err(Unreached::Host { host: String::new(), fault: WireFault::Timeout });
        match reached.unwrap_or_else(late) {
            Err(why) => Report::of(remedies::of_provider(&self.provider, &why)),
            Ok(None) => Report::default(),
            Ok(Some(theirs)) => {
                let ours = self.clock.now();
                let apart = ours.since(theirs).max(theirs.since(ours));
                if apart > SKEW { Report::of(remedies::of_clock(Some(apart))) } else { Report::default() }
            }
        }
    }
}

/// Who AWS says that grantd is; asked only where something is wrong, to name it in the remedy.
async fn caller(manager: &SecretsManager) -> Result<Caller, Snag> {
    tokio::time::timeout(SHORT, Box::pin(manager.caller())).await.unwrap_or(Err(Snag::Unreachable))
}

/// Looks at everything that a configuration depends on, for `grantd check`. Takes no lock and makes no file.
///
/// # Errors
/// [`StartError`] where a secret of the configuration or the TLS client cannot be used at all.
pub async fn preflight(
    config: &Config,
    around: Arc<dyn Surroundings + Send + Sync>,
) -> Result<Report, StartError> {
    let clock: Arc<dyn Clock> = Arc::new(WallClock);
    let transport = Transport::new(Arc::clone(&clock), Transport::DEADLINE)?;
    let mut composer = Composer::new(transport, clock, Arc::clone(&around));
    let subjects = composer.subjects(config).map_err(|error| StartError::Secret(error.to_string()))?;
    let mut report = of_host(config, around.as_ref());
    let lost = identities(&composer, &mut report).await;
    let (mut looks, mut seen) = (JoinSet::new(), BTreeSet::<ProviderId>::new());
    for subject in subjects.into_values().map(Arc::new) {
        let first = seen.insert(subject.provider.id.clone());
        if looks.len() >= AT_ONCE {
            report.add(joined(looks.join_next().await));
        }
        let known = |manager: &Option<Arc<SecretsManager>>| {
            manager.as_ref().is_none_or(|manager| !lost.iter().any(|lost| Arc::ptr_eq(lost, manager)))
        };
        let (record, client) = (known(&subject.records), first && known(&subject.clients));
        let _look = looks.spawn(async move {
            let mut report = Report::default();
            if record {
                report.add(Box::pin(subject.record()).await);
            }
            if client {
                report.add(Box::pin(subject.client()).await);
            }
            if first {
                report.add(Box::pin(subject.provider()).await);
            }
            report
        });
    }
    while let Some(look) = looks.join_next().await {
        report.add(joined(Some(look)));
    }
    report.missing.sort();
    report.missing.dedup();
    report.notes.sort();
    Ok(report)
}

/// Who grantd is in each account; gives back those Secrets Managers of which nothing more can be asked.
async fn identities(composer: &Composer, report: &mut Report) -> Vec<Arc<SecretsManager>> {
    let mut lost = Vec::new();
    for manager in composer.managers() {
        match caller(manager).await {
            Ok(caller) => report.notes.push(format!("AWS identity: {}", caller.arn)),
            Err(snag @ (Snag::Credentials | Snag::Region | Snag::Clock)) => {
                report.missing.extend(remedies::of_identity(&snag));
                lost.push(Arc::clone(manager));
            }
            // Its token service need not be reachable from here for Secrets Manager to be.
            Err(_) => {}
        }
    }
    report.notes.dedup();
    lost
}

/// The state directory and the TLS files.
fn of_host(config: &Config, around: &dyn Surroundings) -> Report {
    let mut report = Report::default();
    let directory = &config.state.directory;
    if directory.exists() {
        if let Err(fault) = spool::writable(directory) {
            report.missing.push(remedies::of_spool(directory, fault));
        }
    } else {
        report.notes.push(format!("{} is not there yet: grantd makes it", directory.display()));
    }
    if let Err(error) = web_settings(config, around) {
        report.missing.push(remedies::of_tls(config, &error.to_string()));
    }
    report
}

/// A look that broke off is a bug, and has shown nothing.
fn joined(look: Option<Result<Report, tokio::task::JoinError>>) -> Report {
    look.and_then(Result::ok).unwrap_or_default()
}

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long AWS is asked who grantd is, after a look.
const SHORT: Duration = Duration::from_secs(3);
/// AWS refuses a request that is more than five minutes off (AWS: "Signature Version 4").
const SKEW: Duration = Duration::from_secs(240);
/// As many as one Secrets Manager is asked at a time.
const AT_ONCE: usize = 16;
