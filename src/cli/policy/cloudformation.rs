//! A CloudFormation template as JSON: one for every account, in which each makes what is its own.

use super::numbered;
use crate::config::policy::{Document, Node, Piece, Policies, Target, Text};

/// Writes the template; nothing where nothing is needed.
pub(super) fn write(policies: &Policies, account: Option<&str>) -> Option<String> {
    let several = !policies.targets.is_empty();
    let mut resources = Vec::new();
    for (name, document) in numbered("Grantd", &policies.own) {
        resources.push(managed(&name, OWN, &document, several.then_some("InGrantdsAccount"), account));
    }
    for (index, target) in policies.targets.iter().enumerate() {
        resources.extend(role(index + 1, target, account));
    }
    if resources.is_empty() {
        return None;
    }
    let mut template = vec![
        member("AWSTemplateFormatVersion", Node::plain("2010-09-09")),
        member("Description", Node::plain(if several { SEVERAL } else { OWN })),
    ];
    if several {
        template.push(member("Parameters", parameters(account)));
        template.push(member("Conditions", conditions(&policies.targets, account)));
    }
    template.push(member("Resources", Node::Object(resources)));
    // A tree of texts cannot fail to become JSON.
    Some(serde_json::to_string_pretty(&Node::Object(template)).unwrap_or_default())
}

/// A role of another account with what it may do. The template makes it where that account deploys it.
fn role(number: usize, target: &Target, account: Option<&str>) -> Vec<(String, Node)> {
    let condition = condition_of(target);
    let name = format!("Role{number}");
    let policies = numbered(&format!("{name}Policy"), &target.documents);
    let attached: Vec<_> = policies.iter().map(|(name, _)| reference(&logical(name))).collect();
    let properties = Node::Object(vec![
        member("RoleName", Node::plain(target.name())),
        member("Path", Node::plain(&target.path())),
        member("AssumeRolePolicyDocument", substituted(&target.trust.node(), account)),
        member("ManagedPolicyArns", Node::List(attached)),
    ]);
    let role = resource("AWS::IAM::Role", Some(&condition), properties);
    let made = policies
        .iter()
        .map(|(name, document)| managed(name, TARGET, document, Some(condition.as_str()), account));
    std::iter::once((name, role)).chain(made).collect()
}

fn managed(
    name: &str,
    description: &str,
    document: &Document,
    condition: Option<&str>,
    account: Option<&str>,
) -> (String, Node) {
    let properties = Node::Object(vec![
        member("Description", Node::plain(description)),
        member("PolicyDocument", substituted(&document.node(), account)),
    ]);
    (logical(name), resource("AWS::IAM::ManagedPolicy", condition, properties))
}

fn resource(kind: &str, condition: Option<&str>, properties: Node) -> Node {
    let mut members = vec![member("Type", Node::plain(kind))];
    members.extend(condition.map(|condition| member("Condition", Node::plain(condition))));
    members.push(member("Properties", properties));
    Node::Object(members)
}

fn parameters(account: Option<&str>) -> Node {
    let parameter = |description: &str, pattern: &str| {
        vec![
            member("Type", Node::plain("String")),
            member("Description", Node::plain(description)),
            member("AllowedPattern", Node::plain(pattern)),
        ]
    };
    let mut all = Vec::new();
    if account.is_none() {
        let number = parameter("The account that grantd runs in", "^[0-9]{12}$");
        all.push(member("GrantdAccount", Node::Object(number)));
    }
    let role = parameter("The name of the role that grantd runs as, with its path", "^[A-Za-z0-9+=,.@_/-]+$");
    all.push(member("GrantdRole", Node::Object(role)));
    Node::Object(all)
}

fn conditions(targets: &[Target], account: Option<&str>) -> Node {
    let here = |other: Node| {
        let both = vec![reference("AWS::AccountId"), other];
        Node::Object(vec![member("Fn::Equals", Node::List(both))])
    };
    let own = account.map_or_else(|| reference("GrantdAccount"), Node::plain);
    let mut all = vec![member("InGrantdsAccount", here(own))];
    for target in targets {
        let name = condition_of(target);
        if !all.iter().any(|(known, _)| *known == name) {
            all.push((name, here(Node::plain(target.account()))));
        }
    }
    Node::Object(all)
}

fn condition_of(target: &Target) -> String {
    format!("InAccount{}", target.account())
}

/// Logical ids have letters and digits only.
fn logical(name: &str) -> String {
    name.replace('-', "")
}

fn reference(name: &str) -> Node {
    Node::Object(vec![member("Ref", Node::plain(name))])
}

/// Places become pseudo parameters and parameters, within `Fn::Sub`.
fn substituted(document: &Node, account: Option<&str>) -> Node {
    document.map(&|text| substitution(text, account))
}

fn substitution(text: &Text, account: Option<&str>) -> Node {
    if let Some(plain) = text.as_plain() {
        return Node::plain(&plain);
    }
    let is_trust = text.pieces().contains(&Piece::Role);
    let written = text.write(|piece| match piece {
        Piece::Plain(text) => text.replace("${", "${!"),
        Piece::Partition => "${AWS::Partition}".into(),
        Piece::Region => "${AWS::Region}".into(),
        Piece::Account => match account {
            Some(account) => account.to_owned(),
            None if is_trust => "${GrantdAccount}".into(),
            None => "${AWS::AccountId}".into(),
        },
        Piece::Role => "${GrantdRole}".into(),
    });
    Node::Object(vec![member("Fn::Sub", Node::plain(&written))])
}

fn member(key: &str, node: Node) -> (String, Node) {
    (key.to_owned(), node)
}

const OWN: &str = "What grantd may do; attach it to the role that grantd runs as";
const TARGET: &str = "What grantd may do in this account";
const SEVERAL: &str =
    "What grantd may do; deploy it in grantd's own account and in each account whose role grantd assumes";
