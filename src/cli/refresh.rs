//! `grantd refresh`: fresh tokens now, joined with a refresh that is under way.

use super::args::OneArgs;
use super::client::ask;
use super::end::End;
use super::{status, terminal};
use http::Method;
use serde_json::Value;

/// Refreshes one integration and waits for the end of it.
///
/// # Errors
/// As the daemon refuses; 75 where it may help to try again.
pub(super) async fn refresh(args: OneArgs) -> Result<(), End> {
    let path = format!("/v1/integrations/{}/refresh", args.integration);
    let value: Value = ask(&args.control.socket, Method::POST, &path, None).await?;
    terminal::say(status::shown(value, args.json)?);
    Ok(())
}
