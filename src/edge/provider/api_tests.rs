//! Tests of the upstream half of the proxy, against servers on loopback that speak HTTP/1.1, HTTP/2 and nothing.

use super::{Api, Apis, TokenIn};
use crate::engine::testing::served;
use crate::engine::{Called, Flow, Upstream, nothing};
use crate::lifecycle::{ApiAnswer, Code, IntegrationId, Lease, Refusal};
use crate::secret::AccessToken;
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const CERTIFICATE: &[u8] = include_bytes!("../web/certificates/test.crt");
const KEY: &[u8] = include_bytes!("../web/certificates/test.key");
const TOKEN: &str = "canary/1:a";

fn github() -> IntegrationId {
    IntegrationId::parse("github").unwrap()
}

fn api(base: &str, token_in: TokenIn) -> Api {
    let left_header = Some("x-ratelimit-remaining".into());
    Api { base: Some(base.parse().unwrap()), token_in, headers: Vec::new(), left_header }
}

fn bearer() -> TokenIn {
    TokenIn::Header { name: "authorization".into(), prefix: "Bearer ".into() }
}

fn apis(builder: reqwest::ClientBuilder, api: Api) -> Apis {
    Apis::with(builder, BTreeMap::from([(github(), Arc::new(api))]), Duration::from_secs(10)).unwrap()
}

async fn call(apis: &Apis, request: Request<Flow>) -> Result<Called, Refusal> {
    let lease = Lease {
        integration: github(),
        token: AccessToken::new(TOKEN),
        token_type: "Bearer".into(),
        expires_at: None,
        scope: None,
        generation: 1,
        issue: 1,
    };
    apis.call(&github(), served(&lease), request).await
}

fn get(target: &str) -> Request<Flow> {
    Request::get(target).body(nothing()).unwrap()
}

/// An API that notes each request and gives one answer.
struct Standin {
    seen: Arc<Mutex<Vec<Request<()>>>>,
    base: String,
    _serving: JoinSet<()>,
}

impl Standin {
    async fn start(answer: fn() -> Response<Full<Bytes>>, tls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("{}://{}", if tls { "https" } else { "http" }, listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Request<()>>>> = Arc::default();
        let (noted, mut serving) = (Arc::clone(&seen), JoinSet::new());
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                converse(stream, tls, Arc::clone(&noted), answer).await;
            }
        });
        Self { seen, base, _serving: serving }
    }

    fn seen(&self) -> Request<()> {
        self.seen.lock().unwrap().pop().unwrap()
    }
}

async fn converse(
    stream: TcpStream,
    tls: bool,
    noted: Arc<Mutex<Vec<Request<()>>>>,
    answer: fn() -> Response<Full<Bytes>>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        noted.lock().unwrap().push(request.map(drop));
        async move { Ok::<_, Infallible>(answer()) }
    });
    if !tls {
        let http = hyper::server::conn::http1::Builder::new();
        let _ended = http.serve_connection(TokioIo::new(stream), service).await;
    } else if let Ok(stream) = acceptor().accept(stream).await {
        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ended = http.serve_connection(TokioIo::new(stream), service).await;
    }
}

fn acceptor() -> tokio_rustls::TlsAcceptor {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let chain = CertificateDer::pem_slice_iter(CERTIFICATE).collect::<Result<_, _>>().unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(chain, PrivateKeyDer::from_pem_slice(KEY).unwrap()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

fn fine() -> Response<Full<Bytes>> {
    let answer = Response::builder().header("set-cookie", "a=b").header("x-echo", format!("<{TOKEN}>"));
    answer.body(Full::from("fine")).unwrap()
}

#[tokio::test]
async fn the_token_goes_where_the_api_wants_it() {
    let standin = Standin::start(fine, false).await;
    let key = TokenIn::Header { name: "x-key".into(), prefix: "Token ".into() };
    for (token_in, target, sent) in [
        (bearer(), "/user?a=%2F..", "/v1/user?a=%2F.."),
        (key, "/user", "/v1/user"),
        (TokenIn::Query { param: "key".into() }, "/a?k%65y=mine&b=1", "/v1/a?b=1&key=canary%2F1%3Aa"),
        (TokenIn::Query { param: "key".into() }, "/a", "/v1/a?key=canary%2F1%3Aa"),
        (TokenIn::Path { prefix: "bot".into() }, "/getMe", "/v1/botcanary%2F1:a/getMe"),
    ] {
        let apis = apis(reqwest::Client::builder(), api(&format!("{}/v1/", standin.base), token_in.clone()));
        let request = Request::get(target).header("authorization", "mine").header("x-key", "mine");
        let called = call(&apis, request.body(nothing()).unwrap()).await.unwrap();
        assert_eq!((called.answer.status().as_u16(), called.said), (200, ApiAnswer::of(200)));
        assert_eq!(called.answer.headers()["x-echo"], "<***>");
        assert!(!called.answer.headers().contains_key("set-cookie"));
        assert_eq!(called.answer.into_body().collect().await.unwrap().to_bytes(), "fine");
        let seen = standin.seen();
        assert_eq!(seen.uri(), sent);
        let header = |name: &str| seen.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(Some(header("host").unwrap()), standin.base.strip_prefix("http://"));
        let (given, mine) = match token_in {
            TokenIn::Header { name, .. } if name == "x-key" => (header("x-key"), "Token canary/1:a"),
            TokenIn::Header { .. } => (header("authorization"), "Bearer canary/1:a"),
            TokenIn::Query { .. } | TokenIn::Path { .. } => (Some(""), ""),
        };
        assert_eq!(given, Some(mine));
        assert_ne!(header("authorization"), Some("mine"));
    }
}

#[tokio::test]
async fn headers_of_the_provider_are_defaults() {
    let standin = Standin::start(fine, false).await;
    let headers = vec![("X-Version".to_owned(), "1".to_owned()), ("Accept".to_owned(), "a/b".to_owned())];
    let apis = apis(reqwest::Client::builder(), Api { headers, ..api(&standin.base, bearer()) });
    let request = Request::get("/a").header("x-version", "2").header("x-forwarded-for", "10.0.0.1");
    call(&apis, request.body(nothing()).unwrap()).await.unwrap();
    let seen = standin.seen();
    assert_eq!(
        (seen.headers()["x-version"].as_bytes(), seen.headers()["accept"].as_bytes()),
        (&b"2"[..], &b"a/b"[..])
    );
    assert!(seen.headers()["user-agent"].to_str().unwrap().starts_with("grantd/"));
    assert!(!seen.headers().contains_key("x-forwarded-for"));
}

#[tokio::test]
async fn http_2_is_spoken_where_it_is_offered() {
    let standin = Standin::start(fine, true).await;
    let trusted = reqwest::Certificate::from_pem(CERTIFICATE).unwrap();
    let apis = apis(reqwest::Client::builder().tls_certs_only([trusted]), api(&standin.base, bearer()));
    let request = Request::post("/a").header("connection", "close").header("te", "trailers");
    let called = call(&apis, request.body(nothing()).unwrap()).await.unwrap();
    assert_eq!(called.answer.into_body().collect().await.unwrap().to_bytes(), "fine");
    let seen = standin.seen();
    assert_eq!((seen.version(), seen.uri().path()), (Version::HTTP_2, "/a"));
    assert_eq!(seen.headers()["authorization"], "Bearer canary/1:a");
}

#[tokio::test]
async fn a_server_that_cannot_prove_who_it_is_gets_nothing() {
    let standin = Standin::start(fine, true).await;
    let apis = apis(reqwest::Client::builder(), api(&standin.base, bearer()));
    let refusal = call(&apis, get("/a")).await.unwrap_err();
    assert_eq!(refusal.code, Code::UpstreamUnreachable);
    assert!(standin.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_redirect_is_passed_on_and_not_followed() {
    fn elsewhere() -> Response<Full<Bytes>> {
        Response::builder()
            .status(302)
            .header("location", "http://127.0.0.1:1/")
            .body(Full::default())
            .unwrap()
    }
    let standin = Standin::start(elsewhere, false).await;
    let apis = apis(reqwest::Client::builder(), api(&standin.base, bearer()));
    let called = call(&apis, get("/a")).await.unwrap();
    assert_eq!(called.answer.status(), 302);
    assert_eq!(called.answer.headers()["location"], "http://127.0.0.1:1/");
}

#[tokio::test]
async fn a_limited_rate_is_known_by_its_signs() {
    let said = |status: u16, headers: &[(&'static str, &'static str)]| {
        let mut map = http::HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, http::HeaderValue::from_static(value));
        }
        let said = api("https://x.example", bearer()).said(http::StatusCode::from_u16(status).unwrap(), &map);
        (said.rate_limited, said.retry_after.map(|wait| wait.as_secs()))
    };
    assert_eq!(said(403, &[]), (false, None));
    assert_eq!(said(403, &[("retry-after", "9")]), (true, Some(9)));
    assert_eq!(said(403, &[("x-ratelimit-remaining", "0")]), (true, None));
    assert_eq!(said(403, &[("x-ratelimit-remaining", "7")]), (false, None));
    assert_eq!(said(429, &[("retry-after", "30")]), (false, Some(30)));
}

#[tokio::test]
async fn nobody_there_no_answer_and_forbidden_places_are_told_apart() {
    let code = async |base: &str| {
        let known = BTreeMap::from([(github(), Arc::new(api(base, bearer())))]);
        let apis = Apis::with(reqwest::Client::builder(), known, Duration::from_millis(50)).unwrap();
        let refusal = call(&apis, get("/a")).await.unwrap_err();
        assert!(!format!("{refusal:?}").contains("canary"));
        refusal.code
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    assert_eq!(code(&silent).await, Code::UpstreamTimeout);
    drop(listener);
    assert_eq!(code(&silent).await, Code::UpstreamUnreachable);
    for forbidden in [
        "http://api.example",
        "https://169.254.169.254",
        "https://[fd00:ec2::254]",
        "https://[fe80::1]",
        "https://0.0.0.0",
    ] {
        assert_eq!(code(forbidden).await, Code::UpstreamUnreachable, "{forbidden}");
    }
    let nowhere = Api { base: None, ..api("https://x.example", bearer()) };
    let refusal = call(&apis(reqwest::Client::builder(), nowhere), get("/a")).await.unwrap_err();
    assert_eq!(refusal.code, Code::ProviderNotConfigured);
}

#[tokio::test]
async fn a_call_that_is_dropped_is_given_up_and_a_cut_answer_breaks_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let apis = apis(reqwest::Client::builder(), api(&base, bearer()));
    let mut calling = Box::pin(call(&apis, get("/a")));
    let mut stream = tokio::select! {
        _never = &mut calling => panic!("nobody answers"),
        accepted = listener.accept() => accepted.unwrap().0,
    };
    drop(calling);
    let gone = async {
        while tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1024]).await.is_ok_and(|n| n > 0) {}
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), gone).await.is_ok());

    let cut = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _head = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
    };
    let (called, ()) = tokio::join!(call(&apis, get("/a")), cut);
    assert!(called.unwrap().answer.into_body().collect().await.is_err());
}
