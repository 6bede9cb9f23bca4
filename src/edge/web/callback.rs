//! The callback: what a provider sent a browser back with, handed to the engine together with that browser's cookie.
//!
//! Judges nothing itself. What it must never do: show or log a parameter, or answer success before the engine does.

use super::landing::Words;
use super::pages::End;
use super::site::Site;
use super::trouble::{Trouble, Voice};
use super::visit::Visit;
use super::{cookie, install, operator, pages};
use crate::engine::Landing;
use crate::lifecycle::{Actor, AuditEvent, Bearer, Callback, Code, IntegrationId, ProviderId, Refusal};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};

/// The end of a redirect URI: a provider's, or an integration's own.
#[derive(Deserialize)]
pub(super) struct RedirectPath {
    provider: String,
    integration: Option<String>,
}

/// `GET …/callback/{provider}` and `…/{provider}/{integration}`: a landing page that tells the truth.
pub(super) async fn returned(
    State(site): State<Site>,
    Extension(visit): Extension<Visit>,
    path: Result<Path<RedirectPath>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let callback = match &path {
        Ok(Path(RedirectPath { provider, integration })) => Callback::from_query(
            provider,
            integration.as_deref(),
            query.as_deref().unwrap_or_default(),
            UNKNOWN,
        ),
        Err(_not_text) => Err(Refusal::new(Code::InvalidRequest, "the path is not one of a redirect URI")),
    };
    if let (Ok(callback), Ok(Path(path))) = (&callback, &path)
        && is_unasked(&visit, callback, path)
    {
        return install::afresh(&visit, &path.provider, query.as_deref().unwrap_or_default());
    }
    let (end, spent) = match callback {
        Ok(callback) => finish(&site, &visit, &headers, callback).await,
        Err(refusal) => (Err(refusal), Ending::default()),
    };
    match end {
        Ok(landing) => {
            with_cookie(pages::landed(&visit, &landing, &Words::on(&landing), spent.end), spent.cookie)
        }
        Err(refusal) => Trouble::from(refusal).shown_in(spent.end.window).answer(Voice::Page, &visit),
    }
}

/// A code that nobody here asked for, as marketplaces send it: it is dropped, and the person begins afresh (RFC 9700 §4.7).
fn is_unasked(visit: &Visit, callback: &Callback, path: &RedirectPath) -> bool {
    let settings = &visit.settings;
    let known =
        settings.integrations.values().any(|planned| planned.identity.provider.as_str() == path.provider);
    settings.sign_in.is_some() && known && callback.state.is_none() && callback.code.is_some()
}

/// `POST …/callback`: the same with JSON, for pages that take the redirect themselves.
pub(super) async fn posted(
    State(site): State<Site>,
    Extension(visit): Extension<Visit>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (end, spent) = match Callback::from_json(&body, UNKNOWN) {
        Ok(callback) => finish(&site, &visit, &headers, callback).await,
        Err(refusal) => (Err(refusal), Ending::default()),
    };
    match end {
        Ok(landing) => with_cookie(told(&landing), spent.cookie),
        Err(refusal) => Trouble::from(refusal).answer(Voice::Problem, &visit),
    }
}

/// What goes with the end of a flow.
#[derive(Default)]
struct Ending {
    cookie: Option<HeaderValue>,
    end: End,
}

/// Adds the cookie that the state names and whoever is signed in, and asks the engine. A flow that ended well gives its cookie's
/// end back.
async fn finish(
    site: &Site,
    visit: &Visit,
    headers: &HeaderMap,
    mut callback: Callback,
) -> (Result<Landing, Refusal>, Ending) {
    let mut spent = Ending::default();
    let person = operator::signed_in(site, visit, headers).map(|(person, _)| person);
    if let Some(state) = &callback.state {
        let brought = cookie::brought(&visit.settings, headers, state);
        spent.cookie = cookie::taken(&visit.settings, state);
        spent.end.window = brought.as_ref().map(|(_, window)| *window).unwrap_or_default();
        let cookie = brought.map(|(value, _)| value);
        callback.bearer = match &person {
            Some(person) => Bearer::Person { cookie, subject: person.subject.clone() },
            None => Bearer::Browser(cookie),
        };
    }
    spent.end.signed_in = person.is_some();
    let actor = person.map_or(Actor::Browser, |person| Actor::Operator {
        subject: person.subject.clone(),
        name: person.name.clone(),
    });
    let end = site.handle.callback(callback).await;
    let event = match &end {
        Ok(landing) => AuditEvent::done("consent_ended", actor).about(&landing.identity),
        Err(refusal) => AuditEvent::refused("consent_ended", actor, refusal.code),
    };
    site.trail.record(event.from(visit.client(headers).to_string()));
    (end, spent)
}

fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

fn told(landing: &Landing) -> Response {
    let told = Told {
        success: true,
        message: &Words::on(landing).title,
        integration: Integration {
            id: &landing.identity.integration,
            name: &landing.provider_name,
            provider: &landing.identity.provider,
        },
    };
    let body = serde_json::to_vec(&told).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[derive(Serialize)]
struct Told<'a> {
    success: bool,
    message: &'a str,
    integration: Integration<'a>,
}

#[derive(Serialize)]
struct Integration<'a> {
    id: &'a IntegrationId,
    name: &'a str,
    provider: &'a ProviderId,
}

/// Until the state says which cookie to look for.
const UNKNOWN: Bearer = Bearer::Browser(None);

#[cfg(test)]
mod tests {
    use crate::edge::web::testing::{CALLBACK, PUBLIC, Room, Script, account, landing, settings, stored};
    use crate::engine::{Landed, Landing};
    use crate::lifecycle::{Account, Code, Refusal};
    use std::time::Duration;

    const COOKIE: &str = "Cookie: a=b; __Secure-grantd-f36b45ae=cookie-value\r\n";

    fn ends(landing: Landing) -> Script {
        Script { landing: Box::new(move || Ok(landing.clone())), ..Script::default() }
    }

    fn refuses(refusal: Refusal) -> Script {
        Script { landing: Box::new(move || Err(refusal.clone())), ..Script::default() }
    }

    #[tokio::test]
    async fn the_browsers_cookie_reaches_the_engine_and_ends_with_the_flow() {
        let room = Room::open(settings(PUBLIC), Script::default());
        let page = room.send("GET", &format!("{CALLBACK}/github?code=c&state=state-1"), COOKIE, "").await;
        assert_eq!((page.status, page.code()), (200, "stored"));
        for shown in [
            "GitHub is connected",
            "<bdi>Acme Bot (acme-bot)</bdi>",
            "acme",
            "/sym/acme/github",
            "grantd status github",
        ] {
            assert!(page.body.contains(shown), "{shown}");
        }
        assert_eq!(
            page.header("set-cookie"),
            "__Secure-grantd-f36b45ae=; Path=/v1/integrations/oauth/callback; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
        );
        let page = room.get(&format!("{CALLBACK}/github/github-2?code=d&state=other")).await;
        assert_eq!(page.status, 200);
        assert_eq!(
            room.asked(),
            ["callback github - code=c cookie=cookie-value", "callback github github-2 code=d cookie=-"]
        );
    }

    #[tokio::test]
    async fn each_good_end_tells_the_truth() {
        let sealed = Landed::Sealed { account: account(), why: "denied" };
        let nobody = Landed::Stored { account: Account::default() };
        for (landed, code, says) in [
            (stored(), "stored", "The provider confirmed the account, the record is stored"),
            (nobody, "stored", "The provider did not say whose account it is"),
            (sealed, "sealed", "has not taken the record yet: grantd&#39;s role may not write the secret"),
            (Landed::Unverified, "unverified", "no app gets it before the right account is confirmed"),
        ] {
            let room = Room::open(settings(PUBLIC), ends(landing(landed)));
            let page = room.get(&format!("{CALLBACK}/github?code=c&state=s")).await;
            assert_eq!((page.status, page.code()), (200, code));
            assert!(page.body.contains(says), "{says}: {}", page.body);
            assert!(!page.body.contains("http-equiv"));
        }
    }

    #[tokio::test]
    async fn a_page_goes_on_by_itself_only_when_all_is_done_and_only_to_https() {
        let then = |landed, to: &str| ends(Landing { then: Some(to.into()), ..landing(landed) });
        let to = "https://app.acme.example/done?a=1&b=%22";
        let escaped = "https://app.acme.example/done?a=1&#38;b=%22";
        let refresh = format!("<meta http-equiv=\"refresh\" content=\"3;url={escaped}\">");
        for (landed, goes) in [(stored(), true), (Landed::Unverified, false)] {
            let room = Room::open(settings(PUBLIC), then(landed, to));
            let page = room.get(&format!("{CALLBACK}/github?code=c&state=s")).await;
            assert!(page.body.contains(&format!("href=\"{escaped}\"")));
            assert_eq!(page.body.contains(&refresh), goes);
        }
        let room = Room::open(settings(PUBLIC), then(stored(), "javascript:alert(1)"));
        let page = room.get(&format!("{CALLBACK}/github?code=c&state=s")).await;
        assert!(page.status == 200 && !page.body.contains("javascript"));
    }

    #[tokio::test]
    async fn every_refusal_has_its_status_its_code_and_its_words() {
        for code in Code::ALL {
            let refusal = Refusal::new(*code, "what is special").with_retry_after(Duration::from_secs(7));
            let room = Room::open(settings(PUBLIC), refuses(refusal));
            let page = room.get(&format!("{CALLBACK}/github?error=x&state=s")).await;
            assert_eq!((page.status, page.code()), (code.status(), code.word()));
            assert!(page.body.contains("what is special.") && page.body.contains("What to do next"));
            assert_eq!((page.header("retry-after"), page.header("set-cookie")), ("7", ""));
            let told =
                room.send("POST", CALLBACK, "", r#"{"provider":"github","code":"c","state":"s"}"#).await;
            assert_eq!((told.status, told.code()), (code.status(), code.word()));
            assert_eq!(
                (told.header("content-type"), told.header("retry-after")),
                ("application/problem+json", "7")
            );
        }
    }

    #[tokio::test]
    async fn repeated_parameters_do_not_reach_the_engine() {
        let room = Room::open(settings(PUBLIC), Script::default());
        for query in [
            "code=a&code=b&state=s",
            "code=a&state=s&state=s",
            "state=s&error=a&error=b",
            "state=s&iss=a&iss=b",
        ] {
            let page = room.get(&format!("{CALLBACK}/github?{query}")).await;
            assert_eq!((page.status, page.code()), (400, "invalid_request"), "{query}");
        }
        for body in [
            "",
            "[]",
            r#"{"provider":"github","code":"a","code":"b","state":"s"}"#,
            r#"{"code":"a","state":"s"}"#,
        ] {
            let told = room.send("POST", CALLBACK, "", body).await;
            assert_eq!((told.status, told.code()), (400, "invalid_request"), "{body}");
        }
        assert_eq!(room.asked(), [""; 0]);
    }

    #[tokio::test]
    async fn the_path_goes_to_the_engine_as_it_is_and_nothing_of_it_comes_back() {
        let room =
            Room::open(settings(PUBLIC), refuses(Refusal::new(Code::InvalidOauthState, "another path")));
        let script = "%3Cscript%3Ealert(1)%3C/script%3E";
        let page = room
            .get(&format!("{CALLBACK}/{}?state={script}&error={script}", script.replace('/', "%2F")))
            .await;
        assert_eq!((page.status, page.code()), (400, "invalid_oauth_state"));
        assert!(!page.body.contains("script") && !page.body.contains("alert"));
        assert_eq!(room.get(&format!("{CALLBACK}/slack?code=c&state=s")).await.status, 400);
        assert_eq!(room.get(&format!("{CALLBACK}/%ff?code=c&state=s")).await.code(), "invalid_request");
        let seen =
            ["callback <script>alert(1)</script> - code=- cookie=-", "callback slack - code=c cookie=-"];
        assert_eq!(room.asked(), seen);
    }

    #[tokio::test]
    async fn account_names_cannot_become_markup() {
        let account = Account { name: Some("<b>\"Bot\"</b>".into()), ..Account::default() };
        let room = Room::open(settings(PUBLIC), ends(landing(Landed::Stored { account })));
        let page = room.get(&format!("{CALLBACK}/github?code=c&state=s")).await;
        assert!(page.body.contains("<bdi>&#60;b&#62;&#34;Bot&#34;&#60;/b&#62;</bdi>"), "{}", page.body);
    }

    #[tokio::test]
    async fn a_head_request_spends_nothing() {
        let room = Room::open(settings(PUBLIC), Script::default());
        for path in
            [format!("{CALLBACK}/github?code=c&state=s"), format!("{CALLBACK}/github/x?code=c&state=s")]
        {
            let reply = room.send("HEAD", &path, "", "").await;
            assert_eq!((reply.status, reply.header("allow")), (405, "GET"));
        }
        assert_eq!(room.asked(), [""; 0]);
    }

    #[tokio::test]
    async fn json_is_answered_with_json() {
        let room = Room::open(settings(PUBLIC), Script::default());
        let body = r#"{"provider":"github","code":"c","state":"state-1"}"#;
        let told = room.send("POST", CALLBACK, COOKIE, body).await;
        assert_eq!((told.status, told.header("content-type")), (200, "application/json"));
        assert_eq!(
            told.body,
            r#"{"success":true,"message":"GitHub is connected","integration":{"id":"github","name":"GitHub","provider":"github"}}"#
        );
        assert!(told.header("set-cookie").contains("Max-Age=0"));
        assert_eq!(room.asked(), ["callback github - code=c cookie=cookie-value"]);
        let told = room.send("POST", CALLBACK, "Sec-Fetch-Site: cross-site\r\n", body).await;
        assert_eq!((told.status, told.code()), (403, "invalid_request"));
        assert_eq!(room.asked().len(), 1);
    }
}
