//! `grantd recover`: tries again to read a sealed answer that was put in quarantine, and says what it found.

use super::args::OneArgs;
use super::client::ask;
use super::end::End;
use super::{status, terminal};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Recovered {
    found: String,
    message: String,
    status: Value,
}

/// Looks into quarantine.
///
/// # Errors
/// As the daemon refuses; 1 where nothing came of it, 75 where it may help to try again.
pub(super) async fn recover(args: OneArgs) -> Result<(), End> {
    let path = format!("/v1/integrations/{}/recover", args.integration);
    let value: Value = ask(&args.control.socket, Method::POST, &path, None).await?;
    if args.json {
        terminal::say(value.to_string());
    }
    let recovered: Recovered = serde_json::from_value(value)
        .map_err(|_shape| End::unreachable("the daemon's answer cannot be read"))?;
    match recovered.found.as_str() {
        "readable" | "nothing" => {
            terminal::note(recovered.message);
            if !args.json {
                terminal::say(status::shown(recovered.status, false)?);
            }
            Ok(())
        }
        "busy" => Err(End::again(recovered.message)),
        _ => Err(End::refused(recovered.message)),
    }
}
