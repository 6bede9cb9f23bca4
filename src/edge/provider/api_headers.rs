//! Which headers pass the proxy, in both directions (RFC 9110 §7.6.1), and where the token is taken out again.
//!
//! What is about one connection, about who calls, or about another way to say what is called, stays behind. What an API sets
//! on a browser stays behind as well: an app has no cookies here.

use http::header::{self, CONNECTION, HeaderMap, HeaderName, HeaderValue};

/// The headers of a call that go on to the API.
pub(super) fn outward(mut headers: HeaderMap) -> HeaderMap {
    strip_connection(&mut headers);
    drop_all(&mut headers, |name| {
        CALLERS.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    });
    headers
}

/// The headers of an answer that go back to the caller, with the token taken out where the API repeats it.
pub(super) fn inward(mut headers: HeaderMap, token: &[u8]) -> HeaderMap {
    strip_connection(&mut headers);
    drop_all(&mut headers, |name| BROWSERS.contains(&name) || name.starts_with("proxy-"));
    for value in headers.values_mut() {
        if let Some(scrubbed) = without(value.as_bytes(), token) {
            *value = HeaderValue::from_bytes(&scrubbed).unwrap_or(HeaderValue::from_static(STARS));
        }
    }
    headers
}

/// `text` with stars where it has the token; `None` if it does not have it.
fn without(text: &[u8], token: &[u8]) -> Option<Vec<u8>> {
    if token.is_empty() || text.len() < token.len() || !text.windows(token.len()).any(|part| part == token) {
        return None;
    }
    let (mut left, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, after)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(token) {
            left.extend_from_slice(STARS.as_bytes());
            rest = behind;
        } else {
            left.push(*first);
            rest = after;
        }
    }
    Some(left)
}

/// What belongs to one connection, by its nature or because `Connection` names it.
fn strip_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| *name != header::HOST)
        .collect();
    for name in named {
        headers.remove(name);
    }
    drop_all(headers, |name| HOP_BY_HOP.contains(&name));
}

fn drop_all(headers: &mut HeaderMap, goes: impl Fn(&str) -> bool) {
    // Some servers read `X_Forwarded_For` as the other one.
    let goes = |name: &&HeaderName| goes(&name.as_str().replace('_', "-"));
    let gone: Vec<HeaderName> = headers.keys().filter(goes).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];
/// What a caller says of itself, of those before it, or of another call than the one that was judged. The length is told by
/// the body itself, the host by the provider.
const CALLERS: &[&str] = &[
    "authorization",
    "cookie",
    "cookie2",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "via",
    "x-real-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-method",
];
const PREFIXES: &[&str] = &["proxy-", "x-forwarded-", "x-original-", "cf-connecting-"];
const BROWSERS: &[&str] = &["set-cookie", "set-cookie2", "alt-svc", "clear-site-data"];
const STARS: &str = "***";

#[cfg(test)]
mod tests {
    use super::{inward, outward, without};
    use http::{HeaderMap, HeaderName, HeaderValue};

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn names(headers: &HeaderMap) -> Vec<String> {
        let mut names: Vec<_> = headers.keys().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_the_callers_own_or_the_connections_stays_behind() {
        let lines = [
            ("accept", "application/json"),
            ("content-type", "text/plain"),
            ("if-none-match", "\"1\""),
            ("idempotency-key", "7"),
            ("connection", "close, X-Private,, Keep-Alive"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("http2-settings", "AAA"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy-connection", "keep-alive"),
            ("authorization", "Bearer mine"),
            ("cookie", "a=b"),
            ("content-length", "3"),
            ("expect", "100-continue"),
            ("host", "evil.example"),
            ("forwarded", "for=10.0.0.1"),
            ("via", "1.1 x"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-host", "evil.example"),
            ("x-real-ip", "10.0.0.1"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x-http-method-override", "DELETE"),
            ("x-original-url", "/admin"),
        ];
        let went = outward(headers(&lines));
        assert_eq!(names(&went), ["accept", "content-type", "idempotency-key", "if-none-match"]);
    }

    #[test]
    fn an_answer_keeps_all_but_its_connection_its_cookies_and_the_token() {
        let lines = [
            ("content-type", "text/html"),
            ("content-length", "3"),
            ("www-authenticate", "Bearer"),
            ("location", "https://elsewhere.example/?access_token=canary&x=canary"),
            ("link", "</next>; rel=next"),
            ("connection", "x-secret"),
            ("x-secret", "1"),
            ("transfer-encoding", "chunked"),
            ("set-cookie", "a=b"),
            ("proxy-authenticate", "Basic"),
            ("alt-svc", "h3"),
        ];
        let came = inward(headers(&lines), b"canary");
        let kept = ["content-length", "content-type", "link", "location", "www-authenticate"];
        assert_eq!(names(&came), kept);
        assert_eq!(came["location"], "https://elsewhere.example/?access_token=***&x=***");
    }

    #[test]
    fn a_token_is_taken_out_wherever_it_stands() {
        assert_eq!(without(b"no", b"canary"), None);
        assert_eq!(without(b"anything", b""), None);
        assert_eq!(without(b"canary", b"canary").unwrap(), b"***");
        assert_eq!(without(b"<canarycanary>can", b"canary").unwrap(), b"<******>can");
    }
}
