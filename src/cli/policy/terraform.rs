//! Terraform's HCL, laid out as `terraform fmt` does: two spaces, aligned `=`, one item a line.

use super::numbered;
use crate::config::policy::{Document, Node, Piece, Policies, Target, Text};

/// Writes the resources; nothing where nothing is needed.
pub(super) fn write(policies: &Policies, account: Option<&str>) -> Option<String> {
    let mut blocks = Vec::new();
    for (name, document) in numbered("grantd", &policies.own) {
        blocks.push(managed(&name, &document, account));
    }
    for target in &policies.targets {
        blocks.extend(role(target, account));
    }
    if blocks.is_empty() {
        return None;
    }
    let body = blocks.join("\n");
    let mut whole: Vec<String> = SOURCES
        .iter()
        .filter(|(name, _)| body.contains(name))
        .map(|(_, block)| (*block).to_owned())
        .collect();
    whole.push(body);
    Some(whole.join("\n"))
}

/// A role that grantd assumes, with what it may do there; by a provider of its own, unless it is in grantd's own account.
fn role(target: &Target, account: Option<&str>) -> Vec<String> {
    let elsewhere = account != Some(target.account());
    let provider = elsewhere.then(|| format!("aws.account_{}", target.account()));
    let label = label(target);
    let mut attributes = provided(provider.as_deref());
    attributes.push(("name".into(), vec![quoted(target.name())]));
    attributes.push(("path".into(), vec![quoted(&target.path())]));
    attributes.push(("assume_role_policy".into(), encoded(&target.trust.node(), account)));
    let mut made = block(&format!("resource \"aws_iam_role\" \"{label}\""), &attributes);
    if elsewhere {
        made.insert_str(
            0,
            &format!("# Needs a provider \"aws\" with the alias account_{}.\n", target.account()),
        );
    }
    let mut blocks = vec![made];
    for (index, (name, document)) in
        numbered(&format!("grantd-for-{}", target.name()), &target.documents).into_iter().enumerate()
    {
        let policy = if index == 0 { label.clone() } else { format!("{label}_{}", index + 1) };
        let header = format!("resource \"aws_iam_policy\" \"{policy}\"");
        blocks.push(block(&header, &policy_attributes(&name, provider.as_deref(), &document, account)));
        let mut attached = provided(provider.as_deref());
        attached.push(("role".into(), vec![format!("aws_iam_role.{label}.name")]));
        attached.push(("policy_arn".into(), vec![format!("aws_iam_policy.{policy}.arn")]));
        blocks.push(block(&format!("resource \"aws_iam_role_policy_attachment\" \"{policy}\""), &attached));
    }
    blocks
}

fn managed(name: &str, document: &Document, account: Option<&str>) -> String {
    let header = format!("resource \"aws_iam_policy\" \"{}\"", name.replace('-', "_"));
    block(&header, &policy_attributes(name, None, document, account))
}

fn policy_attributes(
    name: &str,
    provider: Option<&str>,
    document: &Document,
    account: Option<&str>,
) -> Vec<Attribute> {
    let mut attributes = provided(provider);
    attributes.push(("name".into(), vec![quoted(name)]));
    attributes.push(("description".into(), vec![quoted("What grantd may do")]));
    attributes.push(("policy".into(), encoded(&document.node(), account)));
    attributes
}

fn provided(provider: Option<&str>) -> Vec<Attribute> {
    provider.map(|provider| ("provider".to_owned(), vec![provider.to_owned()])).into_iter().collect()
}

/// A name that is unique among the roles: account and name, in letters, digits and underscores.
fn label(target: &Target) -> String {
    let name = target.name().replace(|char: char| !char.is_ascii_alphanumeric(), "_");
    format!("account_{}_{name}", target.account())
}

/// A name and the lines of its value.
type Attribute = (String, Vec<String>);

fn block(header: &str, attributes: &[Attribute]) -> String {
    let mut text = format!("{header} {{\n");
    for line in indented(laid_out(attributes)) {
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str("}\n");
    text
}

fn encoded(document: &Node, account: Option<&str>) -> Vec<String> {
    let mut lines = expression(document, account);
    if let Some(first) = lines.first_mut() {
        first.insert_str(0, "jsonencode(");
    }
    if let Some(last) = lines.last_mut() {
        last.push(')');
    }
    lines
}

fn expression(node: &Node, account: Option<&str>) -> Vec<String> {
    match node {
        Node::Text(text) => vec![template(text, account)],
        Node::List(items) => {
            let items = items.iter().flat_map(|item| {
                let mut lines = expression(item, account);
                if let Some(last) = lines.last_mut() {
                    last.push(',');
                }
                lines
            });
            enclosed("[", indented(items), "]")
        }
        Node::Object(members) => {
            let attributes: Vec<Attribute> =
                members.iter().map(|(key, value)| (key_of(key), expression(value, account))).collect();
            enclosed("{", indented(laid_out(&attributes)), "}")
        }
    }
}

fn enclosed(open: &str, lines: impl Iterator<Item = String>, close: &str) -> Vec<String> {
    std::iter::once(open.to_owned()).chain(lines).chain([close.to_owned()]).collect()
}

fn indented(lines: impl IntoIterator<Item = String>) -> impl Iterator<Item = String> {
    lines.into_iter().map(|line| format!("  {line}"))
}

/// Neighbours of one line each have their `=` in one column; a value of several lines ends such a run.
fn laid_out(attributes: &[Attribute]) -> Vec<String> {
    let mut lines = Vec::new();
    for run in attributes.chunk_by(|one, next| one.1.len() == 1 && next.1.len() == 1) {
        let width = run.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in run {
            let mut value = value.iter();
            lines.push(format!("{name:width$} = {}", value.next().map_or("", String::as_str)));
            lines.extend(value.cloned());
        }
    }
    lines
}

fn key_of(key: &str) -> String {
    if key.bytes().all(|byte| byte.is_ascii_alphanumeric()) { key.to_owned() } else { quoted(key) }
}

/// A text with its places as Terraform's own references.
fn template(text: &Text, account: Option<&str>) -> String {
    let written = text.write(|piece| match piece {
        Piece::Plain(text) => escaped(text),
        Piece::Partition => "${data.aws_partition.current.partition}".into(),
        Piece::Region => "${var.region}".into(),
        Piece::Account => account.unwrap_or("${data.aws_caller_identity.current.account_id}").to_owned(),
        Piece::Role => "${var.grantd_role}".into(),
    });
    format!("\"{written}\"")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// HCL's quoted templates: a backslash escapes, `${` and `%{` begin a template unless doubled.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$${").replace("%{", "%%{")
}

/// What the references lead to, each written only where it is used.
const SOURCES: [(&str, &str); 4] = [
    ("data.aws_caller_identity.current", "data \"aws_caller_identity\" \"current\" {}\n"),
    ("data.aws_partition.current", "data \"aws_partition\" \"current\" {}\n"),
    (
        "var.region",
        "variable \"region\" {\n  description = \"The region of grantd's secrets\"\n  type        = string\n}\n",
    ),
    (
        "var.grantd_role",
        "variable \"grantd_role\" {\n  description = \"The name of the role that grantd runs as, with its path\"\n  type        = string\n}\n",
    ),
];
