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
    /// Print the least-privilege AWS policy for exactly this configuration
    Policy(PolicyArgs),
    /// List the built-in providers, or show one with its quirks
    Providers(ProvidersArgs),
    /// Make a one-time link with which a person connects an integration
    Connect(ConnectArgs),
    /// Take over a refresh token, or a key, from standard input
    Import(OneArgs),
    /// List the integrations and how they are
    List(ListArgs),
    /// Show how an integration is
    Status(StatusArgs),
    /// Refresh an integration's token now
    Refresh(OneArgs),
    /// Try an integration's token at the provider now
    Validate(OneArgs),
    /// Revoke an integration: cut apps off, tell the provider, clear the record
    Revoke(OneArgs),
    /// Delete an integration's grant: revoke it, and leave nothing of it in the store
    Delete(OneArgs),
    /// Try again to read a sealed answer that was put in quarantine
    Recover(OneArgs),
    /// Have the daemon read its configuration again
    Reload(ReloadArgs),
    /// Show the audit trail, or verify its files
    Audit(AuditArgs),
    /// Print an integration's access token, for apps
    Token(TokenArgs),
    /// Run a command with a fresh token in its environment
    Exec(ExecArgs),
    /// Keep a token file fresh, for programs that read one
    File(FileArgs),
    /// Speak git's credential helper protocol
    GitCredential(GitCredentialArgs),
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
pub(super) struct PolicyArgs {
    /// The configuration; conf.d/*.toml beside it is read after it
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub(super) config: PathBuf,
    /// The AWS account that grantd runs in; without it, a place to fill in
    #[arg(long, value_name = "ID", value_parser = account)]
    pub(super) account: Option<String>,
    /// What to print: policy documents, or something that makes them
    #[arg(long, value_enum, default_value_t = PolicyFormat::Iam)]
    pub(super) format: PolicyFormat,
}

/// The formats of `grantd policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum PolicyFormat {
    /// Policy documents as JSON
    Iam,
    /// Terraform's HCL
    Terraform,
    /// A CloudFormation template as JSON
    #[value(name = "cloudformation")]
    CloudFormation,
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
    /// For hosts without a browser: print the provider's page and the code to enter there (RFC 8628)
    #[arg(long, conflicts_with = "paste")]
    pub(super) device: bool,
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
    /// Say instead who the kernel says this process is, which bindings it has, and why not the others
    #[arg(long, value_name = "PID", conflicts_with_all = ["integration", "watch"])]
    pub(super) explain: Option<u32>,
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
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    pub(super) verb: Option<AuditVerb>,
    /// Go on printing events as they come, until interrupted
    #[arg(long)]
    pub(super) follow: bool,
    /// Begin after the event of this number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) after: u64,
    /// Print JSON, an event a line
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) control: ControlArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum AuditVerb {
    /// Check that no line was changed, removed or moved; without the daemon
    Verify(VerifyArgs),
}

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// Files of the trail, in their order; with --config or --state all of them, if left out
    #[arg(value_name = "FILE", required_unless_present_any = ["config", "state"])]
    pub(super) files: Vec<PathBuf>,
    /// Check the end as well, with the seal key and the state directory of this configuration
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Check the end as well, against this state directory; its own seal.key is the key, unless --config names one
    #[arg(long, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct TokenArgs {
    /// The integration's id, or its provider's name
    pub(super) integration: String,
    /// Print the whole answer as JSON instead of the bare token
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) wish: WishArgs,
}

#[derive(Args, Debug)]
pub(super) struct ExecArgs {
    /// The integration's id, or its provider's name
    pub(super) integration: String,
    /// The variable that holds the token
    #[arg(long, value_name = "NAME", value_parser = variable, default_value = "GRANTD_ACCESS_TOKEN")]
    pub(super) env: String,
    #[command(flatten)]
    pub(super) wish: WishArgs,
    /// The command and its arguments; it takes this process's place, so signals and the exit code are its own
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<std::ffi::OsString>,
}

#[derive(Args, Debug)]
pub(super) struct FileArgs {
    /// The integration's id, or its provider's name
    pub(super) integration: String,
    /// The file to keep fresh; it is replaced whole, and removed when there is no token that may be used
    pub(super) path: PathBuf,
    /// The file's mode, octal
    #[arg(long, value_name = "MODE", value_parser = mode, default_value = "0400")]
    pub(super) mode: u32,
    /// What to write; {access_token}, {token_type}, {expires_at}, {scope}, {integration} and {generation} are filled in
    #[arg(long, value_name = "TEXT", default_value = "{access_token}")]
    pub(super) template: String,
    #[command(flatten)]
    pub(super) app: AppArgs,
}

#[derive(Args, Debug)]
pub(super) struct GitCredentialArgs {
    /// The integration's id, or its provider's name
    #[arg(long, value_name = "ID")]
    pub(super) integration: String,
    /// Answer for this host alone (HOST or HOST:PORT); may be repeated. Without it, git's own configuration decides
    #[arg(long, value_name = "HOST")]
    pub(super) host: Vec<String>,
    /// The user name beside the token, unless the URL has one: Bitbucket wants x-token-auth
    #[arg(long, value_name = "NAME", default_value = "oauth2")]
    pub(super) username: String,
    #[command(flatten)]
    pub(super) wish: WishArgs,
    /// What git wants: get; anything else is taken in silence
    pub(super) operation: String,
}

/// Where apps ask.
#[derive(Args, Debug)]
pub(super) struct AppArgs {
    /// The app socket
    #[arg(long, value_name = "PATH", env = "GRANTD_SOCKET", default_value = "/run/grantd/app.sock")]
    pub(super) socket: PathBuf,
}

/// What token an app wishes for.
#[derive(Args, Debug)]
pub(super) struct WishArgs {
    /// How long the token must live at least, such as 5m
    #[arg(long, value_name = "DURATION", value_parser = span, default_value = "0s")]
    pub(super) min_ttl: std::time::Duration,
    /// How long to wait for such a token, such as 30s; 60s at most
    #[arg(long, value_name = "DURATION", value_parser = span, default_value = "0s")]
    pub(super) wait: std::time::Duration,
    #[command(flatten)]
    pub(super) app: AppArgs,
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

/// An octal mode that lets its owner read, and nobody run anything.
fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| mode & !0o666 == 0 && mode & 0o400 != 0).ok_or_else(|| {
        "write an octal mode such as 0400 or 0440: readable by its owner, not executable".to_owned()
    })
}

fn variable(text: &str) -> Result<String, String> {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let fits = first && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fits { Ok(text.to_owned()) } else { Err("a variable's name has letters, digits and _".to_owned()) }
}

fn account(text: &str) -> Result<String, String> {
    let fits = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { Ok(text.to_owned()) } else { Err("an AWS account is twelve digits".to_owned()) }
}
