//! `[proxy]` of a provider: where its API wants the token, and how it says that there were too many calls.
//!
//! Without the table an API takes `Authorization: Bearer`, as RFC 6750 §2.1 has it, and counts down in `x-ratelimit-remaining`.

use super::reader::{Reader, Section};
use super::source::{At, Spot};

/// How a provider's API is called by the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Where the token goes.
    pub token_in: TokenIn,
    /// Headers that a call gets if it does not bring them.
    pub headers: Vec<(String, String)>,
    /// The header that says how many calls are left.
    pub left_header: String,
}

/// Where a provider's API wants the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenIn {
    /// In a header, behind a prefix.
    Header {
        /// The header's name.
        name: String,
        /// What stands before the token.
        prefix: String,
    },
    /// In a parameter of the query.
    Query {
        /// The parameter's name.
        param: String,
    },
    /// In the first segment of the path.
    Path {
        /// What stands before the token in its segment.
        prefix: String,
    },
}

#[derive(Clone, Copy)]
enum Place {
    Header,
    Query,
    Path,
}

pub(super) fn proxy(reader: &mut Reader<'_>, section: &mut Section) -> ProxyConfig {
    let mut section = reader.table(section, "proxy").unwrap_or_else(|| {
        // Nothing is wrong with what is not there.
        Section::new("proxy", super::tree::Table::default(), section.at)
    });
    let at = section.at;
    let place = reader.choice(&mut section, "token_in", PLACES).unwrap_or(Place::Header);
    let header = header(reader, &mut section, "header");
    let prefix = reader.text(&mut section, "prefix").map(|prefix| prefix.value);
    let param = reader.text(&mut section, "param").map(|param| param.value);
    let left = self::header(reader, &mut section, "left_header");
    let headers = reader.pairs(&mut section, "headers");
    for (name, value) in &headers {
        if !is_header(name) || value.chars().any(char::is_control) {
            reader.wrong(
                at,
                format!("`headers`: {name:?} is not a header"),
                "write { \"X-Version\" = \"1\" }",
            );
        }
    }
    reader.finish(section);
    let token_in = match place {
        Place::Header => {
            let name = header.unwrap_or_else(|| AUTHORIZATION.into());
            let usual = if name == AUTHORIZATION { "Bearer " } else { "" };
            TokenIn::Header { prefix: prefix.unwrap_or_else(|| usual.into()), name }
        }
        Place::Query => TokenIn::Query { param: named(reader, at, "query", "param", param) },
        Place::Path => TokenIn::Path { prefix: segment(reader, at, prefix.unwrap_or_default()) },
    };
    ProxyConfig { token_in, headers, left_header: left.unwrap_or_else(|| "x-ratelimit-remaining".into()) }
}

fn named(reader: &mut Reader<'_>, at: At, place: &str, key: &str, given: Option<String>) -> String {
    given.filter(|name| !name.is_empty()).unwrap_or_else(|| {
        let what = format!("token_in = {place:?} needs `{key}`");
        reader.wrong(at, what, "name the parameter that takes the token");
        String::new()
    })
}

fn segment(reader: &mut Reader<'_>, at: At, prefix: String) -> String {
    if !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
        let what = format!("`prefix` {prefix:?} cannot begin a segment of a path");
        reader.wrong(at, what, "write what stands right before the token, without slashes: \"bot\"");
    }
    prefix
}

fn header(reader: &mut Reader<'_>, section: &mut Section, key: &'static str) -> Option<String> {
    let Spot { value, at } = reader.text(section, key)?;
    if !is_header(&value) {
        reader.wrong(at, format!("{value:?} is not a header's name"), "write it as in \"X-Api-Key\"");
    }
    Some(value.to_ascii_lowercase())
}

fn is_header(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

const AUTHORIZATION: &str = "authorization";
const PLACES: &[(&str, Place)] = &[("header", Place::Header), ("query", Place::Query), ("path", Place::Path)];

#[cfg(test)]
mod tests {
    use super::{ProxyConfig, TokenIn};
    use crate::config::tests::check;

    fn proxy(table: &str) -> Result<ProxyConfig, String> {
        let text = format!(
            "[server]\npublic_url = \"http://127.0.0.1:1\"\n[store]\nkind = \"sealed-file\"\n[[organization]]\nid = \"acme\"\n\
             [[provider]]\nid = \"x\"\nclient_id = \"c\"\nissuer = \"https://x.example\"\n{table}\n"
        );
        let checked = check(&text).map_err(|problems| problems.to_string())?;
        Ok(checked.config.providers.into_values().next().unwrap().proxy)
    }

    #[test]
    fn an_api_takes_bearer_tokens_unless_it_says_otherwise() {
        let plain = proxy("").unwrap();
        let bearer = TokenIn::Header { name: "authorization".into(), prefix: "Bearer ".into() };
        assert_eq!((plain.token_in, plain.left_header.as_str()), (bearer, "x-ratelimit-remaining"));
        let named = "[provider.proxy]\nheader = \"X-Key\"\nheaders = { \"X-Version\" = \"1\" }";
        let named = proxy(named).unwrap();
        assert_eq!(named.token_in, TokenIn::Header { name: "x-key".into(), prefix: String::new() });
        assert_eq!(named.headers, [("X-Version".to_owned(), "1".to_owned())]);
        let query = proxy("[provider.proxy]\ntoken_in = \"query\"\nparam = \"access_token\"").unwrap();
        assert_eq!(query.token_in, TokenIn::Query { param: "access_token".into() });
        let path = proxy("[provider.proxy]\ntoken_in = \"path\"\nprefix = \"bot\"").unwrap();
        assert_eq!(path.token_in, TokenIn::Path { prefix: "bot".into() });
    }

    #[test]
    fn what_no_call_could_carry_is_wrong() {
        for table in [
            "token_in = \"body\"",
            "token_in = \"query\"",
            "token_in = \"path\"\nprefix = \"/bot\"",
            "header = \"X Key\"",
            "headers = { \"X:\" = \"1\" }",
            "tokenin = \"header\"",
        ] {
            assert!(proxy(&format!("[provider.proxy]\n{table}")).is_err(), "{table}");
        }
    }
}
