//! Token reads a second on the real app socket, beside a bare hyper responder with the same bytes and headers.
//!
//! A real engine with doubles behind its ports brings one integration to life; from there on everything is what the daemon
//! uses. `cargo bench --bench reads`, or with `-- --quick` for a look. Goal: 0.8 of the bare responder at 8 connections.
//! What a start costs and how much memory many integrations take is measured elsewhere, on the real binary.

use bytes::Bytes;
use grantd::edge::clock::WallClock;
use grantd::edge::entropy::KernelEntropy;
use grantd::edge::provider::Apis;
use grantd::edge::socket::{AppDesk, bind, serve_app};
use grantd::engine::{
    AuthorizationRequest, Authorized, Authorizer, Clock as _, Engine, Handle, Pending, Performer, Plan,
    Planned, Ports, Preflight, Trail,
};
use grantd::lifecycle::{
    Account, Allow, AuditEvent, Binding, Code, Completion, Consents, Dialect, Effect, ExpectedAccount,
    FlowKeys, Identity, IntegrationId, Loaded, Missing, NotAnIdentifier, OrganizationId, Outage, ProviderId,
    Record, RecordStatus, Refusal, Revocation, Rotation, Sealed, Spent, Terms, Trial, Who, WireFault,
};
use grantd::secret::{AccessToken, RefreshToken, SealKey};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (span, runs) = if quick { (Duration::from_secs(1), 3) } else { (Duration::from_secs(5), 5) };
    let directory = tempfile::tempdir()?;
    let stop = CancellationToken::new();
    let handle = engine(&stop)?;
    let body = first_answer(&handle)?;
    let contenders = [
        Contender { name: "grantd", thread: "grantd-app", socket: app(directory.path(), &handle, &stop)? },
        Contender { name: "bare hyper", thread: BARE, socket: bare(directory.path(), &body)? },
    ];
    for contender in &contenders {
        let _warm = load(&contender.socket, 1, Duration::from_millis(100))?;
    }
    for connections in [1, 8, 64] {
        let mut measured = [Vec::new(), Vec::new()];
        for _ in 0..runs {
            for (contender, results) in contenders.iter().zip(&mut measured) {
                results.push(run(contender, connections, span)?);
            }
        }
        report(connections, &contenders, measured);
    }
    stop.cancel();
    Ok(())
}

/// Who is measured, and where.
struct Contender {
    name: &'static str,
    /// The name of the thread that serves.
    thread: &'static str,
    socket: PathBuf,
}

/// What one run came to.
struct Run {
    reads_per_second: f64,
    /// What the serving thread spent on each read: steadier than the rate where the machine has other work.
    cpu: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
}

#[expect(clippy::print_stdout, reason = "a bench reports to a terminal")]
fn report(connections: usize, contenders: &[Contender; 2], measured: [Vec<Run>; 2]) {
    let mut medians = Vec::new();
    for (contender, mut runs) in contenders.iter().zip(measured) {
        runs.sort_by(|left, right| left.reads_per_second.total_cmp(&right.reads_per_second));
        let middle = runs.len() / 2;
        let Some(median) = runs.into_iter().nth(middle) else { return };
        let at = |share: f64| percentile(&median.latencies, share).as_secs_f64() * 1e6;
        println!(
            "{connections:>3} connections  {:<10}  {:>8.0} reads/s  cpu {:>5.2} us  p50 {:>7.1} us  p99 {:>7.1} us  p99.9 {:>7.1} us",
            contender.name,
            median.reads_per_second,
            median.cpu.as_secs_f64() * 1e6,
            at(0.5),
            at(0.99),
            at(0.999),
        );
        medians.push((median.reads_per_second, median.cpu.as_secs_f64()));
    }
    if let [grantd, bare] = medians[..] {
        let (rate, cpu) = (grantd.0 / bare.0, bare.1 / grantd.1);
        println!("{connections:>3} connections  ratio       {rate:>8.3}          cpu {cpu:>5.3}");
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rank among fewer than 2^52 samples"
)]
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share) as usize;
    sorted.get(rank.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn run(contender: &Contender, connections: usize, span: Duration) -> Result<Run, Box<dyn Error>> {
    let before = cpu_of(contender.thread)?;
    let latencies = load(&contender.socket, connections, span)?;
    let cpu = cpu_of(contender.thread)?.saturating_sub(before);
    let reads = u32::try_from(latencies.len())?.max(1);
    Ok(Run { reads_per_second: f64::from(reads) / span.as_secs_f64(), cpu: cpu / reads, latencies })
}

/// How long a thread of this process has run (proc_pid_schedstat).
fn cpu_of(thread: &str) -> Result<Duration, Box<dyn Error>> {
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if std::fs::read_to_string(task.join("comm"))?.trim_end() == thread {
            let stat = std::fs::read_to_string(task.join("schedstat"))?;
            let run = stat.split(' ').next().unwrap_or_default().parse()?;
            return Ok(Duration::from_nanos(run));
        }
    }
    Err(format!("there is no thread {thread}").into())
}

/// Asks on so many connections at once, each again as soon as it is answered, from a thread of its own. How long each answer
/// took, sorted.
fn load(socket: &Path, connections: usize, span: Duration) -> Result<Vec<Duration>, Box<dyn Error>> {
    let socket = socket.to_owned();
    let loader = thread::spawn(move || -> io::Result<Vec<Duration>> {
        Builder::new_current_thread().enable_io().build()?.block_on(async {
            let mut readers = JoinSet::new();
            for _ in 0..connections {
                let _task = readers.spawn(reader(UnixStream::connect(&socket).await?, span));
            }
            let mut latencies = Vec::new();
            while let Some(read) = readers.join_next().await {
                latencies.extend(read??);
            }
            latencies.sort_unstable();
            Ok(latencies)
        })
    });
    Ok(loader.join().map_err(|_panic| "the load generator broke off")??)
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
async fn reader(mut stream: UnixStream, span: Duration) -> io::Result<Vec<Duration>> {
    let mut buffer = vec![0; 16 * 1024];
    let mut latencies = Vec::with_capacity(1 << 20);
    let length = warm_up(&mut stream, &mut buffer).await?;
    let begin = Instant::now();
    let mut asked = begin;
    while asked.duration_since(begin) < span {
        stream.write_all(REQUEST).await?;
        let mut got = 0;
        while got < length {
            let room = buffer.get_mut(got..).unwrap_or_default();
            match stream.read(room).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => got += more,
            }
        }
        if got != length || !buffer.starts_with(OK) {
            return Err(io::Error::other("an answer is not the one that is expected"));
        }
        let answered = Instant::now();
        latencies.push(answered.duration_since(asked));
        asked = answered;
    }
    Ok(latencies)
}

/// The first answer tells how long each of them is.
async fn warm_up(stream: &mut UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    for _ in 0..100 {
        stream.write_all(REQUEST).await?;
        length = stream.read(buffer).await?;
    }
    let answer = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
    let whole = answer.starts_with("HTTP/1.1 200") && answer.contains("no-store") && answer.ends_with('}');
    if whole { Ok(length) } else { Err(io::Error::other(format!("not a token answer: {answer}"))) }
}

/// The real app socket.
fn app(directory: &Path, handle: &Handle, stop: &CancellationToken) -> Result<PathBuf, Box<dyn Error>> {
    let socket = directory.join("app.sock");
    let listener = bind(&socket, 0o600, None)?;
    let desk = AppDesk {
        handle: handle.clone(),
        clock: Arc::new(WallClock),
        trail: Arc::new(AtOnce),
        upstream: Arc::new(Apis::new(BTreeMap::new())?),
    };
    let _ends_with_the_process = serve_app(listener, desk, stop.clone())?;
    Ok(socket)
}

/// hyper and nothing else: the same bytes and headers, on a thread of its own with a single-threaded runtime too.
fn bare(directory: &Path, body: &Bytes) -> io::Result<PathBuf> {
    let socket = directory.join("bare.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket)?;
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let body = body.clone();
    let serve = move || runtime.block_on(serve_bare(listener, body));
    let _ends_with_the_process = thread::Builder::new().name(BARE.into()).spawn(serve)?;
    Ok(socket)
}

async fn serve_bare(listener: std::os::unix::net::UnixListener, body: Bytes) -> io::Result<Infallible> {
    let listener = UnixListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let body = body.clone();
        let answer = service_fn(move |_request: Request<Incoming>| {
            let mut answer = Response::new(Full::new(body.clone()));
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        let _task = connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

/// A real engine on a thread of its own, whose store answers at once with a live lease.
fn engine(stop: &CancellationToken) -> Result<Handle, Box<dyn Error>> {
    let (tell, told) = std::sync::mpsc::channel();
    let plan = plan()?;
    let stop = stop.clone();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let _ends_with_the_process = thread::spawn(move || {
        runtime.block_on(async move {
            let ports = Ports {
                performer: Arc::new(AtOnce),
                authorizer: Arc::new(AtOnce),
                preflight: Arc::new(AtOnce),
                trail: Arc::new(AtOnce),
                clock: Arc::new(WallClock),
                entropy: Arc::new(KernelEntropy),
            };
            let consents = Consents::new(FlowKeys::derive(&SealKey::new([7; 32])));
            let (mut engine, handle, _reloads) = Engine::new(Plan::default(), ports, consents);
            engine.restore(plan, BTreeMap::new());
            let _gone = tell.send(handle);
            engine.run(stop).await;
        });
    });
    Ok(told.recv()?)
}

/// Waits for the lease; the bytes of its answer.
fn first_answer(handle: &Handle) -> Result<Bytes, Box<dyn Error>> {
    let cell = loop {
        match handle.board().cell(NAME) {
            Some(cell) => break cell,
            None => thread::yield_now(),
        }
    };
    Builder::new_current_thread().build()?.block_on(async {
        let mut changes = cell.changes();
        while cell.posting().served.is_none() {
            changes.changed().await?;
        }
        Ok(cell.read(Duration::ZERO, WallClock.now())?)
    })
}

fn plan() -> Result<Plan, NotAnIdentifier> {
    let identity = Identity {
        integration: IntegrationId::parse(NAME)?,
        organization: OrganizationId::parse("acme")?,
        provider: ProviderId::parse(NAME)?,
    };
    let who = Who::Uid(nix::unistd::geteuid().as_raw());
    let (integration, provider) = (identity.integration.clone(), identity.provider.clone());
    let allow = Allow { token: true, proxy: false };
    let terms = Terms {
        origin: grantd::lifecycle::Origin::Consent,
        refresh_at_permille: 700,
        rotation: Rotation::Strict,
        default_life: None,
        expected_account: ExpectedAccount::default(),
        outage: Outage::Hold,
        write_budget: None,
        scopes: vec!["repo".into()],
        dialect: Dialect::default(),
        can_try: false,
        validate_every: None,
    };
    let planned = Planned { identity, provider_name: "GitHub".into(), kept_in: "nowhere".into(), terms };
    Ok(Plan {
        integrations: BTreeMap::from([(integration.clone(), planned)]),
        bindings: vec![Binding { who, integration, provider, allow, paths: Vec::new() }],
        ..Plan::default()
    })
}

/// Ends every effect at once, and well.
struct AtOnce;

impl Performer for AtOnce {
    fn perform(&self, identity: &Identity, effect: Effect) -> Pending<Completion> {
        let end = match effect {
            Effect::Load { .. } => Completion::Loaded(Loaded::Record(Box::new(record(identity)))),
            Effect::Claim { .. } => Completion::Claimed,
            Effect::Intend { .. } => Completion::Intended,
            Effect::Seal { .. } => Completion::Sealed,
            Effect::Store { .. } | Effect::Clear { .. } => Completion::Stored,
            Effect::Try { .. } => Completion::Tried(Trial::Silent),
            Effect::RevokeUpstream { .. } => Completion::UpstreamRevoked(Revocation::Unsupported),
            Effect::Exchange { .. } | Effect::Refresh { .. } | Effect::Mint { .. } => {
                Completion::Answered(Spent::NotSent(WireFault::Misconfigured))
            }
            Effect::Mark { .. }
            | Effect::Release { .. }
            | Effect::Quarantine(_)
            | Effect::Publish(_)
            | Effect::Withdraw
            | Effect::Audit(_)
            | Effect::Delete { .. }
            | Effect::Tell(_) => Completion::Marked,
        };
        Box::pin(std::future::ready(end))
    }

    fn quarantined(&self, _identity: &Identity) -> Pending<Vec<Arc<Sealed>>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

impl Preflight for AtOnce {
    fn look(&self, _identity: &Identity) -> Pending<Vec<Missing>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

/// Keeps nothing: what the disk takes is not what is measured here.
impl Trail for AtOnce {
    fn record(&self, _event: AuditEvent) {}

    fn after(&self, _sequence: u64, _most: usize) -> Pending<Vec<serde_json::Value>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

impl Authorizer for AtOnce {
    fn device(
        &self,
        _identity: &Identity,
        _scopes: Vec<String>,
    ) -> Pending<Result<grantd::engine::DeviceFlow, Refusal>> {
        Box::pin(std::future::pending())
    }

    fn authorize(&self, _request: AuthorizationRequest) -> Pending<Result<Authorized, Refusal>> {
        let refusal = Refusal::new(Code::ProviderNotConfigured, "a bench asks nobody");
        Box::pin(std::future::ready(Err(refusal)))
    }
}

/// A record whose lease outlives the bench, with a token of a usual length.
fn record(identity: &Identity) -> Record {
    let now = WallClock.now();
    Record {
        identity: identity.clone(),
        generation: 1,
        refresh_token: Some(RefreshToken::new("r".repeat(64))),
        access_token: Some(AccessToken::new("a".repeat(256))),
        token_type: "Bearer".into(),
        expires_at: Some(now.plus(Duration::from_secs(86_400))),
        refresh_token_expires_at: None,
        scope: Some("repo read:user".into()),
        account: Account::default(),
        connected_account: None,
        status: RecordStatus::Connected,
        written_at: now,
    }
}

const BARE: &str = "bare-hyper";
const NAME: &str = "github";
const REQUEST: &[u8] = b"GET /v1/integrations/github/token HTTP/1.1\r\nHost: grantd\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";
