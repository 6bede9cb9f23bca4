//! `grantd connect`: a one-time link on standard output, and nothing else there.
//!
//! With `--paste` the provider's page is printed instead, and the address at which the browser ended is read from standard input:
//! it carries the code, so it is never an argument.

use super::args::ConnectArgs;
use super::client::ask;
use super::end::End;
use super::{status, terminal};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use url::Url;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    auth_url: String,
    #[serde(default)]
    expires_at: Option<String>,
}

/// A link, or a grant that needs no person and works already.
#[derive(Deserialize)]
#[serde(untagged)]
enum Connecting {
    Started(Started),
    Works { status: Value },
}

#[derive(Deserialize)]
struct Connected {
    message: String,
}

/// Mints a link.
///
/// # Errors
/// As the daemon refuses; 64 where what was pasted is no callback.
pub(super) async fn connect(args: ConnectArgs) -> Result<(), End> {
    let socket = &args.control.socket;
    if args.device {
        return device(&args).await;
    }
    let path = format!("/v1/integrations/{}/connect", args.integration);
    let started = match ask(socket, Method::POST, &path, None).await? {
        Connecting::Started(started) => started,
        Connecting::Works { status } => {
            terminal::say(status::shown(status, args.json)?);
            return Ok(());
        }
    };
    if args.paste {
        return paste(socket, &started.auth_url).await;
    }
    if args.json {
        terminal::say(json!({ "link": started.auth_url, "expiresAt": started.expires_at }).to_string());
    } else {
        terminal::say(&started.auth_url);
        terminal::note("open this link in a browser: it works once, for ten minutes");
    }
    Ok(())
}

/// The page and the code, a line each. The daemon does the waiting.
async fn device(args: &ConnectArgs) -> Result<(), End> {
    let path = format!("/v1/integrations/{}/device", args.integration);
    let asked: Value = ask(&args.control.socket, Method::POST, &path, None).await?;
    if args.json {
        terminal::say(asked.to_string());
        return Ok(());
    }
    let text = |key: &str| asked.get(key).and_then(Value::as_str).unwrap_or_default();
    terminal::say(text("verificationUri"));
    terminal::say(text("userCode"));
    terminal::note(format!(
        "open this page anywhere and enter the code; it ends at {}, and with a restart of grantd. `grantd status {} --watch` shows when it is connected",
        text("expiresAt"),
        args.integration
    ));
    Ok(())
}

async fn paste(socket: &Path, link: &str) -> Result<(), End> {
    let path =
        Url::parse(link).map_err(|_not_a_url| End::bug("the daemon's link is no URL"))?.path().to_owned();
    let going: Started = ask(socket, Method::POST, &path, None).await?;
    terminal::say(&going.auth_url);
    terminal::note("open this page, authorize, then paste the address at which the browser ended:");
    let mut line = zeroize::Zeroizing::new(String::new());
    let mut input = BufReader::new(tokio::io::stdin());
    input
        .read_line(&mut line)
        .await
        .map_err(|error| End::usage(format!("nothing was pasted ({})", error.kind())))?;
    let connected: Connected =
        ask(socket, Method::POST, "/v1/integrations/oauth/callback", Some(callback(&line)?)).await?;
    terminal::note(connected.message);
    Ok(())
}

/// The members of the callback that an address carries.
fn callback(pasted: &str) -> Result<Value, End> {
    let wrong =
        || End::usage("that is not the address of a callback: it has /oauth/callback/ in it, and a code");
    let url = Url::parse(pasted.trim()).map_err(|_not_a_url| wrong())?;
    let (_, rest) = url.path().split_once("/oauth/callback/").ok_or_else(wrong)?;
    let (provider, integration) = match rest.split_once('/') {
        Some((provider, integration)) => (provider, Some(integration)),
        None => (rest, None),
    };
    let mut members = serde_json::Map::new();
    members.insert("provider".into(), provider.into());
    if let Some(integration) = integration {
        members.insert("integration".into(), integration.into());
    }
    for (key, value) in url.query_pairs() {
        if ["code", "state", "iss", "error"].contains(&key.as_ref()) {
            let repeated = members.insert(key.into_owned(), value.into_owned().into());
            if repeated.is_some() {
                return Err(wrong());
            }
        }
    }
    Ok(Value::Object(members))
}

#[cfg(test)]
mod tests {
    use super::callback;
    use serde_json::json;

    #[test]
    fn a_pasted_address_becomes_a_callback() {
        let read =
            callback("http://h/v1/integrations/oauth/callback/github/g1?code=a%2Bb&state=s&x=y\n").unwrap();
        assert_eq!(read, json!({"provider": "github", "integration": "g1", "code": "a+b", "state": "s"}));
    }

    #[test]
    fn anything_else_is_usage() {
        for bad in ["", "hello", "http://h/", "http://h/v1/integrations/oauth/callback/g?code=a&code=b"] {
            assert!(callback(bad).is_err(), "{bad}");
        }
    }
}
