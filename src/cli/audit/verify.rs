//! `grantd audit verify`: whether the files of a trail are as grantd wrote them. Asks no daemon, and writes nothing.

use crate::cli::args::VerifyArgs;
use crate::cli::end::End;
use crate::cli::{run, terminal};
use crate::config::{self, State};
use crate::daemon::existing_key;
use crate::edge::audit::{self, End as TrailEnd, HeadKey, Verified};
use crate::edge::surroundings::Host;
use serde_json::json;
use std::path::PathBuf;

/// Verifies files in their order; with a configuration or a state directory also that the trail ends where grantd ended it.
///
/// # Errors
/// 1 with the first line that does not hold; 64 without files; 78 where the key cannot be had.
pub(super) fn verify(args: &VerifyArgs) -> Result<(), End> {
    let sealed = sealed(args)?;
    let sealed = sealed.as_ref().map(|(directory, key)| (directory.as_path(), key));
    let files = match (&*args.files, sealed) {
        ([], Some((directory, _))) => {
            audit::files_below(directory).map_err(|fault| End::refused(fault.to_string()))?
        }
        (files, _) => files.to_vec(),
    };
    let end = audit::verify(&files, sealed);
    if args.json {
        let said = match &end {
            Ok(verified) => json!({ "ok": true, "verified": verified }),
            Err(fault) => json!({ "ok": false, "fault": fault.to_string() }),
        };
        terminal::say(said.to_string());
    }
    let verified = end.map_err(|fault| End::refused(fault.to_string()))?;
    if !args.json {
        terminal::say(sentence(&verified));
    }
    Ok(())
}

/// The directory of the trail and the key of its head, if they were named.
fn sealed(args: &VerifyArgs) -> Result<Option<(PathBuf, HeadKey)>, End> {
    let configured = match &args.config {
        None => None,
        Some(file) => Some(config::load(file, &Host).map_err(|problems| run::wrong(&problems))?.config.state),
    };
    let state = match (configured, &args.state) {
        (None, None) => return Ok(None),
        (Some(configured), None) => configured,
        (configured, Some(directory)) => {
            let seal_key = configured.and_then(|configured| configured.seal_key);
            State { directory: directory.clone(), seal_key }
        }
    };
    let key = existing_key(&state, &Host).map_err(|trouble| End::configuration(trouble.to_string()))?;
    let key = key.ok_or_else(|| {
        End::configuration(format!(
            "there is no seal key at {}: name the configuration that has it with --config",
            state.key_file().display()
        ))
    })?;
    let key = HeadKey::derive(&key).ok_or_else(|| End::bug("no key can be derived from the seal key"))?;
    Ok(Some((audit::directory(&state.directory), key)))
}

fn sentence(verified: &Verified) -> String {
    let Verified { lines, first, last, end } = verified;
    let mut said = match lines {
        0 => "ok: there is no line".to_owned(),
        _ => format!("ok: {lines} lines, number {first} to {last}, none changed, removed or moved"),
    };
    if *first > 1 {
        said.push_str(&format!("\nwhat stood before number {first} was not looked at"));
    }
    said.push_str(&match end {
        TrailEnd::Sealed => "\nthe end is where grantd ended the trail".to_owned(),
        TrailEnd::In(file) => {
            format!("\nthe trail ends in {file}, which was not among the files: its end was not checked")
        }
        TrailEnd::Unchecked => "\nthe end was not checked: without the seal key nobody can tell whether lines were cut off it, or the whole was written anew; name --config or --state".to_owned(),
    });
    said
}
