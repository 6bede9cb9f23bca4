//! `grantd exec`: runs a command with a fresh token in its environment, and nowhere else.
//!
//! The command takes this process's place: no parent stays behind that would have to pass signals on, or that holds the token.

use super::args::ExecArgs;
use super::end::End;
use super::token::{read, understand};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Becomes the command.
///
/// # Errors
/// As `grantd token`; 127 where there is no such command, 126 where it cannot be run, as a shell has it.
pub(super) async fn exec(args: ExecArgs) -> Result<(), End> {
    let answer = read(&args.integration, &args.wish).await?;
    let token = understand(&answer)?.access_token;
    let (program, rest) =
        args.command.split_first().ok_or_else(|| End::usage("no command was given after --"))?;
    let error = Command::new(program).args(rest).env(&args.env, token).exec();
    let name = program.display();
    Err(if error.kind() == ErrorKind::NotFound {
        End::not_found(format!("there is no command {name}"))
    } else {
        End::not_executable(format!("{name} cannot be run ({})", error.kind()))
    })
}
