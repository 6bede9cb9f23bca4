//! `grantd revoke`: apps are cut off first; then the provider is told; then the record is cleared.

use super::args::OneArgs;
use super::client::ask;
use super::end::End;
use super::{status, terminal};
use http::Method;
use serde_json::Value;

/// Revokes one integration and says what the provider said.
///
/// # Errors
/// As the daemon refuses.
pub(super) async fn revoke(args: OneArgs) -> Result<(), End> {
    let path = format!("/v1/integrations/{}/revoke", args.integration);
    let value: Value = ask(&args.control.socket, Method::POST, &path, None).await?;
    let upstream = value.get("upstream").and_then(Value::as_str).unwrap_or("silent").to_owned();
    terminal::say(status::shown(value, args.json)?);
    terminal::note(said(&upstream));
    terminal::note("older versions of the secret stay readable by their version id until AWS prunes them");
    Ok(())
}

/// What the provider said, for a person.
pub(super) fn said(upstream: &str) -> &'static str {
    match upstream {
        "confirmed" => "the provider confirmed the revocation",
        "refused" => "the provider refused the revocation: end the grant on its own pages as well",
        "unsupported" => "the provider has no way to revoke: end the grant on its own pages as well",
        "nothing" => "there was no token to revoke at the provider",
        _ => {
            "the provider did not answer: grantd tells it again until it does, and `grantd status` says when; to be sure at once, end the grant on its own pages"
        }
    }
}
