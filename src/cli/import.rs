//! `grantd import`: a refresh token that lived elsewhere so far, or a key, from standard input and never from an argument.

use super::args::OneArgs;
use super::client::ask;
use super::end::End;
use super::terminal;
use http::Method;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

/// Reads one line of text and has the daemon take it over.
///
/// # Errors
/// As the daemon refuses; 64 where nothing came.
pub(super) async fn import(args: OneArgs) -> Result<(), End> {
    let mut text = Zeroizing::new(String::new());
    tokio::io::stdin()
        .take(MOST)
        .read_to_string(&mut text)
        .await
        .map_err(|error| End::usage(format!("standard input cannot be read ({})", error.kind())))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(End::usage("nothing came on standard input: pipe the refresh token or the key in"));
    }
    let path = format!("/v1/integrations/{}/import", args.integration);
    let body = json!({ "token": token });
    let done: Value = ask(&args.control.socket, Method::POST, &path, Some(body)).await?;
    if args.json {
        terminal::say(done.to_string());
    } else {
        terminal::say(done.get("message").and_then(Value::as_str).unwrap_or("imported"));
    }
    Ok(())
}

/// More than any token is long.
const MOST: u64 = 32 * 1024;
