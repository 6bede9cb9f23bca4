//! `grantd delete`: as `revoke`, and then nothing of the grant is left in the store, as far as the configuration allows.

use super::args::OneArgs;
use super::client::ask;
use super::end::End;
use super::revoke::said;
use super::{status, terminal};
use http::Method;
use serde_json::Value;

/// Deletes one integration's grant and says what the provider said.
///
/// # Errors
/// As the daemon refuses.
pub(super) async fn delete(args: OneArgs) -> Result<(), End> {
    let path = format!("/v1/integrations/{}", args.integration);
    let value: Value = ask(&args.control.socket, Method::DELETE, &path, None).await?;
    let upstream = value.get("upstream").and_then(Value::as_str).unwrap_or("silent").to_owned();
    let over = value.get("status").and_then(Value::as_str) == Some("pending");
    terminal::say(status::shown(value, args.json)?);
    terminal::note(said(&upstream));
    if !over {
        terminal::note(
            "no app gets a token any more; the store does not answer yet, and the rest goes on by itself",
        );
    }
    Ok(())
}
