//! A browser without a screen: cookies with their rules, redirects and refreshes by hand, `Sec-Fetch-*` and `Origin` as browsers send them.
//!
//! Cookies know hosts and not ports, as in every browser. The steps of a consent are there one by one, so that a test can tamper.

use super::html::{Form, attribute, refresh_of};
use super::http::{Answer, fetch};
use ::http::{Method, Request};
use bytes::Bytes;
use std::time::Duration;
use url::Url;

use super::waiting::Stopwatch;

/// One browser with its cookies.
#[derive(Default)]
pub struct Browser {
    cookies: Vec<Cookie>,
    /// What the consent page is answered with: `accept`, or an error such as `access_denied`.
    pub answer: Option<String>,
    /// Who signs in at the provider.
    pub account: Option<String>,
}

/// A page that was arrived at.
#[derive(Clone, Debug)]
pub struct Page {
    pub url: Url,
    pub answer: Answer,
}

struct Cookie {
    name: String,
    value: String,
    host: String,
    path: String,
    secure: bool,
    same_site: String,
    life: Option<(Stopwatch, Duration)>,
}

impl Page {
    /// An answer that was had without a browser.
    pub fn of(answer: Answer) -> Self {
        Self { url: Url::parse("http://127.0.0.1/").unwrap(), answer }
    }

    pub fn status(&self) -> u16 {
        self.answer.status
    }

    /// The stable code on the body of a page that refuses.
    pub fn code(&self) -> Option<String> {
        attribute(&self.answer.text(), "body", "data-code")
    }

    pub fn text(&self) -> String {
        super::html::text_of(&self.answer.text())
    }
}

impl Browser {
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers the consent page with an error.
    pub fn declining(error: &str) -> Self {
        Self { answer: Some(error.into()), ..Self::default() }
    }

    /// Signs in at the provider as somebody else.
    pub fn of(account: &str) -> Self {
        Self { account: Some(account.into()), ..Self::default() }
    }

    /// The whole consent, from a link to the landing page.
    #[track_caller]
    pub fn connect(&mut self, link: &str) -> Page {
        let callback = self.until_callback(link);
        self.arrive(&callback)
    }

    /// The consent as far as the provider's redirect, which is not followed.
    #[track_caller]
    pub fn until_callback(&mut self, link: &str) -> Url {
        let going = self.confirm(link);
        let next =
            going.unwrap_or_else(|page| panic!("no way to the provider: {} {}", page.status(), page.text()));
        self.consent(&next)
    }

    /// Opens a link by hand and confirms its page: where the browser is sent next, or the page that refuses.
    #[track_caller]
    pub fn confirm(&mut self, link: &str) -> Result<Url, Box<Page>> {
        let page = self.open(link);
        if page.status() != 200 {
            return Err(Box::new(page));
        }
        let next = self.submit(&page, &[]);
        match refresh_of(&next.answer.text()) {
            Some(to) => Ok(next.url.join(&to).unwrap()),
            None => Err(Box::new(next)),
        }
    }

    /// At the provider: signs in, answers, and is sent back; the callback is not followed.
    #[track_caller]
    pub fn consent(&mut self, authorize: &Url) -> Url {
        let mut page = self.visit(authorize, Some("http://127.0.0.1"));
        for _hop in 0..10 {
            let next = redirect(&page);
            if let Some(callback) = next.clone().filter(|next| next.path().contains("/oauth/callback")) {
                return callback;
            }
            page = match next {
                Some(next) => self.visit(&next, Some(&origin(&page.url))),
                None => self.sign_in(&page),
            };
        }
        panic!("the provider never came back; last at {}", page.url.path());
    }

    /// Enters a device code at the provider's page, signs in and consents.
    #[track_caller]
    pub fn enter_code(&mut self, page: &str, code: &str) -> Page {
        let asked = self.open(page);
        let asked = self.submit(&asked, &[("user_code", code)]);
        let mut page = self.submit(&asked, &[("confirm", "yes")]);
        for _hop in 0..10 {
            page = match redirect(&page) {
                Some(next) => self.visit(&next, Some(&origin(&page.url))),
                None if page.answer.text().contains("name=\"account\"") => self.sign_in(&page),
                None => return page,
            };
        }
        panic!("the provider does not come to an end; last at {}", page.url.path());
    }

    /// Answers the provider's page.
    #[track_caller]
    fn sign_in(&mut self, page: &Page) -> Page {
        assert_eq!(page.status(), 200, "the provider refuses: {}", page.answer.text());
        let account = self.account.clone().unwrap_or_else(|| "acme-bot".into());
        let answer = self.answer.clone().unwrap_or_else(|| "accept".into());
        self.submit(page, &[("account", &account), ("answer", &answer)])
    }

    /// Arrives at a callback, sent by the provider: a top-level navigation from another site.
    #[track_caller]
    pub fn arrive(&mut self, callback: &Url) -> Page {
        self.visit(callback, Some("http://localhost"))
    }

    /// Opens an address by hand and follows redirects.
    #[track_caller]
    pub fn open(&mut self, url: &str) -> Page {
        let mut page = self.visit(&Url::parse(url).unwrap(), None);
        for _hop in 0..5 {
            let Some(next) = redirect(&page) else { break };
            page = self.visit(&next, None);
        }
        page
    }

    /// Submits the first form of a page, with some fields set otherwise.
    #[track_caller]
    pub fn submit(&mut self, page: &Page, changes: &[(&str, &str)]) -> Page {
        let text = page.answer.text();
        let mut form =
            Form::first(&text).unwrap_or_else(|| panic!("no form on {}: {}", page.url.path(), page.text()));
        for (name, value) in changes {
            form.fields.retain(|(field, _)| field != name);
            form.fields.push(((*name).into(), (*value).into()));
        }
        assert!(form.post, "the form does not POST");
        let to = page.url.join(&form.action).unwrap();
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&form.fields).finish();
        // The Fetch standard: without a referrer, a form's Origin is opaque.
        let from = origin(&page.url);
        let silent = page.answer.header("referrer-policy") == "no-referrer";
        let sent = if silent { "null".to_owned() } else { from.clone() };
        let request = Request::builder()
            .method(Method::POST)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", sent);
        self.send(&to, Some(&from), request, body.into())
    }

    /// One navigation, without following anything. `from` is the origin of whoever sent the browser there.
    #[track_caller]
    pub fn visit(&mut self, url: &Url, from: Option<&str>) -> Page {
        self.send(url, from, Request::builder().method(Method::GET), Bytes::new())
    }

    /// The names of the cookies that would be sent to `url` on a navigation from another site.
    pub fn cookie_names(&self, url: &Url) -> Vec<String> {
        self.fitting(url, true, false).map(|cookie| cookie.name.clone()).collect()
    }

    /// The cookies that would be sent to `url`, as a header.
    pub fn cookie_header(&self, url: &Url) -> String {
        let pairs = self.fitting(url, true, false).map(|cookie| format!("{}={}", cookie.name, cookie.value));
        pairs.collect::<Vec<_>>().join("; ")
    }

    /// The values of all cookies, for whoever looks for leaks.
    pub fn cookie_values(&self) -> Vec<String> {
        self.cookies.iter().map(|cookie| cookie.value.clone()).collect()
    }

    #[track_caller]
    fn send(
        &mut self,
        url: &Url,
        from: Option<&str>,
        request: ::http::request::Builder,
        body: Bytes,
    ) -> Page {
        let site = relation(from, url);
        let posting = request.method_ref() == Some(&Method::POST);
        let cookies: Vec<_> = self
            .fitting(url, site == "cross-site", posting)
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        let mut request = request
            .uri(url.as_str())
            .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
            .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
            .header("sec-fetch-site", site)
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
            .header("sec-fetch-user", "?1");
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        let answer = fetch(request.body(body).unwrap());
        for line in answer.headers.get_all("set-cookie") {
            self.keep(url, line.to_str().unwrap());
        }
        Page { url: url.clone(), answer }
    }

    fn fitting(&self, url: &Url, cross_site: bool, posting: bool) -> impl Iterator<Item = &Cookie> {
        self.cookies.iter().filter(move |cookie| {
            let lax = matches!(cookie.same_site.as_str(), "" | "lax");
            let crosses = cookie.same_site == "none" || (lax && !posting);
            let alive = cookie.life.as_ref().is_none_or(|(since, life)| since.elapsed() < *life);
            Some(cookie.host.as_str()) == url.host_str()
                && path_fits(&cookie.path, url.path())
                && (!cookie.secure || url.scheme() == "https")
                && (!cross_site || crosses)
                && alive
        })
    }

    fn keep(&mut self, url: &Url, line: &str) {
        let mut parts = line.split(';').map(str::trim);
        let (name, value) = parts.next().unwrap().split_once('=').unwrap();
        let mut cookie = Cookie {
            name: name.into(),
            value: value.into(),
            host: url.host_str().unwrap().into(),
            path: url
                .path()
                .rsplit_once('/')
                .map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder })
                .into(),
            secure: false,
            same_site: String::new(),
            life: None,
        };
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key.to_ascii_lowercase().as_str() {
                "path" => cookie.path = value.into(),
                "secure" => cookie.secure = true,
                "samesite" => cookie.same_site = value.to_ascii_lowercase(),
                "expires" if value.contains(" 1970 ") => {
                    cookie.life = Some((Stopwatch::start(), Duration::ZERO));
                }
                "max-age" => {
                    let life = Duration::from_secs(value.parse().unwrap_or(0));
                    cookie.life = Some((Stopwatch::start(), life));
                }
                _ => {}
            }
        }
        // RFC 6265bis §5.7: a Secure cookie from plain http is not kept, nor a prefix whose promise is not held.
        let promised = name.starts_with("__Secure-") || name.starts_with("__Host-");
        if (cookie.secure || promised) && url.scheme() != "https" {
            return;
        }
        self.cookies
            .retain(|old| old.name != cookie.name || old.path != cookie.path || old.host != cookie.host);
        let ended = cookie.life.as_ref().is_some_and(|(_, life)| life.is_zero());
        if !ended {
            self.cookies.push(cookie);
        }
    }
}

/// RFC 6265 §5.1.4.
fn path_fits(cookie: &str, path: &str) -> bool {
    path == cookie
        || path.strip_prefix(cookie).is_some_and(|rest| cookie.ends_with('/') || rest.starts_with('/'))
}

fn redirect(page: &Page) -> Option<Url> {
    if !(300..400).contains(&page.status()) {
        return None;
    }
    page.url.join(&page.answer.header("location")).ok()
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// `Sec-Fetch-Site`: a site is a host here, since none of the tests' hosts has a registrable domain.
fn relation(from: Option<&str>, to: &Url) -> &'static str {
    let Some(from) = from.and_then(|from| Url::parse(from).ok()) else { return "none" };
    if from.origin() == to.origin() {
        "same-origin"
    } else if from.host() == to.host() && from.scheme() == to.scheme() {
        "same-site"
    } else {
        "cross-site"
    }
}
