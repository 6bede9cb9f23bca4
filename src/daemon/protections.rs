//! Says at a start what protects the daemon and its secrets, and what does not: one line, one field a protection.
//!
//! It looks and changes nothing but the mode of the state directory. What is missing is told, never guessed.

use crate::config::{Config, SecretSource};
use crate::edge::hardening::{Guard, Guards};
use crate::edge::socket::knows_units;
use crate::edge::spool::check_home;
use crate::edge::systemd::{self, Passed};
use crate::lifecycle::Who;

/// Tells which protections are in force.
pub fn tell_protections(guards: &Guards, config: &Config, passed: &Passed) {
    let units = Guard::unless(!knows_units(), "this kernel has no SO_PEERPIDFD (Linux 6.5)");
    tracing::info!(
        private_memory = %guards.private_memory,
        no_core_files = %guards.no_core_files,
        locked_memory = %guards.locked_memory,
        own_user = %guards.own_user,
        no_capabilities = %guards.no_capabilities,
        no_new_privileges = %guards.no_new_privileges,
        filtered_calls = %guards.filtered_calls,
        unit_bindings = %units,
        state_directory = %state_directory(config),
        seal_key = %seal_key(config),
        kept_sockets = %kept_sockets(passed),
        watchdog = %Guard::unless(systemd::watchdog().is_none(), "set WatchdogSec= in the unit"),
        "protections in force"
    );
    let rules = config.bindings.iter().filter(|binding| matches!(binding.who, Who::Unit(_))).count();
    if units != Guard::On && rules > 0 {
        tracing::warn!(
            rules,
            "bindings by unit fit nobody on this kernel: bind users instead, or run Linux 6.5 or later"
        );
    }
    for name in &passed.strangers {
        tracing::warn!(name, "a socket was passed that grantd cannot use: it is app, control or public");
    }
    if let Some(address) = passed.public.as_ref().and_then(|public| public.local_addr().ok())
        && address != config.server.listen
    {
        tracing::warn!(%address, "systemd passed another address than server.listen: it is the one that is used");
    }
}

fn state_directory(config: &Config) -> Guard {
    match check_home(&config.state.directory) {
        Ok(None) => Guard::On,
        Ok(Some(above)) => Guard::Off(format!("another user can change {}", above.display())),
        Err(trouble) => Guard::Off(trouble.to_string()),
    }
}

fn seal_key(config: &Config) -> Guard {
    match &config.state.seal_key {
        Some(SecretSource::Variable(name)) => Guard::Off(format!("it comes from the variable {name}")),
        Some(_) => Guard::On,
        None => Guard::Off("its file lies beside what it seals: set state.seal_key".into()),
    }
}

fn kept_sockets(passed: &Passed) -> Guard {
    let kept = passed.app.is_some() && passed.control.is_some();
    Guard::unless(
        !kept,
        "apps are refused during a restart: enable grantd-app.socket and grantd-control.socket",
    )
}
