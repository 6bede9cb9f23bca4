//! The arguments of every verb (contract §1). What is written here is what `--help` and the man pages say.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Keeps OAuth refresh tokens in your own AWS Secrets Manager and hands fresh access tokens to local apps.
#[derive(Debug, Parser)]
#[command(name = "grantd", version, arg_required_else_help = true, disable_help_subcommand = true)]
pub(super) struct Grantd {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run the daemon
    Run(RunArgs),
    /// Show the whole thing on this machine, with nothing installed
    Demo(DemoArgs),
    /// Check a configuration: every problem at once, with its place and a remedy
    Check(CheckArgs),
    /// List the built-in providers, or show one with its quirks
    Providers(ProvidersArgs),
    /// Make a one-time link with which a person connects an integration
    Connect(ConnectArgs),
    /// List the integrations and how they are
    List(ListArgs),
    /// Show how an integration is
    Status(StatusArgs),
    /// Refresh an integration's token now
    Refresh(OneArgs),
    /// Revoke an integration: cut apps off, tell the provider, clear the record
    Revoke(OneArgs),
    /// Try again to read a sealed answer that was put in quarantine
    Recover(OneArgs),
    /// Have the daemon read its configuration again
    Reload(ReloadArgs),
    /// Print an integration's access token, for apps
    Token(TokenArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page of grantd, or of one verb
    Man(ManArgs),
}

#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// The configuration; conf.d/*.toml beside it is read after it
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub(super) config: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// End after the walk instead of staying up for a look
    #[arg(long)]
    pub(super) once: bool,
}

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// The configuration; conf.d/*.toml beside it is read after it
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub(super) config: PathBuf,
    /// Look at the configuration alone: ask neither AWS nor any provider
    #[arg(long)]
    pub(super) offline: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct ProvidersArgs {
    /// A provider's id
    pub(super) name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct ConnectArgs {
    /// The integration's id
    pub(super) integration: String,
    /// For a browser that cannot reach public_url: print the provider's page, and read the address that the browser ends at from
    /// standard input
    #[arg(long)]
    pub(super) paste: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "paste")]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) control: ControlArgs,
}

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) control: ControlArgs,
}

#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// The integration's id; all of them if left out
    pub(super) integration: Option<String>,
    /// Print it again whenever it changes, until interrupted
    #[arg(long)]
    pub(super) watch: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) control: ControlArgs,
}

#[derive(Args, Debug)]
pub(super) struct OneArgs {
    /// The integration's id
    pub(super) integration: String,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) control: ControlArgs,
}

#[derive(Args, Debug)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    pub(super) control: ControlArgs,
}

#[derive(Args, Debug)]
pub(super) struct TokenArgs {
    /// The integration's id, or its provider's name
    pub(super) integration: String,
    /// How long the token must live at least, such as 5m
    #[arg(long, value_name = "DURATION", value_parser = span, default_value = "0s")]
    pub(super) min_ttl: std::time::Duration,
    /// How long to wait for such a token, such as 30s; 60s at most
    #[arg(long, value_name = "DURATION", value_parser = span, default_value = "0s")]
    pub(super) wait: std::time::Duration,
    /// Print the whole answer as JSON instead of the bare token
    #[arg(long)]
    pub(super) json: bool,
    /// The app socket
    #[arg(long, value_name = "PATH", env = "GRANTD_SOCKET", default_value = "/run/grantd/app.sock")]
    pub(super) socket: PathBuf,
}

/// Where operators ask.
#[derive(Args, Debug)]
pub(super) struct ControlArgs {
    /// The control socket
    #[arg(
        long,
        value_name = "PATH",
        env = "GRANTD_CONTROL_SOCKET",
        default_value = "/run/grantd/control.sock"
    )]
    pub(super) socket: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell
    pub(super) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// A verb, such as connect
    pub(super) verb: Option<String>,
}

const CONFIG: &str = "/etc/grantd/grantd.toml";

/// `90s`, `5m`, `4h`, or bare seconds.
fn span(text: &str) -> Result<std::time::Duration, String> {
    let seconds = text.parse().ok().map(std::time::Duration::from_secs);
    seconds.or_else(|| crate::config::duration(text)).ok_or_else(|| "write it as 90s, 5m or 4h".to_owned())
}
