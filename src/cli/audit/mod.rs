//! `grantd audit`: the audit trail, as the daemon gives it; `grantd audit verify`: its files, without the daemon.

mod verify;

use super::args::{AuditArgs, AuditVerb};
use super::client::ask;
use super::end::End;
use super::terminal;
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// A page of the trail.
#[derive(Deserialize)]
struct Page {
    events: Vec<Value>,
    next: u64,
}

/// Shows the trail, or verifies it.
///
/// # Errors
/// As the daemon refuses; as [`verify::verify`].
pub(super) async fn audit(args: AuditArgs) -> Result<(), End> {
    if let Some(AuditVerb::Verify(args)) = &args.verb {
        return verify::verify(args);
    }
    let mut after = args.after;
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    loop {
        let path = format!("/v1/audit?after={after}");
        let page: Page = ask(&args.control.socket, Method::GET, &path, None).await?;
        for event in &page.events {
            terminal::say(if args.json { event.to_string() } else { line(event) });
        }
        // A page that brought something may not have been the last.
        if page.next > after {
            after = page.next;
        } else if args.follow {
            let _at = beat.tick().await;
        } else {
            return Ok(());
        }
    }
}

/// An event as one line for a person.
fn line(event: &Value) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (at, what, outcome) = (text("at"), text("what"), text("outcome"));
    let mut line = format!("{at:<24}  {what:<16}  {outcome:<12}  {}", who(event));
    if event.get("integration").is_some() {
        line.push_str(&format!("  {}/{}", text("organization"), text("integration")));
    }
    if event.get("to").is_some() {
        line.push_str(&format!("  {} -> {}", text("from"), text("to")));
    }
    let more = [("", text("cause")), ("from ", text("address")), ("x", times(event))];
    for (before, said) in more.into_iter().filter(|(_, said)| !said.is_empty()) {
        line.push_str(&format!("  {before}{said}"));
    }
    // A file that somebody wrote to must not steer the terminal.
    line.retain(|character| !character.is_control());
    line
}

fn who(event: &Value) -> String {
    let who = event.get("who");
    let member = |name: &str| who.and_then(|who| who.get(name));
    let text = |name: &str| member(name).and_then(Value::as_str);
    let kind = text("kind").unwrap_or_default();
    match (text("name").or_else(|| text("unit")), member("uid").and_then(Value::as_u64)) {
        (Some(name), _) => format!("{kind} {name}"),
        (None, Some(uid)) => format!("{kind} uid {uid}"),
        (None, None) => kind.to_owned(),
    }
}

fn times(event: &Value) -> String {
    let count = event.get("count").and_then(Value::as_u64).unwrap_or(1);
    if count == 1 { String::new() } else { count.to_string() }
}

#[cfg(test)]
mod tests {
    use super::line;
    use serde_json::json;

    #[test]
    fn an_event_is_one_line_for_a_person() {
        let read = json!({
            "at": "2027-01-15T08:00:00Z", "what": "token_read", "who": {"kind": "app", "uid": 1001},
            "integration": "github", "organization": "acme", "outcome": "ok", "count": 42,
        });
        assert_eq!(
            line(&read),
            "2027-01-15T08:00:00Z      token_read        ok            app uid 1001  acme/github  x42"
        );
        let refreshed = json!({
            "at": "2027-01-15T08:00:00.250Z", "what": "refreshed", "who": {"kind": "grantd"}, "outcome": "ok", "count": 1,
            "integration": "github", "organization": "acme", "from": "refreshing", "to": "active", "cause": "rotated",
        });
        assert_eq!(
            line(&refreshed),
            "2027-01-15T08:00:00.250Z  refreshed         ok            grantd  acme/github  refreshing -> active  rotated"
        );
        let hostile = json!({"what": "sign_in", "who": {"kind": "operator", "name": "\u{1b}[2JEve\n"}});
        assert!(line(&hostile).ends_with("operator [2JEve"));
    }
}
