//! One line of the trail: `{…,"prev":"…","hash":"…"}`, its members in a fixed order, those that say nothing left out.
//!
//! `hash` is SHA-256 over the line's own bytes without that member; `prev` is the hash of the line before, or zeros. Texts from
//! outside are cut to a bounded length and lose their control characters before they get in.

use crate::lifecycle::{Actor, AuditEvent, IntegrationId, OrganizationId, ProviderId};
use crate::time::Timestamp;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::{self, BufRead, Read as _};

/// The first member of each line.
pub(super) const SCHEMA: &str = "grantd-audit/1";
/// How each line begins; digits follow.
pub(super) const BEGINNING: &[u8] = b"{\"schema\":\"grantd-audit/1\",\"seq\":";

/// A place in the chain: a line's number and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) seq: u64,
    pub(super) hash: String,
}

impl Link {
    /// What the first line follows.
    pub(super) fn start() -> Self {
        Self { seq: 0, hash: "0".repeat(HASH) }
    }
}

/// What a line says about its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) prev: String,
    pub(super) link: Link,
}

impl Placed {
    pub(super) fn follows(&self, before: &Link) -> bool {
        self.link.seq == before.seq.saturating_add(1) && self.prev == before.hash
    }
}

/// Why bytes are no line as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoilt {
    /// They have another form.
    NotALine,
    /// They have the form, and their hash is that of something else.
    Changed,
}

/// Makes the line that follows `before`, with its line feed.
pub(super) fn write(event: &AuditEvent, at: Timestamp, before: &Link) -> (Vec<u8>, Link) {
    let seq = before.seq.saturating_add(1);
    let mut line = serde_json::to_vec(&Line::of(event, at, seq, &before.hash)).unwrap_or_default();
    let hash = hex(digest(&SHA256, &line).as_ref());
    line.truncate(line.len().saturating_sub(1));
    line.extend_from_slice(HASH_MEMBER);
    line.extend_from_slice(hash.as_bytes());
    line.extend_from_slice(b"\"}\n");
    (line, Link { seq, hash })
}

/// Reads a line, without its line feed.
///
/// # Errors
/// [`Spoilt`].
pub(super) fn read(line: &[u8]) -> Result<Placed, Spoilt> {
    let rest = line.strip_suffix(b"\"}").ok_or(Spoilt::NotALine)?;
    let (rest, hash) = rest.split_at_checked(rest.len().wrapping_sub(HASH)).ok_or(Spoilt::NotALine)?;
    let body = rest.strip_suffix(HASH_MEMBER).ok_or(Spoilt::NotALine)?;
    let outline: Outline = serde_json::from_slice(line).map_err(|_shape| Spoilt::NotALine)?;
    if outline.schema != SCHEMA || outline.hash.as_bytes() != hash {
        return Err(Spoilt::NotALine);
    }
    let mut hashed = body.to_vec();
    hashed.push(b'}');
    if hex(digest(&SHA256, &hashed).as_ref()) != outline.hash {
        return Err(Spoilt::Changed);
    }
    Ok(Placed { prev: outline.prev, link: Link { seq: outline.seq, hash: outline.hash } })
}

/// Reads on to the next line feed, or as far as any line may reach; what came is in `text`, and how much.
pub(super) fn next(reader: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<usize> {
    text.clear();
    reader.take(MOST_OF_A_LINE).read_until(b'\n', text)
}

/// The number at the beginning of a line. Looks no further.
pub(super) fn seq(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(BEGINNING)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

/// A text from outside as it may stand in a line and in a log.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(LONGEST).collect()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    seq: u64,
    at: Timestamp,
    what: &'static str,
    who: Whom,
    #[serde(skip_serializing_if = "Option::is_none")]
    integration: Option<&'a IntegrationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization: Option<&'a OrganizationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a ProviderId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    outcome: &'static str,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    prev: &'a str,
}

impl<'a> Line<'a> {
    fn of(event: &'a AuditEvent, at: Timestamp, seq: u64, prev: &'a str) -> Self {
        let (identity, transition) = (event.identity.as_ref(), event.transition.as_ref());
        Self {
            schema: SCHEMA,
            seq,
            at,
            what: event.what,
            who: Whom::of(&event.actor),
            integration: identity.map(|identity| &identity.integration),
            organization: identity.map(|identity| &identity.organization),
            provider: identity.map(|identity| &identity.provider),
            address: event.address.as_deref().map(plain),
            outcome: event.outcome,
            count: event.count,
            from: transition.map(|entry| entry.from),
            to: transition.map(|entry| entry.to),
            cause: transition.map(|entry| entry.cause).filter(|cause| !cause.is_empty()),
            generation: transition.map(|entry| entry.generation),
            prev,
        }
    }
}

/// `who`: a kind, and what goes with it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Whom {
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
}

impl Whom {
    pub(super) fn of(actor: &Actor) -> Self {
        match actor {
            Actor::Grantd => Self { kind: "grantd", ..Self::default() },
            Actor::Browser => Self { kind: "browser", ..Self::default() },
            Actor::Host { uid } => Self { kind: "host", uid: Some(*uid), ..Self::default() },
            Actor::App { uid, unit } => {
                Self { kind: "app", uid: Some(*uid), unit: unit.as_deref().map(plain), ..Self::default() }
            }
            Actor::Operator { subject, name } => Self {
                kind: "operator",
                subject: Some(plain(subject)),
                name: Some(plain(name)),
                ..Self::default()
            },
        }
    }
}

#[derive(Deserialize)]
struct Outline {
    schema: String,
    seq: u64,
    prev: String,
    hash: String,
}

/// Hexadecimal digits of a SHA-256.
const HASH: usize = 64;
const HASH_MEMBER: &[u8] = b",\"hash\":\"";
/// More than any line has.
pub(super) const MOST_OF_A_LINE: u64 = 16 * 1024;
/// Characters of a text from outside.
const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::{Link, Spoilt, read, seq, write};
    use crate::lifecycle::testing::identity;
    use crate::lifecycle::{Actor, AuditEvent, Code, Entry};
    use crate::time::Timestamp;

    const AT: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn text(event: &AuditEvent) -> String {
        String::from_utf8(write(event, AT, &Link::start()).0).unwrap()
    }

    #[test]
    fn members_stand_in_a_fixed_order_and_absent_ones_are_left_out() {
        let entry =
            Entry { what: "refreshed", from: "refreshing", to: "active", cause: "rotated", generation: 3 };
        let line = text(&AuditEvent::transition(&identity("github"), entry));
        let zeros = "0".repeat(64);
        assert!(
            line.starts_with(&format!(
                r#"{{"schema":"grantd-audit/1","seq":1,"at":"2027-01-15T08:00:00Z","what":"refreshed","who":{{"kind":"grantd"}},"integration":"github","organization":"acme","provider":"github","outcome":"ok","count":1,"from":"refreshing","to":"active","cause":"rotated","generation":3,"prev":"{zeros}","hash":""#
            )),
            "{line}"
        );
        let refused = AuditEvent::refused("start_asked", Actor::Host { uid: 0 }, Code::NotAnAdmin);
        let line = text(&refused.from("192.0.2.7"));
        assert!(
            line.contains(&format!(
                r#""who":{{"kind":"host","uid":0}},"address":"192.0.2.7","outcome":"not_an_admin","count":1,"prev":"{zeros}""#
            )),
            "{line}"
        );
    }

    #[test]
    fn what_was_written_reads_again_and_no_byte_of_it_can_change() {
        let (line, link) =
            write(&AuditEvent::done("refresh_asked", Actor::Host { uid: 0 }), AT, &Link::start());
        let line = line.strip_suffix(b"\n").unwrap();
        let placed = read(line).unwrap();
        assert_eq!((placed.prev, &placed.link), (Link::start().hash, &link));
        assert_eq!(seq(line), Some(1));
        for at in 0..line.len() {
            let mut changed = line.to_vec();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "byte {at}");
        }
        let other = String::from_utf8(line.to_vec()).unwrap().replace("refresh_asked", "revoke_asked");
        assert_eq!(read(other.as_bytes()), Err(Spoilt::Changed));
        for none in [&b""[..], b"{}", b"\"}", &line[1..]] {
            assert_eq!(read(none), Err(Spoilt::NotALine));
        }
    }

    #[test]
    fn texts_from_outside_are_bounded_and_have_no_control_characters() {
        let name = format!("\u{1b}[31mEve\r\n{}", "x".repeat(10_000));
        let line = text(&AuditEvent::done("sign_in", Actor::Operator { subject: "s\"1".into(), name }));
        assert!(line.contains(r#""subject":"s\"1","name":"[31mEvexx"#), "{line}");
        assert!(line.len() < 700);
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn an_event_can_be_copied_and_compared_which_no_secret_can() {
        // `secret.rs` gives its types neither `Clone` nor `PartialEq`: an event that held one would not compile here.
        const fn holds_no_secret<T: Clone + PartialEq + Send + Sync + 'static>() {}
        holds_no_secret::<AuditEvent>();
    }
}
