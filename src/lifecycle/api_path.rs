//! Paths below an API's base, as the proxy judges and sends them, and the rules that bindings write for them.
//!
//! Pure text. A path is brought into one form first (RFC 3986 §6.2.2) and refused where servers disagree about what it means;
//! the form that is matched is the form that is sent, so that no rule is passed by spelling a path otherwise.

use super::{Code, Refusal};
use std::fmt;

/// A path in its one form, with its leading slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiPath(String);

/// What a binding lets through: a path, or all below one, with any method or with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    method: Option<String>,
    pattern: String,
}

/// Why a text is no rule for paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAPathRule {
    /// It is no path.
    #[error("that is no path, or not in its plain form")]
    Path,
    /// A star that stands for less than a segment.
    #[error("`*` stands for a whole segment, `**` for one or more")]
    Star,
    /// What stands before the path is no method.
    #[error("what stands before the path is no method")]
    Method,
}

impl ApiPath {
    /// Brings a path into its one form.
    ///
    /// # Errors
    /// `invalid_request`, with what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let invalid = |why: &str| Err(Refusal::new(Code::InvalidRequest, why));
        if !text.starts_with('/') || text.len() > LONGEST {
            return invalid("the path begins with a slash and has at most 8 KiB");
        }
        let Some(plain) = plain(text.as_bytes()) else {
            return invalid(
                "the path has a character that must not be in it, plain or encoded: a control, a slash, a backslash, a second encoding",
            );
        };
        if plain.contains("//") {
            return invalid("the path has an empty segment");
        }
        // Some servers cut `;` and what follows before they look for dots.
        let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
        if plain.split('/').any(dots) {
            return invalid("the path has a segment of dots");
        }
        Ok(Self(plain))
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path with the query behind it, if there is one.
    #[must_use]
    pub fn with_query(&self, query: Option<&str>) -> String {
        query.map_or_else(|| self.0.clone(), |query| format!("{}?{query}", self.0))
    }
}

impl PathRule {
    /// Reads a rule: `/repos/acme/**`, or `GET /user`.
    ///
    /// # Errors
    /// [`NotAPathRule`].
    pub fn parse(text: &str) -> Result<Self, NotAPathRule> {
        let (method, pattern) = text.split_once(' ').map_or((None, text), |(of, rest)| (Some(of), rest));
        if method
            .is_some_and(|method| method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()))
        {
            return Err(NotAPathRule::Method);
        }
        let starred = |segment: &str| segment.contains('*') && segment != "*" && segment != "**";
        if pattern.split('/').any(starred) {
            return Err(NotAPathRule::Star);
        }
        match ApiPath::parse(pattern) {
            Ok(path) if path.as_str() == pattern => {
                Ok(Self { method: method.map(str::to_owned), pattern: path.0 })
            }
            Ok(_) | Err(_) => Err(NotAPathRule::Path),
        }
    }

    /// Whether the rule lets this through. A rule for GET is one for HEAD as well.
    #[must_use]
    pub fn fits(&self, method: &str, path: &ApiPath) -> bool {
        let same = |wanted: &str| wanted == method || (wanted == "GET" && method == "HEAD");
        self.method.as_deref().is_none_or(same) && reaches(&self.pattern, path.as_str())
    }
}

/// As the configuration writes it.
impl fmt::Display for PathRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.method {
            Some(method) => write!(out, "{method} {}", self.pattern),
            None => out.write_str(&self.pattern),
        }
    }
}

/// Whether a pattern leads to a path. It goes back to its last `**` and no further, so that it takes no more than a product
/// of both lengths.
fn reaches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    let (mut rule, mut at, mut back) = (0, 0, None);
    while let Some(segment) = path.get(at) {
        match pattern.get(rule).copied() {
            Some("**") => {
                back = Some((rule, at));
                (rule, at) = (rule + 1, at + 1);
            }
            Some(wanted) if wanted == *segment || (wanted == "*" && !segment.is_empty()) => {
                (rule, at) = (rule + 1, at + 1);
            }
            Some(_) | None => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (rule, at) = (star + 1, from + 2);
                }
                None => return false,
            },
        }
    }
    rule == pattern.len()
}

/// Encoded characters that need no encoding are decoded, the others are written with capitals. `None` for what must not be there.
fn plain(text: &[u8]) -> Option<String> {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            if !is_unreserved(*byte) && !b"/!$&'()*+,;=:@".contains(byte) {
                return None;
            }
            plain.push(char::from(*byte));
            continue;
        }
        let (value, after) = encoded(rest)?;
        rest = after;
        let twice = value == b'%' && encoded(rest).is_some();
        if twice || value.is_ascii_control() || matches!(value, b'/' | b'\\') {
            return None;
        }
        if is_unreserved(value) {
            plain.push(char::from(value));
        } else {
            plain.push_str(&format!("%{value:02X}"));
        }
    }
    Some(plain)
}

/// The byte that two hexadecimal digits stand for, and what follows them.
fn encoded(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = text.split_at_checked(2)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let value = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    Some((value, rest))
}

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const LONGEST: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::{ApiPath, NotAPathRule, PathRule};

    fn fits(rule: &str, method: &str, path: &str) -> bool {
        PathRule::parse(rule).unwrap().fits(method, &ApiPath::parse(path).unwrap())
    }

    #[test]
    fn a_path_has_one_form() {
        for (text, form) in [
            ("/", "/"),
            ("/repos/acme/", "/repos/acme/"),
            ("/%72epos/a%2dc%7Ee", "/repos/a-c~e"),
            ("/a%c3%a9%20b", "/a%C3%A9%20b"),
            ("/v1/users:batch/a@b,c;x=1", "/v1/users:batch/a@b,c;x=1"),
            ("/100%25", "/100%25"),
            ("/...", "/..."),
        ] {
            assert_eq!(ApiPath::parse(text).unwrap().as_str(), form, "{text}");
        }
    }

    #[test]
    fn what_servers_read_in_two_ways_is_refused() {
        for attack in [
            "",
            "repos",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/%2e%2e/b",
            "/a/%2E./b",
            "/a/.%2e",
            "/a/..;/b",
            "/a/.;x=1/b",
            "/a/%2e%2e;x/b",
            "//evil.example/",
            "/a//b",
            "/a/%2f/b",
            "/a%2Fb",
            "/a%5c..%5cb",
            "/a\\..\\b",
            "/a%00",
            "/a%0d%0aHost:%20evil",
            "/a%7f",
            "/a\r\nX: y",
            "/a\tb",
            "/a b",
            "/a#b",
            "/a?b",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%+1",
            "/%252e%252e/b",
            "/a%252fb",
            "/a%2525",
            "/a{b}",
            "/a|b",
            "/a\"b",
            "/é",
        ] {
            assert!(ApiPath::parse(attack).is_err(), "{attack:?}");
        }
        assert!(ApiPath::parse(&format!("/{}", "a".repeat(9000))).is_err());
    }

    #[test]
    fn a_star_is_a_segment_and_two_are_one_or_more() {
        for (rule, path, yes) in [
            ("/user", "/user", true),
            ("/user", "/user/", false),
            ("/user", "/User", false),
            ("/user", "/users", false),
            ("/repos/acme/**", "/repos/acme/web", true),
            ("/repos/acme/**", "/repos/acme/web/issues/1", true),
            ("/repos/acme/**", "/repos/acme", false),
            ("/repos/acme/**", "/repos/acme-evil/web", false),
            ("/repos/acme/**", "/repos/other/acme/web", false),
            ("/repos/*/issues", "/repos/web/issues", true),
            ("/repos/*/issues", "/repos/a/b/issues", false),
            ("/repos/*", "/repos/", false),
            ("/**/issues", "/repos/a/issues", true),
            ("/**/issues", "/issues", false),
            ("/**/issues/*", "/a/issues/b/issues/7", true),
            ("/**/a/**/b", "/x/a/y/a/b", true),
            ("/**/a/**/b", "/x/a/b", false),
            ("/**", "/", true),
            ("/**", "/any/thing", true),
            ("/", "/a", false),
        ] {
            assert_eq!(fits(rule, "POST", path), yes, "{rule} {path}");
        }
        let long = format!("/{}", "a/".repeat(2000));
        assert!(!fits(&format!("/{}b", "**/a/".repeat(200)), "GET", &long), "and in time");
    }

    #[test]
    fn a_rule_may_name_a_method() {
        assert!(fits("GET /user", "GET", "/user") && fits("GET /user", "HEAD", "/user"));
        assert!(!fits("GET /user", "DELETE", "/user") && !fits("POST /user", "HEAD", "/user"));
        assert!(!fits("GET /user", "get", "/user"));
        assert_eq!(PathRule::parse("GET /repos/**").unwrap().to_string(), "GET /repos/**");
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_reason() {
        for (text, why) in [
            ("repos/**", NotAPathRule::Path),
            ("/a/../b", NotAPathRule::Path),
            ("/%61", NotAPathRule::Path),
            ("/repos/acme-*", NotAPathRule::Star),
            ("/repos/***", NotAPathRule::Star),
            ("get /user", NotAPathRule::Method),
            (" /user", NotAPathRule::Method),
        ] {
            assert_eq!(PathRule::parse(text), Err(why), "{text}");
        }
    }
}
