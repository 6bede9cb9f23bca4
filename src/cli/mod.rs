//! Floor 4: the command line. One file a verb; the only room that prints to a terminal.
//!
//! Answers go to standard output, everything else to standard error; a user's mistake ends in one sentence with its remedy and
//! an exit code of `sysexits.h` (contract §1). No secret ever comes in by an argument.

mod args;
mod audit;
mod check;
mod client;
mod connect;
mod delete;
mod demo;
mod end;
mod events;
mod exec;
mod explain;
mod file;
mod git_credential;
mod import;
mod list;
mod man;
mod policy;
mod providers;
mod recover;
mod refresh;
mod reload;
mod revoke;
mod run;
mod status;
mod terminal;
mod token;
mod validate;

use args::{Grantd, Verb};
use clap::Parser as _;
use clap::error::ErrorKind;
use end::End;
use std::process::ExitCode;

/// Reads the arguments, runs the verb, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let asked = match Grantd::try_parse() {
        Ok(asked) => asked,
        Err(error) => return unparsed(&error),
    };
    let runtime = match runtime(&asked.verb) {
        Ok(runtime) => runtime,
        Err(error) => return End::bug(format!("the kernel refuses a thread ({})", error.kind())).report(),
    };
    let end = runtime.block_on(Box::pin(perform(asked.verb)));
    // What still waits on a blocking thread, such as a read of standard input, is not waited for.
    runtime.shutdown_background();
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(end) => end.report(),
    }
}

async fn perform(verb: Verb) -> Result<(), End> {
    match verb {
        Verb::Run(args) => run::run(args).await,
        Verb::Demo(args) => demo::demo(args).await,
        Verb::Check(args) => check::check(&args).await,
        Verb::Policy(args) => policy::policy(&args),
        Verb::Providers(args) => providers::providers(&args),
        Verb::Connect(args) => connect::connect(args).await,
        Verb::Import(args) => import::import(args).await,
        Verb::List(args) => list::list(args).await,
        Verb::Status(args) => status::status(args).await,
        Verb::Refresh(args) => refresh::refresh(args).await,
        Verb::Validate(args) => validate::validate(args).await,
        Verb::Revoke(args) => revoke::revoke(args).await,
        Verb::Delete(args) => delete::delete(args).await,
        Verb::Recover(args) => recover::recover(args).await,
        Verb::Reload(args) => reload::reload(args).await,
        Verb::Audit(args) => audit::audit(args).await,
        Verb::Token(args) => token::token(args).await,
        Verb::Exec(args) => exec::exec(args).await,
        Verb::File(args) => file::file(args).await,
        Verb::GitCredential(args) => git_credential::git_credential(args).await,
        Verb::Completions(args) => man::completions(&args),
        Verb::Man(args) => man::man(&args),
    }
}

/// The daemon has threads; a verb that asks one question has none.
fn runtime(verb: &Verb) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match verb {
        Verb::Run(_) | Verb::Demo(_) => tokio::runtime::Builder::new_multi_thread(),
        Verb::Check(_)
        | Verb::Policy(_)
        | Verb::Providers(_)
        | Verb::Connect(_)
        | Verb::Import(_)
        | Verb::List(_)
        | Verb::Status(_)
        | Verb::Refresh(_)
        | Verb::Validate(_)
        | Verb::Revoke(_)
        | Verb::Delete(_)
        | Verb::Recover(_)
        | Verb::Reload(_)
        | Verb::Audit(_)
        | Verb::Token(_)
        | Verb::Exec(_)
        | Verb::File(_)
        | Verb::GitCredential(_)
        | Verb::Completions(_)
        | Verb::Man(_) => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build()
}

/// Help and version are answers; anything else is usage (64).
fn unparsed(error: &clap::Error) -> ExitCode {
    let answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // A closed terminal has nobody to tell.
    let _closed = error.print();
    if answer { ExitCode::SUCCESS } else { ExitCode::from(end::USAGE) }
}
