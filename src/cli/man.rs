//! `grantd man` and `grantd completions`: made of the same definitions as `--help`, so that they cannot drift.

use super::args::{CompletionsArgs, Grantd, ManArgs};
use super::end::End;
use super::terminal;
use clap::CommandFactory as _;

/// Prints a completion script.
///
/// # Errors
/// None.
pub(super) fn completions(args: &CompletionsArgs) -> Result<(), End> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Grantd::command(), "grantd", &mut script);
    terminal::put(&script);
    Ok(())
}

/// Prints a manual page.
///
/// # Errors
/// 64 for a verb that is none.
pub(super) fn man(args: &ManArgs) -> Result<(), End> {
    let mut whole = Grantd::command();
    whole.build();
    let page = match &args.verb {
        None => whole,
        Some(verb) => whole
            .find_subcommand(verb)
            .cloned()
            .map(|command| command.display_name(format!("grantd-{verb}")))
            .ok_or_else(|| End::usage(format!("{verb:?} is no verb: `grantd --help` lists them")))?,
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page)
        .render(&mut text)
        .map_err(|error| End::bug(format!("the page cannot be made ({})", error.kind())))?;
    terminal::put(&text);
    Ok(())
}
