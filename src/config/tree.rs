//! Files and variables as one tree of values, each with its place. Later files win key by key; lists of tables grow.

use super::source::{At, Problem, Source};
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<Item>),
    Table(Table),
    /// A date or time, which no key takes.
    Other,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) node: Node,
    pub(super) at: At,
}

/// A key's place and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key_at: At,
    pub(super) item: Item,
}

pub(super) type Table = BTreeMap<String, Entry>;

/// Parses one source. What can be read is read, also beside errors.
pub(super) fn parse(index: usize, source: &Source, problems: &mut Vec<Problem>) -> Table {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        problems.push(Problem::new(
            source,
            at(index, &span),
            format!("not TOML: {}", error.message()),
            "write `key = value` lines under `[section]` headings; texts stand in double quotes".into(),
        ));
    }
    convert_table(index, table.into_inner())
}

/// Lays `over` on `base`: tables merge, lists of tables grow, everything else is replaced.
pub(super) fn merge(base: &mut Table, over: Table) {
    for (key, entry) in over {
        match (base.get_mut(&key).map(|old| &mut old.item.node), entry.item.node) {
            (Some(Node::Table(old)), Node::Table(new)) => merge(old, new),
            (Some(Node::List(old)), Node::List(new)) if is_tables(old) || is_tables(&new) => old.extend(new),
            (_, node) => {
                base.insert(key, Entry { key_at: entry.key_at, item: Item { node, at: entry.item.at } });
            }
        }
    }
}

/// Sets a value that came from a variable. Texts that read as another TOML value are taken as that.
pub(super) fn set(table: &mut Table, path: &[String], text: &str, place: At) {
    let Some((last, sections)) = path.split_last() else { return };
    let mut table = table;
    for section in sections {
        let empty = || Entry { key_at: place, item: Item { node: Node::Table(Table::new()), at: place } };
        match &mut table.entry(section.clone()).or_insert_with(empty).item.node {
            Node::Table(inner) => table = inner,
            Node::Text(_)
            | Node::Integer(_)
            | Node::Float(_)
            | Node::Boolean(_)
            | Node::List(_)
            | Node::Other => {
                return;
            }
        }
    }
    let mut node = Node::Text(text.to_owned());
    let looks_typed =
        text.parse::<f64>().is_ok() || matches!(text, "true" | "false") || text.starts_with(['[', '{']);
    if looks_typed && let Ok(value) = DeValue::parse(text) {
        node = convert(place.source, value).node;
    }
    table.insert(last.clone(), Entry { key_at: place, item: Item { node, at: place } });
}

fn is_tables(list: &[Item]) -> bool {
    list.iter().any(|item| matches!(item.node, Node::Table(_)))
}

fn convert_table(source: usize, table: DeTable<'_>) -> Table {
    table
        .into_iter()
        .map(|(key, value)| {
            let key_at = at(source, &key.span());
            (key.into_inner().into_owned(), Entry { key_at, item: convert(source, value) })
        })
        .collect()
}

fn convert(source: usize, value: Spanned<DeValue<'_>>) -> Item {
    let place = at(source, &value.span());
    let node = match value.into_inner() {
        DeValue::String(text) => Node::Text(text.into_owned()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Node::Other, Node::Integer)
        }
        DeValue::Float(number) => number.as_str().parse().map_or(Node::Other, Node::Float),
        DeValue::Boolean(value) => Node::Boolean(value),
        DeValue::Datetime(_) => Node::Other,
        DeValue::Array(list) => Node::List(list.into_iter().map(|item| convert(source, item)).collect()),
        DeValue::Table(table) => Node::Table(convert_table(source, table)),
    };
    Item { node, at: place }
}

const fn at(source: usize, span: &Range<usize>) -> At {
    At { source, start: span.start, end: span.end }
}
