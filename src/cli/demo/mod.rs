//! `grantd demo`: the whole thing on this machine with nothing installed.
//!
//! A stand-in provider whose refresh tokens rotate, the sealed-file store in a folder that goes when the demo ends, the real
//! daemon with its sockets and pages, and a small browser. What it does is told on standard error; standard output has one line
//! for each step.

mod browser;
mod standin;
mod walk;

use super::args::DemoArgs;
use super::end::End;
use super::{run, terminal};
use crate::config::{self, Checked, Problems, Surroundings};
use crate::daemon::{Daemon, Setup};
use crate::edge::surroundings::Host;
use crate::edge::systemd::Passed;
use crate::edge::telemetry;
use standin::StandIn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use walk::Stage;

/// Shows connect, read, rotate and revoke; then stays up for a look, unless `--once`.
///
/// # Errors
/// 1 for the first step that fails; 69 where the machine has no loopback or no room.
pub(super) async fn demo(args: DemoArgs) -> Result<(), End> {
    telemetry::begin("error").map_err(|error| End::usage(error.to_string()))?;
    let home = home().map_err(|error| kernel("make a folder for the demo", &error))?;
    let stop = CancellationToken::new();
    let standin = StandIn::start(stop.clone()).await.map_err(|error| kernel("listen on loopback", &error))?;
    let public = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .map_err(|error| kernel("listen on loopback", &error))?;
    let address = public.local_addr().map_err(|error| kernel("listen on loopback", &error))?;
    let text = configuration(home.path(), address, standin.issuer());
    let around: Arc<dyn Surroundings + Send + Sync> = Arc::new(Unconfigured);
    let checked = checked(&text).map_err(|problems| run::wrong(&problems))?;
    let rereads = Arc::new(move || self::checked(&text));
    let passed = Passed { public: Some(public), ..Passed::default() };
    let daemon = Daemon::start(Setup { config: checked.config, rereads, around, passed })
        .await
        .map_err(|error| run::unstarted(&error))?;
    let stage = Stage {
        app: daemon.ready().app.clone(),
        control: daemon.ready().control.clone(),
        public: address.to_string(),
        standin,
    };
    let over = CancellationToken::new();
    let show = async {
        let end = perform(&stage, args.once).await;
        over.cancel();
        end
    };
    let (end, ran) = tokio::join!(show, daemon.run(over.cancelled()));
    stop.cancel();
    ran.map_err(|broken| End::bug(broken.to_string()))?;
    end
}

async fn perform(stage: &Stage, once: bool) -> Result<(), End> {
    terminal::note("A stand-in provider is up, and grantd beside it. Nothing leaves this machine.");
    let walked = tokio::time::timeout(WALK, stage.walk()).await;
    match walked {
        Ok(Ok(())) => {}
        Ok(Err(failed)) => {
            terminal::say(format!("failed {}: {}", failed.step, failed.why));
            return Err(End::refused(format!("the demo failed at {}", failed.step)));
        }
        Err(_late) => {
            terminal::say("failed walk: it took too long");
            return Err(End::refused("the demo took too long"));
        }
    }
    if once {
        return Ok(());
    }
    stage.invite().await?;
    if let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    Ok(())
}

fn checked(text: &str) -> Result<Checked, Problems> {
    config::from_texts(&[("demo.toml", text)], &Unconfigured)
}

/// A private folder with a path short enough for a Unix socket (108 bytes).
fn home() -> io::Result<tempfile::TempDir> {
    let usual = std::env::temp_dir();
    let folder = if usual.as_os_str().len() > LONGEST { PathBuf::from("/tmp") } else { usual };
    tempfile::Builder::new().prefix("grantd-demo-").tempdir_in(folder)
}

fn configuration(home: &Path, public: SocketAddr, issuer: &str) -> String {
    let path = |name: &str| toml::Value::String(home.join(name).display().to_string());
    let uid = rustix::process::geteuid().as_raw();
    let (app, control, state) = (path("app.sock"), path("control.sock"), path("state"));
    format!(
        r#"
[server]
public_url = "http://{public}"
listen = "{public}"
[sockets]
app = {app}
control = {control}
app_group = ""
[state]
directory = {state}
[store]
kind = "sealed-file"
[[organization]]
id = "acme"
[[provider]]
id = "standin"
name = "Stand-in"
issuer = "{issuer}"
client_id = "{client}"
client_secret = {{ env = "{SECRET}" }}
rotation = "strict"
[[integration]]
id = "notes"
provider = "standin"
scopes = ["notes.read"]
[[integration]]
id = "calendar"
provider = "standin"
scopes = ["calendar.read", "calendar.write"]
[[binding]]
integration = "notes"
uid = {uid}
[[binding]]
integration = "calendar"
uid = {uid}
"#,
        client = standin::CLIENT_ID,
    )
}

/// A host without configuration: no variable of a real one gets into the demo.
struct Unconfigured;

impl Surroundings for Unconfigured {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Host.read(path)
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        Host.mode(path)
    }

    fn list(&self, _directory: &Path) -> Vec<PathBuf> {
        Vec::new()
    }

    fn variables(&self) -> std::collections::BTreeMap<String, String> {
        [(SECRET.to_owned(), standin::CLIENT_SECRET.to_owned())].into()
    }

    fn user_id(&self, name: &str) -> Option<u32> {
        Host.user_id(name)
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        Host.group_id(name)
    }
}

fn kernel(what: &str, error: &io::Error) -> End {
    End::unreachable(format!("the demo cannot {what} ({})", error.kind()))
}

const SECRET: &str = "STANDIN_CLIENT_SECRET";
const WALK: Duration = Duration::from_secs(40);
const LONGEST: usize = 60;
