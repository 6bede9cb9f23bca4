//! What every request passes and every answer wears: the right host, bounds, no posts from other sites, strict headers.
//!
//! Runs around every route, so that a page that comes later is guarded without having to ask.

use super::pages::{POLICY, SCRIPTED, Script};
use super::trouble::{Trouble, Voice};
use super::visit::Visit;
use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::MatchedPath;
use axum::middleware::Next;
use axum::response::Response;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use url::{Host, Url};

/// Guards one request and its answer.
pub(super) async fn attend(
    Extension(visit): Extension<Visit>,
    request: Request<Body>,
    next: Next,
) -> Response {
    // The route's pattern and never the path: a path may hold a ticket.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (client, voice) = (visit.client(request.headers()), Voice::of(&request));
    let mut response = match admit(&visit, request).await {
        Ok(request) => next.run(request).await,
        Err(trouble) => {
            tracing::debug!(cause = trouble.word, status = trouble.status.as_u16(), client = %client, "request refused");
            trouble.answer(voice, &visit)
        }
    };
    let policy = if response.extensions().get::<Script>().is_some() { &SCRIPTED } else { &POLICY };
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::clone(policy));
    dress(response.headers_mut(), &visit);
    let op = route.as_ref().map_or("unknown", MatchedPath::as_str);
    tracing::trace!(op, status = response.status().as_u16(), client = %client, "request answered");
    response
}

async fn admit(visit: &Visit, request: Request<Body>) -> Result<Request<Body>, Trouble> {
    if request.uri().path_and_query().is_some_and(|target| target.as_str().len() > LONGEST_TARGET) {
        return Err(Trouble::uri_too_long());
    }
    if !HEALTH.contains(&request.uri().path()) && !is_for(&visit.settings.public_url, &request) {
        return Err(Trouble::misdirected());
    }
    if !is_safe(request.method()) && is_cross_site(&visit.settings.public_url, request.headers()) {
        return Err(Trouble::cross_site());
    }
    let (head, body) = request.into_parts();
    // The body is read whole here: no handler waits for a slow peer or meets an endless one.
    match tokio::time::timeout(visit.patience, to_bytes(body, LARGEST_BODY)).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(head, Body::from(bytes))),
        Ok(Err(_too_large_or_broken_off)) => Err(Trouble::content_too_large()),
        Err(_elapsed) => Err(Trouble::too_slow()),
    }
}

/// Whether a request is for this host by each name that it gives. A name that an attacker's DNS points here is not ours.
fn is_for(public_url: &Url, request: &Request<Body>) -> bool {
    let mut named = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (named.next(), named.next()) else { return false };
    let by_header = host.to_str().ok().and_then(|text| text.parse().ok());
    by_header.is_some_and(|host| is_ours(public_url, &host))
        && request.uri().authority().is_none_or(|authority| is_ours(public_url, authority))
}

fn is_ours(public_url: &Url, authority: &Authority) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    match Host::parse(authority.host()) {
        Ok(Host::Domain(name)) => name == "localhost" || public_url.host_str() == Some(name.as_str()),
        Ok(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        Err(_not_a_host) => false,
    }
}

const fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Fetch Metadata where the browser sends it, else `Origin`; what sends neither is no browser, and carries no one's cookies.
fn is_cross_site(public_url: &Url, headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter().peekable();
    if sites.peek().is_some() {
        return !sites.all(|site| site == "same-origin" || site == "none");
    }
    let own = public_url.origin().ascii_serialization();
    !headers.get_all(header::ORIGIN).iter().all(|origin| origin.as_bytes() == own.as_bytes())
}

fn dress(headers: &mut HeaderMap, visit: &Visit) {
    for (name, value) in WORN {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if visit.insists_on_https() {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
}

/// Load balancers ask for health by whatever name they know.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const LONGEST_TARGET: usize = 16 * 1024;
const LARGEST_BODY: usize = 64 * 1024;
const WORN: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

#[cfg(test)]
mod tests {
    use crate::edge::web::testing::{CALLBACK, PUBLIC, Reply, Room, Script, settings};
    use aws_lc_rs::digest;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use std::sync::Arc;
    use tracing::Level;

    const WORN: [(&str, &str); 6] = [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("strict-transport-security", "max-age=31536000"),
    ];

    fn open() -> Room {
        Room::open(settings(PUBLIC), Script::default())
    }

    async fn for_host(room: &Room, path: &str, host: &str) -> Reply {
        room.raw(&format!("GET {path} HTTP/1.1\r\n{host}\r\n")).await
    }

    #[tokio::test]
    async fn every_answer_wears_the_headers() {
        let room = open();
        let mut answers = vec![
            room.send("POST", "/connect/t", "", "").await,
            room.send("POST", CALLBACK, "", "{").await,
            room.send("DELETE", "/", "", "").await,
            for_host(&room, "/", "Host: evil.example\r\n").await,
        ];
        for path in ["/", "/nothing", "/healthz", "/readyz", "/connect/t", CALLBACK] {
            answers.push(room.get(path).await);
        }
        for answer in answers {
            let policy = answer.header("content-security-policy");
            assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{answer:?}");
            assert!(policy.ends_with("; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"));
            let differs = |&&(name, value): &&(&str, &str)| answer.header(name) != value;
            assert_eq!(WORN.iter().find(differs), None, "{answer:?}");
            assert!(answer.header("permissions-policy").contains("camera=()"));
        }
    }

    #[tokio::test]
    async fn the_policy_lets_the_one_stylesheet_through() {
        let page = open().get("/").await;
        let (_, rest) = page.body.split_once("<style>").unwrap();
        let (style, _) = rest.split_once("</style>").unwrap();
        let hash = STANDARD.encode(digest::digest(&digest::SHA256, style.as_bytes()));
        assert!(page.header("content-security-policy").contains(&format!("'sha256-{hash}'")));
        assert!(!page.body.contains("style=") && !page.body.contains("<script"));
    }

    #[tokio::test]
    async fn browsers_insist_on_https_only_where_it_is_spoken() {
        for public in
            ["http://localhost:8443", "https://localhost:8443", "https://127.0.0.1", "https://[::1]:8443"]
        {
            let room = Room::open(settings(public), Script::default());
            let page = for_host(&room, "/", "Host: localhost\r\n").await;
            assert_eq!((page.status, page.header("strict-transport-security")), (200, ""), "{public}");
        }
    }

    #[tokio::test]
    async fn only_our_own_names_are_answered() {
        let room = open();
        for good in [
            "grantd.acme.example",
            "grantd.acme.example:443",
            "GRANTD.acme.example",
            "localhost",
            "localhost:8443",
            "127.0.0.1:8443",
            "10.1.2.3",
            "[::1]:8443",
        ] {
            assert_eq!(for_host(&room, "/", &format!("Host: {good}\r\n")).await.status, 200, "{good}");
        }
        for bad in [
            "evil.example",
            "grantd.acme.example.evil.example",
            "acme.example",
            "x@localhost",
            "localhost.evil.example",
            "",
            "a b",
        ] {
            let page = for_host(&room, "/connect/t", &format!("Host: {bad}\r\n")).await;
            assert_eq!(page.status, 421, "{bad}");
            assert_eq!(for_host(&room, "/healthz", &format!("Host: {bad}\r\n")).await.status, 200, "{bad}");
        }
        for odd in ["", "Host: localhost\r\nHost: localhost\r\n"] {
            assert_eq!(for_host(&room, "/", odd).await.status, 421);
        }
        assert_eq!(for_host(&room, "http://evil.example/", "Host: localhost\r\n").await.status, 421);
        assert_eq!(room.asked(), [""; 0]);
    }

    #[tokio::test]
    async fn targets_heads_and_bodies_are_bounded() {
        let room = open();
        let target = |length: usize| format!("{CALLBACK}/github?state=s&x={}", "x".repeat(length));
        assert_eq!(room.get(&target(16_000)).await.status, 200);
        assert_eq!(room.get(&target(16_400)).await.status, 414);
        assert_eq!(
            room.send("GET", "/", &format!("X-Much: {}\r\n", "x".repeat(40_000)), "").await.status,
            431
        );
        assert_eq!(room.send("POST", "/connect/t", "", &"x".repeat(64 * 1024)).await.status, 200);
        let told = room.send("POST", CALLBACK, "", &"x".repeat(64 * 1024 + 1)).await;
        assert_eq!((told.status, told.code()), (413, "invalid_request"));
        let chunk = format!("10001\r\n{}\r\n0\r\n\r\n", "x".repeat(0x10001));
        let chunked = format!(
            "POST {CALLBACK} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
        );
        assert_eq!(room.raw(&chunked).await.status, 413);
    }

    #[tokio::test]
    async fn what_is_not_there_is_said_in_the_voice_of_the_request() {
        let room = open();
        let page = room.get("/%3Cscript%3E").await;
        assert_eq!((page.status, page.code()), (404, "not_found"));
        assert!(page.header("content-type").starts_with("text/html") && !page.body.contains("script"));
        let told = room.send("GET", "/nothing", "Accept: application/json\r\n", "").await;
        assert_eq!((told.status, told.header("content-type")), (404, "application/problem+json"));
        let page = room.send("PUT", "/connect/t", "", "").await;
        assert_eq!(
            (page.status, page.code(), page.header("allow")),
            (405, "method_not_allowed", "GET,HEAD,POST")
        );
        let told = room.send("GET", CALLBACK, "Accept: application/problem+json\r\n", "").await;
        assert_eq!((told.status, told.code(), told.header("allow")), (405, "method_not_allowed", "POST"));
        let odd = room.send("BREW", "/", "", "").await;
        assert_eq!(odd.status, 405);
    }

    #[tokio::test]
    async fn nothing_of_a_request_but_its_route_and_its_client_reaches_the_log() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = Arc::new(file.reopen().unwrap());
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_max_level(Level::TRACE).with_writer(log);
        let _logging = tracing::subscriber::set_default(subscriber.finish());
        let room = open();
        let query = "code=canary-code&state=canary-state&error_description=canary-error";
        let cookie = "Cookie: grantd-1=canary-cookie\r\n";
        // Twice: another test may have met an event first, without a log, and switched it off for all.
        for _ in 0..2 {
            room.send("GET", "/connect/canary-ticket", cookie, "").await;
            room.send("POST", "/connect/canary-ticket", cookie, "canary-body").await;
            room.send("POST", "/connect/canary-ticket", "Origin: https://canary.example\r\n", "").await;
            room.send("GET", &format!("{CALLBACK}/canary-provider?{query}"), cookie, "").await;
            room.send("POST", CALLBACK, cookie, r#"{"provider":"canary","code":"canary"}"#).await;
            room.send("GET", &format!("/canary-path?{query}"), "Host: canary.example\r\n", "").await;
            tracing::callsite::rebuild_interest_cache();
        }
        let log = std::fs::read_to_string(file.path()).unwrap();
        assert!(log.contains("/connect/{ticket}") && log.contains("client=127.0.0.1"), "{log}");
        assert!(log.contains("request refused") && !log.contains("canary"), "{log}");
    }
}
