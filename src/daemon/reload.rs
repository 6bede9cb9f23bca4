//! Puts another configuration in force without dropping a request, or says why not and keeps the old one.
//!
//! What needs a restart is refused or named, never half done: an integration keeps its three names and its place for life.

use super::compose::{Composer, apis, plan};
use super::performer::Routes;
use super::run::{StartError, found, open_settings, operators};
use crate::config::{Checked, Config, Problems};
use crate::edge::provider::Apis;
use crate::edge::schedule::{NotASchedule, Schedules};
use crate::edge::socket::Operators;
use crate::edge::spool::Spool;
use crate::edge::web::WebSettings;
use crate::engine::{Handle, Reload, Trail};
use crate::lifecycle::{Actor, AuditEvent, Code, IntegrationId};
use crate::secret::SealKey;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Reads the configuration again.
pub type Rereads = Arc<dyn Fn() -> Result<Checked, Problems> + Send + Sync>;

/// Everything that a reload may change.
pub(super) struct Reloader {
    pub(super) now: Config,
    pub(super) rereads: Rereads,
    pub(super) composer: Composer,
    pub(super) key: Arc<SealKey>,
    pub(super) spool: Spool,
    pub(super) routes: Arc<ArcSwap<Routes>>,
    pub(super) upstream: Arc<Apis>,
    pub(super) settings: Arc<ArcSwap<WebSettings>>,
    pub(super) public_url: Arc<ArcSwap<Url>>,
    pub(super) operators: Arc<ArcSwap<Operators>>,
    pub(super) schedules: Firings,
    pub(super) trail: Arc<dyn Trail>,
}

/// The schedules that run, and where their firings go.
pub(super) struct Firings {
    running: Schedules,
    due: mpsc::UnboundedSender<Arc<[IntegrationId]>>,
}

impl Reloader {
    /// Answers reloads until `stop`.
    pub(super) async fn run(
        mut self,
        mut reloads: mpsc::Receiver<Reload>,
        handle: Handle,
        stop: CancellationToken,
    ) {
        while let Some(Some(reload)) = stop.run_until_cancelled(reloads.recv()).await {
            let end = self.reload(&handle).await;
            match &end {
                Ok(_) => tracing::info!("reloaded"),
                Err(_) => tracing::error!("the new configuration was refused; the old one stays in force"),
            }
            let event = AuditEvent::done("reloaded", Actor::Grantd);
            let outcome = if end.is_ok() { "ok" } else { Code::InvalidRequest.word() };
            self.trail.record(AuditEvent { outcome, ..event });
            // Whoever asked may have gone.
            let _gone = reload.reply.send(end);
        }
        self.schedules.running.stop().await;
    }

    async fn reload(&mut self, handle: &Handle) -> Result<String, String> {
        let Checked { mut config, warnings } = (self.rereads)().map_err(|problems| problems.to_string())?;
        self.check_places(&config)?;
        let restart = self.needs_restart(&config);
        // The lock, the spool and the sealed files stay where they are until then.
        config.state = self.now.state.clone();
        let plain = |error: StartError| error.to_string();
        let settings = open_settings(&config, &mut self.composer).map_err(plain)?;
        let fresh = self.composer.routes(&config, &self.key).map_err(|error| error.to_string())?;
        let running = start(&config, &self.schedules.due).await.map_err(|error| error.to_string())?;
        std::mem::replace(&mut self.schedules.running, running).stop().await;
        // An integration that goes finishes what is in flight along its old route.
        let mut routes = Routes::clone(&self.routes.load());
        routes.extend(fresh);
        self.routes.store(Arc::new(routes));
        self.upstream.replace(apis(&config));
        let plan = plan(&config);
        let found = found(&self.spool, &plan);
        handle.replan(plan, found).await;
        self.settings.store(Arc::new(settings));
        self.public_url.store(Arc::new(config.server.public_url.clone()));
        self.operators.store(Arc::new(operators(&config)));
        let mut said = format!(
            "reloaded: {} integrations, {} bindings",
            config.integrations.len(),
            config.bindings.len()
        );
        for needs in restart {
            said.push_str(&format!("\n{needs} changed: that needs a restart"));
        }
        for warning in warnings {
            said.push_str(&format!("\n{warning}"));
        }
        self.now = config;
        Ok(said)
    }

    /// An integration whose names or place changed would be another one under the same id.
    fn check_places(&self, config: &Config) -> Result<(), String> {
        let moved: Vec<_> = config
            .integrations
            .iter()
            .filter(|(id, new)| {
                self.now.integrations.get(*id).is_some_and(|old| {
                    old.identity != new.identity
                        || old.secret != new.secret
                        || !old.store.is_same_place(&new.store)
                })
            })
            .map(|(id, _)| format!("`{id}`"))
            .collect();
        if moved.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{} changed organization, provider or the place of its record: restart grantd to put that in force",
            moved.join(", ")
        ))
    }

    fn needs_restart(&self, config: &Config) -> Vec<&'static str> {
        let old = &self.now;
        let changed = [
            ("server.listen", old.server.listen != config.server.listen),
            (
                "[sockets]",
                old.sockets.app != config.sockets.app || old.sockets.control != config.sockets.control,
            ),
            ("[state]", old.state != config.state),
            ("telemetry.log", old.log != config.log),
        ];
        changed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
    }
}

/// Starts the schedules of a configuration, and the task that hands their firings to the engine.
pub(super) async fn schedules(
    config: &Config,
    handle: &Handle,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<Firings, NotASchedule> {
    let (due, mut fired) = mpsc::unbounded_channel::<Arc<[IntegrationId]>>();
    let running = start(config, &due).await?;
    let (handle, stop) = (handle.clone(), stop.clone());
    let _forwarder = tasks.spawn(async move {
        while let Some(Some(ids)) = stop.run_until_cancelled(fired.recv()).await {
            for id in ids.iter() {
                handle.due(id).await;
            }
        }
    });
    Ok(Firings { running, due })
}

/// One job for each expression: ten thousand integrations on one schedule are one firing.
async fn start(
    config: &Config,
    due: &mpsc::UnboundedSender<Arc<[IntegrationId]>>,
) -> Result<Schedules, NotASchedule> {
    let mut by_cron: BTreeMap<&str, Vec<IntegrationId>> = BTreeMap::new();
    for (id, integration) in &config.integrations {
        if let Some(schedule) = &integration.schedule {
            by_cron.entry(schedule.as_str()).or_default().push(id.clone());
        }
    }
    let wanted = by_cron.into_iter().map(|(cron, ids)| {
        let (ids, due): (Arc<[IntegrationId]>, _) = (ids.into(), due.clone());
        let fire: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            // After the stop nobody listens.
            let _stopped = due.send(Arc::clone(&ids));
        });
        (cron.to_owned(), fire)
    });
    Schedules::start(wanted.collect()).await
}
