//! Keys that a vendor wants elsewhere than in `Authorization`: in the path (Telegram bots), or in a header of its own.
//!
//! A place says so with `{token}`. Such a URL is a secret as a whole: it goes to the wire and nowhere else.

use crate::secret::AccessToken;
use url::Url;

/// The URL with the token in its place; `None` if it has none.
pub(super) fn in_path(url: &Url, token: &AccessToken) -> Option<Url> {
    let path = url.path();
    if !path.contains(ENCODED) {
        return None;
    }
    // The colon of a Telegram token stands as it is; a slash would lead elsewhere.
    let text: String = token.expose_secret().split('/').collect::<Vec<_>>().join("%2F");
    let mut whole = url.clone();
    whole.set_path(&path.replace(ENCODED, &text));
    Some(whole)
}

/// A header's value with the token in its place; `None` if it has none.
pub(super) fn in_header(value: &str, token: &AccessToken) -> Option<String> {
    value.contains(PLAIN).then(|| value.replace(PLAIN, token.expose_secret()))
}

const PLAIN: &str = "{token}";
const ENCODED: &str = "%7Btoken%7D";

#[cfg(test)]
mod tests {
    use super::{in_header, in_path};
    use crate::secret::AccessToken;
    use url::Url;

    #[test]
    fn a_token_takes_its_place_and_leads_nowhere_else() {
        let url = Url::parse("https://api.telegram.org/bot{token}/getMe").unwrap();
        let whole = |token: &str| in_path(&url, &AccessToken::new(token)).map(String::from);
        assert_eq!(whole("123:AA-b_c").as_deref(), Some("https://api.telegram.org/bot123:AA-b_c/getMe"));
        assert_eq!(
            whole("1/../../x?y#z").as_deref(),
            Some("https://api.telegram.org/bot1%2F..%2F..%2Fx%3Fy%23z/getMe")
        );
        let plain = Url::parse("https://api.example.com/me").unwrap();
        assert!(in_path(&plain, &AccessToken::new("t")).is_none());
        assert_eq!(in_header("Key {token}", &AccessToken::new("t")).as_deref(), Some("Key t"));
        assert!(in_header("2026-01-01", &AccessToken::new("t")).is_none());
    }
}
