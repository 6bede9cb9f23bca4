//! The flow cookie: ties a callback to the browser that followed the link (contract §4, RFC 6749 §10.12).
//!
//! Its name depends on the state, so that flows in two tabs do not meet. Its value is for the engine alone to judge.

use super::WebSettings;
use crate::engine::Going;
use crate::lifecycle::cookie_suffix;
use crate::secret::StateToken;
use http::{HeaderMap, HeaderValue, header};
use std::time::Duration;

/// The header that gives a browser the cookie of a flow that has begun.
pub(super) fn given(settings: &WebSettings, going: &Going, lives: Duration) -> Option<HeaderValue> {
    header(settings, &going.state, &going.cookie, lives)
}

/// The header that takes the cookie of a flow away.
pub(super) fn taken(settings: &WebSettings, state: &StateToken) -> Option<HeaderValue> {
    header(settings, state, "", Duration::ZERO)
}

/// The value of the cookie that goes with `state`, if the browser sent it.
pub(super) fn brought(settings: &WebSettings, headers: &HeaderMap, state: &StateToken) -> Option<String> {
    let name = name(settings, state);
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

fn header(settings: &WebSettings, state: &StateToken, value: &str, lives: Duration) -> Option<HeaderValue> {
    let secure = if is_https(settings) { "; Secure" } else { "" };
    let (name, age) = (name(settings, state), lives.as_secs());
    let mut header = HeaderValue::try_from(format!(
        "{name}={value}; Path={PATH}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"
    ))
    .ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn name(settings: &WebSettings, state: &StateToken) -> String {
    let prefix = if is_https(settings) { "__Secure-" } else { "" };
    format!("{prefix}grantd-{}", cookie_suffix(state))
}

/// Plain http is for loopback alone (the configuration sees to it), and browsers keep no Secure cookie there.
fn is_https(settings: &WebSettings) -> bool {
    settings.public_url.scheme() == "https"
}

/// The cookie goes to the callbacks and nowhere else.
const PATH: &str = "/v1/integrations/oauth/callback";

#[cfg(test)]
mod tests {
    use super::{brought, taken};
    use crate::edge::web::testing::settings;
    use crate::secret::StateToken;
    use http::{HeaderMap, HeaderValue, header};

    #[test]
    fn the_right_cookie_is_found_among_others() {
        let https = settings("https://grantd.acme.example");
        let state = StateToken::new("state");
        let set = taken(&https, &state).unwrap();
        let name = set.to_str().unwrap().split('=').next().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        let lines =
            [format!("a=b; grantd-00000000=x;{name}x=n"), format!("c=d;  {name}=right=; {name}=second")];
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::try_from(line).unwrap());
        }
        assert_eq!(brought(&https, &headers, &state).as_deref(), Some("right="));
        assert_eq!(brought(&https, &headers, &StateToken::new("other")), None);
        assert_eq!(brought(&settings("http://localhost:8443"), &headers, &state), None);
    }
}
