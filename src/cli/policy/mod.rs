//! `grantd policy`: the least-privilege policy for exactly this configuration, in three formats.
//!
//! Standard output holds the policy alone; what a person must know beside it goes to standard error. Nothing is asked of AWS.

mod cloudformation;
mod iam;
mod terraform;

use super::args::{PolicyArgs, PolicyFormat};
use super::end::End;
use super::{run, terminal};
use crate::config::policy::{Document, Policies, policies};
use crate::config::{self, Config};
use crate::edge::surroundings::Host;

/// Prints the policy.
///
/// # Errors
/// 78 for the configuration.
pub(super) fn policy(args: &PolicyArgs) -> Result<(), End> {
    let checked = config::load(&args.config, &Host).map_err(|problems| run::wrong(&problems))?;
    let policies = policies(&checked.config);
    let account = args.account.as_deref();
    let said = match args.format {
        PolicyFormat::Iam => Some(iam::write(&policies, region(&checked.config), account)),
        PolicyFormat::Terraform => terraform::write(&policies, account),
        PolicyFormat::CloudFormation => cloudformation::write(&policies, account),
    };
    if let Some(said) = said {
        terminal::say(said.trim_end());
    }
    for note in notes(&policies, args, &checked.config) {
        terminal::note(format!("grantd: {note}"));
    }
    Ok(())
}

/// The first region that is named: it tells the partition, and stands for a region that is not.
fn region(config: &Config) -> Option<&str> {
    let stores = config.integrations.values().map(|integration| &integration.store);
    config.store.region.as_deref().or_else(|| stores.filter_map(|store| store.region.as_deref()).next())
}

fn notes(policies: &Policies, args: &PolicyArgs, config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    for id in &policies.local {
        notes.push(format!("{id}: kept in a sealed file on this host, needs nothing of AWS"));
    }
    if policies.own.is_empty() && policies.targets.is_empty() {
        notes.push("this configuration needs nothing of AWS".into());
        return notes;
    }
    if args.format == PolicyFormat::Iam {
        notes.extend(stand_ins(policies, args, config));
    }
    for alias in &policies.aliases {
        notes.push(format!(
            "{alias} is an alias: the policy allows the keys that have it; write the key's ARN as kms_key_id to allow one key alone"
        ));
    }
    for target in &policies.targets {
        if !target.has_external_id {
            notes.push(format!(
                "{}: set assume_role.external_id, so that nobody else has grantd's role assume it",
                target.arn
            ));
        }
    }
    let most = policies.targets.iter().map(|target| target.documents.len()).chain([policies.own.len()]).max();
    if most.is_some_and(|most| most > ATTACHED) {
        notes.push(format!(
            "there are more than {ATTACHED} documents for one role: ask AWS for more attached policies, or keep the secrets in several accounts"
        ));
    }
    notes
}

/// What has to be written by hand into plain documents.
fn stand_ins(policies: &Policies, args: &PolicyArgs, config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    if args.account.is_none() {
        notes.push("ACCOUNT_ID stands for the account: name it with --account".into());
    }
    if region(config).is_none() {
        notes.push("REGION stands for the region: name it as store.region".into());
    }
    if !policies.targets.is_empty() {
        notes.push("GRANTD_ROLE stands for the name of the role that grantd runs as".into());
    }
    notes
}

/// `grantd`, `grantd-2`, `grantd-3`, … for the documents of one role.
fn numbered(name: &str, documents: &[Document]) -> Vec<(String, Document)> {
    let name = |index| if index == 0 { name.to_owned() } else { format!("{name}-{}", index + 1) };
    documents.iter().cloned().enumerate().map(|(index, document)| (name(index), document)).collect()
}

/// IAM attaches so many managed policies to a role unless the quota is raised ("IAM and AWS STS quotas").
const ATTACHED: usize = 10;
