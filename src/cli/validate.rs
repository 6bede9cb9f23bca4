//! `grantd validate`: the token in use is tried at the provider, which also says whose it is.

use super::args::OneArgs;
use super::client::ask;
use super::end::End;
use super::{status, terminal};
use http::Method;
use serde_json::Value;

/// Has the token of one integration tried, and waits for what comes of it.
///
/// # Errors
/// As the daemon refuses; 75 where the provider did not answer.
pub(super) async fn validate(args: OneArgs) -> Result<(), End> {
    let path = format!("/v1/integrations/{}/validate", args.integration);
    let value: Value = ask(&args.control.socket, Method::POST, &path, None).await?;
    let taken = value.get("tokenValid").and_then(Value::as_bool).unwrap_or(false);
    terminal::say(status::shown(value, args.json)?);
    if !taken {
        terminal::note("the provider no longer takes the token, nor the refresh token: reconnect");
    }
    Ok(())
}
