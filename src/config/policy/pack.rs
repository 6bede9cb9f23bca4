//! Documents under IAM's limit: what does not fit into one goes into the next, secret by secret.

use super::statement::{Effect, Node, Statement};
use super::text::{Names, Text};

/// One policy document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its statements.
    pub statements: Vec<Statement>,
}

impl Document {
    /// The most that IAM takes of a managed policy, white space not counted (IAM: "IAM and AWS STS quotas").
    pub const MOST: usize = 6144;

    /// How long it is once its places are filled, at worst.
    #[must_use]
    pub fn length(&self) -> usize {
        let filled = self.node().fill(&Names::longest());
        serde_json::to_string(&filled).map_or(0, |json| json.len())
    }

    /// The document as a tree.
    #[must_use]
    pub fn node(&self) -> Node {
        Node::document(&self.statements)
    }
}

/// Packs needs, in order, into as few documents as hold them. The first one carries the denials;
/// `deletes` says whether grantd may delete what it keeps.
pub(super) fn pack<T: Clone>(
    needs: &[T],
    deletes: bool,
    statements: impl Fn(&[T]) -> Vec<Statement>,
) -> Vec<Document> {
    let mut documents = Vec::new();
    let mut taken: Vec<T> = Vec::new();
    let document = |needs: &[T], first: bool| {
        let mut statements = statements(needs);
        if first {
            statements.push(never(deletes));
        }
        Document { statements }
    };
    for need in needs {
        let mut more = taken.clone();
        more.push(need.clone());
        let first = documents.is_empty();
        if document(&more, first).length() > Document::MOST && !taken.is_empty() {
            documents.push(document(&taken, first));
            more = vec![need.clone()];
        }
        taken = more;
    }
    if !taken.is_empty() {
        documents.push(document(&taken, documents.is_empty()));
    }
    documents
}

/// What grantd never does, whatever else its role may be allowed one day.
fn never(deletes: bool) -> Statement {
    let actions: Vec<&str> = NEVER.iter().copied().filter(|action| !deletes || *action != DELETE).collect();
    let denied = Statement::allow("Never", &actions, vec![Text::plain("*")]);
    Statement { effect: Effect::Deny, ..denied }
}

const DELETE: &str = "secretsmanager:DeleteSecret";
const NEVER: &[&str] = &[
    DELETE,
    "secretsmanager:PutResourcePolicy",
    "secretsmanager:ReplicateSecretToRegions",
    "secretsmanager:RotateSecret",
    "secretsmanager:UpdateSecret",
];
