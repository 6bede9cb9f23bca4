//! Statements of a policy, and the tree that every format is written from.

use super::text::{Names, Text};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its id, unique within its document: letters and digits.
    pub sid: String,
    /// Whether it allows or denies.
    pub effect: Effect,
    /// Who may, in a trust policy.
    pub principal: Option<Text>,
    /// What.
    pub actions: Vec<&'static str>,
    /// With what; empty in a trust policy.
    pub resources: Vec<Text>,
    /// When.
    pub conditions: Vec<Condition>,
}

/// Whether a statement allows or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It allows.
    Allow,
    /// It denies, whatever else allows.
    Deny,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The operator, such as `StringEquals`.
    pub operator: &'static str,
    /// The condition key.
    pub key: &'static str,
    /// Any of these.
    pub values: Vec<Text>,
}

/// A document as a tree; members keep their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A text.
    Text(Text),
    /// A list.
    List(Vec<Self>),
    /// An object.
    Object(Vec<(String, Self)>),
}

impl Statement {
    pub(super) fn allow(sid: impl Into<String>, actions: &[&'static str], resources: Vec<Text>) -> Self {
        Self {
            sid: sid.into(),
            effect: Effect::Allow,
            principal: None,
            actions: actions.to_vec(),
            resources,
            conditions: Vec::new(),
        }
    }

    pub(super) fn when(mut self, operator: &'static str, key: &'static str, values: Vec<Text>) -> Self {
        self.conditions.push(Condition { operator, key, values });
        self
    }

    /// The statement as a tree.
    #[must_use]
    pub fn node(&self) -> Node {
        let effect = match self.effect {
            Effect::Allow => "Allow",
            Effect::Deny => "Deny",
        };
        let mut members = vec![member("Sid", Node::plain(&self.sid)), member("Effect", Node::plain(effect))];
        if let Some(principal) = &self.principal {
            let principal = Node::Object(vec![member("AWS", Node::Text(principal.clone()))]);
            members.push(member("Principal", principal));
        }
        members.push(member(
            "Action",
            Node::List(self.actions.iter().map(|action| Node::plain(action)).collect()),
        ));
        if !self.resources.is_empty() {
            members.push(member("Resource", Node::texts(&self.resources)));
        }
        if !self.conditions.is_empty() {
            members.push(member("Condition", conditions(&self.conditions)));
        }
        Node::Object(members)
    }
}

/// Conditions with one operator stand together.
fn conditions(all: &[Condition]) -> Node {
    let mut operators: Vec<(String, Node)> = Vec::new();
    for Condition { operator, key, values } in all {
        let values = match values.as_slice() {
            [one] => Node::Text(one.clone()),
            several => Node::texts(several),
        };
        let found = operators.iter_mut().find(|(name, _)| name == operator);
        match found {
            Some((_, Node::Object(keys))) => keys.push(member(key, values)),
            Some(_) | None => operators.push(member(operator, Node::Object(vec![member(key, values)]))),
        }
    }
    Node::Object(operators)
}

impl Node {
    /// A text as it stands.
    #[must_use]
    pub fn plain(text: &str) -> Self {
        Self::Text(Text::plain(text))
    }

    fn texts(texts: &[Text]) -> Self {
        Self::List(texts.iter().cloned().map(Self::Text).collect())
    }

    /// A policy document.
    #[must_use]
    pub fn document(statements: &[Statement]) -> Self {
        Self::Object(vec![
            member("Version", Self::plain("2012-10-17")),
            member("Statement", Self::List(statements.iter().map(Statement::node).collect())),
        ])
    }

    /// The same tree with other leaves.
    #[must_use]
    pub fn map(&self, leaf: &dyn Fn(&Text) -> Self) -> Self {
        match self {
            Self::Text(text) => leaf(text),
            Self::List(items) => Self::List(items.iter().map(|item| item.map(leaf)).collect()),
            Self::Object(members) => {
                Self::Object(members.iter().map(|(key, node)| (key.clone(), node.map(leaf))).collect())
            }
        }
    }

    /// The same tree with every place filled.
    #[must_use]
    pub fn fill(&self, names: &Names) -> Self {
        self.map(&|text| Self::Text(Text::plain(text.fill(names))))
    }
}

/// As JSON. Places must have been filled.
impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(&text.as_plain().unwrap_or_default()),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (key, node) in members {
                    map.serialize_entry(key, node)?;
                }
                map.end()
            }
        }
    }
}

pub(super) fn member(key: &str, node: Node) -> (String, Node) {
    (key.to_owned(), node)
}
