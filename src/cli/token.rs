//! `grantd token`: the bare access token on standard output, for apps that call a command.

use super::args::TokenArgs;
use super::client::ask_raw;
use super::end::End;
use super::terminal;
use http::Method;
use serde::Deserialize;
use zeroize::Zeroizing;

#[derive(Deserialize)]
struct Answer<'a> {
    access_token: &'a str,
}

/// Prints a token.
///
/// # Errors
/// 1 where it is refused, 75 where it is not there yet.
pub(super) async fn token(args: TokenArgs) -> Result<(), End> {
    let path = format!(
        "/v1/integrations/{}/token?min_ttl={}&wait={}",
        args.integration,
        args.min_ttl.as_secs(),
        args.wait.as_secs()
    );
    let body = ask_raw(&args.socket, Method::GET, &path, None).await?;
    let text = if args.json {
        Zeroizing::new(body.to_vec())
    } else {
        let answer: Answer<'_> = serde_json::from_slice(&body)
            .map_err(|_shape| End::unreachable("the daemon's answer cannot be read"))?;
        Zeroizing::new(answer.access_token.as_bytes().to_vec())
    };
    terminal::put(&text);
    terminal::put(b"\n");
    Ok(())
}
