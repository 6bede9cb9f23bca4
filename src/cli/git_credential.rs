//! `grantd git-credential`: git's credential helper protocol (git-credential(1), gitcredentials(7)).
//!
//! A token goes to an https server, or to loopback, and to no other; with `--host` to that host alone. It is never kept:
//! `store` and `erase`, and whatever git may think of later, are taken in silence.

use super::args::GitCredentialArgs;
use super::end::End;
use super::terminal;
use super::token::{read, understand};
use crate::time::Timestamp;
use std::io::Read as _;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// Answers git.
///
/// # Errors
/// As `grantd token`; 1 where git asks for a server that must not have a token.
pub(super) async fn git_credential(args: GitCredentialArgs) -> Result<(), End> {
    let asked = Asked::read(std::io::stdin().lock())?;
    if args.operation != "get" || !asked.is_for(&args.host) {
        return Ok(());
    }
    if !asked.is_safe() {
        let said =
            format!("git asks for {}://{}: a token is sent over https alone", asked.protocol, asked.host);
        return Err(End::refused(said));
    }
    let body = read(&args.integration, &args.wish).await?;
    let answer = understand(&body)?;
    let username = asked.username.unwrap_or(args.username);
    let expiry = answer.expires_at.and_then(Timestamp::parse).map(|at| at.millis() / 1000);
    if [username.as_str(), answer.access_token].iter().any(|value| value.contains(['\n', '\r', '\0'])) {
        return Err(End::refused("the token or the user name has a line break in it"));
    }
    let mut said = Zeroizing::new(String::with_capacity(ROOM));
    for part in ["username=", &username, "\npassword=", answer.access_token, "\n"] {
        said.push_str(part);
    }
    if let Some(expiry) = expiry {
        said.push_str(&format!("password_expiry_utc={expiry}\n"));
    }
    terminal::put(said.as_bytes());
    Ok(())
}

/// What git says of the server that wants a credential.
#[derive(Debug, Default)]
struct Asked {
    protocol: String,
    /// With its port, if it has one.
    host: String,
    username: Option<String>,
}

impl Asked {
    /// Reads `key=value` lines up to an empty one. What is not known is ignored, as the protocol demands.
    fn read(input: impl std::io::Read) -> Result<Self, End> {
        // `erase` and `store` bring a password along.
        let mut text = Zeroizing::new(String::with_capacity(ROOM));
        let _bytes = input
            .take(MOST)
            .read_to_string(&mut text)
            .map_err(|error| End::usage(format!("git's request cannot be read ({})", error.kind())))?;
        let mut asked = Self::default();
        for line in text.lines().take_while(|line| !line.is_empty()) {
            match line.split_once('=') {
                Some(("protocol", value)) => value.clone_into(&mut asked.protocol),
                Some(("host", value)) => value.clone_into(&mut asked.host),
                Some(("username", value)) => asked.username = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(asked)
    }

    fn is_for(&self, hosts: &[String]) -> bool {
        hosts.is_empty() || hosts.iter().any(|host| host.eq_ignore_ascii_case(&self.host))
    }

    fn is_safe(&self) -> bool {
        self.protocol == "https" || (self.protocol == "http" && is_loopback(&self.host))
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, _port)) => inside,
        None => host.split_once(':').map_or(host, |(name, _port)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// More than git ever says.
const MOST: u64 = 64 * 1024;
/// A request or an answer of this length fits without a second allocation, which would leave a copy behind.
const ROOM: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::Asked;

    fn asked(text: &str) -> Asked {
        Asked::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_token_goes_to_https_and_to_loopback_alone() {
        for (server, safe) in [
            ("protocol=https\nhost=github.com\n\n", true),
            ("protocol=http\nhost=github.com\n\n", false),
            ("protocol=http\nhost=127.0.0.1:8080\n", true),
            ("protocol=http\nhost=[::1]:8080\n", true),
            ("protocol=http\nhost=localhost\n", true),
            ("protocol=http\nhost=127.0.0.1.example\n", false),
            ("protocol=http\nhost=localhost.example:80\n", false),
            ("protocol=ssh\nhost=127.0.0.1\n", false),
            ("", false),
        ] {
            assert_eq!(asked(server).is_safe(), safe, "{server}");
        }
    }

    #[test]
    fn named_hosts_are_the_only_ones() {
        let github =
            asked("capability[]=authtype\nprotocol=https\nhost=GitHub.com\nusername=ann\n\nhost=late");
        assert_eq!(github.username.as_deref(), Some("ann"));
        assert!(github.is_for(&[]));
        assert!(github.is_for(&["gitlab.com".into(), "github.com".into()]));
        assert!(!github.is_for(&["github.com:8443".into(), "com".into()]));
    }
}
