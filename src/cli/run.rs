//! `grantd run`: the daemon. Prints nothing to standard output.

use super::args::RunArgs;
use super::end::End;
use super::terminal;
use crate::config::{self, Problems, Surroundings};
use crate::daemon::{Daemon, Ready, Rereads, Setup, StartError, tell_protections};
use crate::edge::spool::{NotOurs, SpoolError};
use crate::edge::surroundings::Host;
use crate::edge::{hardening, systemd, telemetry};
use crate::engine::Handle;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs until a signal says stop.
///
/// # Errors
/// 78 for the configuration and the seal key, 75 where another daemon runs, 77 and 69 for what the kernel refuses.
pub(super) async fn run(args: RunArgs) -> Result<(), End> {
    let guards = hardening::protect();
    let passed = systemd::take_sockets();
    let around: Arc<dyn Surroundings + Send + Sync> = Arc::new(Host);
    let checked = config::load(&args.config, around.as_ref()).map_err(|problems| wrong(&problems))?;
    telemetry::begin(&checked.config.log).map_err(|error| End::configuration(error.to_string()))?;
    for warning in &checked.warnings {
        tracing::warn!(
            place = %format_args!("{}:{}:{}", warning.file, warning.line, warning.column),
            remedy = warning.remedy,
            "{}",
            warning.message
        );
    }
    tell_protections(&guards, &checked.config, &passed);
    let (path, again) = (args.config, Arc::clone(&around));
    let rereads: Rereads = Arc::new(move || config::load(&path, again.as_ref()));
    let daemon = Daemon::start(Setup { config: checked.config, rereads, around, passed })
        .await
        .map_err(|error| unstarted(&error))?;
    announce(daemon.ready());
    let handle = daemon.handle().clone();
    daemon.run(stopped(handle)).await.map_err(|broken| End::bug(broken.to_string()))
}

/// All problems, then how many.
pub(super) fn wrong(problems: &Problems) -> End {
    End::configuration(format!("the configuration is wrong\n\n{problems}"))
}

/// Which exit code a failed start has.
pub(super) fn unstarted(error: &StartError) -> End {
    let said = error.to_string();
    match error {
        StartError::Secret(_) | StartError::Key(_) | StartError::Tls(_) | StartError::Schedule(_) => {
            End::configuration(said)
        }
        StartError::Spool(SpoolError::WrongKey(_) | SpoolError::Elsewhere(_)) => End::configuration(said),
        StartError::State(NotOurs::Refused { kind, .. }) if *kind != std::io::ErrorKind::PermissionDenied => {
            End::unreachable(said)
        }
        StartError::State(_) => End::permission(said),
        StartError::Spool(SpoolError::Locked(_)) => End::again(said),
        StartError::Spool(SpoolError::Unusable { kind, .. }) | StartError::Public { kind, .. }
            if *kind == std::io::ErrorKind::PermissionDenied =>
        {
            End::permission(said)
        }
        StartError::Audit(error) if error.kind == std::io::ErrorKind::PermissionDenied => {
            End::permission(said)
        }
        StartError::Spool(SpoolError::Unusable { .. })
        | StartError::Audit(_)
        | StartError::Public { .. }
        | StartError::Socket(_)
        | StartError::Transport(_)
        | StartError::Kernel(_) => End::unreachable(said),
    }
}

/// One JSON line for whoever waits for it (contract §7); a sentence for a person.
fn announce(ready: &Ready) {
    if telemetry::is_terminal() {
        terminal::note(format!(
            "grantd is ready: {}, apps on {}, operators on {}",
            ready.public,
            ready.app.display(),
            ready.control.display()
        ));
    } else {
        terminal::note(serde_json::to_string(ready).unwrap_or_default());
    }
}

/// Ends at SIGTERM or SIGINT; SIGHUP reads the configuration again.
async fn stopped(handle: Handle) {
    let listen = |kind| signal(kind).ok();
    let (mut terminate, mut interrupt, mut hangup) =
        (listen(SignalKind::terminate()), listen(SignalKind::interrupt()), listen(SignalKind::hangup()));
    loop {
        tokio::select! {
            () = next(&mut terminate) => return,
            () = next(&mut interrupt) => return,
            () = next(&mut hangup) => {
                if let Err(why) = handle.reload().await {
                    terminal::complain(&why);
                }
            }
        }
    }
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            if signal.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}
