//! The walk: connect, read, rotate, revoke. Each step says what it does and proves that it happened.

use super::browser::Browser;
use super::standin::StandIn;
use crate::cli::client::ask;
use crate::cli::end::End;
use crate::cli::terminal;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Where everything is.
pub(super) struct Stage {
    pub(super) app: PathBuf,
    pub(super) control: PathBuf,
    pub(super) public: String,
    pub(super) standin: StandIn,
}

/// The step that failed, and why.
pub(super) struct Failed {
    pub(super) step: &'static str,
    pub(super) why: String,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
    expires_at: Option<String>,
    generation: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    auth_url: String,
}

impl Stage {
    /// Walks one integration through its life.
    pub(super) async fn walk(&self) -> Result<(), Failed> {
        let at = |step| move |why| Failed { step, why };
        self.connect().await.map_err(at("connect"))?;
        terminal::say("ok connect");
        let first = self.read().await.map_err(at("read"))?;
        terminal::say("ok read");
        self.rotate(&first).await.map_err(at("rotate"))?;
        terminal::say("ok rotate");
        self.revoke().await.map_err(at("revoke"))?;
        terminal::say("ok revoke");
        Ok(())
    }

    async fn connect(&self) -> Result<(), String> {
        let link = self.link("notes").await.map_err(|end| end.said().to_owned())?;
        terminal::note(
            "\nconnect   An operator asks the daemon for a one-time link and opens it in a browser.",
        );
        let mut browser = Browser::default();
        let page = browser.open(&link).await.map_err(plain)?;
        expect(page.status == 200, "the link's page did not open")?;
        let page = browser.submit(&link, &[]).await.map_err(plain)?;
        let onward =
            page.link(self.standin.issuer()).ok_or("the page did not lead to the provider".to_owned())?;
        terminal::note(
            "          The page names what is about to happen; the person goes on, and says yes at the provider.",
        );
        let page = browser.open(&onward).await.map_err(plain)?;
        expect(page.status == 200, "the provider's page did not open")?;
        let page = browser.submit(&onward, &[("decision", "allow")]).await.map_err(plain)?;
        let back = page.location.ok_or("the provider did not send the browser back".to_owned())?;
        let landing = browser.open(&back).await.map_err(plain)?;
        expect(
            landing.status == 200 && landing.code() == Some("stored"),
            &format!("the landing page says {} {:?}", landing.status, landing.code()),
        )?;
        let status = self.status().await?;
        expect(status.get("stored") == Some(&true.into()), "the record is not in the store")?;
        terminal::note(
            "          The landing page says that the record is stored: sealed, in a file that only grantd can open.",
        );
        Ok(())
    }

    async fn read(&self) -> Result<Token, String> {
        terminal::note(
            "\nread      An app asks the app socket. The kernel says who it is; there is no password.",
        );
        let token = self.token().await.map_err(|end| end.said().to_owned())?;
        expect(self.standin.accepts(&token.access_token), "the provider does not take the token")?;
        let until = token.expires_at.as_deref().unwrap_or("never");
        terminal::note(format!(
            "          It gets an access token that ends at {until}, and never the refresh token."
        ));
        Ok(token)
    }

    async fn rotate(&self, first: &Token) -> Result<(), String> {
        terminal::note(
            "\nrotate    The token is refreshed before it ends. The provider hands out a new refresh token each time,",
        );
        terminal::note("          and would end the grant if an old one ever came back.");
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        let fresh = loop {
            let _at = beat.tick().await;
            let token = self.token().await.map_err(|end| end.said().to_owned())?;
            if token.generation > first.generation {
                break token;
            }
        };
        expect(fresh.access_token != first.access_token, "the new generation has the old token")?;
        expect(self.standin.accepts(&fresh.access_token), "the provider does not take the new token")?;
        expect(self.standin.reuses() == 0, "a refresh token was presented twice")?;
        terminal::note(format!(
            "          Generation {} became {}; no refresh token was presented twice.",
            first.generation, fresh.generation
        ));
        Ok(())
    }

    async fn revoke(&self) -> Result<(), String> {
        terminal::note("\nrevoke    An operator ends it: apps first, then the provider, then the record.");
        let last = self.token().await.map_err(|end| end.said().to_owned())?;
        let ended: Value = ask(&self.control, Method::POST, "/v1/integrations/notes/revoke", None)
            .await
            .map_err(|end| end.said().to_owned())?;
        expect(ended.get("upstream") == Some(&"confirmed".into()), "the provider did not confirm")?;
        expect(!self.standin.accepts(&last.access_token), "the provider still takes the last token")?;
        match self.token().await {
            Ok(_) => return Err("an app still gets a token".into()),
            Err(end) => expect(end.said().contains("integration_revoked"), end.said())?,
        }
        terminal::note(
            "          The provider confirmed; the next read is refused with `integration_revoked`.\n",
        );
        Ok(())
    }

    /// Says what there is to look at.
    pub(super) async fn invite(&self) -> Result<(), End> {
        let link = self.link("calendar").await?;
        let (app, control) = (self.app.display(), self.control.display());
        terminal::note("\ngrantd stays up for a look. Connect a second integration in your browser:\n");
        terminal::note(format!("    {link}\n\nand then, in another terminal:\n"));
        terminal::note(format!("    grantd token calendar --socket {app}"));
        terminal::note(format!("    grantd status calendar --watch --socket {control}"));
        terminal::note(format!("    curl --unix-socket {app} http://grantd/v1/integrations"));
        terminal::note(format!(
            "    curl http://{}/healthz\n\nCtrl-C ends it, and removes what it made.",
            self.public
        ));
        Ok(())
    }

    async fn link(&self, integration: &str) -> Result<String, End> {
        let body = json!({ "integration": integration });
        let started: Started =
            ask(&self.control, Method::POST, "/v1/integrations/oauth/start", Some(body)).await?;
        Ok(started.auth_url)
    }

    async fn token(&self) -> Result<Token, End> {
        ask(&self.app, Method::GET, "/v1/integrations/notes/token", None).await
    }

    async fn status(&self) -> Result<Value, String> {
        let path = "/v1/integrations/notes/status";
        ask(&self.control, Method::GET, path, None).await.map_err(|end: End| end.said().to_owned())
    }
}

fn expect(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn plain(error: io::Error) -> String {
    format!("a page could not be fetched ({})", error.kind())
}
