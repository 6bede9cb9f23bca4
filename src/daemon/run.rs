//! Starts everything, says when it is ready, and stops it in order.
//!
//! Ready means: configuration, lock, spool, listeners. Neither AWS nor a provider is waited for. A stop closes the listeners,
//! lets what is in flight finish, and is bounded: what is sealed by then is found again at the next start.

use super::compose::{Composer, apis, plan};
use super::key::{KeyTrouble, seal_key};
use super::performer::{Edges, Routes};
use super::reload::{Reloader, Rereads, schedules};
use crate::config::{Config, People, Surroundings};
use crate::edge::audit::{Ledger, LedgerError};
use crate::edge::clock::WallClock;
use crate::edge::entropy::KernelEntropy;
use crate::edge::provider::{Apis, Transport, TransportError};
use crate::edge::schedule::NotASchedule;
use crate::edge::socket::{AppDesk, BindError, ControlDesk, Operators, bind, serve_app, serve_control};
use crate::edge::spool::{Leftover, NotOurs, Spool, SpoolError, check_home};
use crate::edge::systemd::{self, Passed};
use crate::edge::web::{self, Organization, TlsError, Web, WebSettings};
use crate::engine::{Clock, Engine, Handle, Ports, Trail};
use crate::lifecycle::{Actor, AuditEvent, Consents, FlowKeys, Found, IntegrationId};
use arc_swap::ArcSwap;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

/// What a daemon is started with.
pub struct Setup {
    /// The checked configuration.
    pub config: Config,
    /// Reads the configuration again, for a reload.
    pub rereads: Rereads,
    /// The host, for secrets and keys.
    pub around: Arc<dyn Surroundings + Send + Sync>,
    /// The sockets that systemd passed.
    pub passed: Passed,
}

/// A running daemon.
pub struct Daemon {
    ready: Ready,
    handle: Handle,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    app: std::thread::JoinHandle<()>,
    ledger: Arc<Ledger>,
}

/// Where a daemon listens (contract §7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// Always `ready`.
    pub event: &'static str,
    /// The address of the public listener.
    pub public: String,
    /// The path of the app socket.
    pub app: PathBuf,
    /// The path of the control socket.
    pub control: PathBuf,
}

/// Why a daemon does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A secret of the configuration cannot be read any more.
    #[error("{0}")]
    Secret(String),
    /// There is no seal key.
    #[error(transparent)]
    Key(#[from] KeyTrouble),
    /// The state directory is not grantd's own.
    #[error(transparent)]
    State(#[from] NotOurs),
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The audit trail cannot be used.
    #[error(transparent)]
    Audit(#[from] LedgerError),
    /// A Unix socket cannot be made.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// The public listener cannot be made.
    #[error(
        "the public listener cannot listen on {address} ({kind}): change server.listen, or free the address"
    )]
    Public {
        /// The address.
        address: String,
        /// The kind of error.
        kind: io::ErrorKind,
    },
    /// The TLS certificate or key is not usable.
    #[error("server.tls: {0}")]
    Tls(#[from] TlsError),
    /// The TLS client cannot be made.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A schedule cannot be run.
    #[error(transparent)]
    Schedule(#[from] NotASchedule),
    /// The kernel refuses something else.
    #[error("the kernel refuses a thread or a socket ({0})")]
    Kernel(io::ErrorKind),
}

impl Daemon {
    /// Starts everything and returns once it is ready. Call within a multi-threaded runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(setup: Setup) -> Result<Self, StartError> {
        let Setup { config, rereads, around, passed } = setup;
        let clock: Arc<dyn Clock> = Arc::new(WallClock);
        let _told = check_home(&config.state.directory)?;
        let key = Arc::new(seal_key(&config.state, around.as_ref())?);
        let (spool, leftovers) = Spool::open(&config.state.directory, Arc::clone(&key))?;
        let ledger = Arc::new(Ledger::open(&config.state.directory, &key, Arc::clone(&clock))?);
        let trail: Arc<dyn Trail> = ledger.clone();
        let transport = Transport::new(Arc::clone(&clock), Transport::DEADLINE)?;
        let mut composer = Composer::new(transport, Arc::clone(&clock), Arc::clone(&around));
        let routes = composer.routes(&config, &key).map_err(|error| StartError::Secret(error.to_string()))?;
        let routes = Arc::new(ArcSwap::from_pointee(routes));
        let plan = plan(&config);
        let found = found(&spool, &plan);
        report(leftovers, &spool, &plan);

        let listeners = Listeners::open(&config, passed)?;
        let settings = Arc::new(ArcSwap::from_pointee(open_settings(&config, &mut composer)?));
        let public_url = Arc::new(ArcSwap::from_pointee(config.server.public_url.clone()));
        let operators = Arc::new(ArcSwap::from_pointee(operators(&config)));

        let ports = ports(&spool, &routes, &clock, &trail);
        let (mut engine, handle, reloads) =
            Engine::new(plan.clone(), ports, Consents::new(FlowKeys::derive(&key)));
        engine.restore(plan, found);

        let stop = CancellationToken::new();
        let ready = listeners.ready(&config);
        let upstream = Arc::new(Apis::new(apis(&config))?);
        let app_desk = app_desk(&handle, &clock, &trail, &upstream);
        let app = serve_app(listeners.app, app_desk, stop.clone()).map_err(kernel)?;
        let mut tasks = JoinSet::new();
        let desk = control_desk(&handle, &clock, &operators, &public_url, &trail);
        let web = web_of(&handle, clock, &trail, &settings);
        let schedules = schedules(&config, &handle, &mut tasks, &stop).await?;
        let reloader = Reloader {
            now: config,
            rereads,
            composer,
            key,
            spool,
            routes,
            upstream,
            settings,
            public_url,
            operators,
            schedules,
            trail: Arc::clone(&trail),
        };
        let _engine = tasks.spawn(engine.run(stop.clone()));
        let _control =
            tasks.spawn(ends("control socket", serve_control(listeners.control, desk, stop.clone())));
        let _web = tasks.spawn(ends("public listener", web::serve(listeners.public, web, stop.clone())));
        let _reloads = tasks.spawn(reloader.run(reloads, handle.clone(), stop.clone()));
        let _watchdog = tasks.spawn(watchdog(handle.clone(), stop.clone()));
        trail.record(AuditEvent::done("started", Actor::Grantd));
        Ok(Self { ready, handle, stop, tasks, app, ledger })
    }

    /// Where it listens.
    #[must_use]
    pub const fn ready(&self) -> &Ready {
        &self.ready
    }

    /// A handle to its engine.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs until `until` ends, then stops: listeners first, what is in flight to its end, 25 s at most.
    ///
    /// # Errors
    /// [`Broken`] where a part of the daemon ended by a bug; it stops then as well, since a daemon without its loop serves what
    /// nobody renews.
    pub async fn run(mut self, until: impl Future<Output = ()>) -> Result<(), Broken> {
        systemd::ready();
        let end = tokio::select! {
            () = until => Ok(()),
            broken = first_broken(&mut self.tasks) => Err(broken),
            () = has_ended(&self.app) => Err(Broken),
        };
        systemd::stopping();
        tracing::info!("stopping");
        self.stop.cancel();
        let drained = async {
            while self.tasks.join_next().await.is_some() {}
            let app = self.app;
            let _joined = tokio::task::spawn_blocking(move || app.join().is_ok()).await;
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::error!("not everything in flight has ended; what is sealed goes on at the next start");
        }
        let ledger = self.ledger;
        ledger.record(AuditEvent::done("stopped", Actor::Grantd));
        let closed = tokio::task::spawn_blocking(move || ledger.close());
        let _late = tokio::time::timeout(LAST_LINES, closed).await;
        end
    }
}

/// The edges, behind every port that they serve.
/// A part of the daemon ended by a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a part of the daemon broke off: this is a bug, please report it with the log; nothing that was sealed is lost"
)]
pub struct Broken;

/// Waits for the app socket's thread to end before it was asked to.
async fn has_ended(app: &std::thread::JoinHandle<()>) {
    let mut look = tokio::time::interval(Duration::from_secs(1));
    while !app.is_finished() {
        let _at = look.tick().await;
    }
}

/// Waits for a part that ends by a panic. Parts that end by themselves, such as a watchdog that nobody wants, do not count.
async fn first_broken(tasks: &mut JoinSet<()>) -> Broken {
    loop {
        match tasks.join_next().await {
            Some(Ok(())) => {}
            Some(Err(_panicked)) => return Broken,
            None => std::future::pending().await,
        }
    }
}

const DRAIN: Duration = Duration::from_secs(25);
/// How long the last lines of the audit trail may take.
const LAST_LINES: Duration = Duration::from_secs(3);

/// The three listeners, open.
struct Listeners {
    app: UnixListener,
    control: UnixListener,
    public: TcpListener,
}

impl Listeners {
    fn open(config: &Config, passed: Passed) -> Result<Self, StartError> {
        let sockets = &config.sockets;
        let app = match passed.app {
            Some(app) => app,
            None => bind(&sockets.app, 0o660, sockets.app_group)?,
        };
        let control = match passed.control {
            Some(control) => control,
            None => bind(&sockets.control, control_mode(config), sockets.control_group)?,
        };
        let public = match passed.public {
            Some(public) => public,
            None => TcpListener::bind(config.server.listen).map_err(|error| StartError::Public {
                address: config.server.listen.to_string(),
                kind: error.kind(),
            })?,
        };
        app.set_nonblocking(true)
            .and_then(|()| control.set_nonblocking(true))
            .and_then(|()| public.set_nonblocking(true))
            .map_err(kernel)?;
        Ok(Self { app, control, public })
    }

    /// The Unix sockets are named as configured: a passed one is made by its unit, one of our own was bound under a private name.
    fn ready(&self, config: &Config) -> Ready {
        let public = self.public.local_addr().map_or_else(|_unknown| String::new(), |at| at.to_string());
        Ready {
            event: "ready",
            public,
            app: config.sockets.app.clone(),
            control: config.sockets.control.clone(),
        }
    }
}

const fn control_mode(config: &Config) -> u32 {
    if config.sockets.control_group.is_some() { 0o660 } else { 0o600 }
}

/// The edges behind the engine's ports.
fn ports(
    spool: &Spool,
    routes: &Arc<ArcSwap<Routes>>,
    clock: &Arc<dyn Clock>,
    trail: &Arc<dyn Trail>,
) -> Ports {
    let entropy = Arc::new(KernelEntropy);
    let edges =
        Arc::new(Edges { spool: spool.clone(), routes: Arc::clone(routes), entropy: entropy.clone() });
    Ports {
        performer: edges.clone(),
        authorizer: edges.clone(),
        preflight: edges,
        clock: Arc::clone(clock),
        entropy,
        trail: Arc::clone(trail),
    }
}

pub(super) fn operators(config: &Config) -> Operators {
    Operators { own_uid: rustix::process::geteuid().as_raw(), group: config.sockets.control_group }
}

fn app_desk(
    handle: &Handle,
    clock: &Arc<dyn Clock>,
    trail: &Arc<dyn Trail>,
    upstream: &Arc<Apis>,
) -> AppDesk {
    let (handle, clock, trail) = (handle.clone(), Arc::clone(clock), Arc::clone(trail));
    AppDesk { handle, clock, trail, upstream: upstream.clone() }
}

fn control_desk(
    handle: &Handle,
    clock: &Arc<dyn Clock>,
    operators: &Arc<ArcSwap<Operators>>,
    public_url: &Arc<ArcSwap<Url>>,
    trail: &Arc<dyn Trail>,
) -> ControlDesk {
    ControlDesk {
        handle: handle.clone(),
        clock: Arc::clone(clock),
        operators: Arc::clone(operators),
        public_url: Arc::clone(public_url),
        trail: Arc::clone(trail),
    }
}

fn web_of(
    handle: &Handle,
    clock: Arc<dyn Clock>,
    trail: &Arc<dyn Trail>,
    settings: &Arc<ArcSwap<WebSettings>>,
) -> Web {
    Web {
        handle: handle.clone(),
        clock,
        entropy: Arc::new(KernelEntropy),
        trail: Arc::clone(trail),
        settings: Arc::clone(settings),
    }
}

/// The settings, with the sign-in that the configuration names.
pub(super) fn open_settings(config: &Config, composer: &mut Composer) -> Result<WebSettings, StartError> {
    let sign_in = composer.sign_in(config).map_err(|error| StartError::Secret(error.to_string()))?;
    Ok(WebSettings { sign_in, ..web_settings(config, composer.around.as_ref())? })
}

pub(super) fn web_settings(config: &Config, around: &dyn Surroundings) -> Result<WebSettings, StartError> {
    let tls = match &config.server.tls {
        None => None,
        Some(tls) => {
            let unreadable = |why: String| StartError::Secret(format!("server.tls: {why}"));
            let certificate =
                around.read(&tls.certificate).map_err(|error| unreadable(error.kind().to_string()))?;
            let key = tls.key.read(around).map_err(|why| unreadable(why.to_string()))?;
            Some(web::tls_config(&certificate, &key)?)
        }
    };
    let public_url: Url = config.server.public_url.clone();
    let people = |people: &People| Organization {
        admins: people.admins.clone(),
        external_ids: people.external_ids.clone(),
    };
    Ok(WebSettings {
        public_url,
        tls,
        trusted_proxies: config.server.trusted_proxies.clone(),
        sign_in: None,
        organizations: config.organizations.iter().map(|(id, of)| (id.clone(), people(of))).collect(),
        integrations: plan(config).integrations,
    })
}

/// What the spool holds for each integration of a plan.
pub(super) fn found(spool: &Spool, plan: &crate::engine::Plan) -> BTreeMap<IntegrationId, Found> {
    plan.integrations.iter().map(|(id, planned)| (id.clone(), spool.find(&planned.identity))).collect()
}

fn report(leftovers: Vec<Leftover>, spool: &Spool, plan: &crate::engine::Plan) {
    let unconfigured = spool.unconfigured(plan.integrations.values().map(|planned| &planned.identity));
    for leftover in leftovers.into_iter().chain(unconfigured) {
        match leftover {
            Leftover::Unreadable { copy } => tracing::error!(
                copy = %copy.display(),
                "a cell of the spool does not open with this seal key; a copy is kept"
            ),
            Leftover::Unconfigured(identity) => tracing::error!(
                integration = %identity.integration,
                organization = %identity.organization,
                provider = %identity.provider,
                "the spool holds tokens of an integration that is not configured; configure it again to have them stored"
            ),
        }
    }
}

async fn ends(what: &'static str, listener: impl Future<Output = io::Result<()>>) {
    if let Err(error) = listener.await {
        tracing::error!(what, error = %error.kind(), "a listener ended");
    }
}

/// Pings systemd's watchdog by turns of the loop: a loop that is stuck is not covered up.
async fn watchdog(handle: Handle, stop: CancellationToken) {
    let Some(span) = systemd::watchdog() else { return };
    let mut beat = tokio::time::interval(span.min(LONGEST_BEAT));
    while stop.run_until_cancelled(beat.tick()).await.is_some() {
        if handle.turns().await {
            systemd::alive();
        }
    }
}

const LONGEST_BEAT: Duration = Duration::from_secs(30);

fn kernel(error: io::Error) -> StartError {
    StartError::Kernel(error.kind())
}
