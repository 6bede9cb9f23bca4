//! Policy documents as IAM takes them. One document stands alone; several are named, each with its use.

use super::numbered;
use crate::config::policy::{Document, Names, Node, Policies, Target};

/// Writes one JSON value.
pub(super) fn write(policies: &Policies, region: Option<&str>, account: Option<&str>) -> String {
    let names = Names::stand_ins(region, account);
    let node = match (policies.own.as_slice(), policies.targets.as_slice()) {
        ([], []) => Node::document(&[]),
        ([one], []) => one.node(),
        (own, targets) => several(own, targets, &names),
    };
    // A tree of texts cannot fail to become JSON.
    serde_json::to_string_pretty(&node.fill(&names)).unwrap_or_default()
}

fn several(own: &[Document], targets: &[Target], names: &Names) -> Node {
    let mut all = Vec::new();
    for (name, document) in numbered("grantd", own) {
        all.push(named(&name, &names.account, "attach it to the role that grantd runs as", &document));
    }
    for target in targets {
        let role = target.name();
        let attach = format!("attach it to {}", target.arn);
        for (name, document) in numbered(&format!("grantd-for-{role}"), &target.documents) {
            all.push(named(&name, target.account(), &attach, &document));
        }
        let trust = format!("the trust policy of {}", target.arn);
        all.push(named(&format!("{role}-trust"), target.account(), &trust, &target.trust));
    }
    Node::Object(vec![("Policies".into(), Node::List(all))])
}

fn named(name: &str, account: &str, what: &str, document: &Document) -> Node {
    Node::Object(vec![
        ("Name".into(), Node::plain(name)),
        ("Account".into(), Node::plain(account)),
        ("Use".into(), Node::plain(what)),
        ("PolicyDocument".into(), document.node()),
    ])
}
