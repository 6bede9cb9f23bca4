//! Reads typed values out of a table and remembers everything that is wrong. A value with a problem reads as absent.

use super::source::{At, Problem, Source, Spot};
use super::surroundings::Surroundings;
use super::tree::{Entry, Item, Node, Table};
use super::values;
use std::time::Duration;
use url::Url;

/// What is wrong so far, and where everything stands.
pub(super) struct Reader<'a> {
    pub(super) sources: Vec<Source>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    pub(super) around: &'a dyn Surroundings,
}

/// A table that is being read. What is left at the end is unknown.
pub(super) struct Section {
    entries: Table,
    known: Vec<&'static str>,
    /// The table's heading.
    pub(super) at: At,
    /// Its name, for messages.
    pub(super) name: String,
}

impl Section {
    pub(super) fn new(name: impl Into<String>, table: Table, at: At) -> Self {
        Self { entries: table, known: Vec::new(), at, name: name.into() }
    }

    /// Takes a key's value out, whatever it is.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Entry> {
        self.known.push(key);
        self.entries.remove(key)
    }

    /// A key's text, without taking it.
    pub(super) fn peek_text(&self, key: &str) -> Option<&str> {
        match &self.entries.get(key)?.item.node {
            Node::Text(text) => Some(text),
            Node::Integer(_)
            | Node::Float(_)
            | Node::Boolean(_)
            | Node::List(_)
            | Node::Table(_)
            | Node::Other => None,
        }
    }

    /// Puts another table underneath: what stands here goes before it.
    pub(super) fn lay_over(&mut self, base: Table) {
        let over = std::mem::replace(&mut self.entries, base);
        super::tree::merge(&mut self.entries, over);
    }

    /// Where a key's value stands, without taking it.
    pub(super) fn place_of(&self, key: &str) -> Option<At> {
        Some(self.entries.get(key)?.item.at)
    }

    /// Whether a key is there and not taken yet.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }
}

impl Reader<'_> {
    pub(super) fn wrong(&mut self, at: At, message: impl Into<String>, remedy: impl Into<String>) {
        if let Some(source) = self.sources.get(at.source) {
            self.problems.push(Problem::new(source, at, message.into(), remedy.into()));
        }
    }

    pub(super) fn warn(&mut self, at: At, message: impl Into<String>, remedy: impl Into<String>) {
        if let Some(source) = self.sources.get(at.source) {
            self.warnings.push(Problem::new(source, at, message.into(), remedy.into()));
        }
    }

    /// Where something stands, in short.
    pub(super) fn place(&self, at: At) -> String {
        self.sources.get(at.source).map_or_else(String::new, |source| {
            let problem = Problem::new(source, at, String::new(), String::new());
            format!("{}:{}", problem.file, problem.line)
        })
    }

    /// Names what is left in a section: unknown keys are errors.
    pub(super) fn finish(&mut self, section: Section) {
        for (key, entry) in &section.entries {
            let remedy = match nearest(key, &section.known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("remove it; [{}] takes: {}", section.name, section.known.join(", ")),
            };
            self.wrong(entry.key_at, format!("unknown key `{key}` in [{}]", section.name), remedy);
        }
    }

    pub(super) fn text(&mut self, section: &mut Section, key: &'static str) -> Option<Spot<String>> {
        let Item { node, at } = section.take(key)?.item;
        match node {
            Node::Text(value) if !value.trim().is_empty() => Some(Spot { value, at }),
            // A variable's digits are read as a number, and may be a text after all.
            Node::Integer(number) if self.is_variable(at) => Some(Spot { value: number.to_string(), at }),
            Node::Text(_) => self.expected(at, key, "a text that is not empty"),
            Node::Integer(_)
            | Node::Float(_)
            | Node::Boolean(_)
            | Node::List(_)
            | Node::Table(_)
            | Node::Other => self.expected(at, key, "a text in double quotes"),
        }
    }

    /// A text that must be there.
    pub(super) fn required(
        &mut self,
        section: &mut Section,
        key: &'static str,
        remedy: &str,
    ) -> Option<Spot<String>> {
        if !section.has(key) {
            section.known.push(key);
            let (at, name) = (section.at, section.name.clone());
            self.wrong(at, format!("[{name}] lacks `{key}`"), remedy);
            return None;
        }
        self.text(section, key)
    }

    pub(super) fn boolean(&mut self, section: &mut Section, key: &'static str) -> Option<bool> {
        let Item { node, at } = section.take(key)?.item;
        if let Node::Boolean(value) = node { Some(value) } else { self.expected(at, key, "true or false") }
    }

    pub(super) fn integer(&mut self, section: &mut Section, key: &'static str) -> Option<Spot<i64>> {
        let Item { node, at } = section.take(key)?.item;
        if let Node::Integer(value) = node {
            Some(Spot { value, at })
        } else {
            self.expected(at, key, "a number")
        }
    }

    pub(super) fn number(&mut self, section: &mut Section, key: &'static str) -> Option<Spot<f64>> {
        let Item { node, at } = section.take(key)?.item;
        match node {
            Node::Float(value) => Some(Spot { value, at }),
            Node::Integer(value) => i32::try_from(value).ok().map(|value| Spot { value: value.into(), at }),
            Node::Text(_) | Node::Boolean(_) | Node::List(_) | Node::Table(_) | Node::Other => {
                self.expected(at, key, "a number")
            }
        }
    }

    pub(super) fn texts(&mut self, section: &mut Section, key: &'static str) -> Option<Vec<Spot<String>>> {
        let Item { node, at } = section.take(key)?.item;
        let Node::List(items) = node else {
            return self.expected(at, key, "a list of texts: [\"…\", \"…\"]");
        };
        let mut texts = Vec::new();
        for item in items {
            match item.node {
                Node::Text(value) => texts.push(Spot { value, at: item.at }),
                Node::Integer(_)
                | Node::Float(_)
                | Node::Boolean(_)
                | Node::List(_)
                | Node::Table(_)
                | Node::Other => {
                    return self.expected(item.at, key, "a text in double quotes");
                }
            }
        }
        Some(texts)
    }

    /// A table of texts, such as headers.
    pub(super) fn pairs(&mut self, section: &mut Section, key: &'static str) -> Vec<(String, String)> {
        let Some(entry) = section.take(key) else { return Vec::new() };
        let Node::Table(table) = entry.item.node else {
            let _absent: Option<()> = self.expected(entry.item.at, key, "a table: { name = \"value\" }");
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (name, entry) in table {
            if let Node::Text(value) = entry.item.node {
                pairs.push((name, value));
            } else {
                let _absent: Option<()> = self.expected(entry.item.at, key, "a text in double quotes");
            }
        }
        pairs
    }

    pub(super) fn table(&mut self, section: &mut Section, key: &'static str) -> Option<Section> {
        let entry = section.take(key)?;
        match entry.item.node {
            Node::Table(table) => Some(Section::new(key, table, entry.key_at)),
            Node::Text(_)
            | Node::Integer(_)
            | Node::Float(_)
            | Node::Boolean(_)
            | Node::List(_)
            | Node::Other => self.expected(entry.item.at, key, "a table"),
        }
    }

    /// An array of tables, `[[key]]`.
    pub(super) fn tables(&mut self, section: &mut Section, key: &'static str) -> Vec<Section> {
        let Some(entry) = section.take(key) else { return Vec::new() };
        let Node::List(items) = entry.item.node else {
            let _absent: Option<()> =
                self.expected(entry.key_at, key, "an array of tables: write [[double brackets]]");
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items {
            if let Node::Table(table) = item.node {
                sections.push(Section::new(key, table, item.at));
            } else {
                let _absent: Option<()> = self.expected(item.at, key, "a table");
            }
        }
        sections
    }

    pub(super) fn duration(
        &mut self,
        section: &mut Section,
        key: &'static str,
        least: Duration,
        most: Duration,
    ) -> Option<Duration> {
        let Spot { value, at } = self.text(section, key)?;
        match values::duration(&value) {
            Some(span) if span >= least && span <= most => Some(span),
            Some(_) => {
                self.wrong(
                    at,
                    format!("`{key}` is out of range"),
                    format!("it must be from {}s to {}s", least.as_secs(), most.as_secs()),
                );
                None
            }
            None => {
                self.wrong(
                    at,
                    format!("{value:?} is not a duration"),
                    "write a whole number and a unit: 90s, 5m, 4h, 30d",
                );
                None
            }
        }
    }

    /// A URL that grantd may connect to, or send people to.
    pub(super) fn url(&mut self, section: &mut Section, key: &'static str) -> Option<Spot<Url>> {
        let Spot { value, at } = self.text(section, key)?;
        match Url::parse(&value).map(|url| (values::endpoint(&url), url)) {
            Ok((Ok(()), url)) => Some(Spot { value: url, at }),
            Ok((Err(why), _)) => {
                self.wrong(at, format!("`{key}`: {why}"), "use an https URL");
                None
            }
            Err(_not_a_url) => {
                self.wrong(at, format!("{value:?} is not a URL"), "write it whole: https://host/path");
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        section: &mut Section,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let Spot { value, at } = self.text(section, key)?;
        let found = choices.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.wrong(
                at,
                format!("`{key}` cannot be {value:?}"),
                format!("use one of {}", words.join(", ")),
            );
        }
        found
    }

    pub(super) fn schedule(&mut self, section: &mut Section, key: &'static str) -> Option<values::Schedule> {
        let Spot { value, at } = self.text(section, key)?;
        let schedule = values::Schedule::parse(&value);
        if schedule.is_none() {
            self.wrong(
                at,
                format!("{value:?} is not a schedule"),
                "write six cron fields, seconds first, in UTC: \"0 0 3 * * *\" is 03:00 each day",
            );
        }
        schedule
    }

    pub(super) fn expected<T>(&mut self, at: At, key: &str, what: &str) -> Option<T> {
        self.wrong(at, format!("`{key}` has the wrong type"), format!("write {what}"));
        None
    }

    fn is_variable(&self, at: At) -> bool {
        self.sources.get(at.source).is_some_and(|source| source.name.starts_with('$'))
    }
}

/// The known key that differs least, if it is close.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let close = known.iter().map(|near| (distance(key, near), *near)).min()?;
    (close.0 <= 2 && close.0 < key.len()).then_some(close.1)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, from) in left.chars().enumerate() {
        let mut next = vec![line + 1];
        for ((to, diagonal), above) in right.iter().zip(&row).zip(row.iter().skip(1)) {
            let before = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(from != *to)).min(above + 1).min(before + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
