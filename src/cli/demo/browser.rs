//! A browser as small as the demo needs: it keeps cookies, fetches pages, submits forms, and follows redirects when told to.

use crate::cli::client::{Reply, send_tcp};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use std::collections::BTreeMap;
use std::io;
use url::Url;

/// One person's browser.
#[derive(Default)]
pub(super) struct Browser {
    cookies: BTreeMap<String, String>,
}

/// A page as it arrived.
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) text: String,
}

impl Browser {
    /// Opens an address.
    pub(super) async fn open(&mut self, address: &str) -> io::Result<Page> {
        self.send(Method::GET, address, String::new()).await
    }

    /// Submits a form to an address.
    pub(super) async fn submit(&mut self, address: &str, form: &[(&str, &str)]) -> io::Result<Page> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.send(Method::POST, address, body).await
    }

    async fn send(&mut self, method: Method, address: &str, body: String) -> io::Result<Page> {
        let url = Url::parse(address).map_err(io::Error::other)?;
        let authority = url.authority().to_owned();
        let target =
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, &authority)
            .header(header::ACCEPT, "text/html")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::COOKIE, cookies.join("; "))
            .header("sec-fetch-site", "same-origin")
            .body(Full::new(Bytes::from(body)))
            .map_err(io::Error::other)?;
        let reply = send_tcp(&authority, request).await?;
        self.remember(&reply);
        let location = reply.headers.get(header::LOCATION).and_then(|to| to.to_str().ok()).map(str::to_owned);
        Ok(Page {
            status: reply.status.as_u16(),
            location,
            text: String::from_utf8_lossy(&reply.body).into_owned(),
        })
    }

    fn remember(&mut self, reply: &Reply) {
        for cookie in reply.headers.get_all(header::SET_COOKIE) {
            let first = cookie.to_str().ok().and_then(|text| text.split(';').next());
            if let Some((name, value)) = first.and_then(|pair| pair.split_once('=')) {
                self.cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }
}

impl Page {
    /// The first link of the page that begins with `start`.
    pub(super) fn link(&self, start: &str) -> Option<String> {
        let links = self.text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
        links.map(unescaped).find(|link| link.starts_with(start))
    }

    /// What the page says of itself: `data-code` of its body.
    pub(super) fn code(&self) -> Option<&str> {
        self.text.split("data-code=\"").nth(1)?.split('"').next()
    }
}

fn unescaped(text: &str) -> String {
    text.replace("&#38;", "&").replace("&amp;", "&").replace("&#x26;", "&")
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn links_and_codes_are_found() {
        let text = r#"<body data-code="stored"><a href="/x">x</a><a href="http://h/a?b=1&#38;c=2">y</a>"#;
        let page = Page { status: 200, location: None, text: text.into() };
        assert_eq!(page.code(), Some("stored"));
        assert_eq!(page.link("http://h/").as_deref(), Some("http://h/a?b=1&c=2"));
        assert_eq!(page.link("http://other/"), None);
    }
}
