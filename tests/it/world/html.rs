//! As much HTML as the tests need: attributes of the first element that fits, forms, and text.

/// The value of `name` in the first `<element …>`, unescaped.
pub fn attribute(page: &str, element: &str, name: &str) -> Option<String> {
    tags(page, element).find_map(|tag| value(tag, name))
}

/// What a person reads.
pub fn text_of(page: &str) -> String {
    let mut text = String::new();
    let body = page.split_once("<body").map_or(page, |(_, body)| body);
    for piece in body.split('<').skip(1) {
        text.push_str(piece.split_once('>').map_or("", |(_, after)| after));
        text.push(' ');
    }
    unescape(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The first form of a page.
#[derive(Debug)]
pub struct Form {
    pub action: String,
    pub post: bool,
    pub fields: Vec<(String, String)>,
}

impl Form {
    pub fn first(page: &str) -> Option<Self> {
        let start = page.find("<form")?;
        let form = page[start..].split("</form").next()?;
        let head = tags(form, "form").next()?;
        let fields = ["input", "button"]
            .into_iter()
            .flat_map(|element| tags(form, element))
            .filter_map(|tag| Some((value(tag, "name")?, value(tag, "value").unwrap_or_default())));
        Some(Self {
            action: value(head, "action").unwrap_or_default(),
            post: value(head, "method").is_some_and(|method| method.eq_ignore_ascii_case("post")),
            fields: fields.collect(),
        })
    }
}

/// Where `<meta http-equiv="refresh">` leads.
pub fn refresh_of(page: &str) -> Option<String> {
    let meta = tags(page, "meta")
        .find(|tag| value(tag, "http-equiv").is_some_and(|what| what.eq_ignore_ascii_case("refresh")))?;
    let content = value(meta, "content")?;
    let (_, to) = content.split_once(';')?;
    let to = to.trim();
    Some(
        to.strip_prefix("url=")
            .or_else(|| to.strip_prefix("URL="))
            .unwrap_or(to)
            .trim_matches('\'')
            .to_owned(),
    )
}

fn tags<'a>(page: &'a str, element: &'a str) -> impl Iterator<Item = &'a str> {
    page.split('<').skip(1).filter_map(move |piece| {
        let tag = piece.split('>').next()?;
        let rest = tag.strip_prefix(element)?;
        (rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some(tag)
    })
}

fn value(tag: &str, name: &str) -> Option<String> {
    let mut rest = tag;
    while let Some(at) = rest.find(name) {
        let before = rest[..at].chars().next_back();
        let after = &rest[at + name.len()..];
        if before.is_some_and(char::is_whitespace) && after.starts_with("=\"") {
            return after[2..].split('"').next().map(unescape);
        }
        rest = after;
    }
    None
}

fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (escaped, character) in [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#38;", "&"),
        ("&#60;", "<"),
        ("&#62;", ">"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ] {
        plain = plain.replace(escaped, character);
    }
    plain
}
