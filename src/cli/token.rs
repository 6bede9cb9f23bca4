//! `grantd token`: the bare access token on standard output, for apps that call a command.
//!
//! The other verbs for programs that cannot call a socket (`exec`, `file`, `git-credential`) read tokens by way of [`read`].

use super::args::{TokenArgs, WishArgs};
use super::client::ask_raw;
use super::end::End;
use super::terminal;
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use zeroize::Zeroizing;

/// The token response of the app socket (contract §3).
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    pub(super) access_token: &'a str,
    pub(super) token_type: &'a str,
    pub(super) expires_at: Option<&'a str>,
    pub(super) scope: Option<&'a str>,
    pub(super) integration: &'a str,
    pub(super) generation: u64,
}

/// Prints a token.
///
/// # Errors
/// 1 where it is refused, 75 where it is not there yet.
pub(super) async fn token(args: TokenArgs) -> Result<(), End> {
    let body = read(&args.integration, &args.wish).await?;
    let text = if args.json {
        Zeroizing::new(body.to_vec())
    } else {
        Zeroizing::new(understand(&body)?.access_token.as_bytes().to_vec())
    };
    terminal::put(&text);
    terminal::put(b"\n");
    Ok(())
}

/// Asks for a token; the answer as it came.
pub(super) async fn read(integration: &str, wish: &WishArgs) -> Result<Bytes, End> {
    let path = format!(
        "/v1/integrations/{integration}/token?min_ttl={}&wait={}",
        wish.min_ttl.as_secs(),
        wish.wait.as_secs()
    );
    ask_raw(&wish.app.socket, Method::GET, &path, None).await
}

/// The members of an answer.
pub(super) fn understand(body: &Bytes) -> Result<Answer<'_>, End> {
    serde_json::from_slice(body).map_err(|_shape| End::unreachable("the daemon's answer cannot be read"))
}
