//! `grantd reload`: the daemon reads its configuration again; a wrong one is refused and the old one stays.

use super::args::ReloadArgs;
use super::client::ask;
use super::end::End;
use super::terminal;
use http::Method;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reloaded {
    message: String,
}

/// Has the configuration read again.
///
/// # Errors
/// 1, with every problem, where the new configuration is wrong.
pub(super) async fn reload(args: ReloadArgs) -> Result<(), End> {
    let reloaded: Reloaded = ask(&args.control.socket, Method::POST, "/v1/reload", None).await?;
    terminal::say(reloaded.message);
    Ok(())
}
