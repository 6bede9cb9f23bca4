//! The one-time link: a page that says what is about to happen, and the button that makes it happen.
//!
//! Reading the page spends nothing. The ticket stands in the path alone, and never in a page or a log.

use super::cookie::Window;
use super::form::Form;
use super::site::Site;
use super::trouble::{Trouble, Voice};
use super::visit::Visit;
use super::{cookie, pages};
use crate::lifecycle::{Code, Confirmation, Refusal};
use crate::secret::Ticket;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::header;
use url::Url;

/// `GET /connect/{ticket}`: what the link leads to.
pub(super) async fn show(
    State(site): State<Site>,
    Extension(visit): Extension<Visit>,
    path: Result<Path<String>, PathRejection>,
) -> Response {
    let invitation = match ticket(path) {
        Ok(ticket) => site.handle.invitation(ticket).await,
        Err(refusal) => Err(refusal),
    };
    match invitation {
        Ok(invitation) => {
            let cell = site.handle.board().cell(invitation.identity.integration.as_str());
            let present = cell.map(|cell| cell.posting());
            let account = present.as_ref().map(|posting| &posting.view.account);
            pages::connect(&visit, &invitation, account, site.clock.now())
        }
        Err(refusal) => Trouble::from(refusal).answer(Voice::Page, &visit),
    }
}

/// `POST /connect/{ticket}`: follows the link, gives this browser the flow's cookie and sends it on.
pub(super) async fn follow(
    State(site): State<Site>,
    Extension(visit): Extension<Visit>,
    path: Result<Path<String>, PathRejection>,
    body: Bytes,
) -> Response {
    match begin(&site, &visit, path, &Form::of(&body)).await {
        Ok(response) => response,
        Err(refusal) => Trouble::from(refusal).answer(Voice::Page, &visit),
    }
}

async fn begin(
    site: &Site,
    visit: &Visit,
    path: Result<Path<String>, PathRejection>,
    form: &Form,
) -> Result<Response, Refusal> {
    let confirmation = Confirmation { owner: None, account: form.account() };
    let going = site.handle.confirm(ticket(path)?, confirmation).await?;
    let to = Url::parse(&going.url).ok().filter(|to| matches!(to.scheme(), "https" | "http"));
    let to = to.ok_or_else(|| {
        Refusal::new(
            Code::ProviderNotConfigured,
            "the provider's authorize_url is not one that a browser can follow",
        )
    })?;
    let now = site.clock.now();
    let mut response = pages::going(visit, &going, &to, now);
    if let Some(cookie) = cookie::given(&visit.settings, &going, Window::Whole, going.expires_at.since(now)) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

fn ticket(path: Result<Path<String>, PathRejection>) -> Result<Ticket, Refusal> {
    match path {
        Ok(Path(ticket)) => Ok(Ticket::new(ticket)),
        Err(_not_text) => Err(Refusal::new(Code::InvalidRequest, "the link is not one that grantd made")),
    }
}

#[cfg(test)]
mod tests {
    use crate::edge::web::testing::{PUBLIC, Room, Script, going, invitation, settings};
    use crate::engine::Going;
    use crate::lifecycle::{Code, Invitation, Refusal};
    use std::time::Duration;

    #[tokio::test]
    async fn the_page_says_what_is_about_to_happen_and_spends_nothing() {
        let room = Room::open(settings(PUBLIC), Script::default());
        let page = room.get("/connect/ticket-1").await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
        for shown in [
            "GitHub",
            "acme",
            "<code>repo</code>",
            "<code>read:user</code>",
            "/sym/acme/github",
            "00:25 UTC",
            "in about 9 minutes",
            "Go on only if you yourself asked for this link",
            "lang=\"en\"",
        ] {
            assert!(page.body.contains(shown), "{shown}");
        }
        assert_eq!((page.body.matches("<form").count(), page.body.matches("<button").count()), (1, 1));
        assert!(!page.body.contains("ticket-1") && !page.body.contains("<script"));
        let head = room.send("HEAD", "/connect/ticket-1", "", "").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert_eq!(room.asked(), ["invitation ticket-1", "invitation ticket-1"]);
    }

    #[tokio::test]
    async fn following_gives_this_browser_the_cookie_and_sends_it_on() {
        let room = Room::open(settings(PUBLIC), Script::default());
        let page = room.send("POST", "/connect/ticket-1", "Sec-Fetch-Site: same-origin\r\n", "").await;
        assert_eq!((page.status, page.header("location")), (200, ""));
        assert_eq!(
            page.header("set-cookie"),
            "__Secure-grantd-f36b45ae=cookie-value; Path=/v1/integrations/oauth/callback; Max-Age=300; HttpOnly; SameSite=Lax; Secure"
        );
        let to = "https://github.example/authorize?client_id=c&#38;state=state-1";
        assert!(page.body.contains(&format!("<meta http-equiv=\"refresh\" content=\"0;url={to}\">")));
        assert!(page.body.contains(&format!("href=\"{to}\"")));
        assert!(page.body.contains("<code>github.example</code>") && !page.body.contains("ticket-1"));
        assert_eq!(room.asked(), ["confirm ticket-1"]);
    }

    #[tokio::test]
    async fn on_loopback_over_http_the_cookie_is_one_that_browsers_keep() {
        let room = Room::open(settings("http://localhost:8443"), Script::default());
        let page =
            room.raw("POST /connect/t HTTP/1.1\r\nHost: localhost:8443\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(
            page.header("set-cookie"),
            "grantd-f36b45ae=cookie-value; Path=/v1/integrations/oauth/callback; Max-Age=300; HttpOnly; SameSite=Lax"
        );
    }

    #[tokio::test]
    async fn a_link_that_is_over_says_so_and_what_to_do() {
        let stale =
            || Refusal::new(Code::InvalidOauthState, "the link is unknown; `grantd connect` makes a new one");
        let script = Script {
            invitation: Box::new(move || Err(stale())),
            going: Box::new(|| {
                Err(Refusal::new(Code::TokenUnavailable, "it does not answer")
                    .with_retry_after(Duration::from_secs(30)))
            }),
            ..Script::default()
        };
        let room = Room::open(settings(PUBLIC), script);
        let page = room.get("/connect/old").await;
        assert_eq!((page.status, page.code()), (400, "invalid_oauth_state"));
        assert!(page.body.contains("the link is unknown; <code>grantd connect</code> makes a new one."));
        let page = room.send("POST", "/connect/old", "", "").await;
        assert_eq!((page.status, page.code(), page.header("retry-after")), (503, "token_unavailable", "30"));
        assert_eq!(page.header("set-cookie"), "");
    }

    #[tokio::test]
    async fn posts_from_other_sites_do_not_reach_the_engine() {
        let room = Room::open(settings(PUBLIC), Script::default());
        for bad in [
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\n",
            "Sec-Fetch-Site: cross-site\r\nOrigin: https://grantd.acme.example\r\n",
            "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: \r\n",
            "Origin: https://evil.example\r\n",
            "Origin: http://grantd.acme.example\r\n",
            "Origin: https://grantd.acme.example.evil.example\r\n",
            "Origin: null\r\n",
        ] {
            let page = room.send("POST", "/connect/t", bad, "").await;
            assert_eq!((page.status, page.code()), (403, "invalid_request"), "{bad}");
            assert_eq!(page.header("set-cookie"), "");
        }
        assert_eq!(room.asked(), [""; 0]);
        for good in [
            "",
            "Sec-Fetch-Site: none\r\n",
            "Origin: https://grantd.acme.example\r\n",
            "Sec-Fetch-Site: same-origin\r\nOrigin: null\r\n",
        ] {
            assert_eq!(room.send("POST", "/connect/t", good, "").await.status, 200, "{good}");
        }
    }

    #[tokio::test]
    async fn nothing_that_is_shown_can_become_markup() {
        let script = Script {
            invitation: Box::new(|| {
                Ok(Invitation {
                    provider_name: "<img src=x>".into(),
                    scopes: vec!["\"><script>".into()],
                    kept_in: "<i>'".into(),
                    ..invitation()
                })
            }),
            going: Box::new(|| Ok(Going { url: "https://github.example/?a='\"><script>".into(), ..going() })),
            ..Script::default()
        };
        let room = Room::open(settings(PUBLIC), script);
        for method in ["GET", "POST"] {
            let page = room.send(method, "/connect/%22%3E%3Cscript%3E", "", "").await;
            assert_eq!(page.status, 200);
            let markup = ["<img", "<script", "<i>", "'\""];
            assert_eq!(markup.iter().find(|text| page.body.contains(**text)), None);
        }
    }

    #[tokio::test]
    async fn odd_links_and_odd_destinations_are_refused() {
        let script = Script {
            going: Box::new(|| Ok(Going { url: "javascript:alert(1)".into(), ..going() })),
            ..Script::default()
        };
        let room = Room::open(settings(PUBLIC), script);
        let page = room.get("/connect/%ff").await;
        assert_eq!((page.status, page.code()), (400, "invalid_request"));
        assert_eq!(room.get("/connect/a/b").await.status, 404);
        let page = room.send("POST", "/connect/t", "", "").await;
        assert_eq!((page.status, page.code()), (409, "provider_not_configured"));
        assert!(!page.body.contains("javascript") && page.header("set-cookie").is_empty());
    }
}
